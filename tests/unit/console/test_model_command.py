"""What `jikimi model` takes in, what it refuses and why, and the folder that it lays for a Triton server."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2

from services.console.__main__ import HANDED_OVER
from services.detector import model_command
from services.detector.adapters.engines import OnnxNetwork
from services.detector.adapters.model_contract import BreaksContract, examine
from services.detector.adapters.model_files import ModelFile, read_manifest
from services.detector.adapters.model_repository import lay, lay_embedder
from services.detector.adapters.triton import probe_crops, version_of

TOOLS = model_command.WRAP[0]
MODELS = Path(__file__).parents[3] / ".cache" / "models"
STATED = ["--licence", "Apache-2.0", "--source", "https://example.org/model"]
NUMBERS = ["--offset", "127.5", "--divisor", "128"]

Floats = NDArray[np.float32]


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, dict[str, str]]]:
    """(folder of files that operators might bring, what the wrapping said of each)."""
    if not TOOLS.exists():
        pytest.skip("the tool environment is missing: run `make setup`")
    folder = tmp_path_factory.mktemp("operators") / "files"
    script = Path(__file__).with_name("operator_models.py")
    done = subprocess.run([TOOLS, script, folder], capture_output=True, text=True, check=True, timeout=60)
    return folder, json.loads(done.stdout)


Operators = tuple[Path, dict[str, dict[str, str]]]


def expected_vectors(
    crops: NDArray[np.uint8], offset: Any = 127.5, divisor: Any = 128.0, order: Sequence[int] = (0, 1, 2)
) -> Floats:
    """What the small embedder of the test files computes, written down in NumPy."""
    values = ((crops.astype(np.float64) - offset) / divisor)[..., list(order)]
    grid = values.reshape(-1, 8, 14, 8, 14, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2).reshape(len(crops), -1)
    return (grid / np.linalg.norm(grid, axis=1, keepdims=True)).astype(np.float32)


def vectors_of(folder: Path, name: str) -> Floats:
    path = folder / "wrapped" / f"{name}.onnx"
    return OnnxNetwork(ModelFile(name, path, digest(path), name)).run(probe_crops())[0]


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["good", "fixed_to_one", "channels_last", "four_sides", "our_names", "chosen"])
def test_a_wrapped_file_computes_what_the_file_did(operators: Operators, name: str) -> None:
    folder, _ = operators

    assert np.allclose(expected_vectors(probe_crops()), vectors_of(folder, name), atol=1e-5)
    assert 192 == examine((folder / "wrapped" / f"{name}.onnx").read_bytes()).dimension


def test_normalisation_is_said_in_the_order_red_green_blue(operators: Operators) -> None:
    folder, _ = operators
    by_channel = expected_vectors(probe_crops(), np.array([10, 20, 30]), np.array([1, 2, 4]))

    assert np.allclose(by_channel, vectors_of(folder, "by_channel"), atol=1e-5)
    assert np.allclose(expected_vectors(probe_crops(), order=(2, 1, 0)), vectors_of(folder, "bgr"), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("not_onnx", "NOT_ONNX"),
        ("two_inputs", "INPUTS"),
        ("other_type", "INPUT_TYPE"),
        ("other_size", "INPUT_SHAPE"),
        ("batch_of_four", "BATCH"),
        ("two_outputs", "OUTPUTS"),
        ("chosen_wrongly", "OUTPUTS"),
        ("short", "OUTPUT_SHAPE"),
        ("old", "OPSET_TOO_OLD"),
        ("custom_operator", "CUSTOM_OPERATORS"),
        ("weights_elsewhere", "WEIGHTS_ELSEWHERE"),
        ("hidden_elsewhere", "WEIGHTS_ELSEWHERE"),
        ("broken", "NOT_VALID"),
        ("by_nothing", "DIVISOR"),
    ],
)
def test_what_cannot_be_wrapped_is_refused_with_the_reason(operators: Operators, name: str, reason: str) -> None:
    folder, answers = operators

    assert reason == answers[name]["reason"]
    assert not (folder / "wrapped" / f"{name}.onnx").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fixed_for_good", "NO_BATCHES"),
        ("batch_dependent", "BATCH_CHANGES_VECTORS"),
        ("noisy", "NOT_DETERMINISTIC"),
        ("blind", "BLIND"),
        ("no_numbers", "NOT_FINITE"),
    ],
)
def test_what_is_wrapped_but_misbehaves_is_refused_with_the_reason(
    operators: Operators, name: str, reason: str
) -> None:
    folder, _ = operators

    with pytest.raises(BreaksContract) as caught:
        examine((folder / "wrapped" / f"{name}.onnx").read_bytes())

    assert reason == caught.value.reason


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07" * 100])
def test_what_does_not_run_is_refused(content: bytes) -> None:
    with pytest.raises(BreaksContract) as caught:
        examine(content)

    assert "CANNOT_RUN" == caught.value.reason


def test_an_unwrapped_file_does_not_pass_for_a_wrapped_one(operators: Operators) -> None:
    folder, _ = operators

    with pytest.raises(BreaksContract) as caught:
        examine((folder / "good.onnx").read_bytes())

    assert "SIGNATURE" == caught.value.reason


def test_whatever_changes_a_vector_changes_the_model_id(operators: Operators) -> None:
    _, answers = operators
    made = [answer["model_id"] for answer in answers.values() if "model_id" in answer]

    assert len(made) == len(set(made))
    assert all(each.startswith("mine-") and each.endswith("-c1") for each in made)


def add(operators: Operators, models: Path, file: str = "good", name: str = "mine", *more: str) -> int:
    folder, _ = operators
    given = ["add", str(folder / f"{file}.onnx"), "--name", name, "--models", str(models), *NUMBERS, *more]
    return model_command.run([*given, *([] if "--licence" in more else STATED)])


def test_an_added_model_has_a_card_a_licence_and_no_thresholds(
    operators: Operators, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == add(operators, tmp_path, "good", "mine", "--json")
    card = json.loads(capsys.readouterr().out)
    (file,) = read_manifest(tmp_path / "added").values()

    assert (file.model_id, file.sha256, 192) == (card["model_id"], card["sha256"], card["dimension"])
    assert ("Apache-2.0", {}, None) == (card["licence"], card["thresholds"], card["evaluation"])
    assert examine(file.read()).dimension == card["dimension"]
    assert card == json.loads((tmp_path / "added" / f"{file.model_id}.card.json").read_text())


@pytest.mark.slow
def test_the_same_file_may_be_added_again_and_another_not_under_its_name(
    operators: Operators, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [0, 0] == [add(operators, tmp_path) for _ in range(2)]
    before = read_manifest(tmp_path / "added")

    assert 1 == add(operators, tmp_path, "channels_last")
    assert "NAME_TAKEN" in capsys.readouterr().err
    assert before == read_manifest(tmp_path / "added")
    assert 0 == add(operators, tmp_path, "channels_last", "mine_too")
    assert {"mine", "mine_too"} == set(read_manifest(tmp_path / "added"))


def test_a_name_of_the_prepared_models_is_taken(
    operators: Operators, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepared_folder(tmp_path)

    assert 1 == add(operators, tmp_path, "good", "fr_feature")
    assert "NAME_TAKEN" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--licence", " ", "--source", "x"], "LICENCE_MISSING"),
        (["--licence", "CC BY-NC 4.0", "--source", "x"], "LICENCE_NON_COMMERCIAL"),
        (["--licence", "non-commercial research only", "--source", "x"], "LICENCE_NON_COMMERCIAL"),
        (["--name", "My Model"], "NAME"),
        (["--name", "../mine"], "NAME"),
        (["--offset", "grey"], "CANNOT_WRAP"),
        (["--divisor", "1,2"], "CANNOT_WRAP"),
    ],
)
def test_what_is_said_of_a_model_is_checked(
    operators: Operators, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], reason: str
) -> None:
    assert 1 == add(operators, tmp_path, "good", "mine", *more)
    assert f"Refused: {reason}." in capsys.readouterr().err
    assert [] == list(tmp_path.rglob("*"))


def test_a_file_that_is_not_there_is_refused_in_words(
    operators: Operators, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == add(operators, tmp_path, "nowhere")
    assert "Refused:" in capsys.readouterr().err


def test_without_an_offset_nothing_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        model_command.run(["add", "x.onnx", "--name", "mine", *STATED])

    assert 2 == stopped.value.code
    assert "--offset" in capsys.readouterr().err


def test_jikimi_hands_the_verb_over() -> None:
    assert ("services.detector", "model") == HANDED_OVER["model",]


# --- the repository ---


def prepared_folder(
    folder: Path, content: bytes = b"weights", model_id: str = "fr_feature-000000000001-p1"
) -> ModelFile:
    """A folder with one prepared model; what is in the file does not matter to whoever lays it."""
    (folder / "fr_feature.onnx").write_bytes(content)
    entry = {"file": "fr_feature.onnx", "sha256": hashlib.sha256(content).hexdigest(), "model_id": model_id}
    (folder / "models.json").write_text(json.dumps({"format": 1, "models": {"fr_feature": entry}}))
    return read_manifest(folder)["fr_feature"]


def test_a_model_is_laid_with_its_configurations_under_its_own_version(tmp_path: Path) -> None:
    file = prepared_folder(tmp_path)
    out = tmp_path / "repository"

    (laid,) = lay({"fr_feature": file}, out)

    assert version_of(file.model_id) == laid.version
    assert b"weights" == (out / "fr_feature" / str(laid.version) / "model.onnx").read_bytes()
    assert {"config.pbtxt", "configs", str(laid.version)} == {each.name for each in (out / "fr_feature").iterdir()}
    assert (model_command.ROOT / "deploy/triton/models/fr_feature/config.pbtxt").read_text() == (
        out / "fr_feature" / "config.pbtxt"
    ).read_text()


def test_the_version_before_stays_and_older_ones_go(tmp_path: Path) -> None:
    out = tmp_path / "repository"
    versions = []
    for at in range(4):
        file = prepared_folder(tmp_path, f"weights {at}".encode(), f"fr_feature-{at:012}-p1")
        versions += [laid.version for laid in lay({"fr_feature": file}, out)]

    left = {int(each.name) for each in (out / "fr_feature").iterdir() if each.name.isdigit()}
    assert set(versions[2:]) == left


def test_laying_again_changes_nothing(tmp_path: Path) -> None:
    file, out = prepared_folder(tmp_path), tmp_path / "repository"
    lay({"fr_feature": file}, out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}

    lay({"fr_feature": file}, out)

    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("*")}


def test_a_file_that_is_not_the_manifests_is_not_laid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepared_folder(tmp_path)
    (tmp_path / "fr_feature.onnx").write_bytes(b"other weights")

    assert 1 == model_command.run(["lay", "--models", str(tmp_path), "--out", str(tmp_path / "repository")])
    assert "sha256" in capsys.readouterr().err
    assert not list((tmp_path / "repository").rglob("model.onnx"))


def test_an_added_model_is_laid_with_a_configuration_of_its_own_length(operators: Operators, tmp_path: Path) -> None:
    prepared_folder(tmp_path)
    assert 0 == add(operators, tmp_path)
    out = tmp_path / "repository"

    assert 0 == model_command.run(["lay", "--models", str(tmp_path), "--out", str(out)])

    for name in ("config.pbtxt", "configs/gpu.pbtxt"):
        config = text_format.Parse((out / "mine" / name).read_text(), model_config_pb2.ModelConfig())
        assert ("mine", "onnxruntime", [192]) == (config.name, config.backend, list(config.output[0].dims))
    model_id = read_manifest(tmp_path / "added")["mine"].model_id
    assert (out / "mine" / str(version_of(model_id)) / "model.onnx").exists()


def test_an_embedders_file_can_be_laid_alone(tmp_path: Path) -> None:
    file = prepared_folder(tmp_path)

    assert "fr_feature" == lay_embedder(file, 512, tmp_path / "repository").name


@pytest.mark.slow
def test_the_package_s_own_file_comes_out_as_the_prepared_one(tmp_path: Path) -> None:
    """fr_feature as it lies in its package: weights among the inputs, a Reshape fixed to batch 1."""
    raw = MODELS / "raw" / "fr_feature.onnx"
    if not raw.exists() or not TOOLS.exists():
        pytest.skip("no model files in .cache/models: run `make models`")
    given = ["add", str(raw), "--name", "mine", "--models", str(tmp_path), "--offset", "127", "--divisor", "128"]

    assert 0 == model_command.run([*given, *STATED])

    probes = probe_crops()
    vectors = [
        OnnxNetwork(file).run(probes)[0]
        for file in (read_manifest(tmp_path / "added")["mine"], read_manifest(MODELS)["fr_feature"])
    ]
    assert float(np.sum(vectors[0] * vectors[1], axis=1).min()) > 0.99999
