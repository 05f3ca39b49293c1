"""Can people oversee the system by commands: decide together, see who read what, read the rules?"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.chassis.ids import uuid7
from tests.scenario.conftest import Person
from tests.scenario.system import System, eventually

pytestmark = pytest.mark.slow


def approve(system: System, proposal_id: str, name: str) -> dict[str, Any]:
    words = ("approval", "approve", proposal_id, "--as", name, "--role", "RELEASE_MANAGER")
    answer: dict[str, Any] = system.jikimi(*words)
    return answer


def test_two_people_make_a_grant_and_what_failed_stays_shut(system: System, tmp_path: Path) -> None:
    junit = tmp_path / "scenario.xml"
    junit.write_text('<testsuite><testcase name="a"><failure message="no"/></testcase></testsuite>')
    recorded = ("gate", "record", "0.0-oversight", "SCENARIO", "0123456789abcdef", str(junit))
    assert 1 == system.run("services.console", *recorded, check=False).returncode
    ran = system.run("services.console", "gate", "run", "0.0-oversight", "--json", check=False)
    decision_id = ran.stdout.split('"decisionId": "')[1].split('"')[0]
    proposed = system.jikimi("gate", "propose", decision_id, "FEW_EVENTS_YET", "--reason", "new system", "--as", "ann")
    [proposal] = proposed
    assert "" == approve(system, proposal["proposalId"], "ben")["grant"]
    alone = ("approval", "approve", proposal["proposalId"], "--as", "ann", "--role", "RELEASE_MANAGER")
    assert "SAME_PERSON" in system.run("services.console", *alone, check=False).stderr
    grant = approve(system, proposal["proposalId"], "eve")["grant"]
    assert grant
    words = ("gate", "override", decision_id, "FEW_EVENTS_YET", "--as", "ann", "--grant", grant)
    refused = system.run("services.console", *words, check=False)
    assert (1, True) == (refused.returncode, "NOT_INCONCLUSIVE" in refused.stderr)
    other = ("gate", "override", decision_id, "ANOTHER_REASON", "--as", "ann", "--grant", grant)
    assert "GRANT_BODY_MISMATCH" in system.run("services.console", *other, check=False).stderr


def test_who_read_is_listed_and_reviewed(system: System, person: Person, tmp_path: Path) -> None:
    system.jikimi("case", "list", "--subscriber", person.subscriber_id)

    def listed() -> set[tuple[str, str]]:
        entries = system.jikimi("access", "list", "--subscriber", person.subscriber_id)
        return {(entry["method"].rpartition("/")[2], entry["actor"]) for entry in entries}

    assert eventually(lambda: {("ListCases", "console"), ("RegisterSubscriber", "console")} <= listed())
    month = datetime.now(UTC).strftime("%Y-%m")
    system.jikimi("access", "report", month, "--out", str(tmp_path))
    assert {".html", ".json"} == {file.suffix for file in tmp_path.iterdir() if file.stat().st_size > 500}


def test_rules_are_listed_and_thresholds_are_for_few(system: System) -> None:
    seen = system.jikimi("rules", "list", "--role", "OPERATOR")
    assert {"case", "detector", "gate", "notify", "removal"} == seen.keys()
    faces = next(each for each in seen["detector"] if each["name"] == "faces")
    assert (True, None) == (bool(faces["versions"]), faces.get("text"))
    told = "SELECT count(DISTINCT publisher) FROM log_record WHERE type = 'rules_in_force_log';"
    assert eventually(lambda: system.sql("gate", told).strip() == "5")
    audited = system.jikimi("rules", "list", "--role", "AUDITOR", "--service", "detector")
    assert next(each for each in audited["detector"] if each["name"] == "faces")["text"]


def test_labels_that_are_not_there_move_no_threshold(system: System) -> None:
    [made] = system.jikimi("calibration", "evaluate", uuid7(), "--as", "ann")
    assert ("TOO_FEW_LABELS", False) == (made["outcome"], "change" in made)
    assert [made] == system.jikimi("calibration", "list", "--as", "eve")
    words = ("calibration", "propose", made["evaluationId"], "--reason", "none", "--as", "ann")
    refused = system.run("services.console", *words, check=False)
    assert (1, True) == (refused.returncode, "proposes nothing" in refused.stderr)
    told = "SELECT count(*) FROM log_record WHERE type = 'threshold_evaluation_log';"
    assert eventually(lambda: system.sql("gate", told).strip() == "1")
