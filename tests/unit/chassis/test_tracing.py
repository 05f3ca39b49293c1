"""Does a hop tell how long its message waited, and does a long life become several traces?"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.chassis.ids import created_at, uuid7
from services.chassis.tracing import (
    TRACE_SECONDS,
    Hops,
    TimedIds,
    inject_traceparent,
    span_from,
    start_tracing,
    tell_case,
)


class Kept(InMemorySpanExporter):
    """What this process exported, at once."""

    provider: TracerProvider

    def spans(self) -> list[ReadableSpan]:
        self.provider.force_flush()
        return list(self.get_finished_spans())


@pytest.fixture
def exporter() -> Iterator[Kept]:
    kept = Kept()
    kept.provider = start_tracing("tests", kept)
    yield kept
    start_tracing("tests", None)
    kept.provider.shutdown()


def born(seconds_ago: float) -> str:
    """A traceparent of a trace of that age."""
    return f"00-{int(time.time() - seconds_ago):08x}{'5' * 24}-{'7' * 16}-01"


def only(exporter: Kept) -> ReadableSpan:
    (span,) = exporter.spans()
    return span


def test_a_hop_begins_when_its_message_was_ready(exporter: Kept) -> None:
    with Hops() as hops:
        hops.begin(born(10), "consume thing", {"publisher": "case"}, ready_at=time.time() - 5)
    span = only(exporter)
    assert span.attributes is not None and span.end_time is not None and span.start_time is not None
    assert 5.0 <= (span.end_time - span.start_time) / 1e9
    assert 5000 <= int(str(span.attributes["wait_ms"]))
    assert "case" == span.attributes["publisher"]


def test_what_a_hop_writes_says_which_case_it_is_about(exporter: Kept) -> None:
    with Hops() as hops:
        one = hops.begin(born(1), "one", {})
        two = hops.begin(born(1), "two", {})
        tell_case("01932c07-a9ab-7cc5-8010-000000000001", one)
        tell_case("01932c07-a9ab-7cc5-8010-000000000002", one)
        with hops.within(two):
            assert inject_traceparent() == two
            tell_case("01932c07-a9ab-7cc5-8010-000000000003")
    cases = {span.name: (span.attributes or {})["case_id"] for span in exporter.spans()}
    assert {"one": "01932c07-a9ab-7cc5-8010-000000000001", "two": "01932c07-a9ab-7cc5-8010-000000000003"} == cases


def test_hops_of_a_transaction_that_fails_say_so_without_its_words(exporter: Kept) -> None:
    with pytest.raises(ValueError), Hops() as hops:
        hops.begin(born(1), "one", {})
        raise ValueError("010-9876-5432")
    span = only(exporter)
    assert "builtins.ValueError" == (span.attributes or {})["error.type"]
    assert "9876" not in span.to_json()


def test_a_young_trace_is_gone_on_with(exporter: Kept) -> None:
    parent = born(TRACE_SECONDS - 60)
    with span_from(parent, "due pack"):
        assert inject_traceparent()[3:35] == parent[3:35]
    assert not only(exporter).links


def test_an_old_trace_is_linked_to(exporter: Kept) -> None:
    parent = born(TRACE_SECONDS + 60)
    with span_from(parent, "due close"):
        assert inject_traceparent()[3:35] != parent[3:35]
    span = only(exporter)
    assert [parent[3:35]] == [f"{link.context.trace_id:032x}" for link in span.links]
    assert span.parent is None


def test_a_caller_is_gone_on_with_however_old(exporter: Kept) -> None:
    parent = born(TRACE_SECONDS + 60)
    with span_from(parent, "Get", kind=trace.SpanKind.SERVER):
        assert inject_traceparent()[3:35] == parent[3:35]


@pytest.mark.parametrize("foreign", ["0af7651916cd43dd8448eb211c80319c", "ffffffffffffffffffffffffffffffff"])
def test_an_id_that_says_nothing_of_its_age_is_gone_on_with(exporter: Kept, foreign: str) -> None:
    with span_from(f"00-{foreign}-{'7' * 16}-01", "step"):
        assert foreign == inject_traceparent()[3:35]


def test_only_what_is_on_the_list_leaves(exporter: Kept) -> None:
    with span_from("", "step", {"case_id": "kim@example.com", "phone": "x", "late_ms": 3}):
        pass
    assert {"case_id": "<str 15>", "late_ms": 3} == dict(only(exporter).attributes or {})


def test_where_nothing_is_recorded_the_traceparent_goes_on_unchanged() -> None:
    with Hops() as hops:
        assert hops.begin(born(1), "one", {}) == born(1)


def test_a_trace_id_tells_its_second() -> None:
    made = TimedIds().generate_trace_id()
    assert abs(time.time() - (made >> 96)) < 60
    assert made != TimedIds().generate_trace_id()


def test_an_id_tells_when_it_was_made() -> None:
    assert abs(time.time() - created_at(uuid7())) < 60
    assert [0.0, 0.0] == [created_at(""), created_at("not-an-id-at-all")]
