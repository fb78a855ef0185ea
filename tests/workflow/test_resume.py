"""What an interrupted run has trained is not trained again; what was not trained here is never believed."""

import os
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from conftest import read, tree
from mintpy_vae.errors import InputError
from mintpy_vae.method.training import train
from mintpy_vae.project.staging import NETWORKS
from mintpy_vae.results.result import read_result
from mintpy_vae.settings import Settings
from mintpy_vae.workflow import checkpoints
from mintpy_vae.workflow import correction as workflow
from mintpy_vae.workflow.checkpoints import RememberedTraining
from mintpy_vae.workflow.correction import correct
from mintpy_vae.workflow.delay import write_delay

FREE_SLOTS = (("free", 32),)
LOCK = ".vae_correct.lock"
AFTER = "searching local deformation"


class Watch:
    """Notes the stages of a run, and interrupts it at one of them."""

    def __init__(self, until=None):
        self.until, self.stages = until, []

    def __call__(self, stage, done, total, message):
        if stage not in self.stages:
            self.stages.append(stage)
        if stage == self.until:
            raise KeyboardInterrupt


def test_a_rerun_goes_on_from_what_is_trained(mapped, simulated):
    """Interrupted after the training of the network: it is there, and the result is that of one run."""
    stack, template, work = simulated
    part, before = work.with_name("WORK_vae.part"), tree(stack.parents[1])
    for _ in range(2):  # as often as one likes
        with pytest.raises(KeyboardInterrupt, match="the trained networks are kept in .*WORK_vae.part"):
            correct(stack, template_file=template, invert=False, progress=Watch(AFTER))
        assert sorted(os.listdir(work.parent)) == ["WORK", part.name]
        assert sorted(os.listdir(part)) == [LOCK, NETWORKS] and len(os.listdir(part / NETWORKS)) == 1
    again = Watch()
    done = correct(stack, template_file=template, invert=False, progress=again)
    assert AFTER in again.stages and "separating sources" not in again.stages
    log = (work / "vae.log").read_text()
    assert log.count("network loaded") == 1 and log.count("network saved") == 0
    assert sorted(os.listdir(work.parent)) == ["WORK", "WORK_vae"] and tree(stack.parents[1]) == before
    for name, dataset in (("inputs/ifgramStack.h5", "unwrapPhase"), ("inputs/VAE.h5", "timeseries")):
        assert read(work / name, dataset).tobytes() == read(mapped.work / name, dataset).tobytes()
    assert read(work / "vae_std.h5", "timeseries").tobytes() == read(mapped.work / "vae_std.h5", "timeseries").tobytes()
    assert done.details["model_sha256"] == read_result(mapped.work)["model_sha256"]


def test_another_error_keeps_nothing(simulated, monkeypatch):
    stack, template, work = simulated
    with pytest.raises(KeyboardInterrupt):
        correct(stack, template_file=template, invert=False, progress=Watch("writing VAE.h5"))
    assert len(os.listdir(work.with_name("WORK_vae.part") / NETWORKS)) == 1

    def fail(*args):
        raise InputError("The disk is full.")

    monkeypatch.setattr(workflow, "write_delay_file", fail)
    with pytest.raises(InputError):
        correct(stack, template_file=template, invert=False)
    assert os.listdir(work.parent) == ["WORK"]


def test_interrupted_in_mintpy_nothing_is_trained_again(simulated, monkeypatch):
    stack, template, work = simulated

    def interrupted(result, stack):
        result.details["mintpy"] = "pending"
        raise KeyboardInterrupt

    with monkeypatch.context() as m:
        m.setattr(workflow, "_drive_mintpy", interrupted)
        with pytest.raises(KeyboardInterrupt, match="kept in .*WORK_vae, and the same command"):
            correct(stack, template_file=template)
    assert sorted(os.listdir(work.parent)) == ["WORK", "WORK_vae"] and (work / NETWORKS).is_dir()
    again = Watch()
    correct(stack, template_file=template, invert=False, progress=again)
    assert "separating sources" not in again.stages and "writing VAE.h5" in again.stages
    assert not (work / NETWORKS).exists() and sorted(os.listdir(work.parent)) == ["WORK", "WORK_vae"]


def test_the_delay_file_goes_on_too(simulated):
    stack, template, _ = simulated
    before = tree(stack.parents[1])
    with pytest.raises(KeyboardInterrupt, match=r"kept in .*VAE\.part"):
        write_delay(stack, template_file=template, progress=Watch(AFTER))
    left = {name.split(os.sep)[1] for name in set(tree(stack.parents[1])) - set(before)}
    assert left == {"VAE.part"} and sorted(os.listdir(stack.with_name("VAE.part"))) == [LOCK, NETWORKS]
    again = Watch()
    write_delay(stack, template_file=template, progress=again)
    assert AFTER in again.stages and "separating sources" not in again.stages
    assert set(tree(stack.parents[1])) - set(before) == {os.path.join("inputs", "VAE.h5")}


# ---------------------------------------------------------------------------------------------------- one network alone
SETTINGS = Settings(device="cpu", train_steps=10, batch_size=4)


@pytest.fixture
def small(tmp_path, monkeypatch):
    """What a network is trained on, a trainer that remembers, and a list with an entry per training."""
    rng = np.random.default_rng(1)
    valid = np.ones((16, 16), dtype=bool)
    given = (rng.normal(size=(6, 16, 16)), valid, np.arange(6) / 30, FREE_SLOTS)
    trained = []
    monkeypatch.setattr(checkpoints, "train", lambda *args: (trained.append(1), train(*args))[1])
    return given, RememberedTraining(tmp_path / "networks"), trained


def same(one, other):
    a, b = one.model.state_dict(), other.model.state_dict()
    assert (one.scale, one.seed, one.device) == (other.scale, other.seed, other.device)
    assert np.array_equal(one.losses, other.losses) and not one.model.training and not other.model.training
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) and a[k].stride() == b[k].stride() for k in a)


def test_a_network_comes_back_as_it_was(small):
    given, trainer, trained = small
    assert same(trainer(*given, SETTINGS), trainer(*given, SETTINGS)) and len(trained) == 1


@pytest.mark.parametrize("change", ["seed", "steps", "batch", "series", "mask", "times", "slots"])
def test_whatever_decides_a_network_is_asked_for(small, change):
    (series, valid, times, slots), trainer, trained = small
    trainer(series, valid, times, slots, SETTINGS)
    settings = SETTINGS
    if change == "series":
        series = series.copy()
        series[0, 0, 0] = np.nextafter(series[0, 0, 0], 9)
    elif change == "mask":
        valid = valid.copy()
        valid[3, 3] = False
    elif change == "times":
        times = 2 * times
    elif change == "slots":
        slots = [("free", 31)]
    else:
        settings = replace(
            SETTINGS, **{"seed": {"seed": 2}, "steps": {"train_steps": 11}}.get(change, {"batch_size": 5})
        )
    trainer(series, valid, times, slots, settings)
    assert len(trained) == 2
    trainer(series, valid, times, slots, replace(settings, max_memory=1.0, significance=0.1))  # these decide nothing
    assert len(trained) == 2


class Code:
    """What runs when it is unpickled."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return open, (str(self.file), "w")


def spoil(file, how, other, canary):
    if how == "truncated":
        file.write_bytes(file.read_bytes()[:-500])
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "of another stack":
        file.write_bytes(other.read_bytes())
    elif how == "pickle":
        file.write_bytes(pickle.dumps(Code(canary)))
    elif how == "torch":
        torch.save({"state": Code(canary)}, file)
    else:
        with np.load(file) as stored:
            arrays = dict(stored)
        if how == "a weight changed":
            arrays["state.log_sigma"] = arrays["state.log_sigma"] + 1
        elif how == "key of another":
            arrays["key"] = np.array("0" * 64)
        else:
            arrays["scale"] = np.array([Code(canary)], dtype=object)
        with open(file, "wb") as f:
            np.savez(f, **arrays)
        assert zipfile.is_zipfile(file)


@pytest.mark.parametrize(
    "how",
    ["truncated", "empty", "of another stack", "pickle", "torch", "a weight changed", "key of another", "object array"],
)
def test_a_file_from_elsewhere_is_of_no_consequence(small, tmp_path, how):
    given, trainer, trained = small
    right = trainer(*given, SETTINGS)
    (file,) = trainer.folder.glob("*")
    trainer(*given, replace(SETTINGS, seed=2))
    (other,) = set(trainer.folder.glob("*")) - {file}
    spoil(file, how, other, tmp_path / "ran")
    assert same(trainer(*given, SETTINGS), right) and len(trained) == 3
    assert not (tmp_path / "ran").exists()
    assert same(trainer(*given, SETTINGS), right) and len(trained) == 3  # and is replaced


def test_a_disk_without_room_costs_only_the_memory(small):
    given, trainer, trained = small
    trainer.folder.write_text("a file where the folder is to be")
    assert same(trainer(*given, SETTINGS), trainer(*given, SETTINGS)) and len(trained) == 2
