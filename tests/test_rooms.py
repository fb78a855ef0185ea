"""The plan of the house: which room may import which, and that the method needs neither files nor MintPy."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mintpy_vae

PACKAGE = Path(mintpy_vae.__file__).parent
MAY_IMPORT = {
    "method": set(),
    "stack": set(),
    "simulate": set(),
    "project": {"method", "stack"},
    "results": {"method", "stack"},
    "report": {"method", "stack", "results"},
    "workflow": {"method", "stack", "project", "results", "report"},
    "evaluation": {"method", "stack", "project", "results", "report", "workflow"},
    "cli": {"stack", "project", "simulate", "workflow", "evaluation"},
}
"""Besides the modules at the root, which import no room but for these."""
ROOT_MAY_IMPORT = {"__init__": {"workflow", "results"}, "metrics": {"method"}, "demo": {"simulate"}}
MODULES = sorted(PACKAGE.rglob("*.py"))


def name_of(file):
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


def imported_by(file):
    """Modules of the package that a file imports anywhere, as dotted names within the package."""
    here, found = name_of(file).split(".")[:-1], set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = here[: len(here) - node.level + 1]
            elif (node.module or "").split(".")[0] == "mintpy_vae":
                base = []
            else:
                continue
            inside = (node.module or "").removeprefix("mintpy_vae").strip(".") if not node.level else node.module
            module = ".".join([*base, *filter(None, [inside])])
            names = [f"{module}.{alias.name}".strip(".") for alias in node.names]
            modules = {name_of(m) for m in MODULES}
            found |= {n if n in modules else module for n in names}
        elif isinstance(node, ast.Import):
            found |= {
                a.name.removeprefix("mintpy_vae").strip(".") for a in node.names if a.name.startswith("mintpy_vae")
            }
    return found


@pytest.mark.parametrize("file", MODULES, ids=name_of)
def test_imports_go_one_way(file):
    name = name_of(file)
    room = name.split(".")[0] if "." in name else None
    others = {m.split(".")[0] for m in imported_by(file) if (PACKAGE / m.split(".")[0]).is_dir() and m} - {room}
    allowed = MAY_IMPORT[room] if room else ROOT_MAY_IMPORT.get(name, set())
    assert others <= allowed, f"{name} imports {sorted(others - allowed)}"


def test_no_module_imports_itself_by_way_of_others():
    graph = {name_of(f): {m if m else "__init__" for m in imported_by(f)} - {name_of(f)} for f in MODULES}
    graph["__init__"] = graph["__init__"] - {"workflow.correction", "results.result"}  # on first use only
    done, path = set(), []

    def walk(module):
        if module in path:
            raise AssertionError(" -> ".join([*path[path.index(module) :], module]))
        if module in done or module not in graph:
            return
        path.append(module)
        for other in sorted(graph[module]):
            walk(other)
        done.add(path.pop())

    for module in graph:
        walk(module)


def test_the_method_needs_neither_files_nor_mintpy():
    modules = [f"mintpy_vae.{name_of(f)}" for f in MODULES if name_of(f).startswith("method.") and "__" not in f.name]
    unwanted = ("h5py", "mintpy", "mintpy_vae.stack")
    code = f"import sys, {', '.join(modules)}; print([m for m in {unwanted} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_shows_what_it_has_to_offer(room):
    module = __import__(f"mintpy_vae.{room}", fromlist=["__all__"])
    assert module.__doc__ and all(getattr(module, name) is not None for name in module.__all__)


def test_every_room_is_in_the_plan():
    assert {p.name for p in PACKAGE.iterdir() if p.is_dir() and p.name != "__pycache__"} == set(MAY_IMPORT)
