"""What must hold of the components tracing and runs in an overlay that takes them?

A part of a component that is there alone is of no use: where one part is, all are, as they were generated.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from deploy.manifests import runs, spans
from deploy.manifests.objects import Manifest, host
from deploy.manifests.overlay import Overlay
from services.chassis import yaml_text

ENDPOINT = "JIKIMI_OTLP_ENDPOINT"
DECIDED_ELSEWHERE = frozenset({"image", "labels", "namespace"})
"""Fields that an overlay sets."""


def sends_spans(overlay: Overlay) -> bool:
    """Whether services of this overlay are told where to send spans, or something is there to take them."""
    takes = overlay.named("Deployment", spans.COLLECTOR) or overlay.named("StatefulSet", spans.TEMPO)
    return takes is not None or ENDPOINT in overlay.settings("jikimi-settings")


def has_runs(overlay: Overlay) -> bool:
    """Whether anything is run in this overlay that ends by itself, migrations and load aside."""
    return bool(overlay.of("CronJob")) or overlay.named("Job", "gate-release") is not None


def policies(overlay: Overlay) -> list[Manifest]:
    """Ways that the components of this overlay need."""
    return [
        *(spans.policies() if sends_spans(overlay) else []),
        *(runs.policies() if has_runs(overlay) else []),
    ]


def spans_arrive(overlay: Overlay) -> Iterator[str]:
    """Who is told to send spans finds a collector, it a store, each with its configuration, over mutual TLS."""
    if not sends_spans(overlay):
        return
    yield from _complete(overlay, spans.manifests())
    if overlay.settings("jikimi-settings").get(ENDPOINT) != spans.ENDPOINT:
        yield f"ConfigMap/jikimi-settings: {ENDPOINT} is not {spans.ENDPOINT}"
    told = _configuration(overlay, spans.COLLECTOR)
    if told != spans.configuration():
        yield "ConfigMap/collector-configuration: is not deploy/observe/collector.yaml"
    receiver = _at(spans.configuration(), "receivers", "otlp", "protocols", "grpc")
    if not _is_kept(receiver):
        yield "collector.yaml: takes spans on another port, or from anybody"
    store = _configuration(overlay, spans.TEMPO)
    taken = _at(store, "distributor", "receivers", "otlp", "protocols", "grpc")
    if not _is_kept(taken):
        yield "ConfigMap/tempo-configuration: takes spans on another port, or from anybody"
    server = store.get("server", {})
    if server.get("http_listen_port") != spans.QUERY_PORT or not server.get("http_tls_config", {}).get("cert_file"):
        yield "ConfigMap/tempo-configuration: answers on another port, or in the clear"
    if server.get("grpc_listen_address") != "127.0.0.1":
        yield "ConfigMap/tempo-configuration: its parts can be reached from elsewhere"
    if _at(store, "usage_report").get("reporting_enabled") is not False:
        yield "ConfigMap/tempo-configuration: tells its makers about itself"
    if not _at(store, "compactor", "compaction").get("block_retention"):
        yield "ConfigMap/tempo-configuration: keeps spans for ever"


def runs_are_complete(overlay: Overlay) -> Iterator[str]:
    """The gate's judgement, every report of a period and the probes run, bounded, one at a time, under accounts."""
    if not has_runs(overlay):
        return
    yield from _complete(overlay, runs.manifests())
    wanted = {run.name for run in runs.runs()}
    for job in overlay.of("CronJob"):
        name, spec = job["metadata"]["name"], job["spec"]
        if name not in wanted:
            yield f"CronJob/{name}: nobody asked for it"
        bounded = _at(spec, "jobTemplate", "spec").get("activeDeadlineSeconds")
        if spec.get("concurrencyPolicy") != "Forbid" or not bounded:
            yield f"CronJob/{name}: may pile up"
    for part in runs.CALLED:
        found = overlay.named("Certificate", f"{part}-tls")
        if found is None or host(part) not in found["spec"]["dnsNames"]:
            yield f"Certificate/{part}-tls: is missing, or another's"


RULES: tuple[Callable[[Overlay], Iterator[str]], ...] = (spans_arrive, runs_are_complete)


def _is_kept(receiver: Mapping[str, Any]) -> bool:
    """Whether it listens on the port of spans and takes them from those alone whom our authority knows."""
    listens = str(receiver.get("endpoint", "")).endswith(f":{spans.OTLP_PORT}")
    return listens and "client_ca_file" in _at(receiver, "tls")


def _complete(overlay: Overlay, generated: Sequence[Manifest]) -> Iterator[str]:
    for wanted in generated:
        kind, name = wanted["kind"], wanted["metadata"]["name"]
        found = overlay.named(kind, name)
        if found is None:
            yield f"{kind}/{name} is missing"
        else:
            yield from (f"{kind}/{name}: {what}" for what in _missing(found, wanted, ""))


def _missing(found: Any, wanted: Any, path: str) -> Iterator[str]:
    """What of the wanted is not in the found; quantities may differ, their presence may not."""
    if isinstance(wanted, Mapping):
        if not isinstance(found, Mapping):
            yield f"{path} is not as it was made"
            return
        for field, value in wanted.items():
            here = f"{path}.{field}".lstrip(".")
            if field in DECIDED_ELSEWHERE:
                continue
            if field not in found:
                yield f"{here} is missing"
            elif ".resources." not in f".{path}.":
                yield from _missing(found[field], value, here)
    elif isinstance(wanted, list):
        if not isinstance(found, list) or len(found) != len(wanted):
            yield f"{path} is not as it was made"
            return
        for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
            yield from _missing(one, other, f"{path}.{number}")
    elif found != wanted and not _hashed(found, wanted):
        yield f"{path} is not {wanted}"


def _hashed(found: Any, wanted: Any) -> bool:
    """Whether it is the name of a ConfigMap, to which kustomize adds a hash of its content."""
    return re.fullmatch(rf"{re.escape(str(wanted))}-[a-z0-9]{{10}}", str(found)) is not None


def _configuration(overlay: Overlay, of: str) -> dict[str, Any]:
    return _parsed(overlay.settings(f"{of}-configuration").get(f"{of}.yaml", "{}"))


@cache
def _parsed(text: str) -> dict[str, Any]:
    return dict(yaml_text.parse(text))


def _at(place: Mapping[str, Any], *fields: str) -> Mapping[str, Any]:
    for field in fields:
        place = place.get(field) or {}
    return place
