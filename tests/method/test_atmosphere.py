"""The atmosphere of each date where the ground moves."""

import numpy as np
from test_separation import ALL, DATES, NO_RELIEF, YEARS, N, bell, turbulence

from conftest import grid_of
from mintpy_vae.method.atmosphere import estimate
from mintpy_vae.method.bells import make_bells
from mintpy_vae.method.joint import estimate_jointly
from mintpy_vae.method.local_sky import no_local_sky
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
