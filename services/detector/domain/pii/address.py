"""How postal addresses are recognised: Korean road-name and lot addresses, English street addresses."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii.model import Kind, MaskRule
from services.detector.domain.pii.recogniser import Context, Examples, Recogniser, words

_PROVINCE: Final = (
    "(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충청북|충청남|전라북|전라남"
    "|전북|전남|충북|충남|경상북|경상남|경북|경남|제주)"
    r"(?:특별자치시|특별자치도|특별시|광역시|시|도)?"
)
# Districts and cities that stand without a province; 중구, 남구 and their like only pass together with the rest.
_DISTRICTS: Final = """
종로구 중구 용산구 성동구 광진구 동대문구 중랑구 성북구 강북구 도봉구 노원구 은평구 서대문구 마포구
양천구 강서구 구로구 금천구 영등포구 동작구 관악구 서초구 강남구 송파구 강동구 서구 동구 남구 북구
영도구 부산진구 동래구 해운대구 사하구 금정구 연제구 수영구 사상구 기장군 수성구 달서구 달성군
군위군 미추홀구 연수구 남동구 부평구 계양구 강화군 옹진군 광산구 유성구 대덕구 울주군 수원시 성남시
의정부시 안양시 부천시 광명시 평택시 동두천시 안산시 고양시 과천시 구리시 남양주시 오산시 시흥시
군포시 의왕시 하남시 용인시 파주시 이천시 안성시 김포시 화성시 광주시 양주시 포천시 여주시 연천군
가평군 양평군 장안구 권선구 팔달구 영통구 수정구 중원구 분당구 만안구 동안구 상록구 단원구 덕양구
일산동구 일산서구 처인구 기흥구 수지구 춘천시 원주시 강릉시 동해시 태백시 속초시 삼척시 홍천군
횡성군 영월군 평창군 정선군 철원군 화천군 양구군 인제군 고성군 양양군 청주시 충주시 제천시 보은군
옥천군 영동군 증평군 진천군 괴산군 음성군 단양군 상당구 서원구 흥덕구 청원구 천안시 공주시 보령시
아산시 서산시 논산시 계룡시 당진시 금산군 부여군 서천군 청양군 홍성군 예산군 태안군 동남구 서북구
전주시 군산시 익산시 정읍시 남원시 김제시 완주군 진안군 무주군 장수군 임실군 순창군 고창군 부안군
완산구 덕진구 목포시 여수시 순천시 나주시 광양시 담양군 곡성군 구례군 고흥군 보성군 화순군 장흥군
강진군 해남군 영암군 무안군 함평군 영광군 장성군 완도군 진도군 신안군 포항시 경주시 김천시 안동시
구미시 영주시 영천시 상주시 문경시 경산시 의성군 청송군 영양군 영덕군 청도군 고령군 성주군 칠곡군
예천군 봉화군 울진군 울릉군 창원시 진주시 통영시 사천시 김해시 밀양시 거제시 양산시 의령군 함안군
창녕군 남해군 하동군 산청군 함양군 거창군 합천군 의창구 성산구 마산합포구 마산회원구 진해구 제주시
서귀포시
"""
_FIRST: Final = "".join(sorted({name[0] for name in _DISTRICTS.split()} | set("서부대인광울세경강충전제")))
_KNOWN: Final = rf"(?<![가-힣])(?:{words(_DISTRICTS)})"
_DISTRICT: Final = r"(?:[ ]{0,2}[가-힣]{1,5}?(?:시|군|구)(?=[ 가-힣])){0,3}"
_TOWN: Final = r"(?:[ ]{0,2}[가-힣][가-힣0-9]{0,5}?(?:읍|면|동|리)(?=[ 가-힣0-9])){0,2}"
# "…으로 3시" is a direction, not a road.
_ROAD: Final = (
    "(?:[가-힣A-Za-z0-9·]{1,12}?(?<!으)(?<!데)(?:대로|로|길|거리|가|마을)"
    r"(?:[ ]?\d{1,4}(?:번|가|나|다|라|마|바|사|아|자)?길)?|\d{1,4}번길)"
)
_NUMBER: Final = (
    r"[ ]{0,2}(?:지하[ ]?)?\d{1,4}(?:-\d{1,4})?(?![0-9])(?!번?길|가[ ]?[0-9]|[.][0-9])"
    "(?![ ]?(?:시(?:에|간|까|부|쯤|반|경)?|분|초|명|원|만|천|개|번(?!지)|년|월|일|호선|km"
    "|m|미터|킬로|%|퍼|점|위|등|살|세|대|인|잔|회|차(?!로)|주|곳|권|편|팀)(?![가-힣]*"
    "(?:빌|아파트)))"
)
_LOT: Final = (
    r"[가-힣][가-힣0-9]{0,7}?(?:동|리|읍|면|가|마을)[ ]{0,2}(?:산[ ]?)?\d{1,4}"
    r"(?:-\d{1,4})?(?![0-9])(?:[ ]?번지)?"
)
_LOT_STOP: Final = (
    "(?![ ]?(?:시|분|명|원|만|천|개|년|월|일|호선|km|m|미터|%|위|등|살|세|대|인|회|차|주|곳|팀|점)(?![가-힣]*빌))"
)
_BUILDING: Final = (
    "[가-힣A-Za-z0-9]{0,12}(?:아파트|빌라|오피스텔|빌딩|타워|맨션|타운|자이|래미안"
    "|푸르지오|힐스테이트|롯데캐슬|더샵|아이파크|주공|주택|상가|센터|프라자|하이츠|캐슬"
    "|파크|빌|팰리스|하우스|원룸|고시원|APT|apt)"
    r"(?:[ ]?\d{1,2}차|[ ]?\d{1,2}단지)?(?![가-힣])"
)
_UNIT: Final = (
    r"(?:[A-Z가-라]동|\d{1,4}[ ]?동(?![가-힣])|(?:지하[ ]?|B)?\d{1,3}[ ]?층|[A-Z]?\d{1,5}"
    r"(?:-\d{1,4})?[ ]?호(?!선)|\d{1,4}-\d{1,4}(?![0-9-]))"
)
_DETAIL: Final = rf"(?:[ ]{{0,2}},?[ ]{{0,2}}(?:\([^()\n]{{1,40}}\)|{_UNIT}|{_BUILDING})){{0,6}}"
_ZIP: Final = r"(?:(?<![0-9])(?:[(\[]?(?:우[ ]?편?번?호?[ ]?[:)]?[ ]?)?\d{5}[)\]]?,?[ ]{1,2}))"
_HOME: Final = Context(near=r"주소|거주|배송|사는|살고|집|자택|이사|우편|택배|거처|수령|address", against="")

KR = Recogniser(
    rule_id="address.kr",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        f"(?=[{_FIRST}(\\[우]|[0-9]{{5}})(?:{_ZIP}(?<![가-힣])|(?<![가-힣]))"
        f"(?:{_PROVINCE}(?=[ 가-힣]){_DISTRICT}|{_KNOWN}"
        f"(?=[ 가-힣]){_DISTRICT}){_TOWN}[ ]{{0,2}}"
        rf"(?:{_ROAD}{_NUMBER}(?:[ ]?번지)?|{_LOT}{_LOT_STOP}){_DETAIL}"
    ),
    anchors=(
        "(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충청|전라|전북|전남|충북|충남|경상|경북|경남|제주"
        rf"|{words(_DISTRICTS)})[가-힣a-z0-9· ]*(?:로|길|거리|가|마을|동|리|읍|면)[ ]{{0,2}}(?:지하|산)?[ ]?[0-9]",
    ),
    reach=400,
    source="Road Name Address Act, Enforcement Decree; lot addresses by the Act on Spatial Data (three levels or more)",
    examples=Examples(
        valid=(
            "⟦서울특별시 강남구 테헤란로 123⟧",
            "⟦서울 강남구 테헤란로 123, 4층⟧에서",
            "⟦경기도 성남시 분당구 판교역로 235 101동 1203호⟧",
            "⟦강남구 역삼동 123-45⟧",
            "⟦부산광역시 해운대구 우동 1408번지⟧",
            "⟦서울시 마포구 월드컵북로 396, 12층 (상암동)⟧",
            "⟦(06236) 서울 강남구 테헤란로 152⟧",
            "⟦충청북도 고양시 잠실80로 465⟧",
            "⟦경상남도 고양시 덕양구 서초대9가 지하135 (상훈우황읍)⟧",
            "⟦제주특별자치도 제주시 첨단로 242⟧",
            "⟦서울 성동구 왕십리로 83-21⟧",
            "⟦서울특별시 종로구 세종대로 23길 47⟧",
            "⟦울산광역시 동구 하은한리 169-75⟧",
            "⟦서울 종로1가 24⟧",
            "⟦서울 중구 을지로 12⟧",
        ),
        invalid=(
            "친구 집으로 3시에 가자",
            "서울 중구 방향으로 10분",
            "강남구 도로 3개",
            "서울로 3시간",
            "부산 가는 길 20분",
            "광주 상무지구 가는 데로 2명",
            "서울 강남구 역삼동 맛집",
        ),
    ),
    context=_HOME,
    mask=MaskRule.ADDRESS,
    watchable=True,
)

KR_UNIT = Recogniser(
    rule_id="address.kr_unit",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        rf"(?<![가-힣0-9])(?:(?:{_ROAD}{_NUMBER}|{_LOT})(?:[ ]{{0,2}},?[ ]{{0,2}}(?:\([^"
        rf"()\n]{{1,40}}\)|{_BUILDING}|\d{{1,4}}동|\d{{1,3}}층)){{0,3}}"
        rf"|(?:{_PROVINCE}{_DISTRICT}|{_KNOWN}){_TOWN}[ ]{{0,2}}{_BUILDING}[ ]{{0,2}},?[ ]{{0,2}}\d{{1,4}}동"
        f"|[가-힣][가-힣0-9]{{0,5}}?(?:동|읍|면"
        rf"|리)[ ]{{0,2}}{_BUILDING}[ ]{{0,2}},?[ ]{{0,2}}\d{{1,4}}동)[ ]{{0,2}},?[ "
        rf"]{{0,2}}\d{{1,5}}[ ]?호(?!선)"
    ),
    anchors=(r"[0-9][ ]?호(?:[^선]|$)",),
    reach=260,
    ahead=6,
    source="as address.kr without province and district, made exact by building and unit",
    examples=Examples(
        valid=(
            "⟦테헤란로 123, 101동 1203호⟧",
            "⟦역삼동 123-45번지 301호⟧",
            "⟦서울 강남구 대치동 래미안아파트 101동 1203호⟧",
            "⟦대치동 은마아파트 12동 503호⟧",
        ),
        invalid=("지하철 2호선 3호차", "로봇 1호", "101동 앞에서", "제3호"),
    ),
    context=_HOME,
    mask=MaskRule.ADDRESS,
    watchable=True,
)

KR_LABELLED = Recogniser(
    rule_id="address.kr_labelled",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        rf"(?:주소|거주지|배송지|사는\s?(?:곳|데)|자택|집)(?:[ ]?[:=]|은|는)[ ]{{0,3}}(?P<v>"
        f"(?:[가-힣]{{1,6}}[ ]{{1,2}}){{0,2}}(?:{_ROAD}{_NUMBER}|{_LOT}{_LOT_STOP}){_DETAIL})"
    ),
    anchors=(r"(?:주소|거주지|배송지|곳|데|자택|집)(?:[ ]?[:=]|은|는)[ ]{0,3}[가-힣a-z· ]*[0-9]",),
    reach=360,
    source="as address.kr with fewer levels, told by its label",
    examples=Examples(
        valid=("주소: ⟦테헤란로 123⟧", "배송지는 ⟦역삼동 12-3⟧입니다"),
        invalid=("주소: 없음", "집은 3시에", "주소는 비공개"),
    ),
    mask=MaskRule.ADDRESS,
    watchable=True,
)

_WORD: Final = r"[A-ZÀ-Þ][A-Za-zÀ-ɏ'’.]{0,20}+"
_STREET: Final = (
    "(?:Street|St|Avenue|Ave|Road|Rd|Boulevard|Blvd|Lane|Ln|Drive|Dr|Court|Ct|Way|Place"
    "|Pl|Crescent|Cres|Square|Sq|Terrace|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Trail|Alley"
    "|Row|Close|Quay|Heights|Loop|Plaza)"
)
_SECONDARY: Final = r"(?:Apartment|Apt|Suite|Ste|Unit|Room|Floor|Flat|#)[.]?[ ]?#?[A-Za-z]?-?\d{1,5}[A-Za-z]?"
_PLACE: Final = (
    rf"(?:[,\n ]{{1,3}}{_WORD}(?:[ ]{_WORD}){{0,2}}[,\n ]{{1,3}}(?:[A-Z]{{2}}"
    rf"|{_WORD})[ ,\n]{{1,2}}\d{{4,5}}(?:-\d{{3,4}})?(?![0-9]))?"
)
EN_STREET = Recogniser(
    rule_id="address.en_street",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        rf"(?<![A-Za-z0-9-])(?:{_SECONDARY}[,]?[ ])?\d{{1,6}}[A-Za-z]?[ ](?:\d{{1,6}}[ ])?(?:"
        rf"(?:N|S|E|W|NE|NW|SE|SW)[.]?[ ])?(?:{_WORD}[ ]){{1,4}}{_STREET}\b[.]?"
        rf"(?:[,]?[ \n]{{1,2}}{_SECONDARY}){{0,2}}{_PLACE}"
    ),
    anchors=(
        "[0-9][a-z]?[ ][a-zÀ-ɏ'’. ]+[ ](?:street|st|avenue|ave|road|rd|boulevard|blvd|lane|ln|drive|dr|court|ct|way"
        "|place|pl|crescent|cres|square|sq|terrace|highway|hwy|parkway|pkwy|circle|cir|trail|alley|row|close|quay|heights|loop|plaza)"
        "(?:[^a-z0-9_]|$)",
    ),
    reach=300,
    source="USPS Publication 28 (street suffixes, secondary units)",
    examples=Examples(
        valid=("⟦3843 Peartree Road, Bamblee, SD 20241⟧", "at ⟦22 Pollen Crescent⟧ street", "⟦12 Main St., Apt 4⟧"),
        invalid=("2023 was a Way", "10 Days on the road", "top 20 songs for Entertainment Weekly"),
    ),
    mask=MaskRule.ADDRESS,
)

_STATE: Final = (
    "(?:A[KLRSZ]|C[AOT]|D[CE]|F[LM]|G[AU]|HI|I[ADLN]|K[SY]|LA|M[ADEHINOPST]|N[CDEHJMVY]"
    "|O[HKR]|P[ARW]|RI|S[CD]|T[NX]|UT|V[AIT]|W[AIVY])"
)
EN_LOCALITY = Recogniser(
    rule_id="address.en_locality",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        rf"(?<![A-Za-z0-9-])(?:\d{{1,6}}[A-Za-z]?[ ](?:{_WORD}[ ]?){{1,5}}(?:[,]?[ \n]{{0,2}}{_SECONDARY})?"
        rf"|(?:USS|USNS|USNV|USCGC)[ ]{_WORD})"
        rf"[,\n ]{{1,3}}(?:{_WORD}(?:[ ]{_WORD}){{0,3}},[ ]{_STATE}|[AFD]PO[ ]A[AEP])[ ]\d{{5}}"
        rf"(?:-\d{{4}})?(?![0-9])"
    ),
    anchors=(rf"(?:{_STATE}|[afd]po[ ]a[aep])[ ][0-9]{{5}}",),
    reach=340,
    source="USPS Publication 28: last line of state and ZIP code, which makes any street name an address",
    examples=Examples(
        valid=("⟦5894 Daniel Turnpike\nNorth Christopher, KY 05689⟧", "⟦USCGC Kirby\nFPO AP 10351⟧"),
        invalid=("Windows NT 40000", "in 1998 The Who, UK 12345"),
    ),
    mask=MaskRule.ADDRESS,
)

EN_SECONDARY = Recogniser(
    rule_id="address.en_secondary",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        rf"(?<![A-Za-z0-9-])(?:\d{{1,6}}[ ])?(?:\d{{1,6}}[ ])?(?:{_WORD}[ ]){{0,4}}"
        rf"(?:\d{{1,5}}[,]?[\n ]{{1,2}})?(?<![A-Za-z0-9])(?:Apt|Suite|Ste)[.]?[ ]?\d{{1,5}}"
        rf"(?:[,]?[ \n]{{1,2}}(?:Apt|Suite|Ste)[.]?[ ]?\d{{1,5}})?{_PLACE}"
        rf"|(?<![A-Za-z0-9])(?:PSC[ ]\d{{1,5}}|Unit[ ]\d{{1,5}}|USN[SV][ ]{_WORD}"
        rf"|P\.?[ ]?O\.?)[,]?[ ]Box[ ]\d{{1,6}}(?:[,]?[\n ]{{1,2}}(?:APO|FPO"
        rf"|DPO)[ ]A[AEP][ ]\d{{5}})?",
    ),
    anchors=(r"(?:apt|suite|ste)[.]?[ ]?[0-9]", r"box[ ][0-9]"),
    reach=300,
    source="USPS Publication 28 (secondary units, military addresses, boxes); street and number in either order",
    examples=Examples(
        valid=(
            "⟦6750 Koskikatu 25 Apt. 864⟧",
            "⟦PSC 6293, Box 8158\nAPO AP 04336⟧",
            "⟦Unit 5477 Box 8244\nDPO AP 15730⟧",
            "⟦Suite 757⟧",
        ),
        invalid=("the suite of 5", "adapt 5", "box 12"),
    ),
    mask=MaskRule.ADDRESS,
)

_FOREIGN_TYPE: Final = (
    r"(?:Rua|Rúa|Rue|Via|Calle|C/|[Uu]l\.|Avenida|Avinguda|Strada|Piazza|Praça|Plaza|Paseo"
    "|Carrer|Trg|Nám[.]|Allée|Chemin|Quai)"
)
_FOREIGN_SUFFIX: Final = (
    r"(?:stra(?:ss|ß)e|str\.|platz|gasse|weg|allee|gatan|vägen|veien|vegen|gata|gate|katu"
    r"|tie|kuja|polku|gade|vej|straat|laan|plein|utca|út|rkp\.|tee|mnt)"
)
FOREIGN_STREET = Recogniser(
    rule_id="address.foreign_street",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        rf"(?<![A-Za-z0-9-])(?:\d{{1,6}}[ ])?(?:{_FOREIGN_TYPE}[ ](?:(?:{_WORD}|d[aeiou]s?|del"
        rf"|la|e|of)[ ]){{1,5}}\d{{1,5}}"
        f"|[A-ZÀ-Þ][a-zà-ÿ]{{1,24}}?(?:{_FOREIGN_SUFFIX}|[ ]"
        rf"(?i:{_FOREIGN_SUFFIX}))[ ]\d{{1,4}})(?![0-9])"
        rf"(?:[,]?[ \n]{{1,2}}{_SECONDARY}){{0,2}}{_PLACE}"
    ),
    anchors=(
        r"(?:rua|rúa|rue|via|calle|c/|ul\.|avenida|avinguda|strada|piazza|praça|plaza|paseo|carrer|trg|nám[.]|allée|chemin"
        r"|quai)[ ][a-zÀ-ɏ'’. ]+[ ][0-9]",
        r"(?:stra(?:ss|ß)e|str\.|platz|gasse|weg|allee|gatan|vägen|veien|vegen|gata|gate|katu|tie|kuja|polku|gade|vej|straat"
        r"|laan|plein|utca|út|rkp\.|tee|mnt)[ ][0-9]",
    ),
    reach=320,
    source="Universal Postal Union S42: thoroughfare types of Romance, Germanic, Slavic and Finnic addresses",
    examples=Examples(
        valid=(
            "on ⟦Villacher Strasse 89⟧",
            "⟦Rua João Pessoa 1636⟧ street",
            "⟦Kungsgatan 12⟧",
            "⟦10963 Rua Vinte e Cinco de Setembro 1257⟧",
        ),
        invalid=("Via 3", "in Strasse 8 gibt es", "the tie 2 games"),
    ),
    mask=MaskRule.ADDRESS,
)

EN_LABELLED = Recogniser(
    rule_id="address.en_labelled",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        "(?<![A-Za-z])(?:[Aa]ddress(?:[ ]?:|[ ]is|[ ]with|[ ]to)|[Ll]ives?[ ](?:in|at|on)"
        "|[Ll]ocated[ ]at|[Mm]eet[ ]me[ ]at|[Dd]eliver(?:ed)?[ ]to|[Dd]rops[ ]you[ ]off[ ]at"
        rf"|[Ss]hip(?:ped)?[ ]to)[ ]{{0,6}}(?P<v>\d{{1,6}}[ ](?:\d{{1,6}}[ ])?{_WORD}"
        rf"(?:[ ]{_WORD}){{0,4}}(?:[ ]\d{{1,5}}[A-Za-z]?)?(?:[,]?[ \n]{{1,2}}"
        f"(?:{_SECONDARY})){{0,2}}{_PLACE})"
    ),
    anchors=(
        r"(?:address(?:[ ]?:|[ ]is|[ ]with|[ ]to)|lives?[ ](?:in|at|on)|located[ ]at|meet[ ]me[ ]at|deliver(?:ed)?[ ]to"
        r"|drops[ ]you[ ]off[ ]at|ship(?:ped)?[ ]to)[ ]{0,6}[0-9]",
    ),
    reach=320,
    source="addresses without street suffix, told by their label",
    examples=Examples(
        valid=("my address is ⟦68954 Geddingmoor 24⟧", "Address: ⟦83393 Pärna 33⟧"),
        invalid=("address is unknown", "IP address: 10.0.0.1"),
    ),
    mask=MaskRule.ADDRESS,
)

POSTCODE = Recogniser(
    rule_id="address.postcode",
    kind=Kind.ADDRESS,
    pattern=re.compile(
        r"(?:(?<![A-Za-z])(?:zip|post(?:al)?)[ -]?code|(?<![A-Za-z])zip|우편\s?번호)"
        r"(?:[ ]?[:=]|[ ]is)[ ]{0,3}(?P<v>\d{2,5}(?:[- ]?\d{2,4})?(?:[ ][A-Z]{2}"
        "(?![A-Za-z]))?)(?![0-9])",
        re.IGNORECASE,
    ),
    anchors=(r"(?:code|zip|우편[^가-힣]?번호)(?:[ ]?[:=]|[ ]is)[ ]{0,3}[0-9]",),
    source="postal codes, told by their label; a place, not a person: weak",
    examples=Examples(
        valid=("ZIP: ⟦6280⟧", "my zip code is ⟦35350⟧", "우편번호: ⟦06236⟧"), invalid=("zip file 35350", "ZIP: none")
    ),
    mask=MaskRule.ALL,
    personal=False,
)

RECOGNISERS: Final = (
    KR,
    KR_UNIT,
    KR_LABELLED,
    EN_STREET,
    EN_LOCALITY,
    EN_SECONDARY,
    FOREIGN_STREET,
    EN_LABELLED,
    POSTCODE,
)
