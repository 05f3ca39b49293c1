"""What arrives next? Kinds of arrivals by weight, and the content of each. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.load.plan import Person, Plan


class Kind(StrEnum):
    """Sorts of arrivals."""

    POST = "post"
    """A text without personal data."""
    POST_OF_OTHERS = "post naming nobody enrolled"
    MATCH = "post naming somebody enrolled"
    REPOST = "repost"
    """The text of an earlier match at another address, as it was or with a few words more."""
    DUPLICATE = "duplicate"
    """An earlier signal once more, under its own id."""
    PICTURE = "picture"
    PICTURE_KNOWN = "picture of somebody enrolled"
    ENROLMENT = "enrolment"
    UPLOAD_TEXT = "upload check, text"
    UPLOAD_PICTURE = "upload check, picture"
    INBOX = "inbox"


MIXES: Mapping[str, Mapping[Kind, float]] = {
    # A third of the texts match; of these four in five are reposts. Pictures cost hundreds of times what a text costs.
    "all": {
        Kind.POST: 38,
        Kind.POST_OF_OTHERS: 22,
        Kind.MATCH: 6,
        Kind.REPOST: 24,
        Kind.DUPLICATE: 3,
        Kind.PICTURE: 0.3,
        Kind.PICTURE_KNOWN: 0.1,
        Kind.ENROLMENT: 0.3,
        Kind.UPLOAD_TEXT: 1,
        Kind.UPLOAD_PICTURE: 0.1,
        Kind.INBOX: 3,
    },
    "texts": {Kind.POST: 41, Kind.POST_OF_OTHERS: 25.7, Kind.MATCH: 6.7, Kind.REPOST: 26.6},
}
"""Weights by the mix's name; they need no sum."""
SIGNALS = (
    Kind.POST, Kind.POST_OF_OTHERS, Kind.MATCH, Kind.REPOST, Kind.DUPLICATE, Kind.PICTURE, Kind.PICTURE_KNOWN,
)
MATCHING = (Kind.MATCH, Kind.REPOST, Kind.PICTURE_KNOWN)
_REMEMBERED = 500
"""Earlier posts that reposts and duplicates are drawn from."""
_WORDS_MORE = ("", "", "", " 퍼옴", " (펌)", " 아는 사람?")


def match_share(mix: str) -> float:
    """Expected matches among all arrivals."""
    weights = MIXES[mix]
    return sum(weights.get(kind, 0.0) for kind in MATCHING) / sum(weights.values())


@dataclass(frozen=True)
class Post:
    """A signal's content."""

    signal_id: str
    text: str = ""
    picture: str = ""
    """A file."""


class Maker:
    """Makes contents; two makers with the same plan and name make the same."""

    def __init__(self, plan: Plan, name: str) -> None:
        self._plan = plan
        self.name = name
        self._random = random.Random(f"{plan.seed}/{name}")
        self._number = 0
        self._kinds = list(MIXES[plan.mix])
        self._weights = list(MIXES[plan.mix].values())
        self._texts: list[str] = []
        self._posts: list[Post] = []
        self._unnamed = list(plan.people)
        self._random.shuffle(self._unnamed)

    def kind(self) -> Kind:
        """The next kind by weight."""
        [found] = self._random.choices(self._kinds, self._weights)
        return found

    def gap(self, rate: float) -> float:
        """Seconds until the next arrival of a Poisson process of so many a second."""
        return self._random.expovariate(rate)

    def person(self) -> Person:
        """Anybody enrolled."""
        return self._random.choice(self._plan.people)

    def uploader(self) -> Person:
        """Anybody with a linked account."""
        return self._random.choice([person for person in self._plan.people if person.account_id])

    def picture(self, which: str) -> str:
        """A file of the pictures of "known" people or of "others"."""
        return self._random.choice(self._plan.pictures[which])

    def post(self, kind: Kind) -> Post:
        """The content of a signal. A repost before anything was posted is a first post."""
        if kind is Kind.DUPLICATE and self._posts:
            return self._random.choice(self._posts)
        self._number += 1
        signal_id = f"load-{self._plan.run}-{self.name}-{self._number}"
        made = Post(signal_id, *self._content(kind))
        self._remember(self._posts, made)
        return made

    def text_about(self, person: Person) -> str:
        """A text that names somebody."""
        return f"[{self._number}] " + self._random.choice(self._plan.texts["about"]).format(mail=person.mail)

    def _content(self, kind: Kind) -> tuple[str, str]:
        texts = self._plan.texts
        match kind:
            case Kind.PICTURE:
                return "", self.picture("others")
            case Kind.PICTURE_KNOWN:
                return "", self.picture("known")
            case Kind.REPOST if self._texts:
                return self._random.choice(self._texts) + self._random.choice(_WORDS_MORE), ""
            case Kind.MATCH | Kind.REPOST:
                # Everybody is named once before anybody is named again: each first naming opens a case.
                text = self.text_about(self._unnamed.pop() if self._unnamed else self.person())
                self._remember(self._texts, text)
                return text, ""
            case Kind.POST_OF_OTHERS:
                return f"[{self._number}] " + self._some(texts["others"]).format(n=self._number % 10_000), ""
            case _:
                return f"[{self._number}] " + self._some(texts["neutral"]), ""

    def _some(self, texts: Sequence[str]) -> str:
        return self._random.choice(texts)

    def _remember(self, kept: list, made: object) -> None:  # type: ignore[type-arg] # of texts or of posts
        if len(kept) < _REMEMBERED:
            kept.append(made)
        else:
            kept[self._random.randrange(_REMEMBERED)] = made
