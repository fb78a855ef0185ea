"""Data shown in the report: the files of a work directory, and values that several sections derive from them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..arrays import Floats
from ..dates import acquisition_years
from ..errors import InputError
from ..results.evidence import Evidence, read_evidence
from ..results.inverted import Inverted, read_inverted
from ..stack import open_hdf5
from ..stack.geometry import pixel_size

PIXELS = 22_500


@dataclass(frozen=True)
class Data:
    """Data of a report; `evidence` is None for an uncorrected stack, `inverted` is None if MintPy has not run."""

    work: Path
    result: dict[str, Any]
    evaluation: dict[str, Any] | None
    evidence: Evidence | None
    inverted: Inverted | None

    @classmethod
    def read(cls, work: Path, result: dict[str, Any], evaluation: dict[str, Any] | None) -> Data:
        """Read all available files."""
        try:
            inverted = read_inverted(work, PIXELS)
        except InputError:
            inverted = None
        return cls(work, result, evaluation, read_evidence(work), inverted)

    @property
    def found(self) -> Evidence:
        """The evidence, for sections that are made only if there is some."""
        assert self.evidence is not None
        return self.evidence

    @property
    def clusters(self) -> list[dict[str, Any]]:
        """Entries of the clusters that have maps: in a network with islands, the first ones, of the largest island."""
        shown: list[dict[str, Any]] = self.result["clusters"][: len(self.found.maps)]
        return shown

    @cached_property
    def attributes(self) -> dict[str, str]:
        """Of the corrected stack, at full resolution; empty if its files are gone."""
        for name in ("ifgramStack.h5", "VAE.h5"):
            if (file := self.work / "inputs" / name).is_file():
                with open_hdf5(file) as f:
                    return {key: str(value) for key, value in f.attrs.items()}
        return {}

    @cached_property
    def factor(self) -> int:
        """Looks of the training grid along both axes."""
        return max(1, round(float(self.found.pixel[0]) / pixel_size(self.attributes)[0])) if self.attributes else 1

    @cached_property
    def velocities(self) -> tuple[Floats, Floats, tuple[float, float]]:
        """Velocity before and after, mm/yr relative to the scene's median, and the size of a pixel in metres."""
        if self.inverted is not None:
            years, pixel = self.inverted.years, self.inverted.pixel
            maps: tuple[Floats, Floats] = self.inverted.before, self.inverted.after
        else:
            years = acquisition_years(list(self.found.dates))
            pixel = float(self.found.pixel[0]), float(self.found.pixel[1])
            maps = self.found.on_grid(self.found.before), self.found.on_grid(self.found.after)
        before, after = (1000 * metrics.velocity(m, years) for m in maps)
        return before - np.nanmedian(before), after - np.nanmedian(after), pixel

    @cached_property
    def points(self) -> dict[str, tuple[int, int]]:
        """Pixels (row, column on the grid of the velocities) whose time series are shown."""
        before, after, _ = self.velocities
        if self.evaluation and self.evaluation.get("points"):
            # these pixels are on the grid of the evaluation, which may be finer
            assert self.inverted is not None
            ratio = self.evaluation["factor"] / self.inverted.factor
            return {name: (int(y * ratio), int(x * ratio)) for name, (y, x) in self.evaluation["points"].items()}
        scores = {"fastest": np.abs(after), "most changed": np.abs(before - after)}
        found = {}
        for name, score in scores.items():
            y, x = np.unravel_index(int(np.nanargmax(score)), score.shape)
            found[name] = (int(y), int(x))
        return found

    @cached_property
    def names(self) -> list[str]:
        """Names of the kept pairs."""
        dates = self.found.dates
        return [f"{dates[i]}_{dates[j]}" for i, j in self.found.pairs]
