"""What a redacted picture still shows."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.detector.adapters.images import read_picture
from services.detector.adapters.redaction import CELLS, Region, encoded, hide, thumbnail

Pixels = NDArray[np.uint8]


def test_a_hidden_region_keeps_a_few_colours_and_the_rest_is_untouched(scenery: Pixels) -> None:
    hidden = hide(scenery, [Region(40, 60, 140, 180)])
    inside = hidden[60:180, 40:140].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) <= CELLS * CELLS
    outside = np.ones(scenery.shape[:2], bool)
    outside[60:180, 40:140] = False
    assert np.array_equal(scenery[outside], hidden[outside])


def test_details_below_a_cell_do_not_change_what_is_shown() -> None:
    flat = np.full((120, 120, 3), 100, np.uint8)
    marked = flat.copy()
    marked[::2, ::2] = 104
    region = [Region(0, 0, 120, 120)]
    assert np.array_equal(hide(flat, region), hide(marked, region))


def test_the_original_is_not_changed(scenery: Pixels) -> None:
    before = scenery.copy()
    hide(scenery, [Region(0, 0, 50, 50)])
    assert np.array_equal(before, scenery)


def test_regions_outside_the_picture_are_cut(scenery: Pixels) -> None:
    hidden = hide(scenery, [Region(-50, -50, 20, 20), Region(900, 900, 950, 950), Region(10, 10, 10, 10)])
    assert np.array_equal(scenery[20:, 20:], hidden[20:, 20:])


def test_a_thumbnail_is_small_and_shows_the_subscriber_alone(scenery: Pixels) -> None:
    large = np.asarray(cv2.resize(scenery, (1280, 960)), np.uint8)
    faces = [Region(100, 100, 400, 400), Region(800, 500, 1100, 800)]
    data = thumbnail(large, faces, shown=[0])
    picture = read_picture(data)
    assert (picture.full_width, picture.full_height, picture.fields) == (320, 240, ())
    small = np.asarray(cv2.resize(large, (320, 240), interpolation=cv2.INTER_AREA), np.int16)
    difference = np.abs(picture.pixels - small).mean(axis=2)
    assert difference[25:100, 25:100].mean() < 12 < 20 < difference[125:200, 200:275].mean()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_encoded_files_carry_nothing_but_pixels(
    kind: Literal["JPEG", "PNG", "WEBP"], scenery: Pixels
) -> None:
    picture = read_picture(encoded(scenery, kind))
    assert (picture.format, picture.pixels.shape, picture.fields) == (kind, scenery.shape, ())
