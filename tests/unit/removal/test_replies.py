"""Is a platform's reply read as a person would read it, and left to a person where it is not clear?"""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.removal.adapters.policy_files import PolicyFiles
from services.removal.adapters.rules import load_rules
from services.removal.domain.policy import Policy
from services.removal.domain.replies import Reading, Reply, attempt_ids, is_proved, read
from services.removal.domain.request import attempt_id
from services.removal.domain.states import Move

RULES = load_rules().replies
POLICIES = PolicyFiles()
REQUEST = "01900000-0000-7000-8000-000000000001"


def policy(platform: str) -> Policy:
    """A shipped policy."""
    found = POLICIES.get(platform)
    assert found is not None
    return found


def said(text: str, **fields: str) -> Reading:
    """What a reply of naver says."""
    return read(Reply("MAIL", "1", text, **fields), policy("naver"), RULES)  # type: ignore[arg-type] # by name


@pytest.mark.parametrize(
    ("text", "move"),
    [
        ("귀하의 요청이 접수되었습니다. 접수번호: 2026-1", Move.ACCEPT),
        ("요청하신 게시물은 현재 검토 중입니다.", Move.ACCEPT),
        ("We have received your report. Ticket: 12345", Move.ACCEPT),
        ("요청하신 게시물이 삭제되었습니다.", Move.REPORT_REMOVED),
        ("접수되었던 건으로, 해당 게시물은 삭제 처리되었습니다.", Move.REPORT_REMOVED),
        ("Thank you. The content has been removed.", Move.REPORT_REMOVED),
        ("해당 게시물은 30일간 임시조치되었습니다.", Move.BLOCK),
        ("The post is temporarily restricted.", Move.BLOCK),
        ("The page has been removed from our search results. It was removed from search.", Move.DEINDEX),
        ("오늘은 날씨가 좋습니다.", None),
        ("", None),
        ("게시물이 삭제되었습니다. 다만 일부는 처리가 어렵습니다. 자료가 부족합니다.", None),
    ],
)
def test_what_a_reply_says(text: str, move: Move | None) -> None:
    assert move is said(text).move


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("요청이 반려되었습니다. 사유: 증빙 자료가 불충분합니다.", "EVIDENCE_INSUFFICIENT"),
        ("추가 자료 제출이 필요합니다. 대리인의 위임장을 제출하여 주십시오.", ""),
        ("요청이 거절되었습니다. 위임장 제출이 필요합니다.", "MANDATE_NOT_PROVED"),
        ("요청이 반려되었습니다. 본인 확인이 필요합니다.", "IDENTITY_NOT_PROVED"),
        ("요청이 기각되었습니다. 침해로 보기 어렵습니다.", "NOT_A_VIOLATION"),
        ("요청이 거절되었습니다. 게시물의 정확한 주소를 특정할 수 없습니다. URL이 불명확합니다.", "LOCATION_UNCLEAR"),
        ("Your request was declined: we need more evidence.", "EVIDENCE_INSUFFICIENT"),
        ("We did not find a violation of our rules.", "NOT_A_VIOLATION"),
        ("Your request was rejected because this is in the public interest.", "PUBLIC_INTEREST"),
        ("Your request was denied. Please verify your identity.", "IDENTITY_NOT_PROVED"),
        ("Your request was rejected.", ""),
    ],
)
def test_a_rejection_without_one_clear_reason_goes_to_a_person(text: str, reason: str) -> None:
    found = said(text)
    assert (Move.REJECT if reason else None, reason) == (found.move, found.reason)


@pytest.mark.parametrize(
    ("text", "days"),
    [("임시조치되었습니다.", 30), ("7일간 임시조치되었습니다.", 7), ("temporarily hidden for 300 days", 30)],
)
def test_a_temporary_measure_ends_when_it_says_and_within_the_law(text: str, days: int) -> None:
    assert timedelta(days=days) == said(text).block


def test_a_word_for_programs_goes_before_the_sentences() -> None:
    assert Reading(Move.REPORT_REMOVED) == said("접수되었습니다", status="removed")
    assert Reading(Move.REJECT, "DUPLICATE") == said("", status="REJECTED", reason="DUPLICATE")
    assert Move.ACCEPT is said("접수되었습니다", status="who knows").move


@pytest.mark.parametrize(
    ("domains", "proved"),
    [(("naver.com",), True), (("mail.naver.com",), True), (("notnaver.com",), False), ((), False)],
)
def test_a_mail_is_the_platforms_when_its_domain_signed_it(domains: tuple[str, ...], proved: bool) -> None:
    assert proved == is_proved(Reply("MAIL", "1", "", domains=domains), policy("naver"))


def test_a_hook_speaks_for_its_own_platform_alone() -> None:
    reply = Reply("HOOK", "1", "", platform="naver")
    assert (True, False) == (is_proved(reply, policy("naver")), is_proved(reply, policy("kakao")))


def test_ids_of_attempts_are_found_in_any_text() -> None:
    one, other = attempt_id(REQUEST, 1), attempt_id(REQUEST, 2)
    assert (one, other) == attempt_ids(f"Re: 요청 ({one.upper()})\n> 번호: {other}, {one}. {REQUEST}")


@given(st.text(max_size=3000))
def test_no_text_breaks_the_reading(text: str) -> None:
    assert said(text).move in {*Move, None}


def test_a_reply_does_not_show_itself() -> None:
    assert "비밀" not in repr(Reply("MAIL", "1", "비밀"))
