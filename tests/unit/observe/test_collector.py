"""Are the collector, the trace store and Grafana told what the code tells, in the form that their sources give?

None of them is among the packages that this project may use: the files were never run by one.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import fastjsonschema
import pytest

from services.chassis import yaml_text
from services.chassis.tracing import ATTRIBUTES
from tests.unit.chassis.test_telemetry import CANARIES

ROOT = Path(__file__).resolve().parents[3]
FILE = ROOT / "deploy" / "observe" / "collector.yaml"
CONFIG: dict[str, Any] = yaml_text.parse(FILE.read_text(encoding="utf-8"))
OF_THE_RESOURCE = {
    "service.instance.id",
    "service.name",
    "service.namespace",
    "telemetry.sdk.language",
    "telemetry.sdk.name",
    "telemetry.sdk.version",
}
TEMPO: dict[str, Any] = yaml_text.parse((ROOT / "deploy/k8s/components/tracing/tempo.yaml").read_text(encoding="utf-8"))
SCHEMAS = yaml_text.parse(Path(__file__).with_name("settings.schema.yaml").read_text(encoding="utf-8"))


def closed(schema: Any) -> Any:
    """The schema with every object closed against fields that it does not name."""
    if isinstance(schema, dict):
        inner = {key: closed(value) for key, value in schema.items()}
        return {"type": "object", "additionalProperties": False, **inner} if "properties" in schema else inner
    return [closed(value) for value in schema] if isinstance(schema, list) else schema


def judge(of: str, told: Any) -> None:
    """Raises JsonSchemaValueException for what the program does not know."""
    fastjsonschema.compile({"$schema": "http://json-schema.org/draft-07/schema#", **closed(SCHEMAS[of])})(told)


BOARDS = [json.loads(file.read_text(encoding="utf-8")) for file in sorted((FILE.parent / "dashboards").glob("*.json"))]


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board["uid"])
def test_a_dashboard_says_what_grafana_knows(board: dict[str, Any]) -> None:
    judge("grafana", board)


@pytest.mark.parametrize(("of", "told"), [("collector", CONFIG), ("tempo", TEMPO)])
def test_settings_are_documented_ones_of_the_documented_types(of: str, told: dict[str, Any]) -> None:
    judge(of, told)


@pytest.mark.parametrize(
    ("words", "wrong"),
    [("decision_wait: 60s", "decision_wait: 60"), ("threshold_ms", "threshold"), ("summary: silent", "summary: quiet")],
)
def test_a_misspelt_setting_is_found(words: str, wrong: str) -> None:
    text = FILE.read_text(encoding="utf-8")
    assert words in text
    with pytest.raises(fastjsonschema.JsonSchemaValueException):
        judge("collector", yaml_text.parse(text.replace(words, wrong)))


def test_a_policy_says_what_its_type_asks_for() -> None:
    for policy in CONFIG["processors"]["tail_sampling"]["policies"]:
        assert {"name", "type", policy["type"]} == set(policy)


def test_what_was_kept_is_remembered_for_much_longer_than_it_is_held() -> None:
    """The processor's own advice: ten times as many."""
    sampling = CONFIG["processors"]["tail_sampling"]
    assert sampling["decision_cache"]["sampled_cache_size"] >= 10 * sampling["num_traces"]


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
