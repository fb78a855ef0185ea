"""A wide scene through the whole job: cells of one size, tiles, files and report like those of any other."""

import json
import shutil

import h5py
import numpy as np
import pytest

from conftest import make_simulated, read, shortened, tree
from mintpy_vae import correct
from mintpy_vae.errors import InputError
from mintpy_vae.evaluation.rerun import Rerun
from mintpy_vae.method import observations
from mintpy_vae.method.inversion import closure
from mintpy_vae.settings import Settings
from mintpy_vae.workflow.job import prepare

WIDE = "vae.trainSteps = 10\nvae.numSeed = 1\nvae.resolution = 0.1\n"


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """A project whose cells are its pixels and whose whole scene is worked on in 3 x 3 of them, and its result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observations, "LARGEST", 330)
        template = make_simulated(tmp_path_factory.mktemp("wide") / "WORK", text=WIDE, unwrap_errors=0)
        before = tree(template.parent)
        stack = template.parent / "inputs" / "ifgramStack.h5"
        done = correct(stack, template_file=template, invert=False)
        assert tree(template.parent) == before
        yield stack, template, done


def test_every_output_is_there_and_the_tiles_are_recorded(wide):
    stack, _, done = wide
    details = json.loads((done.work_dir / "vae_result.json").read_text())
    assert done.status == "corrected" and details["training_grid"] == [16, 20]
    assert details["cells"] == [48, 60] and details["tiles"] == 4
    land = np.isfinite(read(done.work_dir / "vae_std.h5", "timeseries")).all(axis=0)
    assert land.all() and np.isfinite(read(done.work_dir / "velocity_vae_std.h5", "velocityStd")).all()
    assert (done.work_dir / "vae_report.html").stat().st_size > 1e6
    assert not [text for text in done.warnings if "could not be written" in text]


def test_the_correction_closes_and_is_that_of_the_delay_file(wide):
    stack, _, done = wide
    corrected = done.work_dir / "inputs" / "ifgramStack.h5"
    delay = read(done.work_dir / "inputs" / "VAE.h5", "timeseries").astype(np.float64)
    with h5py.File(stack) as f:
        names, wavelength = f["date"][:].astype(str), float(f.attrs["WAVELENGTH"])
    dates, pairs = np.unique(names, return_inverse=True)
    pairs = pairs.reshape(names.shape)
    phase, new = (read(file, "unwrapPhase").astype(np.float64) for file in (stack, corrected))
    seen = (phase != 0).all(axis=0)
    removed = np.where(phase != 0, phase - new, 0.0)[:, seen]
    assert np.abs(closure(removed, pairs)).max() < 1e-3
    expected = -4 * np.pi / wavelength * (delay[pairs[:, 1]] - delay[pairs[:, 0]])[:, seen]
    np.testing.assert_allclose(np.abs(removed - expected).max(), 0, atol=2e-3)


def test_an_injected_motion_goes_through_the_tiles(wide):
    stack, template, _ = wide
    job = prepare(stack, template_file=template)
    rerun = Rerun(job)
    assert rerun.data.cells is not None and rerun.data.cells.ratio == 3
    plain = rerun.plain
    motion = np.zeros((len(rerun.dates), *plain.valid.shape))
    motion[len(motion) // 2 :, 6:9, 6:9] = 0.1
    moved = rerun(motion, network=plain.network)
    difference = (moved.corrected - plain.corrected)[:, motion[-1][plain.valid] > 0]
    assert np.abs(difference[-1] - difference[0]).mean() > 0.5 * 0.1 * 4 * np.pi / job.stack.wavelength


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    """A wide project with its first 16 dates corrected, whose stack has two more since; project and result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(observations, "LARGEST", 330)
        template = make_simulated(tmp_path_factory.mktemp("grown") / "WORK", n_dates=18, text=WIDE, unwrap_errors=0)
        stack = template.parent / "inputs" / "ifgramStack.h5"
        whole = shutil.copy(stack, template.parents[1] / "all.h5")
        shortened(stack, 16)
        work = correct(stack, template_file=template, invert=False).work_dir
        shutil.copy(whole, stack)
        yield template.parent, work


@pytest.fixture
def case(grown, tmp_path, monkeypatch):
    """A copy of one's own: stack, template and result."""
    monkeypatch.setattr(observations, "LARGEST", 330)
    project, work = (shutil.copytree(p, tmp_path / p.name) for p in grown)
    return project / "inputs" / "ifgramStack.h5", next(project.glob("*.txt")), work


def test_new_dates_are_added_tile_by_tile_and_earlier_ones_keep_their_bytes(case, grown):
    (stack, template, work), before = case, grown[1]
    done = correct(stack, template_file=template, invert=False, update=True, only_new=True)
    new = done.details["update"]["new_dates"]
    assert len(new) == 2 and len(list((work / "vae_tiles").iterdir())) == done.details["tiles"] == 4
    old, phase = (read(d / "inputs/ifgramStack.h5", "unwrapPhase") for d in (before, work))
    names = [read(d / "inputs/ifgramStack.h5", "date").tolist() for d in (before, work)]
    np.testing.assert_array_equal(phase[[names[1].index(name) for name in names[0]]], old)
    noise = [done.details["noise_per_date_mm"][date] for date in new]
    assert all(after < 0.6 * raw for raw, after in noise) and not done.details["update"]["alarms"]
    delay = read(work / "inputs/VAE.h5", "timeseries")
    np.testing.assert_array_equal(delay[:16], read(before / "inputs/VAE.h5", "timeseries"))
    std = read(work / "vae_std.h5", "timeseries")
    assert np.isfinite(std).all() and (std[16:] > 0).all()
    # the atmosphere of the new dates has the detail of the tiles: it differs between neighbouring cells of a coarse one
    fine = np.abs(np.diff(delay[:, :, 1:3], axis=2)).mean(axis=(1, 2))
    assert fine[16:].min() > 0.3 * np.median(fine[1:16])


@pytest.mark.parametrize("damage", ["lost", "cut off", "of another run"])
def test_without_what_a_tile_remembers_nothing_is_added(case, damage):
    stack, template, work = case
    tile = work / "vae_tiles" / "00001.h5"
    if damage == "lost":
        tile.unlink()
    elif damage == "cut off":
        tile.write_bytes(tile.read_bytes()[:3000])
    else:
        with h5py.File(tile, "r+") as f:
            dates = f["dates"][:]
            del f["dates"]
            f["dates"] = dates[:-1]
    before = tree(work)
    with pytest.raises(InputError, match="cannot be extended by new dates alone, because .*"):
        correct(stack, template_file=template, invert=False, update=True, only_new=True)
    assert tree(work) == before
    if damage == "cut off":  # found out when other tiles had been written
        done = correct(stack, template_file=template, invert=False, update=True)
        assert "update" not in done.details and len(list((work / "vae_tiles").iterdir())) == done.details["tiles"]


def test_a_full_disk_at_a_tile_costs_only_the_updates(case, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    stack, template, work = case
    monkeypatch.setattr("mintpy_vae.workflow.update.write_tile", full)
    done = correct(stack, template_file=template, invert=False)
    assert done.status == "corrected" and not (work / "vae_tiles").exists()
    assert [text for text in done.warnings if text.startswith("What new dates need could not be written")]


@pytest.mark.parametrize(
    ("line", "wanted"), [("vae.coarsePixels = 900", "vae.resolution"), ("vae.resolution = -1", "0 to")]
)
def test_the_option_of_before_is_named_and_sizes_are_checked(wide, line, wanted):
    stack, template, _ = wide
    other = template.with_name("other.txt")
    other.write_text(template.read_text().replace("vae.resolution = 0.1\n", line + "\n"))
    with pytest.raises(InputError, match=wanted) as said:
        prepare(stack, template_file=other)
    other.unlink()
    assert "\n" not in str(said.value)
    assert Settings.from_template({"vae.coarsePixels": "auto"}) == Settings()  # as an older smallbaselineApp.cfg has it
