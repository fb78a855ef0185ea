"""Sources of new dates: with bad dates, lost pixels and one update after the other."""

import numpy as np
import pytest
from test_update import ALL, FIRST, until

from conftest import observed
from mintpy_vae.method.clustering import Fishdbc
from mintpy_vae.method.knowledge import Knowledge
from mintpy_vae.method.separation import separate
from mintpy_vae.method.source_update import new_sources
from mintpy_vae.method.update import Learned, update
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate

BAD = 3


@pytest.fixture(scope="module")
def case():
    observations = observed(simulate("bowl", n_dates=ALL, size=(24, 26), seed=5))
    settings = Settings(device="cpu", train_steps=10, num_seeds=1)
    found = separate(until(observations, FIRST), settings, Knowledge(bad_dates=[BAD]))
    return observations, found, Learned.of(found, observations.dates[:FIRST])


def of_new(found, learned, pairs, valid=None):
    sources = found.sources
    axes = sources.axes if valid is None else sources.axes[:, valid[found.valid]]
    how = (sources.points, sources.labels, axes, Fishdbc(5, 15))
    return new_sources(found.network, learned, pairs, *how)


def test_they_come_from_pairs_of_good_dates_whatever_is_added_at_a_time(case):
    observations, found, learned = case
    pairs = observations.pairs[(observations.pairs >= FIRST).any(axis=1)]
    pairs = np.vstack([pairs, [BAD, FIRST]])
    together = update(observations, learned).learned
    sources = of_new(found, together, pairs)
    assert len(sources.points) and np.isfinite(sources.points).all()
    assert not (sources.pairs == BAD).any() and (sources.pairs >= FIRST).any(axis=1).all()
    assert sources.labels.max() <= found.sources.labels.max()
    one = update(until(observations, FIRST + 1), learned).learned
    again = update(observations, one).learned
    first = of_new(found, one, pairs[(pairs < FIRST + 1).all(axis=1)])
    later = of_new(found, again, pairs)
    same = (later.pairs < FIRST + 1).all(axis=1)
    np.testing.assert_allclose(later.points[same], first.points, rtol=1e-3, atol=1e-3 * np.abs(first.points).max())
    assert len(of_new(found, together, np.array([[BAD, FIRST]])).points) == 0


def test_they_are_those_of_the_training_on_the_dates_that_it_knows(case):
    """The axes give the earlier points back, and pixels that are lost change little."""
    observations, found, learned = case
    before = found.sources.points[found.sources.of_stack]
    pairs = until(observations, FIRST).pairs
    back = of_new(found, learned, pairs)
    np.testing.assert_allclose(back.points, before, rtol=1e-4, atol=1e-4 * np.abs(before).max())
    kept = found.valid.copy()
    kept[:2] = False
    fewer = of_new(found, learned.on(kept), pairs, kept)
    a, b = (dict(zip(map(tuple, s.pairs), s.points, strict=True)) for s in (back, fewer))
    cosine = [a[k] @ b[k] / np.linalg.norm(a[k]) / np.linalg.norm(b[k]) for k in a.keys() & b.keys()]
    assert np.median(cosine) > 0.9
