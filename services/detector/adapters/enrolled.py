"""Whose enrolled face is near, by both embedders: the gallery in memory and how it follows the database."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from services.chassis.errors import FailedPrecondition
from services.chassis.keys import Unsealable, unseal
from services.chassis.ops import IndexState
from services.chassis.tasks import end
from services.chassis.telemetry import logger
from services.detector import metrics
from services.detector.adapters.gallery import Entry, FaissGallery, GalleryRules
from services.detector.domain.faces import Candidate
from services.detector.ports import Begin, GalleryFacts, TemplateChange
from services.detector.sealing import Vault, place

log = logger(__name__)

Floats = NDArray[np.float32]
PAGE = 500
"""Rows read, opened and added at once; two pages are in memory at most. Larger ones hold the interpreter for longer."""
_KEYS_AT_ONCE = 64
"""Keys fetched before others may go on: each may be a small file."""
_PROGRESS_SECONDS = 2.0
_FORMAT = b"\x01"
_HEAD = struct.Struct("<BH")


class EnrolledFaces:
    """Verified templates in memory. Threads may search while the event loop changes it."""

    def __init__(
        self, model_id: str, second_model_id: str, dimension: int, rules: GalleryRules | None = None
    ) -> None:
        """`dimension`: length of the first model's vectors. `rules`: those shipped, by default."""
        self.gallery = FaissGallery(model_id, dimension, rules)
        self._models = model_id, second_model_id
        self.version = 0
        """Gallery version of the database up to which it was read."""
        self.head = 0
        """Newest gallery version of the database that was heard of."""
        self.rebuild_version: int | None = None
        """Version that the gallery being built beside it has reached; None while none is."""
        self.update_time: datetime | None = None
        self.loaded = asyncio.Event()
        """Set when the database has been read once."""
        self._current_at = time.monotonic()
        self._longest = 0.0

    def __len__(self) -> int:
        return len(self.gallery)

    @property
    def age_seconds(self) -> float:
        """Time since it was known to hold all that the database held; since the start, before it was loaded."""
        return time.monotonic() - self._current_at

    def facts(self) -> GalleryFacts | None:
        """See the port ServedGallery."""
        if not self.loaded.is_set():
            return None
        age = round(1000 * max(self._longest, self.age_seconds))
        return GalleryFacts(self.version, max(self.head, self.version), age, len(self))

    def age_reported(self) -> None:
        """See the port ServedGallery."""
        self._longest = 0.0

    def state(self) -> IndexState:
        """For OpsService."""
        age, head = round(1000 * self.age_seconds), max(self.head, self.version)
        return IndexState(self.version, len(self), self.update_time, head, age, self.rebuild_version)

    def entry(self, template_id: str, subscriber_id: str, vectors: Mapping[str, Floats], minor: bool) -> Entry | None:
        """A template for the gallery; None for one without a vector of the current model."""
        first, second = (vectors.get(model_id) for model_id in self._models)
        if first is None:
            log.warning("template_without_current_model", template_id=template_id)
            return None
        return Entry(template_id, subscriber_id, first, second, minor)

    def reached(self, version: int) -> None:
        """Notes up to which gallery version the database was read."""
        if version != self.version:
            self.update_time = datetime.now(UTC)
        self.version = version

    def caught_up(self, asked_at: float) -> None:
        """Notes that it holds all that the database held when it was asked, in `time.monotonic()`."""
        if self.loaded.is_set():
            self._longest = max(self._longest, self.age_seconds)
        self._current_at = asked_at
        self.loaded.set()

    def candidates(self, probes: Floats, k: int) -> list[list[Candidate]]:
        """For each row the k nearest subscribers, best first."""
        return self.gallery.search(probes, k)


def vectors_to_bytes(vectors: Mapping[str, Floats]) -> bytes:
    """Vectors by model as bytes; `vectors_from_bytes` reads them. For each: length of the model's name, dimensions,
    name, little-endian float32."""
    parts = [_FORMAT]
    for name, vector in sorted(vectors.items()):
        parts += [_HEAD.pack(len(name.encode()), len(vector)), name.encode(), np.asarray(vector, "<f4").tobytes()]
    return b"".join(parts)


def vectors_from_bytes(data: bytes) -> dict[str, Floats]:
    """Raises ValueError for bytes that hold no vectors."""
    if data[:1] == b"{":  # as they were written at first: base64 in JSON
        texts = json.loads(data).items()
        return {name: np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32) for name, text in texts}
    if data[:1] != _FORMAT:
        raise ValueError("no vectors")
    at, vectors = 1, dict[str, Floats]()
    while at < len(data):
        if at + _HEAD.size > len(data):
            raise ValueError("vectors end early")
        length, dimension = _HEAD.unpack_from(data, at)
        start = at + _HEAD.size + length
        name = data[at + _HEAD.size : start].decode()
        vectors[name] = np.frombuffer(data, "<f4", dimension, start).astype(np.float32)
        at = start + 4 * dimension
    return vectors


def publish_freshness(enrolled: EnrolledFaces) -> None:
    """Shows version, age and size of the gallery among a process' metrics; once."""
    metrics.GALLERY_VERSION.follow(lambda: enrolled.version)
    metrics.GALLERY_HEAD.follow(lambda: enrolled.state().head_version)
    metrics.GALLERY_AGE.follow(lambda: enrolled.age_seconds)
    metrics.GALLERY_SIZE.follow(lambda: len(enrolled))


class DatabaseFeed:
    """See the port GalleryFeed. Every replica follows the table by itself: versions commit in order."""

    def __init__(
        self,
        begin: Begin,
        vault: Vault,
        enrolled: EnrolledFaces,
        clock: Callable[[], datetime],
        page: int = PAGE,
    ) -> None:
        self._begin = begin
        self._vault = vault
        self._enrolled = enrolled
        self._clock = clock
        self._rows = page
        self._reading = asyncio.Lock()
        self._went_back = False
        self._asked = False

    def state(self) -> IndexState:
        """See chassis.ops.Index."""
        return self._enrolled.state()

    def ask_for_rebuild(self) -> bool:
        """See chassis.ops.Index. Raises FailedPrecondition INDEX_NOT_LOADED."""
        if not self._enrolled.loaded.is_set():
            raise FailedPrecondition("INDEX_NOT_LOADED", "The index is being read for the first time.")
        self._asked = True
        if self._enrolled.rebuild_version is not None:
            return False
        self._building(0)
        return True

    async def refresh(self) -> None:
        """See the port. One at a time: of two that read side by side the slower one would put back what the other has
        dropped."""
        async with self._reading:
            asked_at, enrolled = time.monotonic(), self._enrolled
            head = enrolled.head = await self._head()
            if head < enrolled.version:
                # The database was restored to an earlier day. What changes from here on is followed; `rebuild` does
                # the rest, and meanwhile decisions ask the table whether a template's proof holds.
                log.warning("gallery_ahead_of_store", version=enrolled.version, store_version=head)
                self._went_back = True
                enrolled.reached(head)
            await self._read(enrolled.gallery, enrolled.version, head, enrolled.reached)
            first = not enrolled.loaded.is_set()
            if not self._went_back:
                enrolled.caught_up(asked_at)
            if first:
                seconds = round(time.monotonic() - asked_at, 1)
                log.info("gallery_loaded", templates=len(enrolled), version=enrolled.version, seconds=seconds)

    async def rebuild(self) -> None:
        """Builds the gallery anew beside the one served, where that one knows more than the database or somebody asked
        for it; else nothing."""
        if not (self._went_back or self._asked):
            return
        self._building(0)
        try:
            await self._rebuild()
        finally:
            # What was asked for and could not be read is tried again in the next round.
            self._enrolled.rebuild_version = 0 if self._asked else None

    async def _rebuild(self) -> None:
        fresh = self._enrolled.gallery.beside()
        version = await self._read(fresh, 0, await self._head(), self._building)
        async with self._reading:
            asked_at, head = time.monotonic(), await self._head()
            if head < version:
                return  # back again: the next round starts anew
            version = await self._read(fresh, version, head, self._building)
            await asyncio.to_thread(self._enrolled.gallery.become, fresh)
            self._went_back = self._asked = False
            self._enrolled.reached(version)
            self._enrolled.caught_up(asked_at)
        log.info("gallery_rebuilt", templates=len(self._enrolled), version=version)

    def _building(self, version: int) -> None:
        """What is built is not served yet."""
        self._enrolled.rebuild_version = version

    async def _head(self) -> int:
        async with self._begin() as work:
            return await work.templates.index_version()

    async def _page(self, after: int) -> list[TemplateChange]:
        async with self._begin() as work:
            return await work.templates.changed_since(after, self._rows)

    async def _next(self, page: Sequence[TemplateChange]) -> list[TemplateChange]:
        return await self._page(page[-1].index_version) if len(page) == self._rows else []

    async def _read(self, gallery: FaissGallery, after: int, head: int, reached: Callable[[int], None]) -> int:
        """Takes in all changes after a version, at least up to `head`; the next page is read while one is opened.
        Returns the version reached."""
        if after >= head:
            return after
        said_at, version = time.monotonic(), after
        page = await self._page(after)
        while page:
            coming = asyncio.create_task(self._next(page))
            try:
                keys = await self._keys(page)
                await asyncio.to_thread(self._apply, gallery, page, keys)
                version = page[-1].index_version
                reached(version)
                page = await coming
            finally:
                await end(coming)
            if time.monotonic() - said_at > _PROGRESS_SECONDS:
                said_at = time.monotonic()
                log.info("gallery_reading", templates=len(gallery), version=version, of_version=head)
        reached(max(version, head))
        return max(version, head)

    async def _keys(self, page: Sequence[TemplateChange]) -> Mapping[str, bytes | None]:
        """Their owners' keys. Fetched here because the key store serves one thread; opening is for another."""
        keys: dict[str, bytes | None] = {}
        wanted = {each.subscriber_id for each in page if each.vectors is not None}
        for number, subscriber_id in enumerate(wanted, 1):
            keys[subscriber_id] = self._vault.keys.get(subscriber_id)
            if number % _KEYS_AT_ONCE == 0:
                await asyncio.sleep(0)
        return keys

    def _apply(
        self, gallery: FaissGallery, page: Collection[TemplateChange], keys: Mapping[str, bytes | None]
    ) -> None:
        """Heavy: runs beside the event loop."""
        now = self._clock()
        entries = {each.template_id: self._opened(each, keys, now) for each in page}
        gallery.remove(template_id for template_id, entry in entries.items() if entry is None)
        _add(gallery, [entry for entry in entries.values() if entry is not None])

    def _opened(self, change: TemplateChange, keys: Mapping[str, bytes | None], now: datetime) -> Entry | None:
        """The template; None where it may not be matched. One whose bytes are damaged harms no other."""
        until, key = change.verified_until, keys.get(change.subscriber_id)
        if until is None or until <= now or key is None or change.vectors is None:
            return None
        try:
            data = unseal(key, change.vectors, place("face_template", change.template_id, "vectors"))
            vectors = vectors_from_bytes(data)
        except (Unsealable, ValueError) as error:
            log.error("template_unreadable", template_id=change.template_id, error=error)
            return None
        return self._enrolled.entry(change.template_id, change.subscriber_id, vectors, change.minor)


def _add(gallery: FaissGallery, entries: Sequence[Entry]) -> None:
    """Adds those that fit the gallery; one of another shape harms no other."""
    try:
        gallery.add(entries)
    except ValueError as error:
        if len(entries) > 1:
            for entry in entries:
                _add(gallery, [entry])
            return
        gallery.remove([entries[0].template_id])
        log.error("template_unreadable", template_id=entries[0].template_id, error=error)
