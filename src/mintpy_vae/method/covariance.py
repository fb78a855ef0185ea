"""Simple statistics of the atmosphere of one stack: strength of the dates, spectrum, trend with height."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.ndimage import distance_transform_edt

from ..arrays import Array

FLATTEN = 0.25
"""Exponent of the spectrum: 0 would leave the maps unchanged, 0.5 would make the atmosphere white."""
UNDO_ROUNDS = 20
"""Number of iterations; each reduces the error due to gaps in the maps to a tenth to a quarter."""


def date_strength(residual: Array) -> Array:
    """Strength e_t of the atmosphere of each date, (dates,), relative to the stack's; robust to local motion.

    Parameters
    ----------
    residual : (dates, pixels)
        Radians, free of deformation and of the height trend.
    """
    spread = _spread(residual)
    spread = np.maximum(spread, 0.1 * np.median(spread) + 1e-12)
    return np.asarray(spread / np.exp(np.log(spread).mean()))


def strength_of(new: Array, residual: Array) -> Array:
    """Strength of ``new`` dates (new dates, pixels) relative to those of ``residual``; see :func:`date_strength`."""
    spread = _spread(residual)
    least = 0.1 * np.median(spread) + 1e-12
    return np.asarray(np.maximum(_spread(new), least) / np.exp(np.log(np.maximum(spread, least)).mean()))


def _spread(residual: Array) -> Array:
    """Robust standard deviation of each map, (dates,)."""
    return np.asarray(1.4826 * np.median(np.abs(residual - np.median(residual, axis=1, keepdims=True)), axis=1))


def height_slopes(maps: Array, height: Array) -> Array:
    """Least-squares slope of each map (maps, pixels) against ``height`` (pixels,), zero mean; (maps,) rad per unit."""
    return np.asarray(maps @ height / max(float(height @ height), 1e-12))


def without_height(maps: Array, height: Array) -> Array:
    """Maps (maps, pixels) without their linear trend with ``height`` (pixels,), zero mean."""
    return np.asarray(maps - height_slopes(maps, height)[:, None] * height)


def radial_spectrum(residual: Array, valid: NDArray[np.bool_]) -> tuple[Array, Array, float]:
    """Variance of each cosine mode of a stationary isotropic field.

    This is the power spectrum of maps (dates, pixels), averaged over dates and smoothed by a polynomial in log-log.

    Returns
    -------
    variance, wavenumber : (height, width)
        Variance of each mode, 0 for the constant; wavenumber in cycles per pixel.
    noise : float
        Variance of the white noise, from the flat end of the spectrum.
    """
    shape = valid.shape
    power = (dctn(fill(residual, valid), axes=(1, 2), norm="ortho") ** 2).mean(axis=0)
    power *= residual.var() / max(float(power.ravel()[1:].sum()) / power.size, 1e-30)
    rows, columns = np.meshgrid(np.arange(shape[0]) / shape[0], np.arange(shape[1]) / shape[1], indexing="ij")
    wavenumber = np.hypot(rows, columns) / 2
    some = wavenumber > 0
    fit = np.polyfit(np.log(wavenumber[some]), np.log(power[some] + 1e-30), 5)
    smooth = np.zeros(shape)
    smooth[some] = np.exp(np.polyval(fit, np.log(wavenumber[some])))
    smooth *= power[some].sum() / smooth.sum()
    noise = max(float(np.median(power[wavenumber > 0.35])), 1e-3 * float(residual.var()))
    return smooth, wavenumber, noise


class Flattener:
    """Filter that makes the large and small scales of the atmosphere more alike, so that local motion stands out.

    Parameters
    ----------
    residual : (dates, pixels)
        Radians, free of deformation as far as known, at unit strength.
    valid : (height, width) bool
    """

    def __init__(self, residual: Array, valid: NDArray[np.bool_]) -> None:
        self.valid = valid
        variance, wavenumber, _ = radial_spectrum(residual, valid)
        variance[0, 0] = variance[wavenumber > 0].max()
        self.gain = (variance / variance[wavenumber > 0].mean()) ** -FLATTEN

    def __call__(self, maps: Array) -> Array:
        """Flattened maps (maps, pixels), each with zero mean."""
        return self._scaled(maps, self.gain)

    def undo(self, flat: Array) -> Array:
        """Invert the filter: zero-mean maps (maps, pixels) whose flattened maps are ``flat``, up to the means."""
        maps = self._scaled(
            flat, 1 / self.gain
        )  # exact without gaps, because gaps are filled differently before and after
        for _ in range(0 if self.valid.all() else UNDO_ROUNDS):
            maps += self._scaled(flat - self(maps), 1 / self.gain)
        return maps

    def _scaled(self, maps: Array, gain: Array) -> Array:
        modes = dctn(fill(maps, self.valid), axes=(1, 2), norm="ortho") * gain
        scaled = idctn(modes, axes=(1, 2), norm="ortho")[:, self.valid]
        return np.asarray(scaled - scaled.mean(axis=1, keepdims=True))


def fill(maps: Array, valid: NDArray[np.bool_]) -> Array:
    """Maps (maps, height, width) with the pixels that are not valid taken from their nearest valid neighbour."""
    full = np.zeros((len(maps), *valid.shape))
    full[:, valid] = maps
    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.asarray(full[:, nearest[0], nearest[1]])
