"""What a correction has learned, as far as dates that are added later need it: ``vae_learned.h5``."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, astuple, fields
from pathlib import Path

import h5py
import numpy as np

from ..dates import acquisition_years
from ..method.deformation import Piece, independent_errors
from ..method.observations import Grid
from ..method.profile import Profile
from ..method.sky import Slowness
from ..method.update import Learned
from ..stack import open_hdf5

__all__ = ["LEARNED", "read_learned", "write_learned"]

LEARNED = "vae_learned.h5"
_NUMBERS = [item.name for item in fields(Piece) if item.name not in ("place", "relief", "function")]


def write_learned(file: Path, learned: Learned) -> None:
    """Write the file; all arrays with their full precision."""
    grid, pieces = learned.grid, learned.pieces
    image = io.BytesIO()  # in memory first: on a full disk HDF5 can crash the process
    with h5py.File(image, "w") as f:
        f.attrs.update(number=learned.number, share=learned.share, **asdict(grid.profile))
        f["dates"], f["persistent"] = np.array(learned.dates, "S"), np.array(learned.persistent, "S")
        f["functions"] = np.array([p.function for p in pieces], "S1" if not pieces else "S")
        arrays = {name: getattr(grid, name) for name in ("valid", "height", "good", "bad")}
        arrays |= {name: getattr(learned, name) for name in ("series", "motion", "strength", "maps", "covariance")}
        arrays |= {"places": np.array([p.place for p in pieces]).reshape(-1, 5)}
        arrays |= {"relief": np.array([p.relief for p in pieces], dtype=bool)}
        arrays |= {name: np.array([getattr(p, name) for p in pieces], dtype=float) for name in _NUMBERS}
        arrays |= {f"slow_{k}": np.hstack(astuple(one)) for k, one in enumerate(learned.slow)}
        for name, values in arrays.items():
            f.create_dataset(name, data=values, compression="gzip" if values.size > 1000 else None)
    file.write_bytes(image.getbuffer())


def read_learned(work_dir: str | os.PathLike[str]) -> Learned | None:
    """Read the file of a work directory; None if there is none."""
    file = Path(work_dir, LEARNED)
    if not file.is_file():
        return None
    with open_hdf5(file) as f:
        arrays = {name: item[:] for name, item in f.items()}
        numbers = dict(f.attrs)
    dates, persistent, functions = (
        [text.decode() for text in arrays[name]] for name in ("dates", "persistent", "functions")
    )
    grid = Grid(
        valid=arrays["valid"],
        height=arrays["height"],
        profile=Profile(*(float(numbers[item.name]) for item in fields(Profile))),
        years=acquisition_years(dates),
        good=arrays["good"],
        bad=arrays["bad"],
    )
    pieces = [
        Piece(arrays["places"][k], bool(arrays["relief"][k]), name, *(float(arrays[n][k]) for n in _NUMBERS))
        for k, name in enumerate(functions)
    ]
    slow = []
    for k in range(len(persistent)):
        values = arrays[f"slow_{k}"]
        bands = len(values) // 2
        slow.append(Slowness(values[:bands], float(values[bands]), values[bands + 1 :]))
    return Learned(
        dates=dates,
        number=int(numbers["number"]),
        grid=grid,
        series=arrays["series"],
        motion=arrays["motion"],
        strength=arrays["strength"],
        pieces=pieces,
        maps=arrays["maps"],
        covariance=arrays.get("covariance", independent_errors(pieces)),  # earlier files have none
        persistent=persistent,
        slow=slow,
        share=float(numbers["share"]),
    )
