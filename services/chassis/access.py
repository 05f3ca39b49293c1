"""May this actor call this method with this request?

Every method states its roles and purposes as an option in the proto (`misuse.common.v1.access`). No option,
no call. `grpc.health.v1` is exempt; reflection is for operators.
"""

from __future__ import annotations

from functools import cache

from google.protobuf import descriptor_pool
from google.protobuf.message import Message

from misuse.common.v1.access_pb2 import (
    DATA_CLASS_NONE,
    PURPOSE_OPERATIONS,
    ROLE_DEVICE,
    ROLE_OPERATOR,
    ROLE_SUBSCRIBER,
    AccessRule,
    access,
)
from services.chassis.errors import PermissionDenied
from services.chassis.tokens import Actor

_HEALTH = "/grpc.health.v1.Health/"
_REFLECTION = "/grpc.reflection."
_REFLECTION_RULE = AccessRule(
    roles=[ROLE_OPERATOR], purposes=[PURPOSE_OPERATIONS], reads=[DATA_CLASS_NONE]
)
_OWN_SUBJECT_ROLES = frozenset({ROLE_SUBSCRIBER, ROLE_DEVICE})


def is_exempt(method: str) -> bool:
    """Whether a method (`/package.Service/Method`) needs no token: the health service only."""
    return method.startswith(_HEALTH)


@cache
def rule_of(method: str) -> AccessRule | None:
    """What the proto states for `/package.Service/Method`; None when it states nothing, which refuses all."""
    if method.startswith(_REFLECTION):
        return _REFLECTION_RULE
    service_name, _, method_name = method.removeprefix("/").partition("/")
    try:
        service = descriptor_pool.Default().FindServiceByName(service_name)
        options = service.methods_by_name[method_name].GetOptions()
    except KeyError:
        return None
    return options.Extensions[access] if options.HasExtension(access) else None


def authorise(actor: Actor, rule: AccessRule | None, request: Message | None = None) -> None:
    """Lets the call through or raises PermissionDenied: ROLE_NOT_ALLOWED, PURPOSE_NOT_ALLOWED or
    NOT_OWN_SUBJECT.

    Without a request (a stream before its first message) only role and purpose are judged; every message is
    judged when it arrives.
    """
    if rule is None or actor.role not in rule.roles:
        raise PermissionDenied("ROLE_NOT_ALLOWED", "This role may not call this method.")
    if actor.purpose not in rule.purposes:
        raise PermissionDenied(
            "PURPOSE_NOT_ALLOWED", "This method is not for the purpose that the token states."
        )
    if request is not None and actor.role in _OWN_SUBJECT_ROLES:
        _check_subject(actor, rule, request)


def _check_subject(actor: Actor, rule: AccessRule, request: Message) -> None:
    if rule.subject_field and _text_at(request, rule.subject_field) != actor.subject:
        raise PermissionDenied("NOT_OWN_SUBJECT", "A subscriber's token reaches this subscriber's data only.")


def _text_at(request: Message, path: str) -> str | None:
    """The string at a dotted path; None when the request has no such field: a misspelt rule refuses."""
    value: object = request
    for name in path.split("."):
        if not isinstance(value, Message):
            return None
        field = value.DESCRIPTOR.fields_by_name.get(name)
        value = None if field is None else getattr(value, name)
    return value if isinstance(value, str) else None
