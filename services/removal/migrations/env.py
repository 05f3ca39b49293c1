"""Which tables are removal's migrations about?"""

from __future__ import annotations

from services.chassis.migration import run_env
from services.removal.adapters.tables import Base

run_env(Base.metadata)
