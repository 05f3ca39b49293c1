"""Does the measure of covered lines tell a digit that can still be read, and a line that no mask covers?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from services.detector.adapters.models import open_models
from services.detector.adapters.rules import read_rules
from services.detector.adapters.uploads_look import PictureRedactor
from services.detector.evaluate_ocr import read_labels
from services.detector.evaluate_redaction_lines import evaluate_lines, holds
from tests.data.ocr.strips import FIRST, HEIGHT, LEFT, PITCH, StripReader, printed

from .conftest import MODELS

TEXTS = ("call 010-2345-6789", "room 12")


@pytest.fixture
def redactor() -> PictureRedactor:
    if not (MODELS / "models.json").exists():
        pytest.skip("no models: make models")
    return PictureRedactor(open_models(MODELS, threads=1), read_rules().redaction)


def labelled(folder: Path, lines: int) -> Path:
    """A folder with one picture of two lines and one that cannot be an upload; `lines` lines are labelled."""
    Image.fromarray(printed(TEXTS)).save(folder / "page.png")
    rows = [
        {"text": "x", "quad": [[LEFT, top], [LEFT + 8, top], [LEFT + 8, top + HEIGHT - 1], [LEFT, top + HEIGHT - 1]]}
        for top in (FIRST + PITCH * number for number in range(lines))
    ]
    labels = [{"file": "page.png", "lines": rows}, {"file": "page.tif", "text": "y"}]
    (folder / "labels.jsonl").write_text("\n".join(map(json.dumps, labels)), encoding="utf-8")
    return folder


def test_covered_lines_hold_no_digit_and_lie_under_masks(tmp_path: Path, redactor: PictureRedactor) -> None:
    report = evaluate_lines(read_labels(labelled(tmp_path, 2)), StripReader(), redactor)
    counted = {name: report[name] for name in ("pictures", "labelled", "masks", "digits_before", "digits_in_masks")}
    assert counted == {"pictures": 1, "labelled": 2, "masks": 2, "digits_before": 13, "digits_in_masks": 0}
    assert (report["overlap_recall"], holds(report)) == (1.0, True)


def test_a_line_that_is_not_found_is_missed(tmp_path: Path, redactor: PictureRedactor) -> None:
    report = evaluate_lines(read_labels(labelled(tmp_path, 3)), StripReader(), redactor)
    assert not holds(report)


def test_a_digit_read_in_a_mask_is_a_failure() -> None:
    assert not holds({"digits_in_masks": 1, "overlap_recall": 1.0})
    assert holds({"digits_in_masks": 0, "overlap_recall": None})
