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
    attempt_id,
    authority,
    missing,
)
from services.removal.domain.policy import PERSONAL, Field, PolicyError
from services.removal.domain.policy import Path as FilingPath

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


def test_every_group_of_the_top_ten_has_a_policy(policies: PolicyFiles) -> None:
    expected = [
        "community", "google", "kakao", "meta", "naver", "overseas", "telegram", "tiktok", "x", "youtube",
    ]  # fmt: skip
    assert expected == [policy.platform for policy in policies.all()]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("path: HTTP_FORM", "path: CARRIER_PIGEON", "path: is none of"),
        ("expected_hours: 72", "expected_hours: 0", "expected_hours: is not between"),
        ("claimant_name]", "shoe_size]", "required: is not a list of"),
        ("status: known", "status: rumoured", "is neither known nor assumed"),
        ("https://inoti", "http://inoti", "endpoint: does not fit"),
        ("(?P<reference>", "(?P<other>", "acknowledgement: has no group"),
        ("(?P<reference>", "(?P<reference>(", "acknowledgement: is not a regular expression"),
        ("mandate, ", "", "required: an agent has to show the mandate"),
        ("platform: naver", "platform: other", "platform: is not the name of the file"),
        ("platform: naver", "surprise: 1\nplatform: naver", "surprise: is not a key"),
        ("expected_hours: 72", "", "expected_hours: is missing"),
        ("{{ subject }}", "{{ subject", "form.fields: a template cannot be read"),
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
