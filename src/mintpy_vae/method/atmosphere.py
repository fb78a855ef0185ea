"""Estimate the atmosphere of each date: the part of the data that the covariance of the sky explains.

The atmosphere is subtracted from the data; the data are never replaced by a model. In the functions of time that motion
follows, the atmosphere of moving ground is interpolated from the surroundings: the shape of the motion has an error
proportional to its size, and the data there get less weight. In the persistent functions the sky has a covariance of
its own, because the atmosphere varies slowly. Variance beyond the level that is extrapolated from the scales at which
motion is sparse is left in the data, and a warning says so (:class:`Guarded`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import gaussian_filter, median_filter
from scipy.special import gammaincinv

from ..arrays import Array, Floats
from .bells import FULL_WIDTH
from .covariance import fill
from .events import NEGLIGIBLE, unsteady_motions
from .gnss_trend import anchor, stations_on
from .joint import Joint
from .knowledge import NOTHING, Knowledge
from .local_sky import LocalSky
from .observations import Grid
from .sky import CENTRES, CHANCE, CHI2_MEDIAN, FREE, LocalPrecision, Sky, inverse
from .threads import side_by_side
from .timefunctions import rate_of

SHAPE_ERROR = 0.3
"""Standard deviation of the error of a motion's shape, as a share of the motion at the same place."""
SHAPE_PIXELS = 2.0
"""Correlation length of that error: standard deviation of the Gaussian whose self-convolution is its correlation."""
FADE = 2.4
"""The local sky's modes are halved where unsteady motion is 1 / FADE of the sky's fine part (both RMS)."""
FINE_WINDOW = 9
"""Pixels along each side of the window whose median tells how strong the fine residual is there."""
POSTERIOR = 0.4
"""Share of the posterior variance of a block's sky that counts beside its residual. The residual is the whole error of
the displacement where nothing moves, the posterior that of the atmosphere where something may; chosen on development
cases, where it lets 64 to 79 % of the errors lie within one standard deviation."""
MUCH_LEFT = 0.67
"""A broad band is reported if less than this share of its trend was removed,"""
NOTABLE = 0.25
"""and what was left exceeds this share of the velocity's standard deviation (both RMS)."""
BROAD = 0.15
"""Width, as a share of the scene, from which motion is hard to tell from a slow atmosphere."""
DOUBTFUL = 0.17
"""Relative standard deviation of broad motion from which its rate is reported."""
STEADY = 0.5
"""Weight of a trend in a function of time from which broad motion is regarded as steady."""
UNPROVEN = 10.83
"""Chi-squared (its 99.9th percentile) of a trend that follows the relief from which its removal is reported."""


@dataclass(frozen=True)
class Guarded:
    """Slow change that may be motion or atmosphere.

    Attributes
    ----------
    kind : str
        ``broad sky``: a trend at broad scales that exceeds the prediction from finer scales and was partly left in the
        data. ``broad motion``, ``relief``: found as motion, and kept. ``relief removed``: not found as motion, but it
        may be.
    rate : float
        Radians per year: RMS over the scene of the part left in the data, or peak of the change.
    figure : float
        Ratio of the variance to the prediction from finer scales (broad sky), or radians per year: standard deviation
        of the rate (motion), rate from which it would be motion (relief removed).
    size : float
        Wavelength (broad sky) or full width at half maximum, as a share of the scene's shorter side.
    """

    kind: str
    rate: float
    figure: float
    size: float

    def sentence(self, millimetres: float) -> str:
        """The warning; ``millimetres`` is the displacement away from the satellite for one radian."""
        rate, std = abs(self.rate) * millimetres, self.figure * millimetres
        if self.kind == "broad sky":
            return (
                f"At wavelengths above {self.size:.1f} of the scene the trend has {self.figure:.1f} times the variance "
                f"of a slow atmosphere as predicted from finer scales: {rate:.1f} mm/yr (RMS) of it were left in the "
                "data; this may be motion as broad as the scene."
            )
        if self.kind == "relief removed":
            return (
                f"A slow change that follows the relief was removed as atmosphere ({rate:.1f} mm/yr at the highest "
                f"ground, besides what stratified delay makes; regarded as motion from {std:.1f} mm/yr): compare with "
                "GNSS or a weather model."
            )
        what = "follows the relief" if self.kind == "relief" else f"is {self.size:.2f} of the scene wide"
        return (
            f"Slow change that {what} was regarded as motion and left in the data ({rate:.1f} mm/yr at its peak, with "
            f"a standard deviation of {std:.1f} mm/yr): compare with GNSS or a weather model."
        )


@dataclass(frozen=True)
class PhasePerDate:
    """Phase that is subtracted from each date; only differences between dates matter.

    Attributes
    ----------
    turbulent : (dates, height, width)
        Radians on the training grid.
    slope : (dates,) or (dates, height, width)
        Stratified part, radians per metre of effective height; where it varies over the scene, one value per pixel.
    """

    turbulent: Floats
    slope: Floats


@dataclass(frozen=True)
class Atmosphere(PhasePerDate):
    """Atmospheric phase per date, relative to its mean over dates.

    Attributes
    ----------
    std : (dates, height, width)
        Standard deviation, radians: posterior, interpolation across motion, errors of its amplitudes and doubt about
        it included.
    rate_std : (height, width)
        The same of the velocity of the corrected series, radians per year, slow sky included.
    moving : (height, width) bool
        Ground where the motion found exceeds half the posterior standard deviation (both RMS over the dates), or that
        the user knows to move.
    guarded : list of Guarded
        Slow change that may be motion or atmosphere.
    station_rate : (pixels,)
    station_slope : float
        Rate per year that GNSS stations add to the turbulent part and to the slope.
    """

    std: Array
    rate_std: Array
    moving: NDArray[np.bool_]
    guarded: list[Guarded]
    station_rate: Array
    station_slope: float


def estimate(
    series: Array,
    joint: Joint,
    local: LocalSky,
    grid: Grid,
    knowledge: Knowledge = NOTHING,
) -> Atmosphere:
    """Estimate the atmosphere of each date.

    Parameters
    ----------
    series : (dates, pixels)
        Radians on the valid pixels, mean over dates 0.
    joint : Joint
        Motion and sky of the stack.
    local : LocalSky
        Local covariance in the functions of time that are not persistent. It loses weight where the ground moves
        unsteadily, because shapes that recur there belong to the motion.
    grid : Grid
    knowledge : Knowledge
        Moving and stable ground and GNSS stations are used.
    """
    sky, strength, valid, years = joint.sky, joint.sky.strength[:, None], grid.valid, grid.years
    data, motion = series / strength, joint.deformation.series / strength
    steady = joint.rotation.basis[: joint.rotation.number]
    events = unsteady_motions(joint, years)
    still = data - motion
    plain = still - sum((own.T @ (own @ still) for own in [steady, *(own for own, _ in events)]), np.zeros_like(still))

    doubt = _Doubt(valid, knowledge)
    moved = motion - steady.T @ (steady @ motion)
    fade = doubt.fade(np.sqrt((moved**2).mean(axis=0)), sky.fine)
    turned = [(*one, size) for own, size in events for one in local.by_block(own)]

    def of_slow(q: int) -> _Part:
        slow, modes, own = joint.slow[q], sky.covariance(joint.slow[q]).modes, steady[q : q + 1]
        weighted = doubt.weighted(modes, slow.fine * sky.fine, np.abs(steady[q] @ motion))
        return _Part.of_modes(own, own @ still, modes, weighted, sky, slow.removed)

    def of_block(number: int) -> tuple[_Part, list[_Part]]:
        block, metric = local.blocks[number], LocalPrecision(sky, local.modes[number] * fade)
        unsteady = []
        for k, functions, size in turned:
            if k == number:
                error = doubt.error(sky.fine, size, unit=local.level)  # as large as the square of the pixels
                unsteady.append(_Part.of_block(functions, functions @ still, metric, error))
        return _Part.of_block(np.eye(len(series))[block], plain[block], metric), unsteady

    found = side_by_side(
        *(partial(of_slow, q) for q in range(len(joint.slow))),
        *(partial(of_block, number) for number in range(len(local.blocks))),
    )
    slow, blocks = found[: len(joint.slow)], found[len(joint.slow) :]
    parts = [part for part, _ in blocks] + slow + [part for _, unsteady in blocks for part in unsteady]

    turbulent = strength * sum(part.functions.T @ part.maps for part in parts)
    slope = joint.sky.strength * sum(part.functions.T @ part.slopes for part in parts)
    left = still - turbulent / strength - np.outer(slope / joint.sky.strength, sky.height)
    errors = _Errors(parts, len(local.blocks), left, sky, valid)
    line, each = _line(years), np.eye(len(years)) - 1.0 / len(years)
    of_sky, of_dates = errors.of_sum(line * joint.sky.strength), strength**2 * errors.of_dates()
    of_motion = joint.deformation.variance_along(np.vstack([line, each]))
    rate_std, std = np.sqrt(of_sky + of_motion[0]), np.sqrt(of_dates + of_motion[1:])

    rate, slope_rate = _called_for(series - turbulent - np.outer(slope, sky.height), sky, grid, knowledge)
    turbulent += np.outer(years - years.mean(), rate)
    slope += (years - years.mean()) * slope_rate
    size = np.where(doubt.stable, 0.0, np.sqrt((joint.deformation.series**2).mean(axis=0)))
    moving = np.zeros(valid.shape, dtype=bool)
    moving[valid] = doubt.moving | (size > 0.5 * np.sqrt(of_dates.mean(axis=0)))
    trend = parts[len(local.blocks)] if joint.slow else None
    guarded = _guarded(joint, trend, years, min(valid.shape), float(np.sqrt(of_sky.mean())))
    return Atmosphere(
        turbulent=fill(turbulent, valid),
        slope=slope,
        std=fill(std, valid),
        rate_std=fill(rate_std[None], valid)[0],
        moving=moving,
        guarded=guarded,
        station_rate=rate,
        station_slope=slope_rate,
    )


def _line(years: Array) -> Array:
    """Weights of the dates in the slope of a least-squares line."""
    centred = years - years.mean()
    return np.asarray(centred / (centred @ centred))


def _called_for(corrected: Array, sky: Sky, grid: Grid, knowledge: Knowledge) -> tuple[Array, float]:
    """Rate of the atmosphere that the GNSS stations imply: turbulent (pixels,), and slope with height, per year."""
    stations, pixels = stations_on(knowledge.stations, grid.valid)
    if len(stations) < 2:
        return np.zeros(corrected.shape[1]), 0.0
    line = _line(grid.years)
    scale = float(np.linalg.norm(line * sky.strength))
    rates = anchor(line @ corrected[:, pixels], stations, pixels, sky.modes, sky.fine, scale)
    return rates[2:] @ sky.modes[2:], float(rates[1] * sky.slope_std)


@dataclass(frozen=True)
class _Part:
    """Posterior of the atmosphere in some functions of time that share one covariance.

    Attributes
    ----------
    functions : (functions, dates)
        Orthonormal.
    maps : (functions, pixels)
        Turbulent atmosphere that is removed, in units of the dates' strength.
    slopes : (functions,)
        Radians per metre.
    uncertain : (pixels,)
        Posterior variance, as far as it counts beside the residual.
    kept : (functions, pixels)
        Atmosphere that is left in the data on purpose.
    kept_variance : (pixels,)
    """

    functions: Array
    maps: Array
    slopes: Array
    uncertain: Array
    kept: Array
    kept_variance: Array

    @classmethod
    def of_block(
        cls, functions: Array, values: Array, metric: LocalPrecision, error: _ShapeError | None = None
    ) -> _Part:
        """The sky of the dates of a block, with the ``error`` of a motion; the rest as in :meth:`of_modes`."""
        sky, local = metric.sky, metric.modes
        whitened, uncertain = metric.whiten(values), POSTERIOR * metric.uncertain
        if error is not None and len(error.pixels):
            # (P^-1 + error)^-1 = P - rows' core rows, where P is the precision and rows are its rows of these pixels
            rows = metric.rows(error.pixels)
            core = np.linalg.solve(np.eye(len(rows)) + error.covariance @ rows[:, error.pixels], error.covariance)
            whitened = whitened - (whitened[:, error.pixels] @ core) @ rows
            known = metric.explained(error.pixels, rows)
            uncertain = uncertain + error.unit * np.sum(known * (core @ known), axis=0)
        maps = (whitened @ sky.modes[2:].T) @ sky.modes[2:] + (whitened @ local.T) @ local
        slopes = (whitened @ sky.modes[1]) * _per_metre(sky.modes[1], sky)
        none = np.zeros(local.shape[1])
        return cls(functions, maps, slopes, uncertain, np.zeros_like(maps), none)

    @classmethod
    def of_modes(
        cls,
        functions: Array,
        values: Array,
        modes: Array,
        weighted: Array,
        sky: Sky,
        of_band: Array = CHANCE.removed,
    ) -> _Part:
        """Estimate the atmosphere in some functions of time.

        Parameters
        ----------
        functions : (functions, dates)
            Orthonormal.
        values : (functions, pixels)
            Data without motion in these functions, in units of the dates' strength.
        modes : (modes, pixels)
            Modes of the covariance; those of the sky first.
        weighted : (pixels, modes)
            ``rest^-1 modes'``, where ``rest`` is the remaining covariance: fine part, noise and error of the motion.
        sky : Sky
        of_band : (bands,)
            Share of each band that is removed.
        """
        removed = np.ones(len(modes))
        removed[0] = 0.0  # only differences within a map matter
        removed[2 : 2 + len(sky.band)] = of_band[sky.band]
        # Woodbury: covariance^-1 modes' is weighted @ uncertain, and uncertain is the posterior of the modes
        uncertain = inverse(np.eye(len(modes)) + modes @ weighted)
        coefficients = (values @ weighted) @ uncertain
        # error of the removed part: error of the estimate, and the part that was left in the data on purpose
        own, left = modes[1:], 1 - removed[1:]
        kept_variance = np.zeros(modes.shape[1])
        if left.any():
            known = np.eye(len(left)) - uncertain[1:, 1:]
            kept_variance = np.sum(own * ((known * np.outer(left, left)) @ own), axis=0)
        return cls(
            functions,
            maps=(coefficients * removed)[:, 2:] @ modes[2:],
            slopes=coefficients[:, 1] * _per_metre(modes[1], sky),
            uncertain=np.sum(own * (uncertain[1:, 1:] @ own), axis=0),
            kept=(coefficients * (1 - removed))[:, 2:] @ modes[2:],
            kept_variance=kept_variance,
        )


def _per_metre(mode: Array, sky: Sky) -> float:
    """Radians per metre for a unit coefficient of the height's ``mode`` (pixels,)."""
    return float(mode @ sky.height) / max(float(sky.height @ sky.height), 1e-12)


class _Errors:
    """Variance of the errors of the atmosphere, in units of the dates' strength squared.

    The part that is too fine to be removed stays in the data. Its variance per date and place is estimated from the
    residual, the data without atmosphere and motion; the posterior variance is scaled with it.

    Parameters
    ----------
    parts : sequence of _Part
    n_blocks : int
        The first so many belong to the blocks of dates; they cover the time that no other part does.
    left : (dates, pixels)
        The residual.
    sky : Sky
    valid : (height, width) bool
    """

    def __init__(self, parts: Sequence[_Part], n_blocks: int, left: Array, sky: Sky, valid: NDArray[np.bool_]) -> None:
        self.blocks, self.others = parts[:n_blocks], parts[n_blocks:]
        self.left, self.valid = left - left.mean(axis=1, keepdims=True), valid
        self.of_date = np.median(self.left**2, axis=1) / CHI2_MEDIAN
        around = self._around((self.left**2).mean(axis=0))
        self.of_place = around / max(float(around.mean()), 1e-30)
        scale = float(self.of_date.mean() / sky.fine)
        self.removed = [scale * part.uncertain + part.kept_variance for part in parts]

    def of_dates(self) -> Array:
        """Of each date, (dates, pixels)."""
        shares = [(part.functions**2).sum(axis=0) for part in self.others]
        alone = np.maximum(1.0 - sum(shares, np.zeros(len(self.of_date))), 0.0)
        shares = [(part.functions**2).sum(axis=0) * alone for part in self.blocks] + shares
        total = np.outer(self.of_date, self.of_place)
        for share, variance in zip(shares, self.removed, strict=True):
            total += np.outer(share, variance)
        return total

    def of_sum(self, weights: Array) -> Array:
        """Of the sum of all dates with ``weights`` (dates,), as a velocity is one, (pixels,)."""
        rest = weights.copy()
        for part in self.others:
            rest -= part.functions.T @ (part.functions @ weights)
        along = [((part.functions @ rest) ** 2).sum() for part in self.blocks]
        along += [((part.functions @ weights) ** 2).sum() for part in self.others]
        total = (rest**2 @ self.of_date) * self.of_place
        for share, variance in zip(along, self.removed, strict=True):
            total += share * variance
        for part, share in zip(self.others, along[len(self.blocks) :], strict=True):
            square = ((part.functions @ self.left) ** 2).mean(axis=0)
            local = median_filter(fill(square[None], self.valid)[0], FINE_WINDOW)[self.valid]
            degrees = len(part.functions)  # of chi-squared, whose median the local median has
            total += share * local * degrees / (2 * gammaincinv(degrees / 2, 0.5))
        return total

    def _around(self, square: Array) -> Array:
        """Mean of ``square`` (pixels,) around each pixel."""
        return np.asarray(gaussian_filter(fill(square[None], self.valid)[0], SHAPE_PIXELS)[self.valid])


@dataclass(frozen=True)
class _ShapeError:
    """Error of a motion's shape: covariance (n, n) on some ``pixels`` (n,), in a ``unit`` of the strength squared."""

    pixels: NDArray[np.intp]
    covariance: Array
    unit: float


class _Doubt:
    """Error of a motion's shape, given the size of the motion (pixels,)."""

    def __init__(self, valid: NDArray[np.bool_], knowledge: Knowledge) -> None:
        self.shape, self.pixels = valid.shape, np.array(np.nonzero(valid))
        self.stable, self.moving = (
            np.zeros(len(self.pixels[0]), dtype=bool) if mask is None else mask[valid]
            for mask in (knowledge.stable, knowledge.moving)
        )

    def fade(self, size: Array, fine: float) -> Array:
        """Factor on the local sky (pixels,), near 1 where motion is much smaller than the sky's ``fine`` part."""
        size = np.where(self.stable, 0.0, np.where(self.moving, FREE, size))
        return np.asarray(fine / (fine + (FADE * size) ** 2))

    def error(self, fine: float, size: Array, known: bool = False, unit: float = 1.0) -> _ShapeError:
        """Error of the shape of motion of this ``size``, where it matters beside the sky's ``fine`` part.

        With ``known``, ground that the user knows to move has no weight.
        """
        free = self.moving & known
        size = np.where(self.stable, 0.0, size)
        own = np.flatnonzero(free | (size > NEGLIGIBLE * np.sqrt(fine)))
        size = SHAPE_ERROR / np.sqrt(unit) * size[own]
        covariance = np.outer(size, size)
        for axis, n in zip(self.pixels[:, own], self.shape, strict=True):
            away = np.arange(n) - np.arange(n)[:, None]
            covariance *= np.exp(-(away**2) / (4 * SHAPE_PIXELS**2))[axis][:, axis]
        covariance[np.diag_indices_from(covariance)] += np.where(free[own], FREE**2 / unit, 0.0)
        return _ShapeError(own, covariance, unit)

    def weighted(self, modes: Array, fine: float, size: Array) -> Array:
        """``(fine * I + error)^-1 modes'``, (pixels, modes), for motion of this ``size`` that the user may know."""
        error = self.error(fine, size, known=True)
        own, rest = error.pixels, error.covariance
        weighted = modes.T / fine
        if len(own):
            rest[np.diag_indices_from(rest)] += fine
            weighted[own] = cho_solve(cho_factor(rest, check_finite=False), modes[:, own].T, check_finite=False)
        return weighted


def _guarded(joint: Joint, trend: _Part | None, years: Array, side: int, rate_std: float) -> list[Guarded]:
    """Find broad or relief-shaped trends that may be motion or atmosphere; ``rate_std`` is the velocity's."""
    found: list[Guarded] = []
    if trend is None:
        return found
    slow = joint.slow[0]
    # radians per year for a unit of the trend's orthonormal function
    rate = float(_line(years) @ (joint.sky.strength * trend.functions[0]))
    held = np.flatnonzero((slow.removed < MUCH_LEFT) & (joint.sky.modes_of_band > 0))
    left = abs(rate) * float(np.sqrt((trend.kept**2).mean()))
    if len(held) and left > NOTABLE * rate_std:
        found.append(Guarded("broad sky", left, float(1 / slow.removed[held].min()), float(1 / CENTRES[held].max())))
    years_long = float(np.ptp(years))
    for piece in joint.deformation.pieces:
        width = float(np.exp(piece.place[2])) / side
        if is_doubtful(piece.function, piece.relief, width, piece.amplitude, piece.std, piece.probability):
            steady, kind = rate_of(piece.function), "relief" if piece.relief else "broad motion"
            per_year = steady / years_long
            found.append(Guarded(kind, per_year * piece.amplitude, per_year * piece.std, FULL_WIDTH * width))
    kept = any(one.kind == "relief" for one in found)
    if joint.relief and joint.relief.score > UNPROVEN and not kept:
        rate, least = joint.relief.amplitude / years_long, joint.relief.found_from / years_long
        found.append(Guarded("relief removed", rate, least, 1.0))
    return found


def is_doubtful(function: str, relief: bool, width: float, amplitude: float, std: float, probability: float) -> bool:
    """Whether a piece is steady motion that follows the relief, or is broad and of doubtful rate.

    ``width`` is a standard deviation, as a share of the shorter side; the rest as in :class:`~.deformation.Piece`.
    """
    broad = width >= BROAD and std > DOUBTFUL * abs(amplitude)
    return abs(rate_of(function)) >= STEADY and probability > 0.5 and (relief or broad)


def sentences(guarded: Sequence[Guarded], millimetres: float) -> list[str]:
    """Warnings: for each kind, the change with the largest rate."""
    largest: dict[str, Guarded] = {}
    for one in guarded:
        if one.kind not in largest or abs(one.rate) > abs(largest[one.kind].rate):
            largest[one.kind] = one
    return [one.sentence(millimetres) for one in largest.values()]
