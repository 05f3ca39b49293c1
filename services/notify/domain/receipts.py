"""What does a gateway say of a message that it took before?"""

from __future__ import annotations

from dataclasses import dataclass

from services.notify.domain.delivery import Path


@dataclass(frozen=True)
class Receipt:
    """Word of one message to a contact. It holds nothing personal: the message is known by its key."""

    key: str
    """Of the message, as it was handed over."""
    path: Path
    arrived: bool
    """Whether it is in the mailbox or on the telephone; else it never will be."""
    reason: str = ""
    """Why not, UPPER_SNAKE."""
