"""What this process' metrics page shows."""

from __future__ import annotations

from prometheus_client import REGISTRY


def value(series: str, /, **labels: str) -> float | None:
    """A series' figure; None where there is no such series. Its metric alone is read: all of them take a twentieth of a
    second once many tests have counted."""
    for metric in REGISTRY.restricted_registry([series]).collect():
        for sample in metric.samples:
            if (sample.name, sample.labels) == (series, labels):
                return float(sample.value)
    return None
