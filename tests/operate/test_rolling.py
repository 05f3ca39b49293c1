"""Does nobody notice that both instances of a service are restarted? (`make rolling`: all services, for longer;
`make rotate-test`: while every key is changed.)"""

from __future__ import annotations

import pytest

from tests.operate.rolling import roll
from tests.scenario.system import running_system

pytestmark = pytest.mark.slow


def test_restart_of_both_instances_of_a_service_fails_no_call() -> None:
    with running_system(instances="2") as system:
        figures = roll(system, 4.0, ("notify",))
    assert [] == figures.faults, figures
    assert 2 == figures.restarts
