"""The whole job on simulated projects and on the real stack, with the real MintPy."""

import itertools
import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from mintpy.objects.coord import coordinate
from mintpy.utils import readfile

from conftest import DROPPED, QUICK, make_simulated, read, run_mintpy, shell, tree, velocity_std
from mintpy_vae.errors import InputError
from mintpy_vae.results.result import RESULT
from mintpy_vae.stack import COMPLETE, content_hash, file_hash, open_stack
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow import learning
from mintpy_vae.workflow.correction import correct

GNSS_RATE = -0.2527
"""Line of sight, m/yr, MMX1 - ICMX, as ``benchmarks/mexico_city.py`` finds it."""
REAL = Path(__file__).parents[3] / "shared" / "data" / "mexico_city_s1"


def result_of(work):
    return json.loads((work / RESULT).read_text())


def valid(phase):
    return np.isfinite(phase) & (phase != 0)


@pytest.fixture(scope="module")
def uncorrected(mapped, tmp_path_factory):
    """The same project as MintPy alone treats it."""
    work = Path(shutil.copytree(mapped.project, tmp_path_factory.mktemp("alone") / "WORK"))
    run_mintpy(work / mapped.template.name, work, "modify_network", "velocity")
    return work


# ---------------------------------------------------------------------------------------------------- two commands, end
@pytest.mark.parametrize("coord", ["mapped", "radar"])
def test_the_next_command_runs_to_the_end(coord, request):
    run = request.getfixturevalue(coord)
    assert run.mintpy.returncode == 0 and "Normal end" in run.mintpy.stdout, run.mintpy.stderr[-2000:]
    assert run.next_command[0] == "smallbaselineApp.py" and run.next_command[-2:] == ["--start", "velocity"]
    for name in ("timeseries.h5", "velocity.h5", "temporalCoherence.h5", "inputs/VAE.h5", "vae_std.h5", "vae_model.pt"):
        assert (run.work / name).is_file(), name
    assert len(list(run.work.glob("*.he5"))) == 1
    assert (run.work / "geo" / "geo_velocity.h5").is_file() == (coord == "radar")
    with h5py.File(next(run.work.glob("*.he5"))) as f:
        assert f.attrs["atmos_correct_method"] == "VAE"
    assert tree(run.project) == run.before
    assert sorted(os.listdir(run.project.parent)) == ["WORK", "WORK_vae"]
    assert not [name for name in tree(run.work) if ".vae_correct" in name or name.endswith(".part")]


def test_velocity_is_another_one_and_the_bowl_is_there(mapped, uncorrected):
    before, after = read(uncorrected / "velocity.h5", "velocity"), read(mapped.work / "velocity.h5", "velocity")
    assert np.nanmax(np.abs(after - before)) > 1e-3
    truth = read(mapped.project / "truth.h5", "timeseries")
    years = np.array([f"{d[:4]}-{d[4:6]}-{d[6:]}" for d in dates_of(mapped)], "datetime64[D]").astype(float) / 365.25
    rate = np.polyfit(years, truth.reshape(len(years), -1), 1)[0].reshape(truth.shape[1:])
    land = valid(after) & valid(before)
    error = [float(np.std((velocity - rate)[land])) for velocity in (before, after)]
    assert error[1] < error[0]


def dates_of(run):
    with h5py.File(run.work / "inputs" / "VAE.h5") as f:
        return [d.decode() for d in f["date"][:]]


def test_the_original_template_serves_too(mapped, tmp_path):
    work = Path(shutil.copytree(mapped.work, tmp_path / "WORK_vae"))
    (work / "velocity.h5").unlink()
    run_mintpy(mapped.template, work, "velocity", "velocity")
    assert read(work / "velocity.h5", "velocity").tobytes() == read(mapped.work / "velocity.h5", "velocity").tobytes()


# ------------------------------------------------------------------------------------------------- what is in the stack
@pytest.mark.parametrize("coord", ["mapped", "radar"])
def test_every_pair_is_corrected_by_the_difference_of_its_dates(coord, request):
    run = request.getfixturevalue(coord)
    stack = open_stack(run.stack)
    before, after = read(run.stack, "unwrapPhase"), read(run.work / "inputs" / "ifgramStack.h5", "unwrapPhase")
    delay = read(run.work / "inputs" / "VAE.h5", "timeseries") / (-stack.wavelength / (4 * np.pi))
    assert delay.shape == (len(stack.dates), *stack.shape) and dates_of(run) == stack.dates
    assert (
        np.array_equal(valid(before), valid(after))
        and before[~valid(before)].tobytes() == after[~valid(after)].tobytes()
    )
    assert not stack.keep[list(DROPPED)].any() and stack.keep.sum() == len(stack.keep) - len(DROPPED)
    difference = before.astype(float) - after
    assert min(np.std(difference[k][valid(before[k])]) for k in DROPPED) > 0.01  # what is dropped is corrected too
    for k, (i, j) in enumerate(stack.pairs):
        good = valid(before[k])
        np.testing.assert_allclose(difference[k][good], (delay[j] - delay[i])[good], atol=5e-5)


@pytest.mark.parametrize("coord", ["mapped", "radar"])
def test_the_correction_closes(coord, request):
    run = request.getfixturevalue(coord)
    stack = open_stack(run.stack)
    before, after = read(run.stack, "unwrapPhase"), read(run.work / "inputs" / "ifgramStack.h5", "unwrapPhase")
    difference = np.where(valid(before), before.astype(float) - after, np.nan)
    index = {tuple(pair): k for k, pair in enumerate(stack.pairs.tolist())}
    worst, triplets = 0.0, 0
    for i, j, k in itertools.combinations(range(len(stack.dates)), 3):
        if (i, j) in index and (j, k) in index and (i, k) in index:
            misfit = difference[index[i, j]] + difference[index[j, k]] - difference[index[i, k]]
            worst, triplets = max(worst, float(np.nanmax(np.abs(misfit)))), triplets + 1
    assert triplets > 10 and worst < 1e-4


def test_everything_else_in_the_stack_is_as_it_was(mapped):
    with h5py.File(mapped.stack) as a, h5py.File(mapped.work / "inputs" / "ifgramStack.h5") as b:
        assert set(a) == set(b)
        for name in set(a) - {"unwrapPhase"}:
            assert a[name][()].tobytes() == b[name][()].tobytes(), name
        assert {k: v for k, v in b.attrs.items() if k in a.attrs and not k.startswith("mintpy.")} == {
            k: v for k, v in a.attrs.items() if not k.startswith("mintpy.")
        }


def test_the_uncertainty_of_what_users_publish_is_written(mapped):
    std = read(mapped.work / "velocity_vae_std.h5", "velocityStd")
    land = valid(read(mapped.stack, "unwrapPhase")).any(axis=0)
    assert std.shape == land.shape and (std[land] > 0).all()
    attributes = readfile.read_attribute(str(mapped.work / "velocity.h5"))
    of_std = readfile.read_attribute(str(mapped.work / "velocity_vae_std.h5"))
    assert of_std["FILE_TYPE"] == attributes["FILE_TYPE"] and of_std["UNIT"] == attributes["UNIT"]
    lines = [x for x in (mapped.work / "vae_covariance.csv").read_text().splitlines() if not x.startswith("#")]
    assert lines[0].startswith("date,") and len(lines) == 1 + len(dates_of(mapped))


def test_what_was_done_is_written_down(mapped):
    content = result_of(mapped.work)
    assert content["status"] == "corrected" and content["reason"] == "" and content["mintpy"] == "reference_date"
    assert content["stack_sha256"] == content_hash(mapped.stack)
    assert content["model_sha256"] == file_hash(mapped.work / "vae_model.pt")
    assert content["settings"]["vae.trainSteps"] == 10 and content["versions"]["mintpy"]
    pairs, dates = open_stack(mapped.stack).keep.sum(), len(dates_of(mapped))
    assert len(content["noise_per_pair_mm"]) == pairs and len(content["noise_per_date_mm"]) == dates
    assert {"checks", "read", "separate", "write", "mintpy", "total"} <= set(content["timings"])
    assert content["clusters"] and {"kind", "p_value", "roughness"} <= set(content["clusters"][0])
    with h5py.File(mapped.work / "inputs" / "ifgramStack.h5") as f, h5py.File(mapped.stack) as old:
        marks = f["unwrapPhase"].attrs
        assert f.attrs["atmos_correct_method"] == "VAE" and marks[COMPLETE] == "yes"
        assert marks["vae.status"] == "corrected" and marks["vae.dataset"] == "unwrapPhase"
        assert marks["vae.stack_sha256"] == content["stack_sha256"]
        assert marks["vae.model_sha256"] == content["model_sha256"]
        assert marks["vae.input_MODIFICATION_TIME"] == old["unwrapPhase"].attrs["MODIFICATION_TIME"]
        assert all(marks[key] == str(value) for key, value in content["settings"].items())
        assert float(marks["MODIFICATION_TIME"]) > float(old["unwrapPhase"].attrs["MODIFICATION_TIME"])
    with h5py.File(mapped.work / "inputs" / "VAE.h5") as f:
        assert f.attrs["FILE_TYPE"] == "timeseries" and f.attrs["UNIT"] == "m"
        assert not [key for key in f.attrs if key.startswith("REF_")]
    networks = torch.load(mapped.work / "vae_model.pt", weights_only=True)
    assert networks["settings"] == content["settings"] and networks["networks"]


# ---------------------------------------------------------------------------------------------------- seeds, repetition
def test_the_seed_decides_and_mintpy_inverts_again(mapped, tmp_path):
    """The same seed gives the same bytes; another correction, into the same directory, gives another time series."""
    project = Path(shutil.copytree(mapped.project, tmp_path / "WORK"))
    stack, template, work = project / "inputs" / "ifgramStack.h5", project / mapped.template.name, tmp_path / "WORK_vae"
    series, delays, phases, models, used = [], [], [], [], []
    for how in ({"seed": 1}, {"seed": 2}, {"seed": 2, "resolution": 1.1}):
        done = correct(stack, template_file=template, **how)
        assert done.status == "corrected"
        models.append(done.details["model_sha256"])
        phases.append(read(work / "inputs" / "ifgramStack.h5", "unwrapPhase"))
        delays.append(read(work / "inputs" / "VAE.h5", "timeseries"))
        series.append(read(work / "timeseries.h5", "timeseries"))
        used.append(read(work / "numInvIfgram.h5", "mask"))
    assert phases[0].tobytes() == read(mapped.work / "inputs" / "ifgramStack.h5", "unwrapPhase").tobytes()
    assert series[0].tobytes() == read(mapped.work / "timeseries.h5", "timeseries").tobytes()
    assert models[0] == result_of(mapped.work)["model_sha256"] != models[1]
    y, x = open_stack(stack).ref_yx
    change = delays[2] - delays[0]
    change = change - change[:, y, x][:, None, None]
    change = change - change[:1]
    # MintPy leaves out a pair at a pixel where it happens to be exactly as large as at the reference
    data = np.any(series[0] != 0, axis=0) & (used[0] == used[2])
    assert np.abs(change[:, data]).max() > 1e-4 and (used[0] != used[2]).sum() < 3
    series = [s - s[:1] for s in series]  # MintPy may choose another reference date
    np.testing.assert_allclose((series[2] - series[0])[:, data], -change[:, data], atol=1e-5)


def test_update_skips_what_is_done(simulated, remembered):
    stack, template, work = simulated
    how = {"template_file": template, "update": True}

    def times():
        return {p: p.stat().st_mtime_ns for p in work.rglob("*") if p.is_file()}

    first = correct(stack, invert=False, **how)
    assert not first.skipped and first.details["mintpy"] == "not run" and not (work / "timeseries.h5").exists()
    before = times()
    again = correct(stack, invert=False, **how)
    assert again.skipped and again.status == "corrected" and times() == before
    assert again.next_command == first.next_command and again.details["clusters"] == first.details["clusters"]
    inverted = correct(stack, **how)
    assert not inverted.skipped and (work / "timeseries.h5").is_file()
    assert result_of(work)["mintpy"] == "reference_date"
    stack_time = before[work / "inputs" / "VAE.h5"]
    assert times()[work / "inputs" / "VAE.h5"] == stack_time  # the correction was not repeated
    before = times()
    assert correct(stack, **how).skipped and times() == before
    assert correct(stack, max_memory=0.7, **how).skipped and times() == before  # the result is the same
    # an option that cannot be used is told, and the result stays
    plain = template.read_text()
    template.write_text(plain + "mintpy.reference.yx = 999,999\n")
    with pytest.raises(InputError, match="lies outside the scene"):
        correct(stack, **how)
    template.write_text(plain)
    assert correct(stack, **how).skipped
    # a comment is no change, an option of MintPy is one; so is a setting, and a result that was cut off
    template.write_text(template.read_text() + "# a comment\n")
    assert correct(stack, **how).skipped
    template.write_text(template.read_text() + "mintpy.networkInversion.minTempCoh = 0.6\n")
    assert not correct(stack, invert=False, **how).skipped
    assert not correct(stack, invert=False, seed=5, **how).skipped
    content = result_of(work)
    (work / RESULT).write_text(json.dumps({**content, "mintpy": "pending"}))
    assert not correct(stack, invert=False, seed=5, **how).skipped
    assert not correct(stack, template_file=template, invert=False, seed=5).skipped  # without update it never skips


# ------------------------------------------------------------------------------------------------------ what may happen
@pytest.mark.slow
def test_a_quiet_scene_stays_quiet(tmp_path):
    template = make_simulated(tmp_path / "WORK", "quiet", 24, (60, 60), text="vae.trainSteps = 150\nvae.numSeed = 1\n")
    alone = Path(shutil.copytree(template.parent, tmp_path / "ALONE"))
    run_mintpy(alone / template.name, alone, "modify_network", "velocity")
    done = correct(template.parent / "inputs" / "ifgramStack.h5", template_file=template)
    assert done.status == "corrected"
    run_mintpy(done.work_dir / template.name, done.work_dir, "velocity", "velocity")
    before, after = velocity_std(alone), velocity_std(done.work_dir)
    assert after <= before, f"{1000 * before:.2f} mm/yr before, {1000 * after:.2f} after"


@pytest.mark.parametrize("few", ["dates", pytest.param("pairs", marks=pytest.mark.slow)])
def test_too_little_is_left_uncorrected(tmp_path, few):
    template = make_simulated(tmp_path / "WORK", n_dates=9 if few == "dates" else 12)
    template.write_text(template.read_text().replace("mintpy.troposphericDelay.method", "#"))
    if few == "pairs":
        with open(template, "a") as f:
            f.write("vae.minPair = 500\n")
    stack = template.parent / "inputs" / "ifgramStack.h5"
    before = tree(template.parent)
    done = shell(["vae_correct.py", stack, "-t", template])
    assert done.returncode == 0, done.stderr
    content = result_of(tmp_path / "WORK_vae")
    wanted = "the stack has 9 dates; 10 are needed" if few == "dates" else "500 are needed"
    assert content["status"] == "uncorrected" and wanted in content["reason"]
    assert f"UNCORRECTED, because {content['reason']}" in done.stdout
    assert f"mintpy.troposphericDelay.method is no in {tmp_path / 'WORK_vae'}" in " ".join(content["warnings"])
    with h5py.File(stack) as a, h5py.File(tmp_path / "WORK_vae" / "inputs" / "ifgramStack.h5") as b:
        assert a["unwrapPhase"][:].tobytes() == b["unwrapPhase"][:].tobytes()
        assert "atmos_correct_method" not in b.attrs and b["unwrapPhase"].attrs["vae.status"] == "uncorrected"
    assert not (tmp_path / "WORK_vae" / "inputs" / "VAE.h5").exists()
    assert content["mintpy"] == "reference_date" and (tmp_path / "WORK_vae" / "timeseries.h5").is_file()
    run_mintpy(template, tmp_path / "WORK_vae", "velocity", "velocity")
    assert tree(template.parent) == before
    again = correct(stack, template_file=template, update=True)
    assert again.skipped and again.status == "uncorrected"


def test_training_that_fails_leaves_the_stack_uncorrected(simulated, monkeypatch):
    from mintpy_vae.errors import NotEnoughEvidence

    def fail(*args, **kwargs):
        raise NotEnoughEvidence("the training diverged")

    stack, template, work = simulated
    monkeypatch.setattr(learning, "separate", fail)
    done = correct(stack, template_file=template, invert=False)
    assert (done.status, done.reason) == ("uncorrected", "the training diverged")
    assert read(stack, "unwrapPhase").tobytes() == read(work / "inputs" / "ifgramStack.h5", "unwrapPhase").tobytes()


@pytest.mark.parametrize("error", [MemoryError, OSError, InputError])  # an interruption: test_resume.py
def test_a_failure_leaves_nothing_and_keeps_the_earlier_result(simulated, remembered, monkeypatch, error):
    stack, template, work = simulated
    place = stack.parents[2]
    before = tree(place)

    def fail(*args, **kwargs):
        raise error("no")

    with monkeypatch.context() as m:
        m.setattr(workflow, "write_delay_file", fail)  # when nearly all is done
        with pytest.raises(error):
            correct(stack, template_file=template, work_dir=place / "a" / "b" / "WORK_vae", invert=False)
        assert tree(place) == before
        work.mkdir()
        (work / RESULT).write_text("{}")
        (work / "mine.txt").write_text("mine")
        before = tree(place)
        with pytest.raises(error):
            correct(stack, template_file=template, invert=False)
    assert tree(place) == before


def test_a_failure_in_the_exchange_restores_the_earlier_result(simulated, remembered, monkeypatch):
    stack, template, work = simulated
    work.mkdir()
    (work / RESULT).write_text("{}")
    before, replace = tree(work.parent), os.replace

    def fail(source, target):
        if Path(source).name == "WORK_vae.part":
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(InputError, match="cannot be replaced: Permission denied"):
        correct(stack, template_file=template, invert=False)
    assert tree(work.parent) == before


def test_mintpy_failing_leaves_the_corrected_stack(simulated, remembered):
    stack, template, work = simulated
    template.write_text(template.read_text() + "mintpy.networkInversion.minNumPixel = 1e6\n")
    with pytest.raises(InputError, match=r"MintPy failed in .*WORK_vae .*Not enough reliable pixels"):
        correct(stack, template_file=template)
    assert result_of(work)["mintpy"] == "pending" and result_of(work)["status"] == "corrected"
    assert sorted(os.listdir(work.parent)) == ["WORK", "WORK_vae"] and not (work / ".vae_correct.lock").exists()


def test_a_stack_without_reference_point(tmp_path):
    template = make_simulated(tmp_path / "WORK", reference=False)
    template.write_text(template.read_text().replace("mintpy.reference.yx", "#mintpy.reference.yx"))
    before = tree(tmp_path / "WORK")
    done = correct(template.parent / "inputs" / "ifgramStack.h5", template_file=template)
    assert done.status == "corrected" and tree(tmp_path / "WORK") == before
    with h5py.File(done.work_dir / "inputs" / "ifgramStack.h5") as f, h5py.File(done.work_dir / "timeseries.h5") as ts:
        assert int(f.attrs["REF_Y"]) == int(ts.attrs["REF_Y"]) and int(f.attrs["REF_X"]) == int(ts.attrs["REF_X"])
    with h5py.File(done.work_dir / "inputs" / "VAE.h5") as f:
        assert not [key for key in f.attrs if key.startswith("REF_")]


def test_a_link_as_work_directory_stays_a_link(simulated, remembered, tmp_path):
    stack, template, work = simulated
    (tmp_path / "disk").mkdir()
    work.symlink_to(tmp_path / "disk", target_is_directory=True)
    for _ in range(2):
        correct(stack, template_file=template, invert=False)
        assert work.is_symlink() and (tmp_path / "disk" / RESULT).is_file()
    assert sorted(os.listdir(tmp_path)) == ["WORK", "WORK_vae", "disk"]


def test_bridged_phase_is_what_is_corrected(tmp_path):
    template = make_simulated(tmp_path / "WORK", text=QUICK + "mintpy.unwrapError.method = bridging\n")
    stack = template.parent / "inputs" / "ifgramStack.h5"
    with h5py.File(stack, "r+") as f:
        phase, (y, x) = f["unwrapPhase"][:], open_stack(stack.parent / "ifgramStack.h5").ref_yx
        bridged = np.where(valid(phase), phase - phase[:, y, x][:, None, None], phase)
        f["unwrapPhase_bridging"] = bridged.astype(np.float32)
        f["unwrapPhase"][:] = np.where(valid(phase), phase + 3, phase)
    done = correct(stack, template_file=template)
    after = read(done.work_dir / "inputs" / "ifgramStack.h5", "unwrapPhase")
    assert after.tobytes() == read(done.work_dir / "inputs" / "ifgramStack.h5", "unwrapPhase_bridging").tobytes()
    off = valid(after) != valid(bridged)
    assert off.sum() == off[:, y, x].sum() == len(off)  # the reference pixel, whose 0 was no lack of data
    assert result_of(done.work_dir)["dataset"] == "unwrapPhase_bridging"


# --------------------------------------------------------------------------------------------------------- the real one
def rate_between_stations(file):
    """Velocity of MMX1 less that of ICMX, medians of 3 x 3 pixels, m/yr."""
    velocity = read(file, "velocity")
    to_pixel = coordinate(readfile.read_attribute(str(file)))
    rates = []
    for latitude, longitude in ((19.43165, -99.06839), (19.40564, -99.17085)):
        row, column = to_pixel.geo2radar(latitude, longitude)[:2]
        rates.append(np.nanmedian(velocity[row - 1 : row + 2, column - 1 : column + 2]))
    return float(rates[0] - rates[1])


@pytest.mark.skipif(
    not REAL.is_dir() or bool(os.environ.get("CI")), reason=f"the real stack is not here, or this is CI: {REAL}"
)
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("vae.trainSteps = 150\nvae.numSeed = 1\n", id="quick", marks=pytest.mark.slow),
        pytest.param("", id="default", marks=pytest.mark.slow),
    ],
)
def test_the_real_stack_keeps_its_bowl(tmp_path, text):
    project = Path(shutil.copytree(REAL, tmp_path / "mexico_city_s1", copy_function=shutil.copyfile))
    alone = Path(shutil.copytree(REAL, tmp_path / "alone", copy_function=shutil.copyfile))
    with open(project / "mexico_city_s1.txt", "a") as f:
        f.write(text)
    before = tree(project)
    done = shell(["vae_correct.py", "inputs/ifgramStack.h5", "-t", "mexico_city_s1.txt"], cwd=project)
    assert done.returncode == 0, done.stderr[-2000:]
    work = tmp_path / "mexico_city_s1_vae"
    assert result_of(work)["status"] == "corrected", done.stdout[-1000:]
    run_mintpy(project / "mexico_city_s1.txt", work, "velocity", "velocity")
    run_mintpy(alone / "mexico_city_s1.txt", alone, "modify_network", "velocity")
    after, plain = (float(np.nanmin(read(d / "velocity.h5", "velocity"))) for d in (work, alone))
    assert abs(after / plain - 1) < 0.08, f"{after:.4f} m/yr, {plain:.4f} uncorrected"
    ours, theirs = (abs(rate_between_stations(d / "velocity.h5") - GNSS_RATE) for d in (work, alone))
    assert ours < theirs  # the uncorrected subsidence is 9 % too strong
    assert tree(project) == before
