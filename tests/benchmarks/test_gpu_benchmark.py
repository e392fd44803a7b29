"""The GPU benchmark runs, at sizes of seconds on a CPU: it must not break where time on a GPU is short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def lines(root: Path, out: Path, *words: str) -> list[dict[str, Any]]:
    command = [sys.executable, root / "benchmarks" / "gpu.py", "--out", out, "--device", "cpu", "--small", *words]
    hidden = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    done = subprocess.run(command, env=os.environ | hidden, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert [json.loads(line) for line in done.stdout.splitlines()] == found
    return found


@pytest.mark.slow
def test_every_part_gives_its_numbers(root: Path, tmp_path: Path):
    short = ("--steps", "4", "--frames", "8", "9", "--size", "240p")
    found = lines(root, tmp_path / "lines.jsonl", *short)
    assert not [line for line in found if "error" in line]
    parts = {part: [line for line in found if line["part"] == part] for part in dict.fromkeys(f["part"] for f in found)}
    assert {part: len(own) for part, own in parts.items()} == {
        "train": 6, "predict": 6, "same": 2, "small": 5, "whole": 1, "kernels": 6,
    }  # fmt: skip
    assert all(line["nan"] == 0 < line["steps"] for line in parts["kernels"][:3]), "on a CPU"
    assert all(line["nan"] == [] and line["lengths"] > 100 for line in parts["kernels"][3:]), "on a CPU"
    assert all(line["finite"] for line in parts["train"])
    on, recomputed = ([line for line in parts["train"] if line["aml"]][i]["last"] for i in (0, 1))
    assert on == recomputed  # checkpointing changes no number
    # Whole attention and the asked rows alone are one loss.
    assert parts["whole"][0]["last"]["aml"] == pytest.approx(on["aml"], rel=1e-3)
    assert {(line["frames"], line["masks"]) for line in parts["predict"]} == {(8, 6), (9, 6), (9, 2), (8, 14)}
    exact, half = parts["same"]
    assert set(exact["apart_from_cpu"].values()) == {0.0} and 0 < half["apart_from_cpu"]["loss"] < 0.02


def test_a_measurement_that_fails_is_a_line_and_stops_no_other(root: Path, tmp_path: Path):
    found = lines(root, tmp_path / "lines.jsonl", "train", "--steps", "1")  # a step alone has no time between two
    assert len(found) == 6 and all("error" in line and line["took_s"] > 0 for line in found)
