"""After uploads were checked, blurred, cancelled and refused: does anything of them lie anywhere in the clear?"""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from PIL import Image

from misuse.detector.v1 import upload_service_pb2 as api
from misuse.detector.v1.upload_service_pb2_grpc import UploadServiceStub
from services.chassis.ids import uuid7
from services.console import commands, upload_commands
from services.console.client import connections, subscriber
from services.console.provider import TestProvider
from tests.scenario.otlp_sink import otlp_sink
from tests.scenario.system import ROOT, System, eventually, reason_of, running_system
from tests.security.canaries import Canary, Search, search_system

PICTURES = ROOT / ".cache" / "pictures"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PICTURES.exists(), reason="the pictures are not there; `make setup` fetches them"),
]

UPLOADS = 100
HANDLE = "kestrel.handle.7392"
PHONE, MAIL = "010-0000-7392", "canary.merlin7392@example.com"
NATIONAL = "800101-9273924"  # a birth in the 1800s: nobody's
TEXT = f"연락처 {PHONE}, 메일 {MAIL}, 주민번호 {NATIONAL}"
CHANCE = random.Random(7392)
COMMENT, NOISE = CHANCE.randbytes(64), CHANCE.randbytes(64 * 64 * 3)


def photo(name: str, number: int) -> bytes:
    """A photo with a comment and a corner of noise; every third one as PNG, whose pixels can be looked for."""
    picture = Image.open(PICTURES / name).convert("RGB")
    picture.thumbnail((640, 640))
    picture.paste(Image.frombytes("RGB", (64, 64), NOISE), (0, 0))
    picture.putpixel((100, 5), (number, number, number))
    out = io.BytesIO()
    if number % 3:
        picture.save(out, "JPEG", quality=92, comment=COMMENT)
    else:
        picture.save(out, "PNG", compress_level=0)
    return out.getvalue()


@dataclass(frozen=True)
class Uploader:
    """A subscriber's app."""

    system: System
    who: str
    account: str

    @property
    def stub(self) -> Any:
        return UploadServiceStub(self.system.channel("detector"))

    @property
    def metadata(self) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {self.system.token(subscriber(self.who), 'detector')}")]

    def upload(self, image: bytes, text: str, choice: str, **changes: Any) -> str:
        """What became of one upload: the choice, or the reason of a refusal."""
        request = api.CheckUploadRequest(
            **{"subscriber_id": self.who, "request_id": uuid7(), "account_id": self.account} | changes,
            image=image,
            text=text,
        )
        try:
            found = self.stub.CheckUpload(request, metadata=self.metadata, timeout=20)
            if not choice or not found.findings:
                return "SHOWN"
            answer = api.ResolveUploadRequest(
                subscriber_id=self.who,
                upload_check_id=found.upload_check_id,
                choice=api.UploadChoice.Value(f"UPLOAD_CHOICE_{choice}"),
                image=image if choice == "BLUR" else b"",
                text=text if choice == "BLUR" else "",
            )
            self.stub.ResolveUpload(answer, metadata=self.metadata, timeout=20)
        except grpc.RpcError as error:
            return reason_of(error)
        return choice


async def _prepared(system: System) -> tuple[str, str]:
    async with connections(system.home) as services:
        provider = TestProvider(system.home)
        who = await commands.register(services, "Somebody", "somebody@example.com", "ko")
        await commands.add_device(services, who, "console")
        await commands.enrol(services, provider, who, [(PICTURES / "obama.jpg").read_bytes()])
        return who, await upload_commands.link(services, who, "meta", HANDLE, others=True)


def _canaries() -> list[Canary]:
    jpeg, png = photo("obama2.jpg", 1), photo("obama2.jpg", 3)
    words = {"handle": HANDLE, "phone": PHONE, "mail": MAIL, "national number": NATIONAL, "text": TEXT}
    return [
        *(Canary(name, value) for name, value in words.items()),
        Canary("comment of a picture", COMMENT),
        Canary("row of pixels", NOISE[: 64 * 3]),
        Canary("bytes of a JPEG", jpeg[len(jpeg) // 2 :][:512]),
        Canary("bytes of a PNG", png[len(png) // 2 :][:512]),
    ]


@pytest.fixture(scope="module")
def left() -> Iterator[tuple[Counter[str], list[Any]]]:
    """(what became of the uploads, what a search of the whole system found)."""
    with otlp_sink() as sink, running_system(otlp_endpoint=f"127.0.0.1:{sink.port}") as system:
        uploader = Uploader(system, *asyncio.run(_prepared(system)))
        became: Counter[str] = Counter()
        for number in range(UPLOADS):
            choice = ("BLUR", "CANCEL", "PROCEED", "")[number % 4]
            image = photo("obama2.jpg" if number % 2 else "biden.jpg", number % 200)
            became[uploader.upload(image, TEXT, choice)] += 1
        became[uploader.upload(photo("obama2.jpg", 1)[:9_000], TEXT, "")] += 1
        became[uploader.upload(COMMENT + TEXT.encode(), TEXT, "")] += 1
        became[uploader.upload(photo("obama2.jpg", 1), TEXT, "", account_id=uuid7())] += 1
        assert eventually(lambda: system.sql("case", "SELECT count(*) FROM \"case\"").strip() == str(UPLOADS))
        system.run("services.console", "inbox", "device", uploader.who, "--seconds", "3")
        searched = asyncio.run(search_system(system.home, Search(_canaries()), sink.raw()))
        kinds = {"tables", "messages", "metrics", "spans", "logs", "nats files", "postgres files", "pg_wal"}
        assert kinds <= {kind for kind, size in searched.bytes_of.items() if size > 1000}
        yield became, sorted(searched.findings)


def test_uploads_were_blurred_cancelled_sent_left_open_and_refused(left: tuple[Counter[str], list[Any]]) -> None:
    became, _ = left
    each = UPLOADS // 4
    assert {"BLUR": each, "CANCEL": each, "PROCEED": each, "SHOWN": each} == {
        word: became[word] for word in ("BLUR", "CANCEL", "PROCEED", "SHOWN")
    }
    assert {"TRUNCATED", "NOT_AN_IMAGE", "NO_SUCH_ACCOUNT"} <= set(became)


def test_nothing_of_an_upload_lies_in_the_clear(left: tuple[Counter[str], list[Any]]) -> None:
    _, findings = left
    assert [] == findings
