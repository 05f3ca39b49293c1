"""What does the case service count and measure?"""

from __future__ import annotations

from services.chassis.metrics import LONG_EDGES_S, counter, gauge, histogram

CASE_LATENCY = histogram(
    "jikimi_case_latency_seconds",
    "How long after its discovery is a sure find a case, or a sighting of one?",
    "kind",
)
REVIEW_ITEMS = gauge("jikimi_review_items", "How many items wait for people, how many of them too long?", "state")
CASES_OVERDUE = gauge("jikimi_cases_overdue", "How many cases are longer in a state than the rules allow?", "priority")
RIGHTS_OPEN = gauge(
    "jikimi_rights_requests",
    "How many requests of subscribers are open, due within two days, overdue?",
    "kind",
    "state",
)
RIGHTS_ANSWERED = counter(
    "jikimi_rights_answered_total",
    "How many requests of subscribers were answered in time, how many late?",
    "kind",
    "outcome",
)
RIGHTS_SECONDS = histogram(
    "jikimi_rights_seconds", "How long does the answer to a request of a subscriber take?", "kind", edges=LONG_EDGES_S
)
