"""Which tables the detector's migrations are about."""

from __future__ import annotations

from services.chassis.migration import run_env
from services.detector.adapters.tables import Base

run_env(Base.metadata)
