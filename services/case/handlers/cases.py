"""How do people and platforms move a case?"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from misuse.case.v1 import events_pb2
from services.case import records
from services.case.domain.cases import MOVES, Case, Standing, illegal
from services.case.domain.chain import Head
from services.case.domain.removals import RemovalState, follow
from services.case.domain.rules import Rules
from services.case.domain.uploads import RESOLUTIONS
from services.case.domain.words import CaseState, PriorityReason, Resolution, Rule, Verdict
from services.case.handlers.intake import tell_merge
from services.case.ports import CLOSE, DIGEST, GIVE_UP, PACK, SYSTEM, Alias, Unit, Who
from services.chassis.errors import Aborted, FailedPrecondition, InvalidInput, NotFound

_REASON = re.compile(r"[A-Z][A-Z0-9_]{0,63}")


def unknown() -> NotFound:
    """There is no such case, or none that the caller may know of."""
    return NotFound("CASE_UNKNOWN", "There is no such case.")


async def lock_root(unit: Unit, case_id: str, owner: str = "") -> Case:
    """The root of a case, under the lock of its subscriber. Raises NotFound, also where `owner` is named and
    the case is somebody else's.
    """
    case = await unit.cases.get(case_id)
    if case is None or (owner and case.subscriber_id != owner):
        raise unknown()
    await unit.subscribers.lock([case.subscriber_id])
    fresh = await unit.cases.get(case_id)
    root = await unit.cases.get(fresh.root_case_id) if fresh else None
    if root is None:
        raise unknown()
    return root


async def close(
    unit: Unit, case_id: str, resolution: Resolution, version: int, now: datetime, who: Who
) -> str:
    """Closes a case. Returns the root's id. Raises NotFound, Aborted VERSION_CHANGED, FailedPrecondition, InvalidInput
    RESOLUTION_RESERVED for an end that only the answer to a warning before an upload gives."""
    if resolution in RESOLUTIONS.values():
        bad = [("resolution", "RESOLUTION_RESERVED")]
        raise InvalidInput("RESOLUTION_RESERVED", "Only the subscriber's own answer ends a case so.", violations=bad)
    root = await lock_root(unit, case_id)
    if version and version != root.version:
        raise Aborted("VERSION_CHANGED", "The case has changed since it was read.")
    await finish(unit, root, resolution, now, who)
    return root.case_id


async def finish(unit: Unit, root: Case, resolution: Resolution, now: datetime, who: Who) -> None:
    """Closes a locked root, tells of it and records it. Raises FailedPrecondition ILLEGAL_TRANSITION."""
    before = root.state.name
    root.move(CaseState.CLOSED, now, resolution)
    root.due_time = None
    await unit.cases.update([root])
    for kind in (CLOSE, GIVE_UP):
        await unit.forget_reminders(kind, [root.case_id])
    _tell_closed(unit, root)
    unit.record(root.subscriber_id, records.lifecycle(root, "CLOSED", before, now, who=who))


def _tell_closed(unit: Unit, root: Case) -> None:
    event = events_pb2.CaseClosed(
        case_id=root.case_id,
        subscriber_id=root.subscriber_id,
        resolution=root.resolution.value,  # type: ignore[arg-type] # same numbers, kept equal by a test
    )
    unit.tell(root.subscriber_id, event)


async def close_when_due(unit: Unit, case_id: str, now: datetime) -> None:
    """Closes a case that has been resolved for long enough; anything else happened meanwhile: leaves it."""
    root = await lock_root(unit, case_id)
    if root.state is CaseState.RESOLVED and root.due_time is not None and root.due_time <= now:
        await finish(unit, root, root.resolution, now, SYSTEM)


async def give_up_when_due(unit: Unit, case_id: str, rules: Rules, now: datetime) -> None:
    """Resolves a case as UNRESOLVED for which no removal was asked in all that time: there is no platform, or no
    consent. Anything else happened meanwhile: leaves it. It closes, and its subscriber is told, as usual.
    """
    root = await lock_root(unit, case_id)
    if root.state not in (CaseState.OPEN, CaseState.ACTION_STARTED) or root.due_time is None or root.due_time > now:
        return
    if not (await unit.cases.removals([root.case_id]))[root.case_id]:
        _follow(unit, root, CaseState.RESOLVED, Resolution.UNRESOLVED, rules, now, reason="NO_ACTION_POSSIBLE")
        await unit.cases.update([root])
        await _remind_closing(unit, [root])


async def reopen(unit: Unit, case_id: str, reason: str, rules: Rules, now: datetime, who: Who) -> str:
    """Opens a closed case again. Returns the root's id. Raises NotFound, FailedPrecondition."""
    if not _REASON.fullmatch(reason):
        violation = ("reason", "REASON_MALFORMED")
        raise InvalidInput(violation[1], "A reason is UPPER_SNAKE.", violations=[violation])
    root = await lock_root(unit, case_id)
    _reopen(unit, root, reason, rules, now, who)
    await unit.cases.update([root])
    await _remind_reopened(unit, [root], rules, now)
    return root.case_id


async def _remind_reopened(unit: Unit, roots: Sequence[Case], rules: Rules, now: datetime) -> None:
    # What was only counted while it was closed as a false positive becomes evidence now.
    await unit.remind(PACK, {root.case_id: (now, "") for root in roots})
    await unit.remind(GIVE_UP, {root.case_id: (now + rules.give_up_after, "") for root in roots})


def _reopen(unit: Unit, root: Case, reason: str, rules: Rules, now: datetime, who: Who) -> None:
    """Opens a closed root again, tells of it and records it; the caller writes it and reminds of it."""
    root.reopen(now)
    root.due_time = now + rules.give_up_after
    event = events_pb2.CaseReopened(
        case_id=root.case_id, subscriber_id=root.subscriber_id, reason=reason, occurrence=root.occurrence
    )
    unit.tell(root.subscriber_id, event)
    record = records.lifecycle(root, "REOPENED", CaseState.CLOSED.name, now, who=who, reason=reason)
    unit.record(root.subscriber_id, record)


async def digest_when_due(unit: Unit, case_id: str, rules: Rules, now: datetime) -> None:
    """Tells the sightings of a burst that were not told one by one, together and once. A burst that is told already,
    or whose case became an alias, is left: the root tells its own.
    """
    root = await lock_root(unit, case_id)
    untold, start = root.burst.untold(rules.incident.burst), root.burst.start_time
    if root.case_id != case_id or not untold or start is None or root.is_false_positive:
        return
    if now - start < rules.incident.burst.within:
        await unit.remind(DIGEST, {case_id: (start + rules.incident.burst.within, "")})
        return
    event = events_pb2.CaseSightingsDigested(
        case_id=root.case_id,
        subscriber_id=root.subscriber_id,
        sightings=untold,
        sighting_count=root.sighting_count,
        channel_groups=root.channel_groups,
        from_time=records.stamp(start),
    )
    root.burst.end()
    root.touch(now)
    await unit.cases.update([root])
    unit.tell(root.subscriber_id, event)


async def merge(unit: Unit, root_id: str, merged_id: str, rules: Rules, now: datetime, who: Who) -> str:
    """Makes one case an alias of another. Returns the root's id. Raises NotFound, FailedPrecondition
    DIFFERENT_SUBSCRIBERS, ALREADY_MERGED.
    """
    root = await lock_root(unit, root_id)
    alias = await unit.cases.get(merged_id)
    if alias is None:
        raise unknown()
    if alias.subscriber_id != root.subscriber_id:
        raise _refused("DIFFERENT_SUBSCRIBERS", "The cases are not of the same subscriber.")
    if alias.state is CaseState.MERGED or alias.case_id == root.case_id:
        raise _refused("ALREADY_MERGED", "The case is part of an incident already.")
    for case in (root, alias):
        if not MOVES[case.state]:
            raise illegal(case.state, CaseState.MERGED)
    before = root.standing
    reopened = root.absorb(alias, now)
    await unit.cases.merge(
        [Alias(alias.case_id, root.case_id, Rule.OPERATOR, before)], rules.incident.version, now
    )
    await unit.cases.update([root, alias])
    await unit.forget_reminders(PACK, [alias.case_id])
    await unit.remind(PACK, {root.case_id: (now, "")})
    await tell_merge(unit, root, alias, Rule.OPERATOR, rules.incident.version, now, who=who)
    if reopened:
        event = events_pb2.CaseReopened(
            case_id=root.case_id,
            subscriber_id=root.subscriber_id,
            reason="MERGED",
            occurrence=root.occurrence,
        )
        unit.tell(root.subscriber_id, event)
        record = records.lifecycle(root, "REOPENED", "CLOSED", now, who=who, reason="MERGED")
        unit.record(root.subscriber_id, record)
    return root.case_id


async def unmerge(unit: Unit, case_id: str, rules: Rules, now: datetime, who: Who) -> str:
    """Takes a merge back; no fact merges the two again, a person may. Where the root is in the state that it took from
    the case, and nothing was found for it since, it stands again where it stood before. Raises NotFound,
    FailedPrecondition NOT_MERGED.
    """
    root = await lock_root(unit, case_id)
    cases, aliases = await unit.cases.tree(root.case_id)
    parted = cases[case_id]
    edge = next((alias for alias in aliases if alias.merged_case_id == case_id), Alias(case_id, "", ""))
    before = edge.before if edge.into_case_id == root.case_id else None
    taken = before is not None and root.took_from(parted, before)
    parted.part(now)
    await unit.cases.part(case_id, edge.into_case_id, _subtree(case_id, aliases), parted.subscriber_id)
    found = await _recount(unit, root)
    await _recount(unit, parted)
    root.touch(now)
    await _tell_unmerge(unit, root, parted, rules, now, who)
    if taken and before is not None and not _since(edge, found):
        await _put_back(unit, root, before, rules, now, who)
    await unit.cases.update([root, parted])
    await unit.remind(PACK, {case_id: (now, ""), root.case_id: (now, "")})
    if parted.due_time is not None:
        # Its own row may have come and gone while it was an alias.
        kind = CLOSE if parted.state is CaseState.RESOLVED else GIVE_UP
        await unit.remind(kind, {case_id: (parted.due_time, "")})
    return case_id


def _subtree(case_id: str, aliases: Sequence[Alias]) -> list[str]:
    """The case and all that were merged into it, at any depth."""
    members = [case_id]
    for member in members:
        members.extend(alias.merged_case_id for alias in aliases if alias.into_case_id == member)
    return members


async def _recount(unit: Unit, case: Case) -> datetime | None:
    """A root after an un-merge shows what its own sightings say. Returns when the last of them was committed."""
    tally = await unit.cases.count(case.case_id)
    case.sighting_count = tally.number
    case.kinds = list(tally.kinds) or case.kinds[:1]
    case.channel_groups = list(tally.channel_groups)
    case.discover_time = tally.discover_time or case.discover_time
    case.reasons = list(tally.reasons)
    return tally.last_time


def _since(edge: Alias, found: datetime | None) -> bool:
    """Whether something was found in the merge or after it."""
    return found is not None and edge.create_time is not None and found >= edge.create_time


async def _put_back(unit: Unit, root: Case, before: Standing, rules: Rules, now: datetime, who: Who) -> None:
    """Gives a root the state back that a merge took from it, and tells of a closing."""
    was = root.state.name
    root.put_back(before, now)
    root.due_time = _due(root.state, rules, now)
    for kind in (CLOSE, GIVE_UP):
        await unit.forget_reminders(kind, [root.case_id])
    if root.due_time is not None:
        kind = CLOSE if root.state is CaseState.RESOLVED else GIVE_UP
        await unit.remind(kind, {root.case_id: (root.due_time, "")})
    if root.state is CaseState.CLOSED:
        _tell_closed(unit, root)
    unit.record(root.subscriber_id, records.lifecycle(root, "PUT_BACK", was, now, who=who, reason="UNMERGED"))


def _due(state: CaseState, rules: Rules, now: datetime) -> datetime | None:
    if state is CaseState.RESOLVED:
        return now + rules.close_after
    return now + rules.give_up_after if state in (CaseState.OPEN, CaseState.ACTION_STARTED) else None


async def _tell_unmerge(unit: Unit, root: Case, parted: Case, rules: Rules, now: datetime, who: Who) -> None:
    heads = await unit.log.heads([root.case_id, parted.case_id])
    pair = heads.get(root.case_id, Head()), heads.get(parted.case_id, Head())
    event = events_pb2.CaseUnmerged(
        root_case_id=root.case_id, case_id=parted.case_id, subscriber_id=root.subscriber_id
    )
    unit.tell(root.subscriber_id, event)
    version = rules.incident.version
    for record in (
        records.lifecycle(parted, "UNMERGED", CaseState.MERGED.name, now, who=who),
        records.merged(root, parted, Rule.OPERATOR, version, now, pair, who=who, unmerged=True),
    ):
        unit.record(root.subscriber_id, record)


def _refused(reason: str, message: str) -> FailedPrecondition:
    return FailedPrecondition(reason, message, violations=[("case", reason)])


async def take_verdict(
    unit: Unit,
    subscriber_id: str,
    case_id: str,
    verdict: Verdict,
    now: datetime,
    who: Who,
    *,
    sexual_content: bool = False,
) -> str:
    """Records what the subscriber says; NOT_ME closes the case, sexual content makes it more urgent. Returns the root's
    id. Raises NotFound.
    """
    root = await lock_root(unit, case_id, subscriber_id)
    root.verdict = verdict
    root.touch(now)
    record = records.label("SUBSCRIBER", verdict.name, now, who, case_ids=[root.case_id])
    unit.record(subscriber_id, record)
    if sexual_content and PriorityReason.SEXUAL_CONTENT not in root.reasons:
        root.reasons.append(PriorityReason.SEXUAL_CONTENT)
        await unit.cases.flag(root.case_id, PriorityReason.SEXUAL_CONTENT)
        unit.record(subscriber_id, records.lifecycle(root, "FLAGGED", root.state.name, now, who=who))
    if verdict is Verdict.NOT_ME and CaseState.CLOSED in MOVES[root.state]:
        await finish(unit, root, Resolution.FALSE_POSITIVE, now, who)
    else:
        await unit.cases.update([root])
        # The evidence says what the subscriber says.
        await unit.remind(PACK, {root.case_id: (now, "")})
    return root.case_id


@dataclass(frozen=True, slots=True)
class RemovalMove:
    """What an event tells of a removal request."""

    case_ids: Collection[str]
    removal_request_id: str
    state: RemovalState
    reappeared: bool = False
    """The content is there again."""


async def follow_removals(unit: Unit, moves: Sequence[RemovalMove], rules: Rules, now: datetime) -> None:
    """Notes where removal requests stand and moves the cases that they belong to, move by move; what is read and
    written for all of them costs the same number of statements as for one. An event may come late, so what the table of
    moves does not hold is left as it is. Content that reappeared opens a closed case again. Raises NotFound where a
    move names no known case.
    """
    known = await unit.cases.owners({case_id for move in moves for case_id in move.case_ids})
    if any(known.keys().isdisjoint(move.case_ids) for move in moves):
        raise unknown()
    await unit.subscribers.lock(set(known.values()))
    roots = await unit.cases.roots(known)
    following = _Following(unit, rules, now, await unit.cases.removals({root.case_id for root in roots.values()}))
    for move in moves:
        following.note(move, {roots[case_id].case_id: roots[case_id] for case_id in move.case_ids if case_id in known})
    pairs = [(case_id, move.removal_request_id) for move in moves for case_id in move.case_ids if case_id in known]
    await unit.cases.note_removals(pairs, {move.removal_request_id: move.state for move in moves}, now)
    await following.write()


@dataclass(frozen=True)
class _Following:
    """Removal events of one transaction on their way."""

    unit: Unit
    rules: Rules
    now: datetime
    requests: Mapping[str, dict[str, RemovalState]]
    """Root → its requests and where they stand."""
    changed: dict[str, Case] = field(default_factory=dict)
    reopened: dict[str, Case] = field(default_factory=dict)
    resolving: set[str] = field(default_factory=set)
    """Roots that were resolved before or are now: their closing is scheduled anew."""

    def note(self, move: RemovalMove, roots: Mapping[str, Case]) -> None:
        """Notes where a request of these roots stands now, and moves them."""
        for states in self.requests.values():
            if move.removal_request_id in states:
                states[move.removal_request_id] = move.state
        for root_id, root in sorted(roots.items()):
            self.requests[root_id][move.removal_request_id] = move.state
            if move.reappeared and root.state is CaseState.CLOSED and not root.is_false_positive:
                self.changed[root_id] = self.reopened[root_id] = root
                _reappear(self.unit, root, self.rules, self.now)
            to, resolution = follow(self.requests[root_id].values())
            if to in MOVES[root.state] and root.state is not CaseState.CLOSED:
                self.changed[root_id] = root
                if CaseState.RESOLVED in (root.state, to):
                    self.resolving.add(root_id)
                _follow(self.unit, root, to, resolution, self.rules, self.now)

    async def write(self) -> None:
        """Writes the roots that moved, and schedules what is due for them now."""
        if self.reopened:
            await _remind_reopened(self.unit, list(self.reopened.values()), self.rules, self.now)
        if self.resolving:
            await _remind_closing(self.unit, [self.changed[root_id] for root_id in sorted(self.resolving)])
        if self.changed:
            await self.unit.cases.update(list(self.changed.values()))


def _reappear(unit: Unit, root: Case, rules: Rules, now: datetime) -> None:
    closed, resolution = root.close_time, root.resolution.name
    _reopen(unit, root, "CONTENT_REAPPEARED", rules, now, SYSTEM)
    if closed is not None:
        record = records.reappeared(root, closed, resolution, rules.incident.version, now)
        unit.record(root.subscriber_id, record)


def _follow(
    unit: Unit,
    root: Case,
    to: CaseState,
    resolution: Resolution,
    rules: Rules,
    now: datetime,
    *,
    reason: str = "",
) -> None:
    """Moves a root and records it; the caller writes it, and `_remind_closing` where it was or is resolved."""
    before = root.state.name
    root.move(to, now, resolution)
    root.due_time = now + rules.close_after if to is CaseState.RESOLVED else None
    unit.record(root.subscriber_id, records.lifecycle(root, to.name, before, now, reason=reason))


async def _remind_closing(unit: Unit, roots: Sequence[Case]) -> None:
    # A row of an earlier round would hold with its earlier time.
    await unit.forget_reminders(CLOSE, [root.case_id for root in roots])
    resolved = [root for root in roots if root.state is CaseState.RESOLVED]
    await unit.remind(CLOSE, {root.case_id: (root.due_time, "") for root in resolved if root.due_time is not None})
