"""Units that no radar and no ground has: refused, or warned of, with the figure."""

import re
from dataclasses import replace

import h5py
import numpy as np
import pytest

from conftest import observed
from mintpy_vae import Settings
from mintpy_vae.errors import InputError
from mintpy_vae.method import safety
from mintpy_vae.simulate import simulate
from mintpy_vae.stack import open_stack
from mintpy_vae.workflow.job import prepare
from tiny import make_project

STACK, GEOMETRY = "inputs/ifgramStack.h5", "inputs/geometryGeo.h5"


@pytest.fixture
def project(tmp_path):
    return make_project(tmp_path / "p")


def scale(project, file, name, change):
    with h5py.File(project / file, "r+") as f:
        values = change(f[name][:])
        attributes = dict(f[name].attrs)
        del f[name]
        f[name] = values
        f[name].attrs.update(attributes)


@pytest.mark.parametrize("value", ["5.54658", "55.4658", "3.1", "0.000055", "5.405", "23.6"])
def test_a_wavelength_that_is_not_in_metres(project, value):
    with h5py.File(project / STACK, "r+") as f:
        f.attrs["WAVELENGTH"] = value
    with pytest.raises(InputError, match=rf"WAVELENGTH = {float(value):g}, but radars have 0.005 to 1 m"):
        open_stack(project / STACK)


@pytest.mark.parametrize("value", ["0.0084", "0.031067", "0.0554658", "0.0937", "0.2362", "0.69"])
def test_bands_from_ka_to_p(project, value):
    with h5py.File(project / STACK, "r+") as f:
        f.attrs["WAVELENGTH"] = value
    assert open_stack(project / STACK).wavelength == float(value)


@pytest.mark.parametrize("factor", [255, 100, 2])
@pytest.mark.parametrize("land", ["everywhere", "some"])
def test_coherence_that_does_not_end_at_1(project, factor, land):
    if land == "some":
        scale(project, STACK, "unwrapPhase", lambda a: np.where(np.arange(a.shape[2]) < 30, 0, a).astype(np.float32))
    scale(project, STACK, "coherence", lambda a: a * factor)
    with pytest.raises(InputError, match=r"coherence goes up to [\d.]+, not to 1; scale it") as refusal:
        open_stack(project / STACK)
    assert 0.9 * factor < float(re.search(r"up to ([\d.]+),", str(refusal.value))[1]) <= factor


def test_single_values_of_coherence_above_1_are_damage(project):
    scale(project, STACK, "coherence", lambda a: np.where(np.arange(a.size).reshape(a.shape) % 500 == 0, 7, a))
    open_stack(project / STACK)


MOUNTAINS = 1500 + 250 * np.arange(30)[:, None] + np.arange(40) * 0.5  # metres
HEIGHTS = {  # what stands there: refused, warned of, or neither
    "feet": (MOUNTAINS / 0.3048, "refused"),
    "centimetres": (100 * MOUNTAINS, "refused"),
    "kilometres": (MOUNTAINS / 1000, "warned"),
    "kilometres, with sea": (np.where(np.arange(40) < 9, 0, MOUNTAINS / 1000), "warned"),
    "metres": (np.minimum(MOUNTAINS, 8848), "taken"),
    "a plain of one height": (np.full((30, 40), 3.0), "taken"),
    "a delta": (np.linspace(-2, 12, 1200).reshape(30, 40), "taken"),
    "fill values": (np.where(np.arange(40) < 9, 32767, np.minimum(MOUNTAINS, 8848)), "taken"),
}


@pytest.mark.parametrize("kind", HEIGHTS)
def test_heights(project, kind):
    heights, expected = HEIGHTS[kind]
    scale(project, GEOMETRY, "height", lambda a: heights.astype(np.float32))
    if expected == "refused":
        with pytest.raises(InputError, match=r"height goes up to [\d.e+]+, but no ground is higher than 9000 m"):
            open_stack(project / STACK)
        return
    said = [text for text in open_stack(project / STACK).warnings if "kilometres" in text]
    assert len(said) == (expected == "warned")
    if said:
        low, high = map(float, re.search(r"between ([\d.]+) and ([\d.]+) m", said[0]).groups())
        assert low == pytest.approx(heights[heights != 0].min(), rel=1e-4) and high == pytest.approx(
            heights.max(), rel=1e-4
        )


@pytest.mark.parametrize("kind, factor", [("radians", np.pi / 180), ("degrees", 1), ("hundredths", 100)])
def test_incidence_angles(project, kind, factor):
    scale(project, GEOMETRY, "incidenceAngle", lambda a: a * np.float32(factor))
    job = prepare(project / STACK)
    said = [text for text in job.warnings if "incidence angle" in text]
    assert len(said) == (kind != "degrees") and all(f"is {38 * factor:.3g}, but" in text for text in said)


@pytest.mark.parametrize("preset, seed", [("bowl", 4), ("quiet", 2), ("weak", 4), ("dirty", 1), ("acapulco", 3)])
def test_phase(preset, seed):
    scene = simulate(preset, size=(40, 40), seed=seed, n_dates=20)
    radians = observed(scene)

    def warned(unit):
        return safety.phase_units(replace(radians, phase=radians.phase * unit))

    assert warned(1) == []
    (metres,) = warned(0.0555 / (4 * np.pi))
    assert re.search(r"varies by no more than 0\.0\d+ within the scene", metres) and "in metres instead" in metres
    if preset not in ("dirty", "acapulco"):  # under too much noise nobody can tell
        (cycles,) = warned(1 / (2 * np.pi))
        assert re.match(r"\d+\.\d% of the closures of triplets differ from their median by 1", cycles)


def test_phase_units_reach_the_result(tmp_path):
    from mintpy_vae.simulate import write_project
    from mintpy_vae.workflow.learning import learn

    write_project(simulate("bowl", n_dates=14, size=(32, 32), seed=3), tmp_path / "WORK")
    scale(tmp_path / "WORK", STACK, "unwrapPhase", lambda a: a * np.float32(0.0555 / (4 * np.pi)))
    settings = Settings(train_steps=10, num_seeds=1, device="cpu")
    details = learn(prepare(tmp_path / "WORK" / STACK, settings=settings), {}).details
    assert any("is it in metres instead of radians?" in text for text in details["warnings"])
