"""Weather that clings to places: the other dates tell of it, a date never of itself."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from test_separation import ALL, DATES, NO_RELIEF, SHAPE, YEARS, N, bell, turbulence

from conftest import grid_of
from mintpy_vae.method.atmosphere import estimate
from mintpy_vae.method.bells import make_bells
from mintpy_vae.method.joint import estimate_jointly
from mintpy_vae.method.local_sky import BLOCKS, LARGEST_SHARE, estimate_local_sky, local_sky, no_local_sky
from mintpy_vae.method.search import Dictionary
from mintpy_vae.method.sky import sky_statistics
from mintpy_vae.method.timefunctions import annual, scanned, trend, without

EVERY = np.arange(N)
PLACES = gaussian_filter(np.random.default_rng(9).normal(size=(6, *SHAPE)), (0, 1, 1)).reshape(6, -1)
PLACES /= PLACES.std()
"""Textures that come and go as a whole, as weather over relief does, and errors of its model."""


PERSISTENT = [trend(YEARS), *annual(YEARS)]


def sky_of(maps):
    maps = without(maps - maps.mean(axis=1, keepdims=True), PERSISTENT)
    return sky_statistics(maps, grid_of(ALL, NO_RELIEF, np.arange(len(maps)) / 30))


def good_ones(good):
    return replace(grid_of(ALL, NO_RELIEF, YEARS), good=good)


def estimated(sky, good=EVERY):
    return estimate_local_sky(sky, PERSISTENT, good_ones(good))


def clinging(seed, strength=0.5):
    weather = np.random.default_rng(seed).normal(size=(N, len(PLACES))) @ PLACES
    return turbulence(N, seed) + strength * weather


def predicted(sky, modes, date, hidden):
    """A date on its hidden pixels, from what is around."""
    covariance = sky.modes.T @ sky.modes + sky.fine * np.eye(len(hidden)) + modes.T @ modes
    seen = ~hidden
    return covariance[np.ix_(hidden, seen)] @ np.linalg.solve(covariance[np.ix_(seen, seen)], sky.unit[date, seen])


def disk(row, column, radius):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return (np.hypot(y - row, x - column) < radius).ravel()


def test_the_dates_decide_how_far_it_is_believed():
    shares = []
    for strength in (0.0, 0.15, 0.3, 0.6):
        found = estimated(sky_of(clinging(3, strength)))
        assert 0 <= found.share <= LARGEST_SHARE and found.gain >= 0
        shares.append(found.gain)
    assert shares[0] < 0.02 and shares[-1] > 0.1 and sorted(shares) == shares


def test_hidden_ground_is_interpolated_better_where_weather_clings_and_no_worse_elsewhere():
    ratios = {}
    for strength in (0.0, 0.5):
        sky = sky_of(clinging(4, strength))
        found = estimated(sky)
        error = np.zeros(2)
        for block, modes in zip(found.blocks, found.modes, strict=True):
            for date in block[::6]:
                for hidden in (disk(8, 5, 4), disk(20, 25, 4), disk(16, 16, 4)):
                    for k, used in enumerate((modes, modes[:0])):
                        error[k] += ((predicted(sky, used, date, hidden) - sky.unit[date, hidden]) ** 2).mean()
        ratios[strength] = np.sqrt(error[0] / error[1])
    assert ratios[0.5] < 0.82 and ratios[0.0] < 1.01


@pytest.mark.parametrize("dates, most", [(1, 0.05), (5, 0.10)])
def test_what_happens_on_a_few_dates_does_not_come_back_as_atmosphere(dates, most):
    """A bell of three times the strength of its dates, hidden there, as moving ground is."""
    maps, hidden, leaks = clinging(5), disk(14, 20, 5), []
    for start in (2, 13, 21, 30):
        happened = np.arange(start, start + dates)
        moved = maps.copy()
        moved[happened] += 3 * bell(14, 20, 3)
        sky = sky_of(maps)
        with_bell = replace(sky, unit=sky_of(moved).unit, residual=sky_of(moved).residual)
        for date in happened:
            back = []
            for one in (with_bell, sky):
                found = estimated(one)
                (block,) = [k for k, b in enumerate(found.blocks) if date in b]
                back.append(predicted(replace(one, unit=sky.unit), found.modes[block], date, hidden))
            shape = bell(14, 20, 3)[hidden]
            leaks.append(abs((back[0] - back[1]) @ shape / (shape @ shape)) / 3)
    assert np.mean(leaks) < most


def test_each_block_has_as_many_good_dates_wherever_the_bad_ones_are():
    good = EVERY[-12:]
    found = estimated(sky_of(clinging(6)), good)
    assert np.array_equal(np.concatenate(found.blocks), EVERY)
    assert [np.isin(block, good).sum() for block in found.blocks] == [3] * BLOCKS
    assert all(np.isfinite(modes).all() for modes in found.modes)


def test_no_date_is_in_its_own_covariance():
    sky = sky_of(clinging(6))
    found = estimated(sky, np.setdiff1d(EVERY, [7]))
    assert len(found.blocks) == BLOCKS and np.array_equal(np.concatenate(found.blocks), EVERY)
    for block, modes in zip(found.blocks, found.modes, strict=True):
        others = np.setdiff1d(EVERY, [*block, 7])  # a date known to be bad is in none
        maps = clinging(6)[others]
        maps = maps - maps.mean(axis=1, keepdims=True)
        alone = without(maps, [replace(f, values=f.values[others]) for f in PERSISTENT])
        wanted = np.sqrt(found.share) * found.taper.modes(alone / sky.strength[others][:, None], sky.noise)
        np.testing.assert_allclose(modes.T @ modes, wanted.T @ wanted, atol=1e-9)
    # nor by way of the mean and the functions that were fitted to all dates
    spoilt = clinging(6)
    spoilt[found.blocks[1]] += 5 * bell(14, 20, 3)
    other = replace(sky, residual=sky_of(spoilt).residual)
    with_bell = local_sky(other, PERSISTENT, good_ones(np.setdiff1d(EVERY, [7])), found.share, found.level)
    changed = [np.abs(a.T @ a - b.T @ b).max() for a, b in zip(found.modes, with_bell.modes, strict=True)]
    assert changed[1] < 1e-9 and min(changed[0], *changed[2:]) > 0.1


def test_functions_of_time_are_turned_so_that_each_is_in_one_block():
    found = estimated(sky_of(clinging(6)))
    own = {0: 1, 2: 2}
    alone = np.eye(N)[[k for block, number in own.items() for k in found.blocks[block][:number]]]
    mixed = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] @ alone
    turned = dict(found.by_block(mixed))
    assert {block: len(functions) for block, functions in turned.items()} == own
    for block, functions in turned.items():
        np.testing.assert_allclose((functions[:, found.blocks[block]] ** 2).sum(axis=1), 1.0)
    together = np.vstack(list(turned.values()))
    np.testing.assert_allclose(together.T @ together, alone.T @ alone, atol=1e-12)


def test_it_takes_atmosphere_and_no_unsteady_motion():
    step = np.where(YEARS > 0.6, 6.0, 0.0)[:, None] * bell(14, 20, 3)
    weather = clinging(7)
    x = weather + step
    x = x - x.mean(axis=0)
    x = x - x.mean(axis=1, keepdims=True)
    functions = [trend(YEARS), *annual(YEARS), *scanned(DATES)]
    grid, dictionary = grid_of(ALL, NO_RELIEF, YEARS), Dictionary(functions, make_bells(ALL, NO_RELIEF, None))
    joint = estimate_jointly(x, dictionary, grid, 0.01, np.random.default_rng(0))
    still, moving = bell(14, 20, 3) < 0.01, bell(14, 20, 3) > 0.3
    errors, gains = [], []
    for local in (estimate_local_sky(joint.sky, functions[:3], grid), no_local_sky(joint.sky)):
        left = x - estimate(x, joint, local, grid).turbulent.reshape(N, -1)
        left = left - np.median(left[:, still], axis=1, keepdims=True)
        errors.append(np.sqrt(((left - left.mean(axis=0))[:, still] ** 2).mean()))
        change = left[YEARS > 0.6].mean(axis=0) - left[YEARS <= 0.6].mean(axis=0)
        gains.append((change @ (step[-1] * moving)) / (step[-1] @ (step[-1] * moving)))
    assert errors[0] < 0.92 * errors[1] and abs(gains[0] - gains[1]) < 0.02 and abs(gains[0] - 1) < 0.1
