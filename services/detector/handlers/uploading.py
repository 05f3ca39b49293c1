"""How accounts are linked, and how an upload is looked at before it goes out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from typing import Any, TypeVar

from misuse.case.v1 import subscriber_service_pb2 as consents
from misuse.detector.v1 import events_pb2 as events
from misuse.detector.v1 import upload_service_pb2 as messages
from services.chassis.clock import Clock
from services.chassis.errors import (
    DeadlineExceeded,
    InvalidInput,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from services.chassis.ids import uuid7
from services.chassis.telemetry import stage
from services.chassis.tokens import current_actor
from services.detector.domain.ownership import OwnershipState
from services.detector.domain.pii import TextTooLong
from services.detector.domain.signals import usable_id
from services.detector.domain.uploads import (
    FACES,
    TEXT_IN_PICTURE,
    CheckState,
    LinkedAccount,
    Seen,
    UploadCheck,
    UploadRules,
    Warned,
    judge,
)
from services.detector.handlers import uploading_records as records
from services.detector.handlers.enrolling import consented
from services.detector.ports import (
    Begin,
    SealedAccount,
    SealedCheck,
    Subscriber,
    UnreadableUpload,
    UploadEye,
    Work,
)
from services.detector.sealing import References, Vault
from services.detector.translate import stamp

Result = TypeVar("Result")

MOST_HANDLE_CHARACTERS = 128
MOST_IMAGE_BYTES = 20 * 1024 * 1024
MOST_TEXT_BYTES = 256 * 1024
MOST_OWN_TEMPLATES = 100
NO_ANSWER, PURGE_CHECK, PURGE_RESULT = "UPLOAD_NO_ANSWER", "UPLOAD_PURGE_CHECK", "UPLOAD_PURGE_RESULT"
SCOPE = consents.CONSENT_SCOPE_LINKED_ACCOUNT
_RETRY_MS = 500


class UploadLane:
    """Places for uploads that are looked at now: who finds none free is refused at once instead of waiting."""

    def __init__(self, executor: Executor, places: int) -> None:
        """`executor` has a thread for each place and serves nobody else."""
        self._executor = executor
        self.free = places
        """Places that nobody has."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A place until the block ends and its last run is over. Raises ResourceExhausted UPLOADS_BUSY."""
        if self.free <= 0:
            raise ResourceExhausted("UPLOADS_BUSY", "Too many uploads are looked at now.", retry_after_ms=_RETRY_MS)
        self.free -= 1
        place = Place(self._executor)
        try:
            yield place
        finally:
            if place.running is None:
                self.free += 1
            else:
                place.running.add_done_callback(self._freed)

    def _freed(self, done: asyncio.Future[Any]) -> None:
        self.free += 1
        if not done.cancelled():
            done.exception()  # Whoever waited for it has it, or has gone.


class Place:
    """A thread for one upload."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self.running: asyncio.Future[Any] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing runs in it."""
        return self.running is None or self.running.done()

    async def run(self, heavy: Callable[[], Result], seconds: float | None = None) -> Result:
        """Runs what is heavy beside the event loop. Raises TimeoutError after so long; a thread runs on to its end,
        and the place is taken until then."""
        running = asyncio.get_running_loop().run_in_executor(self._executor, heavy)
        self.running = running
        return await asyncio.wait_for(asyncio.shield(running), seconds)


@dataclass(frozen=True)
class Linking:
    """The accounts of a subscriber on platforms."""

    begin: Begin
    vault: Vault
    clock: Clock
    references: References
    rules: UploadRules

    async def link(self, request: messages.LinkAccountRequest) -> tuple[LinkedAccount, str]:
        """Links an account, or takes over another choice for one that is linked. Returns it with its name."""
        who, handle = request.subscriber_id, request.handle.strip()
        _check(usable_id(request.platform) and len(request.platform) <= 64, "platform", "ID_MALFORMED")
        _check(0 < len(handle) <= MOST_HANDLE_CHARACTERS and handle.isprintable(), "handle", "MALFORMED")
        ref = self.references.handle(who, request.platform, handle)
        async with self.begin() as work:
            caller = current_actor().subject
            if known := await work.recall(caller, "LinkAccount", request):
                return await self._found(work, who, known)
            await consented(work, who, SCOPE)
            held = await work.uploads.account_named(ref)
            account = await (self._changed(work, held, request) if held else self._added(work, request, handle, ref))
            await work.remember(caller, "LinkAccount", request, account.account_id)
        return account, handle

    async def _added(
        self, work: Work, request: messages.LinkAccountRequest, handle: str, ref: bytes
    ) -> LinkedAccount:
        who = request.subscriber_id
        if await work.uploads.count_accounts(who) >= self.rules.most_accounts:
            raise ResourceExhausted("TOO_MANY_ACCOUNTS", "As many accounts are linked as can be.")
        account = LinkedAccount(uuid7(), who, request.platform, ref, request.warn_about_others, self.clock.now())
        sealed = self.vault.seal(who, "linked_account", account.account_id, "handle", handle.encode())
        await work.uploads.add_account(SealedAccount(account, sealed))
        self._record(work, account, "", "LINKED", "OTHERS_TOO" if account.warn_about_others else "")
        return account

    async def _changed(self, work: Work, held: SealedAccount, request: messages.LinkAccountRequest) -> LinkedAccount:
        account = held.account
        if account.warn_about_others == request.warn_about_others:
            return account
        account = replace(account, warn_about_others=request.warn_about_others, version=account.version + 1)
        await work.uploads.change_account(account)
        self._record(work, account, "LINKED", "LINKED", "OTHERS_TOO" if account.warn_about_others else "OWN_ONLY")
        return account

    async def page(self, subscriber_id: str, after: str, most: int) -> list[tuple[LinkedAccount, str]]:
        """A page of accounts with their names, oldest first."""
        async with self.begin() as work:
            held = await work.uploads.accounts(subscriber_id, after, most)
        return [(each.account, self._handle(each)) for each in held]

    async def unlink(self, subscriber_id: str, account_id: str) -> None:
        """Forgets an account; one that is not there changes nothing."""
        async with self.begin() as work:
            held = await work.uploads.account(account_id)
            if held is not None and held.account.subscriber_id == subscriber_id:
                await self.drop(work, held.account, "UNLINKED_BY_REQUEST")

    async def drop(self, work: Work, account: LinkedAccount, reason: str) -> None:
        """Deletes an account with its record."""
        await work.uploads.remove_account(account.account_id)
        gone = replace(account, version=account.version + 1)
        self._record(work, gone, "LINKED", "UNLINKED", reason)

    async def _found(self, work: Work, who: str, account_id: str) -> tuple[LinkedAccount, str]:
        held = await work.uploads.account(account_id)
        if held is None or held.account.subscriber_id != who:
            raise NotFound("NO_SUCH_ACCOUNT", "The account was unlinked meanwhile.")
        return held.account, self._handle(held)

    def _handle(self, held: SealedAccount) -> str:
        account = held.account
        opened = self.vault.open(account.subscriber_id, "linked_account", account.account_id, "handle", held.handle)
        return (opened or b"").decode()

    def _record(self, work: Work, account: LinkedAccount, before: str, after: str, reason: str) -> None:
        record = records.account(account, (before, after), reason, self.clock.now())
        work.record(account.subscriber_id, records.signed(record, self.references))


@dataclass(frozen=True)
class Asked:
    """What is known of who asks before anything is looked at."""

    subscriber: Subscriber
    account: LinkedAccount
    own: frozenset[str]
    """Templates whose proof holds now."""


@dataclass(frozen=True)
class Checking:
    """Checks before uploads. The content lives in the call's memory alone."""

    begin: Begin
    vault: Vault
    clock: Clock
    references: References
    rules: UploadRules
    eye: UploadEye
    lane: UploadLane
    gallery_loaded: Callable[[], bool]

    async def check(
        self, request: messages.CheckUploadRequest, seconds: float | None
    ) -> tuple[UploadCheck, Warned]:
        """Looks at an upload; `seconds` are what the caller waits at most, None for no bound."""
        _check_content(request.image, request.text)
        started = time.monotonic()
        longest = self.rules.longest_ms if seconds is None else min(1000 * seconds, self.rules.longest_ms)
        ends = started + (longest - self.rules.keep_ms) / 1000
        if longest < self.rules.keep_ms + self.rules.least_ms:
            raise DeadlineExceeded("DEADLINE_TOO_SHORT", "There is no time to look at anything.")
        asked_as = _without_content(request)
        async with self.lane.place() as place:
            async with self.begin() as work:
                if known := await self._known(work, asked_as):
                    return known
                asked = await self._asked(work, request)
            seen = await self._look(place, request, asked, ends)
            took_ms = round(1000 * (time.monotonic() - started))
            return await self._keep(request, asked_as, asked, seen, took_ms)

    async def _known(
        self, work: Work, asked_as: messages.CheckUploadRequest
    ) -> tuple[UploadCheck, Warned] | None:
        known = await work.recall(current_actor().subject, "CheckUpload", asked_as)
        return None if known is None else await opened_check(work, self.vault, asked_as.subscriber_id, known)

    async def _asked(self, work: Work, request: messages.CheckUploadRequest) -> Asked:
        who, now = request.subscriber_id, self.clock.now()
        subscriber = await consented(work, who, SCOPE)
        held = await work.uploads.account(request.account_id)
        if held is None or held.account.subscriber_id != who:
            raise NotFound("NO_SUCH_ACCOUNT", "There is no such linked account.")
        if await work.uploads.checks_since(who, now - timedelta(hours=1)) >= self.rules.checks_an_hour:
            raise ResourceExhausted("TOO_MANY_CHECKS", "Too many uploads were checked within an hour.")
        own: frozenset[str] = frozenset()
        if request.image and consents.CONSENT_SCOPE_FACE_TEMPLATE in subscriber.consents:
            if not self.gallery_loaded():
                raise Unavailable("GALLERY_NOT_LOADED", "The service is starting.")
            templates = await work.templates.of_subscriber(who, "", MOST_OWN_TEMPLATES)
            own = frozenset(
                each.template_id
                for each in templates
                if each.state is OwnershipState.VERIFIED and each.expire_time is not None and each.expire_time > now
            )
        return Asked(subscriber, held.account, own)

    async def _look(
        self, place: Place, request: messages.CheckUploadRequest, asked: Asked, ends: float
    ) -> Seen:
        """What is seen until then: texts, then faces, then text in the picture, each where there is time for it."""
        try:
            with stage("upload_open"):
                look = await place.run(lambda: self.eye.look(request.image, request.text), ends - time.monotonic())
        except TimeoutError:
            raise DeadlineExceeded("DEADLINE_EXCEEDED", "The upload took too long to open.") from None
        except UnreadableUpload as problem:
            raise _bad("image", problem.reason) from None
        except TextTooLong:
            raise _bad("text", "TEXT_TOO_LARGE") from None
        if not request.image:
            return look.seen
        skipped = [] if await self._step("upload_faces", place, lambda: look.find_faces(asked.own), ends) else [FACES]
        left = ends - time.monotonic()
        if look.reads and left >= self.rules.reading_ms / 1000:
            seconds = left - self.rules.line_ms / 1000
            await self._step("upload_read", place, lambda: look.read_text(seconds), ends)
        skipped += [] if look.all_read else [TEXT_IN_PICTURE]
        seen = replace(look.seen, skipped=tuple(skipped))
        if place.idle:
            await place.run(look.forget)
        return seen

    async def _step(self, name: str, place: Place, heavy: Callable[[], None], ends: float) -> bool:
        """Whether a step came to its end in time; one that did not goes on alone, and nobody waits for it."""
        try:
            with stage(name):
                await place.run(heavy, ends - time.monotonic())
        except TimeoutError:
            return False
        return True

    async def _keep(
        self,
        request: messages.CheckUploadRequest,
        asked_as: messages.CheckUploadRequest,
        asked: Asked,
        seen: Seen,
        took_ms: int,
    ) -> tuple[UploadCheck, Warned]:
        """Keeps what was found, warns, and answers."""
        who, now = request.subscriber_id, self.clock.now()
        warned = judge(seen, self.rules, minor=asked.subscriber.minor, others=asked.account.warn_about_others)
        check = self._new_check(request, asked_as, seen, warned)
        async with self.begin() as work:
            if known := await self._known(work, asked_as):
                return known
            await consented(work, who, SCOPE)
            sealed = self.vault.seal(who, "upload_check", check.upload_check_id, "findings", warned.to_bytes())
            await work.uploads.add_check(SealedCheck(check, sealed))
            record = records.warning(check, warned, seen, self.rules.name, took_ms)
            work.record(who, records.signed(record, self.references))
            if check.answer_by is not None:
                self._warn(work, check, warned)
                await work.schedule(NO_ANSWER, check.upload_check_id, check.answer_by)
            due_time, check_id = now + self.rules.keep_checks, check.upload_check_id
            await work.schedule(PURGE_CHECK, check_id, due_time)
            work.record(who, records.purge_due("UPLOAD_CHECK", check_id, due_time, "CHECK_RETENTION", now))
            await work.remember(current_actor().subject, "CheckUpload", asked_as, check.upload_check_id)
        return check, warned

    def _new_check(
        self,
        request: messages.CheckUploadRequest,
        asked_as: messages.CheckUploadRequest,
        seen: Seen,
        warned: Warned,
    ) -> UploadCheck:
        check_id, now, found = uuid7(), self.clock.now(), bool(warned.findings)
        return UploadCheck(
            upload_check_id=check_id,
            subscriber_id=request.subscriber_id,
            account_id=request.account_id,
            case_id=uuid7() if found else "",
            state=CheckState.SHOWN if found else CheckState.CLEAN,
            image_ref=self.references.upload(check_id, "image", asked_as.image) if request.image else b"",
            text_ref=self.references.upload(check_id, "text", sha256(request.text.encode()).digest())
            if request.text
            else b"",
            skipped=seen.skipped,
            create_time=now,
            answer_by=now + self.rules.answer if found else None,
        )

    def _warn(self, work: Work, check: UploadCheck, warned: Warned) -> None:
        work.event(
            check.subscriber_id,
            events.UploadWarned(
                upload_check_id=check.upload_check_id,
                case_id=check.case_id,
                subscriber_id=check.subscriber_id,
                occur_time=stamp(check.create_time),
                severity=records.severity(warned.severity),
            ),
        )


async def opened_check(work: Work, vault: Vault, subscriber_id: str, check_id: str) -> tuple[UploadCheck, Warned]:
    """A subscriber's own check with its findings, locked. Raises NotFound."""
    held = await work.uploads.check(check_id)
    if held is not None and held.check.subscriber_id == subscriber_id:
        opened = vault.open(subscriber_id, "upload_check", check_id, "findings", held.findings)
        if opened is not None:
            return held.check, Warned.from_bytes(opened)
    raise NotFound("NO_SUCH_CHECK", "There is no such check.")


def _without_content(request: messages.CheckUploadRequest) -> messages.CheckUploadRequest:
    """The request as it is remembered: the picture by its SHA-256, of which only a keyed hash is kept."""
    slim = messages.CheckUploadRequest(
        subscriber_id=request.subscriber_id, request_id=request.request_id, account_id=request.account_id
    )
    slim.image = sha256(request.image).digest() if request.image else b""
    slim.text = sha256(request.text.encode()).hexdigest() if request.text else ""
    return slim


def _check_content(image: bytes, text: str) -> None:
    _check(bool(image or text), "image", "CONTENT_MISSING")
    _check(len(image) <= MOST_IMAGE_BYTES, "image", "IMAGE_TOO_LARGE")
    _check(len(text.encode()) <= MOST_TEXT_BYTES, "text", "TEXT_TOO_LARGE")


def _check(fine: bool, field: str, reason: str) -> None:
    if not fine:
        raise _bad(field, reason)


def _bad(field: str, reason: str) -> InvalidInput:
    return InvalidInput(reason, "The upload cannot be looked at.", violations=[(field, reason)])
