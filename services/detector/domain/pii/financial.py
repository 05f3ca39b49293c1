"""How payment cards and bank accounts are recognised."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii import checks
from services.detector.domain.pii.model import Kind, MaskRule
from services.detector.domain.pii.recogniser import NINE_DIGITS, OTHER_NUMBERS, Context, Examples, Recogniser, words

_CARD_WORDS: Final = Context(
    near=r"카드|신용|체크|결제|\bcredit|\bcard\b|\bdebit|\bvisa\b|master\s?card|\bamex\b"
    r"|\bpan\b|cvc|cvv|유효\s?기간",
    against=OTHER_NUMBERS,
)

CARD = Recogniser(
    rule_id="card.grouped",
    kind=Kind.CARD,
    pattern=re.compile(
        r"(?<![0-9A-Za-z])(?<![0-9][-.,])(?:\d{4}(?P<s>[ ]?[-./·_][ ]?|[ ]{1,2})\d{4}"
        r"(?P=s)\d{4}(?:(?P=s)\d{1,4}(?:(?P=s)\d{3})?)?"
        r"|\d{4}(?P<t>[ ]?[-./·_][ ]?|[ ]{1,2})\d{6}(?P=t)\d{4,5})(?![0-9A-Za-z])(?!-[0-9])"
    ),
    anchors=(r"[0-9]{4}[ ./·_-]{1,3}(?:[0-9]{4}|[0-9]{6})[ ./·_-]{1,3}[0-9]{4}",),
    reach=48,
    ahead=24,
    source="ISO/IEC 7812-1, issuers' ranges, printed groups 4-4-4-4, 4-6-5, 4-6-4",
    examples=Examples(
        valid=(
            "카드 ⟦4111-1111-1111-1111⟧",
            "⟦4012 8888 8888 1881⟧",
            "⟦3782 822463 10005⟧",
            "⟦５５５５－５５５５－５５５５－４４４４⟧",
        ),
        invalid=("4012-8888-8888-1882", "1234-5678-9012-3456", "0000-0000-0000-0000", "쿠폰 4111-1111-1111-1111"),
    ),
    check=checks.card,
    context=_CARD_WORDS,
    mask=MaskRule.CARD,
    watchable=True,
)

CARD_PLAIN = Recogniser(
    rule_id="card.plain",
    kind=Kind.CARD,
    pattern=re.compile(r"(?<![0-9A-Za-z])(?<![0-9][-.,])(?:\d{14,19}|\d{12,13})(?![0-9A-Za-z])(?![-.][0-9])"),
    anchors=(NINE_DIGITS,),
    reach=28,
    ahead=14,
    source="ISO/IEC 7812-1, without separators",
    examples=Examples(
        valid=("⟦5555555555554444⟧", "⟦371449635398431⟧", "card ⟦503890547220⟧", "⟦30569309025904⟧"),
        invalid=("1748503543012", "36168002586008", "tracking 5555555555554444", "1700000000000"),
    ),
    check=checks.card,
    lookalike=checks.parcel_length,
    context=_CARD_WORDS,
    mask=MaskRule.CARD,
    watchable=True,
)

_BANKS: Final = words(
    "국민 신한 우리 하나 농협 기업 카카오 케이 토스 새마을금고 새마을 우체국 신협 수협 "
    "제일 SC제일 씨티 한국씨티 대구 부산 광주 전북 경남 제주 산업 KB국민 IBK기업 NH농협 "
    "아이엠 외환 KDB KEB하나 KEB 카뱅 케뱅 KB NH IBK IM SC"
)
_BANK_STARTS: Final = "".join(sorted({name[0] for name in _BANKS.split("|")}))
_FULL_BANK: Final = r"은행|뱅크|카뱅|케뱅|농협|수협|신협|새마을금고|우체국"
_ACCOUNT_NEAR: Final = rf"{_FULL_BANK}|계좌|입금|송금|이체|예금주|통장|후원|bank|account|a/c|acct"
_ACCOUNT_WORDS: Final = Context(
    near=rf"{_FULL_BANK}|계좌|입금|송금|이체|예금주|통장|후원|\bbank\b|\baccount\b|\ba/c\b|\bacct\b",
    against=OTHER_NUMBERS + r"|사업자|전화|연락처|휴대폰|팩스|카드|운송|주민|면허",
    before=32,
    after=14,
)
_NUMBER: Final = r"(?=\d(?:[- ]?\d){9})(?:\d{2,6}(?:[- ]\d{1,8}){1,4}|\d{10,16})"

ACCOUNT = Recogniser(
    rule_id="account.kr",
    kind=Kind.ACCOUNT,
    pattern=re.compile(
        r"(?<![0-9A-Za-z])(?<![0-9][-.,])(?=\d(?:-?\d){9})(?:\d{2,6}(?:-\d{1,8}){1,4}|\d{10,16})"
        r"(?![0-9A-Za-z])(?![-.,][0-9])"
    ),
    anchors=(
        rf"(?:{_ACCOUNT_NEAR})(?:(?s:.){{0,31}}[^0-9a-z])?[0-9](?:-?[0-9]){{9}}",
        rf"(?:^|[^0-9a-z])[0-9](?:-?[0-9]){{9}}(?s:.){{0,20}}(?:{_ACCOUNT_NEAR})",
    ),
    in_context_only=True,
    reach=96,
    source="Korea Financial Telecommunications and Clearings Institute: 10 to 16 digits, groups per bank",
    examples=Examples(
        valid=(
            "국민은행 ⟦123456-04-123456⟧ 홍길동",
            "계좌번호: ⟦110-123-456789⟧",
            "⟦3333-01-1234567⟧ 카카오뱅크",
            "입금 ⟦1002123456789⟧",
        ),
        invalid=("110-123-456789", "주문번호 110-123-456789", "계좌 이체 2023-10-12", "계좌 12-34"),
    ),
    check=checks.korean_account,
    context=_ACCOUNT_WORDS,
    mask=MaskRule.KEEP_LAST_THREE,
    watchable=True,
)

ACCOUNT_BESIDE_BANK = Recogniser(
    rule_id="account.beside_bank",
    kind=Kind.ACCOUNT,
    pattern=re.compile(
        rf"(?=[{_BANK_STARTS}0-9])(?:(?<![가-힣A-Za-z])(?:{_BANKS})(?:은행|뱅크)?[ ]?(?:계좌)?[^\w\n]{{0,3}}+"
        f"(?P<v>{_NUMBER})(?![0-9A-Za-z])(?![-.,][0-9])"
        rf"|(?<![0-9A-Za-z])(?<![0-9][-.,])(?P<w>{_NUMBER})[^\w\n]{{1,2}}+(?:{_BANKS})(?:은행"
        "|뱅크)?(?![가-힣A-Za-z]))"
    ),
    anchors=(
        rf"(?:{_BANKS})(?:은행|뱅크)?[ ]?(?:계좌)?[^\w\n]{{0,3}}[0-9](?:[- ]?[0-9]){{9}}",
        rf"[0-9](?:[- ]?[0-9]){{9}}[^0-9a-z\n]{{1,2}}(?:{_BANKS})",
    ),
    reach=64,
    ahead=48,
    source="as account.kr, with the bank's short name directly beside the number",
    examples=Examples(
        valid=(
            "신한 ⟦110-123-456789⟧",
            "농협 ⟦302-1234-5678-91⟧ 홍길동",
            "⟦110-123-456789⟧ 신한",
            "카뱅 ⟦3333011234567⟧",
        ),
        invalid=("우리 2023-10-12", "하나 12-34", "부산 051-123-4567"),
    ),
    check=checks.korean_account,
    mask=MaskRule.KEEP_LAST_THREE,
    watchable=True,
)

_IBAN: Final = "|".join(
    rf"{country}\d\d(?:[ -]?[A-Z0-9]){{{checks.iban_length(country) - 4}}}" for country in checks.IBAN_FORMATS
)
IBAN = Recogniser(
    rule_id="account.iban",
    kind=Kind.ACCOUNT,
    pattern=re.compile(rf"(?=[A-Z]{{2}}\d\d[ -]?[A-Z0-9]{{2}})(?<![A-Z0-9])(?:{_IBAN})(?![A-Z0-9])", re.IGNORECASE),
    anchors=(r"[a-z]{2}[0-9]{2}[ -]?[a-z0-9]{2}",),
    source="ISO 13616, SWIFT IBAN registry",
    examples=Examples(
        valid=(
            "⟦AL47 2121 1009 0000 0002 3569 8741⟧",
            "⟦GB29NWBK60161331926819⟧ ok",
            "⟦VG96 VPVG 0000 0123 4567 8901⟧ X in",
            "⟦gb29nwbk60161331926819⟧",
        ),
        invalid=(
            "GB29NWBK60161331926818",
            "AL47/2121/1009/0000/0002/3569/8741",
            "LV80 bANK 0000 4351 9500 1",
            "IL15 0120 6900 0000",
        ),
    ),
    check=checks.iban,
    mask=MaskRule.KEEP_LAST_THREE,
    watchable=True,
)

ACCOUNT_LABELLED = Recogniser(
    rule_id="account.labelled",
    kind=Kind.ACCOUNT,
    pattern=re.compile(
        r"(?:계좌\s?번호|(?<![A-Za-z])[IB]BAN|[비이]반|account\s?(?:number|no\.?|num|#))[)]?"
        r"(?:[^\w\n]{0,6}+|\s?(?:은|는|가|이|를|을|is)\s{1,2}+)"
        r"(?P<v>(?=(?:[A-Za-z -]{0,6}+[0-9]){6})(?:[A-Za-z]{2}\d\d"
        "(?:[ ][A-Za-z0-9]{2,4}+){3,8}|[A-Za-z0-9]{2,30}+(?:-[A-Za-z0-9]{1,12}+){0,5}))"
        "(?![A-Za-z0-9])",
        re.IGNORECASE,
    ),
    anchors=(
        r"(?:계좌[^가-힣]?번호|[ib]ban|[비이]반|account[^a-z]?(?:number|no|num|#))[^0-9]{0,20}[0-9]",
    ),
    source="domestic account numbers of other countries (BBAN): told by their label",
    examples=Examples(
        valid=("계좌 번호(BBAN): ⟦CLTB42207796674655⟧", "account number: ⟦12345678⟧"),
        invalid=("계좌번호: 없음", "account number 12"),
    ),
    check=checks.labelled_account,
    mask=MaskRule.KEEP_LAST_THREE,
    watchable=True,
)

RECOGNISERS: Final = (CARD, CARD_PLAIN, IBAN, ACCOUNT, ACCOUNT_BESIDE_BANK, ACCOUNT_LABELLED)
