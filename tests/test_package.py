"""What an installed package promises: its version, its commands, a quick import, and versions that CI tested."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import mintpy_vae

ROOT = Path(__file__).parents[1]
DISTRIBUTION = importlib.metadata.distribution("mintpy-vae")
COMMANDS = {e.name: e for e in DISTRIBUTION.entry_points.select(group="console_scripts")}


def test_version_is_the_metadata_s():
    assert mintpy_vae.__version__ == DISTRIBUTION.version


def test_commands_are_named_as_mintpy_names_its_own():
    assert set(COMMANDS) == {"vae_correct.py", "vae_evaluate.py", "vae_simulate.py", "vae_smallbaselineApp.py"}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_command_loads_and_shows_help(name, capsys):
    with pytest.raises(SystemExit) as stop:
        COMMANDS[name].load()(["--help"])
    assert stop.value.code == 0
    assert name in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_installed_script_shows_help(name):
    script = Path(sysconfig.get_path("scripts")) / name
    run = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"usage: {name}")


def test_import_is_quick_and_correct_comes_on_demand():
    code = "import sys, mintpy_vae; print([m for m in ('torch', 'mintpy', 'h5py', 'numpy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
    assert callable(mintpy_vae.correct)


def test_every_exported_name_exists_and_no_other():
    for name in mintpy_vae.__all__:
        assert getattr(mintpy_vae, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = mintpy_vae.no_such_name


def test_constraints_pin_every_requirement_within_its_range():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    pins = dict(line.lower().split("==") for line in lines)
    for text in DISTRIBUTION.requires or []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": e}) for e in ("test", "docs")):
            assert requirement.specifier.contains(pins[requirement.name.lower()]), text
    # A local version such as 2.13.0+cpu exists on no other machine.
    assert all(Version(pin).local is None for pin in pins.values())


@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_ci_is_executable():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
