"""Open and check a stack and its geometry."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from . import checks, units
from .hdf5 import damage, existing, open_hdf5
from .workers import Compute


@dataclass(frozen=True, eq=False)
class Stack:
    """Everything about a stack except its phase and coherence.

    Attributes
    ----------
    file, geometry_file : Path
        Absolute paths.
    phase_name : str
        The dataset that MintPy would invert.
    pairs : (pairs, 2) int array
        Indices into `dates`, of all pairs, kept or dropped; the later date may be the first.
    dates : list of str
        YYYYMMDD or YYYYMMDDTHHMM, sorted, of all pairs.
    keep : (pairs,) bool array
        False for pairs that MintPy ignores in the inversion.
    shape : (int, int)
        Length and width.
    wavelength : float
        Metres.
    ref_yx : (int, int) or None
        Reference pixel, None if MintPy has not selected one yet.
    attributes : dict of str
        Root attributes.
    height : (length, width) float32 array
        Metres, NaN where unknown.
    land : (length, width) bool array or None
        True on land; None if the geometry file has no water mask.
    compute : Compute
        How blocks of the stack are processed.
    warnings : list of str
        Warnings about the stack.
    """

    file: Path
    geometry_file: Path
    phase_name: str
    pairs: np.ndarray
    dates: list[str]
    keep: np.ndarray
    shape: tuple[int, int]
    wavelength: float
    ref_yx: tuple[int, int] | None
    attributes: dict[str, str]
    height: np.ndarray
    land: np.ndarray | None
    compute: Compute = Compute()
    warnings: list[str] = field(default_factory=list)

    @property
    def metres_per_radian(self) -> float:
        """Displacement towards the satellite for one radian of phase, which grows when the ground moves away."""
        return -self.wavelength / (4 * np.pi)


def open_stack(
    stack_file: str | os.PathLike[str],
    geometry_file: str | os.PathLike[str] | None = None,
    template: Mapping[str, Any] | None = None,
) -> Stack:
    """Check a stack and its geometry.

    Parameters
    ----------
    stack_file : path
        ``PROJECT/inputs/ifgramStack.h5``.
    geometry_file : path, optional
        Default: the neighbour ``geometryGeo.h5`` or ``geometryRadar.h5``, by the coordinates of the stack.
    template : mapping, optional
        MintPy's options; ``mintpy.unwrapError.method`` selects the phase, ``mintpy.compute.*`` the workers.

    Raises
    ------
    InputError
        For anything that prevents a correction, in one sentence.
    """
    path = existing(stack_file, "stack")
    phase_name = checks.phase_name(template or {})
    with open_hdf5(path) as f, damage(path):
        attributes = checks.attributes(f)
        checks.check_attributes(path, attributes)
        shape = checks.size(path, attributes)
        checks.check_datasets(path, f, phase_name, shape)
        first, second, keep = checks.read_pairs(path, f)
        dates = sorted(set(first) | set(second))
        index = {date: i for i, date in enumerate(dates)}
        pairs = np.array([[index[a], index[b]] for a, b in zip(first, second, strict=True)], dtype=np.int64)
        ref_yx = checks.reference_pixel(path, attributes, shape)
        wavelength = checks.wavelength(path, attributes)
        geometry_path = checks.geometry_file(path, geometry_file, attributes)
        height, land, warnings = checks.read_geometry(geometry_path, shape)
        checks.check_data(path, f, phase_name, keep, land)
        units.check_coherence(path, f, phase_name)
        if ref_yx is not None:
            warnings += checks.check_reference(path, f, phase_name, keep, ref_yx)
    return Stack(
        path,
        geometry_path,
        phase_name,
        pairs,
        dates,
        keep,
        shape,
        wavelength,
        ref_yx,
        attributes,
        height,
        land,
        Compute.from_template(template or {}),
        warnings,
    )
