"""Which programs run in the cluster and end by themselves: the gate's judgement, reports, probes (component runs)?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deploy.manifests.declared import PEER
from deploy.manifests.network import Edge, both_ways
from deploy.manifests.objects import JUDGE, RUN, Manifest, host, labels, manifest, port, sizes
from deploy.manifests.workloads import HOME, READ_ONLY_FILES, TLS, around, certificate, hardened
from services.console.home import SERVICES
from services.console.report_commands import OF_A_PERIOD

GATEKEEPER, PROBE = "gatekeeper", "probe"
"""Who asks the gate; who asks whether everybody serves. Each has an account, a certificate, ways of its own."""
CALLED = {GATEKEEPER: ("gate",), PROBE: SERVICES}
REPORTS, TOKEN = "/var/lib/jikimi-reports", "/etc/jikimi/token"
RELEASE_TOKEN, REPORTS_TOKEN = "release-token", "reports-token"
IMAGE = "jikimi/console"
ZONE = "Asia/Seoul"
MINUTES = 60


@dataclass(frozen=True)
class Run:
    """A command of `jikimi` that is run again and again."""

    name: str
    part: str
    schedule: str
    words: tuple[str, ...]
    secret: str = ""
    """Secret with the actor token; empty where no call needs one."""
    keeps: bool = False
    """Whether it writes into the volume of reports."""
    seconds: int = 10 * MINUTES


def runs() -> list[Run]:
    """Everything with a schedule: each report that is made of a period, daily at night; probes."""
    reports = [
        Run(
            "report-" + "-".join(_words(report)).removesuffix("-report"),
            GATEKEEPER,
            f"{10 + 5 * number} 1 * * *",
            ("gate", "report", report, "--days", "1", "--out", REPORTS, "--dated"),
            REPORTS_TOKEN,
            keeps=True,
        )
        for number, report in enumerate(sorted(OF_A_PERIOD))
    ]
    return [
        *reports,
        Run("probe-services", PROBE, "*/5 * * * *", ("probe", "--json"), seconds=2 * MINUTES),
        Run(
            "probe-dependencies",
            GATEKEEPER,
            "*/15 * * * *",
            ("gate", "dependency", "list", "--json"),
            REPORTS_TOKEN,
            seconds=2 * MINUTES,
        ),
    ]


def _words(name: str) -> list[str]:
    """`LeakSignalSummaryReport` → leak, signal, summary, report."""
    split = "".join(f" {letter}" if letter.isupper() else letter for letter in name)
    return split.lower().split()


def edges() -> list[Edge]:
    """Whom each part calls."""
    return [Edge(part, service, port("grpc"), RUN) for part, called in CALLED.items() for service in called]


def policies() -> list[Manifest]:
    """The ways of the component."""
    return [policy for edge in edges() for policy in both_ways(edge)]


def manifests() -> list[Manifest]:
    """Everything of the component."""
    accounts = [manifest("v1", "ServiceAccount", part, part, automountServiceAccountToken=False) for part in CALLED]
    return [*accounts, *map(certificate, CALLED), kept(), judgement(), *map(scheduled, runs()), *policies()]


def kept() -> Manifest:
    """Where reports and decisions lie."""
    spec = {
        "accessModes": ["ReadWriteMany"],
        "storageClassName": "jikimi-keys",
        "resources": {"requests": {"storage": sizes()["storage"]["reports"]}},
    }
    return manifest("v1", "PersistentVolumeClaim", "reports", GATEKEEPER, spec=spec)


def judgement() -> Manifest:
    """`jikimi gate run`: the Job is complete when the release passed, and failed otherwise. Who fails or lacks data
    (exit 1, 2) is not asked again; a gate that did not answer (3) is."""
    words = ("gate", "run", "$(RELEASE)", "--out", f"{REPORTS}/$(RELEASE)")
    run = Run("gate-release", GATEKEEPER, "", words, RELEASE_TOKEN, keeps=True, seconds=30 * MINUTES)
    release = {"fieldRef": {"fieldPath": "metadata.labels['app.kubernetes.io/version']"}}
    pod = _pod(run, [{"name": "RELEASE", "valueFrom": release}])
    final = {"action": "FailJob", "onExitCodes": {"containerName": run.name, "operator": "In", "values": [1, 2]}}
    spec = {**_job(run, pod), "backoffLimit": 3, "podFailurePolicy": {"rules": [final]}}
    return manifest("batch/v1", "Job", run.name, run.part, JUDGE, spec=spec)


def scheduled(run: Run) -> Manifest:
    """A CronJob: one at a time, and not much later than it should have been."""
    spec = {
        "schedule": run.schedule,
        "timeZone": ZONE,
        "concurrencyPolicy": "Forbid",
        "startingDeadlineSeconds": 5 * MINUTES,
        "successfulJobsHistoryLimit": 1,
        "failedJobsHistoryLimit": 5,
        "jobTemplate": {"spec": {**_job(run, _pod(run, [])), "backoffLimit": 1}},
    }
    return manifest("batch/v1", "CronJob", run.name, run.part, spec=spec)


def _job(run: Run, pod: dict[str, Any]) -> dict[str, Any]:
    return {
        "activeDeadlineSeconds": run.seconds,
        "ttlSecondsAfterFinished": 86_400,
        "template": {"metadata": {"labels": labels(run.part, RUN)}, "spec": pod},
    }


def environment(run: Run) -> list[dict[str, Any]]:
    """What `jikimi` is told instead of a home on its machine (services/console/remote.py)."""
    peers = [(f"{PEER}{service.upper()}", f"{host(service)}:{port('grpc')}") for service in CALLED[run.part]]
    token = [("JIKIMI_TOKEN_FILE", f"{TOKEN}/token")] if run.secret else []
    told = [("JIKIMI_HOME", HOME), ("JIKIMI_TLS_DIR", TLS), *token, *peers]
    return [{"name": name, "value": value} for name, value in told]


def _pod(run: Run, more: list[dict[str, Any]]) -> dict[str, Any]:
    places: list[tuple[str, str, dict[str, Any], bool]] = [
        ("tls", TLS, {"secret": {"secretName": f"{run.part}-tls", "defaultMode": READ_ONLY_FILES}}, True),
        ("home", HOME, {"emptyDir": {"sizeLimit": "64Mi"}}, False),
        ("tmp", "/tmp", {"emptyDir": {"sizeLimit": "64Mi"}}, False),  # noqa: S108 # inside the pod, its own
    ]
    if run.secret:
        places.append(("token", TOKEN, {"secret": {"secretName": run.secret, "defaultMode": READ_ONLY_FILES}}, True))
    if run.keeps:
        places.append(("reports", REPORTS, {"persistentVolumeClaim": {"claimName": "reports"}}, False))
    container = {
        **hardened(run.name, IMAGE, list(run.words), sizes()["runs"]),
        "env": [*more, *environment(run)],
        "volumeMounts": [{"name": name, "mountPath": path, "readOnly": only} for name, path, _, only in places],
    }
    volumes = [{"name": name, **source} for name, _, source, _ in places]
    return {**around(run.part, container, volumes), "restartPolicy": "Never"}
