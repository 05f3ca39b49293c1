"""How what is known of uploads becomes contract messages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from misuse.common.v1 import signal_pb2 as common
from misuse.detector.v1 import upload_service_pb2 as uploads
from services.detector.domain.uploads import Finding, LinkedAccount, RedactionCheck, Subject, UploadCheck, Warned
from services.detector.translate import stamp

_OUTCOMES = {True: "HOLDS", False: "BROKEN", None: "NOT_LOOKED"}


def account_message(account: LinkedAccount, handle: str) -> uploads.LinkedAccount:
    """An account as a message, its name masked."""
    return uploads.LinkedAccount(
        account_id=account.account_id,
        platform=account.platform,
        create_time=stamp(account.create_time),
        masked_handle=_masked(handle),
        warn_about_others=account.warn_about_others,
    )


def _masked(handle: str) -> str:
    """The first two characters of a name of five or more, the first of a shorter one."""
    kept = 2 if len(handle) >= 5 else 1 if len(handle) >= 2 else 0
    return handle[:kept] + "*" * (len(handle) - kept)


def check_message(check: UploadCheck, warned: Warned) -> uploads.CheckUploadResponse:
    """What the banner shows."""
    return uploads.CheckUploadResponse(
        upload_check_id=check.upload_check_id,
        case_id=check.case_id,
        findings=[_finding(each) for each in warned.findings],
        severity=common.UploadSeverity.ValueType(warned.severity),
        suggested_action=uploads.SuggestedAction.ValueType(warned.action),
        skipped=check.skipped,
        answer_by_time=stamp(check.answer_by),
    )


def _finding(finding: Finding) -> uploads.UploadFinding:
    return uploads.UploadFinding(
        kind=common.IdentifierKind.ValueType(finding.kind or 0),
        you=finding.subject is Subject.YOU,
        another_person=finding.subject in (Subject.ANOTHER_PERSON, Subject.CHILD),
        child=finding.subject is Subject.CHILD,
        field=finding.field,
        region=finding.region,
        severity=common.UploadSeverity.ValueType(finding.severity),
    )


def audit_message(
    upload_check_id: str, checks: Sequence[RedactionCheck], now: datetime
) -> uploads.AuditRedactionResponse:
    """RedactionAuditReport: proved where nothing is broken."""
    return uploads.AuditRedactionResponse(
        upload_check_id=upload_check_id,
        proved=all(each.holds is not False for each in checks),
        checks=[
            uploads.RedactionCheck(name=each.name, outcome=_OUTCOMES[each.holds], detail=each.detail)
            for each in checks
        ],
        create_time=stamp(now),
    )
