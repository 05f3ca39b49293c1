"""Where do spans go in the cluster? Through a collector that thins them out into a trace store (component tracing)."""

from __future__ import annotations

from functools import cache
from typing import Any

from deploy.manifests.declared import ROOT
from deploy.manifests.network import STORE, Edge, both_ways, into
from deploy.manifests.objects import NAME, SERVE, TELEMETRY, Manifest, host, labels, manifest, selector, sizes
from deploy.manifests.workloads import READ_ONLY_FILES, around, certificate, hardened
from services.chassis import yaml_text
from services.console.home import SERVICES

COLLECTOR, TEMPO = "collector", "tempo"
OTLP_PORT, HEALTH_PORT, QUERY_PORT = 4317, 13133, 3200
ENDPOINT = f"https://{host(COLLECTOR)}:{OTLP_PORT}"
"""What the services are told (JIKIMI_OTLP_ENDPOINT)."""
SOURCE = ROOT / "deploy" / "observe" / "collector.yaml"


@cache
def configuration() -> dict[str, Any]:
    """What the collector is told: deploy/observe/collector.yaml."""
    return dict(yaml_text.parse(SOURCE.read_text(encoding="utf-8")))


def edges() -> list[Edge]:
    """Every service to the collector, the collector to the store."""
    sent = [Edge(service, COLLECTOR, OTLP_PORT, SERVE, TELEMETRY) for service in SERVICES]
    return [*sent, Edge(COLLECTOR, TEMPO, OTLP_PORT, TELEMETRY, STORE)]


@cache
def policies() -> list[Manifest]:
    """The ways of spans, and Grafana's to the store, wherever it runs."""
    grafana = {"namespaceSelector": {}, "podSelector": {"matchLabels": {NAME: "grafana"}}}
    ways = [policy for edge in edges() for policy in both_ways(edge)]
    return [*ways, into(TEMPO, "grafana", grafana, QUERY_PORT, STORE)]


@cache
def manifests() -> list[Manifest]:
    """Everything of the component but its configurations."""
    return [
        *_around(COLLECTOR, TELEMETRY, {"otlp": OTLP_PORT}),
        _collector(),
        *_around(TEMPO, STORE, {"otlp": OTLP_PORT, "query": QUERY_PORT}),
        _store(),
        *policies(),
    ]


def _around(name: str, component: str, ports: dict[str, int]) -> list[Manifest]:
    opened = [{"name": port, "port": number, "targetPort": port, "protocol": "TCP"} for port, number in ports.items()]
    chosen = selector(name, component)
    return [
        manifest("v1", "ServiceAccount", name, name, automountServiceAccountToken=False),
        manifest("v1", "Service", name, name, spec={"clusterIP": "None", "selector": chosen, "ports": opened}),
        certificate(name),
        manifest(
            "policy/v1",
            "PodDisruptionBudget",
            name,
            name,
            spec={"maxUnavailable": 1, "selector": {"matchLabels": chosen}},
        ),
    ]


def _collector() -> Manifest:
    """One pod: all spans of a trace have to meet in one place (deploy/observe/collector.yaml says how to have more)."""
    asked = {"httpGet": {"path": "/", "port": "health"}, "timeoutSeconds": 5}
    container = {
        **hardened(COLLECTOR, "otelcol", ["--config=/etc/otelcol/collector.yaml"], sizes()["telemetry"][COLLECTOR]),
        "env": [
            {"name": "POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "TRACE_STORE", "value": f"{host(TEMPO)}:{OTLP_PORT}"},
        ],
        "ports": _container_ports({"otlp": OTLP_PORT, "health": HEALTH_PORT}),
        "startupProbe": {**asked, "periodSeconds": 2, "failureThreshold": 60},
        "readinessProbe": {**asked, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**asked, "periodSeconds": 15, "failureThreshold": 4},
        "volumeMounts": [
            {"name": "configuration", "mountPath": "/etc/otelcol", "readOnly": True},
            {"name": "tls", "mountPath": "/tls", "readOnly": True},
        ],
    }
    pod = _pod(COLLECTOR, TELEMETRY, container)
    spec = {
        "replicas": 1,
        "revisionHistoryLimit": 5,
        "selector": {"matchLabels": selector(COLLECTOR, TELEMETRY)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels(COLLECTOR, TELEMETRY)}, "spec": pod},
    }
    return manifest("apps/v1", "Deployment", COLLECTOR, COLLECTOR, spec=spec)


def _store() -> Manifest:
    """Tempo in one process, on a disk of its own; a larger one takes an object store (docs/operate/observe.md)."""
    asked = {"httpGet": {"path": "/ready", "port": "query", "scheme": "HTTPS"}, "timeoutSeconds": 5}
    alive = {"httpGet": {"path": "/status/version", "port": "query", "scheme": "HTTPS"}, "timeoutSeconds": 5}
    container = {
        **hardened(TEMPO, "tempo", ["-config.file=/etc/tempo/tempo.yaml"], sizes()["telemetry"][TEMPO]),
        "ports": _container_ports({"otlp": OTLP_PORT, "query": QUERY_PORT}),
        "startupProbe": {**asked, "periodSeconds": 5, "failureThreshold": 60},
        "readinessProbe": {**asked, "periodSeconds": 10, "failureThreshold": 3},
        "livenessProbe": {**alive, "periodSeconds": 15, "failureThreshold": 4},
        "volumeMounts": [
            {"name": "configuration", "mountPath": "/etc/tempo", "readOnly": True},
            {"name": "tls", "mountPath": "/tls", "readOnly": True},
            {"name": "data", "mountPath": "/var/tempo", "readOnly": False},
        ],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "jikimi-databases",
            "resources": {"requests": {"storage": sizes()["storage"]["traces"]}},
        },
    }
    spec = {
        "replicas": 1,
        "serviceName": TEMPO,
        "selector": {"matchLabels": selector(TEMPO, STORE)},
        "template": {"metadata": {"labels": labels(TEMPO, STORE)}, "spec": _pod(TEMPO, STORE, container)},
        "volumeClaimTemplates": [claim],
    }
    return manifest("apps/v1", "StatefulSet", TEMPO, TEMPO, spec=spec)


def _pod(name: str, component: str, container: dict[str, Any]) -> dict[str, Any]:
    places = [
        {"name": "configuration", "configMap": {"name": f"{name}-configuration"}},
        {"name": "tls", "secret": {"secretName": f"{name}-tls", "defaultMode": READ_ONLY_FILES}},
    ]
    apart = {
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "maxSkew": 1,
        "labelSelector": {"matchLabels": selector(name, component)},
    }
    # Longer than the collector waits before it decides about a trace; it sends what it holds when it ends.
    return {
        **around(name, container, places),
        "terminationGracePeriodSeconds": 90,
        "topologySpreadConstraints": [apart],
    }


def _container_ports(ports: dict[str, int]) -> list[dict[str, Any]]:
    return [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports.items()]
