"""What does `jikimi model` do? `add` takes in an operator's embedder, `lay` makes the folder that Triton reads.

An added model lies in <models>/added with a model card and serves nobody until it was evaluated: it has no thresholds.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.chassis.files import replace_file
from services.detector.adapters.model_contract import Behaviour, BreaksContract, examine
from services.detector.adapters.model_files import ADDED, MANIFEST, ModelFile, UnusableModel, read_manifest
from services.detector.adapters.model_repository import lay, lay_embedder

ROOT = Path(__file__).parents[2]
WRAP = (ROOT / ".tools" / "bin" / "python", ROOT / "bootstrap" / "wrap_model.py")
WRAP_SECONDS = 300
CONTRACT = 1
IN_MANIFEST = ("file", "sha256", "model_id", "source", "source_sha256", "licence", "dimension")
_NAME = re.compile(r"[a-z][a-z0-9_]{1,31}")
_NON_COMMERCIAL = re.compile(r"non[- ]?commercial|\bNC\b|research[- ]only", re.IGNORECASE)


def run(arguments: Sequence[str]) -> int:
    """Runs a verb. Exit status: 0 done, 1 refused, 2 wrong use."""
    given = _parser().parse_args(list(arguments))
    try:
        facts: dict[str, Any] = given.run(given)
    except BreaksContract as refusal:
        words = str(refusal)
        print(f"Refused: {refusal.reason}. {words[:1].upper()}{words[1:]}.", file=sys.stderr)
        return 1
    except UnusableModel as problem:
        print(f"Refused: {problem}.", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"Refused: a file cannot be read or written ({type(error).__name__}).", file=sys.stderr)
        return 1
    print(json.dumps(facts, indent=2) if given.json else _in_words(facts))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="jikimi model", description="Model files: take one in, lay them out.")
    verbs = parser.add_subparsers(required=True, metavar="verb")
    models = os.environ.get("JIKIMI_MODELS_DIR") or str(ROOT / ".cache" / "models")
    add = verbs.add_parser("add", help="wrap an embedder (ONNX) to the contract, or refuse it with a reason")
    add.add_argument("file", type=Path)
    add.add_argument("--name", required=True, help="small letters, digits, _; part of the model_id")
    add.add_argument("--licence", required=True, help="as its owner states it, such as Apache-2.0")
    add.add_argument("--source", required=True, help="where the file comes from")
    add.add_argument("--offset", required=True, help="what the file wants subtracted from 0..255: one number or r,g,b")
    add.add_argument("--divisor", required=True, help="by what it then wants it divided: one number or r,g,b")
    add.add_argument("--colours", choices=("rgb", "bgr"), default="rgb", help="order that the file takes")
    add.add_argument("--output", help="name of the embedding where the file has several outputs")
    add.set_defaults(run=_add)
    layer = verbs.add_parser("lay", help="make the model repository of a Triton server")
    layer.add_argument("--out", type=Path, required=True, help="folder for --model-repository")
    layer.set_defaults(run=_lay)
    for verb in (add, layer):
        verb.add_argument("--models", type=Path, default=Path(models), help="folder of the prepared models")
        verb.add_argument("--json", action="store_true", help="for programs: one JSON document")
    return parser


def _add(given: argparse.Namespace) -> dict[str, Any]:
    """Checks, wraps, runs, and only then writes the file, its card and its line in the manifest."""
    folder: Path = given.models / ADDED
    _check_words(given)
    with tempfile.TemporaryDirectory(prefix="jikimi-model-") as scratch:
        wrapped = Path(scratch) / "model.onnx"
        made = _wrap(given, wrapped)
        content = wrapped.read_bytes()
    behaviour = examine(content)
    known = _known(folder)
    _check_name(given.name, made["model_id"], read_manifest(given.models) if _has(given.models) else {}, known)
    folder.mkdir(parents=True, exist_ok=True)
    file = f"{made['model_id']}.onnx"
    replace_file(folder / file, content)
    card = model_card(given, made, behaviour, file)
    replace_file(folder / f"{made['model_id']}.card.json", _json(card))
    entry = {key: card[key] for key in IN_MANIFEST}
    replace_file(folder / MANIFEST, _json({"format": 1, "models": known | {given.name: entry}}))
    return card


def _check_words(given: argparse.Namespace) -> None:
    if not _NAME.fullmatch(given.name):
        raise BreaksContract("NAME", "a name is 2 to 32 small letters, digits or _, and starts with a letter")
    if not given.licence.strip() or not given.source.strip():
        raise BreaksContract("LICENCE_MISSING", "a model without a stated licence and source is not taken in")
    if _NON_COMMERCIAL.search(given.licence):
        raise BreaksContract("LICENCE_NON_COMMERCIAL", "the licence does not allow the use in a paid service")


def _check_name(name: str, model_id: str, prepared: Mapping[str, ModelFile], added: Mapping[str, Any]) -> None:
    taken = name in prepared or (name in added and added[name]["model_id"] != model_id)
    if taken:
        raise BreaksContract("NAME_TAKEN", "another model has this name; its vectors and these must not be confused")


def _wrap(given: argparse.Namespace, out: Path) -> dict[str, str]:
    """Runs the graph surgery in the tool environment. Raises BreaksContract with its reason."""
    python, script = WRAP
    if not python.exists():
        raise BreaksContract("NO_TOOLS", "the tool environment is missing: run `make setup`")
    command = [python, script, given.file, "--out", out, "--name", given.name, "--colours", given.colours]
    # Joined by =, since a number may start with a minus.
    command += [f"--offset={given.offset}", f"--divisor={given.divisor}"]
    command += ["--output", given.output] if given.output else []
    try:
        done = subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, timeout=WRAP_SECONDS, check=False
        )
        answer: dict[str, str] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise BreaksContract("TOO_SLOW", f"the file was not read within {WRAP_SECONDS} seconds") from None
    except ValueError:
        raise BreaksContract("CANNOT_WRAP", "the file, or a number beside it, cannot be read") from None
    if done.returncode != 0:
        raise BreaksContract(answer["reason"], answer["message"])
    return answer


def model_card(given: argparse.Namespace, made: Mapping[str, str], seen: Behaviour, file: str) -> dict[str, Any]:
    """All that is known of the model, and what is not: thresholds come from an evaluation alone."""
    return {
        "contract": CONTRACT,
        "name": given.name,
        **made,
        "file": file,
        "dimension": seen.dimension,
        "input": {
            "tensor": "pixels",
            "form": "uint8 [N,112,112,3] RGB, aligned to ArcFace's five points",
            "offset": given.offset,
            "divisor": given.divisor,
            "colours_of_the_file": given.colours,
        },
        "output": {"tensor": "vectors", "form": f"float32 [N,{seen.dimension}] of length 1"},
        "source": given.source,
        "source_file": given.file.name,
        "licence": given.licence,
        "add_time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checks": {
            "worst_batch_cosine": round(seen.worst_batch_cosine, 7),
            "highest_probe_cosine": round(seen.highest_probe_cosine, 4),
        },
        "evaluation": None,
        "thresholds": {},
    }


def _lay(given: argparse.Namespace) -> dict[str, Any]:
    """Lays the prepared files and the added ones."""
    laid = lay(read_manifest(given.models), given.out)
    folder = given.models / ADDED
    entries = _known(folder)
    files = read_manifest(folder) if entries else {}
    laid += [lay_embedder(file, int(entries[name]["dimension"]), given.out) for name, file in sorted(files.items())]
    return {each.name: {"model_id": each.model_id, "version": each.version} for each in laid}


def _known(folder: Path) -> dict[str, Any]:
    """The entries of the manifest of added models; none where there is none. Raises UnusableModel."""
    if not _has(folder):
        return {}
    read_manifest(folder)
    entries: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["models"]
    return entries


def _has(folder: Path) -> bool:
    return (folder / MANIFEST).exists()


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def _in_words(facts: Mapping[str, Any]) -> str:
    if "contract" not in facts:
        return "\n".join(f"{name:15} {each['model_id']:38} version {each['version']}" for name, each in facts.items())
    return (
        f"{facts['model_id']}: {facts['dimension']} numbers, licence {facts['licence']}.\n"
        "It matches nobody yet: evaluate it, then write its thresholds into the rules of faces."
    )
