"""Data shown in the report: the files of a work directory, and values that several sections derive from them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .. import metrics
from ..arrays import Floats
from ..dates import acquisition_years
from ..errors import InputError
from ..method.atmosphere import is_doubtful
from ..multilooking import on_cells
from ..results.evidence import Evidence, read_evidence
from ..results.inverted import Inverted, read_inverted
from ..results.result import RESULT_OF
from ..stack import open_hdf5
from ..stack.geometry import pixel_size
from .frame import Frame, Mark, frame

PIXELS = 22_500
LINE = 60
"""Letters in a line of a text that the pointer shows."""
GUARDED, RELIEF, INJECTED = "Slow change that ", "Slow change that follows the relief", "Signals that are not kept"
"""Beginnings of warnings that have a place;"""
NEW = "New motion"
"""those of dates that were added later."""
EARLIER = (
    "The comparison with other corrections (evaluation.json) is of an earlier result and left out; run vae_evaluate.py "
    "again."
)


def is_guarded(piece: Mapping[str, Any]) -> bool:
    """Whether a warning is about an entry of ``deformation_pieces``: broad or relief-shaped motion of doubtful rate."""
    names = ("function", "relief", "width", "amplitude", "std", "probability")
    return is_doubtful(**{name: piece[name] for name in names})


@dataclass(frozen=True)
class Data:
    """Data of a report.

    `evidence` is None for an uncorrected stack, and where it could not be written; `inverted` is None if MintPy has not
    run. An evaluation of an earlier result is left out.
    """

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
        if evaluation and any(evaluation.get(key) != result.get(key) for key in RESULT_OF):
            result = result | {"warnings": [*result["warnings"], EARLIER]}
            evaluation = None
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
    def factor(self) -> float:
        """Looks of the training grid along both axes."""
        return float(self.found.pixel[0]) / pixel_size(self.attributes)[0] if self.attributes else 1.0

    def frame_of_grid(self, step: int = 1) -> Frame:
        """Frame of the maps of every `step`-th pixel of the training grid."""
        found, start = self.found, step // 2
        pixel = float(found.pixel[0]), float(found.pixel[1])
        return frame(self.attributes, self.factor, pixel, found.height[start::step, start::step], step)

    @cached_property
    def frame(self) -> Frame:
        """Frame of the velocities."""
        if self.inverted is None:
            return self.frame_of_grid()
        inverted = self.inverted
        return frame(inverted.attributes, inverted.factor, inverted.pixel, inverted.height)

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

    def on_velocities(self, row: float, column: float) -> tuple[int, int]:
        """Pixel of the velocities for a pixel of the grid of the evaluation, which may be finer."""
        assert self.inverted is not None and self.evaluation is not None
        ratio = self.evaluation["factor"] / self.inverted.factor
        return int(row * ratio), int(column * ratio)

    @cached_property
    def points(self) -> dict[str, tuple[int, int]]:
        """Pixels (row, column on the grid of the velocities) whose time series are shown."""
        before, after, _ = self.velocities
        if self.evaluation and self.evaluation.get("points"):
            return {name: self.on_velocities(*place) for name, place in self.evaluation["points"].items()}
        scores = {"fastest": np.abs(after), "most changed": np.abs(before - after)}
        found = {}
        for name, score in scores.items():
            y, x = np.unravel_index(int(np.nanargmax(score)), score.shape)
            found[name] = (int(y), int(x))
        return found

    @cached_property
    def warnings(self) -> list[tuple[str, Mark | None]]:
        """Warnings of the correction and of the evaluation, with their marks if they have a place on the maps."""
        found: list[tuple[str, Mark | None]] = []
        number = 0
        for text in [*self.result["warnings"], *(self.evaluation or {}).get("warnings", [])]:
            places = self._places_of(text)
            number += bool(places)
            mark = Mark(number, "<br>".join(textwrap.wrap(text, LINE)), places) if places else None
            found.append((text, mark))
        return found

    @property
    def marks(self) -> list[Mark]:
        """The marks of all warnings that have one."""
        return [mark for _, mark in self.warnings if mark]

    def _places_of(self, warning: str) -> list[tuple[float, float]]:
        """Coordinates of what a warning is about; none if that is the whole stack."""
        if self.evidence is None:
            return []
        at = self.frame_of_grid().at
        if warning.startswith(GUARDED):
            return [
                at(piece["row"], piece["column"])
                for piece in self.result["deformation_pieces"]
                if is_guarded(piece) and piece["relief"] == warning.startswith(RELIEF)
            ]
        if warning.startswith(INJECTED):
            rows = (self.evaluation or {}).get("injection", [])
            return list(dict.fromkeys(at(*self._on_grid(row)) for row in rows))
        if warning.startswith(NEW):
            return [at(*self._on_grid(alarm)) for sentence, alarm in self.alarms if sentence == warning]
        return []

    def _on_grid(self, place: Mapping[str, Any]) -> tuple[float, float]:
        """Row and column of the training grid for those of the stack's own grid."""
        return on_cells(place["row"], self.factor), on_cells(place["column"], self.factor)

    @property
    def alarms(self) -> list[tuple[str, dict[str, Any]]]:
        """Sentence and entry of each alarm of the dates that were added later."""
        of = self.result.get("update", {"sentences": [], "alarms": []})
        return list(zip(of["sentences"][1:], of["alarms"], strict=True))

    @cached_property
    def names(self) -> list[str]:
        """Names of the kept pairs."""
        dates = self.found.dates
        return [f"{dates[i]}_{dates[j]}" for i, j in self.found.pairs]
