"""Whether the gallery can be searched from several threads while it changes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest

from services.detector.adapters.gallery import Entry, FaissGallery, _Turns, read_gallery_rules
from services.detector.domain.faces import Candidate

DIMENSION = 16
RULES = replace(read_gallery_rules(), segment_templates=16, sq8_from=40)


def unit(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).normal(size=DIMENSION)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def entries(count: int, subscriber: str) -> list[Entry]:
    return [Entry(f"t{n}", subscriber, unit(n)) for n in range(count)]


class Searching:
    """Threads that search all the time."""

    def __init__(self, gallery: FaissGallery) -> None:
        self._gallery = gallery
        self._done = threading.Event()
        self.answers: list[list[list[Candidate]]] = []

    def __call__(self, seed: int) -> int:
        searches = 0
        while not self._done.is_set():
            self.answers.append(self._gallery.search(np.stack([unit(seed * 8 + n) for n in range(4)]), 3))
            searches += 1
        return searches

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        with ThreadPoolExecutor(count) as pool:
            running = [pool.submit(self, seed) for seed in range(count)]
            try:
                yield
            finally:
                self._done.set()
            assert all(each.result() > 0 for each in running)


@pytest.mark.parametrize("sizes", [(50, 50), (10, 90), (90, 10)])
def test_a_search_sees_the_old_or_the_new_gallery_while_it_is_replaced(sizes: tuple[int, int]) -> None:
    gallery = FaissGallery("m", DIMENSION, RULES)
    old, new = entries(sizes[0], "old"), entries(sizes[1], "new")
    gallery.replace(old)
    searching = Searching(gallery)
    with searching.threads(4):
        for _ in range(10):
            gallery.replace(new)
            gallery.replace(old)
    rows = [frozenset(c.subscriber_id for c in row) for answer in searching.answers for row in answer]
    assert {frozenset({"old"}), frozenset({"new"})} >= set(rows)
    assert all(len(answer) == 4 for answer in searching.answers)


def test_what_stays_is_found_at_every_moment_while_others_come_and_go() -> None:
    gallery = FaissGallery("m", DIMENSION, RULES)
    stays = Entry("stays", "somebody", unit(999))
    gallery.add([stays])
    found: list[str] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            found.extend(row[0].template_id for row in gallery.search(np.stack([unit(999)] * 2), 1))

    reader = threading.Thread(target=look)
    reader.start()
    for turn in range(12):
        gallery.add(entries(100, f"s{turn}"))
        gallery.add([stays])
        gallery.remove(f"t{n}" for n in range(100))
    done.set()
    reader.join()
    assert {"stays"} == set(found)
    assert 1 == len(gallery)


@pytest.mark.slow
def test_an_erased_template_is_found_by_no_search_that_starts_later() -> None:
    gallery = FaissGallery("m", DIMENSION, RULES)
    gallery.add(entries(200, "others"))
    searching = Searching(gallery)
    with searching.threads(3):
        for turn in range(60):
            gallery.add([Entry(f"gone-{turn}", "gone", unit(7))])
            assert f"gone-{turn}" in {c.template_id for c in gallery.search(unit(7)[np.newaxis], 3)[0]}
            gallery.remove([f"gone-{turn}"])
            assert "gone" not in {c.subscriber_id for c in gallery.search(unit(7)[np.newaxis], 16)[0]}


def test_searches_that_wait_are_made_in_one_call() -> None:
    calls: list[int] = []
    first_runs, go_on = threading.Event(), threading.Event()

    def answer(probes: np.ndarray, k: int) -> list[list[Candidate]]:
        calls.append(len(probes))
        first_runs.set()
        go_on.wait(10)
        return [[Candidate(f"s{int(probe[0])}", "t", 1.0, minor=False)] * k for probe in probes]

    turns = _Turns(answer, 8, 10.0)
    with ThreadPoolExecutor(9) as pool:
        answers = [pool.submit(turns.ask, np.full((1, 1), 100.0, np.float32), 1)]
        assert first_runs.wait(10)
        answers += [pool.submit(turns.ask, np.full((n % 2 + 1, 1), n, np.float32), n % 3 + 1) for n in range(8)]
        while len(turns._waiting) < 8:
            pass
        go_on.set()
        found = [each.result() for each in answers]
    assert [1, 12] == [calls[0], sum(calls[1:])]
    assert len(calls) <= 3 and max(calls) <= 8
    assert [n % 3 + 1 for n in range(8)] == [len(rows[0]) for rows in found[1:]]
    assert [{f"s{n}"} for n in range(8)] == [{c.subscriber_id for row in rows for c in row} for rows in found[1:]]


def test_a_failed_call_fails_those_in_it_and_nobody_later() -> None:
    def answer(probes: np.ndarray, k: int) -> list[list[Candidate]]:
        if probes[0, 0] < 0:
            raise RuntimeError("out of order")
        return [[] for _ in probes]

    turns = _Turns(answer, 8, 10.0)
    with pytest.raises(RuntimeError, match="out of order"):
        turns.ask(np.full((1, 1), -1, np.float32), 1)
    assert [[]] == turns.ask(np.ones((1, 1), np.float32), 1)


def test_a_search_does_not_wait_for_ever() -> None:
    runs, go_on = threading.Event(), threading.Event()

    def answer(probes: np.ndarray, k: int) -> list[list[Candidate]]:
        runs.set()
        go_on.wait(10)
        return [[] for _ in probes]

    turns = _Turns(answer, 8, 0.05)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(turns.ask, np.ones((1, 1), np.float32), 1)
        assert runs.wait(10)
        with pytest.raises(TimeoutError):
            turns.ask(np.ones((1, 1), np.float32), 1)
        go_on.set()
        assert [[]] == first.result()
    assert not turns._waiting
