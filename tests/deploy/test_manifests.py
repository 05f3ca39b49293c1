"""Do the checks of the Kubernetes files find what is missing? Every overlay passes; with a part taken away it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.manifests import network, tools
from deploy.manifests.check import OVERLAYS, custom_faults, parse, render, schema_faults
from deploy.manifests.generate import stale
from deploy.manifests.objects import K8S, Manifest
from deploy.manifests.rules import PROBES, SECRETS, faults
from services.console.home import SERVICES

pytestmark = pytest.mark.slow

Path = tuple[str | int, ...]
SECURITY = ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities")
POD = ("securityContext", "automountServiceAccountToken", "enableServiceLinks", "serviceAccountName")
OBJECTS = (
    "Certificate",
    "Issuer",
    "Job",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "ScaledObject",
    "Service",
    "ServiceAccount",
)
POD_SECURITY = ("runAsNonRoot", "runAsUser", "runAsGroup", "fsGroup", "seccompProfile")


@pytest.fixture(scope="session")
def rendered() -> dict[str, list[Manifest]]:
    try:
        return {overlay: parse(render(overlay)) for overlay in OVERLAYS}
    except tools.ToolMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def production(rendered: dict[str, list[Manifest]]) -> list[Manifest]:
    return rendered["production"]


def test_generated_files_are_those_that_the_code_asks_for() -> None:
    assert [] == stale()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_breaks_no_rule(rendered: dict[str, list[Manifest]], overlay: str) -> None:
    assert [] == faults(rendered[overlay])


def test_a_misspelt_field_is_found(production: list[Manifest]) -> None:
    deployment = next(one for one in production if one["kind"] == "Deployment")
    scaler = next(one for one in production if one["kind"] == "ScaledObject")
    misspelt = [
        {**deployment, "spec": {**deployment["spec"], "replica": 2}},
        {**scaler, "spec": {**scaler["spec"], "maxReplicas": 2}},
    ]
    assert [1, 1] == [len(schema_faults([misspelt[0]])), len(custom_faults([misspelt[1]]))]


@pytest.mark.parametrize("overlay", ["production", "dev"])
def test_each_probe_limit_and_security_field_is_missed(rendered: dict[str, list[Manifest]], overlay: str) -> None:
    documents = rendered[overlay]
    assert_each_is_missed(documents, [*_container_fields(documents), *_pod_fields(documents)], least=150)


def test_each_way_that_is_closed_is_missed(production: list[Manifest]) -> None:
    assert_each_is_missed(production, _policy_parts(production), least=2 * len(network.inner_edges()))


def test_each_variable_and_mount_is_missed(production: list[Manifest]) -> None:
    optional = {"NATS_PASSWORD", "JIKIMI_CODE_VERSION"}
    parts = [
        path
        for number, document in enumerate(production)
        if document["kind"] in {"Deployment", "Job"}
        and document["metadata"]["labels"]["app.kubernetes.io/name"] in SERVICES
        for what in ("env", "volumeMounts")
        for index, entry in enumerate(_container(document)[what])
        for path in [(number, "spec", "template", "spec", "containers", 0, what, index)]
        if entry["name"] not in optional and not _may_be_default(document, entry["name"])
    ]
    assert_each_is_missed(production, parts, least=100)


@pytest.mark.parametrize("kind", OBJECTS)
def test_each_object_is_missed(production: list[Manifest], kind: str) -> None:
    unheard = [
        f"{kind}/{document['metadata']['name']}"
        for number, document in enumerate(production)
        if document["kind"] == kind and not faults([*production[:number], *production[number + 1 :]])
    ]
    assert [] == unheard


def test_a_way_that_nobody_asked_for_is_found(production: list[Manifest]) -> None:
    more = network.both_ways(network.Edge("notify", "gate", 50051))
    assert len(more) == len([fault for fault in faults([*production, *more]) if "nobody asked" in fault])


def test_an_open_policy_is_found(production: list[Manifest]) -> None:
    closed = network.closed()
    open_to_all = {**closed, "metadata": {**closed["metadata"], "name": "names", "namespace": "jikimi"}}
    others = [one for one in production if (one["kind"], one["metadata"]["name"]) != ("NetworkPolicy", "names")]
    assert faults([*others, {**open_to_all, "spec": {**open_to_all["spec"], "egress": [{}]}}])


def test_every_secret_stands_in_the_instructions() -> None:
    page = (K8S.parents[1] / "docs/operate/install.md").read_text(encoding="utf-8")
    told = {name.replace("<service>", service) for name in re.findall(r"`([a-z<>-]+)`", page) for service in SERVICES}
    assert set() == set(SECRETS) - told


def assert_each_is_missed(documents: list[Manifest], paths: list[Path] | Iterator[Path], least: int) -> None:
    """Takes each part away, one at a time: the rules have to say something every time."""
    tried, unheard = 0, []
    for path in paths:
        put_back = _take_away(documents, path)
        try:
            if not faults(documents):
                unheard.append(_words(documents, path))
        finally:
            put_back()
        tried += 1
    assert ([], True) == (unheard, tried >= least)


def _take_away(documents: list[Manifest], path: Path) -> Callable[[], None]:
    place: Any = documents
    for step in path[:-1]:
        place = place[step]
    kept, before = place[path[-1]], list(place.items()) if isinstance(place, dict) else list(place)
    del place[path[-1]]
    assert kept is not None

    def put_back() -> None:
        place.clear()
        place.update(before) if isinstance(place, dict) else place.extend(before)

    return put_back


def _words(documents: list[Manifest], path: Path) -> str:
    document = documents[int(path[0])]
    return f"{document['kind']}/{document['metadata']['name']} {'.'.join(map(str, path[1:]))}"


def _container(document: Manifest) -> dict[str, Any]:
    return dict(document["spec"]["template"]["spec"]["containers"][0])


def _container_fields(documents: list[Manifest]) -> Iterator[Path]:
    for number, document in enumerate(documents):
        if document["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        begin: Path = (number, "spec", "template", "spec", "containers", 0)
        container = _container(document)
        yield from ((*begin, probe) for probe in PROBES if probe in container)
        yield from ((*begin, probe, field) for probe in PROBES for field in container.get(probe, {}))
        for bound in ("requests", "limits"):
            yield (*begin, "resources", bound)
            yield from ((*begin, "resources", bound, what) for what in ("cpu", "memory", "ephemeral-storage"))
        yield from ((*begin, "securityContext", field) for field in SECURITY)
        yield from ((*begin, field) for field in ("securityContext", "resources", "imagePullPolicy"))


def _pod_fields(documents: list[Manifest]) -> Iterator[Path]:
    for number, document in enumerate(documents):
        if document["kind"] not in {"Deployment", "StatefulSet", "Job"}:
            continue
        begin: Path = (number, "spec", "template", "spec")
        yield from ((*begin, field) for field in POD)
        yield from ((*begin, "securityContext", field) for field in POD_SECURITY)
        if document["kind"] != "Job":
            yield (*begin, "terminationGracePeriodSeconds")
            yield (*begin, "topologySpreadConstraints")


def _policy_parts(documents: list[Manifest]) -> Iterator[Path]:
    for number, document in enumerate(documents):
        if document["kind"] != "NetworkPolicy":
            continue
        for direction, side in (("egress", "to"), ("ingress", "from")):
            for index, way in enumerate(document["spec"].get(direction, [])):
                begin: Path = (number, "spec", direction, index)
                yield begin
                yield from ((*begin, part) for part in (side, "ports"))
                yield from ((*begin, "ports", entry) for entry in range(len(way["ports"])))
        yield (number, "spec", "policyTypes", 0)


def _may_be_default(document: Manifest, variable: str) -> bool:
    """What a service does without: a place of its own choosing, or a faster engine."""
    return variable in {"JIKIMI_CACHE_DIR", "tmp", "JIKIMI_EMBEDDER"} or variable.startswith("JIKIMI_TRITON")
