"""What does a scan report: levels, overlaps, doxing, and what it keeps to itself?"""

from __future__ import annotations

import pytest

from services.detector.domain.pii import Check, Confidence, Hit, Kind, Rules, Scanner, TextPart, WholeText, mask


def hits(scanner: Scanner, text: str) -> list[tuple[Kind, Confidence]]:
    return [(hit.kind, hit.confidence) for hit in scanner.scan([TextPart("body", text)]).hits]


def only(scanner: Scanner, text: str) -> Hit:
    (hit,) = scanner.scan([TextPart("body", text)]).hits
    return hit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("010-2345-6789", [(Kind.PHONE, Confidence.HIGH)]),
        ("01023456789", [(Kind.PHONE, Confidence.LOW)]),
        ("연락처 01023456789", [(Kind.PHONE, Confidence.HIGH)]),
        ("주문번호 01023456789", []),
        ("주문번호 2023111, 연락처 01023456789", [(Kind.PHONE, Confidence.HIGH)]),
        ("https://shop.example.com/item/01023456789", []),
        ("900101-1234567", [(Kind.RRN, Confidence.LOW)]),
        ("주민번호 900101-1234567", [(Kind.RRN, Confidence.HIGH)]),
        ("IP 8.8.8.8", [(Kind.IP, Confidence.LOW)]),
        ("운전면허 112212345612", [(Kind.DRIVER_LICENCE, Confidence.HIGH)]),
        ("112212345612", [(Kind.DRIVER_LICENCE, Confidence.LOW)]),
        ("번호 112212345612 조회", []),
        ("대표번호 1588-1234", []),
    ],
)
def test_words_nearby_raise_or_drop_a_candidate(
    scanner: Scanner, text: str, expected: list[tuple[Kind, Confidence]]
) -> None:
    assert hits(scanner, text) == expected


def test_name_phone_and_address_together_are_doxing(scanner: Scanner) -> None:
    post = [TextPart("title", "이름: 홍길동"), TextPart("body", "010-2345-6789 서울 강남구 테헤란로 123")]
    assert scanner.scan(post).doxing
    assert not scanner.scan(post[1:]).doxing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("이름: 홍길동 010-2345-6789", [("DOXING", Confidence.LOW)]),
        ("이름: 홍길동 주민번호 900101-1234567", [("IDENTITY", Confidence.HIGH)]),
        ("이름: 홍길동 카드 4111-1111-1111-1111", [("PAYMENT", Confidence.HIGH)]),
        ("010-2345-6789 hong@example.com", []),
        ("이름: 홍길동 사업자 104-86-56659 우편번호: 06236", []),
    ],
)
def test_a_combination_has_a_level_of_its_own(
    scanner: Scanner, text: str, expected: list[tuple[str, Confidence]]
) -> None:
    found = scanner.scan([TextPart("body", text)])
    assert [(each.name, each.level) for each in found.combinations] == expected
    assert not found.doxing


def test_a_hit_names_the_field_and_the_rule_that_found_it(scanner: Scanner) -> None:
    result = scanner.scan([TextPart("title", "없음"), TextPart("body", "메일 hong@example.com")])
    (hit,) = result.of("body")
    assert (hit.rule_id, hit.rule_version, hit.start, hit.end, hit.check) == ("email", 2, 3, 19, Check.YES)
    assert result.of("title") == ()


def test_no_value_shows_in_the_repr_of_a_hit_or_part(scanner: Scanner) -> None:
    part = TextPart("body", "카드 4111-1111-1111-1111 메일 hong@example.com")
    shown = repr(scanner.scan([part])) + repr(part)
    assert [value for value in ("4111", "hong", "example") if value in shown] == []


@pytest.mark.parametrize(
    "text", ["900101-1234567", "여권 M12345678", "면허 11-22-123456-12", "hong@example.com:hunter22"]
)
def test_national_identifiers_and_secrets_have_no_canonical_form(scanner: Scanner, text: str) -> None:
    found = scanner.scan([TextPart("body", text)]).hits
    assert [hit.canonical for hit in found if hit.kind is not Kind.EMAIL] == [""]


def test_a_business_number_is_set_aside(scanner: Scanner) -> None:
    hit = only(scanner, "사업자등록번호 104-86-56659")
    assert (hit.kind, hit.personal) == (Kind.BUSINESS_NUMBER, False)
    assert mask("사업자등록번호 104-86-56659", [hit]) == "사업자등록번호 104-86-56659"


def test_a_password_in_a_link_is_no_mail_address(scanner: Scanner) -> None:
    assert hits(scanner, "ftp://hong:secret1@example.com/") == [(Kind.CREDENTIAL, Confidence.HIGH)]


def test_rules_that_do_not_fit_the_recognisers_are_refused(rules: Rules) -> None:
    short = Rules(rules.version, rules.max_chars, dict(list(rules.rules.items())[1:]), rules.combinations)
    with pytest.raises(ValueError, match="differ"):
        Scanner(short, WholeText)


@pytest.mark.parametrize(
    "text",
    [
        "version: 1",
        "version: 1\nmax_chars: 9\nrules: {}\ncombinations: [{name: X, level: NEVER, at_least: LOW, all_of: []}]",
    ],
)
def test_broken_rules_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="pii rules"):
        Rules.parse(text)
