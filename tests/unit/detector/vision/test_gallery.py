"""Whether the fast index finds what the obvious one finds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.detector.adapters.codes import Codes
from services.detector.adapters.gallery import (
    Entry,
    ExactGallery,
    FaissGallery,
    Gallery,
    GalleryRules,
    read_gallery_rules,
)

DIMENSION = 16
RULES = read_gallery_rules()
SMALL = replace(RULES, segment_templates=6, together_from_probes=3)


def segmented(model_id: str, dimension: int) -> FaissGallery:
    """Segments of six templates, Flat."""
    return FaissGallery(model_id, dimension, SMALL)


def quantised(model_id: str, dimension: int) -> FaissGallery:
    """Segments of six templates, SQ8 from twelve on."""
    return FaissGallery(model_id, dimension, replace(SMALL, sq8_from=12))


def copied(model_id: str, dimension: int) -> FaissGallery:
    """Segments searched in copies, as on a GPU."""
    return FaissGallery(model_id, dimension, SMALL, place=faiss.clone_index)


Make = Callable[[str, int], Gallery]
FAST: list[Make] = [FaissGallery, segmented, quantised, copied]
MAKERS: list[Make] = [ExactGallery, *FAST]


def unit(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def entry(number: int, subscriber: int | None = None, vector: int | None = None) -> Entry:
    whose = number if subscriber is None else subscriber
    seed = number if vector is None else vector
    return Entry(f"t{number}", f"s{whose}", unit(seed), unit(seed + 5000), minor=whose % 2 == 0)


STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "renew", "remove", "replace"]), st.lists(st.integers(0, 60), max_size=20)),
    max_size=12,
)


def do(gallery: Gallery, step: str, numbers: list[int]) -> None:
    match step:
        case "add":
            gallery.add(entry(n, n % 7) for n in numbers)
        case "renew":
            gallery.add(entry(n, n % 7, n + 300) for n in numbers)
        case "remove":
            gallery.remove(f"t{n}" for n in numbers)
        case _:
            gallery.replace(entry(n, n % 7) for n in numbers)


@pytest.mark.parametrize("make", FAST)
@settings(deadline=None, max_examples=60)
@given(steps=STEPS, k=st.integers(1, 16), many=st.booleans())
@pytest.mark.slow
def test_the_fast_gallery_answers_as_the_exact_one(
    make: Make, steps: list[tuple[str, list[int]]], k: int, many: bool
) -> None:
    exact, fast = ExactGallery("m", DIMENSION), make("m", DIMENSION)
    for step, numbers in steps:
        do(exact, step, numbers)
        do(fast, step, numbers)
    probes = np.stack([unit(1000 + n) for n in range(5 if many else 2)])
    expected, actual = exact.search(probes, k), fast.search(probes, k)
    assert (len(exact), exact.version) == (len(fast), fast.version)
    # Beside SQ8 vectors are kept as fixed-point numbers.
    error = 1e-3 if make is quantised else 1e-5
    for wanted, found in zip(expected, actual, strict=True):
        assert len(wanted) == len(found) == len({c.subscriber_id for c in found})
        assert np.allclose([c.score for c in wanted], [c.score for c in found], atol=error)
        if make is not quantised:
            assert [c.template_id for c in wanted] == [c.template_id for c in found]
    for number in range(61):
        wanted_entry, found_entry = exact.entry(f"t{number}"), fast.entry(f"t{number}")
        assert (wanted_entry is None) == (found_entry is None)
        if wanted_entry is not None and found_entry is not None:
            assert (wanted_entry.subscriber_id, wanted_entry.minor) == (found_entry.subscriber_id, found_entry.minor)
            assert np.allclose(wanted_entry.vector, found_entry.vector, atol=error)
            assert wanted_entry.second is not None and found_entry.second is not None
            assert np.allclose(wanted_entry.second, found_entry.second, atol=error)


@pytest.mark.parametrize("make", MAKERS)
def test_each_subscriber_comes_once_with_its_best_template(make: Make) -> None:
    gallery = make("m", DIMENSION)
    gallery.add([entry(n, subscriber=1) for n in range(100)] + [entry(200, subscriber=2)])
    found = gallery.search(unit(5)[np.newaxis], 2)[0]
    assert [c.subscriber_id for c in found] == ["s1", "s2"]
    assert found[0].template_id == "t5"


@pytest.mark.parametrize("make", MAKERS)
def test_a_removed_template_is_never_found_again(make: Make) -> None:
    gallery = make("m", DIMENSION)
    gallery.add([entry(1), entry(2)])
    assert gallery.remove(["t1", "unknown"]) == 1
    assert [c.template_id for c in gallery.search(unit(1)[np.newaxis], 5)[0]] == ["t2"]
    assert gallery.entry("t1") is None


@pytest.mark.parametrize("make", MAKERS)
def test_a_template_added_again_replaces_itself(make: Make) -> None:
    gallery = make("m", DIMENSION)
    gallery.add([entry(1)])
    gallery.add([Entry("t1", "s9", unit(9))])
    assert (len(gallery), gallery.search(unit(9)[np.newaxis], 1)[0][0].subscriber_id) == (1, "s9")


@pytest.mark.parametrize("make", MAKERS)
def test_an_empty_gallery_finds_nobody(make: Make) -> None:
    assert make("m", DIMENSION).search(np.stack([unit(1), unit(2)]), 3) == [[], []]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("vector", [np.zeros(DIMENSION), np.full(DIMENSION, np.nan), np.ones(3)])
def test_what_is_no_unit_vector_is_refused(
    make: Make, vector: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="t1: not a unit vector"):
        make("m", DIMENSION).add([Entry("t1", "s1", vector.astype(np.float32))])


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("k", [0, 17])
def test_the_number_of_candidates_is_bounded(make: Make, k: int) -> None:
    with pytest.raises(ValueError, match="k must be"):
        make("m", DIMENSION).search(unit(1)[np.newaxis], k)


@pytest.mark.parametrize("make", FAST)
def test_a_removed_template_leaves_no_vector_behind(make: Make) -> None:
    gallery = make("m", DIMENSION)
    assert isinstance(gallery, FaissGallery)
    gallery.add(entry(n) for n in range(20))
    gallery.remove(["t3"])
    vectors = np.concatenate([segment.vectors(np.arange(segment.count)) for segment in gallery._shelf.segments])
    assert not np.any(np.abs(vectors @ unit(3) - 1) < 1e-2)
    for segment in gallery._shelf.segments:
        if segment.codec is not None:
            assert not np.any(np.abs(segment.codec.reconstruct_n(0, segment.count) @ unit(3)) > 0.9)


def test_a_gallery_that_lost_half_of_its_templates_is_rewritten() -> None:
    gallery = quantised("m", DIMENSION)
    gallery.add(entry(n) for n in range(60))
    gallery.remove(f"t{n}" for n in range(50))
    assert len(gallery) == 10
    assert gallery._shelf.labels <= 20
    assert [f"t{n}" for n in range(50, 60)] == [
        gallery.search(unit(n)[np.newaxis], 1)[0][0].template_id for n in range(50, 60)
    ]


def test_sq8_finds_the_nearest_of_clustered_faces() -> None:
    chance = np.random.default_rng(7)
    people = chance.normal(size=(1500, 128))
    faces = np.repeat(people, 3, axis=0) + 0.7 * chance.normal(size=(4500, 128))
    faces = (faces / np.linalg.norm(faces, axis=1, keepdims=True)).astype(np.float32)
    seen = people[:1000] + 0.9 * chance.normal(size=(1000, 128))
    probes = (seen / np.linalg.norm(seen, axis=1, keepdims=True)).astype(np.float32)
    gallery = FaissGallery("m", 128, replace(RULES, segment_templates=1000, sq8_from=1000, together_from_probes=600))
    gallery.add(Entry(f"t{n}", f"s{n // 3}", vector) for n, vector in enumerate(faces))
    nearest = [f"t{n}" for n in np.argmax(probes @ faces.T, axis=1)]
    batches = (probes[:200], probes[200:])  # by the SQ8 index, and all at once
    found = [row[0].template_id for batch in batches for row in gallery.search(batch, 4)]
    assert np.mean([a == b for a, b in zip(nearest, found, strict=True)]) >= 0.999


@settings(deadline=None, max_examples=60)
@given(
    people=st.lists(st.integers(0, 40), min_size=1, max_size=150),
    probes=st.lists(st.integers(0, 60), min_size=2, max_size=9),
    k=st.integers(1, 16),
    gone=st.sets(st.integers(0, 149), max_size=40),
)
def test_probes_searched_together_find_what_each_finds_alone(
    people: list[int], probes: list[int], k: int, gone: set[int]
) -> None:
    gallery = quantised("m", DIMENSION)  # people come again, with the same vector: ties
    gallery.add(entry(n, subscriber=n % 50, vector=person) for n, person in enumerate(people))
    gallery.remove(f"t{n}" for n in gone)
    asked = np.stack([unit(n) for n in probes])
    assert [gallery.search(one[np.newaxis], k)[0] for one in asked] == gallery.search(asked, k)


def test_codes_compared_as_integers_are_never_further_off_than_they_say() -> None:
    chance = np.random.default_rng(3)
    vectors = chance.normal(size=(3000, 96)) * np.linspace(2, 0.1, 96)
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    codec = faiss.IndexScalarQuantizer(96, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT)
    codec.train(vectors)
    codec.add(vectors)
    estimate = Codes(codec).estimate(vectors[:40])
    expected = codec.reconstruct_n(0, 3000) @ vectors[:40].T
    off = np.abs(estimate.products * estimate.scale + estimate.shift - expected)
    assert np.all(off <= estimate.error)
    assert estimate.error.max() < 0.001  # and what they say is worth something


def test_repr_shows_no_vector_and_no_score() -> None:
    gallery = ExactGallery("m", DIMENSION)
    gallery.add([entry(1)])
    found = gallery.search(unit(1)[np.newaxis], 1)[0][0]
    assert repr(found) == "Candidate(subscriber_id='s1', template_id='t1', minor=False)"
    assert "array" not in repr(entry(1))


@pytest.mark.parametrize(
    "wrong", [{"segment_templates": 0}, {"threads": 0}, {"sq8_from": -1}, {"wait_seconds": 0}, {"unknown": 1}]
)
def test_rules_out_of_range_or_unknown_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        GalleryRules.read(asdict(RULES) | wrong)
