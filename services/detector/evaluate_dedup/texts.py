"""How posts are judged: reposts of each, the same form with other values, and posts that have nothing in common."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from services.detector.adapters.known_contents import KnownTexts
from services.detector.domain.text_similarity import Signature, TextDedupRule, compare_all, signature, similarity
from services.detector.evaluate_dedup.data import BadData
from services.detector.evaluate_dedup.plan import Plan

TEXT_RULES_FILE = Path(__file__).parents[1] / "rules" / "dedup_text.yaml"
Row = dict[str, Any]
_MOST_POSTS = 1_000
_LEAST_SHINGLES = 30
"""Posts shorter than this are too short to be called the same by anything but equality."""
_A_FORM = 12
FORMS = (
    "사기꾼 신고합니다. {who}, 전화 {phone}, 계좌 {bank} {account}. {sum}원 입금, {day}부터 연락 두절. 조심하세요.",
    "[구인] {who} 담당자 {phone} 로 연락 주세요. 시급 {sum}원, {day}부터 근무. 주소 {street} {house}. 초보 가능.",
    "판매합니다. 상태 좋아요. 직거래 {street} {house} 앞, 연락처 {phone}, 가격 {sum}원. {day}까지. 계좌 {account}.",
    "이 사람 아시는 분? {who}, {street} {house} 산다고 함. 번호 {phone}. {day}에 마지막으로 봤어요. 제보 부탁드립니다.",
    "회원정보 유출 목록: 이름 {who}, 생년 {day}, 휴대폰 {phone}, 주소 {street} {house}, 포인트 {sum}, 계좌 {account}",
    "Leaked record: name {who}, phone {phone}, street {street} {house}, balance {sum}, account {account}, since {day}.",
    "Do not rent from {who}! Took {sum} as deposit for {street} {house}. Number {phone}, account {account}.",
    "Order {account} of {day}: {who}, {street} {house}, {phone}, paid {sum}. Complained twice, refund refused.",
)
"""What is posted about many people in the same words. All values are made up."""


def _value(name: str, rng: random.Random) -> str:
    def digits(count: int) -> str:
        return "".join(rng.choice("0123456789") for _ in range(count))

    return {
        "who": "".join(map(rng.choice, ("김이박최정강조윤장임", "민서지현수영준도하윤", "호아진우경빈연재희석"))),
        "phone": f"010-{digits(4)}-{digits(4)}",
        "bank": rng.choice(("국민", "신한", "농협", "우리", "하나")),
        "account": f"{digits(3)}-{digits(4)}-{digits(6)}",
        "sum": f"{rng.randint(1, 990)},{rng.choice(('000', '500'))}",
        "day": f"{rng.randint(1960, 2026)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}",
        "street": rng.choice(("세종대로", "테헤란로", "중앙로", "한빛로", "은행길")),
        "house": f"{rng.randint(10, 480)}-{rng.randint(11, 60)}",
    }[name]


def _filled(form: str, rng: random.Random, **given: str) -> str:
    names = ("who", "phone", "bank", "account", "sum", "day", "street", "house")
    return form.format(**{name: given.get(name) or _value(name, rng) for name in names})


CHANGES: Mapping[str, Callable[[str], str]] = {
    "whitespace": lambda text: text.replace(" ", "   ").replace(". ", ".\n\n"),
    "without spaces": lambda text: text.replace(" ", ""),
    "spaced out": " ".join,
    "emoji": lambda text: text.replace(" ", " 🔥", 5) + " 😱😱",
    "quoted with a comment": lambda text: f'원글: "{text}" 이거 보셨나요? 저도 당했어요',
    "line quoted": lambda text: "> " + text.replace(". ", ".\n> "),
    "prefix": lambda text: "[펌] (속보) 널리 퍼뜨려 주세요!! " + text,
    "suffix": lambda text: text + " #공유 #퍼가요 출처: 어느 게시판",
    "RT": lambda text: f"RT @someone_else: {text}",
    "punctuation": lambda text: text.replace(".", "!!").replace(",", " /").replace(":", " -"),
    "upper case": str.upper,
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "zero width": lambda text: "\u200b".join(text),
    "truncated": lambda text: text[: len(text) * 7 // 10] + "…",
    "digits masked": lambda text: _masked(text),
}


def _masked(text: str) -> str:
    """The middle group of every phone number as stars."""
    parts = text.split("010-")
    return "010-".join([parts[0], *("****" + part[4:] if part[:4].isdigit() else part for part in parts[1:])])


def evaluate_texts(rules_file: Path, plan: Plan, more: Path | None) -> Row:
    """Reposts and strangers; the same for the same rules, code and file. Raises BadData for a file without `text`."""
    rule = TextDedupRule.parse(rules_file.read_text(encoding="utf-8"))
    rng = random.Random(plan.version)
    forms = [_filled(form, rng) for form in FORMS for _ in range(_A_FORM)]
    real = _posts(more) if more is not None else []
    posts = [post for post in [*forms, *real] if signature(post).shingles >= _LEAST_SHINGLES]
    marks = [signature(post) for post in posts]
    crowd = KnownTexts(rule)
    for at, mark in enumerate(marks):
        crowd.add(str(at), mark)
    return {
        "rules": f"dedup_text-{rule.version}",
        "posts": len(posts),
        "reposts": [_reposts(name, change, posts, marks, crowd, rule, plan) for name, change in CHANGES.items()],
        "others": [
            _apart("one form, other values", list(_pairs_of_forms(FORMS, rng)), rule),
            _apart("one form, one phone, else other values", list(_pairs_of_forms(FORMS, rng, phone=True)), rule),
            _strangers("different posts", [signature(post) for post in [*forms[::_A_FORM], *real]], rule),
        ],
    }


def _reposts(
    name: str,
    change: Callable[[str], str],
    posts: Sequence[str],
    marks: Sequence[Signature],
    crowd: KnownTexts,
    rule: TextDedupRule,
    plan: Plan,
) -> Row:
    changed = [signature(change(post)) for post in posts]
    joined = sum(rule.same(new, old) for new, old in zip(changed, marks, strict=True))
    among = sum(str(at) in {near.cluster_id for near in crowd.near(new)} for at, new in enumerate(changed))
    share = round(joined / len(posts), 4)
    row = {"change": name, "pairs": len(posts), "joined": joined, "share": share}
    row |= {"share_among_all": round(among / len(posts), 4), "least_similarity": _least(changed, marks)}
    return row | {"floor": plan.texts, "holds": share >= plan.texts}


def _least(changed: Sequence[Signature], marks: Sequence[Signature]) -> float:
    return round(min(similarity(new, old) for new, old in zip(changed, marks, strict=True)), 3)


def _pairs_of_forms(
    forms: Sequence[str], rng: random.Random, phone: bool = False
) -> Iterator[tuple[Signature, Signature]]:
    for form in forms:
        given = {"phone": _value("phone", rng)} if phone else {}
        filled = [signature(_filled(form, rng, **given)) for _ in range(_A_FORM)]
        yield from ((a, b) for at, a in enumerate(filled) for b in filled[:at])


def _apart(of: str, pairs: Sequence[tuple[Signature, Signature]], rule: TextDedupRule) -> Row:
    joined = sum(rule.same(a, b) for a, b in pairs)
    most = max(similarity(a, b) for a, b in pairs)
    return {"of": of, "pairs": len(pairs), "joined": joined, "most_alike": round(most, 3)}


def _strangers(of: str, marks: Sequence[Signature], rule: TextDedupRule) -> Row:
    """All pairs; `most_alike` among those long enough to be compared."""
    minima, numbers = np.array([each.minima for each in marks]), np.array([each.numbers for each in marks])
    shingles = np.array([each.shingles for each in marks])
    joined, most = 0, 0.0
    for at, mark in enumerate(marks[1:], 1):
        same, alike = compare_all(mark, minima[:at], shingles[:at], numbers[:at], rule)
        long = (shingles[:at] >= rule.min_shingles) & (mark.shingles >= rule.min_shingles)
        joined += int(same.sum())
        most = max(most, float(alike[long].max(initial=0.0)))
    return {"of": of, "pairs": len(marks) * (len(marks) - 1) // 2, "joined": joined, "most_alike": round(most, 3)}


def _posts(file: Path) -> list[str]:
    """Texts of different posts, each once: evenly many from the whole file."""
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
        texts = list(dict.fromkeys(str(row["text"]) for row in rows))
    except (OSError, KeyError, TypeError, ValueError) as problem:
        raise BadData(f"{file}: needs one JSON object with `text` a line") from problem
    return list(islice(texts, 0, None, max(1, len(texts) // _MOST_POSTS)))[:_MOST_POSTS]
