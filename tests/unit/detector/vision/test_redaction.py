"""What a redacted picture still shows."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from services.detector.adapters.images import read_picture
from services.detector.adapters.redaction import (
    STANDARD,
    RedactionRules,
    Region,
    cover,
    encoded,
    hide,
    masks_over,
    of_face,
    thumbnail,
    uncovered,
)
from services.detector.adapters.rules import read_rules
from services.detector.domain.uploads import Mask, Method

Pixels = NDArray[np.uint8]


def test_a_hidden_region_keeps_a_few_colours_and_the_rest_is_untouched(scenery: Pixels) -> None:
    hidden = hide(scenery, [Region(40, 60, 140, 180)])
    inside = hidden[60:180, 40:140].reshape(-1, 3)
    assert len(np.unique(inside, axis=0)) <= STANDARD.cells**2
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


def test_the_rules_shipped_are_those_that_thumbnails_follow() -> None:
    assert STANDARD == read_rules().redaction


def test_what_a_record_says_gives_the_same_picture_again(scenery: Pixels) -> None:
    masks = [Mask(20, 30, 90, 120, Method.MOSAIC), Mask(60, 100, 100, 40, Method.SOLID)]
    again = RedactionRules.from_parameters(STANDARD.parameters())
    assert np.array_equal(cover(scenery, masks, STANDARD), cover(scenery.copy(), masks, again))


def test_a_solid_mask_holds_one_colour_where_both_overlap(scenery: Pixels) -> None:
    masks = [Mask(20, 30, 90, 120, Method.MOSAIC), Mask(60, 100, 100, 40, Method.SOLID)]
    covered = cover(scenery, masks)
    assert 1 == len(np.unique(covered[100:140, 60:160].reshape(-1, 3), axis=0))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_masks_are_known_as_covered_after_saving_and_only_those(
    kind: Literal["JPEG", "PNG", "WEBP"], scenery: Pixels
) -> None:
    masks = [Mask(20, 30, 90, 120, Method.MOSAIC), Mask(60, 100, 100, 40, Method.SOLID)]
    saved = read_picture(encoded(cover(scenery, masks), kind, STANDARD.quality)).pixels
    assert [] == uncovered(saved, masks, STANDARD)
    elsewhere = Mask(180, 30, 90, 120, Method.MOSAIC)
    assert [elsewhere] == uncovered(saved, [*masks, elsewhere], STANDARD)
    outside = Mask(scenery.shape[1] - 10, 0, 50, 50, Method.SOLID)
    assert [outside] == uncovered(saved, [outside], STANDARD)


def test_a_face_is_covered_with_its_hair_and_within_the_picture() -> None:
    [mask] = masks_over([of_face(Region(10, 40, 50, 90))], Method.MOSAIC, 640, 480)
    assert (mask.x, mask.y) == (0, 20)
    assert mask.y + mask.height >= 100


@pytest.mark.parametrize("change", [{"cells": 1}, {"levels": 1}, {"quality": 0}, {"face_top": -0.1}, {"unknown": 1}])
def test_rules_that_cannot_be_followed_are_refused(change: dict[str, float]) -> None:
    values = {name: type(getattr(STANDARD, name))(value) for name, value in STANDARD.parameters()}
    with pytest.raises(ValueError, match="redaction"):
        RedactionRules.read(values | change)
