"""What does a measurement as a whole say, doubts about its records included?"""

from __future__ import annotations

from services.gate.domain.kpis import Kpi, Outcome, judge, worst
from services.gate.domain.measures import Measurement

UNUSABLE_RECORDS = "UNUSABLE_RECORDS"
LOG_RECORDS_MISSING = "LOG_RECORDS_MISSING"


def judge_measurement(kpi: Kpi, measured: Measurement) -> tuple[Outcome, list[str]]:
    """The outcome with its reasons. The point value decides; it passes only where what could not be used would not
    change that, and where no published record is missing."""
    outcome, reason = judge(kpi, measured.value, measured.size)
    if outcome is Outcome.PASSED and measured.at_worst is not None and not kpi.threshold.holds(measured.at_worst):
        outcome, reason = Outcome.INCONCLUSIVE, UNUSABLE_RECORDS
    reasons = [reason] if reason else []
    if measured.missing:
        return worst([outcome, Outcome.ERROR]), [*reasons, LOG_RECORDS_MISSING]
    return outcome, reasons
