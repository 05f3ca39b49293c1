"""`case` says which evidence platforms ask for, `removal` asks them: both must speak of the same lists."""

from __future__ import annotations

from pathlib import Path

from services.chassis import yaml_text

SERVICES = Path(__file__).parents[2] / "services"


def test_case_and_removal_agree_on_what_every_platform_asks_for() -> None:
    kept = yaml_text.parse((SERVICES / "case" / "rules" / "evidence.yaml").read_text(encoding="utf-8"))["platforms"]
    policies = [
        yaml_text.parse(file.read_text(encoding="utf-8"))
        for file in sorted((SERVICES / "removal" / "policies").glob("*.yaml"))
    ]
    # Public bodies are offered to the person and asked by nobody else; approvals.yaml lists no platform.
    asked = {policy["platform"]: policy["required"] for policy in policies if policy.get("kind") == "PLATFORM"}
    assert asked == kept
