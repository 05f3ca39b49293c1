"""Which addresses count as the same page?"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.removal.domain.address import LONGEST, InvalidAddressError, host_of, normalise

PAGE = "https://example.com/a/b?x=1&y=2"


@pytest.mark.parametrize(
    "other",
    [
        "http://example.com/a/b?x=1&y=2",
        "HTTPS://EXAMPLE.COM:443/a/b?x=1&y=2",
        "https://www.example.com/a/b?x=1&y=2",
        "https://example.com./a/b?x=1&y=2",
        "https://example.com/a/b/?y=2&x=1",
        "https://example.com/a//c/../b?x=1&y=2#comments",
        "https://example.com/%61/b?x=1&y=2&utm_source=share&fbclid=abc",
    ],
)
def test_the_same_page_in_other_words(other: str) -> None:
    assert normalise(PAGE) == normalise(other)


@pytest.mark.parametrize(
    "other",
    [
        "https://example.com/a/B?x=1&y=2",
        "https://example.com/a/b?x=1&y=3",
        "https://example.com:8443/a/b?x=1&y=2",
        "https://sub.example.com/a/b?x=1&y=2",
        "https://example.com/a/b?x=1&y=2&x=2",
        "https://example.com/a/b",
        "https://example.com/a%2Fb?x=1&y=2",
    ],
)
def test_another_page(other: str) -> None:
    assert normalise(PAGE) != normalise(other)


def test_mobile_and_former_hosts_count_as_one() -> None:
    assert normalise("https://x.com/someone/status/1") == normalise("https://mobile.twitter.com/someone/status/1")
    assert normalise("https://blog.naver.com/a/1") == normalise("https://m.blog.naver.com/a/1")


def test_hangul_has_one_spelling() -> None:
    assert normalise("https://한국.kr/사진") == normalise("https://xn--3e0b707e.kr/%EC%82%AC%EC%A7%84")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("", "ADDRESS_LENGTH"),
        ("https://example.com/" + "a" * LONGEST, "ADDRESS_LENGTH"),
        ("ftp://example.com/", "ADDRESS_SCHEME"),
        ("javascript:alert(1)", "ADDRESS_SCHEME"),
        ("//example.com/", "ADDRESS_SCHEME"),
        ("https:///path", "ADDRESS_MALFORMED"),
        ("https://me:secret@example.com/", "ADDRESS_CREDENTIALS"),
        ("https://example.com:99999/", "ADDRESS_MALFORMED"),
        ("https://exa mple.com/", "ADDRESS_CONTROL_CHARACTER"),
        ("https://example.com/\r\nBcc: all", "ADDRESS_CONTROL_CHARACTER"),
        ("https://[::1/", "ADDRESS_MALFORMED"),
        ("https://exa<mple.com/", "ADDRESS_MALFORMED"),
    ],
)
def test_what_is_no_address_is_refused_without_quoting_it(address: str, reason: str) -> None:
    with pytest.raises(InvalidAddressError) as caught:
        normalise(address)
    assert reason == caught.value.reason
    assert reason == str(caught.value)


@given(st.text(max_size=60), st.text(max_size=60))
def test_normalising_twice_changes_nothing(path: str, query: str) -> None:
    try:
        once = normalise(f"https://example.com/{path}?{query}")
    except InvalidAddressError:
        return
    assert once == normalise(once)


@given(st.text(max_size=200))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        assert normalise(text).startswith("https://")
    except InvalidAddressError as error:
        assert error.reason.startswith("ADDRESS_")


def test_the_host_alone() -> None:
    assert "example.com" == host_of("https://WWW.Example.com:8443/a")
