"""The real sky has what real stacks have; the stationary one has not, and is what it always was."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import h5py
import numpy as np
import pytest
from scipy import fft, ndimage

from mintpy_vae.cli import vae_simulate
from mintpy_vae.errors import InputError
from mintpy_vae.simulate import PRESETS, Scene, simulate
from mintpy_vae.simulate.sky import SKIES

Array = np.ndarray

SIZE = 64
STACKS = range(1, 9)
BARE = {"stratified": 0.0, "stratified_annual": 0.0, "orbit": 0.0, "texture": (0.0, 0.0)}
"""Turbulence alone."""
STRATIFIED = {"turbulence": 0.0, "orbit": 0.0, "texture": (0.0, 0.0)}


@cache
def stacks(sky: str, kind: str = "whole") -> list[Scene]:
    """Skies over ground that does not move."""
    changes = {"whole": {}, "turbulence": BARE, "stratified": STRATIFIED}[kind]
    return [simulate("quiet", size=(SIZE, SIZE), seed=s, sky=sky, pairs=60, looks=1e9, **changes) for s in STACKS]


def over_stacks(measure, sky: str, kind: str = "whole") -> Array:
    return np.array([measure(scene) for scene in stacks(sky, kind)])


def slow_functions(scene: Scene) -> dict[str, Array]:
    """Of mean 0 and norm 1."""
    t = scene.years
    courses = {"trend": t, "cosine": np.cos(2 * np.pi * t), "sine": np.sin(2 * np.pi * t)}
    return {name: (c - c.mean()) / np.linalg.norm(c - c.mean()) for name, c in courses.items()}


def without_slow(scene: Scene, series: Array, strength: Array | None = None) -> tuple[Array, Array]:
    """Less a mean, a trend, an annual cycle and half-cosines, one and two in the time span, fitted with the strength of
    each date (dates,); and the share of a date's variance that the fit leaves."""
    phase = np.pi * scene.years / scene.years[-1]
    design = np.stack([np.ones_like(phase), *slow_functions(scene).values(), np.cos(phase), np.cos(2 * phase)], axis=1)
    weight = np.ones_like(phase) if strength is None else 1 / strength
    fit = design @ np.linalg.pinv(design * weight[:, None]) * weight
    return series - np.tensordot(fit, series, axes=1), 1 - np.diag(fit)


def slope_with_height(scene: Scene, where: Array) -> Array:
    """Of each date's delay with what a stratified one does (dates,)."""
    profile = np.exp(-scene.height[where] / 2500.0)
    profile = profile - profile.mean()
    return scene.atmosphere[:, where] @ profile / (profile @ profile)


def without_height(scene: Scene) -> Array:
    """Atmosphere (dates, length, width) less each date's mean and its slope with height; 0 in water."""
    land, out = scene.land, np.zeros(scene.atmosphere.shape)
    h = scene.height[land] - scene.height[land].mean()
    a = scene.atmosphere[:, land] - scene.atmosphere[:, land].mean(axis=1, keepdims=True)
    out[:, land] = a - np.outer(a @ h / (h @ h), h)
    return out


def correlation(series: Array, lag: int) -> float:
    d = series - series.mean()
    return float(d[lag:] @ d[:-lag] / (d @ d))


def power(scene: Scene, series: Array, names: tuple[str, ...]) -> float:
    """Variance that a series (dates, places) has along some functions, over what independent dates would give it."""
    rest, _ = without_slow(scene, series)
    level = (rest**2).sum() / (len(series) - 6)
    functions = np.array([slow_functions(scene)[name] for name in names])
    return float(((functions @ series) ** 2).sum() / len(names) / level)


# ------------------------------------------------------------------------------------------------ the stratified delay
def test_the_slope_with_height_is_red_with_a_season():
    def correlations(scene):
        slope = slope_with_height(scene, scene.land)
        return correlation(slope, 1), correlation(slope, 5)

    def annual(scene):
        return power(scene, slope_with_height(scene, scene.land)[:, None], ("cosine", "sine"))

    def drift(scene):  # the season apart
        slope = slope_with_height(scene, scene.land)
        cycle = np.stack([slow_functions(scene)["cosine"], slow_functions(scene)["sine"]], axis=1)
        return power(scene, (slope - cycle @ np.linalg.pinv(cycle) @ slope)[:, None], ("trend",))

    one, five = np.mean(over_stacks(correlations, "real"), axis=0)
    assert 0.15 < one < 0.35 and 0.06 < five < 0.25
    assert np.mean(over_stacks(correlations, "stationary"), axis=0)[0] > 0.38
    assert 3 < np.median(over_stacks(annual, "real")) < 15
    assert np.median(over_stacks(annual, "stationary")) > 20
    assert 3 < np.median(over_stacks(drift, "real")) < 40
    assert np.median(over_stacks(drift, "stationary")) < 1.5


def test_the_slope_with_height_differs_from_place_to_place():
    def difference(scene):
        """Of the slopes in quarters of the scene, by the slope of all of it."""
        half = SIZE // 2
        quarters = np.zeros((4, SIZE, SIZE), bool)
        for k, (i, j) in enumerate(((0, 0), (0, half), (half, 0), (half, half))):
            quarters[k, i : i + half, j : j + half] = True
        local = np.stack([slope_with_height(scene, q & scene.land) for q in quarters])
        return (local - local.mean(axis=0)).std() / local.mean(axis=0).std()

    assert 0.12 < np.median(over_stacks(difference, "real", "stratified")) < 0.5
    assert np.median(over_stacks(difference, "stationary", "stratified")) < 0.08


def test_the_season_is_of_one_size_whatever_the_number_of_dates():
    def share(n_dates):
        """Of the variance of the slope with height."""
        shares = []
        for seed in range(1, 17):
            scene = simulate("quiet", n_dates=n_dates, size=(20, 20), seed=seed, gaps=0.5, pairs=60, **STRATIFIED)
            slope = slope_with_height(scene, scene.land)
            annual = np.array([slow_functions(scene)[name] for name in ("cosine", "sine")])
            shares.append(((annual @ slope) ** 2).sum() / (slope @ slope) - 2 / n_dates)
        return np.mean(shares)

    few, many = share(40), share(160)
    assert few == pytest.approx(many, rel=0.4) and 0.08 < many < 0.3


# ---------------------------------------------------------------------------------------------------------- turbulence
def turbulent(scene: Scene) -> tuple[Array, Array]:
    """Turbulence without what is slow (dates, length, width), and the strength of each date (dates,), from differences
    of neighbouring pixels, of which a date has many that are independent."""
    steps = np.diff(scene.atmosphere, axis=1).reshape(len(scene.dates), -1)
    strength = np.sqrt((steps**2).mean(axis=1))
    for _ in range(4):
        rest, left = without_slow(scene, steps, strength)
        strength = np.sqrt((rest**2).mean(axis=1) / np.maximum(left, 0.2))
    return without_slow(scene, scene.atmosphere, strength)[0], strength


def test_the_strength_of_dates_is_log_normal():
    def spread(sky):
        logs = np.log(over_stacks(lambda scene: turbulent(scene)[1], sky, "turbulence"))
        logs = (logs - logs.mean(axis=1, keepdims=True)).ravel()
        return np.exp(np.ptp(np.quantile(logs, [0.1, 0.9]))), np.mean(logs**3) / logs.std() ** 3

    ratio, skewness = spread("real")
    assert 3.1 < ratio < 4.1 and abs(skewness) < 0.4
    assert spread("stationary")[0] < 2.95


def local_variance(scene: Scene) -> Array:
    """In blocks of 8 x 8 pixels, from differences of neighbours on dates of one strength."""
    maps, strength = turbulent(scene)
    steps = np.diff(maps, axis=1)[:, : SIZE - 8] / strength[:, None, None]
    return (steps**2).mean(axis=0).reshape(SIZE // 8 - 1, 8, SIZE // 8, 8).mean(axis=(1, 3))


def test_some_places_have_more_weather():
    def ratio(scene):
        return np.divide(*np.quantile(local_variance(scene), [0.95, 0.05]))

    real = over_stacks(ratio, "real", "turbulence")
    assert 1.5 < np.median(real) < 4 and real.max() < 5
    assert over_stacks(ratio, "stationary", "turbulence").max() < 1.5


def test_wide_scenes_of_high_relief_differ_most_in_weather_and_it_is_on_the_heights():
    def correlation_with_height(scene):
        height = ndimage.uniform_filter(scene.height, 8)[4 : SIZE - 8 : 8, 4::8]
        return np.corrcoef(np.log(local_variance(scene)).ravel(), height.ravel())[0, 1]

    assert np.mean(over_stacks(correlation_with_height, "real", "turbulence")) > 0.3
    assert abs(np.mean(over_stacks(correlation_with_height, "stationary", "turbulence"))) < 0.2

    def ratio(relief, pixel):
        """Of a wide or a narrow scene, without simulating all of its pixels."""
        found, case = [], replace(PRESETS["quiet"], **BARE)
        for scene in stacks("real", "turbulence"):
            sky = SKIES["real"](
                np.random.default_rng(scene.seed), case, scene.dates, relief * scene.height, scene.land, pixel
            )
            found.append(np.divide(*np.quantile(local_variance(replace(scene, atmosphere=sky)), [0.95, 0.05])))
        return np.mean(found)

    narrow, wide = ratio(0.1, 100.0), ratio(2.0, 1000.0)
    assert 1.3 < narrow < 2.2 and 2.6 < wide < 5


def test_one_date_in_five_has_a_direction():
    def elongation(scene):
        """Of each date: ratio of the scales along and across, from the gradients."""
        maps, _ = turbulent(scene)
        gy, gx = np.gradient(maps, axis=(1, 2))
        yy, xx, xy = (gy**2).mean(axis=(1, 2)), (gx**2).mean(axis=(1, 2)), (gy * gx).mean(axis=(1, 2))
        low, high = np.moveaxis(np.linalg.eigvalsh(np.moveaxis(np.array([[yy, xy], [xy, xx]]), -1, 0)), -1, 0)
        return np.sqrt(high / low)

    real, old = (over_stacks(elongation, sky, "turbulence") for sky in ("real", "stationary"))
    assert 0.1 < (real > 1.3).mean() < 0.3
    assert real.max() < 4
    assert (old > 1.3).mean() < 0.02


def test_the_spectrum_differs_from_stack_to_stack():
    def falls_off_by(scene):
        window = np.hanning(SIZE)[:, None] * np.hanning(SIZE)
        spectrum = (np.abs(fft.fft2(turbulent(scene)[0] * window)) ** 2).mean(axis=0)
        waves = np.hypot(fft.fftfreq(SIZE)[:, None], fft.fftfreq(SIZE)[None, :]) * SIZE
        ring = np.digitize(waves, np.geomspace(3, 12, 7))  # all longer than 1.5 km
        x, y = ([np.log(v[ring == k].mean()) for k in range(1, 7)] for v in (waves, spectrum))
        return -np.polyfit(x, y, 1)[0]

    real, old = (over_stacks(falls_off_by, sky, "turbulence") for sky in ("real", "stationary"))
    assert real.min() > 2.1 and real.max() < 3.9
    assert np.ptp(real) > 0.5
    assert np.abs(old - 8 / 3).max() < 0.35 and np.ptp(old) < 0.4


@pytest.mark.parametrize("sky", SKIES)
def test_the_tails_are_gaussian(sky):
    def kurtosis(scene):
        maps, strength = turbulent(scene)
        steps = np.diff(maps, axis=1) / strength[:, None, None]
        steps /= steps.std(axis=0)
        return (steps**4).mean() - 3

    assert abs(np.mean(over_stacks(kurtosis, sky, "turbulence"))) < 0.3


def bells(maps: Array, width: float) -> Array:
    """Weighted means around places (dates, places)."""
    smooth = np.array([ndimage.gaussian_filter(m, width * SIZE, mode="constant") for m in maps])
    return smooth[:, ::4, ::4].reshape(len(maps), -1)


def test_the_turbulence_is_slow_at_every_width_most_at_broad_ones():
    def excess(width, names):
        def measure(scene):
            maps = without_height(scene)
            return power(scene, bells(maps, width) if width else maps.reshape(len(maps), -1), names)

        return measure

    for width in (0.0, 0.03, 0.15):
        trend = over_stacks(excess(width, ("trend",)), "real")
        assert 3 < np.median(trend) < 15, width
        assert 2 < np.median(over_stacks(excess(width, ("cosine", "sine")), "real")) < 8, width
        for names in (("trend",), ("cosine", "sine")):
            assert np.median(over_stacks(excess(width, names), "stationary")) < 1.6, width

    def fine(scene):
        return power(scene, np.diff(scene.atmosphere, axis=1).reshape(len(scene.dates), -1), ("trend",))

    broad = over_stacks(excess(0.03, ("trend",)), "real", "turbulence")
    assert np.median(broad / over_stacks(fine, "real", "turbulence")) > 1.5


# ------------------------------------------------------------------------------------------------------------- texture
def test_a_fine_texture_grows_with_time():
    only = {"turbulence": 0.0, "stratified": 0.0, "stratified_annual": 0.0, "orbit": 0.0}
    rates = []
    for seed in range(1, 9):
        scene = simulate("quiet", n_dates=5, size=(SIZE, SIZE), seed=seed, **only)
        rate = scene.atmosphere[-1] / scene.years[-1]
        np.testing.assert_allclose(scene.atmosphere, scene.years[:, None, None] * rate, atol=1e-9)
        rates.append(1000 * rate.std())
        assert abs(np.corrcoef(rate[:, 5:].ravel(), rate[:, :-5].ravel())[0, 1]) < 0.1
    assert min(rates) > 0.39 and max(rates) < 0.91 and np.ptp(rates) > 0.1
    assert not simulate("quiet", n_dates=5, size=(SIZE, SIZE), sky="stationary", **only).atmosphere.any()


# ------------------------------------------------------------------------------------------------------------ the seam
@pytest.mark.parametrize("sky", SKIES)
def test_a_sky_is_its_seed_s(sky):
    def make(seed, preset="quiet"):
        return simulate(preset, n_dates=8, size=(24, 30), seed=seed, sky=sky).atmosphere

    assert make(1).tobytes() == make(1).tobytes() == make(1, "bowl").tobytes()
    assert make(1).tobytes() != make(2).tobytes()


def test_the_real_sky_is_the_default_and_over_still_ground_it_is_all_there_is():
    default, real, other = (
        simulate("quiet", n_dates=8, size=(24, 30), **named) for named in ({}, {"sky": "real"}, {"sky": "stationary"})
    )
    assert default.atmosphere.tobytes() == real.atmosphere.tobytes() != other.atmosphere.tobytes()
    assert not real.displacement.any() and not real.deforming.any()


@pytest.mark.parametrize("asked, sky", [((), "real"), (("--sky", "stationary"), "stationary")])
def test_the_command_writes_the_sky_that_is_asked_for(tmp_path, asked, sky):
    vae_simulate.main([str(tmp_path / "new"), "--preset", "quiet", "--dates", "6", "--size", "24", "30", *asked])
    with h5py.File(tmp_path / "new" / "truth.h5") as f:
        np.testing.assert_array_equal(
            f["atmosphere"][:], simulate("quiet", n_dates=6, size=(24, 30), sky=sky).atmosphere
        )


def test_the_command_s_skies_are_the_simulator_s():
    (option,) = (a for a in vae_simulate.create_parser()._actions if a.dest == "sky")
    assert list(option.choices) == list(SKIES) and option.default == "real"


def test_the_stationary_sky_is_what_it_was():
    """Figures of the version before there was another."""
    scene = simulate("bowl", n_dates=12, size=(40, 50), seed=3, sky="stationary")
    found = scene.atmosphere[[0, 3, 7, 11], [5, 20, 33, 39], [4, 17, 40, 49]]
    np.testing.assert_allclose(found, [0.1379898, 0.12871107, -0.03685363, 0.01068867], rtol=1e-4)
    np.testing.assert_allclose([scene.atmosphere.std(), scene.atmosphere[:, scene.land].mean()],
                               [0.07039157, 0.05582679], rtol=1e-4)  # fmt: skip


@pytest.mark.parametrize(
    "changes",
    [{"n_dates": 3}, {"relief": (0.0, 0.0)}, {"relief": (900.0, 900.0), "water": 0.0}, {"size": (20, 90)}],
    ids=["3 dates", "sea level", "plateau", "strip"],
)
def test_the_real_sky_of_odd_scenes_is_finite(changes):
    scene = simulate("quiet", **({"n_dates": 6, "size": (24, 24)} | changes))
    assert np.all(np.isfinite(scene.atmosphere)) and 0 < scene.atmosphere.std() < 0.2


def test_another_sky_is_refused():
    with pytest.raises(InputError, match="choose real or stationary"):
        simulate("bowl", sky="blue")
