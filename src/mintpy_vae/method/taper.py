"""Taper a sample covariance with distance, so that places far apart tell nothing of each other by chance.

A sample covariance of few maps is full of correlations that are due to chance, most of all between distant places.
Multiplied, element by element, with a correlation that falls with distance, it knows each neighbourhood alone
(localisation; Houtekamer and Mitchell, 2001). The correlation is a sum of products of windows, so that the product is a
sum over the maps seen through each window (modulated ensembles; Bishop and Hodyss, 2009). Arrays only.
"""

from __future__ import annotations

import numpy as np

from ..arrays import Array, Mask

WIDTH = 4.0
"""Standard deviation of a window, pixels. The correlation, their self-convolution, is sqrt(2) times as wide."""
SPACING = 2.0
"""Largest distance of the windows, in standard deviations. The correlation is then a Gaussian of distance to within
0.25, with half the modes that windows at a distance of 1.5 have, which bring it to within 0.05 and no better result."""
FAINT = 1e-4
"""Height below which a window is 0."""
KEPT = 0.97
"""Least share of the variance in a window that its modes keep, but for noise."""


class Whole:
    """No taper: the covariance of all maps as it is."""

    def modes(self, maps: Array, noise: float = 0.0) -> Array:
        """Modes with ``modes' modes`` = mean of u' u over the maps u (maps, pixels), whatever their ``noise``."""
        return np.asarray(maps / np.sqrt(len(maps)))


class Taper:
    """A nearly Gaussian correlation of places, ``rho(x, y) = sum_k w_k(x) w_k(y)`` with windows w_k.

    Parameters
    ----------
    valid : (height, width) bool

    Attributes
    ----------
    windows : (windows, pixels)
        Squares add up to 1 everywhere.
    """

    def __init__(self, valid: Mask) -> None:
        down, across = (
            np.exp(-(((np.arange(size) - _centres(size)[:, None]) / WIDTH) ** 2) / 2) for size in valid.shape
        )
        windows = (down[:, None, :, None] * across[None, :, None, :])[:, :, valid].reshape(-1, valid.sum())
        windows = windows[(windows**2).sum(axis=1) > 1e-3]
        self.windows = windows / np.sqrt((windows**2).sum(axis=0))

    def modes(self, maps: Array, noise: float = 0.0) -> Array:
        """Modes with ``modes' modes = rho * (mean of u' u over the maps u)``, as far as their variance matters.

        Parameters
        ----------
        maps : (maps, pixels)
        noise : float
            Variance of their white noise. What it produces alone, if it is as strong everywhere and on each map, is
            left out: in each window, eigenvalues up to the upper edge of Marchenko and Pastur (1967).

        Returns
        -------
        (modes, pixels)
        """
        found, number = [np.zeros((0, maps.shape[1]))], max(len(maps), 1)
        for window in self.windows:
            inside = np.flatnonzero(window > FAINT)
            seen = maps[:, inside] * (window[inside] / np.sqrt(number))
            energy, axes = np.linalg.eigh(seen @ seen.T)
            kept = np.cumsum(energy) > (1 - KEPT) * energy.sum()  # the weakest come first
            second, fourth = (window**2).sum(), (window**4).sum()
            kept &= energy > noise * (np.sqrt(second / number) + np.sqrt(fourth / second)) ** 2
            modes = np.zeros((kept.sum(), maps.shape[1]))
            modes[:, inside] = axes[:, kept].T @ seen
            found.append(modes)
        return np.concatenate(found)


def _centres(size: int) -> Array:
    """Centres of the windows along an axis of so many pixels."""
    number = 1 + int(np.ceil((size - 1) / (SPACING * WIDTH)))
    return np.linspace(0, size - 1, number) if number > 1 else np.zeros(1)
