"""`python -m deploy.manifests generate` writes what follows from the code, `check` renders and judges all overlays."""

from __future__ import annotations

import sys

from deploy.manifests import check
from deploy.manifests.generate import write
from deploy.manifests.objects import K8S


def main(arguments: list[str]) -> int:
    """Runs a verb; 2 for an unknown one."""
    if arguments == ["generate"]:
        for path in write():
            print(path.relative_to(K8S.parents[1]))
        return 0
    if arguments == ["check"]:
        return check.run()
    print("usage: python -m deploy.manifests generate|check", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
