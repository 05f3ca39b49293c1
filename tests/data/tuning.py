"""Templates that the scan's rules may be tuned on."""

from __future__ import annotations

import random

from tests.data.values import Make, digits, email

HEADS = ("", "", "진짜 어이없네요 ㅋㅋ ", "안녕하세요. ", "[공지] ", "ㅠㅠ 제보합니다 ", "FYI ", "^^ ")
_BANKS = (
    "국민은행",
    "신한은행",
    "우리은행",
    "하나은행",
    "농협",
    "카카오뱅크",
    "기업은행",
    "새마을금고",
    "토스뱅크",
    "케이뱅크",
)
_ENGLISH = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

PLAIN = (
    "연락처는 {PHONE}입니다",
    "{PHONE} 으로 문자 주세요",
    "얘 번호 {PHONE} 전화해봐",
    "쟤 전번임 {PHONE}",
    "휴대폰1) {PHONE} 휴대폰2) {PHONE}",
    "급매 문의 {PHONE}",
    "tel {PHONE}",
    "판매자 번호가 {PHONE} 이었음",
    "{PHONE}",
    "사무실 {LANDLINE} 으로 전화",
    "집전화 {LANDLINE}",
    "Tel. {LANDLINE}",
    "{LANDLINE} 로 연락 바람",
    "메일은 {EMAIL}으로 보내주세요",
    "문의:{EMAIL}",
    "{EMAIL}입니다",
    "이 사람 이메일 {EMAIL} 신고합시다",
    "contact {EMAIL} for details",
    "주민번호 {RRN} 유출됨",
    "{RRN} 이거 그 사람 주민등록번호",
    "민증 사진에 {RRN} 나옴",
    "RRN: {RRN}",
    "외국인등록번호 {FRN}",
    "등록번호는 {FRN} 입니다",
    "alien registration {FRN}",
    "카드번호 {CARD} 유효기간 12/27",
    "{CARD} 비자 카드",
    "결제는 {CARD} 로",
    "card number {CARD}",
    "{CARD} CVC 123",
    "주소는 {ADDRESS} 입니다",
    "{ADDRESS} 여기 삽니다",
    "배송지: {ADDRESS}",
    "얘네 집 {ADDRESS}",
    "택배 {ADDRESS} 로 보내줘",
    "계좌번호: {ACCOUNT}",
    "입금 계좌는 {ACCOUNT} 입니다",
    "여권번호 {PASSPORT}",
    "passport no. {PASSPORT}",
    "여권 {PASSPORT} 분실",
    "여권번호는 {PASSPORT}입니다",
    "운전면허 {DRIVER_LICENCE}",
    "면허번호: {DRIVER_LICENCE}",
    "driver license {DRIVER_LICENCE}",
    "이름: {PERSON}",
    "성명 : {PERSON} 님",
    "받는 사람: {PERSON}",
    "이름은 {PERSON}입니다",
    "예금주: {PERSON}",
    "차량번호 {PLATE}",
    "번호판 {PLATE} 뺑소니 신고",
    "차번호는 {PLATE} 입니다",
    "주차 빌런 {PLATE}",
    "카톡 아이디 {MESSENGER}",
    "카톡: {MESSENGER}",
    "텔레그램 @{MESSENGER}",
    "인스타 아이디는 {MESSENGER} 임",
    "비밀번호: {CREDENTIAL}",
    "pw: {CREDENTIAL}",
    "password={CREDENTIAL}",
    "접속 IP {IP} 차단함",
    "사업자등록번호 {BUSINESS_NUMBER}",
    *(f"{bank} {{ACCOUNT}} 로 입금" for bank in _BANKS),
    *(f"{{ACCOUNT}} {bank} 예금주 확인" for bank in _BANKS[:4]),
)


def _veiled_mobile(rng: random.Random) -> str:
    plain = f"010-1{digits(rng, 3)}-{digits(rng, 4)}"
    figures = (
        "공일이삼사오육칠팔구",
        "영일이삼사오육칠팔구",
        "０１２３４５６７８９",
        "〇一二三四五六七八九",
        "⓪①②③④⑤⑥⑦⑧⑨",
    )
    spelled = plain.translate(str.maketrans("0123456789", rng.choice(figures)))
    bare = plain.replace("-", "")
    return rng.choice(
        (
            spelled,
            spelled.replace("-", " "),
            spelled.replace("-", ""),
            " ".join(bare),
            "/".join(bare),
            " - ".join(bare),
            "010-" + spelled[4:],
            plain.replace("-", "ㅡ"),
            plain.replace("-", "–"),
            "\u200b".join(plain),
            " ".join(_ENGLISH[int(digit)] for digit in bare),
            "o1o" + plain[3:],
            plain.replace("-", " - "),
            plain.replace("-", "★"),
            plain.replace("-", "_"),
        )
    )


def _veiled_email(rng: random.Random) -> str:
    local, host = email(rng).split("@")
    name, _, end = host.rpartition(".")
    at = rng.choice(("골뱅이", " 골뱅이 ", "[at]", " (at) ", "＠", " @ "))
    dot = rng.choice(("쩜", "[dot]", " (dot) ", "닷") if at != " @ " else (".",))
    return local + at + name.replace(".", "쩜") + dot + end


EVASIONS: tuple[tuple[str, tuple[Make, ...], tuple[str, ...]], ...] = (
    (
        "PHONE",
        (_veiled_mobile,) * 8,
        ("연락은 {PHONE} 로 주세요", "번호 {PHONE} 이에요", "톡 안되면 {PHONE}", "{PHONE}"),
    ),
    ("EMAIL", (_veiled_email,) * 4, ("메일 {EMAIL} 로 주세요", "{EMAIL} 연락 바랍니다", "이메일: {EMAIL}")),
)

# What looks like personal data and is none.
NEGATIVES: tuple[Make, ...] = (
    lambda rng: f"주문번호 2023{rng.randrange(1000, 1300)}{digits(rng, 6)} 확인 부탁드려요",
    lambda rng: f"주문번호: {digits(rng, 16)} 배송 언제 되나요",
    lambda rng: f"운송장번호 {digits(rng, 12)} CJ대한통운",
    lambda rng: f"송장 {digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)} 조회가 안돼요",
    lambda rng: f"등기번호 {digits(rng, 13)} 도착",
    lambda rng: f"tracking number {digits(rng, 12)} shipped",
    lambda rng: f"시리얼 넘버 SN{digits(rng, 11)} 정품 등록",
    lambda rng: f"일련번호 {rng.choice('MSRD')}{digits(rng, 8)} 제품",
    lambda rng: f"ISBN 979-11-{digits(rng, 4)}-{digits(rng, 3)}-{digits(rng, 1)} 책 추천",
    lambda rng: f"ISBN 97889{digits(rng, 8)} 재고 있나요",
    lambda rng: f"서버 로그 {rng.randrange(1_500_000_000, 1_800_000_000)} 에서 오류",
    lambda rng: f"timestamp={rng.randrange(1_500_000_000_000, 1_800_000_000_000)} 지연",
    lambda rng: f"좌표 37.{digits(rng, 6)}, 127.{digits(rng, 6)} 근처",
    lambda rng: f"위도 37.{digits(rng, 7)} 경도 126.{digits(rng, 7)}",
    lambda rng: f"고객센터 {rng.choice(('1588', '1544', '1577', '1600', '1661', '1899'))}-{digits(rng, 4)} 전화했더니",
    lambda rng: f"대표번호 {rng.choice(('1588', '1544', '1600', '1800'))}{digits(rng, 4)} 문의",
    lambda rng: f"수신자부담 080-{digits(rng, 3)}-{digits(rng, 4)} 무료",
    lambda rng: f"가격이 {rng.randrange(1, 99)},{digits(rng, 3)},{digits(rng, 3)}원이었는데 할인",
    lambda rng: (
        f"{rng.randrange(1990, 2024)}년 {rng.randrange(1, 13)}월 {rng.randrange(1, 29)}일 "
        f"오후 {rng.randrange(1, 12)}시 {rng.randrange(10, 59)}분"
    ),
    lambda rng: (
        f"2023-{rng.randrange(10, 13)}-{rng.randrange(10, 29)} "
        f"{rng.randrange(10, 23)}:{rng.randrange(10, 59)}:{rng.randrange(10, 59)} 업로드"
    ),
    lambda rng: (
        f"버전 {rng.randrange(1, 20)}.{rng.randrange(10)}.{rng.randrange(10)}.{rng.randrange(100)} 업데이트 했음"
    ),
    lambda rng: f"모델명 KR-{digits(rng, 4)}-{digits(rng, 4)} 에어컨",
    lambda rng: f"쿠폰코드 {digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)}-{digits(rng, 4)} 등록",
    lambda rng: f"예약번호 {digits(rng, 10)} 로 확인",
    lambda rng: f"접수번호 {rng.randrange(11, 26)}-{digits(rng, 2)}-{digits(rng, 6)}-{digits(rng, 2)} 처리중",
    lambda rng: f"바코드 880{digits(rng, 10)} 찍어보세요",
    lambda rng: f"로또 번호 {' '.join(str(rng.randrange(1, 45)) for _ in range(6))} 당첨",
    lambda rng: f"학번 20{digits(rng, 8)} 수강신청",
    lambda rng: f"친구 집으로 {rng.randrange(1, 12)}시에 가서 강남구 쪽으로 {rng.randrange(10, 60)}분 걸었다",
    lambda rng: f"서울 강남구 맛집 {rng.randrange(10, 99)}곳 추천, 역삼동에서 {rng.randrange(2, 9)}명",
    lambda rng: f"부산 가는 길 {rng.randrange(2, 9)}시간, 경기도 {rng.randrange(2, 9)}개 시",
    lambda rng: f"오늘 기온 {rng.randrange(20, 36)}도 {digits(rng, 4)}명 참가",
    lambda rng: f"조회수 {digits(rng, 7)} 좋아요 {digits(rng, 5)}",
    lambda rng: f"이미지 logo@{rng.randrange(2, 4)}x.png 깨짐",
    lambda rng: f"골뱅이 무침 {rng.randrange(1, 9)}인분이랑 소주",
    lambda rng: f"git commit {''.join(rng.choice('0123456789abcdef') for _ in range(40))}",
    lambda rng: f"uuid {digits(rng, 8)}-{digits(rng, 4)}-4{digits(rng, 3)}-8{digits(rng, 3)}-{digits(rng, 12)}",
    lambda rng: f"https://shop.example.com/item/{digits(rng, 11)}?id={digits(rng, 13)} 이거 사세요",
    lambda rng: f"IMEI 35{digits(rng, 13)} 분실폰",
    lambda rng: f"점수 {rng.randrange(100)}-{rng.randrange(100)}-{rng.randrange(1000)} 경기 결과",
)
