"""Whether whoever is in front of the camera is there: what is asked, and which answers count."""

from __future__ import annotations

import enum
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final


class Liveness(enum.IntEnum):
    """How far a template's face was seen to be live; the numbers of the contract."""

    NOT_CHECKED = 1
    """Made on a device: no picture was seen here."""
    DOUBTFUL = 2
    LIVE = 3
    """By one picture alone (passive)."""
    CHALLENGED = 4
    """Answered a pose challenge."""


class Pose(enum.IntEnum):
    """Where the subscriber is asked to look, as seen by the subscriber; the numbers of the contract."""

    FRONT = 1
    LEFT = 2
    RIGHT = 3
    UP = 4
    DOWN = 5


@dataclass(frozen=True, slots=True)
class HeadPose:
    """Where a head points, degrees. yaw: positive to the subscriber's right; pitch: positive upwards; roll: positive
    when the head leans to the picture's right."""

    yaw: float
    pitch: float
    roll: float


PASSED: Final = "PASSED"
POSE_DIFFERS: Final = "POSE_DIFFERS"
PICTURES_REPEAT: Final = "PICTURES_REPEAT"
NOT_LIVE: Final = "NOT_LIVE"
OTHER_FACE: Final = "OTHER_FACE"


@dataclass(frozen=True, slots=True)
class LivenessRules:
    """The liveness part of rules/ownership.yaml, where each value is explained."""

    live: float
    poses: int
    minutes: int
    most_a_day: int
    front_yaw: float
    front_pitch: float
    turned: float
    turned_most: float
    raised: float
    raised_most: float
    steady: float
    repeated: float
    challenge_first: frozenset[Liveness]

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> LivenessRules:
        """The rules as the file states them. Raises KeyError, TypeError or ValueError where it contradicts itself."""
        first = frozenset(Liveness[name] for name in raw["challenge_first"])
        rules = cls(**{**raw, "challenge_first": first})
        if not (0 < rules.live < 1 and 2 <= rules.poses <= len(Pose) and 0 < rules.repeated <= 1):
            raise ValueError("the liveness rules contradict themselves")
        return rules

    @property
    def lifetime(self) -> timedelta:
        """How long a challenge may be answered."""
        return timedelta(minutes=self.minutes)

    def passive(self, share: float) -> Liveness:
        """What pictures alone say; `share` is the least share of "live" among them, 0..1."""
        return Liveness.LIVE if share >= self.live else Liveness.DOUBTFUL

    def ask(self, chance: random.Random) -> tuple[Pose, ...]:
        """A new challenge: FRONT first, for the others are measured against it, then different turns in any order."""
        return (Pose.FRONT, *chance.sample([pose for pose in Pose if pose is not Pose.FRONT], self.poses - 1))

    def fit(self, asked: Sequence[Pose], shown: Sequence[HeadPose]) -> bool:
        """Whether the heads did what was asked, each turn measured from the first picture, FRONT."""
        front = shown[0]
        if abs(front.yaw) > self.front_yaw or abs(front.pitch) > self.front_pitch:
            return False
        return all(self._turned(pose, front, head) for pose, head in zip(asked[1:], shown[1:], strict=True))

    def _turned(self, pose: Pose, front: HeadPose, head: HeadPose) -> bool:
        right, up = head.yaw - front.yaw, head.pitch - front.pitch
        sideways = {Pose.RIGHT: right, Pose.LEFT: -right}.get(pose)
        if sideways is not None:
            return self.turned <= sideways <= self.turned_most
        upwards = up if pose is Pose.UP else -up
        return self.raised <= upwards <= self.raised_most and abs(right) <= self.steady
