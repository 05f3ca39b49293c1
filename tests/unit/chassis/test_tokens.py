"""Which tokens prove an actor?"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from misuse.common.v1.access_pb2 import (
    PURPOSE_OPERATIONS,
    PURPOSE_PROTECTION,
    ROLE_DEVICE,
    ROLE_SERVICE_CASE,
    ROLE_SRE,
    ROLE_SUBSCRIBER,
)
from misuse.common.v1.actor_pb2 import ActorClaims
from services.chassis.errors import Unauthenticated
from services.chassis.tokens import (
    MAX_TOKEN_CHARS,
    SKEW,
    Issuer,
    Verifier,
    acting,
    create_key_pair,
    current_actor,
)


@pytest.fixture
def issuer(tmp_path: Path) -> Issuer:
    return create_key_pair(tmp_path / "private", tmp_path / "public", "desk")


@pytest.fixture
def verifier(tmp_path: Path, issuer: Issuer) -> Verifier:
    return Verifier(tmp_path / "public")


def claims(**changes: Any) -> ActorClaims:
    """Good claims of a device, with changes."""
    values: dict[str, Any] = {
        "key_id": "desk",
        "subject": "s-1",
        "role": ROLE_DEVICE,
        "purpose": PURPOSE_PROTECTION,
        "audience": "notify",
        "device_id": "d-1",
    }
    now = datetime.now(UTC)
    begin = changes.pop("begin", timedelta())
    life = changes.pop("life", timedelta(minutes=1))
    made = ActorClaims(**(values | changes))
    made.issue_time.FromDatetime(now + begin)
    made.expire_time.FromDatetime(now + begin + life)
    return made


def reason(verifier: Verifier, token: str, at: datetime | None = None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        verifier.verify(token, "notify", at or datetime.now(UTC))
    if token:
        assert token not in f"{caught.value!r} {caught.value}"
    return caught.value.reason


def test_a_token_brings_back_what_was_issued(issuer: Issuer, verifier: Verifier) -> None:
    token = issuer.issue("s-1", ROLE_DEVICE, PURPOSE_PROTECTION, "notify", 60, device_id="d-1")
    actor = verifier.verify(token, "notify", datetime.now(UTC))
    assert (actor.subject, actor.role, actor.purpose) == ("s-1", ROLE_DEVICE, PURPOSE_PROTECTION)
    assert (actor.audience, actor.device_id) == ("notify", "d-1")
    assert actor.expire_time - actor.issue_time == timedelta(seconds=60)


def test_a_token_is_claims_and_signature_in_base64url(issuer: Issuer) -> None:
    body, signature = issuer.sign(claims()).split(".")
    assert ActorClaims.FromString(base64.urlsafe_b64decode(body + "==")).subject == "s-1"
    assert len(base64.urlsafe_b64decode(signature + "==")) == 64


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"life": timedelta(minutes=-1) - SKEW}, "TOKEN_EXPIRED"),
        ({"begin": timedelta(minutes=2)}, "TOKEN_NOT_YET_VALID"),
        ({"life": timedelta(hours=13)}, "TOKEN_TTL_TOO_LONG"),
        ({"audience": "case"}, "TOKEN_AUDIENCE_MISMATCH"),
        ({"audience": ""}, "TOKEN_MALFORMED"),
        ({"key_id": "nobody"}, "TOKEN_KEY_UNKNOWN"),
        ({"key_id": "../desk"}, "TOKEN_KEY_UNKNOWN"),
        ({"subject": ""}, "TOKEN_MALFORMED"),
        ({"subject": "s" * 65}, "TOKEN_MALFORMED"),
        ({"role": 0}, "TOKEN_MALFORMED"),
        ({"role": 99}, "TOKEN_MALFORMED"),
        ({"purpose": 0}, "TOKEN_MALFORMED"),
        ({"purpose": 99}, "TOKEN_MALFORMED"),
        ({"device_id": ""}, "TOKEN_MALFORMED"),
        ({"role": ROLE_SUBSCRIBER}, "TOKEN_MALFORMED"),
    ],
)
def test_signed_claims_that_are_refused(
    issuer: Issuer, verifier: Verifier, changes: dict[str, Any], expected: str
) -> None:
    assert reason(verifier, issuer.sign(claims(**changes))) == expected


def test_claims_without_times_are_refused(issuer: Issuer, verifier: Verifier) -> None:
    timeless = claims()
    timeless.ClearField("expire_time")
    assert reason(verifier, issuer.sign(timeless)) == "TOKEN_MALFORMED"


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("", "TOKEN_MISSING"),
        ("x", "TOKEN_MALFORMED"),
        ("a.b.c", "TOKEN_MALFORMED"),
        ("!!!!.????", "TOKEN_MALFORMED"),
        ("한글.한글", "TOKEN_MALFORMED"),
        ("_____w.AAAA", "TOKEN_MALFORMED"),
        ("A" * (MAX_TOKEN_CHARS + 1), "TOKEN_MALFORMED"),
    ],
)
def test_garbled_tokens_are_refused(verifier: Verifier, token: str, expected: str) -> None:
    assert reason(verifier, token) == expected


def test_every_changed_character_breaks_the_token(issuer: Issuer, verifier: Verifier) -> None:
    token = issuer.sign(claims())
    verifier.verify(token, "notify", datetime.now(UTC))
    for place in range(0, len(token) - 1, 7):
        changed = token[:place] + ("B" if token[place] == "A" else "A") + token[place + 1 :]
        assert reason(verifier, changed).startswith("TOKEN_")


def test_another_key_under_a_known_id_is_refused(verifier: Verifier) -> None:
    forger = Issuer("desk", bytes(32))
    assert reason(verifier, forger.sign(claims())) == "TOKEN_SIGNATURE_INVALID"


def test_a_known_token_expires_all_the_same(issuer: Issuer, verifier: Verifier) -> None:
    token = issuer.sign(claims())
    now = datetime.now(UTC)
    verifier.verify(token, "notify", now)
    verifier.verify(token, "notify", now + timedelta(seconds=80))
    assert reason(verifier, token, at=now + timedelta(seconds=91)) == "TOKEN_EXPIRED"


def test_a_service_key_signs_its_own_role_only(tmp_path: Path, verifier: Verifier) -> None:
    service = create_key_pair(tmp_path / "private", tmp_path / "public", "case", [ROLE_SERVICE_CASE])
    own = service.issue("service:case", ROLE_SERVICE_CASE, PURPOSE_OPERATIONS, "notify", 60)
    foreign = service.issue("s-1", ROLE_SRE, PURPOSE_OPERATIONS, "notify", 60)
    assert verifier.verify(own, "notify", datetime.now(UTC)).subject == "service:case"
    assert reason(verifier, foreign) == "TOKEN_ROLE_NOT_SIGNABLE"


def test_a_key_taken_out_of_the_folder_is_no_longer_known(tmp_path: Path, issuer: Issuer) -> None:
    verifier = Verifier(tmp_path / "public", reload_seconds=0)
    token = issuer.sign(claims())
    verifier.verify(token, "notify", datetime.now(UTC))
    (tmp_path / "public" / "desk.pub").unlink()
    assert reason(verifier, token) == "TOKEN_KEY_UNKNOWN"


def test_making_a_key_pair_twice_keeps_the_first(tmp_path: Path, issuer: Issuer, verifier: Verifier) -> None:
    again = create_key_pair(tmp_path / "private", tmp_path / "public", "desk")
    assert verifier.verify(again.sign(claims()), "notify", datetime.now(UTC)).subject == "s-1"
    private = tmp_path / "private" / "desk.key"
    assert private.stat().st_mode & 0o777 == 0o600
    assert Issuer.from_file(private).key_id == "desk"


@pytest.mark.parametrize("bad", [{"ttl_s": 50_000}, {"subject": ""}, {"device_id": "d-1"}])
def test_an_issuer_does_not_sign_what_nobody_accepts(issuer: Issuer, bad: dict[str, Any]) -> None:
    good: dict[str, Any] = {
        "subject": "x",
        "role": ROLE_SRE,
        "purpose": PURPOSE_OPERATIONS,
        "audience": "case",
    }
    with pytest.raises(ValueError, match="no verifier"):
        issuer.issue(**({"ttl_s": 60} | good | bad))


def test_there_is_no_actor_outside_of_a_call(issuer: Issuer, verifier: Verifier) -> None:
    actor = verifier.verify(issuer.sign(claims()), "notify", datetime.now(UTC))
    with acting(actor):
        assert current_actor() is actor
    with pytest.raises(Unauthenticated):
        current_actor()
