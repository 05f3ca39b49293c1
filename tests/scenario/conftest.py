"""What the scenarios share: one whole system whose spans are kept, and somebody who is protected in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.scenario.otlp_sink import OtlpSink, otlp_sink
from tests.scenario.system import System, eventually, running_system

MOBILE = "010-0000-4826"
MAIL = "haneul.seo@example.com"


@dataclass(frozen=True)
class Person:
    """A subscriber with a watched number and a watched address."""

    subscriber_id: str


@pytest.fixture(scope="session")
def sink() -> Iterator[OtlpSink]:
    """Where the services' spans go."""
    with otlp_sink() as opened:
        yield opened


@pytest.fixture(scope="session")
def system(sink: OtlpSink) -> Iterator[System]:
    """The whole system, started once."""
    with running_system(otlp_endpoint=f"127.0.0.1:{sink.port}") as started:
        yield started


@pytest.fixture(scope="session")
def person(system: System) -> Person:
    """Registered, consenting, with a proved number and address."""
    subscriber_id = system.jikimi("subscriber", "add", "서하늘", "--mail", MAIL)["subscriber_id"]
    system.jikimi("watch", "add", subscriber_id, "mobile", MOBILE)
    system.jikimi("watch", "add", subscriber_id, "email", MAIL)
    return Person(subscriber_id)


def cases_of(system: System, person: Person) -> list[dict[str, object]]:
    """The person's cases, as `jikimi case list` shows them."""
    found: list[dict[str, object]] = system.jikimi("case", "list", "--subscriber", person.subscriber_id)
    return found


def decided(system: System, signal_id: str) -> str:
    """The state of a signal once it is decided."""
    return eventually(lambda: (state := _state(system, signal_id)) != "SPOOLED" and state)  # type: ignore[return-value]


def _state(system: System, signal_id: str) -> str:
    return str(system.jikimi("signal", "status", signal_id)["state"]).removeprefix("SIGNAL_STATE_")
