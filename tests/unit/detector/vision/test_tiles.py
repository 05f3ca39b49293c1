"""Whether tiles cover a large picture within their bound, and whether faces that only they show are found once."""

from __future__ import annotations

from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.detector.adapters.analysis import ENOUGH_PIXELS, larger_of
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.images import read_picture
from services.detector.adapters.models import Box
from services.detector.adapters.tiles import TileRules, joined, read_tile_rules

from .conftest import PICTURES, paint

RULES = read_tile_rules()


@given(height=st.integers(64, 8000), width=st.integers(64, 8000), seen=st.sampled_from([960, 1280]))
def test_tiles_cover_the_picture_within_their_bound(height: int, width: int, seen: int) -> None:
    scale = RULES.scale(height, width, seen)
    longest = max(height, width)
    if scale is None:
        smaller = RULES.least_gain * min(seen, longest) / longest
        assert smaller > 1 or len(list(RULES.places(height, width, smaller))) > RULES.most
        return
    places = list(RULES.places(height, width, scale))
    assert len(places) <= RULES.most and scale * longest >= RULES.least_gain * min(seen, longest) - 1
    for first, second, length in ((0, 2, width), (1, 3, height)):
        stretches = sorted({(place[first], place[second]) for place in places})
        assert (stretches[0][0], stretches[-1][1]) == (0, length)
        for one, next_ in pairwise(stretches):
            assert one[1] - next_[0] >= RULES.overlap / scale - 2  # a face of that size is whole in one of them
    tall, wide = (RULES.short_side, RULES.long_side) if width >= height else (RULES.long_side, RULES.short_side)
    assert all((b - t) * scale <= tall + 2 and (r - x) * scale <= wide + 2 for x, t, r, b in places)


def test_a_picture_that_was_seen_nearly_at_full_size_has_no_tiles() -> None:
    assert RULES.scale(960, 1280, 1280) is None
    assert RULES.scale(1080, 1920, 960) is None and RULES.scale(1921, 1921, 960) is None
    assert replace(RULES, most=0).scale(5475, 7300, 1280) is None


def test_a_face_that_both_looks_show_is_counted_once() -> None:
    small, large, seen_by_both = Box(0, 0, 20, 20, 0.9), Box(100, 100, 300, 300, 0.9), Box(1, 1, 21, 21, 0.8)
    large_again, new = Box(105, 105, 305, 305, 0.9), Box(500, 500, 512, 512, 0.7)
    assert joined([small, large], [seen_by_both, large_again, new], 48.0) == ([1], [0, 2])


@pytest.mark.parametrize("wrong", [{"overlap": 2000}, {"most": -1}, {"least_gain": 0.5}, {"unknown": 1}])
def test_rules_of_tiles_out_of_range_or_unknown_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        TileRules.read(asdict(RULES) | wrong)


def scene(width: int, height: int, side: int, at: tuple[int, int]) -> bytes:
    """A JPEG of smooth colours with one small portrait, whose face is about `side` pixels wide."""
    file = Path(PICTURES) / "obama.jpg"
    if not file.exists():
        pytest.skip("no demo pictures in .cache: run `make models`")
    portrait = cv2.imread(str(file))
    shrunk = side / 0.38 / portrait.shape[1]  # share of the portrait's width that is face
    small = cv2.resize(portrait, None, fx=shrunk, fy=shrunk, interpolation=cv2.INTER_AREA)
    canvas = np.ascontiguousarray(paint(3, height, width))
    canvas[at[1] : at[1] + small.shape[0], at[0] : at[0] + small.shape[1]] = small
    return cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


@pytest.mark.slow
def test_a_small_face_in_a_picture_that_is_decoded_at_a_fraction_is_found(engine: FaceEngine) -> None:
    data = scene(2800, 2100, 30, (1500, 900))
    picture = read_picture(data, ENOUGH_PIXELS)
    assert picture.pixels.shape[1] == 1400
    assert engine.analyse_many([picture.pixels]) == [[]]
    [[face]] = engine.analyse_many([picture.pixels], [larger_of(data, picture)])
    assert 740 <= face.box.left <= 790 and 440 <= face.box.top <= 490  # in pixels of the picture as it was handed in
    assert face.box.width < 12 < 18 < face.quality.side_px  # measured where it was looked at


def test_what_others_used_up_makes_the_look_coarser_and_then_none() -> None:
    scales = [RULES.scale(5475, 7300, 1280, left) for left in (60, 30, 16, 3, 0)]
    assert scales[0] == scales[1] and scales[1:3] == sorted(scales[1:3], reverse=True)
    assert scales[3:] == [None, None]


def test_what_the_whole_shows_well_costs_no_second_reading(engine: FaceEngine) -> None:
    data = scene(2400, 1800, 500, (100, 100))
    picture = read_picture(data, ENOUGH_PIXELS)

    def read() -> None:
        raise AssertionError("the picture was read again")

    larger = replace(larger_of(data, picture), read=read)
    assert len(engine.analyse_many([picture.pixels], [larger])[0]) == 1
