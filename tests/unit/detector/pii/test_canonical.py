"""Do different spellings of the same value come out the same, and are the forbidden ones refused?"""

from __future__ import annotations

import pytest

from services.detector.domain.pii import Kind, NotWatchable, Scanner, TextPart, canonicalise


@pytest.mark.parametrize(
    ("kind", "canonical", "spellings"),
    [
        (
            Kind.PHONE,
            "+821023456789",
            [
                "010-2345-6789",
                "01023456789",
                "+82 10-2345-6789",
                "+82 (0)10 2345 6789",
                "0082 10 2345 6789",
                "０１０ ２３４５ ６７８９",
                "공일공-이삼사오-육칠팔구",
                "0 1 0 2 3 4 5 6 7 8 9",
                "010.2345.6789",
                "(010)2345-6789",
                "010\u200b23456789",
                "zero one zero 2345 6789",
            ],
        ),
        (Kind.PHONE, "+8223456789", ["02-345-6789", "+82-2-345-6789", "(02) 345 6789"]),
        (Kind.PHONE, "+12025550143", ["(202) 555-0143", "+1 202-555-0143", "1-202-555-0143", "202.555.0143 x12"]),
        (Kind.PHONE, "+4617945933", ["+46 (0)179 459 33", "0046 179 459 33"]),
        (
            Kind.EMAIL,
            "hong@naver.com",
            ["Hong@Naver.com", "hong골뱅이naver쩜com", "hong [at] naver [dot] com", "hong＠naver．com", "hong@네이버"],
        ),
        (
            Kind.CARD,
            "4111111111111111",
            ["4111-1111-1111-1111", "4111 1111 1111 1111", "４１１１１１１１１１１１１１１１"],
        ),
        (Kind.ACCOUNT, "110123456789", ["110-123-456789", "110 123 456789", "110123456789"]),
        (Kind.ACCOUNT, "GB29NWBK60161331926819", ["GB29 NWBK 6016 1331 9268 19", "gb29nwbk60161331926819"]),
        (Kind.MESSENGER, "gildong_77", ["@Gildong_77", "gildong_77"]),
        (Kind.PLATE, "12가3456", ["12가 3456", "12가3456"]),
        (
            Kind.ADDRESS,
            "강남구테헤란로123",
            [
                "서울특별시 강남구 테헤란로 123, 4층",
                "서울 강남구 테헤란로 123 (역삼동)",
                "강남구 테헤란로 123 101동 1203호",
            ],
        ),
    ],
)
def test_spellings_of_one_value_share_its_canonical_form(kind: Kind, canonical: str, spellings: list[str]) -> None:
    assert {spelling: canonicalise(kind, spelling) for spelling in spellings} == dict.fromkeys(spellings, canonical)


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [
        (Kind.RRN, "900101-1234567", "national_identifier"),
        (Kind.PASSPORT, "M12345678", "national_identifier"),
        (Kind.CREDENTIAL, "hunter2", "credential"),
        (Kind.PERSON, "홍길동", "kind"),
        (Kind.IP, "8.8.8.8", "kind"),
        (Kind.PHONE, "12345", "malformed"),
        (Kind.PHONE, "1588-1234", "malformed"),
        (Kind.EMAIL, "hong@", "malformed"),
        (Kind.CARD, "4111-1111-1111-1112", "malformed"),
        (Kind.ACCOUNT, "GB29NWBK60161331926818", "malformed"),
        (Kind.EMAIL, "a" * 600 + "@example.com", "too_long"),
    ],
)
def test_what_must_not_be_watched_is_refused_by_reason_alone(kind: Kind, value: str, reason: str) -> None:
    with pytest.raises(NotWatchable) as refusal:
        canonicalise(kind, value)
    assert (refusal.value.reason, str(refusal.value)) == (reason, reason)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Kind.PHONE, "전화 +82-10-2345-6789"),
        (Kind.PHONE, "전화 공일공 이삼사오 육칠팔구"),
        (Kind.EMAIL, "메일 hong골뱅이naver쩜com"),
        (Kind.CARD, "카드 4111 1111 1111 1111"),
        (Kind.ACCOUNT, "국민은행 123456-04-123456"),
        (Kind.ADDRESS, "주소 서울특별시 강남구 테헤란로 123, 4층"),
    ],
)
def test_a_hit_carries_the_form_that_a_watched_value_has(scanner: Scanner, kind: Kind, text: str) -> None:
    (hit,) = scanner.scan([TextPart("body", text)]).hits
    assert hit.canonical == canonicalise(kind, text[hit.start : hit.end])
