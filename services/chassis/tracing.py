"""How does one follow what happened to a message through all services, and where it had to wait?

A *hop* is one step of the way: its span begins when the thing was ready to be taken (committed, published, due) and
ends with the transaction that dealt with it. So the time between two steps belongs to a span, and `wait_ms` says how
much of it was waiting. The `traceparent` goes with every message and row.

A trace is one chain of hops. What goes on later than `TRACE_SECONDS` after its beginning, as a case does that lives for
weeks, is a trace of its own with a *link* to the one before: a trace stays something that can be looked at whole.

Only attributes that `ATTRIBUTES` names leave the process, with values that are ids, codes or numbers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased
from opentelemetry.trace import Link, NonRecordingSpan, Span, SpanContext, SpanKind, StatusCode, TraceFlags

from services.chassis.shown import Scalar, clean_value, error_name

ATTRIBUTES = frozenset(
    {
        "analyse_ms",  # of a batch: reading what its content shows
        "case_id",  # what it was about
        "entity_id",  # what a due row was about: an opaque id
        "error.type",  # class of an exception, with the reason of a known error
        "late_ms",  # of due work: how much later than its time, by the movable clock
        "publisher",  # of an event
        "search_ms",  # of a batch: whom it concerns
        "wait_ms",  # from when it was ready to when somebody took it
    }
)
"""What a span may carry; the collector's allow-list is the same."""
TRACE_SECONDS = 3600.0
"""Older traces are linked to, not gone on with."""
LONGEST_WAIT_SECONDS = 3600.0
"""A span begins so long before its work at most."""
_OLDEST_SECONDS = 400 * 86_400.0
_QUEUE, _BATCH, _DELAY_MS = 16_384, 1_024, 500
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


_OPEN: dict[str, Span] = {}
"""Hops whose transaction runs, by their own traceparent: what is written in it says which case they are about."""


class TimedIds(RandomIdGenerator):
    """Ids of traces that begin with their second of birth (as X-Ray's do), so that a hop knows how old its trace is.
    The other 96 bits are chance."""

    def generate_trace_id(self) -> int:
        """See IdGenerator."""
        return (int(time.time()) & 0xFFFF_FFFF) << 96 | super().generate_trace_id() & (1 << 96) - 1


@dataclass
class _Process:
    """What this process traces with; nothing is recorded until it is started."""

    tracer: trace.Tracer
    recording: bool = False


_PROCESS = _Process(TracerProvider(sampler=ALWAYS_OFF, id_generator=TimedIds()).get_tracer("services"))


def start_tracing(service: str, exporter: SpanExporter | None) -> TracerProvider:
    """Makes the provider of this process, in the place of the one before. Without an exporter nothing is recorded, and
    the `traceparent` travels all the same."""
    provider = TracerProvider(
        resource=Resource.create({"service.name": service, "service.namespace": "misuse"}),
        sampler=ParentBased(ALWAYS_ON) if exporter else ALWAYS_OFF,
        id_generator=TimedIds(),
        span_limits=SpanLimits(max_span_attributes=len(ATTRIBUTES), max_links=8, max_events=1),
    )
    if exporter:
        queue = BatchSpanProcessor(
            exporter, max_queue_size=_QUEUE, max_export_batch_size=_BATCH, schedule_delay_millis=_DELAY_MS
        )
        provider.add_span_processor(queue)
    _PROCESS.tracer, _PROCESS.recording = provider.get_tracer("services"), exporter is not None
    return provider


def inject_traceparent() -> str:
    """The current span as a W3C `traceparent`; empty outside of a trace."""
    return _traceparent(trace.get_current_span().get_span_context())


def _traceparent(context: SpanContext) -> str:
    if not context.is_valid:
        return ""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


@contextmanager
def span_from(
    traceparent: str,
    name: str,
    attributes: Mapping[str, Scalar] | None = None,
    kind: SpanKind = SpanKind.CONSUMER,
    ready_at: float | None = None,
) -> Iterator[Span]:
    """A span whose parent came with a message or a call; a garbled or empty `traceparent` starts a new trace.

    `ready_at` (seconds since the epoch) is when the work could have begun. Attributes are cleaned like log values. An
    exception marks the span with its type; its words are not recorded.
    """
    span = _begin(traceparent, name, attributes or {}, kind, ready_at)
    with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield span
        except Exception as error:
            _fail(span, error)
            raise


class Hops:
    """The hops of what is dealt with together: they end with their transaction.

    `with Hops() as hops, transaction: …` marks all as failed where it raises.
    """

    def __init__(self) -> None:
        self._spans: dict[str, Span] = {}

    def begin(
        self,
        traceparent: str,
        name: str,
        attributes: Mapping[str, Scalar],
        ready_at: float | None = None,
        taken_at: float | None = None,
    ) -> str:
        """Begins one that was taken up at `taken_at` (default: now); its own traceparent. Where nothing is recorded,
        the one that came."""
        if not (_PROCESS.recording and traceparent):
            return traceparent
        span = _begin(traceparent, name, attributes, SpanKind.CONSUMER, ready_at, taken_at)
        own = _traceparent(span.get_span_context())
        if span.is_recording():
            self._spans[own] = _OPEN[own] = span
        return own

    @contextmanager
    def within(self, own: str) -> Iterator[None]:
        """What is done inside belongs to the hop."""
        span = self._spans.get(own)
        if span is None:
            span = NonRecordingSpan(_parse_traceparent(own))
        with trace.use_span(span, end_on_exit=False, record_exception=False, set_status_on_exception=False):
            yield

    def __enter__(self) -> Hops:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for own, span in self._spans.items():
            _OPEN.pop(own, None)
            if isinstance(error, Exception):
                _fail(span, error)
            span.end()
        self._spans.clear()


def tell_case(case_id: str, traceparent: str | None = None) -> None:
    """Notes which case a hop, or the current span, is about; the first one holds."""
    if not _PROCESS.recording:
        return
    span = trace.get_current_span() if traceparent is None else _OPEN.get(traceparent)
    if span is None:
        span = trace.get_current_span()
    if span.is_recording() and "case_id" not in (getattr(span, "attributes", None) or {}):
        span.set_attributes(_clean({"case_id": case_id}))


def _begin(
    traceparent: str,
    name: str,
    attributes: Mapping[str, Scalar],
    kind: SpanKind,
    ready_at: float | None,
    taken_at: float | None = None,
) -> Span:
    now = time.time() if taken_at is None else taken_at
    began = now if ready_at is None else min(now, max(ready_at, now - LONGEST_WAIT_SECONDS))
    waited = {} if ready_at is None else {"wait_ms": round((now - began) * 1000)}
    parent, links = _parent(traceparent, now, join=kind is SpanKind.SERVER)
    return _PROCESS.tracer.start_span(
        name,
        parent,
        kind,
        _clean({**attributes, **waited}),
        links,
        start_time=round(began * 1e9),
        record_exception=False,
        set_status_on_exception=False,
    )


def _parent(traceparent: str, now: float, *, join: bool) -> tuple[Context, tuple[Link, ...]]:
    """The span to go on from; for one that is too old, none and a link to it. A caller is always gone on from."""
    context = _parse_traceparent(traceparent)
    if not context.is_valid or join or _age(context.trace_id, now) < TRACE_SECONDS:
        return trace.set_span_in_context(NonRecordingSpan(context)), ()
    return trace.set_span_in_context(trace.INVALID_SPAN), (Link(context),)


def _age(trace_id: int, now: float) -> float:
    """Seconds since the trace began; 0 for one whose id somebody else made and that says nothing of it."""
    age = now - (trace_id >> 96)
    return age if 0.0 <= age <= _OLDEST_SECONDS else 0.0


def _clean(attributes: Mapping[str, Scalar]) -> dict[str, bool | int | float | str]:
    return {
        key: value
        for key, item in attributes.items()
        if key in ATTRIBUTES and (value := clean_value(item)) is not None
    }


def _fail(span: Span, error: Exception) -> None:
    span.set_status(StatusCode.ERROR)
    span.set_attribute("error.type", error_name(error))


def _parse_traceparent(text: str) -> SpanContext:
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return trace.INVALID_SPAN_CONTEXT
    flags = TraceFlags(int(match[3], 16))
    return SpanContext(int(match[1], 16), int(match[2], 16), is_remote=True, trace_flags=flags)
