"""Does each expression match in the compiled core where `re` matches it, value and windows included?"""

from __future__ import annotations

import random
import re

import pytest

from services.detector.adapters.pii_core import NotBuilt, load
from services.detector.adapters.pii_core.generate import Expression, expressions, expressions_source
from services.detector.domain.pii import RECOGNISERS
from services.detector.domain.pii.normalise import normalise
from tests.data.crawl import posts

EXPRESSIONS = expressions()
WRITTEN = [
    text.replace("⟦", "").replace("⟧", "")
    for each in RECOGNISERS
    for text in (*each.examples.valid, *each.examples.invalid)
]
LETTERS = "".join(WRITTEN) + " \n\t-.,()０１ıſK가힣ﾠ\u200b😀"


@pytest.fixture(scope="module")
def texts() -> list[str]:
    rng = random.Random(7)
    plain = [*WRITTEN, *(post for sort in ("dense", "looks like it") for post in posts(sort, 8))]
    return [each for text in plain for each in (text, normalise(text).text, _spoilt(text, rng))]


def _spoilt(text: str, rng: random.Random) -> str:
    """The text with a few characters changed, taken out or put in, or a piece of another text."""
    letters = list(text)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(letters) + 1)
        put = rng.choice(([], [rng.choice(LETTERS)], list(rng.choice(WRITTEN)[:30])))
        letters[at : at + rng.randrange(2)] = put
    return "".join(letters)


def _matches(expression: Expression, text: str, low: int, high: int) -> list[tuple[int, int, int, int]]:
    found = []
    for match in expression.pattern.finditer(text.lower() if expression.small else text, low, high):
        groups = (match.span(name) for name in ("v", "w", "x") if name in match.re.groupindex)
        found.append((*match.span(), *next((span for span in groups if span[0] >= 0), (-1, -1))))
    return found


def test_each_expression_matches_as_in_python(texts: list[str]) -> None:
    try:
        core = load()
    except NotBuilt as reason:
        pytest.skip(str(reason))
    rng = random.Random(8)
    told, different = 0, []
    for number, expression in enumerate(EXPRESSIONS):
        for text in texts:
            low = rng.choice((0, rng.randrange(len(text) + 1)))
            high = rng.choice((len(text), rng.randrange(low, len(text) + 1)))
            expected = _matches(expression, text, low, high)
            told += len(expected)
            if core.find(number, text, low, high) != expected:
                different.append((expression.pattern.pattern[:60], text[:60], low, high))
    assert [] == different
    assert told > 1_000


@pytest.mark.parametrize(
    "expression", [r"a*", r"(?:a?)+b", r"(?i:(a))\1", r"^a", r"a(?:bc)*?d", r"(?=(?P<v>a))a"]
)
def test_what_has_no_equal_in_the_core_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"an? (?:expression|look|group|repeated)"):
        expressions_source([Expression(re.compile(expression, re.IGNORECASE))])
