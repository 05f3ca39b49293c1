"""What stands in for Triton's onnxruntime backend where only its Python backend is at hand?

The server loads this file as `backends/onnxruntime/model.py` and the production `config.pbtxt` unchanged. It obeys what
those files use of the real backend: the file name, the thread count, the batches that Triton gathers. It runs in an
environment of its own and imports nothing of the project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """One instance of one model; the name is Triton's."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Adds nothing: production configurations are complete."""
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Opens the version's file."""
        config = json.loads(args["model_config"])
        options = ort.SessionOptions()
        threads = config["parameters"].get("intra_op_thread_count", {"string_value": "0"})["string_value"]
        options.intra_op_num_threads = int(threads)
        file = Path(args["model_repository"]) / args["model_version"] / config["default_model_filename"]
        self._session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._inputs = [each["name"] for each in config["input"]]
        self._outputs = [each["name"] for each in config["output"]]
        self._batches = config["max_batch_size"] > 0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers the requests that Triton gathered; those of one shape run together."""
        given = [
            [triton.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs] for request in requests
        ]
        together: dict[object, list[int]] = {}
        for at, tensors in enumerate(given):
            together.setdefault(tuple(t.shape[1:] for t in tensors) if self._batches else at, []).append(at)
        answers: list[Any] = [None] * len(requests)
        for places in together.values():
            for at, arrays in zip(places, self._run([given[at] for at in places]), strict=True):
                tensors = [triton.Tensor(name, part) for name, part in zip(self._outputs, arrays, strict=True)]
                answers[at] = triton.InferenceResponse(tensors)
        return answers

    def _run(self, group: list[list[Any]]) -> list[list[Any]]:
        """Runs requests of one shape as one batch: for each, its share of every output."""
        joined = [np.concatenate(parts) if len(group) > 1 else parts[0] for parts in zip(*group, strict=True)]
        results = self._session.run(self._outputs, dict(zip(self._inputs, joined, strict=True)))
        ends = np.cumsum([len(tensors[0]) for tensors in group])[:-1]
        return [list(share) for share in zip(*(np.split(result, ends) for result in results), strict=True)]
