"""Put the tables of a benchmark into a page of the documentation, between the markers that bear their names."""

from __future__ import annotations

import re
import sys
from pathlib import Path


def write(page: Path, **parts: str) -> None:
    """Replace what stands between ``<!-- name -->`` and ``<!-- /name -->``; a page that does not exist is made of them.

    Raises
    ------
    SystemExit
        If the page lacks a marker, with the tables, so that they are not lost.
    """
    whole = "\n\n".join(part.strip() for part in parts.values()) + "\n"
    text = page.read_text() if page.is_file() else whole
    for name, part in parts.items():
        between = re.compile(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", re.DOTALL)
        if text != whole and not between.search(text):
            sys.exit(f"{whole}\n{page} has no markers {name!r} for these tables")
        text = between.sub(lambda _, new=part: f"\n{new.strip()}\n\n", text)
    page.write_text(text)
