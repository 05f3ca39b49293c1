"""Whether the fast index finds what the obvious one finds."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.detector.adapters.gallery import Entry, ExactGallery, FaissGallery, Gallery

DIMENSION = 16
MAKERS: list[Callable[[str, int], Gallery]] = [ExactGallery, FaissGallery]


def unit(seed: int) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def entry(number: int, subscriber: int | None = None) -> Entry:
    return Entry(f"t{number}", f"s{number if subscriber is None else subscriber}", unit(number))


@settings(deadline=None, max_examples=60)
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("add"), st.lists(st.integers(0, 60), max_size=12)),
            st.tuples(st.just("remove"), st.lists(st.integers(0, 60), max_size=12)),
            st.tuples(st.just("replace"), st.lists(st.integers(0, 60), max_size=20)),
        ),
        max_size=6,
    ),
    k=st.integers(1, 16),
)
def test_the_fast_gallery_answers_as_the_exact_one(steps: list[tuple[str, list[int]]], k: int) -> None:
    exact, fast = ExactGallery("m", DIMENSION), FaissGallery("m", DIMENSION)
    for step, numbers in steps:
        for gallery in (exact, fast):
            match step:
                case "add":
                    gallery.add(entry(n, n % 7) for n in numbers)
                case "remove":
                    gallery.remove(f"t{n}" for n in numbers)
                case _:
                    gallery.replace(entry(n, n % 7) for n in numbers)
    probes = np.stack([unit(1000 + n) for n in range(5)])
    expected, actual = exact.search(probes, k), fast.search(probes, k)
    assert (len(exact), exact.version) == (len(fast), fast.version)
    assert [[c.template_id for c in row] for row in expected] == [
        [c.template_id for c in row] for row in actual
    ]
    scores = [np.array([c.score for c in row]) for row in expected + actual]
    assert all(np.allclose(a, b, atol=1e-5) for a, b in zip(scores[:5], scores[5:], strict=True))


@pytest.mark.parametrize("make", MAKERS)
def test_each_subscriber_comes_once_with_its_best_template(make: Callable[[str, int], Gallery]) -> None:
    gallery = make("m", DIMENSION)
    gallery.add([entry(n, subscriber=1) for n in range(100)] + [entry(200, subscriber=2)])
    found = gallery.search(unit(5)[np.newaxis], 2)[0]
    assert [c.subscriber_id for c in found] == ["s1", "s2"]
    assert found[0].template_id == "t5"


@pytest.mark.parametrize("make", MAKERS)
def test_a_removed_template_is_never_found_again(make: Callable[[str, int], Gallery]) -> None:
    gallery = make("m", DIMENSION)
    gallery.add([entry(1), entry(2)])
    assert gallery.remove(["t1", "unknown"]) == 1
    assert [c.template_id for c in gallery.search(unit(1)[np.newaxis], 5)[0]] == ["t2"]
    assert gallery.entry("t1") is None


@pytest.mark.parametrize("make", MAKERS)
def test_a_template_added_again_replaces_itself(make: Callable[[str, int], Gallery]) -> None:
    gallery = make("m", DIMENSION)
    gallery.add([entry(1)])
    gallery.add([Entry("t1", "s9", unit(9))])
    assert (len(gallery), gallery.search(unit(9)[np.newaxis], 1)[0][0].subscriber_id) == (1, "s9")


@pytest.mark.parametrize("make", MAKERS)
def test_an_empty_gallery_finds_nobody(make: Callable[[str, int], Gallery]) -> None:
    assert make("m", DIMENSION).search(np.stack([unit(1), unit(2)]), 3) == [[], []]


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("vector", [np.zeros(DIMENSION), np.full(DIMENSION, np.nan), np.ones(3)])
def test_what_is_no_unit_vector_is_refused(
    make: Callable[[str, int], Gallery], vector: NDArray[np.float64]
) -> None:
    with pytest.raises(ValueError, match="t1: not a unit vector"):
        make("m", DIMENSION).add([Entry("t1", "s1", vector.astype(np.float32))])


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("k", [0, 17])
def test_the_number_of_candidates_is_bounded(make: Callable[[str, int], Gallery], k: int) -> None:
    with pytest.raises(ValueError, match="k must be"):
        make("m", DIMENSION).search(unit(1)[np.newaxis], k)


def test_a_search_sees_the_old_or_the_new_gallery_while_it_is_replaced() -> None:
    gallery = FaissGallery("m", DIMENSION)
    old, new = [entry(n, subscriber=1) for n in range(50)], [entry(n, subscriber=2) for n in range(50)]
    gallery.replace(old)
    seen: set[frozenset[str]] = set()
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            rows = gallery.search(np.stack([unit(n) for n in range(8)]), 5)
            seen.update(frozenset(c.subscriber_id for c in row) for row in rows)

    reader = threading.Thread(target=look)
    reader.start()
    for _ in range(20):
        gallery.replace(new)
        gallery.replace(old)
    done.set()
    reader.join()
    assert seen <= {frozenset({"s1"}), frozenset({"s2"})}


def test_repr_shows_no_vector_and_no_score() -> None:
    gallery = ExactGallery("m", DIMENSION)
    gallery.add([entry(1)])
    found = gallery.search(unit(1)[np.newaxis], 1)[0][0]
    assert repr(found) == "Candidate(subscriber_id='s1', template_id='t1', minor=False)"
    assert "array" not in repr(entry(1))
