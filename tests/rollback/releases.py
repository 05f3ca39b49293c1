"""Which releases of Jikimi run beside each other in a test, and from where?"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jikimi_client.misuse.gate import v1 as gate_api
from services.chassis.ids import uuid7
from services.console.client import connections, staff
from services.console.home import SERVICES, Home
from tests.scenario.system import ROOT

MIGRATIONS = [f"services/{service}/migrations/versions" for service in SERVICES]
CORE = Path("services/detector/adapters/pii_core/build.py")
"""What compiles the scan's core, in releases that have one."""
LINKS = (".venv", ".tools", ".cache")


@dataclass(frozen=True)
class Release:
    """Code that can serve a home."""

    name: str
    commit: str
    root: Path

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Surroundings in which this code is imported."""
        return {**base, "PYTHONPATH": f"{self.root}{os.pathsep}{self.root / 'protos' / 'gen'}"}

    def revisions(self) -> dict[str, str]:
        """Service → its newest revision."""
        versions = {service: self.root / "services" / service / "migrations" / "versions" for service in SERVICES}
        return {service: max(file.name[:4] for file in path.glob("[0-9]*.py")) for service, path in versions.items()}


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def release_before(chosen: str = "") -> tuple[str, str]:
    """(name, commit) of the release before this one: the newest tag, where there is none the newest ancestor whose
    revisions differ, or what was `chosen`."""
    if chosen:
        return chosen, _git("rev-list", "-n", "1", chosen)
    if tag := _git("tag", "--sort=-creatordate", "--merged", "HEAD~1").splitlines()[:1]:
        return tag[0], _git("rev-list", "-n", "1", tag[0])
    newest = _git("log", "-1", "--format=%H", "--diff-filter=A", "--", *MIGRATIONS)
    commit = _git("rev-parse", f"{newest}^")
    return f"before {newest[:10]}, the newest ancestor with other revisions", commit


def lay_out(folder: Path, chosen: str = "") -> Release:
    """A worktree of the release before, or of what was `chosen`, ready to run."""
    name, commit = release_before(chosen)
    if folder.exists():
        _git("worktree", "remove", "--force", str(folder))
    folder.parent.mkdir(parents=True, exist_ok=True)
    _git("worktree", "add", "--detach", str(folder), commit)
    for link in LINKS:
        (folder / link).symlink_to((ROOT / link).resolve())
    subprocess.run([sys.executable, str(folder / "bootstrap" / "protos.py")], cwd=folder, check=True)
    release = Release(name, commit, folder)
    if (folder / CORE).exists():  # else its scan is slower than the one that runs in the field
        subprocess.run(
            [sys.executable, "-m", ".".join(CORE.with_suffix("").parts)],
            cwd=folder,
            env=release.environment(os.environ),
            check=True,
        )
    return release


def remove(release: Release) -> None:
    """Takes a worktree away again."""
    _git("worktree", "remove", "--force", str(release.root))


def today() -> Release:
    """The code of this tree."""
    return Release("today", _git("rev-parse", "HEAD"), ROOT)


def run(release: Release, surroundings: Mapping[str, str], *words: str) -> str:
    """Runs a module of a release; returns the end of what it said where it failed, else an empty text."""
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=release.root,
        env=release.environment(surroundings),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
    )
    return "" if done.returncode == 0 else (done.stderr + done.stdout)[-1500:].decode(errors="replace")


async def record(kind: str, release: str, commit: str, document: bytes) -> None:
    """Tells the gate of the system of JIKIMI_HOME what a run of tests of a kind came to, as JUnit."""
    async with connections(Home.from_env()) as services:
        stub = services.stub("gate", gate_api.GateServiceStub, staff("RELEASE_MANAGER", "RELEASE"))
        await stub.record_test_run(
            gate_api.RecordTestRunRequest(
                release=release, kind=kind, commit=commit, junit=document, request_id=uuid7()
            )
        )
