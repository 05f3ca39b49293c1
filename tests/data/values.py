"""Which fictional values do generated posts hold? Nothing here belongs to anybody.

Mobile numbers 010-0000 to 010-1999 were never allotted; resident numbers carry a wrong check digit; cards are the
schemes' published test numbers; mail hosts are reserved (RFC 2606) or a provider's name with a random local part;
names, streets and numbers are drawn independently of each other.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

Make = Callable[[random.Random], str]


def _words(text: str) -> list[str]:
    return text.split()



TEST_CARDS = _words(
    "4111111111111111 4012888888881881 4242424242424242 5555555555554444 5105105105105100 378282246310005 "
    "371449635398431 30569309025904 38520000023237 6011111111111117 6011000990139424 3530111333300000 "
    "3566002020360505 2223003122003222"
)
FAMILY = "김이박최정강조윤장임한오서신권황안송류홍"
GIVEN = _words("민수 서연 지훈 하은 도윤 수빈 영호 미경 준서 예린 현우 다인 은지 태현 보라 상철 나래 경민")
PLACES = (
    ("서울특별시 강남구", "테헤란로", "역삼동"),
    ("서울 마포구", "월드컵북로", "상암동"),
    ("부산광역시 해운대구", "센텀중앙로", "우동"),
    ("경기도 성남시 분당구", "판교역로", "삼평동"),
    ("대전 유성구", "대학로", "궁동"),
    ("인천광역시 연수구", "송도과학로", "송도동"),
    ("전라북도 전주시 완산구", "효자로", "효자동3가"),
    ("강원도 춘천시", "중앙로", "옥천동"),
    ("경남 창원시 성산구", "중앙대로", "상남동"),
    ("제주특별자치도 제주시", "첨단로", "영평동"),
    ("서울시 종로구", "세종대로23길", "당주동"),
    ("충청남도 홍성군 홍북읍", "충남대로", "신경리"),
    ("광주 서구", "상무중앙로", "치평동"),
    ("경북 포항시 북구", "새천년대로", "장성동"),
    ("세종특별자치시", "한누리대로", "나성동"),
    ("울산 남구", "삼산로", "달동"),
)
WORDS = _words("gildong minsu happy blue star coffee user music sky river tiger lee kim park")
HOSTS = _words("example.com example.co.kr mail.example.org naver.com gmail.com daum.net hanmail.net kakao.com")
ACCOUNT_GROUPS = _words("3-3-6 6-2-6 4-3-6 3-4-4-2 4-2-7 3-6-2-3 3-6-5")
AREAS = _words("02 031 032 033 041 042 043 051 052 053 054 055 061 062 063 064 070")
PLATE_LETTERS = "가나다라마거너더러머버서어저"


def digits(rng: random.Random, count: int) -> str:
    """So many random digits."""
    return "".join(rng.choice("0123456789") for _ in range(count))


def mobile_groups(rng: random.Random) -> tuple[str, str, str]:
    """010, a block that was never allotted, four digits."""
    return "010", rng.choice("01") + digits(rng, 3), digits(rng, 4)


def mobile(rng: random.Random) -> str:
    """A mobile number in one of the usual spellings."""
    _, middle, last = mobile_groups(rng)
    form = rng.choice(
        ("010-{}-{}",) * 6
        + ("010{}{}", "010 {} {}", "010.{}.{}", "+82 10-{}-{}", "+8210{}{}", "(010) {}-{}", "010/{}/{}", "010){}-{}")
    )
    return form.format(middle, last)


def landline(rng: random.Random) -> str:
    """An area code and a number that begins with 0, as none does."""
    form = rng.choice(("{}-{}-{}", "{}) {}-{}", "({}) {}-{}", "{} {} {}", "{}.{}.{}"))
    return form.format(rng.choice(AREAS), "0" + digits(rng, 2), digits(rng, 4))


def email(rng: random.Random) -> str:
    """A mailbox nobody was asked about."""
    local = rng.choice(WORDS) + rng.choice(("", ".", "_")) + rng.choice(WORDS) + rng.choice(("", digits(rng, 2)))
    return f"{local}@{rng.choice(HOSTS)}"


def resident_body(rng: random.Random, genders: str) -> str:
    """Thirteen digits: a birth date, a gender digit, a serial, a wrong check digit."""
    year = rng.randrange(45, 100)
    body = f"{year:02}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}{rng.choice(genders)}{digits(rng, 5)}"
    total = sum(int(d) * w for d, w in zip(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True))
    return body + str(((11 - total % 11) + 5) % 10)


def resident(rng: random.Random, genders: str = "12") -> str:
    """A resident number, mostly with its hyphen."""
    body = resident_body(rng, genders)
    return body[:6] + rng.choice(("-", "-", "-", " ", "")) + body[6:]


def foreigner(rng: random.Random) -> str:
    """A foreigner number."""
    return resident(rng, "5678")


def card(rng: random.Random) -> str:
    """A scheme's test number, in printed groups or plain."""
    number = rng.choice(TEST_CARDS)
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[len(number)]
    groups = [number[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    return rng.choice(("-", "-", " ", "", ".")).join(groups)


def address(rng: random.Random) -> str:
    """A road-name or lot address with or without its unit."""
    region, road, town = rng.choice(PLACES)
    road_form = f"{region} {road} {rng.randrange(1, 500)}" + rng.choice(("", f"-{rng.randrange(1, 60)}"))
    lot_form = f"{region} {town} {rng.randrange(1, 900)}-{rng.randrange(1, 60)}" + rng.choice(("", "번지"))
    unit = rng.choice(
        ("", f", {rng.randrange(1, 20)}층", f" {rng.randrange(101, 120)}동 {rng.randrange(101, 2500)}호", f" ({town})")
    )
    return rng.choice((road_form, road_form, lot_form)) + unit


def account(rng: random.Random) -> str:
    """Digits in a bank's groups or without."""
    groups = "-".join(digits(rng, int(size)) for size in rng.choice(ACCOUNT_GROUPS).split("-"))
    return "1" + groups[1:] if rng.random() < 0.8 else "1" + groups[1:].replace("-", "")


def passport(rng: random.Random) -> str:
    """Either form of a Korean passport number."""
    return rng.choice("MSRD") + rng.choice(
        (digits(rng, 8), f"{digits(rng, 3)}{rng.choice('ABCDEFGH')}{digits(rng, 4)}")
    )


def licence(rng: random.Random) -> str:
    """A driver licence number in its printed groups."""
    form = rng.choice(("{}-{}-{}-{}",) * 3 + ("{} {} {} {}",))
    return form.format(rng.choice((*range(11, 27), 28)), digits(rng, 2), digits(rng, 6), digits(rng, 2))


def name(rng: random.Random) -> str:
    """A family and a given name."""
    return rng.choice(FAMILY) + rng.choice(GIVEN)


def plate(rng: random.Random) -> str:
    """A vehicle's plate."""
    return f"{rng.randrange(10, 999)}{rng.choice(PLATE_LETTERS)}{rng.choice(('', ' '))}{digits(rng, 4)}"


def messenger(rng: random.Random) -> str:
    """An id of a messenger."""
    return rng.choice(WORDS) + rng.choice(("", "_", ".")) + digits(rng, 3)


def password(rng: random.Random) -> str:
    """A weak secret."""
    return rng.choice(WORDS) + digits(rng, 4) + rng.choice(("", "!", "@", "#"))


def address_of_machine(rng: random.Random) -> str:
    """A public IPv4 address."""
    first = rng.choice((27, 58, 112, 121, 175, 211, 223))
    return f"{first}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def business(rng: random.Random) -> str:
    """A business number with its check digit right."""
    body = f"{rng.randrange(101, 900)}{rng.randrange(10, 99)}{digits(rng, 4)}"
    total = sum(int(d) * w for d, w in zip(body, (1, 3, 7, 1, 3, 7, 1, 3, 5), strict=True)) + int(body[8]) * 5 // 10
    body += str((10 - total % 10) % 10)
    return f"{body[:3]}-{body[3:5]}-{body[5:]}"


MAKERS: Mapping[str, Make] = {
    "PHONE": mobile,
    "LANDLINE": landline,
    "EMAIL": email,
    "RRN": resident,
    "FRN": foreigner,
    "CARD": card,
    "ADDRESS": address,
    "ACCOUNT": account,
    "PASSPORT": passport,
    "DRIVER_LICENCE": licence,
    "PERSON": name,
    "PLATE": plate,
    "MESSENGER": messenger,
    "CREDENTIAL": password,
    "IP": address_of_machine,
    "BUSINESS_NUMBER": business,
}
"""What stands for {PHONE} and its like in a template; LANDLINE is labelled PHONE."""
