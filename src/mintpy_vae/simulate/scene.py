"""Simulate a scene: the arrays of a stack of interferograms, and the truth."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from ..arrays import Raster
from ..dates import acquisition_years
from ..errors import InputError
from . import fields
from .deformation import deform
from .presets import PRESETS, Preset
from .sky import SKIES
from .storage import Storage, in_files, in_memory

WAVELENGTH = 0.05546576  # Sentinel-1, metres
SMALLEST = 20  # pixels along the shorter side
_ALMOST_ZERO = 1e-6  # radians; exactly 0 means no data


@dataclass(frozen=True)
class Scene:
    """Simulated stack and its truth."""

    name: str
    """Preset."""
    seed: int
    coord: str
    """geo or radar."""
    dates: list[str]
    """Sorted, YYYYMMDD."""
    pairs: Raster
    """(pairs, 2) int, indices into `dates`, earlier first."""
    displacement: Raster
    """(dates, length, width) float32, metres towards the satellite since the first date."""
    atmosphere: Raster
    """(dates, length, width) float32, metres of apparent displacement towards the satellite (= minus the LOS delay),
    orbital ramps included. Not relative to any date."""
    phase: Raster
    """(pairs, length, width) float32, radians, unwrapped up to `constant`; exactly 0 where there is no data, and
    nowhere else."""
    coherence: Raster
    """(pairs, length, width) float32."""
    unwrap_error: Raster
    """(pairs, length, width) int8, unwrapping errors in cycles."""
    constant: Raster
    """(pairs, 1 + components) float64, offset in radians of each of the pair's components, by number."""
    component: Raster
    """(pairs, length, width) int16, number of the connected component, 1 for the largest; 0 without data or
    in components below 1 % of the scene, which have the constant of the largest."""
    height: Raster
    """(length, width) float32, metres; 0 in water."""
    land: Raster
    """(length, width) bool."""
    deforming: Raster
    """(length, width) bool: moves on some date by more than 1 mm and 2 % of the scene's largest displacement."""
    bperp: Raster
    """(dates,) float32, metres, perpendicular baseline to the first date."""
    events: list[float]
    """Quake or onsets of transients, years since the first date."""
    ref_yx: tuple[int, int]
    """A coherent pixel on stable land."""
    looks: float
    pixel: float
    """Ground size of a pixel, metres."""
    attributes: dict[str, str]
    """Attributes of both the stack and the geometry file."""

    @property
    def years(self) -> Raster:
        """(dates,) time since the first date."""
        return acquisition_years(self.dates)

    def without_constants(self, but_of_pairs: bool = False) -> Raster:
        """Phase (pairs, length, width) without constants, or with one per pair, as after MintPy's bridging."""
        out = self.phase.copy()
        for pair, parts, off in zip(out, self.component, self.constant, strict=True):
            there = pair != 0
            pair[there] -= (off - off[0] if but_of_pairs else off)[parts[there]].astype(np.float32)
            pair[there & (pair == 0)] = _ALMOST_ZERO
        return out

    @property
    def incidence(self) -> Raster:
        """(length, width) float32, degrees: larger from left to right, as on an ascending, right-looking orbit."""
        return 36 + 4 * np.broadcast_to(np.linspace(0, 1, self.land.shape[1], dtype=np.float32), self.land.shape)


def simulate(
    preset: str,
    n_dates: int | None = None,
    size: tuple[int, int] = (200, 200),
    seed: int = 1,
    coord: str = "geo",
    sky: str = "real",
    folder: Path | None = None,
    **changes: Any,
) -> Scene:
    """Simulate one scene.

    Ground, atmosphere, motion, noise and constants use separate random streams: with the same seed and number of dates,
    presets that differ only in their motion have the same atmosphere.

    Parameters
    ----------
    preset : str
        A key of :data:`PRESETS`.
    n_dates : int, optional
        Number of dates; that of the preset by default.
    size : (length, width)
        Pixels, 20 or more each.
    seed : int
        The same seed gives the same arrays, bit by bit.
    coord : {"geo", "radar"}
        Coordinates; they change the attributes, not the arrays.
    sky : {"real", "stationary"}
        See :mod:`mintpy_vae.simulate.sky`.
    folder : Path, optional
        Directory on whose disk the arrays of all dates and pairs are kept, in files without a name that vanish with
        the arrays. By default they are kept in memory.
    **changes
        Values that replace fields of the :class:`Preset`.

    Raises
    ------
    InputError
        For an unknown preset, field, coord or sky, fewer than 3 dates, or a scene that is too small.
    """
    case = _preset(preset, changes)
    number = case.dates if n_dates is None else n_dates
    if number < 3:
        raise InputError(f"{number} dates are too few; choose 3 or more.")
    if min(size) < SMALLEST:
        raise InputError(f"{size[0]} x {size[1]} pixels are too few; choose {SMALLEST} x {SMALLEST} or more.")
    if coord not in ("geo", "radar"):
        raise InputError(f"coord = {coord!r}: choose geo or radar.")
    if sky not in SKIES:
        raise InputError(f"sky = {sky!r}: choose {' or '.join(SKIES)}.")
    if seed < 0:
        raise InputError(f"seed = {seed}: choose 0 or more.")
    new: Storage = in_memory if folder is None else functools.partial(in_files, folder)
    ground, calendar, motion, air, noise, offset = (np.random.default_rng([seed, k]) for k in range(6))
    # a small scene is the default one multilooked, a large scene extends it
    pixel = max(90.0, 18000.0 / min(size))

    dates = _dates(calendar, case, number)
    pairs = _pairs(calendar, dates, max(number - 1, round(case.pairs * number / case.dates)))
    bperp = calendar.normal(0, 60, number).astype(np.float32)
    bperp -= bperp[0]
    height, land = fields.terrain(ground, size, case.relief, case.water, case.coast)
    years = acquisition_years(dates)
    displacement, events = deform(motion, case, years, height, land, _event(case, dates), new)
    largest = functools.reduce(np.maximum, map(np.abs, displacement))
    deforming = largest > max(0.001, 0.02 * float(largest.max()))
    atmosphere = SKIES[sky](air, case, dates, height, land, pixel, new)

    fresh, decay = _ground_coherence(ground, case, size)
    ref_yx = _reference(land, largest, fresh)
    coherence, bad = _coherence(noise, case, dates, pairs, bperp, fresh, decay, land, ref_yx, new)
    unwrap_error = _unwrap_errors(noise, case, pairs, size, ref_yx, new)
    phase = _phase(noise, case, displacement, atmosphere, pairs, coherence, unwrap_error, new)
    for pair, hole, cycles in zip(phase, bad, unwrap_error, strict=True):
        pair[hole | ~land] = 0
        cycles[pair == 0] = 0
    component = _components(phase, new)
    constant = _constants(offset, case, len(pairs), int(component.max()))
    _add_constants(phase, component, constant)
    return Scene(
        name=preset, seed=seed, coord=coord, dates=dates, pairs=pairs, displacement=displacement,
        atmosphere=atmosphere, phase=phase, coherence=coherence, unwrap_error=unwrap_error, constant=constant,
        component=component, height=height, land=land, deforming=deforming, bperp=bperp, events=events, ref_yx=ref_yx,
        looks=case.looks, pixel=pixel, attributes=_attributes(size, pixel, coord, dates),
    )  # fmt: skip


def _preset(name: str, changes: dict[str, Any]) -> Preset:
    if name not in PRESETS:
        raise InputError(f"Preset {name!r} is unknown; choose one of {', '.join(PRESETS)}.")
    known = [f.name for f in dataclasses.fields(Preset)]
    for key in changes:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1, cutoff=0.0)[0]
            raise InputError(f"A preset has no field {key}; did you mean {near}?")
    return dataclasses.replace(PRESETS[name], **changes)


def _day(text: str) -> date:
    return date(int(text[:4]), int(text[4:6]), int(text[6:]))


def _event(case: Preset, dates: list[str]) -> float | None:
    """The preset's date of the quake, if it is well within the dates."""
    if case.event is None or not dates[1] < case.event < dates[-1]:
        return None
    return (_day(case.event) - _day(dates[0])).days / 365.25


def _dates(rng: np.random.Generator, case: Preset, number: int) -> list[str]:
    """Dates every 12 days with gaps, or every 6 days if a fixed time span is too short."""
    step, slots = 12, round(number / (1 - case.gaps))
    if case.end is not None:
        days = (_day(case.end) - _day(case.start)).days
        step = 12 if days // 12 + 1 >= number else 6
        slots = days // step + 1
    slots = max(slots, number)
    between = rng.choice(np.arange(1, slots - 1), number - 2, replace=False)
    chosen = np.sort(np.concatenate([[0], between, [slots - 1]]))
    return [(_day(case.start) + timedelta(days=step * int(k))).strftime("%Y%m%d") for k in chosen]


def _pairs(rng: np.random.Generator, dates: list[str], wanted: int) -> Raster:
    """Pairs of each date with the next ones (3 if possible), and longer pairs, half of them of about a year."""
    n, days = len(dates), acquisition_years(dates) * 365.25
    reach = next((r for r in (3, 2) if r * n - r * (r + 1) // 2 <= 0.85 * wanted), 1)
    i, j = np.triu_indices(n, 1)
    short = j - i <= reach
    span = days[j] - days[i]
    annual = np.flatnonzero(~short & (np.abs(span - 365) <= 20))
    others = np.flatnonzero(~short & (span <= 400) & (np.abs(span - 365) > 20))
    missing = max(0, wanted - int(short.sum()))
    annual = rng.permutation(annual)[: (missing + 1) // 2]
    others = rng.permutation(others)[: missing - annual.size]
    chosen = np.sort(np.concatenate([np.flatnonzero(short), annual, others]))
    return np.stack([i[chosen], j[chosen]], axis=1)


def _ground_coherence(rng: np.random.Generator, case: Preset, size: tuple[int, int]) -> tuple[Raster, Raster]:
    """Coherence at zero baseline and its decay time in days, for ground between worst (fields) and best (town)."""
    cover = fields.smooth_field(rng, size, 2.6)
    rank = (np.argsort(np.argsort(cover, axis=None)) / (cover.size - 1)).reshape(size).astype(np.float32)
    fresh = case.coherence[0] + (case.coherence[1] - case.coherence[0]) * rank
    decay = case.decay[0] * (case.decay[1] / case.decay[0]) ** rank
    return fresh.astype(np.float32), decay.astype(np.float32)


def _reference(land: Raster, largest: Raster, fresh: Raster) -> tuple[int, int]:
    """The most coherent pixel on nearly stable land, a few pixels away from water and edges."""
    away = ndimage.distance_transform_edt(np.pad(land, 1))[1:-1, 1:-1] > min(4, min(land.shape) / 8)
    still = largest <= max(0.0002, float(np.quantile(largest[away], 0.2)))
    score = np.where(away & still, fresh, -1.0)
    y, x = np.unravel_index(int(np.argmax(score)), land.shape)
    return int(y), int(x)


def _coherence(
    rng: np.random.Generator, case: Preset, dates: list[str], pairs: Raster, bperp: Raster,
    fresh: Raster, decay: Raster, land: Raster, ref_yx: tuple[int, int], new: Storage,
) -> tuple[Raster, Raster]:  # fmt: skip
    """Coherence (pairs, length, width) as estimated from the looks, and where a single pair loses it."""
    days = acquisition_years(dates).astype(np.float32) * 365.25
    floor = np.float32(0.12)
    out = new((len(pairs), *land.shape), np.float32)
    bad = new(out.shape, bool)
    for k, (i, j) in enumerate(pairs):
        weather = rng.uniform(0.93, 1.0)
        geometric = max(0.3, 1 - abs(float(bperp[j] - bperp[i])) / 1200)
        true = floor + (fresh * np.float32(geometric * weather) - floor) * np.exp(-(days[j] - days[i]) / decay)
        if case.holes > 0:
            hole = fields.patch(rng, fresh.shape, case.holes * rng.uniform(0.5, 2.5)) & land
            hole[_around(ref_yx, 2)] = False
            bad[k] = hole
            true = np.where(hole, floor, true)
        true = np.where(land, true, 0.08).astype(np.float32)
        spread = (1 - np.square(true)) / np.float32(np.sqrt(2 * case.looks))
        estimated = true + spread * rng.standard_normal(land.shape, dtype=np.float32)
        out[k] = np.clip(estimated, 0.01, 0.999)
    return out, bad


def _around(yx: tuple[int, int], margin: int) -> tuple[slice, slice]:
    y, x = yx
    return slice(max(0, y - margin), y + margin + 1), slice(max(0, x - margin), x + margin + 1)


def _unwrap_errors(
    rng: np.random.Generator,
    case: Preset,
    pairs: Raster,
    size: tuple[int, int],
    ref_yx: tuple[int, int],
    new: Storage,
) -> Raster:
    """Patches with an error of one cycle, (pairs, length, width) int8; only in short pairs, which are in triplets."""
    out = new((len(pairs), *size), np.int8)
    if case.unwrap_errors <= 0:
        return out
    short = np.flatnonzero(np.diff(pairs, axis=1)[:, 0] <= 2)
    wanted = min(short.size, max(3, round(case.unwrap_errors * len(pairs))))
    for k in rng.choice(short, wanted, replace=False):
        where = fields.patch(rng, size, rng.uniform(*case.unwrap_patch))
        where[_around(ref_yx, 2)] = False
        out[k] = where * rng.choice([-1, 1])
    return out


def _phase(
    rng: np.random.Generator, case: Preset, displacement: Raster, atmosphere: Raster, pairs: Raster,
    coherence: Raster, unwrap_error: Raster, new: Storage,
) -> Raster:  # fmt: skip
    """Phase of the pairs, with decorrelation noise; it grows when the ground moves away from the satellite."""
    scale = np.float32(-4 * np.pi / WAVELENGTH)
    out = new(coherence.shape, np.float32)
    for k, (i, j) in enumerate(pairs):
        signal = (displacement[j] - displacement[i]) + (atmosphere[j] - atmosphere[i])
        noise = fields.phase_noise_std(coherence[k], case.looks) * rng.standard_normal(signal.shape, dtype=np.float32)
        pair = scale * signal + noise + np.float32(2 * np.pi) * unwrap_error[k]
        pair[pair == 0] = _ALMOST_ZERO
        out[k] = pair
    return out


def _components(phase: Raster, new: Storage) -> Raster:
    """Connected parts of each pair's pixels with data (pairs, length, width), numbered from the largest; int16."""
    out = new(phase.shape, np.int16)
    least = 0.01 * out[0].size
    for k, pair in enumerate(phase):
        parts, number = ndimage.label(pair != 0)
        sizes = np.bincount(parts.ravel(), minlength=number + 1)[1:]
        order = np.argsort(-sizes, kind="stable")
        rank = np.zeros(number + 1, np.int16)
        rank[1 + order] = np.where(sizes[order] >= least, np.arange(1, number + 1), 0)
        out[k] = rank[parts]
    return out


def _constants(rng: np.random.Generator, case: Preset, n_pairs: int, n_components: int) -> Raster:
    """Offset in radians of each component of each pair; number 0 has the offset of the largest."""
    if case.constants <= 0:
        return np.zeros((n_pairs, 1 + n_components))
    cycles = rng.uniform(-case.constants, case.constants, n_pairs)
    cycles[::2] = np.round(cycles[::2])
    more = rng.integers(-3, 4, (n_pairs, 1 + max(n_components, 1)))
    more[:, :2] = 0
    return np.asarray(2 * np.pi * (cycles[:, None] + more))


def _add_constants(phase: Raster, component: Raster, constant: Raster) -> None:
    for pair, parts, off in zip(phase, component, constant, strict=True):
        there = pair != 0
        pair[there] += off[parts[there]].astype(np.float32)
        pair[there & (pair == 0)] = _ALMOST_ZERO


def _attributes(size: tuple[int, int], pixel: float, coord: str, dates: list[str]) -> dict[str, str]:
    length, width = size
    lat0, lon0 = 19.5, -99.2
    step = pixel / 111_000.0
    south, east = lat0 - step * length, lon0 + step * width
    values: dict[str, Any] = {
        "LENGTH": length, "WIDTH": width, "WAVELENGTH": WAVELENGTH, "PLATFORM": "Sen", "ANTENNA_SIDE": -1,
        "ORBIT_DIRECTION": "ASCENDING", "HEADING": -12.3, "HEIGHT": 698030.0, "EARTH_RADIUS": 6375868.9,
        "STARTING_RANGE": 850000.0, "CENTER_LINE_UTC": 2421.9, "PRF": 486.5, "POLARIZATION": "VV",
        # nominal 14 m x 2.3 m resolution cells, multilooked to about the pixel
        "ALOOKS": max(1, round(pixel / 14)), "RLOOKS": max(1, round(pixel / 3.7)),
        "AZIMUTH_PIXEL_SIZE": round(pixel, 3), "RANGE_PIXEL_SIZE": round(pixel * np.sin(np.deg2rad(38)), 3),
        "beam_mode": "IW", "beam_swath": 1, "relative_orbit": 5, "first_frame": 1, "last_frame": 1,
        "PROCESSOR": "isce", "DATE": dates[0][2:], "PROJECT_NAME": "simulated", "NO_DATA_VALUE": "none",
        "unwrap_method": "none", "LAT_REF1": south, "LON_REF1": lon0, "LAT_REF2": south, "LON_REF2": east,
        "LAT_REF3": lat0, "LON_REF3": lon0, "LAT_REF4": lat0, "LON_REF4": east,
    }  # fmt: skip
    if coord == "geo":
        values |= {
            "X_FIRST": lon0, "Y_FIRST": lat0, "X_STEP": step, "Y_STEP": -step,
            "X_UNIT": "degrees", "Y_UNIT": "degrees",
        }  # fmt: skip
    return {key: str(value) for key, value in values.items()}
