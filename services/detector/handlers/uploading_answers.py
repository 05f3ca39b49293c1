"""What becomes of a warning: the subscriber's choice, or none in time; the redacted result, its proof, its end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from hashlib import sha256

from misuse.detector.v1 import events_pb2 as events
from misuse.detector.v1 import upload_service_pb2 as messages
from misuse.log.v1.record_pb2 import BlurApplyLog
from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound
from services.chassis.ids import parse_uuid
from services.chassis.keys import KeyStore, seal, unseal
from services.chassis.telemetry import stage
from services.detector.domain.uploads import (
    OUTCOMES,
    CheckState,
    Choice,
    Mask,
    Method,
    NotResolvable,
    RedactionCheck,
    UploadCheck,
    UploadRules,
    Warned,
)
from services.detector.handlers import uploading_records as records
from services.detector.handlers.uploading import NO_ANSWER, PURGE_CHECK, PURGE_RESULT, Linking, UploadLane, opened_check
from services.detector.ports import Begin, Redacted, Redactor, SealedResult, UnreadableUpload, Work
from services.detector.sealing import References, Vault, place
from services.detector.translate import stamp

PAGE = 100


@dataclass(frozen=True)
class Answered:
    """The choice that holds, and for BLUR its result."""

    choice: Choice
    image: bytes = field(default=b"", repr=False)
    text: str = field(default="", repr=False)


@dataclass(frozen=True)
class Answering:
    """Choices after warnings."""

    begin: Begin
    vault: Vault
    keys: KeyStore
    clock: Clock
    references: References
    rules: UploadRules
    redactor: Redactor
    lane: UploadLane
    linking: Linking

    async def resolve(self, request: messages.ResolveUploadRequest) -> Answered:
        """Takes a choice; a repeat answers the same, without its content."""
        choice = _choice(request.choice)
        check_id = request.upload_check_id
        async with self.begin() as work:
            check, warned = await opened_check(work, self.vault, request.subscriber_id, check_id)
            if (known := await self._known(work, check, choice)) is not None:
                return known
            if choice is not Choice.BLUR:
                await self._move(work, check, warned, choice)
                return Answered(choice)
            _movable(check, choice, self.clock.now())
        self._same_content(check, request)
        made = await self._redacted(request, warned)
        async with self.begin() as work:
            check, warned = await opened_check(work, self.vault, request.subscriber_id, check_id)
            if (known := await self._known(work, check, choice)) is not None:
                return known
            await self._keep(work, check, warned, made, request)
        return Answered(choice, made.image, made.text)

    async def _known(self, work: Work, check: UploadCheck, choice: Choice) -> Answered | None:
        """The answer that was given before, where it is the same choice."""
        if check.state is not OUTCOMES[choice]:
            return None
        if choice is not Choice.BLUR:
            return Answered(choice)
        held = await work.uploads.result(check.upload_check_id)
        key = self.keys.get(_owner(check.upload_check_id)) if held is not None else None
        if held is None or key is None:
            raise FailedPrecondition("RESULT_PURGED", "The redacted result is kept no longer.")
        image, text = _opened(key, held)
        return Answered(choice, image, text)

    async def _move(self, work: Work, check: UploadCheck, warned: Warned, choice: Choice) -> UploadCheck:
        """The state, its record, its event. Raises FailedPrecondition."""
        now = self.clock.now()
        moved = _movable(check, choice, now)
        await work.uploads.change_check(moved)
        record = records.outcome(moved, warned, choice, now)
        work.record(check.subscriber_id, records.signed(record, self.references))
        work.event(
            check.subscriber_id,
            events.UploadResolved(
                upload_check_id=check.upload_check_id,
                case_id=check.case_id,
                subscriber_id=check.subscriber_id,
                choice=choice.name,
                occur_time=stamp(now),
            ),
        )
        if choice is not Choice.NO_ANSWER:
            await work.cancel(NO_ANSWER, check.upload_check_id)
        return moved

    def _same_content(self, check: UploadCheck, request: messages.ResolveUploadRequest) -> None:
        sent = (
            ("image", check.image_ref, request.image),
            ("text", check.text_ref, request.text.encode()),
        )
        for name, ref, content in sent:
            upload = partial(self.references.upload, check.upload_check_id, name)
            if (upload(sha256(content).digest()) if content else b"") != ref:
                raise InvalidInput(
                    "CONTENT_DIFFERS", "This is not what was checked.", violations=[(name, "CONTENT_DIFFERS")]
                )

    async def _redacted(self, request: messages.ResolveUploadRequest, warned: Warned) -> Redacted:
        async with self.lane.place() as place_:
            with stage("upload_redact"):
                try:
                    return await place_.run(
                        lambda: self.redactor.redact(request.image, request.text, warned.findings)
                    )
                except UnreadableUpload as problem:
                    bad = [("image", problem.reason)]
                    raise InvalidInput(problem.reason, "The picture cannot be read.", violations=bad) from None

    async def _keep(
        self, work: Work, check: UploadCheck, warned: Warned, made: Redacted, request: messages.ResolveUploadRequest
    ) -> None:
        """Stores the result sealed under a key of its own, with the records of what was done."""
        now, check_id = self.clock.now(), check.upload_check_id
        moved = await self._move(work, check, warned, Choice.BLUR)
        key = self.keys.get_or_create(_owner(check_id))
        image = seal(key, made.image, place("redaction", check_id, "image")) if made.image else None
        text = seal(key, made.text.encode(), place("redaction", check_id, "text")) if made.text else None
        await work.uploads.add_result(SealedResult(check_id, check.subscriber_id, image, text), now)
        record = records.blur(moved, made, len(request.image), len(request.text.encode()), now)
        work.record(check.subscriber_id, records.signed(record, self.references))
        due_time = now + self.rules.keep_results
        await work.schedule(PURGE_RESULT, check_id, due_time)
        work.record(check.subscriber_id, records.purge_due("REDACTION", check_id, due_time, "RESULT_RETENTION", now))

    async def no_answer(self, check_id: str) -> None:
        """What a due row does: ends a warning that nobody answered."""
        async with self.begin() as work:
            held = await work.uploads.check(check_id)
            if held is None or held.check.state is not CheckState.SHOWN or not held.check.answer_by:
                return
            if held.check.answer_by <= self.clock.now():
                check, warned = await opened_check(work, self.vault, held.check.subscriber_id, check_id)
                await self._move(work, check, warned, Choice.NO_ANSWER)

    async def purge_check(self, check_id: str, due_time: datetime) -> None:
        """What a due row does: forgets what a check found."""
        async with self.begin() as work:
            held = await work.uploads.check(check_id)
            if held is not None:
                await self._drop_check(work, held.check.subscriber_id, check_id, due_time, "CHECK_RETENTION")

    async def purge_result(self, check_id: str, due_time: datetime) -> None:
        """What a due row does: destroys a redacted result with its key."""
        async with self.begin() as work:
            held = await work.uploads.result(check_id)
            if held is not None:
                await self._drop_result(work, held.subscriber_id, check_id, due_time, "RESULT_RETENTION")

    async def forget(self, work: Work, subscriber_id: str, reason: str) -> None:
        """Unlinks all accounts of a subscriber, and purges all checks and results."""
        while page := await work.uploads.accounts(subscriber_id, "", PAGE):
            for held in page:
                await self.linking.drop(work, held.account, reason)
        now = self.clock.now()
        while ids := await work.uploads.checks(subscriber_id, "", PAGE):
            for check_id in ids:
                # Locked first: a BLUR that commits at this moment has left its result then.
                await work.uploads.check(check_id)
                for kind in (NO_ANSWER, PURGE_CHECK, PURGE_RESULT):
                    await work.cancel(kind, check_id)
                if await work.uploads.result(check_id) is not None:
                    await self._drop_result(work, subscriber_id, check_id, now, reason)
                await self._drop_check(work, subscriber_id, check_id, now, reason)

    async def _drop_check(self, work: Work, who: str, check_id: str, due_time: datetime, rule: str) -> None:
        await work.uploads.remove_check(check_id)
        work.record(who, records.purge("UPLOAD_CHECK", check_id, due_time, rule, self.clock.now()))

    async def _drop_result(self, work: Work, who: str, check_id: str, due_time: datetime, rule: str) -> None:
        """The key goes first and for ever: should the transaction fail, the row that comes again opens no more."""
        self.keys.destroy(_owner(check_id))
        await work.uploads.remove_result(check_id)
        work.record(who, records.purge("REDACTION", check_id, due_time, rule, self.clock.now()))

    async def audit(self, record: BlurApplyLog) -> Sequence[RedactionCheck]:
        """Proves again, on the stored result, what a record says was done. Raises NotFound NO_SUCH_REDACTION."""
        check_id = parse_uuid(record.upload_check_id, "record.upload_check_id")
        async with self.begin() as work:
            held = await work.uploads.result(check_id)
            key = self.keys.get(_owner(check_id)) if held is not None else None
            if held is None or key is None:
                raise NotFound("NO_SUCH_REDACTION", "There is no such result, or it is kept no longer.")
            work.record(check_id, records.signed(records.audited(check_id, self.clock.now()), self.references))
        made = _made(record, *_opened(key, held))
        hashes = [
            (record.output_sha256, sha256(made.image).digest() if made.image else b""),
            (record.text_output_sha256, sha256(made.text.encode()).digest() if made.text else b""),
        ]
        same = RedactionCheck("OUTPUT_HASH", all(said == found for said, found in hashes), "SHA-256")
        async with self.lane.place() as place_:
            return [same, *await place_.run(lambda: self.redactor.prove(made))]


def _owner(check_id: str) -> str:
    """Whose key seals a result: its own."""
    return f"redaction-{check_id}"


def _opened(key: bytes, held: SealedResult) -> tuple[bytes, str]:
    check_id = held.upload_check_id
    image = unseal(key, held.image, place("redaction", check_id, "image")) if held.image else b""
    text = unseal(key, held.text, place("redaction", check_id, "text")) if held.text else b""
    return image, text.decode()


def _made(record: BlurApplyLog, image: bytes, text: str) -> Redacted:
    """What a record says was made, with the bytes that are stored. Raises InvalidInput for one that says nothing."""
    try:
        places = zip(*(record.regions[at::4] for at in range(4)), record.methods, strict=True)
        masks = tuple(Mask(x, y, wide, high, Method(method)) for x, y, wide, high, method in places)
        width, height = record.size if image else (0, 0)
    except (ValueError, TypeError):
        bad = [("record", "RECORD_MALFORMED")]
        raise InvalidInput("RECORD_MALFORMED", "The record cannot be followed.", violations=bad) from None
    numbers = list(record.text_spans)
    return Redacted(
        image=image,
        text=text,
        spans=tuple(zip(numbers[::2], numbers[1::2], strict=False)),
        masks=masks,
        size=(width, height),
        format=record.format,
        algorithm=record.algorithm,
        rule_version=record.rule_version,
        parameters=tuple((each.name, each.value) for each in record.parameters),
        model_ids=tuple(record.model_ids),
        zeroed_bytes=0,
    )


def _choice(number: int) -> Choice:
    if number not in (Choice.BLUR, Choice.CANCEL, Choice.PROCEED):
        bad = [("choice", "UNKNOWN_ENUM")]
        raise InvalidInput("UNKNOWN_ENUM", "A choice is required.", violations=bad)
    return Choice(number)


def _movable(check: UploadCheck, choice: Choice, now: datetime) -> UploadCheck:
    try:
        return check.resolved(choice, now)
    except NotResolvable as problem:
        raise FailedPrecondition(
            problem.reason, "The check cannot be answered so.", violations=[("upload_check_id", problem.reason)]
        ) from None
