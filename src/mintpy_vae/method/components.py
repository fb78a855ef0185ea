"""Shift the connected components of a pair to one level, as MintPy's bridging does, but only on the training grid.

Unwrapping leaves an unknown number of whole cycles for each component. If most pairs agree, the closure identifies the
components that are offset. Otherwise only the phase on both sides of the gap between two components can be used.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from ..arrays import Floats
from .inversion import misfit_of_groups

Int = NDArray[np.integer]

MAX_OFF = 0.2
"""Largest share of the components (weighted by size, without the largest of each pair) that the closure may find
offset; above it the closure does not identify them reliably."""
EDGE = 2.0
"""Width, in coarse pixels, of the margins on both sides of a gap that are compared."""
WHOLE = 0.25
"""Length of the mean vector of the steps across the gaps, as angles, above which offsets are taken as whole cycles."""
SMALL = 1.0
"""Largest tolerated offset of a component in radians, where offsets are not whole cycles."""
PASSES = 5


def level_components(phase: Floats, weight: Floats, components: Int, pairs: Int, n_dates: int) -> NDArray[np.float32]:
    """Phase with one constant per pair instead of one per connected component.

    Parameters
    ----------
    phase, weight : (pairs, height, width)
        Multilooked phase in radians, and its weight.
    components : (pairs, height, width) int
        Number of the connected component; all pixels without one (0) count as one component.
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
    """Number the components of all pairs consecutively; also return the number of each pair's largest."""
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
    """List each component except the largest of its pair, the one it is joined to, and the phase step between them.

    Starting from the largest, the nearest component is joined next, as in MintPy's bridging. The step is the median
    along the gap of the difference between pixels at the edge and the nearest pixels on the other side.
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
    """Offset of each component from the largest of its pair, (groups,) radians."""
    off = np.zeros(n_groups)
    for part, base, step in steps:
        off[part] = off[base] + (2 * np.pi * round(step / (2 * np.pi)) if whole else step)
    return off
