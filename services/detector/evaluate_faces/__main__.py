"""`python -m services.detector.evaluate_faces`: the same as `python -m services.detector eval faces`."""

from __future__ import annotations

import sys

from services.detector.evaluate_faces import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
