"""How do evidence and exports become pages that a person likes to read?

Self-contained: no script, no font, no picture from elsewhere. Two languages lie in the page and a pair of radio buttons
shows one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup, escape

_TEMPLATES = Path(__file__).parents[1] / "templates"


class HtmlPages:
    """The `Pages` drawn with Jinja."""

    def evidence(self, facts: Mapping[str, object]) -> bytes:
        """See `Pages`."""
        return _template("evidence.html.j2").render(**facts).encode()


@cache
def _template(name: str) -> Template:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["moment"] = moment
    environment.filters["word"] = word_in_both
    environment.filters["both"] = both
    return environment.get_template(name)


def moment(text: object) -> str:
    """A time of an archive as people read it: to the second, in UTC."""
    return f"{str(text)[:19].replace('T', ' ')} UTC" if text else ""


def both(texts: tuple[str, str]) -> Markup:
    """A Korean and an English text, of which the page shows one. Of texts that stand in the template the page is made
    when it is compiled.
    """
    ko, en = map(escape, texts)
    # Both are escaped.
    return Markup(f'<span lang="ko">{ko}</span><span lang="en">{en}</span>')


def word(name: object) -> Mapping[str, str]:
    """A code in both languages; one without a translation, and any other text, stands as it is."""
    text = _code(name)
    return WORDS.get(text, {"ko": text, "en": text.replace("_", " ").lower() if text.isupper() else text})


def word_in_both(name: object) -> Markup:
    """`word` in the page."""
    shown = _shown_words().get(_code(name))
    if shown is None:
        words = word(name)
        shown = both((words["ko"], words["en"]))
    return shown


def _code(name: object) -> str:
    text = str(name)
    for prefix in ("COLLECTION_BASIS_", "SOURCE_TYPE_", "BAND_", "MATCH_KIND_", "IDENTIFIER_KIND_"):
        text = text.removeprefix(prefix)
    return text


@cache
def _shown_words() -> Mapping[str, Markup]:
    return {name: both((words["ko"], words["en"])) for name, words in WORDS.items()}


WORDS: Mapping[str, Mapping[str, str]] = {
    "FACE": {"ko": "얼굴", "en": "face"},
    "PII": {"ko": "개인정보", "en": "personal data"},
    "PRE_UPLOAD": {"ko": "올리기 전 경고", "en": "warning before an upload"},
    "REDACTION": {"ko": "가림 처리", "en": "redaction"},
    "OPEN": {"ko": "열림", "en": "open"},
    "ACTION_STARTED": {"ko": "조치 시작", "en": "action started"},
    "WAITING_PLATFORM": {"ko": "플랫폼 처리 대기", "en": "waiting for a platform"},
    "RESOLVED": {"ko": "해결됨", "en": "resolved"},
    "CLOSED": {"ko": "종결", "en": "closed"},
    "PRESENT": {"ko": "있음", "en": "present"},
    "WEAK": {"ko": "약함", "en": "weak"},
    "MISSING": {"ko": "없음", "en": "missing"},
    "AT_FILING": {"ko": "신청할 때 첨부", "en": "added at filing"},
    "source_url": {"ko": "게시 위치 (URL)", "en": "place (URL)"},
    "post_id": {"ko": "게시물 번호", "en": "id of the post"},
    "discover_time": {"ko": "발견 시각", "en": "time found"},
    "publish_time": {"ko": "게시 시각", "en": "time published"},
    "http_status": {"ko": "HTTP 응답", "en": "HTTP answer"},
    "content_sha256": {"ko": "내용의 해시", "en": "hash of the content"},
    "masked_text": {"ko": "가린 글", "en": "masked text"},
    "thumbnail": {"ko": "가린 사진", "en": "redacted picture"},
    "statement": {"ko": "보완 진술", "en": "statement"},
    "mandate": {"ko": "위임장", "en": "mandate"},
    "claimant_name": {"ko": "신청인 이름", "en": "name of the claimant"},
    "claimant_email": {"ko": "신청인 전자우편", "en": "mail of the claimant"},
    "NOT_FETCHED": {"ko": "주소에서 받은 기록이 없음", "en": "no record of fetching it"},
    "STATUS_NOT_GOOD": {"ko": "주소가 다른 응답을 함", "en": "the address answered otherwise"},
    "NOT_ENCRYPTED": {"ko": "암호화되지 않은 연결", "en": "connection not encrypted"},
    "FETCHED_LATE": {"ko": "발견 뒤 늦게 받음", "en": "fetched long after it was found"},
    "BEFORE_PUBLICATION": {"ko": "게시 시각이 발견 시각보다 늦음", "en": "published after it was found"},
    "CAPTURED": {"ko": "수집", "en": "captured"},
    "REDUCED": {"ko": "가리고 줄임", "en": "reduced"},
    "PULLED": {"ko": "인수", "en": "pulled"},
    "PACKED": {"ko": "봉인", "en": "packed"},
    "SUPPLEMENTED": {"ko": "보완", "en": "supplemented"},
    "READ": {"ko": "열람", "en": "read"},
    "EXPORTED": {"ko": "내보냄", "en": "exported"},
    "VERIFIED": {"ko": "검증", "en": "verified"},
    "UNSPECIFIED": {"ko": "답 없음", "en": "no answer yet"},
    "ME": {"ko": "본인이 맞음", "en": "it is me"},
    "NOT_ME": {"ko": "본인이 아님", "en": "it is not me"},
    "UNSURE": {"ko": "잘 모르겠음", "en": "not sure"},
    "CONTACTED": {"ko": "연락함", "en": "contacted"},
    "HELPED": {"ko": "도움이 됨", "en": "helped"},
    "NOT_HELPED": {"ko": "도움이 되지 않음", "en": "did not help"},
    "DECLINED": {"ko": "이용하지 않음", "en": "not wanted"},
    "OPENED": {"ko": "처음 발견", "en": "first found"},
    "SAME_CLUSTER": {"ko": "같은 내용", "en": "same content"},
    "SAME_IDENTIFIER": {"ko": "같은 식별자", "en": "same identifier"},
    "SAME_POST": {"ko": "같은 게시물", "en": "same post"},
    "OFFICIAL_API": {"ko": "공식 API", "en": "official interface"},
    "PUBLIC_ACCESS": {"ko": "공개 접근", "en": "public access"},
    "USER_SUBMITTED": {"ko": "본인 제출", "en": "handed in by the subscriber"},
    "PURPOSE_PROTECTION": {"ko": "보호", "en": "protection"},
    "PURPOSE_CASE_HANDLING": {"ko": "사건 처리", "en": "case handling"},
    "PURPOSE_AUDIT": {"ko": "감사", "en": "audit"},
    "PURPOSE_REMOVAL": {"ko": "삭제 대행", "en": "removal on behalf"},
    "MOBILE_PHONE": {"ko": "휴대전화 번호", "en": "mobile number"},
    "LANDLINE": {"ko": "유선전화 번호", "en": "landline number"},
    "EMAIL": {"ko": "전자우편 주소", "en": "mail address"},
    "PAYMENT_CARD": {"ko": "카드 번호", "en": "payment card"},
    "BANK_ACCOUNT": {"ko": "계좌 번호", "en": "bank account"},
    "ADDRESS": {"ko": "주소", "en": "address"},
    "MATCH": {"ko": "일치", "en": "match"},
    "REVIEW": {"ko": "사람이 확인", "en": "decided by a person"},
}
