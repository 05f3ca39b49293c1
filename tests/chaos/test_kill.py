"""Does a process that dies, or a stream that is deleted, in the middle of the demo change what comes of it?

Two runs belong to the slow suite; all of them run with JIKIMI_CHAOS=all (`make chaos`).
"""

from __future__ import annotations

import faulthandler
import os

import pytest

from tests.chaos.run import PICTURES, Fault, Played, play

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PICTURES.exists(), reason="the demo's pictures are not there; `make setup` fetches them"),
]

PROGRAMS = ("detector", "case", "removal", "notify", "gate", "nats", "postgres")
STREAMS = ("DETECTOR", "CASE")
EVERYTHING = " ".join([*(f"kill:{program}" for program in PROGRAMS), *(f"stream:{stream}" for stream in STREAMS)])
"""All faults in one run, one after another."""
EACH = [f"{fault} {fault}" for fault in EVERYTHING.split()]
"""The same fault twice in one run: the second one meets a process that has just come back."""


def _play(faults: str) -> Played:
    # A run takes minutes on a busy machine: pytest's watchdog would take it for a hang and print all stacks.
    faulthandler.cancel_dump_traceback_later()
    return play([Fault.read(fault) for fault in faults.split()])


@pytest.fixture(scope="module")
def undisturbed() -> Played:
    """The demo without faults."""
    return _play("")


def test_demo_without_faults_keeps_its_promises(undisturbed: Played) -> None:
    summary = undisturbed.summary
    assert summary["cases_opened"] > 0
    assert (0, 0, 0) == (summary["false_cases"], summary["missed"], summary["dead_letters"])
    assert summary["notifications_sent"] == summary["notifications_acked"]
    assert summary["cases_opened"] == summary["evidence_packs"] == summary["evidence_packs_verified"]


@pytest.mark.parametrize("faults", [EVERYTHING, *EACH], ids=["everything", *(each.split()[0] for each in EACH)])
def test_faults_in_mid_run_change_no_figure(faults: str, undisturbed: Played) -> None:
    if faults != EVERYTHING and os.environ.get("JIKIMI_CHAOS") != "all":
        pytest.skip("only with JIKIMI_CHAOS=all (make chaos): a minute each")
    disturbed = _play(faults)
    assert undisturbed.figures == disturbed.figures, disturbed.words
    assert 0 == disturbed.summary["dead_letters"], disturbed.words
    killed = {fault.removeprefix("kill:") for fault in faults.split() if fault.startswith("kill:")}
    assert killed <= {name for name, restarts in disturbed.summary["restarts"].items() if restarts}
