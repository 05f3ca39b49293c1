"""How does a test get a whole system? Its own home, PostgreSQL, NATS and the five services, a platform simulator."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.rpc import error_details_pb2  # type: ignore[import-untyped] # no stubs
from grpc_status import rpc_status

from services.chassis.tokens import Issuer
from services.console.client import Caller
from services.console.embedded import Nats, Postgres
from services.console.home import Home
from services.console.supervisor import read_status
from tests.simulators.platform import PlatformSimulator

ROOT = Path(__file__).resolve().parents[2]
LARGEST_MESSAGE = 64 * 1024 * 1024
T = TypeVar("T")


@dataclass
class System:
    """A running system. `folder` holds the home and what the simulated platforms received."""

    folder: Path
    environment: Mapping[str, str]
    simulator: PlatformSimulator
    channels: dict[str, grpc.Channel] = field(default_factory=dict)

    @property
    def home(self) -> Home:
        return Home(self.folder / "home")

    @property
    def issuer(self) -> Issuer:
        """Signs tokens for everybody but the services."""
        return Issuer.from_file(self.home.path / "tokens" / "private" / "issuer.key")

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs a Python module as a person would, on this system."""
        command = [sys.executable, "-m", *words]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{words} ended with {done.returncode}: {done.stderr[-2000:]} {done.stdout[-500:]}")
        return done

    def jikimi(self, *words: str) -> Any:
        """Runs `jikimi … --json` and returns what it says."""
        return json.loads(self.run("services.console", *words, "--json").stdout)

    def token(self, caller: Caller, service: str) -> str:
        """A token of a quarter of an hour."""
        return self.issuer.issue(caller.subject, caller.role, caller.purpose, service, 900, caller.device_id)

    def channel(self, service: str) -> grpc.Channel:
        """A plain channel to a service, opened once."""
        if service not in self.channels:
            options = [("grpc.max_send_message_length", LARGEST_MESSAGE), ("grpc.enable_http_proxy", 0)]
            self.channels[service] = grpc.insecure_channel(f"127.0.0.1:{self.home.ports()[service]}", options)
        return self.channels[service]

    def status(self) -> dict[str, Any]:
        """What the supervisor says."""
        return read_status(self.home)

    def kill(self, program: str) -> None:
        """kill -9 of one program; the supervisor starts it again."""
        os.kill(self.status()["children"][program]["pid"], signal.SIGKILL)

    def sql(self, service: str, query: str) -> str:
        """Asks a service's database directly, as administrator."""
        return Postgres(self.home).sql(query, service)

    def nats_url(self) -> str:
        """URL of the account that may do everything."""
        return Nats(self.home).url("ops")

    def close(self) -> None:
        """Stops everything; the folder stays."""
        for channel in self.channels.values():
            channel.close()
        self.run("services.console.supervisor", "down", check=False)


@contextmanager
def running_system(*, site: Path | None = None, **settings: str) -> Iterator[System]:
    """A system on a fresh home, profile test; `settings` are further JIKIMI_ variables, without the prefix. What lies
    in `site` its programs import before everything else.
    Everything is gone afterwards, unless JIKIMI_KEEP is set, which leaves the folder and names it."""
    folder = Path(tempfile.mkdtemp(prefix="jikimi-whole-"))
    folder.chmod(0o711)
    try:
        with PlatformSimulator(folder / "platforms") as simulator:
            system = System(folder, _environment(folder, settings, site), simulator)
            try:
                system.run("services.console.supervisor", "up")
                yield system
            finally:
                system.close()
    finally:
        if os.environ.get("JIKIMI_KEEP"):
            print(f"kept: {folder}")
        else:
            Postgres(Home(folder / "home")).destroy()
            shutil.rmtree(folder, ignore_errors=True)


def _environment(folder: Path, settings: Mapping[str, str], site: Path | None) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("JIKIMI_")}
    return {
        **inherited,
        "JIKIMI_OWNER_PID": str(os.getpid()),
        "PYTHONPATH": os.pathsep.join(map(str, filter(None, (site, ROOT, ROOT / "protos" / "gen")))),
        "JIKIMI_HOME": str(folder / "home"),
        "JIKIMI_PROFILE": "test",
        "JIKIMI_REMOVAL_SEND": "on",
        "JIKIMI_REMOVAL_ENDPOINTS": str(folder / "platforms" / "endpoints.json"),
        **{f"JIKIMI_{name.upper()}": value for name, value in settings.items()},
    }


def reason_of(error: grpc.RpcError) -> str:
    """The UPPER_SNAKE reason of a refusal; the status' name where there is none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return str(error.code().name)


def eventually(look: Callable[[], T], seconds: float = 30.0) -> T:
    """What `look` returns once it is true; its last answer when the time is over."""
    deadline = time.monotonic() + seconds
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found
