"""A copy of the project as a newcomer has it: what git tracks, and new files it would."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path


def copied(root: Path, folder: Path, wanted: Callable[[str], bool]) -> Path:
    """The files whose names, relative to the root, are wanted; a git repository of its own, without commits."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    for name in listed:
        if (root / name).is_file() and wanted(name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder
