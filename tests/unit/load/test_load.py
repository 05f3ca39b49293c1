"""Does the load tool count, draw and search as it says?"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from misuse.common.v1.signal_pb2 import BAND_MATCH, BAND_NONE, MATCH_KIND_PII
from misuse.log.v1.record_pb2 import LogRecord
from services.chassis.ids import uuid7
from services.gate.domain.statistics import nearest_rank as gates_nearest_rank
from tests.load import knee
from tests.load.mix import MIXES, Kind, Maker, match_share
from tests.load.plan import PLAN, Person, Plan, Tls, read_plan
from tests.load.raw import Raw, nearest_rank, read
from tests.load.run import Arrival, Loaded
from tests.load.shapes import SHAPES
from tests.load.watch import Watched

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def _plan(**changes: object) -> Plan:
    plan = Plan(
        run="r1",
        targets={"detector": "127.0.0.1:1", "case": "127.0.0.1:2", "notify": "127.0.0.1:3"},
        tokens={"detector": "secret-token"},
        people=tuple(Person(f"s{n}", f"s{n}@example.com", "a" if n < 2 else "") for n in range(10)),
        texts={"neutral": ("fine weather",), "others": ("call {n}",), "about": ("write to {mail}",)},
        pictures={"others": ("o.jpg",), "known": ("k.jpg",)},
        mix="texts",
        shape="steady",
        rate=10.0,
        seconds=60.0,
        seed=7,
    )
    return replace(plan, **changes)  # type: ignore[arg-type] # names come from the tests


def _decision(discovered: datetime, *, band: int = BAND_MATCH, signal: bytes = b"") -> LogRecord:
    decision_id = uuid7()
    record = LogRecord(record_id=uuid7(), decision_id=decision_id)
    record.match_decision_log.band = band  # type: ignore[assignment] # a plain number
    record.match_decision_log.kind = MATCH_KIND_PII
    record.match_decision_log.signal_ref = signal or decision_id.encode()
    record.match_decision_log.discover_time.FromDatetime(discovered)
    record.match_decision_log.decide_time.FromDatetime(discovered)
    record.occur_time.FromDatetime(discovered)
    return record


def _commit(decision: LogRecord, at: datetime, transition: str = "SIGHTED") -> LogRecord:
    record = LogRecord(record_id=uuid7(), decision_id=decision.decision_id)
    record.case_lifecycle_log.transition = transition
    record.occur_time.FromDatetime(at)
    return record


def _read(*records: LogRecord) -> Raw:
    return read(record.SerializeToString() for record in records)


def test_latency_is_from_discovery_to_the_first_commit() -> None:
    decision = _decision(NOW)
    late = _commit(decision, NOW + timedelta(seconds=9), "REOPENED")
    raw = _read(late, decision, _commit(decision, NOW + timedelta(seconds=2)))
    assert [2000.0] == raw.latencies_ms
    assert ["SIGHTED"] == [event.transition for event in raw.events]


def test_a_record_that_came_twice_counts_once() -> None:
    decision = _decision(NOW)
    commit = _commit(decision, NOW + timedelta(milliseconds=250))
    assert [250.0] == _read(decision, commit, decision, commit).latencies_ms


def test_what_never_got_a_case_is_infinite_and_what_was_dropped_does_not_count() -> None:
    stuck, dropped, other = _decision(NOW), _decision(NOW), _decision(NOW, band=BAND_NONE)
    raw = _read(stuck, dropped, other, _commit(dropped, NOW, "DROPPED"))
    assert [math.inf] == raw.latencies_ms
    assert 3 == len(raw.decided_signals)


@pytest.mark.parametrize("count", [1, 2, 19, 20, 21, 1000, 9_999])
def test_nearest_rank_is_that_of_the_gate(count: int) -> None:
    values = sorted(random.Random(count).random() for _ in range(count))
    assert gates_nearest_rank(values, 0.95) == nearest_rank(values, 95)


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_the_mean_of_every_shape_is_the_rate(name: str) -> None:
    shares = [SHAPES[name](at / 10, 120.0) for at in range(1200)]
    assert pytest.approx(1.0, rel=0.01) == sum(shares) / len(shares)


@pytest.mark.parametrize("mix", sorted(MIXES))
def test_kinds_come_by_their_weights(mix: str) -> None:
    maker = Maker(_plan(mix=mix), "w")
    drawn = Counter(maker.kind() for _ in range(20_000))
    share = (drawn[Kind.MATCH] + drawn[Kind.REPOST] + drawn[Kind.PICTURE_KNOWN]) / 20_000
    assert pytest.approx(match_share(mix), abs=0.015) == share


def test_everybody_is_named_once_before_anybody_is_named_again() -> None:
    maker = Maker(_plan(), "w")
    texts = [maker.post(Kind.MATCH).text for _ in range(10)]
    assert 10 == len({text.rpartition(" ")[2] for text in texts})


def test_a_duplicate_is_an_earlier_post_and_a_repost_is_not() -> None:
    maker = Maker(_plan(), "w")
    first = maker.post(Kind.MATCH)
    assert first == maker.post(Kind.DUPLICATE)
    again = maker.post(Kind.REPOST)
    assert again.text.startswith(first.text)
    assert first.signal_id != again.signal_id


def test_a_plan_is_private_and_can_be_changed_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    token = tmp_path / "token"
    token.write_text("other-token\n")
    _plan().save(file)
    environ = {
        PLAN: str(file),
        "JIKIMI_LOAD_DETECTOR": "detector.jikimi:443",
        "JIKIMI_LOAD_CA": "/tls/ca.crt",
        "JIKIMI_LOAD_TOKEN_DETECTOR_FILE": str(token),
        "JIKIMI_LOAD_RATE": "25",
    }
    expected = _plan(
        targets={**_plan().targets, "detector": "detector.jikimi:443"},
        tokens={"detector": "other-token"},
        tls=Tls("/tls/ca.crt"),
        rate=25.0,
    )
    assert expected == read_plan(environ)
    assert 0o600 == file.stat().st_mode & 0o777
    assert "secret-token" not in repr(_plan())


def _loaded(rate: float, latency_ms: float, *, matches: int = 100, accepted: int | None = None) -> Loaded:
    seconds = 10.0
    decisions = [_decision(NOW) for _ in range(matches)]
    commits = [_commit(each, NOW + timedelta(milliseconds=latency_ms)) for each in decisions]
    taken = matches if accepted is None else accepted
    arrivals = [
        Arrival("post", f"s{n}", n / rate, 0.01, "OK" if n < taken else "DUPLICATE")
        for n in range(round(rate * seconds))
    ]
    plan = _plan(rate=rate, seconds=seconds)
    return Loaded(plan, arrivals, _read(*decisions, *commits), Watched(), Watched(), 0.0, 0, matches)


def test_an_accepted_signal_without_a_decision_is_lost() -> None:
    assert [] == _loaded(100.0, 10.0).lost()
    assert ["signals accepted, signals decided: 101 and 100"] == _loaded(100.0, 10.0, accepted=101).lost()


def test_calls_that_failed_or_were_never_sent_are_faults() -> None:
    loaded = _loaded(100.0, 10.0)
    more = [Arrival("inbox", "", 5.0, 1.0, "FAILED UNAVAILABLE"), Arrival("post", "", 5.0, 0.0, "NOT_SENT")]
    faults = replace(loaded, arrivals=[*loaded.arrivals, *more]).lost()
    assert ["1 arrivals were never sent: the generator was short", "1 calls failed"] == faults


async def _found(bears: float) -> knee.Knee:
    tried: list[float] = []

    async def put(rate: float) -> Loaded:
        tried.append(rate)
        return _loaded(rate, 100.0 if rate <= bears else 5000.0)

    return await knee.find(put, "texts", 50.0, 2000.0, lambda step: None)


async def test_the_knee_is_the_highest_rate_that_held() -> None:
    found = await _found(bears=100.0)
    rates = sorted(step.wanted for step in found.steps if step.held)
    assert pytest.approx(rates[-1], rel=0.02) == found.rate
    assert all(step.wanted > 100 for step in found.steps if not step.held)
    assert 100 / knee.GROWTH < found.rate <= 100 * 1.02


async def test_no_rate_that_holds_is_no_knee() -> None:
    assert 0.0 == (await _found(bears=1.0)).rate


async def test_a_step_that_the_generator_could_not_send_does_not_hold() -> None:
    slow = replace(_loaded(50.0, 10.0), plan=_plan(rate=100.0))
    step = knee.step_of(slow, 2000.0)
    assert not step.held
    assert step.saturated.startswith("the generator")


async def test_a_kept_knee_is_for_its_mix_alone(tmp_path: Path) -> None:
    file = tmp_path / "knee.json"
    assert knee.known_rate(file, "texts") is None
    found = await _found(bears=100.0)
    knee.save(file, found, {})
    assert found.rate == knee.known_rate(file, "texts")
    assert knee.known_rate(file, "all") is None


def _watched(cores: dict[str, float], lengths: Sequence[int], waits: dict[str, int]) -> Watched:
    queues = [(float(at), {"spool": length}) for at, length in enumerate(lengths)]
    return Watched(cores=cores, queues=queues, waits=Counter(waits))


def test_what_was_short_is_named_with_what_shows_it() -> None:
    busy = _watched({"case": 50.0, "postgres": 50.0}, [0] * 9, {})
    assert busy.saturated().startswith("processors: 100.00")
    waiting = _watched({"case": 0.1}, [0, 0, 0, 500, 900, 1500, 2000, 2500, 3000], {"IO/WALSync": 9, "CPU/running": 20})
    assert "database, waiting for IO/WALSync (9 of 29 looks); grew: spool" == waiting.saturated()


def test_no_service_comes_near_gevent() -> None:
    lock = (Path(__file__).resolve().parents[3] / "requirements" / "runtime.txt").read_text()
    assert not [name for name in ("gevent", "locust", "flask") if f"\n{name}==" in lock]
