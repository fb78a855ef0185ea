"""The detection curve, with a stand-in for the method that finds motion from a known amplitude on."""

from types import SimpleNamespace

import numpy as np
import pytest

from conftest import job_of
from mintpy_vae.errors import InputError
from mintpy_vae.evaluation import rerun
from mintpy_vae.evaluation.detection import Wanted, course, curve, detect, parse_wanted, places_for, shares_found
from mintpy_vae.method import training
from mintpy_vae.settings import Settings
from mintpy_vae.stack import open_stack

WAVELENGTH = 0.056
METRES = WAVELENGTH / (4 * np.pi)
SHAPE = (40, 50)


class Finds:
    """Stands for the method: regards each pixel's motion as motion where its peak exceeds a threshold (mm)."""

    def __init__(self, threshold, n_dates=24):
        self.threshold, self.factor = threshold, 2
        self.dates = [str(np.datetime64("2020-01-01") + 15 * k).replace("-", "") for k in range(n_dates)]
        attributes = {"Y_FIRST": "0", "Y_STEP": "-100", "X_STEP": "100", "Y_UNIT": "m", "LENGTH": str(2 * SHAPE[0])}
        self.stack = SimpleNamespace(attributes=attributes, wavelength=WAVELENGTH, metres_per_radian=-METRES)
        knowledge = SimpleNamespace(stable=np.arange(SHAPE[1]) < 10 * np.ones((SHAPE[0], 1)))
        self.job = SimpleNamespace(knowledge=knowledge, settings=SimpleNamespace(significance=0.01))
        self.valid = np.ones(SHAPE, dtype=bool)
        self.noise = np.random.default_rng(0).normal(size=(2, n_dates, self.valid.sum()))
        self.added = []
        self.plain = self(np.zeros((n_dates, *SHAPE)))

    def __call__(self, added, network=None):
        self.added.append(added)
        motion = added[:, self.valid] / -METRES
        seen = np.where(np.abs(np.ptp(added[:, self.valid], axis=0)) > 1e-3 * self.threshold / 10, motion, 0)
        found = 1000 * np.abs(added).max() >= self.threshold
        deformation = SimpleNamespace(series=found * (seen - seen.mean(axis=0)), pieces=[])
        atmosphere = SimpleNamespace(moving=np.zeros(SHAPE, dtype=bool))
        return SimpleNamespace(
            valid=self.valid, deformation=deformation, atmosphere=atmosphere, noise=self.noise, network=None
        )


@pytest.mark.parametrize("threshold", [0.7, 3.0, 55.0])
def test_the_amplitude_is_the_one_from_which_the_method_finds_motion(threshold):
    found = detect(Finds(threshold), Wanted((1.0, 2.0), (0.0, 60.0, np.inf)), lambda text: None)
    assert [(r["width_km"], r["duration"]) for r in found["rows"]] == [
        (w, d) for w in (1.0, 2.0) for d in ("step", "60 days", "whole span")
    ]
    for row in found["rows"]:
        amplitudes, numbers, tried = zip(*row["trials"], strict=True)
        assert [n == m for n, m in zip(numbers, tried, strict=True)] == [a >= threshold for a in amplitudes]
        assert threshold / 1.2 < row["amplitude"] < 1.9 * threshold and row["low"] < row["amplitude"] < row["high"]
        assert len(amplitudes) <= 8
    assert found["alarms"] == {"pieces": 0, "places": 0, "moving_share": 0.0}


def test_motion_that_is_never_found_has_no_amplitude():
    (row,) = detect(Finds(1e9), Wanted((1.0,), (0.0,)), lambda text: None)["rows"]
    assert np.isnan(row["amplitude"]) and np.isnan(row["high"]) and row["low"] > 100


def test_what_is_added_keeps_off_stable_ground_and_stays_within_the_stack():
    method = Finds(2.0)
    detect(method, Wanted((1.0,), (60.0,)), lambda text: None)
    added = 1000 * np.array(method.added[-1])
    peak = np.abs(added).max(axis=0)
    assert peak[:, :10].max() < 0.1 * peak.max()  # where no motion is searched for
    assert np.abs(added[0]).max() == 0  # begins after the first date ...
    moving = np.abs(np.diff(added, axis=0)).max(axis=(1, 2)) > 1e-6 * peak.max()
    assert not moving[-1]  # ... and ends before the last
    assert added[-1].max() == pytest.approx(-added[-1].min(), rel=0.1)  # towards and away from the satellite


def test_too_narrow_widths_are_left_out_and_said():
    said = []
    found = detect(Finds(2.0), Wanted((0.3, 1.0), (0.0,)), said.append)
    assert [row["width_km"] for row in found["rows"]] == [1.0] and any("0.3 km is narrower" in text for text in said)


def test_a_share_is_that_of_the_motion_at_its_place_and_time():
    method = Finds(0.1)
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    bells = [np.exp(-((y - r) ** 2 + (x - c) ** 2) / 18) for r, c in ((10, 12), (30, 40))]
    step, early = (1.0 * (np.arange(24) >= k) for k in (15, 6))
    motions = np.array([step[:, None, None] * bell for bell in bells])

    def shares(radians):
        series = radians.reshape(24, -1)
        other = SimpleNamespace(valid=method.valid, deformation=SimpleNamespace(series=series - series.mean(axis=0)))
        return shares_found(method.plain, other, motions)

    assert shares(-0.7 * motions[0]) == pytest.approx([0.7, 0.0], abs=1e-3)  # phase grows away from the satellite
    assert shares(-(motions[0] + 0.2 * motions[1])) == pytest.approx([1.0, 0.2], abs=1e-3)
    assert shares(-early[:, None, None] * bells[0])[0] < 0.5  # at the place, but months before
    assert shares(-step[:, None, None] * np.roll(bells[0], 9, axis=1))[0] < 0.5


def test_the_curve_is_the_one_that_the_numbers_come_from():
    amplitudes = np.geomspace(1, 16, 9)
    chance = 1 / (1 + np.exp(-(np.log(amplitudes) - np.log(4.0)) / 0.25))
    trials = [(a, round(1000 * p), 1000) for a, p in zip(amplitudes, chance, strict=True)]
    found = curve(trials)
    assert found["amplitude"] == pytest.approx(4.0 * 9**0.25, rel=0.03)  # 90 %
    assert found["high"] / found["low"] < 1.1
    few = curve([(a, round(n / 200), 5) for a, n, _ in trials])
    assert few["low"] < 4.0 * 9**0.25 < few["high"] and few["high"] / few["low"] > 1.3
    other = curve([(7 * a, n, m) for a, n, m in trials])
    assert other["amplitude"] == pytest.approx(7 * found["amplitude"])


@pytest.mark.parametrize("width", [2.0, 5.0, 12.0])
def test_places_are_apart_and_free(width):
    free = np.ones(SHAPE, dtype=bool)
    free[5:20, 20:40] = False
    places = np.array(places_for(free, width))
    assert free[tuple(places.T)].all() and len(places) >= 2
    apart = np.hypot(*(places[:, None] - places).transpose(2, 0, 1))[~np.eye(len(places), dtype=bool)]
    assert apart.min() >= 2 * width - 1
    assert len(places_for(np.eye(30, dtype=bool), 9.0)) == 1  # never none


def test_courses_begin_and_end():
    years = np.linspace(0, 2, 25)
    step, ramp, whole = (course(years + 3, *how) for how in ((0.99, 0.0), (0.5, 0.25), (0.0, 2.0)))
    assert set(step) == {0, 1} and step.sum() == 13
    assert ramp[years <= 0.5].max() == 0 and ramp[years >= 0.75].min() == 1 and 0 < ramp[7] < 1
    assert whole == pytest.approx(years / 2)


def test_what_is_wanted_and_what_is_refused():
    assert parse_wanted("") == Wanted() and parse_wanted("1,3") == Wanted((1.0, 3.0))
    assert parse_wanted("2:0,60,all") == Wanted((2.0,), (0.0, 60.0, np.inf))
    assert parse_wanted(":90") == Wanted((), (90.0,))
    for text in ("0:3", "1:-1", "a", "1:2:3", "1:nan", "nan"):
        with pytest.raises(InputError, match="WIDTHS_KM:DAYS is needed"):
            parse_wanted(text)


def test_the_real_method_is_trained_once_and_finds_what_is_large(mapped, monkeypatch):
    trained = []

    def train(*arguments):
        trained.append(1)
        return training.train(*arguments)

    monkeypatch.setattr(rerun, "train", train)
    job = job_of(open_stack(mapped.stack), Settings(train_steps=10, resolution=1.1))
    found = detect(rerun.Rerun(job), Wanted((4.0,), (np.inf,)), lambda text: None)
    (row,) = found["rows"]
    (least, fewest, _), (largest, most, tried) = row["trials"][0], row["trials"][-1]
    assert fewest == 0 and most == tried > 1 and least < row["amplitude"] < 2 * largest
    assert len(trained) == 1 and len(row["trials"]) > 2
