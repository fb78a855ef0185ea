"""What a correction has learned, as far as dates added later need it: ``vae_learned.h5``, and ``vae_tiles/``."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, astuple, fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..arrays import Raster
from ..dates import acquisition_years
from ..method.deformation import Piece
from ..method.observations import Grid
from ..method.profile import Profile
from ..method.sky import Slowness
from ..method.timefunctions import TimeFunction
from ..method.update import Learned, TileMemory
from ..stack import damage, open_hdf5

__all__ = [
    "LEARNED",
    "TILES",
    "number_of_tiles",
    "read_learned",
    "read_tile",
    "size_of_tiles",
    "write_learned",
    "write_tile",
]

LEARNED, TILES = "vae_learned.h5", "vae_tiles"
_OF_DATES = ("series", "motion", "strength", "maps", "covariance", "delay", "delay_share", "station_rate")
_OF_TILE = ("broad", "offset", "mean", "n_known")
_NUMBERS = [item.name for item in fields(Piece) if item.name not in ("place", "relief", "function")]


def write_learned(file: Path, learned: Learned, **more: Raster) -> None:
    """Write the file; all arrays with their full precision, and ``more`` of them."""
    grid, pieces = learned.grid, learned.pieces
    image = io.BytesIO()  # in memory first: on a full disk HDF5 can crash the process
    with h5py.File(image, "w") as f:
        own = {name: getattr(learned, name) for name in ("number", "n_pixels", "share", "local_level", "station_slope")}
        f.attrs.update(**own, **asdict(grid.profile))
        f["dates"], f["persistent"] = np.array(learned.dates, "S"), np.array(learned.persistent, "S")
        f["functions"] = np.array([p.function for p in pieces], "S1" if not pieces else "S")
        arrays = {name: getattr(grid, name) for name in ("valid", "height", "good", "bad")}
        arrays |= {name: getattr(learned, name) for name in _OF_DATES}
        arrays |= {"places": np.array([p.place for p in pieces]).reshape(-1, 5)}
        arrays |= {"relief": np.array([p.relief for p in pieces], dtype=bool)}
        arrays |= {name: np.array([getattr(p, name) for p in pieces], dtype=float) for name in _NUMBERS}
        f["given"] = np.array([one.name for one in learned.given], "S1" if not learned.given else "S")
        arrays |= {f"given_{k}": one.values for k, one in enumerate(learned.given)}
        arrays |= {f"slow_{k}": np.hstack(astuple(one)) for k, one in enumerate(learned.slow)}
        arrays |= more
        for name, values in arrays.items():
            f.create_dataset(name, data=values, compression="gzip" if values.size > 1000 else None)
    file.write_bytes(image.getbuffer())


def write_tile(staging: Path, number: int, tile: TileMemory) -> None:
    """Write what a tile remembers; its series in half precision, which is 0.02 mm for a phase of 16 radians."""
    (staging / TILES).mkdir(exist_ok=True)
    more: dict[str, Raster] = {name: np.asarray(getattr(tile, name)) for name in _OF_TILE}
    series = {name: getattr(tile.learned, name) for name in ("series", "motion", "delay")} | {"broad": tile.broad}
    more |= {name: np.asarray(values, np.float16) for name, values in series.items()}
    more["maps"] = tile.learned.maps.astype(np.float32)
    write_learned(staging / TILES / f"{number:05d}.h5", tile.learned, **more)


def number_of_tiles(work_dir: str | os.PathLike[str]) -> int:
    """Number of tiles that remember something."""
    return len(list(Path(work_dir, TILES).glob("*.h5")))


def size_of_tiles(dates: int, cells: int) -> int:
    """Upper bound of the bytes that tiles of so many cells take: three series, on twice the area as tiles overlap."""
    return 2 * 3 * 2 * dates * cells


def read_learned(work_dir: str | os.PathLike[str]) -> Learned | None:
    """Read what was learned by a work directory; None if there is no file."""
    found = _read(Path(work_dir, LEARNED))
    return found and found[0]


def read_tile(work_dir: str | os.PathLike[str], number: int) -> TileMemory | None:
    """Read what a tile remembers; None if it had too little ground."""
    found = _read(Path(work_dir, TILES, f"{number:05d}.h5"))
    if found is None:
        return None
    learned, arrays = found
    broad, offset, mean, n_known = (arrays[name] for name in _OF_TILE)
    return TileMemory(learned, broad, offset, mean, int(n_known))


def _read(file: Path) -> tuple[Learned, dict[str, Any]] | None:
    """What was learned, and all arrays of the file."""
    if not file.is_file():
        return None
    with open_hdf5(file) as f, damage(file):
        arrays = {name: f[name][()] for name in f}
        numbers = dict(f.attrs)
    arrays = {name: x.astype(np.float64) if x.dtype.kind == "f" else x for name, x in arrays.items()}
    dates, persistent, functions, given = (
        [text.decode() for text in arrays[name]] for name in ("dates", "persistent", "functions", "given")
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
    learned = Learned(
        dates=dates,
        number=int(numbers["number"]),
        n_pixels=int(numbers["n_pixels"]),
        grid=grid,
        series=arrays["series"],
        motion=arrays["motion"],
        strength=arrays["strength"],
        pieces=pieces,
        maps=arrays["maps"],
        covariance=arrays["covariance"],
        persistent=persistent,
        slow=slow,
        share=float(numbers["share"]),
        local_level=float(numbers["local_level"]),
        delay=arrays["delay"],
        delay_share=arrays["delay_share"],
        station_rate=arrays["station_rate"],
        station_slope=float(numbers["station_slope"]),
        given=[TimeFunction(name, arrays[f"given_{k}"]) for k, name in enumerate(given)],
    )
    return learned, arrays
