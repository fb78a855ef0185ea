"""Time of clustering against the number of codes, and whether the labels are the same every time.

    python benchmarks/clustering.py                         # a minute on one core

Codes of ten patterns with noise as strong as half of them, in as many axes as the method keeps at most. Each row is
clustered twice in processes of its own, with another hash seed each: the labels must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import time

import numpy as np

from mintpy_vae.method.clustering import MAX_AXES, Fishdbc, unsigned
from mintpy_vae.settings import Settings

PATTERNS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--codes", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    inps = parser.parse_args()
    if inps.one:
        print(*cluster(inps.one))
        return
    print("| codes | s | codes per s | clusters | same labels twice |\n|---|---|---|---|---|")
    for codes in inps.codes:
        runs = [_process(codes, hash_seed) for hash_seed in ("1", "2")]
        seconds = float(np.median([float(run[0]) for run in runs]))
        same = "yes" if runs[0][1:] == runs[1][1:] else "NO"
        print(f"| {codes} | {seconds:.1f} | {codes / seconds:.0f} | {runs[0][1]} | {same} |", flush=True)


def cluster(codes: int) -> tuple[float, int, str]:
    """Seconds of processor time, clusters found, and the hash of the labels of so many ``codes``."""
    rng = np.random.default_rng(0)
    patterns = rng.normal(size=(PATTERNS, MAX_AXES))
    points = patterns[rng.integers(0, PATTERNS, codes)] * rng.normal(size=(codes, 1))
    points += 0.5 * rng.normal(size=points.shape)
    settings = Settings()
    begin = time.process_time()
    labels = Fishdbc(settings.min_samples, settings.min_cluster_size)(unsigned(points))
    return time.process_time() - begin, int(labels.max()) + 1, hashlib.sha256(labels.tobytes()).hexdigest()


def _process(codes: int, hash_seed: str) -> list[str]:
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--one", str(codes)]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()


if __name__ == "__main__":
    main()
