"""A tiny service of all four kinds of call, made without a proto file, to try the chassis on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from misuse.common.v1.access_pb2 import (
    PURPOSE_OPERATIONS,
    PURPOSE_PROTECTION,
    ROLE_DEVICE,
    ROLE_SRE,
    ROLE_SUBSCRIBER,
    AccessRule,
    access,
)

SERVICE = "misuse.trial.v1.TalkService"
_RULE = AccessRule(
    roles=[ROLE_SUBSCRIBER, ROLE_DEVICE, ROLE_SRE],
    purposes=[PURPOSE_PROTECTION, PURPOSE_OPERATIONS],
    subject_field="subscriber_id",
)
_METHODS = {"Say": (False, False), "Count": (False, True), "Tell": (True, False), "Chat": (True, True)}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(
        name="trial/talk.proto", package="misuse.trial.v1", syntax="proto3"
    )
    file.dependency.append("misuse/common/v1/access.proto")
    word = file.message_type.add(name="Word")
    for number, name in enumerate(("subscriber_id", "text"), start=1):
        word.field.add(name=name, number=number, type=9, label=1)
    service = file.service.add(name="TalkService")
    for name, (incoming, outgoing) in _METHODS.items():
        method = service.method.add(
            name=name, input_type=".misuse.trial.v1.Word", output_type=".misuse.trial.v1.Word"
        )
        method.client_streaming, method.server_streaming = incoming, outgoing
        method.options.Extensions[access].CopyFrom(_RULE)
    service.method.add(
        name="Forgotten", input_type=".misuse.trial.v1.Word", output_type=".misuse.trial.v1.Word"
    )
    misspelt = service.method.add(
        name="Misspelt", input_type=".misuse.trial.v1.Word", output_type=".misuse.trial.v1.Word"
    )
    misspelt.options.Extensions[access].CopyFrom(_RULE)
    misspelt.options.Extensions[access].subject_field = "subscriber"
    return file


_POOL = descriptor_pool.Default()
_POOL.AddSerializedFile(_file().SerializeToString())
# The class is made at run time, so no checker knows its fields.
Word: Any = message_factory.GetMessageClass(_POOL.FindMessageTypeByName("misuse.trial.v1.Word"))


class Talk:
    """What the methods do when nothing goes wrong; a test replaces the one that it tries."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.say: Any = self._echo
        self.count: Any = self._three_times
        self.tell: Any = self._join
        self.chat: Any = self._echo_each

    async def _echo(self, request: Any, context: Any) -> Any:
        self.heard.append(request.text)
        return Word(text=request.text)

    async def _three_times(self, request: Any, context: Any) -> AsyncIterator[Any]:
        for _ in range(3):
            yield Word(text=request.text)

    async def _join(self, requests: AsyncIterator[Any], context: Any) -> Any:
        return Word(text=" ".join([request.text async for request in requests]))

    async def _echo_each(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self.heard.append(request.text)
            yield Word(text=request.text)

    def register(self, server: grpc.aio.Server) -> None:
        """As generated code would do it."""
        handlers = {
            "Say": grpc.unary_unary_rpc_method_handler(_late(self, "say"), *_CODEC),
            "Forgotten": grpc.unary_unary_rpc_method_handler(_late(self, "say"), *_CODEC),
            "Misspelt": grpc.unary_unary_rpc_method_handler(_late(self, "say"), *_CODEC),
            "Count": grpc.unary_stream_rpc_method_handler(_late(self, "count"), *_CODEC),
            "Tell": grpc.stream_unary_rpc_method_handler(_late(self, "tell"), *_CODEC),
            "Chat": grpc.stream_stream_rpc_method_handler(_late(self, "chat"), *_CODEC),
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        server.add_registered_method_handlers(SERVICE, handlers)


class TalkStub:
    """As generated code would make it."""

    def __init__(self, channel: Any) -> None:
        def make(kind: Callable[..., Any], name: str) -> Any:
            return kind(f"/{SERVICE}/{name}", request_serializer=_CODEC[1], response_deserializer=_CODEC[0])

        self.Say = make(channel.unary_unary, "Say")
        self.Forgotten = make(channel.unary_unary, "Forgotten")
        self.Misspelt = make(channel.unary_unary, "Misspelt")
        self.Count = make(channel.unary_stream, "Count")
        self.Tell = make(channel.stream_unary, "Tell")
        self.Chat = make(channel.stream_stream, "Chat")


_CODEC: tuple[Callable[[bytes], Any], Callable[[Any], bytes]] = (Word.FromString, Word.SerializeToString)


def _late(talk: Talk, name: str) -> Any:
    """Looks the method up at the time of the call, so that a test may replace it on the instance."""

    def call(request: Any, context: Any) -> Any:
        return getattr(talk, name)(request, context)

    return call
