"""How the detector writes down what it did with uploads; kinds, counts, places and hashes only."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256

from misuse.common.v1 import access_pb2
from misuse.common.v1 import signal_pb2 as common
from misuse.log.v1 import record_pb2 as log
from services.detector.domain.decisions import IdentifierKind
from services.detector.domain.uploads import Choice, LinkedAccount, Seen, Severity, Subject, UploadCheck, Warned
from services.detector.handlers.records import purge, purge_due, signed
from services.detector.ports import Redacted
from services.detector.translate import stamp

__all__ = ["account", "audited", "blur", "outcome", "purge", "purge_due", "severity", "signed", "warning"]

MOST_MODELS = 8
MOST_NUMBERS = 1024
DELETION_RULE = "upload-memory-1"


def severity(level: Severity) -> common.UploadSeverity.ValueType:
    """A severity as the contract has it; the numbers are the same."""
    return common.UploadSeverity.ValueType(level)


def _kinds(kinds: Sequence[IdentifierKind]) -> list[common.IdentifierKind.ValueType]:
    return [common.IdentifierKind.ValueType(kind) for kind in kinds]


def account(linked: LinkedAccount, states: tuple[str, str], reason: str, now: datetime) -> log.LogRecord:
    """An account that was linked, changed or unlinked; `states` are (from, to)."""
    return log.LogRecord(
        entity="linked_account",
        entity_id=linked.account_id,
        entity_version=linked.version,
        occur_time=stamp(now),
        ownership_log=log.OwnershipLog(kind="ACCOUNT", from_state=states[0], to_state=states[1], reason=reason),
    )


def warning(check: UploadCheck, warned: Warned, seen: Seen, rule_version: str, took_ms: int) -> log.LogRecord:
    """A check; one that found nothing as well."""
    body = log.PreUploadWarningLog(
        upload_check_id=check.upload_check_id,
        kinds=_kinds(warned.kinds),
        own_faces=warned.count(Subject.YOU),
        other_faces=warned.count(Subject.ANOTHER_PERSON, Subject.CHILD),
        children=warned.count(Subject.CHILD),
        latency_ms=took_ms,
        severity=severity(warned.severity),
        suggested_action=warned.action.name if warned.findings else "",
        rule_version=rule_version,
        model_ids=seen.model_ids[:MOST_MODELS],
        skipped=seen.skipped,
    )
    record = _of(check, check.create_time)
    record.pre_upload_warning_log.CopyFrom(body)
    return record


def outcome(check: UploadCheck, warned: Warned, choice: Choice, now: datetime) -> log.LogRecord:
    """What the subscriber chose, or that no answer came."""
    record = _of(check, now)
    record.user_action_outcome_log.CopyFrom(
        log.UserActionOutcomeLog(
            upload_check_id=check.upload_check_id,
            choice=choice.name,
            kinds=_kinds(warned.kinds),
            severity=severity(warned.severity),
            own_faces=warned.count(Subject.YOU),
            other_faces=warned.count(Subject.ANOTHER_PERSON, Subject.CHILD),
            answer_ms=max(0, int((now - check.create_time) / timedelta(milliseconds=1))),
        )
    )
    return record


def blur(check: UploadCheck, made: Redacted, image_bytes: int, text_bytes: int, now: datetime) -> log.LogRecord:
    """Everything that is needed to say what was covered and how, and to prove it on the result."""
    body = log.BlurApplyLog(
        upload_check_id=check.upload_check_id,
        input_ref=check.image_ref if made.image else b"",
        output_sha256=sha256(made.image).digest() if made.image else b"",
        regions=[number for mask in made.masks for number in (mask.x, mask.y, mask.width, mask.height)][:MOST_NUMBERS],
        methods=[str(mask.method) for mask in made.masks][: MOST_NUMBERS // 4],
        rule_version=made.rule_version,
        algorithm=made.algorithm,
        parameters=[log.RedactionParameter(name=name, value=value) for name, value in made.parameters],
        model_ids=made.model_ids[:MOST_MODELS],
        size=made.size if made.image else (),
        format=made.format,
        text_ref=check.text_ref if made.text else b"",
        text_output_sha256=sha256(made.text.encode()).digest() if made.text else b"",
        text_spans=[number for span in made.spans for number in span][:MOST_NUMBERS],
    )
    held = [("INPUT_BYTES", "NEVER_WRITTEN", image_bytes + text_bytes), ("DECODED_PIXELS", "NEVER_WRITTEN", 0)]
    if made.zeroed_bytes:
        held.append(("DECODED_PIXELS", "ZEROED", made.zeroed_bytes))
    for what, how, size in held:
        body.deletions.add(what=what, how=how, size_bytes=size, rule=DELETION_RULE)
    record = _of(check, now)
    record.blur_apply_log.CopyFrom(body)
    return record


def audited(check_id: str, now: datetime) -> log.LogRecord:
    """Somebody had a stored result looked at again."""
    return log.LogRecord(
        entity="redaction",
        entity_id=check_id,
        entity_version=1,
        occur_time=stamp(now),
        access_log=log.AccessLog(method="AuditRedaction", resource="redaction", outcome="OK"),
    )


def _of(check: UploadCheck, now: datetime) -> log.LogRecord:
    """A record of a check. Its id stands for the decision: records that come before the case take their place by it."""
    return log.LogRecord(
        case_ids=[check.case_id] if check.case_id else [],
        decision_id=check.upload_check_id,
        entity="upload_check",
        entity_id=check.upload_check_id,
        entity_version=check.version,
        purpose=access_pb2.PURPOSE_PROTECTION,
        occur_time=stamp(now),
    )
