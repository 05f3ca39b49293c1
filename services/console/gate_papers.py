"""What do two reports differ in, does a signed decision hold, and how does a build server read it?"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import rfc8785
from nacl.exceptions import BadSignatureError
from nacl.signing import VerifyKey

from jikimi_client.misuse.gate import v1 as gate_api
from services.console.output import name_of

FORMAT = "jikimi-decision/1"
KEY_ID = "gate-decisions"
_KEY_ID = re.compile(rf"{KEY_ID}(-\d{{8}}T\d{{6}})?")
"""A key that took the place of another has a time behind its name."""
_BADNESS = ("PASSED", "INCONCLUSIVE", "ERROR", "FAILED")
_ABSENT = "–"


@dataclass(frozen=True)
class Change:
    """Something that two reports of one name differ in."""

    report: str
    what: str
    before: str
    after: str

    def row(self) -> list[object]:
        """For a table."""
        return [self.report, self.what, self.before, self.after]

    def facts(self) -> dict[str, str]:
        """For programs."""
        return {"report": self.report, "what": self.what, "before": self.before, "after": self.after}


def differences(name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> list[Change]:
    """What changed in value, interval, n, threshold, versions, tests, parts; of stages in what they rest on."""
    olds, news = dict(_points(before)), dict(_points(after))
    return [
        Change(name, what, olds.get(what, _ABSENT), news.get(what, _ABSENT))
        for what in dict.fromkeys([*olds, *news])
        if olds.get(what, _ABSENT) != news.get(what, _ABSENT)
    ]


def worse(changes: Iterable[Change]) -> bool:
    """Whether an outcome got worse; one that was not there before counts as passed."""
    return any(
        change.what.split(" ")[0] == "outcome"
        and change.after in _BADNESS
        and _BADNESS.index(change.after) > (_BADNESS.index(change.before) if change.before in _BADNESS else 0)
        for change in changes
    )


def _points(document: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """What is compared, as (name, text)."""
    if document is None:
        return
    yield "outcome", document["outcome"]
    yield "reasons", " ".join(document["reasons"]) if document["schema"] == "report_v1" else ""
    for name in ("gates", "code", "dependencies"):
        yield f"version of {name}", document["versions"].get(name, "")
    for test in document["tests"]:
        yield f"tests {test['kind']}", f"{test['outcome']} {test['passed']}/{test['failed']}/{test['skipped']}"
    yield from _figure_points(document) if document["schema"] == "report_v1" else _stage_points(document)


def _figure_points(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "value", document["value"]["text"] or _ABSENT
    yield "interval", (document["interval"] or {}).get("text") or _ABSENT
    yield "n", f"{document['sample']['size']:,}"
    yield "required n", f"{document['sample']['required']:,}"
    yield "threshold", document["threshold"]["text"]
    yield "sample", document["sample"].get("frozen", {}).get("manifest_sha256", "")[:16]
    for part in document["strata"]:
        yield f"{part['dimension']} {part['name']}", f"{part['value']['text']} (n {part['size']:,})"
    for excluded in document["excluded"]:
        yield f"not counted {excluded['class']}", f"{excluded['count']:,}"


def _stage_points(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "lines passed", f"{document['passed']} / {document['entries']}"
    for artefact in document["artefacts"]:
        yield f"artefact {artefact['name']}", artefact["outcome"]
    for dependency in document["dependencies"]:
        yield f"dependency {dependency['id']}", dependency["state"]


@dataclass(frozen=True)
class Checked:
    """What a check of a signed decision found."""

    holds: bool
    said: str

    def facts(self) -> dict[str, object]:
        """For programs."""
        return {"holds": self.holds, "said": self.said}


def check_decision(
    decision: gate_api.ReleaseDecision, documents: Mapping[str, Mapping[str, Any]], keys: Path
) -> Checked:
    """Holds the signed document against the key it names (`gate-decisions….pub` in a folder), the decision as the gate
    tells it now, and the reports by name. A decision from before decisions were signed holds as UNSIGNED."""
    if not decision.document:
        return Checked(True, "UNSIGNED: made before decisions were signed")
    try:
        paper = json.loads(decision.document)
        said: dict[str, Any] = paper["statement"]
        key_id = str(said["key_id"])
        if not _KEY_ID.fullmatch(key_id):
            return Checked(False, "BROKEN: signed by a key that signs no decisions")
        key = VerifyKey(bytes.fromhex((keys / f"{key_id}.pub").read_text(encoding="ascii").split()[0]))
        key.verify(rfc8785.dumps(said), bytes.fromhex(paper["signature"]))
    except OSError as error:
        return Checked(False, f"NO KEY: {key_id}.pub cannot be read ({type(error).__name__})")
    except (BadSignatureError, ValueError, KeyError, TypeError, IndexError):
        return Checked(False, "BROKEN: the signature does not fit")
    faults = [what for what, fits in _told(decision, said) if not fits]
    hashes = {entry["name"]: entry["sha256"] for entry in said["reports"]}
    faults += [name for name, digest in hashes.items() if digest != _digest(documents.get(name))]
    if faults:
        return Checked(False, f"BROKEN: signed otherwise: {', '.join(faults)}")
    return Checked(True, f"holds, with {len(hashes)} reports ({said['key_id']})")


def _told(decision: gate_api.ReleaseDecision, said: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """What the gate tells now, held against what was signed."""
    return [
        ("format", said.get("format") == FORMAT),
        ("decision", said.get("decision_id") == decision.decision_id),
        ("release", (said.get("release"), said.get("stage")) == (decision.release, decision.stage)),
        ("outcome", said.get("outcome") == name_of(decision.outcome)),
        ("reasons", said.get("reasons") == list(decision.reasons)),
    ]


def _digest(document: Any) -> str:
    return "" if document is None else sha256(rfc8785.dumps(document)).hexdigest()


def junit(decision: gate_api.ReleaseDecision) -> bytes:
    """A decision as JUnit XML, one case a report. Only PASSED is green: build servers take what is skipped for good."""
    reports = [*decision.reports, *decision.stage_reports]
    bad = [report for report in reports if name_of(report.outcome) != "PASSED"]
    errors = sum(name_of(report.outcome) == "ERROR" for report in bad)
    counts = {"tests": str(len(reports)), "failures": str(len(bad) - errors), "errors": str(errors)}
    named = {"name": f"jikimi gate {decision.release} {decision.stage}"}
    suite = ElementTree.Element("testsuite", named | counts)
    for report in reports:
        case = ElementTree.SubElement(suite, "testcase", classname=f"gate.{decision.stage}", name=report.name)
        outcome = name_of(report.outcome)
        if outcome != "PASSED":
            text = f"{outcome}: {report.value_text or 'no value'}, n {report.sample_size} of {report.required_size}"
            tag = "error" if outcome == "ERROR" else "failure"
            told = ElementTree.SubElement(case, tag, type=outcome, message=text)
            told.text = "\n".join(_reasons(decision, report.name))
    found: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return found


def _reasons(decision: gate_api.ReleaseDecision, name: str) -> list[str]:
    """What the decision says of a report; of a stage everything."""
    own = [reason for reason in decision.reasons if reason.startswith(f"{name}:")]
    return own or list(decision.reasons)
