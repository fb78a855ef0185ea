"""The atmosphere's spatial statistics, learned from one stack: a Gaussian prior in a few hundred modes.

The atmosphere of a date is modelled as ``a_t ~ N(0, e_t^2 C)``, independent from date to date, with a strength e_t of
its own. C is the sum of what the network learned of this stack's patterns, a stationary spectrum (turbulence looks
alike everywhere; Hanssen, 2001), a part proportional to height, and white noise. How much weight the network's patterns
get is decided by dates that it did not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.ndimage import distance_transform_edt

from .training import Fit

Array = NDArray[np.float64]
FREE = 100.0
"""Standard deviation of the constant of each date, in units of the atmosphere's: in effect unknown."""
FLATTEN = 0.25
"""Exponent of the spectrum; 0 would leave the maps as they are, 0.5 make the atmosphere white."""
NETWORK_SHARES = (0.0, 0.1, 0.25, 0.5, 0.75)
UNDO_ROUNDS = 20
"""Each leaves a tenth to a quarter of the error that gaps make in the maps."""


@dataclass(frozen=True)
class Prior:
    """Covariance ``C = modes' modes + noise I`` of the atmosphere on the valid pixels, plus a free constant.

    Attributes
    ----------
    modes : (modes, pixels)
        Each scaled by its standard deviation, radians. The first is the constant, the second the height.
    noise : float
        Variance of what the modes do not hold, rad^2.
    """

    modes: Array
    noise: float

    def __post_init__(self) -> None:
        inner = np.eye(len(self.modes)) + self.modes @ self.modes.T / self.noise
        object.__setattr__(self, "_inverse", np.linalg.inv(inner))
        object.__setattr__(self, "_log_det", np.linalg.slogdet(inner)[1] + self.modes.shape[1] * np.log(self.noise))

    @cached_property
    def _of_pixels(self) -> Array:
        """The modes, those of a pixel side by side in memory."""
        return np.ascontiguousarray(self.modes.T)

    def coefficients(self, maps: Array) -> Array:
        """Posterior mean of the modes' unit-variance coefficients, (maps, modes), given maps (maps, pixels)."""
        return np.asarray((maps @ self.modes.T / self.noise) @ self._inverse)  # type: ignore[attr-defined]

    def whiten(self, maps: Array) -> Array:
        """``maps @ C^-1`` by the Woodbury identity, (maps, pixels)."""
        return np.asarray((maps - self.coefficients(maps) @ self.modes) / self.noise)

    def metric(self, maps: Array) -> tuple[Array, Array]:
        """Coefficients of maps (maps, pixels) and ``m @ C^-1 @ m`` of each map m, (maps,), without whitening them."""
        along = maps @ self.modes.T
        coefficients = along @ (self._inverse / self.noise)  # type: ignore[attr-defined]
        energy = np.einsum("ij,ij->i", maps, maps) - np.einsum("ij,ij->i", coefficients, along)
        return coefficients, energy / self.noise

    def product(self, maps: Array, coefficients: Array, others: Array) -> Array:
        """``maps @ C^-1 @ others'``, (maps, others), given the `coefficients` of ``maps``."""
        return np.asarray((maps @ others.T - coefficients @ (self.modes @ others.T)) / self.noise)

    def energy(self, one: Array) -> float:
        """``one @ C^-1 @ one`` of one map (pixels,); what is 0 costs nothing."""
        there = np.flatnonzero(one)
        along = one[there] @ self._of_pixels[there]
        return float((one @ one - along @ self._inverse @ along / self.noise) / self.noise)  # type: ignore[attr-defined]

    def misfit(self, maps: Array) -> float:
        """Mean negative log-likelihood per pixel of maps (maps, pixels)."""
        energy = np.sum(self.whiten(maps) * maps, axis=1).mean()
        return float(0.5 * (self._log_det + energy) / self.modes.shape[1])  # type: ignore[attr-defined]

    def variance(self, modes: Array | None = None) -> Array:
        """Posterior variance of the modes at each pixel, (pixels,) rad^2, the free constant left out.

        ``modes`` (modes, pixels) are the same ones on other pixels than those observed.
        """
        rest = (self.modes if modes is None else modes)[1:]
        return np.asarray(np.sum(rest * (self._inverse[1:, 1:] @ rest), axis=0))  # type: ignore[attr-defined]


def date_strength(residual: Array) -> Array:
    """Strength e_t of the atmosphere of each date, (dates,), relative to the stack's; robust to local motion.

    Parameters
    ----------
    residual : (dates, pixels)
        Radians, free of deformation and of the height trend.
    """
    spread = 1.4826 * np.median(np.abs(residual - np.median(residual, axis=1, keepdims=True)), axis=1)
    spread = np.maximum(spread, 0.1 * np.median(spread) + 1e-12)
    return np.asarray(spread / np.exp(np.log(spread).mean()))


def height_slopes(maps: Array, height: Array) -> Array:
    """Least-squares slope of each map (maps, pixels) against ``height`` (pixels,), zero mean; (maps,) rad per unit."""
    return np.asarray(maps @ height / max(float(height @ height), 1e-12))


def without_height(maps: Array, height: Array) -> Array:
    """Maps (maps, pixels) without their linear trend with ``height`` (pixels,), zero mean."""
    return np.asarray(maps - height_slopes(maps, height)[:, None] * height)


def radial_spectrum(residual: Array, valid: NDArray[np.bool_]) -> tuple[Array, Array, float]:
    """Variance of each cosine mode of a stationary isotropic field.

    The power spectrum of maps (dates, pixels), averaged over dates and smoothed as a polynomial in log-log.

    Returns
    -------
    variance, wavenumber : (height, width)
        Of each mode, 0 for the constant; cycles per pixel.
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
    """Brings the atmosphere's large and small scales closer to the same strength, so that local motion shows.

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
        """Maps (maps, pixels) with zero mean of which ``flat`` are the flattened ones, but for their means."""
        maps = self._scaled(flat, 1 / self.gain)  # exact without gaps, which are filled before and after differently
        for _ in range(0 if self.valid.all() else UNDO_ROUNDS):
            maps += self._scaled(flat - self(maps), 1 / self.gain)
        return maps

    def _scaled(self, maps: Array, gain: Array) -> Array:
        modes = dctn(fill(maps, self.valid), axes=(1, 2), norm="ortho") * gain
        scaled = idctn(modes, axes=(1, 2), norm="ortho")[:, self.valid]
        return np.asarray(scaled - scaled.mean(axis=1, keepdims=True))


def stationary_modes(residual: Array, valid: NDArray[np.bool_], shortest: float) -> tuple[Array, float]:
    """Cosine modes with the variances of a stationary isotropic field, and the white noise under them.

    The radial power spectrum of the maps is averaged over dates, smoothed as a polynomial in log-log, and its flat end
    is taken as noise.

    Parameters
    ----------
    residual : (dates, pixels)
        On the valid pixels, unit strength.
    valid : (height, width) bool
    shortest : float
        Shortest wavelength of the modes, as a fraction of the scene's shorter side.

    Returns
    -------
    modes : (modes, pixels)
        Scaled by their standard deviations, strongest first.
    noise : float
    """
    shape = valid.shape
    smooth, wavenumber, noise = radial_spectrum(residual, valid)
    signal = np.where(wavenumber * min(shape) * shortest <= 1.0, smooth - noise, 0.0)
    chosen = np.argsort(-signal, axis=None)[: int((signal > 0.2 * noise).sum())]
    units = np.zeros((len(chosen), signal.size))  # none in a stack of nothing but white noise
    units[np.arange(len(chosen)), chosen] = np.sqrt(signal.ravel()[chosen])
    modes = idctn(units.reshape(len(chosen), *shape), axes=(1, 2), norm="ortho")[:, valid]
    left = max(float(residual.var() - (modes**2).sum() / modes.shape[1]), noise)
    return modes, left


def network_modes(fit: Fit, series: Array, valid: NDArray[np.bool_]) -> Array:
    """Modes of the atmosphere as the network knows it: the second moment of its codes of the dates' pairs.

    Parameters
    ----------
    fit : Fit
        A network trained on ``series``.
    series : (dates, height, width)
        Radians.
    valid : (height, width) bool

    Returns
    -------
    (N_BASIS, pixels)
        Scaled so that ``modes' modes`` is the covariance of one date (half that of a pair).
    """
    first, second = np.triu_indices(len(series), 1)
    weights = source_weights(fit, series, first, second)[0].sum(axis=0)
    covariance = weights.T @ weights / (2 * len(weights))
    values, vectors = np.linalg.eigh(covariance)
    root = np.sqrt(np.clip(values, 0, None))[:, None] * vectors.T
    return np.asarray(root @ basis_maps(fit)[:, valid.ravel()])


def principal_modes(residual: Array, number: int = 48) -> Array:
    """Principal components of maps (dates, pixels), scaled by their standard deviations, (modes, pixels).

    The baseline that the network's modes are measured against.
    """
    _, singular, axes = np.linalg.svd(residual, full_matrices=False)
    return np.asarray((singular[:, None] * axes)[:number] / np.sqrt(len(residual)))


def basis_maps(fit: Fit) -> Array:
    """The decoder's basis maps in radians, (N_BASIS, height * width)."""
    with torch.no_grad():
        return fit.model.basis().flatten(1).cpu().double().numpy() * fit.scale


def source_weights(
    fit: Fit, series: Array, first: NDArray[np.integer], second: NDArray[np.integer]
) -> tuple[Array, Array]:
    """Weights of the basis maps for each source of the pairs (first, second) of ``series`` (dates, height, width).

    Returns
    -------
    mean, noise : (slots, pairs, N_BASIS)
        At the posterior mean of the codes, and at one posterior standard deviation.
    """
    data = torch.tensor(series / fit.scale, dtype=torch.float32, device=fit.device)
    i, j = torch.tensor(first, device=fit.device), torch.tensor(second, device=fit.device)
    mean, noise = [], []
    with torch.no_grad():
        for a, b in zip(i.split(256), j.split(256), strict=True):
            codes = fit.model.encode(data[b] - data[a], a, b)
            mean.append(torch.stack(fit.model.source_weights(codes.mean)))
            noise.append(torch.stack(fit.model.source_weights(codes.variance.sqrt())))
    return torch.cat(mean, dim=1).cpu().double().numpy(), torch.cat(noise, dim=1).cpu().double().numpy()


def build_prior(
    stationary: tuple[Array, float], network: Array, share: float, height: Array, height_std: float
) -> Prior:
    """Prior with ``share`` of the variance from the network's modes and the rest from the stationary ones.

    ``height`` (pixels,) has zero mean, and ``height_std`` is the standard deviation of its slope over the dates.
    """
    spectral, noise = stationary
    total = float((spectral**2).sum() / spectral.shape[1] + noise)
    free = np.full((1, spectral.shape[1]), FREE * np.sqrt(total))
    relief = height[None] * height_std
    # what the network leaves out is kept as stationary variance, so that both shares describe the same energy
    parts = [free, relief, np.sqrt(1.0 - share) * spectral]
    if share > 0:
        parts.append(np.sqrt(share) * network)
    left = (1.0 - share) * noise + share * max(total - float((network**2).sum() / spectral.shape[1]), noise)
    return Prior(np.concatenate(parts), left)


def choose_share(
    stationary: tuple[Array, float], network: Array, held_out: Array, shares: Sequence[float] = NETWORK_SHARES
) -> tuple[float, dict[float, float]]:
    """Share of the network's modes under which dates it did not see are likeliest.

    Parameters
    ----------
    stationary, network
        Estimated without the held-out dates.
    held_out : (dates, pixels)
        Unit strength, height trend removed.
    shares : sequence of float
        Candidates.

    Returns
    -------
    share : float
    misfits : dict
        Negative log-likelihood per pixel for each share.
    """
    flat = np.zeros(held_out.shape[1])
    misfits = {s: build_prior(stationary, network, s, flat, 0.0).misfit(held_out) for s in shares}
    return min(misfits, key=lambda s: misfits[s]), misfits


def fill(maps: Array, valid: NDArray[np.bool_]) -> Array:
    """Maps (maps, height, width) with the pixels that are not valid taken from their nearest valid neighbour."""
    full = np.zeros((len(maps), *valid.shape))
    full[:, valid] = maps
    nearest = distance_transform_edt(~valid, return_distances=False, return_indices=True)
    return np.asarray(full[:, nearest[0], nearest[1]])
