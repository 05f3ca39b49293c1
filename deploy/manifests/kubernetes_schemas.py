"""Which documents does Kubernetes' own schema refuse? `.deploy/bin/python kubernetes_schemas.py VERSION FILE`

Runs in `.deploy`, beside the package kubernetes-validate, whose strict schemas it reads: its command line loads them
again for every document, which takes half a minute for ours. Prints a line for each fault; status 1 when there are any.
"""

from __future__ import annotations

import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from jsonschema.validators import Draft202012Validator
from referencing import Registry, Resource


class Schemas:
    """The strict schemas of a version of Kubernetes."""

    def __init__(self, version: str) -> None:
        """Raises FileNotFoundError for a version that the package does not know."""
        self._folder = (
            Path(kubernetes_validate.__file__).parent / "kubernetes-json-schema" / f"v{version}.0-local-strict"
        )
        definitions = Resource.from_contents(
            json.loads((self._folder / "_definitions.json").read_text(encoding="utf-8"))
        )
        self._registry: Any = definitions @ Registry()

    @cache  # noqa: B019 # lives as long as the process
    def judge(self, api: str, kind: str) -> Any:
        """What judges documents of a kind. Raises FileNotFoundError for a kind that Kubernetes does not have."""
        # networking.k8s.io/v1 → networking-v1
        group = re.sub(r"^([^./]*)(?:\.[^/]*)?/", r"\1-", api)
        schema = json.loads((self._folder / f"{kind.lower()}-{group}.json").read_text(encoding="utf-8"))
        registry = Resource.from_contents(schema) @ self._registry
        return Draft202012Validator(schema, registry=registry)


def main(version: str, file: str) -> int:
    """Judges every document of a file."""
    schemas, found = Schemas(version), 0
    for document in yaml.load_all(
        Path(file).read_text(encoding="utf-8"), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    ):
        name = f"{document['kind']}/{document['metadata']['name']}"
        try:
            faults = [
                f"{'.'.join(map(str, one.path))}: {one.message}"
                for one in schemas.judge(document["apiVersion"], document["kind"]).iter_errors(document)
            ]
        except FileNotFoundError:
            faults = [f"no schema for {document['apiVersion']}"]
        for fault in faults:
            print(f"{name}: {fault}"[:400])
        found += len(faults)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
