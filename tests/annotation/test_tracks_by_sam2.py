"""Masks from boxes and from a grid: prompts are SAM2's own, and what is found becomes tracks of the clip's length."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from sam2.sam2_image_predictor import SAM2ImagePredictor
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.annotation import pipeline, sam2, tracks
from reviosa_core.annotation.records import Line
from reviosa_core.cli.app import app
from reviosa_core.config import Annotation
from reviosa_core.data.jsonfile import read_json
from reviosa_core.model import segmenter
from reviosa_core.schema import Clip, DataError

SIDE, H, W, T = tiny.SIZES.segmenter.image_size, 40, 56, 5


@pytest.fixture(scope="module")
def seeing():
    torch.manual_seed(0)
    return tiny.seeing()


def clip(size: tuple[int, int] = (H, W)) -> Clip:
    frames = list(np.random.default_rng(1).integers(0, 255, (T, *size, 3), dtype=np.uint8))
    return Clip("c", frames, tuple(f"{t:05d}" for t in range(T)), size, (), {})


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # SAM2's predictor
@pytest.mark.parametrize(
    ("asked", "corners", "labels"),
    [
        ({"box": np.array([10.0, 5.0, 30.0, 25.0])}, [[10, 5], [30, 25]], (2, 3)),
        ({"point_coords": np.array([[20.0, 15.0]]), "point_labels": np.array([1])}, [[20, 15]], (1,)),
    ],
)
def test_a_prompt_gives_what_sam2s_own_predictor_gives(seeing, asked, corners, labels):
    frame = clip((SIDE, SIDE)).frames[0]  # of SAM2's size: it resizes otherwise than we do
    reference = SAM2ImagePredictor(seeing.sam)
    reference._bb_feat_sizes = [(SIDE // n, SIDE // n) for n in (4, 8, 16)]  # it takes 1024 for granted
    reference.set_image(frame)
    _, ious, low = reference.predict(**asked, multimask_output=True, return_logits=True)
    points = torch.tensor([corners], dtype=torch.float32) / SIDE
    found, iou = sam2.prompt(seeing, seeing.see(torch.from_numpy(frame[None])), points, labels)
    best = int(ious.argmax())
    due = torch.nn.functional.interpolate(torch.from_numpy(low[best])[None, None], (SIDE, SIDE), mode="bilinear")
    torch.testing.assert_close(found, due[0])
    assert float(iou[0]) == pytest.approx(float(ious[best]), abs=1e-5)


def test_boxes_prompt_the_frames_they_are_given_for(seeing, monkeypatch):
    given, original = [], type(seeing).carry

    def carry(self, see, total, prompts):
        given.append(sorted(prompts))
        return original(self, see, total, prompts)

    monkeypatch.setattr(type(seeing), "carry", carry)
    boxes = {"7": {0: (3, 4, 20, 30)}, "9": {1: (0, 0, 9, 9), 4: (5, 5, 30, 30)}}
    tracker = sam2.Tracker(seeing, Path("sam2.pt"))
    found = tracker(clip(), boxes, Annotation())
    assert list(found) == ["7", "9"] and [len(track) for track in found.values()] == [T, T]
    assert given == [[0], [1, 4]]
    for track in found.values():
        assert any(track) and all(masks.decode(rle, (H, W)).shape == (H, W) for rle in track if rle)
    with pytest.raises(DataError, match="clip c: a box in frame 5 of 5"):
        tracker(clip(), {"7": {5: (3, 4, 20, 30)}}, Annotation())


def test_of_a_long_clip_the_latest_features_are_held_and_the_masks_are_the_same(seeing, monkeypatch):
    boxes, seen = {"7": {3: (3, 4, 20, 30)}, "9": {1: (0, 0, 9, 9), 4: (5, 5, 30, 30)}}, []
    original = type(seeing).see
    monkeypatch.setattr(type(seeing), "see", lambda self, frames: seen.append(len(frames)) or original(self, frames))
    monkeypatch.setattr(sam2, "AT_ONCE", 2)
    tracker = sam2.Tracker(seeing, Path("sam2.pt"))
    whole = tracker(clip(), boxes, Annotation())
    assert sorted(seen) == [1, 2, 2], "each frame once"
    monkeypatch.setattr(sam2, "HELD", 2)
    seen.clear()
    assert tracker(clip(), boxes, Annotation()) == whole and len(seen) > 3


def test_a_grid_keeps_sure_and_stable_masks_once_the_surest_first(seeing, monkeypatch):
    """Four points: two find one object, one finds the background, one is unsure."""
    logits = torch.full((4, SIDE, SIDE), -9.0)
    logits[0, :20, :20] = logits[1, :20, :21] = logits[3, 40:50, 40:50] = 9.0
    logits[2] = 9.0
    ious = torch.tensor([0.8, 0.9, 0.95, 0.5])
    monkeypatch.setattr(sam2, "prompt", lambda *_: (logits, ious))
    (kept,) = sam2.grid(seeing, seeing.see(torch.zeros(1, H, W, 3, dtype=torch.uint8)), 2)
    assert torch.equal(kept, logits[1] > 0)
    ious[3] = 0.75
    kept = sam2.grid(seeing, seeing.see(torch.zeros(1, H, W, 3, dtype=torch.uint8)), 2)
    assert [int(mask.sum()) for mask in kept] == [420, 100]
    logits[3, 40:60, 40:50] = 0.5  # as large again at another threshold: not stable
    logits[3, 40:50, 40:50] = 9.0
    assert len(sam2.grid(seeing, seeing.see(torch.zeros(1, H, W, 3, dtype=torch.uint8)), 2)) == 1


def test_what_two_points_follow_to_one_object_goes_on_once():
    left, right = np.zeros((2, H, W), bool)
    left[5:25, 5:25] = right[5:25, 30:50] = True
    also = left.copy()
    also[5:8, 5:25] = False  # IoU 17/20
    given = {"0": [masks.encode(left)] * T, "1": [masks.encode(right)] * T, "2": [masks.encode(also)] * T}
    made = Clip("c", clip().frames, clip().frame_names, (H, W), (), given)
    line: Line = tracks.run(made, Annotation(), "x", "grid")
    assert [track.poor for track in line.items] == [None, None, "as track 0"]
    assert not any(track.poor for track in tracks.run(made, Annotation(), "x", "given").items), (
        "given ones are as given"
    )


def test_load_names_a_profile_or_a_file(root, monkeypatch):
    monkeypatch.chdir(root)
    tracker = sam2.load("tiny", device="cpu")
    assert tracker.segmenter.image_size == 128
    with pytest.raises(ValueError, match="no profile 'large'"):
        sam2.load("large")
    with pytest.raises(DataError, match="nothing.pt: no such file"):
        sam2.load("nothing.pt")


def test_another_sam2_in_the_place_of_one_tracks_again_and_the_same_elsewhere_does_not(seeing, tmp_path, monkeypatch):
    tracked = []
    monkeypatch.chdir(tmp_path)  # in no project: the defaults
    monkeypatch.setattr(sam2.checkpoint, "load_sam2", lambda path, described: seeing.sam)
    monkeypatch.setattr(sam2.checkpoint, "read_sam2_yaml", lambda path: segmenter.describe(tiny.SIZES.segmenter))
    monkeypatch.setattr(sam2.Tracker, "__call__", lambda *_: tracked.append(1) or {})
    (tmp_path / "clips" / "walk").mkdir(parents=True)
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "clips" / "walk" / "0.png")

    def run(*more: str) -> str:
        words = ["annotate", "clips", "out", "--endpoint", "http://127.0.0.1:9/v1", *more]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
        return read_json(pipeline.work(Path("out")) / "masks" / "walk.json")["made_from"]

    Path("sam2.pt").write_bytes(b"one")
    first = run("--sam2", "sam2.pt")
    Path("sam2.pt").rename("moved.pt")
    assert run("--sam2", "moved.pt") == first and len(tracked) == 1
    Path("moved.pt").write_bytes(b"two")
    second = run("--sam2", "moved.pt")
    assert second != first and len(tracked) == 2
    assert run("--sam2", "moved.pt", "--sam2-yaml", "other.yaml") != second and len(tracked) == 3
