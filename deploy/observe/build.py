"""Writes what is made of code: Grafana's dashboards and the rules of the service levels. `make dashboards`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from deploy.observe import dashboards, slos

HERE = Path(__file__).resolve().parent


class _Dumper(yaml.SafeDumper):
    """No aliases, long texts as blocks."""

    def ignore_aliases(self, data: object) -> bool:
        """Every rule stands for itself."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def files() -> Mapping[Path, str]:
    """What is made, by file."""
    made = {HERE / "dashboards" / f"{each.uid}.json": _json(each) for each in dashboards.all_dashboards()}
    rules = {
        "groups": [
            {"name": "service levels", "interval": "30s", "rules": slos.recording()},
            {"name": "burn rates", "rules": slos.alerts()},
        ]
    }
    head = "# Made from slos.py by `make dashboards`; change it there.\n"
    made[HERE / "rules" / "slo.yaml"] = head + yaml.dump(rules, Dumper=_Dumper, sort_keys=False, width=4096)
    return made


def _json(dashboard: dashboards.Dashboard) -> str:
    return json.dumps(dashboards.to_json(dashboard), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Writes every file."""
    for file, text in files().items():
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
