"""Do the commands of `jikimi review` reach the service, by the other implementation of the contract?"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from services.console import review_commands
from services.console.home import Home
from tests.integration.case.world import World


@dataclass(frozen=True)
class NearHome:
    """What commands need of a home: an issuer's key and where services listen."""

    path: Path
    service_ports: dict[str, int]

    def addresses(self, service: str) -> list[str]:
        return [f"127.0.0.1:{self.service_ports[service]}"]


def home_of(world: World, **ports: int) -> Home:
    """A home whose issuer the running service trusts."""
    keys = world.home / "tokens" / "private"
    keys.mkdir(parents=True)
    shutil.copy(world.home / "private" / "test.key", keys / "issuer.key")
    return cast(Home, NearHome(world.home, {"case": world.port, **ports}))


async def told(
    capsys: pytest.CaptureFixture[str], command: Any, home: Home, **options: object
) -> Any:
    """What a command says to programs."""
    assert 0 == await command(home, argparse.Namespace(json=True, **options))
    return json.loads(capsys.readouterr().out)


async def test_two_label_and_a_third_decides_on_the_command_line(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = world.facts(await world.person(), cluster_id="c1")
    await world.ask(facts)
    home = home_of(world)
    for who, said in (("ann", "match"), ("bob", "no-match")):
        [item] = await told(capsys, review_commands.review_lease, home, who=who, most=5)
        assert ("face, picture, text", facts.decision_id, "labelling-1") == (
            item["what"], item["decision_id"], item["policy_version"],
        )  # fmt: skip
        item_id = item["review_item_id"]
        out = str(world.home / who)
        shown = await told(capsys, review_commands.review_show, home, who=who, item=item_id, out=out)
        assert {"candidate.jpg", "reference.jpg", "thumbnail.jpg"} == {Path(file).name for file in shown["files"]}
        assert b"\xff\xd8candidate" == (Path(out) / "candidate.jpg").read_bytes()
        assert 0o700 == Path(out).stat().st_mode & 0o777
        await told(capsys, review_commands.review_label, home, who=who, item=item_id, label=said)
    band, _ = await told(capsys, review_commands.review_queue, home)
    assert ("BAND", "1", None) == (band["name"], band["disputed"], band.get("overdue"))
    assert [] == await told(capsys, review_commands.review_disagreements, home, who="ann")
    [waiting] = await told(capsys, review_commands.review_disagreements, home, who="eve")
    done = await told(
        capsys, review_commands.review_adjudicate, home, who="eve", item=waiting["review_item_id"], label="match"
    )
    assert ("match", 36) == (done["label"], len(done["case"]))
