"""Does every recogniser find what its own examples say, and nothing in what it must leave alone?"""

from __future__ import annotations

import pytest

from services.detector.domain.pii import RECOGNISERS, Scanner, TextPart
from services.detector.domain.pii.recogniser import Recogniser

VALID = [(each, text) for each in RECOGNISERS for text in each.examples.valid]
INVALID = [(each, text) for each in RECOGNISERS for text in each.examples.invalid]


def found(scanner: Scanner, text: str, rule: Recogniser) -> list[str]:
    hits = scanner.scan([TextPart("body", text)]).hits
    return [text[hit.start : hit.end] for hit in hits if hit.kind is rule.kind]


@pytest.mark.parametrize(("rule", "marked"), VALID)
def test_a_valid_example_is_found_exactly(scanner: Scanner, rule: Recogniser, marked: str) -> None:
    before, rest = marked.split("⟦")
    value, after = rest.split("⟧")
    assert found(scanner, before + value + after, rule) == [value]


@pytest.mark.parametrize(("rule", "text"), INVALID)
def test_an_invalid_example_is_left_alone(scanner: Scanner, rule: Recogniser, text: str) -> None:
    hits = scanner.scan([TextPart("body", text)]).hits
    assert [hit.rule_id for hit in hits if hit.rule_id == rule.rule_id] == []


def test_every_rule_ships_examples_for_and_against() -> None:
    assert [each.rule_id for each in RECOGNISERS if not each.examples.valid or not each.examples.invalid] == []


def test_rule_ids_are_unique() -> None:
    assert len({each.rule_id for each in RECOGNISERS}) == len(RECOGNISERS)
