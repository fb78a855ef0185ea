"""New dates under what was learned, on arrays."""

from dataclasses import replace

import numpy as np
import pytest
from mintpy.utils import ptime

from conftest import observed
from mintpy_vae.dates import acquisition_years
from mintpy_vae.method.alarm import Alarm, distinct
from mintpy_vae.method.bells import THINNEST, bell_map, make_bells
from mintpy_vae.method.deformation import Piece
from mintpy_vae.method.knowledge import Knowledge
from mintpy_vae.method.separation import separate
from mintpy_vae.method.timefunctions import annual, continued, goes_on, prolonged, scanned, step, trend, weighted_sum
from mintpy_vae.method.update import Learned, Statistics, Unlike, _near, going_on, new_series, update
from mintpy_vae.project.knowledge_input import read_functions
from mintpy_vae.results.learned import LEARNED, read_learned, write_learned
from mintpy_vae.settings import Settings
from mintpy_vae.simulate import simulate

FIRST, ALL = 18, 21


def until(observations, n):
    some = (observations.pairs < n).all(axis=1)
    return replace(
        observations,
        phase=observations.phase[some],
        weight=observations.weight[some],
        pairs=observations.pairs[some],
        dates=observations.dates[:n],
    )


@pytest.fixture(scope="module")
def case():
    """A scene without motion, all pairs and what its first dates say."""
    observations = observed(simulate("quiet", n_dates=ALL, size=(24, 26), seed=5))
    found = separate(until(observations, FIRST), Settings(device="cpu", train_steps=10, num_seeds=1))
    return observations, Learned.of(found, observations.dates[:FIRST])


def test_functions_of_time_go_on_as_they_were():
    dates = [f"2020{month:02d}{day:02d}" for month in range(1, 13) for day in (5, 20)]
    first = dates[:-3]
    years = acquisition_years(first)
    late = step(first, len(first) - 6)
    decay = next(f for f in scanned(first) if f.name == f"log {late.name.split()[1]} 0.1 yr")
    sums = [
        weighted_sum([0.3, -0.52], [trend(years), late]),
        weighted_sum([1e-4, 0.6, 0.2], [trend(years), late, decay]),
    ]
    for function in [trend(years), *annual(years), *scanned(first), *sums]:
        longer = continued(function.name, first, dates)
        np.testing.assert_allclose(longer.values[: len(first)], function.values, atol=1e-9)
        assert longer.family == function.family
        if function.family in ("step", "ramp 60 d", "ramp 120 d"):
            assert (longer.values[len(first) :] == function.values[-1]).all()
    names = ["trend", late.name, decay.name]
    of_terms = np.array([1e-4, 0.6, 0.2]) @ [continued(name, first, dates).values for name in names]
    np.testing.assert_allclose(continued(sums[1].name, first, dates).values, of_terms, atol=1e-12)


def test_functions_of_the_user_go_on_from_what_they_were():
    dates = [f"{2018 + k // 24}{k // 2 % 12 + 1:02d}{(5, 20)[k % 2]:02d}" for k in range(60)]
    first, n = dates[:50], 50  # over two New Years, at which MintPy's years jump
    options = {"mintpy.timeFunc.polynomial": "3", "mintpy.timeFunc.stepDate": "20200103"}
    options |= {f"mintpy.timeFunc.{kind}": "20200103,60" for kind in ("exp", "log")}  # alike on the few dates since
    given, _ = read_functions(options, first)
    assert not any(goes_on(f, first) for f in given) and goes_on(trend(acquisition_years(first)), first)
    other, _ = read_functions(options, dates)
    assert not np.allclose(other[0].values[:n], given[0].values, atol=1e-3 * np.ptp(given[0].values))
    again, _ = read_functions(options, dates, number=n)
    found = {f.name: f.values for f in prolonged(given, again)}
    for before in given:
        np.testing.assert_allclose(found[before.name][:n], before.values, atol=1e-9 * np.ptp(before.values))
    assert (found["step 20200103"][n:] == 1).all()
    curve = np.polyfit(ptime.date_list2vector(first)[1], found["quadratic"][:n], 2)
    expected = np.polyval(curve, ptime.date_list2vector(dates)[1])  # a parabola stays a parabola
    np.testing.assert_allclose(found["quadratic"], expected, atol=1e-4 * np.ptp(expected))
    for changed in (again[1:], other):
        with pytest.raises(ValueError, match="quadratic"):
            prolonged(given, changed)


def test_a_new_date_is_explained_with_functions_of_the_user():
    """The sky has an excess variance in these, which a function that is not known at the new date could not have."""
    observations = observed(simulate("quiet", n_dates=ALL, size=(24, 26), seed=5))
    options = {"mintpy.timeFunc.polynomial": "2"}
    knowledge = [Knowledge(read_functions(options, observations.dates[:n], number=FIRST)[0]) for n in (FIRST, ALL)]
    settings = Settings(device="cpu", train_steps=10, num_seeds=1)
    found = separate(until(observations, FIRST), settings, knowledge[0])
    learned = Learned.of(found, observations.dates[:FIRST])
    assert [f.name for f in learned.given] == ["quadratic"] and learned.persistent[-1] == "quadratic"
    done = update(observations, learned, knowledge[1])
    assert done.corrected.std() < 0.7 * done.learned.series[FIRST:].std()
    assert len(done.learned.given[0].values) == ALL
    with pytest.raises(Unlike, match="quadratic"):
        update(observations, learned)


def test_the_phase_of_a_new_date_comes_from_its_pairs_alone(case):
    observations, learned = case
    n = FIRST
    series, valid = new_series(until(observations, n + 1), learned)
    rng = np.random.default_rng(1)
    constants = rng.normal(0, 5, len(observations.pairs))[:, None, None]
    old = (observations.pairs < n).all(axis=1)[:, None, None]
    phase = np.where(old, rng.normal(size=observations.phase.shape), observations.phase + constants)
    other, same = new_series(until(replace(observations, phase=phase), n + 1), learned)
    np.testing.assert_array_equal(valid, learned.grid.valid)
    np.testing.assert_array_equal(same, valid)
    level = other - series
    np.testing.assert_allclose(level, np.broadcast_to(level.mean(axis=1, keepdims=True), level.shape), atol=0.02)


def test_a_known_sky_is_removed_and_one_by_one_is_as_good_as_together(case):
    observations, learned = case
    together = update(observations, learned)
    one = learned
    rows = []
    for k in range(FIRST, ALL):
        done = update(until(observations, k + 1), one)
        one = done.learned
        rows.append(done.corrected[0])
    before = together.learned.series[together.new].std(axis=1)
    assert (together.corrected.std(axis=1) < 0.5 * before).all()
    difference = np.array(rows) - together.corrected
    assert difference.std() < 0.3 * together.corrected.std()
    assert one.dates == list(observations.dates) and one.number == FIRST
    np.testing.assert_allclose(one.series, together.learned.series, atol=0.5)  # pairs of two new dates come later


def test_motion_with_the_course_of_a_cluster_goes_on(case, tmp_path):
    observations, learned = case
    years = acquisition_years(observations.dates)
    terms = [trend(years[:FIRST]), step(observations.dates[:FIRST], 8)]
    course = weighted_sum([2.0, 0.5], terms)
    place = np.array([12.0, 20.0, np.log(2.5), 0.0, 0.0])
    bell = bell_map(place, np.array(np.nonzero(learned.grid.valid), dtype=float))
    size, values = 6.0, course.values - course.values.mean()
    moved = replace(
        learned,
        pieces=[Piece(place, False, course.name, size, 0.1, 9.0, 1.0)],
        maps=bell[None],
        covariance=np.array([[0.01]]),
        motion=size * np.outer(values, bell),
        series=learned.series + size * np.outer(values, bell - bell.mean()),
    )
    write_learned(tmp_path / LEARNED, moved)
    read = read_learned(tmp_path)
    motion, functions = going_on(read, observations.dates)
    rate = 2.0 * size / years[FIRST - 1]
    expected = moved.motion[-1] + np.outer(rate * (years[FIRST:] - years[FIRST - 1]), bell)
    np.testing.assert_allclose(motion.series[FIRST:], expected, atol=1e-9)
    np.testing.assert_allclose(motion.series[:FIRST], moved.motion, atol=1e-9)
    assert [f.name for f in functions if f.of_cluster] == [course.name]
    done = update(observations, read, again=False)
    np.testing.assert_allclose(done.learned.motion[done.new], expected, atol=1e-9)


def test_a_step_raises_the_alarm_where_it_is_and_stays_in_the_data(case):
    observations, learned = case
    statistics = Statistics(learned)
    values, _ = new_series(until(observations, FIRST + 1), learned)
    values -= values.mean(axis=1, keepdims=True)
    dates = observations.dates[: FIRST + 1]
    calm = statistics.explain(values, dates, learned)
    place = np.array([12.0, 20.0, np.log(2.5), 0.0, 0.0])
    bell = bell_map(place, np.array(np.nonzero(learned.grid.valid), dtype=float))
    size = 10.0
    moved = statistics.explain(values + size * (bell - bell.mean()), dates, learned)
    strongest = max(moved.alarms, key=lambda alarm: alarm.score)
    assert distinct(calm.alarms) == []
    assert np.hypot(*(strongest.place[:2] - place[:2])) < 2.5
    assert abs(strongest.amplitude - size) < 0.3 * size and strongest.probability > 0.99
    kept = moved.corrected[0] - calm.corrected[0]
    assert kept @ bell > 0.8 * size * (bell @ (bell - bell.mean()))


def test_what_is_kept_of_new_motion_does_not_jump_at_the_threshold(case):
    observations, learned = case
    statistics, dates = Statistics(learned), observations.dates[: FIRST + 1]
    values, _ = new_series(until(observations, FIRST + 1), learned)
    values -= values.mean(axis=1, keepdims=True)
    place = np.array([12.0, 20.0, np.log(2.5), 0.0, 0.0])
    bell = bell_map(place, np.array(np.nonzero(learned.grid.valid), dtype=float))
    sizes, shares, raised = np.geomspace(1.5, 9.0, 40), [], []
    known = going_on(learned, dates)[0].series
    for size in sizes:
        alarms, motion, *_ = statistics.search(values + size * (bell - bell.mean()), dates, learned, known)
        shares.append(float(motion[0] @ bell / (bell @ bell)) / size)
        raised.append(bool(distinct(alarms)))
    assert not raised[0] and raised[-1] and shares[-1] - shares[0] > 0.6
    assert np.abs(np.diff(shares)).max() < 0.25  # it was 0.5 between any two sizes at the threshold


LONG = 40


@pytest.fixture(scope="module")
def long_case():
    """Six dates after forty that were learned from, and a bell."""
    observations = observed(simulate("quiet", n_dates=LONG + 6, size=(24, 26), seed=5))
    found = separate(until(observations, LONG), Settings(device="cpu", train_steps=10, num_seeds=1))
    place = np.array([12.0, 20.0, np.log(2.5), 0.0, 0.0])
    bell = bell_map(place, np.indices(found.valid.shape).reshape(2, -1).astype(float)).reshape(found.valid.shape)
    return observations, Learned.of(found, observations.dates[:LONG]), place, bell


def one_by_one(long_case, course, most=6):
    """Alarms near the bell and motion at its peak, on each of ``most`` new dates, for a motion of this ``course``."""
    observations, learned, place, bell = long_case
    moved = observations.with_motion(np.r_[np.zeros(LONG), course][:, None, None] * bell)
    alarms, motion = [], []
    for n in range(LONG + 1, LONG + most + 1):
        done = update(until(moved, n), learned)
        learned = done.learned
        alarms.append([a for a in done.alarms if a.raised and np.hypot(*(a.place[:2] - place[:2])) < 3])
        motion.append(learned.grid.maps(learned.motion[-1:])[0][12, 20])
    return alarms, np.array(motion)


def test_a_step_too_weak_for_its_first_date_is_seen_when_it_has_lasted(long_case):
    dates = long_case[0].dates
    seen = {size: one_by_one(long_case, np.full(6, size), 4)[0] for size in np.arange(0.0, 12.0)}
    late = [size for size, of_dates in seen.items() if not of_dates[0] and any(of_dates)]
    assert not any(seen[0.0]) and seen[11.0][0]  # none without motion, at once if it is strong
    assert len(late) >= 2
    for size in late:
        alarm = max((a for of_date in seen[size] for a in of_date), key=lambda a: a.score)
        assert dates[LONG] <= alarm.since < alarm.date
        assert abs(alarm.amplitude - size) < 0.35 * size


@pytest.mark.parametrize(
    "course", [[0, 14, 14, 14, 14, 14], [0, 20, 20, 20, 20, 20], [0, 14, 18, 22, 26, 30], [20, 0, 0, 0, 0, 0]]
)
def test_motion_is_counted_once_and_on_its_own_dates(long_case, course):
    course = np.array(course, dtype=float)
    _, motion = one_by_one(long_case, course)
    assert np.abs(motion - motion[course == 0].mean() - course)[course > 0].max() < 0.35 * course.max()
    assert np.abs(motion[course == 0]).max() < 2


def test_new_motion_keeps_the_shape_it_has(long_case):
    """A round bell fits an oblong step badly; the rest was taken for sky on its first date and on all later ones."""
    observations, learned, *_ = long_case
    size, place = 20.0, np.array([12.3, 13.4, np.log(3.0), 0.5, 0.3])
    bell = bell_map(place, np.indices(learned.grid.valid.shape).reshape(2, -1).astype(float))
    bell = bell.reshape(learned.grid.valid.shape)
    moved = observations.with_motion(size * (np.arange(LONG + 6) >= LONG)[:, None, None] * bell)
    truth = size * (bell[learned.grid.valid] - bell[learned.grid.valid].mean())
    errors, with_step, calm = [], learned, learned
    for n in range(LONG + 1, LONG + 7):
        done, same = update(until(moved, n), with_step), update(until(observations, n), calm)
        with_step, calm = done.learned, same.learned
        kept = done.corrected[0] - same.corrected[0]
        errors.append(float(np.std(kept - truth) / np.std(truth)))
    assert errors[0] < 0.27 and max(errors[2:]) < 0.16


def test_the_course_of_a_cluster_is_recognised_again(long_case):
    """Six dates after an earthquake do not say how fast its slip decays; those added since do."""
    observations, learned, place, bell = long_case
    dates, years, quake, size = observations.dates, acquisition_years(observations.dates), LONG - 6, 20.0
    jump, slow = (
        continued(name, dates[:LONG], dates[:LONG]) for name in (f"step {dates[quake]}", f"log {dates[quake]} 0.5 yr")
    )
    truth = (years >= years[quake]) * (1 + 0.1 * np.log1p(np.clip(years - years[quake], 0, None) / 0.02))
    design = np.stack([np.ones(LONG), jump.values, slow.values], axis=1)
    course = weighted_sum(np.linalg.lstsq(design, truth[:LONG], rcond=None)[0][1:], [jump, slow])
    shape, truth = bell[learned.grid.valid], size * (truth - truth[:LONG].mean())
    moving = replace(
        learned,
        pieces=[Piece(place, False, course.name, size, 0.3, 9.0, 1.0)],
        maps=shape[None],
        covariance=np.array([[0.09]]),
        motion=size * np.outer(course.values - course.values.mean(), shape),
        series=learned.series + np.outer(truth[:LONG], shape - shape.mean()),
    )
    moved = observations.with_motion(truth[:, None, None] * bell)
    errors = []
    for again in (False, True):
        done = update(moved, moving, again=again)
        errors.append(np.abs(done.learned.motion[done.new][:, shape.argmax()] - truth[LONG:]).max())
    assert errors[1] < 0.7 * errors[0]


@pytest.mark.parametrize("wrong", [0.6, 1.5])
def test_new_dates_mend_a_wrong_rate(long_case, wrong):
    """Dates that were learned from say little of a motion that is new to them; it is searched for again where it is."""
    observations, learned, place, bell = long_case
    years = acquisition_years(observations.dates)
    course, size = trend(years[:LONG]).values, 20.0
    course = course - course.mean()
    shape = bell[learned.grid.valid]
    piece = Piece(place, False, "trend", wrong * size, 0.3 * size, 3.0, 1.0)
    moving = replace(
        learned,
        pieces=[piece],
        maps=shape[None],
        covariance=np.array([[piece.std**2]]),
        motion=wrong * size * np.outer(course, shape),
        series=learned.series + size * np.outer(course, shape - shape.mean()),
    )
    truth = size * np.r_[course, course[-1] + (years[LONG:] - years[LONG - 1]) / years[LONG - 1]]
    moved = observations.with_motion(truth[:, None, None] * bell)
    peak = int(shape.argmax())
    errors = []
    for again in (False, True):
        done = update(moved, moving, again=again)
        errors.append(np.abs(done.learned.motion[done.new][:, peak] - truth[LONG:]).max())
    assert errors[1] < 0.5 * errors[0]


def test_motion_narrower_than_any_bell_is_searched_for_again():
    """A piece that was refined may be; without a bell near it, all of its motion on new dates would be sky."""
    bells = make_bells(np.ones((60, 60), bool), np.zeros(3600))
    place = np.array([20.3, 31.4, np.log(THINNEST), 0.0, 0.0])
    near = _near(bells, [Piece(place, False, "trend", 1.0, 0.1, 3.0, 1.0)])
    assert np.exp(bells.places[~bells.relief, 2].min()) > 2 * THINNEST
    shape = bell_map(place, bells.pixels)
    best = (bells.maps @ shape / np.linalg.norm(bells.maps, axis=1)).argmax()
    assert near[best] and near.mean() < 0.02


def test_ground_where_nothing_was_found_is_not_searched_again(case):
    observations, learned = case
    nothing = np.zeros((0, learned.series.shape[1]))
    calm = replace(learned, pieces=[], maps=nothing, covariance=np.zeros((0, 0)), motion=0 * learned.motion)
    known, again = (update(observations, calm, again=how) for how in (False, True))
    np.testing.assert_array_equal(known.corrected, again.corrected)


def test_an_alarm_of_whole_cycles_on_few_cells_may_be_an_unwrapping_error():
    def cycles(amplitude, width=1.3, cells=1.0):
        return Alarm("20200101", np.array([9, 9, np.log(width), 0, 0]), amplitude, 0.4, 2.0, "20200101").cycles(cells)

    assert [cycles(a) for a in (5.8, -6.9, 12.2)] == [1, 1, 2] and cycles(5.8, 1.6 / 5, 5) == 1
    assert [cycles(5.8, width=2.5), cycles(5.8, cells=3.0), cycles(3.1), cycles(0.5)] == [0, 0, 0, 0]


def test_bells_that_describe_one_motion_are_told_as_one():
    def alarm(amplitude, width=1.3, row=10.0, score=2.0, date="20200101"):
        return Alarm(date, np.array([row, 10.0, np.log(width), 0.0, 0.0]), amplitude, 0.4, score, date)

    broad, more, other, later = alarm(6, 3.0), alarm(5, row=11, score=4), alarm(3, row=25), alarm(6, date="20200113")
    told = distinct([other, more, later, broad])
    assert [(one.date, one.place[0]) for one in told] == [("20200101", 11), ("20200101", 25), ("20200113", 10)]
    assert told[0].amplitude == pytest.approx(5 + 6 * np.exp(-1 / 18)) and np.exp(told[0].place[2]) == pytest.approx(3)
    assert abs(told[0].amplitude) / told[0].std == pytest.approx(5 / 0.4)  # as much as the clearest stands out
    chain = [alarm(9, 7.0, row=float(12 * k)) for k in range(5)]
    assert len(distinct(chain)) > 1  # only what is near one of those told belongs to it


def test_the_trend_that_stations_gave_the_atmosphere_goes_on(case, tmp_path):
    observations, learned = case
    rate = np.linspace(-3.0, 3.0, learned.series.shape[1])
    write_learned(tmp_path / LEARNED, replace(learned, station_rate=rate, station_slope=0.01))
    plain, anchored = (update(observations, one) for one in (learned, read_learned(tmp_path)))
    years = learned.grid.years
    since = acquisition_years(observations.dates)[FIRST:] - years.mean()
    expected = np.outer(since, rate + 0.01 * learned.grid.height)
    np.testing.assert_allclose(plain.corrected - anchored.corrected, expected, atol=1e-9)


def test_new_dates_have_to_cover_what_was_learned_from_after_several_updates_too(case):
    observations, learned = case
    some = learned.grid.valid.copy()
    some[:, : some.shape[1] // 16] = False
    fewer = learned.on(some)  # as an earlier update has left it
    assert fewer.n_pixels == learned.n_pixels == learned.grid.valid.sum() > fewer.grid.valid.sum()
    update(observations, fewer)
    with pytest.raises(Unlike, match="cover 8[0-9]% of the pixels learned from"):
        update(observations, replace(fewer, n_pixels=int(fewer.grid.valid.sum() / 0.85)))


def test_where_all_ground_is_stable_there_is_no_alarm(case):
    observations, learned = case
    stable = Knowledge(stable=np.ones(learned.grid.valid.shape, dtype=bool))
    assert not update(observations, learned, stable).alarms


def test_what_was_learned_survives_its_file(case, tmp_path):
    _, learned = case
    write_learned(tmp_path / "vae_learned.h5", learned)
    back = read_learned(tmp_path)
    for name in ("series", "motion", "strength", "maps"):
        np.testing.assert_array_equal(getattr(back, name), getattr(learned, name))
    assert (back.persistent, back.share, list(back.dates)) == (learned.persistent, learned.share, list(learned.dates))
    assert [s.fine for s in back.slow] == [s.fine for s in learned.slow]
    assert [vars(a).keys() for a in back.pieces] == [vars(a).keys() for a in learned.pieces]
    np.testing.assert_array_equal(back.grid.valid, learned.grid.valid)
