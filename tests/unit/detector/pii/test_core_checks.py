"""Do the checks answer for any text, and the compiled ones the same?"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.detector.adapters.pii_core import NotBuilt, load
from services.detector.domain.pii import RECOGNISERS, checks
from services.detector.domain.pii.recogniser import never, unknown

CHECKS = sorted(
    {check for each in RECOGNISERS for check in (each.check, each.lookalike)}, key=lambda each: each.__name__
)
# The others are asked in Python, or are what a recogniser has that names none.
COMPILED = [each for each in CHECKS if each not in (checks.ip_address, checks.ipv6_shape, never, unknown)]


def values(text: str) -> list[str]:
    return text.split()


def card(prefix: str, count: int) -> str:
    """A number of so many digits whose check digit is right."""
    body = prefix.ljust(count - 1, "1")
    return next(body + digit for digit in "0123456789" if checks.luhn(body + digit))


def resident(birth: str, kind: int, shift: int) -> str:
    """A resident's number with the check digit of a shift: 11, or 13 as foreigners' numbers once had it."""
    body = f"{birth}{kind}23456"
    return f"{body}{(shift - sum(int(d) * w for d, w in zip(body, checks.RESIDENT_WEIGHTS, strict=True)) % 11) % 10}"


def iban(country: str, structure: str, fill: dict[str, str]) -> str:
    """An account number whose check digits are right."""
    bban = "".join(fill[kind] * int(count) for count, kind in re.findall("([0-9]+)([nac])", structure))
    rest = int("".join(str(int(char, 36)) for char in f"{bban}{country}00")) % 97
    return f"{country}{98 - rest:02}{bban}"


EXAMPLES = sorted(
    {found for each in RECOGNISERS for text in each.examples.valid for found in re.findall("⟦(.+)⟧", text)}
)
FROM_TABLES = [
    *(
        card(str(int(bound) + step).zfill(len(bound)), count)
        for first, last, _ in checks.CARD_RANGES
        for bound in (first, last)
        for step in (-1, 0, 1)
        for count in range(11, 21)
    ),
    *("-".join("7" * int(group) for group in groups.split("-")) for groups in checks.ACCOUNT_GROUPS),
    *(
        f"{code}-{line}"
        for code in checks.AREA_CODES
        for line in ("2345678", "0345678", "23456789", "234567", "234567890")
    ),
    *(f"+{code:03}-2345-6789" for code in range(1000)),
    *(f"logo@2x.{ending}" for ending in checks.FILE_ENDINGS),
    *(f"12{letter}3456" for letter in checks.AMBIGUOUS_PLATE),
    *(
        iban(*each, fill)
        for each in checks.IBAN_FORMATS.items()
        for fill in ({"n": "7", "a": "K", "c": "3"}, {"n": "7", "a": "K", "c": "Z"}, dict.fromkeys("nac", "7"))
    ),
    *(iban(*each, dict.fromkeys("nac", "K")) for each in checks.IBAN_FORMATS.items()),
]
CALENDAR = [
    f"{year:02}{month:02}{day:02}" for year in (0, 1, 2, 4, 99) for month in range(14) for day in (0, 1, *range(28, 33))
]
EDGES = [
    *values("""
        +82 82 0082 00820 +82-10 10-2345-6789 +821023456789 0082-10-2345-6789 00700-82-10-2345-6789 82-10-2345-6789
        0-082-1023456789 +82-000000000000000000000000000000000010-2345-6789 (+82)(0)2-345-6789 +0082-10-2345-6789
        007000-82-10-2345-6789 010-0345-6789 010-1345-6789 010-2345-678 010-2345-67890 011-234-5678 012-345-6789
        015-345-6789 016-345-67 019-2345-6789 +1234567 +123456789012345 +1234567890123456 12345678x9 12345678EXT9
        12345678ext.9 1234567e8901 1234567x8 123-456-7890 023-456-7890 202-155-0143 001-202-555-0143x319 202-555-014
        0001-202-555-0143 1588-1234 1688-1234 1788-1234 1888-1234 080-123-4567 (080)123-4567 (080123-4567 0801234567
        ((080)123-4567 080
    """),
    *values("""
        2023-10-12 (2023-10-12 1999.1.2 2023--10--12 2023---10-12 2023-100-12 2023-10-123 2023-1-2 20233-10-12
        1823-10-12 2123-10-12 1123-10-12 2923-10-12 2223-10-12 3023-10-12 2023-10-12-1 tel2023-10-12 202-3-10-12
        2023-10--12 2023/10.12가 2023-10-12가 1999-10-12
    """),
    *values("""
        900101-1234567 900101-123456 90010112345678 0002291234567 0002293234567 0102293234567 0402293234567
        0004310234567 0004303234567 0013013234567 0000013234567 0001003234567 9001011000000 9001015000001
        9001015000003 9791186560000 1500000000000 1700001000000 1500000100000 1500000200000 1400000300000
        1300000300000 1800000300000 104-86-56659 1048656659 1048656658 1000000009 1010000007 100-00-00009
        11-22-123456-12 202311210001 202313210001 20231121 2023112 20230229 20240229 20000229 21231121 000-12-3456
        666-12-3456 900-12-3456 899-00-3456 899-12-0000 899-12-345 899-12-3456 899-12-34567
        899-12-1000 899-12-0001 899-01-3456
    """),
    *values("""
        4111-1111-1111-1111 4111111111111112 0000000000000000 000000000000 7777777777777777 110-123-456-789
        -6-6 --123456-123456 123456--123456 123456-123456- 1-2-3-4-5-6-7-890 1234567890123456-1 021-234-5678
        021-0345-6789 021-23-45678 031-234-5678 0101234567 01512345678 010123456789 12345 12345가6 123456
        02--2345-6789 02-2345--6789 02-234-56789 02-2345-6789 -23456-123456
    """),
    *values("""
        a@b.PNG a@b.pngs png PNG a@png @b.com a@b.html. a..b@c.com a.@b.com .@b.com a@b@c.com a@b..com a@b.com..
        a@b.\u212apg a@b.\u0130co 12가3456 1가 가1 123도4567 서울12가3456 서울1 1도2가 9가 9\uabff 9힣 9\ud7a4 ٣가 ❶가
    """),
    *values("""
        GB29NWBK60161331926819 gb29nwbk60161331926819 Gb29nwbk60161331926819 GB29NWBK60161331926818
        GB2-9NWBK60161331926819 GBX9NWBK60161331926819 GB29NWBK6016133192681 GB29NWBK60161331926819000000000000000
        GB29NWB760161331926819 GB29NWBKA0161331926819 XX29NWBK60161331926819 ßE GB GB2 GB29
        GBI4NWBK60161331926819 GBS1NWBK60161331926819
    """),
    *values(
        "abcdef az AZ abcdef1 abc~def abc@def abc! 가나다 @ ! ~ [ ` \x7f \ud800 \U0010ffff ٠١٠-٢٣٤٥-٦٧٨٩ ²²²²²²²²²²"
    ),
    "12-11111111가가가가가가가가가가가가가가-12-123",  # 22 characters in a group are not 16 and 6
    *("", " ", "02 2345 6789", "110 123 456789", "GB29 NWBK 6016 1331 9268 19", " (00 82) 10 2345 6789", "a b c d"),
    *("a" * count + "@b.co" for count in (248, 249, 250)),
    *(sign * count for sign in "09- 가" for count in range(9, 40)),
    *(f"{birth}-{kind}234567" for birth in CALENDAR for kind in (1, 3)),
    *(f"20{birth}0001" for birth in CALENDAR),
    *(resident("000229", kind, shift) for kind in range(10) for shift in (11, 13)),
    *(resident("010228", kind, shift) for kind in range(10) for shift in (11, 13)),
    *(f"{first}0000{at}00000{last}" for first in range(13, 19) for at in range(10) for last in range(10)),
    *(f"{office}86566{last:02}" for office in ("100", "101", "102", "999") for last in range(100)),
    *EXAMPLES,
    *FROM_TABLES,
]

DIGITS = st.text("0123456789", max_size=8)
SIGNS = st.sampled_from(
    [*"-- ./·_()+★@x٣가도aZ\n", "+82", "0082", "(0)", "010", "02", "20", "19", "ext. ", "EXT", "GB", ".png"]
)
COMPOSED = st.lists(DIGITS | SIGNS, max_size=12).map("".join)
BORN = st.builds(
    lambda year, month, day, sign, rest: f"{year:02}{month:02}{day:02}{sign}{rest:07}",
    st.integers(0, 99),
    st.integers(0, 13),
    st.integers(0, 32),
    st.sampled_from(["", "-"]),
    st.integers(0, 9_999_999),
)
EDITED = st.builds(
    lambda value, place, cut, put: value[: place % len(value)] + put + value[place % len(value) + cut :],
    st.sampled_from(EXAMPLES),
    st.integers(0, 40),
    st.integers(0, 2),
    DIGITS | SIGNS,
)
VALUES = COMPOSED | BORN | EDITED | st.text(st.characters(), max_size=24)


@pytest.fixture(scope="module")
def core() -> ModuleType:
    try:
        return load()
    except NotBuilt as reason:
        pytest.skip(str(reason))


def by_name(check: Callable[[str], bool | None]) -> str:
    return check.__name__


@given(value=VALUES)
def test_every_check_answers_for_any_text(value: str) -> None:
    assert {check(value) for check in CHECKS} <= {True, False, None}


@pytest.mark.parametrize("check", COMPILED, ids=by_name)
def test_a_compiled_check_answers_edge_cases_as_its_python_does(
    core: ModuleType, check: Callable[[str], bool | None]
) -> None:
    assert {value: core.check(check.__name__, value) for value in EDGES} == {value: check(value) for value in EDGES}


@given(value=VALUES)
def test_compiled_checks_answer_any_text_as_their_python_does(core: ModuleType, value: str) -> None:
    expected = {check.__name__: check(value) for check in COMPILED}
    assert {name: core.check(name, value) for name in expected} == expected


@pytest.mark.parametrize("piece", ["", "1", "-", "가", "\ud800", " 0", "+820", "x", ".", "12가", "2023-"], ids=ascii)
def test_compiled_checks_answer_for_very_long_texts(core: ModuleType, piece: str) -> None:
    value = piece * 100_000
    expected = {check.__name__: check(value) for check in COMPILED}
    assert {name: core.check(name, value) for name in expected} == expected


def test_no_area_code_begins_another() -> None:
    assert [(a, b) for a in checks.AREA_CODES for b in checks.AREA_CODES if a != b and b.startswith(a)] == []
