"""How a picture is shown without showing bystanders, or anyone; and how that can be proved again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.domain.uploads import Mask, Method

Pixels = NDArray[np.uint8]
Format = Literal["JPEG", "PNG", "WEBP"]

THUMBNAIL_SIDE = 320
ALGORITHM = "cover-2"
"""Name and version of what `cover` does; another version for every change of its output."""
_TOLERANCE = 12.0
"""Mean difference, of 255, from the mean of its cell that saving as JPEG may leave in a mask."""


@dataclass(frozen=True)
class RedactionRules:
    """How regions are covered: `redaction` of rules/uploads.yaml, where each value is explained. The defaults are those
    shipped, for whoever reads no rules."""

    version: int = 1
    cells: int = 6
    levels: int = 8
    face_side: float = 0.25
    face_top: float = 0.4
    face_bottom: float = 0.2
    line_margin: float = 0.25
    solid_below: int = 64
    quality: int = 90

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> RedactionRules:
        """The rules as the file states them. Raises ValueError for a missing, unknown or impossible value."""
        if set(raw) != {each.name for each in fields(cls)}:
            raise ValueError("redaction: fields differ")
        rules = cls(**raw)
        margins = (rules.face_side, rules.face_top, rules.face_bottom, rules.line_margin)
        if not (2 <= rules.cells <= 16 and 2 <= rules.levels <= 64 and min(margins) >= 0 and 1 <= rules.quality <= 100):
            raise ValueError("redaction: a value is out of bounds")
        return rules

    @property
    def name(self) -> str:
        """What records name."""
        return f"redaction-{self.version}"

    def parameters(self) -> list[tuple[str, str]]:
        """Everything that decides the output, as names and texts."""
        return [(name, str(value)) for name, value in asdict(self).items()]

    @classmethod
    def from_parameters(cls, parameters: Iterable[tuple[str, str]]) -> RedactionRules:
        """The rules that a record names. Raises ValueError where they are none."""
        texts = dict(parameters)
        kinds = {each.name: float if each.type == "float" else int for each in fields(cls)}
        if set(texts) != set(kinds):
            raise ValueError("redaction: parameters differ")
        return cls.read({name: kinds[name](text) for name, text in texts.items()})


STANDARD = RedactionRules()


@dataclass(frozen=True)
class Region:
    """A rectangle in pixels of the picture, right and bottom exclusive; may reach outside it."""

    left: float
    top: float
    right: float
    bottom: float

    def grown(self, share: float) -> Region:
        """Larger by `share` of its size on every side."""
        return self.with_margins(share, share, share)

    def with_margins(self, side: float, top: float, bottom: float) -> Region:
        """Larger by shares of its width and height."""
        width, height = self.right - self.left, self.bottom - self.top
        return Region(
            self.left - side * width, self.top - top * height, self.right + side * width, self.bottom + bottom * height
        )

    def scaled(self, scale: float) -> Region:
        """The same region of a picture `scale` times as large."""
        return Region(self.left * scale, self.top * scale, self.right * scale, self.bottom * scale)

    def within(self, width: int, height: int) -> tuple[int, int, int, int] | None:
        """x, y, width, height in whole pixels of a picture of this size; None where nothing of it lies inside."""
        x0, y0 = max(0, int(np.floor(self.left))), max(0, int(np.floor(self.top)))
        x1, y1 = min(width, int(np.ceil(self.right))), min(height, int(np.ceil(self.bottom)))
        return (x0, y0, x1 - x0, y1 - y0) if x1 > x0 and y1 > y0 else None


def of_face(box: Region, rules: RedactionRules = STANDARD) -> Region:
    """What must be covered of a face: hair, ears and chin identify too."""
    return box.with_margins(rules.face_side, rules.face_top, rules.face_bottom)


def of_line(box: Region, rules: RedactionRules = STANDARD) -> Region:
    """What must be covered of a line of text."""
    margin = rules.line_margin * (box.bottom - box.top)
    return Region(box.left - margin, box.top - margin, box.right + margin, box.bottom + margin)


def masks_over(
    regions: Iterable[Region], method: Method, width: int, height: int, rules: RedactionRules = STANDARD
) -> list[Mask]:
    """Masks for regions of a picture of this size; a mosaic too small to hide anything becomes one colour."""
    places = (region.within(width, height) for region in regions)
    return [Mask(*place, _method(place, method, rules)) for place in places if place is not None]


def _method(place: tuple[int, int, int, int], wanted: Method, rules: RedactionRules) -> Method:
    return Method.SOLID if max(place[2:]) < rules.solid_below else wanted


def hide(rgb: Pixels, regions: Iterable[Region], rules: RedactionRules = STANDARD) -> Pixels:
    """A copy of uint8 [H,W,3] with each region replaced by a few flat cells; what was there cannot be
    computed back.
    """
    return cover(rgb, masks_over(regions, Method.MOSAIC, rgb.shape[1], rgb.shape[0], rules), rules)


def cover(rgb: Pixels, masks: Iterable[Mask], rules: RedactionRules = STANDARD) -> Pixels:
    """A copy of uint8 [H,W,3] with each mask's region covered, the same every time. Where masks overlap the later one
    holds; each is made of the original alone."""
    result = rgb.copy()
    for mask in masks:
        part = rgb[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width]
        covered = _solid(part, rules) if mask.method is Method.SOLID else _cells(part, rules)
        result[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width] = covered
    return result


def _cells(part: Pixels, rules: RedactionRules) -> Pixels:
    """A grid of flat cells in few colours: averaging alone can be undone by trying candidates (Hill et al. 2016)."""
    height, width = part.shape[:2]
    flat = _stepped(cv2.resize(part, _grid(height, width, rules), interpolation=cv2.INTER_AREA), rules)
    return np.asarray(cv2.resize(flat, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _grid(height: int, width: int, rules: RedactionRules) -> tuple[int, int]:
    """Cells across and down."""
    cell = max(height, width) / rules.cells
    return max(1, round(width / cell)), max(1, round(height / cell))


def _solid(part: Pixels, rules: RedactionRules) -> Pixels:
    """One colour, near the mean, in the same steps."""
    colour = _stepped(part.reshape(-1, 3).mean(axis=0).astype(np.uint8), rules)
    return np.broadcast_to(colour, part.shape)


def _stepped(values: Any, rules: RedactionRules) -> Pixels:
    step = 256 // rules.levels
    return np.asarray((values // step) * step + step // 2, np.uint8)


def uncovered(rgb: Pixels, masks: Sequence[Mask], rules: RedactionRules) -> list[Mask]:
    """The masks that do not look in this picture as `cover` leaves them: flat, cell by cell. Where masks overlap, a
    pixel is looked at as part of the last one."""
    owner = np.full(rgb.shape[:2], -1, np.int32)
    for number, mask in enumerate(masks):
        owner[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width] = number
    found = []
    for number, mask in enumerate(masks):
        part = rgb[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width]
        mine = owner[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width] == number
        whole = part.shape[:2] == (mask.height, mask.width)
        if not whole or _unevenness(part, mine, mask.method, rules) > _TOLERANCE:
            found.append(mask)
    return found


def _unevenness(part: Pixels, mine: NDArray[np.bool_], method: Method, rules: RedactionRules) -> float:
    """Mean difference of the pixels marked as `mine` from the mean of their cell, of 255."""
    if not mine.any():
        return 0.0
    height, width = part.shape[:2]
    across, down = (1, 1) if method is Method.SOLID else _grid(height, width, rules)
    numbers = np.arange(across * down, dtype=np.float32).reshape(down, across)
    cell = cv2.resize(numbers, (width, height), interpolation=cv2.INTER_NEAREST)[mine].astype(np.int64)
    pixels = part[mine].astype(np.float64)
    count = np.maximum(np.bincount(cell, minlength=across * down), 1)
    means = np.stack([np.bincount(cell, pixels[:, c], across * down) / count for c in range(3)], axis=1)
    return float(np.abs(pixels - means[cell]).mean())


def thumbnail(
    rgb: Pixels,
    faces: Sequence[Region],
    shown: Sequence[int] = (),
    lines: Sequence[Region] = (),
    side: int = THUMBNAIL_SIDE,
) -> bytes:
    """A JPEG of at most `side` pixels, without metadata, all faces hidden but those at the indexes `shown`, and of
    lines of text these regions.

    A shown face that overlaps a hidden one loses the overlap: the bystander comes first.
    """
    scale = min(1.0, side / max(rgb.shape[:2]))
    size = (max(1, round(rgb.shape[1] * scale)), max(1, round(rgb.shape[0] * scale)))
    small = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    hidden = [of_face(face).scaled(scale) for at, face in enumerate(faces) if at not in shown]
    said = [of_line(line).scaled(scale) for line in lines]
    return encoded(cover(hide(small, hidden), masks_over(said, Method.SOLID, *size)))


def encoded(rgb: Pixels, kind: Format = "JPEG", quality: int = 85) -> bytes:
    """uint8 [H,W,3] RGB as a file with pixels only: no EXIF, no comment, no colour profile."""
    options = {
        "JPEG": [cv2.IMWRITE_JPEG_QUALITY, quality],
        "WEBP": [cv2.IMWRITE_WEBP_QUALITY, quality],
        "PNG": [cv2.IMWRITE_PNG_COMPRESSION, 3],
    }
    suffix = {"JPEG": ".jpg", "WEBP": ".webp", "PNG": ".png"}[kind]
    done, content = cv2.imencode(suffix, cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options[kind])
    if not done:
        raise ValueError(f"cannot write {kind} of {rgb.shape[1]}×{rgb.shape[0]}")
    return content.tobytes()
