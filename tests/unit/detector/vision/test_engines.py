"""Whether every engine gives the reference's answers, and what happens where one is missing or differs."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.chassis.config import Config, ConfigError
from services.detector.__main__ import Tuning
from services.detector.__main__ import _open as opened_models
from services.detector.adapters.engines import (
    AUTO,
    ENGINES,
    LEAST_COSINE,
    ONNXRUNTIME,
    OPENVINO,
    Network,
    OnnxNetwork,
    OpenVinoNetwork,
    UnusableEngine,
    open_network,
)
from services.detector.adapters.model_files import ModelFile, UnusableModel, read_manifest
from services.detector.adapters.models import open_models
from services.detector.adapters.rules import read_rules

from .conftest import MODELS, ROOT, paint

pytestmark = pytest.mark.slow

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def files() -> dict[str, ModelFile]:
    if not (MODELS / "models.json").exists():
        pytest.skip("no prepared models in .cache/models: run `make models`")
    return read_manifest(MODELS)


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.stack([paint(seed, 112, 112) for seed in range(9)])


def opened(file: ModelFile, bf16: bool) -> OpenVinoNetwork:
    try:
        return OpenVinoNetwork(file, bf16=bf16)
    except UnusableEngine as problem:
        pytest.skip(str(problem))


def cosines(one: Floats, other: Floats) -> Floats:
    return np.asarray(np.sum(one * other, axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1))


@pytest.mark.parametrize("name", ["fr_feature", "mobilefacenet"])
@pytest.mark.parametrize(("bf16", "least"), [(False, LEAST_COSINE), (True, 0.999)])
def test_vectors_are_those_of_the_reference(
    files: dict[str, ModelFile], crops: NDArray[np.uint8], name: str, bf16: bool, least: float
) -> None:
    network = opened(files[name], bf16)
    assert network.engine_id.endswith("bf16" if bf16 else "fp32")
    found = cosines(network.run(crops)[0], OnnxNetwork(files[name]).run(crops)[0])
    assert found.min() >= least


def test_what_was_compiled_is_kept_and_what_is_spoilt_or_could_be_somebody_elses_is_made_anew(
    files: dict[str, ModelFile], crops: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIKIMI_CACHE_DIR", str(tmp_path))
    expected = opened(files["fr_feature"], bf16=False).run(crops)[0]
    [kept] = (tmp_path / "openvino").iterdir()
    first, made = kept.read_bytes(), kept.stat()
    assert made.st_mode & 0o777 == 0o600
    assert np.array_equal(opened(files["fr_feature"], bf16=False).run(crops)[0], expected)
    assert kept.stat().st_ino == made.st_ino
    for spoil in (lambda: kept.write_bytes(first[:-7]), lambda: kept.chmod(0o622)):
        spoil()
        before = kept.stat().st_ino
        assert np.array_equal(opened(files["fr_feature"], bf16=False).run(crops)[0], expected)
        assert kept.stat().st_ino != before
        assert kept.stat().st_mode & 0o777 == 0o600
    # It is read indeed: what lies there is what answers.
    opened(files["mobilefacenet"], bf16=False)
    [other] = {*(tmp_path / "openvino").iterdir()} - {kept}
    kept.write_bytes(other.read_bytes())
    assert np.allclose(
        opened(files["fr_feature"], bf16=False).run(crops)[0], opened(files["mobilefacenet"], bf16=False).run(crops)[0]
    )


def test_a_folder_that_cannot_be_written_stops_no_engine(
    files: dict[str, ModelFile], crops: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "openvino").write_text("a file where the folder should be", encoding="ascii")
    monkeypatch.setenv("JIKIMI_CACHE_DIR", str(tmp_path))
    assert opened(files["fr_feature"], bf16=False).run(crops)[0].shape[0] == len(crops)


def test_callers_at_the_same_time_get_their_own_answers(files: dict[str, ModelFile], crops: NDArray[np.uint8]) -> None:
    network = opened(files["fr_feature"], bf16=False)
    expected = network.run(crops)[0]
    answers: dict[int, list[Floats]] = {at: [] for at in range(3)}

    def ask(at: int) -> None:
        answers[at] = [network.run(crops[at : at + 1])[0][0] for _ in range(5)]

    threads = [threading.Thread(target=ask, args=(at,)) for at in answers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for at, found in answers.items():
        assert len(found) == 5
        assert np.allclose(found, expected[at], atol=1e-4)


@pytest.mark.parametrize("engine", [AUTO, ONNXRUNTIME])
def test_an_engine_that_differs_is_not_used(files: dict[str, ModelFile], engine: str) -> None:
    network = open_network(files["fr_landmark"], 1, engine, lambda one, other: False)
    assert network.engine_id.startswith("onnxruntime-")


def test_an_engine_asked_for_by_name_must_agree(files: dict[str, ModelFile]) -> None:
    opened(files["fr_landmark"], bf16=False)
    with pytest.raises(UnusableEngine, match="does not give the answers"):
        open_network(files["fr_landmark"], 1, OPENVINO, lambda one, other: False)


def test_the_comparison_sees_both_networks(files: dict[str, ModelFile]) -> None:
    opened(files["fr_landmark"], bf16=False)
    seen: list[Sequence[str]] = []

    def agrees(one: Network, other: Network) -> bool:
        seen.append([each.engine_id.split("-", 1)[0] for each in (one, other)])
        return True

    assert open_network(files["fr_landmark"], 1, AUTO, agrees).engine_id.startswith("openvino-")
    assert seen == [["openvino", "onnxruntime"]]


def test_templates_belong_to_the_weights_and_not_to_the_engine(files: dict[str, ModelFile]) -> None:
    ids = {engine: open_models(MODELS, engine=engine).embedder.model_id for engine in ENGINES if engine != OPENVINO}
    assert set(ids.values()) == {files["fr_feature"].model_id}


def folder_with_an_added_model(files: dict[str, ModelFile], folder: Path) -> str:
    """The prepared models in a folder of their own, fr_feature taken in once more as an operator's. Its model_id."""
    for each in files.values():
        (folder / each.path.name).symlink_to(each.path.resolve())
    (folder / "models.json").symlink_to((MODELS / "models.json").resolve())
    (folder / "added").mkdir()
    file = files["fr_feature"]
    (folder / "added" / "mine.onnx").symlink_to(file.path.resolve())
    entry = {"file": "mine.onnx", "sha256": file.sha256, "model_id": "mine-0123456789ab"}
    (folder / "added" / "models.json").write_text(json.dumps({"format": 1, "models": {"mine": entry}}))
    return entry["model_id"]


def test_the_rules_choose_an_embedder_that_an_operator_took_in(files: dict[str, ModelFile], tmp_path: Path) -> None:
    added = folder_with_an_added_model(files, tmp_path)
    second = files["mobilefacenet"].model_id
    models = open_models(tmp_path, engine=ONNXRUNTIME, model_ids=(added, second))
    assert (models.embedder.model_id, models.second_embedder.model_id) == (added, second)
    crops = np.zeros((1, 112, 112, 3), np.uint8)
    assert models.embedder.embed(crops).shape == (1, 512)


def test_a_model_that_is_not_there_is_refused_with_what_is(files: dict[str, ModelFile], tmp_path: Path) -> None:
    added = folder_with_an_added_model(files, tmp_path)
    with pytest.raises(UnusableModel) as refused:
        open_models(tmp_path, engine=ONNXRUNTIME, model_ids=("gone-1", files["mobilefacenet"].model_id))
    known = f"{files['fr_feature'].model_id}, {files['mobilefacenet'].model_id}, {added}"
    assert "name the model gone-1" in str(refused.value) and str(refused.value).endswith(f"one of these: {known}")


def test_the_start_ends_with_what_to_do_when_a_model_is_missing(files: dict[str, ModelFile], tmp_path: Path) -> None:
    rules = read_rules()
    config = Config(service="detector", home=tmp_path, models_dir=MODELS)
    with pytest.raises(ConfigError) as refused:
        opened_models(config, Tuning(), replace(rules, faces=replace(rules.faces, model_id="gone-1")))
    assert str(refused.value).startswith("JIKIMI_MODELS_DIR: the rules of faces name the model gone-1")
    assert "jikimi model add" in str(refused.value)


def run_python(program: str, home: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"HOME": str(home), "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_a_machine_without_openvino_uses_onnx_runtime(files: dict[str, ModelFile], tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['openvino'] = None\n"
        "from pathlib import Path\n"
        "from services.detector.adapters.models import open_models\n"
        f"print(open_models(Path({str(MODELS)!r})).embedder.engine_id)"
    )
    assert run_python(program, tmp_path).splitlines()[-1].startswith("onnxruntime-")


def test_opening_the_models_reports_to_nobody(files: dict[str, ModelFile], tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from services.detector.adapters.models import open_models\n"
        f"open_models(Path({str(MODELS)!r}))\n"
        "print([name for name in sys.modules if name.startswith('openvino_telemetry')])"
    )
    assert run_python(program, tmp_path).splitlines()[-1] == "[]"
    assert [path.name for path in tmp_path.iterdir()] == []
