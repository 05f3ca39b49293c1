"""Are spans kept and found again, and does the tree name the slow place?"""

from __future__ import annotations

import io
import json
import stat
from argparse import Namespace
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub
from opentelemetry.proto.trace.v1.trace_pb2 import Status
from rich.console import Console

from services.console import trace_commands
from services.console.home import Home
from services.console.output import CannotDo
from services.console.spans import Span, SpanStore, receiving, store_of
from services.console.trace_tree import duration, tree_of

CASE = "01932c07-a9ab-7cc5-8010-000000000001"
SECOND = 1_000_000_000
BEGIN = 1_800_000_000 * SECOND


def span(number: int, parent: int, service: str, name: str, begin: float, end: float, **more: object) -> Span:
    """A span of trace 1, times in seconds from its beginning."""
    links = more.pop("links", ())
    trace_id = more.pop("trace_id", "1" * 32)
    assert isinstance(links, tuple) and isinstance(trace_id, str)
    return Span(
        trace_id,
        f"{number:016x}",
        f"{parent:016x}" if parent else "",
        service,
        name,
        BEGIN + round(begin * SECOND),
        BEGIN + round(end * SECOND),
        "error.type" in more,
        dict(more),
        links,
    )


def story() -> list[Span]:
    """A case that waited four seconds for its service."""
    return [
        span(1, 0, "detector", "misuse.detector.v1.SignalService/SubmitSignal", 0, 0.02),
        span(2, 1, "detector", "detector.decide", 0.01, 0.3, wait_ms=100, analyse_ms=30),
        span(3, 2, "case", "consume signal_matched", 0.3, 4.5, wait_ms=4000, case_id=CASE),
        span(4, 3, "notify", "consume case_opened", 4.4, 4.6, wait_ms=50, case_id=CASE),
        span(5, 3, "case", "due pack", 5.0, 5.2, **{"error.type": "services.chassis.errors.Unavailable(AWAY)"}),
    ]


@pytest.fixture
def store(tmp_path: Path) -> SpanStore:
    made = SpanStore(tmp_path / "spans.db", most=100)
    made.add(story())
    return made


# --- the store ---


def test_spans_of_a_case_are_found(store: SpanStore) -> None:
    with closing(store):
        assert ["1" * 32] == store.traces_of(CASE) == store.traces_of("1" * 32)
        assert story() == store.spans("1" * 32)
        assert [] == store.traces_of("2" * 32) == store.traces_of("nobody")


def test_only_the_owner_may_read_them(store: SpanStore, tmp_path: Path) -> None:
    with closing(store):
        files = list(tmp_path.glob("spans.db*"))
        assert files and {0o600} == {stat.S_IMODE(file.stat().st_mode) for file in files}


def test_the_newest_are_kept(tmp_path: Path) -> None:
    with closing(SpanStore(tmp_path / "spans.db", most=100)) as store:
        for number in range(1, 351):
            store.add([span(number, 0, "case", "step", number, number + 1, case_id=CASE, trace_id=f"{number:032x}")])
        kept = [number for number in range(1, 351) if store.spans(f"{number:032x}")]
    assert list(range(251, 351)) == kept


def test_a_span_that_comes_twice_is_kept_once(store: SpanStore) -> None:
    with closing(store):
        store.add(story())
        assert len(story()) == len(store.spans("1" * 32))


def test_later_traces_of_a_case_are_found_by_their_link(store: SpanStore) -> None:
    later = span(9, 0, "case", "due close", 5000, 5001, trace_id="2" * 32, links=("1" * 32,))
    with closing(store):
        store.add([later])
        assert ["1" * 32, "2" * 32] == store.traces_of(CASE) == store.traces_of("2" * 32)


# --- the receiver ---


def export() -> ExportTraceServiceRequest:
    """One span as a service sends it, with attributes that must not be kept."""
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.add(key="service.name").value.string_value = "case"
    wire = resource.scope_spans.add().spans.add(
        trace_id=bytes([7] * 16), span_id=bytes([8] * 8), name="consume thing", start_time_unix_nano=5,
        end_time_unix_nano=9, status=Status(code=Status.STATUS_CODE_ERROR),
    )
    wire.attributes.add(key="case_id").value.string_value = CASE
    wire.attributes.add(key="wait_ms").value.int_value = 3
    wire.attributes.add(key="error.type").value.string_value = "builtins.ValueError"
    wire.attributes.add(key="publisher").value.string_value = "kim@example.com"
    wire.attributes.add(key="phone").value.string_value = "010-9876-5432"
    return request


def test_the_receiver_keeps_what_the_list_names(tmp_path: Path) -> None:
    with closing(SpanStore(tmp_path / "spans.db")) as store, receiving(store, 0) as port:
        with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            TraceServiceStub(channel).Export(export(), timeout=30)  # type: ignore[no-untyped-call]
        (kept,) = store.spans("07" * 16)
    expected = {"case_id": CASE, "wait_ms": 3, "error.type": "builtins.ValueError", "publisher": "<str 15>"}
    assert ("case", "consume thing", True, expected) == (kept.service, kept.name, kept.failed, kept.attributes)


# --- the tree ---


def test_the_tree_names_the_slow_place_and_that_it_waited() -> None:
    tree = tree_of(story())
    assert [0, 1, 2, 3, 3] == [line.depth for line in tree.lines]
    assert tree.slowest is not None
    assert ("case", "consume signal_matched", 4.0) == (
        tree.slowest.span.service, tree.slowest.span.name, tree.slowest.span.waited,
    )
    assert ("detector", "case", "notify") == tree.services


def test_time_of_children_is_not_their_parents() -> None:
    tree = tree_of([span(1, 0, "a", "outer", 0, 10), span(2, 1, "b", "inner", 1, 9)])
    assert tree.slowest is not None
    assert "inner" == tree.slowest.span.name


def test_a_ring_of_parents_ends() -> None:
    rings = [span(1, 2, "a", "one", 0, 1), span(2, 1, "a", "two", 0, 1), span(3, 0, "a", "three", 0, 1)]
    assert ["three"] == [line.span.name for line in tree_of(rings).lines]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0004, "0.4 ms"), (0.05, "50 ms"), (4.2, "4.20 s"), (250, "4 min 10 s"), (10_920, "3 h 2 min")],
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert words == duration(seconds)


# --- the command ---


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path)
    with closing(SpanStore(store_of(home))) as store:
        store.add(story())
    return home


def asked(case: str = CASE, **more: object) -> Namespace:
    return Namespace(**{"case": case, "html": "", "json": False, **more})


async def test_the_terminal_shows_a_bar_for_each_span(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == await trace_commands.trace(home, asked())
    shown = capsys.readouterr().out
    assert "░" in shown and "█" in shown
    assert "Most of the time: case, consume signal_matched" in " ".join(shown.split())


def test_narrow_terminals_keep_bars_and_times() -> None:
    console = Console(width=80, file=io.StringIO())
    trace_commands.show([tree_of(story())], console)
    assert isinstance(console.file, io.StringIO)
    assert "4.20 s" in console.file.getvalue()


async def test_programs_read_the_same(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == await trace_commands.trace(home, asked(json=True))
    (tree,) = json.loads(capsys.readouterr().out)
    assert ["consume signal_matched"] == [each["name"] for each in tree["spans"] if each["slowest"]]


async def test_the_page_needs_nothing_else(home: Home, tmp_path: Path) -> None:
    page = tmp_path / "trace.html"
    assert 0 == await trace_commands.trace(home, asked(html=str(page)))
    words = page.read_text(encoding="utf-8")
    assert "어디에서 시간이 걸렸나" in words and "Where did the time go?" in words
    assert "4.20 s" in words and "<script" not in words and "http" not in words.replace("http-equiv", "")


async def test_without_a_case_the_slowest_are_listed(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == await trace_commands.trace(home, asked("", json=True))
    assert [{"trace_id": "1" * 32, "seconds": 5.2, "failed": True}] == json.loads(capsys.readouterr().out)


async def test_what_is_not_known_is_said(home: Home, tmp_path: Path) -> None:
    with pytest.raises(CannotDo, match="Nothing is known"):
        await trace_commands.trace(home, asked("01932c07-a9ab-7cc5-8010-00000000ffff"))
    with pytest.raises(CannotDo, match="make observe"):
        await trace_commands.trace(Home(tmp_path / "elsewhere"), asked())
