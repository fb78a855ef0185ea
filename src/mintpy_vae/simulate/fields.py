"""Random fields of ground and atmosphere: turbulence, stratified delay, ramps, terrain, water, coherence."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import fft, ndimage

from ..arrays import Raster
from .storage import Storage, in_memory


def turbulence_psd(frequency: Raster, slope: float = 8 / 3) -> Raster:
    """Power spectral density, up to a factor, of the delay in a SAR image.

    There are three regimes with 1-D exponents -5/3 (wavelengths of 1.5 to 50 km), -8/3 (0.25 to 1.5 km) and -2/3
    (below), of Hanssen (2001), eq. 4.7.28; the 2-D spectrum of an isotropic field falls off one power faster. It is
    flat beyond 50 km.

    Parameters
    ----------
    frequency : array of any shape
        Spatial frequency in cycles per metre.
    slope : float
        Exponent of the 2-D spectrum between 1.5 and 50 km.
    """
    f1, f2 = 1 / 1500.0, 1 / 250.0
    f = np.maximum(frequency, 1 / 50000.0)
    large = (f / f1) ** -slope
    middle = (f / f1) ** (-11 / 3)
    small = (f2 / f1) ** (-11 / 3) * (f / f2) ** (-5 / 3)
    return np.where(f < f1, large, np.where(f < f2, middle, small))


def turbulence(
    rng: np.random.Generator, number: int, shape: tuple[int, int], pixel: float, new: Storage = in_memory
) -> Raster:
    """Independent turbulent screens of expected standard deviation 1 within the scene.

    White noise is filtered in the Fourier domain on a grid twice the scene, so that opposite sides are not alike.

    Returns
    -------
    (number, length, width) float32
    """
    return screens(rng, number, shape, amplitude(shape, lambda fy, fx: turbulence_psd(np.hypot(fy, fx) / pixel)), new)


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], exponent: float) -> Raster:
    """One self-affine field, 2-D spectrum f**-exponent, scaled to 0..1; (length, width) float32."""
    floor = 0.5 / min(shape)
    field = screens(rng, 1, shape, amplitude(shape, lambda fy, fx: np.maximum(np.hypot(fy, fx), floor) ** -exponent))[0]
    return (field - field.min()) / np.ptp(field)


def amplitude(shape: tuple[int, int], psd: Callable[[Raster, Raster], Raster]) -> Raster:
    """Filter that gives :func:`screens` the spectrum `psd` and expected standard deviation 1 within the scene.

    Parameters
    ----------
    shape : (length, width)
    psd : callable
        Function of the frequencies down and across, cycles per pixel, which broadcast to the filter's shape.

    Returns
    -------
    float32, on the frequencies of `scipy.fft.rfft2` on a grid twice the scene
    """
    length, width = shape
    grid = _grid(shape)
    down, across = frequencies(shape)
    power = psd(down, across)
    power[0, 0] = 0.0

    # expected variance relative to the mean of the scene: each wave minus its share in the mean
    window = np.zeros(grid, np.float32)
    window[:length, :width] = 1 / (length * width)
    held = np.abs(fft.rfft2(window)) ** 2
    twice = np.full(power.shape[1], 2.0)
    twice[0] = 1.0
    if grid[1] % 2 == 0:
        twice[-1] = 1.0
    variance = np.sum(power * (1 - held) * twice) / (grid[0] * grid[1])
    return np.sqrt(power / variance).astype(np.float32)


def screens(
    rng: np.random.Generator, number: int, shape: tuple[int, int], filtered: Raster, new: Storage = in_memory
) -> Raster:
    """Independent Gaussian fields (number, length, width), float32: white noise filtered by an :func:`amplitude`."""
    grid = _grid(shape)
    out = new((number, *shape), np.float32)
    for k in range(number):
        noise = rng.standard_normal(grid, dtype=np.float32)
        out[k] = fft.irfft2(fft.rfft2(noise) * filtered, s=grid)[: shape[0], : shape[1]]
    return out


def frequencies(shape: tuple[int, int]) -> tuple[Raster, Raster]:
    """Frequencies down (rows, 1) and across (1, columns) of a filter, cycles per pixel."""
    grid = _grid(shape)
    return fft.fftfreq(grid[0])[:, None], fft.rfftfreq(grid[1])[None, :]


def _grid(shape: tuple[int, int]) -> tuple[int, int]:
    """Shape of at least twice the scene for which Fourier transforms are fast."""
    return fft.next_fast_len(2 * shape[0], real=True), fft.next_fast_len(2 * shape[1], real=True)


def ramps(rng: np.random.Generator, number: int, shape: tuple[int, int]) -> Iterator[Raster]:
    """Random planes of expected standard deviation 1 within the scene; each (length, width) float32."""
    y = np.linspace(-np.sqrt(3), np.sqrt(3), shape[0], dtype=np.float32)[:, None]
    x = np.linspace(-np.sqrt(3), np.sqrt(3), shape[1], dtype=np.float32)[None, :]
    slopes = rng.standard_normal((2, number), dtype=np.float32) * np.float32(np.sqrt(0.5))
    return (down * y + across * x for down, across in slopes.T)


def stratified(height: Raster, strength: float, scale_height: float) -> Raster:
    """Stratified delay strength * exp(-height / scale_height) of one date, metres; (length, width) float32."""
    return np.float32(strength) * np.exp(-height.astype(np.float32) / np.float32(scale_height))


def terrain(
    rng: np.random.Generator, shape: tuple[int, int], relief: tuple[float, float], water: float, coast: bool
) -> tuple[Raster, Raster]:
    """Fractal relief with a lake in the hollows, or a sea along one side.

    Returns
    -------
    height : (length, width) float32, metres; 0 in water
    land : (length, width) bool
    """
    ground = smooth_field(rng, shape, 3.4)
    if coast:
        angle = rng.uniform(0, 2 * np.pi)
        y = np.linspace(-1, 1, shape[0], dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, shape[1], dtype=np.float32)[None, :]
        ground = ground + np.float32(0.6 * np.sin(angle)) * y + np.float32(0.6 * np.cos(angle)) * x
    level = float(np.quantile(ground, water)) if water > 0 else float(ground.min()) - 1.0
    sea = _without_specks(ground < level, max(10, round(0.003 * ground.size)))
    low = max(level, float(ground.min()))
    rise = np.clip((ground - low) / (float(ground.max()) - low), 1e-3, 1)
    # slightly convex: broad valleys, narrow summits
    height = relief[0] + (relief[1] - relief[0]) * rise**1.3
    height[sea] = 0.0
    return height.astype(np.float32), ~sea


def _without_specks(mask: Raster, smallest: int) -> Raster:
    labels, count = ndimage.label(mask)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    return sizes[labels] >= smallest


def patch(rng: np.random.Generator, shape: tuple[int, int], share: float) -> Raster:
    """A connected, irregular patch of at most `share` of the scene; (length, width) bool."""
    field = smooth_field(rng, shape, 3.0)
    labels, _ = ndimage.label(field > np.quantile(field, 1 - share))
    return labels == np.argmax(np.bincount(labels[labels > 0]))


def phase_noise_std(coherence: Raster, looks: float) -> Raster:
    """Standard deviation of the interferometric phase, radians, at most that of a uniform phase.

    The Cramer-Rao bound sqrt((1 - g^2) / (2 L g^2)) of Rodriguez & Martin (1992), eq. 23.
    """
    g2 = np.maximum(np.square(coherence), 1e-4)
    return np.minimum(np.sqrt((1 - g2) / (2 * looks * g2)), np.float32(np.pi / np.sqrt(3)))
