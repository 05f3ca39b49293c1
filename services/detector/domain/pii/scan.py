"""Which personal data a signal's texts hold."""

from __future__ import annotations

import re
from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from services.detector.domain.pii import address, contact, context, credentials, financial, national
from services.detector.domain.pii.hits import Hit, ScanResult
from services.detector.domain.pii.model import Check, Confidence, Kind, TextPart, TextTooLong
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
MOST_AT_ONCE: Final = 65_536
"""Characters that the engine looks at together, one longer text aside."""
_NOTHING: Final = ScanResult(())


class Engine(Protocol):
    """What finds personal data in texts; made for a set of rules. Engines differ in speed alone."""

    def find(self, texts: Sequence[str], fields: Sequence[str]) -> Mapping[int, list[Hit]]:
        """By the number of each text in which there is any: its hits, which do not overlap, by their place in the text
        as it came. `fields`: what each text is called in its hits."""


@dataclass(frozen=True, slots=True)
class WholeText:
    """The reference engine: every recogniser looks at everything, with `re`."""

    rules: Rules
    recognisers: Sequence[Recogniser] = RECOGNISERS

    def find(self, texts: Sequence[str], fields: Sequence[str]) -> Mapping[int, list[Hit]]:
        """See the port."""
        found: dict[int, list[Hit]] = {}
        for number, (text, field) in enumerate(zip(texts, fields, strict=True)):
            view = normalise(text)
            if candidates := list(self._candidates(view.text)):
                found[number] = [_hit(each, field, view) for each in _without_overlaps(candidates)]
        return found

    def _candidates(self, text: str) -> Iterator[_Candidate]:
        for rank, recogniser in enumerate(self.recognisers):
            for match in recogniser.pattern.finditer(text):
                if candidate := self._judge(recogniser, rank, match):
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


class Scanner:
    """Finds personal data; pure, safe to share between threads as far as its engine is.

    Every recogniser needs a rule in `rules`; raises ValueError otherwise. `fallback_reason`: why a slower engine than
    the one that was wanted looks, which finds the same; empty where none does.
    """

    def __init__(self, rules: Rules, engine: Callable[[Rules], Engine], fallback_reason: str = "") -> None:
        ids = {recogniser.rule_id for recogniser in RECOGNISERS}
        if ids != set(rules.rules):
            raise ValueError(f"pii rules and recognisers differ: {sorted(ids ^ set(rules.rules))}")
        for recogniser in RECOGNISERS:
            if recogniser.in_context_only and rules.rules[recogniser.rule_id].counts_alone():
                raise ValueError(f"pii rules: {recogniser.rule_id} is found in context only")
        self.rules = rules
        self.fallback_reason = fallback_reason
        self.engine = engine(rules)

    def scan(self, parts: Sequence[TextPart]) -> ScanResult:
        """All hits of all parts. Raises TextTooLong when the parts together exceed the rules' `max_chars`."""
        return next(self.scan_each([parts]))

    def scan_each(self, signals: Iterable[Sequence[TextPart]]) -> Iterator[ScanResult]:
        """What `scan` finds in each of several signals, in their order. Costs less: the engine sees many at once."""
        for batch in _batches(signals, self.rules.max_chars):
            fields = [part.field for signal in batch for part in signal]
            texts = [part.text for signal in batch for part in signal]
            found = self.engine.find(texts, fields)
            if not found:
                yield from [_NOTHING] * len(batch)
                continue
            number = 0
            for signal in batch:
                hits: list[Hit] = []
                for _ in signal:
                    if number in found:
                        hits += found[number]
                    number += 1
                yield ScanResult(tuple(hits), self.rules.combinations_of(hits)) if hits else _NOTHING


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


def _hit(candidate: _Candidate, field: str, view: View) -> Hit:
    recogniser = candidate.recogniser
    start, end = view.origin(candidate.start, candidate.end)
    return Hit(
        kind=recogniser.kind,
        rule_id=recogniser.rule_id,
        rule_version=candidate.rule.version,
        field=field,
        start=start,
        end=end,
        confidence=candidate.confidence,
        check=candidate.check,
        mask_rule=recogniser.mask,
        national=recogniser.national,
        personal=recogniser.personal,
        value=view.text[candidate.start : candidate.end] if recogniser.watchable else "",
    )
