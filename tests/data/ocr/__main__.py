"""Writes a folder of labelled pictures: `python -m tests.data.ocr --out FOLDER --pages 60 --seed 1`."""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.data.ocr.pages import pages, write

parser = argparse.ArgumentParser(prog="tests.data.ocr", description=__doc__)
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--pages", type=int, default=60)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()
write(options.out, pages(options.pages, options.seed))
