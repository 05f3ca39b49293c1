"""Does any history of incidents end as the slow and obvious account says?"""

from __future__ import annotations

import random

import pytest

from services.case.adapters.rules import load_rules
from services.case.domain.people import Subscriber
from services.case.domain.words import SubscriberState
from tests.unit.case.incident_model import START, Driver
from tests.unit.case.memory import MemoryUnit

RULES = load_rules()
PEOPLE = ["one", "other", "third"]


async def history(seed: int, steps: int) -> Driver:
    """Takes the steps of one history; the model is asked after each."""
    unit = MemoryUnit()
    unit.subscribers.people = {
        person: Subscriber(person, SubscriberState.ACTIVE, "ko", False, START, 1) for person in PEOPLE
    }
    driver = Driver(unit, RULES, random.Random(seed), list(PEOPLE), erase=unit.cases.erase)
    for step in range(steps):
        try:
            await driver.step()
        except AssertionError as difference:
            raise AssertionError(f"history {seed}, step {step}: {difference}") from difference
    await driver.compare_all()
    assert driver.opened == unit.told.count("CaseOpened")
    return driver


async def test_short_histories_agree_with_the_model() -> None:
    for seed in range(20):
        await history(seed, 50)


@pytest.mark.slow
@pytest.mark.parametrize("first", [1000, 1250])
async def test_twice_twenty_five_thousand_steps_agree_with_the_model(first: int) -> None:
    for seed in range(first, first + 250):
        await history(seed, 100)
