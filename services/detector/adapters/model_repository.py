"""How do prepared model files become the folder that a Triton server reads?

<target>/<model>/config.pbtxt, configs/gpu.pbtxt     as in deploy/triton/models, or derived for an operator's embedder
<target>/<model>/<version>/model.onnx                version = version_of(model_id): no number is used twice

At most two versions stay: the one laid now and the newest other one. Every file takes its name in one step, so that a
server that polls the folder never reads half of one.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2

from services.detector.adapters.model_files import ModelFile
from services.detector.adapters.triton import version_of

TEMPLATES = Path(__file__).parents[3] / "deploy" / "triton" / "models"
PATTERN = "fr_feature"
"""Whose configurations an operator's embedder takes, with its own name and length."""
CONFIGS = ("config.pbtxt", "configs/gpu.pbtxt")
VERSIONS = 2
FILE = "model.onnx"


@dataclass(frozen=True)
class Laid:
    """One model in the repository."""

    name: str
    model_id: str
    version: int
    removed: tuple[int, ...]
    """Older versions that had to go."""


def lay(files: Mapping[str, ModelFile], target: Path, templates: Path = TEMPLATES) -> list[Laid]:
    """Lays every file that has configurations in `templates`. Raises UnusableModel, OSError."""
    return [
        _lay(files[folder.name], {name: (folder / name).read_text(encoding="utf-8") for name in CONFIGS}, target)
        for folder in sorted(templates.iterdir())
        if folder.name in files
    ]


def lay_embedder(file: ModelFile, dimension: int, target: Path, templates: Path = TEMPLATES) -> Laid:
    """Lays an operator's embedder; its vectors have `dimension` numbers. Raises UnusableModel, OSError."""
    pattern = templates / PATTERN
    configs = {
        name: _derived((pattern / name).read_text(encoding="utf-8"), file.name, dimension) for name in CONFIGS
    }
    return _lay(file, configs, target)


def _derived(text: str, name: str, dimension: int) -> str:
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    config.name = name
    config.output[0].dims[:] = [dimension]
    return f"# Derived from {PATTERN}.\n{text_format.MessageToString(config)}"


def _lay(file: ModelFile, configs: Mapping[str, str], target: Path) -> Laid:
    content = file.read()
    folder = target / file.name
    version = version_of(file.model_id)
    # The file before the configuration: a server that polls finds nothing that it cannot load.
    _write(folder / str(version) / FILE, content)
    for name, text in configs.items():
        _write(folder / name, text.encode())
    return Laid(file.name, file.model_id, version, _prune(folder, version))


def _prune(folder: Path, version: int) -> tuple[int, ...]:
    others = [each for each in folder.iterdir() if each.name.isdigit() and int(each.name) != version]
    others.sort(key=lambda each: each.stat().st_mtime_ns, reverse=True)
    gone = others[VERSIONS - 1 :]
    for each in gone:
        shutil.rmtree(each)
    return tuple(sorted(int(each.name) for each in gone))


def _write(path: Path, content: bytes) -> None:
    """Replaces the file in one step, readable by the server's user; leaves it alone when nothing changed."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_bytes(content)
    part.chmod(0o644)
    part.replace(path)
