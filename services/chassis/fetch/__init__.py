"""May this address be fetched, and what is there? One policy for every service that looks at the public web."""

from services.chassis.fetch.client import Fetcher
from services.chassis.fetch.decision import Decision, Fetched, Verdict
from services.chassis.fetch.rules import FetchRules, read_fetch_rules

__all__ = ["Decision", "FetchRules", "Fetched", "Fetcher", "Verdict", "read_fetch_rules"]
