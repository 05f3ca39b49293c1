"""Does a grant allow exactly what two people approved, once, and nothing else?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nacl.signing import SigningKey

from misuse.common.v1.grant_pb2 import GrantClaims, SignedGrant
from services.chassis.database import Database, new_base
from services.chassis.errors import AlreadyExists, PermissionDenied
from services.chassis.grants import Grant, GrantVerifier, sign_grant, use, used_grant_table

NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
BODY = b"let 1.4 go out"
GRANT = Grant(
    grant_id="p-1",
    kind="GATE_OVERRIDE",
    body_sha256=hashlib.sha256(BODY).digest(),
    proposer_ref="aa",
    approver_refs=("bb", "cc"),
    issue_time=NOW,
    expire_time=NOW + timedelta(hours=1),
)


class Key:
    """A key that signs, its public part in a folder."""

    def __init__(self, folder: Path, key_id: str = "grants") -> None:
        self.key_id = key_id
        self._key = SigningKey.generate()
        folder.mkdir(exist_ok=True)
        (folder / f"{key_id}.pub").write_text(f"{self._key.verify_key.encode().hex()}\nROLE_UNSPECIFIED\n")

    def sign(self, content: bytes) -> bytes:
        return self._key.sign(content).signature


def refusal(
    verifier: GrantVerifier, signed: bytes, kind: str = GRANT.kind, body: bytes = BODY, now: datetime = NOW
) -> str:
    with pytest.raises(PermissionDenied) as caught:
        verifier.verify(signed, kind, body, now)
    return caught.value.reason


def test_a_grant_says_who_decided_what(tmp_path: Path) -> None:
    signed = sign_grant(GRANT, "gate", Key(tmp_path))
    assert GRANT == GrantVerifier(tmp_path, "gate").verify(signed, "GATE_OVERRIDE", BODY, NOW)


def test_the_same_grant_is_the_same_bytes(tmp_path: Path) -> None:
    key = Key(tmp_path)
    assert sign_grant(GRANT, "gate", key) == sign_grant(GRANT, "gate", key)


CHANGED = [
    ("GRANT_AUDIENCE_MISMATCH", {}, "removal", "GATE_OVERRIDE", BODY, NOW),
    ("GRANT_KIND_MISMATCH", {}, "gate", "HOLD", BODY, NOW),
    ("GRANT_BODY_MISMATCH", {}, "gate", "GATE_OVERRIDE", BODY + b"!", NOW),
    ("GRANT_EXPIRED", {}, "gate", "GATE_OVERRIDE", BODY, NOW + timedelta(hours=1)),
    ("GRANT_EXPIRED", {"expire_time": NOW + timedelta(days=2)}, "gate", "GATE_OVERRIDE", BODY, NOW),
    ("GRANT_NOT_YET_VALID", {}, "gate", "GATE_OVERRIDE", BODY, NOW - timedelta(minutes=1)),
    ("GRANT_SAME_PERSON", {"approver_refs": ("bb", "bb")}, "gate", "GATE_OVERRIDE", BODY, NOW),
    ("GRANT_SAME_PERSON", {"approver_refs": ("aa", "bb")}, "gate", "GATE_OVERRIDE", BODY, NOW),
    ("GRANT_SAME_PERSON", {"approver_refs": ("bb",)}, "gate", "GATE_OVERRIDE", BODY, NOW),
    ("GRANT_SAME_PERSON", {"approver_refs": ("bb", "")}, "gate", "GATE_OVERRIDE", BODY, NOW),
    ("GRANT_MALFORMED", {"grant_id": ""}, "gate", "GATE_OVERRIDE", BODY, NOW),
]


@pytest.mark.parametrize(("reason", "changes", "audience", "kind", "body", "now"), CHANGED)
def test_anything_else_is_refused(
    tmp_path: Path,
    reason: str,
    changes: dict[str, object],
    audience: str,
    kind: str,
    body: bytes,
    now: datetime,
) -> None:
    signed = sign_grant(replace(GRANT, **changes), "gate", Key(tmp_path))  # type: ignore[arg-type] # a table of changes
    assert reason == refusal(GrantVerifier(tmp_path, audience), signed, kind, body, now)


def test_no_bit_of_a_grant_can_be_changed(tmp_path: Path) -> None:
    verifier, signed = GrantVerifier(tmp_path, "gate"), sign_grant(GRANT, "gate", Key(tmp_path))
    for place in range(len(signed)):
        changed = bytearray(signed)
        changed[place] ^= 1
        assert refusal(verifier, bytes(changed)).startswith("GRANT_")


@pytest.mark.parametrize("key_id", ["case-evidence", "issuer", "grantsx", "../grants"])
def test_no_other_key_signs_grants(tmp_path: Path, key_id: str) -> None:
    folder = tmp_path / "public"
    Key(folder)
    key = Key(folder, key_id)
    signed = sign_grant(GRANT, "gate", key)
    assert "GRANT_KEY_UNKNOWN" == refusal(GrantVerifier(folder, "gate"), signed)


def test_a_new_key_of_the_family_may_sign(tmp_path: Path) -> None:
    signed = sign_grant(GRANT, "gate", Key(tmp_path, "grants-2"))
    assert GRANT == GrantVerifier(tmp_path, "gate").verify(signed, "GATE_OVERRIDE", BODY, NOW)


def test_a_signature_over_something_else_is_no_grant(tmp_path: Path) -> None:
    key = Key(tmp_path)
    claims = GrantClaims.FromString(SignedGrant.FromString(sign_grant(GRANT, "gate", key)).claims)
    said = claims.SerializeToString(deterministic=True)
    bare = SignedGrant(claims=said, signature=key.sign(said)).SerializeToString()
    verifier = GrantVerifier(tmp_path, "gate")
    assert "GRANT_SIGNATURE_INVALID" == refusal(verifier, bare)
    for junk in (b"", b"\xff" * 40, b"x" * 20_000):
        assert refusal(verifier, junk).startswith("GRANT_")


async def test_a_grant_serves_once(database_url: Callable[[str], str]) -> None:
    database, base = Database(database_url("gate")), new_base()
    used_grant_table(base.metadata)
    async with database.engine.begin() as connection:
        await connection.run_sync(base.metadata.create_all)
    async with database.begin() as session:
        await use(session, GRANT, NOW)
    with pytest.raises(AlreadyExists, match="GRANT_USED"):
        async with database.begin() as session:
            await use(session, GRANT, NOW)
    await database.close()
