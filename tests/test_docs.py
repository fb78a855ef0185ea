"""The pages: generated parts are up to date, links lead somewhere; ``make docs`` builds the site."""

import importlib.util
import re
from pathlib import Path

import pytest

from mintpy_vae import Settings

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
OTHERS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", ROOT / "benchmarks" / "README.md"]


def script(name, folder=DOCS):
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = script("hooks")


@pytest.mark.parametrize("page", [*PAGES, *OTHERS], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page):
    text = page.read_text()
    assert text.startswith("# ")
    for link, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        target = page if not link else page.parent / link
        assert link.startswith("https://") or target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor[1:] in anchors(target.read_text()), f"{link}{anchor}"


def anchors(text):
    headings = re.findall(r"^#+ (.*)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_markers_come_in_pairs_and_no_page_is_empty_without_the_site(page):
    markers = re.findall(r"<!-- (.*?) -->", page.read_text())
    opened = [name for name in markers if not name.startswith("/") and name != "api"]
    assert [name[1:] for name in markers if name.startswith("/")] == opened
    assert len(re.sub(r"<!--.*?-->", "", page.read_text()).split()) > 200


def test_the_table_of_options_is_that_of_the_settings():
    """After a change of the settings: python docs/hooks.py."""
    text = (DOCS / "options.md").read_text()
    assert hooks.OPTIONS.findall(text) == [hooks.table_of_options()]
    rows = dict(re.findall(r"^\| `(vae\.\w+)` \|(.*)\|$", text, re.MULTILINE))
    assert list(rows) == list(Settings().as_dict())
    assert "| inputs/ERA5.h5 or the like |" in rows["vae.priorDelay"] and "0.000001-0.2" in rows["vae.significance"]


def test_the_site_names_every_page_once():
    nav = (ROOT / "mkdocs.yml").read_text().split("\nnav:")[1]
    assert sorted(re.findall(r"(\w+\.md)", nav)) == [page.name for page in PAGES]


def test_the_public_names_are_on_the_page_and_can_be_documented():
    page = (DOCS / "architecture.md").read_text()
    assert all(f"`{name}`" in page for name in hooks.API)
    site = hooks.on_page_markdown(page)
    assert all(f"::: {name}\n" in site for name in hooks.API) and "](../" not in site


def test_the_picture_of_the_packages_is_what_its_script_draws():
    """After a change of docs/architecture.py: python docs/architecture.py."""
    assert (DOCS / "images" / "architecture.svg").read_text() == script("architecture").svg()


@pytest.mark.parametrize(
    "page, names",
    [("accuracy", ["accuracy"]), ("real_skies", ["summary", "figures"]), ("real_skies", ["covariances"])]
    + [("performance", ["cost"])],
)
def test_a_benchmark_replaces_its_tables_and_leaves_the_text(page, names, tmp_path):
    pages, copy = script("pages", ROOT / "benchmarks"), tmp_path / "page.md"
    text = (DOCS / f"{page}.md").read_text()
    copy.write_text(text)
    pages.write(copy, **{name: f"new {name} \\1\n" for name in names})
    for name in names:
        assert f"<!-- {name} -->\n\nnew {name} \\1\n\n<!-- /{name} -->" in copy.read_text()
        before, after = text.split(f"<!-- {name} -->")[0], text.split(f"<!-- /{name} -->")[1]
        assert names.index(name) or copy.read_text().startswith(before)
        assert name != names[-1] or copy.read_text().endswith(after)
    with pytest.raises(SystemExit, match="new"):
        pages.write(copy, nonsense="new")
