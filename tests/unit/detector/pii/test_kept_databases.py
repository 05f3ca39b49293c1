"""Is what Hyperscan compiled kept, and is nothing trusted that is spoilt or that somebody else could have written?"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("hyperscan", reason="no hyperscan wheel for this architecture")

SCAN = """
from services.detector.adapters.pii_hyperscan import RULES_FILE, HyperscanEngine
from services.detector.domain.pii import RECOGNISERS, Rules
some = [each for each in RECOGNISERS if "mail" in each.rule_id or "card" in each.rule_id]
engine = HyperscanEngine(Rules.parse(RULES_FILE.read_text(encoding="utf-8")), some)
print(len(engine.find(["write to a.person@example.com today"], ["text"])[0]))
"""


def scanned(folder: Path) -> str:
    """What a process of its own finds with this folder."""
    environment = {**os.environ, "JIKIMI_CACHE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, "-c", SCAN], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    return run.stdout.strip()


def kept(folder: Path) -> dict[str, tuple[int, int]]:
    return {file.name: (file.stat().st_ino, file.stat().st_mode & 0o777) for file in (folder / "hyperscan").iterdir()}


@pytest.mark.slow
def test_what_was_compiled_is_kept_and_spoilt_or_foreign_files_are_made_anew(tmp_path: Path) -> None:
    assert "1" == scanned(tmp_path)
    first = kept(tmp_path)
    assert {0o600} == {mode for _, mode in first.values()}
    assert "1" == scanned(tmp_path)
    assert first == kept(tmp_path)
    [file] = (tmp_path / "hyperscan").iterdir()
    file.write_bytes(file.read_bytes()[:-7])
    assert "1" == scanned(tmp_path)
    second = kept(tmp_path)
    assert first != second
    file.chmod(0o622)
    assert "1" == scanned(tmp_path)
    third = kept(tmp_path)
    assert second != third
    assert {0o600} == {mode for _, mode in third.values()}


@pytest.mark.slow
def test_a_folder_that_cannot_be_written_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "hyperscan").write_text("a file where the folder should be", encoding="ascii")
    assert "1" == scanned(tmp_path)
