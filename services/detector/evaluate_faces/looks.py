"""What the face engine sees in each picture of the data, computed once and kept."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np

from services.detector.adapters import covering, engines, faces, images, models, tiles
from services.detector.adapters.analysis import ENOUGH_PIXELS, larger_of
from services.detector.adapters.faces import Face, FaceEngine, Larger, SecondLook, stacked
from services.detector.adapters.images import Pixels, UnreadableImage, read_picture
from services.detector.adapters.model_files import read_manifest
from services.detector.adapters.models import Box, Floats, shared
from services.detector.adapters.tiles import RULES_FILE
from services.detector.domain.faces import FaceQuality
from services.detector.evaluate_faces.data import Listed

Advance = Callable[[int], None]
"""Told after each portion how many pictures are done."""

UNREADABLE, NO_FACE = "UNREADABLE", "NO_FACE"
CANVAS = (960, 1280)
"""Height and width of the scenery into which small faces are put, unless another is asked for."""
_QUALITY = 92
"""Of the JPEG that a larger scenery is handed in as."""
_PORTION = 16
_LEAST_SHARED = 0.3


@dataclass(frozen=True)
class Sight:
    """The face that counts in one picture, as the product would see it. `repr` shows no vector."""

    box: Box
    quality: FaceQuality
    detector: str
    vector: Floats = field(repr=False)
    look: SecondLook = field(repr=False)


@dataclass(frozen=True)
class Seen:
    """One picture: its face, or why there is none."""

    sight: Sight | None
    fault: str = ""


@dataclass(frozen=True)
class _Task:
    """A picture to look at; with `side` it is shrunk until its face is so large, and put into scenery."""

    listed: Listed
    key: str
    side: int = 0
    box: Box | None = None
    canvas: tuple[int, int] = CANVAS


class Looks:
    """Asks the engine once for each picture; a folder keeps the answers, one file a picture.

    The name of a file is a hash over the picture and all that makes its vectors: model files, engine, and the code
    that leads to them. The folder holds vectors of faces: it belongs to its owner alone (mode 700).
    """

    def __init__(self, engine: FaceEngine, model_folder: Path, cache: Path) -> None:
        self._engine = engine
        self._cache = cache
        self._pipeline = pipeline_of(engine, model_folder)

    def look_at(self, listed: Sequence[Listed], advance: Advance) -> list[Seen]:
        """Each picture's face nearest to the middle. Raises BadData for a file that is not the listed one."""
        return self._all([_Task(each, self._key(each)) for each in listed], advance)

    def shrunk(
        self,
        listed: Sequence[Listed],
        boxes: Sequence[Box],
        side: int,
        advance: Advance,
        canvas: tuple[int, int] = CANVAS,
    ) -> list[Seen]:
        """Each picture's face (at `boxes`), seen `side` pixels small (shorter side) in large scenery without others;
        `canvas` is its height and width.
        """
        tasks = [
            _Task(each, self._key(each, f"{side} in {canvas}"), side, box, canvas)
            for each, box in zip(listed, boxes, strict=True)
        ]
        return self._all(tasks, advance)

    def _all(self, tasks: Sequence[_Task], advance: Advance) -> list[Seen]:
        known = {task.key: seen for task in tasks if (seen := self._kept(task.key)) is not None}
        advance(sum(task.key in known for task in tasks))
        missing = list({task.key: task for task in tasks if task.key not in known}.values())
        for at in range(0, len(missing), _PORTION):
            portion = missing[at : at + _PORTION]
            for task, seen in zip(portion, self._look(portion), strict=True):
                self._keep(task.key, seen)
                known[task.key] = seen
            advance(len(portion))
        return [known[task.key] for task in tasks]

    def _look(self, portion: Sequence[_Task]) -> Iterator[Seen]:
        shown = [_shown(task) for task in portion]
        views = [view for view in shown if isinstance(view, _View)]
        found = iter(self._engine.analyse_many([view.pixels for view in views], [view.larger for view in views]))
        chosen = [_chosen(view, next(found)) if isinstance(view, _View) else None for view in shown]
        seen = self._engine.posed([face for face in chosen if face is not None])
        looks = self._engine.second_look(*stacked(seen)) if seen else []
        sights = map(_sight, seen, looks)
        for view, face in zip(shown, chosen, strict=True):
            if face is not None:
                yield Seen(next(sights))
            else:
                yield Seen(None, view if isinstance(view, str) else NO_FACE)

    def _key(self, listed: Listed, variant: str = "") -> str:
        picture = hashlib.sha256(listed.read()).hexdigest()
        return hashlib.sha256(f"{self._pipeline} {picture} {variant}".encode()).hexdigest()

    def _path(self, key: str) -> Path:
        return self._cache / key[:2] / f"{key}.npz"

    def _kept(self, key: str) -> Seen | None:
        try:
            return _unpacked(self._path(key).read_bytes(), self._engine)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
            return None

    def _keep(self, key: str, seen: Seen) -> None:
        """Whole or not at all: an interrupted run leaves no broken file."""
        path = self._path(key)
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(_packed(seen, self._engine))
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class _View:
    """What the engine is shown, and where the face must be; None: nearest to the middle."""

    pixels: Pixels = field(repr=False)
    place: Box | None = None
    larger: Larger | None = None


def _shown(task: _Task) -> _View | str:
    data = task.listed.read()
    try:
        picture = read_picture(data, ENOUGH_PIXELS)
    except UnreadableImage:
        return UNREADABLE
    if task.box is None:
        return _View(picture.pixels, None, larger_of(data, picture))
    view = _in_scenery(picture.pixels, task.box, task.side, int(task.key[:8], 16), task.canvas)
    return view if task.canvas == CANVAS else _handed_in(view)


def _handed_in(view: _View) -> _View:
    """The view as a JPEG that is read as the product reads one: perhaps at a fraction of its size."""
    bgr = cv2.cvtColor(view.pixels, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
    picture = read_picture(data, ENOUGH_PIXELS)
    down, across = (a / b for a, b in zip(picture.pixels.shape[:2], view.pixels.shape[:2], strict=True))
    place = None if view.place is None else view.place.moved(0, 0, across, down)
    return _View(picture.pixels, place, larger_of(data, picture))


def _chosen(view: _View, found: Sequence[Face]) -> Face | None:
    place = view.place
    if place is not None:
        best = max(found, key=lambda face: shared(face.box, place), default=None)
        return best if best is not None and shared(best.box, place) >= _LEAST_SHARED else None
    return _central(found, view.pixels)


def _central(found: Sequence[Face], rgb: Pixels) -> Face | None:
    y, x = rgb.shape[0] / 2, rgb.shape[1] / 2
    return min(
        found,
        key=lambda f: abs((f.box.left + f.box.right) / 2 - x) + abs((f.box.top + f.box.bottom) / 2 - y),
        default=None,
    )


def _in_scenery(rgb: Pixels, box: Box, side: int, seed: int, canvas: tuple[int, int]) -> _View:
    """The picture, reduced, somewhere in smooth random colours, and where its face lies there."""
    scale = side / min(box.width, box.height)
    height, width = (max(1, round(length * scale)) for length in rgb.shape[:2])
    chance = np.random.default_rng(seed)
    coarse = chance.integers(40, 216, (7, 9, 3), dtype=np.uint8)
    scenery = np.asarray(cv2.resize(coarse, canvas[::-1], interpolation=cv2.INTER_CUBIC), np.uint8)
    height, width = min(height, canvas[0]), min(width, canvas[1])
    y = int(chance.integers(0, canvas[0] - height + 1))
    x = int(chance.integers(0, canvas[1] - width + 1))
    small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
    scenery[y : y + height, x : x + width] = small
    return _View(scenery, box.moved(x, y, width / rgb.shape[1], height / rgb.shape[0]))


def _sight(face: Face, look: SecondLook) -> Sight:
    return Sight(face.box, face.quality, face.detector, face.vector, look)


def _packed(seen: Seen, engine: FaceEngine) -> bytes:
    sight = seen.sight
    facts = {"fault": seen.fault} if sight is None else _facts(sight)
    arrays = {} if sight is None else {"vector": sight.vector} | _named(sight.look, engine)
    buffer = io.BytesIO()
    text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(buffer, facts=text, **arrays)  # type: ignore[arg-type] # its one keyword argument is a flag
    return buffer.getvalue()


def _facts(sight: Sight) -> dict[str, object]:
    box = sight.box
    corners = [box.left, box.top, box.right, box.bottom, box.score]
    return {"box": corners, "detector": sight.detector, "quality": asdict(sight.quality)}


def _named(look: SecondLook, engine: FaceEngine) -> dict[str, Floats]:
    return {"first": look.vectors[engine.model_id], "second": look.vectors[engine.second_model_id]}


def _unpacked(content: bytes, engine: FaceEngine) -> Seen:
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        facts = json.loads(arrays["facts"].tobytes())
        if "fault" in facts:
            return Seen(None, str(facts["fault"]))
        look = SecondLook({engine.model_id: arrays["first"], engine.second_model_id: arrays["second"]})
        quality = FaceQuality(**facts["quality"])
        return Seen(Sight(Box(*facts["box"]), quality, facts["detector"], arrays["vector"], look))


def pipeline_of(engine: FaceEngine, model_folder: Path) -> str:
    """Changes with whatever may change a vector or a quality: models, engine, code (comments apart)."""
    parts = [engine.model_id, engine.second_model_id, engine.engine_id]
    parts += [f"{file.name} {file.sha256}" for file in read_manifest(model_folder).values()]
    parts += [f.name for f in fields(FaceQuality)] + [RULES_FILE.read_text(encoding="utf-8")]
    parts += [covering.RULES_FILE.read_text(encoding="utf-8")]
    parts += [code_of(module) for module in (covering, engines, faces, images, models, tiles)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def code_of(module: ModuleType) -> str:
    """Changes with a module's code, comments apart."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    return hashlib.sha256(ast.dump(ast.parse(source)).encode()).hexdigest()
