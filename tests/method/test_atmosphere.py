"""The atmosphere of each date where the ground moves."""

from dataclasses import replace

import numpy as np
from test_local_sky import clinging
from test_separation import ALL, DATES, NO_RELIEF, YEARS, N, bell, turbulence

from conftest import grid_of
from mintpy_vae.method.atmosphere import estimate
from mintpy_vae.method.bells import make_bells
from mintpy_vae.method.deformation import Deformation, Piece
from mintpy_vae.method.events import unsteady_motions
from mintpy_vae.method.joint import estimate_jointly
from mintpy_vae.method.local_sky import estimate_local_sky, no_local_sky
from mintpy_vae.method.search import Dictionary
from mintpy_vae.method.timefunctions import annual, scanned, trend

HERE, THERE = bell(9, 9, 3), bell(22, 24, 3)


def error_here(seed, there):
    """RMS error of the displacement on the ground of one step; three others may happen elsewhere at other times."""
    truth = np.where(YEARS > 0.3, 8.0, 0.0)[:, None] * HERE
    if there:
        for after in (0.55, 0.75, 0.95):
            truth = truth + np.where(after < YEARS, 8.0, 0.0)[:, None] * THERE
    x = turbulence(N, seed) + truth
    x = x - x.mean(axis=0)
    x = x - x.mean(axis=1, keepdims=True)
    functions = [trend(YEARS), *annual(YEARS), *scanned(DATES)]
    grid, dictionary = grid_of(ALL, NO_RELIEF, YEARS), Dictionary(functions, make_bells(ALL, NO_RELIEF, None))
    joint = estimate_jointly(x, dictionary, grid, 0.01, np.random.default_rng(0))
    error = x - estimate(x, joint, no_local_sky(joint.sky), grid).turbulent.reshape(N, -1) - truth
    still = (HERE < 0.01) & (THERE < 0.01)
    error = error - np.median(error[:, still], axis=1, keepdims=True)
    return float(np.sqrt(((error - error.mean(axis=0))[:, HERE > 0.3] ** 2).mean()))


def test_a_motion_costs_nothing_at_other_places():
    """On its ground the sky is interpolated in its own functions of time, not in those of motion elsewhere."""
    ratios = [error_here(seed, there=True) / error_here(seed, there=False) for seed in range(2)]
    assert np.mean(ratios) < 1.1


def test_motion_that_is_hardly_there_changes_no_other_place():
    """Doubtful steps in a corner cover all times; nowhere else may a date explain itself on their account."""
    x = clinging(6)
    x = x - x.mean(axis=0)
    x = x - x.mean(axis=1, keepdims=True)
    persistent = [trend(YEARS), *annual(YEARS)]
    functions = [*persistent, *scanned(DATES)]
    grid, dictionary = grid_of(ALL, NO_RELIEF, YEARS), Dictionary(functions, make_bells(ALL, NO_RELIEF, None))
    joint = estimate_jointly(x, dictionary, grid, 1e-9, np.random.default_rng(0))
    local = estimate_local_sky(joint.sky, persistent, grid)
    assert local.share > 0 and not joint.deformation.pieces
    steps = [f for f in functions if f.family == "step"][::3]
    pieces = [Piece(np.array([3.0, 3.0, 0.0, 0.0, 0.0]), False, f.name, 0.1, 0.1, 0.7, 0.05) for f in steps]
    maps = np.tile(bell(3, 3, 1), (len(steps), 1))
    weights = np.array([0.005 * (f.values - f.values.mean()) for f in steps])
    doubtful = replace(joint, deformation=Deformation(weights.T @ maps, pieces, maps, weights))
    assert sum(len(functions) for functions, _ in unsteady_motions(doubtful, YEARS)) > 0.7 * N
    without, with_them = (estimate(x, one, local, grid) for one in (joint, doubtful))
    elsewhere = (bell(3, 3, 1) < 1e-4).reshape(without.std.shape[1:])
    assert with_them.std[:, elsewhere].mean() > 0.95 * without.std[:, elsewhere].mean()
    change = (with_them.turbulent - without.turbulent)[:, elsewhere]
    assert change.std() < 0.25 * without.std[:, elsewhere].mean()
