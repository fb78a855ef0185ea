"""Compare corrections on the user's own stack (weather models, filters and this method), and inject known motion."""

from .baselines import BASELINES, Baseline
from .methods import METHODS
from .run import evaluate

__all__ = ["BASELINES", "METHODS", "Baseline", "evaluate"]
