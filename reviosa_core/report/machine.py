"""What this machine and this project are: what a bug report needs."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch

import reviosa_core
from reviosa_core import config
from reviosa_core.data import formats
from reviosa_core.report import origin, store
from reviosa_core.report.naming import without_password
from reviosa_core.schema import DataError

PACKAGES = ("torch", "transformers", "peft", "sam2", "mlflow", "dvc", "papermill", "numpy")


def describe() -> dict[str, dict[str, str]]:
    """Sections of facts, ready for JSON: versions, machine, and, inside a project, what is in it."""
    versions = {"reviosa": reviosa_core.__version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in PACKAGES}
    found = {"versions": versions, "machine": _machine()}
    try:
        project = config.project()
    except FileNotFoundError as error:
        return found | {"project": {"folder": f"none: {error}"}}
    return found | {"project": _project(project), "data": _data(project), "weights": _weights(project)}


def as_text(found: Mapping[str, Mapping[str, Any]]) -> str:
    """One fact a line, by section."""
    width = max(len(name) for facts in found.values() for name in facts) + 2
    lines = []
    for section, facts in found.items():
        lines += [section, *(f"  {name:<{width}}{value}" for name, value in facts.items())]
    return "\n".join(lines)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _machine() -> dict[str, str]:
    memory = psutil.virtual_memory()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    facts = {
        "system": platform.platform(),
        "python": sys.executable,
        "cores": f"{cores} of {os.cpu_count()}, {torch.get_num_threads()} torch threads",
        "memory": f"{memory.available / 2**30:.1f} of {memory.total / 2**30:.1f} GiB free",
    }
    for number in range(torch.cuda.device_count()):
        card = torch.cuda.get_device_properties(number)
        facts[f"cuda:{number}"] = f"{card.name}, {card.total_memory / 2**30:.1f} GiB"
    return facts if torch.cuda.is_available() else facts | {"gpu": "none that torch can use"}


def _project(project: config.Project) -> dict[str, str]:
    return {
        "folder": str(project.root),
        "profile": project.profile,
        "disk": f"{psutil.disk_usage(str(project.root)).free / 2**30:.1f} GiB free",
        "runs": without_password(store.tracking_uri()) if store.wanted() else "not logged",
        "commit": _commit(project),
    }


def _commit(project: config.Project) -> str:
    found = origin.commit(project)
    changed = " with changes" if found.get("git.dirty") == "True" else ""
    return found.get("mlflow.source.git.commit", "not a git repository") + changed


def _data(project: config.Project) -> dict[str, str]:
    folders = [project.data(split) for split in project.settings.data.splits.model_dump()]
    folders += [folder for folder in project.transfer.values() if folder not in folders]
    return {_inside(folder, project.root): _dataset(folder) for folder in folders}


def _inside(folder: Path, root: Path) -> str:
    """A folder as a person would name it: from the project's root, where it lies there."""
    return str(folder.relative_to(root) if folder.is_relative_to(root) else folder)


def _dataset(folder: Path) -> str:
    if not folder.is_dir():
        return "not there"
    try:
        found = formats.detect(folder)
    except DataError as error:
        return f"unreadable: {error}"
    return f"{found.format}, splits {', '.join(found.splits)}"


def _weights(project: config.Project) -> dict[str, str]:
    start = project.start
    named = (
        [Path(start.internvl), Path(start.sam2)]
        if isinstance(start, config.Released)
        else [start / "internvl", start / "sam2.safetensors"]
    )
    trained = [project.root / "runs" / project.profile / name for name in project.params.experiments]
    return {
        os.path.relpath(path, project.root): f"{_size(path) / 2**20:.1f} MiB" if path.exists() else "not there"
        for path in (*named, *trained)
    }


def _size(path: Path) -> int:
    return (
        sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size
    )
