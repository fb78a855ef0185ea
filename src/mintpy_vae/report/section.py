"""Section of the page: texts, figures and tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go


@dataclass
class Table:
    """Cells of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass
class Section:
    """A heading, and below it texts, figures side by side, figures of full width, and tables."""

    key: str
    title: str
    texts: list[str] = field(default_factory=list)
    figures: list[go.Figure] = field(default_factory=list)
    wide: list[go.Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


def bold(text: Any) -> str:
    """The text in bold, escaped."""
    return f"<b>{html.escape(str(text))}</b>"
