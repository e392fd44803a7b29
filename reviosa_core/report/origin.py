"""What a run is known by: its parameters, the digests of what it reads, its commit, its process."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from reviosa_core import config


def flatten(params: Any, prefix: str = "") -> dict[str, str]:
    """Nested mappings and pydantic models to dotted names; everything below them to text (JSON where it is a list)."""
    params = params.model_dump(mode="json") if hasattr(params, "model_dump") else params
    if isinstance(params, Mapping):
        items = [flatten(value, f"{prefix}.{key}" if prefix else str(key)) for key, value in params.items()]
        return {name: value for part in items for name, value in part.items()}
    if params is None and not prefix:
        return {}
    return {prefix: params if isinstance(params, str) else json.dumps(params, default=str)}


def md5(path: str | Path) -> str:
    """The md5 that DVC writes for a file or a folder (`.dir` at its end), to match a run with dvc.lock; but what lies
    behind links to folders, which DVC does not see, counts as well. A process reads a file once, however often it is
    asked, until its size or its time is another: data sets are large."""
    path = Path(path)
    if path.is_dir():
        files = sorted((file.relative_to(path).as_posix(), file) for file in _inside(path))
        listing = [{"md5": md5(file), "relpath": name} for name, file in files]
        return hashlib.md5(json.dumps(listing, sort_keys=True).encode()).hexdigest() + ".dir"
    about = path.stat()
    return _of_file(path.resolve(), about.st_size, about.st_mtime_ns)


def _inside(path: Path) -> Iterator[Path]:
    """All files of a folder, each folder once: links may lead back to where they lie."""
    seen = set[str]()
    for folder, folders, names in os.walk(path, followlinks=True):
        folders.sort()  # of two links to one folder always the same
        if (real := os.path.realpath(folder)) in seen:
            folders.clear()
            continue
        seen.add(real)
        yield from (file for name in names if (file := Path(folder, name)).is_file())


def made_of(params: Any, inputs: Mapping[str, str | Path]) -> str:
    """What a training is known by when it goes on after an interruption: settings as they are, files by content."""
    return json.dumps({**flatten(params), **{name: md5(path) for name, path in inputs.items()}})


@cache
def _of_file(path: Path, size: int, modified: int) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "md5").hexdigest()


def commit(project: config.Project) -> dict[str, str]:
    """Commit and whether tracked files of the project differ from it; nothing outside a repository, or where git says
    nothing. What the pipeline makes does not count: while its stages run, DVC takes their outputs away, and locks are
    written."""
    ask = ["git", "-C", str(project.root)]
    try:
        head = subprocess.run([*ask, "rev-parse", "HEAD"], capture_output=True, text=True)
    except OSError:  # no git here
        return {}
    if head.returncode:
        return {}
    made = [f":(exclude,literal){folder}" for folder in {project.params.reports, "reports", "backbones"}]
    asked = ([".", ":(exclude,glob)**/dvc.lock", *made], ["reports/published.yaml"])  # typed in, nobody's output
    status = [*ask, "status", "--porcelain", "--untracked-files=no", "--"]
    found = [subprocess.run([*status, *paths], capture_output=True, text=True).stdout.strip() for paths in asked]
    return {"mlflow.source.git.commit": head.stdout.strip(), "git.dirty": str(any(found))}


def this_process() -> str:
    """Host, number and start."""
    return f"{socket.gethostname()} {psutil.Process().pid} {psutil.Process().create_time():.0f}"


def gone(process: str | None) -> bool:
    """Whether a process that `this_process` described has ended. Of one on another machine nothing is known."""
    host, number, start = ((process or "").rsplit(" ", 2) + ["", "", ""])[:3]
    if host != socket.gethostname() or not number.isdecimal():
        return False
    try:
        found = psutil.Process(int(number))
        return found.status() == psutil.STATUS_ZOMBIE or abs(found.create_time() - float(start)) > 2
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False
