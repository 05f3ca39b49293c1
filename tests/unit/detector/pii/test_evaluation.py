"""Does the scan reach its aims on generated posts and, where they are at hand, on the public sets?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from services.detector.domain.pii import Confidence, Kind, Scanner, TextPart
from services.detector.evaluate_pii import RULES_FILE, Outcome, Reading, Sample, Span, judge, read_set, run
from tests.data.korean_posts import generated

DATA = Path(__file__).parents[5] / "shared/data/pii"
READING = Reading.parse(RULES_FILE.read_text(encoding="utf-8"))
with_data = pytest.mark.skipif(not DATA.is_dir(), reason="evaluation data ../shared/data/pii is not here")


def found(scanner: Scanner, samples: list[Sample]) -> list[list[Span]]:
    results = [scanner.scan([TextPart("text", sample.text)]).hits for sample in samples]
    return [[Span(hit.kind, hit.start, hit.end, hit.confidence, hit.personal) for hit in hits] for hits in results]


def judged(scanner: Scanner, samples: list[Sample]) -> Outcome:
    return judge(samples, found(scanner, samples))


@pytest.mark.parametrize("part", ["tuning", "scoring"])
def test_generated_posts_reach_the_aims(scanner: Scanner, part: str) -> None:
    samples = [
        Sample(post.text, tuple(Span(Kind(kind), start, end) for kind, start, end in post.labels), group=post.group)
        for post in generated(part, per_template=2, seed=7)
    ]
    outcome = judged(scanner, samples)
    total = outcome.total()
    assert 1 - total.false / total.hits >= 0.98
    assert total.found / total.labelled >= 0.98
    evasion = outcome.groups["evasion"].total()
    assert evasion.found / evasion.labelled >= 0.93


def test_overlapping_and_exact_spans_are_counted_apart() -> None:
    label = Span(Kind.PHONE, 0, 10)
    spans = [Span(Kind.PHONE, 2, 10, Confidence.LOW), Span(Kind.EMAIL, 20, 30)]
    total = judge([Sample("x" * 30, (label,))], [spans]).total().report()
    assert (total["overlapping"]["found"], total["overlapping"]["false"]) == (1, 1)
    assert (total["exact"]["found"], total["exact"]["false"]) == (0, 2)
    assert total["high"] == {"hits": 1, "false": 1, "precision": 0.0}


def test_a_hit_that_covers_less_than_half_is_no_find() -> None:
    outcome = judge([Sample("x" * 30, (Span(Kind.ADDRESS, 0, 20),))], [[Span(Kind.ADDRESS, 12, 20)]])
    assert (outcome.total().found, outcome.total().false) == (0, 0)
    assert outcome.wrong == [("missed", Kind.ADDRESS, "", 0, 20)]


@pytest.mark.slow
def test_the_report_is_one_json_object_without_the_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"id": 1, "text": "전화 010-2345-6789", "entities": [{"kind": "PHONE", "start": 3, "end": 16}]},
        {"id": 2, "text": "면허 11-22-123456-12", "entities": [{"type": "DRIVER_LICENSE", "start": 3, "end": 18}]},
    ]
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    assert run(["--data", str(data), "--json"]) == 0
    printed = capsys.readouterr().out
    assert json.loads(printed)["sets"]["mine"]["kinds"]["PHONE"]["exact"]["recall"] == 1.0
    assert json.loads(printed)["sets"]["mine"]["kinds"]["DRIVER_LICENCE"]["overlapping"]["recall"] == 1.0
    assert "2345" not in printed


def test_rows_with_impossible_labels_are_named(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "text": "abc", "entities": [{"kind": "PHONE", "start": 0, "end": 9}]},
        {"id": 2, "text": "abc", "entities": [{"start": 0, "end": 1}]},
        {"id": 3, "text": "abc", "entities": 5},
        {"id": 4, "text": "abc", "entities": [{"kind": "GALAXY", "start": 0, "end": 1}]},
    ]
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    samples, broken = read_set(data, READING)
    assert [(row.line, row.reason) for row in broken] == [(1, "BAD_ENTITIES"), (2, "BAD_ENTITIES"), (3, "BAD_ENTITIES")]
    assert [(sample.row_id, sample.labels) for sample in samples] == [("4", ())]


@with_data
def test_film_reviews_give_no_false_hit(scanner: Scanner) -> None:
    outcome = judged(scanner, read_set(DATA / "ko_nsmc_presumed_negative.jsonl", READING)[0][:1500])
    assert outcome.texts_with_false_hits == 0


@with_data
def test_published_format_cases_are_all_decided_right(scanner: Scanner) -> None:
    outcome = judged(scanner, read_set(DATA / "format_cases_presidio.jsonl", READING)[0])
    assert outcome.wrong == []
