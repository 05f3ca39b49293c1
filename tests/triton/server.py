"""How does a real tritonserver run beside the tests, on a machine without a GPU?

The wheel nvidia-pytriton holds tritonserver 2.51 with the Python backend alone. A Python file in a backend folder named
`onnxruntime` (`onnxruntime_backend.py`) lets it load the production configurations unchanged. `make triton` makes the
environment.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

ROOT = Path(__file__).parents[2]
ENVIRONMENT = ROOT / ".triton"
BACKEND = Path(__file__).parent / "onnxruntime_backend.py"
START_SECONDS = 90.0
STOP_SECONDS = 10.0
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 # where Linux keeps it; looked at for our own prefix alone


def _site() -> Path:
    return ENVIRONMENT / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"


def _libpython() -> str:
    return f"libpython3.{sys.version_info[1]}.so.1.0"


def why_not() -> str | None:
    """Why no server can be started here, and what to do; None when one can."""
    if not (ENVIRONMENT / ".made-from").exists():
        return "no Triton server here: run `make triton`"
    if not (_site() / "pytriton").is_dir():
        return f"the Triton server was installed for another Python than {sys.version_info[0]}.{sys.version_info[1]}"
    beside_python = Path(sys.base_prefix) / "lib" / _libpython()
    if not beside_python.exists() and ctypes.util.find_library(f"python3.{sys.version_info[1]}") is None:
        return f"{_libpython()} is missing, which Triton's Python backend needs: apt install libpython3.11"
    return None


class TritonProcess:
    """A server on 127.0.0.1 over one model repository; `start` and `stop` may alternate, the port stays."""

    def __init__(self, folder: Path, repository: Path, *options: str) -> None:
        self.folder, self.repository, self._options = folder, repository, options
        self.log = folder / "tritonserver.log"
        self._shared_memory = f"jikimi-{uuid.uuid4().hex[:8]}"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self._backends = self._lay_backends()

    @property
    def target(self) -> str:
        """host:port of its gRPC door."""
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until every model is ready. Raises RuntimeError with the end of its log."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), cwd=self.folder, env=_environment(), stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise RuntimeError(f"tritonserver does not start:\n{self.log.read_text()[-3000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Asks it to end, and ends it with its children when it takes too long; harmless when it does not run."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """Ends the server and its children at once."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None
        for left in SHARED_MEMORY.glob(f"{self._shared_memory}*"):
            left.unlink(missing_ok=True)

    def cpu_seconds(self) -> float:
        """Processor time that the server and its children have used."""
        if self._process is None:
            return 0.0
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                # Behind the name in brackets: state, parent, process group; then user and system time, 12th and 13th.
                fields = stat.read_text().rpartition(")")[2].split()
                ticks += int(fields[11]) + int(fields[12]) if int(fields[2]) == self._process.pid else 0
        return ticks / os.sysconf("SC_CLK_TCK")

    def _ready(self) -> bool:
        with grpc.insecure_channel(self.target, options=[("grpc.enable_http_proxy", 0)]) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            try:
                return bool(stub.ServerReady(service_pb2.ServerReadyRequest(), timeout=1.0).ready)
            except grpc.RpcError:
                return False

    def _command(self) -> list[str]:
        return [
            str(_site() / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
            f"--model-repository={self.repository}",
            f"--backend-directory={self._backends}",
            # The production files are complete; completing them would hide what they lack.
            "--disable-auto-complete-config",
            "--allow-http=false",
            "--allow-metrics=false",
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.port}",
            "--exit-timeout-secs=3",
            f"--backend-config=onnxruntime,shm-region-prefix-name={self._shared_memory}",
            *self._options,
        ]

    def _lay_backends(self) -> Path:
        """The Python backend with the stub of this Python beside it, and ours by the name of the real one."""
        shipped = _site() / "pytriton" / "tritonserver"
        folder = self.folder / "backends"
        shutil.copytree(shipped / "backends" / "python", folder / "python", dirs_exist_ok=True)
        stub = folder / "python" / "triton_python_backend_stub"
        shutil.copy(shipped / "python_backend_stubs" / f"3.{sys.version_info[1]}" / stub.name, stub)
        stub.chmod(0o755)
        (folder / "onnxruntime").mkdir(exist_ok=True)
        shutil.copy(BACKEND, folder / "onnxruntime" / "model.py")
        return folder


def _environment() -> dict[str, str]:
    """The stub finds its packages by the python3 on PATH and ignores PYTHONPATH."""
    libraries = [_site() / "nvidia_pytriton.libs", Path(sys.base_prefix) / "lib"]
    kept = {name: value for name, value in os.environ.items() if not re.match("PYTHON|VIRTUAL_ENV|LD_", name)}
    return {
        **kept,
        "PATH": f"{ENVIRONMENT / 'bin'}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
        # As in the detector: ONNX Runtime otherwise reports to its makers.
        "ORT_DISABLE_TELEMETRY": "1",
    }
