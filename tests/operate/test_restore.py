"""Does a small system that was saved while it worked come back whole after its home is gone? (`make restore-test`: one
with 10,000 cases.)"""

from __future__ import annotations

import pytest

from tests.operate.restore import rehearse
from tests.scenario.system import running_system

pytestmark = pytest.mark.slow


def test_system_that_was_destroyed_comes_back_whole() -> None:
    with running_system() as system:
        figures = rehearse(system, 60)
    assert [] == figures.faults, figures
    assert 0 < figures.cases_before <= figures.cases
