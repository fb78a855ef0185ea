"""A stack that has grown: which pairs are those of an earlier stack, and what is kept of an earlier result."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from .hdf5 import damage, open_hdf5, slabs
from .reading import Stack

__all__ = ["DIGITS", "EarlierDates", "keep_layers", "pair_hashes"]

_LAYERS = "coherence", "connectComponent"
DIGITS = 20
"""Digits of a SHA-256 that are kept of a pair and of a date."""
_MEMORY = 0.5  # GB


def pair_hashes(stack: Stack) -> dict[str, str]:
    """Begin of the SHA-256 of the phase, coherence and components of each pair, and whether it is kept.

    The pairs are named ``YYYYMMDD_YYYYMMDD`` in the order of the file, the first date first.
    """
    digests = [hashlib.sha256(b"kept" if kept else b"dropped") for kept in stack.keep]
    with open_hdf5(stack.file) as f, damage(stack.file):
        for name in (stack.phase_name, *_LAYERS):
            if name not in f:
                continue
            for rows, blocks in slabs(f[name], _MEMORY):
                for block in blocks:
                    for digest, values in zip(digests[block], f[name][block, rows], strict=True):
                        digest.update(np.ascontiguousarray(values).data)
    names = ("_".join(stack.dates[k] for k in pair) for pair in stack.pairs)
    return {name: digest.hexdigest()[:DIGITS] for name, digest in zip(names, digests, strict=True)}


@dataclass(frozen=True)
class EarlierDates:
    """Layers of an earlier time series of this tool, for a block of rows.

    Attributes
    ----------
    file : Path
    dates : sequence of str
        Dates to read, in the order of the file.
    per_unit : float
        Factor on the values of the file.
    """

    file: Path
    dates: Sequence[str]
    per_unit: float

    def __call__(self, rows: slice) -> np.ndarray:
        """Values on ``rows``, (dates, rows, width)."""
        with open_hdf5(self.file) as f, damage(self.file):
            some = np.isin(f["date"][:].astype(str), list(self.dates))
            return np.asarray(f["timeseries"][some, rows] * self.per_unit, np.float32)


def keep_layers(earlier: Path, file: Path, name: str) -> None:
    """Overwrite the layers of the earlier dates, or pairs of dates, by those of an earlier file, bit by bit."""
    with open_hdf5(earlier) as old, damage(earlier), h5py.File(file, "r+") as new:
        where = {key.tobytes(): k for k, key in enumerate(_names(new))}
        target = [where[key.tobytes()] for key in _names(old)]
        for rows, blocks in slabs(old[name], _MEMORY):
            for block in blocks:
                for k, values in zip(target[block], old[name][block, rows], strict=True):
                    new[name][k, rows] = values


def _names(f: h5py.File) -> np.ndarray:
    return np.asarray(f["date"][:]).astype("S15")
