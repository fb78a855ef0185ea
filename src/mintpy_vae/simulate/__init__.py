"""Simulated MintPy projects with known truth, for the demo, the tests and the benchmarks."""

from .presets import PRESETS, Preset
from .project import claim, write_project
from .scene import Scene, simulate

__all__ = ["PRESETS", "Preset", "Scene", "claim", "simulate", "write_project"]
