"""Imports between rooms go strictly down; the table below is the house, top floor first."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

# Room -> the rooms it may import from. Whatever stands in a line stands above it in the table: no circle can be drawn.
HOUSE = {
    "schema": "",
    "outputs": "schema",
    "bounds": "",
    "sizes": "bounds",
    "schedules": "bounds sizes",
    "config": "schema bounds sizes schedules",
    "masks": "schema",
    "workers": "",
    "data": "schema outputs masks",
    "model": "schema masks config data",
    "scoring": "schema outputs masks workers data",
    "training": "schema outputs workers config data",
    "weights": "schema outputs sizes config data model",
    "baselines": "schema outputs workers bounds sizes schedules config data model scoring training weights",
    "studies": "schema config scoring",
    "intershapes": "schema outputs masks workers config data model scoring training",
    "report": "schema outputs masks config data scoring studies",
    "predict": "schema outputs bounds masks workers data model scoring report",
    "annotation": "schema outputs bounds masks config data model weights intershapes",
    "cli": "schema outputs bounds config data model scoring weights baselines intershapes report predict annotation",
}
OWNERS = {
    "mlflow": "report.tracking report.models",
    "ruamel": "config",
    "yaml": "config",
    "openai": "annotation.endpoint",
    "gradio": "predict.demo",
}  # package -> the modules that import it
CORE, ABOVE = "reviosa_core", ("baselines", "benchmarks", "tests")


def room(module: str) -> str:
    return module.partition(".")[0]


def imported(source: str, module: str, modules: set[str]) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import at any depth; `from core.data import video` is core.data.video."""
    package = f"{CORE}.{module}".split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            stem = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*stem, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield node.lineno, full if full.removeprefix(f"{CORE}.") in modules else base


def violations(sources: dict[str, str]) -> list[str]:
    """One line per import that breaks a rule, for {dotted module below the core: source}."""
    found, arrows = [], {}
    for module, source in sorted(sources.items()):
        if module == "__init__":  # the front door: names of every room, imported when they are asked for
            continue
        if room(module) not in HOUSE:
            found.append(f"{module}: in no room; give it one in tests/test_layers.py")
            continue
        arrows[module] = set()
        for line, name in imported(source, module, set(sources)):
            top, _, rest = name.partition(".")
            where = f"{module}:{line} imports {name}"
            if top in ABOVE:
                found.append(f"{where}: the core imports nothing that is built on it")
            elif module not in OWNERS.get(top, module).split():
                found.append(f"{where}: only {OWNERS[top]} does")
            elif top == CORE and rest:
                if module.endswith("__init__"):
                    found.append(f"{where}: rooms re-export nothing")
                elif room(rest) == room(module):
                    arrows[module].add(rest)
                elif room(rest) not in HOUSE[room(module)].split():
                    found.append(f"{where}: {room(module)} may import from {HOUSE[room(module)] or 'nothing'}")
    found += [f"{module}: imports itself, by {' > '.join(way)}" for module, way in _circles(arrows)]
    return list(dict.fromkeys(found))  # several names may come from one module


def _circles(arrows: dict[str, set[str]]) -> Iterator[tuple[str, list[str]]]:
    """Modules of one room that import each other in a circle, each with the way back to it."""
    for start in arrows:
        ways = [[start]]
        while ways:
            way = ways.pop()
            for to in arrows.get(way[-1], ()):
                if to == start:
                    yield start, [*way[1:], to]
                    ways.clear()
                    break
                if to not in way:
                    ways.append([*way, to])


def test_nobody_imports_from_above():
    rooms = list(HOUSE)
    for number, (name, below) in enumerate(HOUSE.items()):
        assert not set(below.split()) - set(rooms[:number]), name


def test_the_core_keeps_its_house(root: Path):
    files = (root / CORE).rglob("*.py")
    sources = {".".join(f.relative_to(root / CORE).with_suffix("").parts): f.read_text() for f in files}
    assert not (broken := violations(sources)), "\n" + "\n".join(broken)


def test_no_arrow_is_allowed_that_nobody_needs(root: Path):
    """The table is the house as it stands, not as it might be."""
    files = (root / CORE).rglob("*.py")
    sources = {".".join(f.relative_to(root / CORE).with_suffix("").parts): f.read_text() for f in files}
    drawn = {
        (room(module), room(name.partition(".")[2]))
        for module, source in sources.items()
        for _, name in imported(source, module, set(sources))
        if name.startswith(f"{CORE}.") and module != "__init__"
    }
    assert not {(name, to) for name, below in HOUSE.items() for to in below.split()} - drawn


def test_every_room_says_what_enters_and_what_leaves(root: Path):
    for folder in (f.parent for f in (root / CORE).rglob("*/__init__.py")):
        tree = ast.parse((folder / "__init__.py").read_text())
        text = ast.get_docstring(tree) or ""
        assert len(text.splitlines()) == 1 and " in, " in text and " out" in text, folder
        assert len(tree.body) == 1, f"{folder}: rooms re-export nothing"


def test_files_stay_short(root: Path):
    """A file that has grown over 400 lines holds two subjects."""
    long = {f.name: n for f in (root / CORE).rglob("*.py") if (n := len(f.read_text().splitlines())) > 400}
    assert not long


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("model.losses", "from reviosa_core.weights import files", "model may import from"),
        ("scoring.metrics", "def f():\n    import reviosa_core.report.plots", "scoring.metrics:2 imports"),
        ("data.mevis", "from ..model.mllm import Mllm", "data may import from schema outputs masks"),
        ("schema", "from reviosa_core.masks import union", "schema may import from nothing"),
        ("training.loop", "import mlflow.pytorch", "only report.tracking"),
        ("training.loop", "from ruamel.yaml import YAML", "only config"),
        ("training.loop", "import yaml", "only config"),
        ("training.loop", "from baselines.query import decoder", "built on it"),
        ("data.__init__", "from reviosa_core.data.video import open_video", "re-export"),
        ("helpers", "", "in no room"),
        ("model.mllm", "from reviosa_core.model import reviosa", "imports itself, by model.reviosa > model.mllm"),
    ],
)
def test_a_broken_rule_is_seen(module: str, source: str, message: str):
    others = {name: "" for name in ("data.video", "weights.files", "report.plots", "masks")}
    others["model.reviosa"] = "from reviosa_core.model import mllm"
    found = violations(others | {"model.mllm": ""} | {module: source})
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.reviosa", "from reviosa_core.model import mllm, segmenter"),
        ("intershapes.splits", "from reviosa_core.data import interrvos"),
        ("data.mevis", "from reviosa_core.data.video import open_video"),
        ("masks", "from reviosa_core.schema import Clip"),
        ("cli.app", "from reviosa_core import __version__, predict"),
        ("report.tracking", "import mlflow"),
        ("config", "from ruamel.yaml import YAML"),
        ("model.losses", "import torch\nfrom collections import abc"),
    ],
)
def test_what_the_rules_allow(module: str, source: str):
    assert not violations({"model.mllm": "", "model.segmenter": "", "predict": ""} | {module: source})
