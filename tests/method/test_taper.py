"""A covariance tapered with distance."""

import numpy as np
import pytest

from mintpy_vae.method import taper as module
from mintpy_vae.method.taper import KEPT, SPACING, WIDTH, Taper


def distances(valid):
    pixels = np.array(np.nonzero(valid), dtype=np.float64)
    return np.sqrt(sum((axis[:, None] - axis) ** 2 for axis in pixels))


@pytest.fixture
def valid():
    valid = np.ones((24, 31), dtype=bool)
    valid[3:9, 20:] = False
    return valid


@pytest.mark.parametrize(("spacing", "within"), [(1.5, 0.05), (SPACING, 0.25)])
def test_the_correlation_is_nearly_a_gaussian_of_distance(valid, spacing, within, monkeypatch):
    monkeypatch.setattr(module, "SPACING", spacing)
    windows = Taper(valid).windows
    wanted = np.exp(-((distances(valid) / (2 * WIDTH)) ** 2))
    assert np.allclose(np.diag(windows.T @ windows), 1.0)
    assert np.abs(windows.T @ windows - wanted).max() < within


def test_modes_have_the_tapered_covariance(valid, monkeypatch):
    maps = np.random.default_rng(1).normal(size=(7, valid.sum()))
    taper = Taper(valid)
    wanted = (taper.windows.T @ taper.windows) * (maps.T @ maps) / len(maps)
    monkeypatch.setattr(module, "KEPT", 1.0)
    monkeypatch.setattr(module, "FAINT", 0.0)
    np.testing.assert_allclose(taper.modes(maps).T @ taper.modes(maps), wanted, atol=1e-9)
    monkeypatch.undo()
    few = taper.modes(maps)
    assert np.diag(few.T @ few).sum() > KEPT * np.diag(wanted).sum()


def test_places_far_apart_are_independent(valid):
    same = np.random.default_rng(2).normal(size=(5, 1)) * np.ones(valid.sum())
    modes = Taper(valid).modes(same)
    assert np.abs((modes.T @ modes)[distances(valid) > 8 * WIDTH]).max() < 1e-3


def test_white_noise_alone_has_no_modes(valid):
    taper, noise = Taper(valid), np.random.default_rng(4).normal(size=(30, valid.sum()))
    smooth = np.outer(np.random.default_rng(5).normal(size=30), np.linspace(1, 3, valid.sum()))
    assert len(taper.modes(noise, 1.0)) < 0.05 * len(taper.modes(noise))
    few = taper.modes(smooth + noise, 1.0)
    assert 0 < len(few) < 2 * len(taper.windows)
    assert np.diag(few.T @ few).sum() > 0.9 * (smooth**2).sum() / 30


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 3)])
def test_small_and_narrow_scenes(shape):
    valid = np.ones(shape, dtype=bool)
    maps = np.random.default_rng(3).normal(size=(4, valid.sum()))
    modes = Taper(valid).modes(maps)
    assert np.isfinite(modes).all() and (modes**2).sum() > KEPT * (maps**2).sum() / len(maps)
    assert Taper(valid).modes(maps[:0]).shape[1] == valid.sum()
