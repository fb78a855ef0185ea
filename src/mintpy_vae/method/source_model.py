"""Interfaces of the network that separates sources and of its training; implement them to replace the network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ..arrays import Array, Mask
from ..progress import Steps
from ..settings import Settings
from .vae import Codes

__all__ = ["Fit", "PairSources", "SourceModel", "Trainer", "basis_maps", "source_weights", "sources_of_pairs"]


class SourceModel(Protocol):
    """A network that describes the difference of two dates as a sum of sources, each a sum of basis maps."""

    def basis(self) -> torch.Tensor:
        """Basis maps that all sources share, (N_BASIS, height, width), in units of the maps it was trained on."""
        ...

    def encode(self, x: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> Codes:
        """Posterior of the latent codes of the pairs (first, second), given their maps ``x`` (pairs, height, width)."""
        ...

    def source_weights(self, codes: torch.Tensor) -> list[torch.Tensor]:
        """Weights of the basis maps (pairs, N_BASIS) in each source."""
        ...

    def continued(self, times: torch.Tensor) -> SourceModel:
        """The same network for more dates; ``times`` (dates,) in years begin with those it was trained on."""
        ...

    def state_dict(self) -> Mapping[str, torch.Tensor]:
        """Trained parameters, by name."""
        ...


@dataclass(frozen=True)
class Fit:
    """A trained network.

    Attributes
    ----------
    model : SourceModel
        In evaluation mode, on ``device``.
    scale : float
        Standard deviation (radians) by which the maps were divided.
    losses : (steps,) float
        Loss per pixel at each step.
    seed : int
        The seed of this network; after a restart it differs from that of the settings.
    device : torch.device
    """

    model: SourceModel
    scale: float
    losses: NDArray[np.float64]
    seed: int
    device: torch.device


class Trainer(Protocol):
    """Trains a network on the maps of the dates of one stack; see :func:`~mintpy_vae.method.training.train`."""

    def __call__(
        self,
        series: Array,
        valid: Mask,
        times: Array,
        slots: Sequence[tuple[str, int]],
        settings: Settings,
        progress: Steps | None = None,
    ) -> Fit:
        """Train a network and return it."""
        ...


def basis_maps(fit: Fit) -> Array:
    """The decoder's basis maps in radians, (N_BASIS, height * width)."""
    with torch.no_grad():
        return fit.model.basis().flatten(1).cpu().double().numpy() * fit.scale


@dataclass(frozen=True)
class PairSources:
    """Sources of pairs, as maps on the valid pixels.

    Attributes
    ----------
    coordinates : (slots, pairs, K)
        Of each source map in the orthonormal ``basis``, where distance is distance between maps.
    basis : (K, pixels)
    weights : (slots, pairs, N_BASIS)
        Weights of the decoder's basis maps.
    clear : (slots, pairs) bool
        Whether the source is stronger than its posterior noise.
    """

    coordinates: Array
    basis: Array
    weights: Array
    clear: NDArray[np.bool_]


def sources_of_pairs(fit: Fit, series: Array, pairs: NDArray[np.integer], valid: Mask) -> PairSources:
    """Sources of the ``pairs`` (pairs, 2) of ``series`` (dates, height, width)."""
    mean, noise = source_weights(fit, series, pairs[:, 0], pairs[:, 1])
    left, singular, orthonormal = np.linalg.svd(basis_maps(fit)[:, valid.ravel()], full_matrices=False)
    coordinates, uncertainty = (x @ (left * singular) for x in (mean, noise))
    clear = np.linalg.norm(coordinates, axis=2) > np.linalg.norm(uncertainty, axis=2)
    return PairSources(coordinates, orthonormal, mean, clear)


def source_weights(
    fit: Fit, series: Array, first: NDArray[np.integer], second: NDArray[np.integer]
) -> tuple[Array, Array]:
    """Weights of the basis maps for each source of the pairs (first, second) of ``series`` (dates, height, width).

    Returns
    -------
    mean, noise : (slots, pairs, N_BASIS)
        Weights at the posterior mean of the codes, and at one posterior standard deviation.
    """
    data = torch.tensor(series / fit.scale, dtype=torch.float32, device=fit.device)
    i, j = torch.tensor(first, device=fit.device), torch.tensor(second, device=fit.device)
    mean, noise = [], []
    with torch.no_grad():
        for a, b in zip(i.split(256), j.split(256), strict=True):
            codes = fit.model.encode(data[b] - data[a], a, b)
            mean.append(torch.stack(fit.model.source_weights(codes.mean)))
            noise.append(torch.stack(fit.model.source_weights(codes.variance.sqrt())))
    return torch.cat(mean, dim=1).cpu().double().numpy(), torch.cat(noise, dim=1).cpu().double().numpy()
