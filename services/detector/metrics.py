"""What does the detector count and measure?"""

from __future__ import annotations

from services.chassis.metrics import counter, gauge, histogram

SIGNALS = counter("jikimi_signals_total", "How many signals come, and what becomes of them at the door?", "outcome")
DECIDED = counter("jikimi_decisions_total", "How many signals are decided, by band?", "band")
EMBEDDER_REQUESTS = counter(
    "jikimi_embedder_requests_total", "How does the embedding server answer, by model and outcome?", "model", "outcome"
)
SPOOL_WAIT = histogram("jikimi_spool_wait_seconds", "How long does a signal wait until somebody looks at it?", "lane")

SPOOL = gauge("jikimi_spool_signals", "How many signals wait for a decision, by lane; how many are kept aside?", "lane")
SPOOL_AGE = gauge("jikimi_spool_oldest_seconds", "How long has the oldest signal waited, by lane?", "lane")
SPOOL_BYTES = gauge("jikimi_spool_bytes", "How full is the spool?")
GALLERY_VERSION = gauge("jikimi_gallery_version", "Which version of the gallery does this replica serve?")
GALLERY_HEAD = gauge("jikimi_gallery_head_version", "Which is the newest version of the gallery that it heard of?")
GALLERY_AGE = gauge("jikimi_gallery_age_seconds", "How long ago was the gallery known to be current?")
GALLERY_SIZE = gauge("jikimi_gallery_templates", "How many templates are matched?")
