"""How phones, e-mail addresses, messenger ids and IP addresses are recognised."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii import checks
from services.detector.domain.pii.model import Kind, MaskRule
from services.detector.domain.pii.recogniser import NINE_DIGITS, OTHER_NUMBERS, Context, Examples, Recogniser

# Between the groups of a phone number: up to three signs of any sort (010★1234★5678, 010 - 1234), no line break.
_GAP: Final = r"(?:[^\w\n+@#]|_){0,3}+"
_SIGNS: Final = r"(?:[^\w\n+@#]|_){1,3}+"
_START: Final = r"(?<![0-9A-Za-z])(?<![0-9][-.,])"
_STOP: Final = r"(?![0-9])(?!-[0-9])"
_OPEN: Final = r"(?:[(](?=[+0-9 -]{1,8}[)]))?"  # a bracket that closes behind the code, not behind the number
_PHONE_WORDS: Final = (
    r"전화|연락처|휴대폰|휴대전화|핸드폰|폰번|폰\s?번호|모바일|(?<![가-힣])번호|전번|문자"
    "|문의|긴급|연락|통화|팩스|직통|내선|"
    r"\bphone|\btel\b|\bmobile\b|\bcell\b|\bcall\b|\bfax\b|\bcontact\b|\bhp\b|\bh\.p"
    r"|\bsms\b|\btext me\b|whatsapp|☎|📞|📱"
)
_PHONE: Final = Context(near=_PHONE_WORDS, against=OTHER_NUMBERS)
_COUNTRY: Final = rf"(?:(?:\+|00)82{_GAP}|82{_SIGNS})(?:\(?0\)?{_GAP})?"

KR_MOBILE = Recogniser(
    rule_id="phone.kr_mobile",
    kind=Kind.PHONE,
    pattern=re.compile(
        rf"{_START}{_OPEN}(?:{_COUNTRY}1|0[ ]?1)[ ]?[016789](?:{_SIGNS}\d{{3,4}}{_GAP}\d{{4}}"
        rf"|{_GAP}\d{{3,4}}{_SIGNS}\d{{4}}"
        rf"|(?!\d{{8}})(?:[ .-]{{0,2}}+\d){{8}}){_STOP}"
        rf"|(?<![0-9])(?:\+|00)82{_GAP}(?:\(?0\)?)?1[016789]\d{{7,8}}{_STOP}"
    ),
    anchors=(
        r"0[ ]?1[ ]?[016789](?:[^0-9\n]{0,3}[0-9]){7}",
        r"82[^0-9\n]{0,9}0?[^0-9\n]{0,5}1(?:[^0-9\n]{0,3}[0-9]){8}",
    ),
    reach=56,
    ahead=14,
    source="Numbering plan for telecommunications, Ministry of Science and ICT notice; ITU-T E.164 (+82)",
    examples=Examples(
        valid=(
            "연락은 ⟦010-2345-6789⟧로",
            "⟦010 2345 6789⟧",
            "⟦+82 10-2345-6789⟧",
            "⟦+821023456789⟧",
            "⟦010.2345.6789⟧입니다",
            "⟦(010) 2345-6789⟧",
            "담당 (⟦010-2345-6789⟧)",
            "⟦０１０－２３４５－６７８９⟧",
            "⟦공일공-이삼사오-육칠팔구⟧입니다",
            "⟦010★2345★6789⟧",
            "⟦011-234-5678⟧",
            "⟦010)2345-6789⟧",
            "⟦o1o-2345-6789⟧",
            "⟦82-10-2345-6789⟧",
            "⟦+82 (0)10 2345 6789⟧",
            "⟦010\u200b-2345-\u200b6789⟧",
            "call ⟦zero-one-zero-2345-6789⟧",
        ),
        invalid=("2010-2345-6789", "010-2345-67890", "1-010-2345-6789-1", "010-23-45", "주문 2010 1234 56789"),
    ),
    check=checks.korean_mobile,
    context=_PHONE,
    mask=MaskRule.PHONE,
    watchable=True,
)

KR_MOBILE_PLAIN = Recogniser(
    rule_id="phone.kr_mobile_plain",
    kind=Kind.PHONE,
    pattern=re.compile(
        "(?:(?<![0-9A-Za-z.,])|(?<=[Tt][Ee][Ll])|(?<=[HhCc][Pp])|"
        r"(?<=[^0-9][.,]))01[016789]\d{7,8}(?![0-9A-Za-z])"
    ),
    anchors=(r"01[016789][0-9]{7}",),
    reach=24,
    ahead=6,
    source="as phone.kr_mobile, written without separators",
    examples=Examples(
        valid=(
            "⟦01023456789⟧",
            "hp⟦01023456789⟧",
            "번호 ⟦공일공이삼사오육칠팔구⟧이에요",
            "⟦0 1 0 2 3 4 5 6 7 8 9⟧",
            "⟦0️⃣1️⃣0️⃣2️⃣3️⃣4️⃣5️⃣6️⃣7️⃣8️⃣9️⃣⟧",
        ),
        invalid=("운송장 01023456789", "SN01023456789", "0.01023456789", "010234567890"),
    ),
    check=checks.korean_mobile,
    context=_PHONE,
    mask=MaskRule.PHONE,
    watchable=True,
)

_AREA: Final = r"(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[2-8])"
KR_LANDLINE = Recogniser(
    rule_id="phone.kr_landline",
    kind=Kind.PHONE,
    pattern=re.compile(
        rf"{_START}{_OPEN}(?:{_COUNTRY}|0){_AREA}(?:[ ]?[)]{_GAP}|{_SIGNS})\d{{3,4}}{_SIGNS}\d{{4}}{_STOP}"
        rf"|(?<![0-9])(?:\+|00)82{_GAP}{_AREA}{_GAP}\d{{3,4}}{_GAP}\d{{4}}{_STOP}"
    ),
    anchors=(
        r"0(?:2|3[1-3]|4[1-4]|5[1-5]|6[1-4]|70|50[2-8])[^0-9\n]{1,5}[0-9]{3,4}[^0-9\n]{1,3}[0-9]{4}",
        r"82[^0-9\n]{0,9}0?[^0-9\n]{0,5}[2-7](?:[^0-9\n]{0,5}[0-9]){7}",
    ),
    reach=48,
    ahead=20,
    source="Numbering plan: area codes 02, 031-064; 070 internet, 050x personal numbers",
    examples=Examples(
        valid=(
            "⟦02-345-6789⟧",
            "⟦031-234-5678⟧",
            "⟦(02) 2345-6789⟧",
            "⟦+82-2-2345-6789⟧",
            "⟦070-2345-6789⟧",
            "⟦0504-1234-5678⟧",
            "⟦064)712-3456⟧",
        ),
        invalid=(
            "1588-1234",
            "02-12-345",
            "2023-02-123-4567",
            "110-031-123-4567",
            "080-123-4567",
            "주문번호 032-123-4567-1",
        ),
    ),
    check=checks.korean_landline,
    context=_PHONE,
    mask=MaskRule.PHONE,
    watchable=True,
)

KR_LANDLINE_PLAIN = Recogniser(
    rule_id="phone.kr_landline_plain",
    kind=Kind.PHONE,
    pattern=re.compile(rf"(?<![0-9A-Za-z.,-])0{_AREA}\d{{7,8}}(?![0-9A-Za-z])"),
    anchors=(NINE_DIGITS,),
    reach=24,
    ahead=6,
    source="as phone.kr_landline, written without separators",
    examples=Examples(
        valid=("전화 ⟦0223456789⟧", "연락처: ⟦07023456789⟧"), invalid=("0223456789", "주문번호 0223456789")
    ),
    check=checks.korean_landline,
    context=_PHONE,
    mask=MaskRule.PHONE,
    watchable=True,
)

E164 = Recogniser(
    rule_id="phone.e164",
    kind=Kind.PHONE,
    pattern=re.compile(
        r"(?<![\w+])\+[ ]?(?!82)[1-9]\d{0,3}(?:[ .()/-]{0,3}+\d{1,7}){2,6}(?:\s?(?:x"
        r"|ext\.?\s?)\d{1,5})?(?![0-9])"
    ),
    anchors=(r"\+[ ]?[1-9](?:[ .()/-]{0,3}[0-9]){2}",),
    source="ITU-T E.164, E.123",
    examples=Examples(
        valid=("⟦+44 20 2345 6789⟧", "⟦+447700921916⟧", "⟦+46 (0)179 459 33⟧", "⟦+39 06 1234567⟧", "⟦+1-202-555-0143⟧"),
        invalid=("a+1234567890", "+12 34", "1+23456789012"),
    ),
    check=checks.e164,
    context=_PHONE,
    mask=MaskRule.PHONE,
    watchable=True,
)

NANP = Recogniser(
    rule_id="phone.nanp",
    kind=Kind.PHONE,
    pattern=re.compile(
        r"(?<![0-9A-Za-z+])(?<![0-9][-.,])(?:(?:00)?1[-. ])?(?:\(\d{3}\)[ -]{0,2}|(?!8(?:00|88|77|66"
        r"|55|44|33)[-. ])\d{3}[-. ])\d{3}[-. ]\d{4}"
        r"(?:\s?(?:x|ext\.?\s?)\d{1,5})?(?![0-9])(?![-.][0-9])"
    ),
    anchors=(r"\d{3}\)?[. -]{1,2}\d{3}[. -]\d{4}", r"\)\d{3}[. -]\d{4}"),
    reach=48,
    ahead=18,
    source="North American Numbering Plan, ATIS-0300051",
    examples=Examples(
        valid=(
            "⟦(202) 555-0143⟧",
            "⟦202-555-0143⟧",
            "⟦202.555.0143⟧",
            "⟦001-202-555-0143x31948⟧",
            "⟦(602)272-9781x0135⟧",
            "phone ⟦123-456-7890⟧",
        ),
        invalid=("order 202-555-0143", "123-456-7890", "1202-555-01439"),
    ),
    check=checks.nanp,
    context=_PHONE,
    mask=MaskRule.PHONE,
    watchable=True,
)

TOLL_FREE = Recogniser(
    rule_id="phone.toll_free",
    kind=Kind.PHONE,
    pattern=re.compile(
        r"(?<![0-9A-Za-z])(?<![0-9][-.,])(?:\+?1[-. ])?\(?8(?:00|88|77|66|55|44"
        r"|33)\)?[-. ]{1,2}\d{3}[-. ]\d{4}(?![0-9])"
    ),
    anchors=(r"8[0-8]{2}\)?[. -]{1,2}\d{3}[. -]",),
    reach=32,
    ahead=14,
    source="North American toll-free codes: lines of businesses",
    examples=Examples(valid=("⟦1-800-123-4567⟧", "⟦(888) 123-4567⟧"), invalid=("order 1-800-123-4567",)),
    context=_PHONE,
    mask=MaskRule.PHONE,
    personal=False,
)

_LABEL: Final = (
    r"(?:전화(?:번호)?|연락처|휴대(?:폰|전화)?(?:\s?번호)?|핸드폰(?:\s?번호)?|폰\s?번호|모바일|팩스|"
    r"(?<![A-Za-z])(?:tele)?phone(?:\s?(?:number|no\.?|num))?|(?<![A-Za-z])(?:tel|mobile"
    r"|cell|fax|desk|whatsapp)\b\.?|연락해[ ]?주(?:세요|십시오)[ ]?:)"
)
_LOOSE: Final = r"[(+]?\d(?:[ ().-]{0,3}+\d){6,14}(?:\s?(?:x|ext\.?\s?)\d{1,5})?"
LABELLED = Recogniser(
    rule_id="phone.labelled",
    kind=Kind.PHONE,
    pattern=re.compile(
        rf"(?=[전연휴핸폰모팩tpmcfdw]){_LABEL}(?:[ ]?\d{{1,2}}[).:][ ]{{0,2}}+)?"
        rf"(?:[^\d\n\w(+]|\s){{0,6}}+(?:(?:은|는|이|가|is|was)\s{{1,2}}+)?[^\d\n\w"
        rf"(+]{{0,3}}+(?P<v>{_LOOSE})(?![0-9A-Za-z])(?!-\d)",
        re.IGNORECASE,
    ),
    anchors=(
        r"(?:전화|연락처|휴대|핸드폰|폰|모바일|팩스|연락해|phone|tel|mobile|cell|fax|desk|whatsapp)"
        r"[^0-9]{0,24}(?:[0-9]{1,2}[).:][^0-9]{0,9})?[0-9](?:[ ().-]{0,3}[0-9]){6}",
    ),
    source="international numbers in national form, told by their label only",
    examples=Examples(
        valid=(
            "Phone: ⟦51 516 33 75⟧",
            "Mobile: ⟦432 03 163⟧",
            "전화번호: ⟦06-12345678⟧",
            "Phone:\n⟦358 0594⟧",
            "전화: ⟦01 23 45 67 89⟧",
        ),
        invalid=("전화 1588-1234", "전화 2023-10-12", "phone 12", "전화요금 30000원"),
    ),
    check=checks.loose_phone,
    context=Context(against=OTHER_NUMBERS, before=12),
    mask=MaskRule.PHONE,
    watchable=True,
)

LABEL_AFTER = Recogniser(
    rule_id="phone.label_after",
    kind=Kind.PHONE,
    pattern=re.compile(
        rf"(?<![0-9A-Za-z.,+-])(?P<v>{_LOOSE})(?:[ \t]{{0,2}}[-(]?[ ]?(?:office|fax|mobile|desk"
        rf"|cell|home)\b|[)]?[ ]?(?:으로|로)[ ]?(?:[가-힣]{{1,4}}[ ]){{0,2}}(?:전화|연락|문자"
        "|문의|콜|톡))",
        re.IGNORECASE,
    ),
    anchors=(
        r"[0-9][ \t]{0,2}[-(]?[ ]?(?:office|fax|mobile|desk|cell|home)",
        # Vectorscan 5.4.12 misses matches of a repeated group that holds a repeated class: the class alone says enough.
        r"[0-9][ \t]{0,2}[)]?[ ]?(?:으로|로)[ ]?[가-힣 ]{0,10}(?:전화|연락|문자|문의|콜|톡)",
    ),
    ahead=6,
    source="as phone.labelled, with the label behind the number",
    examples=Examples(
        valid=("⟦085 175 7641⟧-Office", "⟦01234 567 890⟧으로 전화해", "⟦28-64-66-98⟧ office"),
        invalid=("2023-10-12 office", "15 home runs"),
    ),
    check=checks.loose_phone,
    context=Context(against=OTHER_NUMBERS),
    mask=MaskRule.PHONE,
    watchable=True,
)

_LATIN: Final = "A-Za-z0-9À-ɏ"
EMAIL = Recogniser(
    rule_id="email",
    kind=Kind.EMAIL,
    pattern=re.compile(
        rf"(?<![{_LATIN}._%+@-])[{_LATIN}_](?:[{_LATIN}._%+'-]{{0,63}}+)@"
        rf"(?:[{_LATIN}](?:[{_LATIN}-]{{0,62}}+)\.){{1,6}}(?:xn--[a-z0-9-]{{1,59}}+"
        f"|[A-Za-z]{{2,24}}+)(?![0-9A-Za-z@])"
    ),
    anchors=(r"[^\s@]@[a-z0-9À-ɏ]",),
    reach=520,
    source="RFC 5321, RFC 5322 (common subset); IDNA for internationalised names",
    examples=Examples(
        valid=(
            "메일은 ⟦hong.gildong@example.com⟧으로",
            "⟦hong@example.co.kr⟧입니다",
            "메일⟦hong@example.com⟧로",
            "⟦a@xn--d1acufc.xn--p1ai⟧",
            "⟦hong골뱅이naver쩜com⟧",
            "⟦hong [at] naver [dot] com⟧",
            "⟦hong(at)naver.com⟧",
            "⟦hong at gmail dot com⟧",
            "Contact him at ⟦alex dot carter (at) example dot com⟧, please",
            "⟦hong@네이버⟧",
            "⟦hong＠gmail．com⟧",
            "⟦hong골뱅이네이버닷컴⟧",
            "⟦hong @ naver . com⟧",
            "(⟦first+tag@sub.example.org⟧).",
        ),
        invalid=("logo@2x.png", "info@presidio.", "@user", "골뱅이 무침 먹자", "a@b", "meet me at home dot"),
    ),
    check=checks.email,
    mask=MaskRule.EMAIL,
    watchable=True,
)

_KOREAN_APPS: Final = (
    "카톡|카카오톡|카카오|라인|텔레그램|텔레|텔그|위챗|인스타그램|인스타|디스코드|스카이프|왓츠앱|페이스북|페북|트위터|틱톡"
)
_LATIN_APPS: Final = (
    "kakao ?talk|kakao|line|telegram|wechat|instagram|insta|discord|skype|whatsapp|facebook|twitter|tiktok|snapchat|ig"
)
_APP_STARTS: Final = "".join(sorted({name[0] for name in f"{_KOREAN_APPS}|{_LATIN_APPS}".split("|")}))
_APPS: Final = rf"{_KOREAN_APPS}|(?<![A-Za-z])(?:{_LATIN_APPS})"
MESSENGER = Recogniser(
    rule_id="messenger.labelled",
    kind=Kind.MESSENGER,
    pattern=re.compile(
        rf"(?=[{_APP_STARTS}])"
        rf"(?:(?:{_APPS})[ ]?(?:(?:아이디|계정|id|handle|account)[ ]?(?:은|는|is)?[ ]?[:=]?|[:=]|(?=[ ]?@))[ ]?"
        r"(?P<v>@?[A-Za-z0-9][A-Za-z0-9._-]{3,29}+)(?![@A-Za-z0-9])(?!://)"
        "|(?:카톡|카카오톡|텔레그램|텔레|라인|위챗)[ ](?P<w>"
        "(?=[A-Za-z._-]{1,20}+[0-9])[A-Za-z][A-Za-z0-9._-]{3,29}+)(?![@A-Za-z0-9]))",
        re.IGNORECASE,
    ),
    anchors=(
        rf"(?:{_KOREAN_APPS}|(?:^|[^a-z])(?:{_LATIN_APPS}))"
        r"[ ]?(?:(?:아이디|계정|id|handle|account)[ ]?(?:은|는|is)?[ ]?[:=]?|[:=])?[ ]?@?[a-z0-9][a-z0-9._-]{3}",
    ),
    source="public id rules of the services (4 to 30 of letters, digits, dot, underscore, hyphen), told by their label",
    examples=Examples(
        valid=(
            "카톡 아이디 ⟦gildong_77⟧",
            "카톡:⟦gildong77⟧",
            "텔레그램 ⟦@gildong77⟧",
            "telegram id: ⟦gildong77⟧",
            "인스타 계정은 ⟦gil.dong⟧",
            "카톡 ⟦gildong77⟧ 로",
        ),
        invalid=("카톡 보내 주세요", "online: yes", "라인 업", "인스타 감성"),
    ),
    context=Context(against=r"채널톡|고객센터"),
    mask=MaskRule.KEEP_FIRST,
    watchable=True,
)

MESSENGER_LINK = Recogniser(
    rule_id="messenger.link",
    kind=Kind.MESSENGER,
    pattern=re.compile(
        r"(?<![A-Za-z0-9.])(?:t\.me/|open\.kakao\.com/(?:o|me)/|line\.me/ti/p/~?|wa\.me/|"
        r"(?:www\.)?instagram\.com/)(?!p/|s/|reel|explore)"
        r"(?P<v>[A-Za-z0-9][A-Za-z0-9._-]{3,39}+)",
        re.IGNORECASE,
    ),
    anchors=(r"t\.me/|kakao\.com/|line\.me/|wa\.me/|instagram\.com/",),
    source="link forms of the services",
    examples=Examples(
        valid=("https://t.me/⟦gildong77⟧", "open.kakao.com/o/⟦sAbCdEf⟧"),
        invalid=("not.me/abcd", "instagram.com/p/abcdef"),
    ),
    mask=MaskRule.KEEP_FIRST,
    watchable=True,
)

_OCTET: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = Recogniser(
    rule_id="ip.v4",
    kind=Kind.IP,
    pattern=re.compile(rf"(?<![0-9A-Za-z.])(?:{_OCTET}\.){{3}}{_OCTET}(?![0-9A-Za-z])(?!\.[0-9])"),
    anchors=(r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",),
    reach=20,
    ahead=10,
    source="RFC 791 dotted quad; special-purpose ranges of RFC 6890 refuted",
    examples=Examples(
        valid=("IP ⟦36.160.14.148⟧ 차단",),
        invalid=("192.168.0.1", "1.2.3.4.5", "version 36.160.14.148", "v36.160.14.148"),
    ),
    check=checks.ip_address,
    context=Context(near=r"(?<![a-z])ip(?:v?4)?(?![a-z])|아이피|접속", against=OTHER_NUMBERS, before=24),
    mask=MaskRule.KEEP_FIRST,
)

IPV6 = Recogniser(
    rule_id="ip.v6",
    kind=Kind.IP,
    pattern=re.compile(
        "(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}(?![0-9A-Za-z:])|"
        "(?<![0-9A-Za-z:.])(?:[0-9A-Fa-f]{1,4}:){1,6}:(?:[0-9A-Fa-f]{1,4}"
        "(?::[0-9A-Fa-f]{1,4}){0,5})(?![0-9A-Za-z:])"
    ),
    anchors=(r"(?::[0-9a-f]{1,4}){4}", r"[0-9a-f]::[0-9a-f]"),
    reach=64,
    source="RFC 4291 §2.2",
    examples=Examples(
        valid=("⟦2a02:4041:c617:e898:c11:40d2:c669:2eb4⟧", "⟦2a02:4041::8a2e:370⟧"),
        invalid=("12:30:45", "fe80::1", "::"),
    ),
    check=checks.ipv6_shape,
    context=Context(near=r"(?<![a-z])ip(?:v?6)?(?![a-z])|아이피", before=24),
    mask=MaskRule.KEEP_FIRST,
)

RECOGNISERS: Final = (
    KR_MOBILE,
    KR_MOBILE_PLAIN,
    KR_LANDLINE,
    KR_LANDLINE_PLAIN,
    E164,
    NANP,
    TOLL_FREE,
    LABELLED,
    LABEL_AFTER,
    EMAIL,
    MESSENGER,
    MESSENGER_LINK,
    IPV4,
    IPV6,
)
