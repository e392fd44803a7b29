"""Prediction files: written whole, read a video at a time, and every way to be wrong named with file and id."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role
from reviosa_core.scoring import predictions

T, H, W = 3, 7, 11


def found(video: str, expression: str, seed: int) -> Prediction:
    rng = np.random.default_rng(seed)
    return Prediction(video, expression, {role: rng.random((T, H, W)) < 0.3 for role in Role})


def test_lists_of_counts_are_written_as_text(tmp_path):
    """pycocotools, and so the authors' script, reads no lists."""
    given = {"size": [H, W], "counts": [21, 4, H * W - 25]}
    with predictions.writer(tmp_path / "p.json") as write:
        write([Prediction("v", "0", {Role.ACTOR: [given] * T})])
    stored = json.loads((tmp_path / "p.json").read_text())["v"]["0"]["prediction_masks_act"][0]
    assert coco.decode(stored).T.ravel().nonzero()[0].tolist() == [21, 22, 23, 24]


@pytest.mark.parametrize("name", ["00000.png", "v/00000.png"])
def test_a_folder_that_is_no_tree_is_not_one_of_missing_predictions(tmp_path, name):
    """Loose images, or a video's without a folder an expression: as if all were missing, and scored 0 on request."""
    clip = Clip("v", np.zeros((1, H, W, 3), np.uint8), ("00000",), (H, W), (), {})
    (tmp_path / name).parent.mkdir(exist_ok=True)
    Image.fromarray(np.zeros((H, W), np.uint8)).save(tmp_path / name)
    with pytest.raises(DataError, match="no folder <video>/<expression> of any of the 1 videos in here"):
        list(predictions.read_trees({Role.ACTOR: tmp_path}, [clip]))


def test_round_trip(tmp_path):
    path = tmp_path / "deeper" / "predictions.json"
    given = {"v1": [found("v1", "0", 1), found("v1", "10", 2)], "v0": [found("v0", "0", 3)]}
    with predictions.writer(path) as write:
        for own in given.values():
            write(own)
        assert not path.exists(), "whole or not at all"
    assert set(json.loads(path.read_text())["v1"]["10"]) == {"prediction_masks_act", "prediction_masks_tar"}
    again = dict(predictions.read(path))
    assert list(again) == ["v1", "v0"]
    for video, own in given.items():
        for before, after in zip(own, again[video], strict=True):
            assert (after.clip_id, after.expression_id) == (video, before.expression_id)
            for role in Role:
                assert (masks.decode_all(after.masks[role], (H, W)) == before.masks[role]).all()


def test_a_score_goes_with_the_masks_that_have_one(tmp_path):
    with predictions.writer(tmp_path / "p.json") as write:
        write([replace(found("v", "0", 1), score=0.25), found("v", "1", 2)])
    ((_, own),) = predictions.read(tmp_path / "p.json")
    assert [p.score for p in own] == [0.25, None]


def test_an_unfinished_file_is_not_there(tmp_path):
    path = tmp_path / "predictions.json"
    with pytest.raises(KeyboardInterrupt), predictions.writer(path) as write:
        write([found("v0", "0", 0)])
        raise KeyboardInterrupt
    assert not path.exists()
    with pytest.raises(DataError, match="v0 written twice"), predictions.writer(path) as write:
        write([found("v0", "0", 0)])
        write([found("v0", "0", 0)])
    with predictions.writer(path) as write:
        pass
    assert json.loads(path.read_text()) == {} and list(predictions.read(path)) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ends early"),
        ("[1]", "a JSON object is needed"),
        ('{"v": {}', "ends early"),
        ('{"v": {"0"', "Expecting"),
        ('{"v": {}, "v": {}}', "'v' occurs twice"),
        ('{"v": {"0": {}, "0": {}}}', "duplicate key '0'"),
        ('{"v": {},}', "a name is needed after 'v'"),
        ('{"v": {} "w": {}}', "no comma after 'v'"),
        ('{"v" {}}', "no colon after 'v'"),
        ('{"v": []}', "video v: an object of expressions"),
        ('{"v": {"0": []}}', "video v, expression 0: an object with masks"),
        ('{"v": {"0": {"masks": []}}}', "expression 0: none of the keys .*'prediction_masks'.*, only .'masks'."),
        ('{"v": {"0": {"prediction_masks": 1}}}', "expression 0: prediction_masks is int"),
        ('{"v": {"0": {"prediction_masks_act": 1}}}', "expression 0: prediction_masks_act is int"),
        ('{"v": {"0": {"prediction_masks_act": [null]}}}', "expression 0: prediction_masks_act, frame 0: not an RLE"),
    ],
)
def test_bad_files(tmp_path, text, message):
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        list(predictions.read(path))
    assert str(path) in str(caught.value)


def test_a_tree_of_videos_whose_names_have_folders(tmp_path):
    """ReVOS's are called UVO/all/x."""
    asked, frame = (Expression("0", "a", "single", ("0",)),), np.zeros((3, 4, 3), np.uint8)
    clips = [Clip(id, [frame], ("00000",), (3, 4), asked, {"0": [None]}) for id in ("UVO/all/x", "UVO/y")]
    for clip in clips:
        (tmp_path / "tree" / clip.id / "0").mkdir(parents=True)
        Image.fromarray(np.eye(3, 4, dtype=np.uint8)).save(tmp_path / "tree" / clip.id / "0" / "00000.png")
    found = dict(predictions.read_trees({Role.ACTOR: tmp_path / "tree"}, clips))
    assert found.keys() == {"UVO/all/x", "UVO/y"}
    assert masks.decode(found["UVO/y"][0].masks[Role.ACTOR][0], (3, 4)).sum() == 3
    (tmp_path / "tree" / "UVO" / "all" / "z").mkdir()
    with pytest.raises(DataError, match=r"1 unknown videos \['UVO/all/z'\]"):
        list(predictions.read_trees({Role.ACTOR: tmp_path / "tree"}, clips))


@pytest.mark.parametrize(
    ("video", "meant"),
    [("data/UVO/all/x", "UVO/all/x"), ("UVO/all/x.mp4", "UVO/all/x"), ("/data/x", "x"), ("all/x.mp4", "x")],
)
def test_a_folder_of_a_video_belongs_to_the_clip_that_its_path_ends_in(tmp_path, video, meant):
    said, empty = (Expression("0", "a dog", "single", ("0",)),), {"0": [None]}
    clips = [Clip(id, [np.zeros((H, W, 3), np.uint8)], ("0",), (H, W), said, empty) for id in ("UVO/all/x", "x")]
    drawn = {"actor": [masks.encode(np.zeros((H, W), bool))]}
    about = {"video": video, "text": "a dog", "frames": ["0"], "masks": drawn}
    (tmp_path / "prediction.json").write_text(json.dumps(about))
    assert [id for id, _ in predictions.read_results(tmp_path, clips)] == [meant]
    for other in ("y", "x/y", "xx", "", "/"):
        (tmp_path / "prediction.json").write_text(json.dumps(about | {"video": other}))
        with pytest.raises(DataError, match=f"video '{other}' is none of the 2 clips"):
            list(predictions.read_results(tmp_path, clips))


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match="nothing.json"):
        list(predictions.read(tmp_path / "nothing.json"))
    with pytest.raises(DataError, match="nowhere: no such folder"):
        list(predictions.read_trees({Role.ACTOR: tmp_path / "nowhere"}, []))
