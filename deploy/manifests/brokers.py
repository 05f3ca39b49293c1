"""Does nats-server take the configuration that an overlay hands to the brokers?"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from deploy.manifests.objects import Manifest
from deploy.manifests.tools import ToolMissing

TLS = "/etc/nats-tls"
DATA = "/data"


def configuration(documents: Sequence[Manifest]) -> str:
    """nats.conf of an overlay. Raises StopIteration where there is none."""
    return str(
        next(
            document["data"]["nats.conf"]
            for document in documents
            if document["kind"] == "ConfigMap" and document["metadata"]["name"].startswith("nats-configuration")
        )
    )


def variables(documents: Sequence[Manifest]) -> list[str]:
    """Variables that the brokers' pods get."""
    brokers = next(one for one in documents if one["kind"] == "StatefulSet" and one["metadata"]["name"] == "nats")
    return [entry["name"] for entry in brokers["spec"]["template"]["spec"]["containers"][0]["env"]]


def broker_faults(documents: Sequence[Manifest]) -> list[str]:
    """What the broker itself says of its configuration, with certificates and passwords of the moment."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        make_certificates(place, ["nats"])
        text = localised(configuration(documents), place, "nats")
        file = place / "nats.conf"
        file.write_text(text, encoding="utf-8")
        given = {name: f"value-of-{name.lower().replace('_', '-')}" for name in variables(documents)}
        done = subprocess.run(
            [str(server()), "-t", "-c", str(file)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
            env={"PATH": os.environ.get("PATH", ""), **given},
        )
    return [] if done.returncode == 0 else [f"nats-server: {done.stderr.strip()[-500:]}"]


def localised(text: str, folder: Path, name: str) -> str:
    """The configuration with its places moved into a folder."""
    moved = text.replace(f"{TLS}/tls.crt", str(folder / f"{name}.crt")).replace(
        f"{TLS}/tls.key", str(folder / f"{name}.key")
    )
    return moved.replace(f"{TLS}/ca.crt", str(folder / "ca.crt")).replace(f'"{DATA}"', f'"{folder / name}"')


def server() -> Path:
    """The nats-server of `.venv`. Raises ToolMissing."""
    program = Path(sys.executable).with_name("nats-server")
    if not program.exists():
        raise ToolMissing("nats-server is missing: make setup")
    return program


def make_certificates(folder: Path, names: Sequence[str], hosts: Mapping[str, Sequence[str]] | None = None) -> None:
    """An authority (`ca.crt`) and a certificate with key for each name (`NAME.crt`, `NAME.key`), by openssl. Raises
    ToolMissing without it."""
    begin = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
    ]
    ca = ["-keyout", str(folder / "ca.key"), "-out", str(folder / "ca.crt")]
    _openssl([*begin, *ca, "-subj", "/CN=authority", "-addext", "basicConstraints=critical,CA:TRUE"])
    for name in names:
        known = (hosts or {}).get(name, (name,))
        names_in = ",".join(
            [
                *(f"{'IP' if re.fullmatch(r'[0-9.]+', host) else 'DNS'}:{host}" for host in known),
                f"URI:spiffe://jikimi/ns/jikimi/sa/{name}",
            ]
        )
        own = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.crt"), "-subj", f"/CN={name}"]
        signed = [
            "-CA",
            str(folder / "ca.crt"),
            "-CAkey",
            str(folder / "ca.key"),
            "-addext",
            f"subjectAltName={names_in}",
        ]
        _openssl([*begin, *own, *signed, "-addext", "basicConstraints=critical,CA:FALSE"])


def _openssl(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=30)
    except FileNotFoundError:
        raise ToolMissing("openssl is missing. Debian and Ubuntu: apt install openssl") from None
