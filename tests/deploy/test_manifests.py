"""Do the checks of the Kubernetes files find what is missing? Every overlay passes; with a part taken away it fails."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from deploy.manifests import declared, network, runs, spans, tools
from deploy.manifests.check import OVERLAYS, custom_faults, parse, render, schema_faults
from deploy.manifests.generate import stale
from deploy.manifests.objects import K8S, Manifest
from deploy.manifests.rules import PROBES, SECRETS, faults
from services.console.__main__ import _parser
from services.console.home import SERVICES
from services.console.report_commands import OF_A_PERIOD

pytestmark = pytest.mark.slow

Path = tuple[str | int, ...]
SECURITY = ("allowPrivilegeEscalation", "readOnlyRootFilesystem", "capabilities")
POD = ("securityContext", "automountServiceAccountToken", "enableServiceLinks", "serviceAccountName")
OBJECTS = (
    "Certificate",
    "CronJob",
    "Deployment",
    "Issuer",
    "Job",
    "NetworkPolicy",
    "PodDisruptionBudget",
    "PodMonitor",
    "PrometheusRule",
    "ScaledObject",
    "Service",
    "ServiceAccount",
    "StatefulSet",
)
RUNNING = {"Deployment", "StatefulSet", "Job", "CronJob"}
JOBS = [runs.judgement(), *map(runs.scheduled, runs.runs())]
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


def test_each_part_of_what_takes_spans_and_of_what_runs_by_itself_is_missed(production: list[Manifest]) -> None:
    ours = {(one["kind"], one["metadata"]["name"]) for one in [*spans.manifests(), *runs.manifests()]}
    parts = [
        path
        for number, document in enumerate(production)
        if (document["kind"], document["metadata"]["name"]) in ours and document["kind"] in RUNNING
        for path in _parts_of_a_run(number, document)
    ]
    assert_each_is_missed(production, parts, least=80)


def test_what_the_collector_and_the_store_are_told_is_looked_at(production: list[Manifest]) -> None:
    looked_at = {
        "collector": ("client_ca_file", "allow_all_keys", "type: latency"),
        "tempo": ("tls: {", "endpoint:", "cert_file: /tls/tls.crt\n", "grpc_listen_a", "block_retention", "reporting"),
    }
    for name, parts in looked_at.items():
        (config,) = (one for one in production if one["metadata"]["name"].startswith(f"{name}-configuration"))
        kept = config["data"][f"{name}.yaml"]
        lines = [line for line in kept.splitlines(keepends=True) if any(part in line for part in parts)]
        assert len(lines) >= len(parts)
        for line in lines:
            config["data"][f"{name}.yaml"] = kept.replace(line, "")
            assert [fault for fault in faults(production) if name in fault], line
        config["data"][f"{name}.yaml"] = kept


def test_spans_that_nobody_takes_are_found(production: list[Manifest]) -> None:
    gone = {one["metadata"]["name"] for one in spans.manifests()}
    without = [one for one in production if one["metadata"]["name"] not in gone]
    assert [fault for fault in faults(without) if "Deployment/collector is missing" in fault]


@pytest.mark.parametrize("run", JOBS, ids=lambda run: run["metadata"]["name"])
def test_what_runs_is_a_command_that_the_command_line_knows(run: Manifest) -> None:
    spec = run["spec"]
    pod = (spec["jobTemplate"]["spec"] if run["kind"] == "CronJob" else spec)["template"]["spec"]
    (container,) = pod["containers"]
    given = {entry["name"] for entry in container["env"]}
    assert callable(_parser().parse_args([word.replace("$(RELEASE)", "0.1.0") for word in container["args"]]).run)
    assert set(re.findall(r"\$\((\w+)\)", " ".join(container["args"]))) <= given
    assert set() == {name for name in given if name[:6] == "JIKIMI"} - {
        *declared.variables("console"),
        *(name for name in given if name.startswith(declared.PEER)),
    }


def test_a_panel_or_an_alert_that_the_cluster_lacks_is_found(production: list[Manifest]) -> None:
    (pages,) = (one["data"] for one in production if one["metadata"]["name"] == "jikimi-dashboards")
    rules = next(one["spec"] for one in production if one["kind"] == "PrometheusRule")
    places = [(pages, name) for name in sorted(pages)]
    places += [(group["rules"], number) for group in rules["groups"] for number in range(len(group["rules"]))]
    monitor = next(one["spec"] for one in production if one["kind"] == "PodMonitor")
    places.append((monitor["podMetricsEndpoints"][0], "relabelings"))
    unheard = []
    for place, key in places:
        kept = place.pop(key)
        unheard += [] if faults(production) else [str(key)]
        place.insert(key, kept) if isinstance(place, list) else place.update({key: kept})
    assert ([], True) == (unheard, len(places) > 30)


def test_every_report_of_a_period_is_made(production: list[Manifest]) -> None:
    made = [one for one in production if one["kind"] == "CronJob"]
    words = [
        word
        for one in made
        for word in one["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"][0]["args"]
    ]
    assert set(OF_A_PERIOD) <= set(words)


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


def _parts_of_a_run(number: int, document: Manifest) -> Iterator[Path]:
    """Everything that its pods are told, and what bounds them."""
    begin = (number, *_pod_of(document))
    container = _container(document)
    for what in ("args", "env", "volumeMounts"):
        if what in container:
            yield (*begin, "containers", 0, what)
            yield from ((*begin, "containers", 0, what, index) for index in range(len(container[what])))
    if document["kind"] == "CronJob":
        fields = ("schedule", "timeZone", "concurrencyPolicy", "startingDeadlineSeconds")
        yield from ((number, "spec", field) for field in fields)
        bounds = ("backoffLimit", "activeDeadlineSeconds")
        yield from ((number, "spec", "jobTemplate", "spec", field) for field in bounds)
    if document["kind"] == "Job":
        yield from ((number, "spec", field) for field in ("podFailurePolicy", "backoffLimit", "activeDeadlineSeconds"))
    if document["kind"] in {"Job", "CronJob"}:
        yield (*begin, "restartPolicy")


def _pod_of(document: Manifest) -> Path:
    way: Path = ("spec", "template", "spec")
    return ("spec", "jobTemplate", *way) if document["kind"] == "CronJob" else way


def _container(document: Manifest) -> dict[str, Any]:
    place: Any = document
    for step in _pod_of(document):
        place = place[step]
    return dict(place["containers"][0])


def _container_fields(documents: list[Manifest]) -> Iterator[Path]:
    for number, document in enumerate(documents):
        if document["kind"] not in RUNNING:
            continue
        begin: Path = (number, *_pod_of(document), "containers", 0)
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
        if document["kind"] not in RUNNING:
            continue
        begin: Path = (number, *_pod_of(document))
        yield from ((*begin, field) for field in POD)
        yield from ((*begin, "securityContext", field) for field in POD_SECURITY)
        if document["kind"] in {"Deployment", "StatefulSet"}:
            yield (*begin, "terminationGracePeriodSeconds")
            yield (*begin, "topologySpreadConstraints")
        if "minReadySeconds" in document["spec"]:
            yield (number, "spec", "minReadySeconds")


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
