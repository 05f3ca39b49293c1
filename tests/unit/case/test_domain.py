"""Do states, chains, removals, rules and words hold to what they say?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from misuse.case.v1 import case_pb2, review_service_pb2, subscriber_service_pb2
from misuse.common.v1 import signal_pb2
from misuse.removal.v1 import removal_service_pb2
from services.case.adapters.rules import SHIPPED, RulesError, load_rules
from services.case.domain import words
from services.case.domain.cases import MOVES, Case
from services.case.domain.chain import Entry, Head, append, compare_head, verify
from services.case.domain.people import is_minor, needs_guardian
from services.case.domain.removals import RemovalState, follow
from services.case.domain.words import CaseKind, CaseState, KeyKind, Resolution
from services.chassis.errors import FailedPrecondition

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def case(state: CaseState = CaseState.OPEN) -> Case:
    return Case("c", "s", [CaseKind.FACE], NOW, NOW, NOW, 0, state=state)


# --- words ---


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (words.CaseKind, signal_pb2.CaseKind),
        (words.CaseState, case_pb2.CaseState),
        (words.Resolution, case_pb2.Resolution),
        (words.Verdict, case_pb2.SubscriberVerdict),
        (words.SubscriberState, subscriber_service_pb2.SubscriberState),
        (words.Priority, case_pb2.CasePriority),
        (words.PriorityReason, case_pb2.PriorityReason),
        (words.Label, review_service_pb2.Label),
        (RemovalState, removal_service_pb2.RemovalState),
    ],
)
def test_our_numbers_are_those_of_the_contract(ours: type[IntEnum], theirs: Any) -> None:
    contract = {v.number: v.name for v in theirs.DESCRIPTOR.values if v.number or 0 in list(ours)}
    assert set(contract) == {member.value for member in ours}
    assert all(contract[member.value].endswith(f"_{member.name}") for member in ours)


def test_the_two_bands_that_reach_us_have_the_contracts_numbers() -> None:
    expected = {signal_pb2.Band.Name(band) for band in (signal_pb2.BAND_MATCH, signal_pb2.BAND_REVIEW)}
    assert expected == {f"BAND_{band.name}" for band in words.Band}
    assert [1, 2] == sorted(words.Band)


def test_faces_and_data_have_one_number_as_match_and_as_case() -> None:
    for kind in (CaseKind.FACE, CaseKind.PII):
        assert f"MATCH_KIND_{kind.name}" == signal_pb2.MatchKind.Name(kind.value)  # type: ignore[arg-type] # a number


# --- states ---


@settings(deadline=None)
@given(st.sampled_from(CaseState), st.sampled_from(CaseState))
def test_a_case_moves_as_the_table_says_and_no_other_way(state: CaseState, to: CaseState) -> None:
    moving = case(state)
    if to in MOVES[state]:
        moving.move(to, NOW)
        assert (to, 2) == (moving.state, moving.version)
    else:
        with pytest.raises(FailedPrecondition) as refusal:
            moving.move(to, NOW)
        assert ("ILLEGAL_TRANSITION", state, 1) == (refusal.value.reason, moving.state, moving.version)


def test_an_unmerged_case_is_what_it_was() -> None:
    root, alias = case(), Case("b", "s", [CaseKind.PII], NOW, NOW, NOW, 0)
    alias.move(CaseState.WAITING_PLATFORM, NOW)
    root.absorb(alias, NOW)
    assert (CaseState.MERGED, "c") == (alias.state, alias.root_case_id)
    alias.part(NOW)
    assert (CaseState.WAITING_PLATFORM, "b") == (alias.state, alias.root_case_id)
    with pytest.raises(FailedPrecondition):
        alias.part(NOW)


# --- removals ---


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (["CHECKED"], (CaseState.ACTION_STARTED, Resolution.UNSPECIFIED)),
        (["REMOVED", "SUBMITTED", "REJECTED"], (CaseState.WAITING_PLATFORM, Resolution.UNSPECIFIED)),
        (["REMOVED", "REJECTED"], (CaseState.ACTION_STARTED, Resolution.UNSPECIFIED)),
        (["REMOVED", "REMOVED"], (CaseState.RESOLVED, Resolution.REMOVED)),
        (["REMOVED", "WITHDRAWN"], (CaseState.RESOLVED, Resolution.REMOVED)),
        (["REMOVED", "TEMP_BLOCKED"], (CaseState.RESOLVED, Resolution.TEMP_BLOCKED)),
        (["DEINDEXED", "UNVERIFIED"], (CaseState.RESOLVED, Resolution.UNRESOLVED)),
        (["WITHDRAWN"], (CaseState.RESOLVED, Resolution.WITHDRAWN)),
    ],
)
def test_a_case_follows_its_worst_request(
    requests: list[str], expected: tuple[CaseState, Resolution]
) -> None:
    assert expected == follow([RemovalState[name] for name in requests])


# --- people ---


@pytest.mark.parametrize(
    ("birth_year", "minor", "guardian"),
    [(0, False, False), (2006, False, False), (2007, True, False), (2011, True, False), (2012, True, True)],
)
def test_ages_count_the_birthday_as_not_yet_reached(birth_year: int, minor: bool, guardian: bool) -> None:
    assert (minor, guardian) == (is_minor(birth_year, 2026), needs_guardian(birth_year, 2026))


# --- chains ---


def chain(*texts: bytes) -> list[Entry]:
    head, entries = Head(), []
    for text in texts:
        entries.append(append(head, text))
        head = Head(entries[-1].sequence, entries[-1].entry_hash)
    return entries


def faults(entries: list[Entry], stored: Head) -> set[str]:
    reached, found = verify(Head(), entries)
    return {fault.reason for fault in (*found, *compare_head(reached, stored))}


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=20), min_size=3, max_size=8), st.integers(0, 1000))
def test_every_kind_of_tampering_breaks_the_chain(texts: list[bytes], number: int) -> None:
    entries = chain(*texts)
    stored = Head(entries[-1].sequence, entries[-1].entry_hash)
    place = number % (len(entries) - 1)
    assert set() == faults(entries, stored)
    changed = entries[place]
    flipped = Entry(changed.sequence, changed.previous_hash, changed.ciphertext + b"!", changed.entry_hash)
    assert faults([*entries[:place], flipped, *entries[place + 1 :]], stored)
    assert faults(entries[:place] + entries[place + 1 :], stored)
    assert {"TRUNCATED"} == faults(entries[:-1], stored)
    rewritten = chain(*texts[:place], b"forged", *texts[place + 1 :])
    assert {"HEAD_DIFFERS"} == faults(rewritten, stored)


# --- rules ---


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("CLUSTER: 90", "CLUSTER: 0"),
        lambda text: text.replace("CLUSTER: 90", "KLUSTER: 90"),
        lambda text: text.replace("window_days:", "window_dais:"),
        lambda text: text.replace("MINOR: HIGH, ", ""),
        lambda text: text.replace("{NORMAL: 24, HIGH: 4, URGENT: 1}", "{NORMAL: 24}"),
        lambda text: text.replace("labels: 2", "labels: 2\n  more: 1"),
        lambda text: "nothing",
    ],
)
def test_wrong_rules_stop_the_start(tmp_path: Path, spoil: Callable[[str], str]) -> None:
    text = (SHIPPED / "case.yaml").read_text()
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "case.yaml").write_text(spoil(text))
    with pytest.raises(RulesError):
        load_rules(tmp_path)
    assert 90 == load_rules().incident.windows[KeyKind.CLUSTER].days
