"""Covariance of the atmosphere ("the sky") in space, by scale, and its excess variance in slow functions of time.

The atmosphere of date t is ``e_t N(0, C)`` with a strength e_t of its own; C is a free constant, a slope with height,
and turbulence in bands of wavenumber with stationary statistics (Hanssen, 2001). The sky is not white in time: on a
trend or an annual cycle it has several times the variance of independent dates, with a factor that depends on the
scale. Therefore each persistent function of time q has its own covariance ``C_q``, in which every band and the fine
part are scaled by factors estimated from the stack's own map of that function (:func:`slowness`). Arrays only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.fft import idctn
from scipy.linalg import lapack

from ..arrays import Array
from .covariance import date_strength, height_slopes, radial_spectrum, without_height
from .observations import Grid

EDGES = (0.0, 0.8, 1.3, 2.0, 3.0, 5.0, 8.0)
"""Lower bounds of the bands, cycles per shorter side of the scene."""
SHORTEST = 3.0
"""Shortest wavelength of the last band, pixels. Finer scales are regarded as white, together with the noise: they stay
in the data."""
CENTRES = np.array([0.6, 1.05, 1.6, 2.5, 4.0, 6.4, 11.0])
SPARSE = (4, 5)
"""Bands in which motion is sparse, 3 to 8 cycles; their factors are extrapolated to broader bands."""
GROWTH = 0.5
"""The factor of the slow sky grows towards broad scales at most as wavenumber to minus this power."""
MARGIN = 1.5
"""Margin on the extrapolated factor; the variance of a band beyond it may be motion and is left in the data."""
WALK = 0.4
"""Standard deviation of the change of the log factor from band to band."""
REML_STEPS = 8
LEAST = 0.05
"""Smallest factor of a band."""
FREE = 100.0
"""Standard deviation of an effectively unknown quantity, in units of that of the atmosphere."""
BAD = 10.0
"""Factor on the strength e_t of dates known to be bad."""
CHI2_MEDIAN, CHI2_95 = 0.455, 3.841
"""Median and 95th percentile of chi-squared with one degree of freedom."""


@dataclass(frozen=True)
class Slowness:
    """Factors on the covariance of the sky in one function of time.

    Attributes
    ----------
    bands : (bands,)
        Factor of each band's variance.
    fine : float
        Factor of the fine part and the noise.
    removed : (bands,)
        Share of each band's variance that is regarded as sky; the rest is left in the data.
    """

    bands: Array
    fine: float
    removed: Array

    def at_most(self, limit: float) -> Slowness:
        """Limit all factors to ``limit``, or 1 if that is larger; the excess of a band is left in the data."""
        bands = np.minimum(self.bands, max(limit, 1.0))
        return Slowness(bands, min(self.fine, max(limit, 1.0)), self.removed * bands / self.bands)


N_BANDS = len(EDGES)
CHANCE = Slowness(np.ones(N_BANDS), 1.0, np.ones(N_BANDS))
"""The sky of independent dates."""


@dataclass(frozen=True)
class Sky:
    """Statistics of the atmosphere of one stack, estimated from its series without motion.

    Attributes
    ----------
    residual : (dates, pixels)
        Radians, without motion and the persistent functions.
    unit : (dates, pixels)
        The same without its trend with height, at unit strength.
    strength : (dates,)
        Strength e_t of each date, geometric mean 1.
    height : (pixels,)
        Metres, zero mean.
    slope_std : float
        Standard deviation of the slope with height, radians per metre; twice the scatter of the dates, so that the
        slope is effectively free where relief matters.
    modes : (modes, pixels)
        Constant, height and cosine modes of the bands, each scaled by its standard deviation.
    band : (modes - 2,) int
        Band of each cosine mode.
    fine : float
        Variance of scales finer than the bands, white noise included.
    noise : float
        Variance of the white noise, from the flat end of the spectrum.
    """

    residual: Array
    unit: Array
    strength: Array
    height: Array
    slope_std: float
    modes: Array
    band: NDArray[np.intp]
    fine: float
    noise: float

    @property
    def turbulent(self) -> Array:
        """``residual`` without its trend with height, (dates, pixels)."""
        return without_height(self.residual, self.height)

    @cached_property
    def gram(self) -> Array:
        """``modes modes' / fine``, (modes, modes)."""
        return np.asarray(self.modes @ self.modes.T / self.fine)

    @cached_property
    def modes_of_band(self) -> Array:
        """Number of modes in each band, (bands,)."""
        return np.bincount(self.band, minlength=N_BANDS).astype(np.float64)

    def covariance(self, slowness: Slowness = CHANCE) -> Covariance:
        """Covariance of the sky in a function of time; constant and (except for ``CHANCE``) height slope are free."""
        largest = max(1.0, float(slowness.bands.max(initial=0.0)))
        slope = 1.0 if slowness is CHANCE else max(FREE, largest)
        return Covariance(self, np.sqrt(np.r_[largest, slope, slowness.bands[self.band]]), slowness.fine)

    @cached_property
    def precision(self) -> Precision:
        """Inverse of the covariance of independent dates."""
        return self.covariance().precision

    @cached_property
    def uncertain(self) -> Array:
        """Posterior variance of the atmosphere of an independent date at unit strength, up to a constant, (pixels,)."""
        own, posterior = self.modes[1:], self.precision.core[1:, 1:] * self.fine**2
        return np.asarray(np.sum(own * (posterior @ own), axis=0))

    def draw(self, number: int, rng: np.random.Generator) -> Array:
        """Maps of a sky of independent dates at unit strength, without constant and slope, (number, pixels)."""
        turbulence = rng.normal(size=(number, len(self.band))) @ self.modes[2:]
        return np.asarray(turbulence + np.sqrt(self.fine) * rng.normal(size=turbulence.shape))


class Covariance:
    """``C = sum_k scale_k^2 m_k m_k' + factor * fine * I`` of the modes m_k of a :class:`Sky`.

    Parameters
    ----------
    sky : Sky
    scale : (modes,)
        Factor on each mode.
    factor : float
        Factor on the fine part.
    """

    def __init__(self, sky: Sky, scale: Array, factor: float) -> None:
        self.sky, self.factor = sky, factor
        self.modes = sky.modes * scale[:, None]
        inner = np.eye(len(scale)) + sky.gram * np.outer(scale, scale) / factor
        self._inner = inner
        core = inverse(inner) * np.outer(scale, scale) / (factor * sky.fine) ** 2
        self.precision = Precision(sky, 1.0 / (factor * sky.fine), core)

    def misfit(self, maps: Array) -> float:
        """Mean negative log-likelihood per pixel of maps (maps, pixels)."""
        n = self.modes.shape[1]
        log_det = n * np.log(self.factor * self.sky.fine) + np.linalg.slogdet(self._inner)[1]
        energy = float(np.sum(self.precision.whiten(maps) * maps, axis=1).mean())
        return float(0.5 * (log_det + energy) / n)


class Precision:
    """Inverse of a :class:`Covariance` (Woodbury), ``weight * I - modes' core modes``, or a sum of such.

    Parameters
    ----------
    sky : Sky
    weight : float
    core : (modes, modes)
    """

    def __init__(self, sky: Sky, weight: float, core: Array) -> None:
        self.sky, self.weight, self.core = sky, weight, core

    @classmethod
    def total(cls, precisions: Sequence[Precision], shares: Array) -> Precision:
        """Weighted sum of precisions of one sky, with `shares` (precisions,)."""
        weight = sum(float(s) * p.weight for s, p in zip(shares, precisions, strict=True))
        core = np.sum([s * p.core for s, p in zip(shares, precisions, strict=True)], axis=0)
        return cls(precisions[0].sky, weight, core)

    def of_scaled(self, factor: float) -> Precision:
        """The precision of the covariance times ``factor``."""
        return Precision(self.sky, self.weight / factor, self.core / factor)

    def whiten(self, maps: Array) -> Array:
        """``maps @ C^-1``, (maps, pixels)."""
        return self.apply(Footprints(self.sky, maps))

    def apply(self, footprints: Footprints) -> Array:
        """Like :meth:`whiten`, from the footprints of the maps."""
        return np.asarray(self.weight * footprints.maps - (footprints.along @ self.core) @ self.sky.modes)

    def energies(self, footprints: Footprints) -> Array:
        """``m @ C^-1 @ m`` for each map m, (maps,)."""
        along = footprints.along
        return np.asarray(self.weight * footprints.own - np.einsum("ij,ij->i", along @ self.core, along))

    def products(self, maps: Footprints, others: Footprints, plain: Array) -> Array:
        """``m @ C^-1 @ o`` for each map m and each of `others` o, (maps, others); ``plain`` is ``m @ o``."""
        return np.asarray(self.weight * plain - maps.along @ (self.core @ others.along.T))


class LocalPrecision:
    """Inverse of the covariance of independent dates with a few more modes: ``(C + modes' modes)^-1`` (Woodbury).

    Parameters
    ----------
    sky : Sky
    modes : (modes, pixels)
    """

    def __init__(self, sky: Sky, modes: Array) -> None:
        self.sky, self.modes = sky, modes
        self.whitened = sky.precision.whiten(modes)
        self.core = inverse(np.eye(len(modes)) + self.whitened @ modes.T)
        self._uncertain: Array | None = None

    def whiten(self, maps: Array) -> Array:
        """Maps (maps, pixels) times this inverse."""
        return np.asarray(self.sky.precision.whiten(maps) - (maps @ self.whitened.T) @ self.core @ self.whitened)

    def energies(self, maps: Array, of_sky: Array) -> Array:
        """``m (C + modes' modes)^-1 m'`` for each map m (maps, pixels), (maps,); ``of_sky`` is ``m C^-1 m'``."""
        along = maps @ self.whitened.T
        return np.asarray(of_sky - np.einsum("ij,ij->i", along @ self.core, along))

    def rows(self, pixels: NDArray[np.intp]) -> Array:
        """Rows of this inverse, (pixels, all pixels)."""
        sky = self.sky.precision
        found = -(self.sky.modes[:, pixels].T @ sky.core) @ self.sky.modes
        found[np.arange(len(pixels)), pixels] += sky.weight
        return np.asarray(found - (self.whitened[:, pixels].T @ self.core) @ self.whitened)

    def explained(self, pixels: NDArray[np.intp], rows: Array) -> Array:
        """The inverse's ``rows`` of some pixels times the covariance of the sky without constant and fine part."""
        constant = self.sky.modes[0]
        known = -self.sky.fine * rows - np.outer(rows @ constant, constant)
        known[np.arange(len(pixels)), pixels] += 1.0
        return np.asarray(known)

    @property
    def uncertain(self) -> Array:
        """Posterior variance of the atmosphere, as :attr:`.Sky.uncertain`, (pixels,)."""
        if self._uncertain is None:  # no cached_property, which up to Python 3.11 lets other threads wait
            sky = self.sky
            constant = self.modes @ (sky.modes.T @ sky.precision.core[0]) * sky.fine
            own = sky.fine * self.whitened + np.outer(constant, sky.modes[0])
            self._uncertain = np.asarray(sky.uncertain + np.sum(own * (self.core @ own), axis=0))
        return self._uncertain


class Footprints:
    """Products of maps (maps, pixels) with the modes, (maps, modes), which all precisions of one sky share."""

    def __init__(self, sky: Sky, maps: Array) -> None:
        self.sky, self.maps = sky, maps
        self.along = maps @ sky.modes.T

    @cached_property
    def own(self) -> Array:
        """``m @ m``, (maps,)."""
        return np.einsum("ij,ij->i", self.maps, self.maps)

    @cached_property
    def energy(self) -> Array:
        """Energies in the metric of the sky of independent dates, (maps,)."""
        return self.sky.precision.energies(self)


def sky_statistics(residual: Array, grid: Grid) -> Sky:
    """Estimate the statistics of the sky from a series without motion.

    Parameters
    ----------
    residual : (dates, pixels)
        Radians.
    grid : Grid
        The spectrum is estimated from the good dates; the strength of bad dates is multiplied by ``BAD``.
    """
    height, valid, good = grid.height, grid.valid, grid.good
    residual = residual - residual.mean(axis=1, keepdims=True)  # the mean of what was subtracted is no sky
    slopes = height_slopes(residual, height)
    turbulent = residual - slopes[:, None] * height
    strength = date_strength(turbulent)
    strength[grid.bad] *= BAD
    unit = turbulent / strength[:, None]
    smooth, wavenumber, noise = radial_spectrum(unit[good], valid)
    cycles = wavenumber * min(valid.shape)
    signal = np.where(wavenumber * SHORTEST <= 1.0, smooth - noise, 0.0)
    signal[signal < 0.2 * noise] = 0.0
    signal[0, 0] = 0.0
    modes = _cosines(signal, valid)
    held = float((modes**2).sum()) / valid.sum()
    fine = max(float(unit[good].var()) - held, noise)
    of_mode = cycles.ravel()[np.flatnonzero(signal)]
    slope_std = 2 * float(np.std(slopes / strength))
    constant = np.full(valid.sum(), FREE * np.sqrt(held + fine))
    return Sky(
        residual=residual,
        unit=unit,
        strength=strength,
        height=height,
        slope_std=slope_std,
        modes=np.vstack([constant, height * slope_std, modes]),
        band=np.digitize(of_mode, EDGES) - 1,
        fine=fine,
        noise=noise,
    )


def inverse(matrix: Array) -> Array:
    """Inverse of a symmetric positive definite matrix by its Cholesky factor, three times as fast as a general one.

    Raises
    ------
    numpy.linalg.LinAlgError
        If it is not positive definite.
    """
    if not len(matrix):
        return matrix
    factor, status = lapack.dpotrf(matrix, lower=0)
    if status == 0:
        factor, status = lapack.dpotri(factor, lower=0)
    if status != 0:
        raise np.linalg.LinAlgError("the matrix is not positive definite")
    upper = np.triu(factor)
    return np.asarray(upper + np.triu(upper, 1).T)


def _cosines(variance: Array, valid: NDArray[np.bool_]) -> Array:
    """Cosine modes of these variances (height, width) on the valid pixels, (modes, pixels); none where it is 0."""
    chosen = np.flatnonzero(variance)
    units = np.zeros((len(chosen), variance.size))
    units[np.arange(len(chosen)), chosen] = np.sqrt(variance.ravel()[chosen])
    return np.asarray(idctn(units.reshape(len(chosen), *valid.shape), axes=(1, 2), norm="ortho")[:, valid])


def typical_factor(scores: Array, widths: Array) -> float:
    """Factor by which the variance of a map exceeds chance at places that do not move (Efron, 2004).

    Motion is sparse, so the median over places of the scores of bells of one width belongs to ground that does not
    move.

    Parameters
    ----------
    scores : (bells,)
        By chance, chi-squared with one degree of freedom.
    widths : (bells,)

    Returns
    -------
    float
        Median over the widths, at least 1.
    """
    medians = [np.median(scores[widths == w]) for w in np.unique(widths) if (widths == w).sum() >= 8]
    return max(1.0, float(np.median(medians or [0.0])) / CHI2_MEDIAN)


def slowness(
    sky: Sky, values: Array, motion: Array, start: Slowness, typical: float, information: Array | None = None
) -> Slowness:
    """Estimate the variance of the sky in one function of time relative to independent dates, band by band.

    The estimate is restricted maximum likelihood by expectation and maximisation (Dempster et al., 1977), with the maps
    of the motion found, the constant and the slope with height as unknowns. The log factors of neighbouring bands are
    tied by a random walk. The factor of a broad band is limited by the extrapolation from the bands where motion is
    sparse and by the typical factor, because the band may contain motion as broad as the scene.

    Parameters
    ----------
    sky : Sky
    values : (pixels,)
        Map of the function of time in units of the sky's strength.
    motion : (pieces, pixels)
        Maps of the motion found in this function.
    start : Slowness
        First value of the iteration.
    typical : float
        See :func:`typical_factor`.
    information : (pieces,), optional
        Inverse of the prior variance of the amplitude of each piece of motion, whose prior mean is zero. It assigns a
        piece that is probably due to chance to the sky, without abrupt changes. By default the amplitudes are free.
    """
    unknown = np.vstack([np.ones(len(values)), sky.height / max(float(sky.height.std()), 1e-12), *motion])
    k = len(unknown)
    known = np.full(k, 1e-8)
    if information is not None:
        known[2:] += information
    design = np.vstack([unknown, sky.modes[2:]])
    gram, right, energy = design @ design.T / sky.fine, design @ values / sky.fine, float(values @ values) / sky.fine
    bands, fine = np.maximum(start.bands, 1.0), max(start.fine, 1.0)
    for _ in range(REML_STEPS):
        prior = np.r_[known, 1 / bands[sky.band]]
        covariance = inverse(np.diag(prior) + gram / fine)
        mean = covariance @ (right / fine)
        second = mean[k:] ** 2 + np.diag(covariance)[k:]
        found = np.bincount(sky.band, second, minlength=N_BANDS) / np.maximum(sky.modes_of_band, 1.0)
        bands = np.maximum(_smooth(found, sky.modes_of_band), LEAST)
        left = energy - 2 * mean @ right + mean @ gram @ mean + np.sum(gram * covariance)
        fine = max(float(left) / len(values), LEAST)
    bands = np.maximum(bands, 1.0)
    limit = _limit(bands, sky.modes_of_band, typical)
    return Slowness(np.minimum(bands, limit), max(fine, 1.0), np.minimum(limit / bands, 1.0))


def _limit(bands: Array, weight: Array, typical: float) -> Array:
    """Largest factor of each band, from the bands where motion is sparse and from the typical factor."""
    growth = (CENTRES / CENTRES[SPARSE[0]]) ** -GROWTH
    some = list(SPARSE)
    level = np.exp((np.log(bands[some] / growth[some]) * weight[some]).sum() / max(weight[some].sum(), 1.0))
    limit = np.where(np.arange(N_BANDS) < SPARSE[0], MARGIN * level * growth, np.inf)
    return np.maximum(np.minimum(limit, MARGIN * typical * np.maximum(growth, 1.0)), 1.0)


def _smooth(found: Array, weight: Array) -> Array:
    """Most probable factors, given mean squares `found` of `weight` modes each and a random walk of the logarithms."""
    step = np.diff(np.eye(N_BANDS), axis=0)
    tie = step.T @ step / WALK**2
    log = np.full(N_BANDS, np.log((found * weight).sum() / max(weight.sum(), 1.0) + 1e-9))
    for _ in range(30):
        ratio = np.minimum(found * np.exp(-log), 1e3)
        curvature = np.diag(weight / 2 * np.maximum(ratio, 0.3)) + tie + 1e-9 * np.eye(N_BANDS)
        change = np.clip(np.linalg.solve(curvature, weight / 2 * (1 - ratio) + tie @ log), -1, 1)
        log -= change
        if np.abs(change).max() < 1e-4:
            break
    return np.asarray(np.exp(log))
