"""How the Python environments come to be: `.venv` (runtime, servers, tests), `.tools` (code generation,
linters) and, for those who ask by name, `.triton` (a real Triton server for its tests), `.load` (what makes the load of
`make load`), `.peers` and `.presidio` (what the benchmarks of faces and of personal data are compared with), `.deploy`
(what checks Kubernetes files). What `.venv` holds on request only is an extra: `ocr` reads texts in pictures;
`compiler` compiles the core of the scan on a machine that has no C compiler, and comes unasked there.

Standard library only: it runs before anything is installed. Each environment is made from hash-pinned locks
and carries a stamp of them; a second run with the same locks does nothing. Usage: `python3
bootstrap/environments.py [triton|load|peers|presidio|deploy|ocr|compiler]`.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST, NEWEST = (3, 11), (3, 13)
RECIPE = "1"  # raise it when the way an environment is made changes


class CannotSetUp(Exception):
    """The machine lacks something; the text says what and which package brings it."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment: its folder and the locks (names in requirements/) that fill it."""

    folder: Path
    locks: tuple[str, ...]
    runs_the_project: bool
    alone: tuple[str, ...] = ()
    """Locks of packages that are installed without those they ask for."""
    newest: tuple[int, int] = NEWEST

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def stamp(self) -> Path:
        return self.folder / ".made-from"

    def wanted(self) -> str:
        """Digest of all that decides what the environment holds."""
        digest = hashlib.sha256(f"{RECIPE} {sys.version_info[:3]} {ROOT}".encode())
        for lock in ("installer", *self.locks, *self.alone):
            digest.update((ROOT / "requirements" / f"{lock}.txt").read_bytes())
        return digest.hexdigest()

    def ready(self) -> bool:
        return self.python.exists() and self.stamp.exists() and self.stamp.read_text() == self.wanted()


ENVIRONMENTS = (
    Environment(ROOT / ".venv", ("runtime", "embedded", "dev"), runs_the_project=True),
    Environment(ROOT / ".tools", ("tools",), runs_the_project=False),
)

ON_REQUEST = {
    "triton": Environment(
        ROOT / ".triton", ("triton",), runs_the_project=False, alone=("triton_server",), newest=(3, 12)
    ),
    "presidio": Environment(ROOT / ".presidio", ("presidio",), runs_the_project=False),
    "load": Environment(ROOT / ".load", ("load",), runs_the_project=False),
    "peers": Environment(ROOT / ".peers", ("peers",), runs_the_project=False, alone=("peers_alone",)),
    "deploy": Environment(ROOT / ".deploy", ("deploy",), runs_the_project=False, alone=("deploy_alone",)),
}


@dataclass(frozen=True)
class Extra:
    """A lock that adds to an environment what not every machine needs. It asks for nothing that is not there."""

    environment: Environment
    lock: str

    @property
    def stamp(self) -> Path:
        return self.environment.folder / f".with-{self.lock}"

    def wanted(self) -> str:
        """Digest of all that decides what is added."""
        lock = (ROOT / "requirements" / f"{self.lock}.txt").read_bytes()
        return hashlib.sha256(self.environment.wanted().encode() + lock).hexdigest()


EXTRAS = {name: Extra(ENVIRONMENTS[0], name) for name in ("ocr", "compiler")}


def check_machine(wanted: Sequence[Environment]) -> None:
    """Raise CannotSetUp, naming the Debian package, when this machine cannot make an environment."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise CannotSetUp(f"Linux on x86-64 is needed, this is {platform.system()} on {platform.machine()}.")
    newest = min(environment.newest for environment in wanted)
    if not OLDEST <= sys.version_info[:2] <= newest:
        raise CannotSetUp(
            f"Python 3.11 to 3.{newest[1]} is needed, {sys.executable} is {platform.python_version()}. "
            "Debian and Ubuntu: apt install python3.11 python3.11-venv, then make PYTHON=python3.11"
        )
    for module in ("venv", "ensurepip"):
        if importlib.util.find_spec(module) is None:
            raise CannotSetUp(
                f"Python's module {module} is missing. Debian and Ubuntu: apt install python3-venv "
                f"(or python{sys.version_info[0]}.{sys.version_info[1]}-venv)"
            )


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Let one process at a time make the thing of that name; the others wait and then find it made."""
    folder = ROOT / ".cache" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(*command: str | Path) -> None:
    """Run a command of the set-up; its output is shown only when it fails."""
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(
            [str(part) for part in command], stdout=output, stderr=subprocess.STDOUT, cwd=ROOT
        )
        if done.returncode != 0:
            output.seek(0)
            words = " ".join(str(part) for part in command[:4])
            said = "".join(line for line in output if not line.startswith("WARNING"))[-4000:]
            raise CannotSetUp(
                f"{said}\n{words} … failed. Run the same command again: what was downloaded is kept."
            )


def install(environment: Environment, *locks: str, alone: bool = False) -> None:
    """Install locks with their hashes; wheels only, so that nothing is compiled and no foreign set-up code
    runs."""
    without = ["--no-deps"] if alone else []
    names = [part for lock in locks for part in ("-r", f"requirements/{lock}.txt")]
    resume = ["--resume-retries", "10"] if locks != ("installer",) else []
    run(
        environment.python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--require-hashes",
        "--only-binary",
        ":all:",
        "--retries",
        "10",
        "--timeout",
        "60",
        *resume,
        *without,
        *names,
    )


def connect_project(environment: Environment) -> None:
    """Put the sources and the generated contracts on the path, and `jikimi` into the environment's bin."""
    site = next((environment.folder / "lib").glob("python3.*")) / "site-packages"
    (site / "jikimi.pth").write_text(f"{ROOT}\n{ROOT / 'protos' / 'gen'}\n")
    command = environment.folder / "bin" / "jikimi"
    command.write_text(f'#!/bin/sh\nexec "{environment.python}" -m services.console "$@"\n')
    command.chmod(0o755)


def make(environment: Environment) -> None:
    """Make the environment if it is missing or its locks changed; a half-made one is completed or made
    anew."""
    if environment.ready():
        return
    name = environment.folder.name
    print(f"{name}: installing {', '.join(environment.locks)}", flush=True)
    started_as = environment.folder / ".python"
    version = platform.python_version()
    if not started_as.exists() or started_as.read_text() != version or not environment.python.exists():
        shutil.rmtree(environment.folder, ignore_errors=True)
        run(sys.executable, "-m", "venv", environment.folder)
        started_as.write_text(version)
    environment.stamp.unlink(missing_ok=True)
    install(environment, "installer")
    install(environment, *environment.locks)
    if environment.alone:
        install(environment, *environment.alone, alone=True)
    if environment.runs_the_project:
        connect_project(environment)
    environment.stamp.write_text(environment.wanted())
    print(f"{name}: ready", flush=True)


def add(extra: Extra) -> None:
    """Install an extra if it is missing or its lock or its environment changed."""
    if extra.stamp.exists() and extra.stamp.read_text() == extra.wanted():
        return
    print(f"{extra.environment.folder.name}: adding {extra.lock}", flush=True)
    install(extra.environment, extra.lock)
    extra.stamp.write_text(extra.wanted())


def add_compiler() -> None:
    """Install a C compiler where there is none and one is of use. The system runs without: its absence stops nobody."""
    if os.environ.get("CC") or shutil.which("cc") or not Path(sysconfig.get_path("include"), "Python.h").exists():
        return
    try:
        add(EXTRAS["compiler"])
    except CannotSetUp as error:
        print(f"No C compiler was added: {error}", file=sys.stderr)


def main(names: Sequence[str]) -> int:
    if not set(names) <= {*ON_REQUEST, *EXTRAS}:
        print(f"usage: environments.py [{'|'.join([*ON_REQUEST, *EXTRAS])}]", file=sys.stderr)
        return 2
    extras = [EXTRAS[name] for name in names if name in EXTRAS]
    asked = [ON_REQUEST[name] for name in names if name in ON_REQUEST]
    wanted = [*asked, *(extra.environment for extra in extras)] or list(ENVIRONMENTS)
    try:
        check_machine(wanted)
        with locked("environments"), ThreadPoolExecutor(len(wanted)) as pool:
            list(pool.map(make, wanted))
            list(map(add, extras))
            if not names:
                add_compiler()
    except CannotSetUp as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
