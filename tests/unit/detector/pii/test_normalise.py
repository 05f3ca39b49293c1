"""Does normalisation undo disguise, leave ordinary text alone, and lead back to the exact original place?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detector.domain.pii import Scanner, TextPart
from services.detector.domain.pii.normalise import Replacement, fold, normalise
from tests.data.korean_posts import generated

POSTS = [post.text for post in generated(per_template=2)]


@pytest.mark.parametrize(
    ("disguised", "plain"),
    [
        ("０１０－１２３４", "010-1234"),
        ("①②③", "123"),
        ("٠١٢", "012"),
        ("1\u200b2\ufeff3", "123"),
        ("010–1234—5678", "010-1234-5678"),
        ("010ㅡ1234ㅡ5678", "010-1234-5678"),
        ("\u1112\u1169\u11bc", "홍"),
        ("ㅋㅋㅋ ㅠㅠ", "ㅋㅋㅋ ㅠㅠ"),
        ("공일공-일이삼사-오육칠팔", "010-1234-5678"),
        ("영일영 구팔칠육 오사삼이", "010 9876 5432"),
        ("0 1 0 1 2 3 4 5 6 7 8", "01012345678"),
        ("zero one zero one two three four", "0101234"),
        ("one call to (123) 456-7890 or 75.208.166.157", "one call to (123) 456-7890 or 75.208.166.157"),
        ("o1o-1234-5678", "010-1234-5678"),
        ("hong골뱅이naver쩜com", "hong@naver.com"),
        ("hong [at] naver [dot] com", "hong@naver.com"),
        ("hong at gmail dot com", "hong@gmail.com"),
        ("hong골뱅이지메일닷컴", "hong@gmail.com"),
        ("골뱅이 무침 이인분", "골뱅이 무침 이인분"),
        ("이 사람 일 이 삼 번 봤다", "이 사람 일 이 삼 번 봤다"),
        ("see you at the dot", "see you at the dot"),
    ],
)
def test_disguise_is_undone_and_prose_is_not(disguised: str, plain: str) -> None:
    assert normalise(disguised).text == plain


def test_what_is_shown_of_a_view_says_nothing_of_its_text() -> None:
    view = normalise("공일공 4 8 2 7 - 3 1 5 9 hong[at]example.com")
    assert "hong@example.com" in view.text
    assert "hong" not in repr((view, Replacement(0, 4, "hong")))


def test_a_place_leads_back_over_several_rewritings() -> None:
    text = "번호\u200b는 공일공－일이삼사－오육칠팔이에요"
    view = normalise(text)
    start = view.text.index("010")
    assert view.origin(start, start + 13) == (text.index("공"), text.index("이에요"))


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(
        st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("０１①ㅡ–\u200b공일e\u0301\u1112\u1169"))
    )
)
def test_every_stretch_of_a_folded_text_leads_to_what_it_stands_for(text: str) -> None:
    view = fold(text)
    assert [
        fold(text[slice(*view.origin(at, at + 1))]).text.count(view.text[at]) > 0 for at in range(len(view.text))
    ] == [True] * len(view.text)


@settings(max_examples=100, deadline=None)
@given(post=st.sampled_from(POSTS), before=st.sampled_from(["", "\u200b\u200b", "ＡＢ ", "①", "e\u0301 "]))
def test_the_original_place_of_a_hit_holds_its_value(scanner: Scanner, post: str, before: str) -> None:
    text = f"{before}\n{post}"
    for hit in scanner.scan([TextPart("body", text)]).hits:
        again = scanner.scan([TextPart("body", post)]).hits
        assert normalise(text[hit.start : hit.end]).text in normalise(text).text
        assert hit.canonical in {each.canonical for each in again}
