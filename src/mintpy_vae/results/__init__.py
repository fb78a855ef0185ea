"""Results of a correction that other parts read: the outcome, the evidence of the method, MintPy's time series."""

from .evidence import Evidence, read_evidence, write_evidence
from .inverted import Inverted, read_delay, read_inverted
from .result import RESULT, MintpyState, Result, log_result, read_result, write_result

__all__ = [
    "RESULT",
    "Evidence",
    "Inverted",
    "MintpyState",
    "Result",
    "log_result",
    "read_delay",
    "read_evidence",
    "read_inverted",
    "read_result",
    "write_evidence",
    "write_result",
]
