"""How names and vehicle plates are recognised: only by what stands beside them."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii import checks
from services.detector.domain.pii.model import Kind, MaskRule
from services.detector.domain.pii.recogniser import Context, Examples, Recogniser, words

# Family names by frequency (Statistics Korea 2015), rare ones that are also everyday first syllables left out.
_FAMILY: Final = (
    "김이박최정강조윤장임한오서신권황안송류유전홍고문양손배백허남심노하곽성차주우구민진지"
    "엄채원천방공현함변염여추도소석선설마길연위표명기반왕금옥육인맹제모탁국어은편용예경봉"
    "사부"
)
_TWO_SYLLABLES: Final = words("남궁 황보 제갈 사공 선우 서문 독고 동방")
_NAME: Final = rf"(?:(?:{_TWO_SYLLABLES})[가-힣]{{1,2}}|[{_FAMILY}][ ]?[가-힣]{{2}}|[{_FAMILY}][가-힣])"
_FIRST_OF_TWO: Final = "남황제사선서독동"
_AFTER_NAME: Final = (
    "(?![가-힣])|(?=[ ]?(?:님|씨|군|양|입니다|이에요|예요|이고|이며|이라고|라고|이야|야"
    "|임|이구요|고객|귀하|대리|과장|부장|선생|사원|팀장|교수|이랑|하고|랑)(?![가-힣]{3}))"
)
_COPULA: Final = "[ ]?(?:입니다|이에요|예요|이고|이며|이라고|라고|이야|임(?![가-힣])|이구요|씨|님)(?![가-힣]{2})"
_COPULA_ANCHOR: Final = "[ ]?(?:입니다|이에요|예요|이고|이며|이라고|라고|이야|임|이구요|씨|님)"
_LABEL: Final = (
    r"(?:이름|성명|성함|본명|실명|수신인|수신자|수신|수취인|수령인|받는\s?(?:사람|분|이)"
    r"|보내는\s?(?:사람|분|이)|발신인|예금주|고객명|회원명|신청인|신청자|입금자(?:명)?|"
    "구매자(?:명)?|주문자(?:명)?|환자명|담당자(?:명)?|작성자명|계약자|명의자?|피해자"
    "|가해자|당사자|대표자(?:명)?)"
)
# Words a name label is often followed by that are no names.
_NO_NAME: Final = (
    "(?!이름|성명|전화|전번|폰번|연락|문의|번호|이메일|주문|신청|사장|상담|예약|고객|주소|담당|대표"
    "|핸드폰|정보(?!라)|공개|비공개|없음|미상|모름|변경|확인|입력|작성|기재|동의|수정|"
    "이상|이하(?![은윤율린])|이거|이건|이게|이것|이제|이런|이렇|그런|정말|진짜|오늘|내일|어제|지금|여기"
    "|하지|하는|모두|아직|우리|저희|제가|제발|주세요|주십|부탁|부분|부터|사용|사람|사실|"
    "안녕|안내|안되|안돼|한글|한국|영문|영어|실명|본인|필수|선택|예시|전체|전부|성별|나이"
    "|휴대|모바일|서울|경기|인천|부산|대구|대전|광주|울산|세종|강원|충[남북청]|전[남북라]"
    "|경[남북상]|제주|"
    "국민|신한|하나|농협|기업|계좌|은행|카드|입금|택배|배송|우편|사진|직장|학교|회사|직업"
    "|유출|노출|신상(?![철훈호])|인증|명단|여권|외국인|주민|차량|면허|소속|직책|직원|성인|남자|여자"
    "|남성|여성)"
)

KR_LABELLED = Recogniser(
    rule_id="person.kr_labelled",
    kind=Kind.PERSON,
    pattern=re.compile(
        r"(?=[이성본실수받보발예고회신입구주환담작계명피가당대])"
        rf"(?<![가-힣]){_LABEL}[ ]?(?:[:=|/)][ \t]{{0,3}}{_NO_NAME}(?P<v>{_NAME})(?:{_AFTER_NAME})"
        rf"|(?:은|는)[ ]{{0,2}}{_NO_NAME}(?P<w>{_NAME})(?={_COPULA})"
        f"|[ ]{{1,3}}{_NO_NAME}(?P<x>[{_FAMILY}]"
        rf"(?![면를을에요까게데줘죠의와과로])[가-힣]{{2}})(?=[ ]?(?:[,/|\n(]|\Z)|[ ]{{1,2}}"
        r"(?:전화|연락|휴대|핸드|생년|주소|나이|주민|성별|\d)))"
    ),
    anchors=(
        rf"(?:이름|성명|성함|본명|실명|수신인|수신자|수신|수취인|수령인|(?:받는|보내는)[^가-힣]?(?:사람|분|이)|발신인|예금주|고객명"
        rf"|회원명|신청인|신청자|(?:입금|구매|주문|담당|작성|대표)자명?|환자명|계약자|명의자?|피해자|가해자|당사자)"
        rf"(?:[ ]?[:=|/)][ \t]{{0,3}}[{_FAMILY}{_FIRST_OF_TWO}]"
        rf"|(?:은|는)[ ]{{0,2}}[가-힣][ ]?[가-힣]{{1,3}}{_COPULA_ANCHOR}"
        rf"|[ ]{{1,3}}[{_FAMILY}][가-힣]{{2}}(?:[ ]?[,/|\n(]|$"
        r"|[ ]{1,2}(?:전화|연락|휴대|핸드|생년|주소|나이|주민|성별|[0-9])))",
    ),
    source="Korean names: family name of one or two syllables and one or two given syllables, told by a label",
    examples=Examples(
        valid=(
            "이름: ⟦홍길동⟧",
            "성명 : ⟦김민수⟧ 님",
            "받는 사람: ⟦이서연⟧, 010",
            "예금주: ⟦박철⟧",
            "이름은 ⟦홍길동⟧입니다",
            "수신: ⟦남궁민수⟧",
            "이름 ⟦홍길동⟧, 전화",
        ),
        invalid=("이름: 비공개", "주인공 이름이 뭐였지", "이름은 이상하지만", "성명: 없음", "이름을 몰라"),
    ),
    mask=MaskRule.NAME,
)

KR_BESIDE_NUMBER = Recogniser(
    rule_id="person.kr_beside_phone",
    kind=Kind.PERSON,
    pattern=re.compile(
        f"(?<![가-힣A-Za-z0-9]){_NO_NAME}(?P<v>(?:{_TWO_SYLLABLES})[가-힣]{{1,2}}"
        f"|[{_FAMILY}][가-힣](?![면를을에요까게데줘죠의와과로역점팀실])[가-힣])(?:[ ]?(?:님|씨))?"
        r"[ \t]{0,2}[,/|:(\t;·-]{0,1}[ \t]{0,2}(?:\d\d세?[ ]?[,/|][ ]?)?(?=[(]?(?:\+?82[ -]?1"
        r"|01)[016789][-. )]{0,2}\d{3,4}[-. ]?\d{4}(?!\d))"
    ),
    anchors=(
        r"[가-힣][ \t]{0,2}[,/|:(\t;·-]?[ \t]{0,2}(?:[0-9]{2}세?[ ]?[,/|][ ]?)?[(]?"
        r"(?:\+?82[ -]?1|01)[016789][-. )]{0,2}[0-9]{3}",
    ),
    reach=60,
    ahead=28,
    source="a name directly before a mobile number, as in dumps and doxing posts",
    examples=Examples(
        valid=("⟦홍길동⟧ 010-2345-6789", "⟦김민수⟧/01023456789/서울", "⟦이서연⟧ (010-2345-6789)"),
        invalid=("연락처 010-2345-6789", "전화는 010-2345-6789", "문의사항 010-2345-6789", "강남역 010-2345-6789"),
    ),
    mask=MaskRule.NAME,
)

EN_LABELLED = Recogniser(
    rule_id="person.en_labelled",
    kind=Kind.PERSON,
    pattern=re.compile(
        "(?<![A-Za-z])(?:(?:[Ff]ull |[Rr]eal |[Ll]egal |[Cc]ustomer |[Cc]ontact )?[Nn]ame"
        r"|NAME|[Rr]ecipient|[Ss]hip to|[Aa]ttn\.?)[ ]?[:=][ \t]{0,3}"
        r"(?P<v>[A-ZÀ-Þ][A-Za-zÀ-ɏ'’-]{1,24}+(?:[ ](?:[A-Z]\.|[A-ZÀ-Þ][A-Za-zÀ-ɏ'’-]{1,24}+)){1,3})"
        "|(?<![A-Za-z])[Mm]y (?:full |real )?name is (?P<w>[A-ZÀ-Þ][a-zÀ-ɏ'’-]{1,24}+"
        "(?:[ ][A-ZÀ-Þ][a-zÀ-ɏ'’-]{1,24}+){0,3})"
        "|(?<![가-힣])(?:이름|성명|성함)[ ]?[:=][ ]{0,3}(?P<x>[A-Z][a-z'-]{1,24}+(?:[ ]"
        r"(?:[A-Z]\.|[A-Z][a-z'-]{1,24}+)){1,3})"
    ),
    reach=140,
    anchors=(
        r"(?:name|recipient|ship to|attn\.?)[ ]?[:=]",
        r"my (?:full |real )?name is ",
        r"(?:이름|성명|성함)[ ]?[:=][ ]{0,3}[a-z]",
    ),
    source="names in Latin letters, told by a label",
    examples=Examples(
        valid=("Name: ⟦John Smith⟧", "my name is ⟦Ilkka⟧", "Recipient: ⟦Mary Jane O'Neil⟧", "이름: ⟦Hong Gildong⟧"),
        invalid=("file name: Report", "name is unknown", "the name of the game", "username: Foo Bar"),
    ),
    context=Context(
        against=r"file\s?|class\s?|user\s?|brand\s?|product\s?|domain\s?|host\s?|company\s?|team\s?", before=10
    ),
    mask=MaskRule.NAME,
)

_PLATE_LETTERS: Final = "가나다라마거너더러머버서어저고노도로모보소오조구누두루무부수우주바사아자배하허호"
PLATE = Recogniser(
    rule_id="vehicle.plate",
    kind=Kind.PLATE,
    pattern=re.compile(
        "(?<![0-9A-Za-z])(?<![0-9][-.,])(?:(?:서울|부산|대구|인천|광주|대전|울산|세종|경기"
        "|강원|충북|충남|전북|전남|경북|경남|제주)[ ]?)?"
        rf"(?:\d{{2,3}}|(?<=[가-힣])\d)[ ]?[{_PLATE_LETTERS}][ ]?\d{{4}}(?![0-9A-Za-z])"
        "(?![,.-][0-9])(?![ ]?(?:원|명|억|만|천|년|개|점|번지|회|세대|여|미터|km|m|kg|g|층|호"
        "|동|평|배|시|분))"
    ),
    anchors=(r"[0-9][ ]?[가-힣][ ]?[0-9]{4}",),
    reach=32,
    ahead=14,
    source="Rules on motor vehicle registration plates: 2 or 3 digits, one of 40 letters, 4 digits",
    examples=Examples(
        valid=("⟦12가 3456⟧", "차량번호 ⟦123하4567⟧", "⟦서울12가3456⟧ 차주", "번호판 ⟦30도 2500⟧"),
        invalid=("30도 2500", "100조 5000억", "12가 3456원", "5가 1234", "12각 3456"),
    ),
    check=checks.plate,
    context=Context(
        near=r"차량|번호판|차\s?번호|차넘버|차주|승용차|자동차|주차|\bplate\b|뺑소니",
        against=r"아파트|버스|노선|지하철",
    ),
    watchable=True,
    mask=MaskRule.KEEP_FIRST,
)

RECOGNISERS: Final = (KR_LABELLED, KR_BESIDE_NUMBER, EN_LABELLED, PLATE)
