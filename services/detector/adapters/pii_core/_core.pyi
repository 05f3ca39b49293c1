from collections.abc import Callable, Sequence
from typing import Any

from services.detector.domain.pii import Check, Confidence, Hit
from services.detector.domain.pii.normalise import View

FINGERPRINT: str
CHECKS: frozenset[str]

def check(name: str, value: str, /) -> bool | None: ...
def find(expression: int, text: str, low: int, high: int, /) -> list[tuple[int, int, int, int]]: ...

class Core:
    def __init__(
        self,
        *,
        alphabet: bytes,
        marks: bytes,
        recognisers: Sequence[tuple[Any, ...]],
        anchors: Sequence[bytes],
        scan: Callable[..., None],
        fold: Callable[[str], View],
        hit: type[Hit],
        levels: tuple[Confidence, Confidence],
        checks: tuple[Check, Check],
        longest_link: int,
    ) -> None: ...
    def look(
        self, texts: Sequence[str], fields: Sequence[str], undone: int, views: Sequence[View] | None, /
    ) -> tuple[dict[int, list[Hit]], dict[int, tuple[int, View | None]]]: ...
