"""The recipe of Ghosh et al. (2025): what is subtracted of a small stack, and what is not."""

from dataclasses import replace

import numpy as np
import pytest
from test_separation import SHAPE, turbulence

from conftest import observed
from mintpy_vae.method.covariance import Flattener, height_slopes
from mintpy_vae.method.labels import Cluster
from mintpy_vae.method.recipe import sources_of_atmosphere
from mintpy_vae.method.separation import separate
from mintpy_vae.method.source_model import basis_maps
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate

ROWS, COLUMNS = np.indices(SHAPE)
SCATTERED = np.random.default_rng(0).random(SHAPE) > 0.3
COVERAGE = {
    "whole": np.ones(SHAPE, bool),
    "scattered": SCATTERED,
    "a lake": (ROWS < 8) | (ROWS > 22) | (COLUMNS < 6),
    "a coast": (ROWS + COLUMNS < 40) & SCATTERED,
    "two islands": (COLUMNS < 10) | (COLUMNS > 25),
}


@pytest.mark.parametrize("valid", COVERAGE.values(), ids=COVERAGE)
def test_a_map_that_was_flattened_comes_back(valid):
    maps = turbulence(20, 1)[:, valid.ravel()]
    maps -= maps.mean(axis=1, keepdims=True)
    flatten = Flattener(maps, valid)
    flat = flatten(maps)
    assert (flat - maps).std() > 0.3 * maps.std()
    np.testing.assert_allclose(flatten.undo(flat), maps, atol=1e-6)
    np.testing.assert_allclose(flatten.undo(flat[:3] + 5.0), maps[:3], atol=1e-6)  # a constant is not in them


@pytest.fixture(scope="module")
def stack():
    """A separation with a lake in the scene, its pairs and its height."""
    scene = simulate("bowl", n_dates=14, size=(24, 26), seed=3)
    height = scene.height.astype(float)
    height[4:9, 5:14] = np.nan
    settings = Settings(train_steps=15, device="cpu")
    found = separate(observed(scene, height), settings)
    assert found.sources.of_stack.sum() > 10 and not found.sources.of_stack.all()
    return found, scene.pairs, height


def called(found, *kinds, labels=None):
    """The separation with all clear sources in clusters of these kinds, in turn."""
    n = len(found.sources.labels)
    labels = np.arange(n) % max(len(kinds), 1) if labels is None else np.full(n, labels)
    clusters = [Cluster(k, kind, 1, 1, 1, 1, 0, np.zeros(1), np.zeros(1)) for k, kind in enumerate(kinds)]
    return replace(found, clusters=clusters, sources=replace(found.sources, labels=labels))


def only_stratified(removed, found, height):
    slope = height_slopes(found.series, found.grid.profile(height[found.valid]))
    return not removed.turbulent.any() and slope.any() and np.array_equal(removed.slope, slope)


def test_what_is_not_called_atmosphere_stays(stack):
    found, pairs, height = stack
    for left in (
        called(found, "deformation"),
        called(found, "deformation", "undecided"),
        called(found, "atmosphere", labels=-1),  # in no cluster
        called(found),
    ):
        assert only_stratified(sources_of_atmosphere(left, pairs), left, height)


def test_a_network_whose_sources_are_zero_subtracts_none(stack):
    found, pairs, height = stack
    called_all = called(found, "atmosphere")
    assert sources_of_atmosphere(called_all, pairs).turbulent.std() > 0
    silent = replace(called_all, network=replace(found.network, scale=0.0))
    assert only_stratified(sources_of_atmosphere(silent, pairs), silent, height)


@pytest.mark.parametrize("kinds", [("atmosphere",), ("undecided", "atmosphere", "deformation")])
def test_the_sources_called_atmosphere_of_a_pair_are_subtracted_from_it(stack, kinds):
    """Of a chain of pairs, which any values close: the dates' differences, flattened, are the sums of the sources."""
    found, _, height = stack
    found = called(found, *kinds)
    n_dates, sources = len(found.series), found.sources
    chain = np.stack([np.arange(n_dates - 1), np.arange(1, n_dates)], axis=1)
    linked = sources.of_stack & (np.diff(sources.pairs, axis=1).ravel() == 1)
    found = replace(found, sources=replace(sources, of_stack=linked))
    removed = sources_of_atmosphere(found, chain)
    flat = found.flatten(np.diff(removed.turbulent, axis=0)[:, found.valid])
    basis = basis_maps(found.network)[:, found.valid.ravel()]
    chosen = linked & (sources.labels == kinds.index("atmosphere"))
    expected = np.zeros_like(flat)
    for first, weights in zip(sources.pairs[chosen, 0], sources.weights[chosen], strict=True):
        expected[first] += weights @ basis
    expected -= expected.mean(axis=1, keepdims=True)
    assert expected.any()
    np.testing.assert_allclose(flat, expected, atol=1e-6 * np.abs(expected).max())


def test_pairs_drawn_for_the_clustering_alone_do_not_count(stack):
    found, pairs, height = stack
    found = called(found, "atmosphere")
    mine = found.sources.of_stack
    changed = np.where(mine[:, None], found.sources.weights, 1e3)
    again = replace(found, sources=replace(found.sources, weights=changed))
    ours, theirs = (sources_of_atmosphere(f, pairs).turbulent for f in (found, again))
    assert np.array_equal(ours, theirs)


def test_dates_that_the_network_has_not_seen_keep_their_sources(stack):
    found, pairs, height = stack
    found = called(found, "atmosphere")
    for unseen in ([5], [0, 13]):
        seen = np.setdiff1d(np.arange(len(found.series)), unseen)
        removed = sources_of_atmosphere(replace(found, sources=replace(found.sources, seen=seen)), pairs)
        assert np.abs(removed.turbulent[unseen]).max() < 1e-9 * removed.turbulent.std()
        assert (removed.turbulent[seen].std(axis=(1, 2)) > 0).all() and removed.slope[unseen].all()
