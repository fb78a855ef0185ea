"""Invariants of the simulator, and MintPy itself on what it writes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy import fft

from mintpy_vae.cli import vae_simulate
from mintpy_vae.errors import InputError
from mintpy_vae.simulate import PRESETS, Scene, simulate, write_project
from mintpy_vae.simulate.deformation import quake_course, transient_course
from mintpy_vae.simulate.fields import patch, phase_noise_std, stratified, turbulence, turbulence_psd
from mintpy_vae.simulate.scene import WAVELENGTH

CYCLE = 2 * np.pi
TO_PHASE = -4 * np.pi / WAVELENGTH


@pytest.fixture(scope="module")
def bowl() -> Scene:
    return simulate("bowl", n_dates=20, size=(60, 80), seed=3)


def _expected_phase(scene: Scene) -> np.ndarray:
    total = scene.displacement + scene.atmosphere
    i, j = scene.pairs.T
    return TO_PHASE * (total[j] - total[i]) + CYCLE * scene.unwrap_error


def _constant(scene: Scene) -> np.ndarray:
    """Of each pixel of each pair, by its component."""
    return np.stack([of[parts] for of, parts in zip(scene.constant, scene.component, strict=True)])


def _valid(scene: Scene) -> np.ndarray:
    return scene.phase != 0


# ----------------------------------------------------------------- the parts


@pytest.mark.parametrize(
    ("pixel", "low", "high", "slope"),
    [(250.0, 2500, 25000, -8 / 3), (60.0, 300, 1300, -11 / 3), (10.0, 30, 200, -5 / 3)],
)
def test_turbulence_has_the_slope_of_each_regime(pixel: float, low: float, high: float, slope: float) -> None:
    n = 256
    screens = turbulence(np.random.default_rng(0), 12, (n, n), pixel)
    window = np.hanning(n)[:, None] * np.hanning(n)[None, :]
    power = (np.abs(fft.fft2(screens * window)) ** 2).mean(axis=0)
    f = np.hypot(fft.fftfreq(n, pixel)[:, None], fft.fftfreq(n, pixel)[None, :])
    inside = (f > 1 / high) & (f < 1 / low)
    edges = np.geomspace(1 / high, 1 / low, 9)
    ring = np.digitize(f[inside], edges)
    x = [np.log(f[inside][ring == k]).mean() for k in range(1, 9) if np.any(ring == k)]
    y = [np.log(power[inside][ring == k].mean()) for k in range(1, 9) if np.any(ring == k)]
    assert np.polyfit(x, y, 1)[0] == pytest.approx(slope, abs=0.3)


def test_turbulence_spectrum_is_continuous() -> None:
    for wavelength in (50000.0, 1500.0, 250.0):
        below, above = turbulence_psd(np.array([0.999999, 1.000001]) / wavelength)
        assert above == pytest.approx(below, rel=1e-4)


@pytest.mark.parametrize("shape", [(200, 200), (40, 300), (33, 47)])
def test_turbulence_has_unit_variance_in_the_scene(shape: tuple[int, int]) -> None:
    screens = turbulence(np.random.default_rng(1), 200, shape, 100.0)
    assert np.sqrt(screens.var(axis=(1, 2)).mean()) == pytest.approx(1, abs=0.1)


def test_stratified_delay_decays_with_height() -> None:
    height = np.array([[0.0, 1000.0, 2000.0]])
    delay = stratified(height, 0.1, 1000.0)
    np.testing.assert_allclose(delay[0], 0.1 * np.exp([0, -1, -2]), rtol=1e-6)


def test_noise_bound() -> None:
    assert phase_noise_std(np.array([1.0]), 10)[0] == 0
    assert phase_noise_std(np.array([0.5]), 10)[0] == pytest.approx(np.sqrt(0.75 / 5))
    assert phase_noise_std(np.array([0.0]), 10)[0] == pytest.approx(np.pi / np.sqrt(3))


def test_courses() -> None:
    days = np.array([-1, 1e-6, 30, 60, 120, 365.25]) / 365.25
    np.testing.assert_allclose(quake_course(days, 0.2)[[0, 1, 5]], [0, 1, 1.2], atol=1e-6)
    np.testing.assert_allclose(transient_course(days)[[0, 2, 3, 4, 5]], [0, 0.5, 1, 0.5, 0.5], atol=1e-9)


def test_patch_is_small_and_not_empty() -> None:
    for seed in range(5):
        assert 0 < patch(np.random.default_rng(seed), (40, 50), 0.1).mean() <= 0.1


# ----------------------------------------------------------------- the scene


def test_same_seed_same_bytes(bowl: Scene) -> None:
    again = simulate("bowl", n_dates=20, size=(60, 80), seed=3)
    other = simulate("bowl", n_dates=20, size=(60, 80), seed=4)
    assert again.dates == bowl.dates
    names = ("pairs", "phase", "constant", "component", "coherence", "displacement", "atmosphere", "height", "bperp")
    for name in names:
        assert getattr(again, name).tobytes() == getattr(bowl, name).tobytes(), name
    assert other.phase.tobytes() != bowl.phase.tobytes()


def test_motion_does_not_change_the_sky(bowl: Scene) -> None:
    quiet = simulate("quiet", n_dates=20, size=(60, 80), seed=3)
    np.testing.assert_array_equal(quiet.atmosphere, bowl.atmosphere)
    assert not quiet.displacement.any()
    assert not quiet.deforming.any()


def test_phase_is_truth_plus_noise_of_its_coherence() -> None:
    scene = simulate("quake", n_dates=15, size=(80, 80), seed=2)
    noise = (scene.phase - _constant(scene) - _expected_phase(scene))[_valid(scene)]
    std = phase_noise_std(scene.coherence, scene.looks)[_valid(scene)]
    edges = np.quantile(std, np.linspace(0, 1, 6))
    for low, high in zip(edges[:-1], edges[1:], strict=True):
        some = (std >= low) & (std <= high)
        assert np.std(noise[some] / std[some]) == pytest.approx(1, abs=0.03)
    assert abs(np.mean(noise / std)) < 0.01


def test_closure_is_noise_and_whole_cycles(bowl: Scene) -> None:
    i, j = bowl.pairs.T
    index = {(int(a), int(b)): k for k, (a, b) in enumerate(zip(i, j, strict=True))}
    triplets = [(index[a, b], index[b, c], index[a, c]) for a, b in index for c in range(b + 1, len(bowl.dates))
                if (b, c) in index and (a, c) in index]  # fmt: skip
    assert triplets
    std, phase = phase_noise_std(bowl.coherence, bowl.looks), bowl.without_constants()
    nonzero = 0
    for p, q, r in triplets:
        closure = (phase[p] + phase[q] - phase[r])[bowl.land]
        cycles = bowl.unwrap_error[p] + bowl.unwrap_error[q] - bowl.unwrap_error[r]
        nonzero += int(np.any(cycles))
        spread = np.sqrt(std[p] ** 2 + std[q] ** 2 + std[r] ** 2)[bowl.land]
        assert np.abs((closure - CYCLE * cycles[bowl.land]) / spread).max() < 7
    assert nonzero >= 3  # MintPy's quick_overview dies of a stack without any


def test_no_data_is_exactly_the_water(bowl: Scene) -> None:
    assert 0 < (~bowl.land).mean() < 0.1
    np.testing.assert_array_equal(bowl.phase == 0, np.broadcast_to(~bowl.land, bowl.phase.shape))
    assert bowl.coherence[:, ~bowl.land].mean() < 0.3 < bowl.coherence[:, bowl.land].mean()
    assert np.all(bowl.height[~bowl.land] == 0)
    assert not bowl.displacement[:, ~bowl.land].any()


def test_holes_differ_from_pair_to_pair() -> None:
    scene = simulate("dirty", n_dates=12, size=(60, 60))
    hole = (scene.phase == 0) & scene.land
    assert np.all(hole.any(axis=(1, 2)))
    assert not np.any(hole.all(axis=0))
    assert 0.05 < hole.mean() < 0.3
    assert scene.coherence[hole].mean() < 0.3


def test_coherence_falls_with_time(bowl: Scene) -> None:
    days = np.diff(bowl.years[bowl.pairs], axis=1)[:, 0] * 365.25
    mean = bowl.coherence[:, bowl.land].mean(axis=1)
    assert mean[days <= 24].mean() > mean[days >= 100].mean() + 0.1
    assert bowl.coherence.min() > 0
    assert bowl.coherence.max() < 1


def test_network_of_the_default() -> None:
    scene = simulate("bowl", size=(20, 20))
    assert len(scene.dates) == 60
    assert len(scene.pairs) == 235
    steps = np.diff(scene.pairs, axis=1)[:, 0]
    assert np.sum(steps <= 3) == 59 + 58 + 57
    days = np.diff(scene.years[scene.pairs], axis=1)[:, 0] * 365.25
    assert np.sum(np.abs(days - 365) <= 20) > 20


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset(preset: str) -> None:
    scene = simulate(preset, size=(40, 50), seed=5)
    assert scene.dates == sorted(set(scene.dates))
    assert len(scene.dates) == PRESETS[preset].dates
    assert len(scene.pairs) == PRESETS[preset].pairs
    assert len({tuple(p) for p in scene.pairs.tolist()}) == len(scene.pairs)
    consecutive = scene.pairs[np.diff(scene.pairs, axis=1)[:, 0] == 1]
    assert len(consecutive) == len(scene.dates) - 1  # hence connected
    for array in (scene.phase, scene.coherence, scene.displacement, scene.atmosphere, scene.height):
        assert array.dtype == np.float32
        assert np.all(np.isfinite(array))
    assert not scene.displacement[0].any()
    assert scene.deforming.any() == (preset != "quiet")
    y, x = scene.ref_yx
    assert scene.land[y, x]
    assert np.all(scene.phase[:, y, x] != 0)
    assert not np.any(scene.unwrap_error[:, y, x])
    noise = (scene.phase - _constant(scene) - _expected_phase(scene))[_valid(scene)]
    assert np.abs(noise).max() < 12
    # the pixels that are called stable are
    assert np.abs(scene.displacement[:, ~scene.deforming]).max() <= max(0.001, 0.021 * np.abs(scene.displacement).max())


def test_rates_and_steps() -> None:
    weak = simulate("weak", size=(60, 60))
    rate = weak.displacement[-1].min() / weak.years[-1]
    assert -0.020 < rate < -0.0095  # two bowls may overlap a little
    quake = simulate("acapulco", size=(60, 60))
    before = [k for k, d in enumerate(quake.dates) if d <= "20210908"]
    assert not quake.displacement[before].any()
    assert 0.08 <= np.abs(quake.displacement[before[-1] + 1]).max() < 0.15
    transient = simulate("transient", size=(100, 100))
    peak = np.abs(transient.displacement).max(axis=0)
    where = np.unravel_index(np.argmax(peak), peak.shape)
    assert abs(transient.displacement[-1][where]) == pytest.approx(peak.max() / 2, rel=0.15)


def test_width_is_the_sigma() -> None:
    for width in (0.05, 0.1):
        scene = simulate("broad", size=(200, 200), width=width, elongation=(1.0, 1.0), water=0.0)
        last = np.abs(scene.displacement[-1])
        half_max = np.sum(last > last.max() / 2)  # pi * 2 ln 2 sigma**2
        assert np.sqrt(half_max / (2 * np.pi * np.log(2))) == pytest.approx(width * 200, rel=0.05)


def test_atmosphere_is_of_a_real_size() -> None:
    spreads, left = [], []
    for seed in range(1, 4):
        scene = simulate("quiet", size=(64, 64), seed=seed)
        a = scene.atmosphere[:, scene.land]
        design = np.stack([np.ones(a.shape[1]), scene.height[scene.land]], axis=1)
        flat = a - (design @ np.linalg.lstsq(design, a.T, rcond=None)[0]).T
        spreads.append(np.std(a - a.mean(axis=1, keepdims=True)))
        left.append(np.std(flat))
    assert 0.011 < np.mean(spreads) < 0.018
    assert 0.006 < np.mean(left) < 0.012


@pytest.mark.parametrize(
    ("kwargs", "text"),
    [
        ({"preset": "volcano"}, "unknown"),
        ({"preset": "bowl", "wide": 1}, "did you mean width"),
        ({"preset": "bowl", "n_dates": 1}, "3 or more"),
        ({"preset": "bowl", "size": (5, 100)}, "too few"),
        ({"preset": "bowl", "coord": "utm"}, "geo or radar"),
        ({"preset": "bowl", "seed": -1}, "0 or more"),
    ],
)
def test_impossible_requests(kwargs: dict, text: str) -> None:
    with pytest.raises(InputError, match=text):
        simulate(**kwargs)


# ----------------------------------------------------------------- on disk


@pytest.mark.parametrize("coord", ["geo", pytest.param("radar", marks=pytest.mark.slow)])
def test_project_runs_through_mintpy(tmp_path: Path, coord: str) -> None:
    scene = simulate("bowl", n_dates=12, size=(40, 50), seed=2, coord=coord)
    work = tmp_path / "work"
    template = write_project(scene, work)
    app = Path(sys.executable).with_name("smallbaselineApp.py")
    done = subprocess.run(
        [sys.executable, app, template.name, "--start", "modify_network"], cwd=work, capture_output=True, text=True,
        env=os.environ | {"MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert list(work.glob("**/*.he5"))

    # what MintPy inverts is the truth plus its atmosphere, but for noise
    with h5py.File(work / "timeseries.h5") as f, h5py.File(work / "truth.h5") as truth:
        y, x = int(f.attrs["REF_Y"]), int(f.attrs["REF_X"])
        expected = truth["timeseries"][:] + truth["atmosphere"][:]
        inverted = f["timeseries"][:]
    assert (y, x) == scene.ref_yx
    expected -= expected[:, y, x][:, None, None]
    expected -= expected[0]
    inverted -= inverted[0]  # MintPy's own reference date is the least noisy one
    with h5py.File(work / "maskTempCoh.h5") as f:
        good = f["mask"][:]
    clean = good & ~np.any(scene.unwrap_error, axis=0)
    assert clean.sum() > 100
    assert np.std((inverted - expected)[:, clean]) < 0.003


def test_files(tmp_path: Path, bowl: Scene) -> None:
    from mintpy.objects import ifgramStack, timeseries
    from mintpy.utils import readfile

    write_project(bowl, tmp_path / "a")
    write_project(bowl, tmp_path / "b", reference=False)
    stack = ifgramStack(str(tmp_path / "a" / "inputs" / "ifgramStack.h5"))
    stack.open(print_msg=False)
    assert stack.dateList == bowl.dates
    np.testing.assert_array_equal(stack.read("unwrapPhase"), bowl.phase)
    assert (int(stack.metadata["REF_Y"]), int(stack.metadata["REF_X"])) == bowl.ref_yx
    assert "REF_Y" not in readfile.read_attribute(str(tmp_path / "b" / "inputs" / "ifgramStack.h5"))

    truth = timeseries(str(tmp_path / "a" / "truth.h5"))
    truth.open(print_msg=False)
    np.testing.assert_array_equal(truth.read(print_msg=False), bowl.displacement)
    atmosphere, _ = readfile.read(str(tmp_path / "a" / "truth.h5"), datasetName="atmosphere")
    np.testing.assert_array_equal(atmosphere, bowl.atmosphere)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--preset", "quake", "--dates", "8", "--size", "24", "30", "--seed", "9", "--coord", "radar"]
    vae_simulate.main([str(tmp_path / "new"), *options])
    assert "quake: 8 dates" in capsys.readouterr().out
    with h5py.File(tmp_path / "new" / "inputs" / "geometryRadar.h5") as f:
        assert f["height"].shape == (24, 30)
        assert "latitude" in f
    before = sorted(p.name for p in (tmp_path / "new").iterdir())
    with pytest.raises(SystemExit, match="^ERROR: .* is not empty"):
        vae_simulate.main([str(tmp_path / "new"), *options])
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == before


def test_command_leaves_nothing_after_a_bad_request(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="^ERROR: Preset 'volcano' is unknown"):
        vae_simulate.main([str(tmp_path / "new"), "--preset", "volcano"])
    assert not (tmp_path / "new").exists()


def test_help_names_every_preset() -> None:
    text = vae_simulate.create_parser().format_help()
    assert all(f"\n  {name} " in text for name in PRESETS)
