"""Whole splits, and how `evaluate` reads them and single predictions."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny
from standing import Standing
from typer.testing import CliRunner

from reviosa_core.cli import predict as cli_predict
from reviosa_core.cli.app import app
from reviosa_core.data.interrvos import read
from reviosa_core.intershapes.splits import write_split
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.predict import splits
from reviosa_core.schema import Clip, DataError, Role
from reviosa_core.scoring import evaluate, predictions
from reviosa_core.weights import folders


def reviosa(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_split(tiny.data(64, 4), "test", tmp_path / "data", seed=0, progress=False)
    return tmp_path / "data" / "test"


def test_a_split_is_one_file_that_evaluate_reads(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    system = Standing()
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: system)
    out, count = tmp_path / "p.json", sum(len(clip.expressions) for clip in read(data))
    done = reviosa("predict", "--data", data, "--checkpoint", tmp_path, "--out", out)
    assert done.exit_code == 0 and done.output == f"written: {out}: {count} expressions of 2 videos\n", done.output
    assert [video for video, _ in predictions.read(out)] == [clip.id for clip in read(data)]
    done = reviosa("evaluate", "--data", data, "--predictions", out, "--workers", 1, "--bootstrap", 0)
    assert done.exit_code == 0 and "InterRVOS-Target" in done.output, done.output


def test_what_single_predictions_wrote_is_scored_like_a_split(data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Standing())
    (tmp_path / "w").mkdir()
    rows = [
        {"video": f"data/test/JPEGImages/{clip.id}", "text": e.text, "id": f"{clip.id}-{e.id}"}
        for clip in read(data)
        for e in clip.expressions
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, rows)))
    many = (
        "predict",
        "--manifest",
        tmp_path / "jobs.jsonl",
        "--checkpoint",
        tmp_path / "w",
        "--out",
        tmp_path / "many",
    )
    assert reviosa(*many).exit_code == 0
    assert (
        reviosa("predict", "--data", data, "--checkpoint", tmp_path / "w", "--out", tmp_path / "p.json").exit_code == 0
    )
    clips = read(data)
    asked = {"bootstrap": 0, "workers": 1, "progress": False}
    whole, folder = (evaluate.score(tmp_path / name, clips, **asked) for name in ("p.json", "many"))
    assert whole.summary == folder.summary and len(folder.rows) == 2 * len(rows)
    assert folder.rows["by_token"].all() and not whole.rows["by_token"].any(), "a folder says which tokens were written"

    video, id, total = clips[1].id, clips[1].expressions[0].id, len(rows)
    one = tmp_path / "many" / f"{video}-{id}"
    for path in (one, one / "prediction.json"):
        own = evaluate.score(path, clips, missing="zero", **asked).rows
        assert own[~own["missing"]][["video", "expression"]].drop_duplicates().to_numpy().tolist() == [[video, id]]
    with pytest.raises(DataError, match=f"no prediction for {total - 1} of {total} expressions"):
        evaluate.score(one, clips, **asked)


class Stopped(Standing):
    """Somebody presses Ctrl-C at a sentence about a video."""

    def __init__(self, at: str | None) -> None:
        super().__init__()
        self.at = at

    def run_lengths(self, clip, expressions=None):
        if clip.id == self.at:
            raise KeyboardInterrupt
        return super().run_lengths(clip, expressions)


def stopped(out: Path, clips: list[Clip]) -> Path:
    """Where the split's first clip is, of an interrupted call."""
    with pytest.raises(KeyboardInterrupt):
        splits.write(out, clips, lambda _: Stopped(clips[1].id), "m", progress=False)
    assert not out.exists()
    return out.with_name("p.json.partial")


@pytest.mark.parametrize(
    ("change", "made_by", "again"),
    [
        (None, "m", [1]),
        (lambda lines: lines + b"0123", "m", [1]),
        (lambda lines: lines + lines[:900], "m", [1]),
        (lambda lines: lines[:-1], "m", [0, 1]),
        (None, "another model", [0, 1]),
    ],
    ids=["as left", "a hash cut off", "a second line cut off", "the line cut off", "by another model"],
)
def test_an_interrupted_split_goes_on_where_it_was(data: Path, tmp_path: Path, change, made_by: str, again: list[int]):
    clips, system = read(data), Standing()
    splits.write(tmp_path / "whole.json", clips, lambda _: system, "m", progress=False)
    partial = stopped(tmp_path / "p.json", clips)
    if change is not None:
        partial.write_bytes(change(partial.read_bytes()))
    system.asked.clear()
    count = splits.write(tmp_path / "p.json", clips, lambda _: system, made_by, progress=False)
    assert [clip for clip, _ in system.asked] == [clips[i].id for i in again]
    assert count == sum(len(clip.expressions) for clip in clips)
    assert (tmp_path / "p.json").read_bytes() == (tmp_path / "whole.json").read_bytes()
    assert not partial.exists()


def test_nothing_is_added_to_half_a_line(data: Path, tmp_path: Path):
    clips, system = read(data), Standing()
    partial = stopped(tmp_path / "p.json", clips)
    whole = partial.read_bytes()
    partial.write_bytes(whole[:-9])
    assert stopped(tmp_path / "p.json", clips).read_bytes() == whole
    splits.write(tmp_path / "p.json", clips, lambda _: system, "m", progress=False)
    assert [clip for clip, _ in system.asked] == [clips[1].id]


def test_other_sentences_are_another_clip_and_no_model_is_loaded_for_what_is_there(data: Path, tmp_path: Path):
    clips, system = read(data), Standing()
    stopped(tmp_path / "p.json", clips)
    other = [replace(clips[0], expressions=clips[0].expressions[:1]), *clips[1:]]
    splits.write(tmp_path / "p.json", other, lambda _: system, "m", progress=False)
    assert [clip for clip, _ in system.asked] == [clip.id for clip in clips]
    (tmp_path / "p.json").unlink()
    stopped(tmp_path / "p.json", clips)
    assert splits.write(tmp_path / "p.json", clips[:1], pytest.fail, "m", progress=False) == len(clips[0].expressions)


@pytest.mark.parametrize("content", [b"my notes\n", b"my notes", b"00\n"])
def test_what_is_no_interrupted_split_is_left_alone(data: Path, tmp_path: Path, content: bytes):
    (tmp_path / "p.json.partial").write_bytes(content)
    with pytest.raises(DataError, match=r"p\.json\.partial: line 1 is of no interrupted call"):
        splits.write(tmp_path / "p.json", read(data), half, "m", progress=False)
    assert (tmp_path / "p.json.partial").read_bytes() == content


def test_the_command_goes_on_with_the_same_weights_mode_and_numbers_only(data: Path, tmp_path: Path, monkeypatch):
    clips, system = read(data), Stopped(read(data)[1].id)
    monkeypatch.setattr(cli_predict, "_system", lambda *_: system)
    words = ("predict", "--data", data, "--checkpoint", tmp_path / "w", "--out", tmp_path / "p.json")
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "model.safetensors").write_bytes(b"old")
    for more in ((), ("--half",), ("--mode", "stream"), ("--mode", "stream", "--every", 5)):
        assert reviosa(*words, *more).exit_code
    (tmp_path / "w" / "model.safetensors").write_bytes(b"new")
    assert reviosa(*words).exit_code
    system.at = None
    assert reviosa(*words).exit_code == 0
    assert [clip for clip, _ in system.asked] == [clips[0].id] * 5 + [clips[1].id]


def half(device: str | None) -> Standing:
    """A system that a process of its own can make."""
    if device == "broken":
        raise DataError("no such device")
    return Standing()


@pytest.mark.slow
def test_processes_share_a_split_and_write_the_same_file(data: Path, tmp_path: Path):
    clips = read(data)
    splits.write(tmp_path / "one.json", clips, half, "m", progress=False)
    splits.write(tmp_path / "two.json", clips, half, "m", [None, None], progress=False)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    with pytest.raises(DataError, match="no such device"):
        splits.write(tmp_path / "three.json", clips, half, "m", ["broken", "broken"], progress=False)
    assert not list(tmp_path.glob("*three.json*"))


@pytest.mark.slow
def test_a_models_masks_of_a_split_are_those_of_segment(data: Path, tmp_path: Path):
    folders.save(ReVIOSa(tiny.reader(), tiny.seeing(), tuple(Role), frames=2, prompted="first"), tmp_path / "w")
    load = partial(cli_predict.load_system, tmp_path / "w")
    splits.write(tmp_path / "p.json", read(data), load, "m", [None, None], progress=False)
    model = folders.read(tmp_path / "w")
    for clip, (_, found) in zip(read(data), predictions.read(tmp_path / "p.json"), strict=True):
        for prediction, want in zip(found, model.segment(clip), strict=True):
            for role, rles in prediction.masks.items():
                dense = predictions.masks.decode_all(rles, clip.size)
                assert np.array_equal(dense, want.masks[role])
