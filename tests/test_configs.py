"""The templates in ``configs/``: MintPy reads them, knows every option of its own in them, and we every one of ours."""

from pathlib import Path

import mintpy
import pytest
from mintpy.objects import RAMP_LIST
from mintpy.utils import readfile
from mintpy.utils import utils as ut

from mintpy_vae import Settings
from mintpy_vae.cli.vae_smallbaselineApp import main
from mintpy_vae.project.options import HEADER, section

CONFIGS = Path(__file__).parents[1] / "configs"
SITES = ("MashhadSenDT93", "TehranSenAT78", "AcapulcoSenAT58")
DEFAULTS = readfile.read_template(str(Path(mintpy.__file__).with_name("defaults") / "smallbaselineApp.cfg"))
TEMPLATES = sorted(p.name for p in CONFIGS.iterdir())
ATMOSPHERE = {"mintpy.troposphericDelay.method", "mintpy.troposphericDelay.weatherModel", "mintpy.deramp"}


def options(name):
    return readfile.read_template(str(CONFIGS / name))


def test_every_site_has_both_workflows():
    assert set(TEMPLATES) == {"mintpy_vae.cfg", *(f"{site}_{flow}.txt" for site in SITES for flow in ("era5", "vae"))}


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_option_is_known(name):
    text = (CONFIGS / name).read_text()
    found = options(name)
    assert found and all(key.startswith(("mintpy.", "vae.")) for key in found)
    assert {key for key in found if key.startswith("mintpy.")} <= set(DEFAULTS)
    Settings.from_template(found)
    assert text.isascii() and max(map(len, text.splitlines())) < 130


def test_the_section_is_written_from_the_settings():
    """After a change of the settings: python -m mintpy_vae.project.options > configs/mintpy_vae.cfg."""
    assert (CONFIGS / "mintpy_vae.cfg").read_text() == HEADER + section()


@pytest.mark.parametrize("site", SITES)
def test_the_workflows_differ_in_the_atmosphere_only(site):
    era5, vae = options(f"{site}_era5.txt"), options(f"{site}_vae.txt")
    differing = {key for key in set(era5) | set(vae) if era5.get(key) != vae.get(key)}
    assert {key for key in differing if key.startswith("mintpy.")} == ATMOSPHERE
    assert (
        era5["mintpy.troposphericDelay.method"] == "pyaps" and era5["mintpy.troposphericDelay.weatherModel"] == "ERA5"
    )
    assert era5["mintpy.deramp"] == "linear_range" and era5["mintpy.deramp"] in RAMP_LIST
    assert not [key for key in era5 if key.startswith("vae.")]
    assert vae["mintpy.troposphericDelay.method"] == vae["mintpy.deramp"] == "no"
    assert vae["mintpy.load.processor"] == "hyp3"


def test_the_period_of_each_site():
    found = {site: options(f"{site}_vae.txt") for site in SITES}
    period = {
        site: (t["mintpy.network.startDate"], t["mintpy.network.endDate"], t.get("mintpy.network.tempBaseMax"))
        for site, t in found.items()
    }
    assert period == {
        "MashhadSenDT93": ("20150101", "20211231", None),
        "TehranSenAT78": ("20180101", "20211231", None),
        "AcapulcoSenAT58": ("20210101", "20220430", "24"),
    }
    assert found["AcapulcoSenAT58"]["mintpy.timeFunc.stepDate"] == "20210908"


@pytest.mark.parametrize("name", [name for name in TEMPLATES if name.endswith(".txt")])
def test_mintpy_takes_every_option_over(tmp_path, capsys, name):
    main(["-g", str(CONFIGS / name), "--dir", str(tmp_path)])
    taken = readfile.read_template(str(tmp_path / "smallbaselineApp.cfg"))
    assert {key: taken[key] for key in options(name)} == options(name)
    assert ut.check_template_auto_value(taken)["mintpy.plot"] is True
