"""`make` where people have their projects: blanks and signs in the path, an environment that another checkout uses."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NAMES = ["my project", "a?b", "100%20", "c#", "it's $HOME & (more)"]
METADATA = "Metadata-Version: 2.1\nName: reviosa-workbook\nVersion: 0\n"


def checkout(folder: Path, root: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("Makefile", "requirements.lock", "pyproject.toml"):
        shutil.copy(root / name, folder / name)
    return folder


def environment(folder: Path, installed: Path | None = None) -> Path:
    """A Python that notes what pip is asked for, in which `installed` is the project's place."""
    found = folder / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (found / "pip").mkdir()
    (found / "pip" / "__main__.py").write_text(
        f"import sys\nopen({str(folder / 'asked.txt')!r}, 'a').write(' '.join(sys.argv[1:]) + chr(10))\n"
    )
    (folder / "bin" / "pip").write_text("")
    (folder / "bin" / "pip").chmod(0o755)
    (folder / "bin" / "dvc").write_text(f"#!/bin/sh\necho dvc in '{folder.name}' is asked: $*\n")
    (folder / "bin" / "dvc").chmod(0o755)
    if installed:
        about = found / "reviosa_workbook-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(METADATA)
        (about / "direct_url.json").write_text(f'{{"url": "{installed.as_uri()}", "dir_info": {{"editable": true}}}}')
    return folder


def make(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    clean = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "VENV")}
    return subprocess.run(["make", *words], cwd=folder, env=clean, capture_output=True, text=True)


@pytest.mark.parametrize("name", NAMES)
def test_any_path_will_do(name: str, root: Path, tmp_path: Path):
    folder = checkout(tmp_path / name, root)
    environment(folder / ".venv")
    done = make(folder, "repro", "ARGS=-s train")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("dvc in .venv is asked: repro -s train\n")
    steps = [line.partition(":")[0] for line in done.stdout.splitlines() if line.startswith("setup")]
    assert steps == [f"setup {n}/4" for n in range(1, 5)] and "pip" not in done.stdout, "a line a step"
    asked = (folder / ".venv" / "asked.txt").read_text().splitlines()
    assert len(asked) == 4 and asked[-1].endswith("-e .") and (folder / ".venv" / ".installed").is_file()
    assert make(folder, "repro").returncode == 0
    assert len((folder / ".venv" / "asked.txt").read_text().splitlines()) == 4, "installed once"
    os.utime(folder / ".venv" / ".installed", (0, 0))
    assert make(folder, "setup").returncode == 0
    assert len((folder / ".venv" / "asked.txt").read_text().splitlines()) == 8, "and when the lock has changed"
    assert [path.name for path in tmp_path.iterdir()] == [name], "nothing beside the project"


def test_an_environment_elsewhere_with_a_blank(root: Path, tmp_path: Path):
    folder, there = checkout(tmp_path / "project", root), environment(tmp_path / "my env 100%")
    assert "dvc in my env 100% is asked" in make(folder, "repro", f"VENV={there}").stdout
    assert (there / ".installed").is_file()


def test_a_path_that_cannot_be_on_the_path_is_refused_at_once(root: Path, tmp_path: Path):
    folder = checkout(tmp_path / "a:b", root)
    done = make(folder, "setup")
    assert done.returncode == 2 and "a path with a colon or a quote" in done.stderr and done.stderr.count("\n") == 1
    assert not (folder / ".venv").exists()


def test_the_environment_of_another_checkout_is_left_alone(root: Path, tmp_path: Path):
    first, second = checkout(tmp_path / "the first", root), checkout(tmp_path / "second", root)
    venv = environment(tmp_path / "shared", installed=first)
    done = make(second, "test", f"VENV={venv}")
    assert done.returncode == 2 and not (venv / "asked.txt").exists()
    assert f"has the project in {first} installed, not the one in {second}" in done.stderr.splitlines()[0]
    assert make(first, "setup", f"VENV={venv}").returncode == 0 and (venv / "asked.txt").exists()
