"""How a LeakSignalSummaryReport becomes a page: shares as bars, one table a dimension, in Korean and English."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from services.gate.adapters.html import template

Words = Mapping[str, str]
_DIMENSIONS: Final[Sequence[tuple[str, Words]]] = (
    ("source_type", {"ko": "출처 종류", "en": "Source type"}),
    ("channel_group", {"ko": "채널 그룹", "en": "Channel group"}),
    ("kind", {"ko": "정보 종류", "en": "Kind of data"}),
    ("refusal", {"ko": "받지 않은 까닭", "en": "Reason of refusal"}),
)
NAMES: Final[Mapping[str, Words]] = {
    "WEB": {"ko": "웹 문서", "en": "Web pages"},
    "SNS": {"ko": "SNS", "en": "Social networks"},
    "FORUM": {"ko": "게시판·커뮤니티", "en": "Forums and communities"},
    "DARK_WEB": {"ko": "공개된 다크웹", "en": "Open dark web"},
    "LEAK_INDEX": {"ko": "유출 색인", "en": "Leak indexes"},
    "PUBLIC_GUIDANCE": {"ko": "공공 안내", "en": "Public guidance"},
    "USER": {"ko": "가입자 신고", "en": "Subscriber's report"},
    "NOT_SAID": {"ko": "기록 없음", "en": "Not recorded"},
    "MOBILE_PHONE": {"ko": "휴대전화", "en": "Mobile phone"},
    "LANDLINE": {"ko": "유선전화", "en": "Landline"},
    "EMAIL": {"ko": "이메일", "en": "E-mail"},
    "ADDRESS": {"ko": "주소", "en": "Address"},
    "PAYMENT_CARD": {"ko": "결제 카드", "en": "Payment card"},
    "RESIDENT_NUMBER": {"ko": "주민등록번호", "en": "Resident number"},
    "FOREIGNER_NUMBER": {"ko": "외국인등록번호", "en": "Foreigner number"},
    "PASSPORT": {"ko": "여권번호", "en": "Passport"},
    "DRIVER_LICENCE": {"ko": "운전면허번호", "en": "Driver licence"},
    "BANK_ACCOUNT": {"ko": "계좌번호", "en": "Bank account"},
    "NAME": {"ko": "이름", "en": "Name"},
    "VEHICLE_PLATE": {"ko": "차량번호", "en": "Vehicle plate"},
    "MESSENGER_ID": {"ko": "메신저 아이디", "en": "Messenger id"},
    "IP_ADDRESS": {"ko": "IP 주소", "en": "IP address"},
    "CREDENTIAL": {"ko": "로그인 정보", "en": "Login data"},
    "POSITION": {"ko": "위치", "en": "Position"},
}


def render_leaks(document: Mapping[str, object]) -> bytes:
    """The page, UTF-8. `document`: start, end, total, rows and cut_off as in the contract."""
    facts: Any = document
    total, dimensions = _shares(facts["total"]), _dimensions(facts["rows"])
    return template("leaks.html.j2").render(r=facts, total=total, dimensions=dimensions).encode()


def _shares(total: Mapping[str, int]) -> list[dict[str, object]]:
    """What became of the signals, as parts of all."""
    parts = (
        ("matched", {"ko": "사건으로", "en": "into a case"}),
        ("in_review", {"ko": "사람이 판단", "en": "to a person"}),
        ("dropped", {"ko": "해당자 없어 폐기", "en": "nobody's, dropped"}),
    )
    whole = max(1, total["signals"])
    return [{"name": name, "count": total[key], "percent": 100 * total[key] / whole} for key, name in parts]


def _dimensions(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, object]]:
    return [
        {"name": name, "key": key, "rows": [_row(row, parts) for row in parts]}
        for key, name in _DIMENSIONS
        if (parts := [row for row in rows if row["dimension"] == key])
    ]


def _row(row: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    """The counts of a row, and its bars on the scale of the largest row beside it."""
    most = max(1, *(part["hits_of_subscribers"] + part["hits_of_nobody"] for part in parts))
    return {
        **row,
        "words": NAMES.get(row["name"], {"ko": row["name"], "en": row["name"]}),
        "ours": 100 * row["hits_of_subscribers"] / most,
        "others": 100 * row["hits_of_nobody"] / most,
    }
