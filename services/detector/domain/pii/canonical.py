"""When two spellings are the same phone, address, card or account: the comparable form of a value."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii import checks
from services.detector.domain.pii.model import Kind, NotWatchable
from services.detector.domain.pii.normalise import normalise

_LONGEST_VALUE: Final = 512
_NEVER: Final = frozenset({Kind.RRN, Kind.FRN, Kind.PASSPORT, Kind.DRIVER_LICENCE, Kind.SSN, Kind.CREDENTIAL})
_PROVINCES: Final = re.compile(
    "^(?:서울|부산|대구|인천|광주|대전|울산|세종|경기|강원|충청?[남북]|전라?[남북]"
    "|경상?[남북]|충청[남북]|전북|제주)"
    r"(?:특별자치시|특별자치도|특별시|광역시|도|(?<!제주)시)?(?=\s|[가-힣]{1,5}(?:시|군|구)\s?[가-힣])\s?"
)


def canonicalise(kind: Kind, value: str) -> str:
    """The comparable form of a watched value: E.164 for phones, lower case for e-mail, digits for cards and accounts.

    Raises NotWatchable with reason `national_identifier`, `credential`, `kind`, `too_long` or `malformed`.
    """
    if kind in _NEVER:
        raise NotWatchable("credential" if kind is Kind.CREDENTIAL else "national_identifier")
    form = _FORMS.get(kind)
    if form is None:
        raise NotWatchable("kind")
    if len(value) > _LONGEST_VALUE:
        raise NotWatchable("too_long")
    result = form(normalise(value).text.strip())
    if not result:
        raise NotWatchable("malformed")
    return result


def comparable(kind: Kind, value: str) -> str:
    """The comparable form of a value as it was found, in normalised text; empty where it has none."""
    return _FORMS[kind](value)


def phone(value: str) -> str:
    """E.164 with '+'. A number without country code is Korean when it begins with 0, North American with ten digits."""
    value = re.split(r"(?<=\d)\s?(?:x|ext)", value, maxsplit=1, flags=re.IGNORECASE)[0]
    if re.search(r"[^\d\s()+./_·~,-]", re.sub(r"^\D{0,12}(?=[+(0-9])", "", value)):
        value = re.sub(r"[^\d+]", "", value)
    # A trunk zero in brackets, "+46 (0)8 …", is not dialled from abroad.
    value = re.sub(r"(?<=\d)\s?\(0\)", "", value)
    local = checks.domestic(value)
    if checks.korean_mobile(local) is not False or checks.korean_landline(local) is not False:
        return "+82" + local[1:]
    digits = checks.digits_of(value)
    if "+" in value or digits.startswith("00"):
        digits = digits if "+" in value else digits[2:]
        return "+" + digits if checks.e164(digits) else ""
    if len(digits) == 11 and digits[0] == "1" and checks.nanp(digits):
        return "+" + digits
    return "+1" + digits if len(digits) == 10 and checks.nanp(digits) else ""


def email(value: str) -> str:
    """Lower case; local parts are not case-sensitive anywhere that matters (RFC 5321 §2.4 leaves it to the host)."""
    value = re.sub(r"\s", "", value).removeprefix("mailto:")
    matches = re.fullmatch(r"[^\s@]{1,64}@[^\s@.]{1,63}(?:\.[^\s@.]{1,63}){1,5}", value)
    return value.lower() if matches and checks.email(value) else ""


def card(value: str) -> str:
    """Digits, when Luhn holds."""
    digits = checks.digits_of(value)
    return digits if 12 <= len(digits) <= 19 and checks.card(digits) is not False else ""


def account(value: str) -> str:
    """An IBAN in upper case without spaces, or the 10 to 16 digits of a domestic account; the bank is left out."""
    compact = re.sub(r"[\s-]", "", value).upper()
    if re.match(r"[A-Z]{2}\d{2}", compact):
        return compact if checks.iban(compact) else ""
    digits = checks.digits_of(value)
    return digits if 10 <= len(digits) <= 16 else ""


def messenger(value: str) -> str:
    """The id in lower case without a leading @."""
    found = re.fullmatch(r"@?([A-Za-z0-9][A-Za-z0-9._-]{2,39})", value)
    return found[1].lower() if found else ""


def plate(value: str) -> str:
    """Digits, letter, digits; an old plate's region stays, spaces go."""
    compact = re.sub(r"[\s-]", "", value)
    return compact if re.fullmatch(r"[가-힣]{0,2}\d{2,3}[가-힣]\d{4}", compact) else ""


def address(value: str) -> str:
    """A Korean address without province, brackets, floor and unit: what two spellings of one building share."""
    value = re.sub(r"\([^)]{0,40}\)?|^\D{0,3}\d{5}\D", " ", value).strip()
    value = _PROVINCES.sub("", value)
    building = re.match(
        r"(.{1,70}?(?:대로|로|길|거리|가|동|리|읍|면|마을)\s?(?:지하|산)?\s?\d{1,4}"
        r"(?:-\d{1,4})?)(?!\d|\s?번?길)",
        value,
    )
    return re.sub(r"\s", "", building[1]) if building else ""


_FORMS: Final = {
    Kind.PHONE: phone,
    Kind.EMAIL: email,
    Kind.CARD: card,
    Kind.ACCOUNT: account,
    Kind.MESSENGER: messenger,
    Kind.PLATE: plate,
    Kind.ADDRESS: address,
}
