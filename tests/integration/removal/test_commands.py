"""Do the commands that people decide with reach the service, and show what it says?"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from misuse.removal.v1 import removal_service_pb2 as pb
from services.console.__main__ import _parser
from services.console.home import Home
from tests.integration.removal.world import World


class HomeOfOne(Home):
    """A home in which removal alone runs, where the test started it."""

    def __init__(self, folder: Path, port: int) -> None:
        super().__init__(folder)
        self._port = port

    def addresses(self, service: str) -> list[str]:
        return [f"127.0.0.1:{self._port}"]


@pytest.fixture
def alone(world: World, tmp_path: Path) -> HomeOfOne:
    """It trusts the issuer of the test."""
    keys = tmp_path / "home" / "tokens" / "private"
    keys.mkdir(parents=True)
    shutil.copy(tmp_path / "private" / "test.key", keys / "issuer.key")
    return HomeOfOne(tmp_path / "home", world.port)


async def run(home: Home, capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """What a command prints for programs."""
    options: argparse.Namespace = _parser().parse_args(["removal", *words, "--json"])
    assert 0 == await options.run(home, options)
    return json.loads(capsys.readouterr().out)


@pytest.mark.slow
async def test_two_people_review_hold_and_release_from_the_command_line(
    world: World, alone: HomeOfOne, capsys: pytest.CaptureFixture[str]
) -> None:
    person = await world.person()
    await world.packed(person, "x", address="https://news.example.com/1")
    await world.work()
    request_id = (await world.only(person)).removal_request_id
    assert "HELD" == (await run(alone, capsys, "hold", "x", "HELD"))["held"]
    for who, approvals in (("anna", 1), ("bob", 2)):
        done = await run(alone, capsys, "review", request_id, "approve", "--as", who)
        assert approvals == done["approvals"]
    await world.work()
    assert "PLATFORM_HELD" == (await world.only(person)).reason
    for who in ("anna", "bob"):
        await run(alone, capsys, "release", "x", "--as", who)
    await world.work()
    assert pb.REMOVAL_STATE_RECEIVED == (await world.only(person)).state
    assert [] == await run(alone, capsys, "replies")


async def test_the_package_of_a_person_is_shown(
    world: World, alone: HomeOfOne, capsys: pytest.CaptureFixture[str]
) -> None:
    person = await world.person()
    await world.packed(person, "youtube")
    await world.work()
    package = await run(alone, capsys, "package", person, (await world.only(person)).removal_request_id)
    assert 4 == len(package["steps"])
    assert ["kcsc", "kisa"] == [body["platform"] for body in package["fallbacks"]]
