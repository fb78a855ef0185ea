"""The statistics, the pursuit and the correction, on arrays with known truth."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import grid_of, observed
from mintpy_vae.errors import NotEnoughEvidence
from mintpy_vae.method import search
from mintpy_vae.method.atmosphere import Atmosphere, estimate, sentences
from mintpy_vae.method.bells import bell_map, make_bells
from mintpy_vae.method.covariance import date_strength, fill
from mintpy_vae.method.gnss_trend import anchor
from mintpy_vae.method.joint import estimate_jointly
from mintpy_vae.method.knowledge import NOTHING, Knowledge, StationRate
from mintpy_vae.method.local_sky import no_local_sky
from mintpy_vae.method.observations import Observations
from mintpy_vae.method.search import Dictionary
from mintpy_vae.method.separation import separate, spread
from mintpy_vae.method.sky import sky_statistics
from mintpy_vae.method.timefunctions import annual, scanned, trend
from mintpy_vae.method.training import train
from mintpy_vae.method.upsampling import FullResolution
from mintpy_vae.metrics import velocity, within_sigmas
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.scene import WAVELENGTH

SHAPE = (32, 36)
N = 40
YEARS = np.arange(N) * 12 / 365.25
DATES = [str(np.datetime64("2018-01-01") + 12 * k).replace("-", "") for k in range(N)]
ALL = np.ones(SHAPE, dtype=bool)


def turbulence(n: int, seed: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Stationary fields (n, pixels) with a power-law spectrum and unit variance, zero mean each."""
    rng = np.random.default_rng(seed)
    side = 2 * max(shape)
    k = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    k[0, 0] = np.inf
    spectrum = rng.normal(size=(n, *k.shape)) + 1j * rng.normal(size=(n, *k.shape))
    fields = np.fft.irfft2(spectrum * k ** (-4 / 3), s=(side, side))[:, : shape[0], : shape[1]].reshape(n, -1)
    fields -= fields.mean(axis=1, keepdims=True)
    return fields / fields.std()


def bell(row: float, column: float, sigma: float) -> np.ndarray:
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * sigma**2)).ravel()


CENTRE, FAR = 14 * SHAPE[1] + 20, 3 * SHAPE[1] + 3
NO_RELIEF = np.zeros(SHAPE[0] * SHAPE[1])


def together(series: np.ndarray, height: np.ndarray = NO_RELIEF, knowledge: Knowledge = NOTHING, **changes):
    """Motion and atmosphere of a series, without a network: centred series, both, and what is left of the series."""
    x = series - series.mean(axis=0)
    x = x - x.mean(axis=1, keepdims=True)
    functions = [trend(YEARS), *annual(YEARS), *scanned(DATES)]
    grid = grid_of(ALL, height, YEARS)
    dictionary = Dictionary(functions, make_bells(ALL, height, knowledge.stable))
    joint = estimate_jointly(x, dictionary, grid, 0.01, np.random.default_rng(0), **changes)
    atmosphere = estimate(x, joint, no_local_sky(joint.sky), grid, knowledge)
    left = x - atmosphere.turbulent.reshape(N, -1) - np.outer(atmosphere.slope, height)
    return joint, atmosphere, left - np.median(left, axis=1, keepdims=True)


def likely(joint):
    """Pieces of motion that are more likely than chance."""
    return [piece for piece in joint.deformation.pieces if piece.likely]


def rate(series: np.ndarray) -> np.ndarray:
    """Of each pixel, over the whole stack."""
    return np.polyfit(trend(YEARS).values, series, 1)[0]


def test_strength_of_a_date_ignores_local_motion():
    maps = turbulence(N, 2)
    maps[5] *= 4
    strong = date_strength(maps)
    assert strong[5] > 2 * np.median(strong)
    moved = maps.copy()
    moved[:, :50] += 100
    np.testing.assert_allclose(date_strength(moved), strong, rtol=0.25)


def test_the_statistics_of_the_sky_do_not_depend_on_the_mean_of_the_motion_subtracted():
    """A series has mean 0 over the scene, a bell has not."""
    sky, step = turbulence(N, 3), np.outer(YEARS[N // 2] < YEARS, bell(14, 20, 3.0))
    grid = grid_of(ALL, NO_RELIEF, YEARS)
    plain, with_mean = (sky_statistics(x, grid) for x in (sky, sky - 60 * step.mean(axis=1, keepdims=True)))
    np.testing.assert_allclose(with_mean.fine, plain.fine, rtol=1e-9)
    np.testing.assert_allclose(with_mean.modes[2:], plain.modes[2:], atol=1e-12)


def test_where_the_highest_ground_is_level_maps_along_the_relief_are_finite():
    height = np.minimum(bell(14, 20, 6.0) * 1000, 400.0)
    made = make_bells(ALL, height - height.mean())
    assert np.isfinite(made.maps).all() and made.relief.any()


def test_fill_takes_the_nearest_valid_pixel():
    valid = np.zeros((3, 3), dtype=bool)
    valid[0, 0] = valid[2, 2] = True
    full = fill(np.array([[1.0, 2.0]]), valid)
    assert full[0, 0, 1] == 1 and full[0, 2, 1] == 2


@pytest.mark.parametrize("width", [2.0, 3.5])
def test_a_bowl_is_found_and_keeps_its_rate(width):
    rates = []
    for seed in (30, 31):
        motion = 6.0 * np.outer(trend(YEARS).values, bell(14, 20, width))
        joint, _, left = together(turbulence(N, seed) + motion)
        first = joint.deformation.pieces[0]
        assert np.hypot(*(first.place[:2] - (14, 20))) < width and first.function == "trend"
        assert np.ptp(joint.deformation.series[:, FAR]) < 0.9
        rates.append(rate(left)[CENTRE])
    assert np.mean(rates) == pytest.approx(6.0, rel=0.1)


def test_motion_is_found_from_the_amplitude_that_is_stated():
    sky = slow_sky(20)
    limits = together(sky)[0].found_from
    assert [limit.width for limit in limits] == sorted(limit.width for limit in limits)
    limit = limits[2]  # 0.07 of the scene
    shape = bell(14, 20, limit.width * min(SHAPE))
    found = {
        times: sum(piece.probability * piece.amplitude for piece in likely(joint) if piece.function == "trend")
        for times in (0.5, 1.6)
        for joint, _, _ in [together(sky + times * limit.trend[0] * np.outer(trend(YEARS).values, shape))]
    }
    assert found[0.5] < 0.2 * limit.trend[0] < limit.trend[0] < found[1.6]


def test_where_the_sky_is_rough_motion_has_to_be_stronger():
    sky = slow_sky(20)
    rough = sky.copy().reshape(N, *SHAPE)
    rough[:, :, -12:] *= 2.5
    even, uneven = (together(x.reshape(N, -1))[0].found_from[2] for x in (sky, rough))
    assert uneven.trend[1] / uneven.trend[0] > 1.3 * even.trend[1] / even.trend[0]


def test_a_weak_ellipse_is_found_with_its_own_shape():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    ellipse = np.exp(-((y - 14) ** 2 / (2 * 1.5**2)) - (x - 20) ** 2 / (2 * 4.5**2)).ravel()
    sky = slow_sky(40)
    limit = np.median([one.trend[0] for one in together(sky)[0].found_from[:4]])
    joint = together(sky + 1.5 * limit * np.outer(trend(YEARS).values, ellipse))[0]
    assert rate(joint.deformation.series) @ ellipse / (ellipse @ ellipse) > 0.6 * 1.5 * limit


def test_doubt_and_correlated_amplitudes_count_in_the_standard_deviation():
    sky = turbulence(N, 30) + 6.0 * np.outer(trend(YEARS).values, bell(14, 20, 3.0))
    motion = together(sky)[0].deformation
    line = (YEARS - YEARS.mean()) / ((YEARS - YEARS.mean()) @ (YEARS - YEARS.mean()))
    own = motion.variance_along(line[None])[0]
    assert own[CENTRE] > 10 * own[FAR].max()
    k = int(np.argmax([piece.probability for piece in motion.pieces]))
    alone = replace(
        motion, pieces=[motion.pieces[k]], maps=motion.maps[[k]], weights=motion.weights[[k]], covariance=None
    )
    std = motion.pieces[k].std / abs(motion.pieces[k].amplitude) * abs(motion.weights[k] @ line)
    assert np.sqrt(alone.variance_along(line[None])).max() == pytest.approx(std * motion.maps[k].max(), rel=0.01)
    doubtful = replace(alone, pieces=[replace(motion.pieces[k], probability=0.5)])
    both = doubtful.variance_along(np.stack([line, np.eye(N)[0] - 1 / N]))[:, CENTRE]
    of_motion = (motion.weights[k] @ line, motion.weights[k, 0])  # of the rate, and on the first date
    assert (both > 0.9 * np.square(of_motion) * motion.maps[k][CENTRE] ** 2).all()


def test_hardly_anything_is_found_in_turbulence():
    found = [together(turbulence(N, seed))[0] for seed in (20, 21)]
    assert sum(bool(likely(joint)) for joint in found) <= 1
    assert all(joint.deformation.series.std() < 0.05 for joint in found)


def slow_sky(seed: int, steady: float = 4.0, seasonal: float = 4.0) -> np.ndarray:
    """Turbulence whose trend and year have so many times the standard deviation of independent dates."""
    sky = turbulence(N, seed)
    for k, f in enumerate([trend(YEARS), *annual(YEARS)]):
        unit = (f.values - f.values.mean()) / np.linalg.norm(f.values - f.values.mean())
        sky += np.outer(unit, turbulence(1, 1000 + 10 * seed + k)[0] * (steady if k == 0 else seasonal))
    return sky


def test_a_sky_that_is_slow_and_seasonal_is_no_motion(monkeypatch):
    monkeypatch.setattr(search, "MAX_PIECES", 12)
    kept, false = [], 0
    for seed in (40, 41):
        sky = slow_sky(seed)
        joint, _, left = together(sky)
        false += len(likely(joint))
        kept.append(rate(left).std() / rate(sky).std())
        slow = joint.slow[0]
        assert 4 < np.exp(np.log(slow.bands).mean()) < 50  # 16 and 1 in truth
        if seed == 40:  # what independent dates would have found
            assert len(together(sky, slow_sky=False)[0].deformation.pieces) == 12 > len(likely(joint))
    assert false <= 1 and max(kept) < 0.4


def test_nothing_jumps_where_a_motion_comes_out_of_the_noise():
    noise, shape = slow_sky(50), bell(14, 20, 3.0)

    def kept(strength):
        left = together(noise + strength * np.outer(trend(YEARS).values, shape))[2]
        return rate(left) @ shape / (shape @ shape)

    weak, strong = 5.0, 10.0
    lost, found = kept(weak), kept(strong)
    assert lost < 0.1 * weak and found > 0.6 * strong
    for _ in range(4):  # to where half of it is kept
        middle = (weak + strong) / 2
        some = kept(middle)
        if some < middle / 2:
            weak, lost = middle, some
        else:
            strong, found = middle, some
    # a threshold that is all or nothing jumps by the whole motion, some 7
    assert strong - weak < 0.4 and found - lost < 3.0


@pytest.mark.parametrize(("ratio", "angle"), [(1.0, 0.0), (3.0, 0.0), (3.0, 0.7)])
def test_a_bell_has_the_width_ratio_and_direction_it_says(ratio, angle):
    pixels = np.array(np.nonzero(np.ones((81, 81), dtype=bool)), dtype=float)
    stretch = np.log(ratio) / 2
    place = np.array([40, 40, np.log(6.0), stretch * np.cos(2 * angle), stretch * np.sin(2 * angle)])
    weight = bell_map(place, pixels)
    y, x = pixels - 40
    spread = np.array([[weight @ (x * x), weight @ (x * y)], [weight @ (x * y), weight @ (y * y)]]) / weight.sum()
    long = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-long[1], long[0]])
    assert np.sqrt(long @ spread @ long) == pytest.approx(6 * np.sqrt(ratio), rel=0.01)
    assert np.sqrt(across @ spread @ across) == pytest.approx(6 / np.sqrt(ratio), rel=0.01)


def test_a_slow_slip_event_is_kept():
    days = 365.25 * YEARS
    event = np.clip((days - days[25]) / 60, 0, 1)  # weeks long; no step holds it
    motion = 6 * np.outer(event, bell(14, 20, 2.0))
    centred = event - event.mean()
    lefts = [together(turbulence(N, seed) + motion)[2][:, CENTRE] for seed in (60, 61)]
    assert np.mean([centred @ left / (centred @ centred) for left in lefts]) == pytest.approx(6, rel=0.12)


@pytest.mark.parametrize("preset", [pytest.param("quiet", marks=pytest.mark.slow), "bowl"])
def test_the_standard_deviation_holds_two_thirds_of_the_errors(preset):
    shares = np.mean([stated_and_true(preset, seed) for seed in (2, 4)], axis=0)  # a velocity is one map: few places
    # decorrelation noise counts as atmosphere that is left, so on calm stacks sigma is somewhat too large
    assert 0.60 < shares[0] < 0.80
    assert 0.5 < shares[1] < 0.85
    assert shares[2] > 0.88


def stated_and_true(preset, seed):
    """Shares of the errors within one sigma, of the velocity's within one and two."""
    scene = simulate(preset, seed=seed, n_dates=40, size=(48, 48))
    found = separate(observed(scene), Settings(train_steps=20))
    valid, metres = found.valid, -WAVELENGTH / (4 * np.pi)
    height = found.grid.profile(scene.height[valid])
    estimate = metres * (found.atmosphere.turbulent[:, valid] + found.atmosphere.slope[:, None] * height)
    std = abs(metres) * found.atmosphere.std[:, valid]
    rate = velocity(estimate - scene.atmosphere[:, valid], found.grid.years)
    stated, zero = abs(metres) * found.atmosphere.rate_std[valid], np.zeros_like(rate)
    of_rate = (within_sigmas(rate, zero, stated), within_sigmas(rate, zero, stated, 2.0))
    return within_sigmas(estimate, scene.atmosphere[:, valid], std), *of_rate


def test_atmosphere_goes_and_what_it_cannot_make_stays():
    spike = turbulence(N, 5)
    plain = together(spike)[2]
    assert plain.std() < 0.4 * spike.std()
    spike[20:, 500] += 30.0  # one pixel, no atmosphere does this
    kept = together(spike)[2][:, 500] - plain[:, 500]
    assert 0.8 * 30 < kept[20:].mean() - kept[:20].mean() < 1.05 * 30


def test_what_moves_is_shown():
    motion = 4 * np.outer(trend(YEARS).values, bell(14, 20, 3.0))
    moving = together(turbulence(N, 6) + motion)[1].moving
    assert moving[14, 20] and not moving[3, 3] and moving.mean() < 0.3


def _tilt() -> np.ndarray:
    """The tilt of a whole scene: broad motion and the atmosphere's drift look alike."""
    y, _ = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
    return np.outer(trend(YEARS).values, np.cos(np.pi * y).ravel()) * 12


def test_motion_as_broad_as_the_scene_is_left_alone_and_reported():
    tilt = _tilt()
    _, atmosphere, left = together(turbulence(N, 7) + tilt)
    said = sentences(atmosphere.guarded, 4.4)
    assert any("as broad as the scene" in sentence and "mm/yr" in sentence for sentence in said)
    assert rate(left).std() > 0.6 * rate(tilt).std()
    quiet = together(turbulence(N, 7))[1]
    assert not quiet.guarded and not quiet.moving.any()


def test_motion_that_bends_with_the_relief_is_kept_and_a_line_is_not():
    height = 1500 * np.clip(bell(18, 16, 6.0) + 0.05 * turbulence(1, 3)[0], 0, None)
    height -= height.mean()
    weather = np.outer(np.random.default_rng(1).normal(size=N), height / height.std())
    line = 3 * np.outer(trend(YEARS).values, height / height.std())
    joint, _, left = together(turbulence(N, 8) + weather + line, height)
    assert not likely(joint) and abs(np.polyfit(height, rate(left), 1)[0]) < 0.05 * 3 / height.std()
    summit = np.maximum(height - np.quantile(height, 0.85), 0)
    summit *= 8 / summit.max()
    _, atmosphere, left = together(turbulence(N, 8) + weather + np.outer(trend(YEARS).values, summit), height)
    assert [g.kind for g in atmosphere.guarded] == ["relief"]
    assert rate(left) @ summit / (summit @ summit) == pytest.approx(1, abs=0.3)


def test_a_trend_along_the_relief_that_is_removed_is_named_with_the_rate_from_which_it_would_be_motion():
    height = 1500 * bell(14, 20, 7.0)
    bent = np.maximum(height - np.quantile(height, 0.85), 0)
    bent /= bent.max()
    series = turbulence(N, 9)
    rates, kinds, limits = (0.0, 1.0, 2.0, 2.04, 2.07, 2.5, 4.0), [], []
    for total in rates:
        joint, atmosphere, left = together(series + total * np.outer(trend(YEARS).values, bent), height - height.mean())
        found = [g for g in atmosphere.guarded if g.kind.startswith("relief")]
        kinds.append(found[0].kind if found else "")
        if kinds[-1] == "relief removed":
            assert abs(found[0].rate) < found[0].figure
            assert "removed as atmosphere" in sentences(found, 1.0)[0]
            limits.append(found[0].figure * np.ptp(YEARS))
    assert kinds[0] == "" and kinds[-1] == "relief" and "relief removed" in kinds
    assert kinds == sorted(kinds, key=["", "relief removed", "relief"].index)  # in this order as the motion grows
    assert min(limits) > 1.0 and max(limits) < 2.5


@pytest.mark.parametrize("motion_share", [1.0, 0.0])
def test_gnss_stations_tell_broad_motion_from_a_drift_of_the_atmosphere(motion_share):
    tilt = _tilt()
    places = [(2, 3), (2, 30), (14, 16), (20, 33), (28, 2), (29, 20)]
    true = np.polyfit(YEARS, motion_share * tilt, 1)[0]
    at = true.reshape(SHAPE)
    stations = [StationRate(f"S{r}", r, c, at[r, c] + 100.0, 0.05) for r, c in places]  # rates are relative
    error = {}
    for name, knowledge in (("alone", NOTHING), ("anchored", Knowledge(stations=stations))):
        left = together(turbulence(N, 7) + tilt, knowledge=knowledge)[2]
        error[name] = (np.polyfit(YEARS, left, 1)[0] - true).std()
    assert error["anchored"] < (1.0 if motion_share else 0.7) * error["alone"]


def test_stations_without_misfit_change_nothing_and_those_far_away_little():
    modes = together(turbulence(N, 8))[0].sky.modes
    pixels = np.array([30, 500, 900])
    agree = [StationRate("S", 0, 0, rate, 0.1) for rate in (3.0, 4.0, 6.0)]
    assert np.allclose(anchor(np.array([1.0, 2.0, 4.0]), agree, pixels, modes, 0.1, 0.5), 0)  # but for a constant
    asked = anchor(np.array([1.0, 2.0, 5.0]), agree, pixels, modes, 0.1, 0.5)
    assert np.linalg.norm(asked) > 0 and asked[0] == 0
    unsure = [StationRate("S", 0, 0, s.rate, 1e3) for s in agree]
    little = anchor(np.array([1.0, 2.0, 5.0]), unsure, pixels, modes, 0.1, 0.5)
    assert np.linalg.norm(little) < 1e-3 * np.linalg.norm(asked)


def test_ground_known_to_move_is_interpolated_and_ground_known_to_be_stable_is_not():
    motion = 1.0 * np.outer(trend(YEARS).values, bell(14, 20, 3.0))  # too weak to be found
    here = bell(14, 20, 3.0).reshape(SHAPE) > 0.05
    blind = together(turbulence(N, 6) + motion)[2]
    _, told, left = together(turbulence(N, 6) + motion, knowledge=Knowledge(moving=here))
    kept = [rate(series)[here.ravel()] @ bell(14, 20, 3.0)[here.ravel()] for series in (blind, left)]
    wanted = float((bell(14, 20, 3.0)[here.ravel()] ** 2).sum())
    assert abs(kept[1] - wanted) < 0.5 * wanted and kept[0] < kept[1]
    assert (told.moving | ~here).all()
    assert not together(turbulence(N, 6) + 5 * motion, knowledge=Knowledge(stable=here))[1].moving[here].any()
    nearest = np.minimum(np.round(make_bells(ALL, NO_RELIEF, here).places[:, :2]).astype(int), np.array(SHAPE) - 1)
    assert len(nearest) and not here[tuple(nearest.T)].any()


def test_nothing_is_learned_from_a_date_known_to_be_bad():
    spoilt = turbulence(16, 52)
    spoilt[5] = 1000 * bell(14, 20, 9.0)
    observations = _pairs_of(spoilt)
    seen = []

    def spy(series, *args):
        seen.append(np.abs(series).max() / np.median(np.abs(series)))
        return train(series, *args)

    settings = Settings(train_steps=20, min_cluster_size=10)
    found = separate(observations, settings, Knowledge(bad_dates=[5]), trainer=spy)
    assert len(seen) == 1 and max(seen) < 20
    assert all(len(c.amplitude) == 16 for c in found.clusters)
    with pytest.raises(NotEnoughEvidence, match="not bad"):
        separate(observations, Settings(), Knowledge(bad_dates=list(range(9))))


def test_full_resolution_follows_smooth_fields_and_height():
    factor, size = 4, (130, 90)
    coarse = (-(-size[0] // factor), -(-size[1] // factor))

    def wave(y, x):
        return np.sin(y / 25) * np.cos(x / 30)

    centres = [np.minimum(np.arange(n) * factor + 1.5, s - 1) for n, s in zip(coarse, size, strict=True)]
    maps = wave(centres[0][:, None], centres[1][None])[None]
    height = np.random.default_rng(0).normal(size=size) * 100
    height[3, 3] = np.nan
    nothing = np.zeros(coarse, dtype=bool)
    atmosphere = Atmosphere(maps, np.array([0.01]), maps, maps[0], nothing, [], np.zeros(nothing.size), 0.0)
    full = FullResolution(atmosphere, height, factor)
    truth = wave(np.arange(size[0])[:, None], np.arange(size[1])[None])
    inside = (slice(None), slice(8, -8), slice(8, -8))
    expected = truth + 0.01 * np.nan_to_num(height)
    assert np.abs(full(slice(0, size[0])) - expected)[inside].max() < 0.01
    np.testing.assert_allclose(full(slice(40, 60)), full(slice(0, size[0]))[:, 40:60], atol=2e-6)


def _pairs_of(series: np.ndarray) -> Observations:
    n = len(series)
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, min(i + 4, n))])
    phase = (series[pairs[:, 1]] - series[pairs[:, 0]]).reshape(len(pairs), *SHAPE)
    return Observations(phase, np.ones_like(phase), pairs, DATES[:n], np.zeros(SHAPE))


@pytest.mark.parametrize(
    ("dates", "step", "reason"),
    [
        (8, 1, "8 dates"),
        (12, 2, "pairs"),
        (12, 1, "covered well enough; 200 are needed$"),
        (12, 1, r"\(a smaller vae.resolution gives more\)$"),
    ],
)
def test_too_little_evidence_is_refused_with_the_reason(dates, step, reason):
    given = _pairs_of(turbulence(dates, 8))
    if reason.startswith("covered"):
        given.weight[:, 5:] = 0
    elif "resolution" in reason:
        given = given.window(slice(0, 5), slice(0, 5))
    some = {name: getattr(given, name)[::step] for name in ("phase", "weight", "pairs")}
    with pytest.raises(NotEnoughEvidence, match=reason):
        separate(replace(given, **some), Settings())


def test_the_separation_is_repeatable_and_closes():
    observations = _pairs_of(turbulence(14, 9))
    one, two = (separate(observations, Settings(train_steps=40, min_cluster_size=10)) for _ in range(2))
    assert np.array_equal(one.atmosphere.turbulent, two.atmosphere.turbulent)
    assert one.corrected.std() < one.series.std()
    assert spread(one, two.corrected) == 0
    assert 0 < spread(one, two.corrected + two.atmosphere.std[:, two.valid]) < 2
    constant = two.corrected + np.arange(SHAPE[0] * SHAPE[1])
    assert spread(one, constant) < 1e-9  # only differences of dates matter
    assert one.atmosphere.turbulent.shape == (14, *SHAPE)
