"""Do both engines give the same hits, and does a hostile text cost no more than its length?"""

from __future__ import annotations

import importlib
import re
import time
import unicodedata
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detector.adapters.pii_hyperscan import HyperscanEngine
from services.detector.domain.pii import RECOGNISERS, Rules, Scanner, TextPart, TextTooLong
from services.detector.domain.pii.normalise import FOREIGN, HARMLESS, KEPT, fold
from services.detector.domain.pii.recogniser import Recogniser
from tests.data.hostile import HOSTILE
from tests.data.korean_posts import generated

sre = importlib.import_module("re._parser")  # untyped; the only way to learn a pattern's widest match
pytest.importorskip("hyperscan", reason="no hyperscan wheel for this architecture")
EXAMPLES = [
    text.translate({0x27E6: None, 0x27E7: None})
    for r in RECOGNISERS
    for text in (*r.examples.valid, *r.examples.invalid)
]
POSTS = [post.text for post in generated(per_template=1)]
PIECES = st.one_of(
    st.sampled_from(EXAMPLES),
    st.sampled_from(POSTS),
    st.text(max_size=40),
    st.text("0123456789-. +()@가나로동호길시구군은행", max_size=40),
    st.text("…ㅡ–—～\ufe0f\u200d\u200b '’“❤😀１①공일이삼사 0123oOlI.-@쩜at", max_size=30),
    st.sampled_from(
        [
            "카드",
            "이름",
            "비번",
            " at ",
            " dot ",
            "골뱅이",
            "one ",
            "two ",
            "…",
            "❤\ufe0f",
            "주문번호 ",
            "서울",
            "강남구 ",
            "010",
            "+82",
            "\n",
            " ",
            "@",
            ".com",
            "은행 ",
            "전화 ",
            "1203호",
            "\u200b",
        ]
    ),
)


@pytest.fixture(scope="session")
def fast(rules: Rules) -> Scanner:
    return Scanner(rules, HyperscanEngine)


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(PIECES, max_size=8), glue=st.sampled_from(["", " ", "\n", ", "]))
def test_both_engines_find_the_same(scanner: Scanner, fast: Scanner, pieces: list[str], glue: str) -> None:
    parts = [TextPart("body", glue.join(pieces))]
    assert fast.scan(parts) == scanner.scan(parts)


DISGUISES = (
    lambda text: text.replace("-", "ㅡ"),
    lambda text: text.replace("-", "…"),
    lambda text: text.replace(" ", " \u200b"),
    lambda text: "\ufe0f".join(text),
    lambda text: text.replace("-", " - "),
    lambda text: text.translate(str.maketrans("0123456789", "공일이삼사오육칠팔구")),
    lambda text: " ".join(text),
    lambda text: "❤\ufe0f" + text + "…",
)


@pytest.mark.parametrize("disguise", DISGUISES)
def test_no_disguise_hides_a_text_from_the_fast_engine_alone(
    scanner: Scanner, fast: Scanner, disguise: Callable[[str], str]
) -> None:
    texts = [disguise(text) for text in EXAMPLES]
    found = [[part, fast.scan([part])] for part in (TextPart("body", text) for text in texts)]
    assert found == [[part, scanner.scan([part])] for part in (TextPart("body", text) for text in texts)]


def test_every_character_that_folding_changes_is_a_sign_or_harmless() -> None:
    foreign, harmless = re.compile(FOREIGN), re.compile(HARMLESS)
    characters = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    changed = [char for char in characters if fold(char).text != char]
    assert [char for char in changed if not foreign.match(char) and not harmless.match(char)] == []


def test_characters_said_to_be_kept_are_kept_by_folding() -> None:
    kept = [char for char in map(chr, range(0x30000)) if re.match(f"[{KEPT}]", char)]
    assert [char for char in kept if unicodedata.normalize("NFKC", char) != char or fold(char).text != char] == []


@pytest.mark.parametrize("rule", RECOGNISERS, ids=lambda rule: rule.rule_id)
def test_a_window_holds_the_widest_match(rule: Recogniser) -> None:
    widest = sre.parse(rule.pattern.pattern, rule.pattern.flags).getwidth()[1]
    assert widest + 2 <= rule.reach


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.slow
def test_cost_grows_with_length_not_its_square(fast: Scanner, name: str) -> None:
    def once(parts: list[TextPart]) -> float:
        start = time.process_time()
        fast.scan(parts)
        return time.process_time() - start

    def seconds(length: int) -> float:
        parts = [TextPart("body", HOSTILE[name](length))]
        return min(once(parts), once(parts))  # whoever shares the core and its caches makes one of them slower

    # Sixteen times the text: linear work is 16, quadratic 256; short runs are noise, hence the floor. The bound
    # lies far from both, because a text that no longer fits the cache costs up to three times as much.
    assert seconds(131_072) <= 64 * max(seconds(8_192), 0.005)


def test_text_beyond_the_limit_is_refused_by_size_alone(scanner: Scanner) -> None:
    secret = "010-2345-6789 "
    with pytest.raises(TextTooLong) as refusal:
        scanner.scan([TextPart("body", secret * 20_000)])
    assert secret not in str(refusal.value)
