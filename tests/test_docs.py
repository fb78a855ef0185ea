"""The pages that are written while the site is built, and the links of all; ``make docs`` builds it."""

import importlib.util
import re
from pathlib import Path

import pytest

from mintpy_vae import Settings

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
SPEC = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
hooks = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(hooks)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_marker_is_filled_and_every_link_leads_somewhere(page):
    text = hooks.on_page_markdown(page.read_text())
    assert "<!--" not in text and text.startswith("# ")
    for link in re.findall(r"\]\(([^)#\s]+)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        assert link.startswith("https://") or (DOCS / link).is_file(), link


def test_the_reference_has_every_option_with_its_default():
    text = hooks.on_page_markdown((DOCS / "options.md").read_text())
    rows = dict(re.findall(r"^\| `(vae\.\w+)` \|(.*)\|$", text, re.MULTILINE))
    assert list(rows) == list(Settings().as_dict())
    assert "| 2500 |" in rows["vae.coarsePixels"] and "0.000001-0.2" in rows["vae.significance"]


def test_the_site_names_every_page():
    nav = (DOCS.parent / "mkdocs.yml").read_text().split("\nnav:")[1]
    assert all(page.name in nav for page in PAGES)


def test_a_section_that_is_gone_is_no_empty_page():
    with pytest.raises(ValueError, match="no section 'Nonsense'"):
        hooks.on_page_markdown("<!-- README: Nonsense -->")
