"""Trained networks on disk: those of a finished correction, and those that an interrupted run leaves for the next."""

from __future__ import annotations

import hashlib
import io
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from .. import __version__
from ..errors import InputError
from ..log import LOGGER
from ..method.source_model import Fit
from ..method.training import choose_device, empty_network, train
from ..method.vae import VAE
from ..progress import Steps
from ..settings import Settings

__all__ = ["RememberedTraining", "read_network", "save_networks"]


class RememberedTraining:
    """Trains as :func:`~mintpy_vae.method.training.train` does, and saves every network for a later run.

    A network is read from the folder if data, settings, versions and device are the same. Its file contains plain
    arrays and is read without pickle, so it cannot contain code. A damaged or foreign file is ignored.

    Parameters
    ----------
    folder : Path
        Created when the first network is saved.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(
        self,
        series: NDArray[np.float64],
        valid: NDArray[np.bool_],
        times: NDArray[np.float64],
        slots: Sequence[tuple[str, int]],
        settings: Settings,
        progress: Steps | None = None,
    ) -> Fit:
        """See :func:`~mintpy_vae.method.training.train`."""
        device = choose_device(settings.device)
        key = _key(series, valid, times, slots, settings, device)
        file = self.folder / f"{key}.npz"
        if file.exists():
            try:
                fit = _load(file, key, empty_network(slots, times, valid.shape, device), device)
            except Exception as error:  # a damaged or foreign file may raise anything
                LOGGER.debug("the network in %s is not used (%s: %s)", file, type(error).__name__, error)
            else:
                LOGGER.info("Using the network that an interrupted run has trained.")
                LOGGER.debug("network loaded: %s", file)
                return fit
        fit = train(series, valid, times, slots, settings, progress)
        try:
            _save(file, key, fit)
            LOGGER.debug("network saved: %s", file.name)
        except OSError as error:  # an interrupted run then has to train again
            LOGGER.debug("the network could not be saved: %s", error)
        return fit


def save_networks(file: Path, networks: Mapping[str, Fit], settings: Settings) -> None:
    """Save networks as plain tensors and numbers, so that they load with ``weights_only=True``."""
    content = io.BytesIO()  # on a full disk the error of torch.save would be incomprehensible
    torch.save(
        {
            "version": __version__,
            "settings": settings.as_dict(),
            "networks": {
                name: {
                    "state": {key: value.cpu() for key, value in fit.model.state_dict().items()},
                    "scale": fit.scale,
                    "seed": fit.seed,
                }
                for name, fit in networks.items()
            },
        },
        content,
    )
    try:
        file.write_bytes(content.getbuffer())
    except OSError as error:
        raise InputError(f"{file} could not be written: {error.strerror}.") from error


def read_network(
    file: Path,
    name: str,
    slots: Sequence[tuple[str, int]],
    times: NDArray[np.float64],
    shape: tuple[int, ...],
) -> Fit:
    """Read a network that :func:`save_networks` wrote, onto the CPU; its losses are not in the file.

    Raises
    ------
    InputError
        If the file is damaged, or of another network.
    """
    device = torch.device("cpu")
    network = empty_network(slots, times, shape, device)
    try:
        stored = torch.load(file, map_location=device, weights_only=True)["networks"][name]
        network.load_state_dict(stored["state"])
        return Fit(network.eval(), float(stored["scale"]), np.zeros(0), int(stored["seed"]), device)
    except Exception as error:  # a damaged or foreign file may raise anything
        raise InputError(f"{file} does not hold the network of this result ({type(error).__name__}).") from error


def _key(
    series: NDArray[np.float64],
    valid: NDArray[np.bool_],
    times: NDArray[np.float64],
    slots: Sequence[tuple[str, int]],
    settings: Settings,
    device: torch.device,
) -> str:
    """SHA-256 of everything that determines a network."""
    used = (settings.seed, settings.train_steps, settings.batch_size)
    made_by = (__version__, torch.__version__, np.__version__, platform.machine(), str(device))
    digest = hashlib.sha256(repr((tuple(slots), used, made_by, series.shape)).encode())
    for array in (series, valid, times):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _save(file: Path, key: str, fit: Fit) -> None:
    state = {f"state.{name}": value.cpu().numpy() for name, value in fit.model.state_dict().items()}
    arrays: dict[str, Any] = {"scale": np.array(fit.scale), "losses": fit.losses, "seed": np.array(fit.seed), **state}
    part = file.with_suffix(".part")
    file.parent.mkdir(exist_ok=True)
    try:
        with open(part, "wb") as f:
            np.savez(f, key=np.array(key), content=np.array(_hash_of(arrays)), **arrays)
        os.replace(part, file)
    finally:
        part.unlink(missing_ok=True)


def _load(file: Path, key: str, network: VAE, device: torch.device) -> Fit:
    """Load the network of a file into an untrained one of its shape; raise an exception if it has another key."""
    with open(file, "rb") as f, np.load(f, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    marks = str(arrays.pop("key")), str(arrays.pop("content"))
    if marks != (key, _hash_of(arrays)):
        raise ValueError("it belongs to another stack or other settings, or was changed")
    state = {
        name.removeprefix("state."): torch.from_numpy(a) for name, a in arrays.items() if name.startswith("state.")
    }
    network.load_state_dict(state)
    return Fit(network.eval(), float(arrays["scale"]), arrays["losses"], int(arrays["seed"]), device)


def _hash_of(arrays: Mapping[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
