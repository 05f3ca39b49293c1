"""What does the case service hold of a sighting, and of the subscriber?"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Collection, Mapping
from typing import Final

import grpc.aio

from misuse.case.v1 import (
    case_service_pb2,
    case_service_pb2_grpc,
    subscriber_service_pb2,
    subscriber_service_pb2_grpc,
)
from misuse.common.v1.access_pb2 import PURPOSE_REMOVAL
from services.chassis.errors import Internal
from services.chassis.rpc import Peers, unwrap
from services.removal.domain.filing import Claimant, Evidence

LARGEST_PACK: Final = 64 * 1024 * 1024
"""Bytes of an evidence pack that are taken; case builds none that is larger."""
LARGEST_ITEM: Final = 1024 * 1024
"""Bytes of one item that are unpacked."""


class CasePeer:
    """The case service over gRPC."""

    def __init__(self, peers: Peers) -> None:
        self._cases = peers.stub("case", case_service_pb2_grpc.CaseServiceStub, PURPOSE_REMOVAL)
        self._subscribers = peers.stub("case", subscriber_service_pb2_grpc.SubscriberServiceStub, PURPOSE_REMOVAL)

    async def evidence(
        self, case_id: str, sighting_ids: Collection[str], pack_version: int
    ) -> Mapping[str, Evidence]:
        """See ports.CaseFile."""
        request = case_service_pb2.GetEvidencePackRequest(case_id=case_id, version=pack_version)
        archive = bytearray()
        manifest, version = b"", 0
        try:
            async for answer in self._cases.GetEvidencePack(request, timeout=30):
                if answer.HasField("summary"):
                    manifest, version = answer.summary.manifest_sha256, answer.summary.version
                archive += answer.chunk
                if len(archive) > LARGEST_PACK:
                    raise Internal("PACK_TOO_LARGE", "The evidence pack is larger than is taken.")
        except grpc.aio.AioRpcError as error:
            raise unwrap(error) from None
        content = bytes(archive)
        read = {each: read_sighting(content, each, manifest.hex(), version) for each in sighting_ids}
        return {each: evidence for each, evidence in read.items() if evidence is not None}

    async def claimant(self, subscriber_id: str) -> Claimant:
        """See ports.CaseFile."""
        request = subscriber_service_pb2.GetSubscriberRequest(subscriber_id=subscriber_id)
        try:
            answer = await self._subscribers.GetSubscriber(request)
        except grpc.aio.AioRpcError as error:
            raise unwrap(error) from None
        return Claimant(answer.subscriber.display_name, answer.subscriber.contact_email)


def read_sighting(archive: bytes, sighting_id: str, manifest_sha256: str = "", version: int = 0) -> Evidence | None:
    """The evidence of one sighting in a pack (items/<sighting_id>/…); None where its capture is not in it.

    Raises Internal for bytes that are no pack.
    """
    folder = f"items/{sighting_id}/"
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as pack:
            sizes = {item.filename: item.file_size for item in pack.infolist()}
            name = folder + "capture.json"
            if sizes.get(name, LARGEST_ITEM + 1) > LARGEST_ITEM:
                return None
            capture = json.loads(pack.read(name))
    except (zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError):
        raise Internal("PACK_MALFORMED", "The evidence pack cannot be read.") from None
    if not isinstance(capture, dict):
        return None
    return Evidence(
        source_url=_text(capture, "source_url"),
        post_id=_text(capture, "post_id"),
        channel=_text(capture, "channel"),
        discover_time=_text(capture, "discover_time"),
        publish_time=_text(capture, "publish_time"),
        http_status=_http_status(capture),
        content_sha256=_hashes(capture),
        has_masked_text=sizes.get(folder + "masked.txt", 0) > 0,
        has_thumbnail=sizes.get(folder + "thumbnail.jpg", 0) > 0,
        manifest_sha256=manifest_sha256,
        pack_version=version,
    )


def _text(data: Mapping[str, object], name: str) -> str:
    value = data.get(name)
    return value[:2048] if isinstance(value, str) else ""


def _http_status(capture: Mapping[str, object]) -> int:
    facts = capture.get("http")
    status = facts.get("status", 0) if isinstance(facts, dict) else 0
    return status if isinstance(status, int) else 0


def _hashes(capture: Mapping[str, object]) -> tuple[str, ...]:
    parts = capture.get("part_hashes")
    if not isinstance(parts, list):
        return ()
    hashes = [part.get("sha256") for part in parts[:16] if isinstance(part, dict)]
    return tuple(value for value in hashes if isinstance(value, str) and len(value) == 64)
