"""How login data is recognised: found to be masked, never returned, hashed or watched."""

from __future__ import annotations

import re
from typing import Final

from services.detector.domain.pii import checks
from services.detector.domain.pii.model import Kind, MaskRule
from services.detector.domain.pii.recogniser import Context, Examples, Recogniser

_SECRET: Final = r"(?![*•xX]{3})[!-~]{4,63}+"

PASSWORD = Recogniser(
    rule_id="credential.password",
    kind=Kind.CREDENTIAL,
    pattern=re.compile(
        r"(?:(?<![A-Za-z])(?:pass\s?word|passwd|passcode|passphrase|pass|pwd|pw)|비밀\s?번호"
        "|비번|패스워드|암호)"
        rf"[ ]?(?:[:=]|(?:은|는|이|is)(?=[ ]))[ ]{{0,2}}(?P<v>{_SECRET})"
        rf"|(?:비밀\s?번호|비번|패스워드|(?<![A-Za-z])(?:pw|pwd|passwd))[ ]{{1,2}}(?P<w>"
        rf"(?=[!-/:-~]{{0,40}}+[0-9])(?=[!-@\[-`{{-~]{{0,40}}+[A-Za-z])[!-~]{{6,63}}+)",
        re.IGNORECASE,
    ),
    anchors=(
        r"(?:pass[^a-z]?word|passwd|passcode|passphrase|pass|pwd|pw|비밀[^가-힣]?번호|비번|패스워드|암호)"
        r"(?:[ ]?(?:[:=]|(?:은|는|이|is)[ ])[ ]{0,2}|[ ]{1,2})[!-~]{4}",
    ),
    source="a secret told by its label",
    examples=Examples(
        valid=(
            "id: gildong pw: ⟦hunter2!⟧",
            "비밀번호: ⟦qwer1234⟧",
            "password=⟦s3cret⟧",
            "비번은 ⟦abcd1234⟧",
            "비번 ⟦qwer1234!⟧",
        ),
        invalid=(
            "비밀번호: 영문 8자",
            "password is weak",
            "password: ****",
            "비밀번호는 무엇",
            "pw: a",
            "the password is required",
        ),
    ),
    check=checks.secret,
    context=Context(),
    mask=MaskRule.ALL,
)

DUMP_LINE = Recogniser(
    rule_id="credential.dump_line",
    kind=Kind.CREDENTIAL,
    pattern=re.compile(
        f"(?<![A-Za-z0-9._%+@-])[A-Za-z0-9][A-Za-z0-9._%+-]{{0,63}}+@"
        rf"(?:[A-Za-z0-9][A-Za-z0-9-]{{0,62}}+\.){{1,5}}[A-Za-z]{{2,24}}+[ ]?[:;|][ ]?(?!//)"
        rf"(?P<v>{_SECRET})(?=\s|$)",
    ),
    anchors=(r"@[a-z0-9][a-z0-9.-]+[ ]?[:;|][ ]?[!-~]{4}",),
    reach=600,
    source="lines of credential dumps: address, separator, secret",
    examples=Examples(
        valid=("hong@example.com:⟦hunter22⟧", "hong@example.com|⟦Passw0rd!⟧"),
        invalid=("hong@example.com: 안녕", "hong@example.com"),
    ),
    check=checks.dumped_secret,
)

URL_LOGIN = Recogniser(
    rule_id="credential.url",
    kind=Kind.CREDENTIAL,
    pattern=re.compile(r"[a-z]{2,10}://(?P<v>[^\s/:@]{1,64}:[^\s/@]{1,64})@[A-Za-z0-9.-]{1,253}", re.IGNORECASE),
    anchors=(r"://[^\s/:@]{1,64}:[^\s/@]{1,64}@",),
    reach=420,
    source="RFC 3986 §3.2.1 user information",
    examples=Examples(valid=("ftp://⟦hong:secret1⟧@example.com/x",), invalid=("https://example.com:80/@user",)),
    check=checks.url_login,
)

RECOGNISERS: Final = (URL_LOGIN, PASSWORD, DUMP_LINE)
