"""What does each command of `jikimi gate` do about releases?

Exit status of what judges or shows a judgement: 0 passed, 1 failed, 2 inconclusive, 3 error or no answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jikimi_client.misuse.gate import v1 as gate_api
from services.console.client import Connections, connections, staff
from services.console.gate_papers import Change, Checked, check_decision, differences, junit, worse
from services.console.home import Home
from services.console.output import PAGE, Row, everything, name_of, present, print_rows, read_file, time_of

STATUS = {"PASSED": 0, "FAILED": 1, "INCONCLUSIVE": 2, "ERROR": 3}
ERROR = 3
STATES = ("HOLDS", "DEGRADED", "LOST")
KINDS = ("SCENARIO", "REGRESSION", "POLICY", "ROLLBACK")
_UUID_LENGTH = 36


def _stub(services: Connections, seconds: float = 300.0) -> gate_api.GateServiceStub:
    return services.stub("gate", gate_api.GateServiceStub, staff("RELEASE_MANAGER", "RELEASE"), seconds=seconds)


async def run(home: Home, options: argparse.Namespace) -> int:
    """Judges a release. Exit status by outcome; an override does not change it."""
    async with connections(home) as services:
        decision = await judge(services, options.release, options.stage)
        if options.out:
            await save_decision(services, decision, Path(options.out))
    if options.junit:
        Path(options.junit).write_bytes(junit(decision))
    _show(options, decision)
    return _status(decision)


async def judge(services: Connections, release: str, stage: str) -> gate_api.ReleaseDecision:
    """A decision of the gate."""
    request = gate_api.EvaluateReleaseRequest(release=release, stage=stage, request_id=secrets.token_hex(16))
    return present((await _stub(services).evaluate_release(request)).decision)


async def report(home: Home, options: argparse.Namespace) -> int:
    """Lists reports, or saves one."""
    async with connections(home) as services:
        if options.report:
            for file in await save_reports(services, [options.report], Path(options.out or ".")):
                print(file)
            return 0
        answer = await _stub(services).list_reports(gate_api.ListReportsRequest(page_size=50))
    rows = [[time_of(r.create_time), r.name, name_of(r.outcome), r.value_text, r.report_id] for r in answer.reports]
    print_rows(options, answer.to_dict(), ["time", "report", "outcome", "value", "id"], rows)
    return 0


async def open_pages(home: Home, options: argparse.Namespace) -> int:
    """Saves the index with the pages of a decision (else of every gate's last report), and opens it on a display."""
    folder = Path(options.out or home.path / "reports")
    async with connections(home) as services:
        if options.release:
            decision = await _decision(services, options.release, options.stage)
            index = await save_decision(services, decision, folder)
        else:
            index = await _save_last(services, folder)
    print(json.dumps({"index": str(index)}) if options.json else index)
    viewer = shutil.which("xdg-open")
    if viewer and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")) and not options.json:
        await (await asyncio.create_subprocess_exec(viewer, str(index))).wait()
    return 0


async def save_decision(services: Connections, decision: gate_api.ReleaseDecision, folder: Path) -> Path:
    """Saves the reports of a decision, the decision as it was signed, and the index; returns the index."""
    reports = [*decision.reports, *decision.stage_reports]
    await save_reports(services, [each.report_id for each in reports], folder)
    if decision.document:
        (folder / "decision.json").write_bytes(decision.document)
    return await _save_index(services, folder)


async def _save_last(services: Connections, folder: Path) -> Path:
    """The last report of every gate and stage, and the index."""
    found = await _stub(services).list_reports(gate_api.ListReportsRequest(page_size=PAGE))
    last: dict[str, str] = {}
    for each in found.reports:
        last.setdefault(each.name, each.report_id)
    await save_reports(services, list(last.values()), folder)
    return await _save_index(services, folder)


async def _save_index(services: Connections, folder: Path) -> Path:
    answer = await _stub(services).list_gates(gate_api.ListGatesRequest(page=True))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "index.html"
    file.write_bytes(answer.page)
    return file


async def save_reports(services: Connections, report_ids: Sequence[str], folder: Path) -> list[Path]:
    """Saves reports as JSON and HTML into a folder; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for report_id in report_ids:
        for form, ending in (("JSON", "json"), ("HTML", "html")):
            wanted = gate_api.ReportFormat.from_string(form)
            answer = await _stub(services).get_report(gate_api.GetReportRequest(report_id=report_id, format=wanted))
            file = folder / f"{present(answer.summary).name}.{ending}"
            file.write_bytes(answer.document)
            files.append(file)
    return files


async def diff(home: Home, options: argparse.Namespace) -> int:
    """What changed between two decisions. Exit status: 0 nothing got worse, 1 something did, 3 no answer."""
    async with connections(home) as services:
        before = await _decision(services, options.before, options.stage)
        after = await _decision(services, options.after, options.stage)
        olds, news = await _documents(services, before), await _documents(services, after)
    changes = [change for name in (olds | news) for change in differences(name, olds.get(name), news.get(name))]
    facts = {
        "before": {"release": before.release, "decision_id": before.decision_id, "outcome": name_of(before.outcome)},
        "after": {"release": after.release, "decision_id": after.decision_id, "outcome": name_of(after.outcome)},
        "changes": [change.facts() for change in changes],
    }
    if not options.json:
        print(f"{before.release} ({name_of(before.outcome)}) → {after.release} ({name_of(after.outcome)})")
    print_rows(options, facts, ["report", "what", before.release, after.release], [change.row() for change in changes])
    return 1 if worse(changes) or worse([_whole(before, after)]) else 0


def _whole(before: gate_api.ReleaseDecision, after: gate_api.ReleaseDecision) -> Change:
    return Change("decision", "outcome", name_of(before.outcome), name_of(after.outcome))


async def explain(home: Home, options: argparse.Namespace) -> int:
    """Prints a decision with its reasons and what is done about them, and verifies its signature. Exit status by
    outcome; 3 where the signature or the hash of a report does not hold."""
    async with connections(home) as services:
        decision = await _decision(services, options.release, options.stage)
        documents = await _documents(services, decision)
    keys = Path(options.public_key) if options.public_key else home.path / "tokens" / "public"
    checked = check_decision(decision, documents, keys)
    if options.json:
        facts = decision.to_dict() | {"document": _loaded(decision.document), "signature": checked.facts()}
        print(json.dumps(facts, ensure_ascii=False, default=str))
    else:
        _tell(decision, documents, checked)
    return _status(decision) if checked.holds else ERROR


def _tell(decision: gate_api.ReleaseDecision, documents: dict[str, dict[str, Any]], checked: Checked) -> None:
    """For people."""
    ships = "may ship" if decision.may_ship else "may not ship"
    print(f"{decision.release}, stage {decision.stage}: {name_of(decision.outcome)} — {ships}")
    print(f"decided {time_of(decision.create_time)}, {decision.decision_id}")
    print(f"signature: {checked.said}")
    for reason in decision.reasons:
        print(f"  {reason}")
        if hint := _hint(reason, decision.release):
            print(f"    → {hint}")
        document = documents.get(reason.partition(":")[0], {})
        if document.get("schema") != "report_v1" or document["outcome"] == "PASSED":
            continue
        print(f"    {document['value']['text'] or 'no value'}, wanted {document['threshold']['text']}")
        for action in document["on_failure"]:
            command = f"  jikimi {' '.join(action['command'])}" if action.get("command") else ""
            print(f"    → {action['en']}{command}  {action.get('runbook', '')}".rstrip())
    if decision.override is not None:
        print(f"overridden by two people: {decision.override.reason} (proposal {decision.override.proposal_id})")


def _hint(reason: str, release: str) -> str:
    """What mends a reason that is not a figure's; empty for the others."""
    name, _, rest = reason.partition(":")
    if name in KINDS:
        return f"jikimi gate record {release} {name} COMMIT FILE"
    return f"jikimi gate dependency set {name} HOLDS REASON" if "DEPENDENCY_" in rest else ""


async def record(home: Home, options: argparse.Namespace) -> int:
    """Records a test run from a JUnit file. Exit status: 0 nothing failed, 1 something did, 2 nothing ran."""
    async with connections(home) as services:
        request = gate_api.RecordTestRunRequest(
            release=options.release,
            kind=options.kind,
            commit=options.commit,
            junit=read_file(Path(options.file)),
            request_id=secrets.token_hex(16),
        )
        answer = await _stub(services).record_test_run(request)
    row = [options.kind, answer.passed, answer.failed, answer.skipped, answer.test_run_id]
    print_rows(options, answer.to_dict(), ["kind", "passed", "failed", "skipped", "id"], [row])
    if answer.failed:
        return 1
    return 0 if answer.passed else 2


async def watch(home: Home, options: argparse.Namespace) -> int:
    """Prints decisions as they are made, with the token from which to go on, until stopped."""
    async with connections(home) as services:
        stub = services.stub("gate", gate_api.GateServiceStub, staff("RELEASE_MANAGER", "RELEASE"), seconds=None)
        request = gate_api.WatchReleasesRequest(resume_token=options.token, release=options.release)
        async for answer in stub.watch_releases(request):
            _say_seen(options, answer)
    return 0


def _say_seen(options: argparse.Namespace, answer: gate_api.WatchReleasesResponse) -> None:
    if options.json:
        print(json.dumps(answer.to_dict(), default=str), flush=True)
    elif answer.decision is not None:
        decision = answer.decision
        outcome = name_of(decision.outcome)
        print(f"{time_of(decision.create_time)}  {answer.event}  {decision.release}  {decision.stage}  {outcome}")
        print(f"  {answer.resume_token}", flush=True)


async def dependency_list(home: Home, options: argparse.Namespace) -> int:
    """The register. Exit status: 0 all hold, 1 one does not."""
    async with connections(home) as services:
        stub = _stub(services)

        async def page(token: str) -> tuple[list[gate_api.Dependency], str]:
            answer = await stub.list_dependencies(gate_api.ListDependenciesRequest(page_size=PAGE, page_token=token))
            return answer.dependencies, answer.next_page_token

        found = await everything(page)
    _print_dependencies(options, found)
    return 0 if all(each.state == "HOLDS" for each in found) else 1


async def dependency_set(home: Home, options: argparse.Namespace) -> int:
    """Notes a change of a dependency."""
    async with connections(home) as services:
        request = gate_api.SetDependencyRequest(
            dependency_id=options.dependency,
            state=options.state,
            reason=options.reason,
            request_id=secrets.token_hex(16),
        )
        changed = present((await _stub(services).set_dependency(request)).dependency)
    _print_dependencies(options, [changed])
    return 0


def _print_dependencies(options: argparse.Namespace, found: Sequence[gate_api.Dependency]) -> None:
    rows: list[Row] = [
        [d.dependency_id, d.kind, d.state, time_of(d.change_time), d.owner, d.reason or d.title] for d in found
    ]
    print_rows(options, [d.to_dict() for d in found], ["id", "kind", "state", "since", "owner", ""], rows)


async def _decision(services: Connections, name: str, stage: str) -> gate_api.ReleaseDecision:
    """The latest decision of a release, or the one with that id."""
    by_id = len(name) == _UUID_LENGTH and name.count("-") == 4
    request = gate_api.GetReleaseDecisionRequest(
        decision_id=name if by_id else "", release="" if by_id else name, stage="" if by_id else stage
    )
    return present((await _stub(services).get_release_decision(request)).decision)


async def _documents(services: Connections, decision: gate_api.ReleaseDecision) -> dict[str, dict[str, Any]]:
    """The reports of a decision by name."""
    found: dict[str, dict[str, Any]] = {}
    wanted = gate_api.ReportFormat.from_string("JSON")
    for summary in [*decision.reports, *decision.stage_reports]:
        request = gate_api.GetReportRequest(report_id=summary.report_id, format=wanted)
        found[summary.name] = json.loads((await _stub(services).get_report(request)).document)
    return found


def _loaded(document: bytes) -> Any:
    return json.loads(document) if document else None


def _show(options: argparse.Namespace, decision: gate_api.ReleaseDecision) -> None:
    reports = [*decision.reports, *decision.stage_reports]
    rows = [[r.name, name_of(r.outcome), r.value_text, f"{r.sample_size} of {r.required_size}"] for r in reports]
    if not options.json:
        print(f"{decision.release}, stage {decision.stage}: {name_of(decision.outcome)}")
    facts = decision.to_dict() | {"document": _loaded(decision.document)}
    print_rows(options, facts, ["report", "outcome", "value", "sample"], rows)


def _status(decision: gate_api.ReleaseDecision) -> int:
    return STATUS.get(name_of(decision.outcome), ERROR)
