"""Input and result of the method on the training grid, in a small file beside the result: ``vae_evidence.h5``.

The report and ``vae_evaluate.py`` read it; MintPy does not.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from ..arrays import Floats
from ..method.observations import Observations
from ..method.recipe import sources_of_atmosphere
from ..method.separation import Separation
from ..stack import Stack, damage, open_hdf5
from ..stack.geometry import pixel_size

EVIDENCE = "vae_evidence.h5"


@dataclass(frozen=True)
class Evidence:
    """Content of the file; every field is a dataset.

    Attributes
    ----------
    dates : (dates,) str
        YYYYMMDD; the dates of kept pairs.
    pairs : (pairs, 2) int
        Kept pairs, indices into `dates`.
    bperp : (pairs,)
        Perpendicular baseline, metres.
    valid : (h, w) bool
        Pixels of the training grid that took part.
    moving : (h, w) bool
        Where motion was found.
    height : (h, w)
        Metres.
    pixel : (2,)
        Size of a pixel of the training grid on the ground, metres, along rows and columns.
    before, after : (dates, pixels)
        Line-of-sight displacement of the valid pixels, metres, relative to the mean over pixels and over dates.
    noise : (2, pairs)
        Spatial standard deviation of each pair before and after, metres, without steady motion.
    points : (sources, axes), source_pairs : (sources, 2), source_labels : (sources,)
        See :class:`~mintpy_vae.method.clustering.Sources`.
    axes : (axes, pixels)
        The axes of `points`, as maps. None in a file of an earlier version.
    maps : (clusters, pixels)
        Mean map of each cluster, unit norm.
    amplitudes : (clusters, dates)
        Amplitude series of each cluster.
    losses : (steps,)
        Training loss of the network that separates sources.
    recipe : (dates, pixels), recipe_slope : (dates,)
        Delay that :mod:`~mintpy_vae.method.recipe` would subtract: metres of displacement, and metres per metre of
        effective height. None in a file of an earlier version.
    profile : (3,)
        Level, bend and offset of the :class:`~mintpy_vae.method.profile.Profile` that gives the effective height. None
        in a file of an earlier version.
    motion : (dates, pixels)
        Displacement of the local motion that was found, metres, mean over dates 0; 0 where none was found. None in a
        file of an earlier version.
    """

    dates: Sequence[str]
    pairs: NDArray[np.integer]
    bperp: Floats
    valid: NDArray[np.bool_]
    moving: NDArray[np.bool_]
    height: Floats
    pixel: Floats
    before: Floats
    after: Floats
    noise: Floats
    points: Floats
    source_pairs: NDArray[np.integer]
    source_labels: NDArray[np.integer]
    maps: Floats
    amplitudes: Floats
    losses: Floats
    recipe: Floats | None = None
    recipe_slope: Floats | None = None
    profile: Floats | None = None
    motion: Floats | None = None
    axes: Floats | None = None

    @property
    def left(self) -> Floats:
        """What is left of each date besides the motion found, millimetres, (dates, h, w); NaN where not valid."""
        motion = 0.0 if self.motion is None else self.motion
        return self.on_grid(1000 * (self.after - motion))

    def on_grid(self, values: Floats) -> Floats:
        """Values (..., pixels) of the valid pixels as maps (..., h, w), NaN elsewhere."""
        maps = np.full((*values.shape[:-1], *self.valid.shape), np.nan)
        maps[..., self.valid] = values
        return maps


def baselines(stack: Stack) -> Floats:
    """Perpendicular baseline of each kept pair, from the earlier to the later date, metres, (pairs,)."""
    with open_hdf5(stack.file) as f:
        sign = np.where(stack.pairs[:, 0] < stack.pairs[:, 1], 1, -1)
        return np.asarray((sign * f["bperp"][:])[stack.keep])


def evidence_of(found: Separation, observations: Observations, noise: Floats, factor: float, stack: Stack) -> Evidence:
    """The evidence of a separation.

    Parameters
    ----------
    found : Separation
    observations : Observations
        The observations that were separated.
    noise : (2, pairs)
        Radians.
    factor : float
        Looks of the training grid.
    stack : Stack
    """
    metres = stack.metres_per_radian
    clusters = found.clusters
    recipe = sources_of_atmosphere(found, observations.pairs)
    return Evidence(
        dates=observations.dates,
        pairs=observations.pairs,
        bperp=baselines(stack),
        valid=found.valid,
        moving=found.atmosphere.moving,
        height=observations.height,
        pixel=np.array(pixel_size(stack.attributes)) * factor,
        before=metres * found.series,
        after=metres * found.corrected,
        noise=abs(metres) * noise,
        points=found.sources.points,
        source_pairs=found.sources.pairs,
        source_labels=found.sources.labels,
        axes=found.sources.axes,
        maps=np.array([c.map for c in clusters]).reshape(len(clusters), -1),
        amplitudes=np.array([c.amplitude for c in clusters]).reshape(len(clusters), -1),
        losses=found.network.losses,
        recipe=metres * recipe.turbulent[:, found.valid],
        recipe_slope=metres * recipe.slope,
        profile=np.array(astuple(found.grid.profile)),
        motion=metres * found.deformation.series,
    )


def write_evidence(file: str | os.PathLike[str], content: Evidence) -> None:
    """Write the file."""
    image = io.BytesIO()  # in memory first: on a full disk HDF5 can crash the process
    with h5py.File(image, "w") as f:
        for item in fields(Evidence):
            values = getattr(content, item.name)
            if values is None:
                continue
            if item.name == "dates":
                f["dates"] = np.array(values, dtype="S")
                continue
            array = np.asarray(values)
            array = array.astype(np.float32) if array.dtype.kind == "f" else array
            f.create_dataset(item.name, data=array, compression="gzip" if array.size > 1000 else None)
    Path(file).write_bytes(image.getbuffer())


def read_evidence(work_dir: str | os.PathLike[str]) -> Evidence | None:
    """Read the file of a work directory; None if there is none, as for an uncorrected stack."""
    file = Path(work_dir, EVIDENCE)
    if not file.is_file():
        return None
    with open_hdf5(file) as f, damage(file):
        content = {item.name: f[item.name][:] for item in fields(Evidence) if item.name in f}
    content["dates"] = [date.decode() for date in content["dates"]]
    for name, values in content.items():
        if name != "dates" and values.dtype.kind == "f":
            content[name] = values.astype(np.float64)
    return Evidence(**content)
