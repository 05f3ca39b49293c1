"""Is a release compared with the last one, and every changed decision reported?"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from services.console.demo.corpus import own
from services.detector.adapters.rules import RULES
from tests.regression import corpus
from tests.regression.__main__ import PORTRAITS, decided_by
from tests.regression.outcomes import Outcome, changes, junit
from tests.rollback.releases import today

MATCHED = Outcome("", ("PII MATCH minjun",), "000 post")
REVIEWED = Outcome("", ("PII REVIEW",), "")
POSTS = """
{"person": "minjun", "watch": {"mobile": "010-0000-2580"}}
{"text": "연락처는 010-0000-2580입니다", "person": "minjun"}
{"text": "010-0000-2580", "person": "minjun"}
{"text": "오늘 날씨가 정말 좋네요"}
"""


def test_what_is_decided_otherwise_is_a_change_and_a_reason_makes_it_pass() -> None:
    before = {"000 post": MATCHED, "001 post": MATCHED, "002 post": REVIEWED}
    now = {"000 post": MATCHED, "001 post": REVIEWED, "002 post": MATCHED}
    accepted = [{"item": "002 post", "before": str(REVIEWED), "now": str(MATCHED), "reason": "rules 3"}]
    found = changes(before, now, accepted)
    assert [("001 post", ""), ("002 post", "rules 3")] == [(change.item, change.reason) for change in found]
    suite = ElementTree.fromstring(junit(list(now), found))
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert (["001 post"], "3", "1") == (failed, suite.get("tests"), suite.get("failures"))


def test_an_item_that_one_release_never_saw_is_a_change() -> None:
    assert ["000 post"] == [change.item for change in changes({"000 post": MATCHED}, {}, [])]


def test_the_corpus_is_the_same_at_every_run(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        images, posts = corpus.write(tmp_path / name, PORTRAITS, share=0.1)
        pictures = {str(file.relative_to(images)): file.read_bytes() for file in images.rglob("*.jpg")}
        made.append((pictures, posts.read_text(encoding="utf-8")))
    assert made[0] == made[1]


@pytest.mark.slow
def test_a_release_with_another_rule_decides_otherwise_where_the_rule_counts(tmp_path: Path) -> None:
    posts, rules = tmp_path / "posts.jsonl", tmp_path / "rules"
    posts.write_text(POSTS.lstrip(), encoding="utf-8")
    (rules / "detector").mkdir(parents=True)
    shipped = (RULES / "review.yaml").read_text(encoding="utf-8")
    changed = shipped.replace("default: LOW", "default: HIGH")
    assert shipped != changed
    (rules / "detector" / "review.yaml").write_text(changed, encoding="utf-8")
    chosen = own(None, posts, "regression")
    before, now = decided_by(today(), chosen), decided_by(today(), chosen, {"JIKIMI_RULES_DIR": str(rules)})
    assert [("001 post about minjun", "PII REVIEW")] == [
        (change.item, change.now.partition(",")[0]) for change in changes(before, now, [])
    ]
