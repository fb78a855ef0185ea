"""Figures of a row against closed forms, on a made scene."""

import re
from pathlib import Path

import numpy as np
import pytest

from mintpy_vae.evaluation.comparison import compare, scores
from mintpy_vae.evaluation.gnss_series import Station
from mintpy_vae.evaluation.methods import EvaluationData
from mintpy_vae.results.inverted import Inverted

N = 30
YEARS = np.arange(N) * 12 / 365.25
SHAPE = (60, 70)
SIGMA = 4.0  # mm
Y, X = np.mgrid[: SHAPE[0], : SHAPE[1]].astype(float)
PAIRS = np.array([[i, i + k] for i in range(N) for k in (1, 2, 3) if i + k < N])
SPREAD = np.sqrt(((YEARS - YEARS.mean()) ** 2).sum())


def scene(before, height=Y, **more):
    """Judged on the left half; the rest moves wildly, which must not count."""
    dates = [str(np.datetime64("2020-01-01") + 12 * k).replace("-", "") for k in range(N)]
    valid = np.ones(SHAPE, bool)
    stable = X < 35
    inverted = Inverted(
        dates, YEARS, before, before, valid, height, np.full(SHAPE, 38.0), 1, (500.0, 500.0), (0, 0), {}
    )
    return EvaluationData(inverted, Path(), Path(), PAIRS, stable, "", {}, **more)


@pytest.fixture
def noise():
    """White in space and time, metres; beside it, ground that moves."""
    white = 1e-3 * SIGMA * np.random.default_rng(0).normal(size=(N, *SHAPE))
    return white + np.where(X < 35, 0, 0.5 * YEARS[:, None, None] * X)


def station(name, row, column, values=None, some=slice(None)):
    """A GNSS station with displacements (dates,) in metres, none by default, on some of the dates."""
    days = [int(np.datetime64("2020-01-01").astype(int)) + 12 * k for k in range(N)][some]
    values = np.zeros(N) if values is None else values
    return Station(name, row, column, dict(zip(days, values[some].tolist(), strict=True)))


def test_white_noise_has_the_figures_of_white_noise(noise):
    row = scores(noise, scene(noise))
    assert row["pair_std"] == pytest.approx(np.sqrt(2) * SIGMA, rel=0.02)
    assert row["date_std"] == pytest.approx(SIGMA * np.sqrt(1 - 1 / N), rel=0.02)
    # the standard error of a slope: that it is stated, and that the velocity has it
    assert row["velocity_std"] == pytest.approx(SIGMA / SPREAD, rel=0.05)
    assert row["velocity_uncertainty"] == pytest.approx(SIGMA / SPREAD, rel=0.05)
    # the same at every distance: the sill is the variance, reached within a pixel or two
    assert row["pair_sill"] == pytest.approx(2 * SIGMA**2, rel=0.03) and row["pair_range"] < 1.0
    assert row["velocity_sill"] == pytest.approx((SIGMA / SPREAD) ** 2, rel=0.1) and row["velocity_range"] < 1.5
    assert row["height_correlation"] < 0.05 and row["height_correlation_high_pass"] < 0.05
    assert row["pairs_worse"] == 0


def test_a_plane_of_each_date_is_in_every_figure_as_it_must_be():
    """Steeper by 1 mm a date and kilometre: pairs differ by their number of dates, and the velocity is a plane, too."""
    series = 1e-3 * 0.5 * np.arange(N)[:, None, None] * Y
    row = scores(series, scene(series))
    across = 0.5 * np.sqrt((60**2 - 1) / 12)  # standard deviation of equally spaced numbers
    assert row["pair_std"] == pytest.approx(2 * across)
    assert row["velocity_std"] == pytest.approx(365.25 / 12 * across)
    assert row["velocity_uncertainty"] == pytest.approx(0, abs=1e-9)
    assert row["height_correlation"] == pytest.approx(1) and row["height_correlation_high_pass"] == pytest.approx(1)
    assert np.isinf(row["pair_range"]) and np.isinf(row["velocity_range"])


def test_the_share_of_pairs_made_worse_is_counted(noise):
    after = noise.copy()
    after[:10] += 0.02 * np.random.default_rng(1).normal(size=(10, *SHAPE))
    row = scores(after, scene(noise))
    assert row["pairs_worse"] == pytest.approx(100 * (PAIRS[:, 0] < 10).mean())
    assert scores(0.5 * noise, scene(noise))["pairs_worse"] == 0


def test_over_several_stations_all_baselines_count(noise):
    slow = np.zeros((N, *SHAPE))
    slow[:, 20:25, 20:25] = 0.03 * YEARS[:, None, None]
    slow[:, 40:45, 20:25] = -0.04 * YEARS[:, None, None]
    stations = [station("REFS", 5, 5), station("A", 22, 22), station("B", 42, 22)]
    both, one = (scores(slow, scene(noise, stations=stations[:k])) for k in (3, 2))
    assert one["gnss_rate_error"] == pytest.approx(30) and one["gnss_rms"] == pytest.approx(30 * YEARS.std())
    rms = np.sqrt((30**2 + 40**2 + 70**2) / 3)
    turned, _ = (scores(slow, scene(noise, stations=[stations[k] for k in order])) for order in ((2, 0, 1), (0, 1)))
    assert turned["gnss_rms"] == pytest.approx(both["gnss_rms"])  # whichever is the reference
    assert both["gnss_rate_error"] == pytest.approx(rms) and both["gnss_rms"] == pytest.approx(rms * YEARS.std())


def test_each_station_has_rates_relative_to_the_network_and_the_rms_of_its_baselines(noise):
    slow = np.zeros((N, *SHAPE))
    slow[:, 20:25, 20:25] = 0.03 * YEARS[:, None, None]
    stations = [station("REFS", 5, 5), station("A", 22, 22, 0.01 * YEARS), station("B", 42, 22)]
    stations.append(station("L", 9, 9, some=slice(N - 2, N)))  # two dates are too few for a rate
    still = scene(slow, stations=stations)
    found = compare(still, ["uncorrected"], None, str)["gnss"]
    rows = {row["station"]: row for row in found["rates"]}
    assert [rows[n]["gnss_rate"] for n in ("REFS", "A", "B")] == pytest.approx([-10 / 3, 20 / 3, -10 / 3])
    assert [rows[n]["before_rate"] for n in ("REFS", "A", "B")] == pytest.approx([-10, 20, -10])
    rms = 20 * YEARS.std()  # of a baseline with A; the others agree
    assert [rows[n]["before_rms"] for n in ("REFS", "A")] == pytest.approx([rms / np.sqrt(2), rms])
    assert np.isnan(rows["L"]["before_rate"]) and (rows["L"]["row"], rows["L"]["column"]) == (9, 9)


def test_no_station_costs_the_others_their_dates(noise):
    """The first one has data late only, or lies on masked ground: the others are compared as without it."""
    first, others = station("REFS", 5, 5, some=slice(N - 1, N)), [station("A", 22, 22), station("B", 42, 22)]
    alone = scene(noise, stations=others)
    masked = noise.copy()
    masked[:, 3:8, 3:8] = np.nan
    for of in (scene(noise, stations=[first, *others]), scene(masked, stations=[station("REFS", 5, 5), *others])):
        row = scores(of.inverted.before, of)
        assert row["gnss_rms"] == pytest.approx(scores(noise, alone)["gnss_rms"])
        found = compare(of, ["uncorrected", "line"], None, str)
        assert any("Not compared: REFS, with too few dates" in text for text in found["warnings"])


def test_the_verdict_speaks_of_the_rms_that_the_table_has(noise):
    stations = [station("REFS", 5, 5), station("A", 22, 22), station("B", 42, 22)]
    found = compare(scene(noise, stations=stations), ["uncorrected", "height_correlation"], None, str)
    rms = sorted(row["gnss_rms"] for row in found["table"])
    said = re.findall(r"([0-9.]+) mm\)", found["verdict"])
    assert [float(x) for x in said] == pytest.approx(rms, abs=0.051)
    assert "GNSS at 3 stations (REFS, A, B)" in found["verdict"]


def test_stations_that_cannot_tell_are_said_not_to(noise):
    stations = [station("A", 22, 22, some=slice(0, 9)), station("B", 42, 22, some=slice(20, N))]
    found = compare(scene(noise, stations=stations), ["uncorrected", "height_correlation"], None, str)
    assert found["verdict"].startswith("Which correction is best cannot be told from the GNSS stations")


def test_with_a_truth_the_gain_and_both_errors_are_there(noise):
    truth = -0.03 * YEARS[:, None, None] * (np.hypot(Y - 30, X - 50) < 9)
    row = scores(0.5 * truth, scene(noise, truth=truth, moves=truth[-1] != 0))
    assert row["gain_velocity"] == pytest.approx(0.5) == row["gain_displacement"]
    assert row["velocity_stable"] == pytest.approx(0) and row["velocity_deforming"] == pytest.approx(15)
    assert "gnss_rms" not in row and "gain_velocity" not in scores(noise, scene(noise))
