"""How Hyperscan finds the places where personal data can be, so that exact patterns look only there.

A pass over texts as they came answers three questions: is there any place at all, where, and can normalisation
change anything that matters? Most texts end with the first. Only where a sign of disguise stands is the text normalised
and looked through again. Many texts are passed over at once, as lines of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from services.detector.adapters.kept import keep, kept_file, read_kept
from services.detector.adapters.pii_alphabet import Alphabet
from services.detector.adapters.pii_core import load
from services.detector.adapters.pii_core.generate import Expression, expressions, expressions_of
from services.detector.domain.pii import RECOGNISERS, Check, Confidence, Hit, Kind, Rules, Scanner, WholeText, checks
from services.detector.domain.pii.normalise import (
    FOREIGN,
    HARMLESS,
    SIGNS_OF_VEILING,
    View,
    fold,
    unveil,
)
from services.detector.domain.pii.recogniser import (
    LONGEST_LINK,
    Nearby,
    Recogniser,
    never,
    unknown,
)

if TYPE_CHECKING:  # it may not be built
    from services.detector.adapters.pii_core._core import Core

RULES_FILE: Final = Path(__file__).parents[1] / "rules" / "pii.yaml"
Plan: TypeAlias = tuple[tuple[str, ...], ...]
"""For each number that is reported the expressions that report it: all that decides what a database is."""
_FOLDING, _VEILING = 1, 2
"""Signs that a text is disguised."""


class HyperscanEngine:
    """Passes over many texts at once with the recognisers' anchors; the compiled core looks around their matches.

    Not to be shared between threads: one scratch space, guarded by Hyperscan against concurrent use.
    Raises ImportError where the hyperscan package does not load on this machine, or the core is not built.
    """

    def __init__(self, rules: Rules, recognisers: Sequence[Recogniser] = RECOGNISERS) -> None:
        anchors = sorted({anchor for each in recognisers for anchor in each.anchors})
        veiling = "|".join(SIGNS_OF_VEILING)
        self._alphabet = Alphabet([*anchors, veiling, FOREIGN, HARMLESS])
        self._database = self._opened(*anchors, veiling)
        core = load()
        self._core: Core = core.Core(
            alphabet=self._alphabet.table(),
            marks=self._marks(),
            recognisers=[_row(each, rules, core.CHECKS) for each in recognisers],
            anchors=[bytes(at for at, each in enumerate(recognisers) if anchor in each.anchors) for anchor in anchors],
            scan=self._database.scan,
            fold=fold,
            hit=Hit,
            levels=(Confidence.LOW, Confidence.HIGH),
            checks=(Check.UNKNOWN, Check.YES),
            longest_link=LONGEST_LINK,
        )

    def find(self, texts: Sequence[str], fields: Sequence[str]) -> Mapping[int, list[Hit]]:
        """See the port. Texts are folded and unveiled only where a sign says that this may matter."""
        found, disguised = self._core.look(texts, fields, 0, None)
        if not disguised:
            return found
        touched = {at: fold(texts[at]) for at, (signs, _) in disguised.items() if not signs & _VEILING}
        veiled = {at: view or fold(texts[at]) for at, (signs, view) in disguised.items() if signs & _VEILING}
        veiled |= self._judged_again(touched, fields, _FOLDING, found)
        unveiled = {at: unveil(view) for at, view in veiled.items()}
        self._judged_again(unveiled, fields, _FOLDING | _VEILING, found)
        return found

    def _marks(self) -> bytes:
        """For each byte of the alphabet whether a character that it stands for may have to be folded."""
        marked = self._alphabet.codes(FOREIGN) | self._alphabet.codes(HARMLESS)
        return bytes(code in marked for code in range(256))

    def _judged_again(
        self, views: Mapping[int, View], fields: Sequence[str], undone: int, found: dict[int, list[Hit]]
    ) -> dict[int, View]:
        """Adds what is to be seen of texts once those signs are undone; returns those in which another stands."""
        order = list(views)
        if not order:
            return {}
        texts = [views[at].text for at in order]
        seen, disguised = self._core.look(texts, [fields[at] for at in order], undone, list(views.values()))
        found |= {order[number]: hits for number, hits in seen.items()}
        return {order[number]: views[order[number]] for number in disguised}

    def _opened(self, *expressions: str) -> Any:
        """A database of expressions all whose matches are reported, with a scratch space of its own. Compiling takes
        seconds, so what was compiled is kept: in this process, and in a file."""
        import hyperscan  # not on every architecture: WholeText takes its place

        plan: Plan = tuple(tuple(self._alphabet.expressions(each)) for each in expressions)
        database = _loaded(_kept(plan))
        if database is None:
            database = hyperscan.loadb(_compiled(plan), hyperscan.HS_MODE_BLOCK)
        database.scratch = hyperscan.Scratch(database)
        return database


def _kept(plan: Plan) -> Path:
    return kept_file("hyperscan", f"{sha256(repr(plan).encode()).hexdigest()}.hsdb")


def _loaded(file: Path) -> Any:
    """What was kept; None where nothing was, or where it is of another version or machine or spoilt (Hyperscan
    checks)."""
    import hyperscan

    if (data := read_kept(file)) is not None:
        with suppress(hyperscan.HyperscanError):
            return hyperscan.loadb(data, hyperscan.HS_MODE_BLOCK)
    return None


@cache
def _compiled(plan: Plan) -> bytes:
    """The database, serialised, and kept where the folder can be written."""
    import hyperscan

    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    numbered = [(number, each) for number, expressions in enumerate(plan) for each in expressions]
    database.compile(
        expressions=[each.encode() for _, each in numbered],
        ids=[number for number, _ in numbered],
        elements=len(numbered),
        flags=[0] * len(numbered),
    )
    data: bytes = hyperscan.dumpb(database)
    keep(_kept(plan), data)
    return data


def _row(recogniser: Recogniser, rules: Rules, known: Set[str]) -> tuple[Any, ...]:
    """What the core must know of a recogniser, in the order in which it reads it."""
    rule = rules.rules[recogniser.rule_id]
    return (
        tuple(-1 if each is None else _numbers()[each] for each in expressions_of(recogniser)),
        (recogniser.context.before, recogniser.context.after),
        (recogniser.reach, recogniser.ahead or recogniser.reach),
        _question(recogniser.check, unknown, known),
        _question(recogniser.lookalike, never, known),
        *(tuple(int(rule.confidence(check, nearby) or 0) for nearby in Nearby) for check in (Check.UNKNOWN, Check.YES)),
        int(rule.whole or 0),
        recogniser.kind is Kind.CREDENTIAL,
        recogniser.watchable,
        (
            recogniser.kind,
            recogniser.rule_id,
            rule.version,
            recogniser.mask,
            recogniser.national,
            recogniser.personal,
        ),
    )


@cache
def _numbers() -> Mapping[Expression, int]:
    return {each: number for number, each in enumerate(expressions())}


def _question(asked: Callable[[str], bool | None], unasked: Callable[[str], bool | None], known: Set[str]) -> Any:
    """The name of a check that has a form in C, else the check; None for what answers everything alike."""
    if asked is unasked:
        return None
    is_known = asked.__module__ == checks.__name__ and asked.__name__ in known
    return asked.__name__ if is_known else asked


def build_scanner(rules_file: Path = RULES_FILE) -> Scanner:
    """The scanner of the service: Hyperscan where it loads; elsewhere the slower reference engine, with the reason."""
    rules = Rules.parse(rules_file.read_text(encoding="utf-8"))
    try:
        return Scanner(rules, HyperscanEngine)
    except ImportError as error:
        return Scanner(rules, WholeText, fallback_reason=str(error))
