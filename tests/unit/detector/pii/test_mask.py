"""Does masking cover every value, keep the text's form, and give snippets of bounded length?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detector.domain.pii import Scanner, TextPart, mask, snippet
from tests.data.korean_posts import generated

POSTS = [post.text for post in generated(per_template=1)]


def masked(scanner: Scanner, text: str) -> str:
    return mask(text, scanner.scan([TextPart("body", text)]).hits)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("연락 010-2345-6789 요", "연락 ***-****-6789 요"),
        ("공일공-이삼사오-육칠팔구", "***-****-****"),
        ("hong@example.com", "ho**@example.com"),
        ("hong [at] naver [dot] com", "**** [**] ***** [***] ***"),
        ("카드 4111-1111-1111-1111", "카드 4111-11**-****-1111"),
        ("900101-1234567", "******-*******"),
        ("여권 M12345678", "여권 *********"),
        ("이름: 홍길동", "이름: 홍**"),
        ("서울특별시 강남구 테헤란로 123", "서울특별시 강남구 **** ***"),
        ("국민은행 123456-04-123456", "국민은행 ******-**-***456"),
        ("pw: hunter2!", "pw: ********"),
    ],
)
def test_each_kind_is_covered_in_its_own_form(scanner: Scanner, text: str, expected: str) -> None:
    assert masked(scanner, text) == expected


@settings(max_examples=80, deadline=None)
@given(posts=st.lists(st.sampled_from(POSTS), min_size=1, max_size=5))
def test_a_masked_text_has_the_same_length_and_the_same_rest(scanner: Scanner, posts: list[str]) -> None:
    text = "\n".join(posts)
    found = scanner.scan([TextPart("body", text)]).hits
    covered = mask(text, found)
    inside = {at for hit in found for at in range(hit.start, hit.end)}
    assert len(covered) == len(text)
    assert all(covered[at] == text[at] for at in range(len(text)) if at not in inside)


def test_a_snippet_shows_the_masked_surroundings_only(scanner: Scanner) -> None:
    text = "가" * 500 + " 010-2345-6789 " + "나" * 500 + " hong@example.com " + "다" * 500
    found = scanner.scan([TextPart("body", text)]).hits
    assert snippet(text, found, 3) == "… 가가 ***-****-6789 나나 … 나나 ho**@example.com 다다 …"


def test_a_snippet_is_bounded(scanner: Scanner) -> None:
    text = "010-2345-6789 " * 1_000
    assert len(snippet(text, scanner.scan([TextPart("body", text)]).hits, 50)) <= 1_000


def test_a_snippet_without_hits_is_empty() -> None:
    assert snippet("아무것도 없음", [], 10) == ""
