"""Do the durables whose backlog asks for replicas exist in a running system, and does each service follow as said?"""

from __future__ import annotations

import nats
import pytest

from deploy.manifests import declared
from deploy.manifests.workloads import backlog_consumers
from services.chassis.config import Config
from services.console.embedded import Nats
from services.console.home import SERVICES
from tests.scenario.system import System

pytestmark = pytest.mark.slow


async def test_backlogs_that_scale_are_those_of_durables_that_exist(system: System) -> None:
    client = await nats.connect(Nats(system.home).url("ops"))
    try:
        found = {
            (publisher, consumer.name)
            for publisher in SERVICES
            for consumer in await client.jetstream().consumers_info(publisher.upper())
        }
    finally:
        await client.close()
    watched = {pair for service in SERVICES for pair in backlog_consumers(service, Config.partitions)}
    followed = {(publisher, service) for service in SERVICES for publisher in declared.followed(service)}
    assert set() == watched - found
    assert followed == {(publisher, name.rsplit("_", 2)[0]) for publisher, name in found}
