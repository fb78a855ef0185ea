"""The statistics, the pursuit and the correction, on arrays with known truth."""

import numpy as np
import pytest

from mintpy_vae.anchoring import anchor
from mintpy_vae.atmosphere import Prior, build_prior, choose_share, date_strength, fill, stationary_modes
from mintpy_vae.correction import Atmosphere, FullResolution, estimate
from mintpy_vae.deformation import Deformation, Search, bell_map, make_bells
from mintpy_vae.errors import NotEnoughEvidence
from mintpy_vae.knowledge import NOTHING, Knowledge, Station
from mintpy_vae.metrics import within_one_sigma
from mintpy_vae.separation import separate, spread
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.timefunctions import scanned, trend
from mintpy_vae.training import train

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


def prepare(series: np.ndarray, shortest: float = 0.02) -> tuple[np.ndarray, Prior, np.ndarray]:
    """Centred series, prior and strength as the separation makes them, without relief."""
    x = series - series.mean(axis=0)
    x = x - x.mean(axis=1, keepdims=True)
    q, _ = np.linalg.qr(np.stack([np.ones(N), YEARS], axis=1))
    left = x - q @ (q.T @ x)
    strength = date_strength(left)
    none = np.zeros((1, x.shape[1]))
    height = np.zeros(x.shape[1])
    return x, build_prior(stationary_modes(left / strength[:, None], ALL, shortest), none, 0.0, height, 0.0), strength


def test_the_prior_agrees_with_dense_algebra():
    rng = np.random.default_rng(0)
    modes, noise, maps = rng.normal(size=(6, 50)), 0.7, rng.normal(size=(3, 50))
    prior = Prior(modes, noise)
    c = modes.T @ modes + noise * np.eye(50)
    np.testing.assert_allclose(prior.whiten(maps), maps @ np.linalg.inv(c), atol=1e-10)
    coefficients, energy = prior.metric(maps)
    np.testing.assert_allclose(coefficients, prior.coefficients(maps), atol=1e-10)
    np.testing.assert_allclose(energy, [prior.energy(one) for one in maps], atol=1e-10)
    np.testing.assert_allclose(prior.product(maps, coefficients, modes), maps @ np.linalg.inv(c) @ modes.T, atol=1e-10)
    dense = 0.5 * (np.linalg.slogdet(c)[1] + np.mean(np.sum(maps @ np.linalg.inv(c) * maps, axis=1))) / 50
    assert prior.misfit(maps) == pytest.approx(dense)
    np.testing.assert_allclose(
        prior.coefficients(maps) @ modes, maps @ np.linalg.inv(c) @ (modes.T @ modes), atol=1e-10
    )


def test_stationary_modes_hold_the_variance_and_respect_the_shortest_wavelength():
    maps = turbulence(200, 0) + 0.1 * np.random.default_rng(1).normal(size=(200, SHAPE[0] * SHAPE[1]))
    fine, noise = stationary_modes(maps, ALL, 0.02)
    assert (fine**2).sum() / fine.shape[1] + noise == pytest.approx(maps.var(), rel=0.05)
    coarse, left = stationary_modes(maps, ALL, 0.3)
    assert len(coarse) < len(fine) and left > noise


def test_strength_of_a_date_ignores_local_motion():
    maps = turbulence(N, 2)
    maps[5] *= 4
    strong = date_strength(maps)
    assert strong[5] > 2 * np.median(strong)
    moved = maps.copy()
    moved[:, :50] += 100
    np.testing.assert_allclose(date_strength(moved), strong, rtol=0.25)


def test_unseen_dates_decide_between_the_network_and_the_stationary_modes():
    rng = np.random.default_rng(0)
    patterns = np.stack([bell(8, 8, 5), bell(20, 28, 6), bell(25, 8, 4)])
    patterns -= patterns.mean(axis=1, keepdims=True)
    organised = rng.normal(size=(60, 3)) @ patterns * 3 + 0.1 * rng.normal(size=(60, patterns.shape[1]))
    share, misfits = choose_share(stationary_modes(organised[:40], ALL, 0.1), 3 * patterns, organised[40:])
    assert share > 0 and misfits[share] == min(misfits.values())
    stationary = turbulence(60, 3)
    share, _ = choose_share(stationary_modes(stationary[:40], ALL, 0.1), 3 * patterns, stationary[40:])
    assert share <= 0.1


def test_fill_takes_the_nearest_valid_pixel():
    valid = np.zeros((3, 3), dtype=bool)
    valid[0, 0] = valid[2, 2] = True
    full = fill(np.array([[1.0, 2.0]]), valid)
    assert full[0, 0, 1] == 1 and full[0, 2, 1] == 2


def _estimate(series, found, height=None, knowledge=NOTHING):
    x, removal, strength = prepare(series, 0.1)
    detail = prepare(series)[1]
    z = np.zeros(x.shape[1]) if height is None else height
    functions = [trend(YEARS), *scanned(DATES)]
    return x, estimate(x, found, functions, strength, removal, detail, removal, z, ALL, YEARS, 0.01, knowledge)


@pytest.mark.parametrize("width", [2.0, 3.5])
def test_a_bowl_is_found_and_keeps_its_rate(width):
    rate, rates, trends = 3.0, [], 0
    centre, far = 14 * SHAPE[1] + 20, 3 * SHAPE[1] + 3
    for seed in range(30, 46):
        noise = turbulence(N, seed)
        series = noise + rate * np.outer(trend(YEARS).values, bell(14, 20, width))
        x, prior, strength = prepare(series)
        functions = [trend(YEARS), *scanned(DATES)]
        search = Search(prior, make_bells(ALL), functions, 1 / strength**2)
        thresholds = search.calibrate(prepare(noise)[0], 0.01, np.random.default_rng(0))
        found = search.pursue(x, thresholds, min(SHAPE))
        first = found.atoms[0]
        assert np.hypot(first["row"] - 14, first["column"] - 20) < width
        trends += first["function"] == "trend"
        assert np.ptp(found.series[:, far]) < 0.3 * rate
        left = x - _estimate(series, found)[1].turbulent.reshape(N, -1)
        rates.append(np.polyfit(trend(YEARS).values, left[:, centre] - np.median(left, axis=1), 1)[0])
    assert trends >= 14 and np.mean(rates) == pytest.approx(rate, rel=0.1)


def test_the_pursuit_finds_nothing_in_turbulence():
    false_alarms = 0
    for seed in range(20, 28):
        x, prior, strength = prepare(turbulence(N, seed))
        functions = [trend(YEARS), *scanned(DATES)]
        search = Search(prior, make_bells(ALL), functions, 1 / strength**2)
        thresholds = search.calibrate(x, 0.01, np.random.default_rng(0))
        false_alarms += bool(search.pursue(x, thresholds, min(SHAPE)).atoms)
    assert false_alarms <= 1


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
    kept = []
    for seed in range(60, 64):
        noise = turbulence(N, seed)
        x, prior, strength = prepare(noise + motion)
        search = Search(prior, make_bells(ALL), [trend(YEARS), *scanned(DATES)], 1 / strength**2)
        thresholds = search.calibrate(prepare(noise)[0], 0.01, np.random.default_rng(0))
        found = search.pursue(x, thresholds, min(SHAPE))
        left = (x - _estimate(noise + motion, found)[1].turbulent.reshape(N, -1))[:, 14 * SHAPE[1] + 20]
        centred = event - event.mean()
        kept.append(centred @ left / (centred @ centred))
    assert np.mean(kept) == pytest.approx(6, rel=0.12)


@pytest.mark.parametrize("preset", ["quiet", "bowl"])
def test_the_standard_deviation_holds_two_thirds_of_the_errors(preset):
    scene = simulate(preset, seed=2, n_dates=40, size=(48, 48))
    weight = np.where(scene.phase != 0, scene.coherence**2, 0)
    settings = Settings(train_steps=20)
    found = separate(scene.phase, weight, scene.pairs, scene.dates, scene.height, settings)
    valid, metres = found.valid, -WAVELENGTH / (4 * np.pi)
    height = scene.height[valid] - found.mean_height
    estimate = metres * (found.atmosphere.turbulent[:, valid] + found.atmosphere.slope[:, None] * height)
    std = abs(metres) * found.atmosphere.std[:, valid]
    assert 0.60 < within_one_sigma(estimate, scene.atmosphere[:, valid], std) < 0.76


def test_atmosphere_goes_and_what_it_cannot_make_stays():
    x, atmosphere = _estimate(turbulence(N, 5), Deformation(np.zeros((N, SHAPE[0] * SHAPE[1])), []))
    left = x - atmosphere.turbulent.reshape(N, -1)
    left -= left.mean(axis=1, keepdims=True)
    assert left.std() < 0.4 * x.std()
    spike = turbulence(N, 5)
    spike[20:, 500] += 30.0  # one pixel, no atmosphere does this
    y, with_spike = _estimate(spike, Deformation(np.zeros_like(spike), []))
    kept = (y - with_spike.turbulent.reshape(N, -1))[:, 500]
    assert 0.8 * 30 < kept[20:].mean() - kept[:20].mean() < 1.05 * 30


def test_motion_that_was_found_is_left_in_the_data():
    motion = 4 * np.outer(trend(YEARS).values, bell(14, 20, 3.0))
    known = motion - motion.mean(axis=0)
    atom = {"function": "trend", "width": 0.1, "row": 14.0, "column": 20.0, "amplitude": 4.0, "score": 9.0}
    x, atmosphere = _estimate(turbulence(N, 6) + motion, Deformation(known, [atom]))
    _, still = _estimate(turbulence(N, 6), Deformation(np.zeros_like(known), []))
    left = x - atmosphere.turbulent.reshape(N, -1)
    centre = 14 * SHAPE[1] + 20
    slope = np.polyfit(YEARS, left[:, centre], 1)[0] * YEARS[-1]
    assert slope == pytest.approx(4.0, rel=0.2)
    assert atmosphere.moving[14, 20] and not atmosphere.moving[3, 3]
    assert not still.moving.any()


def test_with_motion_nearly_everywhere_its_functions_of_time_are_left_alone():
    motion = 40 * np.outer(trend(YEARS).values, bell(16, 18, 14.0))
    atom = {"function": "trend", "width": 0.3, "row": 16.0, "column": 18.0, "amplitude": 40.0, "score": 9.0}
    x, atmosphere = _estimate(turbulence(N, 6) + motion, Deformation(motion - motion.mean(axis=0), [atom]))
    assert atmosphere.moving.mean() > 0.5 and any("still ground" in w for w in atmosphere.warnings)
    removed = atmosphere.turbulent.reshape(N, -1)
    assert np.abs(np.polyfit(YEARS, removed, 1)[0]).max() < 1e-6 * np.abs(np.polyfit(YEARS, x, 1)[0]).max()
    assert removed.std() > 0.3


def test_motion_as_broad_as_the_scene_is_left_alone_and_reported():
    y, _ = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
    tilt = np.outer(trend(YEARS).values, (np.cos(np.pi * y)).ravel()) * 12
    x, atmosphere = _estimate(turbulence(N, 7) + tilt, Deformation(np.zeros((N, tilt.shape[1])), []))
    assert any("broad" in w for w in atmosphere.warnings)
    removed = atmosphere.turbulent.reshape(N, -1)
    slope = np.polyfit(YEARS, removed, 1)[0] * YEARS[-1]
    assert slope.std() < 0.25 * tilt[-1].std()
    assert not _estimate(turbulence(N, 7), Deformation(np.zeros_like(tilt), []))[1].warnings


def _tilted(seed):
    """Turbulence with the tilt of a whole scene: broad motion and the atmosphere's drift look alike."""
    y, _ = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
    return turbulence(N, seed), np.outer(trend(YEARS).values, np.cos(np.pi * y).ravel()) * 12


def _rate(series):
    return np.polyfit(YEARS, series, 1)[0]


@pytest.mark.parametrize("motion_share", [1.0, 0.0])
def test_gnss_stations_tell_broad_motion_from_a_drift_of_the_atmosphere(motion_share):
    sky, tilt = _tilted(7)
    motion = motion_share * tilt
    places = [(2, 3), (2, 30), (14, 16), (20, 33), (28, 2), (29, 20)]
    true = _rate(motion).reshape(SHAPE)
    stations = [Station(f"S{r}", r, c, true[r, c] + 100.0, 0.05) for r, c in places]  # rates are relative
    nothing = Deformation(np.zeros_like(tilt), [])
    error = {}
    for name, knowledge in (("alone", NOTHING), ("anchored", Knowledge(stations=stations))):
        x, atmosphere = _estimate(sky + tilt, nothing, knowledge=knowledge)
        left = _rate(x - atmosphere.turbulent.reshape(N, -1)) - true.ravel()
        error[name] = left.std()
    assert error["anchored"] < 0.6 * error["alone"] if motion_share == 0 else error["anchored"] < 1.5


def test_stations_without_misfit_change_nothing_and_those_far_away_little():
    x, prior, _ = prepare(turbulence(N, 8))
    pixels = np.array([30, 500, 900])
    agree = [Station("S", 0, 0, rate, 0.1) for rate in (3.0, 4.0, 6.0)]
    assert np.allclose(anchor(np.array([1.0, 2.0, 4.0]), agree, pixels, prior, 0.5), 0)  # but for a constant
    asked = anchor(np.array([1.0, 2.0, 5.0]), agree, pixels, prior, 0.5)
    assert np.linalg.norm(asked) > 0 and asked[0] == 0
    unsure = [Station("S", 0, 0, s.rate, 1e3) for s in agree]
    assert np.linalg.norm(anchor(np.array([1.0, 2.0, 5.0]), unsure, pixels, prior, 0.5)) < 1e-3 * np.linalg.norm(asked)


def test_ground_known_to_move_is_interpolated_and_ground_known_to_be_stable_is_not():
    motion = 4 * np.outer(trend(YEARS).values, bell(14, 20, 3.0))
    here = bell(14, 20, 3.0).reshape(SHAPE) > 0.05
    nothing = Deformation(np.zeros_like(motion), [])
    x, blind = _estimate(turbulence(N, 6) + motion, nothing)
    told = _estimate(turbulence(N, 6) + motion, nothing, knowledge=Knowledge(moving=here))[1]
    centre = 14 * SHAPE[1] + 20
    kept = [_rate(x - a.turbulent.reshape(N, -1))[centre] * YEARS[-1] for a in (blind, told)]
    assert kept[1] == pytest.approx(4.0, rel=0.25) and kept[0] < kept[1]
    assert (told.moving | ~here).all()
    atom = {"function": "trend"}
    stable = _estimate(turbulence(N, 6), Deformation(motion, [atom]), knowledge=Knowledge(stable=here))[1]
    assert not stable.moving[here].any()
    assert not any(here[min(int(r), 31), min(int(c), 35)] for r, c, *_ in make_bells(ALL, here).places)


def test_nothing_is_learned_from_a_date_known_to_be_bad():
    spoilt = turbulence(16, 52)
    spoilt[5] = 1000 * bell(14, 20, 9.0)
    pairs, phase = _pairs_of(spoilt)
    seen = []

    def spy(series, *args):
        seen.append(np.abs(series).max() / np.median(np.abs(series)))
        return train(series, *args)

    found = separate(
        phase,
        np.ones_like(phase),
        pairs,
        DATES[:16],
        np.zeros(SHAPE),
        Settings(train_steps=20, min_cluster_size=10),
        knowledge=Knowledge(bad_dates=[5]),
        trainer=spy,
    )
    assert len(seen) == 2 and max(seen) < 20
    assert all(len(c.amplitude) == 16 for c in found.clusters)
    with pytest.raises(NotEnoughEvidence, match="not bad"):
        separate(
            phase,
            np.ones_like(phase),
            pairs,
            DATES[:16],
            np.zeros(SHAPE),
            Settings(),
            knowledge=Knowledge(bad_dates=list(range(9))),
        )


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
    atmosphere = Atmosphere(maps, np.array([0.01]), maps, nothing, [])
    full = FullResolution(atmosphere, height, factor)
    truth = wave(np.arange(size[0])[:, None], np.arange(size[1])[None])
    inside = (slice(None), slice(8, -8), slice(8, -8))
    expected = truth + 0.01 * np.nan_to_num(height)
    assert np.abs(full(slice(0, size[0])) - expected)[inside].max() < 0.01
    np.testing.assert_allclose(full(slice(40, 60)), full(slice(0, size[0]))[:, 40:60], atol=2e-6)


def _pairs_of(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    n = len(series)
    pairs = np.array([(i, j) for i in range(n) for j in range(i + 1, min(i + 4, n))])
    return pairs, (series[pairs[:, 1]] - series[pairs[:, 0]]).reshape(len(pairs), *SHAPE)


@pytest.mark.parametrize(("dates", "step", "reason"), [(8, 1, "8 dates"), (12, 2, "pairs"), (12, 1, "covered")])
def test_too_little_evidence_is_refused_with_the_reason(dates, step, reason):
    pairs, phase = _pairs_of(turbulence(dates, 8))
    weight = np.ones_like(phase)
    if reason == "covered":
        weight[:, 5:] = 0
    with pytest.raises(NotEnoughEvidence, match=reason):
        separate(phase[::step], weight[::step], pairs[::step], DATES[:dates], np.zeros(SHAPE), Settings())


def test_the_separation_is_repeatable_and_closes():
    pairs, phase = _pairs_of(turbulence(14, 9))
    settings = Settings(train_steps=40, min_cluster_size=10)
    one, two = (separate(phase, np.ones_like(phase), pairs, DATES[:14], np.zeros(SHAPE), settings) for _ in range(2))
    assert np.array_equal(one.atmosphere.turbulent, two.atmosphere.turbulent)
    assert one.corrected.std() < one.series.std()
    assert spread(one, two.corrected) == 0
    assert 0 < spread(one, two.corrected + two.atmosphere.std[:, two.valid]) < 2
    constant = two.corrected + np.arange(SHAPE[0] * SHAPE[1])
    assert spread(one, constant) < 1e-9  # only differences of dates matter
    assert one.atmosphere.turbulent.shape == (14, *SHAPE)
