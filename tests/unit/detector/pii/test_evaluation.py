"""Does the scan reach its aims on the generated posts and, where they are at hand, on the public sets?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.detector.domain.pii import Kind, Scanner
from services.detector.evaluate_pii import Sample, generated, judge, read_sets, run

DATA = Path(__file__).parents[5] / "shared/data/pii"
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="evaluation data ../shared/data/pii is not here")


def test_generated_posts_reach_the_aims(scanner: Scanner) -> None:
    outcome = judge(scanner, generated(per_template=3, seed=7))
    counted = [tally for kind, tally in outcome.kinds.items() if kind is not Kind.BUSINESS_NO]
    found, missed, false = (sum(getattr(tally, name) for tally in counted) for name in ("found", "missed", "false"))
    assert found / (found + false) >= 0.97
    assert found / (found + missed) >= 0.95


def test_a_missed_and_a_false_hit_are_counted(scanner: Scanner) -> None:
    outcome = judge(scanner, [Sample("메일 hong@example.com", ((Kind.PHONE, 0, 2),))])
    assert (outcome.kinds[Kind.PHONE].missed, outcome.kinds[Kind.EMAIL].false) == (1, 1)


def test_the_report_is_one_json_object_without_the_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {"text": "전화 010-2345-6789", "entities": [{"type": "PHONE", "start": 3, "end": 16}]}
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert run(["--data", str(tmp_path), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["sets"]["mine"]["kinds"]["PHONE"]["recall"] == 1.0
    assert "2345" not in printed


@with_data
def test_film_reviews_give_no_false_hit(scanner: Scanner) -> None:
    outcome = judge(scanner, read_sets(DATA)["ko_nsmc_presumed_negative"][:1500])
    assert outcome.texts_with_false_hits == 0


@with_data
def test_published_format_cases_are_all_decided_right(scanner: Scanner) -> None:
    outcome = judge(scanner, read_sets(DATA)["format_cases_presidio"])
    assert [(how, kind) for how, kind, _ in outcome.wrong] == []
