"""Which personal data a signal's texts hold."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias

from services.detector.domain.pii import address, contact, context, credentials, financial, national
from services.detector.domain.pii.model import Check, Confidence, Hit, Kind, ScanResult, TextPart, TextTooLong
from services.detector.domain.pii.normalise import View, normalise
from services.detector.domain.pii.recogniser import Nearby, Recogniser
from services.detector.domain.pii.rules import Rule, Rules

# The order decides between overlapping hits of equal confidence.
RECOGNISERS: Final[tuple[Recogniser, ...]] = (
    *credentials.RECOGNISERS,
    *national.RECOGNISERS,
    *financial.RECOGNISERS,
    *contact.RECOGNISERS,
    *address.RECOGNISERS,
    *context.RECOGNISERS,
)
Windows: TypeAlias = Sequence[tuple[int, int]]
Sight: TypeAlias = tuple[View, Sequence[tuple[int, Windows]]]
MOST_AT_ONCE: Final = 65_536
"""Characters that the engine looks at together, one longer text aside."""
_NOTHING: Final = ScanResult(())


class Engine(Protocol):
    """Where in a text a recogniser's pattern can match at all."""

    def look(self, texts: Sequence[str]) -> Mapping[int, Sight]:
        """By the number of each text in which anything can match: the text as patterns must see it, and pairs of (index
        into the recognisers, ascending disjoint windows that hold all of its matches). The view may be the text itself
        where normalisation would change no match."""


@dataclass(frozen=True, slots=True)
class WholeText:
    """The reference engine: every recogniser looks at everything."""

    recognisers: Sequence[Recogniser] = RECOGNISERS

    def look(self, texts: Sequence[str]) -> Mapping[int, Sight]:
        """The whole text, normalised, for each recogniser."""
        views = enumerate(map(normalise, texts))
        every = range(len(self.recognisers))
        return {number: (view, [(index, ((0, len(view.text)),)) for index in every]) for number, view in views}


class _Candidate(NamedTuple):
    start: int
    end: int
    recogniser: Recogniser
    rule: Rule
    check: Check
    confidence: Confidence
    rank: int

    def precedence(self) -> tuple[bool, int, int, int, int]:
        # A password must never come out as an e-mail address; then the surer, checked, longer, earlier rule.
        return (
            self.recogniser.kind is not Kind.CREDENTIAL,
            -self.confidence,
            -(self.check is Check.YES),
            self.start - self.end,
            self.rank,
        )


@dataclass(frozen=True, slots=True)
class Scanner:
    """Finds personal data; pure, safe to share between threads as far as its engine is.

    Every recogniser needs a rule in `rules`; raises ValueError otherwise.
    """

    rules: Rules
    engine: Engine
    recognisers: Sequence[Recogniser] = RECOGNISERS

    def __post_init__(self) -> None:
        ids = {recogniser.rule_id for recogniser in self.recognisers}
        if ids != set(self.rules.rules):
            raise ValueError(f"pii rules and recognisers differ: {sorted(ids ^ set(self.rules.rules))}")
        for recogniser in self.recognisers:
            if recogniser.in_context_only and self.rules.rules[recogniser.rule_id].counts_alone():
                raise ValueError(f"pii rules: {recogniser.rule_id} is found in context only")

    def scan(self, parts: Sequence[TextPart]) -> ScanResult:
        """All hits of all parts. Raises TextTooLong when the parts together exceed the rules' `max_chars`."""
        return next(self.scan_each([parts]))

    def scan_each(self, signals: Iterable[Sequence[TextPart]]) -> Iterator[ScanResult]:
        """What `scan` finds in each of several signals, in their order. Costs less: the engine sees many at once."""
        for batch in _batches(signals, self.rules.max_chars):
            parts = [part for signal in batch for part in signal]
            owners = [number for number, signal in enumerate(batch) for _ in signal]
            results = [_NOTHING] * len(batch)
            found: dict[int, list[Hit]] = {}
            for number, sight in sorted(self.engine.look([part.text for part in parts]).items()):
                if hits := self._hits(parts[number], *sight):
                    found.setdefault(owners[number], []).extend(hits)
            for number, hits in found.items():
                results[number] = self._result(tuple(hits))
            yield from results

    def _result(self, hits: tuple[Hit, ...]) -> ScanResult:
        return ScanResult(hits, tuple([each for each in self.rules.combinations if each.holds(hits)]))

    def _hits(self, part: TextPart, view: View, places: Sequence[tuple[int, Windows]]) -> list[Hit]:
        candidates = list(self._candidates(view.text, places))
        return [_hit(candidate, part, view) for candidate in _without_overlaps(candidates)] if candidates else []

    def _candidates(self, text: str, places: Iterable[tuple[int, Windows]]) -> Iterator[_Candidate]:
        for index, windows in places:
            recogniser = self.recognisers[index]
            for low, high in windows:
                for match in recogniser.pattern.finditer(text, low, high):
                    if candidate := self._judge(recogniser, index, match):
                        yield candidate

    def _judge(self, recogniser: Recogniser, rank: int, match: re.Match[str]) -> _Candidate | None:
        start, end = _value_span(match) if match.re.groups else match.span()
        answer = recogniser.check(match.string[start:end])
        if answer is False:
            return None
        check = Check.UNKNOWN if answer is None else Check.YES
        rule = self.rules.rules[recogniser.rule_id]
        nearby = recogniser.context.verdict(match.string, start, end)
        confidence = rule.confidence(check, nearby)
        if nearby is Nearby.ALONE and (confidence is None or recogniser.lookalike(match.string[start:end])):
            confidence = rule.whole if _is_whole(match.string, start, end) else None
        if confidence is None:
            return None
        return _Candidate(start, end, recogniser, rule, check, confidence, rank)


def _batches(signals: Iterable[Sequence[TextPart]], most: int) -> Iterator[list[Sequence[TextPart]]]:
    """Signals that are looked at together. Raises TextTooLong for one that is longer than `most` characters."""
    batch: list[Sequence[TextPart]] = []
    together = 0
    for parts in signals:
        length = sum([len(part.text) for part in parts])
        if length > most:
            raise TextTooLong(length, most)
        if batch and together + length > MOST_AT_ONCE:
            yield batch
            batch, together = [], 0
        batch.append(parts)
        together += length
    if batch:
        yield batch


def _value_span(match: re.Match[str]) -> tuple[int, int]:
    for name in ("v", "w", "x"):
        if name in match.re.groupindex and match.start(name) >= 0:
            return match.span(name)
    return match.span()


def _is_whole(text: str, start: int, end: int) -> bool:
    return not text[:start].strip() and not text[end:].strip()


def _without_overlaps(candidates: Iterable[_Candidate]) -> list[_Candidate]:
    """The strongest candidates that do not overlap, by position; O(n log n)."""
    taken: list[tuple[int, int]] = []
    chosen = []
    for candidate in sorted(candidates, key=_Candidate.precedence):
        at = bisect_left(taken, (candidate.end, 0))
        if at == 0 or taken[at - 1][1] <= candidate.start:
            insort(taken, (candidate.start, candidate.end))
            chosen.append(candidate)
    return sorted(chosen, key=lambda candidate: candidate.start)


def _hit(candidate: _Candidate, part: TextPart, view: View) -> Hit:
    recogniser = candidate.recogniser
    start, end = view.origin(candidate.start, candidate.end)
    watchable = not recogniser.national and recogniser.kind is not Kind.CREDENTIAL
    return Hit(
        kind=recogniser.kind,
        rule_id=recogniser.rule_id,
        rule_version=candidate.rule.version,
        field=part.field,
        start=start,
        end=end,
        confidence=candidate.confidence,
        check=candidate.check,
        mask_rule=recogniser.mask,
        national=recogniser.national,
        personal=recogniser.personal,
        canonical=recogniser.canonical(view.text[candidate.start : candidate.end]) if watchable else "",
    )
