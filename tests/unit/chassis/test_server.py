"""Does the server let the right calls in, bound them, and keep quiet about what goes wrong?"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from misuse.common.v1 import access_pb2
from services.chassis import errors
from services.chassis.config import Config
from services.chassis.errors import ServiceError
from services.chassis.rpc import Peers, unwrap
from services.chassis.server import build_server, serve
from services.chassis.tasks import end
from services.chassis.telemetry import JsonLine
from services.chassis.tokens import Issuer, create_key_pair, current_actor
from tests.unit.chassis.talk import SERVICE, Talk, TalkStub, Word

ROOT = Path(__file__).parents[3]
CANARY = "010-9876-5432 kim@example.com"
"""Words that must never leave a process."""
KINDS = ("Say", "Count", "Tell", "Chat")


@dataclass
class Served:
    """A server on loopback and a client of it."""

    talk: Talk
    stub: TalkStub
    issuer: Issuer
    channel: grpc.aio.Channel
    server: grpc.aio.Server
    config: Config

    def token(
        self,
        subject: str = "staff-1",
        role: access_pb2.Role.ValueType = access_pb2.ROLE_SRE,
        purpose: access_pb2.Purpose.ValueType = access_pb2.PURPOSE_OPERATIONS,
        audience: str = "case",
        ttl_s: float = 60,
    ) -> str:
        return self.issuer.issue(subject, role, purpose, audience, ttl_s)

    def subscriber(self, subject: str) -> str:
        return self.token(subject, access_pb2.ROLE_SUBSCRIBER, access_pb2.PURPOSE_PROTECTION)

    async def call(
        self, kind: str, *words: Any, token: str | None = None, timeout: float | None = None
    ) -> list[str]:
        """The texts that come back, whatever the kind of call."""
        bearer = self.token() if token is None else token
        options: dict[str, Any] = {"metadata": [("authorization", f"Bearer {bearer}")], "timeout": timeout}
        method = getattr(self.stub, kind)
        call = method(iter(words) if kind in {"Tell", "Chat"} else words[0], **options)
        if kind in {"Count", "Chat"}:
            return [answer.text async for answer in call]
        return [(await call).text]

    async def refusal(self, kind: str = "Say", *words: Any, **options: Any) -> ServiceError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.call(kind, *(words or (Word(text="hello"),)), **options)
        assert CANARY not in repr(caught.value)
        return unwrap(caught.value)


@asynccontextmanager
async def serving(tmp_path: Path, unary_seconds: float = 30) -> AsyncIterator[Served]:
    issuer = create_key_pair(tmp_path / "private", tmp_path / "public", "test-key")
    config = Config(service="case", home=tmp_path, token_keys_dir=tmp_path / "public")
    config = replace(config, unary_seconds=unary_seconds)
    talk = Talk()
    server, port = build_server(config, talk.register)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        config = replace(config, listen=f"127.0.0.1:{port}")
        yield Served(talk, TalkStub(channel), issuer, channel, server, config)
    await server.stop(0)


@contextmanager
def captured_log() -> Iterator[io.StringIO]:
    """Everything that any logger writes, as the service would print it."""
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    handler.setFormatter(JsonLine("case"))
    root = logging.getLogger()
    root.addHandler(handler)
    try:
        yield out
    finally:
        root.removeHandler(handler)


# --- who gets in ---


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("Say", ["a"]), ("Count", ["a", "a", "a"]), ("Tell", ["a b"]), ("Chat", ["a", "b"])],
)
async def test_every_kind_of_call_works_with_a_good_token(
    tmp_path: Path, kind: str, expected: list[str]
) -> None:
    async with serving(tmp_path) as served:
        assert expected == await served.call(kind, Word(text="a"), Word(text="b"))


async def test_the_handler_knows_the_actor_and_only_during_the_call(tmp_path: Path) -> None:
    async def who(request: Any, context: Any) -> Any:
        return Word(text=current_actor().subject)

    async with serving(tmp_path) as served:
        served.talk.say = who
        assert await served.call("Say", Word()) == ["staff-1"]
    with pytest.raises(errors.Unauthenticated):
        current_actor()


@pytest.mark.parametrize("kind", KINDS)
async def test_no_kind_of_call_gets_in_without_a_token(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path) as served:
        refusal = await served.refusal(kind, token="")
    assert isinstance(refusal, errors.Unauthenticated)
    assert refusal.reason == "TOKEN_MISSING"
    assert served.talk.heard == []


@pytest.mark.parametrize("kind", KINDS)
async def test_a_token_for_another_service_is_refused(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path) as served:
        refusal = await served.refusal(kind, token=served.token(audience="gate"))
    assert refusal.reason == "TOKEN_AUDIENCE_MISMATCH"


@pytest.mark.parametrize("kind", KINDS)
async def test_wrong_role_and_wrong_purpose_are_refused(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path) as served:
        role = await served.refusal(kind, token=served.token(role=access_pb2.ROLE_COLLECTOR))
        purpose = await served.refusal(kind, token=served.token(purpose=access_pb2.PURPOSE_RELEASE))
    assert [role.reason, purpose.reason] == ["ROLE_NOT_ALLOWED", "PURPOSE_NOT_ALLOWED"]
    assert isinstance(role, errors.PermissionDenied)


async def test_a_method_without_a_rule_is_refused_to_everybody(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        assert (await served.refusal("Forgotten")).reason == "ROLE_NOT_ALLOWED"


async def test_a_misspelt_subject_field_refuses_subscribers(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        refusal = await served.refusal("Misspelt", Word(subscriber_id="s-1"), token=served.subscriber("s-1"))
    assert refusal.reason == "NOT_OWN_SUBJECT"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_subscriber_reaches_only_the_own_data(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path) as served:
        own, other = Word(subscriber_id="s-1", text="x"), Word(subscriber_id="s-2", text="x")
        token = served.subscriber("s-1")
        assert set(await served.call(kind, own, token=token)) == {"x"}
        assert (await served.refusal(kind, other, token=token)).reason == "NOT_OWN_SUBJECT"


async def test_a_later_message_of_a_stream_for_somebody_else_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        words = [Word(subscriber_id="s-1", text="mine"), Word(subscriber_id="s-2", text="theirs")]
        refusal = await served.refusal("Chat", *words, token=served.subscriber("s-1"))
    assert refusal.reason == "NOT_OWN_SUBJECT"
    assert served.talk.heard == ["mine"]


async def test_a_handler_that_reads_by_itself_is_guarded_too(tmp_path: Path) -> None:
    async def chat(requests: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(Word(text=request.text))

    async with serving(tmp_path) as served:
        served.talk.chat = chat
        own, other = Word(subscriber_id="s-1", text="x"), Word(subscriber_id="s-2", text="x")
        token = served.subscriber("s-1")
        assert await served.call("Chat", own, own, token=token) == ["x", "x"]
        assert (await served.refusal("Chat", own, other, token=token)).reason == "NOT_OWN_SUBJECT"


async def test_health_needs_no_token_and_reflection_needs_an_operator(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        health: Any = health_pb2_grpc.HealthStub(served.channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING

        async def services(token: str) -> list[str]:
            reflected: Any = reflection_pb2_grpc.ServerReflectionStub
            stub = reflected(served.channel)
            asked = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
            call = stub.ServerReflectionInfo(asked, metadata=[("authorization", f"Bearer {token}")])
            return [s.name async for answer in call for s in answer.list_services_response.service]

        assert SERVICE in await services(served.token(role=access_pb2.ROLE_OPERATOR))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services(served.token(role=access_pb2.ROLE_SRE))
    assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED


async def test_a_token_that_expires_ends_the_stream(tmp_path: Path) -> None:
    async def silent(request: Any, context: Any) -> AsyncIterator[Any]:
        yield Word(text="first")
        await asyncio.Event().wait()

    async with serving(tmp_path) as served:
        served.talk.count = silent
        refusal = await served.refusal("Count", token=served.token(ttl_s=0.2), timeout=30)
    assert refusal.reason == "TOKEN_EXPIRED"


# --- what goes wrong ---

TROUBLE: list[ServiceError] = [
    errors.InvalidInput("TEXT_TOO_LONG", "The text is too long.", violations=[("text", "TEXT_TOO_LONG")]),
    errors.FailedPrecondition("NOT_OPEN", "It is not open.", violations=[("case", "NOT_OPEN")]),
    errors.ResourceExhausted(
        "QUEUE_FULL", "Too much at once.", metadata={"limit": "256"}, retry_after_ms=1500
    ),
    errors.NotFound("CASE_UNKNOWN", "No such case.", metadata={"case_id": "c-1"}),
]


@pytest.mark.parametrize("trouble", TROUBLE, ids=lambda error: error.reason)
@pytest.mark.parametrize("kind", KINDS)
async def test_a_service_error_arrives_whole(tmp_path: Path, kind: str, trouble: ServiceError) -> None:
    async with serving(tmp_path) as served:
        break_with(served.talk, trouble)
        arrived = await served.refusal(kind)
    assert (type(arrived), arrived.reason, arrived.message) == (
        type(trouble),
        trouble.reason,
        trouble.message,
    )
    assert arrived.metadata == trouble.metadata
    assert arrived.violations == trouble.violations
    assert arrived.retry_after_ms == trouble.retry_after_ms


@pytest.mark.parametrize("kind", KINDS)
async def test_a_bug_becomes_internal_and_its_words_go_nowhere(tmp_path: Path, kind: str) -> None:
    with captured_log() as log:
        async with serving(tmp_path) as served:
            break_with(served.talk, ValueError(CANARY))
            arrived = await served.refusal(kind)
    assert (type(arrived), arrived.reason, arrived.message) == (errors.Internal, "INTERNAL", "")
    assert "builtins.ValueError" in log.getvalue()
    assert "test_server.py" in log.getvalue()
    for part in (CANARY, *CANARY.split()):
        assert part not in log.getvalue()


@pytest.mark.parametrize("kind", KINDS)
async def test_a_garbled_message_is_invalid_input_and_is_not_quoted(tmp_path: Path, kind: str) -> None:
    with captured_log() as log:
        async with serving(tmp_path) as served:
            method = {
                "Say": "unary_unary",
                "Count": "unary_stream",
                "Tell": "stream_unary",
                "Chat": "stream_stream",
            }
            raw = getattr(served.channel, method[kind])(f"/{SERVICE}/{kind}")
            bad_utf8 = b"\x12\x04\xff\xfe\xfd\xfc"
            metadata = [("authorization", f"Bearer {served.token()}")]
            call: Any = raw(iter([bad_utf8]) if kind in {"Tell", "Chat"} else bad_utf8, metadata=metadata)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                if kind in {"Count", "Chat"}:
                    async for _ in call:
                        pass
                else:
                    await call
    assert unwrap(caught.value).reason == "REQUEST_MALFORMED"
    assert "Traceback" not in log.getvalue()


async def test_a_stream_may_go_on_after_a_garbled_message(tmp_path: Path) -> None:
    async def patient(requests: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            try:
                yield Word(text=(await anext(requests)).text)
            except errors.InvalidInput as error:
                yield Word(text=error.reason)
            except StopAsyncIteration:
                return

    async with serving(tmp_path) as served:
        served.talk.chat = patient
        call: Any = served.channel.stream_stream(f"/{SERVICE}/Chat", response_deserializer=Word.FromString)
        sent = [Word(text="a").SerializeToString(), b"\x12\x02\xff\xfe", Word(text="b").SerializeToString()]
        metadata = [("authorization", f"Bearer {served.token()}")]
        answers = [answer.text async for answer in call(iter(sent), metadata=metadata)]
    assert answers == ["a", "REQUEST_MALFORMED", "b"]


async def test_a_method_that_is_not_built_says_so(tmp_path: Path) -> None:
    def unbuilt(request: Any, context: Any) -> Any:
        raise NotImplementedError("Method not implemented!")

    async with serving(tmp_path) as served:
        served.talk.say = unbuilt
        refusal = await served.refusal()
    assert (type(refusal), refusal.reason) == (errors.Unimplemented, "METHOD_NOT_BUILT")


async def test_a_peer_that_does_not_answer_makes_this_service_unavailable(tmp_path: Path) -> None:
    async def asks_a_dead_peer(request: Any, context: Any) -> Any:
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            return await TalkStub(channel).Say(request)

    async with serving(tmp_path) as served:
        served.talk.say = asks_a_dead_peer
        refusal = await served.refusal()
    assert (type(refusal), refusal.reason) == (errors.Unavailable, "PEER_UNAVAILABLE")


async def test_a_message_over_the_limit_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        refusal = await served.refusal("Say", Word(text="x" * (5 * 1024 * 1024)))
        assert isinstance(refusal, errors.ResourceExhausted)
        assert await served.call("Say", Word(text="still here")) == ["still here"]


async def test_a_call_without_deadline_is_bounded_by_the_server(tmp_path: Path) -> None:
    async def slow(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    async with serving(tmp_path, unary_seconds=0.05) as served:
        served.talk.say = slow
        refusal = await served.refusal()
    assert isinstance(refusal, errors.DeadlineExceeded)


async def test_a_timeout_inside_a_handler_is_a_bug_and_no_deadline(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        break_with(served.talk, TimeoutError(CANARY))
        assert isinstance(await served.refusal(), errors.Internal)


# --- between services ---


async def test_a_peer_stub_signs_its_calls_as_this_service(tmp_path: Path) -> None:
    async def who(request: Any, context: Any) -> Any:
        actor = current_actor()
        return Word(text=f"{actor.subject} {access_pb2.Role.Name(actor.role)}")

    async with serving(tmp_path) as served:
        served.talk.say = who
        issuer = create_key_pair(
            tmp_path / "private", tmp_path / "public", "removal", [access_pb2.ROLE_SERVICE_REMOVAL]
        )
        config = replace(served.config, service="removal", peers={"case": served.config.listen})
        peers = Peers(config, lambda: issuer)
        stub = peers.stub("case", TalkStub, access_pb2.PURPOSE_REMOVAL)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Say(Word())
        await peers.close()
    # The rule of the trial service does not name service roles: proved, known, and not allowed.
    assert unwrap(caught.value).reason == "ROLE_NOT_ALLOWED"


async def test_a_stub_repeats_a_call_when_the_peer_was_unavailable(tmp_path: Path) -> None:
    tries = 0

    async def flaky(request: Any, context: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 3:
            raise errors.Unavailable("STARTING", "Not yet.")
        return Word(text="at last")

    async with serving(tmp_path) as served:
        served.talk.say = flaky
        stub = operator_stub(served)
        assert (await stub.Say(Word())).text == "at last"
    assert tries == 3


async def test_a_stub_does_not_repeat_other_errors(tmp_path: Path) -> None:
    tries = 0

    async def lost(request: Any, context: Any) -> Any:
        nonlocal tries
        tries += 1
        raise errors.Aborted("RACE_LOST", "Somebody was faster.")

    async with serving(tmp_path) as served:
        served.talk.say = lost
        with pytest.raises(grpc.aio.AioRpcError):
            await operator_stub(served).Say(Word())
    assert tries == 1


# --- starting and stopping ---


async def test_two_servers_cannot_share_a_port(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        with pytest.raises(RuntimeError):
            build_server(served.config, Talk().register)


@pytest.mark.slow
async def test_a_stop_finishes_calls_then_the_background_and_ends_streams(tmp_path: Path) -> None:
    issuer = create_key_pair(tmp_path / "private", tmp_path / "public", "test-key")
    config = Config(service="case", home=tmp_path, token_keys_dir=tmp_path / "public", listen=free_address())
    service = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.unit.chassis.stoppable", str(tmp_path), config.listen),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'protos' / 'gen'}"},
        stdout=asyncio.subprocess.PIPE,
    )
    assert service.stdout is not None
    async with asyncio.timeout(30), grpc.aio.insecure_channel(config.listen) as channel:
        served = Served(Talk(), TalkStub(channel), issuer, channel, None, config)  # type: ignore[arg-type] # unused
        await channel.channel_ready()
        call = asyncio.create_task(served.call("Say", Word(text="x")))
        stream = asyncio.create_task(served.refusal("Count"))
        entered = {await service.stdout.readline(), await service.stdout.readline()}
        service.terminate()
        assert await call == ["done"]
        assert (await stream).reason == "SERVER_DRAINING"
        told = (await service.stdout.read()).decode().splitlines()
        assert await service.wait() == 0
    assert entered == {b"call entered\n", b"stream entered\n"}
    assert told == ["call done", "background done"]


async def test_a_background_loop_that_fails_ends_the_service(tmp_path: Path) -> None:
    async def broken(stop: asyncio.Event) -> None:
        raise OSError("disk")

    config = Config(service="case", home=tmp_path, token_keys_dir=tmp_path / "public", drain_seconds=1)
    with pytest.raises(OSError, match="disk"):
        await asyncio.wait_for(serve(config, Talk().register, background=[broken]), timeout=30)


async def test_an_instance_that_says_it_is_not_ready_is_asked_no_more(tmp_path: Path) -> None:
    issuer = create_key_pair(tmp_path / "private", tmp_path / "public", "test-key")
    ready = {"one": True, "other": True}
    running, addresses = [], []
    for name in ready:
        talk, address = Talk(), free_address()
        talk.say = answering(name)
        config = Config(
            service="case", home=tmp_path, token_keys_dir=tmp_path / "public", listen=address, drain_seconds=1
        )
        running.append(asyncio.create_task(serve(config, talk.register, ready=partial(ready.__getitem__, name))))
        addresses.append(address)
    config = replace(config, listen=",".join(addresses))
    async with grpc.aio.insecure_channel(addresses[0]) as channel:
        stub = operator_stub(Served(talk, TalkStub(channel), issuer, channel, None, config))  # type: ignore[arg-type] # unused

        async def ten() -> set[str]:
            return {(await stub.Say(Word())).text for _ in range(10)}

        async with asyncio.timeout(30):
            while await ten() != {"one", "other"}:
                await asyncio.sleep(0.02)
            ready["one"] = False
            while await ten() != {"other"}:
                await asyncio.sleep(0.02)
    await end(*running)


async def test_health_follows_readiness(tmp_path: Path) -> None:
    ready = False
    config = Config(
        service="case",
        home=tmp_path,
        token_keys_dir=tmp_path / "public",
        listen=free_address(),
        drain_seconds=1,
    )
    parts = {"case.here": True, "case.missing": False}
    running = asyncio.create_task(serve(config, Talk().register, ready=lambda: ready, parts=parts))
    async with grpc.aio.insecure_channel(config.listen) as channel:
        await channel.channel_ready()
        stub: Any = health_pb2_grpc.HealthStub(channel)

        async def states() -> list[int]:
            names = ("", SERVICE, "live", *parts)
            return [(await stub.Check(health_pb2.HealthCheckRequest(service=name))).status for name in names]

        async def become(expected: list[int]) -> None:
            async with asyncio.timeout(20):
                while await states() != expected:
                    await asyncio.sleep(0.02)

        await become([2, 2, 1, 1, 2])
        ready = True
        await become([1, 1, 1, 1, 2])
        await end(running)


def answering(name: str) -> Any:
    """A method that says who answers."""

    async def say(request: Any, context: Any) -> Any:
        return Word(text=name)

    return say


def free_address() -> str:
    """A loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def break_with(talk: Talk, trouble: Exception) -> None:
    """Makes every method fail."""

    async def single(request: Any, context: Any) -> Any:
        raise trouble

    async def several(request: Any, context: Any) -> AsyncIterator[Any]:
        yield Word(text="one before")
        raise trouble

    talk.say, talk.tell = single, single
    talk.count, talk.chat = several, several


def operator_stub(served: Served) -> Any:
    """A stub of `Peers` under a key that signs what the trial service allows."""

    class OperatorPeers(Peers):
        def _token(self, service: str, purpose: access_pb2.Purpose.ValueType) -> str:
            return served.token()

    config = replace(served.config, service="removal", peers={"case": served.config.listen})
    return OperatorPeers(config, lambda: served.issuer).stub("case", TalkStub, access_pb2.PURPOSE_OPERATIONS)
