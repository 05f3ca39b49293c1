"""What must hold for every rendered overlay?

Each rule takes the documents of an overlay and gives what is wrong with them, in words that name the object. They judge
what kubectl rendered, not what the generator meant: a patch of an overlay that takes a probe away is found here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from deploy.manifests import alerts, components, declared, network, runs, workloads
from deploy.manifests.objects import (
    COMPONENT,
    JUDGE,
    LOAD,
    MIGRATE,
    NAME,
    PLATFORM,
    SERVE,
    STAGE,
    Manifest,
    host,
    port,
    sizes,
)
from deploy.manifests.overlay import Overlay
from deploy.manifests.stores import privacy_settings
from services.chassis.config import Config
from services.console.home import SERVICES

LONG_LIVED = ("Deployment", "StatefulSet")
VOLUME_KINDS = frozenset({"configMap", "emptyDir", "image", "persistentVolumeClaim", "secret"})
"""What pods may mount: fewer than Pod Security's restricted profile allows."""
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
RESOURCES = ("cpu", "memory", "ephemeral-storage")
OPENINGS = frozenset({"hostNetwork", "hostPID", "hostIPC", "hostUsers", "shareProcessNamespace"})
_TAG = re.compile(r".+(:(?!latest$)[\w.-]+|@sha256:[0-9a-f]{64})")

Rule = Callable[[Overlay], Iterable[str]]


def faults(documents: Sequence[Manifest]) -> list[str]:
    """What is wrong with an overlay; empty when nothing is."""
    overlay = Overlay(documents)
    return [fault for rule in RULES for fault in rule(overlay)]


def pods_are_restricted(overlay: Overlay) -> Iterator[str]:
    """Pod Security's restricted profile, an account of their own, no token, nothing of the node."""
    for name, document, template in overlay.workloads():
        pod = template["spec"]
        security = pod.get("securityContext", {})
        wanted: dict[str, object] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        yield from _differs(name, security, wanted)
        for field in ("runAsUser", "runAsGroup", "fsGroup"):
            if not security.get(field, 0) > 0:
                yield f"{name}: {field} is no account of its own"
        yield from _differs(name, pod, {"automountServiceAccountToken": False, "enableServiceLinks": False})
        if overlay.named("ServiceAccount", pod.get("serviceAccountName", "default")) is None:
            yield f"{name}: runs under no service account of ours"
        if opened := OPENINGS & pod.keys():
            yield f"{name}: takes {', '.join(sorted(opened))} of the node"
        if not pod.get("terminationGracePeriodSeconds", 0) > 0 and document["kind"] in LONG_LIVED:
            yield f"{name}: has no time to end"
        for volume in pod.get("volumes", []):
            if not volume.keys() - {"name"} <= VOLUME_KINDS:
                yield f"{name}: volume {volume['name']} is of no kind that is allowed"
            if "emptyDir" in volume and "sizeLimit" not in volume["emptyDir"]:
                yield f"{name}: volume {volume['name']} has no limit"


def containers_are_restricted(overlay: Overlay) -> Iterator[str]:
    """No privileges, a root that cannot be written to, bounded, from an image that is named exactly."""
    for name, _, _, container in overlay.containers():
        security = container.get("securityContext", {})
        yield from _differs(name, security, {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True})
        if security.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name}: keeps capabilities"
        if security.keys() & {"privileged", "procMount", "seLinuxOptions", "runAsUser"}:
            yield f"{name}: changes what its pod says"
        for bound in ("requests", "limits"):
            missing = [what for what in RESOURCES if what not in container.get("resources", {}).get(bound, {})]
            if missing:
                yield f"{name}: {bound} of {', '.join(missing)} are missing"
        if not _TAG.fullmatch(container["image"]):
            yield f"{name}: image {container['image']} is not named exactly"
        if container.get("imagePullPolicy") != "IfNotPresent":
            yield f"{name}: imagePullPolicy is not IfNotPresent"


def everything_is_probed(overlay: Overlay) -> Iterator[str]:
    """What lives long is asked whether it started, is ready, is alive, each on a port that it opens."""
    for name, _, _, container in overlay.containers(*LONG_LIVED):
        opened = {entry["name"]: entry["containerPort"] for entry in container.get("ports", [])}
        for kind in PROBES:
            asked = container.get(kind, {})
            how = asked.get("grpc") or asked.get("httpGet")
            if how is None:
                yield f"{name}: {kind} is missing"
            elif how["port"] not in {*opened, *opened.values()}:
                yield f"{name}: {kind} asks a port that is not open"
            elif not {"periodSeconds", "timeoutSeconds", "failureThreshold"} <= asked.keys():
                yield f"{name}: {kind} does not say how often and how long"


def services_are_asked_by_name(overlay: Overlay) -> Iterator[str]:
    """Our services answer `live` while they run, and "" while calls should go there (services/chassis/server.py)."""
    wanted = {"startupProbe": "live", "readinessProbe": "", "livenessProbe": "live"}
    if not set(wanted.values()) <= declared.health_names():
        yield "services/chassis/server.py: health does not answer for what the probes ask"
    for service, container in _served(overlay):
        for kind, asked in wanted.items():
            how = container.get(kind, {}).get("grpc", {})
            if (how.get("port"), how.get("service", "")) != (port("probe"), asked):
                yield f"{service}: {kind} does not ask {asked or 'readiness'} on the probe port"
        grace = Config.drain_seconds * 2
        pod = _template(overlay, service)["spec"]
        waits = container.get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
        if waits < 1:
            yield f"{service}: refuses calls before clients learn that it ends"
        if pod.get("terminationGracePeriodSeconds", 0) < waits + grace:
            yield f"{service}: is killed before its calls are drained"
        deployment = overlay.named("Deployment", service) or {"spec": {}}
        if deployment["spec"].get("minReadySeconds", 0) < sizes()["drain"]["settle_seconds"]:
            yield f"{service}: the next pod is replaced before clients have found the one before"


def services_are_complete(overlay: Overlay) -> Iterator[str]:
    """Each service has its Deployment, headless Service, account, budget, scaler, migration, certificate."""
    for service in SERVICES:
        for kind in ("Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"):
            if overlay.named(kind, service) is None:
                yield f"{kind}/{service} is missing"
        if overlay.named("Job", f"{service}-migrate") is None:
            yield f"Job/{service}-migrate is missing"
        scalers = [kind for kind in ("HorizontalPodAutoscaler", "ScaledObject") if overlay.named(kind, service)]
        if len(scalers) != 1:
            yield f"{service}: has {len(scalers)} scalers instead of one"
        if (claim := overlay.named("PersistentVolumeClaim", f"{service}-keys")) is None:
            yield f"PersistentVolumeClaim/{service}-keys is missing"
        elif claim["spec"]["accessModes"] != ["ReadWriteMany"]:
            yield f"{service}: its replicas cannot share their keys"


def endpoints_lead_to_pods(overlay: Overlay) -> Iterator[str]:
    """A Service is headless, and finds pods that open its ports."""
    pods = [template for _, _, template in overlay.workloads("Job", *LONG_LIVED)]
    for name, document, _ in overlay.workloads(*LONG_LIVED):
        if overlay.named("Service", document["metadata"]["name"]) is None:
            yield f"{name}: is reached under no name"
    for service in overlay.of("Service"):
        name, spec = service["metadata"]["name"], service["spec"]
        if spec.get("clusterIP") != "None":
            yield f"Service/{name}: a virtual address pins callers to one pod"
        found = [pod for pod in pods if _matches(spec.get("selector", {}), pod["metadata"]["labels"])]
        if not spec.get("selector") or len(found) != 1:
            yield f"Service/{name}: leads to {len(found)} workloads"
            continue
        opened = {entry["name"] for entry in found[0]["spec"]["containers"][0].get("ports", [])}
        for entry in spec["ports"]:
            if entry["targetPort"] not in opened:
                yield f"Service/{name}: port {entry['name']} is opened by nobody"
    for served, container in _served(overlay):
        if {entry["name"]: entry["containerPort"] for entry in container["ports"]} != sizes()["ports"]:
            yield f"Deployment/{served}: opens other ports than sizes.yaml says"


def disruptions_are_bounded(overlay: Overlay) -> Iterator[str]:
    """What lives long has a budget for emptied nodes and is spread over nodes."""
    budgets = [budget["spec"] for budget in overlay.of("PodDisruptionBudget")]
    for name, document, template in overlay.workloads(*LONG_LIVED):
        marks = template["metadata"]["labels"]
        found = [budget for budget in budgets if _matches(budget["selector"]["matchLabels"], marks)]
        if len(found) != 1 or found[0].get("maxUnavailable") != 1:
            yield f"{name}: no budget of one pod"
        if not _matches(document["spec"]["selector"]["matchLabels"], marks):
            yield f"{name}: does not find its own pods"
        keys = {spread["topologyKey"] for spread in template["spec"].get("topologySpreadConstraints", [])}
        if "kubernetes.io/hostname" not in keys:
            yield f"{name}: may run on one node alone"


def scaling_is_bounded(overlay: Overlay) -> Iterator[str]:
    """No more replicas than partitions, and the backlogs that are watched are those of durables that exist."""
    partitions = sizes()["partitions"]
    for scaler in overlay.of("HorizontalPodAutoscaler"):
        spec = scaler["spec"]
        if not 1 <= spec["minReplicas"] <= spec["maxReplicas"] <= partitions:
            yield f"HorizontalPodAutoscaler/{scaler['metadata']['name']}: replicas beyond the partitions"
        if not spec.get("metrics"):
            yield f"HorizontalPodAutoscaler/{scaler['metadata']['name']}: looks at nothing"
    for scaler in overlay.of("ScaledObject"):
        name, spec = scaler["metadata"]["name"], scaler["spec"]
        if not 1 <= spec["minReplicaCount"] <= spec["maxReplicaCount"] <= partitions:
            yield f"ScaledObject/{name}: replicas beyond the partitions"
        watched = {
            (trigger["metadata"]["stream"].lower(), trigger["metadata"]["consumer"])
            for trigger in spec["triggers"]
            if trigger["type"] == "nats-jetstream"
        }
        if watched != set(workloads.backlog_consumers(name)):
            yield f"ScaledObject/{name}: watches other durables than the service reads through"
        if not {publisher for publisher, _ in watched} <= declared.followed(name):
            yield f"ScaledObject/{name}: watches what the service does not follow"
        if not any(trigger["type"] == "cpu" for trigger in spec["triggers"]):
            yield f"ScaledObject/{name}: does not look at the processor"


def nothing_is_open(overlay: Overlay) -> Iterator[str]:
    """All is closed, names are resolved, and each edge of the call graph is opened at both ends, and no other."""
    found = {policy["metadata"]["name"]: policy["spec"] for policy in overlay.of("NetworkPolicy")}
    closed = network.closed()["spec"]
    if found.get("closed") != closed:
        yield "NetworkPolicy/closed: not everything is closed"
    asked = [*network.policies(), *components.policies(overlay)]
    for policy in asked:
        name = policy["metadata"]["name"]
        if name.endswith("-to-outside") and name not in found and _is_sealed(overlay):
            continue
        if found.get(name) != policy["spec"]:
            yield f"NetworkPolicy/{name}: is not what the call graph asks for"
    out, into = _ways(overlay, "egress", "to"), _ways(overlay, "ingress", "from")
    for way in sorted(map(str, out ^ into)):
        yield f"NetworkPolicy: opened at one end only: {way}"
    known = {policy["metadata"]["name"] for policy in asked} | BESIDES.keys()
    for name in sorted(found.keys() - known):
        yield f"NetworkPolicy/{name}: nobody asked for this way"
    for name in sorted(_besides_wanted(overlay) - found.keys()):
        yield f"NetworkPolicy/{name}: is missing"
    for name, spec in found.items():
        yield from _is_narrow(name, spec)
        ways = [*spec.get("ingress", []), *spec.get("egress", [])]
        opened = {entry["port"] for way in ways for entry in way.get("ports", [])}
        if name in BESIDES and opened != BESIDES[name]:
            yield f"NetworkPolicy/{name}: opens {sorted(opened)} instead of {sorted(BESIDES[name])}"


LOADED = ("detector", "case", "notify")
"""Services that the load test calls (docs/load.md)."""
BESIDES = {
    "postgres-to-archive-and-api": {443, 6443},
    "postgres-from-operator": {network.POSTGRES_STATUS_PORT, network.POSTGRES_PORT},
    "nats-from-keda-8222": {network.NATS_MONITOR_PORT},
    "detector-to-triton-8001": {8001},
    "triton-from-detector-8001": {8001},
    **{f"load-{part}-to-{service}-50051": {50051} for part in ("master", "worker") for service in LOADED},
    **{f"{service}-from-load-{part}-50051": {50051} for part in ("master", "worker") for service in LOADED},
    "load-worker-to-master-5557": {5557},
    "load-master-from-worker-5557": {5557},
}
"""Policies written by hand, beside what they belong to, with the ports that they open."""


def _besides_wanted(overlay: Overlay) -> set[str]:
    wanted = {"postgres-to-archive-and-api", "postgres-from-operator"}
    wanted |= {"nats-from-keda-8222"} if overlay.of("ScaledObject") else set()
    wanted |= {name for name in BESIDES if "load-" in name} if overlay.named("Job", "load-master") else set()
    return wanted | (
        {"detector-to-triton-8001", "triton-from-detector-8001"} if overlay.named("Service", "triton") else set()
    )


def _is_narrow(name: str, spec: dict[str, Any]) -> Iterator[str]:
    """A policy that opens something names both ends and the ports."""
    for direction, side in (("ingress", "from"), ("egress", "to")):
        if (direction in spec) != (direction.capitalize() in spec["policyTypes"]) and name != "closed":
            yield f"NetworkPolicy/{name}: says {direction} in one place only"
        for way in spec.get(direction, []):
            if not way.get(side) or not way.get("ports"):
                yield f"NetworkPolicy/{name}: opens {direction} to everybody or on every port"
            yield from (
                f"NetworkPolicy/{name}: does not say whom it lets through"
                for peer in way.get(side, [])
                if peer in ({}, {"podSelector": {}}, {"namespaceSelector": {}})
            )


def _is_sealed(overlay: Overlay) -> bool:
    """Whether this is a cluster from which nothing is sent: removal is told so."""
    settings = [
        entry["data"] for entry in overlay.of("ConfigMap") if entry["metadata"]["name"].startswith("removal-settings")
    ]
    return any(
        data.get("JIKIMI_REMOVAL_SEND") == "off" and data.get("JIKIMI_REMOVAL_LOOK") == "off" for data in settings
    )


def _ways(overlay: Overlay, direction: str, side: str) -> set[tuple[str, str, int]]:
    """(caller, called, port) of every way between pods of this namespace, as one direction opens it."""
    ways = set()
    for policy in overlay.of("NetworkPolicy"):
        spec = policy["spec"]
        for way in spec.get(direction, []):
            for peer in way.get(side, []):
                if set(peer) != {"podSelector"}:
                    continue
                own, other = _mark(spec["podSelector"]), _mark(peer["podSelector"])
                ends = (own, other) if direction == "egress" else (other, own)
                ways |= {(*ends, entry["port"]) for entry in way.get("ports", [])}
    return ways


def _mark(selector: dict[str, Any]) -> str:
    marks = selector.get("matchLabels", {})
    return f"{marks.get(NAME, '*')}/{marks.get(COMPONENT, '*')}"


def services_are_told_what_they_read(overlay: Overlay) -> Iterator[str]:
    """Variables: all that are required, none that nobody reads, peers as in the call graph, no secret in the clear."""
    for name, document, _, container in overlay.containers():
        service = document["metadata"]["labels"].get(NAME, "")
        if service not in SERVICES:
            continue
        told = {entry["name"]: entry for entry in container.get("env", [])}
        if missing := declared.required_variables() - told.keys():
            yield f"{name}: is not told {', '.join(sorted(missing))}"
        ours = {variable for variable in told if variable.startswith("JIKIMI_")}
        peers = {variable for variable in ours if variable.startswith(declared.PEER)}
        if unknown := ours - peers - declared.variables(service):
            yield f"{name}: is told {', '.join(sorted(unknown))}, which it does not read"
        if told.get("JIKIMI_SERVICE", {}).get("value") != service:
            yield f"{name}: is told to be another service"
        for variable, entry in told.items():
            if variable.endswith("PASSWORD") and "secretKeyRef" not in entry.get("valueFrom", {}):
                yield f"{name}: {variable} does not come from a secret"
        yield from _database_is_safe(name, service, told)
        mounts = [entry["mountPath"] for entry in container.get("volumeMounts", [])]
        if workloads.POSTGRES_CA not in mounts:
            yield f"{name}: cannot check the certificate of its database"
        if not {workloads.HOME, "/tmp"} <= set(mounts):  # noqa: S108 # inside the pod, its own
            yield f"{name}: has no place to write to"
        if document["kind"] == "Deployment":
            yield from _serving_is_told(name, service, container, told, peers)


def _database_is_safe(name: str, service: str, told: dict[str, Any]) -> Iterator[str]:
    wanted = {
        "JIKIMI_DATABASE_URL": f"postgresql+asyncpg://{service}:$(POSTGRES_PASSWORD)@{host('postgres-rw')}:{network.POSTGRES_PORT}/{service}",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": f"{workloads.POSTGRES_CA}/ca.crt",
    }
    for variable, value in wanted.items():
        if told.get(variable, {}).get("value") != value:
            yield f"{name}: {variable} is not {value}"
    if "POSTGRES_PASSWORD" not in told:
        yield f"{name}: has no password for its database"


def _serving_is_told(
    name: str, service: str, container: dict[str, Any], told: dict[str, Any], peers: set[str]
) -> Iterator[str]:
    wanted = {f"{declared.PEER}{peer.upper()}": f"{host(peer)}:{port('grpc')}" for peer in declared.called(service)}
    if {variable: told[variable].get("value") for variable in peers} != wanted:
        yield f"{name}: its peers are not those that it calls"
    for entry in workloads.serving_environment(service):
        if told.get(entry["name"]) != entry:
            yield f"{name}: {entry['name']} is not told as the service needs it"
    mounts = {entry["mountPath"] for entry in container.get("volumeMounts", [])}
    for _, path, _, _ in workloads.volumes(service):
        if path not in mounts:
            yield f"{name}: nothing is mounted at {path}"
    shared = [entry.get("configMapRef", {}).get("name", "") for entry in container.get("envFrom", [])]
    if not any(source.startswith("jikimi-settings") for source in shared):
        yield f"{name}: is not told what the cluster shares"


def settings_are_read(overlay: Overlay) -> Iterator[str]:
    """What ConfigMaps tell is read by those they tell."""
    for config in overlay.of("ConfigMap"):
        name = re.sub(r"-[a-z0-9]{10}$", "", config["metadata"]["name"])
        service = name.removesuffix("-settings")
        if not name.endswith("-settings"):
            continue
        readers = [service] if service in SERVICES else list(SERVICES)
        for variable in config["data"]:
            if not all(variable in declared.variables(reader) for reader in readers):
                yield f"ConfigMap/{name}: {variable} is not read"
        if service == "jikimi" and int(config["data"].get("JIKIMI_PARTITIONS", 0)) != sizes()["partitions"]:
            yield "ConfigMap/jikimi-settings: partitions are not those of sizes.yaml"


def volumes_are_there(overlay: Overlay) -> Iterator[str]:
    """Every mount has its volume, secrets are mounted for reading only, claims exist."""
    for name, document, pod, container in overlay.containers():
        volumes = {volume["name"]: volume for volume in pod.get("volumes", [])}
        claimed = {claim["metadata"]["name"] for claim in document["spec"].get("volumeClaimTemplates", [])}
        for mount in container.get("volumeMounts", []):
            if mount["name"] not in volumes and mount["name"] not in claimed:
                yield f"{name}: mounts {mount['name']}, which is not there"
                continue
            volume = volumes.get(mount["name"], {})
            if "secret" in volume and not mount.get("readOnly"):
                yield f"{name}: may write to the secret {mount['name']}"
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and overlay.named("PersistentVolumeClaim", claim) is None:
                yield f"{name}: claims {claim}, which is not there"
            if volume["name"] not in {mount["name"] for mount in container.get("volumeMounts", [])}:
                yield f"{name}: volume {volume['name']} is mounted nowhere"


def secrets_are_known(overlay: Overlay) -> Iterator[str]:
    """No secret lies in the files; each that is named is made by cert-manager or stands in the list of what is to be
    made."""
    for secret in overlay.of("Secret"):
        yield f"Secret/{secret['metadata']['name']}: a secret lies in the files"
    made = {certificate["spec"]["secretName"] for certificate in overlay.of("Certificate")}
    for name in sorted(_named_secrets(overlay) - made - set(SECRETS)):
        yield f"Secret/{name}: is named and made by nobody"


SECRETS = {
    **{f"postgres-{service}": "username, password (kubernetes.io/basic-auth)" for service in SERVICES},
    **{f"nats-{service}": "password" for service in SERVICES},
    **{f"{service}-master-key": "master.key" for service in SERVICES},
    **{
        f"{service}-signing-keys": " ".join(f"{key}.key" for key in sorted({service, *declared.key_files(service)}))
        for service in SERVICES
    },
    "token-keys": "a .pub for every key",
    **{token: "token: of the issuer, renewed within 12 hours" for token in (runs.RELEASE_TOKEN, runs.REPORTS_TOKEN)},
    "load-plan": "plan.json (docs/load.md); in a cluster for load tests alone",
    "nats-store": "password",
    "postgres-ca": "ca.crt",
    "postgres-archive": "access-key-id, secret-access-key",
}
"""Secrets that an installation makes (docs/operate/install.md), with what is in them. `postgres-ca` is made by
CloudNativePG, `postgres-archive` comes from the object store."""


def _named_secrets(overlay: Overlay) -> set[str]:
    found: set[str] = set()
    for _, _, pod, container in overlay.containers():
        found |= {volume["secret"]["secretName"] for volume in pod.get("volumes", []) if "secret" in volume}
        found |= {
            entry["valueFrom"]["secretKeyRef"]["name"]
            for entry in container.get("env", [])
            if "secretKeyRef" in entry.get("valueFrom", {})
        }
    return found


def certificates_name_one_service(overlay: Overlay) -> Iterator[str]:
    """A certificate bears the name that callers use and one spiffe:// URI, and is mounted by that service alone."""
    for name, _, template in overlay.workloads(*LONG_LIVED):
        of = template["metadata"]["labels"][NAME]
        found = overlay.named("Certificate", f"{of}-tls")
        if found is None:
            yield f"{name}: has no certificate"
            continue
        spec = found["spec"]
        if host(of) not in spec.get("dnsNames", []):
            yield f"Certificate/{of}-tls: does not bear {host(of)}"
        if spec.get("uris") != [f"spiffe://jikimi/ns/jikimi/sa/{template['spec'].get('serviceAccountName')}"]:
            yield f"Certificate/{of}-tls: bears not one spiffe:// URI of its account"
        if not {"server auth", "client auth"} <= set(spec.get("usages", [])):
            yield f"Certificate/{of}-tls: is not for both ends of a call"
        mounted = [
            v["secret"]["secretName"] for v in template["spec"]["volumes"] if v["name"] == "tls" and "secret" in v
        ]
        if mounted != [spec["secretName"]]:
            yield f"{name}: does not mount its certificate"
    made = {certificate["spec"]["secretName"] for certificate in overlay.of("Certificate")}
    for issuer in overlay.of("Issuer"):
        if issuer["spec"].get("ca", {}).get("secretName", "") not in {*made, ""}:
            yield f"Issuer/{issuer['metadata']['name']}: its authority is made by nobody"
    for certificate in overlay.of("Certificate"):
        if overlay.named("Issuer", certificate["spec"]["issuerRef"]["name"]) is None:
            yield f"Certificate/{certificate['metadata']['name']}: its issuer is not there"


def accounts_hold_no_token(overlay: Overlay) -> Iterator[str]:
    """No pod may ask the cluster's API anything."""
    for account in overlay.of("ServiceAccount"):
        if account.get("automountServiceAccountToken") is not False:
            yield f"ServiceAccount/{account['metadata']['name']}: holds a token"
    for kind in ("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield from (f"{kind}/{entry['metadata']['name']}: nobody here needs rights" for entry in overlay.of(kind))


def namespace_enforces(overlay: Overlay) -> Iterator[str]:
    """The cluster itself refuses pods that are not restricted."""
    space = overlay.named("Namespace", "jikimi")
    marks = space["metadata"]["labels"] if space else {}
    for mode in ("enforce", "warn", "audit"):
        if marks.get(f"pod-security.kubernetes.io/{mode}") != "restricted":
            yield f"Namespace/jikimi: does not {mode} the restricted profile"
    for document in overlay.documents:
        if document["kind"] != "Namespace" and document["metadata"].get("namespace") != "jikimi":
            yield f"{document['kind']}/{document['metadata']['name']}: lies outside the namespace"


def stages_are_in_order(overlay: Overlay) -> Iterator[str]:
    """Everything bears its stage; schemas are brought to their head (migrate) before services start (serve)."""
    for document in overlay.documents:
        stage = document["metadata"].get("labels", {}).get(STAGE)
        name = f"{document['kind']}/{document['metadata']['name']}"
        if stage not in (PLATFORM, MIGRATE, SERVE, LOAD, JUDGE):
            yield f"{name}: bears no stage"
        elif stage != _stage_of(name, stage):
            yield f"{name}: is not of the stage {stage}"
    for service in SERVICES:
        deployed = overlay.named("Deployment", service)
        if deployed and deployed["metadata"]["labels"].get(STAGE) != SERVE:
            yield f"Deployment/{service}: would start before its schema is there"
        migrating, serving = _image(overlay, "Job", f"{service}-migrate"), _image(overlay, "Deployment", service)
        if migrating != serving or not re.search(rf"(^|/)jikimi/{service}[:@]", serving):
            yield f"{service}: its migration and its pods are not of one image of that service"


def _stage_of(name: str, told: str) -> str:
    """Migrations and the gate's judgement have stages of their own, which nothing else bears."""
    if name == "Job/gate-release":
        return JUDGE
    if name.startswith("Job/") and name.endswith("-migrate"):
        return MIGRATE
    return "" if told in (JUDGE, MIGRATE) else told


def databases_are_safe(overlay: Overlay) -> Iterator[str]:
    """TLS alone, no superuser from outside, nothing that people wrote in logs, one database and login a service."""
    cluster = overlay.named("Cluster", "postgres")
    if cluster is None:
        yield "Cluster/postgres is missing"
        return
    spec = cluster["spec"]
    if spec.get("enableSuperuserAccess") is not False:
        yield "Cluster/postgres: the superuser can log in"
    if "hostnossl all all all reject" not in spec["postgresql"].get("pg_hba", []):
        yield "Cluster/postgres: takes connections in the clear"
    for setting, value in privacy_settings():
        if spec["postgresql"]["parameters"].get(setting) != value:
            yield f"Cluster/postgres: {setting} is not {value}"
    if spec["instances"] > 1:
        if "synchronous" not in spec["postgresql"]:
            yield "Cluster/postgres: what was committed can be lost with a node"
        archives = [
            plugin["parameters"]["barmanObjectName"]
            for plugin in spec.get("plugins", [])
            if plugin.get("isWALArchiver")
        ]
        if not archives or overlay.named("ObjectStore", archives[0]) is None or not overlay.of("ScheduledBackup"):
            yield "Cluster/postgres: cannot be restored to a moment"
    for bound in ("requests", "limits"):
        if not {"cpu", "memory"} <= spec.get("resources", {}).get(bound, {}).keys():
            yield f"Cluster/postgres: {bound} are missing"
    roles = {role["name"]: role for role in spec["managed"]["roles"]}
    for service in SERVICES:
        database = overlay.named("Database", f"postgres-{service}")
        if (
            database is None
            or database["spec"]["owner"] != service
            or roles.get(service, {}).get("superuser") is not False
        ):
            yield f"Database/postgres-{service}: is not its service's own"


def brokers_are_safe(overlay: Overlay) -> Iterator[str]:
    """The configuration's variables are all given, its ports are those that are opened."""
    brokers = overlay.named("StatefulSet", "nats")
    conf = next(
        (c["data"]["nats.conf"] for c in overlay.of("ConfigMap") if c["metadata"]["name"].startswith("nats-conf")), ""
    )
    if brokers is None or not conf:
        yield "StatefulSet/nats or its configuration is missing"
        return
    container = brokers["spec"]["template"]["spec"]["containers"][0]
    given = {entry["name"] for entry in container.get("env", [])}
    for variable in sorted(set(re.findall(r"\$([A-Z][A-Z0-9_]*)", conf)) - given - {"JS", "SYS"}):
        yield f"StatefulSet/nats: its configuration names {variable}, which is not given"
    opened = {entry["containerPort"] for entry in container["ports"]}
    if opened != {int(number) for number in re.findall(r'"0\.0\.0\.0:(\d+)"', conf)}:
        yield "StatefulSet/nats: opens other ports than its configuration"
    for line in (
        "sync_interval: always",
        "cipher: chachapoly",
        "verify: true",
        "verify_cert_and_check_known_urls: true",
    ):
        if line not in conf:
            yield f"ConfigMap/nats-configuration: {line} is missing"
    for service in SERVICES:
        if f'user: "{service}"' not in conf:
            yield f"ConfigMap/nats-configuration: {service} has no user"
    replicas = next(c["data"] for c in overlay.of("ConfigMap") if c["metadata"]["name"].startswith("jikimi-settings"))
    if int(replicas["JIKIMI_STREAM_REPLICAS"]) > brokers["spec"]["replicas"]:
        yield "ConfigMap/jikimi-settings: streams want more copies than there are brokers"


RULES: tuple[Rule, ...] = (
    pods_are_restricted,
    containers_are_restricted,
    everything_is_probed,
    services_are_asked_by_name,
    services_are_complete,
    endpoints_lead_to_pods,
    disruptions_are_bounded,
    scaling_is_bounded,
    nothing_is_open,
    services_are_told_what_they_read,
    settings_are_read,
    volumes_are_there,
    secrets_are_known,
    certificates_name_one_service,
    accounts_hold_no_token,
    namespace_enforces,
    stages_are_in_order,
    databases_are_safe,
    brokers_are_safe,
    *components.RULES,
    alerts.is_watched,
)


def _differs(name: str, found: dict[str, Any], wanted: dict[str, object]) -> Iterator[str]:
    for field, value in wanted.items():
        if found.get(field) != value:
            yield f"{name}: {field} is not {value}"


def _matches(selector: dict[str, str], marks: dict[str, str]) -> bool:
    return bool(selector) and selector.items() <= marks.items()


def _template(overlay: Overlay, service: str) -> dict[str, Any]:
    document = overlay.named("Deployment", service)
    return document["spec"]["template"] if document else {"spec": {"containers": []}}


def _served(overlay: Overlay) -> Iterator[tuple[str, dict[str, Any]]]:
    for service in SERVICES:
        for container in _template(overlay, service)["spec"]["containers"][:1]:
            yield service, container


def _image(overlay: Overlay, kind: str, name: str) -> str:
    document = overlay.named(kind, name)
    return str(document["spec"]["template"]["spec"]["containers"][0]["image"]) if document else ""
