"""Are the policy templates usable, and is what comes out of them fit to be sent?"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.removal.adapters.policy_files import SHIPPED, PolicyFiles, lint
from services.removal.domain.filing import (
    NO_MANDATE,
    WAITS_FOR_PERSON,
    Claimant,
    Evidence,
    Mandate,
    authority,
    missing,
)
from services.removal.domain.policy import GROUPS, PERSONAL, SOURCED, Field, Kind, Policy, PolicyError
from services.removal.domain.policy import Path as FilingPath
from services.removal.domain.request import attempt_id

NOW = datetime(2026, 3, 2, tzinfo=UTC)
EVIDENCE = Evidence("https://example.com/1", "1", "example", "2026-03-02T00:00:00Z", content_sha256=("ab" * 32,))
CLAIMANT = Claimant("홍길동", "gildong@example.org")
MANDATE = Mandate("m", (), b"\x01" * 32, NOW + timedelta(days=1))


@pytest.fixture(scope="module")
def policies() -> PolicyFiles:
    """The shipped templates."""
    return PolicyFiles()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the templates to spoil."""
    return Path(shutil.copytree(SHIPPED, tmp_path / "policies"))


def test_the_shipped_templates_are_in_order() -> None:
    assert () == lint()


def test_every_group_of_the_top_ten_has_a_policy_and_so_have_the_public_bodies(policies: PolicyFiles) -> None:
    kinds = {kind: {policy.platform for policy in policies.all() if policy.kind is kind} for kind in Kind}
    assert set(GROUPS) == kinds[Kind.PLATFORM]
    assert {"d4u", "eraser", "kcsc", "kidc", "kisa"} == kinds[Kind.PUBLIC_BODY]


def test_every_statement_about_a_platform_says_whether_it_is_known(policies: PolicyFiles) -> None:
    for policy in policies.all():
        assert set(SOURCED) == set(policy.sources)
        assert {"known", "assumed"} >= {fact.status for fact in policy.sources.values()}


def test_nothing_is_approved_as_shipped(policies: PolicyFiles) -> None:
    assert [] == [policy.platform for policy in policies.all() if policy.approved]


@pytest.mark.parametrize(("approvers", "approved"), [("[a, b]", True), ("[a, a]", False), ("[a]", False)])
def test_two_different_people_approve_a_template_and_any_edit_needs_them_again(
    folder: Path, approvers: str, approved: bool
) -> None:
    digest = get(PolicyFiles(folder), "naver").digest
    row = f"{{platform: naver, digest: {digest}, approvers: {approvers}, date: 2026-11-22}}"
    (folder / "approvals.yaml").write_text(f"approvals:\n  - {row}\n", encoding="utf-8")
    assert approved == get(PolicyFiles(folder), "naver").approved
    with (folder / "naver.yaml").open("a", encoding="utf-8") as file:
        file.write("# one more comment\n")
    assert not get(PolicyFiles(folder), "naver").approved


def test_a_rejection_is_answered_in_the_platforms_language(policies: PolicyFiles) -> None:
    said = policies.statement(get(policies, "naver"), "EVIDENCE_INSUFFICIENT", EVIDENCE, MANDATE)
    assert "ab" * 32 in said and "귀사" in said
    assert "귀사" not in policies.statement(get(policies, "x"), "EVIDENCE_INSUFFICIENT", EVIDENCE, MANDATE)
    assert "" == policies.statement(get(policies, "x"), "PUBLIC_INTEREST", EVIDENCE, MANDATE)


def get(policies: PolicyFiles, platform: str) -> Policy:
    """A policy that is there."""
    found = policies.get(platform)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("path: HTTP_FORM", "path: CARRIER_PIGEON", "path: is none of"),
        ("decide_hours: 72", "decide_hours: 0", "expected.decide_hours: is not between"),
        ("acknowledge_hours: 24", "acknowledge_hours: 99", "expected: acknowledging, deciding"),
        ("group: naver", "group: nowhere", "group: a platform belongs"),
        ("fallback: [kcsc, kisa]", "fallback: []", "fallback: where the platform does not help"),
        ("fallback: [kcsc, kisa]", "fallback: [kakao]", "fallback: kakao is no public body"),
        ("reason: DUPLICATE", "reason: NOT_A_VIOLATION", "rejections: a reason stands there twice"),
        ("reason: WRONG_CHANNEL, answered_by: []", "reason: ODD, answered_by: [statement]", "no statement answers ODD"),
        ("groundless: true", "groundless: perhaps", "groundless: is neither true nor false"),
        ("per_minute: 150", "per_minute: 0", "pace.per_minute: is not between"),
        ("most_attempts: 3", "most_attempts: 9", "resubmission.most_attempts: is not between"),
        ("naver.com, ", "not a domain, ", "reply_domains: is not a list of domains"),
        ("hold_for_verdict: false", "hold_for_verdict: maybe", "hold_for_verdict: is neither"),
        ("  pace: {", "  paces: {", "sources: has not exactly"),
        ("url: \"https://inoti", "url: \"ftp://inoti", "url: is neither https nor tel"),
        ("claimant_name]", "shoe_size]", "required: is not a list of"),
        ("status: known", "status: rumoured", "is neither known nor assumed"),
        ("https://inoti", "http://inoti", "endpoint: does not fit"),
        ("(?P<reference>", "(?P<other>", "acknowledgement: has no group"),
        ("(?P<reference>", "(?P<reference>(", "acknowledgement: is not a regular expression"),
        ("mandate, ", "", "required: an agent has to show the mandate"),
        ("platform: naver", "platform: other", "platform: is not the name of the file"),
        ("platform: naver", "surprise: 1\nplatform: naver", "surprise: is not a key"),
        ("hold_for_verdict: false\n", "", "hold_for_verdict: is missing"),
        ("{{ subject }}", "{{ subject", "fields: a template cannot be read"),
        ("{{ subject }}", "{{ secrets }}", "a template cannot be rendered"),
        ("{{ subject }}", "{{ ''.__class__.__mro__ }}", "a template cannot be rendered"),
        ("platform: naver", "[", "the file is not YAML"),
    ],
)
def test_a_faulty_template_is_named(folder: Path, old: str, new: str, fault: str) -> None:
    file = folder / "naver.yaml"
    before = file.read_text(encoding="utf-8")
    file.write_text(before.replace(old, new, 1), encoding="utf-8")
    assert before != file.read_text(encoding="utf-8")
    [found] = [found for found in lint(folder) if fault in found]
    assert found.startswith("naver: ")


def test_a_service_does_not_start_with_a_faulty_template(folder: Path) -> None:
    (folder / "naver.yaml").write_text("{}", encoding="utf-8")
    with pytest.raises(PolicyError):
        PolicyFiles(folder)


def test_an_edit_changes_the_version(folder: Path, policies: PolicyFiles) -> None:
    with (folder / "notices" / "ko.txt").open("a", encoding="utf-8") as notice:
        notice.write("\n.")
    before, now = policies.get("naver"), PolicyFiles(folder).get("naver")
    assert before is not None and now is not None
    assert before.version != now.version


@pytest.mark.parametrize("platform", ["naver", "x", "telegram", "youtube", "overseas"])
def test_the_subscribers_name_goes_only_where_it_is_demanded(policies: PolicyFiles, platform: str) -> None:
    policy = policies.get(platform)
    assert policy is not None
    filing = policies.render(policy, EVIDENCE, CLAIMANT, MANDATE, reference="r")
    shown = filing.body + "".join(value for _, value in filing.fields)
    assert (Field.CLAIMANT_NAME in policy.discloses) == (CLAIMANT.name in shown)
    assert CLAIMANT.email not in shown


def test_a_value_cannot_start_a_line_of_its_own(policies: PolicyFiles) -> None:
    policy = policies.get("telegram")
    assert policy is not None
    nasty = Evidence("https://example.com/1", post_id="1\r\nBcc: all@example.org\n\nForged {{ reference }}")
    filing = policies.render(policy, nasty, Claimant(), None, reference="r")
    assert "\nBcc" not in filing.body
    assert "Forged {{ reference }}" in filing.body


def test_the_language_is_one_that_the_platform_reads(policies: PolicyFiles) -> None:
    spoken = {}
    for platform in ("naver", "x", "google"):
        policy = policies.get(platform)
        assert policy is not None
        spoken[platform] = policies.render(policy, EVIDENCE, CLAIMANT, None, reference="r", language="ko").language
    assert {"naver": "ko", "x": "en", "google": "ko"} == spoken


def test_who_may_file(policies: PolicyFiles) -> None:
    naver, youtube = policies.get("naver"), policies.get("youtube")
    assert naver is not None and youtube is not None
    assert NO_MANDATE == authority(naver, [], NOW).obstacle
    assert WAITS_FOR_PERSON == authority(youtube, [MANDATE], NOW).obstacle
    assert (FilingPath.HTTP_FORM, "") == (
        authority(naver, [MANDATE], NOW).path,
        authority(naver, [MANDATE], NOW).obstacle,
    )


@pytest.mark.parametrize(
    ("mandate", "covered"),
    [
        (MANDATE, True),
        (Mandate("m", ("naver",), b"", NOW + timedelta(days=1)), True),
        (Mandate("m", ("kakao",), b"", NOW + timedelta(days=1)), False),
        (Mandate("m", (), b"", NOW), False),
        (Mandate("m", (), b"", NOW + timedelta(days=1), revoke_time=NOW), False),
    ],
)
def test_a_mandate_covers_what_it_says_while_it_stands(mandate: Mandate, covered: bool) -> None:
    assert covered == mandate.covers("naver", NOW)


def test_missing_fields_are_named(policies: PolicyFiles) -> None:
    naver = policies.get("naver")
    assert naver is not None
    assert () == missing(naver, EVIDENCE, CLAIMANT)
    assert (Field.DISCOVER_TIME, Field.CONTENT_SHA256, Field.CLAIMANT_NAME) == missing(
        naver, Evidence("https://example.com/1"), Claimant()
    )
    assert {Field.CLAIMANT_NAME, Field.CLAIMANT_EMAIL} == PERSONAL


def test_an_attempts_id_is_the_same_after_a_crash_and_its_own() -> None:
    request_id = "01900000-0000-7000-8000-000000000001"
    assert attempt_id(request_id, 1) == attempt_id(request_id, 1)
    assert attempt_id(request_id, 1) != attempt_id(request_id, 2)


def test_evidence_and_claimant_do_not_show_themselves() -> None:
    assert "example.com" not in repr(EVIDENCE)
    assert "홍길동" not in repr(CLAIMANT)
