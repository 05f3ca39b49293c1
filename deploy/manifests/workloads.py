"""What runs a service in the cluster: its pods, their identity, their keys, how many there are?"""

from __future__ import annotations

from typing import Any

from deploy.manifests import declared
from deploy.manifests.network import NATS_PORT, POSTGRES_PORT
from deploy.manifests.objects import (
    MIGRATE,
    NAMESPACE,
    SERVE,
    USER,
    Manifest,
    host,
    labels,
    manifest,
    port,
    selector,
    sizes,
)
from services.chassis.config import Config

TLS, MASTER = "/etc/jikimi/tls", "/etc/jikimi/master"
PUBLIC, PRIVATE = "/etc/jikimi/tokens/public", "/etc/jikimi/tokens/private"
POSTGRES_CA = "/etc/jikimi/postgres"
HOME, KEYS, MODELS, CACHE = "/var/lib/jikimi", "/var/lib/jikimi-keys", "/srv/models", "/var/cache/jikimi"
READ_ONLY_FILES = 0o440
MIGRATION_SIZE = {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "1", "memory": "512Mi"}}


def service_manifests(service: str) -> list[Manifest]:
    """Everything of one service but whom it may talk with."""
    return [
        manifest("v1", "ServiceAccount", service, service, automountServiceAccountToken=False),
        endpoint(service),
        certificate(service),
        key_volume(service),
        budget(service),
        migration(service),
        deployment(service),
        scaler(service),
    ]


def endpoint(service: str) -> Manifest:
    """One name for the addresses of all pods: clients spread their calls, a virtual address would pin them to one."""
    ports = [{"name": "grpc", "port": port("grpc"), "targetPort": "grpc", "protocol": "TCP"}]
    return manifest(
        "v1", "Service", service, service, spec={"clusterIP": "None", "selector": selector(service), "ports": ports}
    )


def certificate(name: str, *more_names: str) -> Manifest:
    """A certificate with DNS names and one spiffe:// URI (docs/decisions/0030)."""
    spec = {
        "secretName": f"{name}-tls",
        "duration": "2160h",
        "renewBefore": "720h",
        "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
        "usages": ["digital signature", "server auth", "client auth"],
        "dnsNames": [host(name), *more_names],
        "uris": [f"spiffe://{NAMESPACE}/ns/{NAMESPACE}/sa/{name}"],
        "issuerRef": {"name": "jikimi-internal", "kind": "Issuer", "group": "cert-manager.io"},
    }
    return manifest("cert-manager.io/v1", "Certificate", f"{name}-tls", name, spec=spec)


def key_volume(service: str) -> Manifest:
    """Where its data keys lie: shared by its replicas, apart from the databases and their backups."""
    spec = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "jikimi-keys",
        "resources": {"requests": {"storage": sizes()["storage"]["keys"]}},
    }
    return manifest("v1", "PersistentVolumeClaim", f"{service}-keys", service, spec=spec)


def budget(service: str) -> Manifest:
    """How many pods may be away when nodes are emptied."""
    spec = {"maxUnavailable": 1, "selector": {"matchLabels": selector(service)}}
    return manifest("policy/v1", "PodDisruptionBudget", service, service, spec=spec)


def scaler(service: str) -> Manifest:
    """More pods while the processors are busy. The component keda takes its place and looks at the backlog too."""
    replicas = sizes()["services"][service]["replicas"]
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
        "minReplicas": replicas["least"],
        "maxReplicas": replicas["most"],
        "metrics": [
            {
                "type": "Resource",
                "resource": {
                    "name": "cpu",
                    "target": {"type": "Utilization", "averageUtilization": sizes()["busy_percent"]},
                },
            }
        ],
        # Partitions change hands whenever a pod comes or goes: slowly down.
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 600}},
    }
    return manifest("autoscaling/v2", "HorizontalPodAutoscaler", service, service, SERVE, spec=spec)


def scaled(service: str) -> Manifest:
    """The same by processor and by what waits in the broker (KEDA)."""
    size = sizes()
    triggers: list[dict[str, Any]] = [
        {"type": "cpu", "metricType": "Utilization", "metadata": {"value": str(size["busy_percent"])}}
    ]
    backlog = size["backlog"].get(service)
    triggers += [
        {
            "type": "nats-jetstream",
            "metadata": {
                "natsServerMonitoringEndpoint": f"{host('nats')}:8222",
                "account": "$G",
                "stream": publisher.upper(),
                "consumer": name,
                "lagThreshold": str(backlog["waiting"]),
                "activationLagThreshold": "0",
            },
        }
        for publisher, name in backlog_consumers(service)
    ]
    replicas = size["services"][service]["replicas"]
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": service},
        "minReplicaCount": replicas["least"],
        "maxReplicaCount": replicas["most"],
        "pollingInterval": 30,
        "cooldownPeriod": 600,
        "triggers": triggers,
    }
    return manifest("keda.sh/v1alpha1", "ScaledObject", service, service, SERVE, spec=spec)


def backlog_consumers(service: str, partitions: int = 0) -> list[tuple[str, str]]:
    """(publisher, durable) of the backlogs that ask for more replicas; 0 partitions stands for those of sizes.yaml."""
    size = sizes()
    partitions = partitions or size["partitions"]
    backlog = size["backlog"].get(service)
    if backlog is None:
        return []
    first = {"events": 0, "records": partitions}[backlog["lanes"]]
    return [
        (publisher, declared.durable(service, publisher, first + number))
        for publisher in backlog["follows"]
        for number in range(partitions)
    ]


def deployment(service: str) -> Manifest:
    """The service itself."""
    size = sizes()["services"][service]
    spec = {
        "replicas": size["replicas"]["least"],
        "revisionHistoryLimit": 5,
        "minReadySeconds": sizes()["drain"]["settle_seconds"],
        "selector": {"matchLabels": selector(service)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "template": {"metadata": {"labels": labels(service, SERVE)}, "spec": serving_pod(service)},
    }
    return manifest("apps/v1", "Deployment", service, service, SERVE, spec=spec)


def serving_pod(service: str) -> dict[str, Any]:
    """The pod of a Deployment."""
    size = sizes()
    own = size["services"][service]
    before, after = size["drain"]["before_seconds"], size["drain"]["after_seconds"]
    container = {
        **hardened(service, f"jikimi/{service}", ["serve"], {"requests": own["requests"], "limits": own["limits"]}),
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in size["ports"].items()],
        "env": serving_environment(service),
        "envFrom": [
            {"configMapRef": {"name": "jikimi-settings"}},
            {"configMapRef": {"name": f"{service}-settings", "optional": True}},
        ],
        "startupProbe": probe("live", period=2, failures=90),
        "readinessProbe": probe("", period=2, failures=2),
        "livenessProbe": probe("live", period=10, failures=6),
        # Clients that resolve names learn of the end before calls are refused.
        "lifecycle": {"preStop": {"sleep": {"seconds": before}}},
        "volumeMounts": [
            {"name": name, "mountPath": path, "readOnly": read_only} for name, path, _, read_only in volumes(service)
        ],
    }
    # A stop drains the calls, then the loops, each for drain_seconds at most.
    grace = before + 2 * int(Config.drain_seconds) + after
    spread = {"whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1, "labelSelector": {"matchLabels": selector(service)}}
    return {
        **around(service, container, [{"name": name, **source} for name, _, source, _ in volumes(service)]),
        "terminationGracePeriodSeconds": grace,
        "topologySpreadConstraints": [
            {"topologyKey": "topology.kubernetes.io/zone", **spread},
            {"topologyKey": "kubernetes.io/hostname", **spread},
        ],
    }


def migration(service: str) -> Manifest:
    """Brings the schema to its head before the services of a release start. What it does, the old release bears
    (expand); what only the new one bears waits for the release after (contract)."""
    places = [place for place in volumes(service) if place[0] in {"postgres-ca", "home", "tmp"}]
    container = {
        **hardened("migrate", f"jikimi/{service}", ["migrate"], MIGRATION_SIZE),
        "env": migration_environment(service),
        "volumeMounts": [
            {"name": name, "mountPath": path, "readOnly": read_only} for name, path, _, read_only in places
        ],
    }
    pod = {
        **around(service, container, [{"name": name, **source} for name, _, source, _ in places]),
        "restartPolicy": "OnFailure",
    }
    spec = {
        "backoffLimit": 6,
        "activeDeadlineSeconds": 3600,
        "ttlSecondsAfterFinished": 86_400,
        "template": {"metadata": {"labels": labels(service, MIGRATE)}, "spec": pod},
    }
    return manifest("batch/v1", "Job", f"{service}-migrate", service, MIGRATE, spec=spec)


def hardened(name: str, image: str, arguments: list[str], resources: dict[str, Any]) -> dict[str, Any]:
    """A container under Pod Security's restricted profile, with a root that it cannot write to."""
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "resources": {
            "requests": {**resources["requests"], "ephemeral-storage": "64Mi"},
            "limits": {**resources["limits"], "ephemeral-storage": "1Gi"},
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def around(account: str, container: dict[str, Any], places: list[dict[str, Any]]) -> dict[str, Any]:
    """A pod of one container that holds no token of the cluster."""
    return {
        "serviceAccountName": account,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": places,
    }


def probe(of: str, *, period: int, failures: int) -> dict[str, Any]:
    """Health over gRPC on the port that speaks no TLS: the kubelet does not either."""
    asked = {"port": port("probe"), **({"service": of} if of else {})}
    return {"grpc": asked, "periodSeconds": period, "timeoutSeconds": 5, "failureThreshold": failures}


def serving_environment(service: str) -> list[dict[str, Any]]:
    """What is told to the service by name; settings of the cluster come from ConfigMaps."""
    plain: dict[str, str] = {
        "JIKIMI_LISTEN": f"0.0.0.0:{port('grpc')}",
        "JIKIMI_PROBE_LISTEN": f"0.0.0.0:{port('probe')}",
        "JIKIMI_METRICS_HOST": "0.0.0.0",  # noqa: S104 # inside the pod; a policy says who gets there
        "JIKIMI_METRICS_PORT": str(port("metrics")),
        "JIKIMI_NATS_URL": f"tls://{service}:$(NATS_PASSWORD)@{host('nats')}:{NATS_PORT}",
        "JIKIMI_TLS_DIR": TLS,
        "JIKIMI_KEYS_DIR": KEYS,
        "JIKIMI_MASTER_KEY_FILE": f"{MASTER}/master.key",
        "JIKIMI_TOKEN_KEYS_DIR": PUBLIC,
        "JIKIMI_SERVICE_KEY_FILE": f"{PRIVATE}/{service}.key",
        "JIKIMI_MODELS_DIR": MODELS,
        "JIKIMI_CACHE_DIR": CACHE,
        **{
            f"{declared.PEER}{peer.upper()}": f"{host(peer)}:{port('grpc')}"
            for peer in sorted(declared.called(service))
        },
    }
    if service != "detector":
        del plain["JIKIMI_MODELS_DIR"]
    read = declared.variables(service)
    told: list[dict[str, Any]] = [
        {"name": name, "value": value}
        for name, value in plain.items()
        if name in read or name.startswith(declared.PEER)
    ]
    if "JIKIMI_CODE_VERSION" in read:
        field = {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/version']"}}
        told.append({"name": "JIKIMI_CODE_VERSION", "valueFrom": field})
    return [*database_environment(service), _secret("NATS_PASSWORD", f"nats-{service}"), *told]


def migration_environment(service: str) -> list[dict[str, Any]]:
    """A migration sees the database alone; the broker's address is asked for and not used."""
    broker = f"tls://{host('nats')}:{NATS_PORT}"
    return [*database_environment(service), {"name": "JIKIMI_NATS_URL", "value": broker}]


def database_environment(service: str) -> list[dict[str, Any]]:
    """Its own database, whose certificate it checks (libpq's variables, which asyncpg reads)."""
    url = f"postgresql+asyncpg://{service}:$(POSTGRES_PASSWORD)@{host('postgres-rw')}:{POSTGRES_PORT}/{service}"
    return [
        {"name": "JIKIMI_HOME", "value": HOME},
        {"name": "JIKIMI_SERVICE", "value": service},
        _secret("POSTGRES_PASSWORD", f"postgres-{service}"),
        {"name": "JIKIMI_DATABASE_URL", "value": url},
        {"name": "PGSSLMODE", "value": "verify-full"},
        {"name": "PGSSLROOTCERT", "value": f"{POSTGRES_CA}/ca.crt"},
    ]


def _secret(variable: str, name: str) -> dict[str, Any]:
    return {"name": variable, "valueFrom": {"secretKeyRef": {"name": name, "key": "password"}}}


def volumes(service: str) -> list[tuple[str, str, dict[str, Any], bool]]:
    """(name, mount path, source, read only) of everything that a service's pod mounts."""
    files: list[tuple[str, str, dict[str, Any], bool]] = [
        ("tls", TLS, _files(f"{service}-tls"), True),
        ("master-key", MASTER, _files(f"{service}-master-key"), True),
        ("token-keys", PUBLIC, _files("token-keys"), True),
        ("signing-keys", PRIVATE, _files(f"{service}-signing-keys"), True),
        ("postgres-ca", POSTGRES_CA, {"secret": {**_files("postgres-ca")["secret"], "items": _only("ca.crt")}}, True),
        ("keys", KEYS, {"persistentVolumeClaim": {"claimName": f"{service}-keys"}}, False),
        ("home", HOME, {"emptyDir": {"sizeLimit": "64Mi"}}, False),
        ("tmp", "/tmp", {"emptyDir": {"sizeLimit": "256Mi"}}, False),  # noqa: S108 # inside the pod, its own
    ]
    if service == "detector":
        files += [
            ("models", MODELS, {"image": {"reference": "jikimi/models", "pullPolicy": "IfNotPresent"}}, True),
            ("cache", CACHE, {"emptyDir": {"sizeLimit": "256Mi"}}, False),
        ]
    return files


def _files(secret: str) -> dict[str, Any]:
    return {"secret": {"secretName": secret, "defaultMode": READ_ONLY_FILES}}


def _only(name: str) -> list[dict[str, str]]:
    return [{"key": name, "path": name}]
