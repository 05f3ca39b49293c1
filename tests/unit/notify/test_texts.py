"""Do notices say what they should, in good Korean and English, and nothing that strangers must not see?"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from services.notify.adapters.rules import read
from services.notify.adapters.texts import lint, load_texts
from services.notify.domain.notices import LANGUAGES, Facts, Subject, root_of
from services.notify.domain.wording import counted, josa

TEXTS = load_texts(None)


@pytest.mark.parametrize(
    ("word", "pair", "expected"),
    [
        ("얼굴 사진", "이/가", "얼굴 사진이"),
        ("개인정보", "이/가", "개인정보가"),
        ("얼굴 사진", "을/를", "얼굴 사진을"),
        ("네이버", "으로/로", "네이버로"),
        ("구글", "으로/로", "구글로"),
        ("텔레그램", "으로/로", "텔레그램으로"),
        ("알림 3", "이/가", "알림 3이"),
        ("알림 2", "은/는", "알림 2는"),
        ("‘사진’", "은/는", "‘사진’은"),
        ("NAVER", "이/가", "NAVER이(가)"),
        ("NAVER", "으로/로", "NAVER(으)로"),
    ],
)
def test_a_particle_follows_the_sound_of_its_word(word: str, pair: str, expected: str) -> None:
    assert expected == josa(word, pair)


def test_a_malformed_pair_of_particles_is_an_error() -> None:
    with pytest.raises(ValueError, match="pair"):
        josa("사진", "이가")


def test_english_numbers_have_their_forms() -> None:
    assert ["1 notice", "0 notices", "1,000 notices"] == [counted(n, "notice") for n in (1, 0, 1000)]


def test_the_root_is_found_through_any_number_of_merges_and_a_loop_ends() -> None:
    parents = {"a": "b", "b": "c", "c": "c"}
    assert "c" == root_of("a", parents)
    assert "x" == root_of("x", parents)
    assert root_of("l", {"l": "m", "m": "l"}) in {"l", "m"}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("subject", Subject)
def test_discreet_texts_are_the_same_whatever_they_are_about(language: str, subject: Subject) -> None:
    one = TEXTS.for_lock_screen(Subject.CASE_OPENED, language, discreet=True)
    assert one == TEXTS.for_lock_screen(subject, language, discreet=True)
    assert one == TEXTS.for_message(subject, language, discreet=True)
    assert TEXTS.sender(language, discreet=True) != TEXTS.sender(language, discreet=False)


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_unknown_code_stands_for_itself_and_a_missing_one_is_worded(language: str) -> None:
    _, body = TEXTS.for_inbox(Subject.CASE_OPENED, "OPEN", Facts("FACE", "SOMEWHERE_NEW"), language)
    assert "SOMEWHERE_NEW" in body
    _, bare = TEXTS.for_inbox(Subject.CASE_OPENED, "OPEN", Facts(), language)
    assert "{" not in bare and "UNKNOWN" not in bare


def test_a_digest_says_how_many_in_the_inbox_alone() -> None:
    assert "997 notices gathered" == TEXTS.for_inbox(Subject.DIGEST, "GATHERED", Facts(count="997"), "en").title
    assert "1 notice gathered" == TEXTS.for_inbox(Subject.DIGEST, "GATHERED", Facts(count="1"), "en").title


def test_facts_survive_storage_and_a_later_field_is_left_out() -> None:
    facts = Facts("FACE", "NAVER", "blog", "3")
    assert facts == Facts.from_bytes(facts.to_bytes())
    assert Facts("PII") == Facts.from_bytes(b'{"kind": "PII", "later": 1}')


# --- the lint ---


def folder_with(tmp_path: Path, part: str, language: str, subject: str, body: str | None) -> Path:
    """The shipped texts with one body changed, or its text left out."""
    data = read(None, "texts.yaml")
    if body is None:
        del data[part][language][subject]
    else:
        data[part][language][subject] = {"title": data[part][language][subject]["title"], "body": body}
    (tmp_path / "notify").mkdir()
    (tmp_path / "notify" / "texts.yaml").write_text(yaml.safe_dump(data, allow_unicode=True), encoding="utf-8")
    return tmp_path


def test_the_shipped_texts_are_in_order() -> None:
    assert [] == lint(None)


@pytest.mark.parametrize(
    ("part", "language", "body", "fault"),
    [
        ("lock_screen", "ko", "네이버에서 발견되었습니다.", "says 네이버"),
        ("lock_screen", "ko", "회원님의 사진이 있습니다.", "says 사진"),
        ("lock_screen", "ko", "항목 3개가 있습니다.", "number"),
        ("lock_screen", "ko", "https://example.com 을 봐 주세요.", "address"),
        ("lock_screen", "ko", "지금 확인해!", "shouts"),
        ("lock_screen", "ko", "항목이 발견됨", "sentence"),
        ("lock_screen", "ko", "매우 긴급한 항목이 있습니다.", "says 긴급"),
        ("lock_screen", "en", "Look at once at {{ platform }}.", "cannot be rendered"),
        ("lock_screen", "en", "Your face was found.", "says face"),
        ("lock_screen", "en", "word " * 40 + ".", "too long"),
        ("lock_screen", "en", "", "is empty"),
        ("inbox", "ko", "{{ kind|josa('이/가') }} 있음", "sentence"),
        ("inbox", "en", "{{ nickname }} was found.", "cannot be rendered"),
        ("inbox", "ko", "{{ kind|josa('이가') }} 있습니다.", "cannot be rendered"),
        ("inbox", "en", "{% if %}", "template"),
        ("inbox", "en", None, "CASE_CLOSED"),
    ],
)
def test_the_lint_finds(tmp_path: Path, part: str, language: str, body: str | None, fault: str) -> None:
    faults = lint(folder_with(tmp_path, part, language, "CASE_CLOSED", body))
    assert any(fault in each for each in faults), faults


def test_a_text_that_is_missing_stops_the_start_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"lock_screen\.ko\.CASE_OPENED"):
        load_texts(folder_with(tmp_path, "lock_screen", "ko", "CASE_OPENED", None))
