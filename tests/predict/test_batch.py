"""Many jobs: encoded once a video, resumed, and none stopped by another."""

from __future__ import annotations

import csv
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from standing import H, Standing, T, W, frames
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.cli import predict as cli_predict
from reviosa_core.cli.app import app
from reviosa_core.data.video import open_video, write_mp4
from reviosa_core.predict import batch, jobs, result
from reviosa_core.predict.result import Settings


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Standing:
    made = Standing()
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: made)
    return made


def reviosa(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Four jobs: two of one video, one of a video that is not there, one whose sentence the system refuses."""
    (tmp_path / "weights").mkdir()
    frames(tmp_path / "yard")
    write_mp4(tmp_path / "street.mp4", np.full((T, H, W, 3), 90, np.uint8), 5.0)
    rows = ["video,text,id", "yard,a dog,", "yard,a cat,cat", "gone.mp4,a dog,gone", "street.mp4,a ghost,ghost"]
    (tmp_path / "jobs.csv").write_text("\n".join(rows) + "\n")
    return tmp_path / "jobs.csv"


def test_what_is_there_is_known_from_elsewhere(
    system: Standing, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Called in another folder, with a copy of the checkpoint."""
    monkeypatch.chdir(tmp_path)
    assert "yard--a-dog: actor" in reviosa("predict", "--manifest", "jobs.csv", "--checkpoint", "weights").output
    (tmp_path / "deeper").mkdir()
    (tmp_path / "copy").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    system.asked.clear()
    words = ("predict", "--manifest", "../jobs.csv", "--checkpoint", "../copy", "--out", "../runs/predict/jobs")
    again = reviosa(*words)
    assert "yard--a-dog: there already" in again.output and "cat: there already" in again.output, again.output
    assert "yard" not in dict(system.asked)
    (tmp_path / "copy" / "config.json").write_text("{}")  # another one
    assert "holds the prediction for" in reviosa(*words).stderr


def test_a_manifest_is_worked_off_and_resumed(system: Standing, manifest: Path, tmp_path: Path):
    words = ("predict", "--manifest", manifest, "--checkpoint", tmp_path / "weights", "--out", tmp_path / "out")
    done = reviosa(*words)
    assert done.exit_code == 1, done.output
    assert done.stderr.splitlines() == [
        f"warning: gone: {tmp_path / 'gone.mp4'}: no such file or folder",
        "warning: ghost: RuntimeError: there are no ghosts",
        f"error: 2 of 4 jobs failed: {tmp_path / 'out' / 'report.json'} says why",
    ]
    assert (
        "cat: actor: in 5 of 5 frames, 50.0 % of all pixels; probability of its token 0.50; target: in 3" in done.output
    )
    assert system.asked == [("yard", ["a dog", "a cat"]), ("street", ["a ghost"])], "both sentences at once"
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == ["cat", "report.csv", "report.json", "yard--a-dog"]
    assert sorted(p.name for p in (out / "cat").iterdir()) == [
        "manifest.json", "masks", "overlay.mp4", "prediction.json", "sheet.png",
    ]  # fmt: skip

    whole = json.loads((out / "report.json").read_text())
    assert (whole["jobs"], whole["failed"], len(whole["model"])) == (4, 2, 64)
    dog, cat, gone, ghost = whole["results"]
    assert [line["id"] for line in whole["results"]] == ["yard--a-dog", "cat", "gone", "ghost"], "the manifest's order"
    assert ghost["error"] == "RuntimeError: there are no ghosts" and gone["state"] == "failed"
    assert dog["target"] == {
        "frames": T, "frames_visible": 3, "share": round(216 / (T * H * W), 6), "median_area": round(72 / (H * W), 6),
        "median_neighbour_iou": 0.0, "left_out": 0, "token": 1.0, "median_confidence": pytest.approx(0.72),
    }  # fmt: skip
    assert dog["actor"]["median_neighbour_iou"] == 1 and cat["error"] is None
    with (out / "report.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["state"] for row in rows] == ["done", "done", "failed", "failed"]
    assert rows[0]["target_frames_visible"] == "3.0" and rows[3]["error"].startswith("RuntimeError")

    # What is there is not made again: only what failed, and a picture that is gone.
    frames(tmp_path / "gone.mp4")  # a folder may be called so
    kept = (out / "cat" / "prediction.json").stat().st_mtime_ns
    (out / "yard--a-dog" / "sheet.png").unlink()
    system.asked.clear()
    again = reviosa(*words)
    assert again.exit_code == 1 and "cat: there already" in again.output
    assert system.asked == [("gone.mp4", ["a dog"]), ("street", ["a ghost"])]
    assert (out / "cat" / "prediction.json").stat().st_mtime_ns == kept
    assert (out / "yard--a-dog" / "sheet.png").is_file()
    assert json.loads((out / "report.json").read_text())["results"][:2] == [dog, cat], "as if nothing had been"

    # Another model, another video of that name, or other settings: made again.
    system.asked.clear()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"new")
    assert len(reviosa(*words).stderr.splitlines()) == 2 and len(system.asked) == 3
    Image.new("RGB", (W, H), (1, 2, 3)).save(tmp_path / "yard" / "004.png")
    system.asked.clear()
    reviosa(*words)
    assert system.asked[0] == ("yard", ["a dog", "a cat"]) and len(system.asked) == 2
    reviosa(*words, "--min-confidence", 0.3)
    assert len(system.asked) == 5
    for again in (["yard", "gone.mp4", "street"], ["street"]):  # whose sentence fails each time
        system.asked.clear()
        reviosa(*words, "--min-confidence", 0.3, "--half")
        assert [video for video, _ in system.asked] == again
    assert json.loads((out / "cat" / "prediction.json").read_text())["made_from"]["half"] is True


def test_one_sentence_of_several_that_fails_costs_the_others_nothing(system: Standing, tmp_path: Path):
    frames(tmp_path / "yard")
    (tmp_path / "weights").mkdir()
    words = ("predict", "--video", tmp_path / "yard", "--checkpoint", tmp_path / "weights", "--out", tmp_path / "out")
    done = reviosa(*words, "--text", "a dog", "--text", "a ghost", "--text", "a cat")
    assert done.exit_code == 1 and "warning: yard--a-ghost: RuntimeError: there are no ghosts" in done.stderr
    assert system.asked == [
        ("yard", [*texts]) for texts in (("a dog", "a ghost", "a cat"), ("a dog",), ("a ghost",), ("a cat",))
    ]
    states = [line["state"] for line in json.loads((tmp_path / "out" / "report.json").read_text())["results"]]
    assert states == ["done", "failed", "done"]
    system.asked.clear()
    assert reviosa(*words, "--text", "a dog", "--text", "a cat").exit_code == 0 and not system.asked


def test_what_a_failure_held_is_let_go_before_each_is_tried_alone(system: Standing, tmp_path: Path, monkeypatch):
    """On a GPU that is the memory which all together did not fit into."""

    class Features:
        pass

    held, segment = [], Standing.segment

    def full(self, clip, expressions=None):
        features = Features()
        if len(clip.expressions) > 1:
            held.append(weakref.ref(features))
            raise RuntimeError("out of memory")
        held.append(held[0]())
        return segment(self, clip, expressions)

    monkeypatch.setattr(Standing, "segment", full)
    wanted = jobs.of_texts(frames(tmp_path / "yard"), ["a dog", "a cat"], tmp_path / "out")
    done = list(batch.run(wanted, lambda: system, Settings(tmp_path, "")))
    assert [one.state for one in done] == ["made", "made"] and held[1:] == [None, None]


def test_a_link_that_leads_nowhere_and_files_that_are_no_frames_change_nothing(system: Standing, tmp_path: Path):
    (job,) = jobs.of_texts(frames(tmp_path / "yard"), ["a dog"], tmp_path / "out")
    assert [one.state for one in batch.run([job], lambda: system, Settings(tmp_path, ""))] == ["made"]
    (tmp_path / "yard" / ".#00000.png").symlink_to("somebody@host")
    (tmp_path / "yard" / ".DS_Store").write_text("x")
    assert [one.state for one in batch.run([job], lambda: system, Settings(tmp_path, ""))] == ["there"]


def test_a_video_that_changes_while_the_model_runs_is_predicted_again(tmp_path: Path):
    class Late(Standing):
        def segment(self, clip, expressions=None):
            if not self.asked:
                Image.new("RGB", (W, H), (1, 2, 3)).save(tmp_path / "yard" / "004.png")
            return super().segment(clip, expressions)

    todo, system = jobs.of_texts(frames(tmp_path / "yard"), ["a dog"], tmp_path / "out"), Late()
    states = [[done.state for done in batch.run(todo, lambda: system, Settings(tmp_path, "m"))] for _ in range(3)]
    assert states == [["made"], ["made"], ["there"]]


def test_no_model_is_loaded_for_what_is_there(tmp_path: Path):
    todo = jobs.of_texts(frames(tmp_path / "yard"), ["a dog"], tmp_path / "out")
    settings, loaded = Settings(tmp_path, "m"), []

    def load() -> Standing:
        loaded.append(1)
        return Standing()

    assert [[d.state for d in batch.run(todo, load, settings)] for _ in range(3)] == [["made"], ["there"], ["there"]]
    assert len(loaded) == 1


def test_so_many_sentences_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(masks, "AT_ONCE", 2)
    todo, system = jobs.of_texts(frames(tmp_path / "yard"), list("abcde"), tmp_path / "out"), Standing()
    done = batch.run(todo, lambda: system, Settings(tmp_path, "m"))
    assert next(done).job is todo[0] and [texts for _, texts in system.asked] == [["a", "b"]], "written before the next"
    assert len(list(done)) == 4 and [texts for _, texts in system.asked] == [["a", "b"], ["c", "d"], ["e"]]


def test_what_the_model_is_not_sure_of_is_left_out_and_said(system: Standing, tmp_path: Path):
    frames(tmp_path / "yard")
    (tmp_path / "weights").mkdir()
    words = ("predict", "--video", tmp_path / "yard", "--text", "a dog", "--checkpoint", tmp_path / "weights")
    done = reviosa(*words, "--out", tmp_path / "out", "--min-confidence", 0.5)
    assert done.exit_code == 0, done.output
    # The actor: 0.5 x 0.8 x (0.9 or 0.3), never enough; the target: 0.72 where it is, 0.24 where there is none.
    assert (
        "actor: in 0 of 5 frames; probability of its token 0.50; left out of 5 frames with less confidence than 0.5"
        in done.output
    )
    assert "target: in 3 of 5 frames" in done.output and "1.00; left out of 0 frames" in done.output
    about = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert about["left_out"] == {"actor": 5, "target": 0} and about["confidence"]["actor"]["frames"][:2] == [0.36, 0.12]
    assert about["made_from"]["min_confidence"] == 0.5 and about["written"] == ["actor", "target"]
    assert not any(masks.decode(rle, (H, W)).any() for rle in about["masks"]["actor"])
    assert not np.array(Image.open(tmp_path / "out" / "masks" / "actor" / "000.png")).any()


def test_a_system_that_does_not_say_how_sure_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    class Silent(Standing):
        def run_lengths(self, clip, expressions=None):
            return [type(p)(p.clip_id, p.expression_id, p.masks) for p in super().run_lengths(clip, expressions)]

    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Silent())
    frames(tmp_path / "yard")
    (tmp_path / "weights").mkdir()
    words = ("predict", "--video", tmp_path / "yard", "--text", "a dog", "--checkpoint", tmp_path / "weights")
    done = reviosa(*words, "--out", tmp_path / "out", "--min-confidence", 0.5)
    assert done.exit_code == 2 and "does not say how sure it is; leave out --min-confidence" in done.stderr
    assert reviosa(*words, "--out", tmp_path / "out").exit_code == 0
    assert json.loads((tmp_path / "out" / "prediction.json").read_text())["confidence"] is None


def test_a_part_keeps_its_frames_names_and_times(system: Standing, tmp_path: Path):
    write_mp4(tmp_path / "v.mp4", np.stack([np.full((H, W, 3), 25 * i, np.uint8) for i in range(9)]), 4.0)
    (tmp_path / "weights").mkdir()
    words = ("predict", "--video", tmp_path / "v.mp4", "--text", "a dog", "--checkpoint", tmp_path / "weights")
    assert reviosa(*words, "--out", tmp_path / "out", "--start", 0.5, "--end", 1.5).exit_code == 0
    about = json.loads((tmp_path / "out" / "prediction.json").read_text())
    assert about["frames"] == ["00002", "00003", "00004", "00005"] and about["times"] == [0.5, 0.75, 1.0, 1.25]
    overlay = open_video(tmp_path / "out" / "overlay.mp4")
    assert overlay.times == (0, 0.25, 0.5, 0.75)
    assert [round(overlay.frames[i][:, W // 2 + 12 :].mean() / 25) for i in range(4)] == [2, 3, 4, 5]
    assert "no frame from 9 s to the end; the last of 9 is at 2.00 s" in reviosa(*words, "--start", 9).stderr


def test_the_models_hash_is_of_its_weights_and_descriptions(tmp_path: Path):
    (tmp_path / "model.safetensors").write_bytes(b"w")
    before = result.model_hash(tmp_path)
    (tmp_path / "README.md").write_text("notes")
    assert result.model_hash(tmp_path) == before
    (tmp_path / "reviosa.json").write_text("{}")
    assert result.model_hash(tmp_path) != before
    assert len(result.model_hash(tmp_path / "model.safetensors")) == 64
