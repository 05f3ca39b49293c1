"""How people are asked whether a face on two accounts is one person's."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import events_pb2 as events
from misuse.detector.v1 import signal_service_pb2 as messages
from services.chassis.ids import uuid7
from services.detector.domain.decisions import Band, MatchKind
from services.detector.domain.ownership import Duplicate, DuplicateState, FaceTemplate
from services.detector.ports import StoredDecision, Work
from services.detector.sealing import References, Vault
from services.detector.translate import stamp

CHANNEL = "enrolment"
"""Where such a face was seen: in the detector's own enrolment."""
REASON = "ENROLLED_BY_ANOTHER"


@dataclass(frozen=True, slots=True)
class Claim:
    """A template whose face a holder's template shows already. `crop` is empty where its owner keeps none."""

    template: FaceTemplate
    holder_id: str
    holder_template_id: str
    crop: bytes = field(repr=False)
    model_id: str
    rule_version: str


@dataclass(frozen=True)
class Asking:
    """Makes the review item.

    To the reviewers it is a REVIEW like any other, about the holder: is the face that somebody enrolled the holder's?
    If they say so, `case` opens a case for the holder, whose face somebody presented as their own. Their labels
    decide what becomes of the template that waits, too (`Resolving`).
    """

    vault: Vault
    references: References

    async def ask(self, work: Work, claim: Claim, now: datetime) -> str:
        """Tells `case`, with what the reviewers need. Returns the decision's id. The caller has locked both."""
        decision_id = uuid7()
        template = claim.template
        work.event(claim.holder_id, events.ReviewNeeded(facts=self._facts(decision_id, claim, now)))
        await work.decisions.add([self._stored(decision_id, claim, now)], now)
        await work.proving.put_duplicate(
            Duplicate(
                decision_id,
                template.subscriber_id,
                template.template_id,
                claim.holder_id,
                DuplicateState.OPEN,
                (),
                now,
            )
        )
        return decision_id

    def _facts(self, decision_id: str, claim: Claim, now: datetime) -> events.MatchFacts:
        ref = self.references.enrolment(claim.template.template_id)
        return events.MatchFacts(
            decision_id=decision_id,
            subscriber_id=claim.holder_id,
            signal_ref=ref,
            kind=common.MATCH_KIND_FACE,
            channel=CHANNEL,
            channel_group=CHANNEL,
            source_type=common.SOURCE_TYPE_USER,
            discover_time=stamp(now),
            decide_time=stamp(now),
            # Whatever is asked about one template is one incident.
            post_ref=ref,
            url_ref=ref,
            template_id=claim.holder_template_id,
            rule_version=claim.rule_version,
        )

    def _stored(self, decision_id: str, claim: Claim, now: datetime) -> StoredDecision:
        """Sealed under the holder's key: it is about the holder, and goes with the holder."""
        seal = partial(self.vault.seal, claim.holder_id, "decision", decision_id)
        return StoredDecision(
            decision_id=decision_id,
            signal_ref=self.references.enrolment(claim.template.template_id),
            subscriber_id=claim.holder_id,
            band=Band.REVIEW,
            kind=MatchKind.FACE,
            template_id=claim.holder_template_id,
            scores=seal("scores", b"{}"),
            capture=seal("capture", _capture(decision_id, claim, now).SerializeToString()),
        )


def _capture(decision_id: str, claim: Claim, now: datetime) -> messages.Capture:
    """Who enrolled the face is not in it: reviewers and the holder learn that it was done, not by whom."""
    return messages.Capture(
        decision_id=decision_id,
        subscriber_id=claim.holder_id,
        channel=CHANNEL,
        channel_group=CHANNEL,
        source_type=common.SOURCE_TYPE_USER,
        discover_time=stamp(now),
        collection_basis=common.COLLECTION_BASIS_USER_SUBMITTED,
        candidate_crop=claim.crop,
        decision=messages.DecisionFacts(
            band=common.BAND_REVIEW,
            kind=common.MATCH_KIND_FACE,
            reasons=[REASON],
            model_id=claim.model_id,
            rule_version=claim.rule_version,
            decide_time=stamp(now),
            faces_found=1,
        ),
    )
