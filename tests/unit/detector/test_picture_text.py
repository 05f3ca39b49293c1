"""The lines of a picture as one text, and the way from its characters back to pixels."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detector.domain.picture_text import (
    MOST_CHARACTERS,
    Quad,
    TextLine,
    field_name,
    is_written,
    written,
)


def line(text: str, left: float, top: float, right: float, bottom: float) -> TextLine:
    return TextLine(Quad.upright(left, top, right, bottom), text, 0.9)


def turned(each: TextLine, degrees: float) -> TextLine:
    by = math.radians(degrees)
    a, b, c, d = (
        (x * math.cos(by) - y * math.sin(by), x * math.sin(by) + y * math.cos(by)) for x, y in each.quad.corners
    )
    return TextLine(Quad((a, b, c, d)), each.text, each.confidence)


FORM = [
    line("010-1234-5678", 200, 52, 420, 78),
    line("홍길동", 200, 11, 300, 39),
    line("이름", 20, 10, 80, 40),
    line("전화", 20, 50, 80, 80),
]


@pytest.mark.parametrize("degrees", [0, -8, 8])
def test_words_of_a_row_stand_together_and_rows_below_each_other_however_the_page_lies(degrees: float) -> None:
    assert "이름 홍길동\n전화 010-1234-5678" == written([turned(each, degrees) for each in FORM]).text


def test_a_picture_without_lines_says_nothing() -> None:
    assert ("", []) == (written([]).text, written([]).regions(0, 10))


def test_characters_lead_back_to_where_they_stand() -> None:
    page = written(FORM)
    start = page.text.index("5678")
    [region] = page.regions(start, start + 4)
    left, top, right, bottom = region.bounds
    # The last four of thirteen equal characters, with room for a syllable before, and a sixth of the height all around.
    assert 420 - 220 * 6 / 13 - 26 / 6 == pytest.approx(left)
    assert (420 + 26 / 6, 52 - 26 / 6, 78 + 26 / 6) == pytest.approx((right, top, bottom))


def test_syllables_are_twice_as_wide_as_figures() -> None:
    page = written([line("전화 010", 0, 0, 80, 10)])
    [region] = page.regions(3, 6)
    assert 80 * (5 - 2) / 8 - 10 / 6 == pytest.approx(region.bounds[0])


def test_what_runs_over_two_rows_has_a_region_in_each() -> None:
    page = written([line("서울시 한별로 1", 0, 0, 150, 20), line("101동 5호", 0, 30, 90, 50)])
    assert 2 == len(page.regions(0, len(page.text)))


def test_unread_lines_keep_their_place_and_add_no_space() -> None:
    page = written([line("가", 0, 0, 20, 20), TextLine(Quad.upright(0, 30, 90, 50)), line("나", 0, 60, 20, 80)])
    assert "가\n나" == page.text
    assert 3 == len(page.lines)
    [region] = page.regions(2, 3)
    assert region.bounds[1] > 50


def test_a_picture_full_of_text_is_bounded() -> None:
    page = written([line("가" * 6_000, 0, 30 * row, 900, 30 * row + 20) for row in range(9)])
    assert len(page.text) <= MOST_CHARACTERS
    assert 9 == len(page.lines)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(st.text("가나다a1 .", max_size=8), st.integers(0, 500), st.integers(0, 500)), max_size=12
    ).map(lambda rows: [line(text, x, y, x + 60, y + 18) for text, x, y in rows]),
    st.data(),
)
def test_every_span_of_the_text_leads_to_lines_that_hold_it(lines: list[TextLine], data: st.DataObject) -> None:
    page = written(lines)
    start = data.draw(st.integers(0, len(page.text)))
    end = data.draw(st.integers(start, len(page.text)))
    touched = [
        at
        for at, (each, first) in enumerate(zip(page.lines, page.starts, strict=True))
        if max(start, first) < min(end, first + len(each.text))
    ]
    assert len(touched) == len(page.regions(start, end))
    for at, first in enumerate(page.starts):
        assert page.lines[at].text == page.text[first : first + len(page.lines[at].text)]


def test_a_field_of_a_pictures_text_is_no_field_of_its_file() -> None:
    assert [True, True] == [is_written(field_name(0, 0)), is_written(field_name(3, 2))]
    others = ["image.0.written.0", "image.0.Artist.1", "text.0", "metadata.written.0", "image.x.written"]
    assert not any(is_written(each) for each in others)


def test_a_line_says_nothing_in_repr() -> None:
    assert "홍길동" not in repr(written(FORM)) + repr(FORM[1])
