"""New dates of a wide scene under what was learned, tile by tile, on arrays."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import wide_scene
from mintpy_vae.method.alarm import distinct
from mintpy_vae.method.bells import bell_map
from mintpy_vae.method.cells import Cells
from mintpy_vae.method.knowledge import NOTHING
from mintpy_vae.method.observations import Observations
from mintpy_vae.method.tile_update import WideUpdate
from mintpy_vae.method.tiles import layout
from mintpy_vae.method.timefunctions import TimeFunction
from mintpy_vae.method.update import Learned, update
from mintpy_vae.method.upsampling import FullResolution
from mintpy_vae.results.learned import read_tile, write_tile
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate
from mintpy_vae.simulate.scene import WAVELENGTH
from mintpy_vae.stack.workers import Compute, worked_on

SIDE, RATIO, FIRST, ALL = 46, 3, 18, 20
SETTINGS = Settings(train_steps=10, device="cpu")
MM = 1000 * WAVELENGTH / (4 * np.pi)
ROWS = slice(0, SIDE)


def until(observations, n):
    some = observations.of_pairs((observations.pairs < n).all(axis=1))
    return replace(some, dates=observations.dates[:n])


def wide(cells):
    of = wide_scene(cells, RATIO, SETTINGS)
    return of, list(worked_on(of.work(), of.tasks(), Compute()))


def more_dates(cells, early, memory):
    """The new dates of all cells: (update, frame, alarms of the tiles)."""
    whole = cells.multilooked(RATIO)
    done = update(whole, Learned.of(early.found, cells.dates[:FIRST]), again=False)
    of = WideUpdate(done, whole, Cells(cells, NOTHING, RATIO), memory)
    return of, *of.assembled(worked_on(of.work(), of.tasks(), Compute()))


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """A scene with a bowl, all its pairs, what the first dates say, and the files of its tiles."""
    folder = tmp_path_factory.mktemp("tiles")
    s = simulate("bowl", n_dates=ALL, size=(SIDE, SIDE), seed=5, unwrap_errors=0, constants=3, water=0.0, gaps=0.5)
    weight = np.where(s.phase != 0, s.coherence, 0) ** 2
    cells = Observations(s.without_constants(but_of_pairs=True), weight, s.pairs, s.dates, s.height)
    early, details = wide(until(cells, FIRST))
    for task, detail in details:
        write_tile(folder, task.number, detail.memory)
    return s, cells, early, lambda number: read_tile(folder, number)


def test_functions_of_the_user_reach_the_tiles(case):
    _, cells, early, memory = case
    whole = cells.multilooked(RATIO)
    done = update(whole, Learned.of(early.found, cells.dates[:FIRST]), again=False)
    given = [TimeFunction("quadratic", np.arange(float(ALL)) ** 2)]
    done = replace(done, learned=replace(done.learned, given=given))
    for task in WideUpdate(done, whole, Cells(cells, NOTHING, RATIO), memory).tasks():
        assert task.memory.learned.given == given


def error(removed, scene):
    """Displacement error of the new dates in mm, each relative to the mean over the first dates."""
    left = removed + scene.atmosphere / (WAVELENGTH / (4 * np.pi))
    left = left - left.mean(axis=(1, 2), keepdims=True)
    return MM * (left[FIRST:] - left[:FIRST].mean(axis=0)).std()


def test_tiles_remove_from_new_dates_what_a_full_run_would(case):
    scene, cells, early, memory = case
    of, frame, alarms = more_dates(cells, early, memory)
    assert frame.tiles == len(layout((SIDE, SIDE))) == 4 and not distinct(alarms)
    assert frame.phase.turbulent.shape == frame.std.shape == (ALL - FIRST, SIDE, SIDE)

    def with_first(new, first):
        return np.vstack([first(ROWS), new(ROWS)])

    first = early.assembled(worked_on(early.work(), early.tasks(), Compute()))
    fine = with_first(FullResolution(frame.phase, of.height, 1), FullResolution(first.phase, early.height, 1))
    broad = with_first(
        FullResolution(of.new, of.height, RATIO), FullResolution(early.found.atmosphere, early.height, RATIO)
    )
    again, details = wide(cells)
    full = FullResolution(again.assembled(details).phase, again.height, 1)(ROWS)
    in_full, of_tiles, of_whole = (error(x, scene) for x in (full, fine, broad))
    assert of_tiles < 0.8 * of_whole and of_tiles < 1.25 * in_full
    summary = of.summary(frame, alarms)
    still = np.abs(scene.displacement).max(axis=0)[::RATIO, ::RATIO][of.done.learned.grid.valid] < 2e-3
    assert summary.corrected[:, still].std() < of.done.corrected[:, still].std()


def test_a_step_that_only_a_tile_can_see_raises_the_alarm_and_stays(case):
    scene, cells, early, memory = case
    place = np.array([33.0, 12.0, np.log(1.3), 0.0, 0.0])
    bell = bell_map(place, np.indices((SIDE, SIDE)).reshape(2, -1).astype(float)).reshape(SIDE, SIDE)
    plain, size = more_dates(cells, early, memory)[1], 20.0
    motion = np.zeros((ALL, SIDE, SIDE))
    motion[FIRST:] = size * bell
    of, frame, alarms = more_dates(cells.with_motion(motion), early, memory)
    seen = [
        a
        for a in (*alarms, *of.done.alarms)
        if a.raised and np.hypot(*((a.place[:2] + 0.5) * RATIO - 0.5 - place[:2])) < 3
    ]
    assert {a.date for a in seen} == set(cells.dates[FIRST:])
    kept = 1 - (frame.phase.turbulent - plain.phase.turbulent)[:, 33, 12] / size
    assert (kept > 0.6).all()
    assert len(distinct(of.summary(frame, alarms).alarms)) == ALL - FIRST  # however many bells its shape takes


@pytest.mark.parametrize("row", [22.5, 33.0])
def test_the_millimetres_of_an_alarm_are_those_of_the_motion_also_where_four_tiles_meet(case, row):
    _, cells, early, memory = case
    place = np.array([row, 22.5 if row == 22.5 else 12.0, np.log(1.3), 0.0, 0.0])
    bell = bell_map(place, np.indices((SIDE, SIDE)).reshape(2, -1).astype(float)).reshape(SIDE, SIDE)
    motion = np.zeros((ALL, SIDE, SIDE))
    motion[FIRST:] = 20.0 * bell
    of, frame, alarms = more_dates(cells.with_motion(motion), early, memory)
    told = distinct(of.summary(frame, alarms).alarms)
    assert [alarm.date for alarm in told] == list(cells.dates[FIRST:])
    for alarm in told:
        assert np.hypot(*((alarm.place[:2] + 0.5) * RATIO - 0.5 - place[:2])) < 2
        assert 10 < alarm.amplitude < 26  # less where not all of the tiles there see it


def test_a_tile_without_memory_or_coverage_takes_the_whole_scene(case):
    _, cells, early, memory = case
    tile = layout((SIDE, SIDE))[3]
    weight = cells.weight.copy()
    weight[(cells.pairs >= FIRST).any(axis=1), tile.rows.stop - 14 :, tile.columns.stop - 14 :] = 0
    of, frame, _ = more_dates(replace(cells, weight=weight), early, lambda k: None if k == 0 else memory(k))
    assert frame.tiles == 2
    plain = FullResolution(of.new, of.height, RATIO)(ROWS)
    fine = FullResolution(frame.phase, of.height, 1)(ROWS)
    np.testing.assert_allclose(fine[:, :8, :8], plain[:, :8, :8], atol=1e-3)
    assert np.isfinite(frame.std).all()


def test_a_tile_that_one_date_does_not_cover_explains_the_next_one(case):
    """Its memory gets the date with a weight near nothing."""
    _, cells, early, memory = case
    tile = layout((SIDE, SIDE))[3]
    weight, one = cells.weight.copy(), FIRST + 1
    weight[(cells.pairs == FIRST).any(axis=1), tile.rows.stop - 13 :, tile.columns.stop - 13 :] = 0
    gap = replace(cells, weight=weight)

    def update_of(observations, learned, memory):
        whole = observations.multilooked(RATIO)
        of = WideUpdate(update(whole, learned, again=False), whole, Cells(observations, NOTHING, RATIO), memory)
        details = list(worked_on(of.work(), of.tasks(), Compute()))
        return of, of.assembled(details)[0], {task.number: found.memory for task, found in details}

    of, first, memories = update_of(until(gap, one), Learned.of(early.found, cells.dates[:FIRST]), memory)
    assert first.tiles == 3 and set(memories) == {0, 1, 2, 3}
    _, second, _ = update_of(gap, of.done.learned, memories.get)
    plain = more_dates(cells, early, memory)[1]
    assert second.tiles == 4
    here = np.s_[tile.rows.start : tile.rows.stop - 16, tile.columns]  # off the gap, which the whole scene drops
    difference = (second.phase.turbulent[0] - plain.phase.turbulent[1])[here]
    assert difference.std() < 0.25 * plain.phase.turbulent[1][here].std()
