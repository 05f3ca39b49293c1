"""Whether one text is a repost of another: MinHash over the character shingles of its normalised form."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import yaml

from services.detector.domain.pii.normalise import fold

# Broder 1997 (resemblance and containment of documents). 128 minima: standard error of a resemblance at most 0.044.
_MINIMA: Final = 128
_SHINGLE: Final = 3
_CHUNK: Final = 2_048
_HEAD: Final = struct.Struct("<BI")
_VERSION: Final = 1
_RANDOM: Final = np.random.Generator(np.random.PCG64(_VERSION))
_FACTORS: Final[npt.NDArray[np.uint64]] = _RANDOM.integers(1, 2**63, _MINIMA, dtype=np.uint64) | np.uint64(1)
_OFFSETS: Final[npt.NDArray[np.uint64]] = _RANDOM.integers(0, 2**63, _MINIMA, dtype=np.uint64)
_MIX: Final = tuple(np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class Signature:
    """517 bytes that stand for a text: version, number of distinct shingles, 128 minima. Not reversible to text."""

    value: bytes

    @property
    def shingles(self) -> int:
        """How many distinct shingles the text had."""
        return int(_HEAD.unpack_from(self.value)[1])


@dataclass(frozen=True, slots=True)
class TextDedupRule:
    """A version of rules/dedup_text.yaml: from which similarity on two texts are one content."""

    version: int
    min_similarity: float
    min_shingles: int
    max_size_ratio: float

    @classmethod
    def parse(cls, text: str) -> TextDedupRule:
        """Read the YAML text. Raises ValueError when a value is missing."""
        raw: Mapping[str, Any] = yaml.safe_load(text)
        try:
            return cls(
                int(raw["version"]),
                float(raw["min_similarity"]),
                int(raw["min_shingles"]),
                float(raw["max_size_ratio"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"text dedup rule: {error}") from error

    def same(self, a: Signature, b: Signature) -> bool:
        """Whether two texts are one content. Texts too short to compare must have equal shingles."""
        small, large = sorted((a.shingles, b.shingles))
        if small < self.min_shingles:
            return small > 0 and a.value == b.value
        return large <= self.max_size_ratio * small and similarity(a, b) >= self.min_similarity


def signature(text: str) -> Signature:
    """The signature of a text; spacing, punctuation, emoji, letter case and character width do not count."""
    shingles = _shingles(text)
    minima = np.full(_MINIMA, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(shingles), _CHUNK):
        hashed = shingles[start : start + _CHUNK, None] * _FACTORS + _OFFSETS
        minima = np.minimum(minima, (hashed >> np.uint64(32)).min(axis=0).astype(np.uint32))
    return Signature(_HEAD.pack(_VERSION, len(shingles)) + minima.tobytes())


def similarity(a: Signature, b: Signature) -> float:
    """Estimated share of the smaller text's shingles that the other holds too (containment), 0 to 1.

    Containment rather than resemblance: a repost that quotes, comments or truncates stays at 1. Raises ValueError when
    the signatures are of different versions.
    """
    if a.value[0] != b.value[0]:
        raise ValueError("signatures of different versions")
    small, large = sorted((a.shingles, b.shingles))
    if small == 0:
        return 0.0
    equal = float((_minima(a) == _minima(b)).mean())
    return min(1.0, equal * (small + large) / ((1 + equal) * small))


def _minima(of: Signature) -> npt.NDArray[np.uint32]:
    return np.frombuffer(of.value, np.uint32, offset=_HEAD.size)


def _shingles(text: str) -> npt.NDArray[np.uint64]:
    """Distinct 64-bit hashes of all runs of three letters or digits."""
    letters = "".join(char for char in fold(text).text.lower() if char.isalnum())
    codes = np.frombuffer(letters.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    if len(codes) < _SHINGLE:
        return np.zeros(0, np.uint64)
    runs = codes[:-2] * _MIX[0] + codes[1:-1] * _MIX[1] + codes[2:] * _MIX[2]
    runs ^= runs >> np.uint64(29)
    return np.unique(runs * _MIX[0])
