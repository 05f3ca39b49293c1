"""What an upload would show, how bad that is, and what may become of its warning."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.detector.domain.decisions import IdentifierKind, identifier_kind
from services.detector.domain.pii import Confidence, Hit

TEXT, IMAGE, METADATA = "text", "image", "image.metadata"
"""The fields that findings name."""
FACES, TEXT_IN_PICTURE = "FACES", "TEXT_IN_PICTURE"
"""What a check leaves out where there is no time for it, or nothing that reads."""


class Severity(enum.IntEnum):
    """How much harm an upload may do; the numbers of the contract."""

    NONE = 0
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


class Action(enum.IntEnum):
    """What the rules suggest; the numbers of the contract."""

    NONE = 0
    PROCEED = 1
    BLUR = 2
    CANCEL = 3


class Choice(enum.IntEnum):
    """What a subscriber chooses; the numbers of the contract, and one for no answer."""

    BLUR = 1
    CANCEL = 2
    PROCEED = 3
    NO_ANSWER = 4


class Subject(enum.IntEnum):
    """What a finding is about; the order in which equally bad ones are shown."""

    YOU = 1
    CHILD = 2
    ANOTHER_PERSON = 3
    DATA = 4


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that an upload shows. Holds where it is, never what it says."""

    subject: Subject
    field: str
    region: tuple[int, ...]
    """x, y, width, height in pixels of the upright picture; start, end in characters for text; empty for metadata."""
    kind: IdentifierKind | None = None
    """None for a face."""
    severity: Severity = Severity.NONE


@dataclass(frozen=True, slots=True)
class Seen:
    """What looking at an upload found, before rules judge it."""

    findings: tuple[Finding, ...]
    doxing: bool = False
    """Whether texts alone expose one person."""
    model_ids: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Warned:
    """A judged upload: findings, the worst first."""

    findings: tuple[Finding, ...]
    severity: Severity
    action: Action

    @property
    def kinds(self) -> list[IdentifierKind]:
        """Each kind of data found, once."""
        return sorted({each.kind for each in self.findings if each.kind is not None})

    def count(self, *subjects: Subject) -> int:
        """Findings about these."""
        return sum(each.subject in subjects for each in self.findings)

    def to_bytes(self) -> bytes:
        """As stored before sealing."""
        rows = [[each.subject, each.field, each.region, each.kind or 0, each.severity] for each in self.findings]
        return json.dumps({"severity": self.severity, "action": self.action, "findings": rows}).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Warned:
        """What `to_bytes` wrote."""
        stored = json.loads(data)
        findings = [
            Finding(Subject(subject), name, tuple(region), IdentifierKind(kind) if kind else None, Severity(severity))
            for subject, name, region, kind, severity in stored["findings"]
        ]
        return cls(tuple(findings), Severity(stored["severity"]), Action(stored["action"]))


@dataclass(frozen=True, slots=True)
class UploadRules:
    """A version of rules/uploads.yaml, where each value is explained."""

    name: str
    faces: Mapping[Subject, Severity]
    you_minor: Severity
    kinds: Mapping[IdentifierKind, Severity]
    kinds_default: Severity
    least: Mapping[IdentifierKind, Confidence]
    least_default: Confidence
    ignored: frozenset[IdentifierKind]
    doxing: Severity
    together: int
    actions: Mapping[Severity, Action]
    most_findings: int
    most_accounts: int
    checks_an_hour: int
    answer: timedelta
    keep_checks: timedelta
    keep_results: timedelta
    longest_ms: int
    least_ms: int
    keep_ms: int
    reading_ms: int
    line_ms: int

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> UploadRules:
        """The rules as the file states them. Raises KeyError or ValueError."""
        faces = {name: Severity[level] for name, level in raw["faces"].items()}
        kinds = {name: Severity[level] for name, level in raw["kinds"].items()}
        least = {name: Confidence[level] for name, level in raw["least_confidence"].items()}
        default, least_default, minor = kinds.pop("default"), least.pop("default"), faces.pop("YOU_MINOR")
        rules = cls(
            name=f"{raw['id']}-{raw['version']}",
            faces={Subject[name]: level for name, level in faces.items()},
            you_minor=minor,
            kinds={IdentifierKind[name]: level for name, level in kinds.items()},
            kinds_default=default,
            least={IdentifierKind[name]: level for name, level in least.items()},
            least_default=least_default,
            ignored=frozenset(IdentifierKind[name] for name in raw["ignored"]),
            doxing=Severity[raw["doxing"]],
            together=int(raw["together"]),
            actions={Severity[level]: Action[action] for level, action in raw["actions"].items()},
            answer=timedelta(hours=int(raw["answer_hours"])),
            keep_checks=timedelta(days=int(raw["check_days"])),
            keep_results=timedelta(days=int(raw["result_days"])),
            **{name: int(raw[name]) for name in _COUNTS},
        )
        if set(rules.actions) != set(Severity) - {Severity.NONE} or min(raw[name] for name in _COUNTS) < 1:
            raise ValueError(f"rules {rules.name} leave a severity without an action, or hold a bound below 1")
        return rules

    def admits(self, hit: Hit) -> bool:
        """Whether a hit is sure enough, and personal, so that it is worth a warning."""
        kind = identifier_kind(hit)
        return hit.personal and kind not in self.ignored and hit.confidence >= self.least.get(kind, self.least_default)


_COUNTS = (
    "most_findings",
    "most_accounts",
    "checks_an_hour",
    "longest_ms",
    "least_ms",
    "keep_ms",
    "reading_ms",
    "line_ms",
)


def judge(seen: Seen, rules: UploadRules, *, minor: bool, others: bool) -> Warned:
    """How bad it is, and what to do. Other people's faces count where `others` says so; `minor`: the subscriber is one.

    A face together with data that leads to a person is as bad as the worse of both and `together` steps more.
    """
    judged = [replace(each, severity=_severity(each, rules, minor)) for each in seen.findings if _counts(each, others)]
    if not judged:
        return Warned((), Severity.NONE, Action.NONE)
    judged.sort(key=lambda each: (-each.severity, each.subject, each.field, each.region))
    worst = judged[0].severity
    subjects = {each.subject for each in judged}
    if Subject.YOU in subjects and any(each.severity >= Severity.HIGH for each in judged if each.kind is not None):
        worst = Severity(min(Severity.CRITICAL, worst + rules.together))
    worst = max(worst, rules.doxing) if seen.doxing else worst
    return Warned(tuple(judged[: rules.most_findings]), worst, rules.actions[worst])


def _counts(finding: Finding, others: bool) -> bool:
    return others or finding.subject in (Subject.YOU, Subject.DATA)


def _severity(finding: Finding, rules: UploadRules, minor: bool) -> Severity:
    if finding.kind is not None:
        return rules.kinds.get(finding.kind, rules.kinds_default)
    return rules.you_minor if minor and finding.subject is Subject.YOU else rules.faces[finding.subject]


class CheckState(enum.IntEnum):
    """Where a check stands."""

    CLEAN = 1
    """Nothing was found: nobody was warned, nothing is to be answered."""
    SHOWN = 2
    BLURRED = 3
    CANCELLED = 4
    PROCEEDED = 5
    NO_ANSWER = 6


OUTCOMES: Mapping[Choice, CheckState] = {
    Choice.BLUR: CheckState.BLURRED,
    Choice.CANCEL: CheckState.CANCELLED,
    Choice.PROCEED: CheckState.PROCEEDED,
    Choice.NO_ANSWER: CheckState.NO_ANSWER,
}


class NotResolvable(Exception):
    """A choice that cannot be taken; `reason` is UPPER_SNAKE."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class UploadCheck:
    """A check as it is kept: keyed hashes of what was checked, findings and times; nothing of the content."""

    upload_check_id: str
    subscriber_id: str
    account_id: str
    case_id: str
    """Empty for a clean one."""
    state: CheckState
    image_ref: bytes
    """Keyed hash of the picture; empty where there was none."""
    text_ref: bytes
    skipped: tuple[str, ...]
    create_time: datetime
    answer_by: datetime | None
    resolve_time: datetime | None = None
    version: int = 1

    def resolved(self, choice: Choice, now: datetime) -> UploadCheck:
        """The same check after a choice. Raises NotResolvable."""
        if self.state is CheckState.CLEAN:
            raise NotResolvable("NOTHING_FOUND")
        if self.state is not CheckState.SHOWN:
            raise NotResolvable("ALREADY_RESOLVED")
        return replace(self, state=OUTCOMES[choice], resolve_time=now, version=self.version + 1)


@dataclass(frozen=True, slots=True)
class LinkedAccount:
    """An account of the subscriber on a platform; its name lies sealed beside it."""

    account_id: str
    subscriber_id: str
    platform: str
    handle_ref: bytes
    """Keyed hash of subscriber, platform and name, so that one account is linked once."""
    warn_about_others: bool
    create_time: datetime
    version: int = 1


class Method(enum.StrEnum):
    """How a region of a picture is covered."""

    MOSAIC = "MOSAIC"
    SOLID = "SOLID"


@dataclass(frozen=True, slots=True)
class Mask:
    """A region of a picture, in whole pixels, and how it is covered."""

    x: int
    y: int
    width: int
    height: int
    method: Method


@dataclass(frozen=True, slots=True)
class RedactionCheck:
    """One thing of a redaction that was looked at again; `holds` is None where nothing could be looked at."""

    name: str
    holds: bool | None
    detail: str = ""


HIDDEN = "*"


def masked(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text with everything in the spans hidden but blanks."""
    chars = list(text)
    for start, end in spans:
        chars[start:end] = [char if char.isspace() else HIDDEN for char in chars[start:end]]
    return "".join(chars)


def text_spans(findings: Iterable[Finding]) -> list[tuple[int, int]]:
    """The spans of the text that findings name, in order."""
    return sorted({(each.region[0], each.region[1]) for each in findings if each.field == TEXT and each.region})


def in_picture(findings: Iterable[Finding]) -> Sequence[Finding]:
    """The findings that have a region in the picture."""
    return [each for each in findings if each.field == IMAGE and len(each.region) == 4]
