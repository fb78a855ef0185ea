import sys
from pathlib import Path

import numpy as np
import pytest

from conftest import grid_of, shell
from mintpy_vae.method.clustering import Fishdbc, Hdbscan, grown_labels, on_axes, unsigned
from mintpy_vae.method.labels import attribute, smoothness_p_value, von_neumann


def _patterns(rng: np.random.Generator, n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Three directions in 8 dimensions with random sign and amplitude, and scattered points."""
    directions = np.eye(8)[:3]
    truth = np.repeat(np.arange(3), n)
    points = directions[truth] * (rng.choice([-1, 1], 3 * n) * rng.uniform(1, 9, 3 * n))[:, None]
    return points + 0.05 * rng.normal(size=points.shape), truth


@pytest.mark.parametrize("clusterer", [Fishdbc(5, 15), Hdbscan(5, 15)])
def test_one_cluster_per_pattern_whatever_sign_and_amplitude(clusterer):
    points, truth = _patterns(np.random.default_rng(0))
    labels = clusterer(unsigned(on_axes(points)[0]))
    assert labels.max() == 2
    for k in range(3):
        values, counts = np.unique(labels[truth == k], return_counts=True)
        assert counts.max() > 0.9 * counts.sum() and values[counts.argmax()] >= 0


def test_fishdbc_is_deterministic():
    points = unsigned(np.random.default_rng(0).normal(size=(600, 6)))
    assert np.array_equal(Fishdbc(5, 10)(points), Fishdbc(5, 10)(points))


def test_fishdbc_that_grows_clusters_as_all_points_at_once():
    """That it is incremental is why Ghosh et al. (2025) chose it; :func:`grown_labels` relies on it."""
    from fishdbc import FISHDBC

    points = unsigned(_patterns(np.random.default_rng(2))[0])
    model = FISHDBC.from_metric("cosine", min_samples=5, level_strategy="balanced")
    for part in (points[:100], points[100:140], points[140:]):
        model.update(np.ascontiguousarray(part), num_threads=1)
    np.testing.assert_array_equal(model.cluster(min_cluster_size=15).labels, Fishdbc(5, 15)(points))


def test_new_points_join_the_cluster_of_their_pattern_and_others_none():
    rng = np.random.default_rng(3)
    points, truth = _patterns(rng)
    order = rng.permutation(len(points))
    old, new = order[:150], order[150:]
    labels = Fishdbc(5, 15)(unsigned(points[old]))
    strange = np.eye(8)[5] * rng.uniform(1, 9, 20)[:, None] + 0.05 * rng.normal(size=(20, 8))
    found = grown_labels(unsigned(points[old]), labels, unsigned(np.vstack([points[new], strange])), Fishdbc(5, 15))
    name = [np.bincount(labels[(truth[old] == k) & (labels >= 0)]).argmax() for k in range(3)]
    assert (found[: len(new)] == np.array(name)[truth[new]]).mean() > 0.9
    assert (found[len(new) :] == -1).all()  # a cluster of their own continues no earlier one


def test_a_cluster_of_points_that_were_in_none_continues_none():
    def one_cluster(points):
        return np.zeros(len(points), dtype=np.intp)

    labels, points, new = np.array([-1] * 5 + [2]), np.zeros((6, 1)), np.zeros((3, 1))
    assert (grown_labels(points, labels, new, one_cluster) == -1).all()
    assert (grown_labels(points, labels + 1, new, one_cluster) == 0).all()


def test_fishdbc_labels_do_not_depend_on_the_process():
    script = Path(__file__).parents[2] / "benchmarks" / "clustering.py"
    done = shell([sys.executable, script, "--codes", 400, 4000])
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines()[2:]]
    assert [row[0] for row in rows] == ["| 400", "| 4000"]
    assert all(row[4] == "yes |" and int(row[3]) > 1 for row in rows)


def test_fishdbc_refuses_nan_and_survives_too_few_points():
    with pytest.raises(ValueError, match="finite"):
        Fishdbc(5, 10)(np.full((20, 3), np.nan))
    assert (Fishdbc(5, 10)(np.ones((3, 3))) == -1).all()


def test_the_lift_turns_the_angle_into_its_squared_cosine():
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 5))
    cosine = u @ v / np.linalg.norm(u) / np.linalg.norm(v)
    a, b, c = unsigned(np.stack([u, v, -3 * u]))
    assert a @ b == pytest.approx(cosine**2)
    np.testing.assert_allclose(a, c)
    assert a @ a == pytest.approx(1.0)


def test_axes_keep_the_energy():
    points, _ = _patterns(np.random.default_rng(0))
    kept, axes = on_axes(points)
    np.testing.assert_allclose(kept, points @ axes.T)
    assert kept.shape[1] < 8
    assert (kept**2).sum() > 0.99 * (points**2).sum() * 0.999


def test_von_neumann_of_noise_and_of_a_line():
    rng = np.random.default_rng(0)
    assert von_neumann(rng.normal(size=(2000, 50))).mean() == pytest.approx(1.0, abs=0.05)
    assert von_neumann(np.arange(50.0)) < 0.01


def test_p_values_of_noise_are_uniform_and_of_a_line_small():
    rng = np.random.default_rng(0)
    p = np.array([smoothness_p_value(rng.normal(size=30), rng) for _ in range(200)])
    assert 0.4 < p.mean() < 0.6 and (p < 0.05).mean() < 0.12
    assert smoothness_p_value(np.arange(30.0) + rng.normal(size=30), rng) < 0.001


def test_labels_with_evidence():
    rng = np.random.default_rng(3)
    line, noise, cycle = np.arange(30) / 10, rng.normal(size=30), np.sin(np.arange(30) / 5)
    basis = np.linalg.qr(rng.normal(size=(50, 4)))[0].T
    maps = np.stack([line, noise, cycle], axis=1) @ basis[:3]
    pairs = rng.permutation(30)[: 2 * 12].reshape(2, 12)
    sources = np.zeros((3, 12, 4))
    for k, series in enumerate((line, noise, cycle)):
        sources[k, :, k] = series[pairs[1]] - series[pairs[0]]
    labels = np.repeat(np.arange(3)[:, None], 12, axis=1)
    height = basis[2] - basis[2].mean()  # the third pattern is the relief
    grid = grid_of(np.ones((5, 10), dtype=bool), height, np.arange(30) / 10)
    found = attribute(sources, labels, basis, maps, grid, 0.01, rng)
    assert [c.kind for c in found] == ["deformation", "atmosphere", "atmosphere"]
    assert found[2].p_value < 0.01 and abs(found[2].height_correlation) > 0.9
    assert abs(np.corrcoef(found[0].amplitude, line)[0, 1]) > 0.999
    assert sum(c.energy for c in found) == pytest.approx(1.0)
    assert "map" not in found[0].evidence()
