"""docs/own-data.md is run as it is written, and prints what it says it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from reviosa_core.data import interrvos

SHELL = """set -eu
python() { "$PYTHON" "$@"; }
reviosa() { "$PYTHON" -c 'from reviosa_core.cli.app import app; app(prog_name="reviosa")' "$@"; }
"""


def test_the_page_runs_as_written(root: Path, tmp_path: Path):
    page = (root / "docs" / "own-data.md").read_text()
    blocks = re.findall(r"^```(sh|text)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^```\w", page, re.MULTILINE)), "every block is run or compared"
    said = "".join(text for kind, text in blocks if kind == "text")
    done = subprocess.run(
        ["bash", "-c", SHELL + "".join(text for kind, text in blocks if kind == "sh")],
        cwd=tmp_path,
        env=os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(root), "MPLBACKEND": "Agg"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0 and done.stdout == said, done.stdout
    clips = {clip.id: clip for clip in interrvos.read(tmp_path / "mine")}
    assert len(clips) == 5 and sum(e.is_interaction for c in clips.values() for e in c.expressions) == 4
    forward, inverse = clips["street"].expressions
    assert forward.actor == inverse.target and forward.target == inverse.actor
    for picture in ("street.png", "statistics.png"):
        with Image.open(tmp_path / picture) as opened:
            opened.verify()
