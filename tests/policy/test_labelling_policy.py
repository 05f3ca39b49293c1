"""Do those who label and those who judge by labels speak of the same policy?"""

from __future__ import annotations

from services.case.adapters.rules import load_rules
from services.gate.adapters.sampling_rules import load_plans


def test_labels_cite_the_policy_that_samples_cite() -> None:
    assert load_plans().papers.policy_version == load_rules().labelling_policy
