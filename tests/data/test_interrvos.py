import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reviosa_core import masks
from reviosa_core.data import interrvos
from reviosa_core.data.images import Frames
from reviosa_core.schema import NOTHING, Clip, DataError, Expression

T, H, W = 3, 5, 7
SHARED = Path(os.environ.get("REVIOSA_SHARED", Path(__file__).parents[3] / "shared"))


def clip(name: str) -> Clip:
    rng = np.random.default_rng(len(name))
    rles = {key: [masks.encode(rng.random((H, W)) < 0.5) for _ in range(T)] for key in ("cat", "dog")}
    rles["dog"][1] = None
    expressions = (
        Expression("0", "cat chasing dog", "unidirectional", ("cat",), ("dog",)),
        Expression("1", "both animals", "multi", ("cat", "dog")),
    )
    frames = np.broadcast_to(rng.integers(0, 255, (T, 1, 1, 3), dtype=np.uint8), (T, H, W, 3))
    return Clip(name, frames, ("00000", "00005", "00010"), (H, W), expressions, rles)


@pytest.fixture
def root(tmp_path):
    interrvos.write(tmp_path / "set", [clip("a"), clip("bb")])
    return tmp_path / "set"


def test_round_trip(root):
    written, read = [clip("a"), clip("bb")], interrvos.read(root)
    assert [c.id for c in read] == ["a", "bb"]
    assert set(read[1].masks) == {"2", "3"}  # annotation ids are unique in the folder
    for old, new in zip(written, read, strict=True):
        assert (new.frame_names, new.size) == (old.frame_names, old.size)
        for i in range(T):
            assert new.frames[i].dtype == np.uint8
            assert np.abs(new.frames[i].astype(int) - old.frames[i]).max() <= 3
        for e, f in zip(old.expressions, new.expressions, strict=True):
            assert (e.id, e.text, e.caption_type) == (f.id, f.text, f.caption_type)
            assert (masks.union(old, e.actor) == masks.union(new, f.actor)).all()
            assert (e.target is None) == (f.target is None)
            assert (masks.union(old, e.target) == masks.union(new, f.target)).all()


def test_golden_json(root):
    meta = json.loads((root / "meta_expressions.json").read_text())
    assert meta["videos"]["bb"] == {
        "vid_id": 1,
        "frames": ["00000", "00005", "00010"],
        "expressions": {
            "0": {
                "exp": "cat chasing dog",
                "caption_type": "unidirectional",
                "subject/object": {
                    "obj_id": {"subject": [0], "object": [1]},
                    "anno_id": {"subject": [2], "object": [3]},
                },
            },
            "1": {
                "exp": "both animals",
                "caption_type": "multi",
                "subject/object": {
                    "obj_id": {"subject": [0, 1], "object": None},
                    "anno_id": {"subject": [2, 3], "object": None},
                },
            },
        },
    }
    rles = json.loads((root / "mask_dict.json").read_text())
    assert list(rles) == ["0", "1", "2", "3"] and rles["3"][1] is None


def test_what_has_no_roles_is_written_without(tmp_path):
    """As the annotation pipeline's script writes it: a directed interaction, and nobody knows on whom."""
    old = Expression("0", "cat chasing dog", "unidirectional", ("cat",))
    interrvos.write(tmp_path / "set", [replace(clip("a"), expressions=(old,))])
    meta = json.loads((tmp_path / "set" / "meta_expressions.json").read_text())
    about = {"exp": "cat chasing dog", "caption_type": "unidirectional", "obj_id": [0], "anno_id": [0]}
    assert meta["videos"]["a"]["expressions"] == {"0": about}
    (read,) = interrvos.read(tmp_path / "set")
    assert read.expressions == (replace(old, actor=("0",)),)


def test_what_is_about_nothing_has_empty_lists(tmp_path):
    """Between the masks of others, whose ids it does not move."""
    one = clip("a")
    gone = Expression("2", "the unicorn", "undefined", (NOTHING,))
    keys = list(one.masks)
    tracks = {keys[0]: one.masks[keys[0]], NOTHING: [None] * T, keys[1]: one.masks[keys[1]]}
    told = Clip(one.id, one.frames, one.frame_names, one.size, (*one.expressions, gone), tracks)
    interrvos.write(tmp_path / "set", [told, clip("bb")])
    meta = json.loads((tmp_path / "set" / "meta_expressions.json").read_text())
    none = {"subject": [], "object": None}
    assert meta["videos"]["a"]["expressions"]["2"]["subject/object"] == {"obj_id": none, "anno_id": none}
    assert list(json.loads((tmp_path / "set" / "mask_dict.json").read_text())) == ["0", "1", "2", "3"]
    read = interrvos.read(tmp_path / "set")
    assert read[0].expressions[2] == gone and not masks.union(read[0], gone.actor).any()
    assert read[1].expressions[0].actor == ("2",)


def test_frames_are_decoded_on_demand(root):
    clips = interrvos.read(root)
    (root / "JPEGImages/a/00005.jpg").write_bytes(b"not a picture")
    clips[0].frames[0]
    with pytest.raises(DataError, match="00005.jpg"):
        clips[0].frames[1]


def test_write_refuses_an_existing_folder(root):
    with pytest.raises(DataError, match="exists; name another folder"):
        interrvos.write(root, [clip("a")])


def ids(meta, kind):
    return expression(meta)["subject/object"][kind]


def expression(meta, id="0"):
    return meta["videos"]["a"]["expressions"][id]


def rename(meta, name):
    meta["videos"][name] = meta["videos"].pop("a")


# What is done to (meta, mask dict), and what the message must say.
BROKEN = {
    "no videos": (lambda m, r: m.pop("videos"), r"meta_expressions.json.*'videos'"),
    "no text": (lambda m, r: expression(m).pop("exp"), r"'a', expression 0.*'exp'"),
    "empty text": (lambda m, r: expression(m).update(exp=" "), r"'a', expression 0.*empty text"),
    "text of another type": (lambda m, r: expression(m).update(exp=3), r"expression 0.*'exp' is int"),
    "caption type": (lambda m, r: expression(m).update(caption_type="both"), r"expression 0.*'both'"),
    "no roles": (lambda m, r: expression(m).pop("subject/object"), r"expression 0.*'subject/object'"),
    "no annotation ids": (lambda m, r: expression(m)["subject/object"].pop("anno_id"), r"expression 0.*'anno_id'"),
    "no object key": (lambda m, r: ids(m, "anno_id").pop("object"), r"expression 0, anno_id.*'object'"),
    "no subject": (lambda m, r: [ids(m, k).update(subject=[]) for k in ("obj_id", "anno_id")], r"expression 0.*actor"),
    "no subject, and no type": (
        lambda m, r: [
            expression(m, "1").pop("caption_type"),
            *(expression(m, "1")["subject/object"][k].update(subject=[]) for k in ("obj_id", "anno_id")),
        ],
        r"expression 1.*no actor",
    ),
    "no subject, but an object": (
        lambda m, r: [
            expression(m).update(caption_type="undefined"),
            *(ids(m, k).update(subject=[]) for k in ("obj_id", "anno_id")),
        ],
        r"expression 0.*'undefined' with object \[1\]",
    ),
    "empty object": (lambda m, r: [ids(m, k).update(object=[]) for k in ("obj_id", "anno_id")], r"0.*empty list"),
    "unidirectional, no object": (
        lambda m, r: [ids(m, k).update(object=None) for k in ("obj_id", "anno_id")],
        r"expression 0.*'unidirectional' with object None",
    ),
    "object of a single": (lambda m, r: expression(m).update(caption_type="single"), r"'single' with object \[1\]"),
    "lengths differ": (lambda m, r: ids(m, "obj_id").update(subject=[0, 1]), r"obj_id \[0, 1\] but anno_id \[0\]"),
    "ids are text": (lambda m, r: ids(m, "anno_id").update(subject=["0"]), r"expression 0.*'0' is not a whole"),
    "no such mask": (lambda m, r: r.pop("1"), r"mask_dict.json.*video 'a'.*'1'"),
    "masks too few": (lambda m, r: r["1"].pop(), r"mask 1 of video 'a': 2 masks for 3 frames"),
    "mask size": (lambda m, r: r["0"][2].update(size=[H, 8]), r"mask 0 of video 'a': entry 2.*\(5, 8\).*\(5, 7\)"),
    "mask without counts": (lambda m, r: r["0"][2].pop("counts"), r"mask 0 of video 'a': entry 2"),
    "unsorted frames": (lambda m, r: m["videos"]["a"]["frames"].reverse(), r"video 'a'.*sorted"),
    "no frames": (lambda m, r: m["videos"]["a"]["frames"].clear(), r"video 'a'.*frames"),
    "frame not there": (
        lambda m, r: m["videos"]["a"]["frames"].append("99"),
        r"video 'a': 1 of 4 frames missing.*99.jpg",
    ),
    "video not there": (lambda m, r: rename(m, "c"), r"video 'c': no folder"),
    "escape upwards": (lambda m, r: rename(m, ".."), r"video '..'.*plain file name"),
    "escape by path": (lambda m, r: rename(m, "../set/JPEGImages/a"), r"plain file name"),
    "absolute path": (lambda m, r: rename(m, "/etc"), r"video '/etc'.*plain file name"),
    "frame escapes": (lambda m, r: m["videos"]["a"]["frames"].append("../bb/00000"), r"frame '../bb/00000'.*plain"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_errors_say_where(root, case):
    breakage, message = BROKEN[case]
    meta, rles = (json.loads((root / name).read_text()) for name in ("meta_expressions.json", "mask_dict.json"))
    breakage(meta, rles)
    (root / "meta_expressions.json").write_text(json.dumps(meta))
    (root / "mask_dict.json").write_text(json.dumps(rles))
    with pytest.raises(DataError, match=message):
        interrvos.read(root)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"videos": {}, "videos": {}}'])
@pytest.mark.parametrize("name", ["meta_expressions.json", "mask_dict.json"])
def test_unreadable_json_names_the_file(root, name, content):
    (root / name).write_text(content)
    with pytest.raises(DataError, match=name):
        interrvos.read(root)


def test_missing_file_is_named(root):
    (root / "mask_dict.json").unlink()
    with pytest.raises(DataError, match="mask_dict.json"):
        interrvos.read(root)


def test_caption_type_may_be_absent(root):
    # As in the authors' loader: get("caption_type", "undefined").
    meta = json.loads((root / "meta_expressions.json").read_text())
    del expression(meta, "1")["caption_type"]
    (root / "meta_expressions.json").write_text(json.dumps(meta))
    assert interrvos.read(root)[0].expressions[1].caption_type == "undefined"


@pytest.mark.skipif(not (SHARED / "data/davis_interactions").is_dir(), reason=f"no davis_interactions in {SHARED}/data")
def test_reads_real_videos():
    clips = interrvos.read(SHARED / "data/davis_interactions")
    assert len(clips) == 13 and sum(len(c) for c in clips) == 160
    assert sum(len(c.expressions) for c in clips) == 89
    assert sum(e.is_interaction for c in clips for e in c.expressions) == 29
    for c in clips:
        for e in c.expressions:
            assert masks.union(c, e.actor).any()
        assert c.frames[len(c) - 1].shape == (*c.size, 3)


def test_frames_open_as_rgb(tmp_path):
    Image.new("L", (W, H), 9).save(tmp_path / "0.jpg")
    assert Frames(tmp_path, ["0"])[0].shape == (H, W, 3)
