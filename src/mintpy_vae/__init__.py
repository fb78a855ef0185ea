"""Atmospheric correction of MintPy interferogram stacks with a variational autoencoder and clustering.

The entry point is :func:`correct`, with its options in :class:`Settings`. It raises :class:`InputError` for errors that
the user can correct.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import InputError
from .settings import Settings

if TYPE_CHECKING:
    from .results.result import Result
    from .workflow.correction import correct

__version__ = "0.3.3"
__all__ = ["InputError", "Result", "Settings", "__version__", "correct"]


def __getattr__(name: str) -> Any:
    """Import :func:`correct` and its :class:`Result` on first use: PyTorch and MintPy take seconds to load."""
    if name == "correct":
        from .workflow.correction import correct

        return correct
    if name == "Result":
        from .results.result import Result

        return Result
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
