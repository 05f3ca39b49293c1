"""Does a text in single bytes hold every match that it holds in characters, and does the scan of many miss none?"""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detector.adapters.pii_alphabet import Alphabet
from services.detector.adapters.pii_hyperscan import HyperscanEngine
from services.detector.domain.pii import RECOGNISERS, Rules, Scanner, TextPart
from services.detector.domain.pii.normalise import FOREIGN, HARMLESS, SIGNS_OF_VEILING
from services.detector.scan_command import scan_texts
from tests.data.crawl import posts
from tests.data.korean_posts import generated
from tests.data.matching import hidden

hyperscan = pytest.importorskip("hyperscan", reason="no hyperscan wheel for this architecture")
ANCHORS = sorted({anchor for each in RECOGNISERS for anchor in each.anchors})
EXPRESSIONS = [*ANCHORS, HARMLESS, FOREIGN, *SIGNS_OF_VEILING]
TEXTS = [post.text for post in generated(per_template=1)]


@pytest.fixture(scope="module")
def alphabet() -> Alphabet:
    return Alphabet(EXPRESSIONS)


def written(alphabet: Alphabet, text: str) -> bytes:
    """A text as the core writes it before the pass."""
    table = alphabet.table()
    return bytes([table[ord(char)] for char in text])


def test_every_match_in_characters_is_one_in_bytes(alphabet: Alphabet) -> None:
    missed = []
    for expression in ANCHORS:
        in_bytes = [re.compile(each.encode("ascii")) for each in alphabet.expressions(expression)]
        plain = re.compile(expression, re.IGNORECASE)
        missed += [
            (expression, found.group())
            for text in TEXTS
            for found in plain.finditer(text)
            if not any(each.match(written(alphabet, text), *found.span()) for each in in_bytes)
        ]
    assert [] == missed


def test_a_choice_is_told_apart_into_alternatives_up_to_a_bound() -> None:
    nested = "(?:a|b(?:cx|dy))e"
    many = "".join(["(?:a1|b2|c3|d4|e5|f6)"] * 8)
    alphabet = Alphabet([nested, many])
    assert 3 == len(alphabet.expressions(nested))
    assert 400 >= len(alphabet.expressions(many)) > 1


def test_hyperscan_tells_the_end_of_every_match_of_every_expression(alphabet: Alphabet) -> None:
    expressions = [*ANCHORS, *SIGNS_OF_VEILING]
    numbered = [(number, each) for number, whole in enumerate(expressions) for each in alphabet.expressions(whole)]
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[each.encode() for _, each in numbered],
        ids=[number for number, _ in numbered],
        elements=len(numbered),
        flags=[0] * len(numbered),
    )
    text, ends = hidden(expressions, 6_000, random.Random(1), " ".join(posts("looks like it", 100)))
    told: set[tuple[int, int]] = set()
    database.scan(written(alphabet, text), match_event_handler=lambda number, _, end, *rest: told.add((number, end)))
    missed = [(expressions[number], text[end - 30 : end]) for number, end in ends if (number, end) not in told]
    assert [] == missed


def test_a_character_is_a_byte_and_letters_of_both_cases_are_one(alphabet: Alphabet) -> None:
    assert [len(text) for text in TEXTS] == [len(written(alphabet, text)) for text in TEXTS]
    assert written(alphabet, "straße KAKAO 010") == written(alphabet, "STRAßE kakao 010")
    assert 4 == len(written(alphabet, "😀\ud800가a"))


def test_everyday_syllables_share_no_byte_with_a_word_of_a_rule(alphabet: Alphabet) -> None:
    everyday = written(alphabet, "뷁")
    assert everyday not in {written(alphabet, char) for char in "호번집곳앳쩜"}


def test_a_sign_of_one_character_shares_its_byte_with_no_syllable(alphabet: Alphabet) -> None:
    syllables = set(written(alphabet, "".join(map(chr, range(0xAC00, 0xD7A4)))))
    assert not syllables & set(written(alphabet, "\r\x0b\x0c\u200b…１①é"))


@pytest.mark.parametrize("expression", [r"a(?=b)", r"\bword", r"(a)\1"])
def test_what_is_no_simple_expression_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match="an anchor cannot hold"):
        Alphabet([expression]).expressions(expression)


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.sampled_from([*TEXTS, "", "\n", "010-2345-6789", "…"]), max_size=12))
def test_together_as_one_by_one(fast: Scanner, texts: list[str]) -> None:
    signals = [[TextPart("body", text)] for text in texts]
    assert [fast.scan(parts) for parts in signals] == list(fast.scan_each(signals))


def test_texts_beyond_the_limit_keep_their_places_among_others(fast: Scanner) -> None:
    long = "그냥 하는 말\n" * 40_000 + "번호 010-2345-6789"
    found = list(scan_texts(fast, ["번호 010-2345-6789", long, "", long, "x"]))
    starts = [[hit.start for hit in each.hits] for each in found]
    assert [[len("번호 ")], [len(long) - 13], [], [len(long) - 13], []] == starts


@pytest.fixture(scope="module")
def fast(rules: Rules) -> Scanner:
    return Scanner(rules, HyperscanEngine)
