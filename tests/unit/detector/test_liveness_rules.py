"""Which poses are asked, and which heads did what was asked."""

from __future__ import annotations

import random

import pytest

from services.detector.adapters.rules import read_rules
from services.detector.domain.liveness import HeadPose, Liveness, LivenessRules, Pose

RULES = read_rules().ownership.liveness
FRONT = HeadPose(3.0, -6.0, 0.0)
HEADS = {
    Pose.LEFT: HeadPose(-25.0, -4.0, 3.0),
    Pose.RIGHT: HeadPose(28.0, -4.0, 3.0),
    Pose.UP: HeadPose(5.0, 12.0, 0.0),
    Pose.DOWN: HeadPose(1.0, -24.0, 0.0),
}


def test_every_challenge_begins_with_front_and_repeats_no_pose():
    asked = [RULES.ask(random.Random(seed)) for seed in range(50)]
    assert {Pose.FRONT} == {poses[0] for poses in asked}
    assert {RULES.poses} == {len(set(poses)) for poses in asked}


def test_any_turn_may_be_asked_in_any_place():
    places = {(place, pose) for seed in range(200) for place, pose in enumerate(RULES.ask(random.Random(seed))[1:])}
    assert (RULES.poses - 1) * len(HEADS) == len(places)


@pytest.mark.parametrize("asked", HEADS, ids=lambda pose: pose.name)
def test_a_turn_fits_its_own_pose_and_no_other(asked):
    fitting = [shown for shown, head in HEADS.items() if RULES.fit((Pose.FRONT, asked), (FRONT, head))]
    assert [asked] == fitting


@pytest.mark.parametrize("asked", HEADS, ids=lambda pose: pose.name)
def test_looking_ahead_fits_no_turn(asked):
    assert not RULES.fit((Pose.FRONT, asked), (FRONT, FRONT))


def test_a_profile_is_not_taken_for_a_turn():
    assert not RULES.fit((Pose.FRONT, Pose.RIGHT), (FRONT, HeadPose(80.0, 0.0, 0.0)))


def test_a_first_picture_that_is_turned_itself_fits_nothing():
    assert not RULES.fit((Pose.FRONT, Pose.LEFT), (HeadPose(30.0, 0.0, 0.0), HeadPose(0.0, 0.0, 0.0)))


def test_passive_liveness_is_live_from_its_threshold_on():
    assert [Liveness.DOUBTFUL, Liveness.LIVE] == [RULES.passive(RULES.live - 1e-6), RULES.passive(RULES.live)]


@pytest.mark.parametrize("change", [{"poses": 1}, {"poses": 6}, {"live": 1.5}, {"repeated": 0}, {"more": 1}])
def test_rules_that_contradict_themselves_are_refused(change):
    raw = {name: getattr(RULES, name) for name in LivenessRules.__slots__} | {"challenge_first": ["DOUBTFUL"]}
    assert RULES == LivenessRules.read(raw)
    with pytest.raises((ValueError, TypeError)):
        LivenessRules.read(raw | change)
