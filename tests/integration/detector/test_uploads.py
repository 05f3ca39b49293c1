"""Uploads before they go out: warned about, answered, blurred, proved, and nothing of them kept."""

from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import pytest
from PIL import Image

from misuse.case.v1.subscriber_service_pb2 import ConsentScope
from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import upload_service_pb2 as uploads
from services.chassis.ids import uuid7
from services.chassis.rpc import unwrap
from services.detector.adapters.faces import FaceEngine
from services.detector.adapters.images import read_picture
from services.detector.adapters.uploads_look import metadata_of
from services.detector.domain.picture_text import Quad, TextLine, written
from services.detector.domain.uploads import Severity
from services.detector.ports import Reading
from tests.integration.detector.conftest import World, pictures_named, running

PHONE, MAIL = "010-2345-6789", "hong@example.com"
SCOPES = ("SERVICE", "FACE_TEMPLATE", "WATCHED_IDENTIFIER", "LINKED_ACCOUNT")


@pytest.fixture(scope="module")
def pictures() -> dict[str, bytes]:
    try:
        names = ("obama", "obama2", "biden", "sample1")
        return dict(zip(names, pictures_named([f"{name}.jpg" for name in names]), strict=True))
    except FileNotFoundError:
        pytest.skip("the demo's pictures are not fetched: run `make setup`")


def backend(world: World) -> list[tuple[str, str]]:
    return world.metadata("APP_BACKEND", "PROTECTION")


async def linked(world: World, who: str, handle: str = "hong.gildong", **changes: Any) -> str:
    request = uploads.LinkAccountRequest(
        **{"subscriber_id": who, "request_id": uuid7(), "platform": "meta", "handle": handle} | changes
    )
    return str((await world.uploads.LinkAccount(request, metadata=backend(world))).account.account_id)


async def check(world: World, who: str, account: str, *, timeout: float = 20, **content: Any) -> Any:
    request = uploads.CheckUploadRequest(
        **{"subscriber_id": who, "request_id": uuid7(), "account_id": account} | content
    )
    return await world.uploads.CheckUpload(request, metadata=backend(world), timeout=timeout)


async def resolve(world: World, who: str, check_id: str, choice: str, **content: Any) -> Any:
    request = uploads.ResolveUploadRequest(
        subscriber_id=who,
        upload_check_id=check_id,
        choice=uploads.UploadChoice.Value(f"UPLOAD_CHOICE_{choice}"),
        **content,
    )
    return await world.uploads.ResolveUpload(request, metadata=backend(world), timeout=30)


@contextmanager
def refused(reason: str) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        yield
    assert reason == unwrap(caught.value).reason


def who_is_shown(answer: Any) -> list[str]:
    return ["you" if each.you else "another" if each.another_person else "data" for each in answer.findings]


# --- accounts ---


async def test_a_linked_account_is_listed_masked_and_its_name_lies_sealed(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    request = uploads.ListLinkedAccountsRequest(subscriber_id=who)
    [listed] = (await world.uploads.ListLinkedAccounts(request, metadata=backend(world))).accounts
    assert (account, "meta", "ho**********", False) == (
        listed.account_id,
        listed.platform,
        listed.masked_handle,
        listed.warn_about_others,
    )
    assert 0 == await world.count("linked_account WHERE position('hong'::bytea IN handle) > 0")


async def test_linking_again_changes_the_choice_and_makes_no_second_account(world: World) -> None:
    who = await world.register(*SCOPES)
    request_id = uuid7()
    first = await linked(world, who, request_id=request_id)
    assert first == await linked(world, who, request_id=request_id)
    assert first == await linked(world, who, warn_about_others=True)
    assert 1 == await world.count("linked_account WHERE warn_about_others")
    with refused("REQUEST_ID_REUSED"):
        await linked(world, who, "another.name", request_id=request_id)


async def test_linking_needs_its_consent_and_ends_with_it(world: World) -> None:
    plain = await world.register("SERVICE", "FACE_TEMPLATE")
    with refused("CONSENT_MISSING"):
        await linked(world, plain)
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    shown = await check(world, who, account, text=f"연락처 {PHONE}")
    await resolve(world, who, shown.upload_check_id, "BLUR", text=f"연락처 {PHONE}")
    scope = ConsentScope.CONSENT_SCOPE_LINKED_ACCOUNT
    await world.follow(lambda work: world.detector.following.consent(work, who, scope, False))
    assert [0, 0, 0] == [await world.count(table) for table in ("linked_account", "upload_check", "redaction")]
    assert None is world.keys.get(f"redaction-{shown.upload_check_id}")
    purged = {record.item_kind for record in await world.records("purge_log")}
    assert {"UPLOAD_CHECK", "REDACTION"} == purged


async def test_accounts_are_bounded_paged_and_unlinked_without_harm_twice(world: World) -> None:
    who = await world.register(*SCOPES)
    most = world.detector.rules.uploads.most_accounts
    made = [await linked(world, who, f"name-{number}") for number in range(most)]
    with refused("TOO_MANY_ACCOUNTS"):
        await linked(world, who, "one-more")
    seen, token = [], ""
    while True:
        request = uploads.ListLinkedAccountsRequest(subscriber_id=who, page_size=7, page_token=token)
        page = await world.uploads.ListLinkedAccounts(request, metadata=backend(world))
        seen += [each.account_id for each in page.accounts]
        if not (token := page.next_page_token):
            break
    assert made == seen
    gone = uploads.UnlinkAccountRequest(subscriber_id=who, account_id=made[0])
    for _ in range(2):
        await world.uploads.UnlinkAccount(gone, metadata=backend(world))
    assert most - 1 == await world.count("linked_account")


# --- checks ---


async def test_a_text_with_a_phone_is_warned_about_and_told_to_case(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    text = f"문의는 {PHONE} 으로"
    answer = await check(world, who, account, text=text)
    [finding] = answer.findings
    assert (common.IDENTIFIER_KIND_MOBILE_PHONE, "text", [4, 17]) == (finding.kind, finding.field, list(finding.region))
    assert (common.UPLOAD_SEVERITY_HIGH, uploads.SUGGESTED_ACTION_BLUR) == (answer.severity, answer.suggested_action)
    [event] = await world.published("upload_warned")
    assert (answer.upload_check_id, answer.case_id, who) == (event.upload_check_id, event.case_id, event.subscriber_id)
    [record] = await world.records("pre_upload_warning_log")
    assert [common.IDENTIFIER_KIND_MOBILE_PHONE] == list(record.kinds)
    assert (common.UPLOAD_SEVERITY_HIGH, "BLUR", "uploads-1") == (
        record.severity,
        record.suggested_action,
        record.rule_version,
    )


async def test_an_upload_that_shows_nothing_warns_nobody(world: World) -> None:
    who = await world.register(*SCOPES)
    answer = await check(world, who, await linked(world, who), text="오늘 날씨가 좋네요")
    assert ("", [], common.UPLOAD_SEVERITY_UNSPECIFIED) == (answer.case_id, list(answer.findings), answer.severity)
    assert [] == await world.published("upload_warned")
    with refused("NOTHING_FOUND"):
        await resolve(world, who, answer.upload_check_id, "CANCEL")


async def test_only_the_subscribers_own_face_is_you_and_others_count_on_demand(world: World, pictures) -> None:
    who, other = await world.register(*SCOPES), await world.register(*SCOPES)
    await world.enrolled(who, pictures["obama"])
    await world.enrolled(other, pictures["biden"])
    account = await linked(world, who)
    assert ["you"] == who_is_shown(await check(world, who, account, image=pictures["obama2"]))
    # Another subscriber's verified face is a stranger's here, and nobody asked about strangers.
    assert [] == who_is_shown(await check(world, who, account, image=pictures["biden"]))
    await linked(world, who, warn_about_others=True)
    assert ["another"] == who_is_shown(await check(world, who, account, image=pictures["biden"]))


async def test_without_proof_or_consent_a_face_is_nobodys(world: World, pictures) -> None:
    who = await world.register(*SCOPES)
    await world.enrol(who, pictures["obama"])
    account = await linked(world, who)
    assert [] == who_is_shown(await check(world, who, account, image=pictures["obama2"]))


async def test_a_position_in_the_file_is_found_and_the_blurred_result_carries_nothing(world: World, pictures) -> None:
    who = await world.register(*SCOPES)
    await world.enrolled(who, pictures["obama"])
    account = await linked(world, who)
    image = with_position(pictures["obama2"])
    answer = await check(world, who, account, image=image)
    kinds = {(each.field, each.kind) for each in answer.findings if each.kind}
    assert {("image.metadata", common.IDENTIFIER_KIND_POSITION)} == kinds
    blurred = await resolve(world, who, answer.upload_check_id, "BLUR", image=image)
    assert [] == metadata_of(blurred.redacted_image)


async def test_the_same_request_is_answered_the_same_and_another_body_is_refused(world: World) -> None:
    who = await world.register(*SCOPES)
    account, request_id = await linked(world, who), uuid7()
    first = await check(world, who, account, request_id=request_id, text=f"전화 {PHONE}")
    again = await check(world, who, account, request_id=request_id, text=f"전화 {PHONE}")
    assert first == again
    assert 1 == len(await world.published("upload_warned"))
    with refused("REQUEST_ID_REUSED"):
        await check(world, who, account, request_id=request_id, text="다른 글")


async def test_accounts_and_checks_of_others_are_not_there(world: World) -> None:
    who, other = await world.register(*SCOPES), await world.register(*SCOPES)
    mine = await linked(world, who)
    with refused("NO_SUCH_ACCOUNT"):
        await check(world, other, mine, text="글")
    shown = await check(world, who, mine, text=f"전화 {PHONE}")
    with refused("NO_SUCH_CHECK"):
        await resolve(world, other, shown.upload_check_id, "CANCEL")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({}, "CONTENT_MISSING"),
        ({"image": b"no picture"}, "NOT_AN_IMAGE"),
        ({"text": "가" * 100_000}, "TEXT_TOO_LARGE"),
    ],
)
async def test_what_cannot_be_looked_at_is_refused_by_reason(world: World, content, reason) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    with refused(reason):
        await check(world, who, account, **content)


class Paper:
    """A reader that finds these lines in every picture, slowly where it is told to."""

    reader_id, rule_version = "paper", "ocr-1"

    def __init__(self, *lines: str, wait: threading.Event | None = None, most: int = 100) -> None:
        self._lines = lines
        self._wait = wait
        self._most = most

    def find(self, rgb: np.ndarray) -> list[Quad]:
        return [Quad.upright(10, 10 + 20 * n, 210, 30 + 20 * n) for n in range(len(self._lines))]

    def read(self, rgb: np.ndarray, sharper: Any = None, seconds: float | None = None, stopped: Any = None) -> Reading:
        if self._wait is not None:
            self._wait.wait(10)
        lines = [TextLine(quad, text, 1.0) for quad, text in zip(self.find(rgb), self._lines, strict=True)]
        return Reading(written(lines[: self._most]), len(lines) <= self._most)


@pytest.fixture
async def reading(empty_url: str, tmp_path: Path, heavy) -> AsyncIterator[World]:
    lines = ("받는 사람 홍길동", "서울특별시 강남구", "테헤란로 123", f"전화 {PHONE}")
    async with running(empty_url, tmp_path, heavy, reader=Paper(*lines)) as found:
        yield found


@pytest.mark.slow
async def test_lines_of_text_in_a_picture_are_found_and_covered_in_one_colour(reading: World) -> None:
    who = await reading.register(*SCOPES)
    account, image = await linked(reading, who), noise(640, 480)
    answer = await check(reading, who, account, image=image)
    phone = [each for each in answer.findings if each.kind == common.IDENTIFIER_KIND_MOBILE_PHONE]
    assert [("image", [10, 70, 200, 20])] == [(each.field, list(each.region)) for each in phone]
    assert [] == list(answer.skipped)
    blurred = await resolve(reading, who, answer.upload_check_id, "BLUR", image=image)
    line = read_picture(blurred.redacted_image).pixels[70:90, 10:210]
    assert 1 == len(np.unique(line.reshape(-1, 3), axis=0))


@pytest.mark.slow
async def test_reading_that_takes_too_long_is_left_out_and_said_so(empty_url, tmp_path, heavy) -> None:
    wait = threading.Event()
    async with running(empty_url, tmp_path, heavy, reader=Paper(PHONE, wait=wait)) as world:
        who = await world.register(*SCOPES)
        account = await linked(world, who)
        answer = await check(world, who, account, image=noise(320, 240), text=f"메일 {MAIL}", timeout=5)
        assert ["TEXT_IN_PICTURE"] == list(answer.skipped)
        assert [common.IDENTIFIER_KIND_EMAIL] == [each.kind for each in answer.findings]
        wait.set()


async def test_what_was_read_before_time_ran_out_counts_and_the_rest_is_named(empty_url, tmp_path, heavy) -> None:
    async with running(empty_url, tmp_path, heavy, reader=Paper(f"전화 {PHONE}", f"메일 {MAIL}", most=1)) as world:
        who = await world.register(*SCOPES)
        account = await linked(world, who)
        answer = await check(world, who, account, image=noise(320, 240))
        assert ["TEXT_IN_PICTURE"] == list(answer.skipped)
        assert [common.IDENTIFIER_KIND_MOBILE_PHONE] == [each.kind for each in answer.findings]


async def test_who_finds_no_free_place_is_refused_at_once(empty_url, tmp_path, heavy) -> None:
    wait = threading.Event()
    async with running(empty_url, tmp_path, heavy, reader=Paper(wait=wait)) as world:
        who = await world.register(*SCOPES)
        account = await linked(world, who)
        busy = [asyncio.create_task(check(world, who, account, image=noise(64, 64))) for _ in range(2)]
        while world.detector.lane.free:
            await asyncio.sleep(0.01)
        with refused("UPLOADS_BUSY"):
            await check(world, who, account, text="글")
        wait.set()
        assert [True, True] == [bool(answer.upload_check_id) for answer in await asyncio.gather(*busy)]
        assert (await check(world, who, account, text="글")).upload_check_id


@pytest.mark.slow
async def test_checks_of_one_subscriber_are_bounded_by_the_hour(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    most = world.detector.rules.uploads.checks_an_hour
    shown = await check(world, who, account, text="글")
    async with world.detector.store.begin() as work:
        held = await work.uploads.check(shown.upload_check_id)
        for _ in range(most - 1):
            await work.uploads.add_check(copy_of(held))
    with refused("TOO_MANY_CHECKS"):
        await check(world, who, account, text="글")
    world.clock.advance(timedelta(hours=2))
    assert (await check(world, who, account, text="글")).upload_check_id


# --- answers ---


@pytest.mark.slow
async def test_blur_hands_back_a_covered_picture_and_the_same_again_without_content(world, heavy, pictures) -> None:
    who = await world.register(*SCOPES)
    await world.enrolled(who, pictures["obama"])
    account, image = await linked(world, who), pictures["obama2"]
    text = f"연락처 {PHONE} 입니다"
    shown = await check(world, who, account, image=image, text=text)
    blurred = await resolve(world, who, shown.upload_check_id, "BLUR", image=image, text=text)
    assert "연락처 ************* 입니다" == blurred.redacted_text
    again = await resolve(world, who, shown.upload_check_id, "BLUR")
    assert blurred == again
    [face] = [each for each in shown.findings if each.you]
    x, y, width, height = face.region
    before, after = read_picture(image).pixels, read_picture(blurred.redacted_image).pixels
    assert before.shape == after.shape
    assert 20 < np.abs(before[y : y + height, x : x + width].astype(int) - after[y : y + height, x : x + width]).mean()
    assert [] == FaceEngine(heavy.models).crops(after)
    assert 1 == await world.count("redaction WHERE position('JFIF'::bytea IN image) = 0")
    [event] = await world.published("upload_resolved")
    assert ("BLUR", shown.case_id) == (event.choice, event.case_id)


@pytest.mark.slow
async def test_the_log_of_a_blur_says_everything_but_the_content(world: World, pictures) -> None:
    who = await world.register(*SCOPES)
    await world.enrolled(who, pictures["obama"])
    account, image = await linked(world, who), pictures["obama2"]
    shown = await check(world, who, account, image=image)
    blurred = await resolve(world, who, shown.upload_check_id, "BLUR", image=image)
    [record] = await world.records("blur_apply_log")
    assert sha256(blurred.redacted_image).digest() == record.output_sha256
    assert (b"", 32) == (record.input_sha256, len(record.input_ref))
    assert sha256(image).digest() not in record.SerializeToString()
    assert (4, 1, "cover-2", "JPEG") == (
        len(record.regions),
        len(record.methods),
        record.algorithm,
        record.format,
    )
    assert {"INPUT_BYTES", "DECODED_PIXELS"} == {each.what for each in record.deletions}
    assert {"NEVER_WRITTEN", "ZEROED"} == {each.how for each in record.deletions}


@pytest.mark.slow
async def test_an_audit_proves_the_stored_result_from_the_record_alone(world: World, pictures) -> None:
    who = await world.register(*SCOPES)
    await world.enrolled(who, pictures["obama"])
    account, image = await linked(world, who), pictures["obama2"]
    shown = await check(world, who, account, image=image)
    await resolve(world, who, shown.upload_check_id, "BLUR", image=image)
    [record] = await world.records("blur_apply_log")
    auditor = world.metadata("AUDITOR", "AUDIT")
    report = await world.uploads.AuditRedaction(uploads.AuditRedactionRequest(record=record), metadata=auditor)
    outcomes = {each.name: each.outcome for each in report.checks}
    assert {
        "OUTPUT_HASH": "HOLDS",
        "SIZE": "HOLDS",
        "MASKS_COVERED": "HOLDS",
        "NO_FACE_IN_MASKS": "HOLDS",
        "NO_TEXT_IN_MASKS": "NOT_LOOKED",
        "NO_METADATA": "HOLDS",
    } == outcomes
    assert report.proved
    record.regions[0] += 200
    record.output_sha256 = bytes(32)
    report = await world.uploads.AuditRedaction(uploads.AuditRedactionRequest(record=record), metadata=auditor)
    broken = {each.name for each in report.checks if each.outcome == "BROKEN"}
    assert {"OUTPUT_HASH", "MASKS_COVERED"} <= broken
    assert not report.proved


async def test_blur_takes_the_checked_content_and_no_other(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    shown = await check(world, who, account, text=f"전화 {PHONE}")
    for content in ({"text": f"전화 {PHONE} "}, {"image": noise(64, 64), "text": f"전화 {PHONE}"}, {}):
        with refused("CONTENT_DIFFERS"):
            await resolve(world, who, shown.upload_check_id, "BLUR", **content)


@pytest.mark.parametrize("choice", ["CANCEL", "PROCEED"])
async def test_a_choice_is_recorded_once_and_holds(world: World, choice) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    shown = await check(world, who, account, text=f"전화 {PHONE}")
    world.clock.advance(timedelta(seconds=7))
    for _ in range(2):
        answer = await resolve(world, who, shown.upload_check_id, choice)
        assert uploads.UploadChoice.Value(f"UPLOAD_CHOICE_{choice}") == answer.choice
    [record] = await world.records("user_action_outcome_log")
    assert (choice, 7000, int(Severity.HIGH)) == (record.choice, record.answer_ms, record.severity)
    assert 1 == len(await world.published("upload_resolved"))
    with refused("ALREADY_RESOLVED"):
        await resolve(world, who, shown.upload_check_id, "BLUR", text=f"전화 {PHONE}")


async def test_a_warning_that_nobody_answers_ends_as_no_answer(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    shown = await check(world, who, account, text=f"전화 {PHONE}")
    await world.detector.answering.no_answer(shown.upload_check_id)
    assert [] == await world.records("user_action_outcome_log")
    world.clock.advance(world.detector.rules.uploads.answer)
    for _ in range(2):
        await world.detector.answering.no_answer(shown.upload_check_id)
    [record] = await world.records("user_action_outcome_log")
    assert "NO_ANSWER" == record.choice
    with refused("ALREADY_RESOLVED"):
        await resolve(world, who, shown.upload_check_id, "CANCEL")


async def test_a_result_is_purged_with_its_key_and_a_record(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    shown = await check(world, who, account, text=f"전화 {PHONE}")
    await resolve(world, who, shown.upload_check_id, "BLUR", text=f"전화 {PHONE}")
    due = world.clock.now() + world.detector.rules.uploads.keep_results
    world.clock.advance(world.detector.rules.uploads.keep_results)
    for _ in range(2):
        await world.detector.answering.purge_result(shown.upload_check_id, due)
    assert (0, None) == (await world.count("redaction"), world.keys.get(f"redaction-{shown.upload_check_id}"))
    [purged] = await world.records("purge_log")
    listed = {each.item_kind: (each.due_time, each.rule) for each in await world.records("purge_due_log")}
    assert {"UPLOAD_CHECK", "REDACTION"} == listed.keys()
    assert ("REDACTION", *listed["REDACTION"]) == (purged.item_kind, purged.due_time, purged.rule)
    with refused("RESULT_PURGED"):
        await resolve(world, who, shown.upload_check_id, "BLUR", text=f"전화 {PHONE}")
    await world.detector.answering.purge_check(shown.upload_check_id, due)
    with refused("NO_SUCH_CHECK"):
        await resolve(world, who, shown.upload_check_id, "BLUR", text=f"전화 {PHONE}")


async def test_erasure_leaves_no_account_no_check_and_no_result(world: World) -> None:
    who = await world.register(*SCOPES)
    account = await linked(world, who)
    shown = await check(world, who, account, text=f"전화 {PHONE}")
    await resolve(world, who, shown.upload_check_id, "BLUR", text=f"전화 {PHONE}")
    await world.follow(lambda work: world.detector.following.erase(work, who))
    assert [0, 0, 0] == [await world.count(table) for table in ("linked_account", "upload_check", "redaction")]
    assert world.keys.destroyed(f"redaction-{shown.upload_check_id}")
    assert [0] == [await world.count("due WHERE kind LIKE 'UPLOAD_%'")]


# --- what the tests are made of ---


def noise(width: int, height: int) -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def with_position(data: bytes) -> bytes:
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as picture:
        exif = Image.Exif()
        exif[0x8825] = {1: "N", 2: (37.0, 33.0, 59.0), 3: "E", 4: (126.0, 58.0, 41.0)}
        picture.convert("RGB").save(out, "JPEG", quality=92, exif=exif)
    return out.getvalue()


def copy_of(held: Any) -> Any:
    return replace(held, check=replace(held.check, upload_check_id=uuid7()))
