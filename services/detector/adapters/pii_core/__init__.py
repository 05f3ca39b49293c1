"""Is the compiled core of the scan there, whole, and made from these very sources?"""

from __future__ import annotations

import sys
from hashlib import sha256
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGE: Final = Path(__file__).parent
_RULES: Final = PACKAGE.parents[1] / "domain" / "pii"
_ALPHABET: Final = PACKAGE.with_name("pii_alphabet.py")
_SEAL_BYTES: Final = sha256().digest_size


class NotBuilt(ImportError):
    """The compiled core cannot be used. `reason`: NOT_BUILT, BROKEN, OTHER_SOURCES; the text says what to do."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(f"the compiled core of the scan {text}: make setup")
        self.reason = reason


def load() -> ModuleType:
    """The module `_core`. Raises NotBuilt where it is missing, broken or made from other sources than these."""
    name = f"{__name__}._core"
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise NotBuilt("NOT_BUILT", "is not built")
    # The loader maps a file as it is: of one that was cut off the process would die.
    if not _is_whole(Path(spec.origin)):
        raise NotBuilt("BROKEN", "is broken")
    try:
        core = import_module(name)
    except ImportError as error:
        raise NotBuilt("BROKEN", "does not load on this machine") from error
    if core.FINGERPRINT != fingerprint():
        raise NotBuilt("OTHER_SOURCES", "was built from other sources")
    return core


def fingerprint() -> str:
    """Digest of all that decides what the core does: recognisers, their alphabet, generator, C, and the Python whose
    Unicode they see. Raises OSError."""
    digest = sha256(repr(sys.version_info[:2]).encode())
    own = [file for suffix in ("py", "c", "h") for file in PACKAGE.glob(f"*.{suffix}")]
    for file in sorted([*_RULES.glob("*.py"), _ALPHABET, *own]):
        content = file.read_bytes()
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def sealed(library: bytes) -> bytes:
    """The library with a digest behind its end, which its loader does not look at."""
    return library + sha256(library).digest()


def _is_whole(file: Path) -> bool:
    """Whether nothing is missing or changed since it was sealed."""
    try:
        library = file.read_bytes()
    except OSError:
        return False
    return library[-_SEAL_BYTES:] == sha256(library[:-_SEAL_BYTES]).digest()
