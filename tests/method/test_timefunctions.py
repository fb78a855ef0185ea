import numpy as np
import pytest

from mintpy_vae.method.timefunctions import TimeFunction, adds_to, annual, lasts, recognise, scanned, step, trend

YEARS = np.arange(60) * 12 / 365.25
DATES = [str(np.datetime64("2018-01-01") + 12 * k).replace("-", "") for k in range(60)]


def test_a_line_needs_no_further_function():
    rng = np.random.default_rng(0)
    assert recognise(3 * YEARS + 0.3 * rng.normal(size=60), YEARS, DATES) == []


@pytest.mark.parametrize("seed", range(3))
def test_step_season_and_decay_are_recognised(seed):
    rng = np.random.default_rng(seed)
    noise = 0.1 * rng.normal(size=60)
    assert recognise((np.arange(60) >= 25) + noise, YEARS, DATES)[0].name == f"step {DATES[25]}"
    names = [f.name for f in recognise(np.sin(2 * np.pi * YEARS + seed) + noise, YEARS, DATES)]
    assert names == ["annual sine", "annual cosine"]
    decay = np.log1p(np.clip(YEARS - YEARS[25], 0, None) / 0.1) + (np.arange(60) >= 25)
    names = [f.name for f in recognise(decay + 0.3 * noise, YEARS, DATES)]
    assert any(name.startswith("log") for name in names)


def test_trend_and_steps():
    assert trend(YEARS).values[0] == 0 and trend(YEARS).values[-1] == 1
    family = scanned(DATES)
    assert all(f.family for f in family)
    steps = [f for f in family if f.family == "step"]
    assert steps[0].values.sum() == 58 and steps[-1].values.sum() == 2


def test_ramps_last_as_long_as_they_say():
    for ramp in scanned(DATES):
        if ramp.family.startswith("ramp"):
            days = float(ramp.family.split()[1])
            rising = (ramp.values > 0) & (ramp.values < 1)
            assert ramp.values[0] == 0 and ramp.values[-1] == 1
            assert np.gradient(ramp.values, 365.25 * YEARS)[rising].max() <= 1.01 / days


def test_what_happens_at_one_date_is_no_motion():
    assert not lasts([trend(YEARS)], TimeFunction("flash", np.eye(60)[30]))
    assert not lasts([trend(YEARS)], step(DATES, 58)) and lasts([trend(YEARS)], step(DATES, 40))


def test_a_function_must_be_new():
    known = [trend(YEARS), step(DATES, 25)]
    assert not adds_to(known, step(DATES, 26)) and not adds_to(known, trend(YEARS))
    assert adds_to(known, step(DATES, 45)) and all(adds_to(known, f) for f in annual(YEARS))
