"""How is a file of rules read?"""

from __future__ import annotations

from typing import Any

import yaml

# libyaml where PyYAML was built with it: a service reads its rules at every start, ten times as fast.
_SafeLoader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def parse(text: str | bytes) -> Any:
    """What one document of YAML says, as plain Python values; nothing in it can make an object or run code.

    Raises `yaml.YAMLError` where it is none.
    """
    return yaml.load(text, _SafeLoader)  # one of the two safe loaders
