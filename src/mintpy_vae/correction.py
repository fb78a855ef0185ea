"""The atmosphere of each date: what its spatial statistics explain of the data, and nothing else.

Data minus atmosphere, never a model instead of the data. Two guards keep deformation out of the atmosphere. Where
motion was found, its functions of time are left out of the fit, so that the atmosphere there is interpolated from
around. And a trend of the atmosphere that its scatter from date to date cannot explain is given back: it may be motion
as broad as the scene, or motion that follows relief.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline, make_interp_spline
from scipy.ndimage import binary_dilation

from .anchoring import anchor, stations_on
from .atmosphere import Array, Prior, fill, height_slopes
from .deformation import Deformation, chance_exceeds
from .knowledge import NOTHING, Knowledge
from .timefunctions import TimeFunction

F32 = NDArray[np.float32]
MASK_SHARES = (0.01, 0.02, 0.05, 0.1)
MASK_NOISE = 0.2
"""A pixel moves where its motion exceeds this share of the largest, and this share of the noise; the smallest share
that leaves enough still ground."""
MARGIN = 0.04
"""Ground around what moves that counts as moving, a fraction of the scene: no bell has the shape of real motion."""
UNSTEADY_DAYS = 50
"""Unsteady motion may begin and end so long before and after the function that found it."""
SHUFFLES = 200
MAX_MOVING = 0.5
"""With motion on a larger share of the scene there is too little still ground to interpolate from."""


@dataclass(frozen=True)
class PhasePerDate:
    """What is subtracted from each date; only differences of dates matter.

    Attributes
    ----------
    turbulent : (dates, height, width)
        Radians on the training grid.
    slope : (dates,)
        Stratified part, radians per metre of height.
    """

    turbulent: Array
    slope: Array


@dataclass(frozen=True)
class Atmosphere(PhasePerDate):
    """Atmospheric phase per date, relative to its mean over dates.

    Attributes
    ----------
    std : (dates, height, width)
        Posterior standard deviation, radians.
    moving : (height, width) bool
        Where motion was found and the atmosphere is interpolated from around.
    warnings : list of str
        What the guard left alone.
    """

    std: Array
    moving: NDArray[np.bool_]
    warnings: list[str]


def estimate(
    series: Array,
    deformation: Deformation,
    functions: list[TimeFunction],
    strength: Array,
    removal: Prior,
    detail: Prior,
    stationary: Prior,
    height: Array,
    valid: NDArray[np.bool_],
    years: Array,
    significance: float,
    knowledge: Knowledge = NOTHING,
) -> Atmosphere:
    """Estimate the atmosphere of each date.

    Parameters
    ----------
    series : (dates, pixels)
        Radians on the valid pixels, mean over dates 0.
    deformation : Deformation
        From the pursuit.
    functions : list of TimeFunction
        Those the pursuit searched.
    strength : (dates,)
        Strength e_t of the atmosphere.
    removal : Prior
        Limited to the wavelengths that are removed.
    detail : Prior
        All wavelengths, to interpolate across moving ground.
    stationary : Prior
        As `removal`, but without the network's modes: a network that has seen the dates cannot judge their scatter.
    height : (pixels,)
        Metres, zero mean.
    valid : (height, width) bool
    years : (dates,)
    significance : float
        False-alarm probability of the guard.
    knowledge : Knowledge
        Of it, ground that is known to move or to be stable, and GNSS stations.
    """
    stable = np.zeros(valid.sum(), dtype=bool) if knowledge.stable is None else knowledge.stable[valid]
    motion = _motion(deformation, functions, years, knowledge.moving is not None)
    weights = 1.0 / strength**2
    spanned = _orthonormal((motion - (motion @ weights / weights.sum())[:, None]) / strength)
    in_time = spanned.T @ (spanned @ (series / strength[:, None]))
    without_motion = (series - deformation.series) / strength[:, None]
    guard = _Guard(stationary, without_motion, years, strength, significance)
    coefficients = removal.coefficients(series / strength[:, None] - in_time)
    maps, relief = guard.keep_trend(coefficients[:, 2:] @ removal.modes[2:], coefficients[:, 1], np.eye(len(series)))
    warnings = guard.warnings()
    moving = np.zeros(series.shape[1], dtype=bool)
    unknown_across = removal.variance()
    if len(spanned):
        observed = spanned @ (series / strength[:, None])
        known = np.where(stable, 0.0, spanned @ (deformation.series / strength[:, None]))
        size = np.sqrt((known**2).sum(axis=0))
        margin = max(1, round(MARGIN * min(valid.shape)))
        for share in MASK_SHARES:
            there = np.zeros(valid.shape, dtype=bool)
            there[valid] = size > max(share * size.max(), MASK_NOISE * np.sqrt(removal.noise))
            if knowledge.moving is not None:
                there |= knowledge.moving
            moving = binary_dilation(there, iterations=margin)[valid] & ~stable
            if moving.mean() <= MAX_MOVING:
                break
        if moving.mean() > MAX_MOVING:
            warnings.append(
                f"Motion was found on {moving.mean():.0%} of the scene: too little still ground to tell the "
                "atmosphere's part of it, which was left in the data."
            )
        else:
            still = ~moving
            outside = Prior(detail.modes[:, still], detail.noise)
            around = outside.coefficients((observed - known)[:, still])
            across, slopes = guard.keep_trend(around[:, 2:] @ detail.modes[2:], around[:, 1], spanned)
            maps += spanned.T @ across
            relief += spanned.T @ slopes
            unknown_across = outside.variance(detail.modes)
    scale = height_slopes(removal.modes[1:2], height)  # radians per metre, unit coefficient
    slope = strength * relief * scale
    turbulent = strength[:, None] * maps
    if moving.mean() > MAX_MOVING:
        # not only in the weighted fit above: a velocity fitted without weights stays as it was, too
        plain = _orthonormal(motion - motion.mean(axis=1, keepdims=True))
        turbulent -= plain.T @ (plain @ turbulent)
        slope -= plain.T @ (plain @ slope)
    stations, pixels = stations_on(knowledge.stations, valid)
    if len(stations) > 1:
        line = (years - years.mean()) / ((years - years.mean()) ** 2).sum()
        rates = line @ (series - turbulent - np.outer(slope, height))[:, pixels]
        called_for = anchor(rates, stations, pixels, removal, float(np.linalg.norm(line * strength)))
        turbulent += np.outer(years - years.mean(), called_for[2:] @ removal.modes[2:])
        slope += (years - years.mean()) * called_for[1] * scale
    in_functions = (spanned**2).sum(axis=0)[:, None]  # share of each date that was interpolated
    # what is shorter than the wavelengths removed stays in the data, but for the noise, which is no atmosphere
    variance = (1 - in_functions) * (removal.variance() + max(removal.noise - detail.noise, 0.0))
    std = strength[:, None] * np.sqrt(np.maximum(variance + in_functions * unknown_across, 0.0))
    moving_map = np.zeros(valid.shape, dtype=bool)
    moving_map[valid] = moving
    return Atmosphere(fill(turbulent, valid), slope, fill(std, valid), moving_map, warnings)


class FullResolution:
    """The atmosphere on the stack's own grid, rows at a time.

    The turbulent part is a cubic spline between the centres of the multilooked pixels; the stratified part follows the
    height of each full-resolution pixel.

    Parameters
    ----------
    atmosphere : PhasePerDate
    height : (length, width)
        Metres relative to the mean the slope refers to; NaN counts as 0.
    factor : int
        Looks of the training grid in both directions.
    """

    def __init__(self, atmosphere: PhasePerDate, height: NDArray[np.floating], factor: int) -> None:
        self.height = np.nan_to_num(height).astype(np.float32)
        self.slope = atmosphere.slope.astype(np.float32)
        self.down, to_down = _spline(height.shape[0], factor)
        self.across, to_across = _spline(height.shape[1], factor)
        self.coefficients = (to_down @ atmosphere.turbulent @ to_across.T).astype(np.float32)

    def __call__(self, rows: slice) -> NDArray[np.float32]:
        """Phase of the atmosphere per date on ``rows``, (dates, rows, width) radians."""
        phase = tensor_product(self.coefficients, self.down[rows], self.across)
        phase += self.slope[:, None, None] * self.height[rows]
        return phase


def _motion(deformation: Deformation, functions: list[TimeFunction], years: Array, moves: bool) -> Array:
    """Functions of time that motion was found to follow, (functions, dates); if something ``moves``, the lasting ones.

    Motion at a scanned date may last longer than the function that found it: a step at every date from
    ``UNSTEADY_DAYS`` before it to as many after it comes along.
    """
    names = {str(atom["function"]) for atom in deformation.atoms}
    found = [f for f in functions if f.name in names or (moves and not f.family)]
    changes = np.zeros(len(years), dtype=bool)
    for f in found:
        if f.family:
            first, last = years[np.flatnonzero(np.diff(f.values))[[0, -1]] + 1]
            reach = UNSTEADY_DAYS / 365.25
            changes |= (years >= first - reach) & (years <= last + reach)
    steps = [(years >= years[k]).astype(np.float64) for k in np.flatnonzero(changes) if k > 0]
    return np.array([f.values for f in found] + steps).reshape(len(found) + len(steps), len(years))


def _orthonormal(rows: Array) -> Array:
    """Orthonormal basis of the span of ``rows``, one vector per row."""
    _, singular, axes = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(axes[singular > 1e-6 * singular.max(initial=1e-30)])


class _Guard:
    """Tells which trends of the atmosphere chance cannot explain, so that they stay in the data.

    The coefficients of each mode are regressed on time, and on a yearly cycle where the stack is long enough to tell
    the two apart; the trend over the scatter is its score, compared with the scores of shuffled dates. The height is
    tested on its own, for motion that follows relief; the other modes by the largest of them, for motion as broad as
    the scene.

    Parameters
    ----------
    prior : Prior
        Its modes are tested.
    maps : (dates, pixels)
        The series less the deformation that was found, in units of the dates' strength.
    years, strength : (dates,)
    significance : float
        False-alarm probability.
    """

    def __init__(self, prior: Prior, maps: Array, years: Array, strength: Array, significance: float) -> None:
        coefficients = prior.coefficients(maps)
        columns = [np.ones(len(years))]
        if years[-1] - years[0] >= 1.0:
            columns += [np.sin(2 * np.pi * years), np.cos(2 * np.pi * years)]
        columns.append(years - years.mean())
        design = np.stack(columns, axis=1) / strength[:, None]
        self.line = design[:, -1]
        q, _ = np.linalg.qr(design)
        left = coefficients - q @ (q.T @ coefficients)
        scatter = np.sqrt((left**2).sum(axis=0) / (len(years) - design.shape[1])) + 1e-30
        self.score = np.abs(q[:, -1] @ coefficients) / scatter
        rng = np.random.default_rng(0)
        left *= np.sqrt(len(years) / (len(years) - design.shape[1]))
        chance = np.array([np.abs(q[:, -1] @ left[rng.permutation(len(years))]) for _ in range(SHUFFLES)]) / scatter
        self.limit = np.full(
            coefficients.shape[1], chance_exceeds(chance[:, 2:].max(axis=1, initial=0.0), significance)
        )
        self.limit[0] = np.inf  # the constant is never removed
        self.limit[1] = chance_exceeds(chance[:, 1], significance)

        flagged = prior.modes[2:][self.score[2:] > self.limit[2:]]
        self.patterns = _orthonormal(flagged - flagged.mean(axis=1, keepdims=True))

    def keep_trend(self, maps: Array, slopes: Array, functions: Array) -> tuple[Array, Array]:
        """Take the trend out of what exceeds the limit.

        Parameters
        ----------
        maps : (functions, pixels)
            In orthonormal functions of time.
        slopes : (functions,)
            Against height.
        functions : (functions, dates)
        """
        line = functions @ self.line
        unit = line / max(float(np.linalg.norm(line)), 1e-30)
        maps = maps - np.outer(unit, (unit @ maps) @ self.patterns.T @ self.patterns)
        return maps, slopes - unit * (unit @ slopes) * (self.score[1] > self.limit[1])

    def warnings(self) -> list[str]:
        """What was left in the data, in plain words."""
        said = []
        if self.score[1] > self.limit[1]:
            said.append(
                f"Slow change proportional to height, {self.score[1]:.1f} times what chance explains, was left in the "
                "data: it may be motion that follows relief."
            )
        if broad := int((self.score[2:] > self.limit[2:]).sum()):
            said.append(
                f"The slow change of {broad} broad patterns, beyond what chance explains, was left in the data: it may "
                "be motion as broad as the scene."
            )
        return said


def cell_centres(size: int, factor: int) -> Array:
    """Centres of the cells of ``factor`` pixels along an axis of ``size``, (cells,); the last cell may be smaller."""
    starts = np.arange(0, size, factor)
    return np.asarray((starts + np.minimum(starts + factor, size) - 1) / 2)


def tensor_product(maps: F32, down: F32, across: F32) -> F32:
    """Maps (n, h, w) on finer rows and columns, (n, rows, width), by local weights (rows, h) and (width, w)."""
    near = down.any(axis=0)  # some rows of the maps take part, not all
    return np.asarray(down[:, near] @ (maps[:, near] @ across.T))


def _spline(size: int, factor: int) -> tuple[NDArray[np.float32], Array]:
    """Cubic B-splines at each pixel, (size, coarse), and the matrix (coarse, coarse) that makes their coefficients.

    They interpolate values at the centres of ``factor``-pixel cells, and stay flat outside.
    """
    centres = cell_centres(size, factor)
    if len(centres) == 1:
        return np.ones((size, 1), dtype=np.float32), np.ones((1, 1))
    spline = make_interp_spline(centres, np.eye(len(centres)), k=3 if len(centres) > 3 else 1)
    pixels = np.clip(np.arange(size), centres[0], centres[-1])
    return BSpline.design_matrix(pixels, spline.t, spline.k).toarray().astype(np.float32), spline.c
