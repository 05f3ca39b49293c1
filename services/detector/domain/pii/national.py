"""How national identifiers are recognised: found and masked, never stored, hashed or watched."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii import checks
from services.detector.domain.pii.model import Kind, MaskRule
from services.detector.domain.pii.recogniser import NINE_DIGITS, OTHER_NUMBERS, Context, Examples, Recogniser

_START: Final = r"(?<![0-9A-Za-z])(?<![0-9][-.,])"
_STOP: Final = r"(?![0-9A-Za-z])(?!-[0-9])"
_HYPHEN: Final = r"(?:[ ]{0,2}[-._·/*~:][ ]{0,2}|[ ]{1,3})"
_BIRTH: Final = r"\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])"
_BANKING: Final = "|계좌|입금|송금|이체|은행|통장|카드"
_RESIDENT: Final = Context(
    near=r"주민|등록\s?번호|외국인|민번|주번|생년|\brrn\b|resident|\bfrn\b|\barc\b|alien|foreigner",
    against=OTHER_NUMBERS,
)

RRN = Recogniser(
    rule_id="national.rrn",
    kind=Kind.RRN,
    pattern=re.compile(rf"{_START}{_BIRTH}{_HYPHEN}[1-4]\d{{6}}{_STOP}"),
    anchors=(r"[0-9]{6}[^0-9a-z]{1,7}[1-4][0-9]{6}",),
    reach=32,
    ahead=6,
    source="Resident Registration Act, Enforcement Rule art. 2; check digit dropped from 2020-10-05",
    examples=Examples(
        valid=("⟦900101-1234567⟧", "⟦900101 1234567⟧", "⟦210305-3123456⟧", "⟦９００１０１－１２３４５６７⟧"),
        invalid=(
            "901301-1234567",
            "900132-1234567",
            "900101-9234567",
            "900101+1234567",
            "900101-12345678",
            "주문번호 900101-1234567",
        ),
    ),
    check=checks.resident_number,
    context=_RESIDENT,
    national=True,
)

FOREIGNER = Recogniser(
    rule_id="national.foreigner",
    kind=Kind.FRN,
    pattern=re.compile(rf"{_START}{_BIRTH}{_HYPHEN}[5-8]\d{{6}}{_STOP}"),
    anchors=(r"[0-9]{6}[^0-9a-z]{1,7}[5-8][0-9]{6}",),
    reach=32,
    ahead=6,
    source="Immigration Act, Enforcement Decree art. 40-2; gender digit 5 to 8",
    examples=Examples(valid=("외국인등록번호 ⟦911124-5678901⟧",), invalid=("911324-5678901", "911124+5678901")),
    check=checks.resident_number,
    context=_RESIDENT,
    national=True,
)

_RESIDENT_PLAIN: Final = Context(near=_RESIDENT.near, against=OTHER_NUMBERS + _BANKING)
RRN_PLAIN = Recogniser(
    rule_id="national.rrn_plain",
    kind=Kind.RRN,
    pattern=re.compile(rf"{_START}{_BIRTH}[1-4]\d{{6}}{_STOP}"),
    anchors=(NINE_DIGITS,),
    reach=24,
    ahead=6,
    source="as national.rrn, without separator",
    examples=Examples(
        valid=("주민번호 ⟦9001011234567⟧", "⟦9001011234567⟧", "⟦９００１０１１２３４５６７⟧"),
        invalid=("주문번호 9001011234567", "9791186560000", "1702034567890", "계좌 9001011234567"),
    ),
    check=checks.resident_number,
    context=_RESIDENT_PLAIN,
    lookalike=checks.article_or_moment,
    national=True,
)

FOREIGNER_PLAIN = Recogniser(
    rule_id="national.foreigner_plain",
    kind=Kind.FRN,
    pattern=re.compile(rf"{_START}{_BIRTH}[5-8]\d{{6}}{_STOP}"),
    anchors=(NINE_DIGITS,),
    reach=24,
    ahead=6,
    source="as national.foreigner, without separator",
    examples=Examples(
        valid=("외국인 등록번호 ⟦9111245678901⟧", "⟦9111245678901⟧"), invalid=("송장번호 9111245678901",)
    ),
    check=checks.resident_number,
    context=_RESIDENT_PLAIN,
    lookalike=checks.article_or_moment,
    national=True,
)

_PASSPORT: Final = Context(near=r"여권|passport", against=OTHER_NUMBERS)
PASSPORT = Recogniser(
    rule_id="national.passport",
    kind=Kind.PASSPORT,
    pattern=re.compile(r"(?<![A-Za-z0-9_-])[MSRODmsrod](?:\d{8}|\d{3}[A-Za-z]\d{4})(?![A-Za-z0-9_])(?!-\d)"),
    anchors=(r"[msrod](?:[0-9]{8}|[0-9]{3}[a-z][0-9]{4})",),
    reach=20,
    ahead=6,
    source="Korean passport: type letter and 8 digits (to 2021), letter + 3 digits + letter + 4 digits (since 2021)",
    examples=Examples(
        valid=("여권번호는 ⟦M789C1234⟧입니다", "⟦M12345678⟧"),
        invalid=("A123B4567", "M1234567", "MM123A4567", "serial M12345678"),
    ),
    context=_PASSPORT,
    national=True,
)

PASSPORT_LABELLED = Recogniser(
    rule_id="national.passport_labelled",
    kind=Kind.PASSPORT,
    pattern=re.compile(
        r"(?:여권|passport)[ _]?(?:번호|number|no\.?|num|#)?(?:\W{0,8}+|\s?(?:은|는|가|이|를"
        r"|을|is)\s{1,2}+)(?P<v>[A-Za-z]{0,2}[ ]?\d{6,9}|[A-Za-z]\d{3}[A-Za-z]\d{4})"
        "(?![0-9A-Za-z])",
        re.IGNORECASE,
    ),
    anchors=(r"(?:여권|passport)[^0-9]{0,30}[0-9]{3}",),
    source="ICAO Doc 9303-4: up to nine characters; told by its label",
    examples=Examples(
        valid=("여권 번호: ⟦T87959798⟧", 'passport_number: "⟦620144743⟧"'), invalid=("여권 사진 2장", "passport 2023")
    ),
    national=True,
)

DRIVER_LICENCE = Recogniser(
    rule_id="national.driver_licence",
    kind=Kind.DRIVER_LICENCE,
    pattern=re.compile(
        rf"(?<![0-9A-Za-z])(?<![0-9][-.,])(?:(?:1[1-9]|2[0-6]|28)(?P<s>[- .])\d\d(?P=s)\d{{6}}"
        r"(?P=s)\d\d|(?:서울|부산|경기|강원|충북|충남|전북|전남|경북|경남|제주|대구|인천|광주"
        rf"|대전|울산)[ -]?\d\d-\d{{6}}-\d\d){_STOP}"
    ),
    anchors=(r"[0-9]{2}[ .-][0-9]{6}[ .-][0-9]{2}",),
    reach=32,
    ahead=6,
    source="Korean National Police Agency: region 11-26 or 28, year, serial, check and reissue digits",
    examples=Examples(
        valid=("⟦11-22-123456-12⟧", "면허 ⟦28 22 123456 12⟧", "면허 ⟦서울 12-345678-90⟧"),
        invalid=("99-22-123456-12", "11-22-12345-12", "111-22-123456-12", "주문번호 11-22-123456-12"),
    ),
    check=checks.driver_license,
    context=Context(near=r"면허|licen[cs]e", against=OTHER_NUMBERS),
    national=True,
)

DRIVER_LICENCE_PLAIN = Recogniser(
    rule_id="national.driver_licence_plain",
    kind=Kind.DRIVER_LICENCE,
    pattern=re.compile(rf"{_START}(?:1[1-9]|2[0-6]|28)\d{{10}}{_STOP}"),
    anchors=(NINE_DIGITS,),
    reach=24,
    ahead=6,
    source="as national.driver_licence, without separators",
    examples=Examples(valid=("운전면허 ⟦112212345612⟧",), invalid=("운송장 112212345612", "면허 202311210001")),
    check=checks.driver_license,
    context=Context(near=r"면허|licen[cs]e", against=OTHER_NUMBERS),
    national=True,
)

DRIVER_LICENCE_LABELLED = Recogniser(
    rule_id="national.driver_licence_labelled",
    kind=Kind.DRIVER_LICENCE,
    pattern=re.compile(
        r"(?:면허(?:증)?|driver'?s?'?[ _]licen[cs]e)[ _]?(?:번호|number|no\.?|num|#)?\W{0,4}?"
        r"(?:[^\w\n]{0,6}+|\s?(?:은|는|가|이|를|을|is)\s{1,2}+)(?P<v>(?="
        "(?:[A-Za-z-]{0,6}+[0-9-]){6})[A-Za-z0-9][A-Za-z0-9-]{5,17}+)",
        re.IGNORECASE,
    ),
    anchors=(r"(?:면허|licen[cs]e)[^0-9]{0,30}[0-9]",),
    source="foreign licences: 6 to 18 letters and digits; told by their label",
    examples=Examples(
        valid=("운전면허 번호: ⟦J69-2716-488-88⟧", "driver's license number is ⟦U62928788557186⟧"),
        invalid=("운전면허 학원", "면허 취소 2023"),
    ),
    context=Context(against=r"특허|사업자"),
    national=True,
)

SSN = Recogniser(
    rule_id="national.us_ssn",
    kind=Kind.SSN,
    pattern=re.compile(rf"(?<![0-9A-Za-z])(?<![0-9][-.,])\d{{3}}-\d\d-\d{{4}}{_STOP}"),
    anchors=(r"\d{3}-\d\d-\d{4}",),
    reach=20,
    ahead=6,
    source="Social Security Administration, randomised since 2011",
    examples=Examples(
        valid=("SSN ⟦460-89-9847⟧", "⟦460-89-9847⟧"), invalid=("000-12-3456", "666-12-3456", "order 460-89-9847")
    ),
    check=checks.us_ssn,
    context=Context(near=r"\bssn\b|social security|사회\s?보장", against=OTHER_NUMBERS + "|계좌|입금"),
    national=True,
)

SSN_LABELLED = Recogniser(
    rule_id="national.ssn_labelled",
    kind=Kind.SSN,
    pattern=re.compile(
        r"(?:사회\s?보장\s?번호|국민\s?보험\s?번호|납세자\s?(?:식별)?\s?번호|세금\s?등록\s?"
        r"(?:번호|id)|social security (?:number|no\.?)|\bssn|\btax\s?id>?)(?:[^\w\n]{0,6}+|\s?"
        r"(?:은|는|가|이|를|을|is)\s{1,2}+)(?P<v>(?="
        "(?:[A-Za-z -]{0,6}+[0-9]){5})[A-Za-z0-9]{2,16}+(?:[ -][A-Za-z0-9]{1,9}+){0,3})"
        "(?![A-Za-z0-9])",
        re.IGNORECASE,
    ),
    anchors=(
        r"(?:사회[^가-힣]?보장|국민[^가-힣]?보험|납세자|세금[^가-힣]?등록|social security|ssn|tax[^a-z]?id)"
        r"[^0-9]{0,40}[0-9]",
    ),
    source="national insurance numbers of other countries; told by their label",
    examples=Examples(
        valid=("사회보장번호: ⟦ZZ164381T⟧", "국민보험번호: ⟦MLNSPH31D16F536O⟧"),
        invalid=("사회보장 제도 12345", "SSN: 없음"),
    ),
    national=True,
)

BUSINESS = Recogniser(
    rule_id="business.brn",
    kind=Kind.BUSINESS_NUMBER,
    pattern=re.compile(rf"{_START}\d{{3}}(?P<s>-?)\d\d(?P=s)\d{{5}}{_STOP}"),
    anchors=(r"[0-9]{3}-[0-9]{2}-[0-9]{5}", NINE_DIGITS),
    reach=20,
    ahead=6,
    source="National Tax Service registration number",
    examples=Examples(
        valid=("사업자 ⟦104-86-56659⟧", "⟦1048656659⟧"),
        invalid=(
            "학번 2046229553",
            "로그 1652186519 오류",
            "104-86-56658",
            "123-45-67890",
            "110-81-412722",
            "주문번호 1048656659",
        ),
    ),
    check=checks.business_number,
    context=Context(near=r"사업자|등록\s?번호|\bbrn\b|business", against=OTHER_NUMBERS),
    lookalike=checks.no_hyphen,
    mask=MaskRule.NONE,
    personal=False,
)

RECOGNISERS: Final = (
    RRN,
    FOREIGNER,
    RRN_PLAIN,
    FOREIGNER_PLAIN,
    PASSPORT,
    PASSPORT_LABELLED,
    DRIVER_LICENCE,
    DRIVER_LICENCE_PLAIN,
    DRIVER_LICENCE_LABELLED,
    SSN,
    SSN_LABELLED,
    BUSINESS,
)
