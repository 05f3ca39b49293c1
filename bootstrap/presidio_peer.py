"""What does Presidio find in texts, and how fast? Run by its own environment's Python (`make presidio`).

Rows of JSON lines with `id` and `text` come in on standard input; rows with `id` and `entities` go out, then one line
with the set-up and the processor seconds. Its Korean set-up: the five Korean recognisers, and for
language "ko" those for e-mail, cards, IBAN, IP addresses and phones (of region KR, or with `--phone-regions default` of
those it looks for unasked); no language model.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version

from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
from presidio_analyzer.nlp_engine import NoOpNlpEngine
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    KrBrnRecognizer,
    KrDriverLicenseRecognizer,
    KrFrnRecognizer,
    KrPassportRecognizer,
    KrRrnRecognizer,
    PhoneRecognizer,
)

SET_UP = "Presidio {}: KrRrn, KrFrn, KrPassport, KrDriverLicense, KrBrn, Email, CreditCard, Iban, Ip, Phone({}); no NLP"
LANGUAGE = "ko"
SPARE = 20
"""Texts that are looked at before the clock starts."""


def analyser(phone_regions: str) -> AnalyzerEngine:
    """Presidio as someone would set it up for Korean posts."""
    registry = RecognizerRegistry(supported_languages=[LANGUAGE])
    plain = (EmailRecognizer, CreditCardRecognizer, IbanRecognizer, IpRecognizer)
    korean = (KrRrnRecognizer, KrFrnRecognizer, KrPassportRecognizer, KrDriverLicenseRecognizer, KrBrnRecognizer)
    for recogniser in (*korean, *plain):
        registry.add_recognizer(recogniser(supported_language=LANGUAGE))
    regions = PhoneRecognizer.DEFAULT_SUPPORTED_REGIONS if phone_regions == "default" else (phone_regions,)
    registry.add_recognizer(PhoneRecognizer(supported_language=LANGUAGE, supported_regions=regions))
    engine = NoOpNlpEngine([{"lang_code": LANGUAGE, "model_name": "none"}])
    engine.load()
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[LANGUAGE])


def main() -> int:
    """Analyses all rows."""
    phone_regions = sys.argv[2] if sys.argv[1:2] == ["--phone-regions"] else "KR"
    engine = analyser(phone_regions)
    rows = [json.loads(line) for line in sys.stdin]
    for row in rows[:SPARE]:
        engine.analyze(row["text"], LANGUAGE)
    started = time.process_time()
    found = [engine.analyze(row["text"], LANGUAGE) for row in rows]
    seconds = time.process_time() - started
    for row, hits in zip(rows, found, strict=True):
        entities = [{"kind": hit.entity_type, "start": hit.start, "end": hit.end} for hit in hits]
        print(json.dumps({"id": row["id"], "entities": entities}))
    print(json.dumps({"set_up": SET_UP.format(version("presidio-analyzer"), phone_regions), "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
