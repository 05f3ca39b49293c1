"""What an upload shows, looked at quickly; and how it is covered and proved to be."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from services.detector.adapters import images
from services.detector.adapters.analysis import ENOUGH_PIXELS, Sharper, name_of_reader, sharper_of, written_in
from services.detector.adapters.enrolled import EnrolledFaces
from services.detector.adapters.faces import DetectionPlan, Face, FaceEngine, FaceMatcher
from services.detector.adapters.models import Box, FaceModels, Pixels
from services.detector.adapters.redaction import (
    ALGORITHM,
    Format,
    RedactionRules,
    Region,
    cover,
    encoded,
    masks_over,
    of_face,
    of_line,
    uncovered,
)
from services.detector.domain.decisions import IdentifierKind, identifier_kind
from services.detector.domain.faces import Band, Candidate, FaceRules
from services.detector.domain.picture_text import Quad, Written
from services.detector.domain.pii import Hit, Scanner, TextPart
from services.detector.domain.uploads import (
    IMAGE,
    METADATA,
    TEXT,
    Finding,
    Mask,
    Method,
    RedactionCheck,
    Seen,
    Subject,
    UploadRules,
    in_picture,
    masked,
    text_spans,
)
from services.detector.ports import Redacted, TextReader, UnreadableUpload

QUICK_PLAN = DetectionPlan(thorough_long_side=640)
"""Where the quick look leaves doubts CenterFace looks at half the usual side: a quarter of the time. What that gives up
is measured in docs/decisions/0014."""
_POSITION_KEYS = frozenset({"GPSLatitude", "GPSLongitude"})
_PLAIN_INFO = frozenset({"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi"})
"""What Pillow tells of any JPEG; says nothing of where it comes from."""
_MOST_BYTES = 20 * 1024 * 1024
_FORMATS: dict[str, Format] = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WEBP", "GIF": "PNG"}


class QuickEye:
    """See the port UploadEye."""

    def __init__(
        self,
        models: FaceModels,
        enrolled: EnrolledFaces,
        face_rules: FaceRules,
        scanner: Scanner,
        rules: UploadRules,
        reader: TextReader | None = None,
    ) -> None:
        """`scanner` is used by nobody else: one scan at a time."""
        self._engine = FaceEngine(models, QUICK_PLAN)
        self._enrolled = enrolled
        self._matcher = FaceMatcher(self._engine, enrolled.gallery, face_rules)
        self._scanner = scanner
        self._scanning = threading.Lock()
        self._rules = rules
        self.reader = reader
        looking = (models.quick.name, models.thorough.name, models.embedder.model_id, models.second_embedder.model_id)
        self.face_models = looking
        self.text_rules = f"pii-{scanner.rules.version}"

    def look(self, image: bytes, text: str) -> UploadSeen:
        """See the port."""
        picture = _picture(image, ENOUGH_PIXELS) if image else None
        findings, doxing = self.in_text(text)
        if picture is not None:
            findings += self._in_metadata(picture)
        return UploadSeen(self, image, picture, Seen(tuple(findings), doxing, (self.text_rules,)))

    def in_text(self, text: str) -> tuple[list[Finding], bool]:
        """Data in the text itself, and whether together it exposes one person."""
        if not text:
            return [], False
        hits, doxing = self._hits([TextPart(TEXT, text)])
        return [Finding(Subject.DATA, TEXT, (hit.start, hit.end), identifier_kind(hit)) for hit in hits], doxing

    def _hits(self, parts: Sequence[TextPart]) -> tuple[list[Hit], bool]:
        with self._scanning:
            result = self._scanner.scan(parts)
        return [hit for hit in result.hits if self._rules.admits(hit)], result.doxing

    def _in_metadata(self, picture: images.Picture) -> list[Finding]:
        """What the file says of itself: each kind once."""
        parts = [TextPart(key, value) for key, value in picture.fields if key not in _POSITION_KEYS]
        kinds = {identifier_kind(hit) for hit in self._hits(parts)[0]} if parts else set()
        if any(key in _POSITION_KEYS for key, _ in picture.fields):
            kinds.add(IdentifierKind.POSITION)
        return [Finding(Subject.DATA, METADATA, (), kind) for kind in sorted(kinds)]

    def in_lines(self, written: Written, scale: float, size: tuple[int, int]) -> tuple[list[Finding], bool]:
        """Data in what stands in a frame, whose places times `scale` are places in a picture of this size (width,
        height): whole lines, for where in its line a number stands is only reckoned."""
        hits, doxing = self._hits([TextPart(IMAGE, written.text)]) if written.text else ([], False)
        found = []
        for hit in hits:
            for quad in written.whole_regions(hit.start, hit.end):
                place = _around(quad).scaled(scale).within(*size)
                if place is not None:
                    found.append(Finding(Subject.DATA, IMAGE, place, identifier_kind(hit)))
        return list(dict.fromkeys(found)), doxing

    def faces(self, picture: images.Picture, own: Collection[str]) -> list[Finding]:
        """Faces in all frames, and whose they are. Tiles of large pictures would take longer than somebody waits."""
        found = []
        size = picture.full_width, picture.full_height
        for frame, faces in zip(picture.frames, self._engine.analyse_many(picture.frames), strict=True):
            scale = picture.full_width / frame.shape[1]
            for face, subject in zip(faces, self._subjects(faces, own), strict=True):
                place = region_of(face.box).scaled(scale).within(*size)
                if place is not None:
                    found.append(Finding(subject, IMAGE, place))
        return found

    def _subjects(self, faces: Sequence[Face], own: Collection[str]) -> list[Subject]:
        """Whose each face is: the subscriber's own, or another person's. Compared with the subscriber's own
        templates and no others."""
        mine = self._mine(faces, own)
        return [Subject.YOU if at in mine else Subject.ANOTHER_PERSON for at in range(len(faces))]

    def _mine(self, faces: Sequence[Face], own: Collection[str]) -> set[int]:
        """The faces that are the subscriber's own. What a case would leave to a person counts: the subscriber looks
        at it."""
        entries = [entry for each in own if (entry := self._enrolled.gallery.entry(each)) is not None]
        if not entries or not faces:
            return set()
        scores = np.stack([face.vector for face in faces]) @ np.stack([entry.vector for entry in entries]).T
        best = scores.argmax(axis=1)
        candidates = [
            [Candidate(entries[k].subscriber_id, entries[k].template_id, float(scores[n, k]))]
            for n, k in enumerate(best)
        ]
        judged = self._matcher.judge(faces, candidates, len(entries))
        return {n for n, each in enumerate(judged) if each.decision.band is not Band.NONE}


class UploadSeen:
    """See the port UploadLook."""

    def __init__(self, eye: QuickEye, image: bytes, picture: images.Picture | None, seen: Seen) -> None:
        self._eye = eye
        self._image = image
        self._picture = picture
        self._more: list[Pixels] = []
        self.seen = seen
        self.all_read = False

    @property
    def reads(self) -> bool:
        return self._picture is not None and self._eye.reader is not None

    def find_faces(self, own: Collection[str]) -> None:
        """See the port."""
        if self._picture is None:
            return
        found = self._eye.faces(self._picture, own)
        names = (*self._eye.face_models, *self.seen.model_ids)
        self.seen = replace(self.seen, findings=(*self.seen.findings, *found), model_ids=names)

    def read_text(self, seconds: float) -> None:
        """See the port."""
        picture, reader = self._picture, self._eye.reader
        if picture is None or reader is None:
            return
        until = time.monotonic() + seconds
        readings = written_in(reader, picture, self._noted(sharper_of(self._image, picture)), until)
        findings, doxing = list(self.seen.findings), self.seen.doxing
        for frame, reading in zip(picture.frames, readings, strict=True):
            scale = picture.full_width / frame.shape[1]
            found, exposing = self._eye.in_lines(reading.written, scale, (picture.full_width, picture.full_height))
            findings += found
            doxing = doxing or exposing
        names = (*self.seen.model_ids, name_of_reader(reader))
        self.all_read = all(reading.complete for reading in readings)
        self.seen = replace(self.seen, findings=tuple(dict.fromkeys(findings)), doxing=doxing, model_ids=names)

    def _noted(self, sharper: Sharper | None) -> Sharper | None:
        """The same, but `forget` knows of its pixels."""
        if sharper is None:
            return None

        def read() -> Pixels:
            self._more.append(sharper())
            return self._more[-1]

        return read

    def forget(self) -> None:
        """See the port."""
        if self._picture is not None:
            zero([*self._picture.frames, *self._more])
        self._image, self._picture, self._more = b"", None, []


class PictureRedactor:
    """See the port Redactor."""

    def __init__(self, models: FaceModels, rules: RedactionRules, reader: TextReader | None = None) -> None:
        self._models = models
        self._rules = rules
        self._reader = reader

    def redact(self, image: bytes, text: str, findings: Sequence[Finding]) -> Redacted:
        """See the port. A face that a detector still sees in a mosaic is covered with one colour instead."""
        spans = tuple(text_spans(findings))
        made = Redacted(
            image=b"",
            text=masked(text, spans),
            spans=spans,
            masks=(),
            size=(0, 0),
            format="",
            algorithm=ALGORITHM,
            rule_version=self._rules.name,
            parameters=tuple(self._rules.parameters()),
            model_ids=(),
            zeroed_bytes=0,
        )
        if not image:
            return made
        picture = _picture(image, None)
        masks = self.masks(findings, picture.full_width, picture.full_height)
        data, kind, masks = self._covered(picture, masks)
        names = [self._models.quick.name, self._models.thorough.name]
        size = picture.full_width, picture.full_height
        zeroed = zero(picture.frames)
        return replace(
            made, image=data, masks=tuple(masks), size=size, format=kind, model_ids=tuple(names), zeroed_bytes=zeroed
        )

    def masks(self, findings: Iterable[Finding], width: int, height: int) -> list[Mask]:
        """Faces first, so that where both overlap the line's one colour holds."""
        found = in_picture(list(findings))
        faces = [of_face(_region(each), self._rules) for each in found if each.kind is None]
        lines = [of_line(_region(each), self._rules) for each in found if each.kind is not None]
        return list(
            dict.fromkeys(
                masks_over(faces, Method.MOSAIC, width, height, self._rules)
                + masks_over(lines, Method.SOLID, width, height, self._rules)
            )
        )

    def _covered(self, picture: images.Picture, masks: list[Mask]) -> tuple[bytes, Format, list[Mask]]:
        kind = _FORMATS[picture.format]
        data, kind = self._file(cover(picture.pixels, masks, self._rules), kind)
        still = self.faces_in(images.read_picture(data).pixels, masks)
        if still:
            masks = [replace(each, method=Method.SOLID) if each in still else each for each in masks]
            data, kind = self._file(cover(picture.pixels, masks, self._rules), kind)
        return data, kind, masks

    def _file(self, rgb: Pixels, kind: Format) -> tuple[bytes, Format]:
        """As a file of the same kind, or as JPEG where that would be too large to hand back."""
        data = encoded(rgb, kind, self._rules.quality)
        if len(data) > _MOST_BYTES and kind != "JPEG":
            return encoded(rgb, "JPEG", self._rules.quality), "JPEG"
        return data, kind

    def faces_in(self, rgb: Pixels, masks: Sequence[Mask]) -> set[Mask]:
        """The masks in which either detector sees a face; the thorough one looks at its usual size."""
        boxes = self._models.quick.detect(rgb)
        boxes += self._models.thorough.detect(rgb, DetectionPlan().thorough_long_side)
        return {mask for mask in masks for box in boxes if mostly_inside(box, mask)}

    def prove(self, made: Redacted) -> list[RedactionCheck]:
        """See the port."""
        checks = [RedactionCheck("TEXT_MASKED", _text_masked(made), f"{len(made.spans)} spans")] if made.spans else []
        if not made.image:
            return checks
        try:
            picture = images.read_picture(made.image)
            rules = RedactionRules.from_parameters(made.parameters)
        except (images.UnreadableImage, ValueError):
            return [*checks, RedactionCheck("MASKS_COVERED", False, "unreadable")]
        open_ = uncovered(picture.pixels, made.masks, rules)
        faces = self.faces_in(picture.pixels, made.masks)
        said = metadata_of(made.image)
        size = picture.full_width, picture.full_height
        return [
            *checks,
            RedactionCheck("SIZE", size == made.size, f"{size[0]}x{size[1]}"),
            RedactionCheck("MASKS_COVERED", not open_ and made.algorithm == ALGORITHM, f"{len(open_)} open"),
            RedactionCheck("NO_FACE_IN_MASKS", not faces, f"{len(faces)} of {len(made.masks)}"),
            self._no_text(picture.pixels, made.masks),
            RedactionCheck("NO_METADATA", not said, f"{len(said)} fields"),
        ]

    def _no_text(self, rgb: Pixels, masks: Sequence[Mask]) -> RedactionCheck:
        solid = [mask for mask in masks if mask.method is Method.SOLID]
        if self._reader is None or not solid:
            return RedactionCheck("NO_TEXT_IN_MASKS", None)
        # Looking for lines costs a third of reading them, and in a mask there is mostly none to read.
        if not _masks_with(self._reader.find(rgb), solid):
            return RedactionCheck("NO_TEXT_IN_MASKS", True, f"0 of {len(solid)}")
        reading = self._reader.read(rgb)
        said = [line.quad for line in reading.written.lines if any(char.isalnum() for char in line.text)]
        read = _masks_with(said, solid)
        holds = not read if read or reading.complete else None
        return RedactionCheck("NO_TEXT_IN_MASKS", holds, f"{read} of {len(solid)}")


def _masks_with(lines: Sequence[Quad], masks: Sequence[Mask]) -> int:
    """In how many of the masks most of a line lies."""
    return sum(any(_share_inside(_around(line), mask) > 0.5 for line in lines) for mask in masks)


def mostly_inside(box: Box, mask: Mask) -> bool:
    """Whether more than half of a face that was found lies in a mask."""
    return _share_inside(region_of(box), mask) > 0.5


def _share_inside(region: Region, mask: Mask) -> float:
    width = min(region.right, mask.x + mask.width) - max(region.left, mask.x)
    height = min(region.bottom, mask.y + mask.height) - max(region.top, mask.y)
    area = (region.right - region.left) * (region.bottom - region.top)
    return width * height / area if width > 0 and height > 0 and area > 0 else 0.0


def _around(quad: Quad) -> Region:
    return Region(*quad.bounds)


def region_of(box: Box) -> Region:
    """A face's box as a region."""
    return Region(box.left, box.top, box.right, box.bottom)


def _region(finding: Finding) -> Region:
    x, y, width, height = finding.region
    return Region(x, y, x + width, y + height)


def _picture(image: bytes, enough: int | None) -> images.Picture:
    try:
        return images.read_picture(image, enough)
    except images.UnreadableImage as problem:
        raise UnreadableUpload(problem.reason) from None


def zero(frames: Iterable[Pixels]) -> int:
    """Overwrites decoded pixels; returns how many bytes. Pixels that Pillow owns cannot be written: they go with it."""
    count = 0
    for frame in frames:
        if frame.flags.writeable:
            frame.fill(0)
            count += frame.nbytes
    return count


def metadata_of(data: bytes) -> list[str]:
    """The names of everything that a picture's file carries besides its pixels."""
    with Image.open(io.BytesIO(data), formats=images.FORMATS) as picture:
        names = [str(key) for key in picture.info if key not in _PLAIN_INFO]
        return [*names, *(str(tag) for tag in picture.getexif())]


def _text_masked(made: Redacted) -> bool:
    return all(made.text[start:end] == masked(made.text[start:end], [(0, end - start)]) for start, end in made.spans)
