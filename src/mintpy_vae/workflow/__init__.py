"""Workflows: write a corrected project, write a delay file, or run MintPy with the step ``correct_vae``."""

from .correction import correct
from .delay import write_delay
from .job import Job, prepare
from .learning import Learned, TrainingData, learn, training_data

__all__ = ["Job", "Learned", "TrainingData", "correct", "learn", "prepare", "training_data", "write_delay"]
