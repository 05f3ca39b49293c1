"""Which policy templates are in force, who approved them, and what text comes out of them?

Templates are data of limited trust: they run in Jinja2's immutable sandbox, an unknown name is an error, and what
is put into them is plain text of one line, except the notice and the statement. The result is plain text too: forms
are URL-encoded and mails are text/plain, so that nothing is escaped for HTML.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from jinja2 import StrictUndefined, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.chassis import yaml_text
from services.removal.domain.filing import Claimant, Evidence, Mandate
from services.removal.domain.policy import LANGUAGES, Kind, Policy, PolicyError, parse
from services.removal.ports import Filing

SHIPPED = Path(__file__).parent.parent / "policies"
"""The templates that come with the service."""

LARGEST_FILE = 64 * 1024
"""Bytes of one template."""
LONGEST_NOTICE = 16_384
"""Characters of one rendered value."""
LONGEST_STATEMENT = 2_000
"""Characters of a statement."""
SUBJECT = {
    "ko": "개인정보 침해 게시물 삭제 요청 ({reference})",
    "en": "Request to take down content that infringes privacy ({reference})",
}
APPROVALS = "approvals.yaml"
"""Beside the templates: which digests two people have approved."""
_SUBJECT_MATTER = {"subject_matter_ko": "사진 또는 개인정보", "subject_matter_en": "a picture or personal data"}


@dataclass(frozen=True)
class _Loaded:
    policy: Policy
    fields: tuple[tuple[str, Template], ...] = field(repr=False)


class PolicyFiles:
    """The policies of one folder, read once and checked as a whole."""

    def __init__(self, folder: Path = SHIPPED) -> None:
        """Raises PolicyError with every fault of every file."""
        self._environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)
        # autoescape: the output is never HTML (see the module's docstring).
        self._notices, self._statements, digest = _notices(folder, self._environment)
        approved = _approved(folder / APPROVALS)
        self._loaded: dict[str, _Loaded] = {}
        faults: list[str] = []
        for file in sorted(folder.glob("*.yaml")):
            if file.name == APPROVALS:
                continue
            try:
                self._loaded[file.stem] = self._load(file, digest, approved)
            except PolicyError as error:
                faults += [f"{file.stem}: {fault}" for fault in error.faults]
        faults = faults or self._faults_between()
        if faults or not self._loaded:
            raise PolicyError("policies", faults or ["there are no templates"])

    def get(self, platform: str) -> Policy | None:
        """The policy of a platform; None for a platform without one."""
        item = self._loaded.get(platform)
        return item.policy if item else None

    def all(self) -> tuple[Policy, ...]:
        """Every policy, by platform id."""
        return tuple(item.policy for _, item in sorted(self._loaded.items()))

    def statement(self, policy: Policy, reason: str, evidence: Evidence, mandate: Mandate | None) -> str:
        """The sentences that answer a rejection, in the platform's first language; empty where there are none.
        Raises PolicyError when the template fails.
        """
        template = self._statements.get((reason, policy.languages[0]))
        if template is None:
            return ""
        try:
            values = _values(policy, evidence, Claimant(), mandate, "", policy.languages[0])
            return template.render(values)[:LONGEST_STATEMENT]
        except TemplateError:
            raise PolicyError(policy.platform, ["a statement cannot be rendered"]) from None

    def render(
        self,
        policy: Policy,
        evidence: Evidence,
        claimant: Claimant,
        mandate: Mandate | None,
        *,
        reference: str,
        language: str = "",
    ) -> Filing:
        """What the platform gets to read; in the platform's first language unless `language` is one it reads.

        The claimant's data appears only where the policy demands it. Raises PolicyError when a template fails.
        """
        spoken = language if language in policy.languages else policy.languages[0]
        values = _values(policy, evidence, claimant, mandate, reference, spoken)
        try:
            notice = self._notices[spoken].render(values)[:LONGEST_NOTICE]
            subject = SUBJECT[spoken].format(reference=reference)
            all_values = {**values, "notice": notice, "subject": subject}
            fields = tuple(
                (name, template.render(all_values)[:LONGEST_NOTICE])
                for name, template in self._loaded[policy.platform].fields
            )
        except TemplateError:
            # Its words may quote values.
            raise PolicyError(policy.platform, ["a template cannot be rendered"]) from None
        return Filing(subject, notice, spoken, fields)

    def _faults_between(self) -> list[str]:
        """What must hold between the templates."""
        faults = []
        for policy in self.all():
            for body in policy.fallback:
                other = self.get(body)
                if other is None or other.kind is not Kind.PUBLIC_BODY:
                    faults.append(f"{policy.platform}: fallback: {body} is no public body with a template")
            for item in policy.rejections:
                if item.answered_by and (item.reason, policy.languages[0]) not in self._statements:
                    faults.append(f"{policy.platform}: rejections: no statement answers {item.reason}")
        return faults

    def _load(self, file: Path, notices_digest: bytes, approved: frozenset[str]) -> _Loaded:
        raw = _read(file)
        try:
            data = yaml_text.parse(raw)
        except yaml.YAMLError:
            raise PolicyError(file.stem, ["the file is not YAML"]) from None
        policy = parse(data, hashlib.sha256(raw + notices_digest).hexdigest(), approved)
        if policy.platform != file.stem:
            raise PolicyError(file.stem, ["platform: is not the name of the file"])
        try:
            templates = policy.submission.fields if policy.submission else ()
            fields = tuple((item.name, self._environment.from_string(item.value)) for item in templates)
        except TemplateError:
            raise PolicyError(file.stem, ["fields: a template cannot be read"]) from None
        return _Loaded(policy, fields)


def lint(folder: Path = SHIPPED) -> tuple[str, ...]:
    """Every fault of every template, also of rendering it with made-up values; empty when all may be used."""
    try:
        files = PolicyFiles(folder)
        for policy in files.all():
            _try_rendering(files, policy)
    except PolicyError as error:
        return error.faults if error.platform == "policies" else (str(error),)
    return ()


def _try_rendering(files: PolicyFiles, policy: Policy) -> None:
    evidence = Evidence("https://example.org/post/1", "1", "example", content_sha256=("00" * 32,), statement="-")
    claimant = Claimant("A", "a@example.org")
    for language in LANGUAGES:
        files.render(policy, evidence, claimant, None, reference="0", language=language)
    for item in policy.rejections:
        files.statement(policy, item.reason, evidence, None)


def _values(
    policy: Policy, evidence: Evidence, claimant: Claimant, mandate: Mandate | None, reference: str, language: str
) -> Mapping[str, object]:
    disclosed = {item.value for item in policy.discloses}
    return {
        **_SUBJECT_MATTER,
        "platform_name": policy.display_name,
        "demand": policy.demand[language],
        "legal_basis": [fact.text for fact in policy.legal_basis],
        "reference": reference,
        "source_url": _line(evidence.source_url),
        "post_id": _line(evidence.post_id),
        "discover_time": _line(evidence.discover_time),
        "publish_time": _line(evidence.publish_time),
        "content_sha256": list(evidence.content_sha256),
        "manifest_sha256": evidence.manifest_sha256,
        "statement": evidence.statement,
        "claimant_name": _line(claimant.name) if "claimant_name" in disclosed else "",
        "claimant_email": _line(claimant.email) if "claimant_email" in disclosed else "",
        "mandate_sha256": mandate.document_sha256.hex() if mandate else "",
        "mandate_expire_time": mandate.expire_time.date().isoformat() if mandate else "",
    }


def _line(text: str) -> str:
    """One line of printable characters: a value must not be able to start a header or a paragraph of its own."""
    return "".join(character if character.isprintable() else " " for character in text)


def _notices(
    folder: Path, environment: ImmutableSandboxedEnvironment
) -> tuple[Mapping[str, Template], Mapping[tuple[str, str], Template], bytes]:
    """Language → notice, (reason, language) → statement, and the SHA-256 of all of them."""
    raw = {language: _read(folder / "notices" / f"{language}.txt") for language in LANGUAGES}
    statements = _read(folder / "notices" / "statements.yaml")
    try:
        notices = {language: environment.from_string(text.decode()) for language, text in raw.items()}
        answers = {
            (str(reason), language): environment.from_string(str(texts[language]))
            for reason, texts in yaml_text.parse(statements).items()
            for language in LANGUAGES
        }
    except (TemplateError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise PolicyError("notices", ["a notice or a statement cannot be read"]) from None
    return notices, answers, hashlib.sha256(b"\0".join([*raw.values(), statements])).digest()


def _approved(file: Path) -> frozenset[str]:
    """Digests that two different people approved; a folder without the file has none. Raises PolicyError."""
    if not file.exists():
        return frozenset()
    try:
        rows = yaml_text.parse(_read(file))["approvals"]
        signed = {str(row["digest"]): {str(name) for name in row["approvers"]} for row in rows}
    except (yaml.YAMLError, KeyError, TypeError):
        raise PolicyError("approvals", ["the file is not a list of digests with their approvers"]) from None
    return frozenset(digest for digest, approvers in signed.items() if len(approvers) >= 2)


def _read(file: Path) -> bytes:
    try:
        raw = file.read_bytes()
    except OSError:
        raise PolicyError(file.stem, ["the file cannot be read"]) from None
    if len(raw) > LARGEST_FILE:
        raise PolicyError(file.stem, ["the file is larger than 64 KiB"])
    return raw
