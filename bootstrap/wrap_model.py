"""How an operator's face embedder (ONNX) becomes a file that keeps the detector's contract.

    wrap_model.py FILE --out OUT --name NAME --offset 127.5 --divisor 127.5 [--colours bgr] [--output NAME]

Runs in the tool environment (onnx, numpy); `jikimi model add` calls it. What is in front and behind is added: bytes
uint8 [N,112,112,3] RGB in as `pixels`, unit vectors [N,D] out as `vectors`, any batch. Prints one JSON object: what was
made, or `reason` and `message` with exit status 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper, shape_inference
from prepare_models import (
    declare,
    drop_initialisers_from_inputs,
    flush_denormals,
    give_unit_vectors,
    put,
    serialised,
    take_pixels,
    write_if_new,
)

CONTRACT = 1
"""Raised when what is put in front or behind changes its meaning; part of every model_id made here."""
LARGEST_FILE = 1024 * 1024 * 1024
SIDE = 112
OLDEST_OPSET = 7
"""Before it Sub and Mul did not broadcast as the normalisation needs."""
DOMAINS = frozenset({"", "ai.onnx", "com.microsoft"})
"""Operators that ONNX Runtime has without plug-ins."""
DIMENSIONS = range(64, 2049)
OURS = frozenset({"pixels", "vectors"})


class Refused(Exception):
    """The file cannot be made to keep the contract; says why in a word for programs and one for people."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def read(file: Path) -> bytes:
    if file.stat().st_size > LARGEST_FILE:
        raise Refused("TOO_LARGE", f"the file has more than {LARGEST_FILE >> 20} MiB")
    return file.read_bytes()


def parsed(content: bytes) -> onnx.ModelProto:
    try:
        model = onnx.load_from_string(content)
    except DecodeError:
        raise Refused("NOT_ONNX", "the file is not an ONNX model") from None
    if not model.graph.node:
        raise Refused("NOT_ONNX", "the file holds no graph")
    return model


def check_operators(model: onnx.ModelProto) -> None:
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if opset < OLDEST_OPSET:
        raise Refused("OPSET_TOO_OLD", f"opset {opset}; {OLDEST_OPSET} is the oldest that can be wrapped")
    own = {function.domain for function in model.functions}
    nodes = [*all_nodes(model.graph.node), *all_nodes(node for each in model.functions for node in each.node)]
    foreign = sorted({node.domain for node in nodes} - DOMAINS - own)
    if foreign:
        raise Refused("CUSTOM_OPERATORS", f"operators of {', '.join(foreign)} need a plug-in")
    inside = [tensor for node in nodes for each in node.attribute for tensor in tensors(each)]
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in (*model.graph.initializer, *inside)):
        raise Refused("WEIGHTS_ELSEWHERE", "weights lie in other files; save the model as a single file")


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """The nodes with those of the graphs inside them."""
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from all_nodes(inner.node)


def tensors(attribute: onnx.AttributeProto) -> Iterator[onnx.TensorProto]:
    """Values that lie in an attribute, or in the initialisers of a graph in it."""
    yield from (attribute.t, *attribute.tensors)
    for inner in (attribute.g, *attribute.graphs):
        yield from inner.initializer


def sides(value: onnx.ValueInfoProto) -> list[int]:
    """The shape of a tensor; −1 where it is not a number."""
    return [d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim]


def check_input(model: onnx.ModelProto) -> bool:
    """Refuse what is no crop; whether channels come last."""
    if len(model.graph.input) != 1:
        raise Refused("INPUTS", f"{len(model.graph.input)} inputs; an embedder has one")
    (crop,) = model.graph.input
    if crop.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise Refused("INPUT_TYPE", "the input is not float32")
    shape = sides(crop)
    if shape[1:] not in ([3, SIDE, SIDE], [SIDE, SIDE, 3]):
        raise Refused("INPUT_SHAPE", f"the input is {shape}, not [N,3,{SIDE},{SIDE}] or [N,{SIDE},{SIDE},3]")
    if shape[0] > 1:
        raise Refused("BATCH", f"the file is fixed to batches of {shape[0]}")
    return shape[3] == 3


def free_batch(model: onnx.ModelProto) -> None:
    """Let Reshapes of data, fixed to batch 1 by the exporter, keep the batch that comes in (0 copies it)."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            weights[node.output[0]] = node.attribute[0].t
    for node in model.graph.node:
        fixed = weights.get(node.input[1]) if node.op_type == "Reshape" and node.input[0] not in weights else None
        if fixed is not None:
            shape = numpy_helper.to_array(fixed).copy()
            if shape.size > 1 and shape[0] == 1:
                shape[0] = 0
                fixed.CopyFrom(numpy_helper.from_array(shape, fixed.name))


def choose_output(model: onnx.ModelProto, name: str | None) -> int:
    """Keep the one output that is the embedding; returns its length."""
    outputs = {value.name: value for value in shape_inference.infer_shapes(model).graph.output}
    if name is None and len(outputs) != 1:
        raise Refused("OUTPUTS", f"several outputs ({', '.join(outputs)}); choose one with --output")
    chosen = outputs.get(name or next(iter(outputs)))
    if chosen is None:
        raise Refused("OUTPUTS", f"there is no output {name}; there are {', '.join(outputs)}")
    shape = sides(chosen)
    if len(shape) not in (2, 4) or shape[2:] not in ([], [1, 1]) or shape[1] not in DIMENSIONS:
        raise Refused("OUTPUT_SHAPE", f"the output is {shape}, not [N,D] with D from 64 to 2048")
    last = chosen.name
    if len(shape) == 4:
        model.graph.node.append(helper.make_node("Flatten", [last], ["file_flat"], axis=1))
        last = "file_flat"
    declare(model, "output", last, TensorProto.FLOAT, ["N", shape[1]])
    return int(shape[1])


def step_aside(model: onnx.ModelProto) -> None:
    """Rename tensors of the file that bear the contract's names."""
    for node in model.graph.node:
        node.input[:] = [f"file_{name}" if name in OURS else name for name in node.input]
        node.output[:] = [f"file_{name}" if name in OURS else name for name in node.output]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        if value.name in OURS:
            value.name = f"file_{value.name}"


def put_in_front(
    model: onnx.ModelProto, bgr: bool, channels_last: bool, offset: list[float], divisor: list[float]
) -> None:
    """Bytes in; normalised by (x − offset) / divisor in RGB order, then in the order and layout of the file."""
    first = model.graph.input[0].name
    steps = []
    if bgr:
        put(model, "file_colours", np.array([2, 1, 0], np.int64))
        steps.append(("Gather", ["file_colours"], {"axis": 1}))
    if channels_last:
        steps.append(("Transpose", [], {"perm": [0, 2, 3, 1]}))
    names = [f"file_input_{at}" for at in range(len(steps))] + [first]
    nodes = [
        helper.make_node(kind, [names[at], *more], [names[at + 1]], **settings)
        for at, (kind, more, settings) in enumerate(steps)
    ]
    rest = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend(nodes + rest)
    model.graph.input[0].name = names[0]
    take_pixels(model, (SIDE, SIDE), offset, divisor)


def wrap(content: bytes, bgr: bool, offset: list[float], divisor: list[float], output: str | None) -> onnx.ModelProto:
    """The wrapped model. Raises Refused; whether it computes what it should is for whoever runs it to see."""
    model = parsed(content)
    check_operators(model)
    drop_initialisers_from_inputs(model)
    channels_last = check_input(model)
    length = choose_output(model, output)
    step_aside(model)
    free_batch(model)
    flush_denormals(model)
    del model.graph.value_info[:]
    put_in_front(model, bgr, channels_last, offset, divisor)
    give_unit_vectors(model, length)
    return model


def model_id(name: str, source_sha256: str, *settings: object) -> str:
    """`name-<first 12 of sha256 over file and settings>-c<contract>`: whatever changes a vector changes the id."""
    said = json.dumps([source_sha256, *settings])
    return f"{name}-{hashlib.sha256(said.encode()).hexdigest()[:12]}-c{CONTRACT}"


def three(text: str) -> list[float]:
    """One number, or three for red, green, blue."""
    numbers = [float(part) for part in text.split(",")]
    if len(numbers) not in (1, 3) or not all(abs(number) <= 1e6 for number in numbers):
        raise argparse.ArgumentTypeError("is not one number, nor three with commas")
    return numbers


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--offset", type=three, required=True)
    parser.add_argument("--divisor", type=three, required=True)
    parser.add_argument("--colours", choices=("rgb", "bgr"), default="rgb")
    parser.add_argument("--output")
    given = parser.parse_args(argv)
    try:
        if 0 in given.divisor:
            raise Refused("DIVISOR", "a divisor is 0")
        raw = read(given.file)
        model = wrap(raw, given.colours == "bgr", given.offset, given.divisor, given.output)
        try:
            content = serialised(model)
        except onnx.checker.ValidationError:
            raise Refused("NOT_VALID", "the wrapped graph is not valid ONNX") from None
    except Refused as refusal:
        print(json.dumps({"reason": refusal.reason, "message": str(refusal)}))
        return 1
    write_if_new(given.out, content)
    source = hashlib.sha256(raw).hexdigest()
    made = model_id(given.name, source, given.offset, given.divisor, given.colours, given.output)
    print(json.dumps({"model_id": made, "source_sha256": source, "sha256": hashlib.sha256(content).hexdigest()}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
