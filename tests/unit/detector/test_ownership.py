"""What proves that something is a subscriber's own, and for how long."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from nacl.signing import SigningKey

from services.detector.adapters.providers import ProviderKeys
from services.detector.adapters.rules import mask_value, read_rules
from services.detector.domain.decisions import IdentifierKind
from services.detector.domain.ownership import FACE, Claims, NotProved

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
    RULES.check(CLAIMS, FACE, "a", "t", NOW)
    RULES.check(CLAIMS, "MOBILE_PHONE", "a", "t", NOW)


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
        ({"nonce": b"short"}, FACE, "BAD_NONCE"),
    ],
)
def test_each_fault_of_an_assertion_has_its_reason(change, kind, reason):
    with pytest.raises(NotProved) as refused:
        RULES.check(replace(CLAIMS, **change), kind, "a", "t", NOW)
    assert reason == refused.value.reason


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
