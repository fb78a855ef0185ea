"""Motion narrower than the coarse pixels of a wide scene."""

import pickle
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from mintpy_vae.dates import acquisition_years
from mintpy_vae.method import search
from mintpy_vae.method.bells import bell_map
from mintpy_vae.method.cells import Cells
from mintpy_vae.method.deformation import no_deformation
from mintpy_vae.method.knowledge import NOTHING, Knowledge
from mintpy_vae.method.narrow import NARROW, Narrow
from mintpy_vae.method.observations import Observations, pooled
from mintpy_vae.method.separation import separate
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.stack.workers import Compute, worked_on

SIDE, RATIO, BODIES = 96, 6, 40
SETTINGS = Settings(train_steps=10, device="cpu")


@lru_cache(maxsize=3)
def scene(seed, bodies=BODIES, width=(1.2 / SIDE, 1.8 / SIDE)):
    """A scene in which many small bodies subside, and its cells."""
    how = {"number": (bodies, bodies), "width": width, "gaps": 0.5, "water": 0.0, "unwrap_errors": 0, "constants": 0}
    s = simulate("bowl", n_dates=20, size=(SIDE, SIDE), seed=seed, **how)
    weight = np.where(s.phase != 0, s.coherence, 0) ** 2
    return s, Observations(s.without_constants(but_of_pairs=True), weight, s.pairs, s.dates, s.height)


def found(cells, knowledge=NOTHING):
    narrow = Narrow(Cells(cells, knowledge, RATIO), SETTINGS)
    return narrow.assembled(worked_on(narrow.work(), narrow.tasks(), Compute()))


@lru_cache(maxsize=2)
def found_in(seed):
    """What is found in a scene; not to be changed."""
    return found(scene(seed)[1])


def rate(series, dates):
    """Radians per year (pixels,) of a series (dates, pixels), relative to the median."""
    years = acquisition_years(dates)
    line = (years - years.mean()) / ((years - years.mean()) ** 2).sum()
    velocity = line @ series
    return velocity - np.median(velocity)


def true_rate(s):
    return rate(pooled(-4 * np.pi / WAVELENGTH * s.displacement, RATIO).reshape(len(s.dates), -1), s.dates)


@pytest.mark.parametrize("seed", [3, 4])
def test_many_bodies_smaller_than_a_coarse_pixel_keep_their_motion(seed):
    s, cells = scene(seed)
    truth, whole, motion = true_rate(s), cells.multilooked(RATIO), found_in(seed)
    moving = np.abs(truth) > 0.15 * np.abs(truth).max()
    assert moving.mean() > 0.2  # not sparse
    assert np.corrcoef(rate(motion.series, s.dates), truth)[0, 1] > 0.8
    gain = []
    for known in (motion, no_deformation(*motion.series.shape)):
        kept = rate(separate(whole, SETTINGS, narrow=known).corrected, s.dates)[moving]
        gain.append(kept @ truth[moving] / (truth[moving] @ truth[moving]))
    assert 0.8 < gain[0] < 1.2 and gain[1] < 0.7


def test_the_motion_found_does_not_depend_on_the_number_of_workers():
    _, cells = scene(3)
    narrow, alone = Narrow(Cells(cells, NOTHING, RATIO), SETTINGS), found_in(3)
    sent = (pickle.loads(pickle.dumps(task)) for task in narrow.tasks())  # as to another process
    again = narrow.assembled(worked_on(pickle.loads(pickle.dumps(narrow.work())), sent, Compute(), threads=3))
    assert again.series.tobytes() == alone.series.tobytes() and again.maps.tobytes() == alone.maps.tobytes()


def gain_of_bodies(row, course=lambda years: -20.0 * years, size=2.0):
    """Share that is found of flat-topped bodies on a row of a still scene, which no single bell fits."""
    s, cells = scene(6, bodies=1, width=(1e-3, 1e-3))
    rows, columns = np.indices((SIDE, SIDE))
    shape = sum(np.exp(-((((rows - row) ** 2 + (columns - at) ** 2) / (2 * size**2)) ** 2)) for at in (12, 36, 60, 84))
    moved = course(acquisition_years(s.dates))
    motion = (moved - moved.mean())[:, None, None] * shape
    truth = pooled(motion, RATIO).reshape(len(moved), -1)
    of_found = found(cells.with_motion(motion)).series
    return np.sum((of_found - np.median(of_found, axis=1)[:, None]) * truth) / np.sum(truth**2)


def test_motion_where_regions_meet_counts_once():
    _, cells = scene(3)
    narrow = Narrow(Cells(cells, NOTHING, RATIO), SETTINGS)
    tiles = [task.tile for task in narrow.tasks()]
    assert narrow.looks == 2 and len(tiles) == 4
    middle = SIDE / 2 - 0.5
    assert any(t.rows.start * 2 < middle < t.rows.stop * 2 for t in tiles[:2])  # in regions above and below
    inside, between = gain_of_bodies(15.5), gain_of_bodies(middle)
    assert 0.8 < inside < 1.25 and 0.8 < between < 1.25


@pytest.mark.parametrize("days", [1.0, 60.0])
def test_unsteady_motion_of_bodies_smaller_than_a_coarse_pixel_is_found(days):
    gain = gain_of_bodies(15.5, lambda years: 8.0 * np.clip((years - years[9]) * 365.25 / days, 0.0, 1.0))
    assert 0.8 < gain < 1.25


def test_the_whole_scene_keeps_the_broad_motion():
    pieces = found_in(3).pieces
    assert sum(abs(piece.amplitude) > 1 for piece in pieces) >= 0.8 * BODIES
    for piece in pieces:
        assert np.exp(piece.place[2]) < NARROW and not piece.relief
        assert ((piece.place[:2] > -1) & (piece.place[:2] < SIDE / RATIO)).all()
    _, broad = scene(5, bodies=1, width=(0.15, 0.15))
    assert not [piece for piece in found(broad).pieces if piece.probability > 0.9 and np.exp(piece.place[2]) > 0.75]


def test_a_map_on_coarse_pixels_is_the_mean_over_its_cells_like_a_pair():
    (_, cells), motion = scene(3), found_in(3)
    rows, columns = np.indices((SIDE, SIDE))
    place = motion.pieces[0].place.copy()
    place[:2] = (place[:2] + 0.5) * RATIO - 0.5
    place[2] += np.log(RATIO)
    fine = bell_map(place, np.array([rows.ravel(), columns.ravel()], float)).reshape(1, SIDE, SIDE)
    weight = cells.weight.mean(axis=0)[None]
    np.testing.assert_allclose(motion.maps[0], pooled(fine, RATIO, weight).ravel(), atol=1e-5)
    np.testing.assert_allclose(motion.series, motion.weights.T @ motion.maps)


def test_a_search_of_a_region_that_ends_at_its_limit_is_told(monkeypatch):
    _, cells = scene(3)
    assert not found_in(3).at_limit
    monkeypatch.setattr(search, "MAX_PIECES", 3)
    assert found(cells).at_limit


def test_prior_information_reaches_the_regions():
    _, cells = scene(3)
    stable = np.zeros((SIDE, SIDE), bool)
    stable[:, : SIDE // 2] = True
    assert Knowledge(stable=stable).multilooked(RATIO).stable.sum() == (SIDE // RATIO) ** 2 // 2
    left = [piece for piece in found(cells, Knowledge(stable=stable)).pieces if piece.place[1] < SIDE / RATIO / 2 - 1]
    assert not left and found_in(3).pieces


def test_a_mask_of_half_a_pixel_counts_unless_the_other_mask_has_the_other_half():
    stable, moving = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    stable[0], moving[1, 2:] = True, True
    coarse = Knowledge(stable=stable, moving=moving).multilooked(2)
    assert coarse.stable.tolist() == [[True, False]] and not coarse.moving.any()
    assert Knowledge(stable=stable).multilooked(2).stable.all() and Knowledge().multilooked(2).moving is None


def test_ground_without_data_has_no_motion():
    _, cells = scene(3)
    nothing = found(replace(cells, weight=np.zeros_like(cells.weight)))
    assert nothing.pieces == [] and nothing.series.shape == (20, (SIDE // RATIO) ** 2) and not nothing.series.any()
    half = cells.weight.copy()
    half[:, :, : SIDE // 2] = 0
    pieces = found(replace(cells, weight=half)).pieces
    assert pieces and min(piece.place[1] for piece in pieces) > SIDE / RATIO / 2 - 1
