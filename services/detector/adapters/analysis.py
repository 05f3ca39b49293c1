"""What one signal shows: enrolled faces in its pictures, personal data in its texts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from services.chassis.telemetry import logger, observe_stage, stage
from services.detector.adapters import images
from services.detector.adapters.enrolled import EnrolledFaces
from services.detector.adapters.faces import Face, FaceEngine, FaceMatcher, Larger, Matched
from services.detector.adapters.fingerprints import fingerprint
from services.detector.adapters.images import Pixels
from services.detector.adapters.redaction import Region, encoded, thumbnail
from services.detector.domain import faces as rules_of_faces
from services.detector.domain.clusters import Medium
from services.detector.domain.decisions import Band, Decision, FaceFinding, MatchKind
from services.detector.domain.faces import FaceRules
from services.detector.domain.picture_text import Written, field_name
from services.detector.domain.pii import Hit, Scanner, ScanResult, TextPart, snippet
from services.detector.domain.signals import Signal
from services.detector.domain.text_similarity import signature
from services.detector.ports import Content, Kept, Reading, TextReader

log = logger(__name__)

Sharper = Callable[[], Pixels]
"""Gives a picture once more, with more pixels."""

ENOUGH_PIXELS = 960
"""Long side that detection needs; JPEGs twice as large are decoded at a fraction of their size. Measured on the sample
pictures: as many faces as at full size, for three quarters of the time."""
READ_PIXELS = 2400
"""Long side that suffices to read lines: a page of 50 lines has 30 pixels for each. Of a picture longer than twice its
shorter side more."""
READING_SECONDS = 40.0
"""For the texts in all pictures analysed at once, which are half of a batch: both halves end before its lease does
(handlers/deciding.py)."""
MOST_MASKED_CHARACTERS = 5_000
"""At most 16 KiB as UTF-8, three bytes for a Korean syllable."""
_RADIUS = 80
_SHARP = 250.0
"""Laplacian variance of a crop that counts as fully sharp, for the figure that records show."""


@dataclass(frozen=True, slots=True)
class _Shown:
    """A picture that could be read."""

    part: int
    data: bytes = field(repr=False)
    picture: images.Picture = field(repr=False)
    faces: tuple[Face, ...] = field(repr=False)
    """Of all frames, frame by frame."""
    frame_of: tuple[int, ...]
    """For each face the index of its frame in `picture.frames`."""
    readings: tuple[Reading, ...] = field(repr=False, default=())
    """For each frame what stands written in it; empty where texts in pictures are not read."""


class SignalAnalysis:
    """See the port Analysis."""

    def __init__(
        self,
        signal: Signal,
        shown: Sequence[_Shown],
        findings: Sequence[FaceFinding],
        texts: Sequence[TextPart],
        result: ScanResult,
        unreadable: Sequence[tuple[int, str]],
    ) -> None:
        self._signal = signal
        # Of what concerns nobody no decision keeps anything: its pictures need not wait for the rest of the batch.
        concerns = bool(result.hits) or any(face.subscriber_id for face in findings)
        self._shown = {each.part: each for each in shown} if concerns else {}
        self._texts = texts
        self._result = result
        self.faces = tuple(findings)
        self.hits: Sequence[Hit] = result.hits
        self.doxing = result.doxing
        self.unreadable = tuple(unreadable)
        self.faces_found = sum(len(each.faces) for each in shown)
        self.all_read = all(reading.complete for each in shown for reading in each.readings)

    def keep(self, decision: Decision) -> Kept:
        """See the port."""
        contents = tuple(self._content(part) for part in decision.parts if self._known(part))
        if decision.kind is MatchKind.PII and decision.face is None:
            return Kept(contents, masked_text=self._masked(decision), thumbnail=self._bystanders_only(decision))
        face = decision.face
        if face is None or face.part not in self._shown:
            return Kept(contents)
        shown = self._shown[face.part]
        others = [
            each.face_index
            for each in self.faces
            if each.part == face.part and each.subscriber_id == decision.subscriber_id and each is not face
        ]
        mine = [face.face_index, *others]
        crop = encoded(shown.faces[face.face_index].crop) if decision.band is Band.REVIEW else b""
        return Kept(contents, thumbnail=self._thumbnail(shown, mine), candidate_crop=crop)

    def _known(self, part: int) -> bool:
        return part in self._shown or self._signal.parts[part].image is None

    def _content(self, part: int) -> Content:
        if (shown := self._shown.get(part)) is not None:
            crops = [face.crop for face, frame in zip(shown.faces, shown.frame_of, strict=True) if frame == 0]
            print_ = fingerprint(shown.data, shown.picture.pixels, crops[:2])
            return Content(Medium.PICTURE, print_.sha256, print_.to_bytes(), print_)
        text = self._signal.parts[part].text or ""
        of_text = signature(text)
        return Content(Medium.TEXT, sha256(text.encode()).digest(), of_text.value, of_text)

    def _masked(self, decision: Decision) -> str:
        fields = {each.hit.field for each in decision.watched}
        pieces = [
            snippet(text.text, self._result.of(text.field), _RADIUS) for text in self._texts if text.field in fields
        ]
        return "\n".join(piece for piece in pieces if piece)[:MOST_MASKED_CHARACTERS]

    def _bystanders_only(self, decision: Decision) -> bytes:
        """The picture whose own data spoke, with every face hidden: nobody was recognised in it."""
        pictures = [part for part in decision.parts if part in self._shown]
        return self._thumbnail(self._shown[pictures[0]], ()) if pictures else b""

    def _thumbnail(self, shown: _Shown, mine: Sequence[int]) -> bytes:
        """The frame that shows the first of the faces `mine`, with all other faces in it and all personal data written
        in it hidden; without such faces the first frame in which personal data stands, else the first.
        """
        frame = shown.frame_of[mine[0]] if mine else self._first_with_hits(shown)
        here = [index for index, of in enumerate(shown.frame_of) if of == frame]
        boxes = [shown.faces[index].box for index in here]
        regions = [Region(box.left, box.top, box.right, box.bottom) for box in boxes]
        kept = [here.index(each) for each in mine if each in here]
        return thumbnail(shown.picture.frames[frame], regions, kept, self._hit_regions(shown, frame))

    def _first_with_hits(self, shown: _Shown) -> int:
        frames = range(len(shown.readings))
        return next((frame for frame in frames if self._result.of(field_name(shown.part, frame))), 0)

    def _hit_regions(self, shown: _Shown, frame: int) -> list[Region]:
        if not shown.readings:
            return []
        hits = self._result.of(field_name(shown.part, frame))
        written = shown.readings[frame].written
        return [Region(*quad.bounds) for hit in hits if hit.personal for quad in written.regions(hit.start, hit.end)]


def larger_of(data: bytes, picture: images.Picture) -> Larger:
    """The picture at full size; read again where it was decoded at a fraction."""
    pixels = picture.pixels

    def read() -> Pixels | None:
        if pixels.shape[:2] == (picture.full_height, picture.full_width):
            return pixels
        try:
            return images.read_picture(data).pixels
        except images.UnreadableImage:  # what is broken beyond the part that a smaller one needs
            return None

    return Larger(picture.full_height, picture.full_width, read)


def sharper_of(data: bytes, picture: images.Picture) -> Sharper | None:
    """The picture with as many pixels as reading its lines takes; None where it was not decoded smaller."""
    if picture.reduction <= 1:
        return None
    short, long = sorted((picture.full_width, picture.full_height))
    enough = round(READ_PIXELS * max(1.0, long / short / 2))

    def read() -> Pixels:
        try:
            return images.read_picture(data, enough).pixels
        except images.UnreadableImage:  # as above
            return picture.pixels

    return read


def written_in(
    reader: TextReader, picture: images.Picture, sharper: Sharper | None, until: float
) -> tuple[Reading, ...]:
    """What stands in each frame; no line is begun after `until`, by the monotonic clock."""
    readings = []
    started = time.monotonic()
    for frame in picture.frames:
        left = until - time.monotonic()
        readings.append(reader.read(frame, sharper, left) if left > 0 else Reading(Written(), False))
        sharper = None
    observe_stage("read_texts", time.monotonic() - started)
    return tuple(readings)


def name_of_reader(reader: TextReader) -> str:
    """Rules, models and runtime that read, as records name them."""
    return f"{reader.rule_version}/{reader.reader_id}"


class SignalAnalyst:
    """See the port Analyst.

    One scanner serves all threads, one signal at a time: Hyperscan's scratch space is not shared, and compiling
    a scanner takes a second.
    """

    def __init__(
        self,
        engine: FaceEngine,
        enrolled: EnrolledFaces,
        face_rules: FaceRules,
        scanner: Scanner,
        reader: TextReader | None = None,
        reading_seconds: float = READING_SECONDS,
    ) -> None:
        self._engine = engine
        self._matcher = FaceMatcher(engine, enrolled.gallery, face_rules)
        self._scanner = scanner
        self._reader = reader
        self._reading_seconds = reading_seconds
        self._scanning = threading.Lock()
        self.model_id = engine.model_id
        self.engine_id = engine.engine_id
        self.reader_id = name_of_reader(reader) if reader else ""
        self.face_rule_version = face_rules.name
        self.text_rule_version = f"pii-{scanner.rules.version}"

    def analyse(self, signals: Sequence[Signal]) -> list[SignalAnalysis]:
        """See the port."""
        shown, unreadable = self._read(signals)
        found = self._find(signals, shown)
        return [self._one(signal, shown[at], found[at], unreadable[at]) for at, signal in enumerate(signals)]

    def _read(self, signals: Sequence[Signal]) -> tuple[list[list[_Shown]], list[list[tuple[int, str]]]]:
        """Decodes every picture, and finds the faces of all of them together."""
        places, pictures, unreadable = _decoded(signals)
        frames = [frame for picture in pictures for frame in picture.frames]
        larger = [
            larger_of(data, picture) if len(picture.frames) == 1 else None
            for (_, _, data), picture in zip(places, pictures, strict=True)
            for _ in picture.frames
        ]
        found = iter(self._engine.analyse_many(frames, larger))
        shown: list[list[_Shown]] = [[] for _ in signals]
        until = time.monotonic() + self._reading_seconds
        for (at, part, data), picture in zip(places, pictures, strict=True):
            faces = [(face, frame) for frame in range(len(picture.frames)) for face in next(found)]
            each = _Shown(
                part,
                data,
                picture,
                tuple(face for face, _ in faces),
                tuple(frame for _, frame in faces),
                written_in(self._reader, picture, sharper_of(data, picture), until) if self._reader else (),
            )
            shown[at].append(each)
        return shown, unreadable

    def _find(self, signals: Sequence[Signal], shown: Sequence[Sequence[_Shown]]) -> list[list[FaceFinding]]:
        """Every face against the gallery: one search for all; pose and a second look for those that need it."""
        places = [
            (at, each.part, index)
            for at, pictures in enumerate(shown)
            for each in pictures
            for index in range(len(each.faces))
        ]
        findings: list[list[FaceFinding]] = [[] for _ in shown]
        if not places:
            return findings
        faces = [face for pictures in shown for each in pictures for face in each.faces]
        groups = [signals[at].channel_group for at, *_ in places]
        with stage("search"):
            matched = self._matcher.match(faces, groups)
        for (at, part, index), each in zip(places, matched, strict=True):
            findings[at].append(_finding(part, index, each))
        return findings

    def _one(
        self,
        signal: Signal,
        shown: Sequence[_Shown],
        findings: Sequence[FaceFinding],
        unreadable: Sequence[tuple[int, str]],
    ) -> SignalAnalysis:
        texts = list(_texts(signal, shown))
        return SignalAnalysis(signal, shown, findings, texts, self._scan(texts), unreadable)

    def _scan(self, texts: Sequence[TextPart]) -> ScanResult:
        """Scans all texts, in portions of what a scan takes at once."""
        portions = list(_portions(texts, self._scanner.rules.max_chars))
        with self._scanning, stage("scan"):
            results = list(self._scanner.scan_each(portions))
        if len(results) == 1:
            return results[0]
        together = dict.fromkeys(combination for each in results for combination in each.combinations)
        return ScanResult(tuple(hit for each in results for hit in each.hits), tuple(together))


def _decoded(
    signals: Sequence[Signal],
) -> tuple[list[tuple[int, int, bytes]], list[images.Picture], list[list[tuple[int, str]]]]:
    """(signal, part, data) of each picture that can be read, what it is, and for each signal what cannot be."""
    places: list[tuple[int, int, bytes]] = []
    pictures: list[images.Picture] = []
    unreadable: list[list[tuple[int, str]]] = [[] for _ in signals]
    for at, signal in enumerate(signals):
        for part, data in signal.images:
            try:
                with stage("decode"):
                    pictures.append(images.read_picture(data, ENOUGH_PIXELS))
                places.append((at, part, data))
            except images.UnreadableImage as problem:
                unreadable[at].append((part, problem.reason))
    return places, pictures, unreadable


def _texts(signal: Signal, shown: Sequence[_Shown]) -> Iterator[TextPart]:
    for at, part in enumerate(signal.parts):
        if part.text:
            yield TextPart(f"text.{at}", part.text)
    for number, pair in enumerate(signal.metadata):
        if pair.value:
            yield TextPart(f"metadata.{pair.name}.{number}", pair.value)
    for each in shown:
        for number, (key, value) in enumerate(each.picture.fields):
            yield TextPart(f"image.{each.part}.{key}.{number}", value)
        for frame, reading in enumerate(each.readings):
            if reading.written.text:
                yield TextPart(field_name(each.part, frame), reading.written.text)


def _portions(texts: Sequence[TextPart], most: int) -> Iterator[list[TextPart]]:
    portion: list[TextPart] = []
    length = 0
    for text in texts:
        if portion and length + len(text.text) > most:
            yield portion
            portion, length = [], 0
        portion.append(text)
        length += len(text.text)
    if portion:
        yield portion


def _finding(part: int, index: int, matched: Matched) -> FaceFinding:
    face, candidates, verdict = matched.face, matched.candidates, matched.decision
    ranked = sorted((_score(each) for each in candidates), reverse=True)
    return FaceFinding(
        part=part,
        face_index=index,
        band=Band[verdict.band.name],
        subscriber_id=verdict.subscriber_id or "",
        template_id=verdict.template_id or "",
        reasons=tuple(str(reason) for reason in verdict.reasons),
        quality_milli=min(1000, round(1000 * min(1.0, face.quality.sharpness / _SHARP) * face.quality.detection)),
        size_px=round(max(face.box.width, face.box.height)),
        second_opinion=any(each.second is not None for each in candidates),
        rule_version=verdict.rules,
        score=ranked[0] if ranked else 0.0,
        margin=ranked[0] - ranked[1] if len(ranked) > 1 else 1.0,
        reach=verdict.reach,
    )


def _score(candidate: rules_of_faces.Candidate) -> float:
    return candidate.score if candidate.second is None else candidate.second
