"""What users do with the results: MintPy's own programs on the corrected directory, in map and radar coordinates."""

import importlib
import shutil
from dataclasses import dataclass
from pathlib import Path

import h5py
import matplotlib.pyplot as plt
import numpy as np
import pytest

from conftest import read

COORDS = ["mapped", "radar"]


def mintpy_s(name, *arguments):
    """One of MintPy's programs, in this process."""
    plt.close("all")  # each of them runs in a process of its own otherwise
    importlib.import_module(f"mintpy.cli.{name}").main([str(a) for a in arguments])


@dataclass
class Place:
    """A copy of a corrected directory, as the current directory."""

    work: Path
    template: Path
    geo: bool

    @property
    def velocity(self):
        """In map coordinates."""
        return self.work / ("velocity.h5" if self.geo else "geo/geo_velocity.h5")


_COPIES: dict = {}


@pytest.fixture(params=COORDS)
def place(request, tmp_path_factory, monkeypatch):
    run = request.getfixturevalue(request.param)
    if request.param not in _COPIES:
        _COPIES[request.param] = Path(shutil.copytree(run.work, tmp_path_factory.mktemp("down") / "WORK_vae"))
    work = _COPIES[request.param]
    monkeypatch.chdir(work)
    return Place(work, work / run.template.name, request.param == "mapped")


def is_picture(file):
    return file.is_file() and file.stat().st_size > 3000 and file.read_bytes()[:4] in (b"\x89PNG", b"%PDF")


# ------------------------------------------------------------------------------------------------------------- looking
@pytest.mark.parametrize(
    "file, said",
    [
        ("inputs/ifgramStack.h5", ["atmos_correct_method", "unwrapPhase", "vae.complete"]),
        ("inputs/VAE.h5", ["timeseries", "UNIT"]),
        ("vae_std.h5", ["timeseries", "UNIT"]),
        ("timeseries.h5", ["timeseries"]),
        ("velocity.h5", ["velocity"]),
    ],
)
def test_info(place, capsys, file, said):
    mintpy_s("info", file)
    printed = capsys.readouterr().out
    assert all(word in printed for word in said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["inputs/ifgramStack.h5", "unwrapPhase-20180103_20180115"],
        ["inputs/ifgramStack.h5", "coherence-20180103_20180115"],
        ["inputs/VAE.h5", "--noaxis"],
        ["vae_std.h5", "--noaxis"],
        ["velocity_vae_std.h5", "velocityStd"],
        ["timeseries.h5", "--noaxis"],
        ["velocity.h5", "velocity", "-u", "mm", "-m", "maskTempCoh.h5"],
    ],
)
def test_view(place, tmp_path, arguments):
    mintpy_s("view", *arguments, "--nodisplay", "--noverbose", "--dpi", 60, "-o", tmp_path / "picture.png")
    assert is_picture(tmp_path / "picture.png")


@pytest.mark.parametrize("file", ["timeseries.h5", "inputs/VAE.h5", "vae_std.h5"])
def test_tsview(place, tmp_path, file):
    mintpy_s("tsview", file, "--yx", 30, 20, "--nodisplay", "--save", "--noverbose", "-o", tmp_path / "point")
    assert len(list(tmp_path.glob("point*"))) >= 3  # figures and text
    text = np.loadtxt(next(tmp_path.glob("point*.txt")), usecols=1)
    series = read(place.work / file, "timeseries")[:, 30, 20]
    assert len(text) == len(series) and np.ptp(text) > 0


def test_plot_network(place, capsys):
    mintpy_s("plot_network", "inputs/ifgramStack.h5", "--nodisplay", "-d", "coherence")
    assert all(is_picture(place.work / f"{name}.pdf") for name in ("network", "coherenceMatrix", "pbaseHistory"))


# ------------------------------------------------------------------------------------------------------------ exporting
def test_geocode(radar, tmp_path):
    source = radar.work / "velocity.h5"
    arguments = ["-l", radar.work / "inputs" / "geometryRadar.h5", "--lalo-step", -0.001, 0.001, "--outdir", tmp_path]
    mintpy_s("geocode", source, *arguments)
    geocoded, before = read(tmp_path / "geo_velocity.h5", "velocity"), read(source, "velocity")
    with h5py.File(tmp_path / "geo_velocity.h5") as f:
        assert "Y_FIRST" in f.attrs
    seen = geocoded[np.isfinite(geocoded) & (geocoded != 0)]
    assert np.isin(seen, before).all() and len(np.unique(seen)) > 0.5 * len(np.unique(before))


def test_save_kmz(place, tmp_path):
    mintpy_s("save_kmz", place.velocity, "velocity", "-o", tmp_path / "velocity.kmz")
    assert (tmp_path / "velocity.kmz").read_bytes()[:2] == b"PK"


def test_save_hdfeos5(place):
    """The step made it; it holds the corrected series and says how it was corrected."""
    (file,) = place.work.glob("*.he5")
    with h5py.File(file) as f:
        assert f.attrs["atmos_correct_method"] == "VAE"
        displacement = f["HDFEOS/GRIDS/timeseries/observation/displacement"][:]
    if place.geo:
        np.testing.assert_allclose(displacement, read(place.work / "timeseries_demErr.h5", "timeseries"), atol=1e-6)
    assert np.nanmax(np.abs(displacement)) > 0.001


@pytest.mark.parametrize("place", ["mapped", pytest.param("radar", marks=pytest.mark.slow)], indirect=True)
def test_the_plots_of_smallbaselineapp(place):
    with open(place.template, "a") as f:
        f.write("mintpy.plot = yes\nmintpy.plot.dpi = 40\n")
    mintpy_s("smallbaselineApp", place.template, "--dir", place.work, "--dostep", "google_earth", "--plot")
    found = {p.name for p in (place.work / "pic").iterdir() if p.suffix in (".png", ".pdf")}
    wanted = {
        "velocity.png",
        "unwrapPhase.png",
        "coherence.png",
        "timeseries.png",
        "maskTempCoh.png",
        "avgSpatialCoh.png",
    }
    assert not {name for name in wanted if not any(f.endswith(name) or f.startswith(name[:-4]) for f in found)}
    assert all(is_picture(place.work / "pic" / name) for name in found)
