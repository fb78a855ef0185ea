"""Shapes of local motion in space: bells of all widths, moved and stretched to fit, and maps that follow the relief."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from .sky import Footprints, Precision

WIDTHS = (0.03, 0.045, 0.07, 0.1, 0.15, 0.2, 0.3)
"""Standard deviations of the bells, fractions of the scene's shorter side."""
FULL_WIDTH = 2 * np.sqrt(2 * np.log(2))
"""Full width at half maximum of a bell, in its standard deviations."""
NARROWEST = 1.0
"""Width in pixels of the narrowest bells. A wide scene has such, because a pixel may hold a whole local motion."""
THINNEST = 0.75
"""Least standard deviation along the shorter axis of a strong bell, pixels; ``NARROWEST`` for others."""
SPACING = 0.6
"""Distance between bells of one width, in their standard deviations; a pixel at least."""
COVERED = 0.5
"""Least share of a bell on valid ground, in units of the valid share of the scene."""
INSIDE = 0.7
"""Least value of a refined bell on valid ground; the amplitude of one that is centred beyond it is extrapolated."""
MAX_STRETCH = 0.7
"""Half the logarithm of the largest ratio of a bell's axes, which is 4."""
REFINEMENTS = 2
STEPS = (1.0, 0.5, 0.2)
"""Step lengths that are tried, as shares of the Gauss-Newton step."""
RELIEF = tuple(np.arange(0.3, 0.875, 0.05).round(2))
"""Quantiles of the height above which motion that follows the relief is searched for, so close that the choice between
two of them does not decide how much is found. These maps are bent functions of the effective height, in which the
stratified delay is linear (:mod:`.profile`)."""
LEAST_RELIEF = 100.0
"""Range of effective heights in metres below which no such map is tried."""


@dataclass(frozen=True)
class Bells:
    """Gaussian bells on the valid pixels of a grid, and maps that follow the relief.

    Attributes
    ----------
    places : (bells, 5)
        Row, column, logarithm of the width (pixels, geometric mean of both axes), and the ratio of the axes with its
        direction as ``log(ratio) / 2 * (cos 2 angle, sin 2 angle)``, in which a round bell is (0, 0).
    maps : (bells, pixels)
        Of peak 1.
    relief : (bells,) bool
        True for maps that follow the relief; their place is the centroid of the map.
    pixels : (2, pixels)
        Rows and columns.
    side : int
        Shorter side of the grid, pixels.
    """

    places: Array
    maps: Array
    relief: NDArray[np.bool_]
    pixels: Array
    side: int


def make_bells(
    valid: NDArray[np.bool_], height: Array, stable: NDArray[np.bool_] | None = None, wide: bool = False
) -> Bells:
    """Round bells of every width on the valid pixels of a (height, width) grid, and maps that follow the relief.

    ``height`` (pixels,) is the effective one, metres. No bell is centred on ground that is known to be ``stable``. In a
    ``wide`` scene there are also bells of ``NARROWEST``.
    """
    pixels, last = np.array(np.nonzero(valid), dtype=np.float64), np.array(valid.shape) - 1
    side, covered = min(valid.shape), COVERED * valid.mean()
    places, maps = [], []
    narrow = [NARROWEST] if wide else []
    for sigma in np.unique([*narrow, *(max(width * side, 1.0) for width in WIDTHS)]):
        apart = max(SPACING * sigma, 1.0)
        axes = [np.arange(0.5 * min(apart, sigma), size, apart) for size in valid.shape]
        down, across = (
            np.exp(-((line - axis[:, None]) ** 2) / (2 * sigma**2)) for axis, line in zip(axes, pixels, strict=True)
        )
        centres = np.array(list(product(*axes)))
        bells = (down[:, None] * across).reshape(len(centres), -1)
        chosen = bells.sum(axis=1) > covered * 2 * np.pi * sigma**2
        if stable is not None:
            chosen &= ~stable[tuple(np.minimum(np.round(centres).astype(int), last).T)]
        shape = np.broadcast_to([np.log(sigma), 0.0, 0.0], (len(centres), 3))
        places.extend(np.hstack([centres, shape])[chosen])
        maps.extend(bells[chosen])
    n_bells = len(maps)
    if np.ptp(height) > LEAST_RELIEF:
        for share in RELIEF:
            high = np.maximum(height - np.quantile(height, share), 0.0)
            if not high.any():  # the highest ground is level
                continue
            high /= high.max()
            middle = (pixels * high).sum(axis=1) / high.sum()
            places.append(np.array([*middle, np.log(0.35 * side), 0.0, 0.0]))
            maps.append(high)
    relief = np.arange(len(maps)) >= n_bells
    return Bells(np.array(places).reshape(-1, 5), np.array(maps).reshape(-1, pixels.shape[1]), relief, pixels, side)


def reach(place: Array, least: float = 0.01) -> float:
    """Distance in pixels from its centre beyond which a bell of peak 1 is below ``least`` in any direction."""
    return float(np.sqrt(-2 * np.log(least)) * np.exp(place[2] + np.hypot(place[3], place[4])))


def bell_map(place: Array, pixels: Array) -> Array:
    """Gaussian bell of peak 1 at ``place`` (see :class:`Bells`) on ``pixels`` (2, pixels), (pixels,)."""
    y, x = pixels[0] - place[0], pixels[1] - place[1]
    stretch = np.hypot(place[3], place[4])
    # the logarithm of a symmetric 2 x 2 matrix with eigenvalues +- stretch, exponentiated
    even, odd = np.cosh(2 * stretch), np.sinh(2 * stretch) / max(stretch, 1e-12)
    distance = (x**2 + y**2) * even - odd * (place[3] * (x**2 - y**2) + 2 * place[4] * x * y)
    return np.asarray(np.exp(-distance / (2 * np.exp(2 * place[2]))))


def refined(
    place: Array, along: Array, precision: Precision, bells: Bells, thinnest: float = NARROWEST
) -> tuple[Array, Array, float]:
    """Move, stretch and turn a bell to where it scores best (Gauss-Newton with the amplitude projected out).

    Parameters
    ----------
    place : (5,)
        See :class:`Bells`.
    along : (pixels,)
        The data in the metric of the sky, ``C^-1 y``.
    precision : Precision
        ``C^-1``.
    bells : Bells
    thinnest : float
        Least standard deviation along the shorter axis, pixels.

    Returns
    -------
    place : (5,)
    shape : (pixels,)
        Map of peak 1.
    score : float
        Chi-squared by which the bell explains the data.
    """
    pixels = bells.pixels
    narrowest, broadest = np.log(thinnest), np.log(max(WIDTHS) * bells.side)
    size = np.exp(place[2])
    scale = np.array([0.5 * size, 0.5 * size, 0.3, 0.2, 0.2])
    shape = bell_map(place, pixels)
    score = float((shape @ along) ** 2 / precision.energies(Footprints(precision.sky, shape[None]))[0])
    for _ in range(REFINEMENTS):
        slopes = [(bell_map(place + h, pixels) - bell_map(place - h, pixels)) / 0.02 for h in np.diag(0.01 * scale)]
        tangent = np.vstack([shape, slopes])
        footprints = Footprints(precision.sky, tangent)
        gram, right = precision.products(footprints, footprints, tangent @ tangent.T), tangent @ along
        gram[np.diag_indices_from(gram)] *= 1.0 + 1e-3
        solution = np.linalg.solve(gram, right)
        if solution[0] == 0:
            break
        step = np.clip(solution[1:] / solution[0], -1.0, 1.0)
        tried = place + np.outer(STEPS, step * scale)
        tried[:, 2] = np.clip(tried[:, 2], narrowest, broadest)
        stretch = np.hypot(*tried[:, 3:].T)
        most = np.minimum(MAX_STRETCH, tried[:, 2] - narrowest)
        tried[:, 3:] *= np.minimum(1.0, most / np.maximum(stretch, 1e-12))[:, None]
        shapes = np.array([bell_map(one, pixels) for one in tried])
        reached = (shapes @ along) ** 2 / precision.energies(Footprints(precision.sky, shapes))
        reached[shapes.max(axis=1) < INSIDE] = 0.0
        best, before = int(reached.argmax()), score
        if not reached[best] > before * (1 + 1e-6):
            break
        place, shape, score = tried[best], shapes[best], float(reached[best])
        if score < before * (1 + 1e-3):
            break
    return place, shape, score
