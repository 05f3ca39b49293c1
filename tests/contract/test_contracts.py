"""Do the contracts say who may call, and do the services keep to it?"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import betterproto
import grpc
import grpc.aio
import pytest
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from misuse.common.v1.access_pb2 import Purpose, Role
from misuse.ops.v1 import ops_pb2
from services.chassis.access import rule_of
from services.chassis.config import Config
from services.chassis.ops import OpsServicer
from services.chassis.rpc import unwrap
from services.chassis.server import build_server
from services.chassis.tokens import Issuer, create_key_pair

ROOT = Path(__file__).resolve().parents[2]
SERVICES = ("detector", "case", "removal", "notify", "gate")
PRESENT = [name for name in SERVICES if (ROOT / "services" / name / "__main__.py").exists()]
SUBJECTS = (Role.ROLE_SUBSCRIBER, Role.ROLE_DEVICE)


def contracts(service: str) -> list[ServiceDescriptor]:
    """The services of a package, from its generated files."""
    found = []
    for file in sorted((ROOT / "protos" / "misuse" / service / "v1").glob("*.proto")):
        module = importlib.import_module(f"misuse.{service}.v1.{file.stem}_pb2")
        found += module.DESCRIPTOR.services_by_name.values()
    return found


def methods(service: str) -> list[MethodDescriptor]:
    return [method for contract in contracts(service) for method in contract.methods]


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


ALL = [method for service in (*SERVICES, "ops") for method in methods(service)]


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.full_name)
def test_every_method_names_roles_and_purposes(method: MethodDescriptor) -> None:
    rule = rule_of(path_of(method))
    assert rule is not None
    assert rule.roles
    assert rule.purposes
    assert Role.ROLE_UNSPECIFIED not in rule.roles
    assert Purpose.PURPOSE_UNSPECIFIED not in rule.purposes


@pytest.mark.parametrize("method", ALL, ids=lambda method: method.full_name)
def test_a_request_that_names_a_subscriber_is_bound_to_the_subject_of_the_token(method: MethodDescriptor) -> None:
    rule = rule_of(path_of(method))
    assert rule is not None
    names = {field.name for field in method.input_type.fields}
    if rule.subject_field:
        assert rule.subject_field in names
    elif any(role in SUBJECTS for role in rule.roles):
        assert "subscriber_id" not in names


def servicers(service: str) -> dict[str, type]:
    """Full name of a contract's service → the class that implements it."""
    module = importlib.import_module(f"services.{service}.servicer")
    parts = [module]
    if hasattr(module, "__path__"):
        parts += [
            importlib.import_module(f"{module.__name__}.{file.stem}")
            for file in Path(module.__path__[0]).glob("*.py")
            if file.stem != "__init__"
        ]
    found: dict[str, type] = {"misuse.ops.v1.OpsService": OpsServicer}
    for part in parts:
        for _, cls in inspect.getmembers(part, inspect.isclass):
            for base in cls.__mro__[1:]:
                if base.__module__.endswith("_pb2_grpc") and base.__name__.endswith("Servicer"):
                    package = base.__module__.rsplit(".", 1)[0]
                    found[f"{package}.{base.__name__.removesuffix('Servicer')}"] = cls
    return found


def unbuilt(service: str) -> set[str]:
    """Methods that answer UNIMPLEMENTED: those that no class overrides."""
    classes = servicers(service)
    missing = set()
    for method in methods(service):
        cls = classes.get(method.containing_service.full_name)
        own = getattr(cls, method.name, None) if cls else None
        if own is None or own.__module__.endswith("_pb2_grpc"):
            missing.add(f"{method.containing_service.full_name}/{method.name}")
    return missing


def test_no_field_hides_a_method_of_the_typed_client() -> None:
    """A field `dump` would take the place of betterproto's method of that name, and no message could be sent."""
    taken = {name for name in dir(betterproto.Message) if not name.startswith("_")}
    files = sorted((ROOT / "protos").rglob("*.proto"))
    modules = [".".join(file.relative_to(ROOT / "protos").with_suffix("").parts) + "_pb2" for file in files]
    hidden = [
        f"{message.full_name}.{field.name}"
        for module in modules
        for message in importlib.import_module(module).DESCRIPTOR.message_types_by_name.values()
        for field in message.fields
        if field.name in taken
    ]
    assert [] == hidden


@pytest.mark.parametrize("service", PRESENT)
def test_the_list_of_unbuilt_methods_is_true(service: str) -> None:
    file = ROOT / "services" / service / "unimplemented.txt"
    lines = (line.strip() for line in file.read_text(encoding="utf-8").splitlines())
    assert {line.lstrip("/") for line in lines if line and not line.startswith("#")} == unbuilt(service)


@asynccontextmanager
async def _walled(service: str, folder: Path) -> AsyncIterator[tuple[grpc.aio.Channel, Issuer]]:
    """The service's own servicers behind the real guard; they have nothing behind them, for nobody gets there."""
    issuer = create_key_pair(folder / "private", folder / "public", "test-key")
    config = Config(service=service, home=folder, token_keys_dir=folder / "public")

    def register(server: grpc.aio.Server) -> None:
        classes = servicers(service)
        for contract in (*contracts(service), *contracts("ops")):
            stem = Path(contract.file.name).stem
            module: Any = importlib.import_module(f"{contract.file.package}.{stem}_pb2_grpc")
            unbuilt_base = getattr(module, f"{contract.name}Servicer")
            add = getattr(module, f"add_{contract.name}Servicer_to_server")
            add(object.__new__(classes.get(contract.full_name, unbuilt_base)), server)

    server, port = build_server(config, register)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel, issuer
    await server.stop(0)


async def _refusal(channel: grpc.aio.Channel, method: MethodDescriptor, token: str) -> str:
    """The reason of the refusal; a method that answers fails the test."""
    metadata = [("authorization", f"Bearer {token}")] if token else []
    path, options = path_of(method), {"metadata": metadata, "timeout": 5.0}
    try:
        if method.client_streaming and method.server_streaming:
            async for _ in channel.stream_stream(path)(iter([b""]), **options):
                break
        elif method.server_streaming:
            async for _ in channel.unary_stream(path)(b"", **options):
                break
        else:
            await channel.unary_unary(path)(b"", **options)
    except grpc.aio.AioRpcError as error:
        reason = unwrap(error).reason
        # A status that comes from the transport has no reason of ours, and words of its own.
        return reason if reason != error.code().name else f"{reason}: {error.details()}"
    pytest.fail(f"{method.full_name} let a call in")


@pytest.mark.parametrize("service", PRESENT)
async def test_a_walk_over_all_methods_is_refused_without_token_with_a_wrong_role_and_with_a_wrong_purpose(
    service: str, tmp_path: Path
) -> None:
    async with _walled(service, tmp_path) as (channel, issuer):
        for method in (*methods(service), *ops_pb2.DESCRIPTOR.services_by_name["OpsService"].methods):
            rule = rule_of(path_of(method))
            assert rule is not None
            roles, purposes = set(Role.values()[1:]), set(Purpose.values()[1:])
            good_role, good_purpose = rule.roles[0], rule.purposes[0]
            assert await _refusal(channel, method, "") == "TOKEN_MISSING"
            for role in sorted(roles - set(rule.roles)):
                device = "phone" if role == Role.ROLE_DEVICE else ""
                token = issuer.issue("somebody", role, good_purpose, service, 60, device)
                assert await _refusal(channel, method, token) == "ROLE_NOT_ALLOWED"
            device = "phone" if good_role == Role.ROLE_DEVICE else ""
            for purpose in sorted(purposes - set(rule.purposes)):
                token = issuer.issue("somebody", good_role, purpose, service, 60, device)
                assert await _refusal(channel, method, token) == "PURPOSE_NOT_ALLOWED"
            elsewhere = issuer.issue("somebody", good_role, good_purpose, "elsewhere", 60, device)
            assert (await _refusal(channel, method, elsewhere)).startswith("TOKEN_")
