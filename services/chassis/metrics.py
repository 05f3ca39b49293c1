"""What does this process count and measure, and which question does each figure answer?

Every metric is declared once, at import, with its name, its labels and its question; dashboards and alerts are checked
against this table. A label takes names and codes alone, and a metric has at most `MOST_SERIES` of them: whatever comes
in by a label, ids and personal values stay out, and so does a growth without end.

Histograms carry exemplars: the trace of a measurement, now and then, so that a slow bar of a dashboard leads to one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Generic, TypeVar

import prometheus_client
from opentelemetry import trace

from services.chassis.shown import is_code

STAGE_EDGES_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
)  # fmt: skip
"""Histogram edges in seconds. 300 is an edge because a release gate asks for the share within five minutes."""
DAY_S = 86_400.0
LONG_EDGES_S = (60.0, 3600.0, 6 * 3600.0, *(days * DAY_S for days in (1, 2, 3, 5, 7, 10, 14, 30, 60, 90)))
"""For what takes days: deadlines of the law and of the gates (3, 5, 10, 30 days) are edges."""
MOST_SERIES = 400
"""Series of one metric in one process; what comes after them is counted under `OTHER`."""
OTHER = "other"
EXEMPLAR_SECONDS = 1.0
"""A series takes an exemplar at most so often, and whenever a measurement is as long as this."""

# When each series was made is of no use to anybody here, and would double the page.
prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call] # the package leaves it so

T = TypeVar("T", prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)


@dataclass(frozen=True)
class Declared:
    """One metric of the table."""

    name: str
    """As it stands on the page: counters end in `_total`, what is measured in seconds in `_seconds`."""
    kind: str
    """counter, gauge or histogram."""
    labels: tuple[str, ...]
    question: str
    """What somebody asks who looks at it."""
    edges: tuple[float, ...] = ()
    """Of a histogram."""

    @property
    def series(self) -> tuple[str, ...]:
        """Names that a query may use."""
        if self.kind == "histogram":
            return (f"{self.name}_bucket", f"{self.name}_count", f"{self.name}_sum")
        return (self.name,)


_DECLARED: dict[str, Declared] = {}


def declared() -> Mapping[str, Declared]:
    """The table: every metric of the modules that were imported, by name."""
    return MappingProxyType(_DECLARED)


class _Family(Generic[T]):
    """A metric and its series."""

    def __init__(self, about: Declared, family: T) -> None:
        if about.name in _DECLARED:
            raise ValueError(f"{about.name} is declared twice")
        _DECLARED[about.name] = about
        self.about = about
        self._family: T = family
        self._series: dict[tuple[str, ...], T] = {}

    def of(self, labels: tuple[str, ...]) -> T:
        """The series of these values, in the order in which the labels were declared."""
        known = self._series.get(labels)
        return known if known is not None else self._admit(labels)

    def _admit(self, labels: tuple[str, ...]) -> T:
        if len(labels) != len(self.about.labels):
            raise ValueError(f"{self.about.name} has the labels {self.about.labels}")
        shown = tuple(value if is_code(value) else OTHER for value in labels)
        if shown not in self._series and len(self._series) >= MOST_SERIES:
            return self._child((OTHER,) * len(labels))
        # Known under the values as they came only where those are harmless: else everything that ever came is kept.
        return self._child(shown)

    def _child(self, shown: tuple[str, ...]) -> T:
        if shown not in self._series:
            # A family without labels is its own series; the package types both alike.
            self._series[shown] = self._family.labels(*shown) if shown else self._family
        return self._series[shown]


class Counter(_Family[prometheus_client.Counter]):
    """Something that is counted."""

    def add(self, *labels: str, by: float = 1) -> None:
        """Counts. The labels' values in their order."""
        self.of(labels).inc(by)


class Gauge(_Family[prometheus_client.Gauge]):
    """Something that is so much now."""

    def set(self, value: float, *labels: str) -> None:
        """Says how much it is."""
        self.of(labels).set(value)

    def follow(self, value: Callable[[], float], *labels: str) -> None:
        """Asks whenever somebody looks at the page; in a thread of the page, so it must not wait."""
        self.of(labels).set_function(value)


class Histogram(_Family[prometheus_client.Histogram]):
    """Something that is measured."""

    def __init__(self, about: Declared, family: prometheus_client.Histogram) -> None:
        super().__init__(about, family)
        self._shown_at: dict[tuple[str, ...], float] = {}

    def observe(self, value: float, *labels: str, span: trace.Span | None = None, traceparent: str = "") -> None:
        """Adds a measurement, with the trace of `traceparent` or `span`, else the current one, as exemplar where it is
        time for one."""
        series = self.of(labels)
        if traceparent:
            sampled, trace_id = len(traceparent) == 55 and traceparent.endswith("1"), traceparent[3:35]
        else:
            context = (span or trace.get_current_span()).get_span_context()
            sampled, trace_id = context.trace_flags.sampled, ""
        if not sampled or not self._wants_exemplar(value, labels):
            series.observe(value)
            return
        series.observe(value, {"trace_id": trace_id or f"{context.trace_id:032x}"})

    def _wants_exemplar(self, value: float, labels: tuple[str, ...]) -> bool:
        now = time.monotonic()
        if value < EXEMPLAR_SECONDS and now - self._shown_at.get(labels, -EXEMPLAR_SECONDS) < EXEMPLAR_SECONDS:
            return False
        if len(self._shown_at) < MOST_SERIES or labels in self._shown_at:
            self._shown_at[labels] = now
        return True

    @contextmanager
    def timed(self, *labels: str) -> Iterator[None]:
        """Measures what is done inside, failures included."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - start, *labels)


def counter(name: str, question: str, *labels: str) -> Counter:
    """Declares a counter. The name ends in `_total`. Raises ValueError for one that is declared already."""
    family = prometheus_client.Counter(name, question, labels)
    return Counter(Declared(f"{name.removesuffix('_total')}_total", "counter", labels, question), family)


def gauge(name: str, question: str, *labels: str) -> Gauge:
    """Declares a gauge. Raises ValueError for one that is declared already."""
    return Gauge(Declared(name, "gauge", labels, question), prometheus_client.Gauge(name, question, labels))


def histogram(
    name: str, question: str, *labels: str, edges: tuple[float, ...] = STAGE_EDGES_S
) -> Histogram:
    """Declares a histogram of seconds. Raises ValueError for one that is declared already."""
    family = prometheus_client.Histogram(name, question, labels, buckets=edges)
    return Histogram(Declared(name, "histogram", labels, question, edges), family)


STAGE_SECONDS = histogram("jikimi_stage_seconds", "Which stage of the work takes the time?", "stage")


class _Timed:
    """A stage that is being measured: a class, for entering a generator costs more than what is done here."""

    __slots__ = ("_name", "_start")

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        observe_stage(self._name, time.perf_counter() - self._start)


def stage(name: str) -> _Timed:
    """Measures one stage of the work, failures included, into `jikimi_stage_seconds`."""
    return _Timed(name)


def observe_stage(name: str, seconds: float) -> None:
    """Adds one duration that was measured elsewhere, for example between two stored times."""
    STAGE_SECONDS.observe(seconds, name)
