"""Simulated ground motion in metres towards the satellite, 0 on the first date."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..arrays import Raster
from .presets import Preset
from .storage import Storage, in_memory

_LOG_YEARS = 20 / 365.25  # relaxation time of the postseismic logarithm
_CELLS = 400  # along the shorter side, at least, where a larger scene is searched for places
_MOVE_YEARS = 60 / 365.25  # a transient rises for this time; half of it reverses within the same time


def deform(
    rng: np.random.Generator,
    preset: Preset,
    years: Raster,
    height: Raster,
    land: Raster,
    event: float | None = None,
    new: Storage = in_memory,
) -> tuple[Raster, list[float]]:
    """Displacement of one scene.

    Parameters
    ----------
    years : (dates,), time since the first date
    height : (length, width), metres
    land : (length, width) bool; nothing moves in the water
    event : time of the quake in years since the first date, when it is known
    new : where the displacement is kept

    Returns
    -------
    displacement : (dates, length, width) float32, metres
    events : list of float
        Times of the quake, or of the onsets of the transients, in years since the first date.
    """
    out = new((years.size, *height.shape), np.float32)
    events: list[float] = []
    if preset.kind == "none":
        return out, events
    for pattern in _patterns(rng, preset, height, land):
        if preset.kind in ("quake", "transient"):
            peak = rng.uniform(*preset.size) * rng.choice([-1, 1])
            drawn = float(rng.uniform(0.35, 0.65) * years[-1])
            events.append(drawn if event is None else event)
            shape = quake_course if preset.kind == "quake" else transient_course
            course = peak * shape(years - events[-1], preset.postseismic)
        else:
            rate = rng.uniform(*preset.rate)
            phase = 2 * np.pi * (years + rng.uniform())
            course = rate * (years + preset.annual * np.sin(phase))
        pattern *= land
        for layer, size in zip(out, (course - course[0]).astype(np.float32), strict=True):
            layer += size * pattern
    return out, events


def quake_course(years: Raster, postseismic: float) -> Raster:
    """A unit step at 0, then a logarithmic decay that adds `postseismic` in the first year."""
    after = np.maximum(years, 0)
    return (years > 0) * (1 + postseismic * np.log1p(after / _LOG_YEARS) / np.log1p(1 / _LOG_YEARS))


def transient_course(years: Raster, _postseismic: float = 0.0) -> Raster:
    """A smooth rise from 0 to 1 within 60 days, then a return to one half within 60 more."""
    return _smooth_step(years / _MOVE_YEARS) - 0.5 * _smooth_step(years / _MOVE_YEARS - 1)


def _smooth_step(x: Raster) -> Raster:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _patterns(rng: np.random.Generator, preset: Preset, height: Raster, land: Raster) -> list[Raster]:
    """Maps of peak 1 (length, width), float32, one for each deforming body."""
    if preset.kind == "summit":
        return [_summit(height, land)]
    number = int(rng.integers(preset.number[0], preset.number[1] + 1))
    short = min(land.shape)
    wide = preset.width if isinstance(preset.width, tuple) else (preset.width, preset.width)
    centres: list[tuple[float, float, float]] = []
    patterns = []
    for _ in range(number):
        stretch = np.sqrt(rng.uniform(*preset.elongation))
        sigma = rng.uniform(*wide) * short
        long, narrow = sigma * stretch, sigma / stretch
        y, x = _place(rng, land, long, centres)
        centres.append((y, x, long))
        angle = rng.uniform(0, np.pi)
        v = np.arange(land.shape[0], dtype=np.float32)[:, None] - np.float32(y)
        u = np.arange(land.shape[1], dtype=np.float32)[None, :] - np.float32(x)
        along = (np.cos(angle) * u + np.sin(angle) * v) / np.float32(long)
        across = (-np.sin(angle) * u + np.cos(angle) * v) / np.float32(narrow)
        bell = np.exp(-(along**2 + across**2) / 2)
        # thrust: one lobe up, a weaker one down on the other side of the fault
        pattern = bell - 0.4 * np.exp(-(along**2 + (across - 1.8) ** 2) / 2) if preset.kind == "quake" else bell
        patterns.append((pattern / pattern.max()).astype(np.float32))
    return patterns


def _place(
    rng: np.random.Generator, land: Raster, size: float, others: list[tuple[float, float, float]]
) -> tuple[float, float]:
    """A centre on land, as far from water, the scene's sides and the other bodies as the scene allows."""
    step = max(1, min(land.shape) // _CELLS)
    dry = np.pad(land[::step, ::step], 1)
    from_edge = ndimage.distance_transform_edt(dry)[1:-1, 1:-1] * (step / size)
    y, x = step * np.mgrid[: from_edge.shape[0], : from_edge.shape[1]]
    room = np.minimum(from_edge, 2.0)
    for oy, ox, other in others:
        room = np.minimum(room, np.hypot(y - oy, x - ox) / (2 * (size + other)) * 2.0)
    # among the 15 % of the scene with the largest distances, and all places with a sufficient distance
    good = np.flatnonzero(room >= min(2.0, float(np.quantile(room, 0.85))))
    k = int(rng.choice(good))
    return float(step * (k // room.shape[1])), float(step * (k % room.shape[1]))


def _summit(height: Raster, land: Raster) -> Raster:
    """Height above a contour around the highest peak; the largest such area within 10 % of the scene."""
    peak = np.unravel_index(np.argmax(height), height.shape)
    top = float(height[peak])
    for level in np.quantile(height[land], np.linspace(0.5, 0.99, 50)):
        labels, _ = ndimage.label(height > level)
        area = labels == labels[peak]
        if area.mean() <= 0.10:
            break
    return (area * (height - level) / (top - level)).astype(np.float32)
