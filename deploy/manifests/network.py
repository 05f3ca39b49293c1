"""Who may talk with whom in the cluster?

Everything is closed; every edge of the call graph opens one way out of the caller and one into the called. An edge
between services is in the code (deploy.manifests.declared); those to the stores and to the outside stand here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from deploy.manifests import declared
from deploy.manifests.objects import CLIENT, MIGRATE, SERVE, Manifest, manifest, port, selector
from services.console.home import SERVICES

NATS_PORT, NATS_ROUTE_PORT, NATS_MONITOR_PORT, POSTGRES_PORT = 4222, 6222, 8222, 5432
POSTGRES_STATUS_PORT = 8000
OUTSIDE = {"detector": (443,), "removal": (80, 443, 25, 587), "notify": (443, 25, 587)}
"""Services that call hosts outside, and where: pages and channels, platforms and their mail, gateways."""
PRIVATE_RANGES = ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16")
STORE = "store"


@dataclass(frozen=True)
class Edge:
    """One way from pods to pods of this namespace."""

    caller: str
    called: str
    port: int
    component: str = SERVE
    """Component of the calling pods."""
    called_component: str = SERVE


def inner_edges() -> list[Edge]:
    """All ways inside the namespace that the base opens."""
    calls = [Edge(caller, called, port("grpc")) for caller, called in sorted(declared.call_graph())]
    broker = [Edge(service, "nats", NATS_PORT, SERVE, STORE) for service in SERVICES]
    database = [
        Edge(service, "postgres", POSTGRES_PORT, component, STORE)
        for service in SERVICES
        for component in (MIGRATE, SERVE)
    ]
    routes = [Edge("nats", "nats", NATS_ROUTE_PORT, STORE, STORE)]
    replication = [
        Edge("postgres", "postgres", number, STORE, STORE) for number in (POSTGRES_PORT, POSTGRES_STATUS_PORT)
    ]
    return [*calls, *broker, *database, *routes, *replication]


@cache
def policies() -> list[Manifest]:
    """Everything closed, names resolved, then the edges."""
    edges = [policy for edge in inner_edges() for policy in both_ways(edge)]
    return [
        closed(),
        names(),
        *edges,
        *map(from_clients, SERVICES),
        *map(from_metrics, SERVICES),
        *map(to_outside, OUTSIDE),
    ]


def closed() -> Manifest:
    """Nobody reaches anybody."""
    spec = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    return manifest("networking.k8s.io/v1", "NetworkPolicy", "closed", "jikimi", spec=spec)


def names() -> Manifest:
    """Everybody may resolve names, in the cluster's own name service alone."""
    servers = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }
    ways = [{"to": [servers], "ports": [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]}]
    spec = {"podSelector": {}, "policyTypes": ["Egress"], "egress": ways}
    return manifest("networking.k8s.io/v1", "NetworkPolicy", "names", "jikimi", spec=spec)


def both_ways(edge: Edge) -> list[Manifest]:
    """Out of the caller, into the called."""
    ports = [{"protocol": "TCP", "port": edge.port}]
    caller, called = selector(edge.caller, edge.component), selector(edge.called, edge.called_component)
    out = {"podSelector": {"matchLabels": caller}, "policyTypes": ["Egress"]}
    into = {"podSelector": {"matchLabels": called}, "policyTypes": ["Ingress"]}
    ways = [{"podSelector": {"matchLabels": called}}], [{"podSelector": {"matchLabels": caller}}]
    name = f"{edge.caller}-{edge.component}" if edge.component == MIGRATE else edge.caller
    return [
        _policy(
            f"{name}-to-{edge.called}-{edge.port}", edge.caller, out | {"egress": [{"to": ways[0], "ports": ports}]}
        ),
        _policy(
            f"{edge.called}-from-{name}-{edge.port}",
            edge.called,
            into | {"ingress": [{"from": ways[1], "ports": ports}]},
        ),
    ]


def from_clients(service: str) -> Manifest:
    """Apps, collectors, people's tools: pods that bear the client's label, in any namespace that bears it too."""
    client = {"namespaceSelector": {"matchLabels": {CLIENT: "true"}}, "podSelector": {"matchLabels": {CLIENT: "true"}}}
    return into(service, "clients", client, port("grpc"))


def from_metrics(service: str) -> Manifest:
    """Prometheus, wherever it runs."""
    prometheus = {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app.kubernetes.io/name": "prometheus"}}}
    return into(service, "metrics", prometheus, port("metrics"))


def to_outside(service: str) -> Manifest:
    """Hosts on the internet and nothing behind private addresses. The overlay airgap takes this away."""
    world = {"ipBlock": {"cidr": "0.0.0.0/0", "except": list(PRIVATE_RANGES)}}
    ports = [{"protocol": "TCP", "port": number} for number in OUTSIDE[service]]
    spec = {"policyTypes": ["Egress"], "podSelector": {"matchLabels": selector(service)}}
    return _policy(f"{service}-to-outside", service, spec | {"egress": [{"to": [world], "ports": ports}]})


def into(service: str, who: str, peer: dict[str, Any], number: int, component: str = SERVE) -> Manifest:
    """From pods that may run in other namespaces into a part of ours."""
    ways = [{"from": [peer], "ports": [{"protocol": "TCP", "port": number}]}]
    spec = {"policyTypes": ["Ingress"], "podSelector": {"matchLabels": selector(service, component)}, "ingress": ways}
    return _policy(f"{service}-from-{who}", service, spec)


def _policy(name: str, of: str, spec: dict[str, Any]) -> Manifest:
    return manifest("networking.k8s.io/v1", "NetworkPolicy", name, of, spec=spec)
