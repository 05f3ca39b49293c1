"""Which tables notify's migrations are about."""

from __future__ import annotations

from services.chassis.migration import run_env
from services.notify.adapters.tables import metadata

run_env(metadata())
