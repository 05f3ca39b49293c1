"""How bad an upload is, and what may become of its warning."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.detector.adapters.rules import read_rules
from services.detector.domain.decisions import IdentifierKind
from services.detector.domain.pii import Check, Confidence, Hit, Kind, MaskRule
from services.detector.domain.uploads import (
    IMAGE,
    TEXT,
    Action,
    CheckState,
    Choice,
    Finding,
    NotResolvable,
    Seen,
    Severity,
    Subject,
    UploadCheck,
    UploadRules,
    Warned,
    judge,
    masked,
)

RULES: UploadRules = read_rules().uploads
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


def face(subject: Subject, x: int = 0) -> Finding:
    return Finding(subject, IMAGE, (x, 0, 40, 40))


def data(kind: IdentifierKind, start: int = 0) -> Finding:
    return Finding(Subject.DATA, TEXT, (start, start + 10), kind)


def judged(*findings: Finding, doxing: bool = False, minor: bool = False, others: bool = False) -> Warned:
    return judge(Seen(findings, doxing), RULES, minor=minor, others=others)


@pytest.mark.parametrize(
    ("findings", "severity", "action"),
    [
        ([], Severity.NONE, Action.NONE),
        ([face(Subject.YOU)], Severity.MEDIUM, Action.BLUR),
        ([data(IdentifierKind.NAME)], Severity.LOW, Action.PROCEED),
        ([data(IdentifierKind.MOBILE_PHONE)], Severity.HIGH, Action.BLUR),
        ([data(IdentifierKind.RESIDENT_NUMBER)], Severity.CRITICAL, Action.CANCEL),
        ([data(IdentifierKind.VEHICLE_PLATE)], Severity.MEDIUM, Action.BLUR),
    ],
)
def test_each_finding_has_its_severity_and_action(findings, severity, action) -> None:
    warned = judged(*findings)
    assert (severity, action) == (warned.severity, warned.action)


def test_a_face_with_what_leads_to_it_is_worse_than_either() -> None:
    together = judged(face(Subject.YOU), data(IdentifierKind.ADDRESS))
    assert (Severity.CRITICAL, Action.CANCEL) == (together.severity, together.action)
    assert Severity.MEDIUM == judged(face(Subject.YOU), data(IdentifierKind.NAME)).severity


def test_name_phone_and_address_in_one_text_are_critical() -> None:
    assert Severity.CRITICAL == judged(data(IdentifierKind.MOBILE_PHONE), doxing=True).severity


def test_others_count_only_on_demand_and_children_come_first() -> None:
    people = [face(Subject.ANOTHER_PERSON, 1), face(Subject.CHILD, 2), face(Subject.YOU, 3)]
    assert [Subject.YOU] == [each.subject for each in judged(*people).findings]
    found = judged(*people, others=True)
    assert [Subject.CHILD, Subject.YOU, Subject.ANOTHER_PERSON] == [each.subject for each in found.findings]


def test_a_minors_own_face_weighs_more() -> None:
    assert Severity.HIGH == judged(face(Subject.YOU), minor=True).severity


def test_findings_are_bounded_the_worst_kept() -> None:
    many = [data(IdentifierKind.NAME, n) for n in range(RULES.most_findings)]
    found = judged(*many, data(IdentifierKind.PASSPORT))
    assert (RULES.most_findings, IdentifierKind.PASSPORT) == (len(found.findings), found.findings[0].kind)


def test_stored_findings_are_read_as_they_were() -> None:
    warned = judged(face(Subject.YOU), data(IdentifierKind.EMAIL))
    assert warned == Warned.from_bytes(warned.to_bytes())


@pytest.mark.parametrize(
    ("kind", "confidence", "personal", "admitted"),
    [
        (Kind.PHONE, Confidence.LOW, True, True),
        (Kind.PERSON, Confidence.LOW, True, False),
        (Kind.PERSON, Confidence.HIGH, True, True),
        (Kind.IP, Confidence.HIGH, True, False),
        (Kind.BUSINESS_NUMBER, Confidence.HIGH, False, False),
    ],
)
def test_a_hit_is_worth_a_warning_when_it_is_sure_and_personal(kind, confidence, personal, admitted) -> None:
    hit = Hit(kind, "rule", 1, TEXT, 0, 5, confidence, Check.UNKNOWN, MaskRule.ALL, False, personal)
    stricter = replace(RULES, least={IdentifierKind.NAME: Confidence.HIGH})
    assert admitted is stricter.admits(hit)


def a_check(state: CheckState) -> UploadCheck:
    return UploadCheck("c", "s", "a", "case", state, b"", b"", (), NOW, NOW + timedelta(hours=24))


@pytest.mark.parametrize("choice", list(Choice))
def test_a_shown_warning_is_answered_once(choice) -> None:
    answered = a_check(CheckState.SHOWN).resolved(choice, NOW)
    assert (NOW, 2) == (answered.resolve_time, answered.version)
    with pytest.raises(NotResolvable, match="ALREADY_RESOLVED"):
        answered.resolved(choice, NOW)


def test_a_clean_check_has_nothing_to_answer() -> None:
    with pytest.raises(NotResolvable, match="NOTHING_FOUND"):
        a_check(CheckState.CLEAN).resolved(Choice.CANCEL, NOW)


@pytest.mark.parametrize(
    ("text", "spans", "shown"),
    [
        ("전화 010-2345-6789 로", [(3, 16)], "전화 ************* 로"),
        ("a b", [(0, 3)], "* *"),
        ("글", [], "글"),
        ("ab", [(0, 1), (0, 2)], "**"),
        ("가나", [(1, 99)], "가*"),
    ],
)
def test_a_masked_text_hides_everything_but_blanks(text, spans, shown) -> None:
    assert shown == masked(text, spans)
