"""What one running system owns on this machine: its folder (`JIKIMI_HOME`), its ports, its generated
passwords.

JIKIMI_HOME/
    secrets/        one password a file, 0600, in a folder that only the owner enters
    keys/<service>/ each service's own key store
    tokens/         public/<key id>.pub for everybody, private/<service>.key for its owner
    logs/           what the processes wrote, rotated by size
    postgres/ nats/ the embedded servers' files
    ports.json      the ports, chosen once
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import secrets
import socket
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SERVICES = ("detector", "case", "removal", "notify", "gate")
PORT_NAMES = (
    "postgres",
    "nats",
    *SERVICES,
    *(f"{service}-metrics" for service in SERVICES),
    "platforms-http",
    "platforms-smtp",
    "spans",
    "prometheus",
)
LOWEST_PORT = 20_000
EPHEMERAL_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class HomeUnusable(Exception):
    """The home cannot serve; the text says why and what to do. Holds no secret."""


@dataclass(frozen=True)
class Home:
    """The folder of one system. Two homes on a machine share nothing."""

    path: Path

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """The home that JIKIMI_HOME names, by default var/home below the current folder."""
        return cls(Path(environ.get("JIKIMI_HOME") or "var/home").absolute())

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def secrets(self) -> Path:
        return self.path / "secrets"

    def keys(self, service: str) -> Path:
        return self.path / "keys" / service

    def create(self) -> None:
        """Make the folders that are missing. The home lets others pass, so that the database's own account
        can."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.path.chmod(0o711)
        for folder in (self.secrets, self.path / "keys", self.path / "tokens", self.logs):
            folder.mkdir(mode=0o700, exist_ok=True)
        for service in SERVICES:
            self.keys(service).mkdir(mode=0o700, exist_ok=True)

    def secret(self, name: str) -> str:
        """The secret of that name; made at the first call, 32 random bytes in URL-safe letters."""
        file = self.secrets / name
        with exclusive(self.path / ".secrets.lock"):
            if not file.exists():
                write_private(file, secrets.token_urlsafe(32).encode())
            return file.read_text()

    def ports(self) -> dict[str, int]:
        """The home's ports by name, chosen at the first call and kept."""
        file = self.path / "ports.json"
        with port_register() as taken:
            chosen: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
            missing = [name for name in PORT_NAMES if name not in chosen]
            if missing:
                chosen |= dict(zip(missing, free_ports(taken.values_of_others(self.path)), strict=False))
                write_private(file, json.dumps(chosen, indent=1).encode())
                taken.claim(self.path, chosen.values())
            return chosen

    def replace_port(self, name: str) -> int:
        """Choose another port for a name, because something foreign sits on the recorded one."""
        file = self.path / "ports.json"
        with port_register() as taken:
            chosen: dict[str, int] = json.loads(file.read_text())
            chosen[name] = next(free_ports(taken.values_of_others(self.path) | set(chosen.values())))
            write_private(file, json.dumps(chosen, indent=1).encode())
            taken.claim(self.path, chosen.values())
            return chosen[name]


def write_private(file: Path, content: bytes) -> None:
    """Write a file whole, readable by its owner alone."""
    part = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    part.rename(file)


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold a lock file; others wait."""
    with lock.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


class PortRegister:
    """Which home claimed which ports, for all homes of one account. Claims of homes that are gone lapse."""

    def __init__(self, file: Path) -> None:
        self.file = file
        claims: dict[str, list[int]] = json.loads(file.read_text()) if file.exists() else {}
        self.claims = {home: ports for home, ports in claims.items() if (Path(home) / "ports.json").exists()}

    def values_of_others(self, home: Path) -> set[int]:
        return {port for owner, ports in self.claims.items() if owner != str(home) for port in ports}

    def claim(self, home: Path, ports: Iterable[int]) -> None:
        self.claims[str(home)] = sorted(ports)
        write_private(self.file, json.dumps(self.claims).encode())


@contextmanager
def port_register() -> Iterator[PortRegister]:
    """The account's register, locked. It lies outside any home, because homes must see each other's
    claims."""
    folder = Path(tempfile.gettempdir()) / f"jikimi-{os.geteuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.lstat().st_uid != os.geteuid():
        raise HomeUnusable(f"{folder} belongs to another account; remove it or set TMPDIR.")
    with exclusive(folder / "ports.lock"):
        yield PortRegister(folder / "ports.json")


def free_ports(avoid: set[int]) -> Iterator[int]:
    """Ports below the range that the kernel gives to outgoing connections, nobody listening there now."""
    ceiling = int(EPHEMERAL_RANGE.read_text().split()[0]) if EPHEMERAL_RANGE.exists() else 32_768
    candidates = list(range(min(LOWEST_PORT, ceiling // 2), ceiling))
    random.shuffle(candidates)
    yield from (port for port in candidates if port not in avoid and is_free(port))


def is_free(port: int) -> bool:
    """Whether 127.0.0.1:port can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
