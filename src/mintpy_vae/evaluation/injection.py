"""Injection test: add known motion to copies of the user's own pairs, and measure the share that is kept.

The motion is added to the multilooked pairs on which the method works, in memory; nothing is written. The difference
between the corrected series with and without the added motion is the part of the motion that is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from .. import metrics
from ..arrays import Array
from ..dates import FORMATS, acquisition_years
from ..errors import InputError, NotEnoughEvidence
from ..method.bells import FULL_WIDTH
from ..method.separation import Separation
from ..multilooking import on_pixels
from ..results.evidence import Evidence
from ..stack.geometry import pixel_size
from .rerun import Rerun

KINDS = {"bowl": "mm/yr", "ramp": "mm/yr", "step": "mm", "season": "mm"}
"""Signals and the unit of their amplitude."""
WHOLE = (95, 105)
"""Range of the kept percentage within which a signal counts as kept completely."""
SEEN, STILL = 0.1, 0.01
"""Shares of the peak: the gain is computed on ground above the first, relative to ground below the second."""


@dataclass(frozen=True)
class Signal:
    """A motion to inject.

    Attributes
    ----------
    kind : str
        A key of :data:`KINDS`.
    width : float
        Full width at half maximum, km; 0 for a ramp.
    amplitude : float
        Peak, towards the satellite; for a ramp, the difference from edge to edge.
    date : str
        Date of a step, YYYYMMDD or YYYYMMDDTHHMM; empty for the middle of the time span.
    """

    kind: str
    width: float
    amplitude: float
    date: str = ""

    def course(self, dates: Sequence[str]) -> Array:
        """Function of time (dates,), in the unit of the amplitude or that times years."""
        years = acquisition_years(dates)
        if self.kind in ("bowl", "ramp"):
            return np.asarray(years - years[0])
        if self.kind == "season":
            return np.asarray(np.sin(2 * np.pi * years) - np.sin(2 * np.pi * years[0]))
        if not self.date:
            return np.asarray(years > years.mean(), dtype=np.float64)
        after = np.array([date >= self.date for date in dates])
        if after.all() or not after.any():
            raise InputError(f"--inject step on {self.date}: there must be dates before and after it.")
        return after.astype(np.float64)

    def shape(self, valid: NDArray[np.bool_], pixel: tuple[float, float], centre: tuple[int, int]) -> Array:
        """Map (h, w) with peak 1; for a ramp, 1 from edge to edge."""
        rows, columns = np.indices(valid.shape)
        if self.kind == "ramp":
            return np.asarray(columns / max(valid.shape[1] - 1, 1))
        y, x = (rows - centre[0]) * pixel[0], (columns - centre[1]) * pixel[1]
        sigma = 1000 * self.width / FULL_WIDTH
        return np.asarray(np.exp(-(y**2 + x**2) / (2 * sigma**2)))

    def name(self) -> str:
        """The signal in words, for messages."""
        size = f"{abs(self.amplitude):g} {KINDS[self.kind]}"
        if self.kind == "ramp":
            return f"a ramp of {size} across the scene"
        what = {"bowl": "a bowl", "step": "a step", "season": "seasonal motion"}[self.kind]
        return f"{what} {self.width:g} km wide and {size} strong"


def parse_signals(texts: Sequence[str]) -> list[Signal]:
    """Signals of ``KIND:WIDTHS:AMPLITUDES[:DATE]``, lists separated by commas; a ramp has no width.

    Raises
    ------
    InputError
        For anything else.
    """
    found = []
    for text in texts:
        kind, *rest = text.split(":")
        try:
            if kind not in KINDS:
                raise ValueError
            if kind == "ramp":
                rest = ["0", *rest]
            numbers = [[float(v) for v in part.split(",")] for part in rest[:2]]
            date = rest[2] if len(rest) == 3 and kind == "step" else ""
            wrong = len(numbers) != 2 or len(rest) > (3 if kind == "step" else 2)
            if wrong or (kind != "ramp" and min(numbers[0]) <= 0) or 0 in numbers[1] or len(date) not in (0, *FORMATS):
                raise ValueError
        except ValueError:
            raise InputError(
                f"--inject {text}: KIND:WIDTH_KM:AMPLITUDE is needed, as in bowl:1,3:2,10, ramp:10, step:5:15:20190701 "
                "or season:5:10."
            ) from None
        found += [Signal(kind, width, size, date) for width, size in itertools.product(*numbers)]
    return found


def inject(
    rerun: Rerun, signals: Sequence[Signal], evidence: Evidence | None, say: Callable[[str], None] = print
) -> list[dict[str, Any]]:
    """Inject each signal and compute its gain.

    Returns
    -------
    list of dict
        ``kind``, ``width_km``, ``amplitude``, ``unit``, ``gain`` (of the displacement about its mean over time),
        ``row`` and ``column`` of its centre in the stack, ``name`` and ``sentence``.

    Raises
    ------
    NotEnoughEvidence
        If the stack itself cannot be corrected, or has several islands.
    """
    courses = [1e-3 * signal.amplitude * signal.course(rerun.dates) for signal in signals]
    say(f"injecting {len(signals)} signals, with one training for each and one without any signal:")
    plain = rerun.plain
    moving = plain.atmosphere.moving if evidence is None else evidence.moving
    centre = _quiet_place(plain.valid, moving)
    pixel = pixel_size(rerun.stack.attributes)
    size = pixel[0] * rerun.factor, pixel[1] * rerun.factor
    row_of_stack, column_of_stack = (round(on_pixels(k, rerun.factor)) for k in centre)
    rows = []
    for signal, course in zip(signals, courses, strict=True):
        width = signal.width or round(size[1] * plain.valid.shape[1] / 1000, 1)
        row: dict[str, Any] = {"kind": signal.kind, "width_km": width, "amplitude": signal.amplitude}
        row |= {"unit": KINDS[signal.kind], "row": row_of_stack, "column": column_of_stack}
        gain, words = (
            float("nan"),
            f"is narrower than two pixels of the training grid ({2e-3 * max(size):.2g} km): not tested.",
        )
        if 1000 * width >= 2 * max(size):
            motion = course[:, None, None] * signal.shape(plain.valid, size, centre)
            try:
                gain = kept(plain, rerun(motion), motion, rerun.stack.wavelength)
                words = f"keeps {gain:.0%} of its amplitude."
            except NotEnoughEvidence as reason:
                words = f"leaves the stack uncorrected, because {reason}."
        name = signal.name()
        rows.append(row | {"gain": gain, "name": name, "sentence": f"{name[0].upper()}{name[1:]} {words}"})
        say(f"  {rows[-1]['sentence']}")
    return rows


def unsafe(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Warning that lists the signals of :func:`inject` that are not kept completely; empty if all are."""
    lost: list[str] = []
    safe: list[str] = []
    for row in rows:
        if np.isfinite(row["gain"]):
            percent = round(100 * row["gain"])
            whole = WHOLE[0] <= percent <= WHOLE[1]
            (safe if whole else lost).append(f"{row['name']} ({percent} %)")
    if not lost:
        return []
    return [
        f"Signals that are not kept completely: {'; '.join(lost)}. The percentage is the share of the injected motion "
        "that was kept. The missing part was removed as atmosphere, an excess is atmosphere regarded as motion, "
        f"and real motion of that size fares alike. Kept to {WHOLE[0]} to {WHOLE[1]} %: {'; '.join(safe) or 'none'}."
    ]


def kept(plain: Separation, found: Separation, motion: Array, wavelength: float) -> float:
    """Gain: share of the injected motion (dates, h, w), metres, in the difference of two corrected series."""
    both = plain.valid & found.valid
    difference = found.corrected[:, both[found.valid]] - plain.corrected[:, both[plain.valid]]
    difference = difference * (-wavelength / (4 * np.pi))
    truth = motion[:, both] - motion[:, both].mean(axis=0)
    peak = np.abs(motion[:, both] - motion[:1, both]).max(axis=0)
    still, seen = peak < STILL * peak.max(), peak > SEEN * peak.max()
    if still.sum() < 10:  # the signal is as wide as the scene: use all pixels, relative to their mean
        still[:] = seen[:] = True
    difference = difference - difference.mean(axis=0)
    levels = [v[:, still].mean(axis=1, keepdims=True) for v in (difference, truth)]
    return metrics.gain((difference - levels[0])[:, seen], (truth - levels[1])[:, seen])


def _quiet_place(valid: NDArray[np.bool_], moving: NDArray[np.bool_]) -> tuple[int, int]:
    """Pixel farthest from known motion, gaps and edges."""
    free = np.pad(valid & ~moving if (valid & ~moving).any() else valid, 1)
    distance = distance_transform_edt(free)[1:-1, 1:-1]
    row, column = np.unravel_index(int(np.argmax(distance)), valid.shape)
    return int(row), int(column)
