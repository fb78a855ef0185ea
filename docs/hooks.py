"""The generated parts of the documentation.

``python docs/hooks.py`` writes the table of options into ``options.md``. While mkdocs builds the site, it calls
:func:`on_page_markdown`, which adds the docstrings of the public names; on GitHub the page lists the names alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mintpy_vae.project import options

PAGE = Path(__file__).with_name("options.md")
OPTIONS = re.compile(r"(?<=<!-- options -->\n).*?(?=<!-- /options -->)", re.DOTALL)
API = (
    "mintpy_vae.correct",
    "mintpy_vae.Settings",
    "mintpy_vae.Result",
    "mintpy_vae.InputError",
    "mintpy_vae.method.separate",
    "mintpy_vae.method.Separation",
    "mintpy_vae.evaluation.evaluate",
    "mintpy_vae.report.write_report",
    "mintpy_vae.simulate.simulate",
    "mintpy_vae.simulate.write_project",
    "mintpy_vae.metrics",
)
"""Public names."""


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill ``<!-- api -->``; links to files outside of ``docs`` are their names on the site."""
    markdown = markdown.replace("<!-- api -->", "\n".join(f"::: {place}\n" for place in API))
    return re.sub(r"\[([^]]*)\]\(\.\./[^)]*\)", r"\1", markdown)


def table_of_options() -> str:
    """Options by group, as Markdown."""
    lines, group = [], ""
    for option in options():
        if option.group != group:
            group = option.group
            lines += [f"\n## {group[0].upper()}{group[1:]}\n", "| option | values | `auto` | |", "|---|---|---|---|"]
        values = option.values.replace("|", "\\|")
        lines.append(f"| `{option.key}` | {values} | {option.default} | {option.meaning} |")
    return "\n".join(lines) + "\n\n"


if __name__ == "__main__":
    PAGE.write_text(OPTIONS.sub(lambda _: table_of_options(), PAGE.read_text()))
