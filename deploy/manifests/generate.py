"""How do the Kubernetes files that follow from the code come to be?

`written()` gives every generated file with its text; `python -m deploy.manifests generate` writes them, and a check
compares them with what lies in deploy/k8s. Sizes are data (deploy/k8s/sizes.yaml), everything else is what
`deploy.manifests.declared` reads from the services.
"""

from __future__ import annotations

from pathlib import Path

from deploy.manifests import alerts, runs, spans, stores
from deploy.manifests.network import policies
from deploy.manifests.objects import K8S, as_yaml, sizes
from deploy.manifests.workloads import scaled, service_manifests
from services.console.home import SERVICES

HEADER = (
    "# Made by `python -m deploy.manifests generate` from the services' code and deploy/k8s/sizes.yaml; change those.\n"
)


def written() -> dict[Path, str]:
    """Path → text of every generated file."""
    base = K8S / "base"
    files = {base / f"{service}.yaml": as_yaml(service_manifests(service)) for service in SERVICES}
    files |= {
        base / "edges.yaml": as_yaml(policies()),
        base / "nats.conf": stores.nats_conf(),
        base / "nats.yaml": as_yaml(stores.nats()),
        base / "postgres.yaml": as_yaml([stores.postgres_cluster(), *stores.databases()]),
        base / "settings.env": settings(),
        K8S / "components" / "tracing" / "spans.yaml": as_yaml(spans.manifests()),
        K8S / "components" / "tracing" / "settings.env": f"JIKIMI_OTLP_ENDPOINT={spans.ENDPOINT}\n",
        K8S / "components" / "tracing" / "collector.yaml": spans.SOURCE.read_text(encoding="utf-8"),
        K8S / "components" / "monitoring" / "rules.yaml": as_yaml([alerts.rule()]),
        K8S / "components" / "runs" / "runs.yaml": as_yaml(runs.manifests()),
        K8S / "components" / "keda" / "scaled-objects.yaml": as_yaml([scaled(service) for service in SERVICES]),
    }
    return {path: HEADER + text for path, text in files.items()}


def settings() -> str:
    """What all services of a cluster share."""
    shared = {"JIKIMI_PARTITIONS": sizes()["partitions"], "JIKIMI_STREAM_REPLICAS": sizes()["stream_replicas"]}
    return "".join(f"{name}={value}\n" for name, value in shared.items())


def write() -> list[Path]:
    """Writes what differs; returns those files."""
    changed = [
        path for path, text in written().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(written()[path], encoding="utf-8")
    return changed


def stale() -> list[str]:
    """Generated files that are not what the code asks for."""
    root = K8S.parents[1]
    return [
        f"{path.relative_to(root)}: differs from what the code says; run python -m deploy.manifests generate"
        for path, text in written().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
