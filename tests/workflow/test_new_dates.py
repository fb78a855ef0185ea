"""New dates of a stack that was corrected before: what is kept, what is added, and when all is done again."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from conftest import QUICK, make_simulated, read, shortened
from mintpy_vae import InputError
from mintpy_vae.cli import vae_smallbaselineApp
from mintpy_vae.report.data import Data
from mintpy_vae.results.evidence import EVIDENCE, read_evidence
from mintpy_vae.results.learned import LEARNED, read_learned
from mintpy_vae.stack import hdf5 as reading
from mintpy_vae.stack import pooling, writing
from mintpy_vae.workflow import correction
from mintpy_vae.workflow.correction import correct

FIRST, ALL = 16, 18
STACK = "inputs/ifgramStack.h5"


def run(project, **how):
    template = next(project.glob("*.txt"))
    return correct(project / STACK, template_file=template, invert=False, **how)


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A project with its first dates corrected, whose stack has grown since; (project, result of the first dates)."""
    root = tmp_path_factory.mktemp("grown")
    make_simulated(root / "ALL", n_dates=ALL, size=(26, 30), text=QUICK)
    project = Path(shutil.copytree(root / "ALL", root / "WORK"))
    shortened(project / STACK, FIRST)
    run(project)
    shutil.copy(root / "ALL" / STACK, project / STACK)
    return project, root / "WORK_vae"


@pytest.fixture
def case(grown, tmp_path):
    """Copies of one's own."""
    project, work = (Path(shutil.copytree(p, tmp_path / p.name)) for p in grown)
    return project, work


@pytest.fixture
def in_full(monkeypatch):
    """Whether the stack was learned from again, which is not waited for."""
    seen = []

    class Stop(Exception):
        pass

    def learn(*_):
        seen.append(True)
        raise Stop

    monkeypatch.setattr(correction, "learn", learn)

    def check(project, **how):
        seen.clear()
        with pytest.raises(Stop):
            run(project, update=True, **how)
        return bool(seen)

    return check


def names_of(file):
    return ["_".join(pair) for pair in read(file, "date").astype(str)]


@pytest.fixture(scope="module")
def added(grown, tmp_path_factory):
    """The grown project after its update: (result, work directory, earlier work directory)."""
    root = tmp_path_factory.mktemp("added")
    project, work = (Path(shutil.copytree(p, root / p.name)) for p in grown)
    return run(project, update=True), work, grown[1]


def test_earlier_pairs_and_dates_keep_their_bytes(added):
    _, work, before = added
    old, new = (names_of(d / STACK) for d in (before, work))
    phases = [read(d / STACK, "unwrapPhase") for d in (before, work)]
    assert len(new) > len(old)
    np.testing.assert_array_equal(phases[1][[new.index(name) for name in old]], phases[0])
    for name in ("inputs/VAE.h5", "vae_std.h5"):
        assert read(work / name, "date").tolist()[:FIRST] == read(before / name, "date").tolist()
        np.testing.assert_array_equal(read(work / name, "timeseries")[:FIRST], read(before / name, "timeseries"))


def test_new_pairs_lose_the_difference_of_their_dates(added, grown):
    _, work, _ = added
    dates = read(work / "inputs/VAE.h5", "date").astype(str).tolist()
    delay = read(work / "inputs/VAE.h5", "timeseries")
    with h5py.File(work / STACK) as f:
        per_radian = -float(f.attrs["WAVELENGTH"]) / (4 * np.pi)
        assert f["unwrapPhase"].attrs["vae.added_dates"].split() == dates[FIRST:]
    whole, corrected = (read(p / STACK, "unwrapPhase") for p in (grown[0], work))
    pairs = [[dates.index(d) for d in name.split("_")] for name in names_of(work / STACK)]
    some = [k for k, pair in enumerate(pairs) if max(pair) >= FIRST]
    assert some
    for k in some:
        i, j = pairs[k]
        there = whole[k] != 0
        removed = (whole[k] - corrected[k])[there] * per_radian
        np.testing.assert_allclose(removed, (delay[j] - delay[i])[there], atol=1e-6)
    assert np.abs(delay[FIRST:]).max() > 1e-3


def test_only_the_chunks_of_new_pairs_are_read_and_corrected(case, added, monkeypatch):
    project, work = case
    known, whole = set(names_of(work / STACK)), names_of(project / STACK)
    read_from = set()

    def seen(dataset, *where):
        if Path(dataset.file.filename) == project / STACK and where and dataset.ndim == 3:
            read_from.update(np.atleast_1d(np.arange(len(whole))[where[0]]).tolist())
        return reading.read(dataset, *where)

    chunk = 4  # pairs
    with h5py.File(project / STACK, "r+") as f:
        for name in ("unwrapPhase", "coherence", "connectComponent"):
            values, attributes = f[name][:], dict(f[name].attrs)
            del f[name]
            f.create_dataset(name, data=values, chunks=(chunk, 13, 13)).attrs.update(attributes)
    new = {k for k, name in enumerate(whole) if name not in known}
    touched = {k for k in range(len(whole)) if any(k // chunk == n // chunk for n in new)}
    assert len(touched) < len(whole) / 2
    for module in (pooling, writing):
        monkeypatch.setattr(module, "read", seen)
    run(project, update=True)
    assert new <= read_from <= touched
    np.testing.assert_array_equal(read(work / STACK, "unwrapPhase"), read(added[1] / STACK, "unwrapPhase"))


def test_the_new_dates_become_quieter_and_are_named(added):
    result, work, _ = added
    content = json.loads((work / "vae_result.json").read_text())
    new = content["update"]["new_dates"]
    assert new == read(work / "inputs/VAE.h5", "date").astype(str).tolist()[FIRST:]
    assert all(after < before for before, after in (content["noise_per_date_mm"][date] for date in new))
    assert all(date in result.warnings[0] and date in (work / "vae_report.html").read_text() for date in new)
    assert list(read_evidence(work).dates)[FIRST:] == new
    assert content["update"]["learned_from_stack_sha256"] != content["stack_sha256"]
    noise = np.array(list(content["noise_per_pair_mm"].values()))
    assert content["pairs_worse"] == pytest.approx((noise[:, 1] > noise[:, 0]).mean(), abs=0.02)


def test_warnings_that_no_longer_hold_are_not_repeated(case):
    project, work = case
    content = json.loads((work / "vae_result.json").read_text())
    gone = [
        "The report could not be written (PermissionError: no).",
        "The reference pixel has no data in 3 of 60 pairs.",
    ]
    content["warnings"] = [*content["warnings"], *gone]
    (work / "vae_result.json").write_text(json.dumps(content))
    warnings = run(project, update=True).warnings
    assert not set(gone) & set(warnings) and set(content["method_warnings"]) < set(warnings)


def test_the_clusters_grow_by_the_sources_of_the_new_pairs(added):
    result, work, before = added
    old, new = (read_evidence(d) for d in (before, work))
    n = len(old.points)
    assert n > 0 and len(new.points) > n
    np.testing.assert_array_equal(new.points[:n], old.points)
    np.testing.assert_array_equal(new.source_labels[:n], old.source_labels)
    assert (new.source_pairs[n:] >= FIRST).any(axis=1).all() and (new.source_pairs[:n] < FIRST).all()
    pairs = {tuple(pair) for pair in new.pairs}
    assert {tuple(pair) for pair in new.source_pairs[n:]} <= pairs
    update = result.details["update"]
    assert update["sources"] == len(new.points) - n
    assert update["sources_in_clusters"] == (new.source_labels[n:] >= 0).sum()
    # a point is the source map on the axes, so that those of a cluster look like its mean map
    maps = new.points[n:] @ new.axes
    assert (new.source_labels[n:] >= 0).any()
    for label, source in zip(new.source_labels[n:], maps, strict=True):
        if label >= 0:
            assert abs(source @ new.maps[label]) > 0.5 * np.linalg.norm(source)
    assert "are ringed" in (work / "vae_report.html").read_text()


def with_motion(stack, row, column, date):
    """Add motion away from the satellite since a date; return the dates from then on, and the shape of the scene."""
    with h5py.File(stack, "r+") as f:
        names = f["date"][:].astype(str)
        late = np.unique(names)[np.unique(names) >= date]
        y, x = np.indices(shape := f["unwrapPhase"].shape[1:])
        bell = 40 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * 2.5**2))
        for k, (first, second) in enumerate(names):
            if (second >= date) and (first < date):
                f["unwrapPhase"][k] += np.where(f["unwrapPhase"][k] != 0, bell, 0).astype(np.float32)
    return late, shape


@pytest.mark.parametrize("row", [7, 27])  # the second has its peak beyond the edge
def test_new_motion_is_told_where_it_is_on_the_maps_of_the_new_dates(case, row):
    project, work = case
    column, last = 20, np.unique(read(project / STACK, "date").astype(str))[-1]
    _, shape = with_motion(project / STACK, row, column, last)
    result = run(project, update=True)
    found = result.details["update"]["alarms"]
    largest = max(found, key=lambda alarm: abs(alarm["mm"]))
    assert largest["date"] == last and largest["mm"] < -80  # away from the satellite
    assert np.hypot(largest["row"] - min(row, shape[0] - 1), largest["column"] - column) < 3
    assert all(one["row"] < shape[0] and one["column"] < shape[1] for one in found)
    data = Data.read(work, json.loads((work / "vae_result.json").read_text()), None)
    on_grid = ((found[0][axis] + 0.5) / data.factor - 0.5 for axis in ("row", "column"))
    assert len(data.marks) == len(found) and data.marks[0].places[0] == data.frame_of_grid().at(*on_grid)
    page = (work / "vae_report.html").read_text()
    assert "New dates" in page and f"New motion on {last}" in page and "could not be made" not in page


def test_motion_that_lasts_is_told_once(case):
    project, work = case
    new, _ = with_motion(project / STACK, 16, 12, np.unique(read(project / STACK, "date").astype(str))[FIRST])
    result = run(project, update=True)
    alarms = [one for one in result.details["update"]["alarms"] if np.hypot(one["row"] - 16, one["column"] - 12) < 3]
    assert {one["date"] for one in alarms} == set(new)
    told = [text for text in result.warnings if text.startswith("New motion")]
    assert new[-1] in told[0] and len(told) == 1
    page = (work / "vae_report.html").read_text()
    assert told[0] in page and "could not be made" not in page


def test_once_added_they_are_not_added_again(added):
    _, work, _ = added
    project = work.with_name(work.name.removesuffix("_vae"))
    assert run(project, update=True).skipped


def test_dates_are_added_where_functions_of_time_are_given(tmp_path):
    given = "mintpy.timeFunc.polynomial = 2\nmintpy.timeFunc.stepDate = {}\n"
    make_simulated(tmp_path / "ALL", n_dates=ALL, size=(26, 30), text=QUICK)
    dates = sorted(set(read(tmp_path / "ALL" / STACK, "date").astype(str).ravel()))
    project = Path(shutil.copytree(tmp_path / "ALL", tmp_path / "WORK"))
    template = next(project.glob("*.txt"))
    own = template.read_text()
    template.write_text(own + given.format(dates[8]))
    shortened(project / STACK, FIRST)
    run(project)
    shutil.copy(tmp_path / "ALL" / STACK, project / STACK)
    result = tmp_path / "WORK_vae" / "vae_result.json"
    content = json.loads(result.read_text())
    fewer = {**content["knowledge"], "functions": ["quadratic"]}  # as if the step had been later than the dates
    result.write_text(json.dumps({**content, "knowledge": fewer}))
    with pytest.raises(InputError, match="other functions of time are given than before"):
        run(project, update=True, only_new=True)
    result.write_text(json.dumps(content))
    done = run(project, update=True, only_new=True)
    assert done.details["update"]["added_dates"] == dates[FIRST:]
    learned = read_learned(tmp_path / "WORK_vae")
    assert [f.name for f in learned.given] == ["quadratic"] and len(learned.given[0].values) == ALL


@pytest.mark.parametrize(
    "change",
    ["pair", "dropped", "setting", "many", "unlike", "forgotten", "network", LEARNED, EVIDENCE, "inputs/VAE.h5", STACK],
)
def test_otherwise_the_stack_is_corrected_in_full_or_refused(case, in_full, change, monkeypatch):
    project, work = case
    how = {}
    if change == "pair":
        with h5py.File(project / STACK, "r+") as f:
            f["unwrapPhase"][0, 12, 12] += 1e-3
    elif change == "dropped":
        with h5py.File(project / STACK, "r+") as f:
            f["dropIfgram"][0] = False
    elif change == "setting":
        how = {"seed": 7}
    elif change == "many":
        monkeypatch.setattr("mintpy_vae.workflow.update.MANY", 0.1)
    elif change == "unlike":
        with h5py.File(project / STACK, "r+") as f:
            late = (f["date"][:].astype(str) == max(names_of(project / STACK)).split("_")[1]).any(axis=1)
            noise = np.random.default_rng(1).normal(0, 6, f["unwrapPhase"].shape[1:])
            for k in np.flatnonzero(late):
                f["unwrapPhase"][k] += np.where(f["unwrapPhase"][k] != 0, noise, 0)
    elif change == "network":
        with open(work / "vae_model.pt", "r+b") as f:
            f.seek(20000)
            f.write(bytes(64))
    elif change == "forgotten":
        (work / LEARNED).unlink()
    else:  # a copy that was cut off
        os.truncate(work / change, (work / change).stat().st_size // 2)
    with pytest.raises(InputError, match="cannot be extended by new dates alone, because .*\\."):
        run(project, update=True, only_new=True, **how)
    assert in_full(project, **how)
    assert (work / "vae_result.json").is_file()


def test_a_result_on_which_mintpy_was_interrupted_is_not_taken_for_one_with_other_dates(added, tmp_path):
    project, work = (Path(shutil.copytree(p, tmp_path / p.name)) for p in (added[1].with_name("WORK"), added[1]))
    file = work / "vae_result.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "mintpy": "pending"}))
    with pytest.raises(InputError, match="because MintPy was interrupted on the earlier result"):
        run(project, update=True, only_new=True)


@pytest.mark.parametrize("moment", ["inputs", STACK, LEARNED])
def test_the_earlier_result_stays_whole_if_an_update_is_killed(case, moment):
    """Killed as a file of the new result appears: the earlier result is whole, and the next update adds the dates."""
    project, work = case
    before = {p.relative_to(work): p.read_bytes() for p in work.rglob("*") if p.is_file()}
    staging = work.with_name(work.name + ".part")
    code = "import sys; from mintpy_vae.workflow.correction import correct; " + (
        "correct(sys.argv[1], template_file=sys.argv[2], invert=False, update=True)"
    )
    arguments = [sys.executable, "-c", code, project / STACK, next(project.glob("*.txt"))]
    process = subprocess.Popen([str(a) for a in arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None and not (staging / moment).exists():
            time.sleep(0.002)
    finally:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
    after = {p.relative_to(work): p.read_bytes() for p in work.rglob("*") if p.is_file()}
    assert process.returncode == -signal.SIGKILL and after == before
    result = run(project, update=True)
    assert result.details["update"]["added_dates"] == read(work / "inputs/VAE.h5", "date").astype(str).tolist()[FIRST:]


def test_the_step_of_the_workflow_adds_new_dates(case, monkeypatch):
    project, work = case
    monkeypatch.chdir(project)
    before = read(work / "inputs/VAE.h5", "timeseries")
    vae_smallbaselineApp.main([next(project.glob("*.txt")).name, "--dostep", "correct_vae"])
    content = json.loads((work / "vae_result.json").read_text())
    assert len(content["update"]["added_dates"]) == ALL - FIRST
    np.testing.assert_array_equal(read(work / "inputs/VAE.h5", "timeseries")[:FIRST], before)
