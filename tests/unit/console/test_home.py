"""A home owns its ports and secrets, and shares none with another home."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

from services.console.home import EPHEMERAL_RANGE, PORT_NAMES, Home


def new_home(folder: Path) -> Home:
    home = Home(folder)
    home.create()
    return home


def test_ports_are_kept(tmp_path: Path) -> None:
    first = new_home(tmp_path / "a").ports()

    assert first == new_home(tmp_path / "a").ports()
    assert set(PORT_NAMES) == set(first)
    assert len(PORT_NAMES) == len(set(first.values()))


def test_ports_lie_below_those_of_outgoing_connections(tmp_path: Path) -> None:
    lowest_ephemeral = int(EPHEMERAL_RANGE.read_text().split()[0])

    assert max(new_home(tmp_path / "a").ports().values()) < lowest_ephemeral


def test_homes_do_not_share_ports_even_while_both_are_down(tmp_path: Path) -> None:
    homes = [new_home(tmp_path / str(number)) for number in range(5)]
    ports = [port for home in homes for port in home.ports().values()]

    assert len(ports) == len(set(ports))


def test_a_port_that_somebody_took_is_replaced(tmp_path: Path) -> None:
    home = new_home(tmp_path / "a")
    taken = home.ports()["case"]
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", taken))
        stranger.listen()
        replaced = home.replace_port("case")

    assert replaced != taken
    assert replaced == home.ports()["case"]


def test_secrets_are_long_kept_and_private(tmp_path: Path) -> None:
    home = new_home(tmp_path / "a")
    value = home.secret("nats-case")

    assert len(value) >= 40
    assert value == home.secret("nats-case")
    assert value != home.secret("nats-gate")
    assert stat.S_IMODE((home.secrets / "nats-case").stat().st_mode) == 0o600
    assert stat.S_IMODE(home.secrets.stat().st_mode) == 0o700


def test_the_home_is_named_by_the_environment(tmp_path: Path) -> None:
    assert Home(tmp_path / "x") == Home.from_env({"JIKIMI_HOME": str(tmp_path / "x")})
    assert Home(Path.cwd() / "var" / "home") == Home.from_env({})
