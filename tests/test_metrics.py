from __future__ import annotations

import numpy as np
import pytest

from mintpy_vae.method.inversion import incidence
from mintpy_vae.method.labels import explained_share
from mintpy_vae.metrics import (
    closure_misfit,
    compare,
    false_velocity,
    gain,
    height_correlation,
    range_and_sill,
    referenced,
    rmse,
    semivariogram,
    step_gain,
    temporal_coherence,
    velocity,
    velocity_uncertainty,
    within_sigmas,
)

YEARS = np.linspace(0, 2, 25) + 0.003 * np.sin(np.arange(25))
SHAPE = (40, 50)
VALID = np.ones(SHAPE, dtype=bool)
VALID[:5] = False
DEFORMING = np.zeros(SHAPE, dtype=bool)
DEFORMING[15:25, 20:30] = True


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def truth():
    """A block that sinks by 30 mm/yr; zero elsewhere."""
    return -0.03 * YEARS[:, None, None] * DEFORMING


@pytest.mark.parametrize("shape", [(), (7,), (3, 4)])
def test_velocity_of_a_line_is_its_slope(rng, shape):
    slope, offset = rng.normal(size=shape), rng.normal(size=shape)
    series = offset + slope * YEARS.reshape(-1, *[1] * len(shape))
    assert velocity(series, YEARS) == pytest.approx(slope)


def test_velocity_is_numpy_s_polyfit(rng):
    series = rng.normal(size=(25, 11))
    assert velocity(series, YEARS) == pytest.approx(np.polyfit(YEARS, series, 1)[0])


def test_velocity_of_one_date_is_refused():
    with pytest.raises(ValueError, match="two different dates"):
        velocity(np.zeros((1, 3)), np.zeros(1))


def test_velocity_is_nan_only_where_a_date_is():
    series = np.outer(YEARS, [1.0, 2.0])
    series[3, 1] = np.nan
    assert velocity(series, YEARS)[0] == pytest.approx(1.0)
    assert np.isnan(velocity(series, YEARS)[1])


@pytest.mark.parametrize("factor", [-1.0, 0.0, 0.7, 1.0, 2.0])
def test_gain_of_a_scaled_truth_is_the_factor(rng, factor):
    t = rng.normal(size=SHAPE)
    assert gain(factor * t, t) == pytest.approx(factor, abs=1e-12)


def test_gain_does_not_see_noise_orthogonal_to_the_truth(rng):
    t, noise = rng.normal(size=(2, 1000))
    noise -= (noise @ t) / (t @ t) * t
    assert gain(0.8 * t + 5 * noise, t) == pytest.approx(0.8)


def test_gain_without_truth_is_nan():
    assert np.isnan(gain(np.ones(3), np.zeros(3)))
    assert np.isnan(gain(np.ones(3), np.ones(3), np.zeros(3, dtype=bool)))


def test_rmse_of_a_plane_is_its_root_mean_square():
    y, x = np.mgrid[:40, :50].astype(float)
    plane = 2 * (x - x.mean()) - 3 * (y - y.mean())
    # the variance of n equally spaced numbers is (n^2 - 1) / 12
    assert rmse(plane, np.zeros(SHAPE)) == pytest.approx(np.sqrt(4 * (50**2 - 1) / 12 + 9 * (40**2 - 1) / 12))


def test_rmse_counts_the_mask_and_what_is_finite():
    estimate = np.array([1.0, 2.0, np.nan, 100.0])
    assert rmse(estimate, np.zeros(4), np.array([True, True, True, False])) == pytest.approx(np.sqrt(2.5))
    assert np.isnan(rmse(estimate, np.zeros(4), np.zeros(4, dtype=bool)))


def test_a_mask_of_pixels_counts_for_every_date(truth):
    assert rmse(truth, 0 * truth, DEFORMING) == pytest.approx(0.03 * np.sqrt((YEARS**2).mean()))


def test_referencing_twice_is_referencing_once(rng):
    once = referenced(rng.normal(size=(25, *SHAPE)), VALID)
    assert referenced(once, VALID) == pytest.approx(once, abs=1e-12)
    assert once.mean(axis=0) == pytest.approx(0, abs=1e-12)


def test_no_stable_ground_is_refused(truth):
    with pytest.raises(ValueError, match="no stable ground"):
        compare(truth, truth, YEARS, np.ones(SHAPE, dtype=bool), VALID)


def test_the_truth_is_perfect(truth):
    found = compare(truth, truth, YEARS, DEFORMING, VALID)
    assert found.pop("gain_displacement") == pytest.approx(1)
    assert found.pop("gain_velocity") == pytest.approx(1)
    assert list(found.values()) == [0, 0, 0, 0]


def test_the_zero_map_keeps_nothing(truth):
    found = compare(0 * truth, truth, YEARS, DEFORMING, VALID)
    assert found["gain_displacement"] == found["gain_velocity"] == 0
    assert found["velocity_stable"] == found["displacement_stable"] == 0
    assert found["velocity_deforming"] == pytest.approx(30)
    assert found["displacement_deforming"] == pytest.approx(30 * YEARS.std())


def test_reference_point_and_reference_date_do_not_matter(rng, truth):
    noisy = truth + 0.01 * rng.normal(size=truth.shape)
    moved = noisy + rng.normal(size=(25, 1, 1)) + rng.normal(size=SHAPE)
    assert compare(moved, truth, YEARS, DEFORMING, VALID) == pytest.approx(
        compare(noisy, truth, YEARS, DEFORMING, VALID)
    )


def test_white_noise_is_found_as_strong_as_it_is(rng, truth):
    sigma, n = 0.01, len(YEARS)
    found = compare(truth + sigma * rng.normal(size=truth.shape), truth, YEARS, DEFORMING, VALID)
    left = 1000 * sigma * np.sqrt(1 - 1 / n)  # its mean over time is taken out
    assert found["displacement_stable"] == pytest.approx(left, rel=0.02)
    assert found["displacement_deforming"] == pytest.approx(left, rel=0.1)
    rate = 1000 * sigma / np.sqrt(((YEARS - YEARS.mean()) ** 2).sum())  # standard error of a slope
    assert found["velocity_stable"] == pytest.approx(rate, rel=0.1)
    assert found["gain_velocity"] == pytest.approx(1, abs=0.05)


def test_half_the_motion_is_a_gain_of_one_half(truth):
    found = compare(0.5 * truth, truth, YEARS, DEFORMING, VALID)
    assert found["gain_displacement"] == pytest.approx(0.5)
    assert found["gain_velocity"] == pytest.approx(0.5)
    assert found["velocity_deforming"] == pytest.approx(15)


def test_pixels_that_are_not_valid_do_not_count(truth):
    spoilt = truth + 7.0 * YEARS[:, None, None] * ~VALID
    spoilt[3, ~VALID] = np.nan
    assert compare(spoilt, truth, YEARS, DEFORMING, VALID) == compare(truth, truth, YEARS, DEFORMING, VALID)


def test_without_deformation_there_is_no_gain(rng):
    nothing = np.zeros((25, *SHAPE))
    found = compare(rng.normal(size=nothing.shape), nothing, YEARS, np.zeros(SHAPE, dtype=bool), VALID)
    for name in ("gain_displacement", "gain_velocity", "velocity_deforming", "displacement_deforming"):
        assert np.isnan(found[name])
    assert found["displacement_stable"] > 0


def test_closure_misfit_of_differences_is_zero_and_of_one_error_is_the_error(rng):
    pairs = np.array([[i, j] for i in range(6) for j in range(i + 1, min(i + 3, 6))])
    values = incidence(pairs, 6) @ rng.normal(size=(6, 12))
    assert closure_misfit(values, pairs) < 1e-12
    values[0, 4] += 0.25
    assert closure_misfit(values, pairs) == pytest.approx(0.25)


def test_a_network_without_triplets_has_no_misfit():
    assert closure_misfit(np.ones((2, 3)), np.array([[0, 1], [1, 2]])) == 0


# ------------------------------------------------------------------------------------------------------ without a truth
def brute_force(field, pixel, limit):
    """Every pair of pixels, once."""
    y, x = np.nonzero(np.isfinite(field))
    i, j = np.triu_indices(len(y), 1)
    distance = np.hypot((y[i] - y[j]) * pixel[0], (x[i] - x[j]) * pixel[1])
    near = distance <= limit
    return distance[near], (field[y[i], x[i]] - field[y[j], x[j]])[near] ** 2 / 2


def test_the_semivariogram_is_the_mean_over_all_pairs_of_pixels(rng):
    field = rng.normal(size=(14, 17)).cumsum(axis=0)
    field[2:5, 3:9] = np.nan
    field[13] = np.nan
    distance, gamma, number = semivariogram(field, (0.3, 0.2), bins=6)
    limit = min(14 * 0.3, 17 * 0.2) / 2
    d, g = brute_force(field, (0.3, 0.2), limit)
    which = np.minimum((d / limit * 6).astype(int), 5)
    assert number == pytest.approx(2 * np.bincount(which, minlength=6))  # each pair both ways
    assert gamma == pytest.approx(np.bincount(which, g) / np.bincount(which))
    assert distance == pytest.approx(np.bincount(which, d) / np.bincount(which))


def test_the_semivariogram_of_white_noise_is_its_variance_at_every_distance(rng):
    _, gamma, _ = semivariogram(3 * rng.normal(size=(120, 140)), (1.0, 1.0))
    assert gamma == pytest.approx(9, rel=0.03)


def test_the_semivariogram_of_a_plane_is_half_the_squared_height_difference():
    plane = 2.0 * np.broadcast_to(np.arange(50), (40, 50))
    distance, gamma, _ = semivariogram(plane, (1.0, 1.0), bins=10)
    # mean over directions of (2 d cos)^2 / 2 is d^2, but for the shape of the window
    assert gamma[3:8] == pytest.approx(distance[3:8] ** 2, rel=0.15)
    assert np.isinf(range_and_sill(distance, gamma, np.ones_like(gamma))[0])


@pytest.mark.parametrize(("reach", "sill"), [(4.0, 2.0), (9.0, 0.3)])
def test_range_and_sill_of_an_exponential_variogram_are_found(reach, sill):
    distance = np.linspace(0.5, 15, 25)
    found = range_and_sill(distance, sill * (1 - np.exp(-3 * distance / reach)), np.full(25, 100.0))
    assert found == pytest.approx((reach, sill), rel=0.02)


def test_range_and_sill_of_nothing_are_none():
    assert np.isnan(range_and_sill(*semivariogram(np.full((9, 9), np.nan), (1, 1)))[0])
    assert range_and_sill(*semivariogram(np.ones((9, 9)), (1, 1)))[1] == 0


def test_height_correlation_of_delay_and_of_a_regional_trend(rng):
    y, x = np.mgrid[:60, :80]
    ridges = np.sin(x / 3.0)
    assert height_correlation(5 - 0.1 * ridges, ridges) == pytest.approx(-1)
    height = ridges + 0.2 * y
    trend = 0.3 * y + 0.01 * rng.normal(size=y.shape)
    assert height_correlation(trend, height) > 0.9  # a plane that happens to follow the relief
    assert abs(height_correlation(trend, height, high_pass=4)) < 0.4
    assert height_correlation(trend + ridges, height, high_pass=4) > 0.95
    assert np.isnan(height_correlation(np.ones((60, 80)), height))


def test_height_correlation_is_of_known_pixels_only(rng):
    height = rng.normal(size=(30, 30))
    field = height.copy()
    field[:10], height[-5:] = np.nan, np.nan
    for high_pass in (None, 3):
        assert height_correlation(field, height, high_pass) == pytest.approx(1)


def test_temporal_coherence_is_one_for_consistent_pairs_and_that_of_the_noise_otherwise(rng):
    pairs = np.array([[i, j] for i in range(30) for j in range(i + 1, min(i + 4, 30))])
    dates = rng.normal(size=(30, 200))
    consistent = incidence(pairs, 30) @ dates
    assert temporal_coherence(consistent, dates, pairs) == pytest.approx(1)
    noisy = consistent + 0.8 * rng.normal(size=consistent.shape)
    assert temporal_coherence(noisy, dates, pairs).mean() == pytest.approx(np.exp(-(0.8**2) / 2), abs=0.02)
    noisy[3:50] = np.nan
    assert np.isfinite(temporal_coherence(noisy, dates, pairs)).all()


def test_velocity_uncertainty_is_the_scatter_of_the_velocity(rng):
    series = 4 * YEARS[:, None] + 0.5 * rng.normal(size=(25, 4000))
    stated = np.sqrt((velocity_uncertainty(series, YEARS) ** 2).mean())
    assert stated == pytest.approx(velocity(series, YEARS).std(), rel=0.05)
    assert velocity_uncertainty(np.outer(YEARS, [1.0, -3.0]), YEARS) == pytest.approx(0, abs=1e-9)


def test_false_velocity_is_the_95th_percentile_on_stable_ground(truth):
    # a ramp of rate errors on stable ground, and a large error where the ground moves, which does not count
    error = np.zeros(SHAPE)
    stable = VALID & ~DEFORMING
    error[stable] = np.linspace(-0.01, 0.01, int(stable.sum()))
    error[DEFORMING] = 1.0
    wrong = truth + YEARS[:, None, None] * error
    assert false_velocity(wrong, truth, YEARS, DEFORMING, VALID) == pytest.approx(9.5, rel=0.01)
    assert false_velocity(truth, truth, YEARS, DEFORMING, VALID) == 0


def test_step_gain_is_that_of_the_step_alone(rng):
    event = 0.5 * (YEARS[11] + YEARS[12])
    step = (event < YEARS)[:, None, None] * 0.08 * DEFORMING
    rates = 0.05 * YEARS[:, None, None] * rng.normal(size=SHAPE) * DEFORMING
    assert step_gain(0.7 * step + rates, step, YEARS, event, DEFORMING, VALID) == pytest.approx(0.7)
    with pytest.raises(ValueError, match="before and after"):
        step_gain(step, step, YEARS, YEARS[-1] + 1, DEFORMING, VALID)


def test_explained_share_of_a_series():
    t = np.linspace(0, 2 * np.pi, 101)[:-1]
    motion, sky = np.sin(t), np.cos(t)
    assert explained_share(motion, motion) == 1
    assert explained_share(motion + 3, motion) == pytest.approx(1)
    assert explained_share(motion + sky, motion) == pytest.approx(0.5)
    assert explained_share(motion, -motion) == pytest.approx(-3)
    assert explained_share(np.ones(5), np.ones(5)) == 0


def test_within_one_sigma_is_68_percent_of_gaussian_errors(rng):
    truth = rng.normal(size=(60, 2000))
    error = rng.normal(size=truth.shape)
    found = within_sigmas(truth + error, truth, np.ones_like(truth))
    assert found == pytest.approx(0.683, abs=0.01)
    assert within_sigmas(truth + 2 * error, truth, np.ones_like(truth)) == pytest.approx(0.383, abs=0.01)
    # a constant per date and one per pixel do not matter
    moved = truth + error + rng.normal(size=(60, 1)) + rng.normal(size=2000)
    assert within_sigmas(moved, truth, np.ones_like(truth)) == pytest.approx(found)
