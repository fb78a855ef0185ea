"""Functions of time in which unsteady motion is uncertain, one set for each motion.

A motion found makes the sky on its ground uncertain, in the functions of time that it follows. Were these one set for
all motions, each would make the sky uncertain at all times at which anything moves anywhere.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array
from .joint import Joint
from .timefunctions import TimeFunction

NEGLIGIBLE = 1e-2
"""Motion smaller than this share of the sky's fine part (both standard deviations) leaves the sky certain."""
UNSTEADY_DAYS = 50
"""Days by which unsteady motion may begin before, and end after, the function of time that was found."""
MOST_EVENTS = 12
"""Number of the strongest unsteady motions with functions of their own; weaker ones share theirs."""
SMALL = 1e-3
"""Smallest norm of a function of time, in units of the dates' strengths, that is more than rounding."""


def unsteady_motions(joint: Joint, years: Array) -> list[tuple[Array, Array]]:
    """Orthonormal functions of time of each unsteady motion, (functions, dates), and motion's size in them, (pixels,).

    A motion may last longer than the scanned function that was found for it: a step is added at every date from
    ``UNSTEADY_DAYS`` before it to as many days after it. The course of a cluster comes from the data and needs none.
    The persistent functions are taken out, and from each motion's functions those of stronger ones; motion counts in
    the functions of another as far as their own functions overlap. Motion counts as far as it is made of pieces.
    """
    n, found = joint.rotation.number, joint.deformation
    reach, name_of_piece = UNSTEADY_DAYS / 365.25, np.array([piece.function for piece in found.pieces])
    spans, sizes = [], []
    for f in (f for f in joint.functions if f.family and f.name in found.functions):
        own = name_of_piece == f.name
        weights = joint.rotation.functions(found.weights[own])[:, n:]  # all in the direction of f
        size = np.linalg.norm(weights.T @ found.maps[own], axis=0)
        if not size.max() > NEGLIGIBLE * np.sqrt(joint.sky.fine):
            continue  # it does not reach this tile, or does not show on coarse pixels
        first, last = _changes(f, years) if not f.of_cluster else (np.inf, -np.inf)
        dates = np.flatnonzero((years >= first - reach) & (years <= last + reach))
        steps = [(years >= years[k]).astype(np.float64) for k in dates if k > 0]
        sizes.append(size)
        spans.append(_span(joint.rotation.functions(np.array([f.values, *steps]))[:, n:]))
    order = np.argsort([-float(size @ size) for size in sizes], kind="stable")
    taken, events = np.zeros((0, len(years) - 1 - n)), []
    for group in [*([k] for k in order[:MOST_EVENTS]), list(order[MOST_EVENTS:])]:
        window = np.vstack([taken[:0], *(spans[k] for k in group)])
        new = _span(window - window @ taken.T @ taken)
        if len(new):
            taken = np.vstack([taken, new])
            square = np.zeros(found.maps.shape[1])
            for span, size in zip(spans, sizes, strict=True):
                shared = float(((new @ span.T) ** 2).sum()) / max(min(len(new), len(span)), 1)
                square += min(shared, 1.0) * size**2
            events.append((new @ joint.rotation.basis[n:], np.sqrt(square)))
    return events


def _span(rows: Array) -> Array:
    """Orthonormal basis of the rows; directions that are small in all of them are left out."""
    _, singular, axes = np.linalg.svd(rows, full_matrices=False)
    return np.asarray(axes[singular > SMALL])


def _changes(function: TimeFunction, years: Array) -> tuple[float, float]:
    """Times at which the change of an unsteady function begins and ends; a decay has only a beginning."""
    at = years[np.flatnonzero(np.diff(function.values)) + 1]
    return float(at[0]), float(at[0] if function.family == "log" else at[-1])
