"""How do Prometheus and Grafana in the cluster come to the rules and dashboards of deploy/observe?"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from deploy.manifests.declared import ROOT
from deploy.manifests.objects import SERVE, Manifest, manifest
from deploy.manifests.overlay import Overlay
from services.chassis import yaml_text

OBSERVE = ROOT / "deploy" / "observe"
TARGET = {"sourceLabels": ["__meta_kubernetes_pod_label_app_kubernetes_io_name"], "targetLabel": "service"}
"""Every rule and panel asks by the label `service`, which the scrape has to set."""


@cache
def groups() -> list[dict[str, Any]]:
    """All groups of rules, as Prometheus reads them from files."""
    files = sorted((OBSERVE / "rules").glob("*.yaml"))
    return [group for file in files for group in yaml_text.parse(file.read_text(encoding="utf-8"))["groups"]]


@cache
def panels() -> dict[str, str]:
    """Every dashboard as Grafana reads it, by the name of its file."""
    return {file.name: file.read_text(encoding="utf-8") for file in sorted((OBSERVE / "dashboards").glob("*.json"))}


def rule() -> Manifest:
    """The rules as the Prometheus Operator takes them."""
    return manifest("monitoring.coreos.com/v1", "PrometheusRule", "jikimi", "monitoring", spec={"groups": groups()})


def is_watched(overlay: Overlay) -> Iterator[str]:
    """Where metrics are read, they bear their service's name, every alert is there, and every dashboard."""
    pages, rules = overlay.named("PodMonitor", "jikimi"), overlay.named("PrometheusRule", "jikimi")
    dashboards = overlay.settings("jikimi-dashboards")
    if not (pages or rules or dashboards):
        return
    if pages is None or not _reads_services(pages["spec"]):
        yield "PodMonitor/jikimi: does not read the pages of all services, each under its name"
    if rules is None or rules["spec"]["groups"] != groups():
        yield "PrometheusRule/jikimi: is not deploy/observe/rules"
    for name, text in panels().items():
        if dashboards.get(name) != text:
            yield f"ConfigMap/jikimi-dashboards: {name} is missing or another"


def _reads_services(spec: dict[str, Any]) -> bool:
    chosen = spec["selector"].get("matchLabels", {}).get("app.kubernetes.io/component")
    ends = [end for end in spec.get("podMetricsEndpoints", []) if end.get("port") == "metrics"]
    return chosen == SERVE and any(TARGET in end.get("relabelings", []) for end in ends)
