"""What else is asked around a proof: a live face, the device, whether two faces are one person's, today's model."""

from __future__ import annotations

import hmac
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial

from misuse.case.v1 import subscriber_service_pb2 as consents
from misuse.detector.v1 import enrollment_service_pb2 as messages
from services.chassis.errors import (
    FailedPrecondition,
    InvalidInput,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
)
from services.chassis.ids import uuid7
from services.chassis.tokens import current_actor
from services.detector.domain.liveness import PASSED, Liveness
from services.detector.domain.ownership import (
    Challenge,
    Duplicate,
    DuplicateState,
    FaceTemplate,
    OwnershipState,
    Watch,
)
from services.detector.handlers.enrolling import MOST_DEVICE_CHARACTERS, Enrolling, check_pictures, consented
from services.detector.ports import Work

PAGE = 100
NEW_DEVICE, SAME_PERSON = "NEW_DEVICE", "SAME_PERSON_ELSEWHERE"
REVIEWER, ADJUDICATOR = "REVIEWER", "ADJUDICATOR"
"""Sources of labels that decide here; the words of LabelLog, as those below."""
SAME, DIFFERENT = "MATCH", "NO_MATCH"


@dataclass(frozen=True)
class Challenging:
    """Pose challenges: which poses are asked cannot be foreseen, and each is answered once, in time."""

    enrolling: Enrolling
    chance: random.Random

    async def ask(self, request: messages.AskLivenessChallengeRequest) -> Challenge:
        """A new challenge for a template."""
        enrolling, who = self.enrolling, request.subscriber_id
        rules, now = enrolling.rules.liveness, enrolling.clock.now()
        caller = current_actor().subject
        async with enrolling.begin() as work:
            if known := await work.recall(caller, "AskLivenessChallenge", request):
                return await self._challenge(work, who, known)
            await consented(work, who, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            held = await enrolling.template(work, who, request.template_id)
            if held.template.state is OwnershipState.ERASED:
                raise NotFound("NO_SUCH_TEMPLATE", "There is no such template.")
            if await work.proving.challenges_since(who, now - timedelta(days=1)) >= rules.most_a_day:
                raise ResourceExhausted("TOO_MANY_CHALLENGES", "As many challenges were asked for as can be in a day.")
            poses = rules.ask(self.chance)
            asked = Challenge(uuid7(), who, held.template.template_id, poses, now, now + rules.lifetime)
            await work.proving.add_challenge(asked)
            await work.remember(caller, "AskLivenessChallenge", request, asked.challenge_id)
        return asked

    async def answer(self, request: messages.AnswerLivenessChallengeRequest) -> str:
        """PASSED, or why not."""
        enrolling, who = self.enrolling, request.subscriber_id
        async with enrolling.begin() as work:
            await consented(work, who, consents.CONSENT_SCOPE_FACE_TEMPLATE)
            asked = await self._challenge(work, who, request.challenge_id)
            if asked.outcome:
                return asked.outcome
            self._check(asked, request)
            held = await enrolling.template(work, who, asked.template_id)
            vectors = enrolling.opened(held.template, "vectors", held.vectors)
        pictures = list(request.pictures)
        outcome = await enrolling.beside(partial(enrolling.enroller.answer, pictures, asked.poses, vectors))
        async with enrolling.begin() as work:
            await work.subscribers.get(who)
            # Two answers at once: the first one to come here counts.
            first = await self._challenge(work, who, request.challenge_id)
            if first.outcome:
                return first.outcome
            await self._conclude(work, first, outcome)
        return outcome

    async def _challenge(self, work: Work, who: str, challenge_id: str) -> Challenge:
        found = await work.proving.challenge(challenge_id)
        if found is None or found.subscriber_id != who:
            raise NotFound("NO_SUCH_CHALLENGE", "There is no such challenge.")
        return found

    def nonce(self, challenge: Challenge) -> bytes:
        """What must come back with the answer."""
        return self.enrolling.references.challenge(challenge.challenge_id)

    def _check(self, asked: Challenge, request: messages.AnswerLivenessChallengeRequest) -> None:
        if not hmac.compare_digest(self.nonce(asked), request.nonce):
            raise PermissionDenied("BAD_NONCE", "The nonce is not that of the challenge.")
        if asked.expire_time <= self.enrolling.clock.now():
            violations = [("challenge_id", "CHALLENGE_EXPIRED")]
            raise FailedPrecondition("CHALLENGE_EXPIRED", "The time to answer is over.", violations=violations)
        check_pictures(list(request.pictures), range(len(asked.poses), len(asked.poses) + 1))

    async def _conclude(self, work: Work, asked: Challenge, outcome: str) -> None:
        """Keeps the outcome; the template that was shown is live from now on, unless it is gone meanwhile."""
        enrolling = self.enrolling
        await work.proving.conclude(asked.challenge_id, outcome)
        held = await enrolling.template(work, asked.subscriber_id, asked.template_id)
        template = held.template
        if template.state is OwnershipState.ERASED:
            return
        if outcome == PASSED:
            template = replace(template, liveness=Liveness.CHALLENGED, version=template.version + 1)
            await work.templates.change(template)
        enrolling.record_template(work, template, template.state.name, f"CHALLENGE_{outcome}")


@dataclass(frozen=True)
class Devices:
    """Where subscribers were seen: on a new device they prove again what they proved before."""

    enrolling: Enrolling

    async def note(self, request: messages.NoteDeviceRequest) -> tuple[bool, list[str]]:
        """(whether the device is new, ids of what is to be proved again). The first device of all asks nothing again:
        there is no other that it could have been taken from."""
        enrolling, who = self.enrolling, request.subscriber_id
        if not 1 <= len(request.device_id) <= MOST_DEVICE_CHARACTERS:
            violations = [("device_id", "ID_MALFORMED")]
            raise InvalidInput("ID_MALFORMED", "A device id has 1 to 64 characters.", violations=violations)
        device_ref = enrolling.references.device(who, request.device_id)
        async with enrolling.begin() as work:
            if await work.subscribers.get(who) is None:
                raise NotFound("SUBSCRIBER_UNKNOWN", "There is no such subscriber.")
            new, known = await work.proving.note_device(who, device_ref, enrolling.clock.now())
            if new and known >= enrolling.rules.most_devices:
                raise ResourceExhausted("TOO_MANY_DEVICES", "There are as many devices as can be.")
            again = await self._ask_again(work, who, device_ref) if new and known else []
        return new, again

    async def registered(self, work: Work, who: str, device_hash: bytes) -> None:
        """Takes in that notify has a new device of a subscriber, in the transaction of the event. None is refused, for
        it is registered already: of too many the oldest is forgotten.
        """
        enrolling = self.enrolling
        if enrolling.vault.keys.destroyed(who):
            return
        # notify may tell of somebody of whom `case` has not told yet: there is nothing to prove again then.
        await work.subscribers.get(who)
        device_ref = enrolling.references.hashed_device(who, device_hash)
        new, known = await work.proving.note_device(who, device_ref, enrolling.clock.now())
        if new and known >= enrolling.rules.most_devices:
            await work.proving.forget_devices(who, enrolling.rules.most_devices)
        if new and known:
            await self._ask_again(work, who, device_ref)

    async def _ask_again(self, work: Work, who: str, device_ref: bytes) -> list[str]:
        return [*await self._templates_again(work, who, device_ref), *await self._watches_again(work, who, device_ref)]

    async def _templates_again(self, work: Work, who: str, device_ref: bytes) -> list[str]:
        # Far fewer than a page are not erased; the erased ones are not counted, so pages are turned.
        again, after = [], ""
        while page := await work.templates.of_subscriber(who, after, PAGE):
            for template in page:
                if (until := self._sooner(template, template.kind, device_ref)) is not None:
                    shorter = replace(template, expire_time=until)
                    await self.enrolling.change_template(work, shorter, OwnershipState.VERIFIED, NEW_DEVICE)
                    again.append(template.template_id)
            after = page[-1].template_id
        return again

    async def _watches_again(self, work: Work, who: str, device_ref: bytes) -> list[str]:
        again, after = [], ""
        while page := await work.watches.of_subscriber(who, after, PAGE):
            for watch in (each.watch for each in page):
                if (until := self._sooner(watch, watch.kind.name, device_ref)) is not None:
                    shorter = replace(watch, expire_time=until)
                    await self.enrolling.change_watch(work, shorter, OwnershipState.VERIFIED, NEW_DEVICE)
                    again.append(watch.watch_id)
            after = page[-1].watch.watch_id
        return again

    def _sooner(self, proof: FaceTemplate | Watch, kind: str, device_ref: bytes) -> datetime | None:
        """When a proof ends because of the new device; None where it stays as it is."""
        rules = self.enrolling.rules
        if proof.state is not OwnershipState.VERIFIED or kind not in rules.ask_again or proof.device_ref == device_ref:
            return None
        until = self.enrolling.clock.now() + rules.new_device
        return until if proof.expire_time is None or until < proof.expire_time else None


@dataclass(frozen=True)
class Resolving:
    """What reviewers make of a face on two accounts: their labels of the review item that `case` keeps decide here too,
    so that people are asked in one place."""

    enrolling: Enrolling

    async def labelled(self, work: Work, decision_id: str, reviewer: str, source: str, verdict: str) -> None:
        """Takes in a label, in the transaction of its record; labels of other decisions change nothing here. MATCH says
        that the face is the holder's. The holder's template is not touched, whatever is said.
        """
        if source not in (REVIEWER, ADJUDICATOR) or verdict not in (SAME, DIFFERENT):
            return
        asked = await self._locked(work, decision_id)
        if asked is None or asked.state is not DuplicateState.OPEN:
            return
        told = self._told(asked, reviewer, source, same_person=verdict == SAME)
        await work.proving.put_duplicate(told)
        await self._apply(work, told, verdict == SAME)

    @staticmethod
    async def _locked(work: Work, decision_id: str) -> Duplicate | None:
        """What was asked, with both subscribers locked; None where the decision is about something else."""
        if (found := await work.proving.duplicate(decision_id)) is None:
            return None
        await work.subscribers.lock({found.subscriber_id, found.holder_id})
        return await work.proving.duplicate(decision_id)

    def _told(self, asked: Duplicate, reviewer: str, source: str, *, same_person: bool) -> Duplicate:
        if same_person:
            return replace(asked, state=DuplicateState.REFUSED)
        return asked.told_apart(reviewer, 1 if source == ADJUDICATOR else self.enrolling.rules.reviewers)

    async def _apply(self, work: Work, told: Duplicate, same_person: bool) -> None:
        held = await work.templates.get(told.template_id)
        if held is None or held.template.state is OwnershipState.ERASED:
            return
        if same_person:
            await self.enrolling.change_template(work, held.template, OwnershipState.ERASED, SAME_PERSON)
            return
        template = held.template
        self.enrolling.record_template(work, template, template.state.name, f"TOLD_APART_{told.state.name}")


@dataclass(frozen=True)
class Reembedding:
    """Gives templates vectors of today's models from the crops that their owners let us keep. Where there is none, a
    new model needs a new enrolment."""

    enrolling: Enrolling

    async def run(self) -> int:
        """Goes once over the templates that lack a vector of today's model; returns how many got one."""
        enrolling, after, done = self.enrolling, "", 0
        while page := await self._page(after):
            for template_id in page:
                done += await self._renew(template_id)
            after = page[-1]
        if done:
            await enrolling.feed.refresh()
        return done

    async def _page(self, after: str) -> Sequence[str]:
        async with self.enrolling.begin() as work:
            return await work.templates.without_model(self.enrolling.enroller.model_id, after, PAGE)

    async def _renew(self, template_id: str) -> bool:
        enrolling = self.enrolling
        async with enrolling.begin() as work:
            held = await work.templates.get(template_id)
            if held is None or enrolling.enroller.current(held.template.model_ids):
                return False
            template = held.template
            place = (template.subscriber_id, "face_template", template_id)
            crop = enrolling.vault.open(*place, "crop", held.crop) if held.crop else None
            made = await enrolling.beside(partial(enrolling.enroller.reembed, crop)) if crop else None
            if made is None:
                await self._end(work, template)
                return False
            renewed = replace(template, model_ids=made.model_ids, version=template.version + 1)
            await work.templates.reembed(renewed, enrolling.vault.seal(*place, "vectors", made.vectors))
            enrolling.record_template(work, renewed, template.state.name, "EMBEDDED_ANEW")
        return True

    async def _end(self, work: Work, template: FaceTemplate) -> None:
        """What can be compared with nothing any more is not said to be matched."""
        if template.state in (OwnershipState.VERIFIED, OwnershipState.SUSPENDED):
            await self.enrolling.change_template(work, template, OwnershipState.EXPIRED, "NEW_ENROLMENT_NEEDED")
