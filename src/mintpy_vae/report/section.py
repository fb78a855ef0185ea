"""Section of the page: texts, figures and tables."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import plotly.graph_objects as go
from markupsafe import Markup


@dataclass
class Table:
    """Cells of text."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Drawn:
    """A figure as it stands on the page; `ratio`, width over height, of a map, which is as wide as there is room."""

    title: str
    html: Markup
    ratio: float | None


@dataclass
class Section:
    """A heading, and below it texts, figures side by side, figures of full width, and tables.

    `explorer` holds the data that ``explore.js`` draws.
    """

    key: str
    title: str
    texts: list[str] = field(default_factory=list)
    figures: list[go.Figure] = field(default_factory=list)
    wide: list[go.Figure] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    explorer: dict[str, Any] | None = None

    @property
    def columns(self) -> int:
        """Figures in a row of a wide screen, so that no row has a hole, if that can be."""
        number = len(self.figures)
        return number if number <= 4 else 4 if number % 4 == 0 else 3


def bold(text: Any) -> str:
    """The text in bold, escaped."""
    return f"<b>{html.escape(str(text))}</b>"
