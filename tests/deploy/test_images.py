"""Does each image hold what its service needs, no more, and does the service start from it?"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.manifests.objects import USER, sizes
from services.chassis.keys import create_master_key
from services.chassis.tokens import create_key_pair
from services.console.embedded import Nats
from services.console.home import SERVICES
from tests.deploy.images import ROOT, Rehearsal, steps

ARGUMENTS = {"VERSION": "0.0.0", "REVISION": "none", "BASE": "base"}
STARTED = ("case", "removal", "notify", "gate")
"""What starts here: the detector's wheels are large, and it needs its models."""


def dockerfile(service: str) -> Path:
    return ROOT / "services" / service / "Dockerfile"


@pytest.mark.slow
def test_locks_are_what_the_services_import() -> None:
    done = subprocess.run(
        [str(ROOT / ".venv/bin/python"), "bootstrap/service_locks.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ("", 0) == (done.stderr, done.returncode)


@pytest.mark.parametrize("service", SERVICES)
def test_a_lock_is_part_of_the_runtimes(service: str) -> None:
    whole = (ROOT / "requirements/runtime.txt").read_text(encoding="utf-8").splitlines()
    part = (ROOT / f"requirements/services/{service}.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [] == [line for line in part if line not in whole]
    assert 20 < sum("==" in line for line in part) < sum("==" in line for line in whole)


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_holds_its_service_alone(service: str) -> None:
    copied = [
        step.words.split()[0]
        for step in steps(dockerfile(service), ARGUMENTS)
        if step.verb == "COPY" and not step.words.startswith("--from")
    ]
    expected = [
        f"var/wheelhouse/{service}",
        f"requirements/services/{service}.txt",
        "services/__init__.py",
        "services/chassis",
        f"services/{service}",
        "protos/gen/misuse",
        f"var/sbom/{service}.cdx.json",
    ]
    assert expected == copied


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_runs_without_rights_and_builds_without_a_network(service: str) -> None:
    told = list(steps(dockerfile(service), ARGUMENTS))
    by_verb = {step.verb: step.words for step in told}
    installs = [step.words for step in told if step.verb == "RUN" and "pip install" in step.words]
    assert f"{USER}:{USER}" == by_verb["USER"]
    assert sorted(map(str, sizes()["ports"].values())) == sorted(by_verb["EXPOSE"].split())
    assert [service] == json.loads(by_verb["ENTRYPOINT"])[-1].split(".")[1:]
    assert [True] == [{"--no-index", "--require-hashes", "--only-binary"} <= set(words.split()) for words in installs]
    assert not [step for step in told if step.verb == "ADD" or "curl" in step.words or "apt-get" in step.words]


def test_every_image_stands_on_a_base_that_its_builder_names() -> None:
    base = (ROOT / "deploy/images/base.Dockerfile").read_text(encoding="utf-8")
    assert ["${PYTHON_IMAGE}"] == [line.split()[1] for line in base.splitlines() if line.startswith("FROM")]
    for service in SERVICES:
        stages = [line for line in dockerfile(service).read_text(encoding="utf-8").splitlines() if line[:4] == "FROM"]
        assert ["FROM ${BASE} AS build", "FROM ${BASE}"] == stages


def test_the_gpu_variant_differs_in_faiss_alone() -> None:
    def names(lock: str) -> set[str]:
        text = (ROOT / f"requirements/services/{lock}.txt").read_text(encoding="utf-8")
        return {line.split("==")[0] for line in text.splitlines() if "==" in line}

    plain, gpu = names("detector"), names("detector-gpu")
    assert {"faiss-cpu"} == plain - gpu
    assert "faiss-gpu" in gpu - plain


@pytest.mark.slow
@pytest.mark.parametrize("service", STARTED)
def test_a_service_starts_from_its_image(
    service: str, tmp_path: Path, nats: Nats, database_url: Callable[[str], str]
) -> None:
    if not (ROOT / "var/wheelhouse" / service).exists():
        pytest.skip(f"No wheels to build {service} from: make wheelhouse")
    rehearsal = Rehearsal(dockerfile(service), tmp_path / "image", ARGUMENTS)
    root = rehearsal.build()
    inside = {place.name for place in (root / "srv/jikimi/app/services").iterdir()}
    assert {"__init__.py", "__pycache__", "chassis", service} == inside
    _make_read_only(root)
    environment = _told(service, tmp_path, nats, database_url(service), rehearsal, root)
    command = rehearsal.command()
    migrated = subprocess.run(
        [*command[:-1], "migrate"], env=environment, cwd=root / "srv/jikimi/app", capture_output=True, text=True
    )
    assert (0, "") == (migrated.returncode, migrated.stderr[-2000:] if migrated.returncode else "")
    with (tmp_path / "log").open("wb") as log:
        running = subprocess.Popen(command, env=environment, cwd=root / "srv/jikimi/app", stdout=log, stderr=log)
        try:
            assert health_pb2.HealthCheckResponse.SERVING == _health(environment["JIKIMI_PROBE_LISTEN"], running)
        finally:
            running.terminate()
            running.wait(60)
    assert 0 == running.returncode


def _make_read_only(root: Path) -> None:
    for place in (root, *root.rglob("*")):
        if not place.is_symlink():
            place.chmod(place.stat().st_mode & ~0o222)


def _told(
    service: str, tmp_path: Path, nats: Nats, database: str, rehearsal: Rehearsal, root: Path
) -> dict[str, str]:
    """What the pod would be told, with places of this machine."""
    create_master_key(tmp_path / "keys" / "master.key")
    create_key_pair(tmp_path / "private", tmp_path / "public", service)
    name, _, value = rehearsal.last("ENV").partition("=")
    doors = [_free_port() for _ in range(2)]
    return {
        "PATH": os.environ.get("PATH", ""),
        name: str(root) + value,
        "PYTHONDONTWRITEBYTECODE": "1",
        "JIKIMI_HOME": str(tmp_path / "state"),
        "JIKIMI_SERVICE": service,
        "JIKIMI_LISTEN": f"127.0.0.1:{doors[0]}",
        "JIKIMI_PROBE_LISTEN": f"127.0.0.1:{doors[1]}",
        "JIKIMI_DATABASE_URL": database,
        "JIKIMI_NATS_URL": nats.url(service),
        "JIKIMI_KEYS_DIR": str(tmp_path / "keys" / service),
        "JIKIMI_MASTER_KEY_FILE": str(tmp_path / "keys" / "master.key"),
        "JIKIMI_TOKEN_KEYS_DIR": str(tmp_path / "public"),
        "JIKIMI_SERVICE_KEY_FILE": str(tmp_path / "private" / f"{service}.key"),
        **{f"JIKIMI_PEER_{peer.upper()}": "127.0.0.1:9" for peer in SERVICES},
    }


def _free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def _health(address: str, process: subprocess.Popen[bytes]) -> int:
    """What the probe port answers, asked until it answers for readiness with SERVING or the process has ended."""
    with grpc.insecure_channel(address) as channel:
        while process.poll() is None:
            try:
                answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return int(answer.status)
            except grpc.RpcError:
                pass
            time.sleep(0.2)
    return -1
