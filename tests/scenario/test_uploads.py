"""Does the warning before an upload go the whole way: banner, case, notice, blur, proof, report?"""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from tests.scenario.conftest import MOBILE, Person
from tests.scenario.system import ROOT, System, eventually

PICTURES = ROOT / ".cache" / "pictures"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PICTURES.exists(), reason="the pictures are not there; `make setup` fetches them"),
]


@pytest.fixture(scope="module")
def account(system: System, person: Person) -> str:
    """A linked account of somebody whose face is enrolled."""
    system.jikimi("face", "add", person.subscriber_id, str(PICTURES / "obama.jpg"))
    return str(system.jikimi("account", "link", person.subscriber_id, "meta", "haneul.seo")["account_id"])


def test_an_upload_is_warned_about_blurred_proved_and_reported(
    system: System, person: Person, account: str, tmp_path: Path
) -> None:
    who, photo, result = person.subscriber_id, str(PICTURES / "obama2.jpg"), tmp_path / "redacted.jpg"
    system.run("services.console", "inbox", "device", who, "--seconds", "1")
    shown = system.jikimi("upload", "check", who, account, photo, "--text", f"전화 {MOBILE}")
    assert {"CRITICAL", "CANCEL"} == {shown["severity"], shown["suggestedAction"]}
    case_id = shown["caseId"]
    assert eventually(lambda: "OPEN" == _state(system, who, case_id))

    words = [who, shown["uploadCheckId"], "blur", photo, "--text", f"전화 {MOBILE}", "--out", str(result)]
    assert "전화 *************" == system.jikimi("upload", "resolve", *words)["text"]
    with Image.open(result) as redacted, Image.open(photo) as original:
        assert original.size == redacted.size
    assert eventually(lambda: "CLOSED" == _state(system, who, case_id))

    assert eventually(lambda: "BlurApplyLog" in _bodies(system, case_id))
    [report] = system.jikimi("redaction", "audit", case_id)
    assert (True, "RedactionAuditReport") == (report["proved"], report["report"])
    assert "HOLDS" in {check["outcome"] for check in report["checks"]}
    assert system.jikimi("case", "verify", case_id)["valid"]

    subjects = eventually(lambda: len(found := _subjects(system, who, case_id)) == 2 and found)
    assert {"UPLOAD_WARNED", "UPLOAD_REDACTED"} == subjects
    assert "1" == str(eventually(lambda: system.jikimi("upload", "report")["total"].get("blurred")))


def _state(system: System, who: str, case_id: str) -> str:
    cases = system.jikimi("case", "list", "--subscriber", who)
    return next((str(case["state"]) for case in cases if case["caseId"] == case_id), "")


def _bodies(system: System, case_id: str) -> set[str]:
    """Record types in a case's log, as the log names them."""
    entries = system.jikimi("case", "replay", case_id)["entries"]
    return {name[0].upper() + name[1:] for entry in entries for name in entry["record"] if name.endswith("Log")}


def _subjects(system: System, who: str, case_id: str) -> set[str]:
    return {notice["subject"] for notice in system.jikimi("inbox", "list", who) if notice["caseId"] == case_id}
