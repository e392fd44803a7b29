"""Imports go strictly down in layer; the table below is the architecture."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

LAYERS = {
    "schema": 0,
    "config": 0,
    "masks": 0,
    "data.*": 1,
    "losses": 1,
    "metrics": 1,
    "bitmasks": 1,
    "protocols": 1,
    "predictions": 1,
    "submissions": 1,
    "weights": 1,
    "parallel": 1,
    "model.*": 2,
    "layouts": 3,
    "checkpoint": 3,
    "convert": 3,
    "train": 3,
    "predict": 3,
    "evaluate": 3,
    "pretrain": 3,
    "selection": 3,
    "probes": 3,
    "verify": 3,
    "plots": 4,
    "tables": 4,
    "tracking": 4,
    "cli": 4,
}
# Importer -> what it may import from its own layer.
SIBLINGS = {
    "masks": ("schema",),
    "metrics": ("bitmasks",),
    "protocols": ("metrics", "bitmasks"),
    "predictions": ("data.jsonfile", "data.images"),
    "weights": ("data.jsonfile",),
    "config": ("schema",),
    "submissions": ("predictions", "data.images"),  # its writer, and what a plain file name is
    "data.own": ("data.interrvos",),  # the writer of the format
    "data.vidor": ("data.interrvos",),  # where frames lie in it
    "data.intershapes": ("data.interrvos", "data.verbs"),  # the writer of the format, and the motions
    # What formats share: the style of folder, then files.
    "data.interrvos": ("data.mevis_style",),
    "data.mevis": ("data.mevis_style",),
    "data.revos": ("data.mevis_style",),
    "data.ref_sav": ("data.mevis_style", "data.maskdict"),
    "data.ref_davis": ("data.ref_youtube_vos",),
    "data.mevis_style": ("data.maskdict",),
    "data.formats": ("data.*",),  # opens them all
    "data.*": ("data.video", "data.images", "data.jsonfile", "data.lazy", "data.report"),
    "model.mllm": ("model.attention", "model.packing", "model.pixels", "model.prompts"),  # what a reader is made of
    "model.segmenter": ("model.pixels",),
    "model.design": ("model.card", "model.mllm", "model.segmenter"),  # what it describes
    "model.reviosa": ("model.*",),  # wires them
    "checkpoint": ("layouts",),
    "convert": ("checkpoint", "layouts"),  # what is read is written
    "pretrain": ("train",),  # the loop
    "cli": ("plots", "tables"),
}
OWNERS = {"mlflow": "tracking", "ruamel": "config", "yaml": "config"}  # package -> the one module that imports it
CORE, ABOVE = "reviosa_core", ("baselines", "annotation", "benchmarks", "tests")


def matches(name: str, pattern: str) -> bool:
    return name == pattern or (pattern.endswith(".*") and name.startswith(pattern[:-1]))


def layer(name: str) -> int | None:
    return next((level for pattern, level in LAYERS.items() if matches(name, pattern)), None)


def allowed(module: str, sibling: str) -> bool:
    rules = (may for importer, may in SIBLINGS.items() if matches(module, importer))
    return any(matches(sibling, pattern) for may in rules for pattern in may)


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
    found = []
    for module, source in sorted(sources.items()):
        level = layer(module)
        if level is None and not module.endswith("__init__"):
            found.append(f"{module}: in no layer; give it one in tests/test_layers.py")
            continue
        for line, name in imported(source, module, set(sources)):
            top, _, rest = name.partition(".")
            where = f"{module}:{line} imports {name}"
            if top in ABOVE:
                found.append(f"{where}: the core imports nothing that is built on it")
            elif OWNERS.get(top, module) != module:
                found.append(f"{where}: only {OWNERS[top]} does")
            elif top == CORE and rest and (other := layer(rest)) is not None:
                if module.endswith("__init__"):
                    found.append(f"{where}: packages re-export nothing")
                elif other > level:
                    found.append(f"{where}: layer {level} imports layer {other}")
                elif other == level and not allowed(module, rest):
                    found.append(f"{where}: a sibling in layer {level}")
    return list(dict.fromkeys(found))  # several names may come from one module


def test_the_core_keeps_its_layers(root: Path):
    files = (root / CORE).rglob("*.py")
    sources = {".".join(f.relative_to(root / CORE).with_suffix("").parts): f.read_text() for f in files}
    assert not (broken := violations(sources)), "\n" + "\n".join(broken)


@pytest.mark.parametrize(
    ("module", "source", "message"),
    [
        ("losses", "from reviosa_core.model import mllm", "layer 1 imports layer 2"),
        ("losses", "from reviosa_core import train", "layer 1 imports layer 3"),
        ("losses", "def f():\n    import reviosa_core.plots", "losses:2 imports reviosa_core.plots"),
        ("data.mevis", "from ..model.mllm import Mllm", "layer 1 imports layer 2"),
        ("data.mevis", "from . import interrvos", "sibling in layer 1"),
        ("metrics", "from reviosa_core.losses import dice", "sibling in layer 1"),
        ("schema", "from reviosa_core.masks import union", "sibling in layer 0"),
        ("model.mllm", "from reviosa_core.model.reviosa import ReVIOSa", "sibling in layer 2"),
        ("train", "import mlflow.pytorch", "only tracking"),
        ("train", "from ruamel.yaml import YAML", "only config"),
        ("train", "import yaml", "only config"),
        ("train", "from baselines.query import decoder", "built on it"),
        ("data.__init__", "from reviosa_core.data.video import open_video", "re-export"),
        ("helpers", "", "in no layer"),
    ],
)
def test_a_broken_rule_is_seen(module: str, source: str, message: str):
    others = {"data.interrvos", "data.video", "model.mllm", "model.reviosa", "train", "plots", "losses", "masks"}
    (line,) = violations({name: "" for name in others} | {module: source})
    assert message in line


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.reviosa", "from reviosa_core.model import mllm, segmenter"),
        ("data.intershapes", "from reviosa_core.data import interrvos"),
        ("data.mevis", "from reviosa_core.data.video import open_video"),
        ("masks", "from reviosa_core.schema import Clip"),
        ("cli", "from reviosa_core import __version__, plots, train"),
        ("tracking", "import mlflow"),
        ("config", "from ruamel.yaml import YAML"),
        ("losses", "import torch\nfrom collections import abc"),
    ],
)
def test_what_the_rules_allow(module: str, source: str):
    assert not violations({"model.mllm": "", "model.segmenter": "", "plots": "", "train": ""} | {module: source})
