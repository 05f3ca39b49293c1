"""How does the log of a case read as a story, at a terminal and as one page, Korean and English?"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from betterproto import which_one_of
from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from jikimi_client.misuse.case import v1 as case_api
from jikimi_client.misuse.log import v1 as log_api
from services.console.output import name_of

Words = Mapping[str, str]
"""A text by language: ko, en."""


@dataclass(frozen=True)
class Moment:
    """One thing that happened, or several of the same kind behind each other."""

    time: datetime | None
    service: str
    tone: str
    title: Words
    detail: Words
    sequence: int
    entry_hash: str
    who: str = ""
    facts: str = field(default="", repr=False)
    """The record as JSON."""
    gap: timedelta | None = None
    """Since the moment before."""
    count: int = 1
    until: datetime | None = None
    """Time of the last of several."""


def story_of(entries: Sequence[case_api.CaseLogEntry]) -> list[Moment]:
    """Moments in the order of the log; the same thing several times behind each other is one."""
    told: list[Moment] = []
    for moment in map(_moment, entries):
        last = told[-1] if told else None
        if last is not None and (last.service, last.title, last.tone) == (moment.service, moment.title, moment.tone):
            told[-1] = replace(last, count=last.count + 1, until=moment.time)
            continue
        earlier = last and (last.until or last.time)
        gap = moment.time - earlier if moment.time and earlier else None
        told.append(replace(moment, gap=gap))
    return told


def _moment(entry: case_api.CaseLogEntry) -> Moment:
    digest = entry.entry_hash.hex()
    if entry.record is None:
        gone = {"ko": "내용이 파기되었습니다", "en": "The content was destroyed"}
        return Moment(None, "", "quiet", gone, _NOTHING, entry.sequence, digest)
    record = entry.record
    name, body = which_one_of(record, "body")
    tone, title, detail = _TOLD.get(name, _plain)(body)
    facts = json.dumps(record.to_dict(), ensure_ascii=False, indent=1, default=str)
    role = name_of(record.actor_role).removeprefix("ROLE_").lower()
    who = f"{role} {record.actor_ref[:8]}".strip() if record.actor_ref else ""
    return Moment(record.occur_time, record.service, tone, title, detail, entry.sequence, digest, who, facts)


# --- what each record says ---

Told = tuple[str, Words, Words]
_NOTHING: Words = {"ko": "", "en": ""}


def _both(text: str) -> Words:
    return {"ko": text, "en": text}


def _joined(*parts: object) -> Words:
    return _both(" · ".join(str(part) for part in parts if part))


def _code(text: str) -> str:
    return text.replace("_", " ").lower()


def _plain(body: Any) -> Told:
    name = type(body).__name__.removesuffix("Log")
    return "quiet", _both(name), _NOTHING


def _decided(body: log_api.MatchDecisionLog) -> Told:
    band = name_of(body.band).removeprefix("BAND_")
    tone, words = _BANDS.get(band, ("quiet", _both(_code(band))))
    _, detail = which_one_of(body, "detail")
    model = detail.model_id if isinstance(detail, log_api.FaceMatchDecisionLog) else ""
    hits = len(detail.hits) if isinstance(detail, log_api.PiiPatternMatchLog) else 0
    found = f"{hits} hit{'s'[: hits != 1]}" if hits else ""
    return tone, words, _joined(body.channel, body.channel_group, found, model, body.rule_version)


_BANDS: Mapping[str, tuple[str, Words]] = {
    "MATCH": ("found", {"ko": "검출기가 가입자를 알아보았습니다", "en": "The detector recognised the subscriber"}),
    "REVIEW": ("wait", {"ko": "검출기가 사람의 확인을 청했습니다", "en": "The detector asked for a person's eye"}),
    "NONE": ("quiet", {"ko": "검출기가 가입자를 찾지 못했습니다", "en": "The detector found nobody"}),
}
_LIFE: Mapping[str, tuple[str, Words]] = {
    "OPENED": ("found", {"ko": "사건이 열렸습니다", "en": "The case was opened"}),
    "SIGHTED": ("found", {"ko": "같은 내용이 다시 발견되었습니다", "en": "The same content was seen again"}),
    "REVIEW_OPENED": ("wait", {"ko": "사람의 확인을 기다립니다", "en": "A person is to look at it"}),
    "ACTION_STARTED": ("done", {"ko": "조치가 시작되었습니다", "en": "Action was started"}),
    "WAITING_PLATFORM": ("wait", {"ko": "플랫폼의 처리를 기다립니다", "en": "A platform has to act"}),
    "RESOLVED": ("done", {"ko": "사건이 해결되었습니다", "en": "The case was resolved"}),
    "CLOSED": ("done", {"ko": "사건이 종결되었습니다", "en": "The case was closed"}),
    "REOPENED": ("bad", {"ko": "사건이 다시 열렸습니다", "en": "The case was opened again"}),
    "MERGED": ("quiet", {"ko": "다른 사건에 합쳐졌습니다", "en": "It was merged into another case"}),
    "UNMERGED": ("quiet", {"ko": "합친 사건이 다시 나뉘었습니다", "en": "A merge was taken back"}),
    "PURGED": ("quiet", {"ko": "내용이 파기되었습니다", "en": "The content was purged"}),
    "DROPPED": ("quiet", {"ko": "처리하지 않는 가입자라 버렸습니다", "en": "Dropped: the subscriber is not processed"}),
}


def _lived(body: log_api.CaseLifecycleLog) -> Told:
    tone, words = _LIFE.get(body.transition, ("quiet", _both(_code(body.transition))))
    latency = f"{body.latency_ms:,} ms" if body.latency_ms else ""
    return tone, words, _joined(
        body.channel, body.channel_group, latency, _code(body.resolution), _code(body.reason)
    )


def _deduplicated(body: log_api.DedupMergeLog) -> Told:
    if body.unmerged:
        words: Words = {"ko": "두 사건을 나누었습니다", "en": "Two cases were parted"}
    elif body.merged_case_id:
        words = {"ko": "두 사건이 하나가 되었습니다", "en": "Two cases became one"}
    else:
        words = {"ko": "발견을 같은 사건으로 보았습니다", "en": "The find was taken for the same incident"}
    return "quiet", words, _joined(_code(body.rule), body.rule_version, body.channel_group, body.merged_case_id)


_PACKS: Mapping[str, tuple[str, Words]] = {
    "BUILT": ("done", {"ko": "증거를 봉인했습니다", "en": "Evidence was packed and signed"}),
    "READ": ("quiet", {"ko": "증거를 열람했습니다", "en": "Evidence was read"}),
    "EXPORTED": ("quiet", {"ko": "사건을 내보냈습니다", "en": "The case was exported"}),
    "VERIFIED": ("done", {"ko": "증거를 검증했습니다", "en": "Evidence was verified"}),
    "INCOMPLETE": ("bad", {"ko": "증거에 빠진 것이 있습니다", "en": "Evidence lacks something"}),
    "OMITTED": ("wait", {"ko": "자리가 없어 해시만 적었습니다", "en": "No room: only the hash was kept"}),
    "SUPERSEDED": ("quiet", {"ko": "옛 판은 서명된 목록만 남겼습니다", "en": "Of an old version its manifest stays"}),
}


def _packed(body: log_api.EvidencePackLog) -> Told:
    tone, words = _PACKS.get(body.action, ("quiet", _both(_code(body.action))))
    version = {"ko": f"{body.pack_version}판", "en": f"version {body.pack_version}"} if body.pack_version else _NOTHING
    items = {"ko": f"발견 {body.items:,}건", "en": f"{body.items:,} sightings" if body.items != 1 else "1 sighting"}
    rest = [*map(_code, body.missing_fields), body.manifest_sha256.hex()[:12]]
    detail = {of: " · ".join(filter(None, [version[of], items[of], *rest])) for of in ("ko", "en")}
    return tone, words, detail


_NOTICES: Mapping[str, tuple[str, Words]] = {
    "QUEUED": ("quiet", {"ko": "알림을 준비했습니다", "en": "A notice was made"}),
    "HANDED_OVER": ("quiet", {"ko": "알림을 기기에 넘겼습니다", "en": "The notice went to a device"}),
    "ACKNOWLEDGED": ("done", {"ko": "기기가 알림을 받았습니다", "en": "The device acknowledged the notice"}),
    "RESENT": ("wait", {"ko": "알림을 다시 보냈습니다", "en": "The notice was sent again"}),
    "UNDELIVERABLE": ("bad", {"ko": "알림을 전하지 못했습니다", "en": "The notice could not be delivered"}),
    "SUPERSEDED": ("quiet", {"ko": "더 새로운 알림이 대신했습니다", "en": "A newer notice took its place"}),
    "QUIET_HOURS": ("wait", {"ko": "조용한 시간이 지나면 알립니다", "en": "The notice waits for quiet hours to end"}),
    "NO_LIVE_DEVICE": ("wait", {"ko": "알림을 받을 기기가 없습니다", "en": "There is no device to notify"}),
}


def _notified(body: log_api.NotificationDeliveryLog) -> Told:
    tone, words = _NOTICES.get(body.action, ("quiet", _both(_code(body.action))))
    latency = f"{body.latency_ms:,} ms" if body.latency_ms else ""
    return tone, words, _joined(_code(body.subject), body.device_class, latency)


_REMOVALS: Mapping[str, tuple[str, Words]] = {
    "DRAFT": ("quiet", {"ko": "삭제 요청을 준비했습니다", "en": "A removal request was drafted"}),
    "CHECKED": ("quiet", {"ko": "삭제 요청의 증거를 확인했습니다", "en": "The request's evidence was checked"}),
    "SUBMITTED": ("done", {"ko": "플랫폼에 삭제를 요청했습니다", "en": "The platform was asked to remove it"}),
    "RECEIVED": ("done", {"ko": "플랫폼이 요청을 접수했습니다", "en": "The platform accepted the request"}),
    "REMOVED": ("done", {"ko": "내용이 삭제된 것을 확인했습니다", "en": "The content was seen removed"}),
    "TEMP_BLOCKED": ("done", {"ko": "내용이 임시로 가려졌습니다", "en": "The content was blinded for a time"}),
    "DEINDEXED": ("wait", {"ko": "검색에서만 사라졌습니다", "en": "Search no longer finds it"}),
    "UNVERIFIED": ("wait", {"ko": "삭제되었는지 확인하지 못했습니다", "en": "Removal could not be verified"}),
    "REJECTED": ("bad", {"ko": "플랫폼이 거절했습니다", "en": "The platform rejected the request"}),
    "SUPPLEMENTED": ("wait", {"ko": "증거를 보완했습니다", "en": "The evidence was supplemented"}),
    "UNCERTAIN": ("bad", {"ko": "보냈는지 확실하지 않습니다", "en": "It is not certain whether it was sent"}),
    "UNRESOLVED": ("bad", {"ko": "해결하지 못했습니다", "en": "Nothing helped"}),
    "WITHDRAWN": ("quiet", {"ko": "요청을 거두었습니다", "en": "The request was withdrawn"}),
}


def _removed(body: log_api.RemovalRequestLog) -> Told:
    tone, words = _REMOVALS.get(body.to_state, ("quiet", _both(_code(body.to_state))))
    attempt = f"#{body.attempt}" if body.attempt else ""
    return tone, words, _joined(body.platform, body.path, attempt, _code(body.reason), body.policy_version)


def _warned(body: log_api.PreUploadWarningLog) -> Told:
    words = {"ko": "올리기 전에 경고했습니다", "en": "A warning was shown before an upload"}
    return "found", words, _joined(name_of(body.severity), _code(body.suggested_action), f"{body.latency_ms} ms")


def _chosen(body: log_api.UserActionOutcomeLog) -> Told:
    return "done", {"ko": "가입자가 선택했습니다", "en": "The subscriber chose"}, _joined(_code(body.choice))


def _blurred(body: log_api.BlurApplyLog) -> Told:
    words = {"ko": "가림을 적용했습니다", "en": "A blur was applied"}
    return "done", words, _joined(f"{len(body.methods)} masks", body.algorithm, body.rule_version)


def _labelled(body: log_api.LabelLog) -> Told:
    if body.source == "SUBSCRIBER":
        return "done", {"ko": "가입자가 답했습니다", "en": "The subscriber answered"}, _joined(_code(body.verdict))
    return "done", {"ko": "검토자가 판정했습니다", "en": "A reviewer labelled it"}, _joined(_code(body.verdict))


def _guided(body: log_api.GuidanceLog) -> Told:
    if body.action == "ATTACHED":
        words = {"ko": "공공 안내 경로를 붙였습니다", "en": "Public guidance was attached"}
        return "done", words, _joined(*body.path_ids)
    words = {"ko": "안내를 어떻게 했는지 답했습니다", "en": "The subscriber said what became of the guidance"}
    return "done", words, _joined(*body.path_ids, _code(body.outcome))


def _looked(body: log_api.AccessLog) -> Told:
    words = {"ko": "개인정보를 열람했습니다", "en": "Personal data was read"}
    return "quiet", words, _joined(body.method, _code(body.resource), _code(body.outcome))


def _purged(body: log_api.PurgeLog) -> Told:
    words = {"ko": "기한이 된 것을 파기했습니다", "en": "Something due was purged"}
    return "quiet", words, _joined(_code(body.item_kind))


_TOLD: Mapping[str, Callable[[Any], Told]] = {
    "match_decision_log": _decided,
    "case_lifecycle_log": _lived,
    "dedup_merge_log": _deduplicated,
    "evidence_pack_log": _packed,
    "notification_delivery_log": _notified,
    "removal_request_log": _removed,
    "pre_upload_warning_log": _warned,
    "user_action_outcome_log": _chosen,
    "blur_apply_log": _blurred,
    "label_log": _labelled,
    "guidance_log": _guided,
    "access_log": _looked,
    "purge_log": _purged,
}


# --- as a page ---


@dataclass(frozen=True)
class Standing:
    """What checking the log came to."""

    valid: bool
    entries: int
    witnessed: int
    faults: Sequence[str]


def gap_text(gap: timedelta | None) -> str:
    """How long after the moment before: +250 ms, +4.2 s, +3 min, +5 h, +12 d; empty where there is none."""
    if gap is None:
        return ""
    seconds = gap.total_seconds()
    sign, seconds = ("+", seconds) if seconds >= 0 else ("−", -seconds)
    for size, unit, digits in ((86_400, "d", 0), (3_600, "h", 0), (60, "min", 0), (1, "s", 1)):
        if seconds >= size:
            return f"{sign}{seconds / size:.{digits}f} {unit}"
    return f"{sign}{seconds * 1000:.0f} ms"


def story_page(case: case_api.Case, moments: Iterable[Moment], standing: Standing, now: datetime) -> bytes:
    """The story as one page, UTF-8: no script, no font, no picture from elsewhere."""
    kinds = [_KINDS.get(name_of(kind), _both(name_of(kind))) for kind in case.kinds]
    state = _STATES.get(name_of(case.state), _both(name_of(case.state)))
    facts = {"case": case, "kinds": kinds, "state": state, "moments": list(moments), "standing": standing, "now": now}
    return _template().render(**facts).encode()


_KINDS: Mapping[str, Words] = {
    "FACE": {"ko": "얼굴", "en": "face"},
    "PII": {"ko": "개인정보", "en": "personal data"},
    "PRE_UPLOAD": {"ko": "올리기 전 경고", "en": "warning before an upload"},
    "REDACTION": {"ko": "가림 처리", "en": "redaction"},
}
_STATES: Mapping[str, Words] = {
    "OPEN": {"ko": "열림", "en": "open"},
    "ACTION_STARTED": {"ko": "조치 시작", "en": "action started"},
    "WAITING_PLATFORM": {"ko": "플랫폼 처리 대기", "en": "waiting for a platform"},
    "RESOLVED": {"ko": "해결됨", "en": "resolved"},
    "CLOSED": {"ko": "종결", "en": "closed"},
    "PURGED": {"ko": "파기됨", "en": "purged"},
    "MERGED": {"ko": "합쳐짐", "en": "merged"},
}


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["gap"] = gap_text
    environment.filters["moment"] = lambda time: f"{time:%Y-%m-%d %H:%M:%S}" if time else "–"
    return environment.get_template("story.html.j2")
