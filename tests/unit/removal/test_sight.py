"""Does a look tell removed content from content that only seems so?"""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.removal.adapters.rules import load_rules
from services.removal.domain.sight import (
    Baseline,
    Decision,
    Finding,
    Judgement,
    Sight,
    baseline_of,
    judge,
    similarity,
    sketch,
)

RULES = load_rules().following.sight
POST = " ".join(f"word{number} says something about picture {number}" for number in range(60))


def page(text: str, status: int = 200, **fields: object) -> Sight:
    """A page that was fetched."""
    body = f"<html><head><title>t</title><script>x</script></head><body>{text}</body></html>".encode()
    given = {"body_sha256": hashlib.sha256(body).digest(), "body": body, "media_type": "text/html", **fields}
    return Sight(Decision.ALLOW, "open", status=status, **given)  # type: ignore[arg-type] # fields by name


BEFORE = baseline_of(page(POST), RULES)


@pytest.mark.parametrize(
    ("sight", "expected"),
    [
        (page("", 404), Judgement(Finding.GONE, "HTTP_404")),
        (page("", 410), Judgement(Finding.GONE, "HTTP_410")),
        (page("", 451), Judgement(Finding.GONE, "HTTP_451")),
        (page("", 401), Judgement(Finding.UNSEEN, "LOGIN_WALL")),
        (page("", 403), Judgement(Finding.UNSEEN, "LOGIN_WALL")),
        (page(POST, login_wall=True), Judgement(Finding.UNSEEN, "LOGIN_WALL")),
        (page("로그인 후 이용하실 수 있습니다"), Judgement(Finding.UNSEEN, "LOGIN_WALL")),
        (page("Please log in to continue"), Judgement(Finding.UNSEEN, "LOGIN_WALL")),
        (page("", 500), Judgement(Finding.LATER, "HTTP_500")),
        (page("", 429), Judgement(Finding.LATER, "HTTP_429")),
        (Sight(Decision.ALLOW, "open"), Judgement(Finding.LATER, "NO_ANSWER")),
        (Sight(Decision.REFUSE, "robots"), Judgement(Finding.UNSEEN, "REFUSE")),
        (Sight(Decision.DEFER, "budget"), Judgement(Finding.LATER, "DEFER")),
        (page("삭제되었거나 존재하지 않는 게시물입니다"), Judgement(Finding.LOOKS_GONE, "SOFT_404")),
        (page("해당 페이지를 찾을 수 없습니다"), Judgement(Finding.LOOKS_GONE, "SOFT_404")),
        (page("This post is no longer available"), Judgement(Finding.LOOKS_GONE, "SOFT_404")),
        (page("Sorry, this page isn't available."), Judgement(Finding.LOOKS_GONE, "SOFT_404")),
        (page("Error 404: not found"), Judgement(Finding.LOOKS_GONE, "SOFT_404")),
        (page("권리침해 신고로 차단된 글입니다"), Judgement(Finding.BLINDED, "BLINDED")),
        (page("임시조치된 게시물입니다"), Judgement(Finding.BLINDED, "BLINDED")),
        (page("This post is temporarily hidden"), Judgement(Finding.BLINDED, "BLINDED")),
        (page("an altogether different story " * 40), Judgement(Finding.LOOKS_GONE, "CONTENT_CHANGED")),
        (page(POST), Judgement(Finding.PRESENT, "HTTP_200")),
        (page(POST + " visitors today: 17, advertisement 99"), Judgement(Finding.PRESENT, "HTTP_200")),
    ],
)
def test_what_a_look_tells(sight: Sight, expected: Judgement) -> None:
    assert expected == judge(sight, BEFORE, RULES)


def test_a_page_that_always_spoke_of_missing_pages_is_not_gone_for_it() -> None:
    text = f"What to do when a page is not found. {POST}"
    before = baseline_of(page(text), RULES)
    assert Finding.PRESENT is judge(page(text), before, RULES).finding


def test_a_long_page_that_mentions_a_login_is_no_wall() -> None:
    assert Finding.PRESENT is judge(page(f"Log in to comment. {POST} {POST}"), None, RULES).finding


def test_without_a_first_look_a_changed_page_cannot_be_told() -> None:
    assert Finding.PRESENT is judge(page("an altogether different story " * 40), None, RULES).finding


def test_a_file_is_compared_by_its_hash() -> None:
    picture = Sight(Decision.ALLOW, "open", 200, b"\x01" * 32, b"", "image/jpeg")
    other = Sight(Decision.ALLOW, "open", 200, b"\x02" * 32, b"", "image/jpeg")
    before = baseline_of(picture, RULES)
    assert Judgement(Finding.PRESENT, "HTTP_200") == judge(picture, before, RULES)
    assert Judgement(Finding.LOOKS_GONE, "CONTENT_CHANGED") == judge(other, before, RULES)


def test_a_picture_taken_out_of_a_short_page_shows() -> None:
    with_picture = page("<p>hello there</p><img src='/a/face.jpg?v=1'>")
    assert 1.0 > similarity(
        baseline_of(with_picture, RULES).sketch, baseline_of(page("<p>hello there</p>"), RULES).sketch
    )


@given(st.text(max_size=400))
def test_a_text_is_like_itself_and_a_baseline_survives_its_seal(text: str) -> None:
    assert 1.0 == similarity(sketch(text), sketch(text))
    before = Baseline("ab", True, sketch(text), False)
    assert before == Baseline.from_bytes(before.to_bytes())


@given(st.binary(max_size=2000))
def test_no_page_breaks_the_judgement(body: bytes) -> None:
    sight = Sight(Decision.ALLOW, "open", 200, hashlib.sha256(body).digest(), body, "text/html")
    assert judge(sight, BEFORE, RULES).finding in Finding


def test_a_sight_does_not_show_the_page() -> None:
    assert "word1" not in repr(page(POST))
