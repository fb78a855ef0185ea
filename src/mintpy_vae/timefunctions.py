"""Functions of time that deformation may follow: trend, seasonal, step, postseismic decay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
DECAY_YEARS = (0.02, 0.1, 0.5)
"""Relaxation times that are tried for a postseismic logarithm."""
MIN_NEW = 0.3
"""Least share of a function's variance that must lie outside the span of those known; two steps at neighbouring dates
would together explain anything at the date between them."""
MIN_NEW_GIVEN = 0.01
"""The same for a function that the user names: a step amid the stack is three quarters trend, but meant as a step."""
MIN_EVIDENCE = 6.0
"""Smallest gain in the Bayesian information criterion; 6 counts as strong (Kass and Raftery, 1995)."""


@dataclass(frozen=True)
class TimeFunction:
    """A function of time.

    Attributes
    ----------
    name : str
        For example ``trend``, ``step 20210908``.
    values : (dates,)
    scanned : bool
        Whether it is one of a family scanned over the dates, to be tested against the family's largest chance score.
    """

    name: str
    values: Array
    scanned: bool = False


def acquisition_years(dates: Sequence[str]) -> Array:
    """Times of acquisition in years of 365.25 days since the first date, (dates,), from YYYYMMDD."""
    days = np.array([f"{d[:4]}-{d[4:6]}-{d[6:8]}" for d in dates], dtype="datetime64[D]").astype(np.float64)
    return np.asarray((days - days[0]) / 365.25)


def trend(years: Array) -> TimeFunction:
    """Motion at a constant rate, from 0 to 1 over the stack; ``years`` (dates,)."""
    return TimeFunction("trend", (years - years[0]) / float(np.ptp(years)))


def step(dates: Sequence[str], index: int, scanned: bool = False) -> TimeFunction:
    """Unit step between date ``index - 1`` and date ``index``."""
    return TimeFunction(f"step {dates[index]}", (np.arange(len(dates)) >= index).astype(np.float64), scanned)


def scanned_steps(dates: Sequence[str]) -> list[TimeFunction]:
    """A step at every date that leaves two dates or more on each side."""
    return [step(dates, k, scanned=True) for k in range(2, len(dates) - 1)]


def annual(years: Array) -> list[TimeFunction]:
    """Sine and cosine of one year."""
    phase = 2 * np.pi * years
    return [TimeFunction("annual sine", np.sin(phase)), TimeFunction("annual cosine", np.cos(phase))]


def recognise(amplitude: Array, years: Array, dates: Sequence[str]) -> list[TimeFunction]:
    """Name the functions, besides a line, that an amplitude series follows.

    A seasonal cycle, a step at any date and a step with logarithmic decay (Marone et al., 1991) compete by the Bayesian
    information criterion; a scanned date or relaxation time counts as a parameter.

    Parameters
    ----------
    amplitude, years : (dates,)
    dates : sequence of str
        YYYYMMDD.

    Returns
    -------
    list of TimeFunction
        Empty when a line is enough.
    """
    n = len(years)
    line = np.stack([np.ones(n), years], axis=1)
    candidates: list[tuple[list[TimeFunction], int]] = []
    if years[-1] - years[0] >= 1.0:
        candidates.append((annual(years), 2))
    for k in range(2, n - 1):
        jump = step(dates, k)
        candidates.append(([jump], 2))
        since = np.clip(years - years[k], 0, None)
        for tau in DECAY_YEARS:
            decay = TimeFunction(f"log {dates[k]} {tau:g} yr", np.log1p(since / tau))
            candidates.append(([jump, decay], 4))

    def criterion(functions: list[TimeFunction], parameters: int) -> float:
        design = np.concatenate([line, *[f.values[:, None] for f in functions]], axis=1)
        left = amplitude - design @ np.linalg.lstsq(design, amplitude, rcond=None)[0]
        return float(n * np.log(max(float(left @ left), 1e-30) / n) + parameters * np.log(n))

    best, size = min(candidates, key=lambda c: criterion(*c), default=([], 0))
    return best if criterion([], 0) - criterion(best, size) > MIN_EVIDENCE else []


def adds_to(known: Sequence[TimeFunction], function: TimeFunction, least: float = MIN_NEW) -> bool:
    """Whether more than the share ``least`` of ``function`` is not in the span of a constant and the ``known`` ones."""
    design = np.stack([np.ones(len(function.values)), *(f.values for f in known)], axis=1)
    left = function.values - design @ np.linalg.lstsq(design, function.values, rcond=None)[0]
    return bool(left.var() > least * function.values.var())
