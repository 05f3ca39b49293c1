"""Which prepared model files there are, and whether each is the one the manifest names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MANIFEST = "models.json"
EMBEDDERS = ("fr_feature", "mobilefacenet")
"""Those that are prepared, the first one first."""
ADDED = "added"
"""Folder beside the prepared models where those lie that an operator took in."""


class UnusableModel(Exception):
    """A model file is missing, or is not the file the manifest describes."""


@dataclass(frozen=True)
class ModelFile:
    """One prepared model: its file, the hash it must have, and the id that its vectors belong to."""

    name: str
    path: Path
    sha256: str
    model_id: str

    def read(self) -> bytes:
        """The file's bytes. Raises UnusableModel when the file is missing or its sha256 differs."""
        try:
            content = self.path.read_bytes()
        except OSError as problem:
            raise UnusableModel(f"{self.name}: cannot be read ({problem.strerror})") from problem
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise UnusableModel(f"{self.name}: sha256 differs from the manifest")
        return content


def read_manifest(folder: Path) -> dict[str, ModelFile]:
    """The model files that `models.json` in `folder` lists, by name.

    Raises UnusableModel when there is no readable manifest; the files themselves are checked when they are
    read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
        return {name: _model_file(folder, name, entry) for name, entry in manifest["models"].items()}
    except OSError as problem:
        raise UnusableModel(f"{MANIFEST}: cannot be read ({problem.strerror}); try `make setup`") from problem
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise UnusableModel(f"{MANIFEST}: is not a model manifest") from problem


def embedder_files(folder: Path, model_ids: Sequence[str]) -> list[ModelFile]:
    """The files of these model_ids among the prepared models and those that an operator took in, in their order.

    Raises UnusableModel, which says what there is instead, and what to do.
    """
    prepared = read_manifest(folder)
    added = read_manifest(folder / ADDED) if (folder / ADDED / MANIFEST).exists() else {}
    found = {file.model_id: file for file in (*prepared.values(), *added.values())}
    missing = [model_id for model_id in model_ids if model_id not in found]
    if missing:
        raise UnusableModel(
            f"the rules of faces name the model {missing[0]}, which is not here. Take its file in with `jikimi model "
            f"add`, prepare the shipped ones with `make setup`, or name one of these: {_listed(prepared, added)}"
        )
    return [found[model_id] for model_id in model_ids]


def _listed(prepared: Mapping[str, ModelFile], added: Mapping[str, ModelFile]) -> str:
    ids = [prepared[name].model_id for name in EMBEDDERS if name in prepared]
    return ", ".join([*ids, *(file.model_id for file in added.values())]) or "none"


def _model_file(folder: Path, name: str, entry: dict[str, Any]) -> ModelFile:
    if Path(entry["file"]).name != entry["file"]:
        raise ValueError("a model file must lie beside its manifest")
    return ModelFile(name, folder / entry["file"], str(entry["sha256"]), str(entry["model_id"]))
