"""Which reports does `jikimi gate report` make of a period, rather than fetch, and how are they shown?"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from jikimi_client.misuse.gate import v1 as gate_api
from services.console.client import connections, staff
from services.console.commands import Command
from services.console.gate_commands import report as kept_report
from services.console.home import Home
from services.console.output import Row, present, print_rows

LEAK_SIGNALS = "LeakSignalSummaryReport"
USER_ACTIONS = "UserActionOutcomeReport"


async def report(home: Home, options: argparse.Namespace) -> int:
    """Makes a report of the last days where its name is that of one; otherwise saves or lists kept ones."""
    return await OF_A_PERIOD.get(options.report, kept_report)(home, options)


async def leak_signals(home: Home, options: argparse.Namespace) -> int:
    """LeakSignalSummaryReport of the last days; saved as JSON and HTML into a folder where one is named."""
    end = datetime.now(UTC)
    start = end - timedelta(days=options.days)
    async with connections(home) as services:
        stub = services.stub("gate", gate_api.GateServiceStub, staff("OPERATOR", "AUDIT"), seconds=300)
        request = gate_api.ReportLeakSignalsRequest(start_time=start, end_time=end, page=bool(options.out))
        answer = await stub.report_leak_signals(request)
    page, answer.page = answer.page, b""
    period = {"start": start.isoformat(timespec="seconds"), "end": end.isoformat(timespec="seconds")}
    facts = {"report": LEAK_SIGNALS, "period": period} | answer.to_dict()
    if options.out:
        _save(_folder(options, end), LEAK_SIGNALS, facts, page)
    headings = ["by", "what", "signals", "cases", "review", "dropped", "refused", "subscribers' hits", "nobody's hits"]
    print_rows(options, facts, headings, [_row(each) for each in [present(answer.total), *answer.rows]])
    return 0


async def user_actions(home: Home, options: argparse.Namespace) -> int:
    """UserActionOutcomeReport of the last days; saved as JSON and HTML into a folder where one is named."""
    end = datetime.now(UTC)
    start = end - timedelta(days=options.days)
    async with connections(home) as services:
        stub = services.stub("gate", gate_api.GateServiceStub, staff("OPERATOR", "AUDIT"), seconds=300)
        request = gate_api.ReportUserActionsRequest(start_time=start, end_time=end, page=bool(options.out))
        answer = await stub.report_user_actions(request)
    page, answer.page = answer.page, b""
    period = {"start": start.isoformat(timespec="seconds"), "end": end.isoformat(timespec="seconds")}
    facts = {"report": USER_ACTIONS, "period": period} | answer.to_dict()
    if options.out:
        _save(_folder(options, end), USER_ACTIONS, facts, page)
    headings = ["by", "what", "shown", "blurred", "cancelled", "went on", "no answer", "open"]
    print_rows(options, facts, headings, [_choices(each) for each in [present(answer.total), *answer.rows]])
    return 0


def _choices(counts: gate_api.UserActionCounts) -> Row:
    numbers = (counts.shown, counts.blurred, counts.cancelled, counts.went_on, counts.no_answer, counts.open)
    return [counts.dimension, counts.name, *numbers]


def _folder(options: argparse.Namespace, day: datetime) -> Path:
    """Where a report goes: a folder a day keeps those of the days before."""
    return Path(options.out) / day.strftime("%Y-%m-%d") if options.dated else Path(options.out)


def _save(folder: Path, name: str, facts: object, page: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False, indent=1), encoding="utf-8")
    (folder / f"{name}.html").write_bytes(page)


def _row(counts: gate_api.LeakSignalCounts) -> Row:
    numbers = (counts.signals, counts.matched, counts.in_review, counts.dropped, counts.refused)
    return [counts.dimension, counts.name, *numbers, counts.hits_of_subscribers, counts.hits_of_nobody]


OF_A_PERIOD: Mapping[str, Command] = {LEAK_SIGNALS: leak_signals, USER_ACTIONS: user_actions}
"""Reports that are made of a period when they are asked for, by name."""
