"""Dates as MintPy writes them: YYYYMMDD, or with the time of day as YYYYMMDDTHHMM or YYYYMMDDTHHMMSS."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

FORMATS = {8: "%Y%m%d", 13: "%Y%m%dT%H%M", 15: "%Y%m%dT%H%M%S"}
"""Format of a date by the length of its text."""


def moment(text: str) -> datetime:
    """Parse a date; a date without the time of day means midnight.

    Raises
    ------
    ValueError
        For text that is not a date of these forms.
    """
    wrong = ValueError(f"{text} is not a date of the form YYYYMMDD or YYYYMMDDTHHMM")
    if len(text) not in FORMATS or not (text.isascii() and text.replace("T", "").isdigit()):
        raise wrong
    try:
        return datetime.strptime(text, FORMATS[len(text)])
    except ValueError:
        raise wrong from None


def moments(dates: Iterable[str]) -> NDArray[np.datetime64]:
    """Parse several dates, (dates,)."""
    return np.array([moment(date) for date in dates], dtype="datetime64[s]")


def acquisition_years(dates: Sequence[str]) -> NDArray[np.float64]:
    """Times of acquisition in years of 365.25 days since the first date, (dates,)."""
    times = moments(dates)
    return np.asarray((times - times[0]) / np.timedelta64(1, "D") / 365.25)
