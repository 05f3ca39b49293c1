"""Lines of text in pictures: how a map of probabilities becomes lines, how two readings become one, what is read."""

from __future__ import annotations

import json
import logging
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from services.detector.__main__ import Tuning, text_reader
from services.detector.adapters.engines import ONNXRUNTIME
from services.detector.adapters.ocr import (
    OcrUnavailable,
    PictureReader,
    merged,
    open_reader,
    regrouped,
    suffices,
    without_repeats,
)
from services.detector.adapters.ocr_hangul import Word, in_words
from services.detector.adapters.ocr_models import LINE_HEIGHT, LatinRecogniser, LineRules, Symbol, cut, lines_of
from services.detector.adapters.rules import read_rules
from services.detector.domain.picture_text import Quad
from services.detector.domain.pii import Rules, Scanner, WholeText
from services.detector.evaluate_ocr import Tally, common, covering, distance, evaluate, judge, read_labels
from tests.data.ocr.pages import NoFont, Page, fonts, pages, write
from tests.data.ocr.strips import LEFT, StripReader, printed

from .conftest import MODELS, paint

RULES = read_rules()
LINES = LineRules(0.3, 0.5, 1.6)
Pixels = NDArray[np.uint8]


def marked(size: tuple[int, int], degrees: float, certainty: float = 0.9) -> NDArray[np.float32]:
    """A map of 200 × 300 with the core of one line in its middle."""
    likely = np.zeros((200, 300), np.float32)
    corners = cv2.boxPoints(((150, 100), size, degrees))
    cv2.fillPoly(likely, [np.round(corners).astype(np.int32)], (certainty,))
    return likely


@pytest.mark.parametrize("degrees", [0, 12, -25, 70, 90])
def test_a_marked_core_becomes_a_line_that_follows_its_slope(degrees: float) -> None:
    [(quad, score)] = lines_of(marked((160, 12), degrees), LINES)
    more = 160 * 12 * 1.6 / (160 + 12)
    assert (160 + more, 12 + more) == pytest.approx((quad.length, quad.height), abs=3)
    assert (150, 100) == pytest.approx(quad.centre, abs=1)
    assert degrees == pytest.approx(math.degrees(quad.slope), abs=2)
    assert score > 0.5


def test_specks_and_doubtful_regions_are_no_lines() -> None:
    assert [] == lines_of(marked((2, 2), 0), LINES)
    assert [] == lines_of(marked((160, 12), 0, certainty=0.4), LINES)


def test_a_line_is_cut_out_upright_and_its_left_end_comes_first() -> None:
    page = np.full((200, 300, 3), 255, np.uint8)
    corners = cv2.boxPoints(((150, 100), (160, 24), 30))
    cv2.fillPoly(page, [np.round(corners).astype(np.int32)], (0, 0, 200))
    left = np.array([150, 100]) - 70 * np.array([math.cos(math.radians(30)), math.sin(math.radians(30))])
    cv2.circle(page, (round(left[0]), round(left[1])), 8, (200, 0, 0), -1)
    strip = cut(page, lines_of(marked((160, 24), 30), LineRules(0.3, 0.5, 0.0))[0][0])
    assert strip.shape[1] > 5 * strip.shape[0]
    half = strip.shape[1] // 2
    assert (strip[:, :half, 0] > 150).sum() > 100 > (strip[:, half:, 0] > 150).sum() - (strip[:, half:, 1] > 150).sum()


class Scripted:
    """A network that answers with characters given by number for each step, all as sure."""

    engine_id = "scripted"

    def __init__(self, numbers: Sequence[int]) -> None:
        self._numbers = numbers

    def run(self, values: NDArray[np.uint8] | NDArray[np.float32]) -> list[NDArray[np.float32]]:
        steps = values.shape[2] // 8
        numbers = np.zeros((1, steps), np.float32)
        numbers[0, : len(self._numbers)] = self._numbers
        return [numbers, np.full((1, steps), 0.8, np.float32)]


def test_equal_steps_are_one_character_unless_one_without_lies_between() -> None:
    line = np.zeros((LINE_HEIGHT, 160, 3), np.uint8)
    symbols = LatinRecogniser(Scripted([0, 1, 1, 0, 1, 2, 2, 2, 0]), "ab").read(line)
    assert "aab" == "".join(symbol.text for symbol in symbols)
    assert [2 / 20, 4.5 / 20, 6.5 / 20] == pytest.approx([symbol.place for symbol in symbols])


def symbols(text: str, certainty: float = 0.99, start: float = 0.0, end: float = 1.0) -> list[Symbol]:
    """Characters at equal distances."""
    step = (end - start) / len(text)
    return [Symbol(char, start + (at + 0.5) * step, certainty) for at, char in enumerate(text)]


@pytest.mark.parametrize(
    ("read", "aspect", "enough"),
    [
        (symbols("010-1234-5678"), 7.0, True),
        (symbols("010-1234-5678", certainty=0.7), 7.0, False),
        (symbols("«Grüße» aus Málaga…"), 9.0, True),
        (symbols("召"), 1.0, False),
        # Full-width letters are what Hangul is taken for.
        (symbols("6Ｌ1/6"), 3.0, False),
        # A word of Hangul before the number, of which nothing came out.
        (symbols("010-1234-5678", start=0.4), 12.0, False),
        (symbols("122", end=0.2) + symbols("1297", start=0.7), 12.0, False),
        ([], 3.0, False),
    ],
)
def test_a_line_without_hangul_is_read_once(read: list[Symbol], aspect: float, enough: bool) -> None:
    assert enough == suffices(read, aspect, 0.9)


def test_figures_of_one_reading_stand_between_the_words_of_the_other() -> None:
    words = [Word("전화번호:", 0.0, 0.28, 0.95), Word("O10-1Z34-5678", 0.33, 1.0, 0.6)]
    latin = [Symbol("京", 0.2, 0.5), *symbols("010-1234-5678", start=0.33)]
    text, confidence = merged(words, latin, 12.0, 0.9)
    assert "전화번호: 010-1234-5678" == text
    assert confidence == pytest.approx((0.95 + 0.99) / 2)


def test_a_syllable_behind_figures_is_kept() -> None:
    words = [Word("108동", 0.0, 0.45, 0.9), Word("1297호", 0.55, 1.0, 0.9)]
    latin = symbols("108", end=0.3) + symbols("1297", start=0.55, end=0.9)
    assert "108동 1297호" == merged(words, latin, 5.0, 0.9)[0]


def test_letters_that_were_taken_for_syllables_are_put_right() -> None:
    words = [Word("메일은", 0.0, 0.2, 0.9), Word("니8ㅁ@0231.6", 0.25, 1.0, 0.4)]
    latin = symbols("gildong18@mail.kr", start=0.25)
    assert "메일은 gildong18@mail.kr" == merged(words, latin, 14.0, 0.9)[0]


@pytest.mark.parametrize(
    ("read", "meant"),
    [
        ("6011 1111 11111117", "6011 1111 1111 1117"),
        ("40128888 8888 1881", "4012 8888 8888 1881"),
        ("010 1234 5678", "010 1234 5678"),
        ("3782 822463 10005", "3782 822463 10005"),
        ("1234 12345678", "1234 12345678"),
        ("Card 4111 11111111", "Card 4111 11111111"),
        ("", ""),
    ],
)
def test_a_group_as_long_as_two_is_two(read: str, meant: str) -> None:
    assert meant == regrouped(read)


def test_a_figure_beside_a_word_belongs_to_its_number() -> None:
    words = [Word("전화", 0.0, 0.2, 0.9), Word("010-5472-6769", 0.36, 1.0, 0.9)]
    latin = symbols("010-5472-6769", start=0.25)
    assert "전화 010-5472-6769" == merged(words, latin, 8.3, 0.9)[0]


def test_what_neither_reads_is_nothing() -> None:
    assert ("", 0.0) == merged([], [Symbol("召", 0.5, 0.9)], 1.0, 0.9)
    assert ("", 0.0) == merged([], [], 1.0, 0.9)


def test_words_take_their_places_from_their_syllables() -> None:
    syllables = [Word(char, at / 7, (at + 1) / 7, 0.9) for at, char in enumerate("이름: 홍길동") if char != " "]
    found = in_words(["이름:", "홍길동"], syllables)
    assert [("이름:", 0.0, 3 / 7), ("홍길동", 4 / 7, 1.0)] == [(word.text, word.start, word.end) for word in found]


def test_a_line_found_in_two_pieces_is_one() -> None:
    whole, part, other = (Quad.upright(0, y, x, y + 20) for x, y in ((200, 50), (90, 52), (200, 90)))
    assert [whole, other] == without_repeats([whole, other, part])


def test_without_its_models_the_reader_says_what_would_bring_them(tmp_path: Path) -> None:
    with pytest.raises(OcrUnavailable, match="make ocr") as refused:
        open_reader(tmp_path, 1, ONNXRUNTIME, RULES.ocr)
    assert "OCR_MODELS_MISSING" == refused.value.reason


@pytest.mark.parametrize(("mode", "reason"), [("auto", "OCR_MODELS_MISSING"), ("off", "OCR_OFF")])
def test_a_detector_without_the_extra_starts_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mode: str, reason: str
) -> None:
    caplog.set_level(logging.INFO, logger="services.detector.__main__")
    assert text_reader(tmp_path, Tuning(ocr=mode), RULES) is None
    [said] = caplog.records
    assert ("texts_in_pictures_not_read", reason) == (said.message, said.jikimi["reason"])


def test_masks_cover_lines_and_a_margin() -> None:
    mask = covering([Quad.upright(20, 40, 120, 60)], (100, 200), 0.25)
    assert mask[35:65, 15:125].all()
    assert 0 == mask[:34].sum() + mask[:, :14].sum()


def test_errors_are_counted_in_characters() -> None:
    assert [0, 1, 3, 2] == [distance(*each) for each in (("가나", "가나"), ("010", "01"), ("", "abc"), ("ab", "ba"))]
    assert [2, 0] == [common("0123", "1.3"), common("12", "ab")]


def test_the_evaluation_tells_what_is_covered_read_and_found(tmp_path: Path) -> None:
    said = ["연락처 010-2345-6789", "안녕하세요"]
    Image.fromarray(printed(["연락처 010-2345-6788", "안녕하세요"])).save(tmp_path / "a.png")
    covered, missed = ([[left, 20], [left + 20, 20], [left + 20, 36], [left, 36]] for left in (LEFT, 300))
    rows = [
        {"file": "a.png", "kind": "screen", "lines": [{"text": said[0], "quad": covered}]},
        {"file": "a.png", "kind": "screen", "lines": [{"text": said[1], "quad": missed}]},
    ]
    (tmp_path / "labels.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    scanner = Scanner(Rules.parse(RULES.pii_file.read_text(encoding="utf-8")), WholeText)
    report = evaluate(read_labels(tmp_path), StripReader(), scanner, 0.25)
    total = report["total"]
    assert report["kinds"]["screen"] == total
    assert (2, 2, 0.5, 0.5) == tuple(total[k] for k in ("pictures", "lines", "overlap_recall", "lines_covered"))
    # One figure of eleven is wrong, of sixteen characters; nothing was read where the second line of five should stand.
    assert (round(6 / 21, 4), round(10 / 11, 4)) == (total["character_error_rate"], total["digits_found"])
    assert (1, 0.0, 2) == (total["hits"], total["hits_found"], total["hits_false"])


# --- the real models ---


@pytest.fixture(scope="module")
def reader() -> PictureReader:
    try:
        return open_reader(MODELS, 1, "auto", RULES.ocr)
    except OcrUnavailable as problem:
        pytest.skip(f"{problem.reason}: {problem}")


@pytest.fixture(scope="module")
def some_pages() -> list[Page]:
    """Two of each kind: one as drawn, one as somebody took it."""
    try:
        fonts()
    except NoFont as problem:
        pytest.skip(str(problem))
    return list(pages(12, seed=7))


@pytest.mark.slow
def test_cards_envelopes_and_chats_are_covered_and_read(
    reader: PictureReader, some_pages: list[Page], tmp_path: Path
) -> None:
    write(tmp_path, some_pages)
    total, scanner = Tally(), RULES.scanner()
    for label in read_labels(tmp_path):
        total.add(judge(label, reader, scanner, RULES.redaction.line_margin))
    rates = total.rates()
    assert rates["overlap_recall"] >= 0.98
    assert rates["character_error_rate"] <= 0.1
    assert rates["digits_found"] >= 0.93
    assert rates["hits_found"] >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_card_that_lies_on_its_side_or_head_is_read(
    reader: PictureReader, some_pages: list[Page], quarters: int
) -> None:
    page = next(each for each in some_pages if each.kind == "payment_card")
    number = next(line.text for line in page.lines if sum(c.isdecimal() for c in line.text) >= 15)
    text = reader.read(np.ascontiguousarray(np.rot90(page.pixels, quarters))).written.text
    assert "".join(number.split()) in "".join(text.split())


@pytest.mark.slow
def test_a_long_screenshot_is_read_to_its_end(reader: PictureReader, some_pages: list[Page]) -> None:
    chats = [page for page in some_pages if page.kind == "chat"][:1]
    form = next(page for page in some_pages if page.kind == "form")
    page = np.concatenate([chats[0].pixels, np.full((2600, 720, 3), 235, np.uint8), form.pixels[:, :720]])
    text = "".join(reader.read(page).written.text.split())
    assert "".join(form.lines[1].text.split())[-8:] in text
    assert "".join(chats[0].lines[1].text.split())[-4:] in text


@pytest.mark.slow
def test_every_line_of_a_dense_page_is_found(reader: PictureReader, some_pages: list[Page]) -> None:
    file, face = fonts()[0]
    sheet = Image.new("RGB", (1240, 1754), (250, 250, 250))
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(str(file), 14, index=face)
    places = [(80, 60 + 24 * row) for row in range(66)]
    for number, place in enumerate(places):
        pen.text(place, f"{number}. 전화번호 010-1234-5678 주소 서울특별시 한별로 12", font=font, fill=(30, 30, 30))
    mask = covering(reader.find(np.asarray(sheet, np.uint8)), (1754, 1240), RULES.redaction.line_margin)
    assert [] == [place for place in places if not mask[place[1] + 9, 90:400].all()]


@pytest.mark.slow
def test_scenery_says_nothing(reader: PictureReader) -> None:
    assert ["", "", ""] == [reader.read(paint(seed)).written.text for seed in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1), (31, 33), (40, 2000)])
def test_noise_of_any_shape_is_borne(reader: PictureReader, size: tuple[int, int]) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), dtype=np.uint8)
    reading = reader.read(noise)
    assert len(reading.written.lines) == len(reading.written.starts) <= RULES.ocr.most_found


@pytest.mark.slow
def test_bounds_leave_lines_unread_and_say_so(reader: PictureReader, some_pages: list[Page]) -> None:
    page = next(each for each in some_pages if each.kind == "chat")
    late, stopped = reader.read(page.pixels, seconds=0.0), reader.read(page.pixels, stopped=lambda: True)
    whole = reader.read(page.pixels)
    assert [False, False, True] == [each.complete for each in (late, stopped, whole)]
    assert ["", ""] == [late.written.text, stopped.written.text]
    assert len(whole.written.lines) == len(late.written.lines) > 8


@pytest.mark.slow
def test_lines_found_in_a_small_picture_are_read_from_the_large_one(
    reader: PictureReader, some_pages: list[Page]
) -> None:
    page = next(each for each in some_pages if each.kind == "form")
    small = np.asarray(cv2.resize(page.pixels, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA), np.uint8)
    reading = reader.read(small, lambda: page.pixels)
    assert all(0 <= line.quad.bounds[2] <= small.shape[1] + 1 for line in reading.written.lines)
    assert "".join(page.lines[1].text.split())[-8:] in "".join(reading.written.text.split())


@pytest.mark.slow
def test_nothing_reports_to_anyone(reader: PictureReader, tmp_path: Path) -> None:
    """No connection is tried, and nothing is left in the home folder, as the packages' own reporting would."""
    program = (
        "import os, sys\n"
        "refused = ('socket.connect', 'socket.getaddrinfo')\n"
        "sys.addaudithook(lambda event, _: os._exit(9) if event in refused else None)\n"
        "from pathlib import Path\n"
        "from services.detector.adapters.ocr import open_reader\n"
        "from services.detector.adapters.ocr_models import probe\n"
        "from services.detector.adapters.rules import read_rules\n"
        f"reader = open_reader(Path({str(MODELS)!r}), 1, 'auto', read_rules().ocr)\n"
        "print(reader.read(probe()).written.text)\n"
    )
    home = tmp_path / "home"
    home.mkdir()
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    assert "010-1234-5678" in told
    assert [] == list(home.rglob("*"))
