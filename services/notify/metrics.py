"""What does notify count and measure?"""

from __future__ import annotations

from services.chassis.metrics import LONG_EDGES_S, counter, gauge, histogram

NOTICES = counter(
    "jikimi_notices_total",
    "How many notices were handed to devices, how many acknowledged, how many given up, by kind of device?",
    "outcome",
    "device_class",
)
ACK_SECONDS = histogram(
    "jikimi_notice_ack_seconds", "How long after it was handed over is a notice acknowledged?", edges=LONG_EDGES_S
)
DELIVERIES = gauge("jikimi_notices_open", "How many notices are under way to devices, by state?", "state")
DELIVERIES_AGE = gauge("jikimi_notices_oldest_seconds", "How long is the oldest of these notices under way?", "state")
