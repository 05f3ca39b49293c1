"""Is a repost the same content however it was changed, and a different text another?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import services.detector.domain.text_similarity as text_similarity
from services.detector.domain.text_similarity import (
    Signature,
    TextDedupRule,
    compare_all,
    signature,
    similarity,
)

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


def test_signatures_of_the_version_before_still_compare() -> None:
    before = Signature(b"\x01" + signature(POST).value[1:517])
    assert RULE.same(before, signature(REPOSTS["quoted"](POST)))
    assert not RULE.same(before, signature(OTHER))


@pytest.mark.parametrize("value", [b"", b"\x01", b"\x03" + bytes(516), signature(POST).value[:-1], bytes(600)])
def test_other_bytes_are_no_signature(value: bytes) -> None:
    with pytest.raises(ValueError, match="signature"):
        Signature(value)


def test_equal_text_has_an_equal_signature_of_bounded_size() -> None:
    assert signature(POST) == signature(POST)
    sizes = {len(signature(text).value) for text in ("", POST, POST * 100, " ".join(map(str, range(10, 4_000))))}
    assert {518, 582} == sizes
    assert "value" not in repr(signature(POST))


FORM = "사기꾼 신고합니다. 전화 {}, 계좌 {}. {}원 입금했는데 연락이 안 됩니다. 여러분 모두 조심하세요."
FILLED = FORM.format("010-2345-6789", "110-234-567890", "350,000")


def test_a_form_with_other_numbers_is_another_content() -> None:
    for others in (("010-9988-7766", "302-11-445566", "90,000"), ("010-2345-6789", "302-11-445566", "90,000")):
        other = FORM.format(*others)
        assert similarity(signature(FILLED), signature(other)) >= RULE.min_similarity
        assert not RULE.same(signature(FILLED), signature(other))
        assert not RULE.same(signature(FILLED), signature(" ".join(other)))


@pytest.mark.parametrize(
    "changed",
    [
        FILLED.replace("010-2345-6789", "010-****-6789"),
        "2026-11-20 13:22 조회 1523 추천 38\n" + FILLED,
        FILLED.replace("010-2345-6789", "공일공 2345 6789"),
        FILLED[:40] + "…",
        " ".join(FILLED),
    ],
)
def test_a_repost_may_hide_add_or_cut_off_numbers(changed: str) -> None:
    assert RULE.same(signature(FILLED), signature(changed))


def test_texts_with_many_numbers_are_compared_as_far_as_both_are_kept() -> None:
    rows = [f"{number} 회원 포인트 {number * 7}" for number in range(1_000, 1_060)]
    whole, part = signature("\n".join(rows)), signature("\n".join(rows[:40]))
    other = signature("\n".join(f"{number} 회원 포인트 {number * 7}" for number in range(5_000, 5_060)))
    assert RULE.same(whole, part)
    assert not RULE.same(whole, other)


@pytest.mark.skipif(not REVIEWS.exists(), reason="evaluation data ../shared/data/pii is not here")
def test_reviews_are_told_apart_and_their_reposts_are_found() -> None:
    texts = [json.loads(line)["text"] for line in REVIEWS.read_text(encoding="utf-8").split("\n")[:400]]
    marks = [signature(text) for text in texts]
    minima, numbers = np.array([each.minima for each in marks]), np.array([each.numbers for each in marks])
    shingles = np.array([each.shingles for each in marks])
    same = sum(
        int(compare_all(mark, minima[:i], shingles[:i], numbers[:i], RULE)[0].sum()) for i, mark in enumerate(marks)
    )
    assert same <= 2  # of 79,800 pairs
    long = [(text, mark) for text, mark in zip(texts, marks, strict=True) if mark.shingles >= 30]
    found = sum(RULE.same(mark, signature(change(text))) for text, mark in long for change in REPOSTS.values())
    assert found >= 0.98 * len(long) * len(REPOSTS)
