"""How are the rules read from their file?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta, timezone
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from services.case.domain.access import DAYS, AccessRules
from services.case.domain.approvals import ApprovalRules, KindRule
from services.case.domain.erasure import ErasureRules
from services.case.domain.people import LANGUAGES
from services.case.domain.priorities import BurstRules, Pace
from services.case.domain.rights import Holding, Refusal, RightsRules, RightsType, TypeRule
from services.case.domain.rules import IncidentRules, Rules
from services.case.domain.words import CaseKind, CaseState, KeyKind, Priority, PriorityReason
from services.chassis import yaml_text

SHIPPED = Path(__file__).parent.parent / "rules"
"""The rules that come with the service."""


E = TypeVar("E", bound=Enum)


class RulesError(Exception):
    """A rule is missing, unknown or out of bounds; names the rule."""


def load_rules(folder: Path | None = None) -> Rules:
    """Reads `case.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    data = _read("case.yaml", folder)
    read = _Reader(data)
    rules = Rules(
        incident=_incident(read),
        pace=_pace(read),
        search_words=read("search", "most_words", _whole(1, 4096)),
        evidence_version=read("evidence", "version", _name),
        pack_after=timedelta(milliseconds=read("evidence", "pack_after_ms", _whole(0, 3_600_000))),
        repack_after=timedelta(milliseconds=read("evidence", "repack_after_ms", _whole(0, 3_600_000))),
        max_items=read("evidence", "max_items", _whole(1, 2000)),
        keep_versions=read("evidence", "keep_versions", _whole(1, 100)),
        required=read("evidence", "required", _names),
        close_after=timedelta(days=read("lifecycle", "close_after_days", _whole(0, 3650))),
        give_up_after=timedelta(days=read("lifecycle", "close_without_action_days", _whole(1, 3650))),
        review_lease=timedelta(minutes=read("review", "lease_minutes", _whole(1, 1440))),
        review_labels=read("review", "labels", _whole(1, 10)),
        review_due=timedelta(minutes=read("review", "due_minutes", _whole(1, 525_600))),
        sample_due=timedelta(days=read("review", "sample_due_days", _whole(1, 365))),
        escalate_every=timedelta(minutes=read("review", "escalate_every_minutes", _whole(1, 525_600))),
        labelling_policy=read("review", "labelling_policy", _name),
    )
    read.finish()
    return rules


def _incident(read: _Reader) -> IncidentRules:
    windows = read("incident", "window_days", _table(KeyKind, _whole(1, 3650)))
    return IncidentRules(
        version=read("incident", "version", _name),
        windows={kind: timedelta(days=days) for kind, days in windows.items()},
        dump_keys=frozenset(read("incident", "account_dump_keys", _members(KeyKind))),
        near=frozenset(read("incident", "near_contents", _members(CaseKind))),
        reopen_within=timedelta(days=read("incident", "reopen_within_days", _whole(0, 3650))),
        burst=BurstRules(
            within=timedelta(minutes=read("burst", "within_minutes", _whole(1, 1440))),
            told_singly=read("burst", "told_singly", _whole(1, 1000)),
            spreading=read("burst", "spreading", _whole(2, 100_000)),
            repack_after=timedelta(milliseconds=read("burst", "repack_after_ms", _whole(0, 3_600_000))),
        ),
    )


def _pace(read: _Reader) -> Pace:
    weights = read("priority", "weights", _table(PriorityReason, _member(Priority)))
    stay = read("priority", "stay_hours", _table(CaseState, _table(Priority, _whole(1, 87_600))))
    if set(weights) != set(PriorityReason) or any(set(row) != set(Priority) for row in stay.values()):
        raise RulesError("priority must weigh every reason and give hours for every priority")
    return Pace(
        version=read("priority", "version", _name),
        weights=weights,
        several=read("priority", "several", _whole(2, 10)),
        stay={
            state: {priority: timedelta(hours=hours) for priority, hours in row.items()} for state, row in stay.items()
        },
    )


class _Reader:
    def __init__(self, data: object) -> None:
        if not isinstance(data, dict) or not all(isinstance(part, dict) for part in data.values()):
            raise RulesError("the rules are not sections of values")
        self._data: dict[str, dict[str, object]] = {name: dict(part) for name, part in data.items()}

    def __call__(self, section: str, name: str, parse: Callable[[object], Any]) -> Any:
        try:
            return parse(self._data[section].pop(name))
        except (KeyError, ValueError):
            raise RulesError(f"{section}.{name} is missing or out of bounds") from None

    def names(self, section: str) -> list[str]:
        """The names in a section. Raises RulesError where there is none."""
        if not self._data.get(section):
            raise RulesError(f"{section} is missing")
        return list(self._data[section])

    def finish(self) -> None:
        """Raises RulesError for a rule that nobody reads: most likely a misspelt one."""
        for section, rest in self._data.items():
            for name in rest:
                raise RulesError(f"{section}.{name} is not a rule")


def _whole(low: int, high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError
        return value

    return parse


def _name(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 64:
        raise ValueError
    return value


def _names(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError
    return tuple(_name(item) for item in value)


def _member(kind: type[E]) -> Callable[[object], E]:
    def parse(value: object) -> E:
        if not isinstance(value, str):
            raise ValueError
        return kind[value]

    return parse


def _members(kind: type[E]) -> Callable[[object], tuple[E, ...]]:
    return lambda value: tuple(_member(kind)(name) for name in _names(value))


def _table(kind: type[E], parse: Callable[[object], Any]) -> Callable[[object], Mapping[E, Any]]:
    """A row by member; at least one."""

    def read(value: object) -> Mapping[E, Any]:
        if not isinstance(value, dict) or not value:
            raise ValueError
        return {_member(kind)(name): parse(item) for name, item in value.items()}

    return read
def load_erasure_rules(folder: Path | None = None) -> ErasureRules:
    """Reads `erasure.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    read = _Reader(_read("erasure.yaml", folder))
    rules = ErasureRules(
        version=read("erasure", "version", _name),
        services=read("erasure", "services", _names),
        rounds=read("erasure", "rounds", _whole(1, 10)),
        settle=timedelta(minutes=read("erasure", "settle_minutes", _whole(1, 1440))),
        ask_again=timedelta(minutes=read("erasure", "ask_again_minutes", _whole(1, 1440))),
        complete_within=timedelta(hours=read("erasure", "complete_within_hours", _whole(1, 240))),
    )
    read.finish()
    return rules


def load_approval_rules(folder: Path | None = None) -> ApprovalRules:
    """Reads `approvals.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    data = _read("approvals.yaml", folder)
    read = _Reader(data)
    kinds = {
        kind: KindRule(
            audience=read(kind, "audience", _name),
            propose=frozenset(read(kind, "propose", _names)),
            approve=frozenset(read(kind, "approve", _names)),
        )
        for kind in data
        if kind != "approvals"
    }
    rules = ApprovalRules(
        version=read("approvals", "version", _name),
        proposal_life=timedelta(hours=read("approvals", "proposal_hours", _whole(1, 720))),
        grant_life=timedelta(minutes=read("approvals", "grant_minutes", _whole(1, 1440))),
        kinds=kinds,
    )
    read.finish()
    return rules


def load_access_rules(folder: Path | None = None) -> AccessRules:
    """Reads `access.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    read = _Reader(_read("access.yaml", folder))
    rules = AccessRules(
        version=read("access", "version", _name),
        keep=timedelta(days=read("access", "keep_days", _whole(365, 3650))),
        zone=timezone(timedelta(hours=read("access", "utc_offset_hours", _whole(-12, 14)))),
        working_days=read("access", "working_days", _days),
        working_from=read("access", "working_from_hour", _whole(0, 23)),
        working_to=read("access", "working_to_hour", _whole(1, 24)),
        unusual_times=read("access", "unusual_times", _whole(2, 1000)),
        unusual_people=read("access", "unusual_people", _whole(1, 1_000_000)),
        downloads=read("access", "downloads", _names),
    )
    read.finish()
    return rules


def load_rights_rules(folder: Path | None = None) -> RightsRules:
    """Reads `rights.yaml` (the operator's below `folder`, or the shipped one). Raises RulesError."""
    data = _read("rights.yaml", folder)
    holdings = data.pop("holdings", None) if isinstance(data, dict) else None
    read = _Reader(data)
    remind = sorted(read("rights", "remind_days", _wholes(1, 30)), reverse=True)
    rules = RightsRules(
        version=read("rights", "version", _name),
        remind=tuple(timedelta(days=days) for days in remind),
        escalate_every=timedelta(hours=read("rights", "escalate_hours", _whole(1, 720))),
        open_at_most=read("rights", "open_at_most", _whole(1, 1000)),
        keep_answer=timedelta(days=read("rights", "keep_answer_days", _whole(1, 365))),
        answer_rows=read("rights", "answer_rows", _whole(1, 50_000)),
        keep_purged=timedelta(days=read("rights", "keep_purged_days", _whole(31, 3650))),
        types={kind: read("types", kind.value, _type_rule) for kind in RightsType},
        identity={role: frozenset(read("identity", role, _names)) for role in read.names("identity")},
        refusals={reason: read("refusals", reason, _refusal) for reason in read.names("refusals")},
        extensions={reason: read("extensions", reason, _in_languages) for reason in read.names("extensions")},
        objection={language: read("objection", language, _sentence) for language in LANGUAGES},
        holdings=_holdings(holdings),
    )
    read.finish()
    return rules


def _type_rule(value: object) -> TypeRule:
    row = _row(value, {"days", "law", "extensions", "extension_days"})
    return TypeRule(
        timedelta(days=_whole(1, 60)(row["days"])),
        _sentence(row["law"]),
        _whole(0, 2)(row["extensions"]),
        timedelta(days=_whole(0, 60)(row["extension_days"])),
    )


def _refusal(value: object) -> Refusal:
    row = _row(value, {"types", "law", "holds", *LANGUAGES})
    if not isinstance(row["holds"], bool):
        raise ValueError
    types = frozenset(RightsType(name) for name in _names(row["types"]))
    return Refusal(types, _sentence(row["law"]), row["holds"], {each: _sentence(row[each]) for each in LANGUAGES})


def _holdings(value: object) -> tuple[Holding, ...]:
    try:
        return tuple(_holding(each) for each in (value if isinstance(value, list) else ()))
    except ValueError:
        raise RulesError("holdings is missing or out of bounds") from None


def _holding(value: object) -> Holding:
    row = _row(value, {"service", "see", "keep", *LANGUAGES})
    return Holding(_name(row["service"]), _sentence(row["see"]), _sentence(row["keep"]), _words_of(row))


def _in_languages(value: object) -> Mapping[str, str]:
    return _words_of(_row(value, {*LANGUAGES}))


def _words_of(row: Mapping[str, Any]) -> Mapping[str, str]:
    return {language: _sentence(row[language]) for language in LANGUAGES}


def _row(value: object, names: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError
    return value


def _sentence(value: object) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 500:
        raise ValueError
    return value


def _wholes(low: int, high: int) -> Callable[[object], tuple[int, ...]]:
    def parse(value: object) -> tuple[int, ...]:
        if not isinstance(value, list) or not 1 <= len(value) <= 10:
            raise ValueError
        return tuple(_whole(low, high)(each) for each in value)

    return parse


def _days(value: object) -> tuple[str, ...]:
    days = _names(value)
    if not set(days) <= set(DAYS):
        raise ValueError
    return days


def _read(name: str, folder: Path | None) -> Any:
    return yaml_text.read(SHIPPED / name, folder, "case")
