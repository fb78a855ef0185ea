"""Callables that report the progress of a correction to the caller."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called with the name of a stage, the steps done, the steps in all and a short message."""
Steps = Callable[[int, int, str], None]
"""The same within one stage: steps done, steps in all, message."""


def steps_of(progress: Progress | None, stage: str) -> Steps | None:
    """Progress within one stage; None if the caller passed no callable."""
    if progress is None:
        return None
    return lambda done, total, message: progress(stage, done, total, message)
