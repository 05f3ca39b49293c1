"""Do the tables keep incidents as the slow and obvious account says?"""

from __future__ import annotations

import random

import pytest

from tests.integration.case.world import World
from tests.unit.case.incident_model import Driver

_ERASE = (
    "DELETE FROM case_alias WHERE merged_case_id IN (SELECT case_id FROM \"case\" WHERE subscriber_id = :who)",
    "DELETE FROM case_separation WHERE subscriber_id = :who",
    "DELETE FROM incident_key WHERE subscriber_id = :who",
    "DELETE FROM sighting WHERE subscriber_id = :who",
    "DELETE FROM \"case\" WHERE subscriber_id = :who",
)


@pytest.mark.slow
async def test_histories_in_the_database_agree_with_the_model(world: World) -> None:
    async def erase(person: str) -> None:
        for statement in _ERASE:
            await world.sql(statement, who=person)

    for seed in range(4):
        people = [await world.person() for _ in range(2)]
        rules = world.service.needs.rules
        driver = Driver(world.service.units, rules, random.Random(seed), people, erase)
        for _ in range(60):
            await driver.step()
        await driver.compare_all()
        assert driver.opened
