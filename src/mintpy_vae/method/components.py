"""Connected components of a pair brought to one level, as MintPy's bridging does, but on the training grid alone.

An unwrapper knows the phase of each component but for whole cycles of its own. Where most pairs agree, closure tells
which component is off. Where hardly any do, nothing but the phase on both sides of the gap between two components can.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ..arrays import Floats
from .inversion import misfit_of_groups

Int = NDArray[np.integer]

MAX_OFF = 0.2
"""Share of the components (weighted by their size, without the largest of each pair) that closure calls off, from which
it cannot tell any more which they are."""
EDGE = 2.0
"""Coarse pixels to both sides of a gap that are compared across it."""
WHOLE = 0.25
"""Length of the mean vector of the steps across the gaps, taken as angles, from which constants are whole cycles."""
SMALL = 1.0
"""Radians that a component may be off where constants are no whole cycles."""
PASSES = 5


def level_components(phase: Floats, weight: Floats, components: Int, pairs: Int, n_dates: int) -> NDArray[np.float32]:
    """Phase with one constant for each pair instead of one for each of its connected components.

    Parameters
    ----------
    phase, weight : (pairs, height, width)
        Multilooked phase in radians, and its weight.
    components : (pairs, height, width) int
        Number of the connected component; all without one (0) count as one.
    pairs : (pairs, 2) int
    n_dates : int

    Returns
    -------
    (pairs, height, width) float32
    """
    groups, largest = _groups(components, weight)
    steps = _steps(phase, weight, groups, largest)
    size = np.bincount(groups[weight > 0], minlength=groups.max() + 1)
    size[largest] = 0
    whole = bool(np.abs(np.exp(1j * np.array([step for _, _, step in steps])).mean()) > WHOLE)
    across = _added_up(steps, len(size), whole)
    off = np.zeros(len(size))
    for k in range(PASSES):
        left = misfit_of_groups(phase - off[groups], weight, groups, pairs, n_dates)
        left = left - left[largest][_pair_of(groups)]
        wrong = np.abs(left) > (np.pi if whole else SMALL)
        if k == 0 and size @ wrong > MAX_OFF * size.sum():
            off = across
        elif not wrong.any():
            break
        else:
            off = off + np.where(wrong, 2 * np.pi * np.round(left / (2 * np.pi)) if whole else left, 0)
    return np.where(weight > 0, phase - off[groups], 0).astype(np.float32)


def _groups(components: Int, weight: Floats) -> tuple[Int, Int]:
    """Components of all pairs numbered through, and the number of each pair's largest."""
    groups = np.zeros(components.shape, dtype=np.intp)
    largest, number = [], 0
    for k, (parts, w) in enumerate(zip(components, weight, strict=True)):
        names, own = np.unique(parts, return_inverse=True)
        own = own.reshape(parts.shape)
        groups[k] = number + own
        largest.append(number + int(np.argmax(np.bincount(own[w > 0], minlength=len(names)))))
        number += len(names)
    return groups, np.array(largest)


def _pair_of(groups: Int) -> Int:
    """Pair of each group."""
    found = np.zeros(int(groups.max()) + 1, dtype=np.intp)
    found[groups] = np.arange(len(groups))[:, None, None]
    return found


def _steps(phase: Floats, weight: Floats, groups: Int, largest: Int) -> list[tuple[int, int, float]]:
    """Each component but the largest of its pair, what it is joined to, and the step of phase between both.

    From the largest on it is always the nearest component that is joined, as in MintPy's bridging. The step is the
    median along the gap, of pixels at its edge and those nearest to them on the other side.
    """
    found = []
    for x, w, parts, first in zip(phase, weight, groups, largest, strict=True):
        parts = np.where(w > 0, parts, -1)
        joined = parts == first
        left = set(np.unique(parts[parts >= 0]).tolist()) - {int(first)}
        while left and joined.any():
            distance, nearest = distance_transform_edt(~joined, return_indices=True)
            part = min(left, key=lambda k: (distance[parts == k].min(), k))
            own = parts == part
            edge = own & (distance < distance[own].min() + EDGE)
            there = tuple(axis[edge] for axis in nearest)
            base = int(np.bincount(parts[there]).argmax())
            same = parts[there] == base
            found.append((part, base, float(np.median((x[edge] - x[there])[same]))))
            joined |= own
            left.remove(part)
    return found


def _added_up(steps: list[tuple[int, int, float]], n_groups: int, whole: bool) -> NDArray[np.float64]:
    """What each component is off from the largest of its pair, (groups,) radians."""
    off = np.zeros(n_groups)
    for part, base, step in steps:
        off[part] = off[base] + (2 * np.pi * round(step / (2 * np.pi)) if whole else step)
    return off
