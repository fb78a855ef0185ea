"""Where the correction must not be believed: one simulated stack and one picture of each case in docs/limits.md.

python benchmarks/exceptions.py            # all, into docs/images/exceptions; some minutes on one core
python benchmarks/exceptions.py height     # one
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from cases import pool_pairs
from PIL import Image

from mintpy_vae.errors import NotEnoughEvidence
from mintpy_vae.evaluation.injection import Signal, kept
from mintpy_vae.method import safety, training
from mintpy_vae.method.inversion import invert_to_dates, islands
from mintpy_vae.method.observations import Observations
from mintpy_vae.method.separation import Separation, separate
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import Scene, simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.stack import pool_map

OUT = Path(__file__).resolve().parents[1] / "docs" / "images" / "exceptions"
METRES = -WAVELENGTH / (4 * np.pi)
SIZE, FACTOR = 96, 3
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#999999"


@dataclass
class Case:
    """A simulated stack on the training grid, and what the method makes of it."""

    scene: Scene
    observations: Observations

    @classmethod
    def of(cls, preset: str, seed: int = 1, n_dates: int | None = None, **changes: Any) -> Case:
        """Simulate it."""
        scene = simulate(preset, n_dates=n_dates, size=(SIZE, SIZE), seed=seed, **changes)
        weight = np.where(scene.phase != 0, scene.coherence, 0) ** 2
        phase, weight = pool_pairs(scene.without_constants(but_of_pairs=True), weight, FACTOR)
        height = pool_map(np.where(scene.land, scene.height, np.nan), FACTOR)
        return cls(scene, Observations(phase, weight, scene.pairs, scene.dates, height))

    def separate(self, added: np.ndarray | None = None, steps: int = 200, **options: Any) -> Separation:
        """With displacement ``added`` (dates, h, w), metres."""
        settings = Settings(device="cpu", train_steps=steps, **options)
        given = self.observations if added is None else self.observations.with_motion(added / METRES)
        return separate(given, settings)

    def say(self, found: Separation) -> dict[str, Any]:
        """Print what the tool says of it; return the figures."""
        seen = safety.diagnostics(found, self.observations)
        for text in safety.warnings(seen, found, 1):
            print("  ", text)
        try:
            safety.refuse(seen)
        except NotEnoughEvidence as reason:
            print("   UNCORRECTED, because", reason)
        return dataclasses.asdict(seen)

    def map(self, found: Separation, values: np.ndarray) -> np.ndarray:
        """Values (valid pixels,) as a map."""
        full = np.full(found.valid.shape, np.nan)
        full[found.valid] = values
        return full

    def velocity(self, series: np.ndarray) -> np.ndarray:
        """Of a series (dates, ...) in radians, mm/yr."""
        t = self.scene.years - self.scene.years.mean()
        return 1e3 * METRES * np.tensordot(t, series, 1) / (t @ t)


def few() -> plt.Figure:
    """A network below the least number of dates, and one above it."""
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.4), constrained_layout=True)
    for axis, dates in zip(axes, (9, 24), strict=True):
        scene = simulate("bowl", n_dates=dates, size=(SIZE, SIZE), seed=1)
        _network(axis, scene, np.zeros(dates, int))
        axis.set_title(
            f"{dates} dates, {len(scene.pairs)} pairs: " + ("refused" if dates < Settings().min_dates else "tried")
        )
    return figure


def in_islands() -> plt.Figure:
    """A network in two pieces."""
    scene = simulate("bowl", n_dates=28, size=(SIZE, SIZE), seed=1)
    kept_pairs = (scene.pairs < 14).all(axis=1) | (scene.pairs >= 14).all(axis=1)
    figure, axis = plt.subplots(figsize=(5, 2.4), constrained_layout=True)
    _network(axis, scene, islands(scene.pairs[kept_pairs], 28), kept_pairs)
    axis.set_title("no pair joins the two halves")
    return figure


def height() -> plt.Figure:
    """Motion on a summit, and in a bowl."""
    figure, axes = plt.subplots(2, 3, figsize=(7, 4.2), constrained_layout=True)
    for row, preset in zip(axes, ("topo", "bowl"), strict=True):
        case = Case.of(preset)
        found = case.separate()
        correlation = case.say(found)["motion_height_correlation"]
        truth = case.scene.displacement / METRES
        truth = case.velocity(np.stack([pool_map(layer, FACTOR) for layer in truth]))
        _show(
            row[0],
            np.where(np.isnan(case.observations.height), np.nan, case.observations.height),
            "height (m)",
            "cividis",
        )
        limit = np.nanmax(np.abs(truth))
        _show(row[1], truth, "true velocity (mm/yr)", "RdBu_r", limit)
        motion = case.map(found, case.velocity(found.deformation.series))
        _show(row[2], motion, f"motion found: r = {correlation:.2f}", "RdBu_r", limit)
    return figure


def lost() -> plt.Figure:
    """A bowl half as wide as the scene, injected."""
    case = Case.of("quiet")
    plain = case.separate()
    cell = case.scene.pixel * FACTOR
    figure, axes = plt.subplots(2, 2, figsize=(5, 4.2), constrained_layout=True)
    for row, share in zip(axes, (0.5, 0.12), strict=True):
        signal = Signal("bowl", share * SIZE * case.scene.pixel / 1000, 10.0)
        centre = tuple(np.array(plain.valid.shape) // 2)
        motion = 0.01 * case.scene.years[:, None, None] * signal.shape(plain.valid, (cell, cell), centre)
        found = case.separate(motion)
        gain = kept(plain, found, motion, WAVELENGTH)
        print(f"   {signal.name()} comes back at {gain:.0%}")
        both = plain.valid & found.valid
        difference = found.corrected[:, both[found.valid]] - plain.corrected[:, both[plain.valid]]
        back = np.full(both.shape, np.nan)
        back[both] = case.velocity(difference)
        still = both & (motion[-1] < 0.05 * motion[-1].max())
        _show(row[0], case.velocity(motion / METRES), f"put in: {share:g} of the scene wide", "RdBu_r", 10)
        _show(row[1], back - np.nanmean(back[still if still.any() else both]), f"came back: {gain:.0%}", "RdBu_r", 10)
    return figure


def clusters() -> plt.Figure:
    """Sources along two directions, in clusters or in none."""
    case = Case.of("bowl", n_dates=30)
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.8), constrained_layout=True)
    for axis, options in zip(axes, ({}, {"min_samples": 60, "min_cluster_size": 60}), strict=True):
        found = case.separate(**options)
        case.say(found)
        points, labels = found.sources.points, found.sources.labels
        first, second = (points @ np.linalg.svd(points, full_matrices=False)[2][:2].T).T
        colours = np.where(labels[:, None] < 0, [[0.75] * 4], plt.get_cmap("tab20")(labels % 20))
        axis.scatter(first * np.sign(first), second * np.sign(first), s=3, c=colours, linewidths=0)
        axis.set(xticks=[], yticks=[], title=f"in no cluster (grey): {found.unclustered:.0%}")
    return figure


def trainings() -> plt.Figure:
    """Losses of trainings that were long enough, too short, and too fast."""
    case = Case.of("bowl", n_dates=30)
    figure, axis = plt.subplots(figsize=(5, 2.8), constrained_layout=True)
    for steps, colour in ((400, BLUE), (30, ORANGE)):
        found = case.separate(steps=steps)
        late = case.say(found)["late_fall"]
        axis.plot(np.linspace(0, 1, steps), found.network.losses, color=colour, lw=1)
        axis.plot([], [], color=colour, label=f"{steps} steps: {late:.0%} of the fall in the second half")
    usual, training.LEARNING_RATE = training.LEARNING_RATE, 10.0
    valid = np.isfinite(case.observations.height)
    data = torch.randn(20, *valid.shape, generator=torch.Generator().manual_seed(1)) * torch.tensor(valid)
    mask, years = torch.tensor(valid, dtype=torch.float32), torch.arange(20) / 10
    settings = Settings(device="cpu", train_steps=60)
    _, losses = training._run(training._Data(data, mask, years), [("free", 8)], settings, 1, None, parts=1)
    training.LEARNING_RATE = usual
    axis.plot(np.linspace(0, 1, 60), losses, color=GREY, lw=1, label="diverged")
    axis.set(xlabel="share of the steps", ylabel="loss per pixel", ylim=(-0.5, 4))
    axis.legend(frameon=False, fontsize=8)
    return figure


def unwrapping() -> plt.Figure:
    """The share of misfits and what is left of the correction, over the share of unwrapping errors."""
    levels = ((0.02, (0.04, 0.15)), (0.3, (0.1, 0.3)), (1.0, (0.2, 0.5)), (1.0, (0.5, 0.9)))
    rows = []
    for share, patch in levels:
        case = Case.of("quiet", seed=12, unwrap_errors=share, unwrap_patch=patch)
        found = case.separate()
        seen, ground = case.say(found), np.isfinite(case.observations.height)
        true = np.stack([pool_map(np.abs(e).astype(float), FACTOR)[ground] for e in case.scene.unwrap_error]).mean()
        # the errors stay in the stack, and MintPy's inversion is not robust
        flat = (array.reshape(len(array), -1) for array in (case.observations.phase, case.observations.weight))
        plain = invert_to_dates(*flat, case.scene.pairs, len(case.scene.dates), robust=False)[0][:, found.valid.ravel()]
        noise = [case.velocity(s).std() for s in (plain, plain - (found.series - found.corrected))]
        rows.append((true, seen["misfit_share"], *noise))
        print("   wrong {:.1%}, seen {:.1%}, velocity noise {:.2f} -> {:.2f} mm/yr".format(*rows[-1]))
    return _over_errors(np.array(rows))


def _over_errors(rows: np.ndarray) -> plt.Figure:
    true, seen, before, after = rows.T
    figure, axes = plt.subplots(1, 2, figsize=(6.4, 2.6), constrained_layout=True)
    axes[0].plot(100 * true, 100 * seen, "o-", color=BLUE)
    axes[0].plot([0, 100 * true[-1]], [0, 100 * true[-1]], ":", color=GREY)
    for level, text in ((safety.MAX_MISFIT, "warned"), (safety.MISFIT_REFUSED, "refused")):
        axes[0].axhline(100 * level, color=ORANGE, lw=0.8)
        axes[0].text(100 * true[-1], 100 * level, text, ha="right", va="bottom", fontsize=8, color=ORANGE)
    axes[0].set(xlabel="pixels of pairs that are wrong (%)", ylabel="misfit seen (%)")
    axes[1].plot(100 * true, before, "o-", color=GREY, label="uncorrected")
    axes[1].plot(100 * true, after, "o-", color=BLUE, label="corrected")
    axes[1].set(xlabel="pixels of pairs that are wrong (%)", ylabel="velocity noise (mm/yr)", ylim=(0, None))
    axes[1].legend(frameon=False, fontsize=8)
    return figure


def noisier() -> plt.Figure:
    """Noise of the pairs before and after, where unsteady motion is narrow, and where it is broad."""
    figure, axes = plt.subplots(1, 2, figsize=(6, 2.8), constrained_layout=True)
    for axis, changes in zip(axes, ({}, {"width": (0.1, 0.15)}), strict=True):
        case = Case.of("transient", seed=12, n_dates=20, unwrap_errors=0.0, **changes)
        found = case.separate()
        worse = case.say(found)["pairs_worse"]
        before, after = found.noise_of_pairs(case.scene.pairs) * abs(METRES) * 1e3
        axis.scatter(before, after, s=8, c=np.where(after > before, ORANGE, BLUE))
        top = max(before.max(), after.max())
        axis.plot([0, top], [0, top], color=GREY, lw=0.8)
        axis.set(xlabel="before (mm)", ylabel="after (mm)", title=f"{worse:.0%} of the pairs are noisier")
    return figure


def _save(figure: plt.Figure, file: Path) -> None:
    """As a small PNG: 64 colours."""
    figure.savefig(file, dpi=90)
    plt.close(figure)
    Image.open(file).convert("RGB").quantize(64).save(file, optimize=True)


def _network(axis: plt.Axes, scene: Scene, label: np.ndarray, pairs: np.ndarray | slice = slice(None)) -> None:
    for i, j in scene.pairs[pairs]:
        axis.plot(scene.years[[i, j]], scene.bperp[[i, j]], color=(BLUE, ORANGE)[label[i]], lw=0.5)
    axis.scatter(scene.years, scene.bperp, c=np.array([BLUE, ORANGE])[label], s=10, zorder=3)
    axis.set(xlabel="years", ylabel="baseline (m)")


def _show(axis: plt.Axes, values: np.ndarray, title: str, colours: str, limit: float | None = None) -> None:
    span = {} if limit is None else {"vmin": -limit, "vmax": limit}
    image = axis.imshow(values, cmap=colours, interpolation="nearest", **span)
    axis.set(xticks=[], yticks=[])
    axis.set_title(title, fontsize=9)
    axis.figure.colorbar(image, ax=axis, shrink=0.8)


CASES: dict[str, Callable[[], plt.Figure]] = {
    "few": few,
    "islands": in_islands,
    "height": height,
    "lost": lost,
    "clusters": clusters,
    "training": trainings,
    "unwrapping": unwrapping,
    "noisier": noisier,
}


def main(arguments: list[str] | None = None) -> int:
    """Make the pictures; print what the tool says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("-o", "--output", type=Path, default=OUT, metavar="DIR")
    inps = parser.parse_args(arguments)
    if unknown := set(inps.cases) - set(CASES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    inps.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    plt.rcParams.update({"font.size": 8, "axes.titlesize": 9})
    for name in inps.cases or CASES:
        print(name, flush=True)
        figure = CASES[name]()
        _save(figure, inps.output / f"{name}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
