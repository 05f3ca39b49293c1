"""Which files might an operator hand to `jikimi model add`? Makes them, and wraps each; runs in the tool environment.

    operator_models.py FOLDER     writes FOLDER/<name>.onnx and FOLDER/wrapped/<name>.onnx, prints {name: answer}

The embedder under all of them is small and its answer can be written down: mean colours of an 8×8 grid of the crop.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[3] / "bootstrap"))
import wrap_model

LENGTH = 3 * 8 * 8
Side = str | int


def graph(
    nodes: list[onnx.NodeProto],
    shape: Sequence[Side] = ("N", 3, 112, 112),
    length: Side | Sequence[Side] | None = LENGTH,
    kind: int = TensorProto.FLOAT,
    first: str = "data",
    last: str = "embedding",
    opset: int = 17,
    **weights: np.ndarray,
) -> onnx.ModelProto:
    """A model around nodes that lead from `first` to `last`."""
    sides = None if length is None else ["N", length] if isinstance(length, str | int) else list(length)
    made = helper.make_graph(
        nodes,
        "embedder",
        [helper.make_tensor_value_info(first, kind, list(shape))],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, sides)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def pooled(first: str = "data", last: str = "grid") -> onnx.NodeProto:
    return helper.make_node("AveragePool", [first], [last], kernel_shape=[14, 14], strides=[14, 14])


def flat(first: str = "grid", last: str = "embedding") -> onnx.NodeProto:
    return helper.make_node("Flatten", [first], [last], axis=1)


def fixed_to_one() -> onnx.ModelProto:
    """As old exporters write it: batch 1 in the input and in a Reshape; weights are listed as inputs too."""
    nodes = [pooled(), helper.make_node("Reshape", ["grid", "shape"], ["embedding"])]
    model = graph(nodes, (1, 3, 112, 112), (1, LENGTH), shape_=np.zeros(1, np.float32))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1, -1], np.int64), "shape"))
    model.graph.input.append(helper.make_tensor_value_info("shape", TensorProto.INT64, [2]))
    return model


def fixed_for_good() -> onnx.ModelProto:
    """A batch of 1 that is computed and cannot be seen in the graph."""
    nodes = [
        pooled(),
        helper.make_node("Concat", ["one", "rest"], ["shape"], axis=0),
        helper.make_node("Reshape", ["grid", "shape"], ["embedding"]),
    ]
    return graph(nodes, one=np.array([1], np.int64), rest=np.array([LENGTH], np.int64))


def two_outputs() -> onnx.ModelProto:
    model = graph([pooled(), flat()])
    model.graph.output.append(helper.make_tensor_value_info("grid", TensorProto.FLOAT, ["N", 3, 8, 8]))
    return model


def two_inputs() -> onnx.ModelProto:
    model = graph([pooled(), flat("grid", "f"), helper.make_node("Add", ["f", "more"], ["embedding"])])
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["N", LENGTH]))
    return model


def weights_elsewhere() -> onnx.ModelProto:
    nodes = [pooled(), flat("grid", "f"), helper.make_node("Mul", ["f", "w"], ["embedding"])]
    model = graph(nodes, w=np.ones(LENGTH, np.float32))
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="/etc/passwd")
    return model


def hidden_elsewhere() -> onnx.ModelProto:
    """Weights of another file in the branch of an If."""
    constant = helper.make_node("Constant", [], ["w"], value=numpy_helper.from_array(np.ones(LENGTH, np.float32)))
    tensor = constant.attribute[0].t
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="../secret")
    shape = [helper.make_tensor_value_info("w", TensorProto.FLOAT, [LENGTH])]
    branch = helper.make_graph([constant], "branch", [], shape)
    choice = helper.make_node("If", ["yes"], ["v"], then_branch=branch, else_branch=branch)
    nodes = [pooled(), flat("grid", "f"), choice, helper.make_node("Mul", ["f", "v"], ["embedding"])]
    return graph(nodes, yes=np.array(True))


def custom_operator() -> onnx.ModelProto:
    model = graph([pooled(), flat("grid", "f"), helper.make_node("Secret", ["f"], ["embedding"], domain="org.secret")])
    model.opset_import.append(helper.make_opsetid("org.secret", 1))
    return model


def after(kind: str, *more: str, **weights: np.ndarray) -> onnx.ModelProto:
    """The embedder with one more operator at its end."""
    return graph([pooled(), flat("grid", "f"), helper.make_node(kind, ["f", *more], ["embedding"])], **weights)


def batch_dependent() -> onnx.ModelProto:
    mean = helper.make_node("ReduceMean", ["f"], ["mean"], axes=[0], keepdims=1)
    return graph([pooled(), flat("grid", "f"), mean, helper.make_node("Sub", ["f", "mean"], ["embedding"])])


def noisy() -> onnx.ModelProto:
    noise = helper.make_node("RandomNormalLike", ["f"], ["noise"])
    return graph([pooled(), flat("grid", "f"), noise, helper.make_node("Add", ["f", "noise"], ["embedding"])])


def blind() -> onnx.ModelProto:
    dark = helper.make_node("Mul", ["f", "nothing"], ["dark"])
    light = helper.make_node("Add", ["dark", "one"], ["embedding"])
    weights = {"nothing": np.zeros(1, np.float32), "one": np.ones(1, np.float32)}
    return graph([pooled(), flat("grid", "f"), dark, light], **weights)


def channels_last() -> onnx.ModelProto:
    turned = helper.make_node("Transpose", ["data"], ["planes"], perm=[0, 3, 1, 2])
    return graph([turned, pooled("planes"), flat()], ("N", 112, 112, 3))


def short() -> onnx.ModelProto:
    return graph([helper.make_node("GlobalAveragePool", ["data"], ["grid"]), flat()], length=3)


def four_sides() -> onnx.ModelProto:
    wide = helper.make_node("Reshape", ["grid", "form"], ["embedding"])
    return graph([pooled(), wide], length=("N", LENGTH, 1, 1), form=np.array([0, LENGTH, 1, 1], np.int64))


def broken() -> onnx.ModelProto:
    return graph([helper.make_node("Mul", ["data"], ["embedding"])])


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "good": lambda: graph([pooled(), flat()]),
    "fixed_to_one": fixed_to_one,
    "channels_last": channels_last,
    "four_sides": four_sides,
    "our_names": lambda: graph([pooled("pixels"), flat("grid", "vectors")], first="pixels", last="vectors"),
    "two_outputs": two_outputs,
    "two_inputs": two_inputs,
    "other_size": lambda: graph([pooled(), flat()], ("N", 3, 160, 160), None),
    "other_type": lambda: graph([pooled(), flat()], kind=TensorProto.DOUBLE),
    "batch_of_four": lambda: graph([pooled(), flat()], (4, 3, 112, 112)),
    "short": short,
    "old": lambda: graph([pooled(), flat()], opset=6),
    "custom_operator": custom_operator,
    "weights_elsewhere": weights_elsewhere,
    "hidden_elsewhere": hidden_elsewhere,
    "broken": broken,
    "fixed_for_good": fixed_for_good,
    "batch_dependent": batch_dependent,
    "noisy": noisy,
    "blind": blind,
    "no_numbers": lambda: after("Div", "nothing", nothing=np.zeros(1, np.float32)),
}
SETTINGS: dict[str, tuple[str, list[str]]] = {
    **{name: (name, []) for name in MODELS},
    "not_onnx": ("not_onnx", []),
    "bgr": ("good", ["--colours", "bgr"]),
    "by_channel": ("good", ["--offset=10,20,30", "--divisor=1,2,4"]),
    "chosen": ("two_outputs", ["--output", "embedding"]),
    "chosen_wrongly": ("two_outputs", ["--output", "nose"]),
    "by_nothing": ("good", ["--divisor=0"]),
}
"""Name of a wrapping → the file, and what is said beside offset 127.5 and divisor 128."""


def main(folder: Path) -> int:
    (folder / "wrapped").mkdir(parents=True)
    (folder / "not_onnx.onnx").write_bytes(b"this is no model" * 100)
    for name, make in MODELS.items():
        (folder / f"{name}.onnx").write_bytes(make().SerializeToString())
    answers = {}
    for name, (file, more) in SETTINGS.items():
        given = [str(folder / f"{file}.onnx"), "--out", str(folder / "wrapped" / f"{name}.onnx"), "--name", "mine"]
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            wrap_model.main([*given, "--offset=127.5", "--divisor=128", *more])
        answers[name] = json.loads(said.getvalue())
    print(json.dumps(answers))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
