"""Do the Kubernetes files hold what they promise, without a cluster?

Renders every overlay with the real kubectl, validates it against the schemas of Kubernetes and of the custom resources,
has it judged by policy-guard and by our own rules, and has the broker read its own configuration. Prints what each step
took. Needs `.deploy` (bootstrap/environments.py deploy).
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import fastjsonschema
import yaml

from deploy.manifests import rules, tools
from deploy.manifests.brokers import broker_faults
from deploy.manifests.generate import stale
from deploy.manifests.objects import K8S, Manifest
from deploy.manifests.tools import KUBERNETES, ToolMissing
from services.chassis import yaml_text

OVERLAYS = ("dev", "production", "airgap", "load")
_KNOWN = {
    "PG-CTR-001": "a migration ends by itself",
    "PG-CTR-002": "a migration takes no calls",
    "PG-CTR-007": "a folder of public keys is no secret",
    "PG-IMG-004": "which account pulls is the cluster's business",
}
"""What policy-guard says and does not fit, with the reason. Findings below medium are advice."""
_IMAGE_VOLUME = "uses type 'image'"
"""Pod Security's restricted profile allows volumes of images; policy-guard does not know that yet."""


def render(overlay: str) -> str:
    """An overlay as the real kubectl renders it. Raises ToolMissing, ValueError with kubectl's words."""
    done = tools.output([tools.kubectl(), "kustomize", K8S / "overlays" / overlay])
    if done.returncode != 0:
        raise ValueError(f"overlay {overlay}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def parse(text: str) -> list[Manifest]:
    """The documents of a rendered overlay."""
    return [document for document in yaml.load_all(text, Loader=_loader()) if document]


def _as_yaml(documents: Sequence[Manifest]) -> str:
    return str(yaml.dump_all(documents, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper)))


def _loader() -> type[yaml.SafeLoader]:
    # The loader in C does in a fifth of a second what the other does in three.
    return getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def schema_faults(documents: Sequence[Manifest]) -> list[str]:
    """What the schemas of Kubernetes refuse, strictly: unknown fields are errors. Raises ToolMissing."""
    own = [document for document in documents if _custom(document) is None]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "all.yaml"
        file.write_text(_as_yaml(own), encoding="utf-8")
        done = tools.output([tools.tool("python"), Path(__file__).with_name("kubernetes_schemas.py"), KUBERNETES, file])
    return done.stdout.splitlines() or ([f"schemas: {done.stderr.strip()[-1000:]}"] if done.returncode else [])


def custom_faults(documents: Sequence[Manifest]) -> list[str]:
    """Custom resources that say what their schema does not know."""
    found = []
    for document in documents:
        judge = _custom(document)
        if judge is not None:
            try:
                judge(document["spec"])
            except fastjsonschema.JsonSchemaValueException as fault:
                found.append(f"{document['kind']}/{document['metadata']['name']}: {fault.message}")
    return found


def _custom(document: Manifest) -> Callable[[Any], Any] | None:
    return _schemas().get(f"{document['apiVersion']}/{document['kind']}")


@cache
def _schemas() -> Mapping[str, Callable[[Any], Any]]:
    texts = yaml_text.parse((K8S / "schemas.yaml").read_text(encoding="utf-8"))
    closed = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", "additionalProperties": False}
    return {name: fastjsonschema.compile({**closed, **schema}) for name, schema in texts.items()}


def policy_faults(documents: Sequence[Manifest]) -> list[str]:
    """What policy-guard finds of medium weight and above (Pod Security, CIS). Raises ToolMissing."""
    with tempfile.TemporaryDirectory() as folder:
        file, report = Path(folder) / "all.yaml", Path(folder) / "report.json"
        file.write_text(_as_yaml(documents), encoding="utf-8")
        done = tools.output(
            [tools.tool("policy-guard"), "scan", file, "--level", "restricted", "--format", "json", "--output", report]
        )
        if not report.exists():
            return [f"policy-guard: {done.stderr.strip()[-1000:]}"]
        found = json.loads(report.read_text(encoding="utf-8"))["violations"]
    return [
        f"policy-guard {one['rule_id']} {one['resource']}: {one['message']}"
        for one in found
        if one["severity"] in {"critical", "high", "medium"}
        and one["rule_id"] not in _KNOWN
        and _IMAGE_VOLUME not in one["message"]
    ]


def distinct(overlays: Mapping[str, Sequence[Manifest]]) -> list[Manifest]:
    """Each document once: most are the same in all overlays."""
    return list({json.dumps(one, sort_keys=True): one for documents in overlays.values() for one in documents}.values())


class _Steps:
    """What was done, how long it took, what was found."""

    def __init__(self) -> None:
        self.faults: list[str] = []

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Times a step; what is put into the list counts as found."""
        began, found = time.monotonic(), list[str]()
        yield found
        print(f"{name:<58}{len(found):>4} found {time.monotonic() - began:>7.1f} s", flush=True)
        self.faults += found


def run() -> int:
    """All steps; 0 when nothing was found, 1 when something was, 2 when a program is missing."""
    steps, began = _Steps(), time.monotonic()
    try:
        _judge(steps)
    except ToolMissing as missing:
        print(missing, file=sys.stderr)
        return 2
    for fault in steps.faults:
        print(fault, file=sys.stderr)
    print(f"{'all':<58}{len(steps.faults):>4} found {time.monotonic() - began:>7.1f} s")
    return 1 if steps.faults else 0


def _judge(steps: _Steps) -> None:
    with steps.step("generated files are those that the code asks for") as found:
        found += stale()
    overlays: dict[str, list[Manifest]] = {}
    with steps.step(f"rendered by kubectl {KUBERNETES}: {', '.join(OVERLAYS)}"):
        for overlay in OVERLAYS:
            overlays[overlay] = parse(render(overlay))
    everything = distinct(overlays)
    with steps.step(f"schemas of Kubernetes {KUBERNETES}, strict: {len(everything)} documents") as found:
        found += schema_faults(everything)
    with steps.step("schemas of custom resources") as found:
        found += custom_faults(everything)
    with steps.step("policy-guard, Pod Security restricted") as found:
        found += policy_faults(everything)
    with steps.step(f"rules: {len(rules.RULES)} for each overlay") as found:
        for overlay, documents in overlays.items():
            found += [f"{overlay}: {fault}" for fault in rules.faults(documents)]
    with steps.step("configuration of the brokers, read by nats-server") as found:
        for overlay, documents in overlays.items():
            found += [f"{overlay}: {fault}" for fault in broker_faults(documents)]
