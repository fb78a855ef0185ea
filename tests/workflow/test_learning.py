"""From the training grid to the stack's own: what lies between the centres of its pixels."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.interpolate import RegularGridInterpolator

from mintpy_vae import Settings
from mintpy_vae.method.separation import separate
from mintpy_vae.method.upsampling import Bilinear
from mintpy_vae.stack import open_stack, pool_map
from mintpy_vae.workflow import learning
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import learn


def centres(size, factor):
    return pool_map(np.arange(size, dtype=float)[:, None] + np.zeros((1, size)), factor)[:, 0]


@pytest.mark.parametrize("shape, factor", [((20, 30), 5), ((23, 31), 5), ((7, 40), 3), ((4, 9), 10), ((6, 6), 1)])
def test_bilinear_between_the_centres_and_flat_outside(shape, factor):
    at = [centres(size, factor) for size in shape]
    maps = np.random.default_rng(1).uniform(1, 2, (3, len(at[0]), len(at[1])))
    found = Bilinear(maps, shape, factor)
    whole = found(slice(0, shape[0]))
    assert whole.shape == (3, *shape) and whole.dtype == np.float32
    pieces = [found(slice(k, min(k + 4, shape[0]))) for k in range(0, shape[0], 4)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-6)
    np.testing.assert_allclose(Bilinear(np.full_like(maps, 0.7), shape, factor)(slice(0, shape[0])), 0.7, rtol=1e-6)
    inside = [np.clip(np.arange(size), a[0], a[-1]) for size, a in zip(shape, at, strict=True)]
    if min(maps.shape[1:]) > 1:
        scipy_s = RegularGridInterpolator(at, np.moveaxis(maps, 0, -1))(
            np.stack(np.meshgrid(*inside, indexing="ij"), -1)
        )
        np.testing.assert_allclose(whole, np.moveaxis(scipy_s, -1, 0), rtol=1e-5)
    assert whole.min() >= maps.min() - 1e-5 and whole.max() <= maps.max() + 1e-5


def test_the_standard_deviation_is_that_of_the_training_grid(mapped, remembered):
    job = prepare(mapped.stack, settings=Settings(train_steps=10, num_seeds=1))
    learned = learn(job, {})
    length = open_stack(mapped.stack).shape[0]
    std = learned.std(slice(0, length))
    assert std.shape == learned.atmosphere(slice(0, length)).shape and (std > 0).all()
    coarse = learned.found.atmosphere.std
    pooled = np.array([pool_map(layer, learned.data.factor) for layer in std])
    assert np.corrcoef(pooled.ravel(), coarse.ravel())[0, 1] > 0.99
    assert pooled.mean() == pytest.approx(coarse.mean(), rel=0.02)


def test_seeds_agree_or_it_is_said_that_they_do_not(mapped, monkeypatch):
    job = prepare(mapped.stack, settings=Settings(train_steps=10, num_seeds=2, resolution=0.75))
    details = learn(job, {}).details
    assert len(details["seed_spread"]) == 1 and details["seed_spread"][0] <= 1.0
    assert not any("Another seed" in text for text in details["warnings"])
    # the second seed sees another stack, as a network that finds something else every time would

    def unlike(observations, settings, *args, **kwargs):
        seen = observations.phase if settings.seed == 1 else 3 * observations.phase[::-1]
        return separate(replace(observations, phase=seen), settings, *args, **kwargs)

    monkeypatch.setattr(learning, "separate", unlike)
    details = learn(job, {}).details
    assert details["seed_spread"][0] > 1.0 and any("Another seed" in text for text in details["warnings"])
