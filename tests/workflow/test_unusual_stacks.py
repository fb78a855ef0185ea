"""Stacks as they come: each peculiarity in a project of its own, corrected and inverted by the real MintPy."""

import re
import shutil
from functools import partial
from pathlib import Path

import cloudpickle
import h5py
import mintpy.cli.multilook
import mintpy.cli.subset
import numpy as np
import pytest
import torch

from conftest import QUICK, make_simulated, read, two_pixels
from mintpy_vae.method import separation
from mintpy_vae.report import REPORT
from mintpy_vae.settings import Settings
from mintpy_vae.stack import open_stack
from mintpy_vae.workflow import learning
from mintpy_vae.workflow.correction import correct
from mintpy_vae.workflow.job import prepare
from mintpy_vae.workflow.learning import learn

UTM = {"X_FIRST": "480000.0", "Y_FIRST": "3950000.0"}
UTM |= {"X_UNIT": "meters", "Y_UNIT": "meters", "UTM_ZONE": "40N", "EPSG": "32640"}


UNLIKELIEST = 1e-6
"""`vae.significance` with which nothing in these small stacks is taken for motion, which would come and go."""


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """The project that all peculiarities are put into, and its atmosphere per date in radians."""
    template = make_simulated(tmp_path_factory.mktemp("clean") / "WORK", text=QUICK)
    with open(template, "a") as f:  # whole looks, so that no coarse pixel lies on both sides of a component's edge
        f.write(f"vae.resolution = {two_pixels(template.parent)!r}\nvae.significance = {UNLIKELIEST}\n")
    return template.parent, atmosphere(template.parent)


def atmosphere(project, **changes):
    job = prepare(
        project / "inputs" / "ifgramStack.h5",
        settings=Settings(
            train_steps=10, num_seeds=1, resolution=two_pixels(project), significance=UNLIKELIEST, **changes
        ),
    )
    delay = learn(job, {}).atmosphere(slice(0, job.stack.shape[0])).astype(float)
    return delay - delay.mean(axis=0)


def has_data(phase):
    return np.isfinite(phase) & (phase != 0)


def edit(project, function):
    with h5py.File(project / "inputs" / "ifgramStack.h5", "r+") as f:
        function(f)


# ------------------------------------------------------------------------------------------------------- peculiarities
def utm(project):
    """As HyP3 delivers it: metres of a UTM zone."""
    step = 500 * two_pixels(project)
    for name in ("ifgramStack.h5", "geometryGeo.h5"):
        with h5py.File(project / "inputs" / name, "r+") as f:
            f.attrs.update(UTM | {"X_STEP": str(step), "Y_STEP": str(-step)})


def variant(name):
    def make(project):
        def change(f):
            phase, y, x = f["unwrapPhase"][:], int(f.attrs["REF_Y"]), int(f.attrs["REF_X"])
            f[name] = np.where(has_data(phase), phase - phase[:, y, x][:, None, None], phase).astype(np.float32)
            f["unwrapPhase"][:] = np.where(has_data(phase), phase + 3, phase)

        edit(project, change)

    return make


def components(project):
    """Connected components, one of them left out of some pairs."""

    def change(f):
        parts = has_data(f["unwrapPhase"][:]).astype(np.int16)
        parts[::3, :8, -10:] *= 2
        parts[1::3, :8, -10:] = 0
        del f["connectComponent"]  # the simulator's
        f.create_dataset("connectComponent", data=parts, chunks=True, compression="lzf")

    edit(project, change)


def shadow(project):
    with h5py.File(project / "inputs" / "geometryGeo.h5", "r+") as f:
        mask = np.zeros(f["height"].shape, bool)
        mask[5:9, 5:15] = True
        f["shadowMask"] = mask


def holes(project):
    """NaN in some pairs, 0 in others, at other places in each."""

    def change(f):
        phase, rng = f["unwrapPhase"][:], np.random.default_rng(0)
        keep = int(f.attrs["REF_Y"]), int(f.attrs["REF_X"])
        for k, layer in enumerate(phase):
            y, x = rng.integers(0, 40), rng.integers(0, 50)
            box = np.zeros(layer.shape, bool)
            box[y : y + 8, x : x + 10] = True
            box[keep] = False
            layer[box] = (np.nan, 0)[k % 2]
        f["unwrapPhase"][:] = phase

    edit(project, change)


def noise_without_coherence(project):
    """A fifth of the scene is noise in every third pair, and its coherence says so."""

    def change(f):
        phase, coherence, rng = f["unwrapPhase"][:], f["coherence"][:], np.random.default_rng(0)
        part = np.s_[1::3, :, 48:]
        valid = has_data(phase[part])
        phase[part] = np.where(valid, rng.uniform(-20, 20, phase[part].shape), phase[part])
        coherence[part] = 0.03
        f["unwrapPhase"][:], f["coherence"][:] = phase, coherence

    edit(project, change)


def unwrapping_errors(project):
    """One pair in twenty is off by 2 pi on one side of a line, which is another one in each."""

    def change(f):
        phase, rng = f["unwrapPhase"][:], np.random.default_rng(0)
        y, x = np.indices(phase.shape[1:])
        bad = rng.choice(np.flatnonzero(f["dropIfgram"][:]), len(phase) // 20, replace=False)
        assert len(bad) >= 2
        for k in bad:
            angle, shift = rng.uniform(0, 2 * np.pi), rng.uniform(-10, 10)
            side = (x - 30) * np.cos(angle) + (y - 24) * np.sin(angle) > shift
            phase[k] += np.where(side & has_data(phase[k]), 2 * np.pi, 0).astype(np.float32)
        f["unwrapPhase"][:] = phase

    edit(project, change)


def a_bad_pair_dropped(project):
    """What is dropped may be anything."""

    def change(f):
        phase = f["unwrapPhase"][:]
        phase[2] = np.where(has_data(phase[2]), 100, phase[2])
        f["unwrapPhase"][:] = phase

    edit(project, change)


def islands_in_a_part(project):
    """In a corner no pair has data across the middle of the dates: its own network falls apart."""

    def change(f):
        phase, dates = f["unwrapPhase"][:], f["date"][:].astype(str)
        middle = np.unique(dates)[7]
        across = (dates[:, 0] < middle) & (dates[:, 1] >= middle)
        phase[across, :10, :12] = np.nan
        f["unwrapPhase"][:] = phase

    edit(project, change)


def as_strings(project):
    """Dates of any length, as other programs write them."""

    def change(f):
        dates = f["date"][:]
        del f["date"]
        f.create_dataset("date", data=[[d.decode() for d in pair] for pair in dates], dtype=h5py.string_dtype())

    edit(project, change)


# peculiarity, options of MintPy, how far the atmosphere may move: a share of its standard deviation
CASES = {
    "UTM grid": (utm, "", 1e-6),
    "bridging": (variant("unwrapPhase_bridging"), "mintpy.unwrapError.method = bridging", 0.005),
    "phase closure": (variant("unwrapPhase_phaseClosure"), "mintpy.unwrapError.method = phase_closure", 0.005),
    "both": (variant("unwrapPhase_bridging_phaseClosure"), "mintpy.unwrapError.method = bridging+phase_closure", 0.005),
    "components": (components, "mintpy.networkInversion.maskDataset = connectComponent", 1e-6),
    "shadow": (shadow, "mintpy.networkInversion.shadowMask = yes", 1e-6),
    "holes of NaN and 0": (holes, "", 0.07),  # as large as these pixels, which are not multilooked
    "noise without coherence": (noise_without_coherence, "", 0.02),
    "unwrapping errors": (unwrapping_errors, "", 0.01),
    "islands in a part": (islands_in_a_part, "", 0.15),  # the corner itself is extrapolated
    "a bad pair dropped": (a_bad_pair_dropped, "", 1e-6),
    "dates as strings": (as_strings, "", 1e-6),
}


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=pytest.mark.slow) if c in ("both", "phase closure") else c for c in CASES]
)
def test_it_is_corrected_as_the_clean_stack_and_inverted(clean, remembered, tmp_path, case):
    spoil, options, allowed = CASES[case]
    project = Path(shutil.copytree(clean[0], tmp_path / "WORK"))
    spoil(project)
    template = project / "bowl.txt"
    template.write_text(template.read_text() + options + "\n")
    done = correct(project / "inputs" / "ifgramStack.h5", template_file=template)
    assert done.status == "corrected"
    work, stack = done.work_dir, open_stack(project / "inputs" / "ifgramStack.h5")
    check(project, work, done.details["dataset"])
    delay = read(work / "inputs" / "VAE.h5", "timeseries") / (-stack.wavelength / (4 * np.pi))
    share = np.std(delay - delay.mean(axis=0) - clean[1]) / np.std(clean[1])
    assert share <= allowed, f"the atmosphere moved by {share:.2%} of its standard deviation"


def test_without_robust_weights_unwrapping_errors_would_show(clean, tmp_path, monkeypatch):
    """What the limit of the case above is worth."""
    project = Path(shutil.copytree(clean[0], tmp_path / "WORK"))
    unwrapping_errors(project)
    without = partial(separation.separate, ablation=separation.Ablation(robust=False))
    monkeypatch.setattr(learning, "separate", without)
    share = np.std(atmosphere(project) - clean[1]) / np.std(clean[1])
    assert share > 2 * CASES["unwrapping errors"][2]


def check(project, work, name="unwrapPhase"):
    """Every pair by the difference of its dates, no-data where it was, and a time series that MintPy made of it."""
    stack = open_stack(project / "inputs" / "ifgramStack.h5")
    before, after = read(project / "inputs" / "ifgramStack.h5", name), read(work / "inputs" / "ifgramStack.h5", name)
    delay = read(work / "inputs" / "VAE.h5", "timeseries") / (-stack.wavelength / (4 * np.pi))
    y, x = stack.ref_yx
    before[:, y, x], after[:, y, x] = 1, 1  # of phase that was referenced already, its 0 is a value
    np.testing.assert_array_equal(has_data(before), has_data(after))
    first, second = stack.pairs.T
    good = has_data(before)
    good[:, y, x] = False
    expected = (before - (delay[second] - delay[first]))[good]
    np.testing.assert_allclose(after[good], expected, atol=1e-4)
    series = read(work / "timeseries.h5", "timeseries")
    assert (
        len(series) == len(np.unique(stack.pairs[stack.keep]))
        and np.isfinite(series).all()
        and np.abs(series).max() > 0.001
    )


def test_what_was_learned_can_be_sent_to_a_worker(clean, remembered):
    job = prepare(
        clean[0] / "inputs" / "ifgramStack.h5", settings=Settings(train_steps=10, num_seeds=1, resolution=0.75)
    )
    found = learn(job, {}).atmosphere
    sent = cloudpickle.loads(cloudpickle.dumps(found))
    assert sent(slice(7, 19)).tobytes() == found(slice(7, 19)).tobytes()


def test_a_date_without_kept_pairs(clean, remembered, tmp_path):
    """MintPy leaves it out; its pairs are corrected as far as the other date goes."""
    project = Path(shutil.copytree(clean[0], tmp_path / "WORK"))
    lost = open_stack(project / "inputs" / "ifgramStack.h5").dates[5]

    def change(f):
        f["dropIfgram"][:] &= ~(f["date"][:].astype(str) == lost).any(axis=1)

    edit(project, change)
    done = correct(project / "inputs" / "ifgramStack.h5", template_file=project / "bowl.txt")
    check(project, done.work_dir)
    with h5py.File(done.work_dir / "timeseries.h5") as f:
        assert lost not in f["date"][:].astype(str)
    unknown = np.isnan(read(done.work_dir / "vae_std.h5", "timeseries"))
    assert unknown[5].all() and not unknown[:5].any() and not unknown[6:].any()


@pytest.mark.parametrize("at, corrected", [(13, 2), (5, 1)])
def test_islands_in_the_network(tmp_path, at, corrected):
    """Each is corrected on its own; one that is too small stays as it is, and the user is told."""
    text = QUICK + "vae.minDate = 8\nmintpy.timeFunc.polynomial = 4\n"  # which five dates do not determine
    template = make_simulated(tmp_path / "WORK", n_dates=26, size=(40, 40), text=text)
    file = template.parent / "inputs" / "ifgramStack.h5"
    first, second = open_stack(file).pairs.T
    small = second < at

    def change(f):
        f["dropIfgram"][:] &= small | (first >= at)

    edit(template.parent, change)
    done = correct(file, template_file=template)
    assert done.status == "corrected" and "form 2 islands" in done.warnings[0]
    widths = [one["width_km"] for one in done.details["found_from"]]
    assert widths == sorted(set(widths)) and all(one["mm_per_year"] > 0 for one in done.details["found_from"])
    check(template.parent, done.work_dir)
    moved = read(file, "unwrapPhase") != read(done.work_dir / "inputs" / "ifgramStack.h5", "unwrapPhase")
    assert moved[small].any() == (corrected == 2) and moved[first >= at].any()
    assert any("left uncorrected, because" in text for text in done.warnings) == (corrected == 1)
    kept = open_stack(file).keep
    assert len(done.details["noise_per_pair_mm"]) == (kept if corrected == 2 else kept & ~small).sum()
    assert len(torch.load(done.work_dir / "vae_model.pt", weights_only=True)["networks"]) == corrected
    unknown = np.isnan(read(done.work_dir / "vae_std.h5", "timeseries")).all(axis=(1, 2))
    assert unknown[:at].all() == (corrected == 1) and not unknown[at:].any()
    page = (done.work_dir / REPORT).read_text(encoding="utf8")
    assert "could not be made" not in page and "the report shows the largest corrected one" in page


@pytest.mark.slow
def test_several_hundred_pairs(tmp_path):
    template = make_simulated(tmp_path / "WORK", "tehran", None, (26, 30))
    done = correct(template.parent / "inputs" / "ifgramStack.h5", template_file=template)
    assert done.status == "corrected" and len(done.details["noise_per_pair_mm"]) > 490
    check(template.parent, done.work_dir)


@pytest.mark.parametrize(
    "coord, how",
    [("geo", "subset"), pytest.param("geo", "multilooked", marks=pytest.mark.slow), ("radar", "multilooked")],
)
def test_a_part_of_a_project_made_by_mintpy(tmp_path, monkeypatch, coord, how):
    """By its own subset.py and multilook.py."""
    template = make_simulated(tmp_path / "WHOLE", coord=coord)
    geometry = "geometryGeo.h5" if coord == "geo" else "geometryRadar.h5"
    project = tmp_path / "WORK"
    (project / "inputs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in ("ifgramStack.h5", geometry):
        source, out = str(tmp_path / "WHOLE" / "inputs" / name), str(project / "inputs" / name)
        if how == "subset":
            mintpy.cli.subset.main([source, "-y", "6", "44", "-x", "4", "58", "-o", out])
        else:
            mintpy.cli.multilook.main([source, "-y", "2", "-x", "2", "-o", out])
    small = open_stack(project / "inputs" / "ifgramStack.h5")
    assert small.shape == ((38, 54) if how == "subset" else (24, 30))
    (project / "WORK.txt").write_text(re.sub("(?m)^mintpy.reference.yx", "#", template.read_text()))
    done = correct(small.file, template_file=project / "WORK.txt")
    assert done.status == "corrected"
    check(project, done.work_dir)
