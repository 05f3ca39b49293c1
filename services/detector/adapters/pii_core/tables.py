"""How the tables of the checks of personal data become C, so that no list is written twice."""

from __future__ import annotations

import re
from collections.abc import Iterable

from services.detector.domain.pii import checks


def source() -> str:
    """Constant arrays, each under the name that its table has in `checks`, with the types they need."""
    return "\n\n".join(
        (
            "#include <stdint.h>",
            _array("uint8_t", "RESIDENT_WEIGHTS", map(str, checks.RESIDENT_WEIGHTS)),
            _array("uint8_t", "BUSINESS_WEIGHTS", map(str, checks.BUSINESS_WEIGHTS)),
            # The first `prefix` digits of a card lie between both bounds; bit n of `lengths`: cards of n digits exist.
            "struct card_range {\n    uint16_t first, last;\n    uint8_t prefix;\n    uint32_t lengths;\n};",
            _array("struct card_range", "CARD_RANGES", map(_card_range, checks.CARD_RANGES)),
            _array("char *const", "AREA_CODES", map(_string, checks.AREA_CODES)),
            _array("char *const", "UNASSIGNED_CODES", map(_string, checks.UNASSIGNED_CODES)),
            _array("uint32_t", "ACCOUNT_GROUPS", sorted(map(_grouping, checks.ACCOUNT_GROUPS))),
            _array("char *const", "FILE_ENDINGS", sorted(map(_string, checks.FILE_ENDINGS))),
            _array("uint32_t", "AMBIGUOUS_PLATE", sorted(f"{ord(letter):#x}" for letter in checks.AMBIGUOUS_PLATE)),
            # `structure`: one of n, a, c for each character behind the check digits.
            "struct iban_format {\n    const char *country, *structure;\n};",
            _array("struct iban_format", "IBAN_FORMATS", map(_iban_format, checks.IBAN_FORMATS.items())),
        )
    )


def _array(kind: str, name: str, items: Iterable[str]) -> str:
    rows = "".join(f"    {item},\n" for item in items)
    return f"static const {kind} {name}[] = {{\n{rows}}};"


def _string(text: str) -> str:
    return f'"{text}"'


def _card_range(entry: tuple[str, str, set[int]]) -> str:
    first, last, lengths = entry
    # Without leading zeros: C reads "0604" in octal.
    return f"{{{int(first)}, {int(last)}, {len(first)}, {sum(1 << length for length in lengths):#x}}}"


def _grouping(groups: str) -> str:
    """A digit of sixteen for each group behind a leading one: 3-6-2-3 is 0x13623."""
    return "0x1" + "".join(f"{int(group):x}" for group in groups.split("-"))


def _iban_format(entry: tuple[str, str]) -> str:
    country, structure = entry
    spelled = "".join(kind * int(count) for count, kind in re.findall("([0-9]+)([nac])", structure))
    return f'{{"{country}", "{spelled}"}}'
