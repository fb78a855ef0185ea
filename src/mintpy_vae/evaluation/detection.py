"""Detection curve: the amplitude from which motion of a width and duration is found on the user's own stack.

Known motion is added to the multilooked pairs at several places at a time, and the method is run again with the network
of the stack as it is. A motion counts as found if the method regards at least half of it as motion. The probability of
that as a function of the amplitude is a logistic curve, fitted to a handful of amplitudes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.special import expit, xlogy

from .. import metrics
from ..arrays import Array, Floats, Mask
from ..dates import acquisition_years
from ..errors import InputError
from ..method.separation import Separation
from ..stack.geometry import pixel_size
from .injection import SEEN, Signal
from .rerun import Rerun

SHARES = (0.05, 0.1, 0.2)
"""Widths that are tried if none are given, as shares of the scene's shorter side."""
DURATIONS = (0.0, 60.0, np.inf)
"""Durations in days that are tried if none are given: a step, two months, the whole time span."""
WHOLE = "all"
"""Duration of the whole time span, in ``--detect``."""
FOUND = 0.5
"""Share of a motion that the method must regard as motion. The method weights motion with its probability, so less
than half is what it takes for chance, or for another place, course or size."""
PROBABILITY = 0.9
"""Of being found, at the amplitude that is reported."""
PLACES = 6
"""Largest number of motions that are added at a time."""
APART = 2.0
"""Least distance between them, in their widths: each is below 1 % of its peak at the edge of the next."""
HALVINGS = 8
"""Largest number of times that the first amplitude is halved or doubled."""
SHARPEST, WIDEST = 0.12, 1.0
"""Range of the scale of the logistic curve, in logarithms of the amplitude. At its threshold a motion is 4 to 5 times
its standard deviation, so that noise alone spreads the logarithm by 0.22, the standard deviation of this curve with
scale 0.12."""
LIKELY = 1.92
"""Decrease of the log-likelihood at the ends of a 95 % interval."""


@dataclass(frozen=True)
class Wanted:
    """Widths (km) and durations (days) of ``--detect``; empty for the default ones."""

    widths: tuple[float, ...] = ()
    days: tuple[float, ...] = ()


def parse_wanted(text: str) -> Wanted:
    """Read ``WIDTHS_KM:DAYS``, lists separated by commas; either may be left out.

    Raises
    ------
    InputError
        For anything else.
    """
    widths, _, days = text.partition(":")
    try:
        found = Wanted(
            tuple(float(word) for word in widths.split(",") if widths),
            tuple(np.inf if word == WHOLE else float(word) for word in days.split(",") if days),
        )
        if not all(0 < width < np.inf for width in found.widths) or not all(days >= 0 for days in found.days):
            raise ValueError
    except ValueError:
        raise InputError(
            f"--detect {text}: WIDTHS_KM:DAYS is needed, as in 1,3:0,60,{WHOLE}; 0 days are a step, {WHOLE} is the "
            "whole time span."
        ) from None
    return found


def duration(days: float) -> str:
    """A duration in words."""
    if np.isinf(days):
        return "whole span"
    return f"{days:g} days" if days else "step"


def detect(rerun: Rerun, wanted: Wanted, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Amplitude that is found with 90 % probability, for each width and duration.

    Returns
    -------
    dict
        ``rows``, each with ``width_km`` (full width at half maximum), ``duration`` (in words), ``amplitude`` (mm at
        the peak, at the end of the motion; NaN if fewer are found at the largest one), its 95 % interval ``low`` and
        ``high``, ``middle`` and ``scale`` of the logistic curve in the logarithm of the amplitude, and ``trials``
        (amplitude, number found, number added);
        ``alarms``, motion found without any added: number of ``pieces`` and of ``places``, and share of the scene;
        ``significance``, false-alarm probability of each search.

    Raises
    ------
    NotEnoughEvidence
        If the stack cannot be corrected, or has several islands.
    """
    plain, metres = rerun.plain, abs(rerun.stack.metres_per_radian)
    pixel = 1e-3 * rerun.factor * np.array(pixel_size(rerun.stack.attributes))
    shorter = float((pixel * plain.valid.shape).min())
    widths = wanted.widths or tuple(float(f"{share * shorter:.2g}") for share in SHARES)
    start = 2.0 ** round(np.log2(1000 * metres * float(np.median(plain.noise[0].std(axis=1)))))
    say("detection curve, with one training and 3 to 8 repeats for each width and duration:")
    rows = []
    for width, days in itertools.product(widths, wanted.days or DURATIONS):
        row: dict[str, Any] = {"width_km": width, "duration": duration(days)}
        if width < 2 * pixel.max():
            say(f"  {width:g} km is narrower than two pixels of the training grid ({2 * pixel.max():.2g} km).")
            continue
        motions = _motions(rerun, width, days)

        def found(amplitude: float, motions: Array = motions) -> int:
            other = rerun(1e-3 * amplitude * motions.sum(axis=0), network=plain.network)
            return sum(share >= FOUND for share in shares_found(plain, other, 1e-3 * amplitude * motions / metres))

        trials = [(amplitude, number, len(motions)) for amplitude, number in _ladder(found, len(motions), start)]
        row |= curve(trials) | {"trials": trials}
        rows.append(row)
        if np.isfinite(row["amplitude"]):
            start = 2.0 ** round(np.log2(row["amplitude"]))
        say(f"  {sentence(row)}")
    return {"rows": rows, "alarms": _alarms(plain), "significance": rerun.job.settings.significance}


def sentence(row: Mapping[str, Any]) -> str:
    """A row of :func:`detect` in words."""
    what = f"{row['width_km']:g} km wide, {row['duration']}"
    if not np.isfinite(row["amplitude"]):
        return f"{what}: not found at {max(a for a, *_ in row['trials']):.3g} mm"
    return f"{what}: found from {row['amplitude']:.2g} mm ({row['low']:.2g} to {row['high']:.2g})"


def alarms(found: Mapping[str, Any]) -> str:
    """Motion found without any added, in one sentence."""
    of = found["alarms"]
    return (
        f"Without added motion: {of['pieces']} pieces of motion at {of['places']} places, {of['moving_share']:.1%} of "
        f"the scene; by chance there is one in {found['significance']:.0%} of all searches (vae.significance)."
    )


def shares_found(plain: Separation, other: Separation, motions: Array) -> list[float]:
    """Share of each added motion (motions, dates, h, w) that the method regards as motion, in addition to before.

    It is the regression of the additional motion found on the added one, about the means over the dates, where the
    added one exceeds a tenth of its peak; the unit is that of the separations, radians without their sign.
    """
    both = plain.valid & other.valid
    more = other.deformation.series[:, both[other.valid]] - plain.deformation.series[:, both[plain.valid]]
    shares = []
    for motion in motions:
        truth = -(motion[:, both] - motion[:, both].mean(axis=0))  # phase grows away from the satellite
        size = np.abs(truth).max(axis=0)
        here = size > SEEN * size.max()
        shares.append(metrics.gain(more[:, here], truth[:, here]))
    return shares


def curve(trials: Sequence[tuple[float, int, int]]) -> dict[str, float]:
    """Fit the logistic curve to (amplitude, found, tried) by maximum likelihood; see :func:`detect` for the result."""
    amplitudes, found, tried = (np.array(v, dtype=np.float64) for v in zip(*trials, strict=True))
    x = np.log(amplitudes)
    middles = np.linspace(x.min() - 1.0, x.max() + 1.0, 401)[:, None, None]
    scales = np.geomspace(SHARPEST, WIDEST, 30)[:, None]
    p = expit((x - middles) / scales)
    likelihood = (xlogy(found, p) + xlogy(tried - found, 1 - p)).sum(axis=2)
    at = np.exp((middles + scales * np.log(PROBABILITY / (1 - PROBABILITY)))[..., 0])
    best = np.unravel_index(int(likelihood.argmax()), likelihood.shape)
    likely = at[likelihood >= likelihood.max() - LIKELY]
    complete = bool((found >= PROBABILITY * tried).any())
    return {
        "amplitude": float(at[best]) if complete else float("nan"),
        "low": float(likely.min()),
        "high": float(likely.max()) if complete else float("nan"),
        "middle": float(middles[best[0], 0, 0]),
        "scale": float(scales[best[1], 0]),
    }


def places_for(free: Mask, width: float, number: int = PLACES) -> list[tuple[int, int]]:
    """Pixels for motions of a width (pixels) on ``free`` ground (h, w), far from its edges and ``APART`` widths apart.

    One is always returned, even if there is too little room for it.
    """
    rows, columns = np.indices(free.shape)
    room, places = free.copy(), list[tuple[int, int]]()
    while len(places) < number:
        distance = distance_transform_edt(np.pad(room, 1))[1:-1, 1:-1]
        row, column = (int(k) for k in np.unravel_index(int(np.argmax(distance)), free.shape))
        if places and distance[row, column] < width / 2:
            break
        places.append((row, column))
        room &= np.hypot(rows - row, columns - column) > (APART - 0.5) * width
    return places


def _motions(rerun: Rerun, width: float, days: float) -> Array:
    """Motions of peak 1, (places, dates, h, w): towards and away from the satellite in turns, spread over the time."""
    plain = rerun.plain
    free = plain.valid & ~plain.atmosphere.moving
    if rerun.job.knowledge.stable is not None:
        free &= ~rerun.job.knowledge.stable  # where no motion is searched for
    size = pixel_size(rerun.stack.attributes)
    pixel = size[0] * rerun.factor, size[1] * rerun.factor
    places = places_for(free if free.any() else plain.valid, 1000 * width / float(np.mean(pixel)))
    bell, years = Signal("bowl", width, 1.0), acquisition_years(rerun.dates)
    length = min(days / 365.25, float(np.ptp(years)))
    onsets = np.linspace(0, float(np.ptp(years)) - length, len(places) + 2)[1:-1]
    return np.array(
        [
            (-1) ** k * course(years, onset, length)[:, None, None] * bell.shape(plain.valid, pixel, place)
            for k, (onset, place) in enumerate(zip(onsets, places, strict=True))
        ]
    )


def course(years: Floats, onset: float, length: float) -> Array:
    """Motion from 0 to 1 that begins ``onset`` years after the first date and lasts ``length`` years; (dates,)."""
    since = years - years[0] - onset
    return np.asarray(np.clip(since / length, 0.0, 1.0) if length > 0 else (since >= 0).astype(np.float64))


def _ladder(found: Callable[[float], int], number: int, start: float) -> list[tuple[float, int]]:
    """Numbers found at amplitudes from where none is found to where all are, half an octave apart."""
    steps = {0: found(start)}  # in half octaves
    while steps[max(steps)] < number and max(steps) < 2 * HALVINGS:
        steps[max(steps) + 2] = found(start * 2.0 ** (max(steps) / 2 + 1))
    while steps[min(steps)] > 0 and min(steps) > -2 * HALVINGS:
        steps[min(steps) - 2] = found(start * 2.0 ** (min(steps) / 2 - 1))
    none = max((k for k, n in steps.items() if n == 0), default=min(steps))
    whole = min((k for k, n in steps.items() if n == number and k > none), default=max(steps))
    for k in range(none + 1, whole, 2):
        steps[k] = found(start * 2.0 ** (k / 2))
    return [(start * 2.0 ** (k / 2), steps[k]) for k in sorted(steps)]


def _alarms(plain: Separation) -> dict[str, float]:
    """Motion found in the stack as it is; pieces that overlap are one place."""
    pieces = [piece for piece in plain.deformation.pieces if piece.likely]
    places: list[Array] = []
    for piece in sorted(pieces, key=lambda p: -p.place[2]):  # the broadest first
        if all(np.hypot(*(piece.place[:2] - other[:2])) > 2 * np.exp(other[2]) for other in places):
            places.append(piece.place)
    moving = float(plain.atmosphere.moving[plain.valid].mean())
    return {"pieces": len(pieces), "places": len(places), "moving_share": moving}
