"""Compare corrections on the user's own stack (weather models, filters and this method), and inject known motion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .baselines import BASELINES, Baseline

if TYPE_CHECKING:
    from .run import evaluate

__all__ = ["BASELINES", "Baseline", "evaluate"]


def __getattr__(name: str) -> Any:
    """Import :func:`evaluate` on first use: the baselines alone need neither MintPy nor PyTorch."""
    if name == "evaluate":
        from .run import evaluate

        return evaluate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
