"""Do traces reach through, and do logs keep quiet about people?"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from enum import Enum
from io import StringIO
from typing import Any

import pytest

from services.chassis.errors import NotFound
from services.chassis.telemetry import (
    STAGE_EDGES_S,
    JsonLine,
    clean_value,
    inject_traceparent,
    logger,
    span_from,
)

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CANARIES = [
    "010-9876-5432",
    "01098765432",
    "+82-10-9876-5432",
    "02-345-6789",
    "900101-1234567",
    "9001011234567",
    "4111-1111-1111-1111",
    "4111111111111111",
    "kim@example.com",
    "https://example.com/post/1",
    "홍길동",
    "Hong Gildong",
    "서울시 강남구 1",
    "x" * 161,
]


ENVIRON = {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "PATH": os.environ["PATH"]}


def run_program(program: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a process of its own: providers and hooks of a process are set once."""
    command = [sys.executable, "-c", program, PARENT]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=ENVIRON)


class Colour(Enum):
    RED = 1


@pytest.fixture
def lines() -> Any:
    out = StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLine("case"))
    root = logging.getLogger()
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in out.getvalue().splitlines()]
    root.removeHandler(handler)


# --- logs ---


@pytest.mark.parametrize("canary", CANARIES)
def test_a_value_that_may_be_personal_is_not_shown(lines: Any, canary: str) -> None:
    logger("services.trial").warning("event", value=canary, bytes=canary.encode(), many=[canary])
    (line,) = lines()
    assert line["value"] == f"<str {len(canary)}>"
    assert (line["bytes"], line["many"]) == ("<bytes>", "<list>")


@pytest.mark.parametrize(
    "value",
    [
        True,
        None,
        3,
        0.5,
        "NOT_OWN_SUBJECT",
        "/misuse.case.v1.CaseService/GetCase",
        "127.0.0.1:7001",
        "01932c07-a9ab-7cc5-8010-123456789012",
        "0101234567890123" * 4,
        "2026-11-21T23:00:00.123+00:00",
        "v1.2.3",
    ],
)
def test_ids_codes_and_numbers_are_shown(value: Any) -> None:
    assert clean_value(value) == value


def test_an_enum_is_shown_by_name() -> None:
    assert clean_value(Colour.RED) == "RED"


def test_a_line_is_one_json_object_with_time_level_and_event(lines: Any) -> None:
    logger("services.trial").warning("case_opened", count=3)
    (line,) = lines()
    assert (line["event"], line["level"], line["service"], line["count"]) == (
        "case_opened",
        "WARNING",
        "case",
        3,
    )
    assert line["time"][:2] == "20"


def test_an_exception_is_shown_by_type_and_frames_never_by_words(lines: Any) -> None:
    try:
        try:
            raise KeyError("010-9876-5432")
        except KeyError as inner:
            raise ValueError("kim@example.com") from inner
    except ValueError as error:
        logger("services.trial").error("failed", error=error)
        logger("services.trial").error("known", error=NotFound("CASE_UNKNOWN", "No such case."))
    failed, known = lines()
    assert failed["error"] == "builtins.ValueError"
    assert any("test_telemetry.py" in frame for frame in failed["error_frames"])
    assert "from builtins.KeyError" in failed["error_frames"]
    assert known["error"] == "services.chassis.errors.NotFound(CASE_UNKNOWN)"
    assert not [canary for canary in CANARIES if canary in json.dumps([failed, known], ensure_ascii=False)]


def test_a_library_says_where_and_not_what(lines: Any) -> None:
    library = logging.getLogger("some.library")
    try:
        raise ValueError("010-9876-5432")
    except ValueError:
        library.exception("could not handle %s", "kim@example.com")
        library.warning("bad value: kim@example.com")
    first, second = lines()
    assert first["error"] == "builtins.ValueError"
    assert second["event"].startswith("test_telemetry.test_a_library_says_where_and_not_what:")
    assert not [canary for canary in CANARIES if canary in json.dumps([first, second])]


# --- traces ---


def test_a_span_joins_the_trace_that_came_with_the_message() -> None:
    with span_from(PARENT, "step"):
        assert inject_traceparent()[3:35] == PARENT[3:35]
    assert inject_traceparent() == ""


@pytest.mark.parametrize(
    "garbled", ["", "00-zz-yy-01", PARENT + "0", "010-9876-5432", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"]
)
def test_a_garbled_traceparent_is_no_parent(garbled: str) -> None:
    with span_from(garbled, "step"):
        assert "0af7651916cd43dd8448eb211c80319c" not in inject_traceparent()


def test_spans_reach_the_exporter_without_words() -> None:
    program = """
import sys
from pathlib import Path
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from services.chassis.config import Config
from services.chassis.telemetry import Telemetry, inject_traceparent, span_from, stage, observe_stage
import socket, urllib.request
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
exporter = InMemorySpanExporter()
running = Telemetry.start(Config(service="case", home=Path("."), metrics_port=port), span_exporter=exporter)
try:
    with span_from(sys.argv[1], "outer", {"case_id": "c-1", "publisher": "kim@example.com", "text": "word"}):
        with span_from(inject_traceparent(), "inner"), stage("embed"):
            raise ValueError("010-9876-5432")
except ValueError:
    pass
observe_stage("case_latency", 300.0)
page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
running.stop()
inner, outer = exporter.get_finished_spans()
shown = "".join(span.to_json() for span in (inner, outer))
assert "010-9876" not in shown and "kim@" not in shown
assert inner.parent.span_id == outer.context.span_id
assert format(outer.context.trace_id, "032x") == sys.argv[1][3:35]
assert inner.attributes["error.type"] == "builtins.ValueError"
kept = {"case_id": "c-1", "publisher": "<str 15>", "error.type": "builtins.ValueError"}
assert dict(outer.attributes) == kept
assert 'jikimi_stage_seconds_bucket{le="300.0",stage="case_latency"} 1.0' in page
assert 'jikimi_stage_seconds_count{stage="embed"} 1.0' in page
print("good")
"""
    done = run_program(program)
    assert (done.stdout, done.stderr) == ("good\n", "")


def test_a_traceparent_travels_without_an_exporter() -> None:
    program = """
import sys
from pathlib import Path
from services.chassis.config import Config
from services.chassis.telemetry import Telemetry, inject_traceparent, span_from
running = Telemetry.start(Config(service="case", home=Path(".")))
with span_from("", "new"):
    fresh = inject_traceparent()
with span_from(sys.argv[1], "joined") as span:
    joined = inject_traceparent()
    assert not span.is_recording()
assert len(fresh) == 55 and joined[3:35] == sys.argv[1][3:35], (fresh, joined)
running.stop()
print("good")
"""
    done = run_program(program)
    assert (done.stdout, done.stderr) == ("good\n", "")


@pytest.mark.parametrize(
    "accident",
    [
        "raise ValueError(canary)",
        "thread = threading.Thread(target=lambda: [][canary]); thread.start(); thread.join()",
        "Dying(); gc.collect()",
        "warnings.warn(canary)",
        "run(fail())",
    ],
)
@pytest.mark.slow
def test_what_nobody_catches_is_told_without_its_words(accident: str) -> None:
    program = f"""
import gc, threading, warnings
from services.chassis.server import run
from services.chassis.telemetry import start_logging
canary = "kim" + "@" + "example.com"
class Dying:
    def __del__(self): raise ValueError(canary)
async def fail(): raise ValueError(canary)
start_logging("case")
{accident}
"""
    done = run_program(program)
    assert done.stdout == ""
    assert "kim@" not in done.stderr
    for line in done.stderr.splitlines():
        assert json.loads(line)["service"] == "case"
    assert done.stderr


def test_five_minutes_are_an_edge() -> None:
    assert 300.0 in STAGE_EDGES_S
    assert list(STAGE_EDGES_S) == sorted(set(STAGE_EDGES_S))
