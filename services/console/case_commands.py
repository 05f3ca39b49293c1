"""What do `jikimi case replay|verify|export|guidance` do?"""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.gate import v1 as gate_api
from services.console.client import Connections, connections, staff, subscriber
from services.console.home import Home
from services.console.output import PAGE, CannotDo, everything, name_of, present, print_rows, time_of
from services.console.story import Moment, Standing, gap_text, story_of, story_page

HEADS_PAGE = 1_000
DOCUMENTS_AT_MOST = 16
SPEAKS_FOR_NOTHING = 3
"""Exit status where the chains hold and no head is kept elsewhere that could say more."""
_TONES = {"found": "blue", "done": "green", "wait": "yellow", "bad": "red", "quiet": "bright_black"}


def _cases(services: Connections) -> case_api.CaseServiceStub:
    return services.stub("case", case_api.CaseServiceStub, staff("AUDITOR", "AUDIT"), seconds=300)


def _gate(services: Connections) -> gate_api.GateServiceStub:
    return services.stub("gate", gate_api.GateServiceStub, staff("AUDITOR", "AUDIT"))


# --- verify ---


@dataclass
class Checked:
    """What checking the log came to."""

    chains: int = 0
    entries: int = 0
    witnessed: int = 0
    purged: int = 0
    faults: list[case_api.ChainFault] = field(default_factory=list)

    def add(self, answer: case_api.VerifyCaseLogResponse) -> None:
        """Adds the answer of one call."""
        self.chains += answer.chains
        self.entries += answer.entries
        self.witnessed += answer.witnessed_entries
        self.purged += answer.purged_entries
        self.faults += answer.faults

    @property
    def standing(self) -> Standing:
        """For people."""
        faults = [_fault_text(fault) for fault in self.faults]
        return Standing(not self.faults, self.entries, self.witnessed, faults)


async def case_verify(home: Home, options: argparse.Namespace) -> int:
    """Holds the log against the heads that the gate keeps; an exported case without any server. Exit status: 0 it
    holds, 1 it was changed, 3 nobody else speaks for it."""
    if options.case and Path(options.case).is_file():
        return await _verified_offline(home, Path(options.case), options.json)
    async with connections(home) as services:
        found = await (_check_case(services, options.case) if options.case else check_all(services))
    if options.json:
        print(json.dumps(_facts(found), default=str))
    else:
        _say(found)
    if found.faults:
        return 1
    return SPEAKS_FOR_NOTHING if found.entries and not found.witnessed else 0


async def _verified_offline(home: Home, file: Path, as_json: bool) -> int:
    words = ["evidence", "verify", str(file), "--public-key", str(home.path / "tokens" / "public")]
    command = [sys.executable, "-m", "services.case", *words, *(["--json"] if as_json else [])]
    program = await asyncio.create_subprocess_exec(*command)
    return await program.wait()


async def _check_case(services: Connections, case_id: str) -> Checked:
    """One chain against every head that the gate ever heard of it."""
    heads = await _heads_of(services, case_id)
    kept = [case_api.LogHead(head.chain_id, head.sequence, head.head_hash) for head in heads[-HEADS_PAGE:]]
    found = Checked()
    found.add(await _cases(services).verify_case_log(case_api.VerifyCaseLogRequest(case_id=case_id, heads=kept)))
    return found


async def check_all(services: Connections, page_size: int = HEADS_PAGE) -> Checked:
    """Every chain: span by span between the chains that the gate knows, so that each is read once."""
    found, after, token = Checked(), "", ""
    while True:
        request = gate_api.ListLogHeadsRequest(page_size=page_size, page_token=token)
        page = await _gate(services).list_log_heads(request)
        token = page.next_page_token
        kept = [case_api.LogHead(head.chain_id, head.sequence, head.head_hash) for head in page.heads]
        until = kept[-1].chain_id if token else ""
        span = case_api.VerifyCaseLogRequest(heads=kept, after_chain_id=after, until_chain_id=until)
        found.add(await _cases(services).verify_case_log(span))
        after = until
        if not token:
            break
    found.faults = [each for fault in found.faults for each in await _narrowed(services, fault)]
    return found


async def _narrowed(services: Connections, fault: case_api.ChainFault) -> list[case_api.ChainFault]:
    """A rewritten case held against every head of it, which narrows down where."""
    if fault.reason != "REWRITTEN" or fault.chain_id.startswith("day:"):
        return [fault]
    return (await _check_case(services, fault.chain_id)).faults or [fault]


async def _heads_of(services: Connections, chain_id: str) -> list[gate_api.LogHead]:
    async def page(token: str) -> tuple[list[gate_api.LogHead], str]:
        request = gate_api.ListLogHeadsRequest(chain_id=chain_id, page_size=HEADS_PAGE, page_token=token)
        answer = await _gate(services).list_log_heads(request)
        return answer.heads, answer.next_page_token

    return await everything(page)


def _facts(found: Checked) -> dict[str, object]:
    return {
        "valid": not found.faults,
        "chains": found.chains,
        "entries": found.entries,
        "witnessed_entries": found.witnessed,
        "purged_entries": found.purged,
        "faults": [
            {
                "chain_id": fault.chain_id,
                "sequence": fault.sequence,
                "until_sequence": fault.until_sequence,
                "reason": fault.reason,
                "expected_hash": fault.expected_hash.hex(),
                "actual_hash": fault.actual_hash.hex(),
            }
            for fault in found.faults
        ],
    }


def _say(found: Checked) -> None:
    verdict = "was CHANGED" if found.faults else "holds"
    print(f"The log {verdict}: {found.chains} chains, {found.entries} entries.")
    for number, fault in enumerate(found.faults):
        print(f"  {'first wrong: ' if not number else '             '}{_fault_text(fault)}")
    print(f"Heads that the gate keeps speak for {found.witnessed} entries.")
    if later := found.entries - found.witnessed:
        print(f"The {later} later ones hold among themselves only.")
    if found.purged:
        print(f"Of {found.purged} entries a purge left only the hash.")


def _fault_text(fault: case_api.ChainFault) -> str:
    to = f"-{fault.until_sequence}" if fault.until_sequence > fault.sequence else ""
    hashes = ""
    if fault.expected_hash or fault.actual_hash:
        hashes = f" (expected {fault.expected_hash.hex()[:16] or '-'}, is {fault.actual_hash.hex()[:16] or '-'})"
    return f"{fault.chain_id} #{fault.sequence}{to}: {fault.reason}{hashes}"


# --- replay ---


async def case_replay(home: Home, options: argparse.Namespace) -> int:
    """Tells the story of a case from its log."""
    async with connections(home) as services:
        entries = await _log(services, options.case)
        found = await _check_case(services, options.case)
        answer = await _cases(services).get_case(case_api.GetCaseRequest(case_id=options.case))
    if options.json:
        print(json.dumps({"check": _facts(found), "entries": [entry.to_dict() for entry in entries]}, default=str))
    moments = story_of(entries)
    if options.html:
        page = story_page(present(answer.case), moments, found.standing, datetime.now(UTC))
        Path(options.html).write_bytes(page)
        print(options.html, file=sys.stderr)
    elif not options.json:
        _print_story(moments)
        _say(found)
    return 1 if found.faults else 0


async def _log(services: Connections, case_id: str) -> list[case_api.CaseLogEntry]:
    async def page(token: str) -> tuple[list[case_api.CaseLogEntry], str]:
        request = case_api.ListCaseLogRequest(case_id=case_id, page_size=PAGE, page_token=token)
        answer = await _cases(services).list_case_log(request)
        return answer.entries, answer.next_page_token

    return await everything(page)


def _print_story(moments: Sequence[Moment]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    table.add_column("time", no_wrap=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")
    table.add_column("what happened", ratio=1)
    table.add_column("#", justify="right", no_wrap=True)
    table.add_column("hash", style="dim", no_wrap=True)
    for moment in moments:
        title = moment.title["en"] + (f" × {moment.count:,}" if moment.count > 1 else "")
        what = Text(title, style="" if moment.tone != "quiet" else "dim")
        what.append(f"\n{' · '.join(filter(None, [moment.detail['en'], moment.service, moment.who]))}", style="dim")
        table.add_row(
            time_of(moment.time),
            gap_text(moment.gap),
            Text("●", style=_TONES[moment.tone]),
            what,
            str(moment.sequence),
            moment.entry_hash[:8],
        )
    Console().print(table if moments else "Nothing there.")


# --- export ---


async def case_export(home: Home, options: argparse.Namespace) -> int:
    """Saves a case with the heads that the gate has signed, so that it can be checked without any server."""
    out = Path(options.out or f"case-{options.case}.zip")
    async with connections(home) as services:
        documents = await _head_documents(services, options.case)
        request = case_api.ExportCaseRequest(
            case_id=options.case, reason=options.reason, head_documents=documents[:DOCUMENTS_AT_MOST]
        )
        chunks, export_id = [], ""
        async for answer in _cases(services).export_case(request):
            chunks.append(answer.chunk)
            export_id = export_id or answer.export_id
    archive = b"".join(chunks)
    out.write_bytes(archive)
    if len(documents) > DOCUMENTS_AT_MOST:
        print(f"Heads of {DOCUMENTS_AT_MOST} of {len(documents)} pages are in it.", file=sys.stderr)
    facts = {"file": str(out), "bytes": len(archive), "export_id": export_id}
    print_rows(options, facts, ["file", "bytes", "export"], [[out, len(archive), export_id]])
    return 0


async def _head_documents(services: Connections, case_id: str) -> list[bytes]:
    """What the gate signs about the chains of the case and of those merged into it."""
    answer = await _cases(services).get_case(case_api.GetCaseRequest(case_id=case_id))
    case = present(answer.case)
    documents: list[bytes] = []
    for chain_id in [case.case_id, *case.merged_case_ids]:
        token, first = "", True
        while first or token:
            first = False
            request = gate_api.ListLogHeadsRequest(chain_id=chain_id, page_size=HEADS_PAGE, page_token=token)
            page = await _gate(services).list_log_heads(request)
            token = page.next_page_token
            if page.heads:
                documents.append(page.document)
    return documents


# --- guidance ---


async def case_guidance(home: Home, options: argparse.Namespace) -> int:
    """Shows the public guidance of a case, or records what the subscriber did with a path."""
    if options.path and not options.outcome:
        raise CannotDo("What became of the path? contacted, helped, not-helped or declined.")
    async with connections(home) as services:
        answer = await _cases(services).get_case(case_api.GetCaseRequest(case_id=options.case))
        paths = answer.guidance
        if options.path:
            paths = [await _answered(services, present(answer.case).subscriber_id, options)]
    rows = [
        [path.path_id, path.name_ko, path.phone or path.url, name_of(path.outcome), time_of(path.answer_time)]
        for path in paths
    ]
    print_rows(options, [path.to_dict() for path in paths], ["path", "name", "where", "outcome", "said"], rows)
    return 0


async def _answered(services: Connections, subscriber_id: str, options: argparse.Namespace) -> case_api.Guidance:
    stub = services.stub("case", case_api.CaseServiceStub, subscriber(subscriber_id))
    outcome = case_api.GuidanceOutcome.from_string(options.outcome.upper().replace("-", "_"))
    request = case_api.RecordGuidanceOutcomeRequest(
        subscriber_id=subscriber_id,
        case_id=options.case,
        request_id=secrets.token_hex(16),
        path_id=options.path,
        outcome=outcome,
    )
    return present((await stub.record_guidance_outcome(request)).guidance)
