"""Simulated MintPy projects with known truth, for the demo, the tests and the benchmarks."""

from .presets import PRESETS, Preset
from .project import check_unused, write_project
from .scene import Scene, simulate

__all__ = ["PRESETS", "Preset", "Scene", "check_unused", "simulate", "write_project"]
