"""Which channels are watched, and at which level each runs."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,63}")


class ChannelLevel(enum.IntEnum):
    """At which level a channel runs; the numbers of the contract."""

    OFFICIAL = 1
    PUBLIC = 2
    MANUAL = 3
    BLOCKED = 4


class BadChannel(ValueError):
    """A channel row that cannot be stored; `field` and `reason` say why."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Channel:
    """A place where signals come from. `version` counts its changes from 1."""

    channel: str
    channel_group: str
    display_name: str
    source_type: int
    level: ChannelLevel
    paused: bool
    platform: str
    version: int
    update_time: datetime | None = None

    def check(self) -> None:
        """Raises BadChannel unless ids are lower-case words and the name is 1 to 128 characters."""
        for field, value in (("channel", self.channel), ("channel_group", self.channel_group)):
            if not _NAME.fullmatch(value):
                raise BadChannel(field, "ID_MALFORMED")
        if self.platform and not _NAME.fullmatch(self.platform):
            raise BadChannel("platform", "ID_MALFORMED")
        if not 1 <= len(self.display_name) <= 128:
            raise BadChannel("display_name", "LENGTH")


def read_channels(rules: Mapping[str, Any], source_types: Mapping[str, int]) -> Sequence[Channel]:
    """The channels that `channels.yaml` lists. Raises KeyError, ValueError or BadChannel for a broken list."""
    rows = [
        Channel(
            channel=str(row["channel"]),
            channel_group=str(row["group"]),
            display_name=str(row["name"]),
            source_type=source_types[row["source_type"]],
            level=ChannelLevel[row["level"]],
            paused=False,
            platform=str(row.get("platform", "")),
            version=1,
        )
        for row in rules["channels"]
    ]
    for row in rows:
        row.check()
    return rows
