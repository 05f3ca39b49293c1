"""What the door lets in, and when two addresses are one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from services.detector.domain.channels import Channel, ChannelLevel
from services.detector.domain.signals import (
    CaptureFacts,
    CollectionRules,
    Door,
    Pair,
    Part,
    Refused,
    Signal,
    normalised_url,
    post_key,
    usable_url,
)

NOW = datetime(2026, 11, 20, tzinfo=UTC)
CHANNEL = Channel("community", "community", "Boards", 3, ChannelLevel.PUBLIC, False, "community", 1)
OPEN = CollectionRules("1", {kind: frozenset({1, 2, 3}) for kind in range(1, 8)}, frozenset({403}))
DOOR = Door(OPEN, frozenset({1, 2, 3}), lambda data: None if data[:1] == b"i" else "NOT_AN_IMAGE")
SIGNAL = Signal(
    signal_id="s-1",
    channel="community",
    channel_group="",
    source_type=3,
    source_url="https://board.example/1",
    post_id="1",
    parent_url="",
    discover_time=NOW,
    publish_time=None,
    parts=(Part(text="글"),),
    metadata=(),
    author_hash=b"",
    collection_basis=2,
    policy_rule_id="",
    capture=CaptureFacts(),
)


def test_a_well_formed_signal_comes_in():
    DOOR.check(SIGNAL, CHANNEL, NOW)


@pytest.mark.parametrize(
    ("change", "reason", "field"),
    [
        ({"signal_id": ""}, "BAD_SIGNAL_ID", "signal_id"),
        ({"signal_id": "x" * 65}, "BAD_SIGNAL_ID", "signal_id"),
        ({"channel_group": "naver"}, "UNKNOWN_CHANNEL", "channel_group"),
        ({"discover_time": NOW + timedelta(minutes=6)}, "TIME_IN_FUTURE", "discover_time"),
        ({"publish_time": NOW + timedelta(days=1)}, "TIME_IN_FUTURE", "publish_time"),
        ({"source_type": 0}, "UNKNOWN_ENUM", "source_type"),
        ({"collection_basis": 9}, "UNKNOWN_ENUM", "collection_basis"),
        ({"collection_basis": 0}, "BASIS_MISSING", "collection_basis"),
        ({"capture": CaptureFacts(http_status=403)}, "COLLECTION_REFUSED", "capture.http_status"),
        ({"parts": ()}, "EMPTY_SIGNAL", "parts"),
        ({"parts": (Part(text="  "), Part(image=b""))}, "NOT_AN_IMAGE", "parts.image"),
        ({"parts": (Part(text=" \n"),)}, "EMPTY_SIGNAL", "parts"),
        ({"parts": (Part(text="가" * 100_000),)}, "TEXT_TOO_LARGE", "parts.text"),
        ({"parts": (Part(image=b"i" * 12_000_000),) * 2}, "SIGNAL_TOO_LARGE", "parts"),
        ({"post_id": "p" * 257}, "TEXT_TOO_LARGE", "post_id"),
        ({"account_dump": "d" * 129}, "TEXT_TOO_LARGE", "account_dump"),
        ({"source_url": ""}, "BAD_URL", "source_url"),
        ({"parent_url": "javascript:alert(1)"}, "BAD_URL", "parent_url"),
        ({"metadata": (Pair("title", "x"),) * 65}, "TOO_MANY_PAIRS", "metadata"),
        ({"metadata": (Pair("title", "x" * 5000),)}, "TEXT_TOO_LARGE", "metadata"),
        ({"capture": CaptureFacts(redirects=("http://a",) * 11)}, "BAD_URL", "capture.redirects"),
        ({"capture": CaptureFacts(tls_peer_sha256=b"short")}, "TEXT_TOO_LARGE", "capture"),
    ],
)
def test_each_rule_refuses_with_its_reason_and_field(change, reason, field):
    with pytest.raises(Refused) as refused:
        DOOR.check(replace(SIGNAL, **change), CHANNEL, NOW)
    assert (reason, field) == (refused.value.reason, refused.value.field)


@pytest.mark.parametrize("channel", [replace(CHANNEL, paused=True), replace(CHANNEL, level=ChannelLevel.BLOCKED)])
def test_a_channel_that_is_paused_or_blocked_takes_nothing(channel):
    with pytest.raises(Refused, match="CHANNEL_PAUSED"):
        DOOR.check(SIGNAL, channel, NOW)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x.example",
        "https://",
        "https://user:pw@x.example/",
        "https://x.example:99999/",
        "https://x y",
        "x" * 3000,
    ],
)
def test_what_is_no_plain_web_address_is_no_address(url):
    assert not usable_url(url)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://www.Board.example:80/a/?utm_source=x&b=2&a=1#top", "https://board.example/a?a=1&b=2"),
        ("https://m.board.example/%EA%B0%80", "https://board.example/가"),
    ],
)
def test_two_spellings_of_one_address_are_one(one, other):
    assert normalised_url(one) == normalised_url(other)


def test_another_query_is_another_address():
    assert normalised_url("https://b.example/?no=1") != normalised_url("https://b.example/?no=2")


def test_a_post_is_known_by_its_id_and_else_by_its_address():
    assert ("community", "1") == post_key(SIGNAL)
    assert ("url", "https://board.example/1") == post_key(replace(SIGNAL, post_id=""))


def test_what_is_personal_stays_out_of_the_repr():
    text = repr(replace(SIGNAL, parts=(Part(text="010-2345-6789"), Part(image=b"pixels"))))
    assert all(word not in text for word in ("010", "pixels", "board.example"))
