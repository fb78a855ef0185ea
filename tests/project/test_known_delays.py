"""What MintPy subtracts itself is taken out once: not in the pairs that are learned from, and stays in the stack."""

import json
import math
import shutil
import sys
from dataclasses import replace

import h5py
import numpy as np
import pytest
from mintpy.cli import solid_earth_tides
from mintpy.smallbaselineApp import TimeSeriesAnalysis
from mintpy.utils import readfile

from conftest import QUICK as CONF_QUICK
from conftest import make_simulated, read, tree
from mintpy_vae.errors import InputError
from mintpy_vae.project import templates
from mintpy_vae.project.known_delays import find_known_delays
from mintpy_vae.results.result import read_result
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow import smallbaseline
from mintpy_vae.workflow.correction import correct
from mintpy_vae.workflow.delay import TEMPLATE_LINES, write_delay
from mintpy_vae.workflow.job import looks_of, prepare
from mintpy_vae.workflow.learning import training_data

SIZE = (40, 44)
OPTIONS = {
    "ionosphere": "mintpy.ionosphericDelay.method = split_spectrum\n",
    "tides": "mintpy.solidEarthTides = yes\n",
    "drift": "",
}
OFF = {"ionosphere": "mintpy.ionosphericDelay.method", "tides": "mintpy.solidEarthTides"}
QUICK = CONF_QUICK + "vae.resolution = 1.1\nmintpy.topographicResidual = no\n"


def project_with(root, *kinds, coord="geo", text=QUICK):
    """A simulated project whose pairs hold delays that MintPy knows; return stack and template."""
    template = make_simulated(root, size=SIZE, coord=coord, text=text + "".join(OPTIONS[kind] for kind in kinds))
    stack = root / "inputs" / "ifgramStack.h5"
    for kind in kinds:
        ADD[kind](root)
    return stack, template


def smooth(n_dates, seed):
    """Screens of some centimetres, metres of displacement."""
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] / np.array(SIZE)[:, None, None] - 0.5
    shapes = np.array([y, x, x * y, y * y - x * x])
    return 0.05 * np.tensordot(np.random.default_rng(seed).normal(size=(n_dates, 4)), shapes, 1)


def add_screens(root, screens):
    """Add the displacement (dates, length, width) to the pairs of the stack; return what was added."""
    with h5py.File(root / "inputs" / "ifgramStack.h5", "r+") as f:
        table = f["date"][:]
        dates = sorted(set(table.ravel()))
        phase = screens * (-4 * np.pi / float(f.attrs["WAVELENGTH"]))
        added = np.array([phase[dates.index(b)] - phase[dates.index(a)] for a, b in table], np.float32)
        data = f["unwrapPhase"][:]
        f["unwrapPhase"][:] = np.where(data == 0, 0, data + added)
    return added


def add_ionosphere(root):
    n_dates = len(set(read(root / "inputs" / "ifgramStack.h5", "date").ravel()))
    added = add_screens(root, smooth(n_dates, 1))
    with h5py.File(root / "inputs" / "ifgramStack.h5") as f, h5py.File(root / "inputs" / "ionStack.h5", "w") as ion:
        ion.attrs.update(f.attrs)
        for name in ("date", "bperp", "coherence"):
            ion[name] = f[name][:]
        ion["dropIfgram"] = np.ones(len(added), bool)
        ion["unwrapPhase"] = added + np.float32(2.0)  # its own constant


def add_tides(root):
    """Tides of a file that is there already, larger than real ones."""
    stack = root / "inputs" / "ifgramStack.h5"
    dates = sorted(set(read(stack, "date").ravel()))
    screens = smooth(len(dates), 2)
    add_screens(root, screens)
    with h5py.File(stack) as f, h5py.File(root / "inputs" / "SET.h5", "w") as tides:
        tides.attrs.update({k: v for k, v in f.attrs.items() if not k.startswith("REF_")})
        tides.attrs.update({"FILE_TYPE": "timeseries", "UNIT": "m"})
        tides["date"] = np.array(dates)
        tides["timeseries"] = (screens + 0.3).astype(np.float32)


def add_drift(root):
    """Of Envisat, by MintPy's formula, over a wide swath."""
    (geometry,) = (root / "inputs").glob("geometry*.h5")
    with h5py.File(geometry, "r+") as f:
        f["slantRangeDistance"][:] = 8e5 + 1e5 * np.linspace(0, 1, SIZE[1])[None, :] * np.ones(SIZE)
        slant = f["slantRangeDistance"][:]
        f.attrs["PLATFORM"] = "Env"
    with h5py.File(root / "inputs" / "ifgramStack.h5", "r+") as f:
        f.attrs["PLATFORM"] = "Env"
        dates = sorted({date.decode() for date in f["date"][:].ravel()})
    days = np.array([np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in dates]) - np.datetime64("2000-01-01")
    add_screens(root, 3.87e-7 * (slant - 8e5) * (days.astype(float) / 365.25)[:, None, None])


ADD = {"ionosphere": add_ionosphere, "tides": add_tides, "drift": add_drift}


def known_of(job, place, **how):
    place.mkdir(exist_ok=True)
    return find_known_delays(job.stack, job.project, job.template, place, **how)


def unlike(one, other):
    """Difference of two training grids (pairs, pixels); the constant of each pair is arbitrary."""
    both = (other.weight > 0).reshape(len(other.weight), -1)
    difference = (one.phase - other.phase).reshape(both.shape)
    return np.where(both, difference, np.median(difference, axis=1, keepdims=True))


# ------------------------------------------------------------------------------------------------------ what is learned
@pytest.mark.parametrize(
    ("kinds", "coord"),
    [(("ionosphere",), "geo"), (("tides",), "geo"), (("drift",), "geo"), (("drift", "tides", "ionosphere"), "radar")],
)
def test_the_pairs_that_are_learned_from_hold_nothing_of_what_mintpy_subtracts(tmp_path, kinds, coord):
    clean, plain = project_with(tmp_path / "clean", coord=coord)
    dirty, template = project_with(tmp_path / "WORK", *kinds, coord=coord)
    before = tree(tmp_path / "WORK")
    job, reference = prepare(dirty, template_file=template), prepare(clean, template_file=plain)
    known = known_of(job, tmp_path / "place")
    expected, held = (training_data(j).observations for j in (reference, job))
    learned = training_data(replace(job, known=known)).observations
    assert np.ptp(unlike(held, expected), axis=1).max() > 1  # radians; else there is nothing to show
    assert np.array_equal(learned.weight, expected.weight)
    assert np.ptp(unlike(learned, expected), axis=1).max() < 5e-3
    assert [row["subtracted"] for row in known.summary] == [True] * len(kinds) and not known.off
    assert tree(tmp_path / "WORK") == before


def test_tides_that_are_not_there_yet_are_those_that_mintpy_computes(tmp_path):
    stack, template = project_with(tmp_path / "WORK", text=QUICK + OPTIONS["tides"])
    job = prepare(stack, template_file=template)
    known = known_of(job, tmp_path / "place")
    made = tmp_path / "place" / "inputs" / "SET.h5"
    tides = read(made, "timeseries")
    assert 0.01 < np.ptp(tides.mean(axis=(1, 2))) < 0.5 and known.summary[0]["std_mm"] < 5  # broad
    geometry = stack.with_name("geometryGeo.h5")
    series = tmp_path / "timeseries.h5"  # as MintPy's step is called
    with h5py.File(stack) as f, h5py.File(series, "w") as g:
        g.attrs.update(f.attrs)
        g.attrs.update({"FILE_TYPE": "timeseries", "UNIT": "m", "REF_DATE": job.stack.dates[0]})
        g["date"] = np.array(job.stack.dates, "S8")
        g["timeseries"] = np.zeros(tides.shape, np.float32)
    solid_earth_tides.main([str(series), "-g", str(geometry), "--set-file", str(tmp_path / "MintPy.h5")])
    assert np.array_equal(tides, read(tmp_path / "MintPy.h5", "timeseries"))


def test_where_the_ionosphere_is_unknown_nothing_is_learned(tmp_path):
    stack, template = project_with(tmp_path / "WORK", "ionosphere")
    with h5py.File(stack.with_name("ionStack.h5"), "r+") as f:
        f["unwrapPhase"][:, :10] = 0
    job = prepare(stack, template_file=template)
    plain = training_data(job).observations
    data = training_data(replace(job, known=known_of(job, tmp_path / "place"))).observations
    factor, ratio = looks_of(job.stack, job.settings)
    assert ratio == 1
    outside, inside = math.floor(10 / factor), math.ceil(10 / factor)
    assert (data.weight[:, :outside] == 0).all() and (data.phase[:, :outside] == 0).all()
    assert np.array_equal(data.weight[:, inside:], plain.weight[:, inside:])


def test_dates_of_which_mintpy_subtracts_nothing_keep_what_they_hold(tmp_path):
    stack, template = project_with(tmp_path / "WORK", "tides")
    with h5py.File(stack.with_name("SET.h5"), "r+") as f:
        dates, series = f["date"][:], f["timeseries"][:]
        del f["date"], f["timeseries"]
        f["date"], f["timeseries"] = dates[:-1], series[:-1]
    job = prepare(stack, template_file=template)
    known = known_of(job, tmp_path / "place")
    assert (known.phase(slice(0, SIZE[0]))[-1] == 0).all() and abs(known.phase(slice(0, SIZE[0]))[0]).max() > 1
    assert dates[-1].decode() in known.warnings[0]


# ---------------------------------------------------------------------------------------------------------- once, whole
@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """MintPy's last series of a clean stack and of one with all delays, corrected; and the project with them."""
    root = tmp_path_factory.mktemp("known")
    clean, plain = project_with(root / "CLEAN")
    dirty, template = project_with(root / "WORK", *OPTIONS)
    before = tree(root / "WORK")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(workflow, "write_page", lambda _: [])
        correct(clean, template_file=plain)
    result = correct(dirty, template_file=template)
    assert tree(root / "WORK") == before
    return root, result, template


def test_each_is_taken_out_once(series):
    root, result, _ = series
    assert result.status == "corrected"
    clean, work = root / "CLEAN_vae", root / "WORK_vae"
    expected = read(clean / "timeseries.h5", "timeseries")
    inverted, last = (read(work / name, "timeseries") for name in ("timeseries.h5", "timeseries_LOD_SET_ion.h5"))
    valid = (expected != 0).any(axis=0) & (last != 0).any(axis=0)
    assert np.abs((inverted - expected)[:, valid]).max() > 0.02  # metres: left in the corrected stack
    assert np.abs((last - expected)[:, valid]).max() < 1e-3
    assert np.allclose(
        read(clean / "inputs" / "VAE.h5", "timeseries"), read(work / "inputs" / "VAE.h5", "timeseries"), atol=1e-3
    )


def test_what_was_done_is_written_down(series):
    root, result, _ = series
    written = json.loads((root / "WORK_vae" / "vae_result.json").read_text())
    assert [row["step"] for row in written["known_delays"]] == ["correct_LOD", "correct_SET", "correct_ionosphere"]
    assert all(row["subtracted"] and row["std_mm"] > 5 for row in written["known_delays"])
    assert written["switched_off"] == []
    assert all((root / "WORK_vae" / name).is_file() for name in ("inputs/SET.h5", "inputs/ionStack.h5", "ion.h5"))
    page = (root / "WORK_vae" / "vae_report.html").read_text()
    assert "Left to MintPy" in page and "correct_ionosphere" in page
    assert read_result(root / "CLEAN_vae")["known_delays"] == []


def test_the_step_is_skipped_until_one_of_them_changes(series, tmp_path):
    root, _, template = series
    project = shutil.copytree(root / "WORK", tmp_path / "WORK")
    shutil.copytree(root / "WORK_vae", tmp_path / "WORK_vae")
    stack, copy = project / "inputs" / "ifgramStack.h5", project / template.name

    def skipped():
        from mintpy_vae.workflow.correction import _earlier

        return _earlier(tmp_path / "WORK_vae", prepare(stack, template_file=copy).fingerprint({})) is not None

    assert skipped()
    text = copy.read_text()
    for change in (
        lambda: copy.write_text(text + "mintpy.ionosphericDelay.excludeDate = 20180101\n"),
        lambda: copy.write_text(text.replace("solidEarthTides = yes", "solidEarthTides = no")),
        lambda: (copy.write_text(text), (project / "inputs" / "SET.h5").unlink()),
    ):
        change()
        assert not skipped()


def test_inside_the_project_too(series, tmp_path, monkeypatch):
    root, _, template = series
    project = shutil.copytree(root / "WORK", tmp_path / "WORK")
    copy = project / template.name
    before = tree(project)
    result = write_delay(project / "inputs" / "ifgramStack.h5", template_file=copy)
    assert result.status == "corrected" and [row["subtracted"] for row in result.details["known_delays"]] == [True] * 3
    after = tree(project)
    assert {name for name in after if after[name] != before.get(name)} == {"inputs/VAE.h5"}
    copy.write_text(copy.read_text().replace("mintpy.troposphericDelay.method", "#") + TEMPLATE_LINES)
    app = TimeSeriesAnalysis(str(copy), str(project))
    monkeypatch.chdir(project)  # whence MintPy comes back
    app.open()
    app.run(["invert_network", "correct_LOD", "correct_SET", "correct_ionosphere", "correct_troposphere"])
    expected = read(root / "CLEAN_vae" / "timeseries.h5", "timeseries")
    last = read(project / "timeseries_LOD_SET_ion_VAE.h5", "timeseries")
    valid = (expected != 0).any(axis=0) & (last != 0).any(axis=0)
    assert np.abs((last - expected)[:, valid]).max() < 1e-3


# ---------------------------------------------------------------------------------------------------- what is not known
def without_ion_stack(inputs):
    (inputs / "ionStack.h5").unlink()


def another_size(inputs):
    with h5py.File(inputs / "ionStack.h5", "r+") as f:
        f.attrs["LENGTH"] = str(SIZE[0] // 2)


def without_ionospheric_phase(inputs):
    with h5py.File(inputs / "ionStack.h5", "r+") as f:
        f["unwrapPhase"][:] = 0


def without_incidence_angle(inputs):
    (inputs / "SET.h5").unlink()
    with h5py.File(inputs / "geometryGeo.h5", "r+") as f:
        del f["incidenceAngle"]


def without_pysolid(inputs):
    (inputs / "SET.h5").unlink()


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("ionosphere", without_ion_stack),
        ("ionosphere", another_size),
        ("ionosphere", without_ionospheric_phase),
        ("tides", without_incidence_angle),
        ("tides", without_pysolid),
    ],
)
def test_a_step_that_cannot_work_is_switched_off_and_named(tmp_path, monkeypatch, kind, spoil):
    stack, template = project_with(tmp_path / "WORK", kind)
    spoil(stack.parent)
    if spoil is without_pysolid:
        monkeypatch.setitem(sys.modules, "pysolid", None)
        monkeypatch.delitem(sys.modules, "mintpy.solid_earth_tides", raising=False)
        monkeypatch.delattr("mintpy.solid_earth_tides", raising=False)
    job = prepare(stack, template_file=template)
    for inside, said in ((False, "is no in the corrected directory"), (True, f"set {OFF[kind]} = no")):
        known = known_of(job, tmp_path / f"place{inside}", inside=inside)
        assert known.phase is None and known.off == [OFF[kind]] and said in known.warnings[0]
        assert not known.summary[0]["subtracted"] and "\n" not in known.warnings[0]


def test_a_blank_in_the_path_stops_only_the_ionosphere(tmp_path):
    stack, template = project_with(tmp_path / "WORK", "tides", "ionosphere")
    known = known_of(prepare(stack, template_file=template), tmp_path / "a place")
    assert known.off == [OFF["ionosphere"]] and "blank" in known.warnings[0] and known.summary[0]["subtracted"]


def test_mintpy_goes_on_without_the_step_that_was_switched_off(tmp_path, monkeypatch):
    for module in (workflow, smallbaseline):
        monkeypatch.setattr(module, "write_page", lambda _: [])
    stack, template = project_with(tmp_path / "WORK", "ionosphere", "tides", text="vae.minDate = 100\n")
    without_ion_stack(stack.parent)
    result = correct(stack, template_file=template)
    work = tmp_path / "WORK_vae"
    assert result.details["switched_off"] == [OFF["ionosphere"]] == read_result(work)["switched_off"]
    assert any("correct_ionosphere" in warning for warning in result.warnings)
    assert (work / "timeseries_SET.h5").is_file() and not (work / "timeseries_SET_ion.h5").exists()
    smallbaseline.run(str(template), str(tmp_path / "WORK"), ["correct_ionosphere"])  # the templates are copied anew
    options = readfile.read_template(str(work / template.name))
    assert options[OFF["ionosphere"]] == "no" and options[OFF["tides"]] == "yes"


def test_a_drift_that_mintpy_cannot_take_out_is_refused_before_the_training(tmp_path):
    stack, template = project_with(tmp_path / "WORK", "drift")
    with h5py.File(stack.with_name("geometryGeo.h5"), "r+") as f:
        del f["slantRangeDistance"]
    before = tree(tmp_path)
    with pytest.raises(InputError, match="slantRangeDistance"):
        correct(stack, template_file=template)
    assert tree(tmp_path) == before


def test_a_full_disk_is_no_reason_to_do_without_a_step(tmp_path, monkeypatch):
    stack, template = project_with(tmp_path / "WORK", "ionosphere")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mintpy.cli.iono_split_spectrum.main", full)
    with pytest.raises(InputError, match="No space left"):
        known_of(prepare(stack, template_file=template), tmp_path / "place")


def test_the_size_of_what_is_copied_is_asked_for(tmp_path):
    stack, template = project_with(tmp_path / "WORK", "ionosphere")
    from mintpy_vae.project.known_delays import space_needed

    job = prepare(stack, template_file=template)
    size, n_series = space_needed(job.stack, job.project, job.template)
    assert size == stack.with_name("ionStack.h5").stat().st_size and n_series == 1
    assert templates.is_on(job.template, OFF["ionosphere"])
