"""Do the commands for reviews and samples reach a running system?"""

from __future__ import annotations

import pytest

from tests.scenario.system import System

pytestmark = pytest.mark.slow


def test_a_system_with_few_alerts_gives_no_sample_and_nothing_to_decide(system: System) -> None:
    refused = system.run("services.console", "gate", "sample", "freeze", "precision", check=False)
    assert (1, True) == (refused.returncode, "TOO_FEW" in refused.stderr)
    assert [] == system.jikimi("gate", "sample", "show")
    assert ["BAND", "SAMPLES"] == [queue["name"] for queue in system.jikimi("review", "queue")]
    assert [] == system.jikimi("review", "disagreements", "--as", "ann")
