"""Corrections compared on the user's own stack: weather models, filters and others beside this one; injected motion."""

from .baselines import BASELINES, Baseline
from .methods import METHODS
from .run import evaluate

__all__ = ["BASELINES", "METHODS", "Baseline", "evaluate"]
