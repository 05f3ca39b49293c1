"""Do operators see on a running system how current the gallery is, and does a device change what must be proved?"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from misuse.notify.v1.notify_service_pb2 import RegisterDeviceRequest
from misuse.notify.v1.notify_service_pb2_grpc import NotifyServiceStub
from services.console.client import subscriber
from tests.scenario.system import System, eventually

pytestmark = pytest.mark.slow

PICTURES = Path(__file__).resolve().parents[2] / ".cache" / "pictures"


def picture(name: str) -> str:
    path = PICTURES / name
    if not path.exists():
        pytest.skip("the demo's pictures are not fetched: run `make setup`")
    return str(path)


def test_the_gallery_is_shown_built_anew_and_judged(system: System) -> None:
    somebody = system.jikimi("subscriber", "add", "Gale Gallery", "--language", "en")["subscriber_id"]
    assert system.jikimi("face", "add", somebody, picture("astronaut.png"))["state"] == "VERIFIED"
    shown = system.jikimi("gallery", "status")
    assert shown["templates"] >= 1 and shown["version"] == shown["newest_version"] and shown["age_ms"] < 5000
    rebuilt = system.jikimi("gallery", "rebuild")
    assert (rebuilt["started"], rebuilt["templates"]) == (True, shown["templates"])
    said = eventually(lambda: _index_reason(system), 90)
    assert said.startswith("face_gallery: PASSED"), said


def _index_reason(system: System) -> str:
    """What the gate says of the gallery once a record of it has come."""
    done = system.run("services.console", "gate", "run", "gallery-test", "--stage", "1", "--json", check=False)
    reasons = json.loads(done.stdout)["reasons"]
    [said] = [reason for reason in reasons if reason.startswith("face_gallery")]
    return "" if "NO_DATA" in said else str(said)


def test_a_face_on_a_second_account_is_said_to_need_review(system: System) -> None:
    first, second = (system.jikimi("subscriber", "add", name)["subscriber_id"] for name in ("처음", "나중"))
    system.jikimi("face", "add", first, picture("biden.jpg"))
    done = system.run("services.console", "face", "add", second, picture("biden.jpg"), "--json", check=False)
    assert (done.returncode, json.loads(done.stdout)["reason"]) == (1, "NEEDS_REVIEW")
    [[*_, state]] = system.jikimi("subscriber", "show", second)
    assert state == "PENDING, NEEDS_REVIEW"


def test_a_second_device_asks_for_the_proofs_again(system: System) -> None:
    somebody = str(system.jikimi("subscriber", "add", "두기기")["subscriber_id"])
    system.jikimi("watch", "add", somebody, "mobile", "010-0000-4417")
    metadata = [("authorization", f"Bearer {system.token(subscriber(somebody), 'notify')}")]
    stub = NotifyServiceStub(system.channel("notify"))

    def register(device_id: str) -> None:
        request = RegisterDeviceRequest(subscriber_id=somebody, device_id=device_id, os="android")
        stub.RegisterDevice(request, metadata=metadata, timeout=10)

    def days_left() -> int:
        left = "extract(day FROM expire_time - now())"
        query = f"SELECT {left} FROM watched_identifier WHERE subscriber_id = '{somebody}'"
        return int(float(system.sql("detector", query).split()[-1]))

    def known() -> int:
        query = f"SELECT count(*) FROM known_device WHERE subscriber_id = '{somebody}'"
        return int(system.sql("detector", query).split()[-1])

    full = days_left()
    register("phone")
    eventually(lambda: known() == 1)
    assert (known(), days_left()) == (1, full)
    register("tablet")
    eventually(lambda: known() == 2)
    assert days_left() <= 3 < full
