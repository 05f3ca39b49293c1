"""How the detector follows what `case` says of subscribers: consents, suspension, erasure."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from misuse.case.v1 import subscriber_service_pb2 as consents
from misuse.detector.v1 import events_pb2 as events
from services.chassis.clock import Clock
from services.chassis.keys import KeyStore
from services.detector.domain.ownership import OwnershipState
from services.detector.handlers.enrolling import Enrolling
from services.detector.handlers.remembering import PURGE_CONTENTS
from services.detector.handlers.uploading_answers import Answering
from services.detector.ports import SealedTemplate, SealedWatch, Subscriber, Work

PAGE = 100


@dataclass(frozen=True)
class Following:
    """What each event of `case` changes here, in the transaction that moves the cursor."""

    enrolling: Enrolling
    keys: KeyStore
    clock: Clock
    forget: Callable[[str], None]
    """Drops what is held of a subscriber in memory."""
    uploads: Answering

    async def registered(self, work: Work, subscriber_id: str, minor: bool) -> None:
        """Knows a subscriber from now on."""
        if self.keys.destroyed(subscriber_id):
            return
        known = await work.subscribers.get(subscriber_id)
        await work.subscribers.put(
            replace(known, minor=minor) if known else Subscriber(subscriber_id, minor, False, frozenset())
        )

    async def consent(self, work: Work, subscriber_id: str, scope: int, given: bool) -> None:
        """Follows a consent. A withdrawn one ends what stands on it, at once."""
        if self.keys.destroyed(subscriber_id):
            return
        known = await work.subscribers.get(subscriber_id) or Subscriber(subscriber_id, False, False, frozenset())
        scopes = known.consents | {scope} if given else known.consents - {scope}
        await work.subscribers.put(replace(known, consents=scopes))
        if given:
            return
        if scope in (consents.CONSENT_SCOPE_FACE_TEMPLATE, consents.CONSENT_SCOPE_SERVICE):
            await self._each_template(work, subscriber_id, self._erase_template("CONSENT_WITHDRAWN"))
        if scope in (consents.CONSENT_SCOPE_WATCHED_IDENTIFIER, consents.CONSENT_SCOPE_SERVICE):
            await self._each_watch(work, subscriber_id, self._erase_watch("CONSENT_WITHDRAWN"))
        if scope in (consents.CONSENT_SCOPE_LINKED_ACCOUNT, consents.CONSENT_SCOPE_SERVICE):
            await self.uploads.forget(work, subscriber_id, "CONSENT_WITHDRAWN")
        if scope == consents.CONSENT_SCOPE_TEMPLATE_CROP:
            await work.templates.drop_crops(subscriber_id)

    async def suspended(self, work: Work, subscriber_id: str) -> None:
        """Stops matching."""
        known = await work.subscribers.get(subscriber_id)
        if known is None or known.suspended:
            return
        await work.subscribers.put(replace(known, suspended=True))

        async def stop_template(work: Work, held: SealedTemplate) -> None:
            if held.template.state is OwnershipState.VERIFIED:
                template = held.template
                await self.enrolling.change_template(work, template, OwnershipState.SUSPENDED, "SUBSCRIBER_SUSPENDED")

        async def stop_watch(work: Work, held: SealedWatch) -> None:
            if held.watch.state is OwnershipState.VERIFIED:
                watch = held.watch
                await self.enrolling.change_watch(work, watch, OwnershipState.SUSPENDED, "SUBSCRIBER_SUSPENDED")

        await self._each_template(work, subscriber_id, stop_template)
        await self._each_watch(work, subscriber_id, stop_watch)

    async def resumed(self, work: Work, subscriber_id: str, minor: bool) -> None:
        """Matches again what is still proved."""
        known = await work.subscribers.get(subscriber_id)
        if known is None:
            return
        await work.subscribers.put(replace(known, suspended=False, minor=minor))
        now = self.clock.now()

        async def start_template(work: Work, held: SealedTemplate) -> None:
            template = held.template
            if template.state is OwnershipState.SUSPENDED:
                valid = template.expire_time is not None and template.expire_time > now
                # Another subscriber may have proved the face meanwhile: then it must be proved again, and people look.
                valid = valid and await self.enrolling.shown_by_another(work, held) is None
                state = OwnershipState.VERIFIED if valid else OwnershipState.EXPIRED
                await self.enrolling.change_template(work, template, state, "SUBSCRIBER_RESUMED")

        async def start_watch(work: Work, held: SealedWatch) -> None:
            watch = held.watch
            if watch.state is OwnershipState.SUSPENDED:
                valid = watch.expire_time is not None and watch.expire_time > now
                state = OwnershipState.VERIFIED if valid else OwnershipState.EXPIRED
                await self.enrolling.change_watch(work, watch, state, "SUBSCRIBER_RESUMED")

        await self._each_template(work, subscriber_id, start_template)
        await self._each_watch(work, subscriber_id, start_watch)

    async def erase(self, work: Work, subscriber_id: str, asked: int = 1) -> None:
        """Destroys the key, erases templates and identifiers, deletes the rest, and answers the round that asked.

        The key goes first and for ever: should the transaction fail, the event comes again and finds it gone.
        """
        # Whoever decides about the subscriber at this moment commits first, and what it wrote is deleted too.
        await work.subscribers.get(subscriber_id)
        self.keys.destroy(subscriber_id)
        await self._each_template(work, subscriber_id, self._erase_template("SUBSCRIBER_ERASED"))
        await self._each_watch(work, subscriber_id, self._erase_watch("SUBSCRIBER_ERASED"))
        await self.uploads.forget(work, subscriber_id, "SUBSCRIBER_ERASED")
        await work.cancel(PURGE_CONTENTS, subscriber_id)
        await work.subscribers.remove(subscriber_id)
        self.forget(subscriber_id)
        work.event(subscriber_id, events.ErasureCompleted(subscriber_id=subscriber_id, round=asked))

    def _erase_template(self, reason: str) -> Callable[[Work, SealedTemplate], Awaitable[None]]:
        async def erase(work: Work, held: SealedTemplate) -> None:
            if held.template.state is not OwnershipState.ERASED:
                await self.enrolling.change_template(work, held.template, OwnershipState.ERASED, reason)

        return erase

    def _erase_watch(self, reason: str) -> Callable[[Work, SealedWatch], Awaitable[None]]:
        async def erase(work: Work, held: SealedWatch) -> None:
            if held.watch.state is not OwnershipState.ERASED:
                await self.enrolling.change_watch(work, held.watch, OwnershipState.ERASED, reason)

        return erase

    @staticmethod
    async def _each_template(
        work: Work, subscriber_id: str, change: Callable[[Work, SealedTemplate], Awaitable[None]]
    ) -> None:
        after = ""
        while page := await work.templates.of_subscriber(subscriber_id, after, PAGE):
            for template in page:
                if (held := await work.templates.get(template.template_id)) is not None:
                    await change(work, held)
            after = page[-1].template_id

    @staticmethod
    async def _each_watch(
        work: Work, subscriber_id: str, change: Callable[[Work, SealedWatch], Awaitable[None]]
    ) -> None:
        after = ""
        while page := await work.watches.of_subscriber(subscriber_id, after, PAGE):
            for listed in page:
                if (held := await work.watches.get(listed.watch.watch_id)) is not None:
                    await change(work, held)
            after = page[-1].watch.watch_id
