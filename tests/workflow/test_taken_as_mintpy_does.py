"""Stacks that MintPy inverts: the later date first, dates with the time of day, no attribute that nothing needs."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import job_of, read
from mintpy_vae import Settings, correct
from mintpy_vae.dates import acquisition_years
from mintpy_vae.evaluation.injection import parse_signals
from mintpy_vae.results.evidence import pixel_size, read_evidence
from mintpy_vae.results.result import read_result
from mintpy_vae.settings import Settings as Options
from mintpy_vae.stack import open_stack, write_corrected_stack, write_delay_file
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import training_data
from tiny import delays, make_project

STACK = Path("inputs", "ifgramStack.h5")


def reverse(file, which):
    with h5py.File(file, "r+") as f:
        late = np.zeros(len(f["date"]), bool)
        late[which] = True
        dates, phase, bperp = f["date"][:], f["unwrapPhase"][:], f["bperp"][:]
        dates[late], phase[late], bperp[late] = dates[late][:, ::-1], -phase[late], -bperp[late]
        f["date"][:], f["unwrapPhase"][:], f["bperp"][:] = dates, phase, bperp
    return late


def with_time(file, time_of):
    """Give each date a time of the day: ``time_of`` its number."""
    with h5py.File(file, "r+") as f:
        old = f["date"][:]
        number = {date: k for k, date in enumerate(np.unique(old))}
        new = np.array([[date + b"T" + time_of(number[date]) for date in pair] for pair in old])
        del f["date"]
        f["date"] = new


def without(attribute, *files):
    for file in files:
        with h5py.File(file, "r+") as f:
            f.attrs.pop(attribute, None)


# ------------------------------------------------------------------------------------------------ the later date first
@pytest.mark.parametrize("which", [slice(None), slice(None, None, 2), slice(0, 3), [7]], ids=str)
def test_pairs_with_the_later_date_first_are_taken_with_their_sign(tmp_path, which):
    usual = make_project(tmp_path / "usual") / STACK
    other = Path(shutil.copytree(usual.parents[1], tmp_path / "other")) / STACK
    late = reverse(other, which)
    a, b = (open_stack(file) for file in (usual, other))
    assert (b.pairs[late] == a.pairs[late][:, ::-1]).all() and (b.pairs[~late] == a.pairs[~late]).all()
    grids = [training_data(job_of(stack, Settings(resolution=1.1))).observations for stack in (a, b)]
    for name in ("phase", "weight", "pairs", "dates", "height"):
        np.testing.assert_array_equal(getattr(grids[0], name), getattr(grids[1], name))
    delay = delays(len(a.dates), a.shape)
    for stack in (a, b):
        write_corrected_stack(stack, stack.file.with_name("out.h5"), lambda rows: delay[:, rows], {}, 1.0)
    outs = [stack.file.with_name("out.h5") for stack in (a, b)]
    np.testing.assert_array_equal(read(outs[1], "date"), read(other, "date"))
    plain, turned = (read(out, "unwrapPhase") for out in outs)
    sign = np.where(late, -1, 1)[:, None, None]
    np.testing.assert_allclose(turned * sign, plain, atol=1e-6)


# ------------------------------------------------------------------------------------------ dates with the time of day
TIMES = {
    "always the same": lambda k: b"0512",
    "morning and evening": lambda k: [b"0512", b"1745"][k % 2],
    "with seconds": lambda k: b"051207",
}


@pytest.mark.parametrize("form", TIMES)
def test_the_time_of_day_goes_through_reading_and_writing(tmp_path, form):
    from mintpy.objects import timeseries

    file = make_project(tmp_path / "p") / STACK
    days = open_stack(file).dates
    with_time(file, TIMES[form])
    stack = open_stack(file)
    assert stack.dates == [f"{day}T{TIMES[form](k).decode()}" for k, day in enumerate(days)]
    delay = delays(len(days), stack.shape)
    write_delay_file(stack, tmp_path / "VAE.h5", lambda rows: delay[:, rows], 1.0)
    series = timeseries(str(tmp_path / "VAE.h5"))
    series.open(print_msg=False)
    assert series.get_date_list() == stack.dates
    years = acquisition_years(stack.dates) - acquisition_years(days)
    expected = 0.0 if form != "morning and evening" else (17 * 60 + 45 - 5 * 60 - 12) / 60 / 24 / 365.25
    np.testing.assert_allclose(years[1::2], expected, atol=1e-12)
    assert (years[::2] == 0).all()


def test_several_acquisitions_on_one_day():
    years = acquisition_years(["20200105T0512", "20200105T0600", "20200106T0512"])
    np.testing.assert_allclose(years * 365.25, [0, 48 / 60 / 24, 1])


@pytest.mark.parametrize(
    "text, expected", [("20200105", [0, 1]), ("20200105T1745", [1]), ("20200117T0512,20200105T0512", [0, 2])]
)
def test_a_bad_day_is_all_of_its_acquisitions(tmp_path, text, expected):
    file = make_project(tmp_path / "p") / STACK
    with h5py.File(file, "r+") as f:
        names = np.unique(f["date"][:])
        new = {old: names[max(k - 1, 0)] + (b"T1745" if k == 1 else b"T0512") for k, old in enumerate(names)}
        dates = np.array([[new[date] for date in pair] for pair in f["date"][:]])
        del f["date"]
        f["date"] = dates
    job = prepare(file, settings=Options(bad_dates=text))
    assert job.knowledge.bad_dates == expected
    assert parse_signals(["step:5:15:20200129T0512"])[0].course(job.stack.dates).sum() == len(job.stack.dates) - 3


# --------------------------------------------------------------------------------- attributes that nothing needs, all
@pytest.mark.parametrize("attribute", ["PROCESSOR", "X_UNIT", "Y_UNIT"])
@pytest.mark.parametrize("coord", ["geo", "radar"])
def test_what_mintpy_does_without_is_not_needed(tmp_path, coord, attribute):
    project = make_project(tmp_path / "p", coord=coord)
    geometry = next((project / "inputs").glob("geometry*.h5"))
    size = pixel_size(open_stack(project / STACK).attributes)
    without(attribute, project / STACK, geometry)
    stack = open_stack(project / STACK)
    assert pixel_size(stack.attributes) == size
    done = correct(project / STACK, invert=False)  # no template either, so that one is made up
    assert done.status == "uncorrected" and "9 dates" in done.reason
    assert (done.work_dir / done.details["template"]).is_file()


def test_all_of_it_at_once_to_the_end_of_mintpys_steps(mapped, tmp_path):
    project = Path(shutil.copytree(mapped.project, tmp_path / "WORK"))
    late = reverse(project / STACK, slice(1, None, 2))
    with_time(project / STACK, TIMES["always the same"])
    without("PROCESSOR", project / STACK, project / "inputs" / "geometryGeo.h5")
    done = correct(project / STACK, template_file=project / mapped.template.name)
    assert done.status == "corrected" and done.details["mintpy"] == "reference_date"
    for name in ("timeseries.h5", "inputs/VAE.h5"):
        dates, usual = read(done.work_dir / name, "date"), read(mapped.work / name, "date")
        assert dates.tolist() == [date + b"T0512" for date in usual]
        found, expected = (read(work / name, "timeseries") for work in (done.work_dir, mapped.work))
        np.testing.assert_allclose(found, expected, atol=1e-5)
    ours, usual = read_evidence(done.work_dir), read_evidence(mapped.work)
    assert ours.dates == [f"{date}T0512" for date in usual.dates]
    np.testing.assert_array_equal(ours.pairs, usual.pairs)
    np.testing.assert_allclose(ours.bperp, usual.bperp)
    assert (done.work_dir / "vae_report.html").is_file() and not any("report" in text for text in done.warnings)
    names = read_result(done.work_dir)["noise_per_pair_mm"]
    assert all(first < second for first, second in (name.split("_") for name in names)) and late.any()
