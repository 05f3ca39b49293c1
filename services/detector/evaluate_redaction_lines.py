"""Whether text that was covered can still be read, and how much of it the masks cover: `eval redaction --lines`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.images import read_picture
from services.detector.adapters.redaction import Region
from services.detector.adapters.uploads_look import PictureRedactor
from services.detector.domain.decisions import IdentifierKind
from services.detector.domain.picture_text import Quad
from services.detector.domain.uploads import IMAGE, Finding, Mask, Subject
from services.detector.evaluate_ocr import Label
from services.detector.ports import TextReader

LEAST_OVERLAP = 0.98
Ground = NDArray[np.uint8]
_UPLOADED = frozenset({".jpg", ".jpeg", ".png", ".webp"})


@dataclass
class _Lines:
    """Sums over pictures."""

    pictures: int = 0
    labelled: int = 0
    masks: int = 0
    area: int = 0
    area_covered: int = 0
    digits_before: int = 0
    digits_in_masks: int = 0
    digits_beside_masks: int = 0

    def report(self) -> dict[str, float | int | None]:
        """The figures; the share of the labelled lines' area that lies under masks."""
        recall = round(self.area_covered / self.area, 4) if self.area else None
        return {**vars(self), "overlap_recall": recall}


def evaluate_lines(labels: Iterable[Label], reader: TextReader, redactor: PictureRedactor) -> dict[str, object]:
    """Covers every line that is found in each picture, as an upload's lines with personal data are, and reads again.

    A digit counts as read in a mask where the middle of its line lies in one.
    """
    sums = _Lines()
    for label in labels:
        if label.file.suffix.lower() not in _UPLOADED:
            continue
        content = label.file.read_bytes()
        picture = read_picture(content)
        size = picture.full_width, picture.full_height
        findings = []
        for quad in reader.find(picture.pixels):
            place = Region(*quad.bounds).within(*size)
            if place is not None:
                findings.append(Finding(Subject.DATA, IMAGE, place, IdentifierKind.MOBILE_PHONE))
        sums.digits_before += sum(_digits(line.text) for line in reader.read(picture.pixels).written.lines)
        made = redactor.redact(content, "", findings)
        for line in reader.read(read_picture(made.image).pixels).written.lines:
            if _in_a_mask(line.quad, made.masks):
                sums.digits_in_masks += _digits(line.text)
            else:
                sums.digits_beside_masks += _digits(line.text)
        sums.pictures += 1
        sums.masks += len(made.masks)
        sums.labelled += len(label.lines)
        _count_overlap(sums, label, made.masks, size)
    return {"reader": reader.reader_id, **sums.report()}


def _digits(text: str) -> int:
    return sum(char.isdecimal() for char in text)


def _in_a_mask(quad: Quad, masks: Sequence[Mask]) -> bool:
    x, y = quad.centre
    return any(mask.x <= x < mask.x + mask.width and mask.y <= y < mask.y + mask.height for mask in masks)


def _count_overlap(sums: _Lines, label: Label, masks: Sequence[Mask], size: tuple[int, int]) -> None:
    covered: Ground = np.zeros(size[::-1], np.uint8)
    for mask in masks:
        covered[mask.y : mask.y + mask.height, mask.x : mask.x + mask.width] = 1
    for line in label.lines:
        own = np.zeros_like(covered)
        cv2.fillPoly(own, [np.round(np.array(line.quad.corners)).astype(np.int32)], (1,))
        sums.area += int(own.sum())
        sums.area_covered += int((own & covered).sum())


def holds(report: Mapping[str, object]) -> bool:
    """Whether no digit was read in a mask, and the masks cover what was labelled of lines."""
    recall = report["overlap_recall"]
    return report["digits_in_masks"] == 0 and (not isinstance(recall, float) or recall >= LEAST_OVERLAP)
