"""How people enrol their own face and watch their own identifiers, and how they prove both."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol

from google.protobuf.message import DecodeError, Message

from misuse.case.v1 import subscriber_service_pb2 as consents
from misuse.detector.v1 import enrollment_service_pb2 as messages
from misuse.detector.v1 import events_pb2 as events
from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, ResourceExhausted
from services.chassis.ids import uuid7
from services.chassis.telemetry import logger
from services.chassis.tokens import current_actor
from services.detector.domain.decisions import IdentifierKind, scanned_kind
from services.detector.domain.ownership import (
    FACE,
    Claims,
    FaceTemplate,
    NotProved,
    OwnershipRules,
    OwnershipState,
    Watch,
)
from services.detector.domain.pii import NotWatchable, canonicalise
from services.detector.handlers import records
from services.detector.ports import Begin, Enroller, GalleryFeed, NotEnrollable, SealedTemplate, SealedWatch, Work
from services.detector.sealing import References, Vault
from services.detector.translate import claims_of, stamp

log = logger(__name__)

MOST_PICTURES = 10
MOST_PICTURE_BYTES = 20 * 1024 * 1024
MOST_PICTURES_BYTES = 22 * 1024 * 1024
MOST_VALUE_CHARACTERS = 256
MOST_CLAIMS_BYTES = 4096
EXPIRE_TEMPLATE, EXPIRE_WATCH = "EXPIRE_TEMPLATE", "EXPIRE_WATCH"
DUPLICATE_FACE = "NEEDS_REVIEW"

_NATIONAL = frozenset(
    {
        IdentifierKind.RESIDENT_NUMBER,
        IdentifierKind.FOREIGNER_NUMBER,
        IdentifierKind.PASSPORT,
        IdentifierKind.DRIVER_LICENCE,
    }
)


class MaskValue(Protocol):
    """Masks a value of a kind so that its owner recognises it and nobody else learns it."""

    def __call__(self, kind: IdentifierKind, value: str) -> str: ...


class CheckSignature(Protocol):
    """Whether a provider's key signed these bytes. Raises NotProved UNKNOWN_PROVIDER or BAD_SIGNATURE."""

    def __call__(self, provider: str, key_id: str, content: bytes, signature: bytes) -> None: ...


@dataclass(frozen=True)
class Enrolling:
    """Templates, watched identifiers, proofs."""

    begin: Begin
    vault: Vault
    clock: Clock
    references: References
    rules: OwnershipRules
    enroller: Enroller
    feed: GalleryFeed
    mask: MaskValue
    check_signature: CheckSignature
    executor: Executor
    verifying: asyncio.Lock
    """Held while a face is proved: two accounts with one face must not pass each other."""

    async def enrol_face(self, request: messages.EnrollFaceRequest) -> FaceTemplate:
        """Makes a PENDING template of 1 to 10 pictures of one face."""
        pictures = list(request.pictures)
        _check_pictures(pictures)
        async with self.begin() as work:
            if known := await self._known(work, "EnrollFace", request):
                return (await self._template(work, request.subscriber_id, known)).template
            await _consented(work, request.subscriber_id, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            await self._room_for_template(work, request.subscriber_id)
        try:
            face = await asyncio.get_running_loop().run_in_executor(
                self.executor, partial(self.enroller.enrol, pictures)
            )
        except NotEnrollable as problem:
            raise _bad("pictures", problem.reason, "No template can be made of these pictures.") from None
        now, who = self.clock.now(), request.subscriber_id
        template = FaceTemplate(uuid7(), who, OwnershipState.PENDING, now, None, len(pictures), face.model_ids, 1)
        async with self.begin() as work:
            if known := await self._known(work, "EnrollFace", request):
                return (await self._template(work, who, known)).template
            scopes = await _consented(work, who, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            await self._room_for_template(work, who)
            seal = partial(self.vault.seal, who, "face_template", template.template_id)
            keep_crop = consents.CONSENT_SCOPE_TEMPLATE_CROP in scopes
            await work.templates.add(
                template, seal("vectors", face.vectors), seal("crop", face.crop) if keep_crop else None
            )
            self._record_template(work, template, "")
            await work.remember(current_actor().subject, "EnrollFace", request, template.template_id)
        return template

    async def templates(self, subscriber_id: str, after: str, most: int) -> list[FaceTemplate]:
        """A page of templates, oldest first."""
        async with self.begin() as work:
            return await work.templates.of_subscriber(subscriber_id, after, most)

    async def erase_template(self, subscriber_id: str, template_id: str) -> FaceTemplate:
        """Erases vectors, crop and index entry; an erased one stays as it is."""
        async with self.begin() as work:
            await work.subscribers.get(subscriber_id)
            template = (await self._template(work, subscriber_id, template_id)).template
            if template.state is not OwnershipState.ERASED:
                template = await self.change_template(work, template, OwnershipState.ERASED, "ERASED_BY_REQUEST")
        await self.feed.refresh()
        return template

    async def watch(self, request: messages.WatchIdentifierRequest) -> tuple[Watch, str]:
        """Makes a PENDING watched identifier. Returns it with its masked value."""
        kind = _watchable(request.kind)
        canonical = _canonical(kind, request.value)
        scanned = scanned_kind(kind)
        assert scanned is not None  # _watchable has refused kinds that no rule finds
        now, who = self.clock.now(), request.subscriber_id
        masked = self.mask(kind, request.value)
        watch = Watch(uuid7(), who, kind, OwnershipState.PENDING, now, None, 1)
        async with self.begin() as work:
            if known := await self._known(work, "WatchIdentifier", request):
                held = await self._watch(work, who, known)
                return held.watch, self.masked(held)
            await _consented(work, who, consents.CONSENT_SCOPE_WATCHED_IDENTIFIER)
            if await work.watches.live(who) >= self.rules.most_identifiers:
                raise ResourceExhausted("TOO_MANY_IDENTIFIERS", "As many identifiers are watched as can be.")
            seal = partial(self.vault.seal, who, "watched_identifier", watch.watch_id)
            await work.watches.add(
                watch,
                self.references.value(scanned, canonical),
                seal("sealed_value", canonical.encode()),
                seal("masked_value", masked.encode()),
            )
            self._record_watch(work, watch, "")
            await work.remember(current_actor().subject, "WatchIdentifier", request, watch.watch_id)
        return watch, masked

    async def watches(self, subscriber_id: str, after: str, most: int) -> list[tuple[Watch, str]]:
        """A page of watched identifiers with their masked values, oldest first."""
        async with self.begin() as work:
            held = await work.watches.of_subscriber(subscriber_id, after, most)
        return [(each.watch, self.masked(each)) for each in held]

    async def unwatch(self, subscriber_id: str, watch_id: str) -> Watch:
        """Stops watching; an erased one stays as it is."""
        async with self.begin() as work:
            await work.subscribers.get(subscriber_id)
            watch = (await self._watch(work, subscriber_id, watch_id)).watch
            if watch.state is not OwnershipState.ERASED:
                watch = await self.change_watch(work, watch, OwnershipState.ERASED, "ERASED_BY_REQUEST")
        return watch

    async def verify(self, request: messages.VerifyOwnershipRequest) -> tuple[OwnershipState, datetime | None]:
        """Proves a template or an identifier by a provider's signed claims."""
        claims = self._signed_claims(request)
        if request.WhichOneof("target") == "template_id":
            async with self.verifying:
                await self.feed.refresh()
                result = await self._verify_template(request, claims)
                await self.feed.refresh()
            return result
        return await self._verify_watch(request, claims)

    def masked(self, held: SealedWatch) -> str:
        """The masked value; empty where it is erased."""
        watch = held.watch
        if held.masked_value is None:
            return ""
        opened = self.vault.open(
            watch.subscriber_id, "watched_identifier", watch.watch_id, "masked_value", held.masked_value
        )
        return (opened or b"").decode()

    async def change_template(
        self, work: Work, template: FaceTemplate, state: OwnershipState, reason: str, verifier: str = ""
    ) -> FaceTemplate:
        """Moves a template to another state, with its record, its event and its due row."""
        before = template.state.name
        changed = replace(template, state=state, version=template.version + 1)
        await work.templates.change(changed)
        self._record_template(work, changed, before, reason, verifier)
        if state is OwnershipState.ERASED:
            await work.cancel(EXPIRE_TEMPLATE, template.template_id)
            gone = events.TemplateErased(template_id=template.template_id, subscriber_id=template.subscriber_id)
            work.event(template.subscriber_id, gone)
        return changed

    async def change_watch(
        self, work: Work, watch: Watch, state: OwnershipState, reason: str, verifier: str = ""
    ) -> Watch:
        """Moves a watched identifier to another state, with its record and its due row."""
        before = watch.state.name
        changed = replace(watch, state=state, version=watch.version + 1)
        await work.watches.change(changed)
        self._record_watch(work, changed, before, reason, verifier)
        if state is OwnershipState.ERASED:
            await work.cancel(EXPIRE_WATCH, watch.watch_id)
        return changed

    async def expire_template(self, template_id: str) -> None:
        """What a due row does: ends a proof whose time has come."""
        async with self.begin() as work:
            held = await work.templates.get(template_id)
            if held is None or held.template.state is not OwnershipState.VERIFIED:
                return
            if held.template.expire_time is not None and held.template.expire_time <= self.clock.now():
                await self.change_template(work, held.template, OwnershipState.EXPIRED, "PROOF_RAN_OUT")
        await self.feed.refresh()

    async def expire_watch(self, watch_id: str) -> None:
        """What a due row does: ends a proof whose time has come."""
        async with self.begin() as work:
            held = await work.watches.get(watch_id)
            if held is None or held.watch.state is not OwnershipState.VERIFIED:
                return
            if held.watch.expire_time is not None and held.watch.expire_time <= self.clock.now():
                await self.change_watch(work, held.watch, OwnershipState.EXPIRED, "PROOF_RAN_OUT")

    async def _room_for_template(self, work: Work, subscriber_id: str) -> None:
        if await work.templates.live(subscriber_id) >= self.rules.most_templates:
            raise ResourceExhausted("TOO_MANY_TEMPLATES", "There are as many templates as can be.")

    async def _known(self, work: Work, method: str, request: Message) -> str | None:
        return await work.recall(current_actor().subject, method, request)

    async def _template(self, work: Work, subscriber_id: str, template_id: str) -> SealedTemplate:
        held = await work.templates.get(template_id)
        if held is None or held.template.subscriber_id != subscriber_id:
            raise NotFound("NO_SUCH_TEMPLATE", "There is no such template.")
        return held

    async def _watch(self, work: Work, subscriber_id: str, watch_id: str) -> SealedWatch:
        held = await work.watches.get(watch_id)
        if held is None or held.watch.subscriber_id != subscriber_id:
            raise NotFound("NO_SUCH_IDENTIFIER", "There is no such watched identifier.")
        return held

    def _signed_claims(self, request: messages.VerifyOwnershipRequest) -> Claims:
        if len(request.claims) > MOST_CLAIMS_BYTES or request.WhichOneof("target") is None:
            raise _bad("claims", "MALFORMED", "The claims cannot be read.")
        try:
            message = messages.OwnershipClaims.FromString(request.claims)
            self.check_signature(message.provider, message.key_id, request.claims, request.signature)
        except DecodeError:
            raise _bad("claims", "MALFORMED", "The claims cannot be read.") from None
        except NotProved as problem:
            raise _refused(problem) from None
        return claims_of(message)

    async def _verify_template(
        self, request: messages.VerifyOwnershipRequest, claims: Claims
    ) -> tuple[OwnershipState, datetime | None]:
        now, who = self.clock.now(), request.subscriber_id
        async with self.begin() as work:
            await _consented(work, who, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            held = await self._template(work, who, request.template_id)
            template = held.template
            _provable(template.state)
            await self._accept(work, claims, FACE, who, template.template_id, now)
            if held.vectors is None or await self._shown_by_another(held):
                self._record_template(work, template, template.state.name, DUPLICATE_FACE, claims.provider)
                return template.state, template.expire_time
            until = self.rules.valid_until(FACE, now)
            proved = replace(template, expire_time=until)
            await self.change_template(work, proved, OwnershipState.VERIFIED, "", claims.provider)
            await work.schedule(EXPIRE_TEMPLATE, template.template_id, until)
            work.event(
                who,
                events.TemplateVerified(template_id=template.template_id, subscriber_id=who, expire_time=stamp(until)),
            )
        return OwnershipState.VERIFIED, until

    async def _shown_by_another(self, held: SealedTemplate) -> bool:
        template = held.template
        opened = self.vault.open(
            template.subscriber_id, "face_template", template.template_id, "vectors", held.vectors or b""
        )
        return opened is not None and await asyncio.get_running_loop().run_in_executor(
            self.executor, partial(self.enroller.same_face_elsewhere, opened, template.subscriber_id)
        )

    async def _verify_watch(
        self, request: messages.VerifyOwnershipRequest, claims: Claims
    ) -> tuple[OwnershipState, datetime | None]:
        now, who = self.clock.now(), request.subscriber_id
        async with self.begin() as work:
            await _consented(work, who, consents.CONSENT_SCOPE_WATCHED_IDENTIFIER)
            held = await self._watch(work, who, request.watch_id)
            watch = held.watch
            _provable(watch.state)
            await self._accept(work, claims, watch.kind.name, who, watch.watch_id, now)
            self._same_value(held, claims)
            until = self.rules.valid_until(watch.kind.name, now)
            proved = replace(watch, expire_time=until)
            await self.change_watch(work, proved, OwnershipState.VERIFIED, "", claims.provider)
            await work.schedule(EXPIRE_WATCH, watch.watch_id, until)
        return OwnershipState.VERIFIED, until

    async def _accept(self, work: Work, claims: Claims, kind: str, who: str, target_id: str, now: datetime) -> None:
        try:
            self.rules.check(claims, kind, who, target_id, now)
        except NotProved as problem:
            raise _refused(problem) from None
        ref = self.references.nonce(claims.provider, claims.nonce)
        until = (claims.expire_time or now) + 2 * self.rules.skew
        if not await work.first_use(ref, until):
            raise _refused(NotProved("NONCE_REUSED"))

    def _same_value(self, held: SealedWatch, claims: Claims) -> None:
        """Raises PermissionDenied unless the proved value is the watched one, in whatever form."""
        scanned = scanned_kind(held.watch.kind)
        try:
            same = scanned is not None and held.value_ref == self.references.value(
                scanned, canonicalise(scanned, claims.value)
            )
        except NotWatchable:
            same = False
        if not same:
            raise _refused(NotProved("VALUE_DIFFERS"))

    def _record_template(
        self, work: Work, template: FaceTemplate, before: str, reason: str = "", verifier: str = ""
    ) -> None:
        record = records.ownership(
            "face_template",
            template.template_id,
            template.version,
            FACE,
            (before, template.state.name),
            self.clock.now(),
            reason=reason,
            verifier=verifier,
        )
        work.record(template.subscriber_id, records.signed(record, self.references))

    def _record_watch(self, work: Work, watch: Watch, before: str, reason: str = "", verifier: str = "") -> None:
        record = records.ownership(
            "watched_identifier",
            watch.watch_id,
            watch.version,
            watch.kind.name,
            (before, watch.state.name),
            self.clock.now(),
            reason=reason,
            verifier=verifier,
        )
        work.record(watch.subscriber_id, records.signed(record, self.references))


async def _consented(work: Work, subscriber_id: str, scope: int) -> frozenset[int]:
    """The consents in force, with the subscriber locked. Raises FailedPrecondition CONSENT_MISSING or SUSPENDED."""
    subscriber = await work.subscribers.get(subscriber_id)
    if subscriber is None or scope not in subscriber.consents:
        raise FailedPrecondition(
            "CONSENT_MISSING",
            "The subscriber has not consented to this.",
            violations=[("subscriber_id", "CONSENT_MISSING")],
        )
    if subscriber.suspended:
        raise FailedPrecondition("SUBSCRIBER_SUSPENDED", "The subscriber's processing is stopped.")
    return subscriber.consents


def _check_pictures(pictures: Sequence[bytes]) -> None:
    if not 1 <= len(pictures) <= MOST_PICTURES:
        raise _bad("pictures", "COUNT", "1 to 10 pictures are needed.")
    if max(map(len, pictures)) > MOST_PICTURE_BYTES or sum(map(len, pictures)) > MOST_PICTURES_BYTES:
        raise _bad("pictures", "IMAGE_TOO_LARGE", "The pictures are too large.")


def _watchable(kind: int) -> IdentifierKind:
    try:
        known = IdentifierKind(kind)
    except ValueError:
        raise _bad("kind", "UNKNOWN_ENUM", "The kind is not known.") from None
    if known in _NATIONAL:
        raise _bad("kind", "NATIONAL_IDENTIFIER", "National identifiers are never stored or watched.")
    if scanned_kind(known) is None:
        raise _bad("kind", "MALFORMED", "This kind cannot be watched.")
    return known


def _canonical(kind: IdentifierKind, value: str) -> str:
    scanned = scanned_kind(kind)
    if scanned is None or not 1 <= len(value) <= MOST_VALUE_CHARACTERS:
        raise _bad("value", "MALFORMED", "The value has not the form of its kind.")
    try:
        return canonicalise(scanned, value)
    except NotWatchable as problem:
        national = problem.reason == "national_identifier"
        reason = "NATIONAL_IDENTIFIER" if national else "MALFORMED"
        raise _bad("value", reason, "The value cannot be watched.") from None


def _provable(state: OwnershipState) -> None:
    if state is OwnershipState.ERASED:
        raise NotFound("NO_SUCH_TARGET", "There is nothing to prove.")
    if state is OwnershipState.SUSPENDED:
        raise FailedPrecondition("SUBSCRIBER_SUSPENDED", "The subscriber's processing is stopped.")


def _bad(field: str, reason: str, message: str) -> InvalidInput:
    return InvalidInput(reason, message, violations=[(field, reason)])


def _refused(problem: NotProved) -> PermissionDenied:
    return PermissionDenied(problem.reason, "The assertion does not prove this.")
