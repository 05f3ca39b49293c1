"""How fast and how true is the gallery: searches, removals, a swap while it serves, a rebuild from encrypted rows?

The vectors are synthetic: unit vectors of 512 dimensions, three of each person (cosine about .7), with a spectrum that
falls as that of face embedders does. Ratios compare what ran side by side; their terms are processor seconds where the
search is one thread's work (as it is in the detector), because neighbours lengthen these little.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.chassis.clock import SystemClock
from services.chassis.database import Database, insert_rows, table_of
from services.chassis.idempotency import RequestMemory
from services.chassis.ids import uuid7
from services.chassis.keys import FileKeyStore, create_master_key, keyed_hash, seal, unseal
from services.chassis.migration import migrate
from services.chassis.outbox import Outbox
from services.console.embedded import Postgres
from services.console.home import Home
from services.detector.__main__ import MIGRATIONS
from services.detector.adapters import tables
from services.detector.adapters.enrolled import (
    PAGE,
    DatabaseFeed,
    EnrolledFaces,
    vectors_from_bytes,
    vectors_to_bytes,
)
from services.detector.adapters.gallery import Entry, ExactGallery, FaissGallery, GalleryRules, read_gallery_rules
from services.detector.adapters.store import Store
from services.detector.domain.faces import Candidate
from services.detector.domain.ownership import OwnershipState
from services.detector.ports import TemplateChange
from services.detector.sealing import Vault, place

Floats = NDArray[np.float32]

DIMENSION, SECOND_DIMENSION = 512, 192
SMALL, LARGE = 100_000, 1_000_000
EACH = 3
"""Templates of a person."""
K = 4
NOISES = 8192
EXACT_PROBES, RECALL_PROBES, BATCH = 200, 1000, 64
SWAP_SECONDS = 12.0
"""How long the gallery is searched before the swap."""
ROWS = 15_000
"""Encrypted rows of the rebuild in the bench; their subscribers are more than the key store keeps in memory. This
module itself rebuilds all 10^6."""
PORTION = 10_000
"""Rows that are written at once."""
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it
"""Where the key files lie if it is there: a detector reads them from the page cache as well, and to make 333,333 of
them durable would take longer than all that is measured."""
MODEL, SECOND_MODEL = "bench-model", "bench-second"
Say = Callable[[str], object]


@dataclass
class Result:
    """One figure of this part."""

    name: str
    unit: str
    sample: str
    target: float | None = None
    at_most: bool = False
    values: list[float] = field(default_factory=list)

    def note(self, value: float, say: Say) -> None:
        """Adds a run."""
        self.values.append(value)
        say(f"  {self.name}: {value:.4g}{self.unit}")

    @property
    def value(self) -> float:
        """The median run."""
        return statistics.median(self.values)


def measure(runs: int, say: Say) -> list[Result]:
    """Every figure; what takes a gallery of a million is done once."""
    return [*small(runs, say), *large(runs, say), *asyncio.run(rebuilt(say))]


# --- vectors ---


def faces(count: int, seed: int) -> Floats:
    """float32 [count, 512]: people one after the other, each with EACH templates."""
    return _near(people(-(-count // EACH), seed), np.arange(count) // EACH, seed + 1)


def people(count: int, seed: int) -> Floats:
    """float32 [count, 512], the middle of each person."""
    spectrum = (1 / (1 + np.arange(DIMENSION) / 96)).astype(np.float32)
    return _unit((np.random.default_rng(seed).random((count, DIMENSION), np.float32) - np.float32(0.5)) * spectrum)


def _near(middles: Floats, of: NDArray[np.int64], seed: int) -> Floats:
    """Each middle with what a picture changes, one of NOISES ways."""
    return _unit(middles[of] + _noises()[np.random.default_rng(seed).integers(0, NOISES, len(of))])


@cache
def _noises() -> Floats:
    return np.float32(0.65) * people(NOISES, 99)


def _unit(vectors: Floats) -> Floats:
    vectors /= np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, np.newaxis]
    return vectors


def probes_of(seed: int, persons: NDArray[np.int64], count: int) -> Floats:
    """Further pictures of these persons of `faces(count, seed)`."""
    return _near(people(-(-count // EACH), seed), persons, seed + 2)


def portions(size: int, seed: int, count: int = 50_000) -> Iterator[list[Entry]]:
    """Entries of a large gallery, portion by portion; the portion that starts at n has the seed `seed + n`."""
    for start in range(0, size, count):
        vectors = faces(min(count, size - start), seed + start)
        yield [
            Entry(f"{seed:04d}-{start + n:031d}", f"{seed:04d}-{(start + n) // EACH:031d}", vector)
            for n, vector in enumerate(vectors)
        ]


def pages(size: int, seed: int) -> Iterator[list[Entry]]:
    """Entries page by page as a rebuild makes them, decrypted one by one. Their vectors repeat, which makes no search
    faster.
    """
    key, pool = bytes(32), faces(3000, seed)
    sealed = [seal(key, vectors_to_bytes({MODEL: vector}), b"") for vector in pool]
    for start in range(0, size, PAGE):
        yield [
            Entry(
                f"{seed:04d}-{n:031d}",
                f"{seed:04d}-{n // EACH:031d}",
                vectors_from_bytes(unseal(key, sealed[n % len(sealed)], b""))[MODEL],
            )
            for n in range(start, min(size, start + PAGE))
        ]


def filled(size: int, seed: int, rules: GalleryRules) -> FaissGallery:
    """A gallery of a size."""
    gallery = FaissGallery(MODEL, DIMENSION, rules)
    for portion in portions(size, seed):
        gallery.add(portion)
    return gallery


# --- searches ---


def small(runs: int, say: Say) -> list[Result]:
    """10^5 templates: Flat, and SQ8 as if that were beyond its size."""
    rules = read_gallery_rules()
    entries = [entry for portion in portions(SMALL, 1, SMALL) for entry in portion]
    vectors = np.stack([entry.vector for entry in entries])
    chosen = np.random.default_rng(3).integers(0, SMALL // EACH, RECALL_PROBES)
    probes = probes_of(1, chosen, SMALL)
    same = Result("Flat = exact reference", "", f"{EXACT_PROBES} probes of 10^5 templates, {K} subscribers each", 1.0)
    recall = Result("SQ8 recall@1", "", f"{RECALL_PROBES} probes of 10^5 templates", 0.999)
    flat, sq8 = (FaissGallery(MODEL, DIMENSION, each) for each in (rules, replace(rules, sq8_from=0)))
    exact = ExactGallery(MODEL, DIMENSION)
    for gallery in (exact, flat, sq8):
        gallery.add(entries)
    same.note(_same(exact.search(probes[:EXACT_PROBES], K), flat.search(probes[:EXACT_PROBES], K)), say)
    nearest = [entries[at].template_id for at in np.argmax(probes @ vectors.T, axis=1)]
    found = [row[0].template_id for row in _one_by_one(sq8, probes)]
    recall.note(float(np.mean([a == b for a, b in zip(nearest, found, strict=True)])), say)
    gain = Result(f"Flat, batch of {BATCH} ÷ single searches", "", "10^5 templates, probes a processor second", 5.0)
    single = Result("Flat, one probe", " ms", "10^5 templates, processor time")
    gone = Result("removal from 10^5", " ms", "one template, wall time")
    for _ in range(runs):
        alone, together = _cost(flat, probes[:8], 1), _cost(flat, probes[:BATCH], BATCH)
        single.note(1e3 * alone, say)
        gain.note(alone / together, say)
        gone.note(_removal(flat, entries.pop()), say)
    return [same, recall, single, gain, gone]


def _same(expected: Sequence[Sequence[object]], found: Sequence[Sequence[object]]) -> float:
    """Share of rows with the same subscribers and templates in the same order."""
    keys = [[(c.subscriber_id, c.template_id) for c in row] for rows in (expected, found) for row in rows]  # type: ignore[attr-defined] # candidates
    half = len(keys) // 2
    return float(np.mean([a == b for a, b in zip(keys[:half], keys[half:], strict=True)]))


def _one_by_one(gallery: FaissGallery, probes: Floats) -> Iterator[Sequence[Candidate]]:
    """By the SQ8 index, which batches pass by."""
    for at in range(len(probes)):
        yield from gallery.search(probes[at : at + 1], K)


def _cost(gallery: FaissGallery, probes: Floats, batch: int) -> float:
    """Processor seconds of this process a probe."""
    gallery.search(probes[:batch], K)
    started = time.process_time()
    for at in range(0, len(probes), batch):
        gallery.search(probes[at : at + batch], K)
    return (time.process_time() - started) / len(probes)


def _removal(gallery: FaissGallery, entry: Entry) -> float:
    started = time.perf_counter()
    gallery.remove([entry.template_id])
    taken = time.perf_counter() - started
    found = gallery.search(entry.vector[np.newaxis], 16)[0]
    assert entry.template_id not in {each.template_id for each in found}
    return 1e3 * taken


def large(runs: int, say: Say) -> list[Result]:
    """10^6 templates as the rules hold them: SQ8; then swapped for 10^6 others while it is searched."""
    started = time.process_time()
    gallery = filled(LARGE, 10, read_gallery_rules())
    say(f"  10^6 templates filled in {time.process_time() - started:.0f} processor seconds, vectors made included")
    count = RECALL_PROBES // 4
    probes, nearest = _with_nearest(10, count)
    recall = Result("SQ8 recall@1", "", f"{count} probes of 10^6 templates", 0.999)
    found = [row[0].template_id for row in _one_by_one(gallery, probes)]
    recall.note(float(np.mean([a == b for a, b in zip(nearest, found, strict=True)])), say)
    same = Result(f"SQ8, batch of {BATCH} = single searches", "", f"{BATCH} probes, {K} subscribers each", 1.0)
    singles = list(_one_by_one(gallery, probes[:BATCH]))
    same.note(_same(singles, gallery.search(probes[:BATCH], K)), say)
    single = Result("SQ8, one probe", " ms", "10^6 templates, processor time")
    gain = Result(f"SQ8, batch of {BATCH} ÷ single searches", "", "10^6 templates, probes a processor second", 5.0)
    gone = Result("removal from 10^6", " ms", "one template, wall time")
    last = next(portions(3, 10 + LARGE - 50_000))
    for _ in range(runs):
        alone, together = _cost(gallery, probes[:4], 1), _cost(gallery, probes[:BATCH], BATCH)
        single.note(1e3 * alone, say)
        gain.note(alone / together, say)
        gone.note(_removal(gallery, last.pop()), say)
    return [recall, same, single, gain, gone, *swapped(gallery, probes, say)]


def _with_nearest(seed: int, count: int) -> tuple[Floats, list[str]]:
    """Probes of a gallery of 10^6, and by numpy the template nearest to each."""
    probes = probes_of(seed, np.random.default_rng(4).integers(0, 50_000 // EACH, count), 50_000)
    best, names = np.full(count, -2.0, np.float32), [""] * count
    for portion in portions(LARGE, seed):
        scores = probes @ np.stack([entry.vector for entry in portion]).T
        at = np.argmax(scores, axis=1)
        for row in np.flatnonzero(scores[np.arange(count), at] > best):
            best[row], names[row] = scores[row, at[row]], portion[at[row]].template_id
    return probes, names


# --- a swap while it serves ---


@dataclass
class _Searches:
    """One thread that searches all the time, as one of the detector's workers does."""

    gallery: FaissGallery
    probes: Floats
    times: list[tuple[float, float]] = field(default_factory=list)
    lost: int = 0
    _done: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        for at in itertools.cycle(range(len(self.probes))):
            if self._done.is_set():
                return
            started = time.perf_counter()
            found = self.gallery.search(self.probes[at : at + 1], K)
            self.times.append((started, time.perf_counter() - started))
            self.lost += len(found) != 1 or len(found[0]) != K

    @contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self)
        thread.start()
        try:
            yield
        finally:
            self._done.set()
            thread.join()

    def between(self, start: float, end: float) -> list[float]:
        """Milliseconds of the searches that touch a stretch of time."""
        return [1e3 * taken for began, taken in self.times if began < end and began + taken > start]


def _use_a_core(seconds: float) -> None:
    """Work that shares nothing with a search but the machine."""
    until, data = time.perf_counter() + seconds, bytes(8_000_000)
    while time.perf_counter() < until:
        hashlib.sha256(data).digest()


def swapped(gallery: FaissGallery, probes: Floats, say: Say) -> list[Result]:
    """The gallery is built anew beside the one that is searched, takes its place, and the old one is let go."""
    searches = _Searches(gallery, probes)
    with searches.running():
        begin = time.perf_counter()
        time.sleep(SWAP_SECONDS)
        busy = time.perf_counter()
        _use_a_core(SWAP_SECONDS)
        building = time.perf_counter()
        beside = gallery.beside()
        for page in pages(len(gallery), 20):
            beside.add(page)
        swapping = time.perf_counter()
        gallery.become(beside)
        done = time.perf_counter()
        time.sleep(1.0)
    before, during = searches.between(begin, busy), searches.between(building, done)
    beside_work = float(np.percentile(searches.between(busy, building), 99))
    step = searches.between(swapping, done)
    sample = f"{len(before)} searches before, {len(during)} meanwhile, one thread, wall time"
    p99_before, p99 = (float(np.percentile(each, 99)) for each in (before, during))
    say(f"  built in {swapping - building:.0f} s, swapped in {1e3 * (done - swapping):.0f} ms")
    say(f"  P99 alone {p99_before:.0f}, beside a busy core {beside_work:.0f}, meanwhile {p99:.0f} ms")
    lost = Result("swap of 10^6: queries lost", "", sample, 0, at_most=True)
    added = Result("swap of 10^6: added to P99", " ms", sample, 100, at_most=True)
    slowest = Result("the step itself: slowest search", " ms", f"{len(step)} searches, {p99_before:.0f} ms P99 before")
    lost.note(searches.lost, say)
    added.note(max(0.0, p99 - p99_before), say)
    slowest.note(max(step), say)
    return [lost, added, slowest]


# --- a rebuild from encrypted rows ---


async def rebuilt(say: Say, size: int = ROWS) -> list[Result]:
    """Rows in a PostgreSQL of its own: each part alone, and the whole as a detector starts; times scaled to 10^6."""
    folder = Path(tempfile.mkdtemp(prefix="jikimi-bench-"))
    folder.chmod(0o711)
    keys = Path(tempfile.mkdtemp(prefix="jikimi-bench-", dir=MEMORY if MEMORY.is_dir() else None))
    server = Postgres(Home(folder / "home"), durable=False)
    try:
        server.start()
        server.sql('CREATE DATABASE "bench" OWNER "detector" TEMPLATE template0;')
        url = server.url("detector", "bench")
        await migrate(url, MIGRATIONS)
        create_master_key(keys / "master.key")
        return await _rebuilt(url, keys, size, say)
    finally:
        server.destroy()
        for each in (folder, keys):
            shutil.rmtree(each, ignore_errors=True)


async def _rebuilt(url: str, keys: Path, size: int, say: Say) -> list[Result]:
    database, clock = Database(url), SystemClock(keys / "no-offset")
    owners = await _write(database, _key_store(keys), size, say)
    store = Store(database, Outbox("detector", 4, b"k" * 32), RequestMemory(b"s" * 32, clock))
    scaled = "" if size == LARGE else ", scaled to 10^6"
    sample = f"{size:,} rows of {owners:,} subscribers{scaled}; wall time"
    parts = await _parts(store, _key_store(keys), size)
    results = [Result(f"rebuild: {name}", " s", sample) for name in parts]
    for result, (wall, _) in zip(results, parts.values(), strict=True):
        result.note(wall * LARGE / size, say)
    enrolled = EnrolledFaces(MODEL, SECOND_MODEL, DIMENSION)
    feed = DatabaseFeed(store.quietly, Vault(_key_store(keys)), enrolled, clock.now)
    started, work = time.perf_counter(), time.process_time()
    await feed.refresh()
    whole, worked = time.perf_counter() - started, time.process_time() - work
    assert len(enrolled) == size
    await database.close()
    total = Result("rebuild of 10^6 encrypted rows", " s", sample)
    ratio = Result("rebuild ÷ its floor", "", f"{size:,} rows; the parts one after the other; wall time")
    counted = f"{size:,} rows; without PostgreSQL's"
    effort = Result("the same by processor seconds", "", counted, 1.25, at_most=True)
    total.note(whole * LARGE / size, say)
    ratio.note(whole / sum(wall for wall, _ in parts.values()), say)
    effort.note(worked / sum(cpu for _, cpu in parts.values()), say)
    return [*results, total, ratio, effort]


def _key_store(folder: Path) -> FileKeyStore:
    """One that remembers nothing yet."""
    return FileKeyStore(folder / "keys", folder / "master.key")


async def _write(database: Database, keys: FileKeyStore, size: int, say: Say) -> int:
    """Rows as enrolment leaves them, in an order in which owners do not come together. Returns how many owners."""
    owners = [uuid7() for _ in range(-(-size // EACH))]
    for start in range(0, size, PORTION):
        count = min(PORTION, size - start)
        vectors = faces(count, 30 + start)
        seconds = _unit(np.random.default_rng(31 + start).standard_normal((count, SECOND_DIMENSION), np.float32))
        rows = [
            _row(keys, owners[(start + n) % len(owners)], vectors[n], seconds[n], start + n) for n in range(count)
        ]
        async with database.begin() as session:
            for page in range(0, count, PAGE):
                await insert_rows(session, table_of(tables.FaceTemplateRow), rows[page : page + PAGE])
        if (start + count) % (10 * PORTION) == 0:
            say(f"  {start + count:,} rows written")
    async with database.begin() as session:
        await insert_rows(session, table_of(tables.GalleryVersionRow), [{"one": 1, "version": size}])
    return len(owners)


def _row(keys: FileKeyStore, owner: str, vector: Floats, second: Floats, at: int) -> dict[str, object]:
    template_id, now = uuid7(), datetime.now(UTC)
    data = vectors_to_bytes({MODEL: vector, SECOND_MODEL: second})
    return {
        "template_id": template_id,
        "subscriber_id": owner,
        "state": int(OwnershipState.VERIFIED),
        "create_time": now,
        "expire_time": now + timedelta(days=90),
        "pictures": 3,
        "model_ids": [MODEL, SECOND_MODEL],
        "vectors": seal(keys.get_or_create(owner), data, place("face_template", template_id, "vectors")),
        "crop": keyed_hash(b"crop", str(at)) * 256,
        "version": 2,
        "index_version": at + 1,
    }


async def _parts(store: Store, keys: FileKeyStore, size: int) -> dict[str, tuple[float, float]]:
    """(wall, processor) seconds of each part, page after page, nothing done between them."""
    names = ("reading rows", "fetching keys", "decrypting", "decoding vectors", "adding")
    taken = dict.fromkeys(names, (0.0, 0.0))
    gallery, version, done = FaissGallery(MODEL, DIMENSION), 0, 0

    @contextmanager
    def part(name: str) -> Iterator[None]:
        wall, work = time.perf_counter(), time.process_time()
        yield
        before = taken[name]
        taken[name] = before[0] + time.perf_counter() - wall, before[1] + time.process_time() - work

    while done < size:
        with part("reading rows"):
            async with store.quietly() as work:
                rows: Sequence[TemplateChange] = await work.templates.changed_since(version, PAGE)
        with part("fetching keys"):
            of_owner = [keys.get(row.subscriber_id) or b"" for row in rows]
        with part("decrypting"):
            opened = [
                unseal(key, row.vectors or b"", place("face_template", row.template_id, "vectors"))
                for key, row in zip(of_owner, rows, strict=True)
            ]
        with part("decoding vectors"):
            vectors = [vectors_from_bytes(data) for data in opened]
        entries = [
            Entry(row.template_id, row.subscriber_id, each[MODEL], each[SECOND_MODEL])
            for row, each in zip(rows, vectors, strict=True)
        ]
        with part("adding"):
            gallery.add(entries)
        version, done = rows[-1].index_version, done + len(rows)
    return taken


def main(words: Sequence[str]) -> int:
    """The rebuild alone, with as many rows as named."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gallery", description=__doc__)
    parser.add_argument("--rows", type=int, default=LARGE, help="encrypted rows, 10^6 by default (15 GB of disk)")
    results = asyncio.run(rebuilt(lambda line: print(line, flush=True), parser.parse_args(words).rows))
    return 0 if all(result.target is None or result.value <= result.target for result in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
