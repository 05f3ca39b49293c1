"""Who may call what?"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from misuse.common.v1 import access_pb2
from misuse.common.v1.access_pb2 import (
    PURPOSE_OPERATIONS,
    PURPOSE_PROTECTION,
    ROLE_DEVICE,
    ROLE_OPERATOR,
    ROLE_SRE,
    ROLE_SUBSCRIBER,
    AccessRule,
)
from misuse.common.v1.actor_pb2 import ActorClaims
from misuse.ops.v1 import ops_pb2
from services.chassis.access import authorise, is_exempt, rule_of
from services.chassis.errors import PermissionDenied
from services.chassis.tokens import Actor
from tests.unit.chassis.talk import SERVICE

OPS = ops_pb2.DESCRIPTOR.services_by_name["OpsService"]
OWN = AccessRule(
    roles=[ROLE_SUBSCRIBER, ROLE_DEVICE, ROLE_SRE], purposes=[PURPOSE_PROTECTION], subject_field="subject"
)


def actor(
    role: access_pb2.Role.ValueType, purpose: access_pb2.Purpose.ValueType = PURPOSE_PROTECTION
) -> Actor:
    now = datetime.now(UTC)
    device = "d-1" if role == ROLE_DEVICE else ""
    return Actor("s-1", role, purpose, "case", device, now + timedelta(minutes=1), now)


def refusal(who: Actor, rule: AccessRule | None, subject: str | None = None) -> str:
    with pytest.raises(PermissionDenied) as caught:
        authorise(who, rule, None if subject is None else ActorClaims(subject=subject))
    return caught.value.reason


def test_the_rule_comes_from_the_proto() -> None:
    rule = rule_of(f"/{OPS.full_name}/ListDeadLetters")
    assert rule is not None
    assert list(rule.roles) == [ROLE_SRE, ROLE_OPERATOR]
    assert list(rule.purposes) == [PURPOSE_OPERATIONS]


@pytest.mark.parametrize(
    "method",
    ["", "/", "/no.Such/Method", f"/{OPS.full_name}/Nothing", f"/{SERVICE}/Forgotten", OPS.full_name],
)
def test_what_states_no_rule_has_none_and_refuses_everybody(method: str) -> None:
    assert rule_of(method) is None
    for role in access_pb2.Role.values():
        assert refusal(actor(role), rule_of(method)) == "ROLE_NOT_ALLOWED"


def test_only_health_is_exempt() -> None:
    assert is_exempt("/grpc.health.v1.Health/Check")
    assert not is_exempt("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
    assert not is_exempt("/grpc.health.v1.HealthX/Check")
    assert not is_exempt(f"/{OPS.full_name}/ListDeadLetters")


def test_every_role_and_purpose_that_is_not_named_is_refused() -> None:
    for role in access_pb2.Role.values():
        if role not in OWN.roles:
            assert refusal(actor(role), OWN, "s-1") == "ROLE_NOT_ALLOWED"
    for purpose in access_pb2.Purpose.values():
        if purpose not in OWN.purposes:
            assert refusal(actor(ROLE_SRE, purpose), OWN, "s-1") == "PURPOSE_NOT_ALLOWED"


def test_an_empty_rule_refuses_everybody() -> None:
    assert refusal(actor(ROLE_SRE), AccessRule()) == "ROLE_NOT_ALLOWED"
    assert refusal(actor(ROLE_SRE), AccessRule(roles=[ROLE_SRE])) == "PURPOSE_NOT_ALLOWED"


@pytest.mark.parametrize("role", [ROLE_SUBSCRIBER, ROLE_DEVICE])
def test_a_subject_reaches_the_own_data_only(role: access_pb2.Role.ValueType) -> None:
    authorise(actor(role), OWN, ActorClaims(subject="s-1"))
    assert refusal(actor(role), OWN, "s-2") == "NOT_OWN_SUBJECT"
    assert refusal(actor(role), OWN, "") == "NOT_OWN_SUBJECT"


def test_staff_may_name_any_subject() -> None:
    authorise(actor(ROLE_SRE), OWN, ActorClaims(subject="s-2"))


@pytest.mark.parametrize("field", ["subjekt", "subject.id", "role", "issue_time", "issue_time.seconds", "."])
def test_a_rule_that_names_no_text_field_refuses(field: str) -> None:
    rule = AccessRule(roles=OWN.roles, purposes=OWN.purposes, subject_field=field)
    assert refusal(actor(ROLE_SUBSCRIBER), rule, "s-1") == "NOT_OWN_SUBJECT"
