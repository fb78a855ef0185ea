"""Large MintPy projects for the benchmarks: a simulated scene, enlarged, as load_data lays it out, written by slabs."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
from measured import VAE_SIMULATE, run

from mintpy_vae.method.upsampling import Bilinear
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.fields import phase_noise_std
from mintpy_vae.simulate.scene import WAVELENGTH, Scene

SIDE = 150  # pixels along the shorter side of the scene that is enlarged, at least
NOISE = 1 << 20  # random numbers, used again and again from other places


def make_project(root: Path, n_pairs: int, size: tuple[int, int], n_dates: int | None = None, seed: int = 1) -> Path:
    """Write ``root/inputs/ifgramStack.h5`` with its geometry and a template; return the stack.

    As a preset "bowl": motion, atmosphere and relief of a smaller scene interpolated to ``size`` pixels, decorrelation
    noise pixel by pixel. Datasets, types and chunks are those of MintPy's ``load_data``. No more than some rows of the
    stack are held at a time.
    """
    n_dates = n_dates or max(10, round(n_pairs * 60 / 235))
    factor = max(1, min(size) // SIDE)
    small = (-(-size[0] // factor), -(-size[1] // factor))
    scene = simulate("bowl", n_dates=n_dates, size=small, seed=seed, dates=n_dates, pairs=n_pairs)
    y, x = (factor * k for k in scene.ref_yx)
    step = float(scene.attributes["X_STEP"]) / factor
    attributes = scene.attributes | {
        "LENGTH": str(size[0]),
        "WIDTH": str(size[1]),
        "X_STEP": str(step),
        "Y_STEP": str(-step),
        "REF_Y": str(y),
        "REF_X": str(x),
        "FILE_TYPE": "ifgramStack",
    }
    inputs = root / "inputs"
    inputs.mkdir(parents=True)
    _write_geometry(scene, inputs / "geometryGeo.h5", attributes, size, factor)
    _write_stack(scene, inputs / "ifgramStack.h5", attributes, size, factor)
    template = f"mintpy.reference.yx = {y},{x}\nmintpy.troposphericDelay.method = no\nmintpy.plot = no\n"
    (root / "benchmark.txt").write_text(template)
    return inputs / "ifgramStack.h5"


def make_frame(root: Path, n_pairs: int, size: tuple[int, int]) -> Path:
    """Simulate a project with pixels of 90 m under the real sky; return the stack."""
    dates = max(10, round(n_pairs * 60 / 235))
    done = run([*VAE_SIMULATE, root, "--dates", str(dates), "--size", *map(str, size)], threads=1)
    next(root.glob("*.txt")).rename(root / "benchmark.txt")
    (root / "truth.h5").unlink()
    print(f"simulated in {done.seconds:.0f} s with {done.peak:.2f} GB", file=sys.stderr)
    return root / "inputs" / "ifgramStack.h5"


def _write_geometry(scene: Scene, file: Path, attributes: dict[str, str], size: tuple[int, int], factor: int) -> None:
    across = np.broadcast_to(np.linspace(0, 1, size[1], dtype=np.float32), size)
    with h5py.File(file, "w") as f:
        f.attrs.update(attributes | {"FILE_TYPE": "geometry"})
        f["height"] = Bilinear(scene.height[None], size, factor)(slice(0, size[0]))[0]
        f["incidenceAngle"] = 36 + 4 * across
        f["slantRangeDistance"] = 8.5e5 + 3e4 * across
        f["waterMask"] = _enlarged(scene.land, slice(0, size[0]), size, factor)


def _write_stack(scene: Scene, file: Path, attributes: dict[str, str], size: tuple[int, int], factor: int) -> None:
    rng = np.random.default_rng(scene.seed)
    bank = rng.standard_normal(NOISE + size[1] * 200, dtype=np.float32)
    to_phase = np.float32(-4 * np.pi / WAVELENGTH)
    of_dates = Bilinear(to_phase * (scene.displacement + scene.atmosphere), size, factor)
    n_pairs, (first, second) = len(scene.pairs), scene.pairs.T
    shape, room = (n_pairs, *size), (None, *size)
    with h5py.File(file, "w") as f:
        f.attrs.update(attributes)
        f["date"] = np.array(scene.dates, "S8")[scene.pairs]
        f["bperp"] = scene.bperp[second] - scene.bperp[first]
        f["dropIfgram"] = np.ones(n_pairs, bool)
        phase = f.create_dataset("unwrapPhase", shape, np.float32, maxshape=room, chunks=True)
        coherence = f.create_dataset("coherence", shape, np.float32, maxshape=room, chunks=True)
        components = f.create_dataset("connectComponent", shape, np.int16, maxshape=room, chunks=True)
        rows_at_once = phase.chunks[1]
        for start in range(0, size[0], rows_at_once):
            rows = slice(start, min(start + rows_at_once, size[0]))
            land = _enlarged(scene.land, rows, size, factor)
            delay = of_dates(rows)
            for block in (slice(k, k + phase.chunks[0]) for k in range(0, n_pairs, phase.chunks[0])):
                gamma = _enlarged(scene.coherence[block], rows, size, factor)
                at = rng.integers(0, NOISE, len(gamma))
                noise = np.stack([bank[k : k + land.size].reshape(land.shape) for k in at])
                values = delay[second[block]] - delay[first[block]] + phase_noise_std(gamma, scene.looks) * noise
                values += np.float32(2 * np.pi) * _enlarged(scene.unwrap_error[block], rows, size, factor)
                phase[block, rows] = np.where(land, values, 0)
                coherence[block, rows] = gamma
                components[block, rows] = np.broadcast_to(land, gamma.shape)
        for name in ("unwrapPhase", "coherence", "connectComponent"):
            f[name].attrs["MODIFICATION_TIME"] = "1600000000.0"


def _enlarged(maps: np.ndarray, rows: slice, size: tuple[int, int], factor: int) -> np.ndarray:
    """Rows of maps (..., h, w) with every pixel repeated, (..., rows, width)."""
    wanted = np.arange(rows.start, rows.stop) // factor
    return maps[..., wanted, :][..., np.arange(size[1]) // factor]
