import subprocess
import sys

import h5py
import numpy as np
import pytest
from scipy import ndimage

from mintpy_vae.evaluation.baselines import BASELINES, gaussian, local_height_correlation
from mintpy_vae.metrics import compare, velocity

SHAPE = (48, 64)  # whole looks of MintPy's height correlation, so that its multilooked height is odd, too
N = 30
YEARS = np.sort(np.random.default_rng(1).choice(np.arange(60), N, replace=False)) * 12 / 365.25
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
# odd across the scene's middle, where the bowl is even: the two do not correlate
HEIGHT = 20 * (X - X.mean()) + 100 * np.sin((X - X.mean()) / 4)
BOWL = np.exp(-(((Y - Y.mean()) ** 2 + (X - X.mean()) ** 2) / 2 / 5**2))
SUBSIDENCE = (-0.03 * YEARS[:, None, None] * BOWL).astype(np.float32)
DEFORMING = BOWL > 0.02
EVERYWHERE = np.ones(SHAPE, bool)


def run(name, series, height=HEIGHT, years=YEARS):
    return BASELINES[name].correct(series, years, height)


def turbulence(seed, n=N):
    """Smooth in space, independent from date to date; (dates, length, width) of 10 mm."""
    white = np.random.default_rng(seed).normal(size=(n, *SHAPE))
    smooth = ndimage.gaussian_filter(white, (0, 5, 5))
    return (0.01 * smooth / smooth.std()).astype(np.float32)


@pytest.fixture
def stratified():
    strength = np.random.default_rng(2).normal(0, 2e-5, N)
    return (strength[:, None, None] * HEIGHT).astype(np.float32)


@pytest.mark.parametrize("name", BASELINES)
def test_shape_and_gaps_are_those_of_the_input_which_stays_as_it_was(name):
    series = SUBSIDENCE + turbulence(3)
    series[:, :4] = np.nan
    series[7, 20, 30] = np.nan
    height = HEIGHT.copy()
    height[10, 10] = np.nan
    before = series.copy()
    corrected = run(name, series, height)
    assert corrected.shape == series.shape and corrected.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(corrected), np.isnan(series))
    np.testing.assert_array_equal(series, before)


@pytest.mark.parametrize("name", BASELINES)
def test_the_same_input_gives_the_same_result(name):
    series = SUBSIDENCE + turbulence(4)
    np.testing.assert_array_equal(run(name, series), run(name, series))


@pytest.mark.parametrize("name", sorted(set(BASELINES) - {"zero"}))
def test_a_bowl_that_sinks_steadily_comes_through(name):
    scores = compare(run(name, SUBSIDENCE), SUBSIDENCE, YEARS, DEFORMING, EVERYWHERE)
    # within a window, a bowl and relief do correlate
    share, stable = (0.1, 1.0) if name == "local_height_correlation" else (0.01, 0.1)
    assert scores["gain_displacement"] == pytest.approx(1, abs=share)
    assert scores["displacement_stable"] < stable  # mm


@pytest.mark.parametrize("name", ["height_correlation", "local_height_correlation", "gaussian", "pca", "ica", "nmf"])
def test_a_delay_in_proportion_to_height_is_removed(name, stratified):
    corrected = run(name, stratified)
    left = corrected - corrected.mean(axis=(1, 2), keepdims=True)
    assert left.std() < 1e-3 * stratified.std()


def test_on_flat_ground_height_correlation_does_nothing():
    flat = np.full(SHAPE, 200.0)
    with np.errstate(invalid="ignore"):  # MintPy asks for the correlation with a constant
        np.testing.assert_allclose(run("height_correlation", SUBSIDENCE, flat), SUBSIDENCE, atol=1e-7)


def test_local_height_correlation_follows_a_slope_that_changes_over_the_scene(stratified):
    changing = stratified * (1 + 0.8 * (Y - Y.mean()) / Y.max()).astype(np.float32)

    def left(corrected):
        return (corrected - corrected.mean(axis=(1, 2), keepdims=True)).std()

    follows = local_height_correlation(changing, YEARS, HEIGHT, windows=4, stiffness=0.1)
    assert left(follows) < 0.6 * left(run("height_correlation", changing))


def test_a_map_of_zeros_has_no_gain():
    scores = compare(run("zero", SUBSIDENCE + turbulence(5)), SUBSIDENCE, YEARS, DEFORMING, EVERYWHERE)
    assert scores["gain_displacement"] == 0
    assert scores["displacement_deforming"] > 0


def test_a_line_keeps_the_velocity_and_nothing_else():
    series = SUBSIDENCE + turbulence(6)
    fitted = run("line", series)
    np.testing.assert_allclose(velocity(fitted, YEARS), velocity(series, YEARS), atol=1e-7)
    np.testing.assert_allclose(run("line", fitted), fitted, atol=1e-7)


def test_the_filter_lets_any_steady_rate_through_whatever_the_dates():
    rate = (YEARS[:, None, None] * np.random.default_rng(7).normal(size=SHAPE)).astype(np.float32)
    np.testing.assert_allclose(gaussian(rate, YEARS, HEIGHT, flatten=False), rate, atol=1e-5)


@pytest.mark.parametrize("name, most", [("gaussian", 0.6), ("common_scene_stacking", 0.8), ("pca", 0.6), ("ica", 0.6)])
def test_turbulence_is_reduced_and_the_bowl_kept(name, most):
    truth = 3 * SUBSIDENCE
    series = truth + turbulence(8)
    scores = {n: compare(run(n, series), truth, YEARS, DEFORMING, EVERYWHERE) for n in (name, "uncorrected")}
    assert scores[name]["displacement_stable"] < most * scores["uncorrected"]["displacement_stable"]
    assert scores[name]["gain_displacement"] == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", ["pca", "ica", "nmf"])
def test_without_order_in_time_no_component_is_kept(name):
    corrected = run(name, turbulence(9))
    assert np.abs(corrected - corrected.mean(axis=0)).max() < 1e-6


def test_the_ends_share_no_scene_with_both_sides():
    series = turbulence(10)
    corrected = run("common_scene_stacking", series)
    np.testing.assert_allclose(corrected[[0, -1]], series[[0, -1]], atol=1e-6)
    assert corrected[1:-1].std() < series[1:-1].std()


def test_common_scene_stacking_removes_the_atmosphere_of_single_dates_exactly():
    sky = np.zeros((N, *SHAPE), np.float32)
    sky[[8, 20]] = turbulence(12, 2)  # more than five dates apart
    sky -= sky.mean(axis=(1, 2), keepdims=True)  # a constant per date is no atmosphere
    rate = (0.03 * YEARS[:, None, None] * np.random.default_rng(13).normal(size=SHAPE)).astype(np.float32)
    np.testing.assert_allclose(run("common_scene_stacking", rate + sky), rate, atol=1e-6)


def test_only_height_correlation_imports_mintpy():
    code = (
        "import sys, numpy as np; from mintpy_vae.evaluation.baselines import BASELINES\n"
        "rng = np.random.default_rng(0); z = rng.normal(size=(20, 20)); s = rng.normal(size=(12, 20, 20))\n"
        "for name in set(BASELINES) - {'height_correlation'}: BASELINES[name].correct(s, np.arange(12.0), z)\n"
        "assert not [m for m in sys.modules if m == 'mintpy' or m.startswith('mintpy.')]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_height_correlation_is_what_mintpy_s_command_makes(tmp_path, stratified):
    from mintpy.cli import tropo_phase_elevation
    from mintpy.utils import writefile

    series = SUBSIDENCE + turbulence(11) + stratified
    series -= series[:1]  # MintPy's series are 0 at the first date
    gap = np.zeros(SHAPE, bool)
    gap[:5, :9] = True
    meta = {"FILE_TYPE": "timeseries", "LENGTH": str(SHAPE[0]), "WIDTH": str(SHAPE[1]), "UNIT": "m"}
    meta |= {"REF_Y": "30", "REF_X": "40"}
    days = np.datetime64("2020-01-01") + np.round(YEARS * 365.25).astype(int)
    dates = np.array([str(d).replace("-", "") for d in days], "S8")
    files = {name: str(tmp_path / f"{name}.h5") for name in ("timeseries", "geometry", "mask", "out")}
    writefile.write({"timeseries": series, "date": dates, "bperp": np.zeros(N, np.float32)}, files["timeseries"], meta)
    incidence = (30 + 16 * X / X.max()).astype(np.float32)  # a whole swath
    geometry = {"height": HEIGHT.astype(np.float32), "incidenceAngle": incidence}
    writefile.write(geometry, files["geometry"], meta | {"FILE_TYPE": "geometry"})
    writefile.write({"mask": ~gap}, files["mask"], meta | {"FILE_TYPE": "mask"})
    tropo_phase_elevation.main([files["timeseries"], "-g", files["geometry"], "-m", files["mask"], "-o", files["out"]])
    with h5py.File(files["out"]) as f:
        theirs = f["timeseries"][:]
    given = np.where(gap, np.nan, series).astype(np.float32)
    ours = BASELINES["height_correlation"](given, YEARS, HEIGHT, incidence)
    ours -= ours[:, 30:31, 40:41]  # the reference point is a choice of its own
    theirs -= theirs[:, 30:31, 40:41]
    assert np.abs(theirs - series + series[:, 30:31, 40:41]).max() > 1e-3  # it does something
    # it leaves what is exactly 0 at the first date, we do not know of that
    np.testing.assert_allclose(ours[1:, ~gap], theirs[1:, ~gap], atol=2e-6)
