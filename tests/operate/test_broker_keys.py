"""Do old and new passwords of the broker both hold between the steps of a rotation, and the old one not after it?"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.console import keyring
from services.console.embedded import Nats
from services.console.home import SERVICES, Home
from tests.operate.rolling import broker_takes
from tests.scenario.system import eventually


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Nats]:
    broker = Nats(Home(tmp_path / "home"))
    broker.start()
    yield broker
    broker.stop()


@pytest.mark.slow
def test_a_retired_password_opens_nothing(broker: Nats) -> None:
    old = {service: broker.url(service) for service in SERVICES}
    assert [] == [service for service, url in old.items() if not broker_takes(url)]
    keyring.rotate(broker.home, "nats", lambda *_: None, datetime.now(UTC))
    new = {service: broker.url(service) for service in SERVICES}
    assert not set(old.values()) & set(new.values())
    assert eventually(lambda: all(map(broker_takes, new.values())), 60.0)
    assert [] == [service for service, url in old.items() if not broker_takes(url)]
    keyring.retire(broker.home, "nats", datetime.now(UTC), at_once=True)
    assert eventually(lambda: not any(map(broker_takes, old.values())), 60.0)
    assert [] == [service for service, url in new.items() if not broker_takes(url)]
