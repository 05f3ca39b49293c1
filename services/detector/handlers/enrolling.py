"""How people enrol their own face and watch their own identifiers, and how they prove both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from misuse.case.v1 import subscriber_service_pb2 as consents
from misuse.detector.v1 import enrollment_service_pb2 as messages
from misuse.detector.v1 import events_pb2 as events
from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound, PermissionDenied, ResourceExhausted
from services.chassis.ids import uuid7
from services.chassis.tokens import current_actor
from services.detector.domain.decisions import IdentifierKind, scanned_kind
from services.detector.domain.ownership import (
    Claims,
    DuplicateState,
    FaceTemplate,
    NotProved,
    OwnershipRules,
    OwnershipState,
    TemplateSource,
    Watch,
    check_move,
)
from services.detector.domain.pii import NotWatchable, canonicalise
from services.detector.handlers import records
from services.detector.handlers.duplicates import Asking, Claim
from services.detector.ports import (
    Begin,
    EnrolledFace,
    Enroller,
    GalleryFeed,
    NotEnrollable,
    SealedTemplate,
    SealedWatch,
    Subscriber,
    Work,
)
from services.detector.sealing import References, Vault
from services.detector.translate import claims_of, stamp

Result = TypeVar("Result")

MOST_PICTURES = 10
MOST_PICTURE_BYTES = 20 * 1024 * 1024
MOST_PICTURES_BYTES = 22 * 1024 * 1024
MOST_VALUE_CHARACTERS = 256
MOST_CLAIMS_BYTES = 4096
MOST_DEVICE_CHARACTERS = 64
EXPIRE_TEMPLATE, EXPIRE_WATCH = "EXPIRE_TEMPLATE", "EXPIRE_WATCH"
DUPLICATE_FACE = "NEEDS_REVIEW"
_FACES, _IDENTIFIERS = b"prove a face", b"prove an identifier"
"""What only one transaction at a time may do, whatever the replica: two accounts must not pass each other."""

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


@dataclass(frozen=True, slots=True)
class Proof:
    """What an assertion led to. `reason` says why it is not VERIFIED."""

    state: OwnershipState
    expire_time: datetime | None
    reason: str = ""


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
    """Held while a face is proved: those who wait for their turn hold no connection."""
    face_rule_version: str = ""

    async def enrol_face(self, request: messages.EnrollFaceRequest) -> FaceTemplate:
        """Makes a PENDING template of 1 to 10 pictures of one face, or of what a device made of its own."""
        make = self._maker(request)
        async with self.begin() as work:
            if known := await self._known(work, "EnrollFace", request):
                return (await self.template(work, request.subscriber_id, known)).template
            await consented(work, request.subscriber_id, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            await self._room_for_template(work, request.subscriber_id)
        try:
            face = await self.beside(make)
        except NotEnrollable as problem:
            field = "pictures" if request.pictures else "device_template"
            raise _bad(field, problem.reason, "No template can be made of this.") from None
        who = request.subscriber_id
        template = self._new_template(who, face, len(request.pictures))
        async with self.begin() as work:
            if known := await self._known(work, "EnrollFace", request):
                return (await self.template(work, who, known)).template
            scopes = (await consented(work, who, consents.CONSENT_SCOPE_FACE_TEMPLATE)).consents
            await self._room_for_template(work, who)
            seal = partial(self.vault.seal, who, "face_template", template.template_id)
            keep_crop = bool(face.crop) and consents.CONSENT_SCOPE_TEMPLATE_CROP in scopes
            await work.templates.add(
                template, seal("vectors", face.vectors), seal("crop", face.crop) if keep_crop else None
            )
            self.record_template(work, template, "", f"LIVENESS_{face.liveness.name}")
            await work.schedule(EXPIRE_TEMPLATE, template.template_id, template.create_time + self.rules.unproved)
            await work.remember(current_actor().subject, "EnrollFace", request, template.template_id)
        return template

    def _maker(self, request: messages.EnrollFaceRequest) -> Callable[[], EnrolledFace]:
        """What makes the template. Raises InvalidInput unless there are pictures, or a device's template, not both."""
        if bool(request.pictures) == bool(request.device_template):
            raise _bad("pictures", "SOURCE_AMBIGUOUS", "Either pictures are needed or a template of the device.")
        if request.pictures:
            pictures = list(request.pictures)
            check_pictures(pictures, range(1, MOST_PICTURES + 1))
            return partial(self.enroller.enrol, pictures)
        return partial(self.enroller.accept, [(each.model_id, each.vector) for each in request.device_template])

    def _new_template(self, who: str, face: EnrolledFace, pictures: int) -> FaceTemplate:
        return FaceTemplate(
            template_id=uuid7(),
            subscriber_id=who,
            state=OwnershipState.PENDING,
            create_time=self.clock.now(),
            expire_time=None,
            pictures=pictures,
            model_ids=face.model_ids,
            version=1,
            source=TemplateSource.PICTURES if pictures else TemplateSource.DEVICE,
            liveness=face.liveness,
        )

    async def beside(self, heavy: Callable[[], Result]) -> Result:
        """Runs what is heavy beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, heavy)

    async def templates(self, subscriber_id: str, after: str, most: int) -> tuple[list[FaceTemplate], list[str]]:
        """A page of templates, oldest first, and the ids of those about which people are asked."""
        async with self.begin() as work:
            found = await work.templates.of_subscriber(subscriber_id, after, most)
            asked = [each.template_id for each in found if await self._needs_review(work, each)]
        return found, asked

    async def _needs_review(self, work: Work, template: FaceTemplate) -> bool:
        if template.state is not OwnershipState.PENDING:
            return False
        asked = await work.proving.duplicates(template.template_id)
        return any(each.state is DuplicateState.OPEN for each in asked)

    async def erase_template(self, subscriber_id: str, template_id: str) -> FaceTemplate:
        """Erases vectors, crop and index entry; an erased one stays as it is."""
        async with self.begin() as work:
            await work.subscribers.get(subscriber_id)
            template = (await self.template(work, subscriber_id, template_id)).template
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
            await consented(work, who, consents.CONSENT_SCOPE_WATCHED_IDENTIFIER)
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
            await work.schedule(EXPIRE_WATCH, watch.watch_id, now + self.rules.unproved)
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

    async def verify(self, request: messages.VerifyOwnershipRequest) -> Proof:
        """Proves a template or an identifier by a provider's signed claims."""
        claims = self._signed_claims(request)
        device_ref = self._device(request.subscriber_id, request.device_id)
        if request.WhichOneof("target") == "watch_id":
            return await self._verify_watch(request, claims, device_ref)
        async with self.verifying:
            proof, claim = await self._verify_template(request, claims, device_ref)
        if claim is not None:
            await self._ask_people(claim)
        await self.feed.refresh()
        return proof

    def _device(self, subscriber_id: str, device_id: str) -> bytes:
        if len(device_id) > MOST_DEVICE_CHARACTERS:
            raise _bad("device_id", "ID_MALFORMED", "A device id has at most 64 characters.")
        return self.references.device(subscriber_id, device_id) if device_id else b""

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
        """Moves a template to another state, with its record, its event and its due row. Raises IllegalMove."""
        check_move(template.state, state)
        until = self._ends(template.expire_time, state)
        changed = replace(template, state=state, expire_time=until, version=template.version + 1)
        await work.templates.change(changed)
        self.record_template(work, changed, template.state.name, reason, verifier)
        await self._remind(work, EXPIRE_TEMPLATE, template.template_id, state, until)
        if state is OwnershipState.ERASED:
            gone = events.TemplateErased(template_id=template.template_id, subscriber_id=template.subscriber_id)
            work.event(template.subscriber_id, gone)
        return changed

    async def change_watch(
        self, work: Work, watch: Watch, state: OwnershipState, reason: str, verifier: str = ""
    ) -> Watch:
        """Moves a watched identifier to another state, with its record and its due row. Raises IllegalMove."""
        check_move(watch.state, state)
        until = self._ends(watch.expire_time, state)
        changed = replace(watch, state=state, expire_time=until, version=watch.version + 1)
        await work.watches.change(changed)
        self._record_watch(work, changed, watch.state.name, reason, verifier)
        await self._remind(work, EXPIRE_WATCH, watch.watch_id, state, until)
        return changed

    def _ends(self, until: datetime | None, state: OwnershipState) -> datetime | None:
        """When the proof ends: a proof that is over ended now at the latest."""
        now = self.clock.now()
        return min(until or now, now) if state is OwnershipState.EXPIRED else until

    async def _remind(
        self, work: Work, kind: str, entity_id: str, state: OwnershipState, until: datetime | None
    ) -> None:
        """Sets what is due next: the end of a proof, the erasure of what is not proved again."""
        if state is OwnershipState.ERASED:
            await work.cancel(kind, entity_id)
        elif state is OwnershipState.VERIFIED and until is not None:
            await work.schedule(kind, entity_id, until)
        elif state is OwnershipState.EXPIRED and until is not None:
            await work.schedule(kind, entity_id, until + self.rules.lapsed)

    async def expire_template(self, template_id: str) -> None:
        """What a due row does: ends a proof whose time has come, erases what nobody proved."""
        async with self.begin() as work:
            held = await work.templates.get(template_id)
            if held is not None and (next_ := self._overdue(held.template)):
                await self.change_template(work, held.template, *next_)
        await self.feed.refresh()

    async def expire_watch(self, watch_id: str) -> None:
        """What a due row does: ends a proof whose time has come, erases what nobody proved."""
        async with self.begin() as work:
            held = await work.watches.get(watch_id)
            if held is not None and (next_ := self._overdue(held.watch)):
                await self.change_watch(work, held.watch, *next_)

    def _overdue(self, proof: FaceTemplate | Watch) -> tuple[OwnershipState, str] | None:
        """Where time alone moves a proof now, and why; None where it stays."""
        now, until, state = self.clock.now(), proof.expire_time, proof.state
        if state is OwnershipState.PENDING and proof.create_time + self.rules.unproved <= now:
            return OwnershipState.ERASED, "NEVER_PROVED"
        if state is OwnershipState.VERIFIED and until is not None and until <= now:
            return OwnershipState.EXPIRED, "PROOF_RAN_OUT"
        if state is OwnershipState.EXPIRED and until is not None and until + self.rules.lapsed <= now:
            return OwnershipState.ERASED, "NOT_PROVED_AGAIN"
        return None

    async def _room_for_template(self, work: Work, subscriber_id: str) -> None:
        if await work.templates.live(subscriber_id) >= self.rules.most_templates:
            raise ResourceExhausted("TOO_MANY_TEMPLATES", "There are as many templates as can be.")

    async def _known(self, work: Work, method: str, request: Message) -> str | None:
        return await work.recall(current_actor().subject, method, request)

    async def template(self, work: Work, subscriber_id: str, template_id: str) -> SealedTemplate:
        """A subscriber's own template, locked. Raises NotFound."""
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
        self, request: messages.VerifyOwnershipRequest, claims: Claims, device_ref: bytes
    ) -> tuple[Proof, Claim | None]:
        """The proof, and whose face it may be instead."""
        now, who = self.clock.now(), request.subscriber_id
        async with self.begin() as work:
            await work.one_at_a_time(_FACES)
            await self.feed.refresh()
            owner = await consented(work, who, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            held = await self.template(work, who, request.template_id)
            template = held.template
            self._check_provable(template, claims)
            await self._accept(work, claims, template.kind, owner, template.template_id, now)
            claim = await self.shown_by_another(work, held)
            if claim is not None:
                self.record_template(work, template, template.state.name, DUPLICATE_FACE, claims.provider)
                return Proof(template.state, template.expire_time, DUPLICATE_FACE), claim
            until = self.rules.valid_until(template.kind, now)
            proved = replace(template, expire_time=until, device_ref=device_ref)
            await self.change_template(work, proved, OwnershipState.VERIFIED, claims.proves, claims.provider)
            await self._note_device(work, who, device_ref, now)
            work.event(
                who,
                events.TemplateVerified(template_id=template.template_id, subscriber_id=who, expire_time=stamp(until)),
            )
        return Proof(OwnershipState.VERIFIED, until), None

    def _check_provable(self, template: FaceTemplate, claims: Claims) -> None:
        _provable(template.state)
        if not self.enroller.current(template.model_ids):
            raise _not_yet("NEW_ENROLMENT_NEEDED", "It was made for a model that is no longer used.")
        if self.rules.challenge_needed(template.liveness, claims):
            raise _not_yet("LIVENESS_NEEDED", "A pose challenge must be passed first.")

    async def shown_by_another(self, work: Work, held: SealedTemplate) -> Claim | None:
        """Whose face the template shows as well, apart from those whom reviewers told apart from its owner."""
        template = held.template
        asked = await work.proving.duplicates(template.template_id)
        apart = {each.holder_id for each in asked if each.state is DuplicateState.ADMITTED}
        vectors = self.opened(template, "vectors", held.vectors)
        find = partial(self.enroller.same_face_elsewhere, vectors, template.subscriber_id, apart)
        found = await self.beside(find)
        if found is None:
            return None
        crop = self.opened(template, "crop", held.crop) if held.crop else b""
        return Claim(template, *found, crop, self.enroller.model_id, self.face_rule_version)

    def opened(self, template: FaceTemplate, column: str, sealed: bytes | None) -> bytes:
        """A sealed column of a template. Raises NotFound where its key is gone."""
        found = self.vault.open(template.subscriber_id, "face_template", template.template_id, column, sealed or b"")
        if found is None:
            raise NotFound("NO_SUCH_TEMPLATE", "There is no such template.")
        return found

    async def _ask_people(self, claim: Claim) -> None:
        """Makes a review item, once for each template and holder. In a transaction of its own, for it locks both
        subscribers, in the order that everybody keeps."""
        template = claim.template
        async with self.begin() as work:
            owners = await work.subscribers.lock({template.subscriber_id, claim.holder_id})
            asked = await work.proving.duplicates(template.template_id)
            if len(owners) == 2 and all(each.holder_id != claim.holder_id for each in asked):
                await Asking(self.vault, self.references).ask(work, claim, self.clock.now())

    async def _note_device(self, work: Work, who: str, device_ref: bytes, now: datetime) -> None:
        """A device on which something was proved is a known one."""
        if device_ref:
            await work.proving.note_device(who, device_ref, now)

    async def _verify_watch(
        self, request: messages.VerifyOwnershipRequest, claims: Claims, device_ref: bytes
    ) -> Proof:
        now, who = self.clock.now(), request.subscriber_id
        async with self.begin() as work:
            await work.one_at_a_time(_IDENTIFIERS)
            also = await work.watches.also_held(request.watch_id)
            await work.subscribers.lock({who, *(holder for holder, _ in also)})
            owner = await consented(work, who, consents.CONSENT_SCOPE_WATCHED_IDENTIFIER)
            held = await self._watch(work, who, request.watch_id)
            watch = held.watch
            _provable(watch.state)
            await self._accept(work, claims, watch.kind.name, owner, watch.watch_id, now)
            self._same_value(held, claims)
            if watch.kind.name in self.rules.one_holder:
                await self._take_over(work, [watch_id for _, watch_id in also])
            until = self.rules.valid_until(watch.kind.name, now)
            proved = replace(watch, expire_time=until, device_ref=device_ref)
            await self.change_watch(work, proved, OwnershipState.VERIFIED, claims.proves, claims.provider)
            await self._note_device(work, who, device_ref, now)
        return Proof(OwnershipState.VERIFIED, until)

    async def _take_over(self, work: Work, watch_ids: Sequence[str]) -> None:
        """Whoever holds the phone or mailbox now has shown that those who held it before no longer do."""
        for watch_id in watch_ids:
            held = await work.watches.get(watch_id)
            if held is not None and held.watch.state in (OwnershipState.VERIFIED, OwnershipState.SUSPENDED):
                await self.change_watch(work, held.watch, OwnershipState.EXPIRED, "PROVED_BY_ANOTHER")

    async def _accept(
        self, work: Work, claims: Claims, kind: str, owner: Subscriber, target_id: str, now: datetime
    ) -> None:
        try:
            self.rules.check(claims, kind, owner.subscriber_id, target_id, now, minor=owner.minor)
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

    def record_template(
        self, work: Work, template: FaceTemplate, before: str, reason: str = "", verifier: str = ""
    ) -> None:
        """Leaves the record of a template that moved, or of why it did not."""
        record = records.ownership(
            "face_template",
            template.template_id,
            template.version,
            template.kind,
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


async def consented(work: Work, subscriber_id: str, scope: int) -> Subscriber:
    """The subscriber, locked, who consents to this. Raises FailedPrecondition CONSENT_MISSING or SUSPENDED."""
    subscriber = await work.subscribers.get(subscriber_id)
    if subscriber is None or scope not in subscriber.consents:
        raise FailedPrecondition(
            "CONSENT_MISSING",
            "The subscriber has not consented to this.",
            violations=[("subscriber_id", "CONSENT_MISSING")],
        )
    if subscriber.suspended:
        raise FailedPrecondition("SUBSCRIBER_SUSPENDED", "The subscriber's processing is stopped.")
    return subscriber


def check_pictures(pictures: Sequence[bytes], count: range) -> None:
    """Raises InvalidInput for too few, too many or too large pictures."""
    if len(pictures) not in count:
        raise _bad("pictures", "COUNT", "There are too few pictures, or too many.")
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


def _not_yet(reason: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(reason, message, violations=[("template_id", reason)])


def _bad(field: str, reason: str, message: str) -> InvalidInput:
    return InvalidInput(reason, message, violations=[(field, reason)])


def _refused(problem: NotProved) -> PermissionDenied:
    return PermissionDenied(problem.reason, "The assertion does not prove this.")
