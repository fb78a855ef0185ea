"""A part of a scene beside the files of the whole: what fits is copied, what does not is named, before any training."""

import logging
import shutil
from contextlib import chdir
from pathlib import Path

import h5py
import numpy as np
import pytest
from mintpy.cli import subset

from conftest import QUICK, make_simulated, read, tree
from mintpy_vae.errors import InputError
from mintpy_vae.project import work_dir
from mintpy_vae.stack import open_stack
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow.correction import correct
from tiny import make_project

WHOLE = ("avgSpatialCoh.h5", "maskConnComp.h5", "waterMask.h5")
Y, X = (2, 26), (4, 36)


def masks(project, like, *names):
    """Files of MintPy with the pixels of another."""
    with h5py.File(like) as f:
        attributes = dict(f.attrs)
    for name in names:
        with h5py.File(project / name, "w") as f:
            f.attrs.update({**attributes, "FILE_TYPE": "mask"})
            f["mask"] = np.ones((int(attributes["LENGTH"]), int(attributes["WIDTH"])), bool)


def cut(project, coord="geo"):
    """The part, cut by MintPy's own command, with the names that it gives; return stack and geometry."""
    name = "geometryGeo.h5" if coord == "geo" else "geometryRadar.h5"
    box = ["-y", *map(str, Y), "-x", *map(str, X)]
    with chdir(project / "inputs"):
        subset.main(["ifgramStack.h5", *box])
        subset.main([name, *box])
    return project / "inputs" / "sub_ifgramStack.h5", project / "inputs" / f"sub_{name}"


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A project beside its part, in map coordinates."""
    project = make_project(tmp_path_factory.mktemp("parts") / "WORK")
    cut(project)
    return project


@pytest.fixture
def project(once, tmp_path):
    return Path(shutil.copytree(once, tmp_path / "WORK"))


def part_of(project):
    return project / "inputs" / "sub_ifgramStack.h5", project / "inputs" / "sub_geometryGeo.h5"


def filled(tmp_path, part, text="", coord="geo"):
    stack_file, geometry = part
    project = stack_file.parents[1]
    (project / "mine.txt").write_text(text)
    stack = open_stack(stack_file, geometry)
    work = tmp_path / "WORK_vae"
    work_dir.fill_work_dir(stack, project, work, project / "mine.txt")
    return work


@pytest.mark.parametrize("coord", ["geo", "radar"])
def test_what_is_of_the_whole_is_named_and_left(tmp_path, caplog, coord):
    project = make_project(tmp_path / "WORK", coord=coord, water=True)
    masks(project, project / "inputs" / "ifgramStack.h5", *WHOLE)
    part = cut(project, coord)
    masks(project, part[0], "mine.h5")
    with caplog.at_level(logging.WARNING, logger="mintpy_vae"):
        work = filled(
            tmp_path, part, "mintpy.deramp.maskFile = mine.h5\nmintpy.reference.maskFile = maskConnComp.h5\n", coord
        )
    files = {str(p.relative_to(work)) for p in work.rglob("*.h5")}
    assert files == {f"inputs/{part[1].name.removeprefix('sub_')}", "mine.h5"}
    assert read(work / "inputs" / part[1].name.removeprefix("sub_"), "height").shape == (Y[1] - Y[0], X[1] - X[0])
    (said,) = caplog.messages
    assert all(name in said for name in WHOLE) and "mine.h5" not in said


def test_the_whole_takes_all_of_its_own(project, tmp_path, caplog):
    masks(project, project / "inputs" / "ifgramStack.h5", *WHOLE)
    whole = project / "inputs" / "ifgramStack.h5", None
    assert {p.name for p in filled(tmp_path, whole).rglob("*.h5")} == {*WHOLE, "geometryGeo.h5"}
    assert not caplog.messages


@pytest.mark.parametrize("where", ["another size", "another place", "water mask that nobody makes"])
def test_a_file_that_the_template_asks_for_has_to_fit(project, tmp_path, where):
    part = part_of(project)
    name = "waterMask.h5" if where.startswith("water") else "mine.h5"
    masks(project, part[0] if where == "another place" else project / "inputs" / "ifgramStack.h5", name)
    if where == "another place":
        with h5py.File(project / name, "r+") as f:
            f.attrs["X_FIRST"] = str(float(f.attrs["X_FIRST"]) + 5 * float(f.attrs["X_STEP"]))
    before = tree(project)
    with pytest.raises(InputError, match=rf"mintpy.deramp.maskFile = {name} .*subset.py"):
        filled(tmp_path, part, f"mintpy.deramp.maskFile = {name}\n")
    assert {k: v for k, v in tree(project).items() if k != "mine.txt"} == before and not (
        tmp_path / "WORK_vae"
    ).exists()


@pytest.mark.parametrize("point", ["28,3", "3,36", "-1,3", "[25, 2]"])
def test_a_reference_point_outside_the_part_is_refused(project, tmp_path, point):
    with pytest.raises(InputError, match="outside the scene of 24 x 32 pixels"):
        filled(tmp_path, part_of(project), f"mintpy.reference.yx = {point}\n")


@pytest.mark.parametrize("point", ["auto", "no", "23,31", "0, 0"])
def test_a_reference_point_inside_is_none_of_our_business(project, tmp_path, point):
    filled(tmp_path, part_of(project), f"mintpy.reference.yx = {point}\n")


def test_a_part_goes_through_mintpy(tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "write_page", lambda _: [])
    project = tmp_path / "WORK"
    text = QUICK + "vae.minDate = 100\nmintpy.topographicResidual = no\nmintpy.reference.yx = auto\n"
    template = make_simulated(project, size=(40, 44), text=text)
    masks(project, project / "inputs" / "ifgramStack.h5", *WHOLE)
    stack, geometry = cut(project)
    result = correct(stack, geometry, template)
    assert result.details["mintpy"] == "reference_date"
    work = tmp_path / "WORK_vae"
    for name in ("timeseries.h5", "maskTempCoh.h5", *WHOLE):
        with h5py.File(work / name) as f:
            assert (int(f.attrs["LENGTH"]), int(f.attrs["WIDTH"])) == (Y[1] - Y[0], X[1] - X[0])
