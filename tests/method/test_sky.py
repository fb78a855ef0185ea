"""The sky's covariance, by scale, and how slow it is."""

import numpy as np
import pytest
from test_separation import ALL, NO_RELIEF, SHAPE, YEARS, N, turbulence

from conftest import grid_of
from mintpy_vae.method.sky import (
    CENTRES,
    CHANCE,
    N_BANDS,
    Footprints,
    LocalPrecision,
    Precision,
    Slowness,
    sky_statistics,
    slowness,
)
from mintpy_vae.method.timefunctions import Rotation, annual, trend

SOME = Slowness(np.geomspace(20, 2, N_BANDS), 3.0, np.ones(N_BANDS))


@pytest.fixture(scope="module")
def sky():
    return sky_statistics(turbulence(N, 0), grid_of(ALL, NO_RELIEF, YEARS))


@pytest.mark.parametrize("slow", [CHANCE, SOME])
def test_the_precision_is_the_inverse_of_the_covariance(sky, slow):
    covariance = sky.covariance(slow)
    dense = covariance.modes.T @ covariance.modes + slow.fine * sky.fine * np.eye(len(ALL.ravel()))
    maps = turbulence(5, 1)
    whitened = covariance.precision.whiten(maps)
    np.testing.assert_allclose(whitened @ dense, maps, atol=1e-6)
    footprints, others = Footprints(sky, maps), Footprints(sky, turbulence(3, 2))
    np.testing.assert_allclose(covariance.precision.energies(footprints), np.sum(whitened * maps, axis=1), rtol=1e-6)
    product = covariance.precision.products(footprints, others, maps @ others.maps.T)
    np.testing.assert_allclose(product, whitened @ others.maps.T, rtol=1e-6, atol=1e-6)
    both = Precision.total([covariance.precision, sky.covariance().precision], np.array([0.3, 0.7]))
    plain = sky.covariance().precision.whiten(maps)
    np.testing.assert_allclose(both.whiten(maps), 0.3 * whitened + 0.7 * plain, atol=1e-8)
    twice = covariance.precision.of_scaled(2.0)
    np.testing.assert_allclose(twice.whiten(maps) @ (2 * dense), maps, atol=1e-6)
    misfit = 0.5 * (np.linalg.slogdet(dense)[1] + np.mean(np.sum(whitened * maps, axis=1))) / maps.shape[1]
    assert covariance.misfit(maps) == pytest.approx(misfit, rel=1e-6)


@pytest.mark.parametrize("number", [0, 12])
def test_the_precision_with_local_modes_is_the_inverse_too(sky, number):
    local, maps = 0.3 * turbulence(12, 8)[:number], turbulence(5, 1)
    covariance = sky.covariance()
    dense = covariance.modes.T @ covariance.modes + local.T @ local + sky.fine * np.eye(maps.shape[1])
    precision = LocalPrecision(sky, local)
    whitened = precision.whiten(maps)
    np.testing.assert_allclose(whitened @ dense, maps, atol=1e-6)
    energies = precision.energies(maps, covariance.precision.energies(Footprints(sky, maps)))
    np.testing.assert_allclose(energies, np.sum(whitened * maps, axis=1), rtol=1e-6)
    # posterior of the atmosphere without the constant: prior less what the data explain
    atmosphere = np.vstack([sky.modes[1:], local])
    prior = atmosphere.T @ atmosphere
    posterior = prior - prior @ np.linalg.solve(dense, prior)
    np.testing.assert_allclose(precision.uncertain, np.diag(posterior), rtol=1e-5)


def test_the_covariance_is_that_of_the_maps(sky):
    maps = turbulence(2000, 3)
    dense = sky.modes[2:].T @ sky.modes[2:] + sky.fine * np.eye(maps.shape[1])
    assert np.trace(dense) / len(dense) == pytest.approx(maps.var(), rel=0.1)
    assert sky.draw(400, np.random.default_rng(0)).var() == pytest.approx(np.trace(dense) / len(dense), rel=0.1)


def test_slowness_is_what_the_map_has(sky):
    covariance = sky.covariance(SOME)
    rng = np.random.default_rng(5)
    found = []
    for _ in range(6):
        values = rng.normal(size=len(covariance.modes) - 2) @ covariance.modes[2:]
        values += np.sqrt(SOME.fine * sky.fine) * rng.normal(size=values.size)
        found.append(slowness(sky, values, np.zeros((0, values.size)), CHANCE, 10.0))
    bands = np.exp(np.mean([np.log(f.bands) for f in found], axis=0))
    np.testing.assert_allclose(np.log(bands[2:]), np.log(SOME.bands[2:]), atol=0.5)
    assert np.mean([f.fine for f in found]) == pytest.approx(SOME.fine, rel=0.3)


def test_what_the_broad_scales_hold_beyond_the_fine_ones_is_left(sky):
    rng = np.random.default_rng(6)
    values = sky.draw(1, rng)[0]
    y, _ = np.mgrid[: SHAPE[0], : SHAPE[1]] / SHAPE[0]
    tilt = np.cos(np.pi * y).ravel()
    removed = [
        slowness(sky, values + a * tilt, np.zeros((0, values.size)), CHANCE, 1.0).removed for a in (0, 5, 10, 40)
    ]
    broad = [r[CENTRES < 1].mean() for r in removed]
    assert broad[0] > 0.6 and broad[-1] < 0.05 and np.all(np.diff(broad) < 1e-9)
    assert all(r[CENTRES > 5].min() > 0.3 for r in removed)


def test_rotated_time_is_orthonormal_and_begins_with_the_persistent_functions():
    strength = np.exp(np.random.default_rng(0).normal(size=N) / 3)
    persistent = [trend(YEARS), *annual(YEARS)]
    rotation = Rotation(strength, persistent)
    np.testing.assert_allclose(rotation.basis @ rotation.basis.T, np.eye(N - 1), atol=1e-10)
    np.testing.assert_allclose(rotation.basis @ (1 / strength), 0, atol=1e-10)  # a constant is seen by none
    coordinates = rotation.functions(np.array([f.values for f in persistent]))
    np.testing.assert_allclose(coordinates[0, 1:], 0, atol=1e-10)
    np.testing.assert_allclose(coordinates[:, 3:], 0, atol=1e-10)
    assert np.all(np.diag(coordinates[:, :3]) > 0)
    series = np.outer(trend(YEARS).values, [1.0, 2.0])
    np.testing.assert_allclose(rotation(series)[0] / coordinates[0, 0], [1.0, 2.0])
