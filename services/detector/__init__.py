"""Finds whom a signal concerns: enrolled faces in pictures, watched identifiers in text."""

import os

# ONNX Runtime (1.29 and later) otherwise reports to its makers from its import on: hashes of models, a device id that
# it keeps in the home folder. It reads this once, so it must stand before the first import anywhere in this package.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# Products of small matrices gain nothing by more threads of BLAS, which wait for each other by spinning: beside busy
# processors that costs a multiple. Threads of this process each run one-threaded. Read when numpy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
