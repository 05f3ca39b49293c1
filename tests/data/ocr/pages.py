"""Pictures with text whose lines are known: id cards, payment cards, envelopes, chats, forms; all of them invented.

    python -m tests.data.ocr --out FOLDER --pages 60 --seed 1

Names, numbers and addresses are fictional: published test card numbers, resident numbers of a year from which on they
have no check digit, streets that exist in no town. Beside the pictures lies `labels.jsonl`: file, kind, and for each
line its text and the four corners of its ink, clockwise from the top left of the text, in pixels.
"""

from __future__ import annotations

import io
import json
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Corners = NDArray[np.float64]

ROOT = Path(__file__).parents[3]
_FONTS = (
    (ROOT / ".cache" / "fonts" / "NanumGothic.ttf", 0),
    (ROOT / ".cache" / "fonts" / "NanumGothicBold.ttf", 0),
    (Path("/usr/share/fonts/truetype/nanum/NanumGothic.ttf"), 0),
    (Path("/usr/share/fonts/truetype/nanum/NanumMyeongjo.ttf"), 0),
    # The collection's second face is the Korean one.
    (Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc"), 1),
    (Path("/usr/share/fonts/opentype/noto/NotoSansCJK-Bold.ttc"), 1),
)
_FAMILY = "김이박최정강조윤장임"
_GIVEN = ("서연", "민준", "지우", "하은", "도윤", "예린", "준호", "수빈", "태영", "가람")
_LATIN = ("HONG GILDONG", "KIM SEOYEON", "LEE MINJUN", "PARK JIWOO", "CHOI HAEUN")
_CITIES = ("서울특별시 강남구", "부산광역시 해운대구", "대전광역시 유성구", "경기도 성남시 분당구", "광주광역시 북구")
_ROADS = ("한별로", "새빛길", "누리마루로", "가온대로", "다솜로")
_CARDS = ("4111 1111 1111 1111", "5555 5555 5555 4444", "6011 1111 1111 1117", "4012 8888 8888 1881")
_BANKS = ("국민은행", "신한은행", "우리은행", "하나은행")


class NoFont(Exception):
    """No font with Hangul is at hand; `make ocr` brings one, so does Debian's fonts-nanum."""


@dataclass(frozen=True)
class Line:
    """A line of text and the corners [4,2] of its ink."""

    text: str
    corners: Corners = field(repr=False)


@dataclass(frozen=True)
class Page:
    """A picture, uint8 [H,W,3] RGB, with its lines."""

    kind: str
    pixels: Pixels = field(repr=False)
    lines: tuple[Line, ...]

    @property
    def label(self) -> dict[str, object]:
        """What `labels.jsonl` says of it, but for the file's name."""
        lines = [{"text": line.text, "quad": np.round(line.corners, 1).tolist()} for line in self.lines]
        return {"kind": self.kind, "lines": lines}


def fonts() -> list[tuple[Path, int]]:
    """(file, face) of the fonts with Hangul at hand. Raises NoFont."""
    found = [(path, face) for path, face in _FONTS if path.exists()]
    if not found:
        raise NoFont("no font with Hangul: run `make ocr`, or install Debian's fonts-nanum")
    return found


class _Sheet:
    """A picture being drawn, which remembers its lines."""

    def __init__(self, chance: random.Random, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
        self.chance = chance
        self.image = Image.new("RGB", size, colour)
        self.draw = ImageDraw.Draw(self.image)
        self.font_file, self.face = chance.choice(fonts())
        self.lines: list[Line] = []

    def write(
        self, place: tuple[float, float], text: str, size: int, colour: tuple[int, int, int] = (25, 25, 25)
    ) -> None:
        font = ImageFont.truetype(str(self.font_file), size, index=self.face)
        self.draw.text(place, text, font=font, fill=colour)
        left, top, right, bottom = self.draw.textbbox(place, text, font=font)
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)
        self.lines.append(Line(text, corners))

    def width_of(self, text: str, size: int) -> float:
        return float(ImageFont.truetype(str(self.font_file), size, index=self.face).getlength(text))

    def waves(self, strength: int) -> None:
        """A guilloche-like ground, as cards have."""
        width, height = self.image.size
        y, x = np.mgrid[0:height, 0:width]
        wave = np.sin(x / 17 + np.sin(y / 31) * 2) + np.sin(y / 13 + x / 57)
        ground = np.asarray(self.image, np.int16) + (wave * strength / 2).astype(np.int16)[:, :, np.newaxis]
        self.image = Image.fromarray(np.clip(ground, 0, 255).astype(np.uint8))
        self.draw = ImageDraw.Draw(self.image)

    def page(self, kind: str) -> Page:
        return Page(kind, np.asarray(self.image, np.uint8), tuple(self.lines))


def _name(chance: random.Random) -> str:
    return chance.choice(_FAMILY) + chance.choice(_GIVEN)


def _phone(chance: random.Random) -> str:
    return f"010-{chance.randint(2000, 9999)}-{chance.randint(0, 9999):04}"


def _resident_number(chance: random.Random) -> str:
    """Of a child born after October 2020: these have no check digit."""
    born = f"{chance.randint(21, 24)}{chance.randint(1, 12):02}{chance.randint(1, 28):02}"
    return f"{born}-{chance.choice('34')}{chance.randint(0, 999_999):06}"


def _address(chance: random.Random) -> tuple[str, str]:
    street = f"{chance.choice(_CITIES)} {chance.choice(_ROADS)} {chance.randint(1, 300)}"
    return street, f"{chance.randint(101, 120)}동 {chance.randint(101, 2505)}호"


def _mail(chance: random.Random) -> str:
    name, host = chance.choice(("gildong", "haneul", "seoyeon")), chance.choice(("example.com", "mail.example.kr"))
    return f"{name}{chance.randint(10, 99)}@{host}"


def resident_card(chance: random.Random) -> Page:
    """A resident registration card, 856 × 540 as ISO/IEC 7810 ID-1."""
    sheet = _Sheet(chance, (856, 540), (226, 236, 228))
    sheet.waves(14)
    sheet.draw.rectangle((600, 120, 800, 380), fill=(170, 175, 185))
    sheet.write((60, 40), "주민등록증", 54)
    sheet.write((60, 140), f"{_name(chance)}", 44)
    sheet.write((60, 215), _resident_number(chance), 42)
    street, door = _address(chance)
    sheet.write((60, 295), street, 28)
    sheet.write((60, 335), door, 28)
    sheet.write((330, 420), "2024. 11. 20.", 28)
    sheet.write((290, 470), "한별시 가온구청장", 34)
    return sheet.page("resident_card")


def driver_card(chance: random.Random) -> Page:
    """A driver's licence."""
    sheet = _Sheet(chance, (856, 540), (238, 228, 232))
    sheet.waves(12)
    sheet.draw.rectangle((40, 130, 230, 380), fill=(165, 170, 180))
    sheet.write((260, 40), "자동차운전면허증", 44)
    region, year, serial = chance.randint(11, 26), chance.randint(10, 24), chance.randint(0, 999_999)
    sheet.write((270, 130), f"면허번호 {region}-{year}-{serial:06}-{chance.randint(10, 99)}", 34)
    sheet.write((270, 195), _name(chance), 38)
    sheet.write((270, 255), _resident_number(chance), 34)
    street, door = _address(chance)
    sheet.write((270, 315), street, 24)
    sheet.write((270, 350), door, 24)
    sheet.write((430, 470), "한별지방경찰청장", 30)
    return sheet.page("driver_card")


def payment_card(chance: random.Random) -> Page:
    """A payment card: light figures on a dark ground."""
    ground = chance.choice(((24, 36, 66), (60, 20, 40), (20, 60, 50)))
    sheet = _Sheet(chance, (856, 540), ground)
    sheet.waves(16)
    light = (236, 236, 226)
    sheet.write((50, 50), "가온 체크카드", 40, light)
    sheet.draw.rectangle((60, 180, 160, 260), fill=(200, 170, 90))
    sheet.write((60, 300), chance.choice(_CARDS), 58, light)
    sheet.write((320, 395), f"VALID THRU {chance.randint(1, 12):02}/{chance.randint(27, 33)}", 26, light)
    sheet.write((60, 450), chance.choice(_LATIN), 34, light)
    return sheet.page("payment_card")


def envelope(chance: random.Random) -> Page:
    """An addressed envelope, or a parcel's label."""
    sheet = _Sheet(chance, (1200, 640), chance.choice(((246, 243, 234), (206, 176, 136), (255, 255, 255))))
    street, door = _address(chance)
    sheet.write((50, 40), f"보내는 사람 {_name(chance)}", 28)
    sheet.write((50, 85), street, 26)
    sheet.write((50, 125), door, 26)
    street, door = _address(chance)
    sheet.write((560, 360), f"받는 사람 {_name(chance)} 귀하", 36)
    sheet.write((560, 420), street, 32)
    sheet.write((560, 470), door, 32)
    sheet.write((560, 530), f"전화 {_phone(chance)}", 32)
    sheet.write((1020, 580), f"{chance.randint(10000, 63000)}", 34)
    return sheet.page("envelope")


def chat(chance: random.Random) -> Page:
    """A messenger's screen, as a phone shows it."""
    sheet = _Sheet(chance, (720, 1280), (178, 199, 217))
    sheet.write((30, 30), _name(chance), 32)
    said = [
        "이 사람 번호 아는 사람?",
        _phone(chance),
        f"메일은 {_mail(chance)}",
        f"{chance.choice(_BANKS)} {chance.randint(100, 999)}-{chance.randint(10, 99)}-{chance.randint(100000, 999999)}",
        "거기 주소가 어디였지",
        _address(chance)[0],
        "ㅋㅋㅋ 고마워",
        f"010 {chance.randint(2000, 9999)} {chance.randint(0, 9999):04} 로 전화해",
    ]
    chance.shuffle(said)
    y = 110
    for number, text in enumerate(said):
        size = 28
        width = sheet.width_of(text, size) + 40
        x = 40 if number % 2 else 680 - width
        colour = (255, 255, 255) if number % 2 else (254, 229, 0)
        sheet.draw.rounded_rectangle((x, y, x + width, y + 64), 18, fill=colour)
        sheet.write((x + 20, y + 14), text, size)
        stamp = f"오후 {chance.randint(1, 12)}:{chance.randint(0, 59):02}"
        sheet.write((x + width + 8 if number % 2 else x - 92, y + 42), stamp, 16, (80, 90, 100))
        y += 64 + chance.randint(24, 60)
    return sheet.page("chat")


def form(chance: random.Random) -> Page:
    """Five lines on 1280 × 720, labels and values, Korean and English: what speed is measured on."""
    sheet = _Sheet(chance, (1280, 720), (252, 252, 252))
    street, door = _address(chance)
    for number, text in enumerate(
        (f"이름: {_name(chance)}", f"전화번호: {_phone(chance)}", f"E-mail: {_mail(chance)}", f"{street} {door}",
         f"Card {chance.choice(_CARDS)}")
    ):  # fmt: skip
        sheet.write((120, 90 + number * 115), text, 36)
    return sheet.page("form")


KINDS: tuple[Callable[[random.Random], Page], ...] = (resident_card, driver_card, payment_card, envelope, chat, form)


def taken(page: Page, chance: random.Random) -> Page:
    """The page as somebody took it: turned by some degrees, smaller, with noise, through JPEG; lines move along."""
    height, width = page.pixels.shape[:2]
    scale, degrees = chance.uniform(0.65, 1.25), chance.uniform(-4, 4)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, scale)
    margin = 40
    size = (round(width * scale) + 2 * margin, round(height * scale) + 2 * margin)
    matrix[:, 2] += (size[0] / 2 - width / 2, size[1] / 2 - height / 2)
    desk = tuple(chance.randint(60, 200) for _ in range(3))
    shot = cv2.warpAffine(page.pixels, matrix, size, flags=cv2.INTER_AREA, borderValue=desk)
    noise = np.random.default_rng(chance.randint(0, 2**31)).normal(0, chance.uniform(0, 9), shot.shape)
    shot = np.clip(shot * chance.uniform(0.75, 1.05) + noise, 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(shot).save(stream, "JPEG", quality=chance.randint(45, 92))
    pixels = np.asarray(Image.open(stream), np.uint8)
    lines = tuple(Line(line.text, line.corners @ matrix[:, :2].T + matrix[:, 2]) for line in page.lines)
    return Page(page.kind, pixels, lines)


def pages(count: int, seed: int, clean: bool = False) -> Iterator[Page]:
    """`count` pages, kind by kind: a round as drawn, one as somebody took them, and so on; `clean`: all as drawn."""
    for number in range(count):
        chance = random.Random(seed * 100_003 + number)
        page = KINDS[number % len(KINDS)](chance)
        yield page if clean or (number // len(KINDS)) % 2 == 0 else taken(page, chance)


def write(folder: Path, pages: Iterable[Page]) -> None:
    """Writes pictures and labels.jsonl into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "labels.jsonl").open("w", encoding="utf-8") as labels:
        for number, page in enumerate(pages):
            name = f"{number:04}_{page.kind}.png"
            Image.fromarray(page.pixels).save(folder / name)
            labels.write(json.dumps({"file": name, **page.label}, ensure_ascii=False) + "\n")
