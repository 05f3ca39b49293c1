"""Is the collector told what the code tells, in the form that its documentation gives?

There is no collector among the packages that this project may use: the file was never run by one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.chassis.tracing import ATTRIBUTES
from tests.unit.chassis.test_telemetry import CANARIES

FILE = Path(__file__).resolve().parents[3] / "deploy" / "observe" / "collector.yaml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text(encoding="utf-8"))
OF_THE_RESOURCE = {
    "service.instance.id",
    "service.name",
    "service.namespace",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
}
# Components of the contrib distribution and the settings that their READMEs name.
KNOWN: dict[str, dict[str, set[str]]] = {
    "receivers": {"otlp": {"protocols"}},
    "processors": {
        "memory_limiter": {"check_interval", "limit_percentage", "spike_limit_percentage"},
        "redaction": {"allow_all_keys", "allowed_keys", "ignored_keys", "blocked_values", "summary"},
        "tail_sampling": {
            "decision_wait", "num_traces", "expected_new_traces_per_sec", "decision_cache", "policies",
        },
        "batch": {"send_batch_size", "send_batch_max_size", "timeout"},
    },
    "exporters": {"otlp": {"endpoint", "tls", "sending_queue", "retry_on_failure"}},
    "extensions": {"health_check": {"endpoint"}},
}
POLICIES = {
    "status_code": {"status_codes"},
    "latency": {"threshold_ms", "upper_threshold_ms"},
    "string_attribute": {"key", "values", "enabled_regex_matching", "cache_max_size", "invert_match"},
    "ottl_condition": {"error_mode", "span", "spanevent"},
    "probabilistic": {"sampling_percentage", "hash_salt"},
}


@pytest.mark.parametrize("kind", sorted(KNOWN))
def test_components_and_settings_are_documented_ones(kind: str) -> None:
    assert {name: set() for name in CONFIG[kind]} == {
        name: set(settings) - KNOWN[kind].get(name, set()) for name, settings in CONFIG[kind].items()
    }


def test_policies_are_documented_ones() -> None:
    for policy in CONFIG["processors"]["tail_sampling"]["policies"]:
        assert {"name", "type", policy["type"]} == set(policy)
        assert set(policy[policy["type"]]) <= POLICIES[policy["type"]]


def test_the_pipeline_names_what_is_configured_and_redacts_first() -> None:
    (pipeline,) = CONFIG["service"]["pipelines"].values()
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) == set(CONFIG[kind])
    assert ["memory_limiter", "redaction"] == pipeline["processors"][:2]
    assert set(CONFIG["service"]["extensions"]) == set(CONFIG["extensions"])


def test_the_collector_lets_pass_what_the_code_may_send() -> None:
    redaction = CONFIG["processors"]["redaction"]
    assert not redaction["allow_all_keys"]
    assert ATTRIBUTES | OF_THE_RESOURCE == set(redaction["allowed_keys"])


def masked(value: str) -> bool:
    return any(re.search(pattern, value) for pattern in CONFIG["processors"]["redaction"]["blocked_values"])


@pytest.mark.parametrize("canary", [each for each in CANARIES if re.search(r"[\d@]{2}|@|://", each)])
def test_personal_values_are_masked_once_more(canary: str) -> None:
    assert masked(canary)


def test_patterns_are_what_go_understands() -> None:
    """RE2 has no look-around and no back references."""
    for pattern in CONFIG["processors"]["redaction"]["blocked_values"]:
        assert not re.search(r"\(\?[=!<]|\\[1-9]", pattern)


def test_codes_pass_and_ids_are_not_looked_at() -> None:
    codes = ["case", "detector", "builtins.ValueError", "services.chassis.errors.Unavailable(AWAY)", "1.45.1"]
    assert [] == [value for value in codes if masked(value)]
    ids = {"case_id", "entity_id", "service.instance.id"}
    assert ids == set(CONFIG["processors"]["redaction"]["ignored_keys"]) <= ATTRIBUTES | OF_THE_RESOURCE


def test_slow_failed_and_gate_relevant_traces_are_kept() -> None:
    policies = {policy["type"]: policy for policy in CONFIG["processors"]["tail_sampling"]["policies"]}
    assert ["ERROR"] == policies["status_code"]["status_code"]["status_codes"]
    assert 300_000 > policies["latency"]["latency"]["threshold_ms"]
    assert "case_id" == policies["string_attribute"]["string_attribute"]["key"]
    assert "GateService/(EvaluateRelease" in policies["ottl_condition"]["ottl_condition"]["span"][0]
