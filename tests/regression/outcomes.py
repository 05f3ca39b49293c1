"""What did a release decide, and what does another decide otherwise?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from services.console.demo.feed import Fed
from services.console.demo.truth import Seen

ACCEPTED = Path(__file__).with_name("accepted.yaml")


@dataclass(frozen=True)
class Outcome:
    """What became of one item of the corpus."""

    door: str
    """The reason with which it was refused; empty where it was taken in."""
    decisions: tuple[str, ...]
    """Sorted "KIND BAND person"; the person is known of matches alone."""
    together_with: str
    """The first item of the corpus that lies in the same cases; empty where it lies in none."""

    def __str__(self) -> str:
        cases = f", with {self.together_with}" if self.together_with else ""
        return f"refused {self.door}" if self.door else f"{', '.join(self.decisions) or 'nothing'}{cases}"


def outcomes(fed: Sequence[Fed], seen: Seen, names: Sequence[str], people: Mapping[str, str]) -> dict[str, Outcome]:
    """Name of an item → outcome. `people`: subscriber id → key."""
    first: dict[str, str] = {}
    found: dict[str, Outcome] = {}
    for name, row in zip(names, fed, strict=True):
        rows = seen.decisions.get(row.item.signal.signal_id, [])
        cases = sorted({seen.sightings[decision][0] for decision, _, _ in rows if decision in seen.sightings})
        for case in cases:
            first.setdefault(case, name)
        decisions = (
            f"{kind} {band} {people[seen.cases[seen.sightings[decision][0]].subscriber_id]}"
            if decision in seen.sightings
            else f"{kind} {band}"
            for decision, kind, band in rows
        )
        together_with = " and ".join(sorted({first[case] for case in cases}))
        found[name] = Outcome(row.reason, tuple(sorted(decisions)), together_with)
    return found


@dataclass(frozen=True)
class Change:
    """An item that two releases decide differently."""

    item: str
    before: str
    now: str
    reason: str = ""
    """Why that is right; empty where nobody said so."""


def changes(
    before: Mapping[str, Outcome], now: Mapping[str, Outcome], accepted: Sequence[Mapping[str, Any]]
) -> list[Change]:
    """Every item whose outcome differs, in the order of the corpus."""
    reasons = {(row["item"], row["before"], row["now"]): str(row["reason"]) for row in accepted}
    found = []
    for item in sorted(before.keys() | now.keys()):
        was, is_now = (str(side[item]) if item in side else "absent" for side in (before, now))
        if was != is_now:
            found.append(Change(item, was, is_now, reasons.get((item, was, is_now), "")))
    return found


def accepted_changes(file: Path = ACCEPTED) -> list[dict[str, Any]]:
    """Changes that somebody gave a reason for: rows of item, before, now, reason."""
    return list(yaml.safe_load(file.read_text(encoding="utf-8"))["accepted"])


def junit(items: Sequence[str], found: Sequence[Change]) -> bytes:
    """A JUnit document, an item a test, as `RecordTestRun` takes it for kind REGRESSION."""
    by_item = {change.item: change for change in found}
    failures = sum(not change.reason for change in found)
    suite = ElementTree.Element("testsuite", name="regression", tests=str(len(items)), failures=str(failures))
    for item in items:
        case = ElementTree.SubElement(suite, "testcase", classname="regression", name=item)
        if (change := by_item.get(item)) and change.reason:
            ElementTree.SubElement(case, "system-out").text = f"{change.before} -> {change.now}: {change.reason}"
        elif change:
            ElementTree.SubElement(case, "failure", message=f"{change.before} -> {change.now}")
    document: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document
