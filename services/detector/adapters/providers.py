"""Whether a provider really signed a claim: Ed25519 keys in files."""

from __future__ import annotations

from pathlib import Path

from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from services.detector.domain.ownership import NotProved, OwnershipRules


class ProviderKeys:
    """Public keys of the configured providers, read when needed: a key may be brought while the service runs.

    `test_profile`: whether providers that are for tests only are believed too.
    """

    def __init__(self, rules: OwnershipRules, folder: Path, *, test_profile: bool) -> None:
        self._known = {name: row for name, row in rules.providers.items() if test_profile or not row.test}
        self._folder = folder

    def check(self, provider: str, key_id: str, content: bytes, signature: bytes) -> None:
        """Raises NotProved UNKNOWN_PROVIDER or BAD_SIGNATURE."""
        known = self._known.get(provider)
        if known is None or known.key_id != key_id:
            raise NotProved("UNKNOWN_PROVIDER")
        try:
            self._key(known.key_file).verify(content, signature)
        except (BadSignatureError, ValueError):
            raise NotProved("BAD_SIGNATURE") from None

    def _key(self, name: str) -> VerifyKey:
        try:
            return VerifyKey(bytes.fromhex((self._folder / name).read_text(encoding="ascii").split()[0]))
        except (OSError, ValueError, IndexError):
            raise NotProved("UNKNOWN_PROVIDER") from None
