"""How are captures and packs stored? Both sealed under the subscriber's key."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import Purpose
from services.case.adapters.evidence_tables import CASE_GUIDANCE, CUSTODY
from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import CAPTURE, EVIDENCE_PACK, SIGHTING
from services.case.domain.custody import Touch
from services.case.domain.guidance import Attached, Outcome
from services.case.domain.words import Verdict
from services.case.ports import NewPack, PackSummary, StoredCapture
from services.chassis.database import Rows, add_later, insert_rows, write_together
from services.chassis.ids import uuid7
from services.chassis.keys import KeyDestroyed

LATEST = text(
    """
    SELECT DISTINCT ON (case_id) pack_id, case_id, version, manifest_sha256, size_bytes, items, create_time, verdict
    FROM evidence_pack WHERE case_id = ANY(CAST(:cases AS text[])) ORDER BY case_id, version DESC
    """
)
"""The latest pack of each of the cases, without the archive."""


# Text, for they are part of every packing.
_TOUCHES = text(
    """
    SELECT t.* FROM unnest(CAST(:cases AS text[])) AS q(case_id) CROSS JOIN LATERAL (
        SELECT * FROM custody c WHERE c.case_id = q.case_id ORDER BY c.create_time DESC, c.custody_id DESC LIMIT :most
    ) t
    """
)
_GUIDANCE = text(
    "SELECT * FROM case_guidance WHERE case_id = ANY(CAST(:cases AS text[])) ORDER BY case_id, attach_time, path_id"
)
_SHOWN = text(
    """
    UPDATE case_guidance g SET pack_version = v.version
    FROM unnest(CAST(:cases AS text[]), CAST(:versions AS int[])) AS v(case_id, version)
    WHERE g.case_id = v.case_id AND g.pack_version IS NULL
    """
)
_PACKS = text(
    """
    SELECT q.wanted, p.* FROM unnest(CAST(:cases AS text[]), CAST(:versions AS int[])) AS q (case_id, wanted)
    CROSS JOIN LATERAL (
        SELECT * FROM evidence_pack e WHERE e.case_id = q.case_id AND (q.wanted = 0 OR e.version = q.wanted)
        ORDER BY e.version DESC LIMIT 1
    ) p
    """
)
_CAPTURES = text("SELECT * FROM capture WHERE decision_id = ANY(CAST(:decisions AS text[]))")
_FETCHED = text("SELECT decision_id FROM capture WHERE decision_id = ANY(CAST(:decisions AS text[]))")
_RELEASED = text("UPDATE capture SET released = true WHERE decision_id = ANY(CAST(:decisions AS text[]))")


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
        rows = await self._session.execute(_CAPTURES, {"decisions": list(decision_ids)})
        return {row.decision_id: self._opened(row) for row in rows}

    async def fetched(self, decision_ids: Collection[str]) -> Collection[str]:
        """See `EvidenceStore`."""
        if not decision_ids:
            return set()
        return set(await self._session.scalars(_FETCHED, {"decisions": list(decision_ids)}))

    def _opened(self, row: Any) -> StoredCapture:
        content = b""
        if row.sealed_capture:
            place = _capture_place(row.decision_id)
            content = self._sealing.open(row.subscriber_id, row.sealed_capture, place) or b""
        return StoredCapture(row.decision_id, content, row.sha256, row.fetch_time, row.released)

    async def keep(
        self, contents: Mapping[str, Mapping[str, bytes]], purpose: Purpose.ValueType, now: datetime
    ) -> None:
        """See `EvidenceStore`."""
        rows = [
            {
                "decision_id": decision_id,
                "subscriber_id": owner,
                "sealed_capture": self._sealed(owner, decision_id, content),
                "sha256": hashlib.sha256(content).digest() if content else b"",
                "fetch_time": now,
                "purpose": int(purpose),
                "released": False,
            }
            for owner, captures in contents.items()
            for decision_id, content in captures.items()
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
        await self._session.execute(_RELEASED, {"decisions": list(decision_ids)})

    async def forget(self, decision_id: str) -> None:
        """See `EvidenceStore`."""
        await self._session.execute(delete(CAPTURE).where(CAPTURE.c.decision_id == decision_id))

    async def latest(self, case_ids: Collection[str]) -> Mapping[str, PackSummary]:
        """See `EvidenceStore`."""
        rows = await self._session.execute(LATEST, {"cases": list(case_ids)}) if case_ids else ()
        return {row.case_id: summary_of(row) for row in rows}

    async def add_packs(self, packs: Sequence[NewPack]) -> None:
        """See `EvidenceStore`."""
        stored = [
            {
                "pack_id": pack.summary.pack_id,
                "case_id": pack.summary.case_id,
                "subscriber_id": pack.subscriber_id,
                "version": pack.summary.version,
                "manifest_sha256": pack.summary.manifest_sha256,
                "size_bytes": pack.summary.size_bytes,
                "items": pack.summary.items,
                "sealed_archive": self._sealing.seal(
                    pack.subscriber_id, pack.archive, _pack_place(pack.summary.pack_id)
                ),
                "create_time": pack.summary.create_time,
                "verdict": pack.summary.verdict.value,
            }
            for pack in packs
        ]
        packed = [
            {"sighting_id": sighting_id, "pack_version": pack.summary.version}
            for pack in packs
            for sighting_id in pack.packed
        ]
        touches = [
            self._touch_row(pack.summary.case_id, pack.subscriber_id, pack.supplemented)
            for pack in packs
            if pack.supplemented is not None
        ]
        await write_together(
            self._session,
            [Rows(EVIDENCE_PACK, stored), Rows(SIGHTING, packed, key="sighting_id"), Rows(CUSTODY, touches)],
        )
        shown = {pack.summary.case_id: pack.summary.version for pack in packs if pack.shows_new_guidance}
        if shown:
            await self._session.execute(_SHOWN, {"cases": list(shown), "versions": list(shown.values())})

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

    async def packs(self, wanted: Collection[tuple[str, int]]) -> Mapping[tuple[str, int], tuple[PackSummary, bytes]]:
        """See `EvidenceStore`."""
        values = {"cases": [case_id for case_id, _ in wanted], "versions": [version for _, version in wanted]}
        found = {}
        for row in await self._session.execute(_PACKS, values):
            archive = self._sealing.open(row.subscriber_id, row.sealed_archive, _pack_place(row.pack_id))
            if archive is not None:
                found[row.case_id, row.wanted] = summary_of(row), archive
        return found

    async def pack(self, case_id: str, version: int) -> tuple[PackSummary, bytes] | None:
        """See `EvidenceStore`."""
        return (await self.packs([(case_id, version)])).get((case_id, version))

    async def touch(self, case_id: str, subscriber_id: str, touch: Touch) -> None:
        """See `EvidenceStore`."""
        add_later(self._session, CUSTODY, self._touch_row(case_id, subscriber_id, touch))

    def _touch_row(self, case_id: str, subscriber_id: str, touch: Touch) -> dict[str, Any]:
        custody_id = uuid7()
        try:
            why = self._sealing.seal(subscriber_id, touch.why.encode(), _why_place(custody_id))
        except KeyDestroyed:
            # Who looked at what is left of an erased person is kept; the words go with the person.
            why = b""
        return {
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

    async def touches(self, case_ids: Collection[str], most: int) -> Mapping[str, Sequence[Touch]]:
        """See `EvidenceStore`."""
        # What was put off to the end of the transaction is among them.
        await write_together(self._session, ())
        found: dict[str, list[Touch]] = {case_id: [] for case_id in case_ids}
        for row in await self._session.execute(_TOUCHES, {"cases": list(found), "most": most}):
            found[row.case_id].append(self._touch(row))
        return {case_id: touches[::-1] for case_id, touches in found.items()}

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

    async def guidance(self, case_ids: Collection[str]) -> Mapping[str, Sequence[Attached]]:
        """See `EvidenceStore`."""
        found: dict[str, list[Attached]] = {case_id: [] for case_id in case_ids}
        for row in await self._session.execute(_GUIDANCE, {"cases": list(found)}) if found else ():
            found[row.case_id].append(
                Attached(
                    row.path_id,
                    row.guidance_version,
                    row.attach_time,
                    Outcome(row.outcome),
                    row.answer_time,
                    row.pack_version,
                )
            )
        return found

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
