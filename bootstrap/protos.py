"""How `protos/misuse` becomes Python: messages and grpcio stubs in `protos/gen/misuse`, the clients' typed
package in `protos/gen/jikimi_client`.

Runs the generators of `.tools`; needs nothing itself. A digest of all inputs stands beside the output, so
that a second run does nothing, and the output is swapped in whole. Usage: `python3 bootstrap/protos.py`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from environments import ENVIRONMENTS, ROOT, CannotSetUp, locked

PROTOS = ROOT / "protos"
OUTPUT = PROTOS / "gen"
STAMP = ".made-from"
TOOLS = ENVIRONMENTS[1]


def sources() -> list[Path]:
    return sorted((PROTOS / "misuse").rglob("*.proto"))


def wanted() -> str:
    """Digest of everything that decides the output."""
    digest = hashlib.sha256(Path(__file__).read_bytes() + TOOLS.stamp.read_bytes())
    for path in sources():
        digest.update(f"{path.relative_to(PROTOS)}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def generate(into: Path, *flags: str) -> None:
    """Run protoc over all sources with the plug-ins that the flags name."""
    search = f"{TOOLS.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(TOOLS.python), "-m", "grpc_tools.protoc", "-I", str(PROTOS), *flags, *map(str, sources())],
        cwd=into,
        env={**os.environ, "PATH": search},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise CannotSetUp(f"{done.stderr}\nThe contracts could not be generated.")


def generate_all(fresh: Path) -> None:
    """Fill a folder with both packages. They cannot share one: both would own the module names."""
    (fresh / "jikimi_client").mkdir(parents=True)
    generate(fresh, "--python_out=.", "--grpc_python_out=.", "--mypy_out=quiet:.", "--mypy_grpc_out=quiet:.")
    generate(fresh, "--python_betterproto_out=jikimi_client")
    for folder in (fresh / "misuse", *(path for path in (fresh / "misuse").rglob("*") if path.is_dir())):
        (folder / "__init__.py").touch()


def swap_in(fresh: Path) -> None:
    """Replace the output at once; a reader sees the old or the new package, never a half-written one."""
    old = OUTPUT.with_name(".gen.old")
    shutil.rmtree(old, ignore_errors=True)
    if OUTPUT.exists():
        OUTPUT.rename(old)
    fresh.rename(OUTPUT)
    shutil.rmtree(old, ignore_errors=True)


def main() -> int:
    try:
        with locked("protos"):
            stamp = OUTPUT / STAMP
            if stamp.exists() and stamp.read_text() == wanted():
                return 0
            fresh = OUTPUT.with_name(".gen.new")
            shutil.rmtree(fresh, ignore_errors=True)
            generate_all(fresh)
            (fresh / STAMP).write_text(wanted())
            swap_in(fresh)
    except CannotSetUp as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
