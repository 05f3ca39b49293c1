"""How values are hidden: keyed hashes that compare, and sealed columns that open in their own place only."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.chassis.keys import KeyStore, keyed_hash, seal, unseal
from services.detector.domain.decisions import identifier_kind
from services.detector.domain.pii import Hit, Kind
from services.detector.domain.signals import Signal, normalised_url, post_key


@dataclass(frozen=True)
class References:
    """Keyed hashes under the detector's pepper: phones and ids are enumerable, a plain hash would be the phone."""

    pepper: bytes = field(repr=False)

    def signal(self, signal_id: str) -> bytes:
        """32 bytes for a collector's signal id."""
        return keyed_hash(self.pepper, "signal", signal_id)

    def fingerprint(self, signal: Signal) -> bytes:
        """32 bytes for what a signal says: its post, parts and metadata. How and when it was found is not part of it:
        a collector that sends again after a lost answer may stamp it anew."""
        said: list[str | bytes] = [signal.channel, signal.post_id, signal.source_url, str(len(signal.parts))]
        for part in signal.parts:
            said += [part.kind, part.image if part.image is not None else part.text or ""]
        for pair in signal.metadata:
            said += [pair.name, pair.value]
        return keyed_hash(self.pepper, "fingerprint", *said)

    def value(self, kind: Kind, canonical: str) -> bytes:
        """32 bytes for a watched value."""
        return keyed_hash(self.pepper, "value", str(kind), canonical)

    def post(self, signal: Signal) -> bytes:
        """32 bytes for the post: channel and post id, or the address where there is no post id."""
        return keyed_hash(self.pepper, "post", *post_key(signal))

    def url(self, signal: Signal) -> bytes:
        """32 bytes for the normalised address."""
        return keyed_hash(self.pepper, "url", normalised_url(signal.source_url))

    def dump(self, signal: Signal) -> bytes:
        """32 bytes for the account dump, however its name is cased and spaced; empty where there is none."""
        name = " ".join(unicodedata.normalize("NFKC", signal.account_dump).casefold().split())
        return keyed_hash(self.pepper, "dump", name) if name else b""

    def content(self, subscriber_id: str, sha256: bytes) -> bytes:
        """32 bytes for a content of one subscriber; the same content of another has another reference."""
        return keyed_hash(self.pepper, "content", subscriber_id, sha256)

    def nonce(self, provider: str, nonce: bytes) -> bytes:
        """32 bytes for a provider's nonce."""
        return keyed_hash(self.pepper, "nonce", provider, nonce)

    def device(self, subscriber_id: str, device_id: str) -> bytes:
        """32 bytes for a subscriber's device; the same device of another has another reference."""
        return self.hashed_device(subscriber_id, hashlib.sha256(f"{subscriber_id}\0{device_id}".encode()).digest())

    def hashed_device(self, subscriber_id: str, device_hash: bytes) -> bytes:
        """The same for a device that notify told of: it names devices by this hash."""
        return keyed_hash(self.pepper, "device", subscriber_id, device_hash)

    def challenge(self, challenge_id: str) -> bytes:
        """The nonce of a challenge, 32 bytes: whoever has it was given it, and it is stored nowhere."""
        return keyed_hash(self.pepper, "challenge", challenge_id)

    def enrolment(self, template_id: str) -> bytes:
        """32 bytes for the enrolment of a template."""
        return keyed_hash(self.pepper, "enrolment", template_id)

    def handle(self, subscriber_id: str, platform: str, handle: str) -> bytes:
        """32 bytes for a subscriber's account; the same name of another has another reference."""
        return keyed_hash(self.pepper, "handle", subscriber_id, platform, handle)

    def upload(self, upload_check_id: str, part: str, sha256: bytes) -> bytes:
        """32 bytes for what was checked; the same content in another check has another reference."""
        return keyed_hash(self.pepper, "upload", upload_check_id, part, sha256)

    def actor(self, subject: str) -> str:
        """16 hexadecimal digits for whoever acted."""
        return keyed_hash(self.pepper, "actor", subject).hex()[:16]

    def values(self, hits: Iterable[Hit]) -> dict[bytes, list[Hit]]:
        """The watchable hits by the reference of their value."""
        found: dict[bytes, list[Hit]] = {}
        for hit in hits:
            if hit.canonical and hit.personal and not hit.national:
                found.setdefault(self.value(hit.kind, hit.canonical), []).append(hit)
        return found


def kinds_of(hits: Iterable[Hit]) -> list[int]:
    """The contract's kinds of hits, each once."""
    return sorted({int(identifier_kind(hit)) for hit in hits})


def place(table: str, row_id: str, column: str) -> bytes:
    """The associated data of a sealed column: it opens in this place only."""
    return f"detector/{table}/{row_id}/{column}".encode()


@dataclass(frozen=True)
class Vault:
    """Seals columns under their subscriber's key."""

    keys: KeyStore

    def seal(self, subscriber_id: str, table: str, row_id: str, column: str, value: bytes) -> bytes:
        """Seals; the key is made at first use. Raises KeyDestroyed for an erased subscriber."""
        return seal(self.keys.get_or_create(subscriber_id), value, place(table, row_id, column))

    def open(self, subscriber_id: str, table: str, row_id: str, column: str, sealed: bytes) -> bytes | None:
        """Opens; None where the key is gone. Raises Unsealable for changed bytes."""
        key = self.keys.get(subscriber_id)
        return None if key is None else unseal(key, sealed, place(table, row_id, column))
