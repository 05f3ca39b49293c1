"""How are captures and packs stored? Both sealed under the subscriber's key."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncSession

from misuse.common.v1.access_pb2 import Purpose
from services.case.adapters.sealing import Sealing
from services.case.adapters.tables import CAPTURE, EVIDENCE_PACK, SIGHTING, among
from services.case.domain.evidence import manifest_alone
from services.case.ports import PackSummary, StoredCapture

LATEST = text(
    """
    SELECT DISTINCT ON (case_id) pack_id, case_id, version, manifest_sha256, size_bytes, items, create_time
    FROM evidence_pack WHERE case_id = ANY(CAST(:cases AS text[])) ORDER BY case_id, version DESC
    """
)
"""The latest pack of each of the cases, without the archive."""


def _capture_place(decision_id: str) -> str:
    return f"capture/{decision_id}/sealed_capture"


def _pack_place(pack_id: str) -> str:
    return f"evidence_pack/{pack_id}/sealed_archive"


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

    def _opened(self, row: Any) -> StoredCapture:
        content = b""
        if row.sealed_capture:
            place = _capture_place(row.decision_id)
            content = self._sealing.open(row.subscriber_id, row.sealed_capture, place) or b""
        return StoredCapture(row.decision_id, content, row.sha256, row.fetch_time, row.released)

    async def keep(
        self, subscriber_id: str, decision_id: str, content: bytes, purpose: Purpose.ValueType, now: datetime
    ) -> None:
        """See `EvidenceStore`."""
        place = _capture_place(decision_id)
        values = {
            "sealed_capture": self._sealing.seal(subscriber_id, content, place) if content else b"",
            "sha256": hashlib.sha256(content).digest() if content else b"",
            "fetch_time": now,
            "purpose": purpose,
        }
        key = {"decision_id": decision_id, "subscriber_id": subscriber_id}
        statement = upsert(CAPTURE).values(**key, released=False, **values)
        await self._session.execute(statement.on_conflict_do_nothing(index_elements=["decision_id"]))

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
        }
        await self._session.execute(insert(EVIDENCE_PACK).values(row))
        if packed:
            await self._session.execute(
                update(SIGHTING).where(among(SIGHTING.c.sighting_id, packed)).values(pack_version=pack.version)
            )

    async def leave_manifest(
        self, subscriber_id: str, case_id: str, version: int
    ) -> PackSummary | None:
        """See `EvidenceStore`."""
        found = await self.pack(case_id, version) if version > 0 else None
        if found is None:
            return None
        summary, archive = found
        left = manifest_alone(archive)
        sealed = self._sealing.seal(subscriber_id, left, _pack_place(summary.pack_id))
        statement = update(EVIDENCE_PACK).where(EVIDENCE_PACK.c.pack_id == summary.pack_id)
        await self._session.execute(statement.values(sealed_archive=sealed, size_bytes=len(left)))
        return summary

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
    )
