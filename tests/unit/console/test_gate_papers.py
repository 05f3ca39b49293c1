"""Does a build server see what was judged, does a diff say what changed, and is a changed decision found out?"""

from __future__ import annotations

import json
from copy import deepcopy
from hashlib import sha256
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import rfc8785

from jikimi_client.misuse.gate import v1 as gate_api
from misuse.common.v1.access_pb2 import ROLE_UNSPECIFIED
from services.chassis.signing import KeyFile
from services.chassis.tokens import create_key_pair
from services.console.gate_papers import FORMAT, KEY_ID, check_decision, differences, junit, worse
from services.console.output import CannotDo
from services.console.remote import Remote
from tests.data import gate_pages

REPORT = next(r.document for r in gate_pages.reports() if r.name == "CaseLatencyReport_v1")
STAGE = next(r.document for r in gate_pages.stage_reports() if r.name == "RemovalOpsKPIReport_v1")
OUTCOMES = ("PASSED", "FAILED", "INCONCLUSIVE", "ERROR")


def decision(*outcomes: str) -> gate_api.ReleaseDecision:
    """A decision with a report of each outcome."""
    return gate_api.ReleaseDecision(
        decision_id="d", release="1.0", stage="ALL", outcome=gate_api.Outcome.from_string(outcomes[-1]),
        reports=[
            gate_api.ReportSummary(name=f"Report{n}", outcome=gate_api.Outcome.from_string(outcome), report_id=str(n))
            for n, outcome in enumerate(outcomes)
        ],
        reasons=[f"Report{n}: {outcome} BECAUSE" for n, outcome in enumerate(outcomes)],
    )  # fmt: skip


def test_only_what_passed_is_green_for_a_build_server() -> None:
    suite = ElementTree.fromstring(junit(decision(*OUTCOMES)))
    assert ("4", "2", "1") == (suite.get("tests"), suite.get("failures"), suite.get("errors"))
    marks = {case.get("name"): [mark.tag for mark in case] for case in suite}
    assert {"Report0": [], "Report1": ["failure"], "Report2": ["failure"], "Report3": ["error"]} == marks
    assert "Report2: INCONCLUSIVE BECAUSE" == suite.findtext("testcase[@name='Report2']/failure")


def changed(document: Any, *path: Any, to: Any) -> Any:
    """A copy with one place changed."""
    made = deepcopy(document)
    place = made
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = to
    return made


@pytest.mark.parametrize(
    ("path", "to", "what"),
    [
        (("value", "text"), "9.99 s", "value"),
        (("sample", "size"), 7, "n"),
        (("threshold", "text"), "≤ 1 s", "threshold"),
        (("versions", "gates"), "2027.1", "version of gates"),
        (("strata", 0, "value", "text"), "1 s", "channel_group naver"),
        (("excluded", 0, "count"), 9, "not counted REVIEW_BAND"),
        (("tests", 0, "failed"), 3, "tests REGRESSION"),
    ],
)
def test_a_diff_names_what_changed_and_nothing_else(path: tuple[Any, ...], to: Any, what: str) -> None:
    assert [what] == [change.what for change in differences("R", REPORT, changed(REPORT, *path, to=to))]


def test_a_diff_of_stages_tells_of_dependencies() -> None:
    after = changed(STAGE, "dependencies", 0, "state", to="LOST")
    [change] = differences("S", STAGE, after)
    assert ("dependency access", "HOLDS", "LOST") == (change.what, change.before, change.after)


@pytest.mark.parametrize(("before", "after"), [(a, b) for a in OUTCOMES for b in OUTCOMES])
def test_a_diff_knows_what_is_worse(before: str, after: str) -> None:
    order = ("PASSED", "INCONCLUSIVE", "ERROR", "FAILED")
    olds, news = changed(REPORT, "outcome", to=before), changed(REPORT, "outcome", to=after)
    assert (order.index(after) > order.index(before)) == worse(differences("R", olds, news))


def signed(folder: Path, document: Any) -> gate_api.ReleaseDecision:
    """A decision with its paper, as the gate signs it."""
    create_key_pair(folder / "private", folder, KEY_ID, [ROLE_UNSPECIFIED])
    made = decision("PASSED")
    said = {
        "format": FORMAT, "key_id": KEY_ID, "decision_id": made.decision_id,
        "release": made.release, "stage": made.stage, "outcome": "PASSED", "reasons": made.reasons,
        "reports": [{"name": "Report0", "sha256": sha256(rfc8785.dumps(document)).hexdigest()}],
    }  # fmt: skip
    signature = KeyFile(folder / "private", folder, KEY_ID).sign(rfc8785.dumps(said)).hex()
    made.document = rfc8785.dumps({"statement": said, "signature": signature})
    return made


def test_a_signed_decision_holds_and_any_change_is_found_out(tmp_path: Path) -> None:
    made = signed(tmp_path, REPORT)
    assert check_decision(made, {"Report0": REPORT}, tmp_path).holds
    assert "Report0" in check_decision(made, {"Report0": changed(REPORT, "outcome", to="FAILED")}, tmp_path).said
    assert not check_decision(made, {}, tmp_path).holds
    made.outcome = gate_api.Outcome.from_string("FAILED")
    assert "outcome" in check_decision(made, {"Report0": REPORT}, tmp_path).said
    forged = json.loads(made.document)
    forged["statement"]["outcome"] = "FAILED"
    made.document = json.dumps(forged).encode()
    assert "BROKEN: the signature does not fit" == check_decision(made, {"Report0": REPORT}, tmp_path).said
    forged["statement"]["key_id"] = "../private/gate-decisions"
    made.document = json.dumps(forged).encode()
    assert "signs no decisions" in check_decision(made, {"Report0": REPORT}, tmp_path).said
    made = signed(tmp_path, REPORT)
    assert "NO KEY" in check_decision(made, {"Report0": REPORT}, tmp_path / "nowhere").said


def test_a_decision_from_before_signatures_is_said_to_be_unsigned(tmp_path: Path) -> None:
    assert check_decision(decision("PASSED"), {}, tmp_path).said.startswith("UNSIGNED")


def test_a_job_is_told_by_its_environment_where_the_gate_is(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a.b.c\n")
    remote = Remote.from_env({"JIKIMI_PEER_GATE": "gate.jikimi.svc:7000", "JIKIMI_TOKEN_FILE": str(file)})
    assert ({"gate": ("gate.jikimi.svc", 7000)}, "a.b.c", None) == (remote.peers, remote.token, remote.tls)
    assert "a.b.c" not in repr(remote)
    assert ({}, "") == (Remote.from_env({}).peers, Remote.from_env({}).token)


@pytest.mark.parametrize("variable", ["JIKIMI_PEER_GATE", "JIKIMI_TOKEN_FILE", "JIKIMI_TLS_DIR"])
def test_a_variable_that_cannot_be_used_is_named_and_its_value_is_not(variable: str) -> None:
    with pytest.raises(CannotDo) as refused:
        Remote.from_env({variable: "/nowhere/secret-value"})
    assert variable in str(refused.value)
    assert "secret-value" not in str(refused.value)
