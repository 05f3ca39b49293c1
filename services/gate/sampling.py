"""What does the gate do with samples: draws and freezes them, shows how far their labels are, judges by them?"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from services.chassis.clock import Clock
from services.chassis.errors import FailedPrecondition, InvalidInput, NotFound
from services.chassis.ids import uuid7
from services.gate.domain.kpis import Kpi
from services.gate.domain.labels import Labelled, labelled
from services.gate.domain.measures import Measurement
from services.gate.domain.precision import drawing, false_positives, precision
from services.gate.domain.samples import Alert, Plan, Plans, Sample, Term, draw, strata_of
from services.gate.ports import Command, Records, SampleShelf, SampleShelves, Views


def new_seed() -> str:
    """A seed that nobody can foresee: 64 hex digits."""
    return secrets.token_hex(32)


@dataclass(frozen=True)
class Sampling:
    """Draws, freezes and shows samples."""

    plans: Plans
    views: Views
    shelves: SampleShelves
    clock: Clock
    new_id: Callable[[], str] = uuid7
    new_seed: Callable[[], str] = new_seed

    async def freeze(self, report: str, command: Command) -> Sample:
        """Draws a sample of the alerts in the window of a report's plan, and keeps it for good. Raises InvalidInput
        NO_SAMPLING_PLAN, FailedPrecondition TOO_FEW or TOO_MANY_STRATA.

        Drawing happens before the transaction that stores everything: of two equal requests at once the second throws
        its sample away and answers with the first's.
        """
        if report not in self.plans.by_report:
            violation = ("report_name", "NO_SAMPLING_PLAN")
            raise InvalidInput(violation[1], "No sample is drawn for such a report.", violations=[violation])
        async with self.shelves() as shelf:
            if (known := await shelf.recall(command)) is not None:
                return await _stored(shelf, known)
        sample = await self._drawn(*self.plans.by_report[report])
        async with self.shelves() as shelf:
            if (known := await shelf.recall(command)) is not None:
                return await _stored(shelf, known)
            await shelf.put_sample(sample)
            await shelf.remember(command, sample.sample_id)
        return sample

    async def _drawn(self, plan: Plan, term: Term) -> Sample:
        """The population is read before the seed exists, so that nobody can choose one by what it would give."""
        now = self.clock.now()
        since = now - timedelta(days=term.window_days)
        async with self.views() as records:
            cut_off = await records.cut_off()
            strata = strata_of(await records.alerts(since, now, cut_off), plan)
        self._check(strata, plan)
        seed = self.new_seed()
        return Sample(
            sample_id=self.new_id(),
            plan=plan,
            seed=seed,
            start_time=since,
            end_time=now,
            expire_time=now + timedelta(days=term.valid_days),
            cut_off=cut_off,
            drawn=draw(strata, plan, seed),
            plan_version=self.plans.version,
            papers=self.plans.papers,
        )

    def _check(self, strata: Mapping[str, Sequence[Alert]], plan: Plan) -> None:
        """One stratum at least must hold what is wanted: else people would label what no gate may judge by."""
        largest = max((len(alerts) for alerts in strata.values()), default=0)
        if largest < plan.size:
            raise FailedPrecondition(
                "TOO_FEW",
                "There are fewer alerts in the window than the sample needs.",
                metadata={"alerts": str(largest), "needed": str(plan.size)},
                violations=[("population", "TOO_FEW")],
            )
        if len(strata) > self.plans.most_strata:
            raise FailedPrecondition(
                "TOO_MANY_STRATA",
                "There are more channel groups than one sample takes.",
                metadata={"groups": str(len(strata))},
                violations=[("population", "TOO_MANY_STRATA")],
            )

    async def show(self, sample_id: str) -> tuple[Sample, Labelled]:
        """A sample with what its labels say so far. Raises NotFound."""
        async with self.shelves() as shelf:
            sample = await _stored(shelf, sample_id)
        async with self.views() as records:
            labels, void = await records.labels(sample_id), await records.void(sample_id)
        return sample, labelled(sample, labels, void)

    async def reproduced(self, sample: Sample) -> bool:
        """Whether the log records up to the sample's cut-off give its population, and its seed its items."""
        async with self.views() as records:
            return sample.reproduced_from(await records.alerts(sample.start_time, sample.end_time, sample.cut_off))

    async def page(self, report: str, before: str, limit: int) -> Sequence[Sample]:
        """Samples, newest first, below an id if given."""
        async with self.shelves() as shelf:
            return await shelf.samples(report, before, limit)


async def _stored(shelf: SampleShelf, sample_id: str) -> Sample:
    sample = await shelf.sample(sample_id)
    if sample is None:
        raise NotFound("NO_SUCH_SAMPLE", "There is no such sample.")
    return sample


async def measure_precision(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of FaceMatchEvalReport_v1."""
    return await _measure(precision, kpi, records, now)


async def measure_false_positives(kpi: Kpi, records: Records, now: datetime) -> Measurement:
    """Figures of FalsePositiveAnalysisReport_v1."""
    return await _measure(false_positives, kpi, records, now)


async def _measure(
    figures: Callable[[Kpi, Sample, Labelled], Measurement], kpi: Kpi, records: Records, now: datetime
) -> Measurement:
    """By the last sample that was frozen for the report, unless it has expired; nothing without one."""
    sample = await records.latest_sample(kpi.report, now)
    if sample is None or sample.expire_time < now:
        return Measurement(None, 0, None, "")
    frozen = await records.count("sample_log", kpi.report, now - timedelta(days=kpi.window_days), now)
    labels, void = await records.labels(sample.sample_id), await records.void(sample.sample_id)
    seen = labelled(sample, labels, void)
    # Clocks of services differ: a case may be committed a little before its alert was decided.
    since = sample.start_time - timedelta(hours=1)
    cases = await records.cases_of([item.alert.decision_id for item in seen.items], since)
    measured = figures(kpi, sample, seen)
    return replace(
        measured,
        facts=[*measured.facts, *drawing(frozen, len(cases))],
        records={"sample_log": 1, "label_log": len(labels), "review_log": len(void)},
    )
