"""Every configuration in `deploy/triton` parses, agrees with the file that it serves, and keeps the house rules."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from services.detector.adapters.engines import open_session
from services.detector.adapters.model_files import read_manifest

ROOT = Path(__file__).parents[3]
MODELS = ROOT / "deploy" / "triton" / "models"
CACHE = ROOT / ".cache" / "models"
BASE = sorted(MODELS.glob("*/config.pbtxt"))
GPU = sorted(MODELS.glob("*/configs/gpu.pbtxt"))
TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}


def config(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def name_of(path: Path) -> str:
    return path.relative_to(MODELS).parts[0]


def each(paths: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("path", paths, ids=[f"{name_of(path)}-{path.stem}" for path in paths])


def test_detectors_landmarks_and_embedders_have_both_configurations() -> None:
    wanted = ["centerface", "fr_detect", "fr_feature", "fr_landmark", "mobilefacenet"]

    assert wanted == [name_of(path) for path in BASE]
    assert wanted == [name_of(path) for path in GPU]
    assert len(BASE) + len(GPU) == len(list(MODELS.rglob("*.pbtxt")))


@each(BASE + GPU)
def test_it_parses_and_names_its_folder(path: Path) -> None:
    parsed = config(path)

    assert name_of(path) == parsed.name
    assert ("onnxruntime", "model.onnx") == (parsed.backend, parsed.default_model_filename)


@each(BASE + GPU)
def test_two_versions_are_served(path: Path) -> None:
    assert 2 == config(path).version_policy.latest.num_versions


@each(BASE + GPU)
def test_no_queue_policy_holds_requests_back(path: Path) -> None:
    batching = config(path).dynamic_batching

    assert not batching.HasField("default_queue_policy")
    assert not batching.priority_queue_policy


@each(BASE + GPU)
def test_models_are_warm_before_they_are_ready(path: Path) -> None:
    parsed = config(path)
    sizes = [warmup.batch_size for warmup in parsed.model_warmup]

    assert ([1, parsed.max_batch_size] if parsed.max_batch_size else [0]) == sizes
    assert all({each.name for each in parsed.input} == set(warmup.inputs) for warmup in parsed.model_warmup)


@each(BASE)
def test_where_it_runs_is_left_to_the_server_in_the_base_configuration(path: Path) -> None:
    parsed = config(path)

    assert not parsed.instance_group
    assert not parsed.HasField("optimization")
    assert "1" == parsed.parameters["intra_op_thread_count"].string_value


@each(GPU)
def test_on_a_gpu_it_runs_in_tensorrt(path: Path) -> None:
    parsed = config(path)
    (used,) = parsed.optimization.execution_accelerators.gpu_execution_accelerator

    assert [model_config_pb2.ModelInstanceGroup.KIND_GPU] == [group.kind for group in parsed.instance_group]
    assert ("tensorrt", "FP32") == (used.name, used.parameters["precision_mode"])


@each(GPU)
def test_a_tensorrt_engine_covers_every_batch_that_may_come(path: Path) -> None:
    """Otherwise it is built anew, for minutes, when a larger one comes."""
    parsed = config(path)
    (used,) = parsed.optimization.execution_accelerators.gpu_execution_accelerator
    dims = list(parsed.input[0].dims)
    if parsed.max_batch_size:
        largest = [parsed.max_batch_size, *dims]
    elif -1 in dims:
        largest = [*dims[:2], 1280, 1280]
    else:
        assert "trt_profile_max_shapes" not in used.parameters
        return

    assert f"{parsed.input[0].name}:{'x'.join(map(str, largest))}" == used.parameters["trt_profile_max_shapes"]


@each(GPU)
def test_both_configurations_serve_the_same_tensors(path: Path) -> None:
    base, gpu = config(path.parents[1] / "config.pbtxt"), config(path)

    assert (list(base.input), list(base.output), base.max_batch_size) == (
        list(gpu.input),
        list(gpu.output),
        gpu.max_batch_size,
    )


@each(BASE)
def test_it_agrees_with_the_prepared_file(path: Path) -> None:
    if not (CACHE / "models.json").exists():
        pytest.skip("no prepared models in .cache/models: run `make models`")
    parsed = config(path)
    session = open_session(read_manifest(CACHE)[name_of(path)], 1)
    batch = [-1] if parsed.max_batch_size else []

    for said, is_ in ((parsed.input, session.get_inputs()), (parsed.output, session.get_outputs())):
        assert [(t.name, model_config_pb2.DataType.Name(t.data_type), [*batch, *t.dims]) for t in said] == [
            (t.name, TYPES[t.type], [side if isinstance(side, int) else -1 for side in t.shape]) for t in is_
        ]


@pytest.mark.parametrize("name", ["fr_feature", "mobilefacenet"])
def test_embedders_take_bytes(name: str) -> None:
    """37 kB a crop instead of 150 kB."""
    (pixels,) = config(MODELS / name / "config.pbtxt").input

    assert ("pixels", model_config_pb2.TYPE_UINT8, [112, 112, 3]) == (pixels.name, pixels.data_type, list(pixels.dims))


def test_the_server_under_test_runs_the_same_onnx_runtime() -> None:
    """Otherwise the comparison of `make triton` would be one of two releases."""
    locks = [(ROOT / "requirements" / f"{name}.txt").read_text() for name in ("runtime", "triton")]
    (here,), (there,) = (re.findall(r"^onnxruntime==(\S+)", lock, re.MULTILINE) for lock in locks)

    assert here == there
