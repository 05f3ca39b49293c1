"""What can a person type? `jikimi <noun> <verb>`: reads the arguments and hands over."""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Sequence
from typing import TypeAlias

import grpclib

from services.console import (
    approval_commands,
    backup_commands,
    calibration_commands,
    case_commands,
    channel_commands,
    commands,
    gate_commands,
    key_commands,
    probe_commands,
    removal_commands,
    report_commands,
    request_commands,
    review_commands,
    rights_commands,
    sample_commands,
    schema_commands,
    trace_commands,
    upload_commands,
)
from services.console.client import reason_of
from services.console.home import SERVICES, Home, HomeUnusable
from services.console.output import CannotDo

HANDED_OVER = {
    ("eval",): ("services.detector", "eval"),
    ("model",): ("services.detector", "model"),
    ("scan",): ("services.detector.scan_command",),
    ("evidence", "verify"): ("services.case", "evidence", "verify"),
    ("evidence", "report"): ("services.case", "evidence", "report"),
    ("removal", "lint"): ("services.removal", "lint"),
    ("notify", "lint"): ("services.notify", "lint"),
    ("up",): ("services.console.supervisor", "up"),
    ("down",): ("services.console.supervisor", "down"),
    ("status",): ("services.console.supervisor", "status"),
    ("restart",): ("services.console.supervisor", "restart"),
}
"""Verbs that need no server live in their service."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command. Exit status: 0 done, 1 refused or not good, 2 wrong use; `gate` verbs that
    judge or show a judgement have 0 to 3, and 3 where nothing answers."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for words, target in HANDED_OVER.items():
        if tuple(given[: len(words)]) == words:
            return _handed_over([sys.executable, "-m", *target, *given[len(words) :]])
    options = _parser().parse_args(given)
    try:
        run: commands.Command = options.run
        return asyncio.run(run(Home.from_env(), options))
    except grpclib.GRPCError as error:
        print(f"Refused: {reason_of(error)}. {error.message or ''}".rstrip(), file=sys.stderr)
    except (HomeUnusable, CannotDo) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"The system does not answer ({type(error).__name__}); try `make up`.", file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return int(getattr(options, "trouble", 1))


def _handed_over(command: Sequence[str]) -> int:
    """Runs a program to its end. Ctrl-C reaches it as well: how it stops, and what it says of it, is up to it."""
    with subprocess.Popen(command) as program:
        while True:
            try:
                return program.wait()
            except KeyboardInterrupt:
                continue


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="jikimi",
        description="Jikimi on the command line. JIKIMI_HOME names the system (default var/home).",
        epilog="Also: up, down, restart, status; eval faces|covering|pii|dedup|ocr|redaction, model add|lay, "
        "scan (detector); evidence verify|report (case); removal lint (removal); notify lint (notify).",
    )
    nouns = parser.add_subparsers(required=True, metavar="noun")
    _people(nouns)
    _signals(nouns)
    _uploads(nouns)
    _cases(nouns)
    _reviews(nouns)
    _operations(nouns)
    _rights(nouns)
    _approvals(nouns)
    _calibration(nouns)
    _backups(nouns)
    _keys(nouns)
    _schema(nouns)
    return parser


Nouns: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def _verb(verbs: Nouns, name: str, run: commands.Command, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(name, help=text, description=text)
    verb.add_argument("--json", action="store_true", help="for programs: one JSON document")
    verb.set_defaults(run=run)
    return verb


def _noun(nouns: Nouns, name: str, text: str) -> Nouns:
    return nouns.add_parser(name, help=text, description=text).add_subparsers(required=True, metavar="verb")


def _people(nouns: Nouns) -> None:
    verbs = _noun(nouns, "subscriber", "people who are protected")
    add = _verb(verbs, "add", commands.subscriber_add, "register somebody with the consents that protection needs")
    add.add_argument("name", help="name for notices")
    add.add_argument("--mail", default="", help="address for replies of platforms")
    add.add_argument("--language", choices=("ko", "en"), default="ko")
    show = _verb(verbs, "show", commands.subscriber_show, "what is enrolled and watched, masked")
    show.add_argument("subscriber")

    verbs = _noun(nouns, "watch", "identifiers that are looked for")
    add = _verb(verbs, "add", commands.watch_add, "watch an identifier and prove it through the local test provider")
    add.add_argument("subscriber")
    add.add_argument("kind", choices=("mobile", "landline", "email", "card", "account"))
    add.add_argument("value")

    verbs = _noun(nouns, "face", "faces that are looked for")
    add = _verb(verbs, "add", commands.face_add, "enrol one face from 1 to 10 pictures and prove it")
    add.add_argument("subscriber")
    add.add_argument("pictures", nargs="+")

    verbs = _noun(nouns, "inbox", "what the person was told")
    show = _verb(verbs, "list", commands.inbox_list, "the inbox, newest first")
    show.add_argument("subscriber")
    read = _verb(verbs, "read", commands.inbox_read, "mark everything in the inbox as read")
    read.add_argument("subscriber")
    stream = _verb(verbs, "device", commands.inbox_device, "be a device: show notifications and acknowledge them")
    stream.add_argument("subscriber")
    stream.add_argument("--seconds", type=float, default=0.0, help="end after so long without any (0: never)")


def _signals(nouns: Nouns) -> None:
    verbs = _noun(nouns, "signal", "found content")
    submit = _verb(verbs, "submit", commands.signal_submit, "hand in one post: texts and pictures")
    submit.add_argument("files", nargs="*", help="pictures")
    submit.add_argument("--text", action="append", default=[], help="a text part; may be repeated")
    submit.add_argument("--url", default="https://example.org/post/1")
    submit.add_argument("--channel", default="community")
    submit.add_argument("--id", default="", help="signal id; default: derived from the content")
    status = _verb(verbs, "status", commands.signal_status, "how far a signal is")
    status.add_argument("id")
    verbs = _noun(nouns, "channel", "where is looked")
    _verb(verbs, "list", commands.channel_list, "the channels")
    scan = _verb(verbs, "scan", channel_commands.scan, "ask the collectors of a channel for a scan now")
    scan.add_argument("channel")
    scan.add_argument("--most", type=int, default=100, help="signals at most, 1 to 1000")
    report = _verb(verbs, "report", channel_commands.report, "report for a subscriber where something was seen")
    report.add_argument("subscriber")
    report.add_argument("url")
    report.add_argument("--note", default="", help="what the subscriber says")
    for verb in (scan, report):
        verb.add_argument("--request", default="", help="id that an earlier call printed: how far is that one?")


def _uploads(nouns: Nouns) -> None:
    verbs = _noun(nouns, "account", "accounts whose uploads are checked")
    add = _verb(verbs, "link", upload_commands.account_link, "link an account on a platform")
    add.add_argument("subscriber")
    add.add_argument("platform", help="such as meta")
    add.add_argument("name", help="the account's name there")
    add.add_argument("--others", action="store_true", help="warn about other people's faces as well")
    listing = _verb(verbs, "list", upload_commands.account_list, "the linked accounts, names masked")
    listing.add_argument("subscriber")
    unlink = _verb(verbs, "unlink", upload_commands.account_unlink, "unlink an account")
    unlink.add_argument("subscriber")
    unlink.add_argument("account")

    verbs = _noun(nouns, "upload", "warnings before an upload")
    check = _verb(verbs, "check", upload_commands.upload_check, "what a picture or text would show")
    check.add_argument("subscriber")
    check.add_argument("account")
    check.add_argument("picture", nargs="?", default="")
    check.add_argument("--text", default="")
    resolve = _verb(verbs, "resolve", upload_commands.upload_resolve, "blur (same content again), cancel or proceed")
    resolve.add_argument("subscriber")
    resolve.add_argument("check")
    resolve.add_argument("choice", choices=("blur", "cancel", "proceed"))
    resolve.add_argument("picture", nargs="?", default="")
    resolve.add_argument("--text", default="")
    resolve.add_argument("--out", default="redacted.jpg", help="file for the redacted picture")
    report = _verb(verbs, "report", upload_commands.upload_report, "UserActionOutcomeReport: what was chosen")
    report.add_argument("--days", type=int, default=30)

    verbs = _noun(nouns, "redaction", "what was blurred")
    audit = _verb(verbs, "audit", upload_commands.redaction_audit, "RedactionAuditReport of a case; exit 1: broken")
    audit.add_argument("case")


def _cases(nouns: Nouns) -> None:
    verbs = _noun(nouns, "case", "incidents")
    listing = _verb(verbs, "list", commands.case_list, "cases, newest first")
    listing.add_argument("--subscriber", default="")
    show = _verb(verbs, "show", commands.case_show, "one case with its sightings")
    show.add_argument("case")
    replay = _verb(verbs, "replay", case_commands.case_replay, "the story of a case, from its first record on")
    replay.add_argument("case")
    replay.add_argument("--html", default="", help="save it as one page, Korean and English")
    verify = _verb(verbs, "verify", case_commands.case_verify, "hold the log of a case, or of all, against kept heads")
    verify.add_argument("case", nargs="?", default="", help="case id, or the file of an exported case; default: all")
    export = _verb(verbs, "export", case_commands.case_export, "save a case as one archive that can be checked offline")
    export.add_argument("case")
    export.add_argument("-o", "--out", default="")
    export.add_argument("--reason", default="audit", help="why, for the log")
    verdict = _verb(verbs, "verdict", commands.case_verdict, "what the subscriber says")
    verdict.add_argument("case")
    verdict.add_argument("verdict", choices=("me", "not-me", "unsure"))

    guidance = _verb(verbs, "guidance", case_commands.case_guidance, "what the subscriber did with public guidance")
    guidance.add_argument("case")
    guidance.add_argument("path", nargs="?", default="", help="path id; without it the paths are shown")
    guidance.add_argument("outcome", nargs="?", choices=("contacted", "helped", "not-helped", "declined"))

    verbs = _noun(nouns, "evidence", "evidence packs")
    export = _verb(verbs, "export", commands.evidence_export, "save the pack of a case (ZIP)")
    export.add_argument("case")
    export.add_argument("--out", default="")
    export.add_argument("--reason", default="", help="why, a word such as COURT_ORDER; reviewed monthly")

    verbs = _noun(nouns, "removal", "removal requests")
    listing = _verb(verbs, "list", commands.removal_list, "requests, newest first")
    listing.add_argument("--case", default="")
    _verb(verbs, "replies", removal_commands.removal_replies, "what platforms wrote and a person has to read")
    review = _verb(verbs, "review", removal_commands.removal_review, "may it be filed? two people have to agree")
    review.add_argument("request")
    review.add_argument("decision", choices=("approve", "refuse"))
    review.add_argument("--as", dest="reviewer", required=True, help="who decides")
    hold = _verb(verbs, "hold", removal_commands.removal_hold, "stop the queue of a platform")
    hold.add_argument("platform")
    hold.add_argument("reason", help="UPPER_SNAKE")
    release = _verb(verbs, "release", removal_commands.removal_release, "let it go on; two people have to agree")
    release.add_argument("platform")
    release.add_argument("--as", dest="reviewer", required=True, help="who decides")
    counts = _verb(verbs, "transparency", removal_commands.removal_transparency, "counts by month, for the public")
    counts.add_argument("--from", dest="first", metavar="YYYY-MM", help="first month (default: eleven before the last)")
    counts.add_argument("--to", dest="last", metavar="YYYY-MM", help="last month (default: this one)")
    package = _verb(verbs, "package", removal_commands.removal_package, "what the subscriber needs to file it")
    package.add_argument("subscriber")
    package.add_argument("request")


def _reviews(nouns: Nouns) -> None:
    verbs = _noun(nouns, "review", "what people decide and label, blind to one another")

    def verb(name: str, run: commands.Command, text: str) -> argparse.ArgumentParser:
        made = _verb(verbs, name, run, text)
        made.add_argument("--as", dest="who", default="console", metavar="NAME", help="who reviews (default: console)")
        return made

    lease = verb("lease", review_commands.review_lease, "lease items for a bounded time")
    lease.add_argument("--most", type=int, default=5, help="items, 1 to 20")
    show = verb("show", review_commands.review_show, "save candidate and reference of an item; the look is recorded")
    show.add_argument("item")
    show.add_argument("--out", default="", help="folder for the pictures")
    label = verb("label", review_commands.review_label, "say what an item is")
    label.add_argument("item")
    label.add_argument("label", choices=tuple(review_commands.LABELS))
    verb("disagreements", review_commands.review_disagreements, "what waits for a third person")
    _verb(verbs, "queue", review_commands.review_queue, "what waits for people; exit 1: something is overdue")
    adjudicate = verb("adjudicate", review_commands.review_adjudicate, "decide as the third person")
    adjudicate.add_argument("item")
    adjudicate.add_argument("label", choices=("match", "no-match"))


def _samples(gate: Nouns) -> None:
    verbs = _noun(gate, "sample", "frozen samples that people label")
    freeze = _verb(verbs, "freeze", sample_commands.sample_freeze, "draw and freeze a sample of the alerts of a window")
    freeze.add_argument("report", help="precision, false-positives, or the name of a report")
    show = _verb(verbs, "show", sample_commands.sample_show, "a sample with kappa and labels so far, or all samples")
    show.add_argument("sample", nargs="?", default="")
    show.add_argument("--reproduce", action="store_true", help="draw it again from the records; exit 1: not the same")


def _releases(verbs: Nouns) -> None:
    def verb(name: str, run: commands.Command, text: str) -> argparse.ArgumentParser:
        made = _verb(verbs, name, run, text)
        made.set_defaults(trouble=gate_commands.ERROR)
        return made

    stages = ("1", "2", "3", "ALL")
    run = verb("run", gate_commands.run, "judge a release; exit 0 passed, 1 failed, 2 inconclusive, 3 error")
    run.add_argument("release")
    run.add_argument("--stage", default="ALL", choices=stages)
    run.add_argument("--out", default="", help="folder for the reports (JSON and HTML), the signed decision, the index")
    run.add_argument("--junit", default="", metavar="FILE", help="write the judgement as JUnit XML too")
    show = verb("open", gate_commands.open_pages, "save the index and its pages; open them where there is a display")
    show.add_argument("release", nargs="?", default="", help="release or decision; else the last report of every gate")
    show.add_argument("--out", default="", help="folder (default: reports in the home)")
    explain = verb("explain", gate_commands.explain, "why, what to do, and whether the signature holds; exit as `run`")
    explain.add_argument("release", help="release or decision")
    explain.add_argument("--public-key", default="", metavar="DIR", help="folder with gate-decisions.pub")
    diff = verb("diff", gate_commands.diff, "what changed between two releases or decisions; exit 1: got worse")
    diff.add_argument("before")
    diff.add_argument("after")
    for each in (show, explain, diff):
        each.add_argument("--stage", default="", choices=("", *stages), help="of a release: its latest at this stage")
    record = verb("record", gate_commands.record, "record a test run from a JUnit file")
    record.add_argument("release")
    record.add_argument("kind", choices=gate_commands.KINDS)
    record.add_argument("commit")
    record.add_argument("file")
    watch = verb("watch", gate_commands.watch, "follow decisions as they are made")
    watch.add_argument("--token", default="", help="go on from here")
    watch.add_argument("--release", default="")
    _dependencies(verbs)


def _dependencies(gate: Nouns) -> None:
    verbs = _noun(gate, "dependency", "what releases rest on that is not code")
    _verb(verbs, "list", gate_commands.dependency_list, "the register; exit 1: something is not in order")
    change = _verb(verbs, "set", gate_commands.dependency_set, "note that one changed")
    change.add_argument("dependency")
    change.add_argument("state", choices=gate_commands.STATES)
    change.add_argument("reason", help="UPPER_SNAKE")


def _operations(nouns: Nouns) -> None:
    verbs = _noun(nouns, "gate", "may this release go out?")
    _releases(verbs)
    report = _verb(verbs, "report", report_commands.report, "save or list reports, or make one of the last days")
    report.add_argument("report", nargs="?", default="", help=f"id, or {' or '.join(report_commands.OF_A_PERIOD)}")
    report.add_argument("--days", type=int, default=30, help="period of a report that is made now")
    report.add_argument("--out", default="")
    report.add_argument("--dated", action="store_true", help="into a folder of today's date below --out")
    _overrides(verbs)
    _samples(verbs)


    _verb_of_trace(nouns)
    probe = _verb(nouns, "probe", probe_commands.probe, "ask every service's health; exit 1: one does not serve")
    probe.add_argument("services", nargs="*", help="default: all")
    verbs = _noun(nouns, "dlq", "dead letters")
    listing = _verb(verbs, "list", commands.dlq_list, "what was rejected, in every service")
    listing.add_argument("--service", default="")
    replay = _verb(verbs, "replay", commands.dlq_replay, "apply rejected events again")
    replay.add_argument("service")
    replay.add_argument("ids", nargs="*")

    verbs = _noun(nouns, "gallery", "enrolled faces in the detector's memory")
    _verb(verbs, "status", commands.gallery_status, "how many, which version, how old")
    _verb(verbs, "rebuild", commands.gallery_rebuild, "build it anew from the database while it serves")

    verbs = _noun(nouns, "token", "actor tokens")
    issue = _verb(verbs, "issue", commands.token_issue, "print a token for a call by hand")
    issue.add_argument("subject")
    issue.add_argument("role", help="such as OPERATOR")
    issue.add_argument("purpose", help="such as CASE_HANDLING")
    issue.add_argument("audience", help="service the token is for")
    issue.add_argument("--hours", type=float, default=1.0, help="how long it is valid, at most 12")


def _verb_of_trace(nouns: Nouns) -> None:
    trace = _verb(nouns, "trace", trace_commands.trace, "where the time of a case went; without one the slowest lately")
    trace.add_argument("case", nargs="?", default="", help="case, request or trace id")
    trace.add_argument("--html", default="", help="save it as one page, Korean and English")


def _rights(nouns: Nouns) -> None:
    verbs = _noun(nouns, "rights", "rights of the people who are protected")
    erase = _verb(verbs, "erase", rights_commands.erase, "erase somebody in every service")
    erase.add_argument("subscriber")
    _verb(verbs, "erasures", rights_commands.erasures, "erasures and whose answer is missing; exit 1 while one is late")
    _requests(verbs)

    verbs = _noun(nouns, "access", "who read whose personal data")
    listing = _verb(verbs, "list", rights_commands.access_list, "readings, newest first")
    listing.add_argument("--subscriber", default="")
    report = _verb(verbs, "report", rights_commands.access_report, "review of a month: JSON and HTML")
    report.add_argument("month", help="yyyy-mm")
    report.add_argument("--out", default=".")

    verbs = _noun(nouns, "rules", "versioned rules of the services")
    listing = _verb(verbs, "list", rights_commands.rules_list, "names and versions; values where a role may read them")
    listing.add_argument("--service", default="")
    listing.add_argument("--role", choices=sorted(rights_commands.RULE_READERS), default="OPERATOR")
    listing.add_argument("--values", action="store_true", help="print them")


def _requests(verbs: Nouns) -> None:
    ask = _verb(verbs, "ask", request_commands.ask, "hand in a request about the own data of somebody")
    ask.add_argument("subscriber")
    ask.add_argument("type", choices=request_commands.TYPES)
    ask.add_argument("--detail", default="", help="what is asked for, in the words of who asks")
    ask.add_argument("--requester", choices=request_commands.REQUESTERS, default="SELF")
    ask.add_argument("--identity", default="", help="how it was checked who asks; without it: the person's own token")
    ask.add_argument("--document", default="", help="file with the mandate; its hash alone is kept")
    ask.add_argument("--reason", default="", help="why it is handed in for the person")
    listing = _verb(verbs, "list", request_commands.requests, "requests by deadline; exit 1 while one is late")
    listing.add_argument("--state", choices=request_commands.STATES, default="RECEIVED")
    show = _verb(verbs, "show", request_commands.show, "one request with what was asked for")
    fulfil = _verb(verbs, "fulfil", request_commands.fulfil, "do what was asked for, and answer")
    fulfil.add_argument("--statement", default="", help="what the person is told beside")
    fulfil.add_argument("--correct", action="append", default=[], metavar="ENTRY=VALUE", help="may stand several times")
    reject = _verb(verbs, "reject", request_commands.reject, "refuse for a legal reason")
    extend = _verb(verbs, "extend", request_commands.extend, "put the deadline off")
    answer = _verb(verbs, "answer", request_commands.answer, "save the document that answers a request")
    answer.add_argument("-o", "--out", required=True)
    answer.add_argument("--reason", default="HAND_OVER", help="why: a word of capitals is kept as it is")
    for verb in (show, fulfil, reject, extend, answer):
        verb.add_argument("request")
    for verb in (reject, extend):
        verb.add_argument("why", help="a reason of rights.yaml, such as NOT_WRONG or UNUSUALLY_MANY")
    reject.add_argument("--statement", default="", help="what the person is told beside")
    for verb in (ask, listing, show, fulfil, reject, extend, answer):
        verb.add_argument("--as", dest="person", default="", help="name of the privacy officer")
    purges = _verb(verbs, "purges", request_commands.purges, "what is to be purged, was, or is held")
    purges.add_argument("--state", choices=request_commands.PURGE_STATES, default="DUE")


def _approvals(nouns: Nouns) -> None:
    verbs = _noun(nouns, "approval", "what two people decide")
    propose = _verb(verbs, "propose", approval_commands.propose, "propose what a file holds")
    propose.add_argument("kind", help="THRESHOLD, POLICY_TEMPLATE, RAW_EVIDENCE, HOLD")
    propose.add_argument("body", help="file")
    propose.add_argument("--reason", required=True)
    approve = _verb(verbs, "approve", approval_commands.approve, "approve; the second person is given the grant")
    approve.add_argument("proposal")
    reject = _verb(verbs, "reject", approval_commands.reject, "reject, or take back")
    reject.add_argument("proposal")
    reject.add_argument("--reason", required=True)
    listing = _verb(verbs, "list", approval_commands.proposals, "proposals that the role decides about")
    for verb in (propose, approve, reject, listing):
        _somebody(verb)
        verb.add_argument("--role", choices=sorted(approval_commands.PURPOSES), default="OPERATOR")


def _calibration(nouns: Nouns) -> None:
    verbs = _noun(nouns, "calibration", "from labels to the threshold of faces, by way of two people")
    evaluate = _verb(verbs, "evaluate", calibration_commands.evaluate, "which threshold a sample's labels call for")
    evaluate.add_argument("sample")
    listing = _verb(verbs, "list", calibration_commands.evaluations, "evaluations, newest first")
    propose = _verb(verbs, "propose", calibration_commands.propose, "propose what an evaluation called for")
    propose.add_argument("--reason", required=True)
    adopt = _verb(verbs, "adopt", calibration_commands.adopt, "put it in force from the detector's next start")
    adopt.add_argument("--grant", required=True, help="as `approval approve` printed it")
    for verb in (propose, adopt):
        verb.add_argument("evaluation")
    for verb in (evaluate, listing, propose, adopt):
        _somebody(verb)
        verb.set_defaults(role="RELEASE_MANAGER")


def _backups(nouns: Nouns) -> None:
    verbs = _noun(nouns, "backup", "save the system and bring it back")
    key = _verb(verbs, "key", backup_commands.backup_key, "make the recovery key that opens key archives")
    key.add_argument("file", help="new file for it; to be taken off this machine")
    create = _verb(verbs, "create", backup_commands.backup_create, "save the running system: data and keys, apart")
    create.add_argument("folder", help="for the data")
    create.add_argument("--keys", default="", help="for the key archive (default: FOLDER.keys)")
    copied = _verb(verbs, "tombstones", backup_commands.backup_tombstones, "copy tombstones that came since")
    copied.add_argument("folder", help="where the key archive is kept")
    verify = _verb(verbs, "verify", backup_commands.backup_verify, "is a backup whole?")
    verify.add_argument("folder")
    verify.add_argument("--keys", default="", help="folder of its key archive")
    restore = _verb(verbs, "restore", backup_commands.backup_restore, "bring a backup back; exit 1: a check failed")
    restore.add_argument("folder")
    restore.add_argument("--keys", default="", help="folder of its key archive, where this home lost its keys")
    restore.add_argument("--recovery-key", default="", help="file that opens the key archive")
    restore.add_argument("--tombstones", action="append", default=[], help="newer copy of tombstones; may be repeated")
    restore.add_argument("--replace", action="store_true", help="put the database aside that is there")
    restore.add_argument("--stay-down", action="store_true", help="do not start the system and check it")
    _verb(verbs, "check", backup_commands.backup_check, "has the bus caught up, do all logs verify? exit 1: no")


def _keys(nouns: Nouns) -> None:
    verbs = _noun(nouns, "keys", "keys of the system, and how they give way to new ones")
    _verb(verbs, "list", key_commands.keys_list, "key ids and how much hangs on them")
    signers = "grants, case-evidence, case-time, gate-heads, gate-decisions"
    families = f"issuer, a service, {signers}, nats, master, master:SERVICE"
    rotate = _verb(verbs, "rotate", key_commands.keys_rotate, "bring a new key into use; run again, it goes on")
    rotate.add_argument("family", help=families)
    retire = _verb(verbs, "retire", key_commands.keys_retire, "make old keys unusable")
    retire.add_argument("family", help=families)
    retire.add_argument("--at-once", action="store_true", help="also where what they signed may be alive: stolen keys")


def _schema(nouns: Nouns) -> None:
    verbs = _noun(nouns, "schema", "where the databases stand")
    _verb(verbs, "show", schema_commands.schema_show, "revisions of databases and code; exit 1: they differ")
    back = _verb(verbs, "back", schema_commands.schema_back, "take revisions back, with what is in what they added")
    back.add_argument("service", choices=SERVICES)
    back.add_argument("revision", help="the last one that stays")


def _overrides(verbs: Nouns) -> None:
    propose = _verb(verbs, "propose", approval_commands.gate_propose, "propose to override an inconclusive decision")
    propose.add_argument("--reason", required=True, help="why, in words")
    override = _verb(verbs, "override", approval_commands.gate_override, "override it by the grant of two people")
    override.add_argument("--grant", required=True, help="as `approval approve` printed it")
    for verb in (propose, override):
        verb.add_argument("decision")
        verb.add_argument("code", help="why, in one word such as FEW_EVENTS_YET; the same in both")
        _somebody(verb)
        verb.set_defaults(role="RELEASE_MANAGER")


def _somebody(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--as", dest="name", required=True, help="who decides; two people cannot be one")


if __name__ == "__main__":
    sys.exit(main())
