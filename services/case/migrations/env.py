"""Which tables the migrations of `case` are about."""

from __future__ import annotations

from services.case.adapters.tables import Base
from services.chassis.migration import run_env

run_env(Base.metadata)
