"""The vertical profile of the stratified delay."""

import numpy as np
import pytest
from test_separation import ALL, NO_RELIEF, YEARS, N, turbulence

from mintpy_vae.method.profile import BEND, Profile, fit_profile

RNG = np.random.default_rng(3)
HEIGHT = np.linspace(0.0, 2500.0, ALL.sum())[RNG.permutation(ALL.sum())]


def stratified(scale: float, strength: float = 8.0, seed: int = 1) -> np.ndarray:
    """Dates whose stratified delay is an exponential with this scale height, with turbulence, radians."""
    rng = np.random.default_rng(seed)
    shape = np.exp(-HEIGHT / scale)
    return strength * rng.normal(size=(N, 1)) * (shape - shape.mean()) + turbulence(N, seed)


@pytest.mark.parametrize("scale", [1300.0, 2000.0, 4000.0])
def test_the_scale_height_is_found(scale):
    profile = fit_profile(stratified(scale), HEIGHT, YEARS)
    assert 1 / profile.bend == pytest.approx(scale, rel=0.15)
    effective = profile(HEIGHT)
    assert abs(effective.mean()) < 1e-9
    assert np.corrcoef(effective, np.exp(-HEIGHT / scale))[0, 1] < -0.9995


@pytest.mark.parametrize("height", [HEIGHT / 1000, NO_RELIEF], ids=["hardly any relief", "none"])
def test_without_evidence_it_is_that_of_water_vapour(height):
    assert fit_profile(turbulence(N, 4), height, YEARS).bend == pytest.approx(BEND, rel=0.1)


def test_the_profile_changes_continuously_with_the_stratified_delay():
    bends = np.array([fit_profile(stratified(1300.0, s), HEIGHT, YEARS).bend for s in np.linspace(0.0, 2.0, 81)])
    assert np.abs(np.diff(bends)).max() < 0.1 * np.ptp(bends)


def test_motion_at_a_constant_rate_does_not_bend_it():
    series, years = stratified(2000.0), YEARS + np.where(np.arange(N) > 15, 0.4, 0.0)  # with a gap of five months
    steady = np.outer(30 * years, np.maximum(HEIGHT - 1800.0, 0.0) / 700.0)
    plain = fit_profile(series, HEIGHT, years).bend
    assert fit_profile(series + steady, HEIGHT, years).bend == pytest.approx(plain, rel=1e-6)


def test_a_single_date_does_not_decide():
    series, odd = stratified(2000.0, 3.0), np.exp(-HEIGHT / 400.0)
    plain = fit_profile(series, HEIGHT, YEARS).bend
    series[10] += 40 * (odd - odd.mean())
    assert fit_profile(series, HEIGHT, YEARS).bend == pytest.approx(plain, abs=0.25e-3)


def test_a_bent_height_grows_with_the_height_and_keeps_its_metre_at_its_level():
    profile = Profile(800.0, 1 / 1500.0)
    height = np.linspace(-400.0, 6000.0, 500)
    assert (np.diff(profile(height)) > 0).all()
    assert profile(np.array([801.0]))[0] - profile(np.array([800.0]))[0] == pytest.approx(1.0, rel=1e-3)
    assert Profile(800.0)(height) == pytest.approx(height - 800.0)
    np.testing.assert_allclose(profile.centred(height[:50])(height), profile(height) - profile(height[:50]).mean())
    single = profile(height.astype(np.float32))
    assert single.dtype == np.float32 and np.abs(single - profile(height)).max() < 0.01
