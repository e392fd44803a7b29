"""Every command of docs/predict.md runs as it is written."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import warm

from reviosa_core.data.video import write_mp4
from reviosa_core.intershapes.splits import write_split
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.schema import Role
from reviosa_core.weights import folders

SHELL = """set -eu
python() { "$PYTHON" "$@"; }
ffmpeg() { "$PYTHON" remux.py "$4"; }  # in its place: not every machine has it
reviosa() {
  case "$1" in
    demo) interrupted "$@" --port "$PORT" ;;
    *) command reviosa "$@" ;;
  esac
}
interrupted() {  # what a person ends who has seen enough
  command reviosa "$@" > said.txt &
  until grep -q Ctrl-C said.txt || ! kill -0 $!; do sleep 0.2; done
  kill $! && ! wait $! && cat said.txt
}
"""
REMUX = """import sys, av
with av.open(sys.argv[1]) as given, av.open(sys.stdout.buffer, "w", format="matroska") as out:
    stream = out.add_stream_from_template(given.streams.video[0])
    for packet in given.demux(video=0):
        if packet.dts is not None:
            packet.stream = stream
            out.mux(packet)
"""


@pytest.mark.slow
def test_every_command_of_the_page_runs(root: Path, tmp_path: Path):
    for split in ("val", "dev", "test"):
        write_split(tiny.data(64, 4), split, tmp_path / "data" / "tiny", seed=0, progress=False)
    model = ReVIOSa(tiny.reader(), tiny.seeing(), tuple(Role), frames=2, prompted="first")
    folders.save(model, tmp_path / "runs" / "tiny" / "best")
    frames = np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), dtype=np.uint8)
    write_mp4(tmp_path / "clip.mp4", frames, 6.0)

    (tmp_path / "remux.py").write_text(REMUX)

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        free = taken.getsockname()[1]
    page = (root / "docs" / "predict.md").read_text()
    blocks = re.findall(r"^```(sh|python)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^```\w", page, re.MULTILINE)) == 14, "every block is run"
    script = "".join(text if kind == "sh" else f"python - <<'PY'\n{text}PY\n" for kind, text in blocks)
    env = os.environ | {"PYTHON": sys.executable, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PORT": str(free)}
    with warm.forge(tmp_path / "forge") as forged:
        done = subprocess.run(
            ["bash", "-c", SHELL + script],
            cwd=tmp_path,
            env=env | forged,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    assert done.returncode == 0, done.stdout
    assert f"http://127.0.0.1:{free}/ until you press Ctrl-C" in done.stdout
    assert done.stdout.count("exit code 1") == 1 and "1 of 3 jobs failed" in done.stdout
    runs = {path.name: {p.name for p in path.iterdir()} for path in (tmp_path / "runs").iterdir() if path.is_dir()}
    plain = {"manifest.json", "masks", "overlay.mp4", "prediction.json", "sheet.png"}
    assert runs["dog"] == plain | {"palette", "ytvis.json", "masks.webm"} and runs["part"] == runs["sure"] == plain
    assert runs["jobs"] == {"pull", "end-of-it", "report.json", "report.csv"} and len(runs["both"]) == 4
    assert len(list((tmp_path / "runs" / "part" / "masks" / "actor").iterdir())) == 3
    about = json.loads((tmp_path / "runs" / "stream" / "prediction.json").read_text())
    assert about["made_from"]["stream"]["every"] == 4 and about["questions"][0]["why"] == "first"
    lines = list(map(json.loads, (tmp_path / "runs" / "lines.jsonl").read_text().splitlines()))
    assert [line["frame"] for line in lines] == [*range(6)] and set(lines[5]["roles"]) == {"actor", "target"}
    sure = json.loads((tmp_path / "runs" / "calibrated" / "prediction.json").read_text())["confidence"]
    assert len(sure["actor"]["present_calibrated"]) == 6 and (tmp_path / "runs" / "reliability.png").is_file()
