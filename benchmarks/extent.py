"""Accuracy against the extent of the scene: the same pixels, the same bowls in kilometres, more of them.

    python benchmarks/extent.py --threads 2 -o docs/accuracy.md             # 200, 400, 800, 1600 pixels along each side
    python benchmarks/extent.py --sizes 200 400 --seeds 1 --train-steps 100   # while developing
    python benchmarks/extent.py --preset transient --sizes 800 --seeds 307 308 309
    python benchmarks/extent.py --sizes 400 --seeds 301 --picture docs/images/tiles.png

Simulated stacks (by default of the preset bowl) under the real sky, pixels of 90 m, 40 dates over some three years and
157 pairs; motion with a full width at half maximum of 1.3 to 3.4 km, two or three bodies for each 18 x 18 km. Errors
are those of the removed phase at full resolution: the noise of single pixels, which no row changes, is left out. Each
result is kept in the cache directory as it comes. The largest scene needs some 12 GB of memory, most of it for the
simulation.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PIXEL = 90.0
SIGMA = (540.0, 1440.0)
"""Range of the bowls' Gaussian sigma, metres."""
DATES, PAIRS = 40, 157
COLUMNS = ("velocity_stable", "velocity_moving", "displacement_stable", "displacement_moving", "gain")
ROWS = {
    "raw": "uncorrected",
    "h": "trend with height off each date (h)",
    "whole": "ours, without tiles",
    "ours": "ours",
}


def main(arguments: list[str] | None = None) -> int:
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[variable] = "1"  # before numpy and torch are imported
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--sizes", type=int, nargs="+", default=[200, 400, 800, 1600], metavar="N", help="pixels along each side")
    add("--seeds", type=int, nargs="+", default=[304, 305, 306], metavar="INT", help="of the stacks")
    add("--preset", default="bowl", metavar="NAME", help="motion, as of vae_simulate.py (default: %(default)s)")
    add("--threads", type=int, default=1, metavar="N", help="tiles worked on at a time (default: 1)")
    add("--train-steps", type=int, metavar="N", help="optimisation steps of the network, for quick checks")
    add("--cache", type=Path, default=HERE / ".cache", metavar="DIR", help="default: %(default)s")
    add("-o", "--output", type=Path, metavar="FILE", help="page with the markers; default: print the table")
    add("--picture", type=Path, metavar="FILE", help="draw a date of the first size and seed, and the tiles")
    inps = parser.parse_args(arguments)
    if inps.picture:
        draw(inps.picture, *solved(inps.sizes[0], inps.seeds[0], inps))
        return 0
    import pages
    from cases import remembered, source_hash

    folder = inps.cache / "extent"
    folder.mkdir(parents=True, exist_ok=True)
    results = []
    for size in inps.sizes:
        for seed in inps.seeds:
            depends = [inps.preset, size, seed, inps.train_steps, source_hash(own=True), Path(__file__).read_text()]
            digest = hashlib.sha256(repr(depends).encode()).hexdigest()[:16]
            work = lambda size=size, seed=seed: run(size, seed, inps)  # noqa: E731
            result, new = remembered(folder / f"{size}-{seed}-{digest}.json", {"size": size, "seed": seed}, work)
            if "error" in result:
                print(result["error"], file=sys.stderr)
                continue
            results.append(result)
            if new:
                print(result, flush=True)
    text = table(results)
    if inps.output:
        pages.write(inps.output, extent=text)
    else:
        print(text)
    return 0


def solved(size: int, seed: int, inps: argparse.Namespace) -> tuple[Any, Any, Any, float]:
    """One scene: the simulation, our result, what the whole scene alone removes, and the processor's seconds."""
    import numpy as np
    from cases import VARIANTS, Pairs, Trainer

    from mintpy_vae.method.upsampling import FullResolution
    from mintpy_vae.settings import Settings
    from mintpy_vae.simulate import simulate

    side = size * PIXEL
    number = (round(2 * (side / 18e3) ** 2), round(3 * (side / 18e3) ** 2))
    width = (SIGMA[0] / side, SIGMA[1] / side)
    changes = {"width": width, "number": number, "gaps": 0.5, "pairs": round(PAIRS * 60 / DATES)}
    scene = simulate(inps.preset, n_dates=DATES, size=(size, size), seed=seed, **changes)
    phase = scene.without_constants(but_of_pairs=True)
    weight = np.where(scene.phase != 0, scene.coherence, 0) ** 2
    height = np.where(scene.land, scene.height, np.nan)
    stack = Pairs(phase, weight, scene.pairs, scene.dates, height, (PIXEL, PIXEL))
    scene = dataclasses.replace(scene, phase=None, coherence=None, unwrap_error=None, component=None)
    settings = Settings(device="cpu", **({"train_steps": inps.train_steps} if inps.train_steps else {}))
    begin = time.process_time()
    own = stack.separated(VARIANTS["ours"], settings, Trainer(inps.cache / "networks"), threads=inps.threads)
    seconds = time.process_time() - begin
    return scene, own, FullResolution(own.whole, own.found.grid.profile(height), own.factor), seconds


def run(size: int, seed: int, inps: argparse.Namespace) -> dict[str, Any]:
    """Figures of each row of one scene, in mm and mm/yr, and the seconds of the processor."""
    import numpy as np
    from cases import METRES

    from mintpy_vae.evaluation.baselines import flattened

    scene, own, alone, seconds = solved(size, seed, inps)
    series = scene.displacement + scene.atmosphere
    known = (scene.displacement, scene.deforming, scene.land, scene.years)
    flat = flattened(series, np.where(scene.land, scene.height, np.nan), scene.land)
    corrected = {
        "raw": lambda rows: series[:, rows],
        "h": lambda rows: flat[:, rows],
        "whole": lambda rows: series[:, rows] - np.float32(METRES) * alone(rows),
        "ours": lambda rows: series[:, rows] - np.float32(METRES) * own.removed(rows),
    }
    return {"seconds": seconds, "tiles": own.tiles} | {name: judge(rows, *known) for name, rows in corrected.items()}


def draw(file: Path, scene: Any, own: Any, alone: Any, _seconds: float) -> None:
    """Atmosphere of the date on which it is strongest, and what is left of it without and with the tiles."""
    import matplotlib.pyplot as plt
    import numpy as np
    from cases import METRES

    from mintpy_vae.method.observations import looks
    from mintpy_vae.method.tiles import layout
    from mintpy_vae.multilooking import multilooked_shape

    rows = slice(0, len(scene.land))
    away = scene.atmosphere - scene.atmosphere.mean(axis=0)
    t = int(away[:, scene.land].std(axis=1).argmax())
    left = [away[t], *(away[t] - np.float32(METRES) * one(rows)[t] for one in (alone, own.removed))]
    maps = [np.where(scene.land, 1e3 * (m - m[scene.land].mean()), np.nan) for m in left]
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), constrained_layout=True)
    titles = ("atmosphere", "left without tiles", "left with tiles (outlined)")
    whole, rest = (float(np.nanquantile(np.abs(m), 0.99)) for m in maps[:2])
    for axis, m, title, limit in zip(axes, maps, titles, (whole, rest, rest), strict=True):
        shown = axis.imshow(m, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
        axis.set(title=f"{title}: {np.nanstd(m):.1f} mm", xticks=[], yticks=[])
        figure.colorbar(shown, ax=axis, shrink=0.8, label="mm")
    cell = looks(scene.land.shape, (PIXEL, PIXEL))[0]
    for tile in layout(multilooked_shape(scene.land.shape, cell)):
        corner = (cell * tile.columns.start - 0.5, cell * tile.rows.start - 0.5)
        extent = [cell * (s.stop - s.start) for s in (tile.columns, tile.rows)]
        axes[2].add_patch(plt.Rectangle(corner, *extent, fill=False, lw=0.5, ec="#555555"))
    figure.savefig(file, dpi=110)


def judge(corrected: Any, truth: Any, deforming: Any, land: Any, years: Any) -> dict[str, float]:
    """Errors of ``corrected``, rows -> (dates, rows, width) metres; dates relative to the median of still ground."""
    import numpy as np

    from mintpy_vae import metrics

    length, still = len(land), land & ~deforming
    step = max(1, 2_000_000 // (len(years) * land.shape[1]))
    error = np.empty_like(truth)
    for start in range(0, length, step):
        rows = slice(start, min(start + step, length))
        error[:, rows] = corrected(rows) - truth[:, rows]
    error -= np.median(error[:, still], axis=1)[:, None, None]
    error -= error.mean(axis=0)
    moving = land & deforming
    of = truth[:, moving] - truth[:, moving].mean(axis=0)
    gain = metrics.gain(of + error[:, moving], of)
    line = (years - years.mean()) / ((years - years.mean()) ** 2).sum()
    velocity = np.tensordot(line.astype(np.float32), error, 1)

    def rms(values: Any) -> float:
        return float(1e3 * np.sqrt(np.mean(np.square(values, dtype=np.float64))))

    found = (rms(velocity[still]), rms(velocity[moving]), rms(error[:, still]), rms(error[:, moving]), gain)
    return dict(zip(COLUMNS, found, strict=True))


def table(results: list[dict[str, Any]]) -> str:
    """Means over the seeds, and the range of the gain."""
    import numpy as np

    head = ["pixels", "seeds", "correction", "v stable", "v moving", "d stable", "d moving", "gain", "s"]
    lines = [head, ["---"] * len(head)]
    sizes = sorted({r["size"] for r in results})
    for size in sizes:
        own = [r for r in results if r["size"] == size]
        for row, label in ROWS.items():
            if row == "whole" and not own[0]["tiles"]:
                continue
            means = [float(np.mean([r[row][column] for r in own])) for column in COLUMNS]
            figures = [f"{m:.2f}" for m in means]
            if len(own) > 1:
                figures[-1] += f" ({min(r[row]['gain'] for r in own):.2f}-{max(r[row]['gain'] for r in own):.2f})"
            seconds = f"{np.mean([r['seconds'] for r in own]):.0f}" if row == "ours" else "-"
            lines.append([f"{size} x {size}", str(len(own)), label, *figures, seconds])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
