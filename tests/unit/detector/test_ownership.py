"""What proves that something is a subscriber's own, and for how long."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from nacl.signing import SigningKey

from services.detector.adapters.providers import ProviderKeys
from services.detector.adapters.rules import mask_value, read_rules
from services.detector.domain.decisions import IdentifierKind
from services.detector.domain.liveness import Liveness
from services.detector.domain.ownership import (
    FACE,
    FACE_ON_DEVICE,
    Claims,
    Duplicate,
    DuplicateState,
    IllegalMove,
    NotProved,
    OwnershipState,
    check_move,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
RULES = read_rules().ownership
CLAIMS = Claims(
    provider="demo-identity",
    audience="jikimi.detector",
    subscriber_id="a",
    target_id="t",
    value="",
    possession=True,
    real_name=False,
    nonce=bytes(16),
    issue_time=NOW,
    expire_time=NOW + timedelta(minutes=10),
)


def test_possession_proves_a_face_and_a_phone():
    RULES.check(CLAIMS, FACE, "a", "t", NOW, minor=False)
    RULES.check(CLAIMS, "MOBILE_PHONE", "a", "t", NOW, minor=False)


@pytest.mark.parametrize(
    ("change", "kind", "reason"),
    [
        ({"audience": "x"}, FACE, "WRONG_AUDIENCE"),
        ({"subscriber_id": "b"}, FACE, "WRONG_SUBJECT"),
        ({"target_id": "u"}, FACE, "WRONG_SUBJECT"),
        ({"issue_time": None}, FACE, "EXPIRED"),
        ({"expire_time": NOW + timedelta(minutes=11)}, FACE, "EXPIRED"),
        ({"issue_time": NOW + timedelta(minutes=5), "expire_time": NOW + timedelta(minutes=9)}, FACE, "EXPIRED"),
        ({"possession": False}, FACE, "POSSESSION_NOT_PROVED"),
        ({}, "BANK_ACCOUNT", "REAL_NAME_NOT_PROVED"),
        ({}, FACE_ON_DEVICE, "REAL_NAME_NOT_PROVED"),
        ({"nonce": b"short"}, FACE, "BAD_NONCE"),
    ],
)
def test_each_fault_of_an_assertion_has_its_reason(change, kind, reason):
    with pytest.raises(NotProved) as refused:
        RULES.check(replace(CLAIMS, **change), kind, "a", "t", NOW, minor=False)
    assert reason == refused.value.reason


@pytest.mark.parametrize(
    ("possession", "real_name", "proved"),
    [
        (True, False, {FACE, "MOBILE_PHONE"}),
        (False, True, {"NAME"}),
        (True, True, {FACE, FACE_ON_DEVICE, "MOBILE_PHONE", "NAME", "BANK_ACCOUNT"}),
        (False, False, set()),
    ],
)
def test_possession_real_name_and_both_prove_different_things(possession, real_name, proved):
    claims, shown = replace(CLAIMS, possession=possession, real_name=real_name), set()
    for kind in (FACE, FACE_ON_DEVICE, "MOBILE_PHONE", "NAME", "BANK_ACCOUNT"):
        with contextlib.suppress(NotProved):
            RULES.check(claims, kind, "a", "t", NOW, minor=False)
            shown.add(kind)
    assert proved == shown


@pytest.mark.parametrize(
    "change", [{"guardian": True}, {"fourteen": True, "real_name": True}], ids=["guardian", "fourteen"]
)
def test_a_minor_proves_with_the_guardian_or_with_the_age_of_fourteen(change):
    RULES.check(replace(CLAIMS, **change), FACE, "a", "t", NOW, minor=True)


@pytest.mark.parametrize("change", [{}, {"real_name": True}, {"fourteen": True}], ids=["alone", "name", "unnamed age"])
def test_a_minor_alone_proves_nothing(change):
    with pytest.raises(NotProved) as refused:
        RULES.check(replace(CLAIMS, **change), FACE, "a", "t", NOW, minor=True)
    assert "GUARDIAN_NOT_PROVED" == refused.value.reason


def test_a_provider_that_saw_the_live_face_makes_a_challenge_needless():
    seen, unseen = replace(CLAIMS, live_face=True), CLAIMS
    blind = replace(RULES, providers={"demo-identity": replace(RULES.providers["demo-identity"], live_face=False)})
    needed = [
        rules.challenge_needed(liveness, claims)
        for rules, liveness, claims in (
            (RULES, Liveness.DOUBTFUL, unseen),
            (RULES, Liveness.DOUBTFUL, seen),
            (blind, Liveness.DOUBTFUL, seen),
            (RULES, Liveness.LIVE, unseen),
            (RULES, Liveness.CHALLENGED, unseen),
        )
    ]
    assert [True, False, True, False, False] == needed


def test_the_word_of_a_provider_that_knows_no_guardians_helps_no_minor():
    unknowing = replace(RULES.providers["demo-identity"], guardian=False)
    rules = replace(RULES, providers={"demo-identity": unknowing})
    with pytest.raises(NotProved) as refused:
        rules.check(replace(CLAIMS, guardian=True), FACE, "a", "t", NOW, minor=True)
    assert "GUARDIAN_NOT_PROVED" == refused.value.reason


LEGAL = {
    "PENDING": {"VERIFIED", "ERASED"},
    "VERIFIED": {"VERIFIED", "EXPIRED", "SUSPENDED", "ERASED"},
    "EXPIRED": {"VERIFIED", "ERASED"},
    "SUSPENDED": {"VERIFIED", "EXPIRED", "ERASED"},
    "ERASED": set(),
}


@pytest.mark.parametrize("before", OwnershipState, ids=lambda state: state.name)
def test_a_proof_makes_only_legal_moves(before):
    made = set()
    for after in OwnershipState:
        with contextlib.suppress(IllegalMove):
            check_move(before, after)
            made.add(after.name)
    assert LEGAL[before.name] == made


def test_one_reviewer_tells_nobody_apart_however_often():
    asked = Duplicate("d", "a", "t", "b", DuplicateState.OPEN, (), NOW)
    once = asked.told_apart("r1", 2).told_apart("r1", 2)
    assert (DuplicateState.OPEN, ("r1",)) == (once.state, once.apart)
    assert DuplicateState.ADMITTED == once.told_apart("r2", 2).state


def test_a_proof_holds_as_long_as_its_kind_says():
    ends = [RULES.valid_until(kind, NOW) - NOW for kind in (FACE, "EMAIL", "VEHICLE_PLATE")]
    assert [timedelta(days=365), timedelta(days=180), timedelta(days=180)] == ends


def test_an_owner_recognises_the_masked_value():
    masked = mask_value(IdentifierKind.MOBILE_PHONE, "010-2345-6789")
    assert "***-****-6789" == masked


def test_the_shipped_channels_cover_ten_groups():
    assert 10 == len({channel.channel_group for channel in read_rules().channels})


@pytest.mark.parametrize(("test_profile", "reason"), [(False, "UNKNOWN_PROVIDER"), (True, "BAD_SIGNATURE")])
def test_a_provider_for_tests_is_unknown_outside_the_test_profile(tmp_path, test_profile, reason):
    key = SigningKey(b"k" * 32).verify_key.encode().hex()
    (tmp_path / "demo-identity.pub").write_text(key)
    keys = ProviderKeys(RULES, tmp_path, test_profile=test_profile)
    with pytest.raises(NotProved) as problem:
        keys.check("demo-identity", "demo-identity-1", b"claims", bytes(64))
    assert reason == problem.value.reason
