"""Where the fast engine cannot be had, is the same found, and does everybody who should know learn of it?"""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.detector.__main__ import tell_scan_engine
from services.detector.domain.pii import Rules, Scanner, WholeText
from services.detector.scan_command import run

WHY = "the compiled core of the scan is not built: make setup"


@pytest.mark.parametrize(
    ("reason", "level", "said"),
    [("", "INFO", {"engine": "compiled"}), (WHY, "WARNING", {"engine": "reference", "reason": WHY})],
)
def test_a_detector_says_once_which_engine_scans(
    rules: Rules, caplog: pytest.LogCaptureFixture, reason: str, level: str, said: dict[str, str]
) -> None:
    caplog.set_level(logging.INFO, logger="services.detector.__main__")
    tell_scan_engine(Scanner(rules, WholeText, fallback_reason=reason))
    [record] = caplog.records
    assert ("scan_engine", level, said) == (record.message, record.levelname, vars(record)["jikimi"])


def test_a_command_says_why_it_is_slow_beside_its_answer(rules: Rules, capsys: pytest.CaptureFixture[str]) -> None:
    def printed(reason: str) -> tuple[str, str]:
        slow = Scanner(rules, WholeText, fallback_reason=reason)
        assert 0 == run(["--json", "-"], stdin=io.BytesIO("번호 010-2345-6789".encode()), build=lambda: slow)
        return capsys.readouterr()

    answer, silence = printed("")
    assert ("PHONE", "") == (json.loads(answer)["files"][0]["entities"][0]["kind"], silence)
    assert (answer, f"Scanned by the reference engine, same hits, slower: {WHY}\n") == printed(WHY)


def test_an_evaluation_without_hyperscan_is_slow_and_says_so(tmp_path: Path) -> None:
    """A package of that name that does not load stands for a machine that has no wheel of it."""
    (tmp_path / "hyperscan.py").write_text("raise ImportError('no hyperscan here')", encoding="ascii")
    entity = {"type": "EMAIL", "start": 0, "end": 16}
    row = {"id": 1, "text": "hong@example.com", "entities": [entity]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "services.detector", "eval", "pii", "--json", "--data", str(tmp_path / "rows.jsonl")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "Scanned by the reference engine, same hits, slower: no hyperscan here\n" == done.stderr
    report = json.loads(done.stdout)
    assert ("WholeText", 1) == (report["engine"], report["sets"]["rows"]["all"]["labelled"])
