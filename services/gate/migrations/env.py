"""Which tables the gate's migrations are about."""

from __future__ import annotations

from services.chassis.migration import run_env
from services.gate.adapters.tables import metadata

run_env(metadata())
