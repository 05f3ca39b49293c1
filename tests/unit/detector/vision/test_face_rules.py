"""When a face is a subscriber's."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis import yaml_text
from services.detector.adapters.faces import RULES_FILE, read_face_rules
from services.detector.domain.faces import (
    Band,
    Candidate,
    FaceQuality,
    Reason,
    decide,
    is_near,
    needs_second_look,
    rules_from,
)

RULES = read_face_rules()
DETECTOR = RULES_FILE.parents[1]
GOOD = FaceQuality(90, 40, 200, 40, 0.05, 0.99)
POOR = replace(GOOD, eye_distance_px=9.0)
TINY = replace(GOOD, eye_distance_px=5.0)
N = RULES.reference_gallery


def near(score: float, second: float | None = None, who: str = "a", minor: bool = False) -> Candidate:
    return Candidate(who, f"{who}-1", score, second, minor)


@pytest.mark.parametrize(
    ("candidates", "quality", "gallery", "band", "reason"),
    [
        ([], GOOD, 0, Band.NONE, Reason.EMPTY_GALLERY),
        ([near(0.95)], TINY, N, Band.NONE, Reason.FACE_TOO_SMALL),
        ([near(0.20)], GOOD, N, Band.NONE, Reason.BELOW_THRESHOLD),
        ([near(0.80)], GOOD, N, Band.MATCH, Reason.CLEAR_MATCH),
        ([near(0.50)], GOOD, N, Band.REVIEW, Reason.NO_SECOND_LOOK),
        ([near(0.50, 0.60)], GOOD, N, Band.MATCH, Reason.SECOND_LOOK_AGREES),
        ([near(0.50, 0.50)], GOOD, N, Band.REVIEW, Reason.SECOND_LOOK_UNSURE),
        ([near(0.50, 0.40)], GOOD, N, Band.NONE, Reason.SECOND_LOOK_DISAGREES),
        ([near(0.60, 0.61), near(0.58, 0.59, "b")], GOOD, N, Band.REVIEW, Reason.AMBIGUOUS_SUBSCRIBER),
        ([near(0.80), near(0.79, who="b")], GOOD, N, Band.REVIEW, Reason.NO_SECOND_LOOK),
        ([near(0.50, 0.56)], POOR, N, Band.REVIEW, Reason.POOR_QUALITY),
        ([near(0.50, 0.47)], POOR, N, Band.NONE, Reason.SECOND_LOOK_DISAGREES),
        ([near(0.90)], POOR, N, Band.REVIEW, Reason.POOR_QUALITY),
        ([near(0.50, 0.56, minor=True)], GOOD, N, Band.REVIEW, Reason.SECOND_LOOK_UNSURE),
        ([near(0.55, 0.60)], GOOD, 100 * N, Band.REVIEW, Reason.SECOND_LOOK_UNSURE),
    ],
)
def test_bands(
    candidates: list[Candidate], quality: FaceQuality, gallery: int, band: Band, reason: Reason
) -> None:
    decision = decide(candidates, quality, gallery, RULES)
    assert (decision.band, decision.reasons[0]) == (band, reason)
    assert (decision.subscriber_id is None) == (band is Band.NONE)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"eye_distance_px": 9.0}, Reason.FACE_TOO_SMALL),
        ({"contrast": 12.0}, Reason.FACE_TOO_FLAT),
        ({"sharpness": 8.0}, Reason.FACE_BLURRED),
        ({"visible": 0.5}, Reason.FACE_CUT_OFF),
        ({"yaw": 0.6}, Reason.FACE_TURNED),
        ({"turn_deg": 70.0}, Reason.FACE_TURNED),
        ({"tilt_deg": 60.0}, Reason.FACE_TILTED),
        ({"covered": 0.2}, Reason.FACE_COVERED),
    ],
)
def test_low_quality_goes_to_a_person_with_its_reason(change: dict[str, float], fault: Reason) -> None:
    poor = replace(GOOD, **change)
    for candidates in ([near(0.95)], [near(0.95, 0.95)]):
        decision = decide(candidates, poor, N, RULES)
        assert (decision.band, decision.reasons) == (Band.REVIEW, (Reason.POOR_QUALITY, fault))


def test_what_was_not_asked_for_is_no_fault() -> None:
    assert (GOOD.turn_deg, GOOD.tilt_deg, GOOD.covered) == (None, None, None)
    assert RULES.poor.faults(GOOD) == ()


def test_a_channel_group_full_of_strangers_asks_for_more() -> None:
    group, added = max(RULES.channel_adds.items(), key=lambda pair: pair[1])
    candidates = [near(0.50, RULES.second_match + added / 2)]
    here, elsewhere = (decide(candidates, GOOD, N, RULES, name) for name in (group, "somewhere-else"))
    assert (here.band, elsewhere.band) == (Band.REVIEW, Band.MATCH)
    assert here.reasons == (Reason.SECOND_LOOK_UNSURE, Reason.STRICTER_FOR_CHANNEL)


@given(
    st.floats(0.47, 0.75), st.integers(1, 100 * N), st.booleans(), st.sampled_from(["", *RULES.channel_adds])
)
def test_a_face_is_an_alert_up_to_its_reach_and_not_beyond(second, gallery, minor, group) -> None:
    candidates = [near(0.55, second, minor=minor)]
    reach = decide(candidates, GOOD, gallery, RULES, group).reach
    if reach is None or not RULES.second_review < reach - 0.001:
        return
    bands = [
        decide(candidates, GOOD, gallery, replace(RULES, second_match=reach + moved), group).band
        for moved in (-0.0005, 0.0005)
    ]
    assert [Band.MATCH, Band.REVIEW] == bands


@pytest.mark.parametrize(
    ("candidates", "quality"),
    [
        ([near(0.95)], GOOD),
        ([near(0.50)], GOOD),
        ([near(0.50, 0.56)], POOR),
        ([near(0.60, 0.61), near(0.58, 0.59, "b")], GOOD),
        ([near(0.20)], GOOD),
    ],
    ids=["clear", "no second look", "poor", "ambiguous", "nobody"],
)
def test_what_another_rule_decides_has_no_reach(candidates, quality) -> None:
    assert decide(candidates, quality, N, RULES).reach is None


def test_thresholds_tighten_by_decades_of_the_gallery() -> None:
    grown = [RULES.grown(size) for size in (1, N, 10 * N, 1000 * N)]
    assert grown == pytest.approx([0, 0, RULES.tighten_per_decade, 3 * RULES.tighten_per_decade])


def test_only_faces_near_somebody_are_looked_at_more() -> None:
    assert [is_near([near(score)], GOOD, N, RULES) for score in (0.2, 0.5, 0.9)] == [False, True, True]
    assert not is_near([], GOOD, 0, RULES)
    assert not is_near([near(0.9)], TINY, N, RULES)


def test_the_second_look_may_prefer_another_subscriber() -> None:
    decision = decide([near(0.52, 0.45), near(0.50, 0.66, "b")], GOOD, N, RULES)
    assert (decision.band, decision.subscriber_id) == (Band.MATCH, "b")


def test_only_doubt_costs_a_second_look() -> None:
    looks = [needs_second_look([near(score)], GOOD, N, RULES) for score in (0.2, 0.5, 0.9)]
    assert looks == [False, True, False]


scores = st.floats(-1, 1)
qualities = st.builds(
    FaceQuality,
    side_px=st.just(90.0),
    eye_distance_px=st.floats(0, 100),
    sharpness=st.floats(0, 400),
    contrast=st.floats(0, 80),
    yaw=st.floats(0, 1),
    detection=st.just(0.9),
    visible=st.floats(0, 1),
    turn_deg=st.none() | st.floats(0, 99),
    tilt_deg=st.none() | st.floats(0, 99),
    covered=st.none() | st.floats(-1, 1),
)


@given(scores, st.none() | scores, qualities, st.integers(0, 10**7))
def test_no_score_lifts_low_quality_to_a_match(
    first: float, second: float | None, quality: FaceQuality, size: int
) -> None:
    decision = decide([near(first, second)], quality, size, RULES)
    if RULES.poor.faults(quality):
        assert decision.band is not Band.MATCH
    if RULES.unusable.faults(quality):
        assert decision.band is Band.NONE


@given(scores, scores, st.floats(0, 1), st.integers(0, 10_000_000))
def test_a_better_score_never_lowers_the_band(first: float, second: float, more: float, size: int) -> None:
    rank = [Band.NONE, Band.REVIEW, Band.MATCH]
    lower = decide([near(first, second)], GOOD, size, RULES).band
    higher = decide([near(min(1, first + more), min(1, second + more))], GOOD, size, RULES).band
    assert rank.index(lower) <= rank.index(higher)


@given(scores, scores, st.integers(0, 10**6), st.integers(1, 100))
def test_a_larger_gallery_never_raises_the_band(first: float, second: float, size: int, times: int) -> None:
    rank = [Band.NONE, Band.REVIEW, Band.MATCH]
    small = decide([near(first, second)], GOOD, size, RULES).band
    large = decide([near(first, second)], GOOD, size * times, RULES).band
    assert rank.index(large) <= rank.index(small)


def test_a_decision_holds_no_score() -> None:
    assert repr(decide([near(0.8)], GOOD, N, RULES)) == (
        "Decision(band=<Band.MATCH: 'MATCH'>, reasons=(<Reason.CLEAR_MATCH: 'CLEAR_MATCH'>,), "
        f"rules='{RULES.name}', subscriber_id='a', template_id='a-1')"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"clear": 0.1},
        {"least_margin": -1.0},
        {"poor": {"unknown": 1.0}},
        {"x": 1},
        {"channel_adds": {"naver": -0.1}},
        {"channel_adds": None},
    ],
)
def test_rules_that_contradict_themselves_are_refused(change: dict[str, object]) -> None:
    values = yaml_text.parse(RULES_FILE.read_text())
    with pytest.raises(ValueError, match=r"contradict|wrong type|differ"):
        rules_from(values | change)


def test_only_proved_templates_of_subscribers_are_compared_with() -> None:
    """The margin to the next subscriber counts nobody else: who fills the gallery reads proved templates alone."""
    product = [path for path in DETECTOR.rglob("*.py") if "evaluate_faces" not in path.parts]
    fillers = {path.name for path in product if re.search(r"gallery\.(add|replace)\(", path.read_text())}
    assert fillers == {"enrolled.py"}
