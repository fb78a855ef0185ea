import os
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from mintpy.utils import readfile

from mintpy_vae.errors import InputError
from mintpy_vae.project import steps, templates, work_dir
from mintpy_vae.stack import file_hash, open_stack, write_corrected_stack, write_delay_file
from tiny import VARIANT, WAVELENGTH, delays, make_project

SIZE = (30, 40)
N_DATES = 9
REAL = Path(__file__).parents[3] / "shared" / "data" / "mexico_city_s1"

TEMPLATE = """# my project: nothing of this may be lost
mintpy.load.processor           = isce
mintpy.load.updateMode          = no   # reload
mintpy.reference.yx             = 3,5
mintpy.troposphericDelay.method = pyaps  # [pyaps / no], from ERA5
#mintpy.troposphericDelay.method = gacos
mintpy.topographicResidual      = no
mintpy.deramp                   = {deramp}
mintpy.plot                     = no
vae.seed                        = 3
my.own.key                      = $HOME
"""


def tree(root):
    return {str(p.relative_to(root)): file_hash(p) for p in sorted(root.rglob("*")) if p.is_file()}


def rows_of(array):
    return lambda rows: array[:, rows]


def read(file, name):
    with h5py.File(file) as f:
        return f[name][:]


def make(tmp_path, template=TEMPLATE, **how):
    """A project, its template, its stack and the place for the corrected one (no 'geo' in its path)."""
    project = make_project(tmp_path / "WORK", **how)
    file = project / "WORK.txt"
    file.write_text(template.replace("{deramp}", "no"))
    options = templates.read_templates(project, file)
    return project, file, open_stack(project / "inputs" / "ifgramStack.h5", template=options), tmp_path / "WORK_vae"


def correct(stack, work, delay, **provenance):
    write_corrected_stack(stack, work / "inputs" / "ifgramStack.h5", rows_of(delay), provenance, 1.0)


def smallbaseline(command):
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(command, shell=True, capture_output=True, text=True, env={**os.environ, "PATH": path})


# ----------------------------------------------------------------------------------------------------------- templates
def test_the_custom_template_beats_the_default_one(tmp_path):
    (tmp_path / "smallbaselineApp.cfg").write_text("mintpy.deramp = linear\nmintpy.reference.yx = auto\n")
    custom = tmp_path / "mine.txt"
    custom.write_text("mintpy.deramp = quadratic # best\nvae.seed = 4\nmintpy.save.hdfEos5 = on\n")
    assert templates.read_templates(tmp_path) == {"mintpy.deramp": "linear", "mintpy.reference.yx": "auto"}
    both = templates.read_templates(tmp_path, custom)
    assert both["mintpy.deramp"] == "quadratic" and both["mintpy.reference.yx"] == "auto" and both["vae.seed"] == "4"
    assert both["mintpy.save.hdfEos5"] == "yes"
    assert templates.read_templates(tmp_path / "nothing") == {}


def test_a_bad_template_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        templates.read_templates(tmp_path, tmp_path / "none.txt")
    (tmp_path / "binary.txt").write_bytes(b"\xff\xfe\x00=\x81")
    with pytest.raises(InputError, match="cannot be read as text"):
        templates.read_templates(tmp_path, tmp_path / "binary.txt")


def test_the_copy_differs_in_two_lines_only(tmp_path):
    project, file, stack, work = make(tmp_path)
    copy = work_dir.fill_work_dir(stack, project, work, file)
    assert copy == work / "WORK.txt"
    old, new = file.read_text().splitlines(), copy.read_text().splitlines()
    assert [pair for pair in zip(old, new, strict=True) if pair[0] != pair[1]] == [
        ("mintpy.load.updateMode          = no   # reload", "mintpy.load.updateMode          = yes   # reload"),
        (
            "mintpy.troposphericDelay.method = pyaps  # [pyaps / no], from ERA5",
            "mintpy.troposphericDelay.method = no  # [pyaps / no], from ERA5",
        ),
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "mintpy.troposphericDelay.method = no\n"),
        ("a = b", "a = b\nmintpy.troposphericDelay.method = no\n"),
        ("a = b\r\n", "a = b\r\nmintpy.troposphericDelay.method = no\r\n"),
        ("  mintpy.troposphericDelay.method=auto\t#x\r\n", "  mintpy.troposphericDelay.method=no\t#x\r\n"),
        ("mintpy.troposphericDelay.method =\n", "mintpy.troposphericDelay.method =no\n"),
        ("mintpy.troposphericDelay.method = a\n" * 2, "mintpy.troposphericDelay.method = no\n" * 2),
        (
            "mintpy.load.updateMode = auto\nmintpy.troposphericDelay.method = no\n# Köln\n",
            "mintpy.load.updateMode = auto\nmintpy.troposphericDelay.method = no\n# Köln\n",
        ),
    ],
)
def test_any_template_ends_with_the_troposphere_off(tmp_path, text, expected):
    project, file, stack, work = make(tmp_path)
    file.write_bytes(text.encode("latin1"))
    copy = work_dir.fill_work_dir(stack, project, work, None)  # reading it is MintPy's affair
    copy.unlink()
    file.write_bytes(text.encode("utf8"))
    copy = work_dir.fill_work_dir(stack, project, work, file)
    assert copy.read_bytes() == expected.encode("utf8")
    assert readfile.read_template(str(copy))["mintpy.troposphericDelay.method"] == "no"


def test_without_custom_template_the_default_one_or_a_new_one_serves(tmp_path):
    project, file, stack, work = make(tmp_path)
    copy = work_dir.fill_work_dir(stack, project, work)
    assert copy == work / "WORK.txt" and readfile.read_template(str(copy)) == {
        "mintpy.load.processor": "isce",
        "mintpy.troposphericDelay.method": "no",
    }
    shutil.rmtree(work)
    file.rename(project / "smallbaselineApp.cfg")
    for given in (None, project / "smallbaselineApp.cfg"):
        copy = work_dir.fill_work_dir(stack, project, work, given)
        assert copy == work / "smallbaselineApp.cfg" and not (work / "WORK.txt").exists()
    custom = tmp_path / "other.txt"
    custom.write_text("mintpy.plot = no\n")
    assert work_dir.fill_work_dir(stack, project, work, custom) == work / "other.txt"
    for name in ("smallbaselineApp.cfg", "other.txt"):
        assert readfile.read_template(str(work / name))["mintpy.troposphericDelay.method"] == "no"


# ------------------------------------------------------------------------------------------------------ work directory
def test_only_what_stays_valid_is_copied(tmp_path):
    named = TEMPLATE + "mintpy.deramp.maskFile = masks/my mask.h5\nmintpy.network.maskFile = ../outside.h5\n"
    project, file, stack, work = make(tmp_path, named + "mintpy.residualRMS.maskFile = maskTempCoh.h5\n", coord="radar")
    (project / "masks").mkdir()
    (tmp_path / "outside.h5").write_text("out")
    kept = ["avgSpatialCoh.h5", "maskConnComp.h5", "waterMask.h5", "masks/my mask.h5"]
    for name in kept + ["timeseries.h5", "velocity.h5", "maskTempCoh.h5", "inputs/ERA5.h5", "inputs/ionStack.h5"]:
        (project / name).write_text(name)
    (project / "geo").mkdir()
    (project / "geo" / "geo_velocity.h5").write_text("old")
    shutil.copy(project / "inputs" / "geometryRadar.h5", project / "inputs" / "geometryGeo.h5")  # the lookup table
    before = tree(project)
    work_dir.fill_work_dir(stack, project, work, file)
    found = tree(work)
    assert set(found) == {*kept, "inputs/geometryRadar.h5", "inputs/geometryGeo.h5", "WORK.txt"}
    assert all(found[name] == before[name] for name in found if name != "WORK.txt")
    assert tree(project) == before
    assert not any(p.is_symlink() or p.stat().st_nlink > 1 for p in work.rglob("*.h5"))


def test_a_geometry_from_elsewhere_gets_the_name_that_mintpy_looks_for(tmp_path):
    project, file, stack, work = make(tmp_path)
    dem = tmp_path / "dem.h5"
    shutil.copy(stack.geometry_file, dem)
    with h5py.File(dem, "r+") as f:
        f["height"][:] = 5
    link = tmp_path / "link.h5"
    link.symlink_to(dem)
    work_dir.fill_work_dir(open_stack(stack.file, link), project, work, file)
    assert os.listdir(work / "inputs") == ["geometryGeo.h5"]
    assert file_hash(work / "inputs" / "geometryGeo.h5") == file_hash(dem)
    assert not (work / "inputs" / "geometryGeo.h5").is_symlink()


def test_a_bad_place_is_refused(tmp_path):
    project, file, stack, work = make(tmp_path, TEMPLATE + "mintpy.save.hdfEos5 = yes\n")
    before = tree(tmp_path)
    with pytest.raises(InputError, match="is the original project"):
        work_dir.fill_work_dir(stack, project, project, file)
    with pytest.raises(InputError, match="contains the letters 'geo'"):
        work_dir.fill_work_dir(stack, project, tmp_path / "geodesy" / "WORK_vae", file)
    with pytest.raises(InputError, match="could not be filled"):
        work_dir.fill_work_dir(stack, project, file, file)
    assert tree(tmp_path) == before
    work_dir.fill_work_dir(stack, project, work, file)


def test_the_next_command_survives_the_shell(tmp_path):
    command = steps.next_command(tmp_path / "a b", tmp_path / "it's $HOME.txt")
    arguments = subprocess.run(f"printf '%s\\n' {command}", shell=True, capture_output=True, text=True).stdout
    expected = ["smallbaselineApp.py", str(tmp_path / "it's $HOME.txt"), "--dir", str(tmp_path / "a b")]
    assert arguments.splitlines() == [*expected, "--start", "velocity"]


# ------------------------------------------------------------------------------------------------------- MintPy itself
def test_corrected_again_inverted_again(tmp_path):
    """Velocity follows the correction, the second one too; both templates serve; the original stays as it is."""
    project, file, stack, work = make(tmp_path, TEMPLATE.replace("pyaps", "no"))
    before, cwd = tree(project), os.getcwd()
    copy = work_dir.fill_work_dir(stack, project, work, file)
    series, velocity = [], []
    delay = delays(N_DATES, SIZE)
    for template, scale in ((copy, 0.0), (file, 1.0), (copy, 2.0)):
        correct(stack, work, scale * delay)
        steps.run_to_reference_date(work, template)
        assert os.getcwd() == cwd
        series.append(read(work / "timeseries.h5", "timeseries"))
        if not scale:
            continue
        done = smallbaseline(steps.next_command(work, template))
        assert done.returncode == 0 and "Normal end" in done.stdout, done.stdout[-1500:] + done.stderr[-1500:]
        velocity.append(read(work / "velocity.h5", "velocity"))
    # What is inverted is linear in the correction: displacement = -phase * wavelength / 4 pi.
    y, x = stack.ref_yx
    relative = delay - delay[:, y, x][:, None, None]
    expected = (relative - relative[:1]) * WAVELENGTH / (4 * np.pi)
    data = np.any(series[0] != 0, axis=0)
    assert data.mean() > 0.8
    np.testing.assert_allclose((series[1] - series[0])[:, data], expected[:, data], atol=1e-6)
    np.testing.assert_allclose((series[2] - series[0])[:, data], 2 * expected[:, data], atol=1e-6)
    assert np.nanmax(np.abs(velocity[1] - velocity[0])) > 1e-3
    assert tree(project) == before


def test_delay_file_and_corrected_stack_agree(tmp_path):
    from mintpy.cli import diff

    project, file, stack, work = make(tmp_path)
    delay = delays(N_DATES, SIZE)
    template = work_dir.fill_work_dir(stack, project, work, file)
    series = []
    for scale in (0.0, 1.0):
        correct(stack, work, scale * delay)
        steps.run_to_reference_date(work, template)
        series.append(str(shutil.copy(work / "timeseries.h5", tmp_path / f"timeseries_{scale:.0f}.h5")))
    write_delay_file(stack, tmp_path / "VAE.h5", rows_of(delay), 1.0)
    diff.main([series[0], str(tmp_path / "VAE.h5"), "-o", str(tmp_path / "difference.h5"), "--force"])
    a, b = read(tmp_path / "difference.h5", "timeseries"), read(series[1], "timeseries")
    data = np.any(b != 0, axis=0)
    np.testing.assert_allclose(a[:, data], b[:, data], atol=1e-6)


@pytest.mark.parametrize("connect", [False, True])
def test_a_stack_after_unwrapping_errors_were_corrected(tmp_path, connect):
    """MintPy finds the corrected phase under the name it looks for, and data at the reference pixel."""
    text = TEMPLATE + "mintpy.unwrapError.method = bridging\n"
    project, file, stack, work = make(tmp_path, text, unwrap_method="bridging", connect=connect)
    assert stack.phase_name == VARIANT["bridging"]
    template = work_dir.fill_work_dir(stack, project, work, file)
    series = []
    delay = delays(N_DATES, SIZE)
    delay[:, stack.ref_yx[0], stack.ref_yx[1]] = 0  # the hardest case: nothing to correct at the reference pixel
    for scale in (0.0, 1.0):
        correct(stack, work, scale * delay)
        steps.run_to_reference_date(work, template)
        series.append(read(work / "timeseries.h5", "timeseries"))
    data = np.any(series[0] != 0, axis=0)
    expected = (delay - delay[:1]) * WAVELENGTH / (4 * np.pi)
    np.testing.assert_allclose((series[1] - series[0])[:, data], expected[:, data], atol=1e-6)


def test_radar_coordinates_without_reference_point_to_the_end(tmp_path):
    """From selecting the reference point to HDF-EOS5, with everything on but the plots."""
    text = TEMPLATE.replace("mintpy.reference.yx             = 3,5\n", "") + "mintpy.save.hdfEos5 = yes\n"
    project, file, stack, work = make(tmp_path, text, coord="radar", reference=False, water=True)
    before = tree(project)
    template = work_dir.fill_work_dir(stack, project, work, file)
    correct(stack, work, 0.1 * delays(N_DATES, SIZE))
    selected = steps.ensure_reference_point(work, template)
    assert steps.ensure_reference_point(work, template) == selected
    steps.run_to_reference_date(work, template)
    with h5py.File(work / "inputs" / "ifgramStack.h5") as f:
        assert (int(f.attrs["REF_Y"]), int(f.attrs["REF_X"])) == selected
    done = smallbaseline(steps.next_command(work, template))
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    assert list(work.glob("*.he5")) and (work / "geo" / "geo_velocity.h5").is_file()
    assert tree(project) == before


def test_what_mintpy_complains_about_is_passed_on(tmp_path):
    project, file, stack, work = make(tmp_path, TEMPLATE + "mintpy.networkInversion.minNumPixel = 1e6\n")
    template = work_dir.fill_work_dir(stack, project, work, file)
    cwd = os.getcwd()
    with pytest.raises(InputError, match=r"MintPy failed .*modify_network.*ifgramStack\.h5"):
        steps.run_to_reference_date(work, template)  # there is no stack yet
    correct(stack, work, delays(N_DATES, SIZE))
    with pytest.raises(InputError, match="troposphericDelay.method = pyaps.*corrected already"):
        steps.run_to_reference_date(work, file)
    with pytest.raises(InputError, match=r"MintPy failed .*invert_network.*Not enough reliable pixels"):
        steps.run_to_reference_date(work, template)
    assert os.getcwd() == cwd


def test_an_exit_of_mintpy_is_no_exit_of_ours(tmp_path):
    with pytest.raises(InputError, match="exit code 2"), steps.at_work("step", str(tmp_path)):
        sys.exit(2)
    with pytest.raises(InputError, match=r"\(step\): No way\."), steps.at_work("step", str(tmp_path)):
        sys.exit("No way.")
    with pytest.raises(KeyboardInterrupt), steps.at_work("step", str(tmp_path)):
        raise KeyboardInterrupt


@pytest.mark.skipif(not REAL.is_dir(), reason=f"the real stack is not here: {REAL}")
def test_the_real_stack_with_nothing_corrected_gives_the_velocity_of_mintpy(tmp_path):
    project = Path(shutil.copytree(REAL, tmp_path / "mexico", copy_function=shutil.copyfile))
    file, work = project / "mexico_city_s1.txt", tmp_path / "mexico_vae"
    stack = open_stack(project / "inputs" / "ifgramStack.h5", template=templates.read_templates(project, file))
    before = tree(project)
    template = work_dir.fill_work_dir(stack, project, work, file)
    correct(stack, work, np.zeros((13, 60, 100)), status="uncorrected", reason="a test")
    steps.run_to_reference_date(work, template)
    done = smallbaseline(steps.next_command(work, file))
    assert done.returncode == 0, done.stderr[-1500:]
    assert -0.4 < np.nanmin(read(work / "velocity.h5", "velocity")) < -0.2
    assert tree(project) == before
