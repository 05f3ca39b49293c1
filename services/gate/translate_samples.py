"""How do samples become messages of the contract?"""

from __future__ import annotations

from datetime import datetime

from google.protobuf.timestamp_pb2 import Timestamp

from misuse.gate.v1 import gate_service_pb2 as pb
from services.gate.domain.labels import RIGHT, WRONG, Labelled
from services.gate.domain.samples import Sample


def sample_message(sample: Sample) -> pb.Sample:
    """A sample without its items."""
    drawn = sample.drawn
    return pb.Sample(
        sample_id=sample.sample_id,
        report_name=sample.plan.report,
        design=sample.plan.design.value,
        seed=sample.seed,
        start_time=_stamp(sample.start_time),
        end_time=_stamp(sample.end_time),
        expire_time=_stamp(sample.expire_time),
        population_size=drawn.population_size,
        population_sha256=drawn.population_sha256,
        manifest_sha256=drawn.manifest_sha256,
        size=sample.size,
        drawn=len(drawn.items),
        parts=[
            pb.SamplePart(name=part.name, population=part.population, size=part.size, drawn=part.drawn)
            for part in drawn.strata
        ],
        plan_version=sample.plan_version,
        policy_version=sample.papers.policy_version,
        quality_version=sample.papers.quality_version,
    )


def progress_message(seen: Labelled) -> pb.SampleProgress:
    """How far the labels of a sample are."""
    items, agreed = seen.items, seen.agreement
    interval = agreed.interval
    return pb.SampleProgress(
        settled=sum(bool(item.word) for item in items),
        true_positives=sum(item.word == RIGHT for item in items),
        false_positives=sum(item.word == WRONG for item in items),
        unlabelled=sum(item.labelled == 0 for item in items),
        labelled_once=sum(item.labelled == 1 for item in items),
        disputed=sum(item.disputed for item in items),
        adjudicated=sum(item.adjudicated for item in items),
        void=sum(part.void for part in seen.parts),
        pairs=agreed.pairs,
        agreement=agreed.share,
        kappa=agreed.kappa,
        kappa_low=None if interval is None else interval.low,
        kappa_high=None if interval is None else interval.high,
        labellers=seen.labellers,
        median_review_ms=round(seen.median_review_ms or 0),
        labels_per_hour=seen.per_hour,
    )


def _stamp(moment: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(moment)
    return stamp
