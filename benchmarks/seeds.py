"""How much the seed of the training matters, against the standard deviation that the correction states.

    python benchmarks/seeds.py -o docs/images/seeds.png          # 10 corrections, some ten minutes on one core

Simulated stacks are corrected with several seeds at default settings. On the training grid, for every date and pixel,
the estimated atmosphere's standard deviation over the seeds is compared with the one that ``vae_std.h5`` states, and
with the error against the truth. Nothing was tuned on these stacks.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from mintpy_vae.method.separation import separate
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate, write_project
from mintpy_vae.stack import pool_map
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import training_data

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Case:
    """One stack: standard deviation over the seeds, stated standard deviation and error, (dates, pixels) in mm each."""

    name: str
    years: Array
    seeds: Array
    stated: Array
    error: Array
    velocity: Array
    """Velocity of the atmosphere, (seeds, pixels) mm/yr."""

    def row(self) -> str:
        """A line of the table."""
        seeds, stated, error = (np.sqrt((v**2).mean(axis=1)) for v in (self.seeds, self.stated, self.error))
        cells = [
            self.name,
            f"{rms(self.seeds):.2f}",
            f"{rms(self.stated):.2f}",
            f"{rms(self.error):.2f}",
            f"{rms(self.seeds) / rms(self.stated):.2f}",
            f"{(seeds / stated).max():.2f}",
            f"{(self.seeds < self.stated).mean():.1%}",
            f"{rms(self.velocity.std(axis=0, ddof=1)):.2f}",
        ]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| stack | over the seeds, mm | stated, mm | true error, mm | seeds / stated | worst date | smaller than stated "
    "| velocity over the seeds, mm/yr |\n|---|---|---|---|---|---|---|---|"
)


def rms(values: Array) -> float:
    return float(np.sqrt((values**2).mean()))


def run(preset: str, stack_seed: int, seeds: list[int], steps: int) -> Case:
    """Correct one stack with every seed."""
    scene = simulate(preset, seed=stack_seed)
    with tempfile.TemporaryDirectory() as scratch:
        template = write_project(scene, Path(scratch) / "WORK")
        settings = Settings(device="cpu", train_steps=steps)
        job = prepare(template.parent / "inputs" / "ifgramStack.h5", template_file=template, settings=settings)
        data = training_data(job)
    mm = 1000 * abs(job.stack.metres_per_radian)
    estimates = []
    for seed in seeds:
        own = replace(settings, seed=seed)
        found = separate(data.observations, own, job.knowledge)
        estimates.append(relative(found.series - found.corrected) * mm)
        print(f"{preset} {stack_seed}, seed {seed}: {len(found.deformation.pieces)} pieces", flush=True)
    stated = found.atmosphere.std[:, found.valid] * mm
    land = np.where(scene.land, 1.0, np.nan)
    truth = np.array([pool_map(m * land, data.factor)[found.valid] for m in scene.atmosphere], dtype=float)
    # towards the satellite is positive in the simulator, as displacement; phase has the other sign
    error = estimates[0] + relative(truth) * 1000
    line = (scene.years - scene.years.mean()) / ((scene.years - scene.years.mean()) ** 2).sum()
    stack = np.array(estimates)
    return Case(f"{preset}, {stack_seed}", scene.years, stack.std(axis=0, ddof=1), stated, error, line @ stack)


def relative(maps: Array) -> Array:
    """Each date to its mean over the scene, and to the mean of all dates: what differences of dates see."""
    maps = maps - maps.mean(axis=1, keepdims=True)
    return maps - maps.mean(axis=0)


def draw(cases: list[Case], file: Path) -> None:
    figure, axes = plt.subplots(1, len(cases), figsize=(4.2 * len(cases), 2.8), sharey=True, layout="constrained")
    for axis, case in zip(np.atleast_1d(axes), cases, strict=True):
        for values, style, label in (
            (case.error, "0.6", "true error"),
            (case.stated, "C0", "stated standard deviation"),
            (case.seeds, "C3", "standard deviation over the seeds"),
        ):
            axis.plot(case.years, np.sqrt((values**2).mean(axis=1)), ".-", color=style, label=label, lw=1, ms=4)
        axis.set(title=case.name, yscale="log")
        axis.grid(alpha=0.3)
    np.atleast_1d(axes)[0].set_ylabel("mm, over the scene")
    figure.legend(*np.atleast_1d(axes)[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    figure.savefig(file, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stacks", nargs="+", default=["bowl:201", "quiet:202"], metavar="PRESET:SEED")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5], help="of the training")
    parser.add_argument("--train-steps", type=int, default=Settings().train_steps)
    parser.add_argument("-o", "--output", type=Path, help="figure")
    inps = parser.parse_args()
    named = [text.split(":") for text in inps.stacks]
    cases = [run(preset, int(seed), inps.seeds, inps.train_steps) for preset, seed in named]
    print("\n".join([HEAD, *(case.row() for case in cases)]))
    if inps.output:
        draw(cases, inps.output)


if __name__ == "__main__":
    main()
