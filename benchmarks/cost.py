"""Time and memory of each decomposition against the number of pairs and of pixels (section 6.3 of Ghosh et al., 2025).

    python benchmarks/cost.py -o docs/performance.md                # some fifteen minutes on one core
    python benchmarks/cost.py --train-steps 100 --dates 20 --sizes 50 100

Each figure is one process of its own on a simulated stack (preset bowl): processor time of the decomposition alone, and
by how much it raises the peak of the process's memory. Before it starts, the process holds Python with its libraries
and the data (some 300 MB); add that for what the machine must have. PCA, ICA and NMF work on the inverted time-series
at full resolution; the VAE learns on some 51 x 51 pixels, whatever the size, and its atmosphere is then
brought to all of them. Reading and writing the stack is in no figure: `vae.maxMemory` bounds it.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pages

METHODS = {
    "pca": "PCA",
    "ica": "ICA",
    "nmf": "NMF",
    "vae_fishdbc": "VAE with FISHDBC",
    "vae_hdbscan": "VAE with HDBSCAN",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dates", type=int, nargs="+", default=[20, 40, 60])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50, 100, 200], help="pixels along a side")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--train-steps", type=int, default=500)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    inps = parser.parse_args()
    if inps.one:
        print(json.dumps(measure(inps.one[0], Path(inps.one[1]), inps.train_steps)))
        return
    cells = [(d, inps.sizes[-1]) for d in inps.dates[:-1]] + [(inps.dates[-1], s) for s in inps.sizes]
    head, rows = [""], {name: [METHODS[name]] for name in inps.methods}
    with tempfile.TemporaryDirectory() as scratch:
        for dates, size in cells:
            file = Path(scratch) / "scene.npz"
            head.append(f"{prepare(file, dates, size)} pairs ({dates} dates), {size} x {size}")
            for name in inps.methods:
                command = [sys.executable, __file__, "--one", name, str(file), "--train-steps", str(inps.train_steps)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                found = json.loads(done.stdout.splitlines()[-1])
                rows[name].append(f"{found['seconds']:.1f} s, {found['megabytes']:.0f} MB")
                print(f"{head[-1]}: {' '.join(rows[name][:: len(head) - 1])}", file=sys.stderr)
    table = [head, ["---"] * len(head), *rows.values()]
    text = "\n".join(f"| {' | '.join(row)} |" for row in table)
    text += f"\n\n{inps.train_steps} training steps; {platform.machine()}, no GPU."
    if inps.output:
        pages.write(inps.output, cost=text)
    print(text)


def prepare(file: Path, n_dates: int, size: int) -> int:
    """Simulate what every method is given, so that the process that is measured never held more; number of pairs."""
    import numpy as np

    from mintpy_vae.method.observations import LARGEST
    from mintpy_vae.simulate import simulate
    from mintpy_vae.stack import pool_map

    scene = simulate("bowl", n_dates=n_dates, size=(size, size), seed=1)
    series = np.where(scene.land, scene.displacement + scene.atmosphere, np.nan).astype(np.float32)
    height = np.where(scene.land, scene.height, np.nan)
    factor = max(1.0, size / np.sqrt(LARGEST))
    empty = scene.phase == 0
    layers = [np.where(empty, np.nan, scene.without_constants()), np.where(empty, 0, scene.coherence**2)]
    phase, weight = (np.nan_to_num(np.array([pool_map(m, factor) for m in stack])) for stack in layers)
    grid = {"phase": phase, "weight": weight, "pairs": scene.pairs, "low": pool_map(height, factor), "factor": factor}
    np.savez(file, series=series, years=scene.years, dates=scene.dates, height=height, **grid)
    return len(scene.pairs)


def measure(name: str, file: Path, steps: int) -> dict[str, float]:
    """Processor seconds and megabytes of one decomposition, run in this process."""
    import numpy as np
    import sklearn.cluster
    import sklearn.decomposition  # noqa: F401  loading libraries is not the method's time

    from mintpy_vae.evaluation.baselines import BASELINES
    from mintpy_vae.method import Observations, separate
    from mintpy_vae.method.clustering import Fishdbc, Hdbscan
    from mintpy_vae.method.upsampling import FullResolution
    from mintpy_vae.settings import Settings

    with np.load(file) as given:
        scene = dict(given)
    settings = Settings(train_steps=steps, device="cpu")
    peak, begin = _peak(), time.process_time()
    if name in BASELINES:
        BASELINES[name].correct(scene["series"], scene["years"], scene["height"])
    else:
        make = Hdbscan if name == "vae_hdbscan" else Fishdbc
        grid = (scene[k] for k in ("phase", "weight", "pairs"))
        observations = Observations(*grid, scene["dates"].tolist(), scene["low"])
        clusterer = make(settings.min_samples, settings.min_cluster_size)
        found = separate(observations, settings, clusterer=clusterer)
        full = FullResolution(found.atmosphere, found.grid.profile(scene["height"]), float(scene["factor"]))
        full(slice(0, len(scene["height"])))
    return {"seconds": time.process_time() - begin, "megabytes": (_peak() - peak) / 1e6}


def _peak() -> float:
    """Largest memory of this process so far, bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # Linux starts ru_maxrss of a new process at that of its parent
        return 1024 * float(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1])
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # macOS counts bytes


if __name__ == "__main__":
    main()
