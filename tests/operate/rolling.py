"""Do clients notice when every service is restarted, or when every key gives way to a new one?

    python -m tests.operate.rolling [--seconds 60] [--keys] [--json FILE]

Two instances of each service, on ports of their own. Clients call all five without pause, with the retry policy of the
services (UNAVAILABLE only), and signals come in that open cases. Meanwhile all instances are restarted one after the
other; with --keys every key is rotated before it, and retired after it. Then the books are checked. Exit status 1 where
something is not as it must be.
"""

from __future__ import annotations

import argparse
import json
import math
import secrets
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import grpc

from misuse.case.v1 import case_service_pb2 as case_pb
from misuse.detector.v1 import signal_service_pb2 as api
from misuse.gate.v1 import gate_service_pb2 as gate_pb
from misuse.notify.v1 import notify_service_pb2 as notify_pb
from misuse.removal.v1 import removal_service_pb2 as removal_pb
from services.chassis.keys import FileKeyStore, MasterKeyMismatch
from services.chassis.rpc import CHANNEL_OPTIONS, target_of
from services.chassis.tokens import Issuer, IssuerFile
from services.console import keyring
from services.console.client import Caller, staff, subscriber
from services.console.embedded import Nats
from services.console.home import SERVICES
from tests.operate.bookkeeping import read_books
from tests.scenario.doors import COLLECTOR, signal
from tests.scenario.system import System, eventually, reason_of, running_system

MOBILE = "010-0000-6193"
GATE_SECONDS = 300.0
"""What CaseLatencyReport_v1 allows at P95."""
ENDURING = ("case-evidence", "case-time", "gate-heads")
"""Keys whose public halves stay, to check what they signed."""
PAUSE = 0.1


@dataclass(frozen=True)
class Method:
    """A call that is made again and again."""

    service: str
    path: str
    caller: Caller
    body: Callable[[], bytes]


def methods(person: str, sent: list[str]) -> list[Method]:
    """One of each service; signals name the person's number in every tenth post."""

    def submit() -> bytes:
        signal_id = f"roll-{secrets.token_hex(8)}"
        sent.append(signal_id)
        text = f"[{signal_id}] 연락처 {MOBILE}" if len(sent) % 10 == 0 else f"[{signal_id}] 오늘 날씨가 좋네요"
        return api.SubmitSignalRequest(signal=signal(signal_id, text=text)).SerializeToString()

    return [
        Method("detector", "misuse.detector.v1.SignalService/SubmitSignal", COLLECTOR, submit),
        Method(
            "case",
            "misuse.case.v1.CaseService/ListCases",
            staff("OPERATOR", "CASE_HANDLING"),
            case_pb.ListCasesRequest(page_size=5).SerializeToString,
        ),
        Method(
            "notify",
            "misuse.notify.v1.NotifyService/ListInbox",
            subscriber(person),
            notify_pb.ListInboxRequest(subscriber_id=person).SerializeToString,
        ),
        Method(
            "removal",
            "misuse.removal.v1.RemovalService/ListRemovalRequests",
            staff("OPERATOR", "REMOVAL"),
            removal_pb.ListRemovalRequestsRequest(page_size=5).SerializeToString,
        ),
        Method(
            "gate",
            "misuse.gate.v1.GateService/ListGates",
            staff("RELEASE_MANAGER", "RELEASE"),
            gate_pb.ListGatesRequest().SerializeToString,
        ),
    ]


@dataclass
class Clients:
    """Threads that call without pause, each one method."""

    system: System
    chosen: Sequence[Method]
    took: list[float] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    _stop: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Clients:
        self._threads = [threading.Thread(target=self._call, args=(method,)) for method in self.chosen]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _call(self, method: Method) -> None:
        home = self.system.home
        issuer = IssuerFile(home.path / "tokens" / "private" / "issuer.key")
        target = target_of(",".join(home.addresses(method.service)))
        options = [*CHANNEL_OPTIONS, ("grpc.enable_http_proxy", 0)]
        with grpc.insecure_channel(target, options) as channel:
            call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{method.path}")
            while not self._stop.is_set():
                metadata = (("authorization", f"Bearer {_token(issuer.current(), method)}"),)
                body, began = method.body(), time.monotonic()
                try:
                    call(body, timeout=30, metadata=metadata)
                except grpc.RpcError as error:
                    self.failures[f"{method.service} {error.code().name} {reason_of(error)}"] += 1
                self.took.append(time.monotonic() - began)
                time.sleep(PAUSE)


def _token(issuer: Issuer, method: Method) -> str:
    caller = method.caller
    return issuer.issue(caller.subject, caller.role, caller.purpose, method.service, 600, caller.device_id)


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    calls: int
    failures: dict[str, int]
    call_p95_ms: float
    call_longest_ms: float
    restarts: int
    restart_seconds: float
    case_p95_seconds: float
    signals_acked: int
    signals_missing: int
    lost: dict[str, int]
    doubled: int
    invented: int
    old_keys_that_work: list[str]

    @property
    def faults(self) -> list[str]:
        """Names of what is not as it must be."""
        zero = ("failures", "signals_missing", "lost", "doubled", "invented", "old_keys_that_work")
        found = [name for name in zero if getattr(self, name)]
        return found + ([] if self.case_p95_seconds <= GATE_SECONDS else ["case_p95_seconds"])


def roll(system: System, seconds: float, services: Sequence[str] = SERVICES, *, keys: bool = False) -> Figures:
    """The whole play on a system with two instances of each service."""
    person = str(system.jikimi("subscriber", "add", "구르는 돌")["subscriber_id"])
    system.jikimi("watch", "add", person, "mobile", MOBILE)
    sent: list[str] = []
    old = Old(system, person) if keys else None
    with Clients(system, methods(person, sent)) as clients:
        time.sleep(seconds / 2)
        for family in keyring.FAMILIES if keys else ():
            keyring.rotate(system.home, family, _silent, datetime.now(UTC))
        began = time.monotonic()
        system.run("services.console.supervisor", "restart", *services)
        restarted = time.monotonic() - began
        if keys:
            time.sleep(keyring.STORING.total_seconds())
            for family in keyring.FAMILIES:
                if family not in ENDURING:
                    keyring.retire(system.home, family, datetime.now(UTC), at_once=True)
        time.sleep(seconds / 2)
    eventually(lambda: system.sql("detector", "SELECT count(*) FROM spool;").strip() == "0", 120.0)
    return _figures(system, clients, sent, restarted, 2 * len(services), old.that_work() if old else [])


def _silent(_step: str, _done: int, _whole: int) -> None:
    """Nobody watches the progress."""


def _figures(
    system: System, clients: Clients, sent: list[str], restarted: float, restarts: int, working: list[str]
) -> Figures:
    books, took = read_books(system), sorted(clients.took)
    memory = int(system.sql("detector", "SELECT count(*) FROM signal_memory WHERE state <> 1;"))
    p95 = "percentile_disc(0.95) WITHIN GROUP (ORDER BY create_time - discover_time)"
    latency = system.sql("case", f"SELECT extract(epoch FROM coalesce({p95}, interval '0')) FROM sighting;")
    unanswered = sum(count for what, count in clients.failures.items() if what.startswith("detector"))
    return Figures(
        calls=len(took),
        failures=dict(clients.failures),
        call_p95_ms=round(1000 * took[math.ceil(0.95 * len(took)) - 1], 1),
        call_longest_ms=round(1000 * took[-1], 1),
        restarts=restarts,
        restart_seconds=round(restarted, 1),
        case_p95_seconds=round(float(latency), 2),
        signals_acked=len(sent) - unanswered,
        signals_missing=max(0, len(sent) - unanswered - memory),
        lost=books.lost,
        doubled=books.doubled,
        invented=books.invented,
        old_keys_that_work=working,
    )


class Old:
    """Keys as they were before they were rotated, as a thief would have them."""

    def __init__(self, system: System, person: str) -> None:
        self.system = system
        self.person = person
        self.issuer = system.issuer
        private = system.home.path / "tokens" / "private"
        self.services = {service: Issuer.from_file(private / f"{service}.key") for service in SERVICES}
        self.masters = system.folder / "stolen"
        self.masters.mkdir()
        for service in SERVICES:
            content = (system.home.path / "keys" / f"{service}.master").read_bytes()
            (self.masters / f"{service}.master").write_bytes(content)
        self.data_keys = {service: self._data_key(service) for service in SERVICES}
        self.brokers = {service: Nats(system.home).url(service) for service in SERVICES}
        closed = [service for service, url in self.brokers.items() if not broker_takes(url)]
        if closed:
            raise AssertionError(f"the broker takes nobody as {closed} before anything was rotated")

    def that_work(self) -> list[str]:
        """Names of old keys that still do something."""
        found = []
        method = methods(self.person, [])[1]
        for name, issuer in {"issuer": self.issuer, **self.services}.items():
            if self._answer(issuer, method) != "TOKEN_KEY_UNKNOWN":
                found.append(name)
        for service, url in self.brokers.items():
            if broker_takes(url):
                found.append(f"nats:{service}")
            if not broker_takes(Nats(self.system.home).url(service)):
                found.append(f"nats:{service} has no key that works")
        for service in SERVICES:
            if self.data_keys[service] is None:
                continue  # nothing of this person was sealed there before the rotation
            if self._opens(service):
                found.append(f"master:{service}")
            if self._data_key(service) != self.data_keys[service]:
                found.append(f"data key of {service} is another")
        return found

    def _answer(self, issuer: Issuer, method: Method) -> str:
        channel = self.system.channel(method.service)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"/{method.path}")
        try:
            call(method.body(), timeout=30, metadata=(("authorization", f"Bearer {_token(issuer, method)}"),))
        except grpc.RpcError as error:
            return reason_of(error)
        return ""

    def _data_key(self, service: str) -> bytes | None:
        home = self.system.home
        return FileKeyStore(home.keys(service), home.path / "keys" / f"{service}.master").get(self.person)

    def _opens(self, service: str) -> bool:
        try:
            FileKeyStore(self.system.home.keys(service), self.masters / f"{service}.master").get(self.person)
        except MasterKeyMismatch:
            return False
        return True


def broker_takes(url: str) -> bool:
    """Whether the broker lets somebody in with this name and password. Raises OSError where none listens."""
    told = urlsplit(url)
    words = {"user": told.username, "pass": told.password, "verbose": False, "pedantic": False}
    with socket.create_connection((str(told.hostname), int(told.port or 0)), timeout=30) as line:
        line.sendall(f"CONNECT {json.dumps(words)}\r\nPING\r\n".encode())
        said = b""
        while part := line.recv(65_536):
            said += part
            if b"PONG" in said or b"-ERR" in said:
                break
    return b"PONG" in said


def main(words: Sequence[str]) -> int:
    """Plays once."""
    parser = argparse.ArgumentParser(prog="python -m tests.operate.rolling", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="load before and after, together")
    parser.add_argument("--keys", action="store_true", help="rotate and retire every key as well")
    parser.add_argument("--json", default="", help="file for the figures")
    options = parser.parse_args(words)
    with running_system(instances="2") as system:
        figures = roll(system, options.seconds, keys=options.keys)
    text = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **asdict(figures)}, indent=1)
    print(text)
    if options.json:
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).write_text(text, encoding="utf-8")
    print(f"Not as it must be: {', '.join(figures.faults)}" if figures.faults else "Nobody noticed.")
    return 1 if figures.faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
