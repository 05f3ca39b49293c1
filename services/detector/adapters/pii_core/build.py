"""How is the core of the scan generated and compiled?

`python -m services.detector.adapters.pii_core.build [--required] [--sanitize FOLDER]` puts it beside this file and does
nothing where what lies there is current. Where it cannot be had, a line says what is missing and the exit status is 0:
the scan then runs on the reference engine, which finds the same and is slower.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from services.chassis.files import replace_file
from services.detector.adapters.pii_core import PACKAGE, NotBuilt, fingerprint, load, sealed

FILE_NAME: Final = f"_core{sysconfig.get_config_var('EXT_SUFFIX')}"
_FLAGS: Final = ("-std=c11", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra", "-shared")
_FAST: Final = ("-O2", "-g0", "-DNDEBUG")
# Warnings are errors in the build that developers and CI make alone: a compiler that is newer than these sources, and
# warns of more, must not cost somebody who only installs them the fast scan. One warning is left out: what sanitizers
# put in makes gcc see variables without a value where there are none.
_SANITIZED: Final = (
    *("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"),
    *("-Werror", "-Wno-maybe-uninitialized"),
)
_OLDEST_GLIBC: Final = "2.17"
_SECONDS: Final = 900
_LOAD: Final = f"from {load.__module__} import load; load()"


class CannotBuild(Exception):
    """Something is missing or failed; the text says what."""


def main(arguments: Sequence[str]) -> int:
    """Builds what is not current. Exit status: 0 done, or not to be had and not required; else 1."""
    parser = argparse.ArgumentParser(prog="pii_core.build", description=__doc__)
    parser.add_argument("--required", action="store_true", help="fail where it cannot be built")
    parser.add_argument(
        "--sanitize", metavar="FOLDER", type=Path, help="into this folder, for the sanitizers' run-time"
    )
    given = parser.parse_args(list(arguments))
    try:
        if given.sanitize:
            build(given.sanitize, _SANITIZED)
            return 0
        with _alone():
            if not _is_current():
                print("pii_core: compiling", flush=True)
                build(PACKAGE, _FAST)
                _try()
    except (CannotBuild, OSError) as problem:
        said = f"The core of the scan is not compiled ({problem}): the reference engine finds the same, slower."
        print(said, file=sys.stderr)
        return 1 if given.required or given.sanitize else 0
    return 0


def build(folder: Path, flags: Sequence[str]) -> None:
    """Generates, compiles and puts the module into `folder` in one step. Raises CannotBuild, OSError."""
    with TemporaryDirectory(prefix="pii_core.") as work:
        library = _compiled(Path(work), flags)
        # Readable by all: who builds an image is not who runs it.
        replace_file(folder / FILE_NAME, sealed(library.read_bytes()), mode=0o644)


@contextmanager
def _alone() -> Iterator[None]:
    """One build at a time; the others wait and then find it done."""
    descriptor = os.open(PACKAGE, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _is_current() -> bool:
    try:
        load()
    except NotBuilt:
        return False
    return True


def _compiled(work: Path, flags: Sequence[str]) -> Path:
    compiler, headers = _compiler(), _headers()
    # Before the sources are read: what changes while they are compiled is not what was compiled.
    made_from = fingerprint()
    from services.detector.adapters.pii_core.generate import source

    (work / "rules.h").write_text(source(), encoding="utf-8")
    library = work / FILE_NAME
    includes = [f"-I{folder}" for folder in (work, PACKAGE, *headers)]
    command = [*compiler, *_FLAGS, *flags, f'-DFINGERPRINT="{made_from}"', *includes]
    caches = {name: str(work / "zig") for name in ("ZIG_GLOBAL_CACHE_DIR", "ZIG_LOCAL_CACHE_DIR")}
    try:
        done = subprocess.run(
            [*command, "-o", str(library), str(PACKAGE / "core.c")],
            env={**os.environ, **caches, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except FileNotFoundError:
        raise CannotBuild(f"there is no program {compiler[0]}") from None
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"{compiler[0]} took longer than {_SECONDS} seconds") from None
    if done.returncode != 0:
        lines = done.stderr.splitlines() or [f"exit status {done.returncode}"]
        raise CannotBuild(f"{compiler[0]}: {next((line for line in lines if 'error' in line), lines[-1])}")
    return library


def _compiler() -> list[str]:
    """The command that $CC names, else the compiler that is installed beside the packages, else the system's."""
    if named := os.environ.get("CC", "").split():
        return named
    if find_spec("ziglang"):
        # Told no target it would use all that this machine can, and its glibc; images run elsewhere.
        return [sys.executable, "-m", "ziglang", "cc", "-target", f"{platform.machine()}-linux-gnu.{_OLDEST_GLIBC}"]
    if shutil.which("cc"):
        return ["cc"]
    raise CannotBuild("no C compiler; Debian and Ubuntu: apt install gcc libc6-dev")


def _headers() -> list[str]:
    folders = [sysconfig.get_path("include"), sysconfig.get_path("platinclude")]
    if not any(Path(folder, "Python.h").exists() for folder in folders):
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise CannotBuild(f"no Python.h; Debian and Ubuntu: apt install python{version}-dev")
    return folders


def _try() -> None:
    """Raises CannotBuild unless a process like those that scan can load what was built; it is taken away then."""
    done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        (PACKAGE / FILE_NAME).unlink(missing_ok=True)
        raise CannotBuild((done.stderr.splitlines() or [f"loading it ends with status {done.returncode}"])[-1])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
