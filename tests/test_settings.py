"""The options: the template file that users read, MintPy's reader and the dataclass say the same."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from mintpy.utils import readfile

from mintpy_vae import InputError, Settings

CONFIG = Path(__file__).parents[1] / "configs" / "mintpy_vae.cfg"
FIELDS = {"vae." + f.metadata["key"]: f for f in dataclasses.fields(Settings)}
NUMBERS = {key: f for key, f in FIELDS.items() if f.metadata["low"] is not None}


def _documented() -> dict[str, re.Match[str]]:
    """Key -> the parts of its comment: values, default, meaning."""
    pattern = r"^(vae\.\w+) += auto  #\[(?P<values>[^]]+)\], auto for (?P<default>[^,]+), (?P<meaning>.+)$"
    return {m[1]: m for m in re.finditer(pattern, CONFIG.read_text(), re.M)}


def test_config_has_every_option_once_in_order_and_all_auto():
    template = readfile.read_template(str(CONFIG))
    assert template == dict.fromkeys(FIELDS, "auto")
    assert list(template) == list(FIELDS) == list(_documented())
    assert Settings.from_template(template) == Settings()


@pytest.mark.parametrize("key", FIELDS)
def test_config_states_meaning(key):
    assert _documented()[key]["meaning"] == FIELDS[key].metadata["help"].split(": auto (")[0]


@pytest.mark.parametrize("key", NUMBERS)
def test_config_states_default_and_range(key):
    stated = _documented()[key]
    default = re.search(r"\d[\d.]*", stated["default"])  # "4" also of "mintpy.compute.maxMemory (4)"
    assert default is not None
    assert float(default[0]) == NUMBERS[key].default
    assert [float(v) for v in stated["values"].split("-")] == [NUMBERS[key].metadata[end] for end in ("low", "high")]


def test_options_are_read_with_their_types(tmp_path):
    file = tmp_path / "custom.txt"
    file.write_text(
        "vae.device = cpu # a comment\nvae.seed=7\nvae.significance = 5e-2\nvae.maxMemory = 2\n"
        "vae.minDate = AUTO\nvae.trainSteps = none\nmintpy.load.processor = isce\n"
    )
    settings = Settings.from_template(readfile.read_template(str(file)))
    assert settings == Settings(device="cpu", seed=7, significance=0.05, max_memory=2.0)
    assert isinstance(settings.max_memory, float)


def test_command_line_beats_template_beats_default():
    template = {"vae.seed": "3", "vae.device": "cuda", "vae.maxMemory": "2"}
    settings = Settings.from_template(template, seed=5, device=None, max_memory=8.0)
    assert settings == Settings(seed=5, device="cuda", max_memory=8.0)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ({}, 4.0),
        ({"mintpy.compute.maxMemory": "auto"}, 4.0),
        ({"mintpy.compute.maxMemory": "16"}, 16.0),
        ({"mintpy.compute.maxMemory": "16", "vae.maxMemory": "auto"}, 16.0),
        ({"vae.maxMemory": "auto", "mintpy.compute.maxMemory": "16"}, 16.0),
        ({"mintpy.compute.maxMemory": "16", "vae.maxMemory": "2"}, 2.0),
        ({"vae.maxMemory": "2", "mintpy.compute.maxMemory": "16"}, 2.0),
    ],
)
def test_memory_follows_mintpy_unless_given(template, expected):
    assert Settings.from_template(template).max_memory == expected


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("vae.sead", "vae.seed"), ("vae.max_memory", "vae.maxMemory"), ("vae.minDates", "vae.minDate"), ("vae.?", "vae.")],
)
def test_unknown_option_is_refused_with_the_nearest(key, nearest):
    with pytest.raises(InputError, match=re.escape(key) + " is unknown; did you mean " + re.escape(nearest)):
        Settings.from_template({key: "auto"})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("vae.device", "tpu"),
        ("vae.seed", "1.5"),
        ("vae.seed", "one"),
        ("vae.seed", "-1"),
        ("vae.maxMemory", "0"),
        ("vae.maxMemory", "nan"),
        ("vae.maxMemory", "inf"),
        ("vae.maxMemory", "4GB"),
        ("vae.significance", "1"),
        ("mintpy.compute.maxMemory", "much"),
    ],
)
def test_bad_value_is_refused_by_name(key, value):
    with pytest.raises(InputError, match=re.escape(key)):
        Settings.from_template({key: value})


@pytest.mark.parametrize("key", NUMBERS)
def test_range_includes_its_ends_and_nothing_beyond(key):
    field = NUMBERS[key]
    for end, beyond in ((field.metadata["low"], -1), (field.metadata["high"], 1)):
        Settings(**{field.name: end})
        with pytest.raises(InputError, match=re.escape(key)):
            Settings(**{field.name: end + beyond})


def test_provenance_reads_back():
    settings = Settings(seed=9, max_memory=1.5, device="cpu")
    assert list(settings.as_dict()) == list(FIELDS)
    assert Settings.from_template({key: str(value) for key, value in settings.as_dict().items()}) == settings
