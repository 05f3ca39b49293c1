"""Whether a candidate obeys the arithmetic of its format: True, False, or None where no rule can tell.

Every check answers for any text whatever. Digits are ASCII: normalisation leaves no others.
"""

from __future__ import annotations

import ipaddress
import re
from datetime import date
from typing import Final

_NO_DIGIT: Final = re.compile(r"[^0-9]+")
_DOUBLED: Final = str.maketrans("0123456789", "0246813579")
"""The digit sum of a digit taken twice."""


def _table(text: str) -> list[str]:
    return text.split()


def digits_of(value: str) -> str:
    """The ASCII digits of a value."""
    return _NO_DIGIT.sub("", value)


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1 annex B check digit."""
    return sum(map(int, digits[-1::-2] + digits[-2::-2].translate(_DOUBLED))) % 10 == 0


# (first, last, lengths): prefixes compared on as many digits as `first` has. ISO/IEC 7812 issuers' published ranges;
# 9 is the range for national use, in Korea the domestic cards.
CARD_RANGES: Final = (
    ("4", "4", {13, 16, 19}),
    ("51", "55", {16}),
    ("2221", "2720", {16}),
    ("34", "34", {15}),
    ("37", "37", {15}),
    ("300", "305", {14, 16}),
    ("3095", "3095", {14, 16}),
    ("36", "36", {14, 16}),
    ("38", "39", {14, 16}),
    ("6011", "6011", {16, 19}),
    ("644", "649", {16, 19}),
    ("65", "65", {16, 19}),
    ("62", "62", {16, 17, 18, 19}),
    ("3528", "3589", {16, 19}),
    ("1800", "1800", {15}),
    ("2131", "2131", {15}),
    ("50", "50", {12, 13, 14, 15, 16, 19}),
    ("56", "58", {12, 13, 14, 15, 16, 19}),
    ("60", "61", {16, 19}),
    ("63", "63", {12, 13, 14, 15, 16, 19}),
    ("67", "67", {12, 13, 14, 15, 16, 19}),
    ("0604", "0604", {12, 13, 16, 19}),
    ("1", "1", {15}),
    ("9", "9", {16}),
)


def card(value: str) -> bool | None:
    """12 to 19 digits, Luhn and an issuer's range: True; Luhn outside all ranges: None; otherwise False."""
    digits = digits_of(value)
    if not 12 <= len(digits) <= 19 or not luhn(digits) or len(set(digits)) < 2:
        return False
    for first, last, lengths in CARD_RANGES:
        if first <= digits[: len(first)] <= last and len(digits) in lengths:
            return True
    return None


def birth_date(six: str, century: int) -> bool:
    """Whether YYMMDD is a day of the calendar in the century (1900, 2000)."""
    if len(six) != 6:
        return False
    try:
        date(century + int(six[:2]), int(six[2:4]), int(six[4:6]))
    except ValueError:
        return False
    return True


RESIDENT_WEIGHTS: Final = (2, 3, 4, 5, 6, 7, 8, 9, 2, 3, 4, 5)


def resident_number(value: str) -> bool | None:
    """Resident registration or foreigner number: date, then check digit (11 - sum mod 11) mod 10.

    A wrong check digit is not a refutation (None): numbers issued from 2020-10-05 carry none (Enforcement Rule of the
    Resident Registration Act, art. 2, as amended in 2020), nor do older persons' numbers that were changed since.
    Foreigner numbers use the same sum, older ones shifted by two.
    """
    digits = digits_of(value)
    if len(digits) != 13:
        return False
    century = 2000 if digits[6] in "3478" else 1900
    if not birth_date(digits[:6], century):
        return False
    total = sum(int(char) * weight for char, weight in zip(digits, RESIDENT_WEIGHTS, strict=False))
    expected = {(11 - total % 11) % 10}
    if digits[6] in "5678":
        expected.add((13 - total % 11) % 10)
    if int(digits[12]) in expected:
        return True
    return None


def article_or_moment(value: str) -> bool:
    """Thirteen bare digits that could as well be an article number or milliseconds since 1970 (2014 to 2026)."""
    if len(value) != 13 or digits_of(value) != value:
        return False
    return (_ean13(value) and not resident_number(value)) or ("14" <= value[:2] <= "17" and value[6] not in "12")


def _ean13(digits: str) -> bool:
    """GS1 check digit of a 13-digit article number (ISBN-13 included)."""
    total = sum(int(char) * (1 + 2 * (position % 2)) for position, char in enumerate(digits[:12]))
    return (10 - total % 10) % 10 == int(digits[12])


BUSINESS_WEIGHTS: Final = (1, 3, 7, 1, 3, 7, 1, 3, 5)


def business_number(value: str) -> bool:
    """National Tax Service registration number: weights 1 3 7 1 3 7 1 3 5, the ninth product's tens added."""
    digits = digits_of(value)
    if len(digits) != 10:
        return False
    total = sum(int(char) * weight for char, weight in zip(digits, BUSINESS_WEIGHTS, strict=False))
    total += int(digits[8]) * 5 // 10
    return (10 - total % 10) % 10 == int(digits[9]) and digits[:3] >= "101"


def no_hyphen(value: str) -> bool:
    """Ten bare digits are as likely a number of any other register."""
    return "-" not in value


def driver_license(value: str) -> bool | None:
    """Region 11-26 or 28, twelve digits, a print with separators: True; bare digits: None; bare time stamps: False."""
    if value != digits_of(value):
        return True
    return False if value[:2] == "20" and birth_date(value[2:8], 2000) else None


def korean_mobile(value: str) -> bool | None:
    """010 + 8 digits from 2 on, or an old 01X code: True; 010-0/1 (never allotted, used as examples): None."""
    digits = domestic(value)
    if not re.fullmatch("010[0-9]{8}|01[16789][0-9]{7,8}", digits):
        return False
    return None if digits[:3] == "010" and digits[3] in "01" else True


# Numbering plan for telecommunications: Seoul, provinces, internet telephony, personal numbers. None begins another.
AREA_CODES: Final = _table("""
    02 031 032 033 041 042 043 044 051 052 053 054 055 061 062 063 064 070
    0502 0503 0504 0505 0506 0507 0508
    """)
_LANDLINE: Final = re.compile(f"(?:{'|'.join(AREA_CODES)})([0-9]{{3,4}})[0-9]{{4}}")


def korean_landline(value: str) -> bool | None:
    """Area code 02, 031-064 or 070/050x and an exchange; exchanges do not begin with 0 or 1 (None when one does)."""
    match = _LANDLINE.fullmatch(domestic(value))
    if match is None:
        return False
    return None if match[1][0] in "01" else True


def domestic(value: str) -> str:
    """A Korean number's digits with the leading zero in place of +82 or 0082."""
    digits = digits_of(value)
    international = value.lstrip(" (").startswith(("+", "00")) or digits.startswith("82")
    if international and (code := re.match("(?:00[0-9]{0,3}?)?82(?=[0-9])", digits)):
        return "0" + digits[code.end() :].lstrip("0")
    return digits


# ITU-T E.164: what no country code begins with, the Korean trunk zero included.
UNASSIGNED_CODES: Final = ("0", "28", "83", "89")


def _without_extension(value: str) -> str:
    """The digits before an extension ("x12", "ext. 12")."""
    return digits_of(re.split("[xX]", value, maxsplit=1)[0])


def e164(value: str) -> bool:
    """An assigned country code and 8 to 15 digits, an extension aside."""
    digits = _without_extension(value)
    return 8 <= len(digits) <= 15 and not digits.startswith(UNASSIGNED_CODES)


def nanp(value: str) -> bool | None:
    """North American plan, ten digits behind 1 or 001: area and exchange begin with 2-9, None otherwise (often an
    example number)."""
    digits = _without_extension(value)
    if not 10 <= len(digits) <= 13:
        return False
    return True if digits[-10] in "23456789" and digits[-7] in "23456789" else None


def loose_phone(value: str) -> bool | None:
    """What a label calls a phone: 7 to 15 digits that are no business line (15xx, 16xx, 18xx), date or clock time."""
    digits = _without_extension(value)
    if not 7 <= len(digits) <= 15 or re.fullmatch("1[568][0-9]{6}", digits) or re.match(r"\(?080[-. )]", value):
        return False
    if re.match("[^0-9]*(?:19|20)[0-9]{2}[-./ ]{1,2}[0-9]{1,2}[-./ ]{1,2}[0-9]{1,2}(?![0-9])", value):
        return False
    return None


def us_ssn(value: str) -> bool:
    """Social Security Administration: area not 000, 666 or 9xx, group and serial not zero."""
    digits = digits_of(value)
    if len(digits) != 9 or digits[0] == "9":
        return False
    return digits[:3] not in {"000", "666"} and digits[3:5] != "00" and digits[5:] != "0000"


# Length and BBAN structure of each country: n digits, a letters, c either (SWIFT IBAN registry).
IBAN_FORMATS: Final = {
    entry[:2]: entry[3:]
    for entry in _table("""
    AD:8n12c AE:19n AL:8n16c AT:16n AZ:4a20c BA:16n BE:12n BG:4a6n8c BH:4a14c BR:23n1a1c
    BY:4c4n16c CH:5n12c CR:18n CY:8n16c CZ:20n DE:18n DK:14n DO:4c20n EE:16n EG:25n ES:20n
    FI:14n FO:14n FR:10n11c2n GB:4a14n GE:2a16n GI:4a15c GL:14n GR:7n16c GT:4c20c HR:17n HU:24n
    IE:4a14n IL:19n IQ:4a15n IS:22n IT:1a10n12c JO:4a4n18c KW:4a22c KZ:3n13c LB:4n20c LC:4a24c
    LI:5n12c LT:16n LU:3n13c LV:4a13c LY:21n MC:10n11c2n MD:2c18c ME:18n MK:3n10c2n MR:23n
    MT:4a5n18c MU:4a19n3a NL:4a10n NO:11n PK:4a16c PL:24n PS:4a21c PT:21n QA:4a21c RO:4a16c
    RS:18n SA:2n18c SC:4a20n3a SE:20n SI:15n SK:20n SM:1a10n12c TL:19n TN:20n TR:5n1n16c
    UA:6n19c VA:18n VG:4a16n XK:16n
    """)
}
_CLASSES: Final = {"n": "[0-9]", "a": "[A-Z]", "c": "[A-Z0-9]"}
_BBAN: Final = {
    country: re.compile("[0-9]{2}" + "".join(f"{_CLASSES[c]}{{{n}}}" for n, c in re.findall(r"(\d+)([nac])", spec)))
    for country, spec in IBAN_FORMATS.items()
}


def iban(value: str) -> bool:
    """ISO 13616: the country's structure, then mod 97 = 1. Mixed case is refuted, all lower case is read as upper."""
    compact = re.sub(r"[ -]", "", value)
    if not compact.isascii() or (compact != compact.upper() and compact != compact.lower()):
        return False
    compact = compact.upper()
    pattern = _BBAN.get(compact[:2])
    if pattern is None or not pattern.fullmatch(compact, 2):
        return False
    return int("".join(str(int(char, 36)) for char in compact[4:] + compact[:4])) % 97 == 1


ACCOUNT_GROUPS: Final = frozenset(
    _table("""
    6-2-6 3-6-2-3 4-3-6 3-3-6 3-4-4-2 3-2-6 4-2-7 3-6-5 3-6-3 4-3-6 3-8-3 4-4-4-1 6-2-6 3-2-6-1
    3-2-5-1 3-6-2-1 3-4-6 3-2-7 4-4-5 3-3-5 3-3-6-1 3-5-5 3-2-8 3-4-4 4-4-4 6-6 4-9
    """)
)


def korean_account(value: str) -> bool | None:
    """10 to 16 digits in a known bank's grouping: True; another grouping: None; a phone or a date: False."""
    digits = digits_of(value)
    if not 10 <= len(digits) <= 16 or (re.match("01[016789]", digits) and len(digits) <= 11):
        return False
    if len(digits) == 10 and "-" in value and business_number(digits):
        return False
    if re.fullmatch("0[0-9]{1,2}[- ][0-9]{3,4}[- ][0-9]{4}", value) and korean_landline(value) is not False:
        return False
    groups = "-".join(str(len(group)) for group in re.split(r"[- ]", value))
    return True if groups in ACCOUNT_GROUPS else None


def ip_address(value: str) -> bool | None:
    """A public address: True; private, loopback, link-local, documentation or multicast: False."""
    try:
        address = ipaddress.ip_address(value)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


FILE_ENDINGS: Final = frozenset(
    _table("""
    png jpg jpeg gif svg webp bmp ico js css html htm php json xml pdf mp4 zip
    """)
)


def email(value: str) -> bool | None:
    """Well-formed dots and a top-level domain that is no file ending (`logo@2x.png`)."""
    local, _, host = value.rpartition("@")
    if ".." in value or local.endswith(".") or len(value) > 254:
        return False
    return host.rsplit(".", 1)[-1].lower() not in FILE_ENDINGS


# Letters of Korean plates that are also everyday counters after a number (30도, 100조, 12호, 3부, 2주 …).
AMBIGUOUS_PLATE: Final = frozenset("도조로오수호주부고하구무")


def plate(value: str) -> bool | None:
    """Letters that never follow a number in prose: True; those that do: None."""
    letter = re.search("[0-9]([가-힣])", value)
    return None if letter is None or letter[1] in AMBIGUOUS_PLATE else True


def ipv6_shape(value: str) -> bool | None:
    """A public address: True; one outside the allotted global range, as examples often are: None; local: False."""
    try:
        address = ipaddress.IPv6Address(value)
    except ValueError:
        return False
    if address.is_link_local or address.is_loopback or address.is_private or address.is_unspecified:
        return False
    return True if address in ipaddress.IPv6Network("2000::/3") else None


def iban_length(country: str) -> int:
    """All characters of a country's IBAN, country code and check digits included."""
    return 4 + sum(int(count) for count in re.findall(r"\d+", IBAN_FORMATS[country]))


def parcel_length(value: str) -> bool:
    """12, 13 and 19 bare digits: cards of that length exist, parcel, article and serial numbers are far more common."""
    return len(value) in {12, 13, 19}


def labelled_account(value: str) -> bool | None:
    """What a label calls an account: at least six digits that are no date."""
    if len(digits_of(value)) < 6 or re.fullmatch("(?:19|20)[0-9]{2}-[0-9]{1,2}-[0-9]{1,2}", value):
        return False
    return None


_SECRET_SIGN: Final = re.compile(r"[!-@\[-`{-~]")


def secret(value: str) -> bool | None:
    """What a label calls a password: letters alone are the next word of a sentence (False)."""
    return None if _SECRET_SIGN.search(value) else False


def dumped_secret(value: str) -> bool | None:
    """What stands behind an address in a dump: as `secret`, and no second address."""
    return None if _SECRET_SIGN.search(value) and "@" not in value else False


def url_login(_value: str) -> bool:
    """User and password before a host stand for nothing else."""
    return True
