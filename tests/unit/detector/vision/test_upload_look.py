"""What an upload's quick look finds, and what is left of it when it is covered."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.detector.adapters.models import Box
from services.detector.adapters.uploads_look import metadata_of, mostly_inside, zero
from services.detector.domain.uploads import Mask, Method


def test_a_face_counts_as_in_a_mask_when_most_of_it_is() -> None:
    mask = Mask(100, 100, 50, 50, Method.MOSAIC)
    assert mostly_inside(Box(110, 110, 140, 140, 0.9), mask)
    assert not mostly_inside(Box(90, 90, 210, 210, 0.9), mask)
    assert not mostly_inside(Box(0, 0, 20, 20, 0.9), mask)


def test_decoded_pixels_are_overwritten_where_they_can_be() -> None:
    mine = np.full((4, 5, 3), 7, np.uint8)
    borrowed: NDArray[np.uint8] = np.frombuffer(b"\x07" * 60, np.uint8).reshape(4, 5, 3)
    assert 60 == zero([mine, borrowed])
    assert (0, 7) == (int(mine.max()), int(borrowed.max()))


def exif() -> bytes:
    words = Image.Exif()
    words[0x010E] = "words"
    return words.tobytes()


@pytest.mark.parametrize(
    ("options", "names"),
    [({}, []), ({"comment": b"words"}, ["comment"]), ({"exif": exif()}, ["exif", "270"])],
)
def test_what_a_file_carries_besides_its_pixels_is_named(options: dict[str, bytes], names: list[str]) -> None:
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, "JPEG", **options)
    assert names == metadata_of(out.getvalue())
