"""What do all generated objects share: names, labels, ports, places, sizes?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml

from deploy.manifests.declared import ROOT
from services.chassis import yaml_text

K8S = ROOT / "deploy" / "k8s"
NAMESPACE = "jikimi"
USER = 65532
"""The account of the images (deploy/images/base.Dockerfile)."""
PLATFORM, MIGRATE, SERVE, LOAD = "platform", "migrate", "serve", "load"
"""Stages in the order in which a release is applied: `kubectl apply -k OVERLAY -l jikimi-stage=STAGE`."""
STAGE, NAME, COMPONENT, CLIENT = (
    "jikimi-stage",
    "app.kubernetes.io/name",
    "app.kubernetes.io/component",
    "jikimi-client",
)

Manifest = dict[str, Any]


@cache
def sizes() -> Mapping[str, Any]:
    """deploy/k8s/sizes.yaml."""
    return dict(yaml_text.parse((K8S / "sizes.yaml").read_text(encoding="utf-8")))


def port(name: str) -> int:
    """A port of the services: grpc, probe, metrics."""
    return int(sizes()["ports"][name])


def host(name: str) -> str:
    """Name under which something of ours is reached; its certificate bears it."""
    return f"{name}.{NAMESPACE}.svc"


def labels(name: str, component: str) -> dict[str, str]:
    """Labels of pods."""
    return {NAME: name, COMPONENT: component, "app.kubernetes.io/part-of": "jikimi"}


def selector(name: str, component: str = SERVE) -> dict[str, str]:
    """What finds the pods of a part."""
    return {NAME: name, COMPONENT: component}


def manifest(api: str, kind: str, name: str, of: str, stage: str = PLATFORM, **body: Any) -> Manifest:
    """An object with the labels that everything bears."""
    marks = {NAME: of, "app.kubernetes.io/part-of": "jikimi", STAGE: stage}
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": marks}, **body}


def as_yaml(documents: Sequence[Manifest]) -> str:
    """The documents as one file."""
    return "---\n".join(
        yaml.dump(document, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120) for document in documents
    )


class _Plain(yaml.SafeDumper):
    """Writes shared values out instead of pointing back at them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
