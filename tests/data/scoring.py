"""Templates that the scan is scored on. No rule is changed for their sake: what fails here is first reproduced by a
template of another wording in tuning.py."""

from __future__ import annotations

import random

from tests.data.values import FAMILY, Make, digits, email, mobile_groups, resident_body

HEADS = ("", "", "", "[펌] ", "혹시 아시는 분? ", "ㄷㄷ ", "<후기> ", "★필독★ ", "본문: ", "@all ", "아 진짜… ")

PLAIN = (
    # phones
    "당근에서 거래하다 잠수탔어요, 폰 {PHONE} 입니다 조심하세요",
    "이 새끼 전번임 {PHONE} 다들 전화 테러 ㄱㄱ",
    "제 친구가 {PHONE}으로 연락하면 된대요",
    "H.P {PHONE}\n평일 저녁만 통화 가능",
    "과외 문의는 {PHONE} (카톡 가능)",
    "☎ {LANDLINE} 로 예약하고 갔는데 자리가 없대요",
    "팩스는 {LANDLINE} 이쪽으로 넣어주시면 됩니다",
    "업체명 한빛상사 / TEL {LANDLINE} / 담당 {PHONE}",
    "혹시 {PHONE} 이 번호 아시는 분 계신가요?",
    "연락처1) {PHONE}, 연락처2) {PHONE}",
    # mail
    "이력서는 {EMAIL} 로 금요일까지 부탁드립니다.",
    "유출된 계정: {EMAIL}",
    "e-mail : {EMAIL} / 학과 : 컴공",
    "({EMAIL})에 문의했더니 답장이 없네요",
    "To: {EMAIL}\nCc: {EMAIL}",
    # resident and foreigner numbers
    "신분증 사본에 {RRN} 이라고 적혀 있었음",
    "생년월일이랑 뒷자리까지 다 나옴 {RRN}",
    "주민등록번호: {RRN}",
    "외국인 등록증 번호가 {FRN} 인데 조회가 안 됩니다",
    "ARC no. {FRN}",
    # other national identifiers
    "분실 여권 신고합니다. 여권번호 {PASSPORT}",
    "Passport No: {PASSPORT}",
    "면허증 번호 {DRIVER_LICENCE} 갱신하려는데요",
    "운전면허번호는 {DRIVER_LICENCE}입니다",
    # cards and accounts
    "엄마 카드 {CARD} 로 결제했다가 혼남",
    "카드 번호 : {CARD}\n유효기간 09/28",
    "신용카드 {CARD} 분실했습니다 정지해주세요",
    "VISA {CARD} 12/26",
    "국민은행 {ACCOUNT} 예금주 홍보실로 입금해 주세요",
    "계좌 {ACCOUNT} (신한은행) 으로 환불 부탁드립니다",
    "후원계좌: 농협 {ACCOUNT}",
    "카카오뱅크 {ACCOUNT} 로 보내면 됨",
    "입금하실 곳은 하나은행 {ACCOUNT} 입니다",
    "우체국 {ACCOUNT} 이 계좌 사기 계좌예요",
    # addresses
    "집들이 장소: {ADDRESS}",
    "이사했습니다! 새 주소는 {ADDRESS}입니다.",
    "{ADDRESS} 앞으로 택배 보내주시면 됩니다",
    "저 사람 {ADDRESS}에 산다고 하네요",
    "수령지 : {ADDRESS}",
    "주소지가 {ADDRESS} 맞으신가요?",
    # names in context
    "성함: {PERSON}",
    "수령인 : {PERSON}\n배송메모 : 문 앞",
    "예금주는 {PERSON}입니다",
    "신청자 이름: {PERSON}",
    "수신: {PERSON}",
    # plates, messengers, credentials, addresses of machines, business numbers
    "차량번호: {PLATE} 이 차 진짜 양심 없네요",
    "주차장에 {PLATE} 차주분 차 좀 빼주세요",
    "번호판이 {PLATE} 인 흰색 소나타 보신 분",
    "카카오톡 ID : {MESSENGER}",
    "텔레그램 아이디는 {MESSENGER} 이고 답장 빨라요",
    "라인 아이디 {MESSENGER} 추가해주세요",
    "인스타 계정 {MESSENGER} 여기로 DM 주세요",
    "아이디 admin 비밀번호 : {CREDENTIAL}",
    "password: {CREDENTIAL}",
    "비번은 {CREDENTIAL} 이니까 로그인해서 보세요",
    "작성자 아이피 {IP}",
    "사업자등록번호 {BUSINESS_NUMBER} 통신판매업 신고",
    # several at once
    "이름: {PERSON}\n연락처: {PHONE}\n주소: {ADDRESS}",
    "받는 분: {PERSON} / {PHONE} / {ADDRESS}",
    "{EMAIL}\n{PHONE}\n연락 주세요!",
    "성명: {PERSON}, 주민번호: {RRN}, 휴대폰: {PHONE}",
    "이름: {PERSON} 계좌번호: 신한은행 {ACCOUNT}",
    "신상 턴다. 이름: {PERSON}, 전화 {PHONE}, 집 주소 {ADDRESS}, 차량번호 {PLATE}",
    "주문자: {PERSON} 연락처 {PHONE} 메일 {EMAIL}",
    "카드 {CARD} 이름: {PERSON} 비밀번호: {CREDENTIAL}",
)

_SINO = "공일이삼사오육칠팔구"
_MIXED_ZERO = "영일이삼사오육칠팔구"
_WIDE = "０１２３４５６７８９"
_SQUARED = "𝟘𝟙𝟚𝟛𝟜𝟝𝟞𝟟𝟠𝟡"
_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def _groups(rng: random.Random) -> list[str]:
    return list(mobile_groups(rng))


def _spelled(figures: str) -> Make:
    def make(rng: random.Random) -> str:
        sign = rng.choice(("-", " ", "", ". "))
        return sign.join(_groups(rng)).translate(str.maketrans("0123456789", figures))

    return make


def _between(*signs: str) -> Make:
    return lambda rng: rng.choice(signs).join(_groups(rng))


def _half_spelled(rng: random.Random) -> str:
    head, middle, last = _groups(rng)
    spelled = [part.translate(str.maketrans("0123456789", _SINO)) for part in (head, middle, last)]
    return rng.choice(
        (f"{spelled[0]}-{middle}-{last}", f"{head} {spelled[1]} {last}", f"{head}-{middle}-{spelled[2]}")
    )


def _scattered(rng: random.Random) -> str:
    """Every digit apart, by one sign."""
    return rng.choice((" ", ".", "-", "*", " - ", "/")).join("".join(_groups(rng)))


def _hidden(rng: random.Random) -> str:
    """Characters that nobody sees between the digits."""
    return rng.choice(("\u200b", "\u200d", "\ufeff", "\u2060")).join("-".join(_groups(rng)))


def _with_letters(rng: random.Random) -> str:
    _, middle, last = _groups(rng)
    return f"{rng.choice(('O1O', 'o1o', 'OlO', '0I0', 'ol0'))}{rng.choice(('-', ' ', '.', ''))}{middle}-{last}"


def _in_english(rng: random.Random) -> str:
    return rng.choice((" ", "-")).join(_ENGLISH[int(digit)] for digit in "".join(_groups(rng)))


def _mail(at: tuple[str, ...], dot: tuple[str, ...]) -> Make:
    def make(rng: random.Random) -> str:
        local, host = email(rng).split("@")
        return local + rng.choice(at) + rng.choice(dot).join(host.split("."))

    return make


def _korean_provider(rng: random.Random) -> str:
    local = email(rng).split("@")[0]
    name, ending = rng.choice((("네이버", "컴"), ("지메일", "컴"), ("다음", "넷"), ("네이트", "컴")))
    return local + rng.choice(("골뱅이", "@", " 골뱅이 ")) + name + rng.choice(("", f"닷{ending}", f"쩜{ending}"))


def _resident(rng: random.Random) -> str:
    body = resident_body(rng, "12")
    plain = f"{body[:6]}-{body[6:]}"
    return rng.choice(
        (
            plain.translate(str.maketrans("0123456789-", _WIDE + "－")),
            f"{body[:6]} – {body[6:]}",
            f"{body[:6]}ㅡ{body[6:]}",
            f"{body[:6]}_{body[6:]}",
            "\u200b".join(plain),
        )
    )


def _card(rng: random.Random) -> str:
    groups = ["4111", "1111", "1111", "1111"]
    return rng.choice(
        (
            "－".join(groups).translate(str.maketrans("0123456789", _WIDE)),
            " - ".join(groups),
            "ㅡ".join(groups),
            "·".join(groups),
            "\u200b".join("".join(groups)),
        )
    )


EVASIONS: tuple[tuple[str, tuple[Make, ...], tuple[str, ...]], ...] = (
    (
        "PHONE",
        (
            _spelled(_SINO),
            _spelled(_MIXED_ZERO),
            _spelled(_WIDE),
            _spelled(_SQUARED),
            _between("ㅡ", "—", "~", "–"),
            _between("☆", "♥", "·", "_", "//"),
            _between(" ", "  ", " . "),
            _half_spelled,
            _scattered,
            _hidden,
            _with_letters,
            _in_english,
        ),
        (
            "폰은 {PHONE} 입니다",
            "여기로 연락 {PHONE}",
            "관심 있으면 {PHONE} 문자 줘",
            "{PHONE}",
            "번호: {PHONE} 콜",
        ),
    ),
    (
        "EMAIL",
        (
            _mail(("골뱅이", " 골뱅이 "), ("쩜", "닷", "점")),
            _mail(("[at]", "(at)", " [at] ", "{at}"), ("[dot]", "(dot)", ".")),
            _mail(("＠",), ("．", ".")),
            _mail((" @ ", "@ "), (".",)),
            _mail((" at ",), (" dot ",)),
            _korean_provider,
        ),
        ("메일주소 {EMAIL} 입니다", "{EMAIL} 로 파일 보내줘", "연락은 {EMAIL}"),
    ),
    ("RRN", (_resident,), ("주민번호가 {RRN} 이래", "{RRN} 유출됐네", "민번 {RRN}")),
    ("CARD", (_card,), ("카드 {CARD} 써도 돼", "법카 번호 {CARD}", "{CARD} 이 카드 정지")),
)

_PHONE_OF_A_FIRM = ("1588", "1544", "1577", "1600", "1661", "1670", "1811", "1855", "1899")


def _date(rng: random.Random) -> str:
    return f"20{rng.randrange(10, 26)}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}"


def _day(rng: random.Random, sign: str) -> str:
    return f"{rng.randrange(2000, 2026)}{sign}{rng.randrange(1, 13):02}{sign}{rng.randrange(1, 29):02}"


def _drawn(rng: random.Random, signs: str, count: int) -> str:
    return "".join(rng.choice(signs) for _ in range(count))


# What looks like personal data and is none.
NEGATIVES: tuple[Make, ...] = (
    lambda rng: f"주문번호가 {_date(rng)}-{digits(rng, 7)} 인데 아직도 배송 준비중이네요",
    lambda rng: f"택배 운송장 {digits(rng, 4)} {digits(rng, 4)} {digits(rng, 4)} 어디쯤 왔을까요",
    lambda rng: f"한진택배 송장번호: {digits(rng, 12)}",
    lambda rng: f"S/N: {digits(rng, 5)}-{digits(rng, 5)}-{digits(rng, 5)} 정품인증 됐어요",
    lambda rng: f"제품번호 {rng.choice('MSRD')}{digits(rng, 8)} 단종됐나요?",
    lambda rng: f"이 책 ISBN 979{digits(rng, 10)} 맞나요?",
    lambda rng: f"ISBN 978-89-{digits(rng, 4)}-{digits(rng, 3)}-{digits(rng, 1)} 절판",
    lambda rng: f"[{rng.randrange(1_600_000_000, 1_790_000_000)}] connection reset by peer",
    lambda rng: f"epoch {rng.randrange(1_600_000_000_000, 1_790_000_000_000)} 에 찍힌 로그입니다",
    lambda rng: f"좌표 {rng.randrange(33, 38)}.{digits(rng, 6)},{rng.randrange(126, 129)}.{digits(rng, 6)} 로 오세요",
    lambda rng: f"gps: {rng.randrange(33, 38)}.{digits(rng, 5)} / {rng.randrange(126, 129)}.{digits(rng, 5)}",
    lambda rng: f"상담센터 {rng.choice(_PHONE_OF_A_FIRM)}-{digits(rng, 4)} 연결이 너무 안돼요",
    lambda rng: f"☎{rng.choice(_PHONE_OF_A_FIRM)}-{digits(rng, 4)} 로 전화했더니 ARS만 나옴",
    lambda rng: f"080-{digits(rng, 3)}-{digits(rng, 4)} 무료수신거부",
    lambda rng: f"이번 달 매출 {rng.randrange(1, 99)},{digits(rng, 3)},{digits(rng, 3)}원 달성",
    lambda rng: f"잔액 {digits(rng, 3)},{digits(rng, 3)}원 남음",
    lambda rng: f"{_day(rng, '.')} {rng.randrange(24):02}:{rng.randrange(60):02} 작성",
    lambda rng: f"{_date(rng)} {digits(rng, 6)} 파일명 그대로예요",
    lambda rng: f"IMG_{_date(rng)}_{digits(rng, 6)}.jpg 첨부",
    lambda rng: f"펌웨어 v{rng.randrange(1, 9)}.{rng.randrange(10)}.{rng.randrange(100)}.{rng.randrange(1000)} 먹통",
    lambda rng: f"서버 주소 192.168.{rng.randrange(256)}.{rng.randrange(256)} 접속 안됨",
    lambda rng: f"모델명 SM-{digits(rng, 4)}-{digits(rng, 4)} 중고로 팝니다",
    lambda rng: f"문화상품권 핀번호 {digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 6)}",
    lambda rng: f"기프트카드 코드: {digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}",
    lambda rng: f"항공권 예약번호 {digits(rng, 10)} 확정됐습니다",
    lambda rng: f"민원 접수번호 1AA-{digits(rng, 4)}-{digits(rng, 7)}",
    lambda rng: f"사건번호 20{rng.randrange(10, 26)}가단{digits(rng, 5)} 판결 나왔어요",
    lambda rng: f"바코드 {rng.choice(('880', '490', '690'))}{digits(rng, 10)}",
    lambda rng: "로또 " + ", ".join(str(rng.randrange(1, 46)) for _ in range(6)) + " 이번주 예상번호",
    lambda rng: f"학번 20{rng.randrange(10, 26)}{digits(rng, 6)} 인데 수강신청 실패",
    lambda rng: f"{rng.choice(('강남', '홍대'))}역 {rng.randrange(1, 12)}번 출구에서 {rng.randrange(100, 900)}m",
    lambda rng: f"대전에서 부산까지 {rng.randrange(100, 400)}km, {rng.randrange(2, 6)}시간 걸렸어요",
    lambda rng: f"서울 마포구 맛집 BEST {rng.randrange(5, 30)} 정리했어요",
    lambda rng: f"경기도 성남시 쪽으로 {rng.randrange(10, 60)}분 정도 가면 나와요",
    lambda rng: f"체감온도 {rng.randrange(30, 40)}도 {digits(rng, 4)}년만의 폭염",
    lambda rng: f"구독자 {digits(rng, 7)}명 돌파 감사합니다",
    lambda rng: f"유튜브 영상 https://youtu.be/{_drawn(rng, 'abcdefGHIJK0123456789', 11)} 보세요",
    lambda rng: f"https://cafe.example.com/articles/{digits(rng, 10)}?menu={digits(rng, 3)}",
    lambda rng: f"commit {_drawn(rng, '0123456789abcdef', 12)} 되돌렸습니다",
    lambda rng: f"uuid: {digits(rng, 8)}-{digits(rng, 4)}-4{digits(rng, 3)}-a{digits(rng, 3)}-{digits(rng, 12)}",
    lambda rng: f"단말기 IMEI 35{digits(rng, 13)} 등록했어요",
    lambda rng: f"한국 {rng.randrange(60, 110)}-{rng.randrange(60, 110)} 일본, 3쿼터 24-1{digits(rng, 1)}",
    lambda rng: f"골뱅이 {rng.randrange(1, 5)}캔이랑 맥주 {rng.randrange(2, 9)}병 샀다",
    lambda rng: f"icon@{rng.randrange(2, 4)}x.png 파일이 없대요",
    lambda rng: f"쿠폰 {_drawn(rng, 'ABCDEFGHJK23456789', 12)} 등록하면 {rng.randrange(1, 9)}천원 할인",
    lambda rng: f"비밀번호는 8자 이상 {rng.randrange(12, 20)}자 이하로 설정하세요",
    lambda rng: f"이름 없는 {rng.choice(FAMILY)}씨네 강아지 {rng.randrange(2, 9)}마리",
    lambda rng: f"카톡 {rng.randrange(100, 999)}개 쌓였네 ㅋㅋ",
    lambda rng: f"계좌이체 수수료 {rng.randrange(5, 20)}00원, 송금 한도 {rng.randrange(1, 9)}00만원",
    lambda rng: f"카드 포인트 {digits(rng, 5)}점으로 {rng.randrange(1, 9)}만원 결제",
    lambda rng: f"제{rng.randrange(1, 90)}회 정기총회 {_day(rng, '-')} 개최",
    lambda rng: f"버스 {digits(rng, 4)}번 타고 {rng.randrange(3, 20)}정거장",
    lambda rng: f"주차 {rng.randrange(10, 60)}대 가능, 지하 {rng.randrange(1, 6)}층",
    lambda rng: f"전화 상담 대기 {rng.randrange(10, 99)}명, 예상 {rng.randrange(10, 60)}분",
    lambda rng: f"원주율 3.1415926535{digits(rng, 8)} 외우기",
)
