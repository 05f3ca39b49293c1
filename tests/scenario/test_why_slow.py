"""Does the walk of docs/operate/why-was-this-case-slow.md lead to the place where a case was delayed on purpose?"""

from __future__ import annotations

import json
import os
import re
import signal as signals
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from services.console.home import is_free
from services.console.observe import program_of_prometheus, spawn_prometheus
from services.console.spans import SpanStore, read_export, store_of
from tests.scenario.doors import Door, signal
from tests.scenario.otlp_sink import OtlpSink
from tests.scenario.system import ROOT, System, eventually

PAGE = (ROOT / "docs" / "operate" / "why-was-this-case-slow.md").read_text(encoding="utf-8")
QUERIES = re.findall(r"```promql\n(.*?)```", PAGE, re.S)
STOPPED_SECONDS = 8.0
MOBILE = "010-0000-6138"
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Delayed:
    """A case that was delayed, and Prometheus that watched, where there is one."""

    system: System
    sink: OtlpSink
    case_id: str
    prometheus: int | None
    """Its port."""

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The answer to a PromQL query."""
        return asked(self.prometheus or 0, query)


def asked(port: int, query: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{port}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found
    except OSError:
        return []


@contextmanager
def watching(system: System) -> Iterator[int | None]:
    """Prometheus on this system's pages; None where it is not installed."""
    program = program_of_prometheus("prometheus")
    if program is None:
        yield None
        return
    port = system.home.ports()["prometheus"]
    process = spawn_prometheus(system.home, program)
    try:
        assert eventually(lambda: not is_free(port), 60)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextmanager
def stopped(system: System, service: str) -> Iterator[None]:
    """The process stands still meanwhile."""
    pid = system.status()["children"][service]["pid"]
    os.kill(pid, signals.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signals.SIGCONT)


@pytest.fixture(scope="module")
def delayed(system: System, sink: OtlpSink) -> Iterator[Delayed]:
    """A case whose find came in while `case` stood still."""
    somebody = system.jikimi("subscriber", "add", "Robin Slow", "--language", "en")["subscriber_id"]
    system.jikimi("watch", "add", somebody, "mobile", MOBILE)
    door = Door(system)

    def cases() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = system.jikimi("case", "list", "--subscriber", somebody)
        return found

    with watching(system) as port:
        # A counter that begins with its first event shows no increase: one that is not delayed comes before.
        assert "SPOOLED" == door.submit(signal("slow-before", text=f"전화 {MOBILE}"))
        assert eventually(cases)
        if port is not None:
            assert eventually(lambda: asked(port, seen("signal_matched")), 60)
        with stopped(system, "case"):
            assert "SPOOLED" == door.submit(signal("slow-1", text=f"다른 글입니다 {MOBILE} 로 연락하세요"))
            time.sleep(STOPPED_SECONDS)
        assert eventually(lambda: any(int(case.get("sightingCount", 0)) > 1 for case in cases()), 60)
        yield Delayed(system, sink, str(cases()[0]["caseId"]), port)


def seen(event: str) -> str:
    return f'jikimi_event_delay_seconds_count{{service="case",event="{event}"}} > 0'


def test_the_trace_of_the_case_names_the_place(delayed: Delayed) -> None:
    def look() -> dict[str, Any] | None:
        with closing(SpanStore(store_of(delayed.system.home))) as store:
            for export in delayed.sink.exports():
                store.add(read_export(export))
        done = delayed.system.run("services.console", "trace", delayed.case_id, "--json", check=False)
        traces = json.loads(done.stdout) if done.returncode == 0 else []
        spans = [span for trace in traces for span in trace["spans"] if span["slowest"]]
        return max(spans, key=lambda span: span["seconds"], default=None)

    slow = eventually(lambda: (found := look()) and found["waited_seconds"] > STOPPED_SECONDS / 2 and found)
    assert isinstance(slow, dict)
    assert ("case", "consume signal_matched") == (slow["service"], slow["name"])
    assert STOPPED_SECONDS / 2 < slow["waited_seconds"] <= slow["seconds"]

    said = " ".join(delayed.system.run("services.console", "trace", delayed.case_id).stdout.split())
    assert "Most of the time: case, consume signal_matched. It waited" in said


def test_the_queries_of_the_walk_name_it_too(delayed: Delayed) -> None:
    if delayed.prometheus is None:
        pytest.skip("Prometheus is not here; `make prometheus` unpacks it")
    late, hops = QUERIES
    found = eventually(lambda: [each for each in delayed.ask(hops) if seconds(each) > STOPPED_SECONDS / 2], 60)
    assert {"service": "case", "event": "signal_matched"} == max(found, key=seconds)["metric"]
    assert any(seconds(each) > STOPPED_SECONDS / 2 for each in delayed.ask(late))


def seconds(answer: dict[str, Any]) -> float:
    return float(answer["value"][1])


def test_the_figure_leads_to_the_trace(delayed: Delayed) -> None:
    """The page shows an exemplar, and its trace is the one of the delayed case."""
    port = delayed.system.home.ports()["case-metrics"]
    asking = urllib.request.Request(
        f"http://127.0.0.1:{port}/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(asking, timeout=30) as answer:
        page = answer.read().decode()
    led = set(re.findall(r'jikimi_case_latency_seconds_bucket\{.*# \{trace_id="([0-9a-f]{32})"\}', page))
    with closing(SpanStore(store_of(delayed.system.home))) as store:
        assert led & set(store.traces_of(delayed.case_id))
