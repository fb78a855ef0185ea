"""Wide scenes: the same kilometres whatever the extent, tile by tile, without seams."""

import pickle
from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from conftest import wide_scene
from mintpy_vae.errors import NotEnoughEvidence
from mintpy_vae.method import observations as grids
from mintpy_vae.method import search, tiles
from mintpy_vae.method.alarm import Alarm, distinct
from mintpy_vae.method.deformation import Piece
from mintpy_vae.method.knowledge import NOTHING, Knowledge
from mintpy_vae.method.observations import LARGEST, Observations, looks, pooled
from mintpy_vae.method.separation import separate
from mintpy_vae.method.tile_update import in_scene
from mintpy_vae.method.tiles import Wide, layout
from mintpy_vae.method.upsampling import FullResolution
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.stack import pool_map
from mintpy_vae.stack.workers import Compute, worked_on

SIDE = 46
SETTINGS = Settings(train_steps=10, device="cpu")


def test_a_small_stack_keeps_its_pixels_and_no_whole_scene_is_larger_than_the_covariances_allow():
    assert [looks((n, n), (100, 100)) for n in (30, 50, 51)] == [(1, 1)] * 3
    for n in np.unique(np.geomspace(20, 4000, 60).astype(int)):
        for pixel in (10.0, 90.0, 1000.0):
            factor, ratio = looks((n, n), (pixel, pixel))
            assert np.ceil(n / (factor * ratio)) ** 2 <= 1.05 * LARGEST
            assert ratio == 1 or factor * pixel == pytest.approx(400) or factor == 1  # the same kilometres, or pixels
            assert looks((n, n // 2), (pixel, pixel))[0] <= factor  # a smaller scene has no larger cells


def test_the_size_of_the_cells_changes_smoothly_with_the_scene():
    of_size = np.array([looks((n, n), (100, 100))[0] for n in range(20, 1000)])
    assert of_size[0] == 1 and of_size[-1] == 4
    assert (np.diff(of_size) >= 0).all() and (np.diff(of_size) <= 1.01 / 51).all()  # no whole factors


def test_the_user_chooses_the_size_of_the_cells():
    assert looks((200, 200), (100, 100), 0.2) == (2, 2) and looks((200, 200), (100, 100), 2.0) == (20, 1)
    assert looks((200, 200), (50, 200), 0.2) == (2, 2)  # pixels that are not square
    assert looks((200, 200), (90, 90), 0.2)[0] == pytest.approx(200 / 90)
    assert looks((20, 20), (90, 90), 0.01) == (1, 1)  # nothing is finer than the stack


@pytest.mark.parametrize("shape", [(36, 36), (37, 90), (62, 63), (101, 400), (20, 500)])
def test_tiles_cover_the_grid_and_their_weights_change_smoothly_and_add_up_to_one(shape):
    total, number = np.zeros(shape), np.zeros(shape, int)
    for tile in layout(shape):
        here = (tile.rows, tile.columns)
        assert tile.share.shape == total[here].shape and max(tile.share.shape) <= tiles.SIDE
        total[here] += tile.share
        number[here] += 1
        inner = np.pad(tile.share, 1)  # from nothing outside
        edge = np.pad(np.zeros(np.array(tile.share.shape) - 2), 1, constant_values=1.0).astype(bool)
        scene = np.zeros(shape, bool)
        scene[[0, -1]] = scene[:, [0, -1]] = True
        assert tile.share[edge & ~scene[here]].max(initial=0.0) < 0.03 and np.abs(np.diff(inner)).max() <= 1.0
    np.testing.assert_allclose(total, 1.0)
    assert len(layout(shape)) == 1 or number.max() > 1


def test_coarse_pixels_of_cells_are_those_of_the_stack():
    rng = np.random.default_rng(0)
    phase, weight = rng.normal(size=(3, 50, 70)), rng.uniform(size=(3, 50, 70)) * (rng.uniform(size=(3, 50, 70)) > 0.3)
    weight[:, :8, :8] = 0
    height = rng.normal(size=(50, 70))

    def cells(factor):
        total = np.stack([pool_map(w, factor) for w in weight])
        mean = np.stack([pool_map(x * w, factor) for x, w in zip(phase, weight, strict=True)])
        mean = np.divide(mean, total, out=np.zeros_like(mean), where=total > 0)
        return Observations(mean, total, np.array([[0, 1]] * 3), ["20200101", "20200113"], pool_map(height, factor))

    whole, direct = cells(2).multilooked(4), cells(8)
    assert whole.phase.shape == direct.phase.shape == (3, 7, 9)
    full = np.s_[:, :6, :8]  # the margins hold fewer pixels, which the two count differently
    np.testing.assert_allclose(whole.phase[full], direct.phase[full], atol=1e-6)
    np.testing.assert_allclose(whole.weight[full], direct.weight[full], atol=1e-6)
    np.testing.assert_allclose(whole.height[full[1:]], direct.height[full[1:]], atol=1e-6)
    assert np.isnan(pooled(np.full((1, 5, 5), np.nan), 2)).all()


@lru_cache(maxsize=1)
def scene():
    return simulate("bowl", n_dates=18, size=(SIDE, SIDE), seed=5, unwrap_errors=0, constants=3, water=0.0, gaps=0.5)


def observed():
    s = scene()
    weight = np.where(s.phase != 0, s.coherence, 0) ** 2
    return Observations(s.without_constants(but_of_pairs=True), weight, s.pairs, s.dates, s.height)


def wide(cells=None, knowledge=NOTHING, ratio=3):
    return wide_scene(observed() if cells is None else cells, ratio, SETTINGS, knowledge)


@pytest.fixture(scope="module")
def refined():
    of = wide()
    return of, of.assembled(worked_on(of.work(), of.tasks(), Compute()))


def error(removed):
    """Displacement error in mm, RMS over the stack, each date relative to its mean."""
    s = scene()
    truth = -4 * np.pi / WAVELENGTH * s.atmosphere
    left = removed - truth
    left = left - left.mean(axis=(1, 2), keepdims=True)
    return 1000 * WAVELENGTH / (4 * np.pi) * (left - left.mean(axis=0)).std()


def test_tiles_remove_what_is_finer_than_the_whole_scene_can_see(refined):
    of, frame = refined
    height, rows = of.height, slice(0, SIDE)
    before = error(FullResolution(of.found.atmosphere, height, of.cells.ratio)(rows))
    after = error(FullResolution(frame.phase, height, 1)(rows))
    assert after < 0.8 * before
    summary = of.summary(frame)
    assert summary.noise[1].std() < of.found.noise[1].std()
    assert summary.corrected.shape == of.found.corrected.shape and np.isfinite(frame.std).all()


def test_pieces_of_many_tiles_are_no_search_at_its_limit(refined, monkeypatch):
    of, frame = refined
    piece = Piece(np.zeros(5), False, "trend", 1.0, 0.1, 2.0, 1.0)
    many = of.summary(replace(frame, pieces=[piece] * (search.MAX_PIECES + 1))).deformation
    assert len(many.pieces) > search.MAX_PIECES and not many.at_limit
    monkeypatch.setattr(search, "MAX_PIECES", 0)
    task = next(iter(of.tasks()))
    cut = of.assembled([(task, of.work()(task))])
    assert cut.at_limit and of.summary(cut).deformation.at_limit


def test_seams_do_not_show(refined):
    """Steps of the removed phase across the edges of tiles are as large as elsewhere."""
    of, frame = refined
    removed = frame.phase.turbulent + frame.phase.slope * of.height
    steps = np.abs(np.diff(removed - removed.mean(axis=0), axis=2)).mean(axis=(0, 1))
    edges = {e for tile in layout(of.cells.shape) for e in (tile.columns.start, tile.columns.stop) if 0 < e < SIDE}
    at_edges = steps[[e - 1 for e in edges]]
    assert len(edges) > 1 and at_edges.max() < 1.5 * np.median(steps)


def test_the_result_does_not_depend_on_the_number_of_workers(refined):
    of, frame = refined
    sent = (pickle.loads(pickle.dumps(task)) for task in of.tasks())  # as to another process
    again = of.assembled(worked_on(of.work(), sent, Compute(), threads=3))
    for name in ("std", "rate_std", "motion", "moving"):
        assert getattr(again, name).tobytes() == getattr(frame, name).tobytes(), name
    assert again.phase.turbulent.tobytes() == frame.phase.turbulent.tobytes()
    assert again.phase.slope.tobytes() == frame.phase.slope.tobytes()


def test_workers_of_dask_make_the_same_bytes(refined, tmp_path, monkeypatch):
    of, frame = refined
    monkeypatch.chdir(tmp_path)  # MintPy's cluster writes there
    again = of.assembled(worked_on(of.work(), of.tasks(), Compute("local", "2")))
    assert again.phase.turbulent.tobytes() == frame.phase.turbulent.tobytes()
    assert again.std.tobytes() == frame.std.tobytes()


def test_stratified_delay_whose_slope_varies_over_the_scene_is_removed(refined):
    of, frame = refined
    height = np.nan_to_num(observed().height)
    slope = np.random.default_rng(3).normal(size=(len(observed().dates), 1, 1)) * np.linspace(-1, 1, SIDE)
    delay = 2.0 * slope * (height - height.mean()) / height.std()  # a radian or two, of either sign in east and west
    other = wide(observed().with_motion(delay.astype(np.float32)))
    changed = other.assembled(worked_on(other.work(), other.tasks(), Compute()))
    removed = [f.phase.turbulent + f.phase.slope * w.height for f, w in ((changed, other), (frame, of))]
    left = removed[0] - removed[1] - delay
    left, delay = (x - x.mean(axis=(1, 2), keepdims=True) for x in (left, delay))
    assert (left - left.mean(axis=0)).std() < 0.15 * (delay - delay.mean(axis=0)).std()


def test_constants_of_pairs_do_not_matter(refined):
    """Neither within a tile nor from tile to tile: the level is that of the whole scene."""
    of, frame = refined
    cells = of.cells.observations
    constant = np.random.default_rng(1).normal(size=len(cells.pairs)) * 20
    moved = replace(cells, phase=np.where(cells.weight > 0, cells.phase + constant[:, None, None], 0))
    other = Wide(of.found, moved.multilooked(of.cells.ratio), replace(of.cells, observations=moved), SETTINGS)
    again = other.assembled(worked_on(other.work(), other.tasks(), Compute()))
    difference = again.phase.turbulent - frame.phase.turbulent
    assert difference.std() < 0.02 * frame.phase.turbulent.std()


def test_where_a_tile_has_too_little_ground_the_whole_scene_decides(refined):
    of, frame = refined
    cells = observed()
    cells.weight[:, :28, :28] = 0
    part = wide(cells, ratio=2)
    results = list(worked_on(part.work(), part.tasks(), Compute()))
    assert results[0][1] is None and any(detail is not None for _, detail in results)
    sparse = part.assembled(results)
    broad = tiles.CubicSpline(part.found.atmosphere.turbulent, part.cells.shape, part.cells.ratio)(slice(0, SIDE))
    np.testing.assert_allclose(sparse.phase.turbulent[:, :17, :17], broad[:, :17, :17], rtol=1e-5, atol=1e-6)
    assert np.isfinite(sparse.phase.turbulent).all() and np.isfinite(sparse.std).all()


def test_prior_information_reaches_the_tiles():
    cells = observed()
    stable = np.zeros((SIDE, SIDE), bool)
    stable[6:40, 6:40] = True
    of = wide(cells, Knowledge(stable=stable))
    frame = of.assembled(worked_on(of.work(), of.tasks(), Compute()))
    assert not frame.moving[8:38, 8:38].any()
    with pytest.raises(NotEnoughEvidence):
        separate(cells.window(slice(0, 10), slice(0, 10)), SETTINGS)


def test_an_alarm_of_overlapping_tiles_is_told_once_in_full_and_by_a_tile_that_sees_the_place_well():
    tiles_, ratio, amplitude, std = layout((62, 63)), 2.0, 6.0, 0.5
    for row, column in [(31.0, 20.0), (30.0, 31.0), (5.0, 29.0), (1.0, 1.0)]:
        raised = []
        for tile in tiles_:
            place = np.array([row - tile.rows.start, column - tile.columns.start, np.log(1.5), 0.0, 0.0])
            if ((place[:2] >= 0) & (place[:2] < tile.share.shape)).all():
                raised += in_scene([Alarm("20200101", place, amplitude, std, 2.0, "20200101")], tile, ratio)
        (told,) = distinct(raised)
        left_out = 1.0 - sum(one.amplitude for one in raised) / amplitude
        assert 0 <= left_out < 0.5 and told.amplitude == pytest.approx((1 - left_out) * amplitude)
        assert abs(told.amplitude) / told.std == pytest.approx(amplitude / std)
        np.testing.assert_allclose(told.place[:2], [(row + 0.5) / ratio - 0.5, (column + 0.5) / ratio - 0.5])
    edge = next(t for t in tiles_ if t.rows.start > 0)
    outermost = Alarm("20200101", np.array([0.0, 9.0, np.log(1.5), 0.0, 0.0]), amplitude, std, 2.0, "20200101")
    assert not list(in_scene([outermost], edge, ratio))


def test_motion_of_the_scene_has_its_place_in_tile_and_scene():
    tile = layout((80, 80))[-1]
    place = np.array([7.3, 9.1, 0.4, 0.1, 0.0])
    np.testing.assert_allclose(tile.in_scene(tile.of_scene(place, 5), 5), place)
    assert grids.RESOLUTION > 0
