"""A stack that has grown: which pairs are those of an earlier stack, and what is kept of an earlier result."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .hdf5 import damage, open_hdf5, runs
from .reading import Stack

__all__ = ["DIGITS", "EarlierLayers", "names_of_pairs", "pair_hashes"]

_LAYERS = "coherence", "connectComponent"
DIGITS = 20
"""Digits of a SHA-256 that are kept of a pair and of a date."""
_KEY = "S15"  # YYYYMMDDTHHMMSS


def pair_hashes(stack: Stack, layers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Begin of the SHA-256 of the phase, coherence and components of each pair, from those of the layers of the file.

    The pairs are named ``YYYYMMDD_YYYYMMDD`` in the order of the file, the first date first.
    """
    names = (stack.phase_name, *_LAYERS)
    of_pairs = zip(*(layers[name] for name in names if len(layers.get(name, ())) == len(stack.pairs)), strict=True)
    digests = [hashlib.sha256("".join(parts).encode()).hexdigest()[:DIGITS] for parts in of_pairs]
    return dict(zip(names_of_pairs(stack), digests, strict=True))


def names_of_pairs(stack: Stack) -> list[str]:
    """``YYYYMMDD_YYYYMMDD`` for each pair, in the order of the file, the first date first."""
    return ["_".join(stack.dates[k] for k in pair) for pair in stack.pairs]


@dataclass(frozen=True)
class EarlierLayers:
    """Layers of an earlier result that the result of a grown stack keeps, bit by bit.

    Attributes
    ----------
    file : Path
    name : str
        Of the dataset, (layers, length, width).
    place : (layers of the grown stack,) int array
        Where each of these is in the file, -1 if it is new.
    """

    file: Path
    name: str
    place: np.ndarray

    @classmethod
    def of(cls, file: Path, name: str, keys: np.ndarray, new: Sequence[str]) -> EarlierLayers:
        """The layers that belong to ``keys``, dates (layers,) or pairs of dates (layers, 2) of the grown stack.

        Those of the dates ``new`` are new even if the file has them: it may have had dropped pairs of these only.
        """
        with open_hdf5(file) as f, damage(file):
            known = {key.tobytes(): k for k, key in enumerate(np.asarray(f["date"][:]).astype(_KEY))}
        place = np.array([known.get(key.tobytes(), -1) for key in np.asarray(keys).astype(_KEY)])
        fresh = np.isin(np.asarray(keys).astype(str), list(new)).reshape(len(place), -1).any(axis=1)
        return cls(file, name, np.where(fresh, -1, place))

    @property
    def new(self) -> np.ndarray:
        """Layers that the file does not have, (layers,) bool."""
        return self.place < 0

    def put(self, values: np.ndarray, rows: slice, block: slice = slice(None), per_unit: float = 1.0) -> np.ndarray:
        """Overwrite those of the ``values`` (layers of the block, rows, width) that are kept, times a factor."""
        kept = np.flatnonzero(~self.new[block])
        place = self.place[block][kept]
        with open_hdf5(self.file) as f, damage(self.file):
            for run in runs(place):
                values[kept[run]] = f[self.name][place[run][0] : place[run][-1] + 1, rows]
        if per_unit != 1.0:
            values[kept] *= np.float32(per_unit)
        return values
