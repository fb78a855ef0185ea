"""What mkdocs writes into the pages while it builds: the options from the settings, sections of the README, the API."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mintpy_vae
from mintpy_vae.project.options import options

README = Path(__file__).parents[1] / "README.md"
NOT_API = ("cli", "demo", "errors", "mintpy_vae")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- options -->``, ``<!-- modules -->`` and ``<!-- README: Heading -->``."""
    writers: dict[str, Callable[[str], str]] = {"options": _options, "modules": _modules, "README": _readme}
    return re.sub(r"<!-- (\w+)(?:: (.*?))? -->", lambda m: writers[m[1]](m[2] or ""), markdown)


def _options(_: str) -> str:
    lines, group = [], ""
    for option in options():
        if option.group != group:
            group = option.group
            lines += [f"\n## {group.capitalize()}\n", "| option | values | `auto` | |", "|---|---|---|---|"]
        values = option.values.replace("|", "\\|")
        lines.append(f"| `{option.key}` | {values} | {option.default} | {option.meaning} |")
    return "\n".join(lines)


def _modules(_: str) -> str:
    names = sorted(m.name for m in pkgutil.iter_modules(mintpy_vae.__path__) if m.name not in NOT_API)
    return "\n".join(f"::: mintpy_vae.{name}\n" for name in names)


def _readme(heading: str) -> str:
    """The body of a section, its links as they are from here."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", README.read_text(), re.MULTILINE | re.DOTALL)
    if not found:
        raise ValueError(f"README.md has no section {heading!r}")
    text = re.sub(r"\]\(docs/", "](", found[1])
    text = re.sub(r"\[([^]]*)\]\(configs/[^)]*\)", r"`\1`", text)
    return re.sub(r"\[([^]]*)\]\(#[^)]*\)", r"\1", text)
