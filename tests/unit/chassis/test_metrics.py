"""Do metrics keep ids and persons out of their labels, and do they lead to a trace?"""

from __future__ import annotations

import prometheus_client
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client.openmetrics.exposition import generate_latest

from services.chassis.metrics import MOST_SERIES, OTHER, counter, declared, gauge, histogram, observe_stage, stage
from tests.metrics_page import value
from tests.unit.chassis.test_telemetry import CANARIES

CALLS = counter("jikimi_trial_calls_total", "How many?", "method", "code")
LABELS = counter("jikimi_trial_labels_total", "How many?", "name")
SERIES = counter("jikimi_trial_series_total", "How many?", "name")
DEPTH = gauge("jikimi_trial_depth", "How deep?")
TIMES = histogram("jikimi_trial_seconds", "How long?", "name")


def page(series: str) -> str:
    """The part of the page that these series are."""
    return generate_latest(prometheus_client.REGISTRY.restricted_registry([series])).decode()


def test_the_table_says_name_labels_and_question() -> None:
    about = declared()["jikimi_trial_calls_total"]
    assert ("counter", ("method", "code"), "How many?") == (about.kind, about.labels, about.question)
    assert ("jikimi_trial_calls_total",) == about.series
    assert "jikimi_trial_seconds_bucket" in declared()["jikimi_trial_seconds"].series


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match=r"declared|Duplicated"):
        gauge("jikimi_trial_depth", "Again?")


def test_counts_and_gauges_are_on_the_page() -> None:
    CALLS.add("Get", "OK")
    CALLS.add("Get", "OK", by=2)
    DEPTH.set(7)
    assert (3.0, 7.0) == (value("jikimi_trial_calls_total", method="Get", code="OK"), value("jikimi_trial_depth"))


def test_labels_are_those_declared() -> None:
    with pytest.raises(ValueError, match="method"):
        CALLS.add("Get")


@pytest.mark.parametrize(
    "personal", [*CANARIES, "01900000-0000-7000-8000-000000000000", "0af7651916cd43dd8448eb211c80319c"]
)
def test_neither_ids_nor_personal_values_become_labels(personal: str) -> None:
    before = value("jikimi_trial_labels_total", name=OTHER) or 0.0
    LABELS.add(personal)
    assert before + 1 == value("jikimi_trial_labels_total", name=OTHER)
    shown = page("jikimi_trial_labels_total")
    assert OTHER in shown
    assert personal not in shown


def test_the_number_of_series_is_bounded() -> None:
    for number in range(MOST_SERIES + 50):
        SERIES.add(f"name{number}")
    assert 50.0 == value("jikimi_trial_series_total", name=OTHER)


def test_a_measurement_inside_a_sampled_trace_leads_to_it() -> None:
    context = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, TraceFlags(1))
    with trace.use_span(NonRecordingSpan(context)):
        TIMES.observe(0.2, "traced")
    TIMES.observe(0.2, "untraced")
    lines = page("jikimi_trial_seconds_bucket").splitlines()
    led = {line.split('"')[3] for line in lines if "0af7651916cd43dd8448eb211c80319c" in line}
    assert {"traced"} == led


@pytest.mark.parametrize(("flags", "leads"), [("00", False), ("01", True), ("02", False), ("03", True)])
def test_a_measurement_of_a_message_leads_to_its_trace(flags: str, leads: bool) -> None:
    trace_id = f"{flags}f7651916cd43dd8448eb211c8031{flags}"
    TIMES.observe(2.0, f"message{flags}", traceparent=f"00-{trace_id}-b7ad6b7169203331-{flags}")
    assert leads is (trace_id in page("jikimi_trial_seconds_bucket"))


def test_a_stage_that_fails_is_measured_too() -> None:
    before = value("jikimi_stage_seconds_count", stage="trial") or 0.0
    with pytest.raises(KeyError), stage("trial"):
        raise KeyError
    observe_stage("trial", 300.0)
    assert before + 2 == value("jikimi_stage_seconds_count", stage="trial")
