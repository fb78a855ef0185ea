"""``mintpy.network.*`` of the template is followed, also where pairs were dropped before."""

import shutil
from contextlib import chdir

import h5py
import numpy as np
import pytest
from mintpy.cli import modify_network

from conftest import QUICK, make_simulated, read, tree
from mintpy_vae.errors import InputError
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow.correction import correct
from mintpy_vae.workflow.job import prepare
from tiny import make_project


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    """MintPy waits a second after each dataset whose time it sets."""
    monkeypatch.setattr("mintpy.objects.stack.time.sleep", lambda _: None)


def project_with(root, *lines, dropped=(4, 7), **how):
    """A tiny project with pairs dropped by hand; return stack and template."""
    stack = make_project(root, **how) / "inputs" / "ifgramStack.h5"
    with h5py.File(stack, "r+") as f:
        f["dropIfgram"][:] = [k not in dropped for k in range(len(f["dropIfgram"]))]
        f["coherence"][3] *= 0.5
        f["coherence"][5, :, 20:] *= 0.3
    template = root / "mine.txt"
    template.write_text("\n".join(lines) + "\n")
    return stack, template


def kept_by_mintpy(stack, template, scratch):
    """What MintPy's own command keeps, in a copy."""
    copy = shutil.copytree(stack.parents[1], scratch / "copy")
    with chdir(copy):
        modify_network.main([str(copy / "inputs" / stack.name), "-t", str(copy / template.name)])
    return read(copy / "inputs" / stack.name, "dropIfgram")


@pytest.mark.parametrize(
    "lines",
    [
        ["mintpy.network.excludeDate = 20200129,20200222"],
        ["mintpy.network.startDate = 20200117", "mintpy.network.endDate = 20200329"],
        ["mintpy.network.tempBaseMax = 24"],
        ["mintpy.network.perpBaseMax = 40"],
        ["mintpy.network.connNumMax = 2"],
        ["mintpy.network.excludeDate12 = 20200105_20200117, 20200129_20200210"],
        ["mintpy.network.excludeIfgIndex = 2:5,9"],
        ["mintpy.network.referenceFile = pairs.txt"],
        ["mintpy.network.coherenceBased = yes", "mintpy.network.minCoherence = 0.8"],
        [
            "mintpy.network.coherenceBased = yes",
            "mintpy.network.minCoherence = 0.8",
            "mintpy.network.keepMinSpanTree = no",
        ],
        [
            "mintpy.network.coherenceBased = yes",
            "mintpy.network.aoiYX = 5:20,22:36",
            "mintpy.network.minCoherence = 0.8",
        ],
    ],
    ids=lambda lines: lines[-1].split(".")[2].split()[0] + str(len(lines)),
)
def test_pairs_are_kept_by_hand_and_by_the_template(tmp_path, lines):
    stack, template = project_with(tmp_path / "WORK", *lines)
    (tmp_path / "WORK" / "pairs.txt").write_text("20200105_20200117\n20200117_20200210\n20200129_20200210\n")
    by_mintpy, by_hand = kept_by_mintpy(stack, template, tmp_path), read(stack, "dropIfgram")
    assert (by_hand & ~by_mintpy).any() and (by_mintpy & ~by_hand).any()
    before = tree(tmp_path / "WORK")
    assert np.array_equal(prepare(stack, template_file=template).stack.keep, by_hand & by_mintpy)
    assert tree(tmp_path / "WORK") == before


def test_the_water_mask_of_the_geometry_counts(tmp_path):
    lines = ["mintpy.network.coherenceBased = yes", "mintpy.network.minCoherence = 0.9"]
    stack, template = project_with(tmp_path / "WORK", *lines, water=True)
    with h5py.File(stack, "r+") as f:
        f["coherence"][:, :, :3] = 0.01  # water
    kept = prepare(stack, template_file=template).stack.keep
    shutil.copy(stack.with_name("geometryGeo.h5"), tmp_path / "WORK" / "waterMask.h5")  # as the step makes it
    with h5py.File(tmp_path / "WORK" / "waterMask.h5", "r+") as f:
        f.attrs["FILE_TYPE"] = "waterMask"
        for name in set(f) - {"waterMask"}:
            del f[name]
    by_mintpy = kept_by_mintpy(stack, template, tmp_path)
    assert np.array_equal(kept, read(stack, "dropIfgram") & by_mintpy)
    assert np.array_equal(prepare(stack, template_file=template).stack.keep, kept)


@pytest.mark.parametrize("name", ["waterMask.h5", "inputs/water.h5"])
def test_a_mask_that_is_named_may_lie_where_others_do(tmp_path, name):
    lines = ["mintpy.network.coherenceBased = yes", f"mintpy.network.maskFile = {name}"]
    stack, template = project_with(tmp_path / "WORK", *lines, water=True)
    with h5py.File(stack.with_name("geometryGeo.h5")) as f, h5py.File(tmp_path / "WORK" / name, "w") as mask:
        mask["waterMask"] = f["waterMask"][:]
        mask.attrs.update({**f.attrs, "FILE_TYPE": "waterMask"})
    before, by_mintpy = tree(tmp_path / "WORK"), kept_by_mintpy(stack, template, tmp_path)
    assert np.array_equal(prepare(stack, template_file=template).stack.keep, read(stack, "dropIfgram") & by_mintpy)
    assert tree(tmp_path / "WORK") == before


@pytest.mark.parametrize("lines", [[], ["mintpy.network.tempBaseMax = auto"], ["mintpy.network.coherenceBased = no"]])
def test_without_options_the_stack_decides(tmp_path, lines):
    stack, template = project_with(tmp_path / "WORK", *lines)
    assert np.array_equal(prepare(stack, template_file=template).stack.keep, read(stack, "dropIfgram"))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("mintpy.network.startDate = 20210101", "Zero interferogram left"),
        ("mintpy.network.tempBaseMax = long", "could not convert"),
        ("mintpy.network.referenceFile = none.txt", "none.txt"),
        ("mintpy.network.excludeIfgIndex = 0:3, 5:30", "leave no pair"),
    ],
)
def test_what_cannot_be_followed_is_refused(tmp_path, line, said):
    stack, template = project_with(tmp_path / "WORK", line)
    if said == "leave no pair":
        with h5py.File(stack, "r+") as f:
            f["dropIfgram"][:] = [k < 4 for k in range(len(f["dropIfgram"]))]
    with pytest.raises(InputError, match=said):
        prepare(stack, template_file=template)


def test_a_change_of_the_options_makes_the_correction_anew(tmp_path):
    stack, template = project_with(tmp_path / "WORK", "mintpy.network.tempBaseMax = 24")
    seen = [prepare(stack, template_file=template).fingerprint({})]
    for text in ("mintpy.network.tempBaseMax = 36\n", "mintpy.network.tempBaseMax = 24\nmintpy.deramp = linear\n"):
        template.write_text(text)
        seen.append(prepare(stack, template_file=template).fingerprint({}))
    assert seen[0] == seen[2] != seen[1]


@pytest.mark.parametrize("dropped_before", [True, False])
def test_the_time_series_has_the_network_that_was_learned_from(tmp_path, monkeypatch, dropped_before):
    monkeypatch.setattr(workflow, "write_page", lambda _: [])
    project = tmp_path / "WORK"
    # left uncorrected: what MintPy inverts is the same, and made within seconds
    template = make_simulated(
        project, size=(30, 36), text=QUICK + "vae.minDate = 100\nmintpy.topographicResidual = no\n"
    )
    stack = project / "inputs" / "ifgramStack.h5"
    if not dropped_before:
        with h5py.File(stack, "r+") as f:
            f["dropIfgram"][:] = True
    by_hand, table = read(stack, "dropIfgram"), read(stack, "date")
    unwanted = sorted(set(table.ravel()))[6]
    with open(template, "a") as f:
        f.write(f"mintpy.network.excludeDate = {unwanted.decode()}\n")
    correct(stack, template_file=template)
    work = tmp_path / "WORK_vae"
    expected = by_hand & (table != unwanted).all(axis=1)
    assert np.array_equal(read(work / "inputs" / "ifgramStack.h5", "dropIfgram"), expected)
    assert unwanted not in read(work / "timeseries.h5", "date")
    assert read(work / "numInvIfgram.h5", "mask").max() == expected.sum()
    assert (work / "waterMask.h5").is_file()
