"""The supervisor starts in order, brings back what dies, stops in reverse and never runs twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.console import supervisor
from services.console.embedded import Postgres, alive, wait_until
from services.console.home import SERVICES, Home, HomeUnusable, instances_of
from services.console.supervisor import Program, Supervisor, Watched, bound_logs, service_environment, step_back

WELL_BEHAVED = (
    "import signal, sys, time\n"
    "def leave(*_):\n"
    "    print('left', sys.argv[1], flush=True)\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, leave)\n"
    "print('serves', sys.argv[1], flush=True)\n"
    "time.sleep(60)\n"
)
STUBBORN = (
    "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('serves', flush=True)\ntime.sleep(60)\n"
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def program(home: Home, name: str, code: str = WELL_BEHAVED) -> Program:
    """A small real program that says when it serves, in a log of its own and in one that all share."""
    log = home.logs / f"{name}.log"

    def spawn() -> subprocess.Popen[bytes]:
        with (home.logs / "order.log").open("ab") as order:
            log.touch()
            return subprocess.Popen(
                [sys.executable, "-S", "-c", code, name], stdout=order, stderr=order, start_new_session=True
            )

    return Program(name, spawn, lambda: "serves" in (home.logs / "order.log").read_text())


def in_background(system: Supervisor) -> tuple[threading.Thread, list[int]]:
    result: list[int] = []
    thread = threading.Thread(target=lambda: result.append(system.run()))
    thread.start()
    return thread, result


def status(home: Home) -> dict[str, object]:
    file = home.path / "status.json"
    answer: dict[str, object] = json.loads(file.read_text()) if file.exists() else {"state": None}
    return answer


def until(true: Callable[[], bool]) -> None:
    assert wait_until(true, 10.0)


def test_groups_start_in_order_and_stop_in_reverse(home: Home) -> None:
    system = Supervisor(home, [[program(home, "base")], [program(home, "service")]])
    thread, result = in_background(system)
    until(lambda: status(home)["state"] == "ready")
    until(lambda: "serves service" in (home.logs / "order.log").read_text())
    system.ask_to_stop()
    thread.join(20)

    assert [0] == result
    assert ["serves base", "serves service", "left service", "left base"] == (
        home.logs / "order.log"
    ).read_text().splitlines()
    assert "stopped" == status(home)["state"]


def test_groups_that_wait_for_nothing_start_side_by_side_and_stop_in_reverse(home: Home) -> None:
    # The first is ready only when the second serves: one that waited for it would never start.
    order = home.logs / "order.log"
    needed = Program("base", program(home, "base").spawn, lambda: "serves service" in order.read_text())
    system = Supervisor(home, [[needed], [program(home, "service")]], waits=False)
    thread, result = in_background(system)
    until(lambda: status(home)["state"] == "ready")
    until(lambda: 2 == (home.logs / "order.log").read_text().count("serves"))
    system.ask_to_stop()
    thread.join(20)

    assert [0] == result
    assert ["left service", "left base"] == (home.logs / "order.log").read_text().splitlines()[2:]


def test_what_is_killed_comes_back(home: Home) -> None:
    system = Supervisor(home, [[program(home, "service")]])
    thread, _ = in_background(system)
    until(lambda: status(home)["state"] == "ready")
    process = system.watched[0].process
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    until(lambda: system.watched[0].restarts == 1 and status(home)["state"] == "ready")
    system.ask_to_stop()
    thread.join(20)

    assert not alive(process.pid)
    assert {"pid": None, "state": "stopped", "restarts": 1} == status(home)["children"]["service"]  # type: ignore[index]  # JSON


def test_the_pause_before_a_restart_doubles_up_to_a_bound(home: Home) -> None:
    watched = Watched(program(home, "dying", code="raise SystemExit(1)"))
    pauses = []
    now = 0.0
    for _ in range(9):
        watched.start(now)
        assert watched.process is not None
        watched.process.wait()
        watched.look(now)
        pauses.append(watched.next_try - now)
        now = watched.next_try

    assert [0.25, 0.5, 1, 2, 4, 8, 16, 30, 30] == pauses


def test_a_long_life_forgives_earlier_deaths(home: Home) -> None:
    watched = Watched(program(home, "dying", code="raise SystemExit(1)"), failures=7)
    watched.start(0.0)
    assert watched.process is not None
    watched.process.wait()
    watched.look(supervisor.STABLE_SECONDS + 1)

    assert 1 == watched.failures


def test_a_program_that_cannot_be_started_counts_as_dead(home: Home) -> None:
    def spawn() -> subprocess.Popen[bytes]:
        return subprocess.Popen([str(home.path / "missing")])

    watched = Watched(Program("absent", spawn, lambda: True))
    watched.start(0.0)

    assert ("failed", 1) == (watched.state, watched.failures)


def test_who_ignores_the_request_to_stop_is_ended(home: Home) -> None:
    watched = Watched(program(home, "stubborn", STUBBORN))
    watched.start(0.0)
    process = watched.process
    assert process is not None
    until(watched.program.ready)
    supervisor.stop_together([watched], drain_seconds=0.3)

    assert -signal.SIGKILL == process.returncode


def test_a_failed_preparation_stops_what_was_started_and_says_why(home: Home) -> None:
    def refuse() -> None:
        raise supervisor.HomeUnusable("The migration of case failed.")

    system = Supervisor(home, [[program(home, "base")], [program(home, "service")]], before_group={1: refuse})

    assert 1 == system.run()
    assert ("failed", "The migration of case failed.") == (status(home)["state"], status(home)["reason"])
    assert ["base"] == [one.program.name for one in system.watched]
    assert [None] == [one.process for one in system.watched]


@pytest.mark.slow
def test_one_supervisor_a_home(home: Home) -> None:
    with supervisor.sole_supervisor(home) as first, supervisor.sole_supervisor(home) as second:
        assert (True, False) == (first, second)
        assert supervisor.runs(home)
    assert not supervisor.runs(home)


def test_a_process_number_that_now_belongs_to_a_stranger_is_not_believed(home: Home) -> None:
    assert not supervisor.belongs(home, os.getpid())


def test_a_long_log_is_put_aside_and_its_writer_goes_on(home: Home) -> None:
    log = home.logs / "case.jsonl"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * (supervisor.LOG_BYTES + 1))
        bound_logs(home.logs)
        writer.write(b"after")

    assert b"after" == log.read_bytes()
    assert supervisor.LOG_BYTES + 1 == (home.logs / "case.jsonl.1").stat().st_size


def test_every_service_gets_its_own_passwords_and_keys(home: Home) -> None:
    told = {service: service_environment(home, service, {}) for service in SERVICES}

    for name in ("JIKIMI_DATABASE_URL", "JIKIMI_NATS_URL", "JIKIMI_KEYS_DIR", "JIKIMI_MASTER_KEY_FILE",
                 "JIKIMI_SERVICE_KEY_FILE", "JIKIMI_LISTEN"):  # fmt: skip
        assert len(SERVICES) == len({environment[name] for environment in told.values()})
    assert "JIKIMI_CLOCK_FILE" not in told["case"]
    assert "JIKIMI_CLOCK_FILE" in service_environment(home, "case", {"JIKIMI_PROFILE": "test"})


def test_instances_have_ports_of_their_own_and_share_all_else(home: Home) -> None:
    environ = {"JIKIMI_INSTANCES": "2"}
    first, second = (service_environment(home, name, environ) for name in instances_of("case", 2))
    own = {"JIKIMI_LISTEN", "JIKIMI_METRICS_PORT"}
    assert own == {name for name in first if first[name] != second[name]}
    assert {first["JIKIMI_LISTEN"], second["JIKIMI_LISTEN"]} == set(first["JIKIMI_PEER_CASE"].split(","))


@pytest.mark.parametrize("text", ["0", "9", "two", "-1"])
def test_number_of_instances_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(HomeUnusable):
        supervisor.chosen_instances({"JIKIMI_INSTANCES": text})


def test_clients_know_every_instance_that_runs(home: Home) -> None:
    ports = home.ports("case-2")
    (home.path / "status.json").write_text(json.dumps({"children": {"postgres": {}, "case": {}, "case-2": {}}}))
    assert [f"127.0.0.1:{ports[name]}" for name in ("case", "case-2")] == home.addresses("case")
    assert [f"127.0.0.1:{ports['notify']}"] == home.addresses("notify")


def test_half_restored_home_does_not_start(home: Home) -> None:
    (home.path / supervisor.RESTORE_NOTE).write_text("{}")
    with pytest.raises(HomeUnusable, match="half restored"):
        supervisor.run(home)


@pytest.mark.slow
def test_up_twice_kill_and_down_by_command_line(tmp_path: Path) -> None:
    """The embedded servers alone: PostgreSQL and NATS come up, survive their supervisor's death, and go down."""
    folder = tmp_path / "home"

    def command(verb: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.console.supervisor", verb, *more],
            env={**os.environ, "JIKIMI_HOME": str(folder), "JIKIMI_SERVICES": "none"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    try:
        assert 0 == command("up").returncode
        first = json.loads(command("status", "--json").stdout)
        assert 0 == command("up").returncode
        assert first == json.loads(command("status", "--json").stdout)

        os.kill(first["supervisor_pid"], signal.SIGKILL)
        time.sleep(0.1)
        assert "down" == json.loads(command("status", "--json").stdout)["state"]
        assert 0 == command("up").returncode
        second = json.loads(command("status", "--json").stdout)
        assert "ready" == second["state"]
        assert first["ports"] == second["ports"]
    finally:
        stopped = command("down").returncode
        Postgres(Home(folder)).destroy()
    assert 0 == stopped
    assert not any(alive(child["pid"]) for run in (first, second) for child in run["children"].values())


def test_what_nobody_waits_for_steps_back_and_what_is_gone_is_left() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    process = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
    try:
        step_back(process, 1)
        assert min(own + 1, 19) == os.getpriority(os.PRIO_PROCESS, process.pid)
    finally:
        process.kill()
        process.wait()
    step_back(process, 1)


def test_system_ends_with_its_owner(home: Home) -> None:
    owner = subprocess.Popen(["/bin/sleep", "60"])
    system = Supervisor(home, groups=[[]], owner=owner.pid)
    owner.kill()
    owner.wait()
    assert 0 == system.run()
    assert "stopped" == system.state


def test_system_without_owner_stays_until_asked() -> None:
    assert supervisor.owner_of({}) is None
    assert supervisor.owner_of({"JIKIMI_OWNER_PID": "somebody"}) is None
    assert 7 == supervisor.owner_of({"JIKIMI_OWNER_PID": "7"})
