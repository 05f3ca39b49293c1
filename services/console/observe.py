"""What watches one machine: the receiver of spans, and Prometheus where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from services.console.home import SERVICES, Home, is_free, write_private

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy" / "observe" / "rules"
UNPACKED = ROOT / ".cache" / "prometheus" / "usr" / "bin"
"""Where `make prometheus` puts Debian's programs."""
KEPT_BYTES = "512MB"
SCRAPE = "5s"


def is_on(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether this system is watched."""
    return environ.get("JIKIMI_OBSERVE") == "on"


def program_of_prometheus(name: str, environ: Mapping[str, str] = os.environ) -> Path | None:
    """`prometheus` or `promtool`: in the folder that JIKIMI_PROMETHEUS names, unpacked by `make prometheus`, or
    installed. None where there is none."""
    for folder in filter(None, (environ.get("JIKIMI_PROMETHEUS"), str(UNPACKED))):
        if (Path(folder) / name).exists():
            return Path(folder) / name
    found = shutil.which(name)
    return Path(found) if found else None


def endpoint(home: Home) -> str:
    """Where the services of a watched system send their spans."""
    return f"127.0.0.1:{home.ports()['spans']}"


def spawn_receiver(home: Home) -> subprocess.Popen[bytes]:
    """Starts the receiver of spans."""
    command = ["-m", "services.console.spans", "--port", str(home.ports()["spans"])]
    return _spawn(home, "spans", [sys.executable, *command])


def spawn_prometheus(home: Home, program: Path) -> subprocess.Popen[bytes]:
    """Starts Prometheus on loopback with this home's services and the rules of this project."""
    folder = home.path / "observe"
    folder.mkdir(mode=0o700, exist_ok=True)
    write_private(folder / "prometheus.yml", configuration(home).encode())
    return _spawn(
        home,
        "prometheus",
        [
            str(program),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'metrics'}",
            f"--storage.tsdb.retention.size={KEPT_BYTES}",
            f"--web.listen-address=127.0.0.1:{home.ports()['prometheus']}",
            "--enable-feature=exemplar-storage",
        ],
    )


def configuration(home: Home) -> str:
    """What Prometheus is told; JSON is YAML enough. The label `service` is the one that rules and dashboards go by."""
    ports = home.ports()
    targets = "".join(
        f"""
  - job_name: {service}
    static_configs:
      - targets: ["127.0.0.1:{ports[f"{service}-metrics"]}"]
        labels: {{service: {service}}}"""
        for service in SERVICES
    )
    return f"""# Made by `make observe`.
global: {{scrape_interval: {SCRAPE}, evaluation_interval: {SCRAPE}}}
rule_files: ["{RULES}/*.yaml"]
scrape_configs:{targets}
"""


def serves(home: Home, name: str) -> Callable[[], bool]:
    """Whether the program has taken its port."""
    return lambda: not is_free(home.ports()[name])


def _spawn(home: Home, name: str, command: list[str]) -> subprocess.Popen[bytes]:
    with (home.logs / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "JIKIMI_HOME": str(home.path)},
        )
