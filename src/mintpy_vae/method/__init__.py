"""The method, after Ghosh et al. (2025): arrays in, arrays out, without files and without MintPy.

Start reading at :func:`separate`. It inverts the phase of pairs to the phase of dates (:mod:`.inversion`), separates
and clusters their sources (:mod:`.vae`, :mod:`.clustering`, :mod:`.labels`), estimates local deformation and the
covariance of the atmosphere (:mod:`.joint`, :mod:`.search`, :mod:`.sky`, :mod:`.local_sky`), and from these the
atmosphere of each date (:mod:`.atmosphere`). *Sky* means the atmosphere as a random field: its covariance, strengths
and scales.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .observations import Observations
    from .separation import Ablation, Separation, separate

__all__ = ["Ablation", "Observations", "Separation", "separate"]


def __getattr__(name: str) -> Any:
    """Import on first use: PyTorch takes seconds to load, and half of this package does not need it."""
    if name in __all__:
        from . import separation

        return getattr(separation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
