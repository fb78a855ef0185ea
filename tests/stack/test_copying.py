"""What points elsewhere within HDF5 files: in the output it leads to the copy, or is not there."""

import os
import shutil

import h5py
import numpy as np
import pytest

from conftest import tree
from mintpy_vae.errors import InputError
from mintpy_vae.stack import content_hash, copy_file, open_stack, write_corrected_stack
from mintpy_vae.workflow.job import prepare
from tiny import delays, make_project

STACK = "inputs/ifgramStack.h5"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_project(tmp_path_factory.mktemp("tiny") / "WORK", connect=True, unwrap_method="bridging")


@pytest.fixture
def project(tiny, tmp_path):
    return shutil.copytree(tiny, tmp_path / "WORK")


def beside(f, name):
    """A file beside another one."""
    return os.path.join(os.path.dirname(f.filename), name)


def scales(f):
    """As xarray and netCDF write them, with one beside that has no dataset."""
    f["x"], f["pair"], f["alone"] = np.arange(40.0), np.arange(len(f["date"])), np.arange(3)
    for name in ("x", "pair", "alone"):
        f[name].make_scale(name)
    for name in ("unwrapPhase", "coherence"):
        f[name].dims[2].attach_scale(f["x"])
        f[name].dims[0].attach_scale(f["pair"])
        f[name].dims[0].label = "time"


def scale_of_a_dropped_phase(f):
    f["y"] = np.arange(30.0)
    f["unwrapPhase_bridging"].dims[1].attach_scale(f["y"])


def lost_scale(f):
    f["y"] = np.arange(30.0)
    f["coherence"].dims[1].attach_scale(f["y"])
    del f["y"]


def references(f):
    f.create_group("group/inner")["values"] = [1.0, 2.0]
    f.attrs["phase"] = f["unwrapPhase"].ref
    f.attrs["group"] = f["group/inner"].ref
    f.attrs["dropped"] = f["unwrapPhase_bridging"].ref
    f.attrs.create("several", [f["date"].ref, f["bperp"].ref], dtype=h5py.ref_dtype)
    f["group"].attrs["up"] = f.ref
    f["coherence"].attrs["window"] = f["unwrapPhase"].regionref[:, 2:5, 3:9]
    f["table"] = np.array([f["coherence"].ref, f["group"].ref, f["unwrapPhase_bridging"].ref], dtype=h5py.ref_dtype)
    f["windows"] = np.array([f["coherence"].regionref[0, :4]], dtype=h5py.regionref_dtype)
    f.create_dataset("empty", (3,), dtype=h5py.ref_dtype)


def lost_reference(f):
    f["gone"] = 1.0
    f.attrs["lost"] = f["gone"].ref
    f["table"] = np.array([f["gone"].ref], dtype=h5py.ref_dtype)
    del f["gone"]


def references_in_records(f):
    kind = np.dtype([("name", "S4"), ("what", h5py.ref_dtype)])
    f.create_dataset("records", (2,), dtype=kind)[0] = (b"date", f["date"].ref)
    f.attrs.create("record", np.array((b"date", f["date"].ref), dtype=kind), dtype=kind)
    f.create_dataset("lists", (1,), dtype=h5py.vlen_dtype(h5py.ref_dtype))


def links(f):
    f["alias"], f["same"] = h5py.SoftLink("/unwrapPhase"), f["coherence"]
    group = f.create_group("group")
    group["up"], group["near"], group["far"] = h5py.SoftLink("/coherence"), h5py.SoftLink("there"), f["bperp"]
    group["there"] = 3.0
    group["dropped"] = h5py.SoftLink("/unwrapPhase_bridging")
    group["nothing"], group["circle"] = h5py.SoftLink("/nowhere"), h5py.SoftLink("circle")
    group["root"], group["itself"] = h5py.SoftLink("/"), group


def other_files(f):
    with h5py.File(beside(f, "more.h5"), "w") as more:
        more["inside/values"], more["inside/again"] = np.arange(4.0), h5py.SoftLink("/inside/values")
        more["inside/home"] = h5py.ExternalLink("ifgramStack.h5", "/date")
    group = f.create_group("group")
    group["far"], group["value"] = (
        h5py.ExternalLink("more.h5", "/inside"),
        h5py.ExternalLink("more.h5", "inside/values"),
    )
    group["gone"], group["wrong"] = h5py.ExternalLink("gone.h5", "/x"), h5py.ExternalLink("more.h5", "/x")
    for name, file in (("virtual", "more.h5"), ("lost", "gone.h5")):
        layout = h5py.VirtualLayout((4,), float)
        layout[:] = h5py.VirtualSource(file, "inside/values", (4,))
        group.create_virtual_dataset(name, layout)
    for name in ("raw", "raw_gone"):
        group.create_dataset(name, data=np.arange(5.0), external=[(beside(f, name), 0, h5py.h5f.UNLIMITED)])
    os.unlink(beside(f, "raw_gone"))


def coherence_elsewhere(f):
    with h5py.File(beside(f, "more.h5"), "w") as more:
        f.copy("coherence", more)
        more["coherence"].attrs["unit"] = more["coherence"].ref
    del f["coherence"]
    f["coherence"] = h5py.ExternalLink("more.h5", "coherence")


def named_types(f):
    f["kind"] = np.dtype("f4")
    f.create_dataset("of_a_kind", data=np.arange(3, dtype="f4"), dtype=f["kind"])
    f.attrs.create("of_a_kind", 2.5, dtype=f["kind"])


CASES = [
    scales, scale_of_a_dropped_phase, lost_scale, references, lost_reference, references_in_records, links, other_files,
    coherence_elsewhere, named_types,
]  # fmt: skip


def everything(f):
    """Name and link of all that is in a file, each object once."""
    found = {}

    def visit(group, seen):
        for name in group:
            item, place = group[name], f"{group.name.rstrip('/')}/{name}"
            found[place] = item
            if isinstance(item, h5py.Group) and item not in seen:
                visit(item, [*seen, item])

    visit(f, [f])
    return found


def led(f, value):
    """Where references lead, as names."""
    values = [value] if isinstance(value, h5py.Reference) else np.ravel(value)
    return [f[v].name if v else None for v in values]


def check_whole(file, folder):
    """Alone in another directory, everything in the file can be opened and read, and leads somewhere in it."""
    folder.mkdir()
    with h5py.File(shutil.move(file, folder / "alone.h5")) as f:
        found = everything(f)  # a link to nothing is a KeyError
        for item in [f, *found.values()]:
            assert item.file.filename == f.filename
            for key, value in item.attrs.items():
                if h5py.check_ref_dtype(item.attrs.get_id(key).dtype):
                    assert None not in led(f, value), key
            if isinstance(item, h5py.Dataset):
                assert not item.is_virtual and not item.external
                for dimension in item.dims:
                    assert all(scale.name in found for scale in dimension.values())
                if item.dtype.kind != "O" or h5py.check_ref_dtype(item.dtype):
                    values = item[()]
                    assert not h5py.check_ref_dtype(item.dtype) or led(f, values) is not None
        return {place: item.name for place, item in found.items()}, read_all(found)


def read_all(found):
    return {
        place: item[()]
        for place, item in found.items()
        if isinstance(item, h5py.Dataset) and item.dtype.kind not in "OV" and item.name.strip("/") != "unwrapPhase"
    }


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def spoilt(request, project):
    with h5py.File(project / STACK, "r+") as f:
        request.param(f)
    return project


def corrected(project, out, status="corrected"):
    stack = open_stack(project / STACK)
    delay = delays(len(stack.dates), stack.shape)
    write_corrected_stack(stack, out, lambda rows: delay[:, rows], {"status": status}, 1.0)
    return out


@pytest.mark.parametrize("status", ["corrected", "uncorrected"])
def test_nothing_in_the_output_points_elsewhere(spoilt, tmp_path, status):
    before = tree(spoilt)
    _, values = check_whole(corrected(spoilt, tmp_path / "out.h5", status), tmp_path / "elsewhere")
    assert tree(spoilt) == before
    with h5py.File(spoilt / STACK) as f:
        for name in ("date", "bperp", "dropIfgram", "coherence", "connectComponent"):
            np.testing.assert_array_equal(values[f"/{name}"], f[name][()])
    assert open_stack(spoilt / STACK).attributes.keys() & {"phase", "several", "lost", "record"} == set()


def test_a_geometry_that_points_elsewhere_is_copied_by_value(project, tmp_path):
    """Byte by byte where it need not be more; else as the stack is, with its time."""
    geometry = project / "inputs" / "geometryGeo.h5"
    copy_file(geometry, tmp_path / "plain.h5")
    assert (tmp_path / "plain.h5").read_bytes() == geometry.read_bytes()
    with h5py.File(geometry, "r+") as f:
        height = f["height"][:]
        with h5py.File(beside(f, "dem.h5"), "w") as dem:
            dem["height"] = height
        del f["height"]
        layout = h5py.VirtualLayout(height.shape, height.dtype)
        layout[:] = h5py.VirtualSource("dem.h5", "height", height.shape)
        f.create_virtual_dataset("height", layout)
        f["dem"] = h5py.ExternalLink("dem.h5", "/")
    os.utime(geometry, (1e9, 1e9))
    copy_file(geometry, tmp_path / "copy.h5")
    assert (tmp_path / "copy.h5").stat().st_mtime == 1e9
    with h5py.File(geometry) as old, h5py.File(tmp_path / "copy.h5") as new:
        assert dict(old.attrs) == dict(new.attrs)
    _, values = check_whole(tmp_path / "copy.h5", tmp_path / "elsewhere")
    np.testing.assert_array_equal(values["/height"], height)


def test_scales_and_references_lead_to_the_copies(project, tmp_path):
    with h5py.File(project / STACK, "r+") as f:
        scales(f)
        references(f)
    with h5py.File(corrected(project, tmp_path / "out.h5")) as f:
        for name in ("unwrapPhase", "coherence"):
            assert [[s.name for s in d.values()] for d in f[name].dims] == [["/pair"], [], ["/x"]]
            assert f[name].dims[0].label == "time" and list(f["x"].dims) is not None
        assert f["alone"].is_scale and f["x"].is_scale
        assert led(f, f.attrs["phase"]) == ["/unwrapPhase"] and led(f, f.attrs["group"]) == ["/group/inner"]
        assert led(f, f.attrs["several"]) == ["/date", "/bperp"] and "dropped" not in f.attrs
        assert led(f, f["group"].attrs["up"]) == ["/"] and led(f, f["table"][:]) == ["/coherence", "/group", None]
        window = f["coherence"].attrs["window"]
        assert f[window].name == "/unwrapPhase" and f["unwrapPhase"].regionref.selection(window)[1:] == (3, 6)
        assert f["coherence"].regionref.selection(f["windows"][0]) == (1, 4, 40)


def test_links_stay_links_and_the_rest_of_other_files_comes_along(project, tmp_path):
    with h5py.File(project / STACK, "r+") as f:
        links(f)
        other = {**{"/alias": "/unwrapPhase", "/same": "/coherence", "/group/up": "/coherence"}}
        del f["group/itself"]
        f.move("group", "first")
        other_files(f)
    out = corrected(project, tmp_path / "out.h5")
    with h5py.File(out) as f:
        assert f["alias"] == f["unwrapPhase"] and f["same"] == f["coherence"] == f["first/up"]
        assert isinstance(f.get("alias", getlink=True), h5py.SoftLink) and len(other) == 3
        assert set(f["first"]) == {"up", "near", "far", "there", "root"} and f["first/near"][()] == 3
        assert set(f["group"]) == {"far", "value", "virtual", "raw"} and f["group/far/home"] == f["date"]
        assert f["group/virtual"][:].tolist() == f["group/value"][:].tolist() == [0, 1, 2, 3]
        assert f["group/raw"][:].tolist() == [0, 1, 2, 3, 4]


def test_what_is_left_out_is_said(project, tmp_path, caplog):
    with h5py.File(project / STACK, "r+") as f:
        other_files(f)
    corrected(project, tmp_path / "out.h5")
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert message.endswith("/group/gone, /group/lost, /group/raw_gone, /group/wrong.") and STACK in message


@pytest.mark.parametrize("dataset", ["missing", "of a file that lost its own"])
def test_a_stack_whose_source_is_not_whole_is_refused(project, dataset):
    with h5py.File(project / STACK, "r+") as f:
        shape = f["coherence"].shape
        del f["coherence"]
        with h5py.File(beside(f, "more.h5"), "w") as more:
            if dataset != "missing":
                layout = h5py.VirtualLayout(shape, "f4")
                layout[:] = h5py.VirtualSource("gone.h5", "coherence", shape)
                more.create_virtual_dataset("coherence", layout)
        layout = h5py.VirtualLayout(shape, "f4")
        layout[:] = h5py.VirtualSource("more.h5", "coherence", shape)
        f.create_virtual_dataset("coherence", layout)
    with pytest.raises(InputError, match=r"coherence is a virtual dataset, and its source (more|gone).h5 is gone"):
        open_stack(project / STACK)


def test_a_change_in_another_file_is_noticed(project):
    """With --update, and at the end of a run: the stack itself is as it was."""
    with h5py.File(project / STACK, "r+") as f:
        coherence_elsewhere(f)
    job = prepare(project / STACK)
    first = job.fingerprint({})
    assert job.fingerprint(first) == first
    with h5py.File(project / "inputs" / "more.h5", "r+") as f:
        f["coherence"][0] *= 0.5
    assert job.fingerprint(first)["stack_sha256"] == content_hash(project / STACK) != first["stack_sha256"]
    with pytest.raises(InputError, match="was changed by another program during the run"):
        job.check_unchanged(first)
