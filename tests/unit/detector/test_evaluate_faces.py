"""Does the evaluation of faces count what it should, learn from others only, and keep people out of its reports?"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from services.chassis import yaml_text
from services.detector.adapters.faces import RULES_FILE, Face, FaceEngine, Larger, SecondLook, read_face_rules
from services.detector.adapters.images import Pixels
from services.detector.adapters.models import Box, open_models
from services.detector.domain.faces import FaceQuality, FaceRules, rules_from
from services.detector.evaluate_faces import run
from services.detector.evaluate_faces.calibration import calibrated, held_out, learn, written
from services.detector.evaluate_faces.data import BadData, Data, Listed, Pair, Role, read_data
from services.detector.evaluate_faces.identification import Person, Totals, gallery_of, stream
from services.detector.evaluate_faces.looks import Looks, Seen, Sight
from services.detector.evaluate_faces.page import render, shown, table
from services.detector.evaluate_faces.protocol import evaluate, summary
from services.detector.evaluate_faces.statistics import Scores, Tail, View, all_pairs, bootstrap, tail_of, wilson
from services.detector.evaluate_faces.subject import Subject, read_plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
MODELS = ROOT / ".cache" / "models"
PICTURES = ROOT / ".cache" / "pictures"
EVALUATION = ROOT.parent / "shared" / "data" / "faces"
HEADER = "file,identity,role,corpus,tags,source,licence,width,height,bytes,sha256"
SIZE = 128
"""Dimensions of the invented vectors: cosines of strangers spread by 1/√128 = .088."""


@pytest.fixture(scope="module")
def rules() -> FaceRules:
    """Rules for invented vectors; a template and its probe agree to about .8."""
    shipped = read_face_rules()
    return replace(shipped, look_again=0.3, clear=0.55, second_match=0.5, second_review=0.4, target_fpir=0.01)


GOOD = FaceQuality(side_px=100, eye_distance_px=45, sharpness=300, contrast=50, yaw=0.05, detection=0.99)


def unit(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def seen(rules: FaceRules, first: NDArray[np.float32], second: NDArray[np.float32]) -> Seen:
    look = SecondLook({rules.model_id: first, rules.second_model_id: second})
    return Seen(Sight(Box(10, 10, 110, 130, 0.99), GOOD, "quick", first, look))


def crowd(rules: FaceRules, members: int, others: int, seed: int = 3) -> list[tuple[str, Role, Seen]]:
    """Invented people with one picture to enrol and one later, and others with one picture."""
    chance = np.random.default_rng(seed)

    def views(centre: NDArray[np.float64]) -> Seen:
        return seen(rules, *(unit(centre[half] + 0.04 * chance.normal(size=SIZE)) for half in (0, 1)))

    found: list[tuple[str, Role, Seen]] = []
    for number in range(members + others):
        centre = np.stack([unit(chance.normal(size=SIZE)) for _ in range(2)]).astype(np.float64)
        name, roles = f"secret-name-{number}", [Role.ENROL, Role.PROBE] if number < members else [Role.DISTRACTOR]
        found += [(name, role, views(centre)) for role in roles]
    return found


def subject(rules: FaceRules, people: Sequence[tuple[str, Role, Seen]], calibrate: bool = False) -> Subject:
    listed = tuple(
        Listed(Path(f"/nowhere/secret-file-{at}.jpg"), at + 2, name, role, corpus="invented", licence="all rights kept")
        for at, (name, role, _) in enumerate(people)
    )
    data = Data("invented", "0" * 64, listed, (Pair(0, 1, True, "x_same"), Pair(0, 2, False, "x_different")))
    plan = replace(read_plan(), splits=2, gallery_sizes=(10, 30, 100), gallery_splits=1)
    return Subject(data, [each for *_, each in people], rules, plan, "engine", calibrate)


class Unasked(Looks):
    """Looks at nothing: everything was seen already."""

    def __init__(self) -> None:
        pass


def people_of(crowd_: Sequence[tuple[str, Role, Seen]]) -> list[Person]:
    return [Person(*each) for each in crowd_]


def silent(done: int) -> None:
    """Progress that nobody watches."""


# The data


def manifest(folder: Path, *rows: str, header: str = HEADER) -> Path:
    (folder / "faces").mkdir(exist_ok=True)
    (folder / "faces" / "a.jpg").write_bytes(b"a")
    (folder / "faces" / "b.jpg").write_bytes(b"b")
    (folder / "faces" / "manifest.csv").write_text("\n".join([header, *rows]) + "\n")
    return folder / "faces"


def test_a_manifest_is_read_with_files_named_from_its_folder_or_the_one_above(tmp_path: Path) -> None:
    folder = manifest(tmp_path, "faces/a.jpg,p1,enrol,c,x=1;y,,cc0,1,1,1,", "b.jpg,p1,probe,c,,,,1,1,1,")
    for named in (folder, tmp_path):
        listed = read_data(named).listed
        assert [(e.file.name, e.role, e.tags, e.licence) for e in listed] == [
            ("a.jpg", Role.ENROL, ("x=1", "y"), "cc0"),
            ("b.jpg", Role.PROBE, (), ""),
        ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("faces/a.jpg,secret,judge,c,,,,1,1,1,", "UNKNOWN_ROLE"),
        ("faces/none.jpg,secret,enrol,c,,,,1,1,1,", "FILE_MISSING"),
        ("../faces/a.jpg,secret,enrol,c,,,,1,1,1,", "PATH_OUTSIDE"),
        ("/etc/hostname,secret,enrol,c,,,,1,1,1,", "PATH_OUTSIDE"),
        ("faces/b.jpg,secret,enrol,c,,,,1,1,1,", "FILE_LISTED_TWICE"),
        ("faces/a.jpg,,enrol,c,,,,1,1,1,", "FIELD_EMPTY"),
        ("faces/a.jpg,secret,enrol,c,,,,1,1,1,,more", "TOO_MANY_FIELDS"),
        (f"faces/a.jpg,{'s' * 3000},enrol,c,,,,1,1,1,", "FIELD_TOO_LONG"),
        ("faces/a.jpg,secret", "FIELD_EMPTY"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_without_its_words(tmp_path: Path, row: str, reason: str) -> None:
    folder = manifest(tmp_path, "faces/b.jpg,p2,distractor,c,,,,1,1,1,", row)
    with pytest.raises(BadData) as problem:
        read_data(folder)
    assert (problem.value.line, problem.value.reason) == (3, reason)
    assert "secret" not in str(problem.value)


def test_a_manifest_without_a_needed_column_is_refused(tmp_path: Path) -> None:
    folder = manifest(tmp_path, "faces/a.jpg,enrol", header="file,role")
    with pytest.raises(BadData) as problem:
        read_data(folder)
    assert (problem.value.line, problem.value.reason) == (1, "COLUMN_MISSING")


def test_a_picture_that_is_not_the_listed_one_is_refused(tmp_path: Path) -> None:
    listed = read_data(manifest(tmp_path, f"faces/a.jpg,p1,enrol,c,,,,1,1,1,{'0' * 64}")).listed
    with pytest.raises(BadData, match=r"line 2: HASH_DIFFERS"):
        listed[0].read()


def test_pairs_bring_their_own_pictures(tmp_path: Path) -> None:
    folder = manifest(tmp_path, "faces/a.jpg,p1,enrol,c,,,,1,1,1,")
    (folder / "pairs.csv").write_text("a,b,same,set\nfaces/a.jpg,faces/b.jpg,1,mine\n")
    data = read_data(folder, Path("pairs.csv"))
    assert data.pairs == (Pair(0, 1, True, "mine"),)
    assert [each.role for each in data.listed] == [Role.ENROL, None]


def test_a_pair_must_say_whether_it_is_one_person(tmp_path: Path) -> None:
    folder = manifest(tmp_path)
    (folder / "pairs.csv").write_text("a,b,same,set\nfaces/a.jpg,faces/b.jpg,perhaps,mine\n")
    with pytest.raises(BadData, match=r"pairs.csv, line 2: SAME_NEITHER_0_NOR_1"):
        read_data(folder, Path("pairs.csv"))


# The figures


def test_a_threshold_lets_no_more_strangers_through_than_its_rate() -> None:
    scores = Scores()
    scores.add(np.arange(1000) / 1000)
    threshold = scores.threshold(0.01)
    assert (scores.at_least(threshold), scores.at_least(threshold - 0.001)) == (10, 11)
    assert scores.at_least(scores.threshold(1e-6)) == 0


def test_every_pair_of_pictures_is_compared_once() -> None:
    chance = np.random.default_rng(1)
    vectors = unit(chance.normal(size=(1500, 8)))
    codes = chance.integers(0, 400, 1500)
    blocks = list(all_pairs(View(((vectors, vectors, 1.0),)), codes))
    assert len(blocks) > 1
    assert len({(i, j) for *_, a, b in blocks for i, j in zip(a.tolist(), b.tolist(), strict=True)}) == 1500 * 1499 // 2
    scores, same, a, b = (np.concatenate(part) for part in zip(*blocks, strict=True))
    assert np.allclose(scores, np.einsum("nd,nd->n", vectors[a], vectors[b]), atol=1e-5)
    assert (same == (codes[a] == codes[b])).all()


def tail_from(draws: NDArray[np.float64]) -> Tail:
    scores = Scores()
    scores.add(draws)
    return tail_of(scores, 1e-2)


def test_a_tail_foretells_what_is_rarer_than_what_was_seen() -> None:
    tail = tail_from(0.1 + np.random.default_rng(5).exponential(0.03, 400_000))
    assert abs(tail.shape) < 0.06
    assert abs(tail.at(1e-6) - (0.1 + 0.03 * np.log(1e6))) < 0.03
    assert abs(tail.per_decade(1e-4) - 0.03 * np.log(10)) < 0.012


def test_a_tail_knows_that_scores_have_an_end() -> None:
    """Scores below .6, thinning out with the fifth power of the distance: shape −1/5."""
    tail = tail_from(0.6 * (1 - np.random.default_rng(5).random(400_000) ** 0.2))
    assert abs(tail.shape + 0.2) < 0.05
    assert abs(tail.at(1e-6) - 0.6 * (1 - 1e-6**0.2)) < 0.015


def test_too_few_strangers_give_no_tail() -> None:
    scores = Scores()
    scores.add(np.linspace(0, 0.5, 100))
    with pytest.raises(ValueError, match="too few"):
        tail_of(scores, 1e-3)


@pytest.mark.parametrize(
    ("successes", "size", "expected"),
    [(8, 10, (0.4902, 0.9433)), (0, 0, (0.0, 1.0)), (10, 10, (0.7225, 1.0))],
)
def test_wilson_gives_the_published_values(successes: int, size: int, expected: tuple[float, float]) -> None:
    assert tuple(round(end, 4) for end in wilson(successes, size)) == expected


def test_pictures_of_one_person_count_as_one_trial() -> None:
    """Fifty pictures each: as independent trials the interval would be seven times as narrow."""
    right = np.array([50] * 18 + [0] * 2)
    low, high = bootstrap([(right, np.full(20, 50))], seed=1)[0]
    assert 0.7 < low < 0.8
    assert high == 1.0
    assert bootstrap([(right, np.full(20, 50))], seed=1) == [(low, high)]


def test_no_error_among_few_people_is_no_proof_of_perfection() -> None:
    low, high = bootstrap([(np.zeros(20, np.int64), np.full(20, 50))], seed=1)[0]
    assert (low, round(high, 3)) == (0.0, round(wilson(0, 20)[1], 3))


# The stream


def test_the_right_person_a_stranger_and_a_lost_face_are_counted(rules: FaceRules) -> None:
    people = people_of(crowd(rules, 3, 1))
    enrolled = [p for p in people if p.role is Role.ENROL][:2]
    names = frozenset(p.identity for p in enrolled)
    probes = [p for p in people if p.role is not Role.ENROL]
    probes[1] = replace(probes[1], seen=Seen(None, "NO_FACE"))
    outcomes = stream(gallery_of(enrolled, rules), names, probes, lambda _: rules)
    assert [(o.mated, o.band.value, o.right) for o in outcomes] == [
        (True, "MATCH", True),
        (True, "NONE", False),
        (False, "NONE", False),
        (False, "NONE", False),
    ]
    totals = Totals(probes)
    totals.add(probes, outcomes)
    rates = totals.rates()
    assert (rates["precision"], rates["recall_match"], rates["fpir"], rates["fnir"]) == (1.0, 0.5, 0.0, 0.5)
    assert dict(totals.misses) == {"NONE: FACE_NOT_FOUND": 1}


def test_a_stranger_who_looks_like_a_subscriber_is_a_false_match(rules: FaceRules) -> None:
    people = people_of(crowd(rules, 1, 0))
    twin = Person("twin", Role.DISTRACTOR, people[1].seen)
    gallery, names = gallery_of(people[:1], rules), frozenset([people[0].identity])
    outcomes = stream(gallery, names, [people[1], twin], lambda _: rules)
    totals = Totals([people[1], twin])
    totals.add([people[1], twin], outcomes)
    assert (totals.rates()["precision"], totals.rates()["fpir"]) == (0.5, 1.0)
    assert dict(totals.false) == {"MATCH: STRANGER": 1}


def test_somebody_whose_template_failed_counts_as_missed(rules: FaceRules) -> None:
    people = people_of(crowd(rules, 1, 0))
    gallery = gallery_of([replace(people[0], seen=Seen(None, "NO_FACE"))], rules)
    outcome = stream(gallery, frozenset([people[0].identity]), people[1:], lambda _: rules)[0]
    assert (outcome.mated, outcome.right) == (True, False)


# Calibration


def test_thresholds_keep_their_target_among_other_people(rules: FaceRules) -> None:
    aims = read_plan().calibration
    taught = calibrated(rules, learn(people_of(crowd(rules, 0, 900, seed=1)), rules, aims), aims)
    others = people_of(crowd(rules, 100, 2000, seed=2))
    enrolled = [p for p in others if p.role is Role.ENROL]
    events = [p for p in others if p.role is Role.DISTRACTOR]
    outcomes = stream(gallery_of(enrolled, rules), frozenset(p.identity for p in enrolled), events, lambda _: taught)
    alarms = sum(o.band.value == "MATCH" for o in outcomes) / len(outcomes)
    assert 0 <= alarms <= 2 * taught.target_fpir
    assert taught.second_match < rules.second_match + 0.1


def test_nobody_is_judged_by_thresholds_learnt_from_them_or_from_the_enrolled(rules: FaceRules) -> None:
    people = people_of(crowd(rules, 60, 400))
    enrolled = frozenset(p.identity for p in people[:40])
    aims = read_plan().calibration
    found = held_out(people, enrolled, rules, aims, random.Random(1))
    names = {p.identity for p in people}
    assert found.halves[0] | found.halves[1] == names - enrolled
    assert not found.halves[0] & found.halves[1]
    for half, own in zip(reversed(found.halves), found.rules, strict=True):
        again = calibrated(rules, learn([p for p in people if p.identity in half], rules, aims), aims)
        assert own == again
    assert all(found.judging(name) is found.rules[0] for name in found.halves[0])
    assert all(found.judging(name) is found.rules[1] for name in found.halves[1])


def test_proposed_rules_are_rules_and_keep_their_comments() -> None:
    text, rules = RULES_FILE.read_text(encoding="utf-8"), read_face_rules()
    other = replace(rules, version=rules.version + 1, second_match=0.5555, second_review=0.4, evaluation='of "them"')
    again = written(text, other)
    assert rules_from(yaml_text.parse(again)) == replace(other, second_match=0.555 if "0.555\n" in again else 0.556)
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in again.splitlines() if line.startswith("#")] == comments


# The document and its page


def document(rules: FaceRules, calibrate: bool) -> dict[str, Any]:
    report = evaluate(subject(rules, crowd(rules, 40, 400), calibrate), Unasked(), 0, silent)
    assert (report.proposed is not None) == calibrate
    return report.document


@pytest.fixture(scope="module")
def made(rules: FaceRules) -> dict[str, Any]:
    return document(rules, calibrate=True)


def test_the_report_holds_what_was_asked_for_and_is_the_same_twice(rules: FaceRules, made: dict[str, Any]) -> None:
    assert json.dumps(made) == json.dumps(document(rules, calibrate=True))
    assert {"precision", "recall_match", "recall_match_or_review", "fpir", "fnir", "spread"} <= set(made)
    assert {"tpr_at_far", "gallery_sizes", "groups", "pair_sets", "datasheet", "stream_held_out"} <= set(made)
    assert made["thresholds"] == "held out"
    short = summary(made)
    assert list(short["tpr_at_far"]) == ["1e-2", "1e-3", "1e-4", "1e-5", "1e-6"]
    assert [each["templates"] for each in short["gallery_sizes"]] == [10, 30, 100]
    assert "curves" not in short


def test_report_and_page_name_nobody_and_show_no_picture_without_a_licence(made: dict[str, Any]) -> None:
    page = render(made)
    for text in (json.dumps(made), page, table(summary(made))):
        assert "secret-name" not in text
        assert "secret-file" not in text
    assert "<img" not in page
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")


def test_pictures_are_shown_where_their_licence_allows_it(rules: FaceRules, tmp_path: Path) -> None:
    free, kept = tmp_path / "free.png", tmp_path / "kept.png"
    for file in (free, kept):
        Image.new("RGB", (40, 50)).save(file)
    listed = (
        Listed(free, 2, "a", Role.ENROL, licence="Public domain (taken by the state)"),
        Listed(kept, 3, "b", Role.ENROL, licence="mostly public domain, or fair use"),
    )
    nobody = Seen(None, "NO_FACE")
    given = replace(subject(rules, []), data=Data("d", "0", listed, ()), seen=[nobody, nobody])
    assert [each["licence"] for each in shown(given)] == ["Public domain (taken by the state)"]


def test_a_rate_below_one_pair_is_marked(made: dict[str, Any]) -> None:
    assert [each["resolved"] for each in made["tpr_at_far"].values()] == [True, True, True, True, False]


# The command


def test_data_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--data", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "eval faces: manifest.csv: FILE_MISSING\n"


class Interrupted(FaceEngine):
    """A face engine whose user loses patience, and that counts the pictures it was shown."""

    shown = 0
    patience = 10**6

    def analyse_many(
        self, pictures: Sequence[Pixels], larger: Sequence[Larger | None] | None = None
    ) -> list[list[Face]]:
        self.shown += len(pictures)
        if self.shown > self.patience:
            raise KeyboardInterrupt
        return super().analyse_many(pictures, larger)


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path) -> None:
    portraits = sorted(PICTURES.rglob("*.jpg"))[:1]
    if not portraits or not (MODELS / "models.json").exists():
        pytest.skip("no prepared models or demo pictures in .cache: run `make models`")
    for number in range(20):
        # Bytes after the end of a JPEG make another file of the same picture.
        (tmp_path / f"{number}.jpg").write_bytes(portraits[0].read_bytes() + bytes([number]))
    listed = [Listed(tmp_path / f"{number}.jpg", number + 2, f"p{number}", Role.PROBE) for number in range(20)]
    engine = Interrupted(open_models(MODELS, threads=1))
    engine.patience = 16
    with pytest.raises(KeyboardInterrupt):
        Looks(engine, MODELS, tmp_path / "cache").look_at(listed, silent)
    engine.patience, engine.shown = 10**6, 0
    looks = Looks(engine, MODELS, tmp_path / "cache")
    first = looks.look_at(listed, silent)
    assert engine.shown == 4
    again = looks.look_at(listed, silent)
    assert engine.shown == 4
    assert [each.sight is not None for each in again] == [True] * 20
    assert all(
        (a.sight.vector == b.sight.vector).all() and a.sight.quality == b.sight.quality
        for a, b in zip(first, again, strict=True)
        if a.sight and b.sight
    )
    assert (tmp_path / "cache").stat().st_mode & 0o777 == 0o700


def test_a_face_is_found_where_it_was_put_in_the_scenery(tmp_path: Path) -> None:
    portrait = next(PICTURES.rglob("obama.jpg"), None)
    if portrait is None or not (MODELS / "models.json").exists():
        pytest.skip("no prepared models or demo pictures in .cache: run `make models`")
    looks = Looks(FaceEngine(open_models(MODELS, threads=1)), MODELS, tmp_path)
    listed = [Listed(portrait, 2, "p", Role.PROBE)]
    (whole,) = looks.look_at(listed, silent)
    assert whole.sight is not None
    (small,) = looks.shrunk(listed, [whole.sight.box], 48, silent)
    assert small.sight is not None
    assert 36 <= min(small.sight.box.width, small.sight.box.height) <= 60


def test_public_figures_are_recognised_by_thresholds_of_other_people(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Precision and recall that the product needs, and pairwise rates of the fused score, one pair in 305 below what
    was measured."""
    if not EVALUATION.is_dir() or not (MODELS / "models.json").exists():
        pytest.skip("needs the evaluation data beside the repository and prepared models (`make models`)")
    wishes = ["--calibrate", "--json", "--face-sizes", "0", "--models", str(MODELS), "--out", str(tmp_path)]
    assert run(["--data", str(EVALUATION), "--cache", str(ROOT / ".cache" / "eval-faces"), *wishes]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["precision"] >= 0.97
    assert printed["recall_match"] >= 0.92
    assert printed["recall_match_or_review"] >= 0.97
    assert printed["tpr_at_far"]["1e-4"]["tpr"] >= 0.9735
    assert printed["tpr_at_far"]["1e-5"]["tpr"] >= 0.944
    with (EVALUATION / "manifest.csv").open(encoding="utf-8") as file:
        assert printed["datasheet"]["pictures"] == sum(1 for _ in csv.DictReader(file))
