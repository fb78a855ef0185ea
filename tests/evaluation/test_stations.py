"""Stations whose rates the correction was given, each left out in turn: the real method on a small stack."""

from dataclasses import replace

import numpy as np
import pytest

from conftest import job_of
from mintpy_vae.evaluation.rerun import Rerun
from mintpy_vae.evaluation.stations import circular, leave_out, sentence
from mintpy_vae.method.knowledge import Knowledge, StationRate
from mintpy_vae.settings import Settings
from mintpy_vae.stack import open_stack

PLACES = {"A": (2, 3), "B": (13, 17), "C": (3, 17)}
RATES = {"A": 4.0, "B": -6.0, "C": 1.0}
"""Radians per year."""


@pytest.fixture(scope="module")
def job(mapped):
    return job_of(open_stack(mapped.stack), Settings(train_steps=10, resolution=1.1))


def left_out(job, names="ABC", **rates):
    stations = [StationRate(n, *PLACES[n], (RATES | rates)[n], 0.2) for n in names]
    rerun = Rerun(replace(job, knowledge=Knowledge(stations=stations)))
    return leave_out(rerun, lambda text: None), 1000 * rerun.stack.metres_per_radian


def column(rows, key):
    return np.array([row[key] for row in rows])


@pytest.fixture(scope="module")
def three(job):
    return left_out(job)


def test_a_station_that_is_left_out_has_no_say_in_its_own_misfit(job, three):
    rows, mm = three
    shifted = {n: RATES[n] + 50.0 for n in "ABC"}  # rates are relative: only that B moves by 2 counts
    other, _ = left_out(job, **shifted | {"B": shifted["B"] + 2.0})
    change = {key: (column(other, key) - column(rows, key))[1] for key in ("left_out", "with")}
    assert change["left_out"] == pytest.approx(-2.0 * mm)  # the whole error of the rate is seen
    assert abs(change["with"]) < 0.9 * abs(change["left_out"])  # and not where the rate was given
    assert np.abs(column(rows, "with")).max() < np.abs(column(rows, "left_out")).max()


def test_the_rows_say_what_was_given_and_where(three):
    rows, mm = three
    assert column(rows, "rate") == pytest.approx([mm * RATES[n] for n in "ABC"])
    assert [(row["row"], row["column"]) for row in rows] == [(7, 10), (40, 52), (10, 52)]  # of 3 x 3 looks


def test_of_two_stations_one_alone_anchors_nothing(job):
    rows, _ = left_out(job, "AB")
    without = column(rows, "without")
    assert column(rows, "left_out") == pytest.approx([without[0] - without[1], without[1] - without[0]])


def test_what_is_circular_is_said(three):
    rows, _ = three
    assert circular(rows, ["Z"]) == [] == circular([], ["A"])
    (text,) = circular(rows, ["b", "Z"])
    assert "given rates of B (vae.gnssFile)" in text
    assert f"{np.sqrt(np.mean(column(rows, 'left_out') ** 2)):.1f} mm/yr where the station itself" in sentence(rows)


def test_without_stations_nothing_is_trained(job):
    assert leave_out(Rerun(job)) == []
