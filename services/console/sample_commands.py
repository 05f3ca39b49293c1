"""What does each command of `jikimi gate sample` do?"""

from __future__ import annotations

import argparse
import secrets

from jikimi_client.misuse.gate import v1 as gate_api
from services.console.client import Connections, connections, staff
from services.console.home import Home
from services.console.output import PAGE, Row, everything, present, print_rows, time_of

REPORTS = {"precision": "FaceMatchEvalReport_v1", "false-positives": "FalsePositiveAnalysisReport_v1"}
"""Short names of the reports that rest on samples."""


def _stub(services: Connections) -> gate_api.GateServiceStub:
    return services.stub("gate", gate_api.GateServiceStub, staff("RELEASE_MANAGER", "RELEASE"), seconds=120)


async def sample_freeze(home: Home, options: argparse.Namespace) -> int:
    """Draws and freezes a sample."""
    async with connections(home) as services:
        request = gate_api.FreezeSampleRequest(
            report_name=REPORTS.get(options.report, options.report), request_id=secrets.token_hex(16)
        )
        sample = present((await _stub(services).freeze_sample(request)).sample)
    print_rows(options, _facts(sample), ["", "frozen sample"], _rows(sample))
    return 0


async def sample_show(home: Home, options: argparse.Namespace) -> int:
    """Shows a sample with its labels so far; without an id lists samples. Exit 1 where drawing again gave another."""
    if not options.sample:
        return await _sample_list(home, options)
    async with connections(home) as services:
        request = gate_api.GetSampleRequest(sample_id=options.sample, reproduce=options.reproduce)
        answer = await _stub(services).get_sample(request)
    sample, progress = present(answer.sample), present(answer.progress)
    facts = {**_facts(sample), **_progress(progress)}
    rows = [*_rows(sample), *_progress_rows(progress)]
    if options.reproduce:
        facts["reproduced"] = bool(answer.reproduced)
        rows.append(["drawn again from the log records", "the same" if answer.reproduced else "NOT the same"])
    print_rows(options, facts, ["", "sample"], rows)
    return 1 if options.reproduce and not answer.reproduced else 0


async def _sample_list(home: Home, options: argparse.Namespace) -> int:
    async with connections(home) as services:
        stub = _stub(services)

        async def page(token: str) -> tuple[list[gate_api.Sample], str]:
            answer = await stub.list_samples(gate_api.ListSamplesRequest(page_size=PAGE, page_token=token))
            return answer.samples, answer.next_page_token

        samples = await everything(page)
    rows = [
        [s.sample_id, s.report_name, s.design, f"{s.size} of {s.population_size}", time_of(s.end_time)]
        for s in samples
    ]
    print_rows(options, [_facts(s) for s in samples], ["id", "report", "design", "items", "frozen"], rows)
    return 0


def _facts(sample: gate_api.Sample) -> dict[str, object]:
    return {
        "sample_id": sample.sample_id,
        "report_name": sample.report_name,
        "design": sample.design,
        "seed": sample.seed,
        "start_time": sample.start_time.isoformat() if sample.start_time else "",
        "end_time": sample.end_time.isoformat() if sample.end_time else "",
        "expire_time": sample.expire_time.isoformat() if sample.expire_time else "",
        "population_size": sample.population_size,
        "population_sha256": sample.population_sha256.hex(),
        "manifest_sha256": sample.manifest_sha256.hex(),
        "size": sample.size,
        "drawn": sample.drawn,
        "plan_version": sample.plan_version,
        "policy_version": sample.policy_version,
        "quality_version": sample.quality_version,
        "parts": [part.to_dict() for part in sample.parts],
    }


def _rows(sample: gate_api.Sample) -> list[Row]:
    rows: list[Row] = [
        ["sample", sample.sample_id],
        ["report", f"{sample.report_name}, {sample.design}"],
        ["population", f"{sample.population_size:,} alerts"],
        ["from, to", f"{time_of(sample.start_time)}, {time_of(sample.end_time)}"],
        ["population SHA-256", _halves(sample.population_sha256.hex())],
        ["seed", _halves(sample.seed)],
        ["manifest SHA-256", _halves(sample.manifest_sha256.hex())],
        ["items", f"{sample.size:,} and {sample.drawn - sample.size:,} spare"],
        ["documents", f"{sample.plan_version}, {sample.policy_version}, {sample.quality_version}"],
        ["counts until", time_of(sample.expire_time)],
    ]
    return rows + [[part.name, f"{part.size:,} of {part.population:,}"] for part in sample.parts if part.name]


def _halves(digits: str) -> str:
    """In two lines: a hash that is cut proves nothing."""
    return f"{digits[:32]}\n{digits[32:]}"


def _progress_rows(progress: gate_api.SampleProgress) -> list[Row]:
    p = progress
    rows: list[Row] = [
        ["settled", f"{p.settled:,}: {p.true_positives:,} right, {p.false_positives:,} wrong"],
        ["open", f"{p.unlabelled:,} without a label, {p.labelled_once:,} with one, {p.disputed:,} disputed"],
        ["adjudicated, void", f"{p.adjudicated:,}, {p.void:,}"],
        ["labellers", p.labellers],
        ["median review time", f"{p.median_review_ms / 1000:.1f} s"],
    ]
    if p.labels_per_hour is not None:
        rows.append(["labels per hour", f"{p.labels_per_hour:,.1f}"])
    if p.agreement is not None:
        rows.append(["raw agreement", f"{p.agreement:.2%} of {p.pairs:,} pairs"])
    if p.kappa is not None:
        rows.append(["Cohen's kappa", f"{p.kappa:.3f} [{p.kappa_low:.3f}, {p.kappa_high:.3f}]"])
    return rows


def _progress(progress: gate_api.SampleProgress) -> dict[str, object]:
    facts: dict[str, object] = {
        name: getattr(progress, name)
        for name in (
            "settled",
            "true_positives",
            "false_positives",
            "unlabelled",
            "labelled_once",
            "disputed",
            "adjudicated",
            "void",
            "pairs",
            "agreement",
            "kappa",
            "kappa_low",
            "kappa_high",
            "labellers",
            "median_review_ms",
            "labels_per_hour",
        )
    }
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in facts.items()}
