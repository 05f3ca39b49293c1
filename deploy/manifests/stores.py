"""What do the broker and the databases have to know of the services?"""

from __future__ import annotations

from typing import Any

from deploy.manifests.network import NATS_MONITOR_PORT, NATS_PORT, NATS_ROUTE_PORT, STORE
from deploy.manifests.objects import Manifest, host, labels, manifest, selector, sizes
from deploy.manifests.workloads import READ_ONLY_FILES, around, certificate, hardened
from services.console.embedded import NATS_SERVICE, POSTGRES_CONF
from services.console.home import SERVICES

BROKERS = 3
_EMBEDDED_ONLY = {
    "listen_addresses",
    "unix_socket_directories",
    "port",
    "shared_buffers",
    "fsync",
    "full_page_writes",
    "max_connections",
    "max_wal_size",
    "synchronous_commit",
    "password_encryption",
    "timezone",
    "log_timezone",
}
"""Settings of the embedded server that the cluster's operator decides by itself or by the size of its nodes."""
_ASIDE = "password-goes-here"

NATS_CONF = """\
server_name: $POD_NAME
listen: "0.0.0.0:{port}"
http: "0.0.0.0:{monitor}"
max_payload: 1MB
lame_duck_grace_period: 5s
lame_duck_duration: 30s
tls {{
  cert_file: "/etc/nats-tls/tls.crt"
  key_file: "/etc/nats-tls/tls.key"
  ca_file: "/etc/nats-tls/ca.crt"
  verify: true
}}
jetstream {{
  store_dir: "/data"
  sync_interval: always
  max_memory_store: 64MB
  max_file_store: {store}
  cipher: chachapoly
  key: $NATS_STORE_KEY
}}
cluster {{
  name: "jikimi"
  listen: "0.0.0.0:{route}"
  tls {{
    cert_file: "/etc/nats-tls/tls.crt"
    key_file: "/etc/nats-tls/tls.key"
    ca_file: "/etc/nats-tls/ca.crt"
    verify_cert_and_check_known_urls: true
  }}
  routes: [
{routes}
  ]
}}
authorization {{
  users: [
{users}
  ]
}}
"""


def nats_conf() -> str:
    """Configuration of each of the three brokers; the users and their subjects are those of the embedded one."""
    routes = [f'    "nats-route://nats-{number}.{host("nats")}:{NATS_ROUTE_PORT}"' for number in range(BROKERS)]
    store = sizes()["storage"]["nats"].replace("Gi", "GB")
    return NATS_CONF.format(
        port=NATS_PORT,
        monitor=NATS_MONITOR_PORT,
        route=NATS_ROUTE_PORT,
        store=store,
        routes="\n".join(routes),
        users="\n".join(map(nats_user, SERVICES)),
    )


def nats_user(service: str) -> str:
    """A service's user; its password comes from a variable of the pod."""
    return NATS_SERVICE.format(user=service, service=service, password=_ASIDE).replace(
        f'"{_ASIDE}"', f"$NATS_PASSWORD_{service.upper()}"
    )


def nats_environment() -> list[dict[str, Any]]:
    """Variables of the broker's pod that its configuration names."""
    secrets = {
        "NATS_STORE_KEY": "nats-store",
        **{f"NATS_PASSWORD_{service.upper()}": f"nats-{service}" for service in SERVICES},
    }
    return [
        {"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        *(
            {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": "password"}}}
            for name, secret in secrets.items()
        ),
    ]


def nats() -> list[Manifest]:
    """Three brokers that write every message to encrypted disks before they acknowledge it."""
    ports = {"client": NATS_PORT, "route": NATS_ROUTE_PORT, "monitor": NATS_MONITOR_PORT}
    service = {
        "clusterIP": "None",
        # Brokers have to find each other before they are ready.
        "publishNotReadyAddresses": True,
        "selector": selector("nats", STORE),
        "ports": [
            {"name": name, "port": number, "targetPort": name, "protocol": "TCP"} for name, number in ports.items()
        ],
    }
    return [
        manifest("v1", "ServiceAccount", "nats", "nats", automountServiceAccountToken=False),
        manifest("v1", "Service", "nats", "nats", spec=service),
        certificate("nats", f"*.{host('nats')}"),
        manifest(
            "policy/v1",
            "PodDisruptionBudget",
            "nats",
            "nats",
            spec={"maxUnavailable": 1, "selector": {"matchLabels": selector("nats", STORE)}},
        ),
        _brokers(ports),
    ]


def _brokers(ports: dict[str, int]) -> Manifest:
    size = {"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "2", "memory": "2Gi"}}
    alive, well = _monitor("/healthz?js-server-only=true"), _monitor("/healthz?js-enabled-only=true")
    container = {
        **hardened("nats", "nats", ["-c", "/etc/nats/nats.conf"], size),
        "env": nats_environment(),
        "ports": [{"name": name, "containerPort": number, "protocol": "TCP"} for name, number in ports.items()],
        "startupProbe": {**well, "periodSeconds": 5, "failureThreshold": 90},
        "readinessProbe": {**alive, "periodSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {**well, "periodSeconds": 15, "failureThreshold": 4},
        "volumeMounts": [
            {"name": "configuration", "mountPath": "/etc/nats", "readOnly": True},
            {"name": "tls", "mountPath": "/etc/nats-tls", "readOnly": True},
            {"name": "data", "mountPath": "/data", "readOnly": False},
        ],
    }
    places = [
        {"name": "configuration", "configMap": {"name": "nats-configuration"}},
        {"name": "tls", "secret": {"secretName": "nats-tls", "defaultMode": READ_ONLY_FILES}},
    ]
    apart = {
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "DoNotSchedule",
        "maxSkew": 1,
        "labelSelector": {"matchLabels": selector("nats", STORE)},
    }
    pod = {
        **around("nats", container, places),
        # Longer than the broker takes to hand its clients over (lame duck).
        "terminationGracePeriodSeconds": 60,
        "topologySpreadConstraints": [apart],
    }
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": "jikimi-databases",
            "resources": {"requests": {"storage": sizes()["storage"]["nats"]}},
        },
    }
    spec = {
        "replicas": BROKERS,
        "serviceName": "nats",
        "podManagementPolicy": "Parallel",
        "selector": {"matchLabels": selector("nats", STORE)},
        "template": {"metadata": {"labels": labels("nats", STORE)}, "spec": pod},
        "volumeClaimTemplates": [claim],
    }
    return manifest("apps/v1", "StatefulSet", "nats", "nats", spec=spec)


def _monitor(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": "monitor"}, "timeoutSeconds": 5}


def databases() -> list[Manifest]:
    """One database for each service, owned by its own login (CloudNativePG)."""
    return [
        manifest(
            "postgresql.cnpg.io/v1",
            "Database",
            f"postgres-{service}",
            service,
            spec={
                "name": service,
                "owner": service,
                "cluster": {"name": "postgres"},
                "databaseReclaimPolicy": "retain",
            },
        )
        for service in SERVICES
    ]


def postgres_cluster() -> Manifest:
    """PostgreSQL: three instances, TLS alone, an archive from which any moment can be restored."""
    size = sizes()["storage"]
    settings = dict(privacy_settings()) | {"max_connections": "400", "shared_buffers": "2GB", "max_wal_size": "8GB"}
    roles = [
        {
            "name": service,
            "ensure": "present",
            "login": True,
            "superuser": False,
            "connectionLimit": 100,
            "passwordSecret": {"name": f"postgres-{service}"},
        }
        for service in SERVICES
    ]
    spec = {
        "instances": 3,
        "imageName": "ghcr.io/cloudnative-pg/postgresql:18.6",
        "primaryUpdateStrategy": "unsupervised",
        "enableSuperuserAccess": False,
        # The services' databases are made after this one's template, with its encoding and order of letters.
        "bootstrap": {
            "initdb": {
                "database": "unused",
                "owner": "unused",
                "dataChecksums": True,
                "encoding": "UTF8",
                "localeProvider": "builtin",
                "builtinLocale": "C.UTF-8",
            }
        },
        "managed": {"roles": roles},
        "postgresql": {
            "parameters": settings,
            "pg_hba": ["hostnossl all all all reject"],
            "synchronous": {"method": "any", "number": 1, "dataDurability": "required"},
        },
        "storage": {"size": size["postgres"], "storageClass": "jikimi-databases"},
        "walStorage": {"size": size["postgres_wal"], "storageClass": "jikimi-databases"},
        "resources": {"requests": {"cpu": "2", "memory": "8Gi"}, "limits": {"cpu": "4", "memory": "8Gi"}},
        "inheritedMetadata": {
            "labels": {
                "app.kubernetes.io/name": "postgres",
                "app.kubernetes.io/component": "store",
                "app.kubernetes.io/part-of": "jikimi",
            }
        },
        "affinity": {
            "enablePodAntiAffinity": True,
            "topologyKey": "topology.kubernetes.io/zone",
            "podAntiAffinityType": "preferred",
        },
        "plugins": [
            {
                "name": "barman-cloud.cloudnative-pg.io",
                "isWALArchiver": True,
                "parameters": {"barmanObjectName": "postgres-archive"},
            }
        ],
    }
    return manifest("postgresql.cnpg.io/v1", "Cluster", "postgres", "postgres", spec=spec)


def privacy_settings() -> list[tuple[str, str]]:
    """The settings of the embedded server that hold everywhere: above all, nothing that people wrote is logged."""
    lines = [line.split(" = ") for line in POSTGRES_CONF.splitlines() if " = " in line]
    return [(name, value.strip("'")) for name, value in lines if name not in _EMBEDDED_ONLY]
