"""Functions of time of deformation: trend, annual cycle, step, postseismic decay, ramp, and the course of a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..dates import acquisition_years

DECAY_YEARS = (0.02, 0.1, 0.5)
"""Relaxation times that are tried for a postseismic logarithm."""
RAMP_DAYS = (60, 120)
"""Durations of the ramps that are scanned, for slow slip and accelerating landslides."""
SCANNED_DECAY = 0.1
"""Relaxation time in years of the logarithms that are scanned, for decelerating motion."""
MIN_NEW = 0.01
"""Least share of a new function's variance outside the span of the known functions; three quarters of a step in the
middle of the stack is trend."""
MAX_LEVERAGE = 0.3
"""Largest share of a course's energy on one date; otherwise the atmosphere of that date would count as motion."""
MIN_BENT = 0.05
"""Least share of a course's variance outside a line; a course that is nearly a line is left to the trend."""
MIN_EVIDENCE = 6.0
"""Smallest gain in the Bayesian information criterion; 6 counts as strong (Kass and Raftery, 1995)."""
DEPENDENT = 1e-8
"""Relative size below which a function of time depends on the others."""
_CLUSTER = "cluster"


@dataclass(frozen=True)
class TimeFunction:
    """A function of time.

    Attributes
    ----------
    name : str
        For example ``trend``, ``step 20210908``.
    values : (dates,)
    family : str
        Name of the family of a function that is scanned over the dates, or ``cluster``; empty for a persistent one.
    """

    name: str
    values: Array
    family: str = ""

    @property
    def of_cluster(self) -> bool:
        """Whether it is the course of a cluster."""
        return self.family == _CLUSTER


def persistent_of(functions: Sequence[TimeFunction]) -> list[TimeFunction]:
    """Those of the functions in which the sky has a covariance of its own; not scanned ones and courses of clusters."""
    return [f for f in functions if not f.family]


def without(series: Array, functions: Sequence[TimeFunction]) -> Array:
    """Series (dates, pixels) without its mean and ``functions``, rescaled to keep the expected variance per date."""
    basis, _ = np.linalg.qr(_design(functions, len(series)))
    return np.asarray((series - basis @ (basis.T @ series)) / _kept(basis)[:, None])


def without_others(left: Array, functions: Sequence[TimeFunction], some: NDArray[np.intp]) -> Array:
    """What is ``left`` of a series by :func:`without`, on ``some`` dates as if there were no others, (some, pixels).

    The mean and the functions were fitted to all dates, so that each date is part of what is left of every other one.
    """
    design = _design(functions, len(left))
    series = left[some] * _kept(np.linalg.qr(design)[0])[some, None]
    # a step, for one, may be constant on these dates
    columns, singular, _ = np.linalg.svd(design[some] / np.abs(design).max(axis=0), full_matrices=False)
    basis = columns[:, singular > DEPENDENT * singular[0]]
    return np.asarray((series - basis @ (basis.T @ series)) / _kept(basis)[:, None])


def _design(functions: Sequence[TimeFunction], n_dates: int) -> Array:
    return np.stack([np.ones(n_dates), *(f.values for f in functions)], axis=1)


def _kept(basis: Array) -> Array:
    """Standard deviation that white dates keep without an orthonormal basis (dates, functions), (dates,)."""
    return np.asarray(np.sqrt(np.maximum(1.0 - (basis**2).sum(axis=1), 0.1)))


def trend(years: Array) -> TimeFunction:
    """Motion at a constant rate, from 0 to 1 over the stack; ``years`` (dates,)."""
    return TimeFunction("trend", (years - years[0]) / float(np.ptp(years)))


def step(dates: Sequence[str], index: int, family: str = "") -> TimeFunction:
    """Unit step between date ``index - 1`` and date ``index``."""
    return TimeFunction(f"step {dates[index]}", (np.arange(len(dates)) >= index).astype(np.float64), family)


def scanned(dates: Sequence[str]) -> list[TimeFunction]:
    """Functions scanned over the dates: a step, a logarithmic decay, and ramps at every date.

    The logarithm describes motion that begins at a date and decelerates (Marone et al., 1991). At least two dates are
    before and after each change; a ramp is at most a quarter of the stack long and contains a date.
    """
    years = acquisition_years(dates)
    found = [step(dates, k, "step") for k in range(2, len(dates) - 1)]
    for k in range(2, len(dates) - 2):
        decay = np.log1p(np.clip(years - years[k], 0, None) / SCANNED_DECAY)
        found.append(TimeFunction(f"log {dates[k]} {SCANNED_DECAY:g} yr", decay, "log"))
    for days in RAMP_DAYS:
        length = days / 365.25
        if length > 0.25 * years[-1]:
            continue
        for k in range(1, len(dates)):
            values = np.clip((years - years[k]) / length, 0.0, 1.0)
            between = ((values > 0) & (values < 1)).any()
            if between and values[-2] == 1.0:
                found.append(TimeFunction(f"ramp {dates[k]} {days} d", values, f"ramp {days} d"))
    return found


def annual(years: Array) -> list[TimeFunction]:
    """Sine and cosine of one year."""
    phase = 2 * np.pi * years
    return [TimeFunction("annual sine", np.sin(phase)), TimeFunction("annual cosine", np.cos(phase))]


def continued(name: str, first: Sequence[str], dates: Sequence[str]) -> TimeFunction:
    """A function of the dates ``first`` at all of ``dates``, which begin with them; ``name`` as given here.

    A trend and an annual cycle go on, a step stays, and a ramp stays at its end. A logarithm goes on to decelerate, but
    for no longer than it has lasted: one that has just begun does not say how far it goes. So do all terms of a sum.

    Raises
    ------
    ValueError
        If no function here has such a name.
    """
    years = acquisition_years(dates)
    weights, terms = _terms(name)
    if weights:
        return weighted_sum(weights, [continued(term, first, dates) for term in terms])
    if name == "trend":
        return TimeFunction(name, years / float(years[len(first) - 1]))
    for function in annual(years):
        if function.name == name:
            return function
    kind, date, *words = name.split()
    since = np.clip(years - years[dates.index(date)], 0.0, None)
    if kind == "step" and not words:
        return TimeFunction(name, (np.arange(len(dates)) >= dates.index(date)).astype(np.float64), "step")
    if kind == "log":
        since = np.minimum(since, 2 * since[len(first) - 1])
        return TimeFunction(name, np.log1p(since / float(words[0])), "log")
    if kind == "ramp":
        return TimeFunction(name, np.clip(since * 365.25 / int(words[0]), 0.0, 1.0), f"ramp {words[0]} d")
    raise ValueError(f"no function of time is named {name}")


def goes_on(function: TimeFunction, dates: Sequence[str]) -> bool:
    """Whether the name of a function of ``dates`` says how it goes on, as :func:`continued` does."""
    try:
        return np.allclose(continued(function.name, dates, dates).values, function.values)
    except ValueError:
        return False


def prolonged(functions: Sequence[TimeFunction], again: Sequence[TimeFunction]) -> list[TimeFunction]:
    """Functions of the first dates at all dates, taken from those of the same names in ``again``.

    Raises
    ------
    ValueError
        If one is missing there or differs on the first dates, with its name.
    """
    longer = {f.name: f for f in again}
    for function in functions:
        n, found = len(function.values), longer.get(function.name)
        if found is None or not np.allclose(found.values[:n], function.values, atol=1e-6 * np.ptp(function.values)):
            raise ValueError(function.name)
    return [longer[f.name] for f in functions]


def _terms(name: str) -> tuple[list[float], list[str]]:
    """Weights and names of the terms in the name of a :func:`weighted_sum`; none in any other name."""
    try:
        split = [term.split(" ", 1) for term in name.split(" + ")]
        return [float(weight) for weight, _ in split], [term for _, term in split]
    except ValueError:
        return [], []


def rate_of(name: str) -> float:
    """Share of a steady rate in a function of this name: 1 for a trend, its weight in a course, 0 in all others."""
    weights, terms = _terms(name)
    return dict(zip(terms, weights, strict=True)).get("trend", 0.0) if weights else float(name == "trend")


class Rotation:
    """Orthonormal coordinates of time: first the persistent functions, then the rest, without the constant.

    The metric accounts for the unequal strengths of the dates: independent noise with these strengths is white in the
    coordinates.

    Parameters
    ----------
    strength : (dates,)
        Strength e_t of the atmosphere.
    persistent : sequence of TimeFunction
        In the order of the coordinates; each is made orthogonal to those before it.
    """

    def __init__(self, strength: Array, persistent: Sequence[TimeFunction]) -> None:
        self.strength, self.number = strength, len(persistent)
        columns = [np.ones(len(strength)), *(f.values for f in persistent)]
        design = np.stack(columns, axis=1) / strength[:, None]
        q, r = np.linalg.qr(design, mode="complete")
        q[:, : len(columns)] *= np.sign(np.diag(r)[: len(columns)])
        self.basis: Array = q[:, 1:].T
        """(coordinates, dates)."""

    def __call__(self, series: Array) -> Array:
        """Coordinates of a series (dates, pixels) in units of the dates' strength, (coordinates, pixels)."""
        return np.asarray(self.basis @ (series / self.strength[:, None]))

    def functions(self, values: Array) -> Array:
        """Coordinates of functions of time (functions, dates), (functions, coordinates)."""
        return np.asarray((values / self.strength) @ self.basis.T)

    def centred(self, values: Array) -> Array:
        """Functions of time (functions, dates) without their mean over dates weighted with 1 / e_t^2."""
        weights = self.strength**-2
        return np.asarray(values - (values @ weights / weights.sum())[..., None])


def recognise(
    amplitude: Array, years: Array, dates: Sequence[str], good: NDArray[np.intp] | slice = slice(None)
) -> list[TimeFunction]:
    """Find the functions of time, in addition to a line, that an amplitude series follows.

    A seasonal cycle, a step at any date and a step with logarithmic decay (Marone et al., 1991) compete by the Bayesian
    information criterion; the date of a step and a relaxation time count as parameters.

    Parameters
    ----------
    amplitude, years : (dates,)
    dates : sequence of str
        YYYYMMDD.
    good : indices, optional
        Dates that count; all by default.

    Returns
    -------
    list of TimeFunction
        Empty if a line is sufficient.
    """
    n, known = len(years), amplitude[good]
    line = np.stack([np.ones(n), years], axis=1)
    candidates: list[tuple[list[TimeFunction], int]] = []
    if years[-1] - years[0] >= 1.0:
        candidates.append((annual(years), 2))
    for k in range(2, n - 1):
        jump = step(dates, k)
        candidates.append(([jump], 2))
        since = np.clip(years - years[k], 0, None)
        for tau in DECAY_YEARS if k < n - 2 else ():
            decay = TimeFunction(f"log {dates[k]} {tau:g} yr", np.log1p(since / tau))
            candidates.append(([jump, decay], 4))

    def criterion(functions: list[TimeFunction], parameters: int) -> float:
        design = np.concatenate([line, *[f.values[:, None] for f in functions]], axis=1)[good]
        left = known - design @ np.linalg.lstsq(design, known, rcond=None)[0]
        return float(len(known) * np.log(max(float(left @ left), 1e-30) / len(known)) + parameters * np.log(len(known)))

    best, size = min(candidates, key=lambda c: criterion(*c), default=([], 0))
    return best if criterion([], 0) - criterion(best, size) > MIN_EVIDENCE else []


def course(
    amplitude: Array, years: Array, dates: Sequence[str], good: NDArray[np.intp] | slice = slice(None)
) -> TimeFunction | None:
    """The course of an amplitude series: a line and what :func:`recognise` finds, fitted and added up.

    Its largest weight is positive and its range over the dates is about 1, since the weights are rounded as in its
    name. None if it is nearly a line, or happens mostly at one date. Parameters as for :func:`recognise`.
    """
    found = recognise(amplitude, years, dates, good)
    if not found:
        return None
    terms = [trend(years), *found]
    design = np.stack([np.ones(len(years)), *(f.values for f in terms)], axis=1)
    weights = np.asarray(np.linalg.lstsq(design[good], amplitude[good], rcond=None)[0][1:], dtype=np.float64)
    weights *= np.sign(weights[np.abs(weights).argmax()]) / np.ptp(design[:, 1:] @ weights)
    whole = weighted_sum(weights, terms)
    bent = _new_part(terms[:1], whole) ** 2
    enough = bent.mean() > MIN_BENT * whole.values.var() and bent.max() < MAX_LEVERAGE * bent.sum()
    return whole if enough else None


def weighted_sum(weights: Sequence[float] | Array, terms: Sequence[TimeFunction]) -> TimeFunction:
    """Sum of functions as one of the family ``cluster``; the name holds the weights, with the precision they have."""
    name = " + ".join(f"{w:.3g} {f.name}" for w, f in zip(weights, terms, strict=True))
    values = np.sum([float(f"{w:.3g}") * f.values for w, f in zip(weights, terms, strict=True)], axis=0)
    return TimeFunction(name, values, _CLUSTER)


def adds_to(known: Sequence[TimeFunction], function: TimeFunction) -> bool:
    """Whether more than ``MIN_NEW`` of the variance of ``function`` is outside the span of a constant and ``known``."""
    return bool(_new_part(known, function).var() > MIN_NEW * function.values.var())


def extended(known: Sequence[TimeFunction], others: Iterable[TimeFunction]) -> list[TimeFunction]:
    """The functions that are known, and those of the others that each add something to the ones before."""
    found = list(known)
    for function in others:
        if adds_to(found, function):
            found.append(function)
    return found


def _new_part(known: Sequence[TimeFunction], function: TimeFunction) -> Array:
    design = np.stack([np.ones(len(function.values)), *(f.values for f in known)], axis=1)
    return np.asarray(function.values - design @ np.linalg.lstsq(design, function.values, rcond=None)[0])
