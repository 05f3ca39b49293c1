"""What does Presidio find in texts, and how fast? Run by its own environment's Python (`make presidio`).

Rows of JSON lines with `id` and `text` come in on standard input; rows with `id` and `entities` go out, then one line
with the set-up and the processor seconds that the analysis took. Its Korean set-up: the five Korean recognisers, and
for language "ko" those for e-mail, cards, IBAN, IP addresses and phones of region KR; no language model.
"""

from __future__ import annotations

import json
import sys
import time

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

SET_UP = "Presidio {}: KrRrn, KrFrn, KrPassport, KrDriverLicense, KrBrn, Email, CreditCard, Iban, Ip, Phone(KR); no NLP"
LANGUAGE = "ko"
SPARE = 20
"""Texts that are looked at before the clock starts."""


def analyser() -> AnalyzerEngine:
    """Presidio as someone would set it up for Korean posts."""
    registry = RecognizerRegistry(supported_languages=[LANGUAGE])
    plain = (EmailRecognizer, CreditCardRecognizer, IbanRecognizer, IpRecognizer)
    korean = (KrRrnRecognizer, KrFrnRecognizer, KrPassportRecognizer, KrDriverLicenseRecognizer, KrBrnRecognizer)
    for recogniser in (*korean, *plain):
        registry.add_recognizer(recogniser(supported_language=LANGUAGE))
    registry.add_recognizer(PhoneRecognizer(supported_language=LANGUAGE, supported_regions=("KR",)))
    engine = NoOpNlpEngine([{"lang_code": LANGUAGE, "model_name": "none"}])
    engine.load()
    return AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=[LANGUAGE])


def main() -> int:
    """Analyses all rows."""
    engine = analyser()
    rows = [json.loads(line) for line in sys.stdin]
    for row in rows[:SPARE]:
        engine.analyze(row["text"], LANGUAGE)
    started = time.process_time()
    found = [engine.analyze(row["text"], LANGUAGE) for row in rows]
    seconds = time.process_time() - started
    for row, hits in zip(rows, found, strict=True):
        entities = [{"kind": hit.entity_type, "start": hit.start, "end": hit.end} for hit in hits]
        print(json.dumps({"id": row["id"], "entities": entities}))
    from importlib.metadata import version

    print(json.dumps({"set_up": SET_UP.format(version("presidio-analyzer")), "seconds": seconds}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
