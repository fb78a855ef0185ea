"""The covariance of the residual, as source models read it."""

import csv

import numpy as np
import pytest

from mintpy_vae.metrics import semivariogram
from mintpy_vae.results.covariance import exponential_model, write_covariance

NUGGET, SILL, RANGE = 2.0, 9.0, 8.0  # mm2, mm2, km
SIZE, PIXEL = 48, (1.0, 1.0)


@pytest.fixture(scope="module")
def fields():
    """Maps with a known exponential covariance and white noise."""
    y, x = np.mgrid[:SIZE, :SIZE].reshape(2, -1)
    covariance = SILL * np.exp(-3 * np.hypot(y[:, None] - y, x[:, None] - x) / RANGE)
    rng = np.random.default_rng(2)
    maps = np.linalg.cholesky(covariance + 1e-9 * np.eye(SIZE**2)) @ rng.normal(size=(SIZE**2, 12))
    noise = np.sqrt(NUGGET) * rng.normal(size=maps.shape)
    return (maps + noise).T.reshape(-1, SIZE, SIZE)


def test_the_model_of_an_exact_variogram_is_exact():
    distance = np.linspace(0.5, 20, 30)
    gamma = NUGGET + SILL * (1 - np.exp(-3 * distance / RANGE))
    assert exponential_model(distance, gamma, np.ones(30)) == pytest.approx((NUGGET, SILL, RANGE), rel=0.05)
    assert np.isnan(exponential_model(distance[:2], gamma[:2], np.ones(2))).all()


def test_the_table_has_the_covariance_of_the_maps(fields, tmp_path):
    fields = fields.copy()
    fields[:, :6, 10:30] = np.nan  # no data is no residual
    dates = [f"201901{k + 1:02d}" for k in range(len(fields))]
    write_covariance(tmp_path / "table.csv", dates, fields, PIXEL)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    rows = list(csv.DictReader(line for line in lines if not line.startswith("#")))
    assert [row["date"] for row in rows] == dates and "1.000 x 1.000 km" in lines[0]
    mean = {key: np.mean([float(row[key]) for row in rows]) for key in rows[0] if key != "date"}
    assert mean["variance_mm2"] == pytest.approx(NUGGET + SILL, rel=0.15)
    assert mean["nugget_mm2"] == pytest.approx(NUGGET, rel=0.5) and mean["sill_mm2"] == pytest.approx(SILL, rel=0.25)
    assert mean["range_km"] == pytest.approx(RANGE, rel=0.4)


def test_a_flat_map_and_one_without_data_are_no_trouble(tmp_path):
    write_covariance(tmp_path / "table.csv", ["20190101"], np.zeros((1, 20, 20)), PIXEL)
    assert (tmp_path / "table.csv").read_text().splitlines()[-1].startswith("20190101,0,0,0,")
    assert np.isnan(exponential_model(*semivariogram(np.full((20, 20), np.nan), PIXEL))).all()
