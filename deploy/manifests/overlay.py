"""How is a rendered overlay read: by kind, by name, by what runs?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from deploy.manifests.objects import Manifest

WORKLOADS = ("Deployment", "StatefulSet", "Job", "CronJob")


@dataclass(frozen=True)
class Overlay:
    """The documents of an overlay, by kind."""

    documents: Sequence[Manifest]

    def of(self, *kinds: str) -> list[Manifest]:
        """All documents of these kinds."""
        return [document for document in self.documents if document["kind"] in kinds]

    def named(self, kind: str, name: str) -> Manifest | None:
        """One document."""
        return next((document for document in self.of(kind) if document["metadata"]["name"] == name), None)

    def workloads(self, *kinds: str) -> Iterator[tuple[str, Manifest, dict[str, Any]]]:
        """(words that name it, document, pod template) of everything that runs."""
        for document in self.of(*(kinds or WORKLOADS)):
            spec = document["spec"]
            template = spec["jobTemplate"]["spec"]["template"] if document["kind"] == "CronJob" else spec["template"]
            yield f"{document['kind']}/{document['metadata']['name']}", document, template

    def containers(self, *kinds: str) -> Iterator[tuple[str, Manifest, dict[str, Any], dict[str, Any]]]:
        """(words that name it, document, pod, container)."""
        for name, document, template in self.workloads(*kinds):
            pod = template["spec"]
            for container in [*pod.get("initContainers", []), *pod["containers"]]:
                yield f"{name}/{container['name']}", document, pod, container

    def settings(self, name: str) -> dict[str, str]:
        """Data of a ConfigMap, whose name ends in a hash of them; empty where there is none."""
        full = re.compile(rf"{name}(-[a-z0-9]{{10}})?")
        found = (one["data"] for one in self.of("ConfigMap") if full.fullmatch(one["metadata"]["name"]))
        return dict(next(found, {}))
