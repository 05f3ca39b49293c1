"""How are captures and packs stored? Both sealed under the subscriber's key."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import Purpose
from services.case.adapters.evidence_tables import CASE_GUIDANCE, CUSTODY
from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import CAPTURE, EVIDENCE_PACK, SIGHTING, among
from services.case.domain.custody import Touch
from services.case.domain.guidance import Attached, Outcome
from services.case.domain.words import Verdict
from services.case.ports import PackSummary, StoredCapture
from services.chassis.database import insert_rows
from services.chassis.ids import uuid7
from services.chassis.keys import KeyDestroyed

LATEST = text(
    """
    SELECT DISTINCT ON (case_id) pack_id, case_id, version, manifest_sha256, size_bytes, items, create_time, verdict
    FROM evidence_pack WHERE case_id = ANY(CAST(:cases AS text[])) ORDER BY case_id, version DESC
    """
)
"""The latest pack of each of the cases, without the archive."""


def _capture_place(decision_id: str) -> str:
    return f"capture/{decision_id}/sealed_capture"


def _pack_place(pack_id: str) -> str:
    return f"evidence_pack/{pack_id}/sealed_archive"


def _why_place(custody_id: str) -> str:
    return f"custody/{custody_id}/sealed_why"


class SqlEvidence:
    """The `EvidenceStore` over one session."""

    def __init__(self, session: AsyncSession, sealing: Sealing) -> None:
        self._session = session
        self._sealing = sealing

    async def captures(self, decision_ids: Collection[str]) -> Mapping[str, StoredCapture]:
        """See `EvidenceStore`."""
        if not decision_ids:
            return {}
        rows = await self._session.execute(select(CAPTURE).where(among(CAPTURE.c.decision_id, decision_ids)))
        return {row.decision_id: self._opened(row) for row in rows}

    async def fetched(self, decision_ids: Collection[str]) -> Collection[str]:
        """See `EvidenceStore`."""
        query = select(CAPTURE.c.decision_id).where(among(CAPTURE.c.decision_id, decision_ids))
        return set(await self._session.scalars(query)) if decision_ids else set()

    def _opened(self, row: Any) -> StoredCapture:
        content = b""
        if row.sealed_capture:
            place = _capture_place(row.decision_id)
            content = self._sealing.open(row.subscriber_id, row.sealed_capture, place) or b""
        return StoredCapture(row.decision_id, content, row.sha256, row.fetch_time, row.released)

    async def keep(
        self, subscriber_id: str, contents: Mapping[str, bytes], purpose: Purpose.ValueType, now: datetime
    ) -> None:
        """See `EvidenceStore`."""
        rows = [
            {
                "decision_id": decision_id,
                "subscriber_id": subscriber_id,
                "sealed_capture": self._sealed(subscriber_id, decision_id, content),
                "sha256": hashlib.sha256(content).digest() if content else b"",
                "fetch_time": now,
                "purpose": int(purpose),
                "released": False,
            }
            for decision_id, content in contents.items()
        ]
        await insert_rows(self._session, CAPTURE, rows, "(decision_id) DO NOTHING")

    def _sealed(self, subscriber_id: str, decision_id: str, content: bytes) -> bytes:
        return self._sealing.seal(subscriber_id, content, _capture_place(decision_id)) if content else b""

    async def trim(self, subscriber_id: str, decision_id: str, content: bytes) -> None:
        """See `EvidenceStore`."""
        sealed = self._sealing.seal(subscriber_id, content, _capture_place(decision_id))
        statement = update(CAPTURE).where(CAPTURE.c.decision_id == decision_id)
        await self._session.execute(statement.values(sealed_capture=sealed))

    async def mark_released(self, decision_ids: Collection[str]) -> None:
        """See `EvidenceStore`."""
        statement = update(CAPTURE).where(among(CAPTURE.c.decision_id, decision_ids))
        await self._session.execute(statement.values(released=True))

    async def forget(self, decision_id: str) -> None:
        """See `EvidenceStore`."""
        await self._session.execute(delete(CAPTURE).where(CAPTURE.c.decision_id == decision_id))

    async def latest(self, case_id: str) -> PackSummary | None:
        """See `EvidenceStore`."""
        row = (await self._session.execute(LATEST, {"cases": [case_id]})).one_or_none()
        return summary_of(row) if row else None

    async def add_pack(
        self, subscriber_id: str, pack: PackSummary, archive: bytes, packed: Collection[str]
    ) -> None:
        """See `EvidenceStore`."""
        row = {
            "pack_id": pack.pack_id,
            "case_id": pack.case_id,
            "subscriber_id": subscriber_id,
            "version": pack.version,
            "manifest_sha256": pack.manifest_sha256,
            "size_bytes": pack.size_bytes,
            "items": pack.items,
            "sealed_archive": self._sealing.seal(subscriber_id, archive, _pack_place(pack.pack_id)),
            "create_time": pack.create_time,
            "verdict": pack.verdict.value,
        }
        await self._session.execute(insert(EVIDENCE_PACK).values(row))
        if packed:
            await self._session.execute(
                update(SIGHTING).where(among(SIGHTING.c.sighting_id, packed)).values(pack_version=pack.version)
            )
        shown = (CASE_GUIDANCE.c.case_id == pack.case_id) & CASE_GUIDANCE.c.pack_version.is_(None)
        await self._session.execute(update(CASE_GUIDANCE).where(shown).values(pack_version=pack.version))

    async def put_away(self, subscriber_id: str, pack_id: str, left: bytes) -> None:
        """See `EvidenceStore`."""
        sealed = self._sealing.seal(subscriber_id, left, _pack_place(pack_id))
        statement = update(EVIDENCE_PACK).where(EVIDENCE_PACK.c.pack_id == pack_id)
        await self._session.execute(statement.values(sealed_archive=sealed, size_bytes=len(left)))

    async def versions(self, case_id: str) -> Sequence[PackSummary]:
        """See `EvidenceStore`."""
        columns = [column for column in EVIDENCE_PACK.c if column.name != "sealed_archive"]
        query = select(*columns).where(EVIDENCE_PACK.c.case_id == case_id).order_by(EVIDENCE_PACK.c.version.desc())
        return [summary_of(row) for row in await self._session.execute(query)]

    async def pack(self, case_id: str, version: int) -> tuple[PackSummary, bytes] | None:
        """See `EvidenceStore`."""
        query = select(EVIDENCE_PACK).where(EVIDENCE_PACK.c.case_id == case_id)
        if version:
            query = query.where(EVIDENCE_PACK.c.version == version)
        query = query.order_by(EVIDENCE_PACK.c.version.desc()).limit(1)
        row = (await self._session.execute(query)).one_or_none()
        if row is None:
            return None
        archive = self._sealing.open(row.subscriber_id, row.sealed_archive, _pack_place(row.pack_id))
        return None if archive is None else (summary_of(row), archive)

    async def touch(self, case_id: str, subscriber_id: str, touch: Touch) -> None:
        """See `EvidenceStore`."""
        custody_id = uuid7()
        try:
            why = self._sealing.seal(subscriber_id, touch.why.encode(), _why_place(custody_id))
        except KeyDestroyed:
            # Who looked at what is left of an erased person is kept; the words go with the person.
            why = b""
        row = {
            "custody_id": custody_id,
            "case_id": case_id,
            "subscriber_id": subscriber_id,
            "version": touch.version,
            "action": touch.action,
            "who": touch.who,
            "sealed_why": why,
            "sha256_before": bytes.fromhex(touch.before),
            "sha256_after": bytes.fromhex(touch.after),
            "create_time": touch.time,
        }
        await self._session.execute(insert(CUSTODY).values(row))

    async def touches(self, case_id: str, most: int) -> Sequence[Touch]:
        """See `EvidenceStore`."""
        query = select(CUSTODY).where(CUSTODY.c.case_id == case_id)
        newest = query.order_by(CUSTODY.c.create_time.desc(), CUSTODY.c.custody_id.desc()).limit(most)
        rows = (await self._session.execute(newest)).all()
        return [self._touch(row) for row in reversed(rows)]

    def _touch(self, row: Any) -> Touch:
        why = self._sealing.open(row.subscriber_id, row.sealed_why, _why_place(row.custody_id)) or b""
        before, after = row.sha256_before.hex(), row.sha256_after.hex()
        return Touch(row.action, row.create_time, row.who, why.decode(), before, after, version=row.version)

    async def attach_guidance(
        self, case_id: str, subscriber_id: str, path_ids: Sequence[str], version: str, now: datetime
    ) -> None:
        """See `EvidenceStore`."""
        rows = [
            {
                "case_id": case_id,
                "path_id": path_id,
                "subscriber_id": subscriber_id,
                "guidance_version": version,
                "attach_time": now,
                "outcome": Outcome.UNSPECIFIED.value,
                "answer_time": None,
                "pack_version": None,
            }
            for path_id in path_ids
        ]
        await insert_rows(self._session, CASE_GUIDANCE, rows, "DO NOTHING")

    async def guidance(self, case_id: str) -> Sequence[Attached]:
        """See `EvidenceStore`."""
        query = select(CASE_GUIDANCE).where(CASE_GUIDANCE.c.case_id == case_id)
        ordered = query.order_by(CASE_GUIDANCE.c.attach_time, CASE_GUIDANCE.c.path_id)
        return [
            Attached(
                row.path_id,
                row.guidance_version,
                row.attach_time,
                Outcome(row.outcome),
                row.answer_time,
                row.pack_version,
            )
            for row in await self._session.execute(ordered)
        ]

    async def answer_guidance(self, case_id: str, path_id: str, outcome: Outcome, now: datetime) -> None:
        """See `EvidenceStore`."""
        mine = (CASE_GUIDANCE.c.case_id == case_id) & (CASE_GUIDANCE.c.path_id == path_id)
        values = {"outcome": outcome.value, "answer_time": now, "pack_version": None}
        await self._session.execute(update(CASE_GUIDANCE).where(mine).values(**values))


def summary_of(row: Any) -> PackSummary:
    """A pack at a glance."""
    return PackSummary(
        row.pack_id,
        row.case_id,
        row.version,
        row.manifest_sha256,
        row.size_bytes,
        row.items,
        row.create_time,
        Verdict(row.verdict),
    )
