"""How the whole system is started, watched and stopped: PostgreSQL, NATS, then the five services, each its
own process.

`python -m services.console.supervisor up | down | status [--json] | restart [SERVICE…] | run`. One supervisor a
home: it holds a lock for its life, restarts what dies, and on SIGTERM or Ctrl-C stops the services first, so that
they can finish their work. JIKIMI_INSTANCES says how many instances of each service run, on ports of their own.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.keys import create_master_key
from services.chassis.tokens import create_key_pair
from services.console import observe
from services.console.embedded import Nats, Postgres, alive, stop_process, wait_until
from services.console.home import (
    INSTANCES_AT_MOST,
    SERVICES,
    Home,
    HomeUnusable,
    instances_of,
    is_free,
    service_of,
    write_private,
)

ROOT = Path(__file__).resolve().parents[2]
TICK_SECONDS = 0.1
READY_CHECK_SECONDS = 5.0
"""Each look at one that is ready makes a connection, or a process, of its own; one that dies is noticed at once."""
LOGS_SECONDS = 2.0
UP_SECONDS = 150.0
DRAIN_SECONDS = 15.0
FIRST_BACK_OFF, LONGEST_BACK_OFF = 0.25, 30.0
STABLE_SECONDS = 30.0
LOG_BYTES, LOG_COPIES = 16 * 1024 * 1024, 3
STEPS_BACK = {"removal": 5, "gate": 5}
"""How far services step back behind others on one machine: a removal has hours, and nobody waits for a record."""
FAILURES_THAT_END_UP = 4
SETTLE_SECONDS = 3.0
"""Wait after an instance is back until its neighbour is restarted: a client that met a closed door tries it again after
two seconds and a fifth at most (`rpc.CHANNEL_OPTIONS`)."""
ANOTHER_RUNS = 75
RESTORE_NOTE = "restore.json"
"""Lies in a home while a backup comes back: half of it must not run."""


@dataclass(frozen=True)
class Program:
    """Something to keep running: how it starts, how one sees that it serves, which signal asks it to stop."""

    name: str
    spawn: Callable[[], subprocess.Popen[bytes]]
    ready: Callable[[], bool]
    stop_signal: signal.Signals = signal.SIGTERM


@dataclass
class Watched:
    """A program and what has become of it. States: waiting, starting, ready, failed (waits for its next try),
    stopped."""

    program: Program
    process: subprocess.Popen[bytes] | None = None
    state: str = "waiting"
    restarts: int = 0
    failures: int = 0
    started: float = 0.0
    next_try: float = 0.0
    next_check: float = 0.0

    def start(self, now: float) -> None:
        """Start the program; one that cannot even be started counts as one that died at once."""
        self.state, self.started, self.next_check = "starting", now, now
        try:
            self.process = self.program.spawn()
        except (HomeUnusable, OSError) as error:
            print(f"{self.program.name} cannot be started: {error}", file=sys.stderr, flush=True)
            self._has_died(now)

    def look(self, now: float) -> bool:
        """Bring the state up to date, starting again what died; return whether it changed."""
        before = (self.state, self.restarts)
        if self.process is not None and self.process.poll() is not None:
            self._has_died(now)
        elif self.process is not None and now >= self.next_check:
            self._check(now)
        if self.state == "failed" and now >= self.next_try:
            self.restarts += 1
            self.start(now)
        return before != (self.state, self.restarts)

    def _has_died(self, now: float) -> None:
        self.process = None
        self.failures = 1 if now - self.started > STABLE_SECONDS else self.failures + 1
        self.next_try = now + min(FIRST_BACK_OFF * 2 ** (self.failures - 1), LONGEST_BACK_OFF)
        self.state = "failed"

    def _check(self, now: float) -> None:
        serves = self.program.ready()
        self.state = "ready" if serves else "starting"
        self.next_check = now + (READY_CHECK_SECONDS if serves else TICK_SECONDS)


@dataclass
class Supervisor:
    """Keeps groups of programs running; a group starts when all before it are ready, or, where it `waits` for nothing,
    at once. They stop in reverse."""

    home: Home
    groups: Sequence[Sequence[Program]]
    before_group: Mapping[int, Callable[[], None]] = field(default_factory=dict)
    waits: bool = True
    watched: list[Watched] = field(default_factory=list)
    state: str = "starting"
    reason: str = ""
    asked_to_stop: bool = False
    owner: int | None = None
    """Process for which the system runs; when it is gone, however it ended, the system stops."""
    logs_bounded: float = 0.0

    def ask_to_stop(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Signal handler: the loop ends at its next turn."""
        self.asked_to_stop = True

    def run(self) -> int:
        """Start everything, watch until asked to stop, stop everything. Returns the exit status."""
        try:
            for number, group in enumerate(self.groups):
                self._start_group(number, group)
            self._wait_for(self.watched)
            self._publish("ready")
            while not self.asked_to_stop:
                self._turn()
        except (HomeUnusable, OSError) as error:
            self.reason = str(error)
        finally:
            self._publish("stopping")
            self._stop_all()
            self._publish("failed" if self.reason else "stopped")
        return 1 if self.reason else 0

    def _start_group(self, number: int, group: Sequence[Program]) -> None:
        if self.asked_to_stop:
            return
        if self.waits:
            self.before_group.get(number, lambda: None)()
        fresh = [Watched(program) for program in group]
        self.watched += fresh
        for one in fresh:
            one.start(time.monotonic())
        self._publish("starting")
        if self.waits:
            self._wait_for(fresh)

    def _wait_for(self, awaited: Sequence[Watched]) -> None:
        while not self.asked_to_stop and any(one.state != "ready" for one in awaited):
            self._turn()

    def _turn(self) -> None:
        """One round: look at every program and at the owner, bound the logs, sleep a moment."""
        if self.owner is not None and not alive(self.owner):
            self.asked_to_stop = True
        if any([one.look(time.monotonic()) for one in self.watched]):
            started = self.state != "starting"
            all_ready = all(one.state == "ready" for one in self.watched)
            self._publish(("ready" if all_ready else "degraded") if started else "starting")
        if (now := time.monotonic()) >= self.logs_bounded + LOGS_SECONDS:
            bound_logs(self.home.logs)
            self.logs_bounded = now
        time.sleep(TICK_SECONDS)

    def _stop_all(self) -> None:
        """Stop group by group, the last started first."""
        for group in reversed(self.groups):
            names = {program.name for program in group}
            stop_together([one for one in self.watched if one.program.name in names])

    def _publish(self, state: str) -> None:
        """Write status.json, which `up` and `status` read."""
        self.state = state
        children = {
            one.program.name: {
                "pid": one.process.pid if one.process else None,
                "state": one.state,
                "restarts": one.restarts,
            }
            for one in self.watched
        }
        status = {
            "state": state,
            "reason": self.reason,
            "supervisor_pid": os.getpid(),
            "home": str(self.home.path),
            "ports": self.home.ports(),
            "demo": is_demo(),
            "observed": observe.is_on(),
            "profile": "test" if is_demo() else os.environ.get("JIKIMI_PROFILE") or "production",
            "children": children,
        }
        write_private(self.home.path / "status.json", json.dumps(status, indent=1).encode())


def stop_together(group: Sequence[Watched], drain_seconds: float = DRAIN_SECONDS) -> None:
    """Ask all to stop, give them one drain time together, then end what is left with all its children."""
    running = [(one, one.process) for one in group if one.process is not None]
    for one, process in running:
        if process.poll() is None:
            process.send_signal(one.program.stop_signal)
    wait_until(lambda: all(process.poll() is not None for _, process in running), drain_seconds)
    for _, process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    for one in group:
        one.state, one.process = "stopped", None


def bound_logs(folder: Path) -> None:
    """Copy a log that has grown too long aside and empty it. The writers append, so they go on
    undisturbed."""
    for log in (*folder.glob("*.jsonl"), *folder.glob("*.log")):
        if log.stat().st_size > LOG_BYTES:
            for number in range(LOG_COPIES - 1, 0, -1):
                older = log.with_name(f"{log.name}.{number}")
                if older.exists():
                    older.rename(log.with_name(f"{log.name}.{number + 1}"))
            shutil.copyfile(log, log.with_name(f"{log.name}.1"))
            os.truncate(log, 0)


def serving(port: int) -> bool:
    """Whether the gRPC server on 127.0.0.1:port says SERVING (grpc.health.v1)."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=1.0)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def service_environment(home: Home, name: str, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What an instance of a service of this home is told by its environment; what the caller set itself (profile,
    OTLP) is kept."""
    service, number = service_of(name), chosen_instances(environ)
    wanted = [each for peer in SERVICES for each in instances_of(peer, number)]
    ports = home.ports(*wanted, f"{name}-metrics")
    private = {
        "JIKIMI_HOME": str(home.path),
        "JIKIMI_SERVICE": service,
        "JIKIMI_LISTEN": f"127.0.0.1:{ports[name]}",
        "JIKIMI_DATABASE_URL": Postgres(home).url(service),
        "JIKIMI_NATS_URL": Nats(home).url(service),
        "JIKIMI_KEYS_DIR": str(home.keys(service)),
        "JIKIMI_MASTER_KEY_FILE": str(home.path / "keys" / f"{service}.master"),
        "JIKIMI_TOKEN_KEYS_DIR": str(home.path / "tokens" / "public"),
        "JIKIMI_SERVICE_KEY_FILE": str(home.path / "tokens" / "private" / f"{service}.key"),
        "JIKIMI_METRICS_PORT": str(ports[f"{name}-metrics"]),
        "JIKIMI_MODELS_DIR": environ.get("JIKIMI_MODELS_DIR") or str(ROOT / ".cache" / "models"),
        **{
            f"JIKIMI_PEER_{peer.upper()}": ",".join(f"127.0.0.1:{ports[each]}" for each in instances_of(peer, number))
            for peer in SERVICES
        },
    }
    if is_demo(environ):
        private |= {
            "JIKIMI_PROFILE": "test",
            "JIKIMI_REMOVAL_SEND": "on",
            "JIKIMI_REMOVAL_ENDPOINTS": str(home.path / "platforms" / "endpoints.json"),
        }
    if observe.is_on(environ) and not environ.get("JIKIMI_OTLP_ENDPOINT"):
        private["JIKIMI_OTLP_ENDPOINT"] = observe.endpoint(home)
    if "test" in (environ.get("JIKIMI_PROFILE"), private.get("JIKIMI_PROFILE")):
        private["JIKIMI_CLOCK_FILE"] = environ.get("JIKIMI_CLOCK_FILE") or str(home.path / "clock")
    return {**environ, **private}


def is_demo(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this system files removal requests at simulated platforms of its own and may have its clock moved."""
    return environ.get("JIKIMI_DEMO") == "on"


def platforms(home: Home) -> Program:
    """The simulated platforms of a demo: HTTP forms and a mail server on loopback."""
    ports = home.ports()
    http, smtp, state = ports["platforms-http"], ports["platforms-smtp"], home.path / "platforms"

    def spawn() -> subprocess.Popen[bytes]:
        state.mkdir(mode=0o700, exist_ok=True)
        with (home.logs / "platforms.log").open("ab") as log:
            command = ["--http-port", str(http), "--smtp-port", str(smtp), "--state", str(state)]
            return subprocess.Popen(
                [sys.executable, "-m", "tests.simulators.platform", *command],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "JIKIMI_HOME": str(home.path)},
            )

    return Program("platforms", spawn, lambda: not is_free(http) and not is_free(smtp))


def watchers(home: Home) -> list[Program]:
    """What watches the system: the receiver of spans, and Prometheus where it is installed."""
    programs = [Program("spans", lambda: observe.spawn_receiver(home), observe.serves(home, "spans"))]
    found = observe.program_of_prometheus("prometheus")
    if found is not None:
        spawn = partial(observe.spawn_prometheus, home, found)
        programs.append(Program("prometheus", spawn, observe.serves(home, "prometheus")))
    return programs


def spawn_service(home: Home, name: str, verb: str) -> subprocess.Popen[bytes]:
    """Start an instance, `python -m services.<service> <verb>`; its words go to logs/<name>.jsonl."""
    with (home.logs / f"{name}.jsonl").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{service_of(name)}", verb],
            cwd=ROOT,
            env=service_environment(home, name),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    step_back(process, STEPS_BACK.get(service_of(name), 0))
    return process


def step_back(process: subprocess.Popen[bytes], steps: int) -> None:
    """Lets a process step back behind others (nice) where processors are short; one that is gone already is left."""
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, process.pid, os.getpriority(os.PRIO_PROCESS, 0) + steps)


def migrate(home: Home, services: Sequence[str]) -> None:
    """Bring every service's database to today's schema. Raises HomeUnusable naming the service and its
    log."""
    for service, process in [(service, spawn_service(home, service, "migrate")) for service in behind(home, services)]:
        if process.wait() != 0:
            raise HomeUnusable(f"The migration of {service} failed; see {home.logs / f'{service}.jsonl'}")
    now = {service: schema_digest(service) for service in services}
    write_private(home.path / "schema.json", json.dumps(schemas(home) | now).encode())


def schemas(home: Home) -> dict[str, str]:
    """The digest of the revisions that each service's database of this home has had."""
    stamp = home.path / "schema.json"
    return dict(json.loads(stamp.read_text(encoding="utf-8"))) if stamp.exists() else {}


def behind(home: Home, services: Sequence[str]) -> list[str]:
    """The services whose database lacks revisions."""
    done = schemas(home)
    return [service for service in services if done.get(service) != schema_digest(service)]


def schema_digest(service: str) -> str:
    """What a service's revisions are today: where it did not change, a start need not load Alembic to learn that."""
    digest = hashlib.sha256()
    for revision in sorted((ROOT / "services" / service / "migrations" / "versions").glob("*.py")):
        digest.update(revision.name.encode() + b"\0" + revision.read_bytes())
    return digest.hexdigest()


def make_keys(home: Home) -> None:
    """Make the token issuer's key, each service's own signing key and master key; existing ones stay."""
    from misuse.common.v1.access_pb2 import Role  # generated; not needed by `down` and `status`

    private, public = home.path / "tokens" / "private", home.path / "tokens" / "public"
    own = {service: Role.Value(f"ROLE_SERVICE_{service.upper()}") for service in SERVICES}
    people = [role for role in Role.values()[1:] if role not in own.values()]
    create_key_pair(private, public, "issuer", people)
    for service, role in own.items():
        create_key_pair(private, public, service, [role])
        if not (home.path / "keys" / f"{service}.master").exists():
            create_master_key(home.path / "keys" / f"{service}.master")


def chosen_services(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The services to run: those that JIKIMI_SERVICES lists ("none" for none), by default all that are
    installed."""
    listed = environ.get("JIKIMI_SERVICES", "")
    if listed:
        return [service for service in SERVICES if service in listed.split(",")]
    return [service for service in SERVICES if (ROOT / "services" / service / "__main__.py").exists()]


def chosen_instances(environ: Mapping[str, str] = os.environ) -> int:
    """How many instances of each service run: JIKIMI_INSTANCES, by default one. Raises HomeUnusable."""
    text = environ.get("JIKIMI_INSTANCES") or "1"
    if not text.isdecimal() or not 1 <= int(text) <= INSTANCES_AT_MOST:
        raise HomeUnusable(f"JIKIMI_INSTANCES is not a number from 1 to {INSTANCES_AT_MOST}.")
    return int(text)


def whole_system(home: Home) -> Supervisor:
    """The supervisor of PostgreSQL, NATS and all services of a home."""
    postgres, nats, services = Postgres(home), Nats(home), chosen_services()

    def spawn_postgres() -> subprocess.Popen[bytes]:
        postgres.prepare()
        return postgres.spawn()

    def spawn_nats() -> subprocess.Popen[bytes]:
        nats.prepare()
        return nats.spawn()

    def before_services() -> None:
        postgres.provision()
        migrate(home, services)

    def program(name: str) -> Program:
        port = home.ports(name)[name]
        return Program(name, lambda: spawn_service(home, name, "serve"), lambda: serving(port))

    return Supervisor(
        home,
        groups=[
            [
                Program("postgres", spawn_postgres, postgres.ready, signal.SIGINT),
                Program("nats", spawn_nats, nats.ready),
                *([platforms(home)] if is_demo() else []),
                *(watchers(home) if observe.is_on() else []),
            ],
            [program(name) for service in services for name in instances_of(service, chosen_instances())],
        ],
        before_group={1: before_services},
        # Where there is nothing to migrate the services load while PostgreSQL starts, and wait for it themselves.
        waits=bool(behind(home, services)),
    )


def locks(handle: IO[str], kind: int) -> bool:
    """Try to lock an open file; it stays locked until it is closed."""
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def sole_supervisor(home: Home) -> Iterator[bool]:
    """Hold the home's supervisor lock; yields False when another process holds it."""
    home.create()
    with (home.path / "supervisor.lock").open("a+") as handle:
        # `runs` touches the lock for an instant to see whether it is held, hence not one try but a second of
        # them.
        if not wait_until(lambda: locks(handle, fcntl.LOCK_EX), 1.0):
            yield False
            return
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield True


def runs(home: Home) -> bool:
    """Whether a supervisor of this home is alive."""
    if not (home.path / "supervisor.lock").exists():
        return False
    with (home.path / "supervisor.lock").open() as handle:
        return not locks(handle, fcntl.LOCK_SH)


def last_status(home: Home) -> dict[str, Any]:
    """What a supervisor, perhaps one that is gone, wrote last."""
    file = home.path / "status.json"
    empty: dict[str, Any] = {
        "state": "down",
        "reason": "",
        "supervisor_pid": None,
        "home": str(home.path),
        "ports": {},
        "children": {},
    }
    return empty | (json.loads(file.read_text()) if file.exists() else {})


def read_status(home: Home) -> dict[str, Any]:
    """How the system is now: "down" when no supervisor runs, "starting" while a new one has written nothing
    yet."""
    status = last_status(home)
    if not runs(home):
        return status if status["state"] == "failed" else status | {"state": "down", "supervisor_pid": None}
    if str(status["supervisor_pid"]) != (home.path / "supervisor.lock").read_text():
        return status | {"state": "starting", "children": {}}
    return status


def stop_leftovers(home: Home) -> None:
    """End what a killed supervisor left behind. A number is believed only when that process has this home's
    environment."""
    for name, child in last_status(home)["children"].items():
        pid = child["pid"]
        if service_of(name) in (*SERVICES, "spans", "prometheus") and pid is not None and belongs(home, pid):
            stop_process(pid, signal.SIGTERM)
    Nats(home).stop()
    Postgres(home).stop()


def belongs(home: Home, pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return alive(pid) and os.fsencode(f"JIKIMI_HOME={home.path}") in words


def move_off_taken_ports(home: Home) -> None:
    """Give a new port to each name whose recorded one somebody else took while the system was down."""
    for name, port in home.ports().items():
        if not is_free(port):
            home.replace_port(name)


def owner_of(environ: Mapping[str, str]) -> int | None:
    """The process that JIKIMI_OWNER_PID names: a test or a measurement, whose system ends with it even when it was
    killed. None where nobody is named: a system that `up` started stays."""
    named = environ.get("JIKIMI_OWNER_PID", "")
    return int(named) if named.isascii() and named.isdecimal() else None


def run(home: Home) -> int:
    """Supervise in the foreground until SIGTERM or Ctrl-C."""
    with sole_supervisor(home) as alone:
        if not alone:
            print(f"Another supervisor runs for {home.path}.", file=sys.stderr)
            return ANOTHER_RUNS
        if (home.path / RESTORE_NOTE).exists():
            raise HomeUnusable("A backup is half restored here; run the same `jikimi backup restore` again.")
        stop_leftovers(home)
        (home.path / "status.json").unlink(missing_ok=True)
        move_off_taken_ports(home)
        make_keys(home)
        system = whole_system(home)
        system.owner = owner_of(os.environ)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, system.ask_to_stop)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the terminal may close
        return system.run()


def hopeless(status: Mapping[str, Any]) -> str:
    """The child that keeps dying while the system starts, or an empty text."""
    return next((name for name, child in status["children"].items() if child["restarts"] >= FAILURES_THAT_END_UP), "")


def up(home: Home, *, demo: bool = False, observed: bool = False) -> int:
    """Start a supervisor in the background, unless one runs, and wait until everything serves.

    With `demo` a system that runs without simulated platforms is stopped first and started with them; with `observed`
    one that nothing watches.
    """
    home.create()
    if observed and runs(home) and not (status := read_status(home)).get("observed"):
        print("The system runs unwatched; starting it anew with what watches it.")
        demo = demo or bool(status.get("demo"))
        down(home)
    if demo and runs(home) and not read_status(home).get("demo"):
        print("The system runs without the demo's platforms; starting it anew with them.")
        down(home)
    if not runs(home):
        with (home.logs / "supervisor.log").open("ab") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "services.console.supervisor", "run"],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={
                    **os.environ,
                    "JIKIMI_HOME": str(home.path),
                    **({"JIKIMI_DEMO": "on"} if demo else {}),
                    **({"JIKIMI_OBSERVE": "on"} if observed else {}),
                },
            )
        wait_until(lambda: runs(home) or supervisor.poll() is not None, 20.0)
    deadline = time.monotonic() + UP_SECONDS
    while (status := read_status(home))["state"] != "ready":
        bad = hopeless(status)
        if bad or not runs(home) or time.monotonic() > deadline:
            why = status["reason"] or (f"{bad} keeps failing" if bad else "not everything became ready")
            print(f"The system did not start: {why}. Logs: {home.logs}", file=sys.stderr)
            down(home)
            return 1
        time.sleep(TICK_SECONDS)
    print_status(status)
    if observed:
        tell_observers(home, status)
    return 0


def tell_observers(home: Home, status: Mapping[str, Any]) -> None:
    """Where to look."""
    print("  Traces: jikimi trace, jikimi trace CASE [--html FILE]")
    if "prometheus" in status["children"]:
        print(f"  Metrics and alerts: http://127.0.0.1:{home.ports()['prometheus']}")
    else:
        print("  Prometheus is not here (`make prometheus`, or Debian's package); each service shows its own page.")


def down(home: Home) -> int:
    """Stop the system, letting the services finish; harmless when nothing runs."""
    if not home.path.exists():
        return 0
    if runs(home):
        supervisor = int((home.path / "supervisor.lock").read_text() or 0)
        os.kill(supervisor, signal.SIGTERM)
        if not wait_until(lambda: not runs(home), 3 * DRAIN_SECONDS + 30.0):
            os.kill(supervisor, signal.SIGKILL)
            wait_until(lambda: not runs(home), 5.0)
    with sole_supervisor(home) as alone:
        if alone:
            stop_leftovers(home)
    return 0


def restart(home: Home, services: Sequence[str]) -> int:
    """Restart the instances of services one after the other, each once clients have found the one before again. With
    two instances or more no call has to wait. Returns the exit status."""
    names = [name for name in read_status(home)["children"] if service_of(name) in services]
    if not names:
        print("Nothing of that runs; start it with `jikimi up`.", file=sys.stderr)
        return 1
    for at, name in enumerate(names):
        if at and service_of(names[at - 1]) == service_of(name):
            time.sleep(SETTLE_SECONDS)
        before = read_status(home)["children"][name]["pid"]
        if before is not None and belongs(home, before):
            os.kill(before, signal.SIGTERM)
        if not wait_until(lambda name=name, before=before: _is_back(home, name, before), UP_SECONDS):  # type: ignore[misc]
            print(f"{name} did not come back; see {home.logs / f'{name}.jsonl'}", file=sys.stderr)
            return 1
        print(f"{name} serves again", flush=True)
    return 0


def _is_back(home: Home, name: str, before: int | None) -> bool:
    child = read_status(home)["children"].get(name, {})
    return child.get("state") == "ready" and child.get("pid") not in (None, before)


def print_status(status: Mapping[str, Any], *, as_json: bool = False) -> None:
    if as_json:
        print(json.dumps(status))
        return
    print(f"{status['state']}  {status['home']}")
    for name, child in status["children"].items():
        port = status["ports"].get(name, "")
        pid, restarts = child["pid"] or "-", child["restarts"]
        print(f"  {name:<10} {child['state']:<9} pid {pid:<8} port {port}  restarts {restarts}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="jikimi-supervisor", description=__doc__)
    parser.add_argument("verb", choices=("up", "down", "status", "run", "restart"))
    parser.add_argument("services", nargs="*", help="restart: which (default: all)")
    parser.add_argument("--json", action="store_true", help="status as one JSON object")
    parser.add_argument("--observe", action="store_true", help="up: with what keeps traces and metrics")
    parser.add_argument("--demo", action="store_true", help="up: with simulated platforms, in the test profile")
    options = parser.parse_args(arguments)
    home = Home.from_env()
    try:
        if options.verb == "status":
            status = read_status(home)
            print_status(status, as_json=options.json)
            return 0 if status["state"] == "ready" else 3
        if options.verb == "up":
            return up(home, demo=options.demo, observed=options.observe)
        if options.verb == "restart":
            return restart(home, options.services or SERVICES)
        return {"down": down, "run": run}[options.verb](home)
    except HomeUnusable as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
