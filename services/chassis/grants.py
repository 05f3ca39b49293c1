"""Did two people decide this?

A grant is a signed message: kind, hash of the body, who proposed and who approved (as references), the service it is
for, its end. The target's own method hands it here together with the body that it is about to execute. A grant serves
once: the target notes it in the transaction that executes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey
from sqlalchemy import Column, DateTime, MetaData, String, Table, delete
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.grant_pb2 import GrantClaims, SignedGrant
from services.chassis.errors import AlreadyExists, PermissionDenied

KEY_ID = "grants"
"""Keys that sign grants have this id, or one that begins with it and a hyphen; no other key may."""
APPROVERS = 2
MAX_GRANT_BYTES = 8 * 1024
MAX_LIFE = timedelta(days=1)
"""Longest life of a grant; a longer one is refused even when properly signed."""

_PREFIX = b"jikimi.grant.v1\0"
_NAME = re.compile(rf"{KEY_ID}(-[A-Za-z0-9._]{{1,56}})?")


class Signer(Protocol):
    """Signs with one key."""

    @property
    def key_id(self) -> str:
        """Name of the key."""

    def sign(self, content: bytes) -> bytes:
        """Ed25519 signature, 64 bytes."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What a verified grant says."""

    grant_id: str
    kind: str
    body_sha256: bytes
    """Of what was approved."""
    proposer_ref: str
    approver_refs: tuple[str, ...]
    issue_time: datetime
    expire_time: datetime


def sign_grant(grant: Grant, audience: str, signer: Signer) -> bytes:
    """The grant as it is handed out. The same grant gives the same bytes."""
    claims = GrantClaims(
        key_id=signer.key_id,
        grant_id=grant.grant_id,
        kind=grant.kind,
        body_sha256=grant.body_sha256,
        audience=audience,
        proposer_ref=grant.proposer_ref,
        approver_refs=grant.approver_refs,
        issue_time=_stamp(grant.issue_time),
        expire_time=_stamp(grant.expire_time),
    )
    said = claims.SerializeToString(deterministic=True)
    return SignedGrant(claims=said, signature=signer.sign(_PREFIX + said)).SerializeToString(deterministic=True)


class GrantVerifier:
    """Checks grants for one service against the public keys of a folder."""

    def __init__(self, public_keys_dir: Path, audience: str) -> None:
        self._dir = public_keys_dir
        self._audience = audience

    def verify(self, signed: bytes, kind: str, body: bytes, now: datetime) -> Grant:
        """The grant, if it allows exactly this now. Raises PermissionDenied: GRANT_MALFORMED, GRANT_KEY_UNKNOWN,
        GRANT_SIGNATURE_INVALID, GRANT_AUDIENCE_MISMATCH, GRANT_KIND_MISMATCH, GRANT_BODY_MISMATCH, GRANT_SAME_PERSON,
        GRANT_NOT_YET_VALID, GRANT_EXPIRED."""
        claims = self._open(signed)
        if claims.audience != self._audience:
            raise _refusal("GRANT_AUDIENCE_MISMATCH", "The grant is for another service.")
        if claims.kind != kind:
            raise _refusal("GRANT_KIND_MISMATCH", "The grant allows something else.")
        if claims.body_sha256 != hashlib.sha256(body).digest():
            raise _refusal("GRANT_BODY_MISMATCH", "The grant was given for something else than is asked for.")
        if not _different_people(claims.proposer_ref, claims.approver_refs):
            raise _refusal("GRANT_SAME_PERSON", "The grant does not name a proposer and two other people.")
        grant = _grant_of(claims)
        _check_time(grant, now)
        return grant

    def _open(self, signed: bytes) -> GrantClaims:
        try:
            if len(signed) > MAX_GRANT_BYTES:
                raise DecodeError
            envelope = SignedGrant.FromString(signed)
            claims = GrantClaims.FromString(envelope.claims)
        except DecodeError:
            raise _refusal("GRANT_MALFORMED", "The grant cannot be read.") from None
        try:
            self._key(claims.key_id).verify(_PREFIX + envelope.claims, envelope.signature)
        except (BadSignatureError, ValueError):
            raise _refusal("GRANT_SIGNATURE_INVALID", "The grant's signature is wrong.") from None
        if not claims.grant_id or not claims.HasField("issue_time") or not claims.HasField("expire_time"):
            raise _refusal("GRANT_MALFORMED", "The grant cannot be read.")
        return claims

    def _key(self, key_id: str) -> VerifyKey:
        file = self._dir / f"{key_id}.pub"
        if not _NAME.fullmatch(key_id) or not file.is_file():
            raise _refusal("GRANT_KEY_UNKNOWN", "The grant's key is not known here.")
        return VerifyKey(bytes.fromhex(file.read_text(encoding="ascii").split()[0]))


def used_grant_table(metadata: MetaData) -> Table:
    """The table of grants that were used, added to a target's metadata once."""
    if "used_grant" in metadata.tables:
        return metadata.tables["used_grant"]
    return Table(
        "used_grant",
        metadata,
        Column("grant_id", String(64), primary_key=True, comment="proposal that the grant came of"),
        Column("expire_time", DateTime(timezone=True), nullable=False, comment="when it would have ended"),
        comment="Grants that were used, so that none is used twice.",
    )


async def use(session: AsyncSession, grant: Grant, now: datetime) -> None:
    """Notes that a grant was used, in the transaction that executes it; of two at once the second fails. Raises
    AlreadyExists GRANT_USED. What can no longer be used is forgotten."""
    table = used_grant_table(MetaData())
    await session.execute(delete(table).where(table.c.expire_time < now - MAX_LIFE))
    statement = insert(table).values(grant_id=grant.grant_id, expire_time=grant.expire_time)
    added = await session.execute(statement.on_conflict_do_nothing().returning(table.c.grant_id))
    if added.one_or_none() is None:
        raise AlreadyExists("GRANT_USED", "The grant was used before.")


def _different_people(proposer_ref: str, approver_refs: Sequence[str]) -> bool:
    people = {proposer_ref, *approver_refs}
    return len(approver_refs) == APPROVERS and len(people) == APPROVERS + 1 and "" not in people


def _grant_of(claims: GrantClaims) -> Grant:
    return Grant(
        grant_id=claims.grant_id,
        kind=claims.kind,
        body_sha256=claims.body_sha256,
        proposer_ref=claims.proposer_ref,
        approver_refs=tuple(claims.approver_refs),
        issue_time=claims.issue_time.ToDatetime(UTC),
        expire_time=claims.expire_time.ToDatetime(UTC),
    )


def _check_time(grant: Grant, now: datetime) -> None:
    """By the injected clock: grants belong to business time, of which all services of a system have the same."""
    if now < grant.issue_time - timedelta(seconds=30):
        raise _refusal("GRANT_NOT_YET_VALID", "The grant is dated in the future.")
    if now >= grant.expire_time or grant.expire_time - grant.issue_time > MAX_LIFE:
        raise _refusal("GRANT_EXPIRED", "The grant has expired.")


def _refusal(reason: str, message: str) -> PermissionDenied:
    return PermissionDenied(reason, message)


def _stamp(moment: datetime) -> Timestamp:
    value = Timestamp()
    value.FromDatetime(moment)
    return value
