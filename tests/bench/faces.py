"""How fast is one face on one core: from a file to a decision, beside face_recognition; and the embedder by itself?"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from services.detector.adapters.analysis import ENOUGH_PIXELS
from services.detector.adapters.engines import OnnxNetwork, has_bf16
from services.detector.adapters.faces import FaceEngine, FaceMatcher, aligned, read_face_rules, stacked
from services.detector.adapters.gallery import Entry, FaissGallery
from services.detector.adapters.images import read_picture
from services.detector.adapters.model_files import ModelFile, read_manifest
from services.detector.adapters.models import OnnxEmbedder, open_models
from tests.scenario.system import ROOT

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]

PEER = ROOT / ".peers" / "bin" / "python"
PORTRAITS = ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg")
WIDTH, HEIGHT, FACE = 640, 480, 150
"""Every picture has 640 × 480 pixels and shows one face, 150 pixels high."""
STRANGERS = 100
BATCHES = (1, 8, 32)
LEAST_SPEEDUP, LEAST_GAIN, LEAST_GAIN_HALF, LEAST_COSINE = 12.0, 1.6, 2.5, 0.999

# What the peer's own examples do: find, encode, compare with everybody known.
PEER_PROGRAM = """
import json, sys, time
import numpy as np
import face_recognition as peer
files, times, known = sys.argv[2:], int(sys.argv[1]), list(np.random.default_rng(1).normal(size=(100, 128)))
def decide(name):
    found = peer.face_encodings(peer.load_image_file(name))
    for encoding in found:
        peer.face_distance(known, encoding).min()
    return len(found)
faces = [decide(name) for name in files]
started = time.process_time()
for _ in range(times):
    for name in files:
        decide(name)
print(json.dumps({"faces": faces, "seconds": (time.process_time() - started) / times / len(files)}))
"""


@dataclass(frozen=True)
class Result:
    """One figure of this part."""

    name: str
    values: tuple[float, ...]
    unit: str
    sample: str
    target: float | None = None

    @property
    def value(self) -> float:
        """The median run."""
        return statistics.median(self.values)


def measure(models: Path, pictures: Path, runs: int, say: Callable[[str], object]) -> list[Result]:
    """Every figure, `runs` times, on one core; times are processor seconds, which neighbours lengthen little."""
    with one_core():
        return [*_decisions(models, pictures, runs, say), *_embedder(models, pictures, runs)]


@contextmanager
def one_core() -> Iterator[None]:
    """Keeps this process and what it starts on one of its cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


def _decisions(models: Path, pictures: Path, runs: int, say: Callable[[str], object]) -> Iterator[Result]:
    engine = FaceEngine(open_models(models, 1))
    files = [_staged(engine, pictures / name) for name in PORTRAITS]
    matcher = FaceMatcher(engine, _gallery(engine, files[0]), read_face_rules())

    def decide(data: bytes) -> int:
        return len(matcher.match(engine.analyse(read_picture(data, ENOUGH_PIXELS).pixels)))

    if [decide(data) for data in files] != [1] * len(files):
        raise ValueError("a picture of the benchmark does not show exactly one face")
    ours, peers = [], []
    for _ in range(runs):
        ours.append(_seconds(lambda: [decide(data) for data in files], 8) / len(files))
        if PEER.exists():
            peers.append(_peer(files, 2))
    sample = f"{len(files)} portraits, {WIDTH} × {HEIGHT}, {STRANGERS + 1} enrolled, one core, {engine.engine_id}"
    yield Result("picture → decision", _milli(ours), " ms", sample)
    if not peers:
        say("  face_recognition is not here: `make bench-faces` installs it into .peers; its comparison is skipped")
        return
    yield Result("the same by face_recognition 1.3.0", _milli(peers), " ms", "the same files, HOG")
    yield Result("times as fast as face_recognition", _ratios(peers, ours), "", "run by run", LEAST_SPEEDUP)


def _embedder(models: Path, pictures: Path, runs: int) -> Iterator[Result]:
    """The embedder as used beside ONNX Runtime in FP32 over the file as its package has it."""
    file, engine = read_manifest(models)["fr_feature"], FaceEngine(open_models(models, 1))
    raw = models / "raw" / "fr_feature.onnx"
    given = OnnxNetwork(ModelFile("given", raw, hashlib.sha256(raw.read_bytes()).hexdigest(), "given"))
    prepared = OnnxEmbedder(file)
    faces = _crops(engine, pictures)
    planes = ((faces.astype(np.float32) - 127) / 128).transpose(0, 3, 1, 2)
    one = np.ascontiguousarray(planes[:1], np.float32)
    target = LEAST_GAIN_HALF if has_bf16() else LEAST_GAIN
    sample = f"{len(faces)} faces, one thread"
    # The given file takes one face at a time: its time a face is that of batch 1.
    plain = [_seconds(partial(given.run, one), 4) for _ in range(runs)]
    yield Result("embedder: the given file, ONNX Runtime FP32", _milli(plain), " ms", sample)
    for batch in BATCHES:
        crops = np.ascontiguousarray(np.resize(faces, (batch, *faces.shape[1:])))
        reference = [_seconds(partial(prepared.embed, crops), 3) / batch for _ in range(runs)]
        used = [_seconds(partial(engine.embed, crops), 6) / batch for _ in range(runs)]
        yield Result(f"prepared, ONNX Runtime FP32, batch {batch}", _milli(reference), " ms a face", sample)
        yield Result(f"as used, {engine.engine_id}, batch {batch}", _milli(used), " ms a face", sample)
        yield Result(f"gain over the given file, batch {batch}", _ratios(plain, used), "", "run by run", target)
        yield Result(f"gain over the prepared file, batch {batch}", _ratios(reference, used), "", "run by run")
    expected = np.concatenate([given.run(np.ascontiguousarray(plane[np.newaxis]))[0] for plane in planes])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    cosines = np.sum(expected * engine.embed(faces), axis=1)
    yield Result("least cosine to the given file", (float(cosines.min()),), "", f"{len(faces)} faces", LEAST_COSINE)


def _staged(engine: FaceEngine, path: Path) -> bytes:
    """The portrait's face, 150 pixels high, in a picture of 640 × 480 filled with the portrait's own surroundings."""
    rgb = read_picture(path.read_bytes()).pixels
    face = engine.analyse(rgb)[0].box
    scale = FACE / face.height
    shift = (WIDTH / 2 - scale * (face.left + face.right) / 2, HEIGHT / 2 - scale * (face.top + face.bottom) / 2)
    matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
    view = cv2.warpAffine(rgb, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REPLICATE)
    return bytes(cv2.imencode(".jpg", view[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1])


def _gallery(engine: FaceEngine, data: bytes) -> FaissGallery:
    """The first portrait among vectors of nobody."""
    chance = np.random.default_rng(1)
    gallery = FaissGallery(engine.model_id, 512)
    look = engine.second_look(*stacked(engine.analyse(read_picture(data).pixels)))[0].vectors
    gallery.add([Entry("t", "subscriber", look[engine.model_id], look[engine.second_model_id])])
    for number in range(STRANGERS):
        first, second = (_unit(chance.normal(size=length)) for length in (512, 192))
        gallery.add([Entry(f"t{number}", f"stranger-{number}", first, second)])
    return gallery


def _unit(vector: NDArray[np.float64]) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def _crops(engine: FaceEngine, pictures: Path) -> Pixels:
    """The aligned faces of the demo's pictures."""
    found = []
    for path in sorted(pictures.glob("*.jpg")):
        rgb = read_picture(path.read_bytes(), ENOUGH_PIXELS).pixels
        found += [aligned(rgb, face.points) for face in engine.detect(rgb)]
    return np.stack(found)


def _milli(seconds: Sequence[float]) -> tuple[float, ...]:
    return tuple(1000 * each for each in seconds)


def _ratios(over: Sequence[float], under: Sequence[float]) -> tuple[float, ...]:
    return tuple(one / other for one, other in zip(over, under, strict=True))


def _seconds(work: Callable[[], object], times: int) -> float:
    """Processor seconds of one piece of work, the mean of several."""
    work()
    started = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - started) / times


def _peer(files: Sequence[bytes], times: int) -> float:
    """Processor seconds a picture. Raises CalledProcessError when the peer fails."""
    with tempfile.TemporaryDirectory() as folder:
        names = []
        for number, data in enumerate(files):
            names.append(str(Path(folder) / f"{number}.jpg"))
            Path(names[-1]).write_bytes(data)
        done = subprocess.run(
            [str(PEER), "-c", PEER_PROGRAM, str(times), *names],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    answer = json.loads(done.stdout.strip().splitlines()[-1])
    if answer["faces"] != [1] * len(files):
        raise ValueError(f"face_recognition found {answer['faces']} faces")
    return float(answer["seconds"])
