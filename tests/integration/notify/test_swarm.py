"""A small swarm of devices over real processes: is everybody told, once and in order?"""

from __future__ import annotations

import pytest

from tests.bench.notices import measure


@pytest.mark.slow
def test_every_live_device_of_a_swarm_is_told_once_and_in_order_while_pushes_fail() -> None:
    outcome = measure(devices=50, notices=200, say=print, patience_s=120)
    assert outcome.to_live == outcome.acknowledged
    assert (0, 0) == (outcome.told_twice, outcome.out_of_order)
    assert 2 == outcome.invalid_tokens
