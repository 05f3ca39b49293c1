"""What does the gate say of a load, and does a calculation of its own over the same rows agree?"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jikimi_client.misuse.gate import v1 as gate_api
from services.console import gate_commands
from services.console.client import connections, staff
from tests.load.raw import Raw, nearest_rank
from tests.scenario.system import ROOT, System

REPORT = "CaseLatencyReport_v1"
REGRESSION = ROOT / "tests" / "regression"


@dataclass(frozen=True)
class Verdict:
    """The gate's report on a load."""

    outcome: str
    figure_outcome: str
    """Of the figure alone, without the tests that a release needs."""
    reasons: Sequence[str]
    value_ms: float | None
    """None where it is infinite or nothing was measured."""
    size: int
    required: int
    own_value_ms: float | None
    """The independent calculation, None where it is infinite or there is nothing."""
    own_size: int
    document: dict[str, Any]
    files: Sequence[Path]

    @property
    def agrees(self) -> bool:
        """Whether gate and independent calculation say the same, to the last digit."""
        return (self.value_ms, self.size) == (self.own_value_ms, self.own_size)

    @property
    def status(self) -> int:
        """Exit status: 0 passed, 1 failed, 2 inconclusive, 3 error; two figures that differ are an error."""
        return gate_commands.STATUS[self.outcome] if self.agrees else gate_commands.STATUS["ERROR"]


async def judge(system: System, release: str, raw: Raw, junit: Path | None, folder: Path) -> Verdict:
    """Records the regression run, where there is one, has the gate evaluate the release, reads its report."""
    own = raw.latencies_ms
    async with connections(system.home) as services:
        caller = staff("RELEASE_MANAGER", "RELEASE")
        stub = services.stub("gate", gate_api.GateServiceStub, caller, seconds=300)
        if junit is not None:
            await stub.record_test_run(
                gate_api.RecordTestRunRequest(
                    release=release,
                    kind="REGRESSION",
                    commit=commit_of_this(),
                    junit=junit.read_bytes(),
                    request_id=secrets.token_hex(16),
                )
            )
        decision = await gate_commands.judge(services, release, "ALL")
        [report] = [each for each in decision.reports if each.name == REPORT]
        files = await gate_commands.save_reports(services, [report.report_id], folder)
    document = json.loads(next(file for file in files if file.suffix == ".json").read_text(encoding="utf-8"))
    value = nearest_rank(own, 95) if own else None
    return Verdict(
        outcome=document["outcome"],
        figure_outcome=document["figure_outcome"],
        reasons=document["reasons"],
        value_ms=document["value"]["number"],
        size=document["sample"]["size"],
        required=document["sample"]["required"],
        own_value_ms=None if value == float("inf") else value,
        own_size=len(own),
        document=document,
        files=files,
    )


def run_regression(file: Path) -> Path | None:
    """Runs the regression tests of this tree and returns their JUnit file; None where the tree has none: then the gate
    says that a test run is missing, as it must. They need no running system."""
    if not REGRESSION.exists():
        return None
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not slow", f"--junitxml={file}", str(REGRESSION)]
    # A failed test is the gate's business, which reads the file.
    subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return file


def commit_of_this() -> str:
    """The commit of the tree; "unknown" where there is none."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
