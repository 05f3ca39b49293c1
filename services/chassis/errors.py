"""Which errors may cross a service's border, and what each says to the caller.

ServiceError
├── InvalidInput         the request is wrong whatever the state; names the fields
├── OutOfRange           the request points past what is kept (an old token, an old position)
├── NotFound             no such thing, or not yours
├── AlreadyExists        the id is taken by something else
├── FailedPrecondition   the thing is not in a state that allows this
├── Aborted              lost a race; read again and repeat
├── PermissionDenied     known caller, not allowed
├── Unauthenticated      no caller that we know
├── ResourceExhausted    over a limit; says when to come back
├── Unavailable          try again; the only one that clients repeat by themselves
├── DeadlineExceeded     took longer than the caller would wait
├── Unimplemented        not built yet
└── Internal             a bug or a broken peer; never carries text of an exception

Any other exception is a bug and looks like Internal from outside.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,62}")
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Violation(NamedTuple):
    """One field that is wrong, and why (UPPER_SNAKE)."""

    field: str
    reason: str


class ServiceError(Exception):
    """An error with a reason that a program can act on.

    `message` is one English sentence that never quotes input. `metadata` holds ids, sizes and limits only.
    `violations` name request fields (InvalidInput) or things whose state is wrong (FailedPrecondition).
    """

    status: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        reason: str,
        message: str,
        *,
        metadata: Mapping[str, str] = _NOTHING,
        violations: Sequence[tuple[str, str]] = (),
        retry_after_ms: int | None = None,
    ) -> None:
        if not _REASON.fullmatch(reason):
            raise ValueError("a reason is UPPER_SNAKE, at most 63 characters")
        super().__init__(reason)
        self.reason = reason
        self.message = message
        self.metadata = MappingProxyType(dict(metadata))
        self.violations = tuple(Violation(*violation) for violation in violations)
        self.retry_after_ms = retry_after_ms

    def __str__(self) -> str:
        return f"{self.reason}: {self.message}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.reason})"


class InvalidInput(ServiceError):
    """The request is wrong whatever the state."""

    status = "INVALID_ARGUMENT"


class OutOfRange(ServiceError):
    """The request points past what is kept."""

    status = "OUT_OF_RANGE"


class NotFound(ServiceError):
    """No such thing, or nothing that this caller may know of."""

    status = "NOT_FOUND"


class AlreadyExists(ServiceError):
    """The id is taken by something else."""

    status = "ALREADY_EXISTS"


class FailedPrecondition(ServiceError):
    """The thing is not in a state that allows this."""

    status = "FAILED_PRECONDITION"


class Aborted(ServiceError):
    """Lost a race; read again and repeat."""

    status = "ABORTED"


class PermissionDenied(ServiceError):
    """A known caller who may not do this."""

    status = "PERMISSION_DENIED"


class Unauthenticated(ServiceError):
    """No valid token."""

    status = "UNAUTHENTICATED"


class ResourceExhausted(ServiceError):
    """Over a limit; `retry_after_ms` says when to come back, if coming back helps."""

    status = "RESOURCE_EXHAUSTED"


class Unavailable(ServiceError):
    """A passing trouble; trying again may help."""

    status = "UNAVAILABLE"


class DeadlineExceeded(ServiceError):
    """Took longer than allowed."""

    status = "DEADLINE_EXCEEDED"


class Unimplemented(ServiceError):
    """Promised by the contract and not built yet."""

    status = "UNIMPLEMENTED"


class Internal(ServiceError):
    """A bug here or in a peer."""

    status = "INTERNAL"


BY_STATUS: Mapping[str, type[ServiceError]] = MappingProxyType(
    {
        kind.status: kind
        for kind in (
            InvalidInput,
            OutOfRange,
            NotFound,
            AlreadyExists,
            FailedPrecondition,
            Aborted,
            PermissionDenied,
            Unauthenticated,
            ResourceExhausted,
            Unavailable,
            DeadlineExceeded,
            Unimplemented,
            Internal,
        )
    }
)
"""Canonical status name → class, to rebuild the error on the caller's side."""
