"""What can a person do with an evidence pack or an exported case in a file? Needs no server.

`evidence verify FILE…` ends with 0 where nothing was changed, 1 where something was, 2 for wrong use, 3 where it cannot
be judged: the file cannot be read, or no key is known by the name that signed it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from services.case.adapters.pages import word
from services.case.adapters.pdf import PdfUnavailable, render_pdf
from services.case.domain.archive import Json, read_json, walk
from services.case.domain.evidence import PAGE, REPORT
from services.case.evidence_verify import Fault, Verification, objects, verify

UNTOUCHED, CHANGED, WRONG_USE, NOT_JUDGED = 0, 1, 2, 3
_STYLES = {"PRESENT": "green", "WEAK": "yellow", "MISSING": "red", "AT_FILING": "dim"}


def run(arguments: Sequence[str]) -> int:
    """Runs `verify` or `report`."""
    parser = argparse.ArgumentParser(prog="evidence", description="Packs and exported cases in files.")
    verbs = parser.add_subparsers(required=True, metavar="verb")
    check = verbs.add_parser("verify", help="check packs and exported cases offline")
    check.add_argument("file", type=Path, nargs="+")
    check.add_argument("--json", action="store_true", help="print one JSON object a file")
    check.set_defaults(run=verify_files)
    show = verbs.add_parser("report", help="EvidencePackReport of a pack; its page as HTML or PDF")
    show.add_argument("file", type=Path)
    show.add_argument("--out", type=Path, help="save the page: a name that ends with .html or .pdf")
    show.add_argument("--json", action="store_true", help="print the report as JSON")
    show.set_defaults(run=show_report)
    for verb in (check, show):
        verb.add_argument(
            "--public-key",
            type=Path,
            action="append",
            help="<key id>.pub of whoever signed, or a folder of such files; may be repeated (default: of JIKIMI_HOME)",
        )
    asked = parser.parse_args(arguments)
    status: int = asked.run(asked)
    return status


def _keys(asked: argparse.Namespace) -> list[Path]:
    return asked.public_key or [Path(os.environ.get("JIKIMI_HOME") or "var/home") / "tokens" / "public"]


def verify_files(asked: argparse.Namespace) -> int:
    """Checks each file; the worst status wins."""
    statuses = [_verify_file(file, _keys(asked), asked.json) for file in asked.file]
    return CHANGED if CHANGED in statuses else max(statuses)


def _verify_file(file: Path, public_keys: Sequence[Path], as_json: bool) -> int:
    try:
        found = verify(file, *public_keys)
    except OSError as error:
        print(f"{file} cannot be read ({type(error).__name__}).", file=sys.stderr)
        return NOT_JUDGED
    if as_json:
        print(json.dumps(_facts(found)))
    else:
        _say(found)
    return UNTOUCHED if found.valid else CHANGED if found.judged else NOT_JUDGED


def _facts(found: Verification) -> dict[str, object]:
    faults = [
        {"place": fault.place, "reason": fault.reason, "expected": fault.expected, "actual": fault.actual}
        for fault in found.faults
    ]
    reach: dict[str, int] = {}
    if (log := found.log) is not None:
        reach = {"chains": log.chains, "entries": log.entries, "purged": log.purged, "witnessed": log.witnessed}
    return {
        "valid": found.valid,
        "judged": found.judged,
        "exported": found.exported,
        "superseded": found.superseded,
        "case_id": found.case_id,
        "pack_id": found.pack_id,
        "version": found.version,
        "items": found.items,
        "files": found.files,
        "manifest_sha256": found.manifest_sha256,
        "signed_time": found.signed_time,
        "log": reach,
        "faults": faults,
    }


def _say(found: Verification) -> None:
    if found.valid:
        what = "the whole case" if found.exported else f"pack version {found.version}, {found.items} items"
        print(f"Untouched: case {found.case_id}, {what}, {found.files} files.")
        if found.superseded:
            print("A later version took its place: the contents were put away, their hashes stand.")
        if found.signed_time:
            print(f"Signed at {found.signed_time}, by the service's own clock.")
    else:
        first, *others = found.faults
        print(f"First wrong: {_fault_text(first)}")
        for fault in others[:20]:
            print(f"        also: {_fault_text(fault)}")
        if len(others) > 20:
            print(f"        and {len(others) - 20} more")
    if found.log is not None:
        log = found.log
        entries = f"{log.entries} entries in {log.chains} chains"
        print(f"Log: {entries}; heads that the gate holds speak for {log.witnessed}.")
        if later := log.entries - log.witnessed:
            print(f"The {later} later ones hold among themselves only.")


def _fault_text(fault: Fault) -> str:
    hashes = f" (expected {fault.expected or '-'}, is {fault.actual or '-'})" if fault.expected or fault.actual else ""
    return f"{fault.place or 'the file'}: {fault.reason}{hashes}"


def show_report(asked: argparse.Namespace) -> int:
    """Shows or saves what a pack says of itself, once it is known to be untouched."""
    try:
        found, content = verify(asked.file, *_keys(asked)), asked.file.read_bytes()
    except OSError as error:
        print(f"{asked.file} cannot be read ({type(error).__name__}).", file=sys.stderr)
        return NOT_JUDGED
    if not found.valid:
        print(f"First wrong: {_fault_text(found.faults[0])}", file=sys.stderr)
        return CHANGED if found.judged else NOT_JUDGED
    files = {member.name: member.content or b"" for member in walk(content).members}
    if REPORT not in files:
        print("No report is in it: a whole case, an older format, or contents that were put away.", file=sys.stderr)
        return WRONG_USE
    if asked.out is not None:
        return _save(files[PAGE], asked.out)
    report = read_json(files[REPORT])
    if asked.json:
        print(files[REPORT].decode())
    elif isinstance(report, dict):
        _print_report(report)
    return UNTOUCHED


def _save(page: bytes, out: Path) -> int:
    if out.suffix not in (".html", ".pdf"):
        print("The page is saved as .html or .pdf.", file=sys.stderr)
        return WRONG_USE
    if out.suffix == ".html":
        out.write_bytes(page)
        return UNTOUCHED
    try:
        render_pdf(page, out)
    except PdfUnavailable as error:
        print(f"{error.reason}: {error}", file=sys.stderr)
        return WRONG_USE
    return UNTOUCHED


def _print_report(report: dict[str, Json]) -> None:
    console = Console()
    console.print(f"EvidencePackReport, case {report['case_id']}, pack version {report['pack_version']}")
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("platform", "can be filed", "field", "standing", "sightings"):
        table.add_column(heading)
    for platform in objects(report["platforms"]):
        shown = [str(platform["platform"] or "-"), f"{platform['complete']} of {platform['sightings']}"]
        for field in objects(platform["fields"]):
            for standing in [name for name in _STYLES if name in field]:
                words = Text(word(standing)["en"], style=_STYLES[standing])
                table.add_row(*shown, word(field["field"])["en"], words, str(field[standing]))
                shown = ["", ""]
    console.print(table)
    for path in objects(report["guidance"]):
        names = path["name"]
        name = names["en"] if isinstance(names, dict) else path["path_id"]
        console.print(f"guidance: {name}: {word(path['outcome'])['en']}")
