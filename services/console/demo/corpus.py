"""What is fed to the demo, and what is true of it?

People with a published portrait, strangers, pictures without faces, Korean and English posts with and without
personal data, reposts, duplicates, broken input. Every name, number and address of a private person is made up:
mobile numbers with the unassigned exchange 0000, mail addresses below example.com (RFC 2606), test card numbers.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from jikimi_client.misuse.common import v1 as common
from jikimi_client.misuse.detector import v1 as detector_api
from services.console.demo import pictures

CHANNELS = (
    "naver-search",
    "kakao-search",
    "google-search",
    "youtube",
    "meta",
    "x",
    "tiktok",
    "telegram-public",
    "community",
    "overseas",
)
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif"}


@dataclass(frozen=True)
class Person:
    """Somebody who enrols: pictures of the own face, identifiers (kind by name, value), or both."""

    key: str
    name: str
    language: str
    pictures: tuple[bytes, ...] = field(default=(), repr=False)
    identifiers: tuple[tuple[str, str], ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class Item:
    """A signal and the truth about it."""

    signal: detector_api.Signal = field(repr=False)
    what: str
    """For people, such as "photo of A, mirrored"."""
    faces: frozenset[str] = frozenset()
    """Keys of the enrolled people whose face is in it."""
    named: frozenset[str] = frozenset()
    """Keys of the enrolled people whose watched identifier is in it."""
    refusal: str = ""
    """Reason with which the door must refuse it; empty where it must be taken in."""
    duplicate: bool = False
    """The same signal was fed before."""


@dataclass(frozen=True)
class Corpus:
    """People and signals, in the order in which they are fed."""

    people: tuple[Person, ...]
    items: tuple[Item, ...]


KOREAN_POSTS = (
    ("minjun", "이 사람 연락처 아시는 분? 제가 찾음 {mobile} 김민준임"),
    ("minjun", "[거래 사기] 이름: 김민준 전화 {mobile_spaced} 조심하세요 #사기"),
    ("minjun", "번호 공개합니다. {mobile_wide} 로 전화해 보세요"),
    ("minjun", "공일공 공공공공 이오팔공 이 번호로 문자하세요"),
    ("minjun", "메일은 {email} 입니다. 신상 다 털렸네"),
    ("minjun", "이메일 minjun.kim 골뱅이 example 쩜 com 으로 항의합시다"),
    ("seoyeon", "이서연 학생 연락처 {mobile}, 학교 앞에서 기다리면 나옴"),
    ("seoyeon", "수신: 이서연, {mobile_country} / 서울특별시 종로구 세종대로 209 101호"),
    ("seoyeon", "얘 메일 {email} 여기로 보내면 답장 옴ㅋㅋ"),
    ("seoyeon", "DM 말고 seoyeon.lee[at]example[dot]com"),
)
ENGLISH_POSTS = (
    ("alex", "Found it: {email} is the account, same password everywhere."),
    ("alex", "Contact him at {email_spelled}, he never answers."),
    ("alex", "Dump line: {email}:hunter2:Alex Carter"),
    ("alex", "His card is {card}, exp 12/29. Lol."),
)
NEUTRAL_POSTS = (
    "오늘 날씨가 정말 좋네요. 한강에서 자전거 탔어요.",
    "주문번호 20260311-0012345 배송이 아직 안 왔어요. 고객센터 1588-0000 통화 중이네요.",
    "이 영화 별점 5점! 배우 연기가 대단했다.",
    "회의는 2026년 3월 11일 14시, 장소는 3층 회의실입니다.",
    "송장번호 6080-1234-5678 조회가 안 됩니다",
    "The match ended 3:2 after extra time, attendance 45,112.",
    "Version 2.14.0 fixes issue 10452; see the release notes.",
    "Selling my bike, 350 euro, pick-up only. No phone calls please.",
    "Lat 37.5665, lon 126.9780 is the city hall.",
    "ISBN 978-89-01-23456-7 좋은 책입니다.",
)
FOREIGN_POSTS = (
    "급매 문의 010-0000-{n:04d} 박사장",
    "문의는 contact{n}@example.net 으로 주세요",
    "Call 010-0000-{n:04d} and ask for Mr. Park",
    "write to seller{n}@example.org if interested",
)


def shipped(folder: Path, run: str) -> Corpus:
    """The demo's own corpus, from the pictures in a folder. `run` makes the signal ids of this run its own."""
    raw = {file.stem: file.read_bytes() for file in sorted(folder.iterdir()) if file.suffix.lower() in SUFFIXES}
    people = (
        Person("obama", "Barack Obama", "en", (raw["obama"],)),
        Person("biden", "Joe Biden", "en", (raw["biden"],)),
        Person("minjun", "김민준", "ko", (), (("mobile", "010-0000-2580"), ("email", "minjun.kim@example.com"))),
        Person("seoyeon", "이서연", "ko", (), (("mobile", "010-0000-3690"), ("email", "seoyeon.lee@example.com"))),
        Person(
            "alex", "Alex Carter", "en", (), (("email", "alex.carter@example.com"), ("card", "4111 1111 1111 1111"))
        ),
    )
    maker = _Maker(run)
    known = {"obama": "obama", "obama2": "obama", "obama3": "obama", "biden": "biden"}
    items = [*_photos(maker, {name: raw[name] for name in known}, known)]
    items += _photos(maker, {n: raw[n] for n in raw if n.startswith(("sample", "astronaut"))}, {}, 4)
    items += [maker.picture(pictures.without_face(n), "a picture without a face") for n in range(24)]
    items += _posts(maker, people)
    items += _mixed(maker, raw["obama2"])
    # Shuffled by a fixed seed: reposts come before and after their originals, the same in every run.
    random.Random(7).shuffle(items)
    return Corpus(people, tuple(_with_repeats(maker, items, raw["obama"])))


def own(folder: Path | None, posts: Path | None, run: str) -> Corpus:
    """A corpus of one's own. `folder` has a folder per person: files named enrol* (or the first one) are enrolled,
    the others are found on the web; pictures beside the folders show strangers. `posts` has one post a line, plain
    or JSON: {"text": …, "person": key of somebody whose identifier is in it, or absent}, and for those who watch
    {"person": key, "watch": {"mobile": …, "email": …}}. Raises ValueError where there is nothing, or no JSON."""
    maker, people, items = _Maker(run), list[Person](), list[Item]()
    for sub in sorted(path for path in folder.iterdir() if path.is_dir()) if folder else ():
        files = [file for file in sorted(sub.iterdir()) if file.suffix.lower() in SUFFIXES]
        chosen = [file for file in files if file.name.startswith("enrol")][:10] or files[:1]
        people.append(Person(sub.name, sub.name, "en", tuple(file.read_bytes() for file in chosen)))
        items += [
            maker.picture(file.read_bytes(), f"photo of {sub.name}", sub.name) for file in files if file not in chosen
        ]
    for file in sorted(folder.iterdir()) if folder else ():
        if file.suffix.lower() in SUFFIXES:
            items.append(maker.picture(file.read_bytes(), "photo of a stranger"))
    for line in posts.read_text(encoding="utf-8").splitlines() if posts else ():
        row: dict[str, Any] = json.loads(line) if line.startswith("{") else {"text": line.strip()}
        who = str(row.get("person", ""))
        if "watch" in row:
            watched = tuple((str(kind), str(value)) for kind, value in row["watch"].items())
            people.append(Person(who, who, "ko", (), watched))
        elif row.get("text"):
            items.append(maker.text(str(row["text"]), f"post about {who or 'nobody who is enrolled'}", who))
    if not items:
        raise ValueError("There is nothing to feed in what IMAGES and POSTS name.")
    return Corpus(tuple(people), tuple(items))


def _photos(
    maker: _Maker, raw: dict[str, bytes], known: dict[str, str], transforms: int = len(pictures.REPOSTS)
) -> Iterator[Item]:
    for name, data in raw.items():
        who = known.get(name, "")
        label = f"photo {name}" if who else "photo of strangers"
        picture = pictures.opened(data)
        yield maker.picture(pictures.jpeg(picture, 92), label, who)
        for how, transform in list(pictures.REPOSTS.items())[:transforms]:
            yield maker.picture(transform(picture), f"{label}, {how}", who)


def _posts(maker: _Maker, people: Sequence[Person]) -> Iterator[Item]:
    values = {person.key: dict(person.identifiers) for person in people}
    for key, template in (*KOREAN_POSTS, *ENGLISH_POSTS):
        text = template.format(**_spellings(values[key]))
        yield maker.text(text, f"post about {key}", key)
        yield maker.text(f"[펌] {text} (퍼온 글)", f"post about {key}, quoted", key)
    for number, text in enumerate((*NEUTRAL_POSTS, *NEUTRAL_POSTS)):
        yield maker.text(f"{text} ({number})", "post without personal data")
    for number in range(20):
        text = FOREIGN_POSTS[number % len(FOREIGN_POSTS)].format(n=7000 + number)
        yield maker.text(text, "post about somebody who is not enrolled")


def _spellings(values: dict[str, str]) -> dict[str, str]:
    mobile, email = values.get("mobile", ""), values.get("email", "")
    wide = mobile.translate({ord("0") + n: ord("０") + n for n in range(10)} | {ord("-"): ord("－")})
    return {
        "mobile": mobile,
        "mobile_spaced": mobile.replace("-", " "),
        "mobile_wide": wide,
        "mobile_country": "+82 " + mobile[1:].replace("-", " "),
        "email": email,
        "email_spelled": email.replace("@", " (at) ").replace(".", " dot "),
        "card": values.get("card", ""),
    }


def _mixed(maker: _Maker, photo: bytes) -> Iterator[Item]:
    """Personal data beside a picture and in metadata, both kinds in one post."""
    picture = pictures.jpeg(pictures.opened(photo, 900), 80)
    signal = maker.picture(picture, "photo obama2 with a phone number beside it", "obama").signal
    signal.parts.append(detector_api.SignalPart(text="연락처는 010-0000-2580 입니다"))
    yield Item(signal, "photo with a phone number beside it", frozenset({"obama"}), frozenset({"minjun"}))
    item = maker.picture(pictures.without_face(900), "faceless picture with an address in its title")
    item.signal.metadata.append(detector_api.MetadataPair(name="title", value="seoyeon.lee@example.com 유출"))
    yield replace(item, named=frozenset({"seoyeon"}))


def _with_repeats(maker: _Maker, items: Sequence[Item], photo: bytes) -> Iterator[Item]:
    """Every twelfth signal comes again unchanged; broken input comes in between."""
    broken = list(_broken(maker, photo))
    for number, item in enumerate(items):
        yield item
        if number % 12 == 11:
            yield replace(items[number - 5], what="the same signal again", duplicate=True)
        if number % 9 == 8 and broken:
            yield broken.pop(0)
    yield from broken


def _broken(maker: _Maker, photo: bytes) -> Iterator[Item]:
    good = pictures.jpeg(pictures.opened(photo), 80)
    yield maker.picture(pictures.truncated(good), "a truncated photo")
    yield maker.bad("NOT_AN_IMAGE", image=b"this is no picture at all")
    yield maker.bad("TOO_MANY_PIXELS", image=pictures.bomb())
    yield maker.bad("UNSUPPORTED_FORMAT", image=b"II*\0" + b"\0" * 200)
    yield maker.bad("TEXT_TOO_LARGE", text="가" * 350_000)
    yield maker.bad("EMPTY_SIGNAL")
    for field_name, value, reason in (
        ("channel", "no-such-channel", "UNKNOWN_CHANNEL"),
        ("discover_time", None, "MISSING_DISCOVERY_TIME"),
        ("discover_time", datetime.now(UTC) + timedelta(days=1), "TIME_IN_FUTURE"),
        ("source_url", "javascript:alert(1)", "BAD_URL"),
        ("source_type", 99, "UNKNOWN_ENUM"),
        ("signal_id", "", "BAD_SIGNAL_ID"),
    ):
        item = maker.bad(reason, text="a harmless post")
        setattr(item.signal, field_name, value)
        yield item


class _Maker:
    """Makes signals with ids derived from their content, on the ten channels in turn."""

    def __init__(self, run: str) -> None:
        self._run = run
        self._count = 0

    def picture(self, data: bytes, what: str, who: str = "") -> Item:
        return Item(self._signal([detector_api.SignalPart(image=data)], data), what, frozenset({who} - {""}))

    def text(self, text: str, what: str, who: str = "") -> Item:
        signal = self._signal([detector_api.SignalPart(text=text)], text.encode())
        return Item(signal, what, named=frozenset({who} - {""}))

    def bad(self, reason: str, *, image: bytes = b"", text: str = "") -> Item:
        parts = [detector_api.SignalPart(image=image)] if image else []
        parts += [detector_api.SignalPart(text=text)] if text else []
        return Item(self._signal(parts, image + text.encode()), f"broken: {reason}", refusal=reason)

    def _signal(self, parts: list[detector_api.SignalPart], content: bytes) -> detector_api.Signal:
        channel = CHANNELS[self._count % len(CHANNELS)]
        self._count += 1
        digest = hashlib.sha256(content + str(self._count).encode()).hexdigest()[:24]
        return detector_api.Signal(
            signal_id=f"demo-{self._run}-{digest}",
            channel=channel,
            source_type=common.SourceType.from_string("SNS"),
            source_url=f"https://{channel}.example/{self._run}/post/{self._count}",
            post_id=f"{self._run}-{self._count}",
            parts=parts,
            collection_basis=common.CollectionBasis.from_string("PUBLIC_ACCESS"),
            policy_rule_id="demo-public",
            discover_time=datetime.now(UTC),
            capture=detector_api.CaptureFacts(http_status=200, collector="demo/1", fetch_time=datetime.now(UTC)),
        )
