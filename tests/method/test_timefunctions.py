import numpy as np
import pytest

from mintpy_vae.method.timefunctions import (
    adds_to,
    annual,
    continued,
    course,
    rate_of,
    recognise,
    scanned,
    step,
    trend,
    without,
    without_others,
)

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


def test_a_function_must_be_new():
    known = [trend(YEARS), step(DATES, 30)]
    assert not adds_to(known, trend(YEARS)) and not adds_to(known, step(DATES, 30))
    assert adds_to(known, step(DATES, 45)) and all(adds_to(known, f) for f in annual(YEARS))


@pytest.mark.parametrize("seed", range(3))
def test_a_course_is_the_whole_motion_in_one_function(seed):
    """A step that fades and a season with a trend, which take two and three functions, each with its own amplitude."""
    rng = np.random.default_rng(seed)
    after = np.clip(YEARS - YEARS[25], 0, None)
    fading = (np.arange(60) >= 25) * 1.0 + 0.4 * np.log1p(after / 0.1)
    season = np.sin(2 * np.pi * YEARS + seed) - 0.6 * YEARS
    for truth in (fading, season):
        found = course(truth + 0.1 * np.ptp(truth) * rng.normal(size=60), YEARS, DATES)
        assert found is not None and found.family == "cluster" and np.ptp(found.values) == pytest.approx(1, abs=0.02)
        assert abs(np.corrcoef(found.values, truth)[0, 1]) > 0.98
    assert course(3 * YEARS + 0.3 * rng.normal(size=60), YEARS, DATES) is None


def test_the_name_of_a_course_says_all_about_it():
    truth = 0.3 * YEARS + (np.arange(60) >= 25) + np.log1p(np.clip(YEARS - YEARS[25], 0, None) / 0.1)
    found = course(truth, YEARS, DATES)
    again = continued(found.name, DATES, DATES)
    np.testing.assert_array_equal(again.values, found.values)
    assert (again.name, again.family) == (found.name, found.family)
    assert found.name.startswith(f"{rate_of(found.name):.3g} trend + ") and rate_of(found.name) > 0
    assert rate_of("trend") == 1 and rate_of(f"step {DATES[25]}") == rate_of("annual sine") == 0


def test_a_course_that_is_a_line_or_a_flash_is_none():
    rng = np.random.default_rng(4)
    noise = 0.2 * rng.normal(size=60)
    assert course(20 * YEARS + (np.arange(60) >= 25) + noise, YEARS, DATES) is None  # 1 in 40: the trend will do
    for last in (0.5, 1.0, 3.0):  # a storm on the last date
        assert course(YEARS + noise + last * (np.arange(60) == 59), YEARS, DATES) is None
    storm = 0.3 * YEARS + (np.arange(60) >= 25) + noise + 9.0 * (np.arange(60) == 40)
    good = np.setdiff1d(np.arange(60), [40])
    clean = course(storm - 9.0 * (np.arange(60) == 40), YEARS, DATES)
    known = course(storm, YEARS, DATES, good)  # a date that is known to be bad decides nothing
    assert known is not None and clean is not None
    assert abs(np.corrcoef(known.values, clean.values)[0, 1]) > 0.99


@pytest.mark.parametrize("at", [5, 35, 57])
def test_what_is_left_on_some_dates_is_that_of_a_fit_to_these_alone(at):
    """Also where a function does not change on them: nothing else is lost then."""
    rng = np.random.default_rng(at)
    series = rng.normal(size=(60, 500)) * np.linspace(1, 2, 60)[:, None]
    functions = [trend(YEARS), *annual(YEARS), step(DATES, at)]
    some = np.setdiff1d(np.arange(60), np.arange(at - 5, at + 3))  # constant on the others for 5 and 57
    found = without_others(without(series, functions), functions, some)
    design = np.stack([np.ones(len(some)), *(f.values[some] for f in functions)], axis=1)
    left = series[some] - design @ np.linalg.pinv(design) @ series[some]
    np.testing.assert_allclose(found / found.std(axis=1)[:, None], left / left.std(axis=1)[:, None], atol=1e-6)
    np.testing.assert_allclose(found.std(axis=1), series[some].std(axis=1), rtol=0.2)
