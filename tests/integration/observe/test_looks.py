"""Do the statements that count what waits fit the tables, and count it?"""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import MetaData, insert

from services.case.adapters.backlog import look as look_at_cases
from services.case.adapters.tables import ERASURE, RIGHTS_REQUEST
from services.chassis.backlog import Backlog, Look
from services.chassis.clock import ManualClock
from services.chassis.database import Database, chassis_tables
from services.chassis.ids import uuid7
from services.detector.adapters.backlog import look as look_at_signals
from services.detector.adapters.tables import SpoolRow
from services.notify.adapters.backlog import look as look_at_notices
from services.removal.adapters.backlog import Look as LookAtRequests
from tests.metrics_page import value

NOW = datetime(2026, 1, 10, tzinfo=UTC)


@asynccontextmanager
async def tables_of(service: str, database_url: Callable[[str], str]) -> AsyncIterator[Database]:
    """An empty database of the service."""
    metadata: MetaData = importlib.import_module(f"services.{service}.adapters.tables").Base.metadata
    chassis_tables(metadata)
    database = Database(database_url(service))
    async with database.engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    try:
        yield database
    finally:
        await database.close()


async def count(database: Database, look: Look) -> None:
    await Backlog(database, ManualClock(NOW), [], [look]).count()


@pytest.mark.parametrize(
    ("service", "look"),
    [
        ("detector", look_at_signals),
        ("case", look_at_cases),
        ("notify", look_at_notices),
        ("removal", LookAtRequests()),
    ],
)
async def test_nothing_waits_in_empty_tables(
    service: str, look: Look, database_url: Callable[[str], str]
) -> None:
    async with tables_of(service, database_url) as database:
        await count(database, look)
    zero = {
        "detector": value("jikimi_spool_signals", lane="texts"),
        "case": value("jikimi_review_items", state="overdue"),
        "notify": value("jikimi_notices_open", state="HANDED_OVER"),
        "removal": value("jikimi_removal_requests", state="RECEIVED"),
    }
    assert 0.0 == zero[service]


async def test_signals_that_wait_are_counted_by_lane(database_url: Callable[[str], str]) -> None:
    def row(pictures: bool, parked: bool, minutes: int) -> dict[str, object]:
        return {
            "signal_ref": b"ref", "key_id": "key", "payload": b"sealed", "size_bytes": 6, "pictures": pictures,
            "traceparent": "", "attempts": 0, "parked": parked,
            "receive_time": datetime.now(UTC) - timedelta(minutes=minutes),
        }  # fmt: skip

    async with tables_of("detector", database_url) as database:
        async with database.begin() as session:
            await session.execute(insert(SpoolRow), [row(False, False, 5), row(False, False, 1), row(True, True, 99)])
        await count(database, look_at_signals)
    counted = {lane: value("jikimi_spool_signals", lane=lane) for lane in ("texts", "pictures", "parked")}
    assert {"texts": 2.0, "pictures": 0.0, "parked": 1.0} == counted
    assert 300 <= (value("jikimi_spool_oldest_seconds", lane="texts") or 0) < 3600
    assert 18.0 == value("jikimi_spool_bytes")


async def test_requests_of_subscribers_are_counted_by_their_deadline(database_url: Callable[[str], str]) -> None:
    def row(due_in_days: float, complete: bool = False) -> dict[str, object]:
        due_time = NOW + timedelta(days=due_in_days)
        return {
            "erasure_id": uuid7(), "subscriber_id": uuid7(), "request_time": due_time - timedelta(days=5),
            "due_time": due_time, "ask_time": NOW, "waiting_for": ["gate"], "round": 1,
            "complete_time": NOW if complete else None,
        }  # fmt: skip

    async with tables_of("case", database_url) as database:
        async with database.begin() as session:
            await session.execute(insert(ERASURE), [row(4), row(1), row(-1), row(-2, complete=True)])
        await count(database, look_at_cases)
    states = ("open", "soon", "overdue")
    counted = {state: value("jikimi_rights_requests", kind="erasure", state=state) for state in states}
    assert {"open": 3.0, "soon": 2.0, "overdue": 1.0} == counted


async def test_requests_about_ones_own_data_are_counted_by_type(database_url: Callable[[str], str]) -> None:
    def row(kind: str, due_in_days: float, state: str = "RECEIVED") -> dict[str, object]:
        due_time = NOW + timedelta(days=due_in_days)
        return {
            "rights_request_id": uuid7(), "subscriber_id": uuid7(), "type": kind, "requester": "SELF",
            "identity_basis": "TOKEN", "document_sha256": b"", "create_time": NOW, "due_time": due_time,
            "rule_version": "1", "state": state, "extensions": 0, "extension_reason": "", "reason": "",
            "erasure_id": "", "answer_sha256": b"", "version": 1,
        }  # fmt: skip

    rows = [row("ACCESS", 9), row("ACCESS", 1), row("ACCESS", -1, "REJECTED"), row("DELETION", -1)]
    async with tables_of("case", database_url) as database:
        async with database.begin() as session:
            await session.execute(insert(RIGHTS_REQUEST), rows)
        await count(database, look_at_cases)
    states = ("open", "soon", "overdue")
    for kind, expected in (("access", [2.0, 1.0, 0.0]), ("deletion", [1.0, 1.0, 1.0]), ("suspension", [0.0] * 3)):
        assert expected == [value("jikimi_rights_requests", kind=kind, state=state) for state in states]
