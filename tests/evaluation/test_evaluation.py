"""``vae_evaluate.py`` on a simulated project: it must tell a good correction from a bad one."""

import csv
import html
import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from conftest import check_in_browser, job_of, read, shell, tree
from mintpy_vae.cli.vae_evaluate import main
from mintpy_vae.errors import InputError, NotEnoughEvidence
from mintpy_vae.evaluation import methods
from mintpy_vae.evaluation import rerun as rerunning
from mintpy_vae.evaluation import run as evaluation
from mintpy_vae.evaluation.detection import parse_wanted
from mintpy_vae.evaluation.injection import Signal, inject, kept, parse_signals, unsafe
from mintpy_vae.evaluation.methods import METHODS, Method
from mintpy_vae.evaluation.rerun import Rerun
from mintpy_vae.evaluation.run import consistency, evaluate
from mintpy_vae.evaluation.scene import evaluation_data, read_truth
from mintpy_vae.method.inversion import incidence
from mintpy_vae.method.profile import Profile
from mintpy_vae.report import write_report
from mintpy_vae.report.charts import gains
from mintpy_vae.report.data import Data
from mintpy_vae.report.sections import gnss
from mintpy_vae.results.inverted import full_mask, read_inverted
from mintpy_vae.settings import Settings
from mintpy_vae.stack import open_stack, pool_map

PLACES = {"REFS": (10, 12), "MOVE": (30, 41)}


def write_gnss(run, file):
    """Daily vertical motion that is the simulated displacement at two pixels, seen in the line of sight."""
    with h5py.File(run.project / "truth.h5") as f:
        dates, truth, attributes = [d.decode() for d in f["date"][:]], f["timeseries"][:], dict(f.attrs)
    (geometry,) = (run.project / "inputs").glob("geometry*.h5")
    incidence = np.deg2rad(read(geometry, "incidenceAngle"))
    lines = ["station,date,e,n,u,lat,lon"]
    for name, (y, x) in PLACES.items():
        if "Y_FIRST" in attributes:
            first, step = ([float(attributes[f"{axis}_{k}"]) for axis in "YX"] for k in ("FIRST", "STEP"))
            latitude, longitude = first[0] + (y + 0.5) * step[0], first[1] + (x + 0.5) * step[1]
        else:
            latitude, longitude = (float(read(geometry, name)[y, x]) for name in ("latitude", "longitude"))
        for date, value in zip(dates, truth[:, y, x] / np.cos(incidence[y, x]), strict=True):
            lines.append(f"{name},{date},0,0,{value:.6f},{latitude:.6f},{longitude:.6f}")
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def outcome(mapped, tmp_path_factory):
    """The command with truth, GNSS, a point and a signal, its results aside."""
    out = tmp_path_factory.mktemp("evaluation")
    before = tree(mapped.project), tree(mapped.work)
    gnss = write_gnss(mapped, out / "g.csv")
    mount = "MOUNT:" + ":".join(gnss.read_text().splitlines()[-1].split(",")[5:])
    options = ("--truth", mapped.project / "truth.h5", "--gnss", gnss, "--point", mount)
    options += ("--inject", "bowl:2:-200", "-o", out, "--debug")
    main([str(v) for v in (mapped.project, *options)])
    assert (tree(mapped.project), tree(mapped.work)) == before
    return out, json.loads((out / "evaluation.json").read_text())


def rows_of(found):
    return {row["name"]: row for row in found["table"]}


# ------------------------------------------------------------------------------------------------------------ the table
def test_subtracting_everything_is_told_from_a_correction(outcome):
    rows = rows_of(outcome[1])
    zero, plain = rows["zero"], rows["uncorrected"]
    assert zero["velocity_std"] == 0 == zero["pair_std"]  # the smoothest map there is ...
    assert zero["gain_velocity"] == 0 == zero["gain_displacement"]  # ... and nothing of the signal
    assert plain["velocity_std"] > 0 and plain["pairs_worse"] == 0


def test_a_correction_that_takes_everything_is_called_what_it_is(copies, no_page):
    project, work = copies
    with h5py.File(work / "timeseries.h5", "r+") as series, h5py.File(work / "inputs" / "VAE.h5", "r+") as delay:
        delay["timeseries"][:] += series["timeseries"][:]
        series["timeseries"][:] = 1e-6 * np.random.default_rng(0).normal(size=series["timeseries"].shape)
    found = run(project, methods=["uncorrected", "vae"], truth_file=project / "truth.h5")
    plain, bad = found["table"]
    assert bad["velocity_std"] < 0.01 * plain["velocity_std"] and bad["pairs_worse"] == 0
    assert abs(bad["gain_velocity"]) < 0.01 and abs(bad["gain_displacement"]) < 0.01
    assert "The correction keeps only 0% of the true velocity." in found["warnings"]


def test_every_method_is_in_the_table_or_left_out_with_a_reason(outcome):
    found = outcome[1]
    labels = {method.label for method in METHODS.values() if not method.trains}
    assert {row["method"] for row in found["table"]} | {s["method"] for s in found["skipped"]} == labels
    assert {s["method"] for s in found["skipped"]} == {METHODS["era5"].label, METHODS["gacos"].label}
    assert all(len(s["reason"]) > 20 for s in found["skipped"])
    assert set(found["columns"]) >= {"velocity_std", "pair_std", "velocity_sill", "gain_velocity", "gnss_rms"}


def test_what_no_correction_of_dates_changes_is_given_once(outcome, mapped):
    stack = outcome[1]["stack"]
    coherence, valid = read(mapped.work / "temporalCoherence.h5", "temporalCoherence"), read_inverted(mapped.work).valid
    assert stack["temporal_coherence"] == pytest.approx(coherence[valid].mean(), abs=1e-4)
    page = (outcome[0] / "vae_report.html").read_text(encoding="utf8")
    assert f"temporal coherence {stack['temporal_coherence']:.3f}" in page


def test_the_closure_misfit_of_one_pair_that_is_off(tmp_path):
    pairs = np.array([[i, j] for i in range(5) for j in range(i + 1, min(i + 3, 5))])
    phase = incidence(pairs, 5) @ np.random.default_rng(0).normal(size=(5, 12))
    data = SimpleNamespace(phase=phase.reshape(len(pairs), 3, 4), weight=np.ones((len(pairs), 3, 4)), pairs=pairs)
    assert consistency(tmp_path, data, None)["closure_misfit"] == pytest.approx(0, abs=1e-9)
    data.phase += np.arange(len(pairs))[:, None, None]  # constants of pairs are no misfit
    assert consistency(tmp_path, data, None)["closure_misfit"] == pytest.approx(0, abs=1e-9)
    data.phase[0, 1, :3] += 0.3  # the pair of dates 0 and 1 is in one of the three triplets
    data.weight[0, 0] = 0  # and counts on two thirds of the pixels
    expected = np.sqrt(0.09 * 3 / (2 * 12 + 8))
    assert consistency(tmp_path, data, None)["closure_misfit"] == pytest.approx(expected)


def test_csv_and_json_say_the_same(outcome):
    out, found = outcome
    with open(out / "evaluation.csv", newline="") as f:
        lines = list(csv.reader(f))
    assert len(lines) == 1 + len(found["table"]) and len(lines[0]) == 1 + len(found["columns"])
    column = lines[0].index("velocity std, stable [mm/yr]")
    for line, row in zip(lines[1:], found["table"], strict=True):
        assert line[0] == row["method"] and float(line[column]) == pytest.approx(row["velocity_std"])


def test_figures_of_the_uncorrected_row_are_those_of_the_files(outcome, mapped):
    row = rows_of(outcome[1])["uncorrected"]
    series, truth = read_inverted(mapped.work), read(mapped.project / "truth.h5", "deforming")
    stable = series.valid & ~truth
    rate = np.polyfit(series.years, 1000 * series.before[:, stable], 1)[0]
    assert row["velocity_std"] == pytest.approx(rate.std())


def test_gnss_made_from_the_truth_agrees_as_the_truth_does(outcome, mapped):
    """The rate against GNSS is off by what the corrected series is off at the two places."""
    rows = rows_of(outcome[1])
    series = read_inverted(mapped.work)
    truth = read(mapped.project / "truth.h5", "timeseries").astype(float)
    (y, x), (v, u) = PLACES["MOVE"], PLACES["REFS"]
    around = [np.median(series.before[:, r - 1 : r + 2, c - 1 : c + 2], axis=(1, 2)) for r, c in ((y, x), (v, u))]
    error = 1000 * (around[0] - around[1] - (truth[:, y, x] - truth[:, v, u]))
    assert rows["uncorrected"]["gnss_rms"] == pytest.approx(error.std(), abs=0.01)
    assert rows["uncorrected"]["gnss_rate_error"] == pytest.approx(np.polyfit(series.years, error, 1)[0], abs=0.05)


def test_the_rates_of_the_stations_are_those_of_the_table(outcome):
    refs, move = outcome[1]["gnss"]["rates"]
    assert (move["station"], move["row"], move["column"]) == ("MOVE", *PLACES["MOVE"])
    error = (move["after_rate"] - move["gnss_rate"]) - (refs["after_rate"] - refs["gnss_rate"])
    row = rows_of(outcome[1])["vae"]
    assert error == pytest.approx(row["gnss_rate_error"]) and move["after_rms"] == pytest.approx(row["gnss_rms"])
    assert move["gnss_rate"] + refs["gnss_rate"] == pytest.approx(0)  # relative to the network


def test_in_radar_coordinates_too(radar, tmp_path, no_page):
    files = [str(write_gnss(radar, tmp_path / "g.csv"))]
    found = evaluate(radar.project, out_dir=tmp_path, methods=["uncorrected", "zero"], gnss_files=files, say=str)
    rows = rows_of(found)
    double = read(radar.project / "truth.h5", "timeseries").astype(float)
    double = 1000 * (double[:, PLACES["MOVE"][0], PLACES["MOVE"][1]] - double[:, PLACES["REFS"][0], PLACES["REFS"][1]])
    assert rows["zero"]["gnss_rms"] == pytest.approx(double.std(), abs=0.01) and rows["uncorrected"]["gnss_rms"] > 0


def test_the_report_is_extended(outcome):
    page = (outcome[0] / "vae_report.html").read_text(encoding="utf8")
    assert "MOUNT (row 30, column 41)" in page
    assert "Comparison with other corrections" in page and "MOVE minus REFS" in page and "could not be made" not in page


def test_stations_stand_on_the_map_filled_with_their_rate(outcome, mapped):
    given = {"row": 20, "column": 30, "rate": -4.0, "std": 1.0, "without": 0.3, "with": 0.1, "left_out": 0.2}
    evaluation = outcome[1] | {"stations_given": [given | {"station": "GIVN"}]}
    data = Data.read(mapped.work, json.loads((mapped.work / "vae_result.json").read_text()), evaluation)
    section = gnss(data)
    heat, squares, circles = section.figures[1].data
    assert list(zip(circles.x, circles.y, strict=True)) == [data.frame.at(*place) for place in PLACES.values()]
    assert (squares.x[0], squares.y[0]) == data.frame.at(20, 30)
    refs, move = outcome[1]["gnss"]["rates"]
    assert np.diff(circles.marker.color)[0] == pytest.approx(move["gnss_rate"] - refs["gnss_rate"])
    assert (circles.marker.cmin, circles.marker.cmax) == (heat.zmin, heat.zmax)
    compared, left_out = section.tables
    assert [row[0] for row in compared.rows] == list(PLACES) and left_out.rows == [
        ["GIVN", "-4.00", "1.00", "0.30", "0.10", "0.20"]
    ]


@pytest.mark.parametrize(("width", "media"), [(1280, "screen"), (380, "screen"), (800, "print")])
def test_in_a_browser_the_extended_report_is_whole(browser, outcome, width, media):
    assert check_in_browser(browser, outcome[0] / "vae_report.html", width, media) > 15


# -------------------------------------------------------------------------------------------------------------- methods
@pytest.fixture
def copies(mapped, tmp_path):
    project = Path(shutil.copytree(mapped.project, tmp_path / "WORK"))
    return project, Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))


@pytest.fixture
def no_page(monkeypatch):
    """For tests of the table alone."""
    monkeypatch.setattr(evaluation, "write_report", lambda *_: None)


def run(project, **how):
    return evaluate(project, say=lambda text: None, **how)


def weather(project):
    """An ERA5.h5 that knows the simulated atmosphere."""
    with h5py.File(project / "truth.h5") as truth, h5py.File(project / "inputs" / "ERA5.h5", "w") as f:
        f.attrs.update(truth.attrs)
        f["date"], f["timeseries"] = truth["date"][:], truth["atmosphere"][:]


def test_a_weather_model_that_knows_the_atmosphere_removes_it(copies, no_page):
    project, _ = copies
    weather(project)
    rows = rows_of(run(project, methods=["uncorrected", "era5"], truth_file=project / "truth.h5"))
    assert rows["era5"]["displacement_stable"] < 0.5 * rows["uncorrected"]["displacement_stable"]


def test_a_weather_model_and_a_ramp_in_range_that_are_all_of_it_leave_nothing(copies, no_page):
    project, work = copies
    x = np.linspace(0, 1, 60)
    with h5py.File(work / "timeseries.h5", "r+") as f, h5py.File(work / "inputs" / "VAE.h5") as delay:
        known = f["timeseries"][:] + delay["timeseries"][:]
        f["timeseries"][:] = np.where(f["timeseries"][:] == 0, 0, f["timeseries"][:] + 0.02 * x)
        attributes, dates = dict(f.attrs), f["date"][:]
    with h5py.File(project / "inputs" / "ERA5.h5", "w") as f:
        f.attrs.update(attributes)
        f["date"], f["timeseries"] = dates, known
    row, plain = run(project, methods=["era5", "uncorrected"])["table"]
    assert plain["pair_std"] > 1 and row["pair_std"] < 1e-3  # mm


@pytest.fixture
def key(tmp_path, monkeypatch):
    """A key of the Climate Data Store."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    monkeypatch.setattr(methods, "getproxies", dict)
    (tmp_path / "home" / ".cdsapirc").write_text("url: https://cds\nkey: none\n")


def test_with_a_key_mintpy_downloads_era5_once(copies, no_page, key, monkeypatch):
    """The service is played; what is asked of MintPy's command, its own parser checks."""
    from mintpy.cli import tropo_pyaps3

    project, work = copies
    before, asked = tree(project), []

    def command(iargs):
        asked.append(tropo_pyaps3.cmd_line_parse(iargs))
        weather(project)
        shutil.move(project / "inputs" / "ERA5.h5", asked[-1].tropo_file)

    monkeypatch.setattr(tropo_pyaps3, "main", command)
    monkeypatch.setattr(methods.socket, "create_connection", lambda *_, **__: SimpleNamespace(close=lambda: None))
    for _ in range(2):
        rows = rows_of(run(project, methods=["uncorrected", "era5"], truth_file=project / "truth.h5"))
        assert rows["era5"]["displacement_stable"] < 0.5 * rows["uncorrected"]["displacement_stable"]
    assert len(asked) == 1 and tree(project) == before
    assert asked[0].dis_file == str(work / "timeseries.h5") and Path(asked[0].geom_file).parent == work / "inputs"
    assert not (work / "corrected.h5").exists()


def test_without_a_network_era5_is_left_out_at_once(copies, no_page, key, monkeypatch):
    def offline(*_, **__):
        raise OSError("no route")

    monkeypatch.setattr(methods.socket, "create_connection", offline)
    (left,) = run(copies[0], methods=["uncorrected", "era5"])["skipped"]
    assert "cannot be reached to download it" in left["reason"]


def test_gacos_files_are_read_by_mintpy_and_projected(copies, no_page):
    project, work = copies
    with h5py.File(project / "truth.h5") as f:
        dates, attributes = [d.decode() for d in f["date"][:]], dict(f.attrs)
        size = int(f.attrs["LENGTH"]), int(f.attrs["WIDTH"])
    incidence = np.deg2rad(read(project / "inputs" / "geometryGeo.h5", "incidenceAngle"))
    (project / "GACOS").mkdir()
    keys = ("WIDTH", "LENGTH", "X_FIRST", "Y_FIRST", "X_STEP", "Y_STEP")
    text = "\n".join(f"{k if k != 'LENGTH' else 'FILE_LENGTH'} {attributes[k]}" for k in keys) + "\nXMIN 0\nYMIN 0\n"
    x = np.linspace(0, 1, size[1])[None, :] * np.ones((size[0], 1))
    for k, date in enumerate(dates):
        (0.01 * k * x + 2).astype(np.float32).tofile(project / "GACOS" / f"{date}.ztd")
        (project / "GACOS" / f"{date}.ztd.rsc").write_text(text)
    found = run(project, methods=["uncorrected", "gacos"])
    assert found["skipped"] == []
    inverted = read_inverted(work)
    scene = evaluation_data(open_stack(project / "inputs" / "ifgramStack.h5"), project, work, inverted, None, {})
    taken = inverted.before - methods.gacos(scene, None)
    delay = -0.01 * np.arange(len(dates))[:, None, None] * x / np.cos(incidence) + -2 / np.cos(incidence)
    y, z = inverted.ref_yx
    delay = delay - delay[:, y, z][:, None, None]
    delay = inverted.referenced(delay)
    inside = inverted.valid.copy()
    inside[:2], inside[-2:], inside[:, :2], inside[:, -2:] = False, False, False, False
    assert taken[:, inside] == pytest.approx(delay[:, inside], abs=2e-3)


def test_the_height_correlation_is_what_mintpy_s_command_makes(copies, mapped, no_page):
    """Of the corrected series, so that MintPy's own file can be given to its own command."""
    project, work = copies
    (work / "inputs" / "VAE.h5").unlink()
    inverted = read_inverted(work)
    options = ["-g", work / "inputs" / "geometryGeo.h5", "-m", work / "maskTempCoh.h5", "-o", work / "height.h5"]
    done = shell(["tropo_phase_elevation.py", work / "timeseries.h5", *options])
    assert done.returncode == 0, done.stderr
    theirs = read(work / "height.h5", "timeseries").astype(float)
    scene = evaluation_data(open_stack(project / "inputs" / "ifgramStack.h5"), project, work, inverted, None, {})
    ours = METHODS["height_correlation"].correct(scene, None)
    theirs, ours = (
        v - v[:1] - np.nanmean((v - v[:1])[:, inverted.valid], axis=1)[:, None, None] for v in (theirs, ours)
    )
    inside = inverted.valid.copy()
    inside[inverted.ref_yx] = False  # MintPy leaves its zeros alone
    assert np.abs((ours - inverted.before)[:, inside]).max() > 1e-3
    assert ours[:, inside] == pytest.approx(theirs[:, inside], abs=5e-5)


def test_hdbscan_in_place_of_fishdbc_is_a_row_on_request(copies, no_page):
    rows = rows_of(run(copies[0], methods=["vae", "vae_hdbscan"]))
    assert 0.2 < rows["vae_hdbscan"]["pair_std"] / rows["vae"]["pair_std"] < 5


def by_recipe(copies, slope, turbulent=0.0):
    """What is subtracted by the row if its evidence says this, (dates, h, w) metres, and the inversion."""
    project, work = copies
    with h5py.File(work / "vae_evidence.h5", "r+") as f:
        f["recipe_slope"][:], f["recipe"][:] = slope, turbulent
        dates, profile = [d.decode() for d in f["dates"][:]], Profile(*f["profile"][:])
    stack, inverted = open_stack(project / "inputs" / "ifgramStack.h5"), read_inverted(work)
    scene = evaluation_data(stack, project, work, inverted, None, {})
    corrected = methods.vae_sources(scene, Rerun(job_of(stack, Settings(resolution=0.75))))
    assert dates == inverted.dates and np.array_equal(np.isfinite(corrected).all(axis=0), inverted.valid)
    return inverted.before - corrected, inverted, profile(stack.height)


def test_what_the_recipe_subtracts_is_relative_to_the_reference_and_follows_the_height(copies):
    slope = 1e-5 * np.random.default_rng(0).normal(size=14)
    taken, inverted, height = by_recipe(copies, slope, turbulent=3.0)  # a constant is none
    relative = (slope - slope[0])[:, None, None] * (height - height[inverted.ref_yx])
    taken = taken - taken[0]  # whatever date it is relative to
    np.testing.assert_allclose(taken[:, inverted.valid], relative[:, inverted.valid], rtol=1e-3, atol=1e-6)
    assert np.abs(relative[:, inverted.valid]).max() > 1e-4


def test_the_recipe_s_row_is_another_than_ours(outcome):
    rows = rows_of(outcome[1])
    assert rows["vae_sources"]["pair_std"] not in (rows["vae"]["pair_std"], rows["uncorrected"]["pair_std"])


def test_without_evidence_of_the_recipe_its_row_is_left_out(copies, no_page):
    project, work = copies

    def reason():
        found = run(project, methods=["uncorrected", "vae_sources"])
        assert len(found["table"]) == 1
        return found["skipped"][0]["reason"]

    with h5py.File(work / "vae_evidence.h5", "r+") as f:
        f["dates"][3] = b"19990101"
    assert "1 dates are not in the largest" in reason()
    with h5py.File(work / "vae_evidence.h5", "r+") as f:
        del f["recipe"]
    assert "of an earlier version" in reason()
    (work / "vae_evidence.h5").unlink()
    assert "does not exist" in reason()


def write_mask(file, mask):
    with h5py.File(file, "w") as f:
        f["mask"] = mask
        f.attrs.update(FILE_TYPE="mask", LENGTH=str(mask.shape[0]), WIDTH=str(mask.shape[1]))


def test_a_user_s_mask_says_what_is_stable(copies, no_page, tmp_path):
    mask = np.zeros((48, 60), dtype=bool)
    mask[5:20, 5:30] = True
    write_mask(tmp_path / "m.h5", mask)
    found = run(copies[0], methods=["uncorrected"], mask_file=tmp_path / "m.h5")
    series = read_inverted(copies[1])
    rate = np.polyfit(series.years, 1000 * series.before[:, series.valid & mask], 1)[0]
    assert found["table"][0]["velocity_std"] == pytest.approx(rate.std()) and "from m.h5 (--mask)" in found["note"]


def test_the_mask_of_the_template_says_what_is_stable_where_nothing_better_does(copies, no_page, tmp_path):
    project, _ = copies
    mask = np.zeros((48, 60), dtype=bool)
    mask[5:20, 5:30] = True
    for name, marked in (("bedrock.h5", mask), ("other.h5", ~mask)):
        write_mask(project / name, marked)
    (tmp_path / "my.txt").write_text("vae.stableMask = bedrock.h5\n")
    notes = {}
    for given in ({}, {"mask_file": project / "other.h5"}, {"truth_file": project / "truth.h5"}):
        found = run(project, methods=["uncorrected"], template_file=tmp_path / "my.txt", **given)
        notes[next(iter(given), "")] = found["note"], found["table"][0]["velocity_std"]
    by_mask = run(project, methods=["uncorrected"], mask_file=project / "bedrock.h5")
    assert "from bedrock.h5 (vae.stableMask)" in notes[""][0]
    assert notes[""][1] == by_mask["table"][0]["velocity_std"] != notes["mask_file"][1]
    assert "from other.h5 (--mask)" in notes["mask_file"][0] and "from truth.h5" in notes["truth_file"][0]


def test_of_a_stack_that_was_left_uncorrected_the_others_are_compared(copies, no_page):
    (copies[1] / "inputs" / "VAE.h5").unlink()
    found = run(copies[0], methods=["uncorrected", "vae"])
    assert [row["name"] for row in found["table"]] == ["uncorrected"]
    assert found["skipped"][0]["reason"] == "vae_correct.py left this stack uncorrected"


def test_a_method_that_fails_costs_only_its_row(copies, no_page, monkeypatch):
    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setitem(METHODS, "pca", Method("PCA", broken))
    found = run(copies[0], methods=["pca", "uncorrected"])
    assert [row["name"] for row in found["table"]] == ["uncorrected"] and "no ink" in found["skipped"][0]["reason"]


# ------------------------------------------------------------------------------------------------------ what it refuses
CHOICES = {
    "no correction yet": (["{}/WORK", "{}/nothing"], "contains no result of vae_correct.py"),
    "method unknown": (["{}/WORK", "--methods", "magic"], "--methods magic is unknown; choose from zero"),
    "writes into the project": (["{}/WORK", "-o", "{}/WORK"], "is the original project"),
    "mask is no mask": (["{}/WORK", "--mask", "{}/WORK/inputs/nothing.h5"], "--mask: MintPy cannot read"),
    "truth of another": (["{}/WORK", "--truth", "{}/WORK/inputs/geometryGeo.h5"], "is not a truth file of this stack"),
    "signal unknown": (["{}/WORK", "--inject", "bowl"], "KIND:WIDTH_KM:AMPLITUDE is needed"),
    "signal of no width": (["{}/WORK", "--inject", "bowl:0:3"], "KIND:WIDTH_KM:AMPLITUDE is needed"),
    "duration of no sense": (["{}/WORK", "--detect", "1:-3"], "--detect 1:-3: WIDTHS_KM:DAYS is needed"),
    "step that no date sees": (["{}/WORK", "--inject", "step:3:9:20100101"], "there must be dates before"),
    "gnss missing": (["{}/WORK", "--gnss", "{}/none.csv"], "cannot be read"),
    "point of no place": (["{}/WORK", "--inject", "bowl:3:9", "--point", "P"], "NAME:LATITUDE:LONGITUDE is needed"),
    "point elsewhere": (["{}/WORK", "--inject", "bowl:3:9", "--point", "P:0:0"], "lies outside the scene"),
    "no place to write": (["{}/WORK", "--inject", "bowl:3:9", "-o", "{}/WORK/bowl.txt/x"], "cannot be written to"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_a_bad_choice_is_refused_in_one_line(copies, case, monkeypatch):
    arguments, reason = CHOICES[case]
    if case != "method unknown":  # which the comparison itself says
        monkeypatch.setattr(evaluation, "compare", None)  # before any work
    with pytest.raises(SystemExit) as stop:
        main([a.format(copies[0].parent) for a in arguments])
    assert stop.value.code.startswith("ERROR: ") and reason in stop.value.code and "\n" not in stop.value.code


def test_a_stack_that_has_changed_is_said_to_have(copies, no_page):
    with h5py.File(copies[0] / "inputs" / "ifgramStack.h5", "r+") as f:
        f.attrs["mintpy.deramp"] = "linear"  # as MintPy's load_data writes the template: no change of the data
    assert not any("has changed" in text for text in run(copies[0], methods=["vae"])["warnings"])
    with h5py.File(copies[0] / "inputs" / "ifgramStack.h5", "r+") as f:
        f["dropIfgram"][5] = False
    assert "has changed since it was corrected" in run(copies[0], methods=["vae"])["warnings"][-1]


def test_the_template_of_another_phase_is_refused(copies, tmp_path):
    with h5py.File(copies[0] / "inputs" / "ifgramStack.h5", "r+") as f:
        f["unwrapPhase_bridging"] = f["unwrapPhase"][:]
    (tmp_path / "my.txt").write_text("mintpy.unwrapError.method = bridging")
    with pytest.raises(InputError, match="was corrected, not unwrapPhase_bridging; give the template"):
        run(copies[0], template_file=tmp_path / "my.txt")


@pytest.mark.parametrize("option", ["mintpy.network.tempBaseMax = 30", "mintpy.timeFunc.periodic = 1.0"])
def test_the_options_of_the_correction_hold_and_others_are_refused(copies, no_page, tmp_path, option):
    """With the template of the correction forgotten, or another one given."""
    project, work = copies
    key, value = option.split(" = ")
    content = json.loads((work / "vae_result.json").read_text())
    content["network" if "network" in key else "functions"][key] = value
    (work / "vae_result.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"{key} is auto, but was {value} in the correction; give the template"):
        run(project, methods=["uncorrected"])
    with open(work / content["template"], "a") as f:  # as the correction leaves it there
        f.write(option + "\n")
    run(project, methods=["uncorrected"])
    (tmp_path / "my.txt").write_text(f"{key} = 1.5\n")
    with pytest.raises(InputError, match=f"{key} is 1.5, but was {value}"):
        run(project, template_file=tmp_path / "my.txt", methods=["uncorrected"])


def test_the_stack_that_was_corrected_is_the_one_that_is_evaluated(copies, no_page):
    """It may have another name, and its geometry too."""
    project, work = copies
    for name in ("ifgramStack.h5", "geometryGeo.h5"):
        (project / "inputs" / name).rename(project / "inputs" / f"sub_{name}")
    content = json.loads((work / "vae_result.json").read_text())
    assert content["input_files"] == ["inputs/ifgramStack.h5", "inputs/geometryGeo.h5"]
    content["input_files"] = [name.replace("/", "/sub_") for name in content["input_files"]]
    (work / "vae_result.json").write_text(json.dumps(content))
    assert not any("has changed" in text for text in run(project, methods=["vae"])["warnings"])


def test_a_comparison_of_an_earlier_result_is_not_shown_with_a_new_one(copies):
    project, work = copies
    run(project, methods=["uncorrected", "vae"])
    shown = "Comparison with other corrections"
    assert shown in (work / "vae_report.html").read_text()
    content = json.loads((work / "vae_result.json").read_text())
    (work / "vae_result.json").write_text(json.dumps(content | {"template_sha256": "another"}))
    page = write_report(work).read_text()
    assert f"<h2>{shown}" not in page and "is of an earlier result and left out; run vae_evaluate.py again" in page


def test_with_one_of_the_two_series_the_stations_are_still_drawn(copies, tmp_path):
    project, work = copies
    run(project, methods=["vae", "zero"], gnss_files=[write_gnss(SimpleNamespace(project=project), tmp_path / "g.csv")])
    page = (work / "vae_report.html").read_text()
    assert "MOVE minus REFS" in page and "could not be made" not in page


def test_a_correction_without_evidence_is_not_said_to_be_none(copies):
    (copies[1] / "vae_evidence.h5").unlink()
    page = write_report(copies[1]).read_text()
    assert "Left uncorrected" not in page and "its evidence was not written" in page


def test_a_truth_is_multilooked_like_the_series(copies):
    """Over ground with data only: a perfect correction has no error at a coast."""
    project, work = copies
    inverted, good = read_inverted(work, max_pixels=300), full_mask(work)
    assert inverted.factor > 1
    with h5py.File(project / "truth.h5", "r+") as f:
        truth = f["timeseries"][:]
        truth[:, ~good] = 7.0  # under water, say
        f["timeseries"][:] = truth
    found, _ = read_truth(project / "truth.h5", inverted, good)
    pooled = np.array([pool_map(np.where(good, layer, np.nan), inverted.factor) for layer in truth])
    np.testing.assert_allclose(found[:, inverted.valid], inverted.referenced(pooled)[:, inverted.valid], atol=1e-6)


def test_without_mintpy_s_inversion_it_says_what_to_do(copies):
    (copies[1] / "timeseries.h5").unlink()
    with pytest.raises(InputError, match="without --no-invert"):
        run(copies[0])


# ------------------------------------------------------------------------------------------------------------ injection
class KnownShare:
    """Stands for the correction: keeps a known share of the motion, whatever the stack."""

    def __init__(self, share, size=(30, 40), n_dates=12):
        self.share, self.factor = share, 2
        self.dates = [f"2018{month:02d}05" for month in range(1, n_dates + 1)]
        attributes = {"Y_FIRST": "0", "Y_STEP": "-100", "X_STEP": "100", "Y_UNIT": "m", "LENGTH": str(2 * size[0])}
        self.stack = SimpleNamespace(attributes=attributes, wavelength=0.056)
        rng = np.random.default_rng(0)
        self.valid = np.ones(size, dtype=bool)
        self.valid[:4, :9] = False
        self.noise = rng.normal(size=(n_dates, *size))
        self.plain = self()

    def __call__(self, added=None):
        motion = 0 if added is None else self.share * added * (-4 * np.pi / self.stack.wavelength)
        values = (self.noise + motion)[:, self.valid]
        values = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0)
        atmosphere = SimpleNamespace(moving=np.zeros_like(self.valid))
        return SimpleNamespace(corrected=values, valid=self.valid, atmosphere=atmosphere)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.0])
@pytest.mark.parametrize(
    "text", ["bowl:0.6:-12", "bowl:20:5", "ramp:8", "step:1:15", "step:1:15:20180905", "season:1.5:4"]
)
def test_the_gain_is_the_share_that_the_method_keeps(share, text):
    (row,) = inject(KnownShare(share), parse_signals([text]), None, lambda text: None)
    assert row["gain"] == pytest.approx(share, abs=1e-6)
    assert row["sentence"].endswith(f"keeps {share:.0%} of its amplitude.")


def test_what_does_not_come_back_whole_is_warned_of():
    def said(share):
        return unsafe(inject(KnownShare(share), parse_signals(["bowl:2:12", "bowl:0.3:5"]), None, lambda text: None))

    assert said(1.0) == said(0.951) == said(1.049) == []
    for share in (0.94, 1.06, 0.0):
        (text,) = said(share)
        assert text.startswith(
            f"Signals that are not kept completely: a bowl 2 km wide and 12 mm/yr strong ({share * 100:.0f} %). "
        )
        assert text.endswith("none.") and "0.3 km" not in text
    (text,) = unsafe([{"name": "one", "gain": 0.5}, {"name": "two", "gain": 1.0}, {"name": "three", "gain": np.nan}])
    assert "one (50 %)" in text and text.endswith("95 to 105 %: two (100 %).")


def test_into_a_network_in_pieces_nothing_is_injected_and_it_is_said_why(copies, no_page):
    project, _ = copies
    with h5py.File(project / "inputs" / "ifgramStack.h5", "r+") as f:
        late = f["date"][:].astype(str) > "20180601"
        f["dropIfgram"][:] = f["dropIfgram"][:] & (late[:, 0] == late[:, 1])
        assert 0 < late.mean() < 1
    found = run(project, methods=["uncorrected", "vae_hdbscan"], signals=["bowl:2:20"])
    reason = "no kept pair joins some of the dates with the others"
    assert f"Nothing was injected, because {reason}." in found["warnings"]
    assert found["skipped"][0]["reason"] == reason and len(found["table"]) == 1


def test_a_grid_of_signals_and_its_words():
    found = parse_signals(["bowl:1,3:2,10", "ramp:8"])
    assert found == [Signal("bowl", w, a) for w in (1, 3) for a in (2, 10)] + [Signal("ramp", 0, 8)]
    assert found[2].name() == "a bowl 3 km wide and 2 mm/yr strong"


def test_a_bowl_has_its_width_and_its_rate():
    signal, valid = Signal("bowl", 3.0, 1.0), np.ones((101, 101), dtype=bool)
    shape = signal.shape(valid, (100.0, 50.0), (50, 50))
    assert shape[50, 50] == 1 and shape[50 + 15, 50] == pytest.approx(0.5) and shape[50, 50 - 30] == pytest.approx(0.5)
    assert np.polyfit(np.arange(3) / 2, signal.course(["20180101", "20180702", "20190101"]), 1)[0] == pytest.approx(
        1, abs=0.01
    )


def test_a_bowl_too_narrow_for_the_training_grid_is_not_tested():
    (row,) = inject(KnownShare(1.0), parse_signals(["bowl:0.3:5"]), None, lambda text: None)
    assert np.isnan(row["gain"]) and "narrower than two pixels of the training grid (0.4 km)" in row["sentence"]
    assert gains("bowl", [row | {"gain": None}]).data[0].z.shape == (1, 1)


def test_a_step_that_no_date_sees_is_refused():
    with pytest.raises(InputError, match="must be dates before"):
        Signal("step", 1.0, 5.0, "20170101").course(["20180101", "20190101"])


def test_injection_reaches_the_real_method_and_the_report(outcome):
    out, found = outcome
    (row,) = found["injection"]
    assert 0.5 < row["gain"] < 1.2, row  # ten training steps, half a year; a bowl that no method should miss
    page = (out / "vae_report.html").read_text(encoding="utf8")
    assert "Injected signals: kept or lost" in page and row["sentence"] in page and 'id="injection-0"' in page
    warned = [w for w in found["warnings"] if row["name"] in w]
    assert bool(warned) == (not 95 <= round(100 * row["gain"]) <= 105) and all(html.escape(w) in page for w in warned)


def test_the_detection_curve_is_printed_written_and_drawn(copies, monkeypatch):
    row = {"duration": "step", "amplitude": 5.2, "low": 4.1, "high": 7.3, "middle": 1.4, "scale": 0.12}
    never = {"duration": "60 days", "amplitude": np.nan, "low": 9.0, "high": np.nan, "middle": 3.0, "scale": 0.3}
    rows = [r | {"width_km": 2.0, "trials": [(4.0, 0, 6), (8.0, 3, 6)]} for r in (row, never)]
    alarms = {"pieces": 3, "places": 2, "moving_share": 0.03}
    curves = {"rows": rows, "alarms": alarms, "significance": 0.01}
    asked, said = [], []

    def stand_in(rerun, wanted, say):
        asked.append(wanted)
        return curves

    monkeypatch.setattr(evaluation, "detect", stand_in)
    evaluate(copies[0], methods=["uncorrected"], detection="2:0,60", say=said.append)
    assert asked == [parse_wanted("2:0,60")]
    (line,) = (line for text in said for line in text.splitlines() if line.startswith("2 km wide"))
    assert line.split() == ["2", "km", "wide", "5.20", "-"] and "3 pieces of motion at 2 places" in said[-2]
    found = json.loads((copies[1] / "evaluation.json").read_text())["detection"]
    assert found["rows"][0]["trials"] == [[4.0, 0, 6], [8.0, 3, 6]] and found["rows"][1]["amplitude"] is None
    page = (copies[1] / "vae_report.html").read_text(encoding="utf8")
    assert "<td>5.2 (4.1 to 7.3)</td><td>above 8</td>" in page and 'id="detection-0"' in page


def test_the_pairs_hold_the_motion_that_was_added(mapped, monkeypatch):
    seen = []

    def keep(observations, *rest, **options):
        seen.append(observations.phase.astype(float))
        raise NotEnoughEvidence("seen")

    monkeypatch.setattr(rerunning, "separate", keep)
    rerun = Rerun(job_of(open_stack(mapped.stack)))
    data = rerun.data.observations
    motion = np.random.default_rng(0).normal(size=(len(rerun.dates), *data.height.shape))
    for added in (None, motion):
        with pytest.raises(NotEnoughEvidence):
            rerun(added)
    first, second = data.pairs.T
    expected = np.where(data.weight > 0, (motion[second] - motion[first]) / rerun.stack.metres_per_radian, 0)
    assert seen[1] - seen[0] == pytest.approx(expected, abs=1e-3)


def test_kept_ignores_what_is_alike_in_both():
    method = KnownShare(1.0)
    motion = np.random.default_rng(1).normal(size=method.noise.shape)
    assert kept(method(), method(), motion, 0.056) == 0


@pytest.mark.slow
def test_the_cost_table_has_a_row_per_method_and_a_column_per_stack():
    script = Path(__file__).parents[2] / "benchmarks" / "cost.py"
    done = shell(
        [
            sys.executable,
            script,
            "--dates",
            12,
            "--sizes",
            24,
            40,
            "--methods",
            "pca",
            "vae_fishdbc",
            "--train-steps",
            10,
        ]
    )
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| PCA", "| VAE with FISHDBC"]
    assert all(len(re.findall(r"[\d.]+ s, \d+ MB", line)) == 2 for line in lines[2:])


def test_help_and_page_name_every_method():
    from mintpy_vae.cli.vae_evaluate import TEMPLATE

    page = (Path(__file__).parents[2] / "docs" / "evaluate.md").read_text().split("## Methods")[1].split("\n## ")[0]
    in_help = re.split(r"\W+", TEMPLATE.split("signals to inject")[0])
    for name in METHODS:
        assert name in in_help and f"`{name}`" in page
