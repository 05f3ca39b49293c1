"""Does each image hold what its service needs, no more, and does the service start from it?"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from deploy.manifests.brokers import make_certificates
from deploy.manifests.objects import USER, sizes
from misuse.common.v1.access_pb2 import PURPOSE_RELEASE, ROLE_RELEASE_MANAGER
from services.chassis.keys import create_master_key
from services.chassis.tokens import Issuer, create_key_pair
from services.console.embedded import Nats
from services.console.home import SERVICES
from tests.deploy.images import ROOT, Rehearsal, steps

ARGUMENTS = {"VERSION": "0.0.0", "REVISION": "none", "BASE": "base"}
PROGRAMS = {"console": "deploy/images/console.Dockerfile", "load": "deploy/images/load.Dockerfile"}
"""Images beside those of the services."""
IMAGES = (*SERVICES, *PROGRAMS)
COMPILERS = {"detector": ("var/wheelhouse/compiler", "requirements/compiler.txt")}
"""What a service's build takes besides, and does not ship."""
MODELS = ROOT / ".cache" / "models"


def dockerfile(image: str) -> Path:
    return ROOT / PROGRAMS.get(image, f"services/{image}/Dockerfile")


def lock(image: str) -> Path:
    return ROOT / "requirements" / ("load.txt" if image == "load" else f"services/{image}.txt")


def needs_wheels(image: str) -> None:
    wanted = [image, *(["compiler"] if image.startswith("detector") else [])]
    if not all((ROOT / "var/wheelhouse" / name).exists() for name in wanted):
        pytest.skip(f"No wheels to build {image} from: make wheelhouse")


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


@pytest.mark.parametrize("service", [*SERVICES, "console"])
def test_a_lock_is_part_of_the_runtimes(service: str) -> None:
    whole = (ROOT / "requirements/runtime.txt").read_text(encoding="utf-8").splitlines()
    part = (ROOT / f"requirements/services/{service}.txt").read_text(encoding="utf-8").splitlines()[1:]
    assert [] == [line for line in part if line not in whole]
    assert 20 < sum("==" in line for line in part) < sum("==" in line for line in whole)


def test_the_command_line_holds_no_model_and_no_engine() -> None:
    names = {line.split("==")[0] for line in lock("console").read_text(encoding="utf-8").splitlines() if "==" in line}
    assert set() == names & {"openvino", "onnxruntime", "faiss-cpu", "opencv-python-headless", "hyperscan", "numpy"}


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
        *COMPILERS.get(service, ()),
        "services/__init__.py",
        "services/chassis",
        f"services/{service}",
        "protos/gen/misuse",
        f"var/sbom/{service}.cdx.json",
    ]
    assert expected == copied


@pytest.mark.parametrize("service", SERVICES)
def test_an_image_opens_its_ports_and_starts_its_service(service: str) -> None:
    by_verb = {step.verb: step.words for step in steps(dockerfile(service), ARGUMENTS)}
    assert sorted(map(str, sizes()["ports"].values())) == sorted(by_verb["EXPOSE"].split())
    assert [service] == json.loads(by_verb["ENTRYPOINT"])[-1].split(".")[1:]


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_runs_without_rights_and_builds_without_a_network(image: str) -> None:
    told = list(steps(dockerfile(image), ARGUMENTS))
    by_verb = {step.verb: step.words for step in told}
    installs = [step.words for step in told if step.verb == "RUN" and "pip install" in step.words]
    assert f"{USER}:{USER}" == by_verb["USER"]
    assert f'org.opencontainers.image.title="jikimi/{image}"' in by_verb["LABEL"].split()
    assert f"var/sbom/{image}.cdx.json" in [step.words.split()[0] for step in told if step.verb == "COPY"]
    assert {True} == {{"--no-index", "--require-hashes", "--only-binary"} <= set(words.split()) for words in installs}
    assert not [step for step in told if step.verb == "ADD" or "curl" in step.words or "apt-get" in step.words]


def test_every_image_stands_on_a_base_that_its_builder_names() -> None:
    base = (ROOT / "deploy/images/base.Dockerfile").read_text(encoding="utf-8")
    assert ["${PYTHON_IMAGE}"] == [line.split()[1] for line in base.splitlines() if line.startswith("FROM")]
    for image in IMAGES:
        stages = [line for line in dockerfile(image).read_text(encoding="utf-8").splitlines() if line[:4] == "FROM"]
        assert ["FROM ${BASE} AS build", "FROM ${BASE}"] == stages


def test_the_gpu_variant_differs_in_faiss_alone() -> None:
    def names(lock: str) -> set[str]:
        text = (ROOT / f"requirements/services/{lock}.txt").read_text(encoding="utf-8")
        return {line.split("==")[0] for line in text.splitlines() if "==" in line}

    plain, gpu = names("detector"), names("detector-gpu")
    assert {"faiss-cpu"} == plain - gpu
    assert "faiss-gpu" in gpu - plain


@pytest.mark.parametrize("image", [*IMAGES, "detector-gpu"])
def test_a_bill_of_materials_lists_what_the_lock_names(image: str) -> None:
    file = ROOT / f"var/sbom/{image}.cdx.json"
    if not file.exists():
        pytest.skip(f"No bill of {image}: make wheelhouse")
    bill = json.loads(file.read_text(encoding="utf-8"))
    entries = re.findall(r"^([\w.-]+)(?:\[[\w,]+\])?==(\S+)", lock(image).read_text(encoding="utf-8"), re.M)
    assert sorted(entries) == sorted((each["name"], each["version"]) for each in bill["components"])
    assert [] == [each["name"] for each in bill["components"] if not _hashes(each)]


def _hashes(component: dict[str, Any]) -> list[str]:
    found = [each["hashes"] for each in component.get("externalReferences", []) if "hashes" in each]
    return [each["content"] for hashes in found for each in hashes]


@pytest.mark.slow
def test_a_build_takes_packages_from_the_wheelhouse_alone(tmp_path: Path) -> None:
    """Without a wheel the build ends, on a machine whose pip has an index as well."""
    needs_wheels("gate")
    shutil.copytree(ROOT / "var/wheelhouse/gate", tmp_path / "var/wheelhouse/gate", copy_function=os.link)
    (tmp_path / "requirements/services").mkdir(parents=True)
    shutil.copy(lock("gate"), tmp_path / "requirements/services")
    (wheel,) = (tmp_path / "var/wheelhouse/gate").glob("markupsafe-*.whl")
    wheel.unlink()
    with pytest.raises(subprocess.CalledProcessError) as failed:
        Rehearsal(dockerfile("gate"), tmp_path / "image", ARGUMENTS, tmp_path).build(until="services/__init__.py")
    assert "--no-index" in failed.value.cmd


@pytest.mark.slow
@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_from_its_image(
    service: str, tmp_path: Path, nats: Nats, database_url: Callable[[str], str]
) -> None:
    needs_wheels(service)
    with running(service, tmp_path, nats, database_url(service)) as (root, process, environment):
        inside = {place.name for place in (root / "srv/jikimi/app/services").iterdir()}
        assert {"__init__.py", "__pycache__", "chassis", service} == inside
        assert health_pb2.HealthCheckResponse.SERVING == _health(environment["JIKIMI_PROBE_LISTEN"], process)
    assert 0 == process.returncode


@pytest.mark.slow
def test_the_detectors_image_holds_the_core_of_its_scan_and_no_compiler(
    tmp_path: Path, nats: Nats, database_url: Callable[[str], str]
) -> None:
    needs_wheels("detector")
    with running("detector", tmp_path, nats, database_url("detector")) as (root, process, environment):
        assert health_pb2.HealthCheckResponse.SERVING == _health(environment["JIKIMI_PROBE_LISTEN"], process)
        assert 1 == len(list(root.glob("srv/jikimi/app/services/detector/adapters/pii_core/_core.*.so")))
        assert [] == list(root.rglob("ziglang*"))
    lines = [json.loads(line) for line in (tmp_path / "log").read_text(encoding="utf-8").splitlines()]
    assert ["compiled"] == [line["engine"] for line in lines if line["event"] == "scan_engine"]


@pytest.mark.slow
def test_the_gpu_variant_starts_where_there_is_no_gpu(
    tmp_path: Path, nats: Nats, database_url: Callable[[str], str]
) -> None:
    """What can be said of it here: it installs from its wheels alone, and faiss-gpu serves on processors."""
    needs_wheels("detector-gpu")
    variant = {**ARGUMENTS, "VARIANT": "detector-gpu"}
    place = running("detector", tmp_path, nats, database_url("detector"), arguments=variant)
    with place as (root, process, environment):
        assert health_pb2.HealthCheckResponse.SERVING == _health(environment["JIKIMI_PROBE_LISTEN"], process)
        assert list(root.glob("srv/jikimi/venv/lib/python3*/site-packages/faiss_gpu-*.dist-info"))
    assert 0 == process.returncode


@pytest.mark.slow
def test_a_gate_in_its_image_judges_for_the_command_line_in_its_own(
    tmp_path: Path, nats: Nats, database_url: Callable[[str], str]
) -> None:
    """What the Jobs of the cluster do, as they do it: told by variables, with certificates and a token from files."""
    needs_wheels("gate")
    needs_wheels("console")
    tls = _certificates(tmp_path, ["gate", "gatekeeper"])
    console = Rehearsal(dockerfile("console"), tmp_path / "console", ARGUMENTS)
    place = console.build() / "srv/jikimi/app"
    secure = {"JIKIMI_TLS_DIR": str(tls["gate"])}
    with running("gate", tmp_path, nats, database_url("gate"), secure) as (_, process, told):
        assert health_pb2.HealthCheckResponse.SERVING == _health(told["JIKIMI_PROBE_LISTEN"], process)
        token = tmp_path / "token"
        create_key_pair(tmp_path / "private", tmp_path / "public", "issuer")
        issuer = Issuer.from_file(tmp_path / "private" / "issuer.key")
        token.write_text(issuer.issue("job", ROLE_RELEASE_MANAGER, PURPOSE_RELEASE, "gate", 600))
        environment = {
            **{name: told[name] for name in ("PATH", "PYTHONDONTWRITEBYTECODE")},
            "PYTHONPATH": str(place),
            "JIKIMI_HOME": str(tmp_path / "nowhere"),
            "JIKIMI_TLS_DIR": str(tls["gatekeeper"]),
            "JIKIMI_TOKEN_FILE": str(token),
            "JIKIMI_PEER_GATE": told["JIKIMI_LISTEN"],
        }

        def job(*words: str) -> tuple[int, str]:
            command = [*console.command()[:-1], *words]
            done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
            return done.returncode, done.stdout + done.stderr

        assert 0 == job("probe", "gate")[0]
        assert 1 == job("probe", "case")[0]
        status, said = job("gate", "run", "0.1.0", "--out", str(tmp_path / "reports"), "--json")
        assert (2, "INCONCLUSIVE") == (status, json.loads(said)["outcome"].removeprefix("OUTCOME_")), said
        assert (tmp_path / "reports" / "decision.json").exists()
        assert 0 == job("gate", "report", "LeakSignalSummaryReport", "--dated", "--out", str(tmp_path / "daily"))[0]
        assert 1 == len(list((tmp_path / "daily").glob("20*-*-*/LeakSignalSummaryReport.html")))
    assert (3, 1) == (job("gate", "run", "0.1.0")[0], job("probe", "gate")[0])


@pytest.mark.slow
def test_locust_knows_its_users_in_its_image(tmp_path: Path) -> None:
    needs_wheels("load")
    rehearsal = Rehearsal(dockerfile("load"), tmp_path / "image", ARGUMENTS)
    place = rehearsal.build() / "srv/jikimi/app"
    command = [*rehearsal.command()[:-1], "--list"]
    environment = {"PATH": os.environ.get("PATH", ""), **rehearsal.variables(), "HOME": str(tmp_path)}
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, check=False)
    assert (0, True) == (done.returncode, "Source" in done.stdout + done.stderr), done.stderr


@contextmanager
def running(
    service: str,
    tmp_path: Path,
    nats: Nats,
    database: str,
    more: Mapping[str, str] | None = None,
    arguments: Mapping[str, str] = ARGUMENTS,
) -> Iterator[tuple[Path, subprocess.Popen[bytes], dict[str, str]]]:
    """(root of the image, process, what it is told) of a service started from its image; stopped as a pod is."""
    rehearsal = Rehearsal(dockerfile(service), tmp_path / "image", arguments)
    root = rehearsal.build()
    _make_read_only(root)
    environment = _told(service, tmp_path, nats, database, rehearsal, root) | dict(more or {})
    command = rehearsal.command()
    migrated = subprocess.run(
        [*command[:-1], "migrate"], env=environment, cwd=root / "srv/jikimi/app", capture_output=True, text=True
    )
    assert (0, "") == (migrated.returncode, migrated.stderr[-2000:] if migrated.returncode else "")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, cwd=root / "srv/jikimi/app", stdout=log, stderr=log)
        try:
            yield root, process, environment
        finally:
            process.terminate()
            process.wait(60)


def _certificates(folder: Path, names: list[str]) -> dict[str, Path]:
    """Folders in cert-manager's layout, of one authority."""
    (folder / "made").mkdir()
    make_certificates(folder / "made", names, {name: ("127.0.0.1", name) for name in names})
    for name in names:
        place = folder / f"{name}-tls"
        place.mkdir()
        for source, target in (("ca.crt", "ca.crt"), (f"{name}.crt", "tls.crt"), (f"{name}.key", "tls.key")):
            shutil.copy(folder / "made" / source, place / target)
    return {name: folder / f"{name}-tls" for name in names}


def _make_read_only(root: Path) -> None:
    for place in (root, *root.rglob("*")):
        if not place.is_symlink():
            place.chmod(place.stat().st_mode & ~0o222)


def _told(service: str, tmp_path: Path, nats: Nats, database: str, rehearsal: Rehearsal, root: Path) -> dict[str, str]:
    """What the pod would be told, with places of this machine."""
    create_master_key(tmp_path / "keys" / "master.key")
    create_key_pair(tmp_path / "private", tmp_path / "public", service)
    doors = [_free_port() for _ in range(2)]
    return {
        "PATH": os.environ.get("PATH", ""),
        **rehearsal.variables(),
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
        **_models_of(service, tmp_path),
    }


def _models_of(service: str, tmp_path: Path) -> dict[str, str]:
    """Where the detector finds its models: in an image of their own, mounted as a volume."""
    if service != "detector":
        return {}
    if not MODELS.exists():
        pytest.skip("No models: make models")
    image = Rehearsal(ROOT / "deploy/images/models.Dockerfile", tmp_path / "models", {}, MODELS)
    return {"JIKIMI_MODELS_DIR": str(image.build()), "JIKIMI_CACHE_DIR": str(tmp_path / "cache")}


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
