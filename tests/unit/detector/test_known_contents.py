"""Ten thousand earlier contents at once say what comparing with each of them says."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.detector.adapters.fingerprints import Fingerprint, fingerprint
from services.detector.adapters.known_contents import KnownPictures, KnownTexts, Rows, Votes, least
from services.detector.adapters.rules import RULES
from services.detector.adapters.same_picture import compare, least_distances, read_rules
from services.detector.domain.clusters import MOST_ALSO
from services.detector.domain.text_similarity import TextDedupRule, signature
from services.detector.evaluate_dedup.transforms import CLASSES, PLAIN, transforms
from tests.unit.detector.vision.conftest import paint

PICTURES = read_rules()
TEXTS = TextDedupRule.parse((RULES / "dedup_text.yaml").read_text(encoding="utf-8"))
CHANGES = ["jpeg 30", "crop 10 %", "rotate 5°", "mirror", "caption bar", "screenshot", "mirrored screenshot"]


def kept(of: Fingerprint) -> Fingerprint:
    return Fingerprint.from_bytes(of.to_bytes())


@pytest.fixture(scope="module")
def originals():
    return [paint(seed, 300, 400) for seed in range(8)]


@pytest.fixture(scope="module")
def stored(originals):
    return [kept(fingerprint(bytes([at]), rgb)) for at, rgb in enumerate(originals)]


@pytest.fixture(scope="module")
def known(stored):
    return holding(stored)


def holding(prints: list[Fingerprint]) -> KnownPictures:
    index = KnownPictures(PICTURES)
    for at, each in enumerate(prints):
        index.add(f"c{at}", each)
    return index


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.slow
def test_all_at_once_find_what_one_by_one_finds(originals, stored, known, change):
    for at, rgb in enumerate(originals[:4]):
        new = fingerprint(b"new", np.ascontiguousarray(transforms()[change](rgb)))
        verdicts = [compare(new, other, PICTURES) for other in stored]
        each = {f"c{n}" for n, verdict in enumerate(verdicts) if verdict.near_duplicate}
        assert each == {near.cluster_id for near in known.near(new)}, at


def test_of_a_cluster_with_many_copies_the_nearest_is_named_once(originals):
    index = KnownPictures(PICTURES)
    for change in list(CLASSES[PLAIN])[:8]:
        index.add("one", kept(fingerprint(change.encode(), np.ascontiguousarray(transforms()[change](originals[0])))))
    [near] = index.near(fingerprint(b"new", originals[0]))
    assert ("one", 0) == (near.cluster_id, near.distance_milli)


def test_a_screenshot_of_what_was_posted_a_thousand_times_is_found(originals, stored):
    index = holding(stored)
    for _ in range(1_000):
        index.add("c0", stored[0])
    found = index.near(fingerprint(b"new", transforms()["screenshot"](originals[0])))
    assert ["c0"] == [near.cluster_id for near in found]


def test_no_more_clusters_are_named_than_a_placement_holds(originals, stored):
    index = holding([stored[0]] * 20)
    assert MOST_ALSO + 1 == len(index.near(fingerprint(b"new", originals[0])))


def test_what_was_forgotten_is_not_found_and_the_rest_still_is(stored):
    index = holding(stored)
    index.forget(5)
    assert 3 == len(index)
    assert [[]] * 5 + [["c5"], ["c6"], ["c7"]] == [[near.cluster_id for near in index.near(each)] for each in stored]
    index.forget(3)
    index.add("again", stored[0])
    assert ["again"] == [near.cluster_id for near in index.near(stored[0])]


def test_nothing_is_near_where_nothing_is_known(originals):
    assert [] == KnownPictures(PICTURES).near(fingerprint(b"new", originals[0]))
    assert [] == KnownTexts(TEXTS).near(signature("어제 본 영화 정말 재미있었어요. 배우들 연기도 좋고."))


@settings(max_examples=60)
@given(st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=30), st.lists(st.integers(0, 40), max_size=12))
def test_votes_count_the_words_that_are_shared(pictures, asked):
    votes = Votes(most_beside=4)
    for words in pictures:
        votes.add(np.array(words, np.uint32))
    assert [len(set(words) & set(asked)) for words in pictures] == votes.of(np.array(asked, np.uint32)).tolist()


_CODES = st.lists(st.integers(0, 2**64 - 1), max_size=40)


@given(_CODES.filter(bool), _CODES)
def test_the_distance_of_two_codes_is_the_bits_in_which_they_differ(new, known):
    expected = [min((one ^ other).bit_count() for one in new) for other in known]
    assert expected == least_distances(np.array(new, np.uint64), np.array(known, np.uint64)).tolist()


@given(st.lists(st.integers(0, 128), max_size=60), st.integers(1, 40), st.integers(0, 128))
def test_the_nearest_come_first_and_none_is_beyond_the_bound(distances, most, furthest):
    expected = sorted((each, at) for at, each in enumerate(distances) if each <= furthest)[:most]
    assert [at for _, at in expected] == least(np.array(distances, np.uint16), most, furthest).tolist()


@given(st.lists(st.tuples(st.sampled_from(["add", "forget"]), st.integers(0, 5)), max_size=60))
def test_rows_are_a_list_that_forgets_at_its_beginning(steps):
    rows, model = Rows((), np.int64), []
    for step, value in steps:
        if step == "add":
            rows.add(value)
            model.append(value)
        else:
            count = min(value, len(model))
            rows.forget(count)
            del model[:count]
        assert model == rows.all.tolist()


_WORDS = st.sampled_from(["판매자", "연락처", "조심", "하세요", "계좌", "서울", "010-2345-6789", "20,000", "hello"])


@settings(max_examples=60)
@given(st.lists(st.lists(_WORDS, min_size=1, max_size=14).map(" ".join), min_size=1, max_size=8), st.randoms())
@pytest.mark.slow
def test_texts_all_at_once_are_those_one_by_one(texts, chance):
    index = KnownTexts(TEXTS)
    for at, text in enumerate(texts):
        index.add(f"c{at}", signature(text))
    new = signature(chance.choice(texts) + " " + chance.choice(texts))
    expected = {f"c{at}" for at, text in enumerate(texts) if TEXTS.same(new, signature(text))}
    assert expected == {near.cluster_id for near in index.near(new)}


def test_a_face_alone_brings_a_picture_among_the_few_that_are_compared(originals):
    index = KnownPictures(PICTURES)
    face = np.asarray(cv2.resize(originals[3], (112, 112)), np.uint8)
    for at, rgb in enumerate(originals):
        other = np.asarray(cv2.resize(originals[at], (112, 112)), np.uint8)
        index.add(f"c{at}", kept(fingerprint(bytes([at]), rgb, [other])))
    blank = np.full((300, 400, 3), 200, np.uint8)
    for crop in (face, np.ascontiguousarray(face[:, ::-1])):
        found = index.near(fingerprint(b"new", blank, [crop]))
        assert [("c3", "FACE")] == [(near.cluster_id, near.rule) for near in found]
