"""Which words of a masked text can it be found by?

Words of Hangul, Han and Kana run into their endings, so each two neighbouring characters are a word of their own: what
is asked for is found inside of a longer word. Other letters and digits make whole words. Case, width and accents of
compatibility do not matter (NFKC, case folding); masked characters are no part of a word.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

_RUN = re.compile(r"[^\W_]+")
_JOINED = re.compile(r"[\u1100-\u11ff\u3040-\u30ff\u3130-\u318f\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff]+")
_SHORTEST = 2
_LONGEST = 32
"""A longer run of letters is found by its beginning."""


def search_words(text: str, most: int) -> frozenset[str]:
    """The words of a text, at most `most` of them: those that come first."""
    found = dict[str, None]()
    for run in _RUN.findall(unicodedata.normalize("NFKC", text).casefold()):
        for word in _words(run):
            found[word] = None
            if len(found) >= most:
                return frozenset(found)
    return frozenset(found)


def _words(run: str) -> Iterator[str]:
    at = 0
    for joined in _JOINED.finditer(run):
        yield from _whole(run[at : joined.start()])
        characters = joined.group()
        yield from (characters[n : n + 2] for n in range(len(characters) - 1))
        at = joined.end()
    yield from _whole(run[at:])


def _whole(run: str) -> Iterator[str]:
    if len(run) >= _SHORTEST:
        yield run[:_LONGEST]
