"""How well the personal-data scan does: precision and recall per kind, false hits per 1,000 texts, posts a second."""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from services.detector.adapters.pii_hyperscan import RULES_FILE, build_scanner
from services.detector.domain.pii import Hit, Kind, Rules, Scanner, TextPart, WholeText

_SEED: Final = 20_200_920


@dataclass(frozen=True, slots=True)
class Sample:
    """A text and what it holds; with `target` only that kind is judged, `partial` labels speak for recall only."""

    text: str
    entities: tuple[tuple[Kind, int, int], ...]
    target: Kind | None = None
    partial: bool = False


@dataclass(slots=True)
class Tally:
    """Counts of one kind over one set."""

    found: int = 0
    missed: int = 0
    false: int = 0

    def row(self, with_precision: bool = True) -> dict[str, float | int | None]:
        """Counts with precision and recall; None where nothing can be said."""
        claimed = self.found + self.false
        gold = self.found + self.missed
        return {
            "labelled": gold,
            "found": self.found,
            "missed": self.missed,
            "false": self.false if with_precision else None,
            "precision": round(self.found / claimed, 4) if with_precision and claimed else None,
            "recall": round(self.found / gold, 4) if gold else None,
        }


@dataclass(slots=True)
class Outcome:
    """What a set's samples add up to, with the samples that went wrong (never printed: `--show` does)."""

    samples: int = 0
    kinds: dict[Kind, Tally] = field(default_factory=dict)
    texts_with_false_hits: int = 0
    wrong: list[tuple[str, Kind, str]] = field(default_factory=list)

    def tally(self, kind: Kind) -> Tally:
        """The counts of a kind."""
        return self.kinds.setdefault(kind, Tally())


def run(argv: Sequence[str]) -> int:
    """`eval pii [--data DIR] [--json] [--show]`; 0 when the generated set meets the aims, 1 when not."""
    parser = argparse.ArgumentParser(prog="eval pii", description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with *.jsonl sets; the generated set needs none")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--show", action="store_true", help="print what was missed or falsely found (public data only)")
    options = parser.parse_args(argv)
    if options.data and not options.data.is_dir():
        parser.error("--data is no folder")
    report = evaluate(options.data, show=options.show)
    print(json.dumps(report, ensure_ascii=False, indent=None if options.json else 2))
    total = report["sets"]["generated"]["all"]
    return 0 if total["precision"] >= 0.97 and total["recall"] >= 0.95 else 1


def evaluate(data: Path | None, *, show: bool = False) -> dict[str, Any]:
    """Judge every set in `data` and the generated one with the service's engine; time both engines."""
    scanner = build_scanner()
    reference = Scanner(Rules.parse(RULES_FILE.read_text(encoding="utf-8")), WholeText())
    sets = {"generated": list(generated())} | (read_sets(data) if data else {})
    report: dict[str, Any] = {"rules_version": scanner.rules.version, "sets": {}, "speed": {}}
    for name, samples in sets.items():
        outcome = judge(scanner, samples)
        report["sets"][name] = _summary(outcome, samples, show)
        report["speed"][name] = _speed(scanner, reference, samples)
    return report


def read_sets(folder: Path) -> dict[str, list[Sample]]:
    """All JSON-lines files of a folder; kinds the scan does not know are left out."""
    return {path.stem: _read_set(path) for path in sorted(folder.glob("*.jsonl"))}


def _read_set(path: Path) -> list[Sample]:
    return [_sample(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


_OTHER_NAMES: Final = {"ZIP_CODE": Kind.ADDRESS}
_TARGETS: Final = {
    "KR_RRN": Kind.RRN,
    "KR_FRN": Kind.FOREIGNER_NO,
    "KR_PASSPORT": Kind.PASSPORT,
    "KR_DRIVER_LICENSE": Kind.DRIVER_LICENSE,
    "KR_BRN": Kind.BUSINESS_NO,
    "CREDIT_CARD": Kind.CARD,
    "EMAIL_ADDRESS": Kind.EMAIL,
    "IBAN_CODE": Kind.ACCOUNT,
}


def _sample(row: dict[str, Any]) -> Sample:
    kinds = {kind.value: kind for kind in Kind} | _OTHER_NAMES
    entities = tuple(
        (kinds[entity["type"]], entity["start"], entity["end"]) for entity in row["entities"] if entity["type"] in kinds
    )
    return Sample(row["text"], entities, _TARGETS.get(row.get("target", "")), "labels_complete_for" in row)


def judge(scanner: Scanner, samples: Iterable[Sample]) -> Outcome:
    """Compare hits with labels: found when a hit of the kind covers half of the label, false when it meets none."""
    outcome = Outcome()
    for sample in samples:
        outcome.samples += 1
        hits = scanner.scan([TextPart("body", sample.text)]).hits
        _judge_one(outcome, sample, [hit for hit in hits if sample.target in (None, hit.kind)])
    return outcome


def _judge_one(outcome: Outcome, sample: Sample, hits: Sequence[Hit]) -> None:
    for kind, start, end in sample.entities:
        covered = sum(max(0, min(end, hit.end) - max(start, hit.start)) for hit in hits if hit.kind is kind)
        if covered * 2 >= end - start:
            outcome.tally(kind).found += 1
        else:
            outcome.tally(kind).missed += 1
            outcome.wrong.append(("missed", kind, sample.text[max(0, start - 30) : end + 20]))
    false = [
        hit for hit in hits if not any(k is hit.kind and s < hit.end and hit.start < e for k, s, e in sample.entities)
    ]
    for hit in false:
        outcome.tally(hit.kind).false += 1
        outcome.wrong.append(
            ("false", hit.kind, f"{hit.rule_id}: {sample.text[max(0, hit.start - 30) : hit.end + 20]}")
        )
    outcome.texts_with_false_hits += any(hit.personal for hit in false)


# Labelled in the sets, but out of this scan's scope (names stand in prose) or set aside as not personal.
_NOT_COUNTED: Final = frozenset({Kind.PERSON, Kind.BUSINESS_NO})


def _summary(outcome: Outcome, samples: Sequence[Sample], show: bool) -> dict[str, Any]:
    partial = any(sample.partial for sample in samples)
    total = Tally()
    for kind, tally in outcome.kinds.items():
        if kind not in _NOT_COUNTED:
            total.found += tally.found
            total.missed += tally.missed
            total.false += tally.false
    summary: dict[str, Any] = {
        "samples": outcome.samples,
        "labels": "partial" if partial else "complete",
        "all": total.row(not partial),
        "kinds": {kind.value: tally.row(not partial) for kind, tally in sorted(outcome.kinds.items())},
        "false_texts_per_1000": None
        if partial
        else round(1000 * outcome.texts_with_false_hits / max(1, outcome.samples), 2),
    }
    return summary | ({"wrong": outcome.wrong} if show else {})


def _speed(scanner: Scanner, reference: Scanner, samples: Sequence[Sample]) -> dict[str, float]:
    fast, slow = _posts_per_second(scanner, samples), _posts_per_second(reference, samples)
    characters = sum(len(sample.text) for sample in samples) / max(1, len(samples))
    return {
        "mean_characters": round(characters),
        "engine_posts_s": round(fast),
        "reference_posts_s": round(slow),
        "ratio": round(fast / slow, 2),
    }


def _posts_per_second(scanner: Scanner, samples: Sequence[Sample]) -> float:
    parts = [[TextPart("body", sample.text)] for sample in samples]
    start = time.process_time()
    for part in parts:
        scanner.scan(part)
    return len(parts) / (time.process_time() - start)


def _table(text: str) -> list[str]:
    return text.split()


# --- the generated set ---------------------------------------------------------------------------------------
# Fictional throughout: 010-0000 and 010-1… were never allotted, RRNs carry a wrong check digit, cards are the
# schemes' published test numbers, e-mail hosts are reserved (RFC 2606) or provider names with random local parts.

_TEST_CARDS: Final = _table("""
    4111111111111111 4012888888881881 4242424242424242 5555555555554444 5105105105105100
    378282246310005 371449635398431 30569309025904 38520000023237 6011111111111117
    6011000990139424 3530111333300000 3566002020360505 2223003122003222
    """)
_FAMILY: Final = "김이박최정강조윤장임한오서신권황안송류홍"
_GIVEN: Final = ("민수", "서연", "지훈", "하은", "도윤", "수빈", "영호", "미경", "준서", "예린", "현우", "다인")
_PLACES: Final = (
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
)
_WORDS: Final = tuple(
    _table("""
    gildong minsu happy blue star coffee user music sky river tiger lee kim park
    """)
)
_HOSTS: Final = (
    "example.com",
    "example.co.kr",
    "mail.example.org",
    "naver.com",
    "gmail.com",
    "daum.net",
    "hanmail.net",
)
_BANKS: Final = (
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
_FORMS: Final = ("3-3-6", "6-2-6", "4-3-6", "3-4-4-2", "4-2-7", "3-6-2-3", "3-6-5")


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice("0123456789") for _ in range(count))


def _mobile(rng: random.Random) -> str:
    middle, last = rng.choice("01") + _digits(rng, 3), _digits(rng, 4)
    form = rng.choice(
        ("010-{}-{}",) * 6
        + ("010{}{}", "010 {} {}", "010.{}.{}", "+82 10-{}-{}", "+8210{}{}", "(010) {}-{}", "010/{}/{}", "010){}-{}")
    )
    return form.format(middle, last)


def _veiled_mobile(rng: random.Random) -> str:
    plain = f"010-1{_digits(rng, 3)}-{_digits(rng, 4)}"
    spelled = plain.translate(
        str.maketrans(
            "0123456789",
            rng.choice(
                (
                    "공일이삼사오육칠팔구",
                    "영일이삼사오육칠팔구",
                    "０１２３４５６７８９",
                    "〇一二三四五六七八九",
                    "⓪①②③④⑤⑥⑦⑧⑨",
                )
            ),
        )
    )
    english = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    digits = plain.replace("-", "")
    return rng.choice(
        (
            spelled,
            spelled.replace("-", " "),
            spelled.replace("-", ""),
            " ".join(digits),
            "010-" + spelled[4:],
            plain.replace("-", "ㅡ"),
            plain.replace("-", "–"),
            "\u200b".join(plain),
            " ".join(english[int(d)] for d in digits),
            "o1o" + plain[3:],
            plain.replace("-", " - "),
            plain.replace("-", "★"),
            plain.replace("-", "_"),
        )
    )


def _landline(rng: random.Random) -> str:
    area = rng.choice(("02", "031", "032", "042", "051", "053", "062", "064", "070"))
    return rng.choice(("{}-{}-{}", "{}) {}-{}", "({}) {}-{}", "{} {} {}", "{}.{}.{}")).format(
        area, "0" + _digits(rng, 2), _digits(rng, 4)
    )


def _email(rng: random.Random) -> str:
    return (
        rng.choice(_WORDS)
        + rng.choice(("", ".", "_"))
        + rng.choice(_WORDS)
        + rng.choice(("", _digits(rng, 2)))
        + "@"
        + rng.choice(_HOSTS)
    )


def _veiled_email(rng: random.Random) -> str:
    local, host = _email(rng).split("@")
    name, _, end = host.rpartition(".")
    at = rng.choice(("골뱅이", " 골뱅이 ", "[at]", " (at) ", "＠", " @ "))
    return (
        local
        + at
        + name.replace(".", "쩜")
        + rng.choice(("쩜", "[dot]", " (dot) ", "닷") if at != " @ " else (".",))
        + end
    )


def _resident(rng: random.Random, genders: str) -> str:
    year = rng.randrange(45, 100)
    gender = rng.choice(genders)
    body = f"{year:02}{rng.randrange(1, 13):02}{rng.randrange(1, 29):02}{gender}{_digits(rng, 5)}"
    total = sum(int(d) * w for d, w in zip(body, (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5), strict=True))
    wrong = ((11 - total % 11) + 5) % 10
    return body[:6] + rng.choice(("-", "-", "-", " ", "")) + body[6:] + str(wrong)


def _card(rng: random.Random) -> str:
    number = rng.choice(_TEST_CARDS)
    sizes = {16: (4, 4, 4, 4), 15: (4, 6, 5), 14: (4, 6, 4)}[len(number)]
    groups = [number[sum(sizes[:i]) : sum(sizes[: i + 1])] for i in range(len(sizes))]
    return rng.choice(("-", "-", " ", "", ".")).join(groups)


def _address(rng: random.Random) -> str:
    region, road, town = rng.choice(_PLACES)
    road_form = f"{region} {road} {rng.randrange(1, 500)}" + rng.choice(("", f"-{rng.randrange(1, 60)}"))
    lot_form = f"{region} {town} {rng.randrange(1, 900)}-{rng.randrange(1, 60)}" + rng.choice(("", "번지"))
    unit = rng.choice(
        ("", f", {rng.randrange(1, 20)}층", f" {rng.randrange(101, 120)}동 {rng.randrange(101, 2500)}호", f" ({town})")
    )
    return rng.choice((road_form, road_form, lot_form)) + unit


def _account(rng: random.Random) -> str:
    groups = "-".join(_digits(rng, int(size)) for size in rng.choice(_FORMS).split("-"))
    return "1" + groups[1:] if rng.random() < 0.8 else "1" + groups[1:].replace("-", "")


def _passport(rng: random.Random) -> str:
    return rng.choice("MSRD") + rng.choice(
        (_digits(rng, 8), f"{_digits(rng, 3)}{rng.choice('ABCDEFGH')}{_digits(rng, 4)}")
    )


def _license(rng: random.Random) -> str:
    return rng.choice(("{}-{}-{}-{}",) * 3 + ("{} {} {} {}",)).format(
        rng.choice((*range(11, 27), 28)), _digits(rng, 2), _digits(rng, 6), _digits(rng, 2)
    )


def _name(rng: random.Random) -> str:
    return rng.choice(_FAMILY) + rng.choice(_GIVEN)


def _plate(rng: random.Random) -> str:
    return (
        f"{rng.randrange(10, 999)}{rng.choice('가나다라마거너더러머버서어저')}{rng.choice(('', ' '))}{_digits(rng, 4)}"
    )


def _messenger(rng: random.Random) -> str:
    return rng.choice(_WORDS) + rng.choice(("", "_", ".")) + _digits(rng, 3)


_VALUES: Final[tuple[tuple[Kind, Callable[[random.Random], str], tuple[str, ...]], ...]] = (
    (
        Kind.PHONE,
        _mobile,
        (
            "연락처는 {}입니다",
            "{} 으로 문자 주세요",
            "얘 번호 {} 전화해봐",
            "급매 문의 {}",
            "tel {}",
            "판매자 번호가 {} 이었음",
            "{}",
        ),
    ),
    (Kind.PHONE, _veiled_mobile, ("연락은 {} 로 주세요", "번호 {} 이에요", "톡 안되면 {}", "{}")),
    (Kind.PHONE, _landline, ("사무실 {} 으로 전화", "집전화 {}", "Tel. {}", "{} 로 연락 바람")),
    (
        Kind.EMAIL,
        _email,
        ("메일은 {}으로 보내주세요", "문의:{}", "{}입니다", "이 사람 이메일 {} 신고합시다", "contact {} for details"),
    ),
    (Kind.EMAIL, _veiled_email, ("메일 {} 로 주세요", "{} 연락 바랍니다", "이메일: {}")),
    (
        Kind.RRN,
        lambda rng: _resident(rng, "12"),
        ("주민번호 {} 유출됨", "{} 이거 그 사람 주민등록번호", "민증 사진에 {} 나옴", "RRN: {}"),
    ),
    (
        Kind.FOREIGNER_NO,
        lambda rng: _resident(rng, "56"),
        ("외국인등록번호 {}", "등록번호는 {} 입니다", "alien registration {}"),
    ),
    (Kind.CARD, _card, ("카드번호 {} 유효기간 12/27", "{} 비자 카드", "결제는 {} 로", "card number {}", "{} CVC 123")),
    (Kind.ADDRESS, _address, ("주소는 {} 입니다", "{} 여기 삽니다", "배송지: {}", "얘네 집 {}", "택배 {} 로 보내줘")),
    (
        Kind.ACCOUNT,
        lambda rng: f"{_account(rng)}",
        tuple(f"{bank} {{}} 로 입금" for bank in _BANKS)
        + tuple(f"{{}} {bank} 예금주 확인" for bank in _BANKS[:4])
        + ("계좌번호: {}", "입금 계좌는 {} 입니다"),
    ),
    (Kind.PASSPORT, _passport, ("여권번호 {}", "passport no. {}", "여권 {} 분실", "여권번호는 {}입니다")),
    (Kind.DRIVER_LICENSE, _license, ("운전면허 {}", "면허번호: {}", "driver license {}")),
    (Kind.PERSON, _name, ("이름: {}", "성명 : {} 님", "받는 사람: {}", "이름은 {}입니다", "예금주: {}")),
    (Kind.VEHICLE, _plate, ("차량번호 {}", "번호판 {} 뺑소니 신고", "차번호는 {} 입니다", "주차 빌런 {}")),
    (Kind.MESSENGER, _messenger, ("카톡 아이디 {}", "카톡: {}", "텔레그램 @{}", "인스타 아이디는 {} 임")),
)

# What looks like personal data and is not.
_NEGATIVES: Final[tuple[Callable[[random.Random], str], ...]] = (
    lambda rng: f"주문번호 2023{rng.randrange(1000, 1300)}{_digits(rng, 6)} 확인 부탁드려요",
    lambda rng: f"주문번호: {_digits(rng, 16)} 배송 언제 되나요",
    lambda rng: f"운송장번호 {_digits(rng, 12)} CJ대한통운",
    lambda rng: f"송장 {_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 4)} 조회가 안돼요",
    lambda rng: f"등기번호 {_digits(rng, 13)} 도착",
    lambda rng: f"tracking number {_digits(rng, 12)} shipped",
    lambda rng: f"시리얼 넘버 SN{_digits(rng, 11)} 정품 등록",
    lambda rng: f"일련번호 {rng.choice('MSRD')}{_digits(rng, 8)} 제품",
    lambda rng: f"ISBN 979-11-{_digits(rng, 4)}-{_digits(rng, 3)}-{_digits(rng, 1)} 책 추천",
    lambda rng: f"ISBN 97889{_digits(rng, 8)} 재고 있나요",
    lambda rng: f"서버 로그 {rng.randrange(1_500_000_000, 1_800_000_000)} 에서 오류",
    lambda rng: f"timestamp={rng.randrange(1_500_000_000_000, 1_800_000_000_000)} 지연",
    lambda rng: f"좌표 37.{_digits(rng, 6)}, 127.{_digits(rng, 6)} 근처",
    lambda rng: f"위도 37.{_digits(rng, 7)} 경도 126.{_digits(rng, 7)}",
    lambda rng: f"고객센터 {rng.choice(('1588', '1544', '1577', '1600', '1661', '1899'))}-{_digits(rng, 4)} 전화했더니",
    lambda rng: f"대표번호 {rng.choice(('1588', '1544', '1600', '1800'))}{_digits(rng, 4)} 문의",
    lambda rng: f"수신자부담 080-{_digits(rng, 3)}-{_digits(rng, 4)} 무료",
    lambda rng: f"가격이 {rng.randrange(1, 99)},{_digits(rng, 3)},{_digits(rng, 3)}원이었는데 할인",
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
    lambda rng: f"모델명 KR-{_digits(rng, 4)}-{_digits(rng, 4)} 에어컨",
    lambda rng: f"쿠폰코드 {_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 4)}-{_digits(rng, 4)} 등록",
    lambda rng: f"예약번호 {_digits(rng, 10)} 로 확인",
    lambda rng: f"접수번호 {rng.randrange(11, 26)}-{_digits(rng, 2)}-{_digits(rng, 6)}-{_digits(rng, 2)} 처리중",
    lambda rng: f"바코드 880{_digits(rng, 10)} 찍어보세요",
    lambda rng: f"로또 번호 {' '.join(str(rng.randrange(1, 45)) for _ in range(6))} 당첨",
    lambda rng: f"학번 20{_digits(rng, 8)} 수강신청",
    lambda rng: f"친구 집으로 {rng.randrange(1, 12)}시에 가서 강남구 쪽으로 {rng.randrange(10, 60)}분 걸었다",
    lambda rng: f"서울 강남구 맛집 {rng.randrange(10, 99)}곳 추천, 역삼동에서 {rng.randrange(2, 9)}명",
    lambda rng: f"부산 가는 길 {rng.randrange(2, 9)}시간, 경기도 {rng.randrange(2, 9)}개 시",
    lambda rng: f"오늘 기온 {rng.randrange(20, 36)}도 {_digits(rng, 4)}명 참가",
    lambda rng: f"조회수 {_digits(rng, 7)} 좋아요 {_digits(rng, 5)}",
    lambda rng: f"이미지 logo@{rng.randrange(2, 4)}x.png 깨짐",
    lambda rng: f"골뱅이 무침 {rng.randrange(1, 9)}인분이랑 소주",
    lambda rng: f"git commit {''.join(rng.choice('0123456789abcdef') for _ in range(40))}",
    lambda rng: f"uuid {_digits(rng, 8)}-{_digits(rng, 4)}-4{_digits(rng, 3)}-8{_digits(rng, 3)}-{_digits(rng, 12)}",
    lambda rng: f"https://shop.example.com/item/{_digits(rng, 11)}?id={_digits(rng, 13)} 이거 사세요",
    lambda rng: f"IMEI 35{_digits(rng, 13)} 분실폰",
    lambda rng: f"점수 {rng.randrange(100)}-{rng.randrange(100)}-{rng.randrange(1000)} 경기 결과",
)
_FILLERS: Final = ("", "", "진짜 어이없네요 ㅋㅋ ", "안녕하세요. ", "[공지] ", "ㅠㅠ 제보합니다 ", "FYI ", "^^ ")


def generated(per_template: int = 12, seed: int = _SEED) -> Iterator[Sample]:
    """Korean posts with one fictional value each, and as many hard negatives; the same for the same seed."""
    rng = random.Random(seed)
    for kind, make, templates in _VALUES:
        for template in templates:
            for _ in range(per_template):
                value = make(rng)
                head = rng.choice(_FILLERS) + template.split("{}")[0]
                text = head + value + template.split("{}")[1]
                yield Sample(text, ((kind, len(head), len(head) + len(value)),))
    for negative in _NEGATIVES:
        for _ in range(per_template * 2):
            yield Sample(rng.choice(_FILLERS) + negative(rng), ())
