"""Which threshold do labels call for, and when do they call for none?"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis import yaml_text
from services.detector.adapters.rules import RULES, read_rules
from services.detector.domain.calibration import (
    CalibrationRules,
    GivenLabel,
    Labelled,
    Outcome,
    ThresholdInForce,
    evaluate,
    fingerprint,
    in_force,
    lower_bound,
    settled,
)

AT = 0.535
SHIPPED = CalibrationRules.read(yaml_text.parse((RULES / "calibration.yaml").read_text(encoding="utf-8")))


def alerts(right: int, wrong: int, wrong_reach: float = AT, right_reach: float = 0.7) -> list[Labelled]:
    return [Labelled(True, True, right_reach)] * right + [Labelled(True, False, wrong_reach)] * wrong


def test_alerts_that_are_right_often_enough_keep_the_threshold():
    found = evaluate(alerts(980, 20), AT, SHIPPED)
    assert (Outcome.KEEP, 1000, 980, AT) == (found.outcome, found.kept, found.kept_right, found.to)
    assert found.precision > SHIPPED.precision


def test_wrong_alerts_near_the_threshold_raise_it_by_the_least_step_that_drops_them():
    found = evaluate(alerts(850, 150, AT + 0.012), AT, SHIPPED)
    assert Outcome.TIGHTEN is found.outcome
    assert AT + 3 * SHIPPED.step == pytest.approx(found.to)
    assert (850, 850) == (found.kept, found.kept_right)


def test_wrong_alerts_that_no_allowed_threshold_drops_are_said_to_be_out_of_reach():
    found = evaluate(alerts(850, 150, math.inf), AT, SHIPPED)
    assert (Outcome.OUT_OF_REACH, AT, False) == (found.outcome, found.to, found.proposes)


def test_review_items_that_were_right_lower_it_only_where_they_alone_are_right_often_enough():
    good = alerts(980, 20) + [Labelled(False, True, AT - 0.008)] * 100
    found = evaluate(good, AT, SHIPPED)
    assert (Outcome.LOOSEN, 100, 100) == (found.outcome, found.added, found.added_right)
    assert AT - SHIPPED.most_looser - 1e-9 <= found.to < AT
    bad = alerts(980, 20) + [Labelled(False, True, AT - 0.008)] * 80 + [Labelled(False, False, AT - 0.008)] * 20
    assert Outcome.KEEP is evaluate(bad, AT, SHIPPED).outcome


def test_few_labels_say_nothing():
    assert Outcome.TOO_FEW_LABELS is evaluate(alerts(SHIPPED.least_labels - 1, 0), AT, SHIPPED).outcome


@given(
    st.lists(
        st.builds(Labelled, st.booleans(), st.booleans(), st.floats(0.4, 0.7)), min_size=1, max_size=400
    )
)
def test_a_change_is_never_larger_than_allowed_and_always_holds_by_what_it_counts(known):
    rules = replace(SHIPPED, least_labels=20, least_added=10)
    found = evaluate(known, AT, rules)
    assert -rules.most_looser - 1e-9 <= found.to - AT <= rules.most_tighter + 1e-9
    if found.proposes:
        reached = [each for each in known if each.alert and each.reach >= max(found.to, AT) - 1e-9]
        assert len(reached) == found.kept
        assert lower_bound(found.kept_right, found.kept) >= rules.precision
    if found.outcome is Outcome.LOOSEN:
        assert lower_bound(found.added_right, found.added) >= rules.precision


def label(who: str, verdict: str, source: str = "REVIEWER", decision: str = "d") -> GivenLabel:
    return GivenLabel(decision, who, source, verdict, "s")


@pytest.mark.parametrize(
    ("labels", "word"),
    [
        ([label("a", "MATCH")], None),
        ([label("a", "MATCH"), label("b", "MATCH")], True),
        ([label("a", "NO_MATCH"), label("b", "NO_MATCH")], False),
        ([label("a", "MATCH"), label("b", "NO_MATCH")], None),
        ([label("a", "UNSURE"), label("b", "UNSURE")], None),
        ([label("a", "MATCH"), label("b", "NO_MATCH"), label("c", "NO_MATCH", "ADJUDICATOR")], False),
        ([label("a", "MATCH"), label("b", "NO_MATCH"), label("a", "MATCH", "ADJUDICATOR")], None),
    ],
)
def test_two_people_who_agree_or_a_third_settle_a_decision(labels, word):
    assert word == settled(labels).get("d")


def test_a_change_moves_one_threshold_of_the_rules_that_it_was_made_for_and_their_name_says_so():
    faces = read_rules().faces
    moved = in_force(faces, ThresholdInForce(2, 555))
    assert (0.555, f"{faces.name}.2") == (moved.second_match, moved.name)
    assert replace(moved, second_match=faces.second_match, calibrated=0) == faces
    assert faces == in_force(faces, None)
    assert fingerprint(faces) != fingerprint(replace(faces, clear=faces.clear + 0.01))
