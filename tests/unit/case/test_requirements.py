"""Does `EvidencePackReport` say what is present, weak or missing, and do the rules that are shipped hold?"""

from __future__ import annotations

from pathlib import Path

import pytest

from misuse.case.v1.case_pb2 import GuidanceOutcome
from misuse.common.v1.signal_pb2 import SourceType
from services.case.adapters.evidence_rules import load_guidance, load_requirements
from services.case.adapters.rules import RulesError
from services.case.domain.archive import Json
from services.case.domain.guidance import Outcome
from services.case.domain.requirements import Claimant, Have, Standing, assess, pack_report, worst

RULES = load_requirements()
NAMED = Claimant(has_name=True, has_email=True)
HTTP: Json = {"status": 200, "tls_peer_sha256": "ab", "fetch_time": "2026-03-02T09:00:10.000Z"}
WHOLE: dict[str, Json] = {
    "source_url": "https://x.example/1",
    "discover_time": "2026-03-02T09:00:00.000Z",
    "part_hashes": [{"part": "image.0", "sha256": "ab", "size_bytes": 1}],
    "http": HTTP,
}


def have(platform: str = "meta", sighting_id: str = "s", **values: Json) -> Have:
    capture = {name: value for name, value in (WHOLE | values).items() if value is not None}
    return Have(sighting_id, platform, capture, has_masked_text=True, has_thumbnail=True, packed=True)


def standings(found: Have, claimant: Claimant = NAMED) -> dict[str, str]:
    return {finding.field.value: finding.standing.value for finding in assess(found, claimant, RULES)}


def test_whole_evidence_has_everything_but_what_the_filing_adds() -> None:
    expected = dict.fromkeys(["source_url", "discover_time", "content_sha256", "claimant_name"], "PRESENT")
    assert expected | {"mandate": "AT_FILING"} == standings(have())


@pytest.mark.parametrize(
    ("change", "field", "standing", "reasons"),
    [
        ({"source_url": None}, "source_url", "MISSING", ()),
        ({"part_hashes": []}, "content_sha256", "MISSING", ()),
        ({"http": None}, "source_url", "WEAK", ("NOT_FETCHED",)),
        ({"http": None}, "content_sha256", "WEAK", ("NOT_FETCHED",)),
        ({"http": {"status": 0, "tls_peer_sha256": "", "fetch_time": ""}}, "source_url", "WEAK", ("NOT_FETCHED",)),
        ({"http": {"status": 404, "tls_peer_sha256": "ab"}}, "source_url", "WEAK", ("STATUS_NOT_GOOD",)),
        ({"http": {"status": 200, "tls_peer_sha256": ""}}, "content_sha256", "WEAK", ("NOT_ENCRYPTED",)),
        (
            {"http": {"status": 200, "tls_peer_sha256": "ab", "fetch_time": "2026-03-03T09:00:01.000Z"}},
            "content_sha256",
            "WEAK",
            ("FETCHED_LATE",),
        ),
        ({"publish_time": "2026-03-02T09:00:01.000Z"}, "discover_time", "WEAK", ("BEFORE_PUBLICATION",)),
        ({"publish_time": "2026-03-01T09:00:01.000Z"}, "discover_time", "PRESENT", ()),
    ],
)
def test_what_invites_a_question_is_weak(
    change: dict[str, Json], field: str, standing: str, reasons: tuple[str, ...]
) -> None:
    [finding] = [each for each in assess(have(**change), NAMED, RULES) if each.field == field]
    assert (standing, reasons) == (finding.standing, finding.reasons)


def test_a_name_that_was_erased_is_missing() -> None:
    assert "MISSING" == standings(have(), Claimant(has_name=False, has_email=False))["claimant_name"]


def test_a_sighting_without_a_platform_is_judged_by_what_any_statement_needs() -> None:
    assert ["source_url", "discover_time", "content_sha256"] == list(standings(have(platform="")))


def test_the_report_counts_by_platform_and_says_what_can_be_filed() -> None:
    report = pack_report([have(), have(sighting_id="t", source_url=None), have("youtube", "u")], NAMED, RULES)
    platforms = report["platforms"]
    assert isinstance(platforms, list)
    meta, youtube = platforms
    assert isinstance(meta, dict)
    assert isinstance(youtube, dict)
    assert ("meta", 2, 1) == (meta["platform"], meta["sightings"], meta["complete"])
    assert isinstance(meta["fields"], list)
    assert {"field": "source_url", "PRESENT": 1, "MISSING": 1} == meta["fields"][0]
    assert 1 == youtube["complete"]


def test_the_worst_field_decides() -> None:
    assert Standing.MISSING is worst(assess(have(source_url=None, http=None), NAMED, RULES))
    assert Standing.AT_FILING is worst(assess(have(), NAMED, RULES))


# --- guidance ---


def test_finds_of_the_dark_web_get_the_public_paths_in_order() -> None:
    guidance = load_guidance()
    assert ["find-leaked-accounts", "kisa-118", "communications-review-1377"] == guidance.for_finds(
        {("DARK_WEB", "PII")}
    )
    assert "digital-sex-crime-victim-support" in guidance.for_finds({("LEAK_INDEX", "FACE")})
    assert [] == guidance.for_finds({("SNS", "FACE"), ("WEB", "PII")})


def test_every_path_speaks_both_languages_and_its_sources_are_those_of_the_contract() -> None:
    known = {name.removeprefix("SOURCE_TYPE_") for name, _ in SourceType.items()}
    for path in load_guidance().paths:
        assert {"ko", "en"} == set(path.name) == set(path.offers)
        assert path.url or path.phone
        assert path.source_types <= known


def test_outcomes_have_the_numbers_of_the_contract() -> None:
    contract = {name.removeprefix("GUIDANCE_OUTCOME_"): number for name, number in GuidanceOutcome.items()}
    assert {outcome.name: outcome.value for outcome in Outcome} == contract


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("guidance.yaml", "version: 1\npaths: []"),
        ("guidance.yaml", "version: a\npaths: [{id: a}]"),
        ("guidance.yaml", "version: a"),
        ("evidence.yaml", "version: a\nplatforms: []\notherwise: [source_url]\nweak: {}"),
    ],
)
def test_rules_that_are_not_rules_are_refused(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / name).write_text(text)
    load = load_guidance if name == "guidance.yaml" else load_requirements
    with pytest.raises(RulesError):
        load(tmp_path)
