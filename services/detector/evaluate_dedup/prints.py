"""The fingerprint of each picture of the data, computed once and kept."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from services.detector.adapters import fingerprints
from services.detector.adapters.analysis import ENOUGH_PIXELS
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.fingerprints import MOST_FACES, Fingerprint, Points, fingerprint
from services.detector.adapters.images import read_picture
from services.detector.evaluate_dedup import transforms
from services.detector.evaluate_faces.looks import code_of, pipeline_of

_HASHES = {"dhashes", "phashes", "pdqs"}
"""Of all orientations: what the table keeps are the upright ones alone."""


class Prints:
    """Makes fingerprints as the product does; a folder keeps them, and the face crops they were made of.

    Both are named by a hash over the picture and the code that makes them, so that nothing stale is ever read. The
    folder holds faces: it belongs to its owner alone (mode 700).
    """

    def __init__(self, engine: FaceEngine, model_folder: Path, cache: Path) -> None:
        self._engine = engine
        self._cache = cache
        self._faces = pipeline_of(engine, model_folder)
        self._prints = self._faces + code_of(fingerprints)
        self._changes = code_of(transforms)

    def of(self, data: bytes, change: str = "") -> Fingerprint:
        """The fingerprint, as of a fresh picture, of a picture or of what a transform makes of it."""
        key = hashlib.sha256(data).hexdigest() + (f" {change} {self._changes}" if change else "")
        path = self._path(f"{self._prints} {key}")
        held = _read(path)
        if held is not None and _HASHES <= held.keys():
            return _opened(held)
        made = self._made(data, change, key)
        mirrored = made.mirrored_points
        assert mirrored is not None  # it is a fresh one
        places = {"places": made.points.places, "mirrored_places": mirrored.places}
        descriptors = {"descriptors": made.points.descriptors, "mirrored_descriptors": mirrored.descriptors}
        kept = np.frombuffer(made.to_bytes(), np.uint8)
        hashes = {name: getattr(made, name) for name in _HASHES}
        self._keep(path, {"kept": kept, **hashes, **places, **descriptors})
        return made

    def _made(self, data: bytes, change: str, key: str) -> Fingerprint:
        rgb = read_picture(data, ENOUGH_PIXELS).pixels
        if change:
            rgb = np.ascontiguousarray(transforms.transforms()[change](rgb))
        path = self._path(f"{self._faces} {key}")
        held = _read(path)
        crops = list(held["crops"]) if held is not None else self._engine.crops(rgb)[:MOST_FACES]
        if held is None:
            self._keep(path, {"crops": np.array(crops, np.uint8).reshape(-1, 112, 112, 3)})
        return fingerprint(key.encode(), rgb, crops)

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self._cache / name[:2] / f"{name}.npz"

    def _keep(self, path: Path, arrays: Mapping[str, Any]) -> None:
        """Whole or not at all: an interrupted run leaves no broken file."""
        self._cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez_compressed(file, **arrays)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def kept(of: Sequence[Fingerprint]) -> list[Fingerprint]:
    """As they come back from the table: fewer points, nothing to mirror."""
    return [Fingerprint.from_bytes(each.to_bytes()) for each in of]


def _read(path: Path) -> Mapping[str, Any] | None:
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def _opened(held: Mapping[str, Any]) -> Fingerprint:
    hashes = {name: held[name] for name in _HASHES}
    points = Points(held["places"], held["descriptors"])
    whole = replace(Fingerprint.from_bytes(held["kept"].tobytes()), points=points, **hashes)
    return whole.with_mirror(Points(held["mirrored_places"], held["mirrored_descriptors"]))
