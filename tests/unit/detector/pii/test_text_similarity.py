"""Is a repost the same content however it was changed, and a different text another?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import services.detector.domain.text_similarity as text_similarity
from services.detector.domain.text_similarity import Signature, TextDedupRule, signature, similarity

RULE = TextDedupRule.parse(
    (Path(text_similarity.__file__).parents[1] / "rules" / "dedup_text.yaml").read_text(encoding="utf-8")
)
REVIEWS = Path(__file__).parents[5] / "shared/data/pii/ko_nsmc_presumed_negative.jsonl"
POST = (
    "이 사람 조심하세요. 중고거래에서 돈만 받고 물건을 안 보냅니다. 번호랑 주소 올립니다. 피해자분들 댓글 남겨주세요."
)
OTHER = "어제 본 영화 정말 재미있었어요. 배우들 연기도 좋고 음악도 훌륭해서 다시 보러 갈 생각입니다. 추천해요."
REPOSTS: dict[str, Callable[[str], str]] = {
    "quoted": lambda text: f'[펌] 원글: "{text}" 이거 보셨나요',
    "emoji": lambda text: text.replace(" ", " 🔥"),
    "truncated": lambda text: text[: len(text) * 6 // 10] + "…",
    "without spaces": lambda text: text.replace(" ", ""),
    "spaced out": " ".join,
    "line quoted": lambda text: "> " + text.replace(". ", ".\n> "),
    "upper case": str.upper,
}


@pytest.mark.parametrize("name", REPOSTS)
def test_a_repost_is_the_same_content(name: str) -> None:
    assert RULE.same(signature(POST), signature(REPOSTS[name](POST)))


def test_another_text_is_another_content() -> None:
    assert not RULE.same(signature(POST), signature(OTHER))
    assert similarity(signature(POST), signature(OTHER)) < 0.2


def test_short_texts_must_be_equal() -> None:
    assert RULE.same(signature("좋은 영화!"), signature("좋은영화"))
    assert not RULE.same(signature("좋은 영화"), signature("좋은 영화네"))
    assert not RULE.same(signature("ㅋ"), signature("ㅎ"))


def test_a_long_text_that_quotes_a_short_one_is_another_content() -> None:
    assert not RULE.same(signature(POST), signature(POST + OTHER * 8 + "".join(map(str, range(2_000)))))


def test_signatures_of_other_versions_do_not_compare() -> None:
    other = Signature(b"\x02" + signature(POST).value[1:])
    with pytest.raises(ValueError, match="version"):
        similarity(other, signature(POST))


def test_equal_text_has_an_equal_signature_of_fixed_size() -> None:
    assert signature(POST) == signature(POST)
    assert {len(signature(text).value) for text in ("", POST, POST * 100)} == {517}


@pytest.mark.skipif(not REVIEWS.exists(), reason="evaluation data ../shared/data/pii is not here")
def test_reviews_are_told_apart_and_their_reposts_are_found() -> None:
    texts = [json.loads(line)["text"] for line in REVIEWS.read_text(encoding="utf-8").split("\n")[:400]]
    marks = [signature(text) for text in texts]
    same = sum(RULE.same(a, b) for i, a in enumerate(marks) for b in marks[:i])
    assert same <= 2  # of 79,800 pairs
    long = [(text, mark) for text, mark in zip(texts, marks, strict=True) if mark.shingles >= 30]
    found = sum(RULE.same(mark, signature(change(text))) for text, mark in long for change in REPOSTS.values())
    assert found >= 0.98 * len(long) * len(REPOSTS)
