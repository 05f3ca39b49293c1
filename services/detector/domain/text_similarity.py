"""Whether one text is a repost of another: MinHash over the character shingles of its normalised form."""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from services.chassis import yaml_text
from services.detector.domain.pii.normalise import fold, unveil

# Broder 1997 (resemblance and containment of documents). 128 minima: standard error of a resemblance at most 0.044.
MINIMA: Final = 128
_SHINGLE: Final = 3
_CHUNK: Final = 2_048
_HEAD: Final = struct.Struct("<BI")
_WITHOUT_NUMBERS: Final = 1
_VERSION: Final = 2
NUMBERS: Final = 16
NO_NUMBER: Final = 0xFFFFFFFF
_NUMBERS_AT: Final = _HEAD.size + 4 * MINIMA
# A group of digits is a number: masks and separators cut a phone number into its groups, and some of them stay.
_DIGITS: Final = re.compile(r"\d{2,32}")
# A text is spaced out where nearly all its words are single letters; of prose even the most broken Korean has fewer.
_SPACED_OUT_WORDS, _SPACED_OUT_SHARE = 20, 0.9
_BETWEEN_LETTERS: Final = re.compile(r"(?<=\S) (?=\S)")
_RANDOM: Final = np.random.Generator(np.random.PCG64(1))
_FACTORS: Final[npt.NDArray[np.uint64]] = _RANDOM.integers(1, 2**63, MINIMA, dtype=np.uint64) | np.uint64(1)
_OFFSETS: Final[npt.NDArray[np.uint64]] = _RANDOM.integers(0, 2**63, MINIMA, dtype=np.uint64)
_MIX: Final = tuple(np.uint64(value) for value in (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9))


@dataclass(frozen=True, slots=True)
class Signature:
    """At most 582 bytes that stand for a text: version, number of distinct shingles, 128 minima, and the least hashes
    of the numbers in it. Kept sealed: short numbers can be guessed from their hashes.
    """

    value: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for bytes of an unknown version."""
        size = len(self.value) - _NUMBERS_AT
        known = {_WITHOUT_NUMBERS: size == 0, _VERSION: 0 < size <= 1 + 4 * NUMBERS and size % 4 == 1}
        if not self.value or not known.get(self.value[0], False):
            raise ValueError("not a signature of a known version")

    @property
    def shingles(self) -> int:
        """How many distinct shingles the text had."""
        return int(_HEAD.unpack_from(self.value)[1])

    @property
    def minima(self) -> npt.NDArray[np.uint32]:
        """uint32 [MINIMA]."""
        return np.frombuffer(self.value, np.uint32, MINIMA, _HEAD.size)

    @property
    def numbers(self) -> npt.NDArray[np.uint32]:
        """uint32 [NUMBERS], ascending, filled up with NO_NUMBER: the least hashes of the groups of digits."""
        found = np.full(NUMBERS, NO_NUMBER, np.uint32)
        held = np.frombuffer(self.value, np.uint32, offset=min(len(self.value), _NUMBERS_AT + 1))
        found[: len(held)] = held
        return found


@dataclass(frozen=True, slots=True)
class TextDedupRule:
    """A version of rules/dedup_text.yaml: from which similarity on two texts are one content."""

    version: int
    min_similarity: float
    min_shingles: int
    max_size_ratio: float
    min_numbers_shared: float

    @classmethod
    def parse(cls, text: str) -> TextDedupRule:
        """Read the YAML text. Raises ValueError when a value is missing."""
        raw: Mapping[str, Any] = yaml_text.parse(text)
        try:
            return cls(
                int(raw["version"]),
                float(raw["min_similarity"]),
                int(raw["min_shingles"]),
                float(raw["max_size_ratio"]),
                float(raw["min_numbers_shared"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"text dedup rule: {error}") from error

    @property
    def least_equal(self) -> int:
        """Of MINIMA how many two texts that are one content have in common at least, however their sizes differ."""
        resemblance = self.min_similarity / (1 + self.max_size_ratio - self.min_similarity)
        return math.floor(MINIMA * resemblance)

    def same(self, a: Signature, b: Signature) -> bool:
        """Whether two texts are one content. Texts too short to compare must have equal shingles."""
        return bool(compare_all(a, b.minima[None], np.array([b.shingles]), b.numbers[None], self)[0][0])


def signature(text: str) -> Signature:
    """The signature of a text; spacing, punctuation, emoji, letter case and character width do not count."""
    folded = fold(_closed_up(text))
    shingles = _shingles(folded.text)
    minima = np.full(MINIMA, np.iinfo(np.uint32).max, np.uint32)
    for start in range(0, len(shingles), _CHUNK):
        hashed = shingles[start : start + _CHUNK, None] * _FACTORS + _OFFSETS
        minima = np.minimum(minima, (hashed >> np.uint64(32)).min(axis=0).astype(np.uint32))
    numbers = sorted({_number(group) for group in _DIGITS.findall(unveil(folded).text)})[:NUMBERS]
    held = np.array(numbers, np.uint32)
    return Signature(_HEAD.pack(_VERSION, len(shingles)) + minima.tobytes() + bytes([len(held)]) + held.tobytes())


def _closed_up(text: str) -> str:
    """A text that was spaced out letter by letter as it was: its numbers would not be found otherwise."""
    words = text.split()
    if len(words) < _SPACED_OUT_WORDS or sum(len(word) == 1 for word in words) < _SPACED_OUT_SHARE * len(words):
        return text
    return _BETWEEN_LETTERS.sub("", text)


def similarity(a: Signature, b: Signature) -> float:
    """Estimated share of the smaller text's shingles that the other holds too (containment), 0 to 1.

    Containment rather than resemblance: a repost that quotes, comments or truncates stays at 1.
    """
    return float(_containment(a, b.minima[None], np.array([b.shingles]))[0])


def compare_all(
    new: Signature,
    minima: npt.NDArray[np.uint32],
    shingles: npt.NDArray[np.int64],
    numbers: npt.NDArray[np.uint32],
    rule: TextDedupRule,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Whether a text is one content with each of N others, given as uint32 [N,MINIMA], their numbers of shingles [N]
    and the numbers in them uint32 [N,NUMBERS], and how similar they are, 0 to 1."""
    small, large = np.minimum(shingles, new.shingles), np.maximum(shingles, new.shingles)
    found = _containment(new, minima, shingles)
    short = small < rule.min_shingles
    equal = (small > 0) & (small == large) & (minima == new.minima).all(axis=1)
    alike = (large <= rule.max_size_ratio * small) & (found >= rule.min_similarity)
    alike &= numbers_shared(new.numbers, numbers) >= rule.min_numbers_shared
    return np.where(short, equal, alike), found


def numbers_shared(new: npt.NDArray[np.uint32], known: npt.NDArray[np.uint32]) -> npt.NDArray[np.float64]:
    """[N]: which share of the numbers of the text that has fewer stands in the other too; 1 where one has none.

    Of a text with more numbers than are kept the least hashes are: both are compared as far as both reach (bottom-k
    sketches, Broder 1997).
    """
    reach = np.where(known[:, -1] == NO_NUMBER, NO_NUMBER, known[:, -1])
    reach = np.minimum(reach, new[-1])[:, None]
    within = (known <= reach) & (known != NO_NUMBER)
    mine = ((new <= reach) & (new != NO_NUMBER)).sum(axis=1)
    common = np.zeros(len(known), np.int64)
    for number in new[new != NO_NUMBER]:
        common += ((known == number) & within).any(axis=1)
    fewer = np.minimum(mine, within.sum(axis=1))
    return np.where(fewer == 0, 1.0, common / np.maximum(fewer, 1))


def _containment(
    new: Signature, minima: npt.NDArray[np.uint32], shingles: npt.NDArray[np.int64]
) -> npt.NDArray[np.float64]:
    small, large = np.minimum(shingles, new.shingles), np.maximum(shingles, new.shingles)
    equal = (minima == new.minima).mean(axis=1)
    found = equal * (small + large) / ((1 + equal) * np.maximum(small, 1))
    return np.where(small == 0, 0.0, np.minimum(1.0, found))


def _number(digits: str) -> int:
    """32 bits, never NO_NUMBER."""
    return int.from_bytes(blake2b(digits.encode(), digest_size=4).digest()) & 0x7FFFFFFF


def _shingles(text: str) -> npt.NDArray[np.uint64]:
    """Distinct 64-bit hashes of all runs of three letters or digits of a folded text."""
    letters = "".join(char for char in text.lower() if char.isalnum())
    codes = np.frombuffer(letters.encode("utf-32-le", "replace"), np.uint32).astype(np.uint64)
    if len(codes) < _SHINGLE:
        return np.zeros(0, np.uint64)
    runs = codes[:-2] * _MIX[0] + codes[1:-1] * _MIX[1] + codes[2:] * _MIX[2]
    runs ^= runs >> np.uint64(29)
    # By sorting, which for some hundreds takes a fifth of np.unique's time.
    hashes = np.sort(runs * _MIX[0])
    return np.asarray(hashes[np.append(True, hashes[1:] != hashes[:-1])], np.uint64)
