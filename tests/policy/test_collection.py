"""What nobody may collect does not come in, and what a policy asks to be hidden is hidden."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from misuse.common.v1.signal_pb2 import CollectionBasis, SourceType
from services.detector.adapters.rules import read_rules
from services.detector.domain.channels import Channel, ChannelLevel
from services.detector.domain.signals import CaptureFacts, Door, Part, Refused, Signal

RULES = read_rules()
NOW = datetime(2026, 11, 20, tzinfo=UTC)
CHANNEL = Channel("overseas", "overseas", "Forums", 3, ChannelLevel.PUBLIC, False, "overseas", 1)
DOOR = Door(RULES.collection, frozenset(CollectionBasis.values()) - {0}, lambda _: None)
OPENLY_REACHABLE, OFFICIAL, HANDED_IN = "PUBLIC_ACCESS", "OFFICIAL_API", "USER_SUBMITTED"


def found(source_type: str, ground: str, status: int = 200) -> Signal:
    return Signal(
        signal_id="s-1",
        channel="overseas",
        channel_group="",
        source_type=SourceType.Value(f"SOURCE_TYPE_{source_type}"),
        source_url="https://forum.example/1",
        post_id="1",
        parent_url="",
        discover_time=NOW,
        publish_time=None,
        parts=(Part(text="a post"),),
        metadata=(),
        author_hash=b"",
        collection_basis=CollectionBasis.Value(f"COLLECTION_BASIS_{ground}"),
        policy_rule_id="",
        capture=CaptureFacts(http_status=status),
    )


def refused(signal: Signal) -> str:
    with pytest.raises(Refused) as caught:
        DOOR.check(signal, CHANNEL, NOW)
    return caught.value.reason


def test_dark_web_finds_come_from_openly_reachable_places_alone() -> None:
    DOOR.check(found("DARK_WEB", OPENLY_REACHABLE), CHANNEL, NOW)
    assert {"COLLECTION_REFUSED"} == {refused(found("DARK_WEB", ground)) for ground in (OFFICIAL, HANDED_IN)}


def test_no_ground_exists_for_what_was_bought_exchanged_or_taken_by_intrusion() -> None:
    assert {OFFICIAL, OPENLY_REACHABLE, HANDED_IN, "UNSPECIFIED"} == {
        name.removeprefix("COLLECTION_BASIS_") for name in CollectionBasis.keys()  # noqa: SIM118 - no mapping
    }
    DOOR.check(signal := found("WEB", OPENLY_REACHABLE), CHANNEL, NOW)
    assert "BASIS_MISSING" == refused(replace(signal, collection_basis=0))


@pytest.mark.parametrize("status", [401, 402, 403, 407, 451])
def test_a_page_behind_a_wall_is_refused_whatever_its_collector_says(status: int) -> None:
    assert "COLLECTION_REFUSED" == refused(found("WEB", OPENLY_REACHABLE, status))


def test_every_kind_of_source_has_its_grounds() -> None:
    assert set(SourceType.values()) - {0} == set(RULES.collection.grounds)
    assert all(RULES.collection.grounds.values())
