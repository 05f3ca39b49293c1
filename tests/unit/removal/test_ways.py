"""Does a request go only where it may?"""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.chassis.clock import ManualClock
from services.chassis.config import Config, ConfigError
from services.removal.adapters.policy_files import PolicyFiles
from services.removal.adapters.ways import DRY_RUN, NO_ENDPOINT, Sending, SendingWays
from services.removal.domain.policy import Policy
from services.removal.ports import Way

POLICIES = PolicyFiles()
CLOCK = ManualClock(datetime(2026, 3, 2, tzinfo=UTC))


def policy(platform: str) -> Policy:
    """A shipped policy."""
    found = POLICIES.get(platform)
    assert found is not None
    return replace(found, approved=True)


def found(sending: Sending, platform: str) -> str:
    """Where a request goes, or why nowhere."""
    way = SendingWays(sending, CLOCK).find(policy(platform), "forum.example.org")
    return way.endpoint if isinstance(way, Way) else way


def config(tmp_path: Path, profile: str) -> Config:
    """Surroundings of a profile."""
    return Config(service="removal", home=tmp_path, profile=profile)


def test_nothing_leaves_by_default() -> None:
    assert {DRY_RUN} == {found(Sending(), item.platform) for item in POLICIES.all()}


def test_official_addresses_in_production() -> None:
    sending = Sending(on=True, relay="mail.example.org:25")
    assert policy("naver").endpoint == found(sending, "naver")
    assert "abuse@telegram.org" == found(sending, "telegram")
    assert "abuse@forum.example.org" == found(sending, "overseas")
    assert NO_ENDPOINT == found(sending, "community")


def test_nothing_goes_out_by_a_template_that_nobody_approved() -> None:
    ways = SendingWays(Sending(on=True), CLOCK)
    assert "POLICY_NOT_APPROVED" == ways.find(replace(policy("naver"), approved=False), "example.org")


def test_no_mail_leaves_without_a_relay() -> None:
    assert NO_ENDPOINT == found(Sending(on=True), "telegram")


def test_the_test_profile_reaches_no_official_address(tmp_path: Path) -> None:
    sending = Sending.from_env({"JIKIMI_REMOVAL_SEND": "on"}, config(tmp_path, "test"))
    places = {found(sending, item.platform) for item in POLICIES.all()}
    assert {NO_ENDPOINT, "NO_SENDER"} == places


@pytest.mark.parametrize(
    "redirects",
    [
        {"naver": {"http": "http://www.example.com:80/"}},
        {"naver": {"http": "https://inoti.naver.com/"}},
        {"telegram": {"smtp": "mail.example.com:25", "to": "a@example.com"}},
        {"telegram": {"smtp": "127.0.0.1:25"}},
        {"naver": {}},
        ["naver"],
    ],
)
def test_redirects_lead_to_this_machine_alone(tmp_path: Path, redirects: object) -> None:
    file = tmp_path / "endpoints.json"
    file.write_text(json.dumps(redirects), encoding="utf-8")
    with pytest.raises(ConfigError):
        Sending.from_env({"JIKIMI_REMOVAL_ENDPOINTS": str(file)}, config(tmp_path, "test"))


@pytest.mark.parametrize(
    "environ",
    [
        {"JIKIMI_REMOVAL_ENDPOINTS": "endpoints.json"},
        {"JIKIMI_REMOVAL_SEND": "yes"},
        {"JIKIMI_REMOVAL_SMTP_RELAY": "mail"},
        {"JIKIMI_REMOVAL_MAIL_FROM": "nobody\r\nBcc: all@example.org"},
    ],
)
def test_settings_that_make_no_sense_stop_the_service(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        Sending.from_env(environ, config(tmp_path, "production"))
