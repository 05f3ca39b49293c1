"""By which words is a masked text found?"""

from __future__ import annotations

import pytest

from services.case.adapters.search import Tags
from services.case.domain.search import search_words

TEXT = "강남구에서 본 김하나 010-****-5678, Hana@EXAMPLE.org ﬁne"


@pytest.mark.parametrize(
    "asked", ["강남구", "남구에서", "5678", "010-****-5678", "hana", "example.org", "FINE", "하나 5678"]
)
def test_a_text_is_found_by_what_stands_in_it(asked: str) -> None:
    words = search_words(asked, 512)
    assert words
    assert words <= search_words(TEXT, 512)


@pytest.mark.parametrize("asked", ["강북구", "1234", "exampl", "010-1234-5678"])
def test_a_text_is_not_found_by_what_does_not(asked: str) -> None:
    assert not search_words(asked, 512) <= search_words(TEXT, 512)


@pytest.mark.parametrize("asked", ["", "*", "김", "a", " \t", "__"])
def test_what_has_no_word_cannot_be_asked_for(asked: str) -> None:
    assert frozenset() == search_words(asked, 512)


def test_a_long_text_is_found_by_its_beginning() -> None:
    assert frozenset({"w1", "w2"}) == search_words("w1 w2 w3", 2)


def test_tags_depend_on_the_key_and_on_nothing_else() -> None:
    one, other = Tags(b"1" * 32), Tags(b"2" * 32)
    assert one.of(["하나", "5678"]) == one.of(["5678", "하나", "5678"])
    assert set() == set(one.of(["하나"])) & set(other.of(["하나"]))
    assert all(-(2**31) <= tag < 2**31 for tag in one.of(map(str, range(1000))))
