"""What does a trace look like to somebody who asks why it took so long?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from services.console.spans import Span

FAILED = "failed"


@dataclass(frozen=True)
class Line:
    """One span in its place: how deep, and where its bar begins and ends in the whole trace (shares from 0 to 1)."""

    span: Span
    depth: int
    begin: float
    taken: float
    """Where waiting ends and work begins."""
    end: float
    slowest: bool
    """Whether more of the time went here than anywhere else, its own children left out."""

    @property
    def what(self) -> str:
        """Its name without the package of a call."""
        return self.span.name.removeprefix("misuse.")

    @property
    def notes(self) -> str:
        """What it says of itself besides waiting."""
        shown = []
        if self.span.waited >= 0.001:
            shown.append(f"waited {duration(self.span.waited)}")
        for key, word in (("analyse_ms", "analysed"), ("search_ms", "searched")):
            if key in self.span.attributes:
                shown.append(f"{word} {duration(float(self.span.attributes[key]) / 1000)}")
        if self.span.failed:
            shown.append(str(self.span.attributes.get("error.type", FAILED)))
        return ", ".join(shown)


@dataclass(frozen=True)
class TraceTree:
    """One trace, as lines."""

    trace_id: str
    begin_ns: int
    seconds: float
    lines: tuple[Line, ...]
    earlier: tuple[str, ...]
    """Traces that it goes on from."""

    @property
    def slowest(self) -> Line | None:
        """Where most of the time went."""
        return next((line for line in self.lines if line.slowest), None)

    @property
    def services(self) -> tuple[str, ...]:
        """Who took part, in the order of their first span."""
        return tuple(dict.fromkeys(line.span.service for line in self.lines))


def duration(seconds: float) -> str:
    """For people: 3 ms, 1.24 s, 4 min 10 s, 3 h 2 min."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.0095 else f"{seconds * 1000:.1f} ms"
    if seconds < 120:
        return f"{seconds:.2f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def tree_of(spans: Sequence[Span]) -> TraceTree:
    """The spans of one trace, at least one, as a tree: children below their parent, in the order of their beginning."""
    begin, end = min(span.start_ns for span in spans), max(span.end_ns for span in spans)
    whole = max(1, end - begin)
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in sorted(spans, key=lambda span: (span.start_ns, -span.end_ns)):
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    own = {span.span_id: _own_ns(span, children.get(span.span_id, ())) for span in spans}
    slow = max(own, key=lambda span_id: own[span_id])
    lines = tuple(
        Line(
            span,
            depth,
            (span.start_ns - begin) / whole,
            (span.start_ns - begin + span.waited * 1e9) / whole,
            (span.end_ns - begin) / whole,
            span.span_id == slow,
        )
        for span, depth in _walk(children, "", 0, set())
    )
    earlier = tuple(dict.fromkeys(link for span in spans for link in span.links))
    return TraceTree(spans[0].trace_id, begin, whole / 1e9, lines, earlier)


def _walk(children: dict[str, list[Span]], parent: str, depth: int, seen: set[str]) -> Iterator[tuple[Span, int]]:
    """Depth first; a ring of parents, which nobody should send, is left out."""
    for span in children.get(parent, ()):
        if span.span_id not in seen and depth < 64:
            seen.add(span.span_id)
            yield span, depth
            yield from _walk(children, span.span_id, depth + 1, seen)


def _own_ns(span: Span, children: Sequence[Span]) -> int:
    """Time of a span that none of its children covers."""
    covered, until = 0, span.start_ns
    for child in children:
        start, end = max(child.start_ns, until), min(child.end_ns, span.end_ns)
        if end > start:
            covered, until = covered + end - start, end
    return span.end_ns - span.start_ns - covered
