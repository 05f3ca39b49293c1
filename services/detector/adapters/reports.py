"""How are scans and reports of subscribers stored?"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from services.detector.adapters import tables
from services.detector.domain.reports import Report, ReportState, Scan

_NO_SYNC = {"synchronize_session": False}
_SCAN = tuple(getattr(tables.ChannelScanRow, field.name) for field in fields(Scan))
_REPORT = tuple(getattr(tables.SightingReportRow, field.name) for field in fields(Report))


class SqlScans:
    """See the port Scans."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, scan: Scan) -> None:
        """See the port."""
        await self._session.execute(insert(tables.ChannelScanRow).values(asdict(scan)))

    async def get(self, scan_id: str, *, lock: bool = False) -> Scan | None:
        """See the port."""
        query = select(*_SCAN).where(tables.ChannelScanRow.scan_id == scan_id)
        row = (await self._session.execute(query.with_for_update() if lock else query)).one_or_none()
        return None if row is None else Scan(*row)

    async def running(self, channels: Collection[str], now: datetime) -> dict[str, Scan]:
        """See the port."""
        row = tables.ChannelScanRow
        query = select(*_SCAN).where(row.channel.in_(channels), ~row.ended, row.end_time > now)
        found = [Scan(*each) for each in await self._session.execute(query.order_by(row.request_time))]
        return {scan.channel: scan for scan in found}

    async def asked_since(self, channel: str, since: datetime) -> list[datetime]:
        """See the port."""
        row = tables.ChannelScanRow
        query = select(row.request_time).where(row.channel == channel, row.request_time > since)
        return list(await self._session.scalars(query.order_by(row.request_time)))

    async def count(self, brought: Mapping[tuple[str, str], tuple[int, int]]) -> None:
        """See the port."""
        row = tables.ChannelScanRow
        for (scan_id, channel), (accepted, refused) in sorted(brought.items()):
            changed = update(row).where(row.scan_id == scan_id, row.channel == channel, ~row.ended)
            values = {"accepted": row.accepted + accepted, "refused": row.refused + refused}
            await self._session.execute(changed.values(values).execution_options(**_NO_SYNC))

    async def end(self, scan_id: str) -> None:
        """See the port."""
        row = tables.ChannelScanRow
        changed = update(row).where(row.scan_id == scan_id).values(ended=True)
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def purge(self, before: datetime) -> None:
        """See the port."""
        row = tables.ChannelScanRow
        await self._session.execute(delete(row).where(row.end_time < before).execution_options(**_NO_SYNC))


class SqlReports:
    """See the port Reports."""

    def __init__(self, session: AsyncSession) -> None:
        self._session = session

    async def add(self, report: Report) -> None:
        """See the port."""
        await self._session.execute(insert(tables.SightingReportRow).values(_values(report)))

    async def get(self, report_id: str, *, lock: bool = False) -> Report | None:
        """See the port."""
        query = select(*_REPORT).where(tables.SightingReportRow.report_id == report_id)
        row = (await self._session.execute(query.with_for_update() if lock else query)).one_or_none()
        if row is None:
            return None
        values = row._asdict()
        return Report(**{**values, "state": ReportState(row.state)})

    async def put(self, report: Report) -> None:
        """See the port."""
        row = tables.SightingReportRow
        changed = update(row).where(row.report_id == report.report_id).values(_values(report))
        await self._session.execute(changed.execution_options(**_NO_SYNC))

    async def remove(self, report_id: str) -> None:
        """See the port."""
        row = tables.SightingReportRow
        await self._session.execute(delete(row).where(row.report_id == report_id).execution_options(**_NO_SYNC))

    async def since(self, subscriber_id: str, since: datetime) -> int:
        """See the port."""
        row = tables.SightingReportRow
        query = select(func.count()).where(row.subscriber_id == subscriber_id, row.create_time > since)
        return int(await self._session.scalar(query) or 0)


def _values(report: Report) -> dict[str, Any]:
    return asdict(report) | {"state": report.state.value}
