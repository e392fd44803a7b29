"""Whole splits, and how `evaluate` reads them and single predictions."""

from __future__ import annotations

import json
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
from reviosa_core.schema import DataError, Role
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
    monkeypatch.setattr(cli_predict, "load_system", lambda checkpoint, device: system)
    out, count = tmp_path / "p.json", sum(len(clip.expressions) for clip in read(data))
    done = reviosa("predict", "--data", data, "--checkpoint", tmp_path, "--out", out)
    assert done.exit_code == 0 and done.output == f"written: {out}: {count} expressions of 2 videos\n", done.output
    assert [video for video, _ in predictions.read(out)] == [clip.id for clip in read(data)]
    done = reviosa("evaluate", "--data", data, "--predictions", out, "--workers", 1, "--bootstrap", 0)
    assert done.exit_code == 0 and "InterRVOS-Target" in done.output, done.output


def test_what_single_predictions_wrote_is_scored_like_a_split(data: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(cli_predict, "load_system", lambda checkpoint, device: Standing())
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


def half(device: str | None) -> Standing:
    """A system that a process of its own can make."""
    if device == "broken":
        raise DataError("no such device")
    return Standing()


@pytest.mark.slow
def test_processes_share_a_split_and_write_the_same_file(data: Path, tmp_path: Path):
    clips = read(data)
    splits.write(tmp_path / "one.json", clips, half, progress=False)
    splits.write(tmp_path / "two.json", clips, half, [None, None], progress=False)
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    with pytest.raises(DataError, match="no such device"):
        splits.write(tmp_path / "three.json", clips, half, ["broken", "broken"], progress=False)
    assert not (tmp_path / "three.json").exists()


@pytest.mark.slow
def test_a_models_masks_of_a_split_are_those_of_segment(data: Path, tmp_path: Path):
    folders.save(ReVIOSa(tiny.reader(), tiny.seeing(), tuple(Role), frames=2, prompted="first"), tmp_path / "w")
    splits.write(
        tmp_path / "p.json", read(data), partial(cli_predict.load_system, tmp_path / "w"), [None, None], progress=False
    )
    model = folders.read(tmp_path / "w")
    for clip, (_, found) in zip(read(data), predictions.read(tmp_path / "p.json"), strict=True):
        for prediction, want in zip(found, model.segment(clip), strict=True):
            for role, rles in prediction.masks.items():
                dense = predictions.masks.decode_all(rles, clip.size)
                assert np.array_equal(dense, want.masks[role])
