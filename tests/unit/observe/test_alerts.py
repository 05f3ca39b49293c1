"""Does each alert speak when it should, keep quiet when it should, and lead to a page that says what to do?"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.chassis import yaml_text
from services.console.observe import program_of_prometheus

ROOT = Path(__file__).resolve().parents[3]
RULES = ROOT / "deploy" / "observe" / "rules"
RUNBOOKS = ROOT / "docs" / "runbooks"
PROMTOOL = program_of_prometheus("promtool")
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason="promtool is not here; `make prometheus` unpacks it")

ALERTS: dict[str, dict[str, Any]] = {
    rule["alert"]: rule
    for file in sorted(RULES.glob("*.yaml"))
    for group in yaml_text.parse(file.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


@dataclass(frozen=True)
class Trial:
    """Series with which an alert must speak, and others with which it must not; PromQL's notation, a value a step."""

    bad: dict[str, str]
    good: dict[str, str]
    at: str
    labels: dict[str, str]
    value: str = ""
    step: str = "1m"
    """Of windows of hours and days fewer values and looks are enough."""


def ratio(bad: str, every: str, share: float, minutes: int) -> dict[str, str]:
    """Two counters of which one is a share of the other, ten events a minute."""
    return {every: f"0+10x{minutes}", bad: f"0+{10 * share:g}x{minutes}"}


def latency(late: float, minutes: int) -> dict[str, str]:
    within = f"0+{10 * (1 - late):g}x{minutes}"
    return {
        'jikimi_case_latency_seconds_count{service="case",kind="PII"}': f"0+10x{minutes}",
        'jikimi_case_latency_seconds_bucket{service="case",kind="PII",le="300.0"}': within,
        'jikimi_case_latency_seconds_bucket{service="case",kind="PII",le="+Inf"}': f"0+10x{minutes}",
    }


def notices(lost: float, minutes: int) -> dict[str, str]:
    name = "jikimi_notices_total"
    return {
        f'{name}{{service="notify",outcome="acknowledged",device_class="IOS"}}': f"0+{100 * (1 - lost):g}x{minutes}",
        f'{name}{{service="notify",outcome="expired",device_class="IOS"}}': f"0+{100 * lost:g}x{minutes}",
    }


def removals(failed: float, minutes: int) -> dict[str, str]:
    name = "jikimi_removal_ended_total"
    return {
        f'{name}{{service="removal",platform="naver",outcome="gone"}}': f"0+{1 - failed:g}x{minutes}",
        f'{name}{{service="removal",platform="naver",outcome="not_gone"}}': f"0+{failed:g}x{minutes}",
    }


def rights(late: float, minutes: int) -> dict[str, str]:
    name = "jikimi_rights_answered_total"
    return {
        f'{name}{{service="case",kind="erasure",outcome="in_time"}}': f"0+{0.1 * (1 - late):g}x{minutes}",
        f'{name}{{service="case",kind="erasure",outcome="late"}}': f"0+{0.1 * late:g}x{minutes}",
    }


def level(series: str, value: float, minutes: int = 120) -> dict[str, str]:
    return {series: f"{value:g}x{minutes}"}


DAY, THREE_DAYS = 50, 147
TICKET, PAGE = {"severity": "ticket"}, {"severity": "page"}
TRIALS: dict[str, Trial] = {
    "CaseLatencyBurnsFast": Trial(latency(0.8, 80), latency(0.04, 80), "70m", {"severity": "page"}),
    "CaseLatencyBurnsSlowly": Trial(latency(0.2, DAY), latency(0.04, DAY), "1470m", TICKET, step="30m"),
    "AckBurnsFast": Trial(notices(0.1, 80), notices(0.004, 80), "70m", {"severity": "page"}),
    "AckBurnsSlowly": Trial(notices(0.02, DAY), notices(0.004, DAY), "1470m", TICKET, step="30m"),
    "RemovalBurnsFast": Trial(removals(0.9, 40), removals(0.2, 40), "390m", PAGE, step="10m"),
    "RemovalBurnsSlowly": Trial(removals(0.4, THREE_DAYS), removals(0.2, THREE_DAYS), "4380m", TICKET, step="30m"),
    "RightsBurnsFast": Trial(rights(0.5, DAY), rights(0.0, DAY), "1470m", PAGE, step="30m"),
    "RightsBurnsSlowly": Trial(rights(0.1, THREE_DAYS), rights(0.0, THREE_DAYS), "4380m", TICKET, step="30m"),
    "SignalsWaitTooLong": Trial(
        level('jikimi_spool_oldest_seconds{service="detector",lane="texts"}', 130),
        level('jikimi_spool_oldest_seconds{service="detector",lane="texts"}', 60)
        | level('jikimi_spool_oldest_seconds{service="detector",lane="parked"}', 9000),
        "10m",
        {"severity": "page", "lane": "texts"},
    ),
    "SignalsKeptAside": Trial(
        level('jikimi_spool_signals{service="detector",lane="parked"}', 2),
        level('jikimi_spool_signals{service="detector",lane="texts"}', 200),
        "20m",
        {"severity": "ticket"},
        "2",
    ),
    "EventsNotPublished": Trial(
        level('jikimi_outbox_oldest_seconds{service="case",instance="a"}', 90),
        level('jikimi_outbox_oldest_seconds{service="case",instance="a"}', 5),
        "10m",
        {"severity": "page", "service": "case"},
    ),
    "EventsNotApplied": Trial(
        level('jikimi_outbox_position{service="case",partition="0"}', 100)
        | level('jikimi_consumer_position{service="notify",publisher="case",partition="0"}', 60)
        | level('jikimi_events_applied_total{service="notify",publisher="case"}', 60),
        {
            'jikimi_outbox_position{service="case",partition="0"}': "100+60x120",
            'jikimi_consumer_position{service="notify",publisher="case",partition="0"}': "60+60x120",
            'jikimi_events_applied_total{service="notify",publisher="case"}': "60+60x120",
        },
        "20m",
        {"severity": "page", "service": "notify", "publisher": "case"},
        "40",
    ),
    "DeadLetters": Trial(
        level('jikimi_dead_letters{service="gate",state="rejected"}', 3),
        level('jikimi_dead_letters{service="gate",state="rejected"}', 0),
        "20m",
        {"severity": "ticket", "service": "gate"},
        "3",
    ),
    "DueWorkLate": Trial(
        level('jikimi_due_oldest_seconds{service="removal",kind="SUBMIT"}', 1000),
        level('jikimi_due_oldest_seconds{service="removal",kind="SUBMIT"}', 100),
        "20m",
        {"severity": "ticket", "service": "removal", "kind": "SUBMIT"},
    ),
    "BacklogNotCounted": Trial(
        {'jikimi_backlog_failed_total{service="case"}': "0+6x60"},
        {'jikimi_backlog_failed_total{service="case"}': "0x60"},
        "30m",
        {"severity": "ticket", "service": "case"},
    ),
    "ReviewItemsOverdue": Trial(
        level('jikimi_review_items{service="case",state="overdue"}', 4),
        level('jikimi_review_items{service="case",state="open"}', 400),
        "40m",
        {"severity": "ticket"},
        "4",
    ),
    "RightsRequestDueSoon": Trial(
        level('jikimi_rights_requests{service="case",kind="erasure",state="soon"}', 1)
        | level('jikimi_rights_requests{service="case",kind="erasure",state="overdue"}', 0),
        level('jikimi_rights_requests{service="case",kind="erasure",state="soon"}', 0)
        | level('jikimi_rights_requests{service="case",kind="erasure",state="overdue"}', 0),
        "20m",
        {"severity": "ticket", "kind": "erasure"},
    ),
    "RightsRequestOverdue": Trial(
        level('jikimi_rights_requests{service="case",kind="erasure",state="overdue"}', 1),
        level('jikimi_rights_requests{service="case",kind="erasure",state="overdue"}', 0),
        "5m",
        {"severity": "page", "kind": "erasure"},
    ),
    "PlatformSilent": Trial(
        level('jikimi_removal_silent{service="removal",platform="kakao"}', 5),
        level('jikimi_removal_silent{service="removal",platform="kakao"}', 0),
        "70m",
        {"severity": "ticket", "platform": "kakao"},
        "5",
    ),
    "RemovalUncertain": Trial(
        level('jikimi_removal_requests{service="removal",state="UNCERTAIN"}', 1),
        level('jikimi_removal_requests{service="removal",state="UNCERTAIN"}', 0),
        "20m",
        {"severity": "ticket"},
        "1",
    ),
    "ServiceDown": Trial(
        level('up{service="notify",instance="a"}', 0) | level('up{service="notify",instance="b"}', 1),
        level('up{service="notify",instance="a"}', 1) | level('up{service="other",instance="b"}', 0),
        "5m",
        {"severity": "page", "service": "notify"},
        "1",
    ),
    "CallsFail": Trial(
        ratio('jikimi_rpc_server_seconds_count{service="case",code="INTERNAL"}',
              'jikimi_rpc_server_seconds_count{service="case",code="OK"}', 0.2, 60),
        ratio('jikimi_rpc_server_seconds_count{service="case",code="NOT_FOUND"}',
              'jikimi_rpc_server_seconds_count{service="case",code="OK"}', 0.9, 60),
        "20m",
        {"severity": "page", "service": "case"},
    ),
    "ProcessSaturated": Trial(
        level('jikimi_pool_connections{service="case",instance="a",state="used"}', 16)
        | level('jikimi_pool_connections{service="case",instance="a",state="most"}', 16),
        level('jikimi_pool_connections{service="case",instance="a",state="used"}', 3)
        | level('jikimi_pool_connections{service="case",instance="a",state="most"}', 16),
        "20m",
        {"severity": "ticket", "service": "case", "instance": "a", "state": "used"},
    ),
    "GalleryNotCurrent": Trial(
        level('jikimi_gallery_age_seconds{service="detector",instance="a"}', 9),
        level('jikimi_gallery_age_seconds{service="detector",instance="a"}', 1),
        "5m",
        {"severity": "page", "instance": "a"},
    ),
}


def test_every_alert_has_a_trial() -> None:
    assert sorted(ALERTS) == sorted(TRIALS)


def test_every_alert_has_a_page_and_every_page_an_alert() -> None:
    # What to do when a gate fails is a page of its own.
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README", "gates"}
    assert sorted(ALERTS) == sorted(pages)
    assert {name: f"docs/runbooks/{name}.md" for name in ALERTS} == {
        name: rule["annotations"]["runbook"] for name, rule in ALERTS.items()
    }


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_a_page_says_what_it_means_what_to_look_at_and_what_to_do(name: str) -> None:
    page = (RUNBOOKS / f"{name}.md").read_text(encoding="utf-8")
    assert page.startswith(f"# {name}\n")
    parts = {heading: body.strip() for heading, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, re.S | re.M)}
    assert ["What it means", "What to look at", "What to do"] == list(parts)
    assert all(len(body) > 60 for body in parts.values())


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_an_alert_says_how_urgent_it_is(name: str) -> None:
    assert ALERTS[name]["labels"]["severity"] in {"page", "ticket"}
    assert ALERTS[name]["annotations"]["summary"].endswith(".")


@pytest.mark.slow
@needs_promtool
@pytest.mark.parametrize(("step", "rules"), [("1m", "alerts"), ("1m", "slo"), ("10m", "slo"), ("30m", "slo")])
def test_each_alert_speaks_when_it_should_and_not_else(step: str, rules: str, tmp_path: Path) -> None:
    here = {name for name, rule in ALERTS.items() if ("slo" in rule["labels"]) == (rules == "slo")}
    names = [name for name, trial in TRIALS.items() if name in here and trial.step == step]
    tests = [_test(name, TRIALS[name], fires) for name in names for fires in (True, False)]
    file = tmp_path / "tests.yaml"
    file.write_text(yaml.safe_dump(_file(RULES / f"{rules}.yaml", step, tests)))
    done = subprocess.run([str(PROMTOOL), "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


@needs_promtool
def test_promtool_takes_the_rules() -> None:
    files = [str(path) for path in sorted(RULES.glob("*.yaml"))]
    done = subprocess.run([str(PROMTOOL), "check", "rules", *files], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr


def _file(rules: Path, step: str, tests: list[dict[str, Any]]) -> dict[str, Any]:
    # Without an order promtool takes groups as they come, and an alert may look before its recording rule has spoken.
    order = [group["name"] for group in yaml_text.parse(rules.read_text())["groups"]]
    return {"rule_files": [str(rules)], "evaluation_interval": step, "group_eval_order": order, "tests": tests}


def _test(name: str, trial: Trial, fires: bool) -> dict[str, Any]:
    series = trial.bad if fires else trial.good
    labels = {**ALERTS[name]["labels"], **trial.labels}
    said = {key: _filled(text, labels, trial.value) for key, text in ALERTS[name]["annotations"].items()}
    expected = [{"exp_labels": labels, "exp_annotations": said}] if fires else []
    return {
        "name": f"{name} {'speaks' if fires else 'is silent'}",
        "interval": trial.step,
        "input_series": [{"series": key, "values": values} for key, values in series.items()],
        "alert_rule_test": [{"eval_time": trial.at, "alertname": name, "exp_alerts": expected}],
    }


def _filled(text: str, labels: dict[str, str], value: str) -> str:
    named = re.sub(r"\{\{ \$labels\.(\w+) \}\}", lambda match: labels.get(match[1], ""), text)
    return named.replace("{{ $value }}", value)
