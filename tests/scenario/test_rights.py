"""Does somebody get what is hers by law, by commands, and does the gate count it?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.scenario.system import System, eventually

pytestmark = pytest.mark.slow

_COUNTED = """
    SELECT count(*) FROM log_record WHERE type = 'rights_request_log';
"""


def test_what_is_asked_is_answered_in_time_told_and_counted(system: System, tmp_path: Path) -> None:
    person = system.jikimi("subscriber", "add", "한바다", "--mail", "bada.han@example.com")["subscriber_id"]
    asked = system.jikimi("rights", "ask", person, "ACCESS", "--detail", "모두 보여 주세요")
    wrong = system.jikimi("rights", "ask", person, "CORRECTION")
    seen = system.jikimi("rights", "list")
    assert {asked["rightsRequestId"], wrong["rightsRequestId"]} <= {each["rightsRequestId"] for each in seen}
    shown = system.jikimi("rights", "show", asked["rightsRequestId"])
    assert ("모두 보여 주세요", "PIPA 35(3), Decree 41(4)") == (shown["detail"], shown["law"])
    assert "FULFILLED" == system.jikimi("rights", "fulfil", asked["rightsRequestId"], "--as", "ann")["state"]
    paper = tmp_path / "answer.json"
    system.jikimi("rights", "answer", asked["rightsRequestId"], "-o", str(paper))
    answer = json.loads(paper.read_text())
    assert ("한바다", 0o600) == (answer["data"]["profile"]["display_name"], paper.stat().st_mode & 0o777)
    refused = system.jikimi("rights", "reject", wrong["rightsRequestId"], "NOT_WRONG")
    assert ("REJECTED", True) == (refused["state"], bool(refused["objectionText"]))
    nobody = system.run("services.console", "rights", "reject", wrong["rightsRequestId"], "BECAUSE", check=False)
    assert 0 == nobody.returncode
    assert eventually(lambda: system.sql("gate", _COUNTED).strip() == "4")
    told = eventually(lambda: _inbox(system, person) >= 4)
    assert told


def _inbox(system: System, person: str) -> int:
    query = f"SELECT count(*) FROM inbox_item WHERE subject = 'RIGHTS_REQUEST' AND subscriber_id = '{person}';"
    return int(system.sql("notify", query).strip())


def test_what_somebody_saw_becomes_a_case_and_a_scan_waits_for_collectors(system: System) -> None:
    number = "010-0000-7315"
    person = system.jikimi("subscriber", "add", "한바다", "--mail", "bada.han@example.com")["subscriber_id"]
    system.jikimi("watch", "add", person, "mobile", number)
    words = ("channel", "report", person, "https://board.example.com/7", "--note", f"제 번호 {number}이 있어요")
    first = system.jikimi(*words)
    assert "RECEIVED" == first["state"]
    assert eventually(lambda: system.jikimi(*words, "--request", first["requestId"])["state"] == "SUBMITTED")
    assert eventually(lambda: system.jikimi("case", "list", "--subscriber", person))
    scan = system.jikimi("channel", "scan", "tiktok", "--most", "5")
    assert "REQUESTED" == scan["state"]
    assert [scan["scanId"]] == [c["scanId"] for c in system.jikimi("channel", "list") if c.get("scanId")]
    purges = system.jikimi("rights", "purges")
    assert isinstance(purges, list)
