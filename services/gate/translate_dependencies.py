"""How dependencies become messages."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.gate.v1 import dependencies_pb2 as pb
from services.gate.domain.dependencies import Standing


def dependency_message(standing: Standing, version: str) -> pb.Dependency:
    """A dependency as it stands; `version` is that of the register."""
    dependency = standing.dependency
    moment = Timestamp()
    moment.FromDatetime(standing.since)
    return pb.Dependency(
        dependency_id=dependency.dependency_id,
        kind=dependency.kind.value,
        title=dependency.title["en"],
        owner=dependency.owner,
        state=standing.state.value,
        reason=standing.reason,
        change_time=moment,
        degrades=dependency.degrades["en"],
        stages=dependency.stages,
        report_names=dependency.reports,
        version=version,
    )
