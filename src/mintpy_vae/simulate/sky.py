"""Simulate the atmosphere of a stack: the delay of every date in a realistic or in a stationary sky.

The **stationary** sky follows textbooks and the assumptions of the method: Hanssen's turbulence, homogeneous and
isotropic, independent from date to date, with a stratified delay that has an annual cycle.

The **real** sky has the same mean strength, and in addition the properties of stacks of real acquisitions. They are
drawn for each stack from the seed:

- *Stratified delay.* It is white in time, plus an annual cycle and an interannual drift with about 10 times (5 to 40)
the
  energy that white dates would have in an annual cycle and in a trend; lag-1 autocorrelation some 0.25, lag-5 some
  0.15 at 12 days. The slope varies smoothly over the scene by a quarter, mostly in the same way on every date.
- *Turbulence.* Strengths of dates are log-normal, p90 / p10 = 3.5. The 2-D spectrum falls off by 2.4 to 3.5 between 1.5
  and 50 km (Hanssen: 8/3). One date in five is stretched 1.5 to 3 times in some direction. Values are Gaussian.
- *Local variance.* A fixed map, p95 / p5 of 1.5 (small and flat) to 4 (wide, high relief), higher on high ground.
- *Slow turbulence.* The projection of the turbulence on a trend has about 6 times (3 to 15) the variance of independent
  dates, that on annual terms about 3 times (2 to 8), with larger factors at long wavelengths than at short ones.
- *Texture.* At a scale of 1 to 3 pixels the apparent displacement grows with time, 0.4 to 0.9 mm/yr: errors of heights,
  biased phase, true creep of single pixels.

The slow parts have these strengths in 60 dates. With fewer dates they are proportionally weaker; with more dates the
annual part is stronger.

The values come from differences and time series of real Sentinel-1 acquisitions over volcanoes and plateaus. They agree
with the literature: power laws in space and strengths that differ from date to date (Hanssen, 2001;
Emardson et al., 2003), and annual and stratified delays that bias a velocity (Doin et al., 2009).

References
----------
Doin, M.-P., Lasserre, C., Peltzer, G., Cavalie, O., Doubre, C. (2009). Corrections of stratified tropospheric delays in
SAR interferometry. Journal of Applied Geophysics 69.
Emardson, T. R., Simons, M., Webb, F. H. (2003). Neutral atmospheric delay in interferometric synthetic aperture radar
applications. Journal of Geophysical Research 108(B5), 2231.
Hanssen, R. F. (2001). Radar Interferometry: Data Interpretation and Error Analysis. Kluwer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

import numpy as np
from scipy import ndimage

from ..arrays import Raster
from ..dates import acquisition_years
from . import fields
from .presets import Preset
from .storage import Storage, in_memory

Sky = Callable[[np.random.Generator, Preset, list[str], Raster, Raster, float, Storage], Raster]

_SEASON = (0.57, 0.12)
"""Time of the annual maximum, the end of July with a scatter of six weeks; mean and standard deviation, years."""
_PROFILE_SPREAD = 0.15
"""Standard deviation of the logarithm of a date's scale height."""
_MANY = 60
"""Number of dates for which the strengths of the slow parts are given."""
_ANNUAL = ("season", "between")
"""Functions whose energy is proportional to the number of dates; that of a drift is so only for fewer dates."""
_STRENGTH_SPREAD = np.log(3.5) / (2 * 1.2816)
"""Standard deviation of the logarithm of a date's turbulence strength: p90 / p10 = 3.5."""
_SLOW_SLOPE = {"drift": (10.0, 0.6), "bend": (2.0, 0.5), "season": (10.0, 0.5)}
"""Energy of the stratified delay in slow functions of time, in units of the variance of its white part: median, and
standard deviation of the logarithm."""
_SLOW_TURBULENCE = {"drift": (4.0, 0.5), "bend": (1.0, 0.5), "season": (2.0, 0.4), "between": (1.0, 0.4)}
"""The same for the turbulence at 3 cycles per scene, in units of the variance of independent dates."""
_SPECTRAL_SLOPE = (2.4, 3.5)
"""Exponent of the 2-D spectrum between 1.5 and 50 km."""
_REDDER = (0.5, 1.0)
"""Additional exponent of the spectrum of persistent turbulence."""
_TURNED, _DRAWN_OUT = 0.2, (1.5, 3.0)
"""Share of anisotropic dates, and the ratio of their scales along and across."""
_PLACE, _PLACE_AND_DATE = 0.25, 0.15
"""Variation of the slope with height over the scene: common to all dates, and per date."""
_VARIANCE = (1.5, 4.0)
"""Ratio p95 / p5 of the local variance: in a small, flat scene, and in a wide one of high relief."""
_HEIGHT_SHARE = 0.6
"""Correlation of the local variance's logarithm with the height."""


def stationary(
    rng: np.random.Generator,
    case: Preset,
    dates: list[str],
    height: Raster,
    land: Raster,
    pixel: float,
    new: Storage = in_memory,
) -> Raster:
    """Apparent displacement (dates, length, width) of a stationary sky, float32, metres; see :func:`real`."""
    n = len(dates)
    # lognormal strength whose mean square is 1
    spread = case.turbulence_spread
    strength = np.float32(case.turbulence) * np.exp(spread * rng.standard_normal(n) - spread**2).astype(np.float32)
    out = fields.turbulence(rng, n, height.shape, pixel, new)
    for layer, size, ramp in zip(out, strength, fields.ramps(rng, n, height.shape), strict=True):
        layer *= size
        layer += np.float32(case.orbit) * ramp
    season = np.cos(2 * np.pi * (_year_fraction(dates) - rng.normal(*_SEASON)))
    delay = case.stratified_annual * season + case.stratified * rng.standard_normal(n)
    scale = case.scale_height * np.exp(_PROFILE_SPREAD * rng.standard_normal(n))
    for k in range(n):
        out[k] -= fields.stratified(height, delay[k], scale[k])
    return out


def real(
    rng: np.random.Generator,
    case: Preset,
    dates: list[str],
    height: Raster,
    land: Raster,
    pixel: float,
    new: Storage = in_memory,
) -> Raster:
    """Apparent displacement of a real sky.

    Parameters
    ----------
    rng : Generator
    case : Preset
        Mean strengths: `turbulence`, `stratified` with `stratified_annual`, `scale_height`, `orbit`, `texture`.
    dates : list of str, YYYYMMDD
    height : (length, width), metres
    land : (length, width) bool
    pixel : float
        Its size on the ground, metres.
    new : Storage
        Where the result is kept.

    Returns
    -------
    (dates, length, width) float32, metres towards the satellite, not relative to any date
    """
    years = acquisition_years(dates).astype(np.float32)
    slow = _slow_functions(dates, rng.normal(*_SEASON))
    out = _turbulence(rng, slow, height.shape, pixel, new)
    local = np.float32(case.turbulence) * np.sqrt(_local_variance(rng, height, land, pixel))
    ramps = fields.ramps(rng, len(dates), height.shape)
    for layer, ramp, delay in zip(out, ramps, _stratified(rng, case, slow, height, land), strict=True):
        layer *= local
        layer += np.float32(case.orbit) * ramp
        layer -= delay
    texture = _texture(rng, case, height.shape)
    for layer, year in zip(out, years, strict=True):
        layer += year * texture
    return out


SKIES: dict[str, Sky] = {"real": real, "stationary": stationary}


def _year_fraction(dates: list[str]) -> Raster:
    return np.array([datetime.strptime(d, "%Y%m%d").timetuple().tm_yday for d in dates]) / 365.25


def _slow_functions(dates: list[str], peak: float) -> dict[str, Raster]:
    """Interannual and annual functions of time (dates,), each of mean 0 and norm 1."""
    years = acquisition_years(dates)
    phase = np.pi * years / years[-1]
    season = 2 * np.pi * (_year_fraction(dates) - peak)
    courses = {"drift": np.cos(phase), "bend": np.cos(2 * phase), "season": np.cos(season), "between": np.sin(season)}
    centred = {name: c - c.mean() for name, c in courses.items()}
    return {name: c / np.linalg.norm(c) for name, c in centred.items()}


def _energies(rng: np.random.Generator, strengths: dict[str, tuple[float, float]], n: int) -> dict[str, float]:
    """Energy of each slow function in `n` dates, log-normally distributed."""
    share = {name: n / _MANY if name in _ANNUAL else min(1.0, n / _MANY) for name in strengths}
    return {name: share[name] * m * float(np.exp(s * rng.standard_normal())) for name, (m, s) in strengths.items()}


def _turbulence(
    rng: np.random.Generator, slow: dict[str, Raster], shape: tuple[int, int], pixel: float, new: Storage
) -> Raster:
    """Turbulence (dates, length, width), float32, of typical standard deviation 1 without its persistent part."""
    n = slow["drift"].size
    slope = rng.uniform(*_SPECTRAL_SLOPE)
    strength = np.exp(_STRENGTH_SPREAD * rng.standard_normal(n) - _STRENGTH_SPREAD**2).astype(np.float32)
    common = fields.amplitude(shape, _spectrum(pixel, slope))
    out = new((n, *shape), np.float32)
    for k in range(n):
        turned, ratio, angle = rng.uniform() < _TURNED, rng.uniform(*_DRAWN_OUT), rng.uniform(0, np.pi)
        filtered = fields.amplitude(shape, _spectrum(pixel, slope, ratio, angle)) if turned else common
        out[k] = strength[k] * fields.screens(rng, 1, shape, filtered)[0]
    waves = np.hypot(*fields.frequencies(shape)) * min(shape)
    redder = (np.maximum(waves, 1.0) / 3.0) ** (-rng.uniform(*_REDDER) / 2)
    for name, energy in _energies(rng, _SLOW_TURBULENCE, n).items():
        held = fields.screens(rng, 1, shape, common * (np.sqrt(energy) * redder).astype(np.float32))[0]
        for layer, size in zip(out, slow[name].astype(np.float32), strict=True):
            layer += size * held
    return out


def _spectrum(pixel: float, slope: float, ratio: float = 1.0, angle: float = 0.0) -> Callable[[Raster, Raster], Raster]:
    """Spectrum of turbulence whose scales along a direction are `ratio` times those across it."""
    stretch = np.sqrt(ratio)

    def psd(down: Raster, across: Raster) -> Raster:
        u = (np.cos(angle) * across + np.sin(angle) * down) * stretch
        v = (-np.sin(angle) * across + np.cos(angle) * down) / stretch
        return fields.turbulence_psd(np.hypot(u, v) / pixel, slope)

    return psd


def _local_variance(rng: np.random.Generator, height: Raster, land: Raster, pixel: float) -> Raster:
    """Map of the local variance (length, width), float32, with mean 1 on land."""
    side = min(height.shape)
    reach = min(1.0, side * pixel / 60e3) / 2 + min(1.0, float(np.ptp(height[land])) / 3000) / 2
    low, high = np.log(_VARIANCE)
    ratio = low + (high - low) * min(1.0, reach * rng.uniform(0.5, 1.5))
    relief = _standard(ndimage.gaussian_filter(height.astype(np.float64), 0.03 * side), land)
    other = _standard(fields.smooth_field(rng, height.shape, 5.0), land)
    field = _HEIGHT_SHARE * relief + np.sqrt(1 - _HEIGHT_SHARE**2) * other
    field *= ratio / np.ptp(np.quantile(field[land], [0.05, 0.95]))
    variance = np.exp(field)
    return (variance / variance[land].mean()).astype(np.float32)


def _standard(field: Raster, land: Raster) -> Raster:
    """The field with mean 0 and standard deviation 1 on land; 0 where it is flat."""
    centred = field - field[land].mean()
    return np.asarray(centred / max(float(centred[land].std()), 1e-9))


def _stratified(
    rng: np.random.Generator, case: Preset, slow: dict[str, Raster], height: Raster, land: Raster
) -> Iterator[Raster]:
    """Stratified delay of each date (length, width), float32, metres, relative to ground of mean height."""
    n = slow["drift"].size
    course = rng.standard_normal(n)
    energies = _energies(rng, _SLOW_SLOPE, n)
    for name, energy in energies.items():
        sign = 1.0 if name == "season" else rng.choice([-1.0, 1.0])
        course += sign * np.sqrt(energy) * slow[name]
    size = np.sqrt(case.stratified**2 + case.stratified_annual**2 / 2)
    course *= size / np.sqrt(1 + sum(energies.values()) / n)
    scale = case.scale_height * np.exp(_PROFILE_SPREAD * rng.standard_normal(n))
    place = (1 + _PLACE * _standard(fields.smooth_field(rng, height.shape, 5.0), land)).astype(np.float32)
    for k, ramp in enumerate(fields.ramps(rng, n, height.shape)):
        profile = fields.stratified(height, 1.0, scale[k])
        yield (np.float32(course[k]) * place + np.float32(_PLACE_AND_DATE * size) * ramp) * (
            profile - profile[land].mean()
        )


def _texture(rng: np.random.Generator, case: Preset, shape: tuple[int, int]) -> Raster:
    """Fine texture (length, width), float32, m/yr."""
    pixels = rng.uniform(1, 3)  # full width at half maximum of its autocovariance
    field = ndimage.gaussian_filter(rng.standard_normal(shape), pixels / 3.33, mode="wrap")
    return np.asarray(rng.uniform(*case.texture) * field / field.std()).astype(np.float32)
