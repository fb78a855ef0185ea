"""What each covariance of the sky knows of dates that it has not seen, and what it takes of a motion that it has.

    python benchmarks/priors.py DATA -o docs/real_skies.md               # DATA: cases as docs/real_skies.md describes

Each row is a covariance of the sky of one date, learned from three blocks of dates of four and judged on the fourth:
disks are hidden and predicted from around (error over that of the stationary sky alone), likelihood per pixel, share
of errors within one sigma, seconds. The leak: a bell of three times a date's strength is put into one date, or into
five in a row, before the mean and the persistent functions are fitted, and hidden there; how much of it comes back as
atmosphere. These are fitted to the dates learned from alone; in the row *fitted together* to all dates, by which a date
comes into all others. The row *all dates* includes the date itself. The row *other dates* is that of the method, which
is tapered with distance, the other rows are not. Two simulated skies stand beside the real ones, and white noise may be
added to all. The decoder is a network with 48 maps that grows from a seed and sees the height, trained under the
stationary sky as the noise of its likelihood.

Short stacks have few dates to learn from (``--dates 14``). What could help them comes from the simulator's real sky
over the height of this very scene: its dates as modes, alone or beside the other dates (``simulated``, ``other dates
and simulated``), and the decoder trained on them before it sees the stack (``decoder, pre-trained``).
"""

# ruff: noqa: E402  (threads are set before NumPy and PyTorch are imported)

from __future__ import annotations

import argparse
import copy
import dataclasses
import os
import sys
import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

import numpy as np
import pages
import torch
from measured import table
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.optimize import minimize_scalar
from torch import nn

from mintpy_vae.dates import acquisition_years
from mintpy_vae.method.bells import make_bells
from mintpy_vae.method.covariance import date_strength, fill, without_height
from mintpy_vae.method.inversion import invert_to_dates
from mintpy_vae.method.joint import Joint, estimate_jointly
from mintpy_vae.method.local_sky import BLOCKS, LARGEST_SHARE, on_their_own
from mintpy_vae.method.observations import LARGEST
from mintpy_vae.method.observations import Grid as TrainingGrid
from mintpy_vae.method.profile import Profile, fit_profile
from mintpy_vae.method.search import Dictionary
from mintpy_vae.method.taper import Taper
from mintpy_vae.method.timefunctions import annual, persistent_of, scanned, trend, without
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.presets import PRESETS
from mintpy_vae.simulate.sky import real as SKY
from mintpy_vae.stack import pool_map

Array = NDArray[np.float64]
CASES = ("lengai_null_0", "lengai_null_45", "erta_60", "san_miguel_null_0", "tibet_null_0")
ROWS = ("stationary", "other dates", "other dates, not tapered", "other dates, fitted together", "all dates", "decoder")
FOR_FEW = ("simulated", "other dates and simulated", "decoder, pre-trained")
SKIES, DATES_OF_SKY = 4, 30
"""Simulated skies over the height of a scene, and dates of each."""
DISKS = (0.05, 0.1, 0.2)
PER_SIZE = 8
STRENGTH = 3.0
STEPS, RATE, MAPS = 150, 5e-3, 48


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, metavar="DATA", help="folder of MintPy projects")
    parser.add_argument("--cases", nargs="+", default=CASES)
    parser.add_argument("--noise", nargs="+", type=float, default=[0.0, 0.25, 0.5], help="mm per pooled pixel")
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=(*ROWS, *FOR_FEW))
    parser.add_argument("--dates", type=int, help="keep the first so many only")
    parser.add_argument("-o", "--output", type=Path)
    inps = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for name in [*inps.cases, "simulated, real sky", "simulated, stationary sky"]:
        for noise in inps.noise:
            grid = simulated(name) if name.startswith("simulated") else of_project(inps.data / name)
            judge = Judge(grid.first(inps.dates), noise)
            for row in inps.rows:
                rows.append([name, f"{noise:g}", row, *judge(row)])
                print(*rows[-1], sep="  ", file=sys.stderr, flush=True)
    names = [f"error, disk {size:g}" for size in DISKS]
    head = ["sky", "noise, mm", "covariance", *names, "likelihood", "within one sigma", "leak, one date", "five", "s"]
    if inps.output:
        pages.write(inps.output, covariances=table(head, rows))
    else:
        print(table(head, rows))


@dataclass(frozen=True)
class Grid:
    """Dates (dates, pixels) in millimetres on the valid pixels of the training grid, with effective heights.

    ``metres`` (height, width) are heights, NaN where not valid, and ``pixel`` is the size of one, metres.
    """

    series: Array
    valid: NDArray[np.bool_]
    height: Array
    profile: Profile
    dates: list[str]
    metres: Array
    pixel: float

    def first(self, number: int | None) -> Grid:
        """The first dates only."""
        return dataclasses.replace(self, series=self.series[:number], dates=self.dates[:number])


def of_project(project: Path) -> Grid:
    """A case of ``real_skies.py``."""
    from cases import METRES, pool_pairs
    from real_skies import Case

    case = Case(project, project)
    factor = max(1.0, float(np.sqrt(case.valid.size / LARGEST)))
    phase, weight = pool_pairs(case.phase, case.weight, factor)
    pixel = factor * float(np.sqrt(np.prod(case.pixel)))
    return _grid(phase, weight, case.pairs, case.dates, pool_map(case.height, factor), 1e3 * METRES, pixel)


def simulated(name: str) -> Grid:
    """A stack without motion, multilooked."""
    from cases import METRES, pool_pairs

    scene = simulate("quiet", size=(200, 200), seed=7, sky=name.split()[1])
    weight = np.where(scene.phase != 0, scene.coherence, 0) ** 2
    phase, weight = pool_pairs(scene.without_constants(but_of_pairs=True), weight, 4)
    height = pool_map(np.where(scene.land, scene.height, np.nan), 4)
    return _grid(phase, weight, scene.pairs, scene.dates, height, 1e3 * METRES, 4 * scene.pixel)


def _grid(
    phase: Array, weight: Array, pairs: Any, dates: list[str], height: Array, millimetres: float, pixel: float
) -> Grid:
    n = len(pairs)
    series, connected = invert_to_dates(phase.reshape(n, -1), weight.reshape(n, -1), pairs, len(dates))
    valid = (connected & np.isfinite(height).ravel()).reshape(height.shape)
    series, ground = millimetres * series[:, valid.ravel()], np.asarray(height[valid], dtype=np.float64)
    profile = fit_profile(series, ground, acquisition_years(dates))
    return Grid(series, valid, profile(ground), profile, list(dates), np.where(valid, height, np.nan), pixel)


def simulated_dates(grid: Grid) -> Array:
    """Dates of real skies of the simulator over the heights of a grid, at unit strength, (dates, pixels)."""
    metres = fill(grid.metres[grid.valid][None], grid.valid)[0].astype(np.float32)
    dates = [str(np.datetime64("2018-01-03") + 12 * k).replace("-", "") for k in range(DATES_OF_SKY)]
    found = []
    for seed in range(SKIES):
        sky = SKY(np.random.default_rng(900 + seed), PRESETS["quiet"], dates, metres, grid.valid, grid.pixel)
        x = np.asarray(sky[:, grid.valid], np.float64)
        x = without(without_height(x - x.mean(axis=1, keepdims=True), grid.height), [trend(acquisition_years(dates))])
        found.append(x / date_strength(x)[:, None])
    return np.vstack(found)


def joint_of(grid: Grid, series: Array) -> Joint:
    """Motion and sky as the method estimates them, without clusters."""
    x = series - series.mean(axis=1, keepdims=True)
    years = acquisition_years(grid.dates)
    functions = [trend(years), *(annual(years) if years[-1] >= 1 else []), *scanned(grid.dates)]
    dictionary = Dictionary(functions, make_bells(grid.valid, grid.height, None))
    dates = TrainingGrid(
        grid.valid, grid.height, grid.profile, years, good=np.arange(len(x)), bad=np.array([], dtype=int)
    )
    return estimate_jointly(x, dictionary, dates, 0.01, np.random.default_rng(1))


class Judge:
    """Learns every covariance of one sky, with and without a bell in it, and judges each."""

    def __init__(self, grid: Grid, noise: float) -> None:
        rng = np.random.default_rng(1)
        self.grid = grid
        series = grid.series + noise * rng.normal(size=grid.series.shape)
        joint = joint_of(grid, series)
        self.sky, self.functions = joint.sky, persistent_of(joint.functions)
        self.still = series - series.mean(axis=1, keepdims=True) - joint.deformation.presumed
        self.unit = self.unit_of(self.still)
        n_dates, n_pixels = self.unit.shape
        self.blocks = np.array_split(np.arange(n_dates), BLOCKS)
        self.precision = self.sky.covariance().precision.whiten(np.eye(n_pixels))
        self.pixels = np.array(np.nonzero(grid.valid)).T
        self.side = min(grid.valid.shape)
        self.disks = [(size, self._disk(rng, size)) for size in DISKS for _ in range(PER_SIZE)]
        self.rng_state = rng.integers(2**31)
        self.base: list[float] = []
        self.pretrained: Decoder | None = None

    def unit_of(self, still: Array) -> Array:
        """The dates at unit strength, without the persistent functions."""
        left = without_height(without(still, self.functions), self.grid.height)
        return np.asarray(left / self.sky.strength[:, None])

    def on_their_own(self, still: Array, dates: NDArray[np.intp]) -> Array:
        """Some dates at unit strength, as the method takes those of other blocks."""
        sky = dataclasses.replace(self.sky, residual=without(still, self.functions))
        return on_their_own(sky, self.functions, dates)

    def _disk(self, rng: np.random.Generator, size: float) -> NDArray[np.intp]:
        centre = self.pixels[rng.integers(len(self.pixels))]
        return np.flatnonzero(((self.pixels - centre) ** 2).sum(axis=1) <= max(1.0, size * self.side) ** 2)

    def __call__(self, row: str) -> list[str]:
        """Cells of the table."""
        begin = time.process_time()
        learned = [self._learn(row, self.still, k) for k in range(BLOCKS)]
        seconds = time.process_time() - begin
        squares: dict[float, list[float]] = {size: [] for size in DISKS}
        likelihood, within = 0.0, []
        for block, modes in zip(self.blocks, learned, strict=True):
            precision = with_modes(self.precision, modes)
            data = self.unit[block]
            energy = np.einsum("ij,ij->i", data @ precision, data)
            spread = np.linalg.slogdet(np.eye(len(modes)) + modes @ self.precision @ modes.T)[1]
            likelihood -= 0.5 * float((np.log(energy / data.shape[1]) + spread / data.shape[1]).sum())
            strength = np.sqrt(energy / data.shape[1])[:, None]
            for size, hidden in self.disks:
                own = precision[np.ix_(hidden, hidden)]
                error = np.linalg.solve(own, precision[hidden] @ data.T).T
                squares[size].append(float((error**2).mean()))
                sigma = strength * np.sqrt(np.diag(np.linalg.inv(own)))
                within.append(float((np.abs(error) < sigma).mean()))
        errors = [float(np.sqrt(np.mean(squares[size]))) for size in DISKS]
        likelihood /= len(self.unit)
        self.base = self.base or [*errors, likelihood]
        cells = [f"{error / base:.2f}" for error, base in zip(errors, self.base, strict=False)]
        cells += [f"{likelihood - self.base[-1]:+.3f}", f"{np.mean(within):.0%}"]
        return [*cells, f"{self._leak(row, 1):.3f}", f"{self._leak(row, 5):.3f}", f"{seconds:.1f}"]

    def _leak(self, row: str, n_dates: int) -> float:
        """Mean share of a bell, in so many dates in a row, that is predicted on hidden ground where it was learned."""
        rng, shares = np.random.default_rng(self.rng_state), []
        for _ in range(3):
            start = int(rng.integers(0, len(self.unit) - n_dates + 1))
            happened = np.arange(start, start + n_dates)
            centre = self.pixels[rng.integers(len(self.pixels))]
            width = 0.07 * self.side
            bell = np.exp(-((self.pixels - centre) ** 2).sum(axis=1) / (2 * width**2))
            still = self.still.copy()
            still[happened] += STRENGTH * self.sky.strength[happened][:, None] * bell
            hidden = np.flatnonzero(bell > 0.05)
            for k, block in enumerate(self.blocks):
                dates = np.intersect1d(block, happened)
                if not len(dates):
                    continue
                back = []
                for seen in (still, self.still):
                    precision = with_modes(self.precision, self._learn(row, seen, k))
                    error = np.linalg.solve(precision[np.ix_(hidden, hidden)], precision[hidden] @ self.unit[dates].T)
                    back.append(self.unit[np.ix_(dates, hidden)].T - error)
                shape = bell[hidden]
                shares += list(np.abs(shape @ (back[0] - back[1])) / (shape @ shape) / STRENGTH)
        return float(np.mean(shares))

    def _learn(self, row: str, still: Array, block: int) -> Array:
        """Modes that a row adds to the stationary sky for the dates of a block."""
        if row == "stationary":
            return np.zeros((0, still.shape[1]))
        everything = np.arange(len(still))
        others = everything if row == "all dates" else np.setdiff1d(everything, self.blocks[block])
        unit = self.unit_of(still)
        if row not in ("other dates, fitted together", "all dates"):
            unit[others] = self.on_their_own(still, others)
        if row.endswith("simulated"):
            return self._with_simulated(unit, others if row.startswith("other") else others[:0], block)
        if row == "decoder":
            modes = decoder(unit[others], self.precision, self.grid)[0]
        elif row == "decoder, pre-trained":
            if self.pretrained is None:
                self.pretrained = decoder(self.simulated, self.precision, self.grid)[1]
            modes = decoder(unit[others], self.precision, self.grid, self.pretrained)[0]
        elif row == "other dates":
            modes = Taper(self.grid.valid).modes(unit[others], self.sky.noise)
        else:
            modes = unit[others] / np.sqrt(len(others))
        judged = unit[self.blocks[block]] if row != "all dates" else unit
        return np.sqrt(best_share(self.precision, modes, judged, LARGEST_SHARE)) * modes

    @cached_property
    def simulated(self) -> Array:
        """Simulated dates, of the level of those of the stack."""
        dates = simulated_dates(self.grid)
        return dates * float(np.sqrt((self.unit**2).mean() / (dates**2).mean()))

    def _with_simulated(self, unit: Array, others: NDArray[np.intp], block: int) -> Array:
        """Modes from simulated dates and from other ones, each with its own share."""
        judged = unit[self.blocks[block]]
        modes = self.simulated / np.sqrt(len(self.simulated))
        modes = np.sqrt(best_share(self.precision, modes, judged, LARGEST_SHARE)) * modes
        if not len(others):
            return modes
        own = unit[others] / np.sqrt(len(others))
        share = best_share(with_modes(self.precision, modes), own, judged, LARGEST_SHARE)
        return np.vstack([modes, np.sqrt(share) * own])


def with_modes(precision: Array, modes: Array) -> Array:
    """Inverse of a covariance to which ``modes' modes`` is added (Woodbury)."""
    along = modes @ precision
    return np.asarray(precision - along.T @ np.linalg.solve(np.eye(len(modes)) + along @ modes.T, along))


def best_share(precision: Array, modes: Array, dates: Array, largest: float) -> float:
    """Share of the variance of ``modes`` under which dates are likeliest, each with its strength at its likeliest."""
    along = modes @ precision
    spread, axes = np.linalg.eigh(along @ modes.T)
    found = (dates @ along.T) @ axes
    energy = np.einsum("ij,ij->i", dates @ precision, dates)

    def misfit(share: float) -> float:
        explained = (found**2 * (share / (1.0 + share * spread))).sum(axis=1)
        left = np.log(np.maximum(1.0 - explained / energy, 1e-12)).mean()
        return float(left + np.log1p(share * np.maximum(spread, 0.0)).sum() / dates.shape[1])

    return float(minimize_scalar(misfit, bounds=(0.0, largest), method="bounded").x)


# --------------------------------------------------------------------------------------------------------- the rival
class Decoder(nn.Module):
    """Grows a learned seed, joined by channels of the height, into maps."""

    def __init__(self, ground: torch.Tensor) -> None:
        super().__init__()
        self.shape = ground.shape[1:]
        height, width = (-(-size // 4) * 4 for size in self.shape)
        pad = (0, width - self.shape[1], 0, height - self.shape[0])
        self.register_buffer("ground", nn.functional.pad(ground[None], pad, mode="replicate"))
        self.seed = nn.Parameter(torch.randn(1, 24, height // 4, width // 4))
        up = [nn.Conv2d(24, 96, 3, padding=1), nn.PixelShuffle(2), nn.SiLU()]
        again = [nn.Conv2d(24, 96, 3, padding=1), nn.PixelShuffle(2), nn.SiLU()]
        self.grow = nn.Sequential(*up, *again)
        join = [nn.Conv2d(24 + len(ground), MAPS, 3, padding=1), nn.SiLU(), nn.Conv2d(MAPS, MAPS, 3, padding=1)]
        self.join = nn.Sequential(*join)

    def forward(self) -> torch.Tensor:
        """Maps (MAPS, height, width)."""
        grown = self.grow(self.seed.contiguous(memory_format=torch.channels_last))
        return 0.1 * self.join(torch.cat([grown, self.ground], dim=1))[0][:, : self.shape[0], : self.shape[1]]


def decoder(dates: Array, precision: Array, grid: Grid, start: Decoder | None = None) -> tuple[Array, Decoder]:
    """Maps of a network, (MAPS, pixels), by their exact evidence, with as much prior as one date's likelihood.

    The network is returned too; ``start`` is one that was trained before.
    """
    height = fill(grid.height[None], grid.valid)[0] / max(float(grid.height.std()), 1e-6)
    channels = [height, height**2, gaussian_filter(height, 2), gaussian_filter(height, 6), *np.gradient(height)]
    ground = np.stack([(c - c.mean()) / max(float(c.std()), 1e-6) for c in channels]).astype(np.float32)
    torch.manual_seed(1)
    network = copy.deepcopy(start) if start else Decoder(torch.from_numpy(ground)).to(memory_format=torch.channels_last)
    weighted = dates @ precision
    energy = torch.tensor(np.einsum("ij,ij->i", weighted, dates), dtype=torch.float32)
    inverse, data = (torch.tensor(a, dtype=torch.float32) for a in (precision, weighted))
    pixels, n_pixels = torch.from_numpy(grid.valid), dates.shape[1]
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=STEPS)
    for _ in range(STEPS):
        maps = network()[:, pixels]
        gram = maps @ inverse @ maps.T
        factor = torch.linalg.cholesky(torch.eye(MAPS) + gram)
        explained = torch.linalg.solve_triangular(factor, maps @ data.T, upper=False).square().sum(dim=0)
        evidence = (
            -0.5 * (1 - explained / energy).clamp_min(1e-6).log().mean() - factor.diagonal().log().sum() / n_pixels
        )
        loss = gram.diagonal().sum() / (2 * n_pixels) - evidence
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        return np.asarray(network()[:, pixels].double()), network


if __name__ == "__main__":
    main()
