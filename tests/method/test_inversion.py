import numpy as np
import pytest

from mintpy_vae.method.inversion import closure, incidence, invert_to_dates, islands, triplets

N_DATES = 9
PAIRS = np.array([(i, j) for i in range(N_DATES) for j in range(i + 1, min(i + 4, N_DATES))])


@pytest.fixture
def dates_and_pairs() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    series = rng.normal(size=(N_DATES, 40)) * 5
    series -= series.mean(axis=0)
    return series, incidence(PAIRS, N_DATES) @ series


def test_inversion_returns_the_dates_of_consistent_pairs(dates_and_pairs):
    series, pairs = dates_and_pairs
    found, valid = invert_to_dates(pairs, np.ones_like(pairs), PAIRS, N_DATES, block=7)
    assert valid.all()
    np.testing.assert_allclose(found, series, atol=1e-6)


def test_an_unwrapping_error_in_one_pair_does_not_show(dates_and_pairs):
    series, pairs = dates_and_pairs
    rng = np.random.default_rng(1)
    noisy = pairs + 0.1 * rng.normal(size=pairs.shape)
    wrong = noisy.copy()
    wrong[7, :20] += 2 * np.pi
    found, _ = invert_to_dates(wrong, np.ones_like(pairs), PAIRS, N_DATES)
    plain, _ = invert_to_dates(wrong, np.ones_like(pairs), PAIRS, N_DATES, robust=False)
    assert np.abs(found - series)[:, :20].max() < 0.5 < np.abs(plain - series)[:, :20].max()


def test_a_pair_that_is_wrong_everywhere_moves_no_date(dates_and_pairs):
    """As in a tile that lies within an unwrapping error: there its constant is no difference of dates."""
    series, pairs = dates_and_pairs
    wrong = pairs + 0.1 * np.random.default_rng(1).normal(size=pairs.shape)
    wrong[7] += 2 * np.pi
    found, plain = (invert_to_dates(wrong, np.ones_like(pairs), PAIRS, N_DATES, robust=r)[0] for r in (True, False))
    assert np.abs((found - series).mean(axis=1)).max() < 0.2 < 1 < np.abs((plain - series).mean(axis=1)).max()


def test_a_pair_without_weight_is_ignored_and_an_unconnected_pixel_is_not_valid(dates_and_pairs):
    series, pairs = dates_and_pairs
    weight = np.ones_like(pairs)
    weight[3, 0] = 0.0
    pairs[3, 0] = 1e3
    weight[(PAIRS == 0).any(axis=1), 1] = 0.0
    found, valid = invert_to_dates(pairs, weight, PAIRS, N_DATES)
    assert valid[0] and not valid[1] and valid[2:].all()
    np.testing.assert_allclose(found[:, 0], series[:, 0], atol=1e-6)
    assert not found[:, 1].any()


def test_pairs_that_do_not_cover_the_ground_say_nothing_of_the_level_of_the_dates(dates_and_pairs):
    """As in a tile of a frame whose pairs cover different ground."""
    series, pairs = dates_and_pairs
    series = series + 3 * np.random.default_rng(2).normal(size=(N_DATES, 1))
    series -= series.mean(axis=0)
    pairs, weight = incidence(PAIRS, N_DATES) @ series, np.ones_like(pairs)
    weight[[4, 9, 15]] = 0.0
    found, valid = invert_to_dates(np.where(weight > 0, pairs, 0.0), weight, PAIRS, N_DATES)
    assert valid.all()
    np.testing.assert_allclose(found, series, atol=1e-6)


def test_closure_of_a_difference_of_dates_vanishes(dates_and_pairs):
    _, pairs = dates_and_pairs
    assert len(triplets(PAIRS)) > 10
    assert np.abs(closure(pairs, PAIRS)).max() < 1e-9
    assert len(closure(pairs, PAIRS, 7)) == 7 and len(closure(pairs, PAIRS, 10**6)) == len(triplets(PAIRS))
    pairs[0, 0] += 1.0
    assert np.abs(closure(pairs, PAIRS)).max() == pytest.approx(1.0)


def test_triplets_are_all_closed_triangles():
    found = {repr(tuple(PAIRS[k].tolist() for k in triplet)) for triplet in triplets(PAIRS)}
    joined = {tuple(pair) for pair in PAIRS.tolist()}
    wanted = {
        repr(([i, j], [j, k], [i, k])) for i, j in joined for second, k in joined if second == j and (i, k) in joined
    }
    assert found == wanted and len(triplets(PAIRS)) == len(wanted)


def test_islands():
    assert not islands(PAIRS, N_DATES).any()
    assert len(set(islands(np.array([(0, 1), (2, 3)]), 4))) == 2
