"""The scanner under test, with the shipped rules and the reference engine."""

from __future__ import annotations

from pathlib import Path

import pytest

import services.detector.domain.pii as pii

RULES = Path(pii.__file__).parents[2] / "rules" / "pii.yaml"


@pytest.fixture(scope="session")
def rules() -> pii.Rules:
    return pii.Rules.parse(RULES.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def scanner(rules: pii.Rules) -> pii.Scanner:
    return pii.Scanner(rules, pii.WholeText)
