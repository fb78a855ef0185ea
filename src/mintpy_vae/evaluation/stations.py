"""Rates of GNSS stations that the correction was given (``vae.gnssFile``), each compared with itself left out.

The trend of the correction is anchored at these stations, so that agreement with them is no evidence. The method is run
again without each station; the network, which does not depend on stations, is trained once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import metrics
from ..arrays import Floats, Mask
from ..method.gnss_trend import stations_on
from ..method.separation import Separation
from ..multilooking import on_pixels
from .rerun import Rerun

REPEATS = 10
"""Largest number of repeats; of more stations several are left out at a time."""
KINDS = ("without", "with", "left_out")
"""Misfits of a station: no station given to the correction, all given, all but this one."""


def leave_out(rerun: Rerun, say: Callable[[str], None] = print) -> list[dict[str, Any]]:
    """Misfit of the corrected stack at each given station.

    Returns
    -------
    list of dict
        ``station``, ``row`` and ``column`` in the stack, ``rate`` and ``std`` (given), and the misfits ``without``,
        ``with`` and ``left_out``: rate of the corrected stack minus the given one, mm/yr towards the satellite,
        relative to the weighted mean misfit of the stations that the correction was given (of all stations, if none
        was). Empty if the correction was given no station.

    Raises
    ------
    NotEnoughEvidence
        If the stack cannot be corrected, or has several islands.
    """
    if not rerun.job.knowledge.stations:
        return []
    stations, pixels = stations_on(rerun.job.knowledge.stations, rerun.plain.valid)
    if (number := len(stations)) < 2:  # then the method uses none
        return []
    groups = [np.arange(number) % min(number, REPEATS) == k for k in range(min(number, REPEATS))]
    say(f"leaving out GNSS stations, with one training and {len(groups) + 1} repeats:")
    mm = 1000 * rerun.stack.metres_per_radian
    rates, stds = (np.array([getattr(s, key) for s in stations]) for key in ("rate", "std"))

    def misfits(found: Separation, given: Mask) -> Floats:
        misfit = metrics.velocity(found.corrected[:, pixels], found.grid.years) - rates
        known = given if given.any() else np.ones(number, dtype=bool)
        return np.asarray(mm * (misfit - np.average(misfit[known], weights=stds[known] ** -2)))

    def separated(given: Mask) -> Separation:
        chosen = [s for s, chosen in zip(stations, given, strict=True) if chosen]
        return rerun(stations=chosen, network=rerun.plain.network)

    everything, nothing = np.ones(number, dtype=bool), np.zeros(number, dtype=bool)
    alone = separated(nothing)
    found = {"without": misfits(alone, nothing), "with": misfits(rerun.plain, everything)}
    found["left_out"] = np.full(number, np.nan)
    for group in groups:  # a single station anchors nothing
        left = separated(~group) if (~group).sum() > 1 else alone
        found["left_out"][group] = misfits(left, ~group)[group]
    rows = [
        {
            "station": station.name,
            "row": round(on_pixels(station.row, rerun.factor)),
            "column": round(on_pixels(station.column, rerun.factor)),
            "rate": float(mm * station.rate),
            "std": float(abs(mm) * station.std),
            **{key: float(values[k]) for key, values in found.items()},
        }
        for k, station in enumerate(stations)
    ]
    say(f"  {sentence(rows)}")
    return rows


def sentence(rows: Sequence[dict[str, Any]]) -> str:
    """The misfits of all stations in one sentence."""
    rms = {key: float(np.sqrt(np.mean([row[key] ** 2 for row in rows]))) for key in KINDS}
    return (
        f"Misfit at the {len(rows)} GNSS stations given to the correction (RMS): {rms['with']:.1f} mm/yr, "
        f"{rms['left_out']:.1f} mm/yr where the station itself is left out, {rms['without']:.1f} mm/yr without GNSS."
    )


def circular(rows: Sequence[dict[str, Any]], compared: Sequence[str]) -> list[str]:
    """Warning that stations with these names are compared although the correction was given their rates."""
    names = {name.upper() for name in compared}
    both = [row["station"] for row in rows if row["station"].upper() in names]
    if not both:
        return []
    return [
        f"The comparison with GNSS is not independent: the correction was given rates of {', '.join(both)} "
        "(vae.gnssFile); the misfit of a station that is left out is."
    ]
