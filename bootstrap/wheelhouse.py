"""How do the wheels of each service's image come together, with a bill of materials?

`.venv/bin/python bootstrap/wheelhouse.py [IMAGE…]` puts every wheel that a lock of requirements/services (or of
requirements, for Locust and for the compiler of the detector's build) names into var/wheelhouse/IMAGE and a CycloneDX
bill of materials into var/sbom. An image is built from these alone, so the folder is also what is carried to a place
without a network. Needs `.deploy` for the bills.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCKS = ROOT / "requirements" / "services"
BESIDE = {name: ROOT / "requirements" / f"{name}.txt" for name in ("load", "compiler")}
"""Locks of what belongs to no service: Locust's image, and the compiler that the detector's image is built with."""
BUILT_WITH = {"detector": "compiler", "detector-gpu": "compiler"}
WHEELS, BILLS = ROOT / "var" / "wheelhouse", ROOT / "var" / "sbom"
SECONDS = 1800


def main(names: list[str]) -> int:
    """Fills the wheelhouses of the images named, or of all but the GPU variant, which is large."""
    known = sorted(file.stem for file in [*LOCKS.glob("*.txt"), *BESIDE.values()])
    if not set(names) <= set(known):
        print(f"usage: wheelhouse.py [{'|'.join(known)}]…", file=sys.stderr)
        return 2
    asked = names or [name for name in known if not name.endswith("-gpu")]
    for name in sorted({*asked, *(BUILT_WITH[name] for name in asked if name in BUILT_WITH)}):
        fill(name)
        write_bill(name)
        wheels = list((WHEELS / name).glob("*.whl"))
        size = sum(wheel.stat().st_size for wheel in wheels) / 1e6
        print(f"{name}: {len(wheels)} wheels, {size:.0f} MB", flush=True)
    return 0


def lock(name: str) -> Path:
    """The hash-pinned list of an image's packages."""
    return BESIDE.get(name, LOCKS / f"{name}.txt")


def fill(name: str) -> None:
    """Brings var/wheelhouse/NAME to what the lock says; a wheel that is of no use any more goes."""
    fresh = WHEELS / f".{name}.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--require-hashes"]
    command += ["--only-binary", ":all:", "--no-deps", "--dest", str(fresh), "--find-links", str(WHEELS / name)]
    (WHEELS / name).mkdir(exist_ok=True)
    subprocess.run([*command, "-r", str(lock(name))], check=True, timeout=SECONDS)
    shutil.rmtree(WHEELS / name)
    fresh.rename(WHEELS / name)


def write_bill(name: str) -> None:
    """var/sbom/NAME.cdx.json: every package with version and hashes, the same bytes for the same lock."""
    program = ROOT / ".deploy" / "bin" / "cyclonedx-py"
    if not program.exists():
        raise SystemExit("cyclonedx-py is missing: python3 bootstrap/environments.py deploy")
    BILLS.mkdir(parents=True, exist_ok=True)
    command = [str(program), "requirements", str(lock(name)), "--output-reproducible"]
    command += ["--output-format", "JSON", "--output-file", str(BILLS / f"{name}.cdx.json")]
    subprocess.run(command, check=True, timeout=300, capture_output=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
