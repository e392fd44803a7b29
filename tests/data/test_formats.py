"""Every format in its real layout, built small and with its traps: what is read from it."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from layouts import BOX, GAPS, LAYOUTS, H, T, W, made

from reviosa_core.data import a2d, formats, interrvos, ref_sav, ref_youtube_vos, revos
from reviosa_core.data.report import Report
from reviosa_core.data.verify import verify
from reviosa_core.masks import decode_all, union
from reviosa_core.schema import NOTHING, UNKNOWN, Clip, DataError


@pytest.fixture(autouse=True)
def _two_valid_videos(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ref_youtube_vos, "VALID_VIDEOS", 2)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_is_told_by_its_files(tmp_path, layout):
    format, _, splits = LAYOUTS[layout]
    assert formats.detect(made(tmp_path, layout)) == (format, splits)


def test_by_keys_of_expressions_not_by_words(tmp_path):
    """A MeViS file that also says "caption_type", of a video."""
    path = made(tmp_path, "mevis") / "train" / "meta_expressions.json"
    content = json.loads(path.read_text())
    content = {"caption_type": {"subject/object": 1}, "videos": {"0": {"expressions": {}}, **content["videos"]}}
    for video in content["videos"].values():
        video["caption_type"] = "none"
    path.write_text(json.dumps(content))
    assert formats.detect(tmp_path).format == "mevis"


@pytest.mark.parametrize("layout", ["interrvos", "mevis"])
def test_a_split_that_cannot_be_read_is_of_the_others_format(tmp_path, layout):
    format, _, splits = LAYOUTS[layout]
    path = made(tmp_path, layout) / "train" / "meta_expressions.json"
    path.write_bytes(path.read_text().encode("utf-16"))
    assert formats.detect(tmp_path) == (format, splits)
    (problem,) = verify(tmp_path, progress=False)["problems"]
    assert problem == f"{path}: this is UTF-16; save it as UTF-8"


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "a2d"])  # its masks: below
def test_is_whole(tmp_path, layout):
    found = verify(made(tmp_path, layout), progress=False)
    assert found["problems"] == [] and found["decoded"]
    assert set(found["splits"]) == set(LAYOUTS[layout][2])
    assert all(own["videos"] and own["expressions"] for own in found["splits"].values())


def only(clips: list[Clip], id: str) -> Clip:
    (clip,) = [clip for clip in clips if clip.id == id]
    return clip


def actor(clip: Clip, id: str) -> np.ndarray:
    (expression,) = [e for e in clip.expressions if e.id == id]
    return union(clip, expression.actor)


def test_mevis(tmp_path):
    clips = formats.read(made(tmp_path, "mevis"), "valid_u")
    assert [c.id for c in clips] == ["a", "b"]
    b = clips[1]
    assert (b.frame_names, b.size, [e.id for e in b.expressions]) == (GAPS, (H, W), ["0", "1", "10", "2"])
    assert (actor(b, "0") == BOX[:2].any(axis=0)).all() and (actor(b, "1") == BOX[2]).all()
    assert b.masks["9"][1] is None and b.frames[2].mean() == pytest.approx(100, abs=3)
    assert {e.caption_type for e in b.expressions} == {"undefined"} and not any(e.is_interaction for e in b.expressions)
    assert not actor(b, "2").any() and b.expressions[3].actor == (NOTHING,)
    server = formats.read(tmp_path, "valid")
    assert server[0].expressions[0].actor == (UNKNOWN,) and len(server[0].masks[UNKNOWN]) == T
    with pytest.raises(DataError, match=r"clip .*, expression .*: its masks are not public"):
        interrvos.write(tmp_path / "copy", server)  # where they would be absent
    assert not (tmp_path / "copy").exists()
    assert formats.read(tmp_path / "valid_u")[0].id == "a"  # the split's folder alone
    with pytest.raises(DataError, match="which split. This mevis folder has train, valid_u, valid"):
        formats.read(tmp_path)
    with pytest.raises(DataError, match="no split 'val'. This mevis folder"):
        formats.read(tmp_path, "val")


def test_interrvos(tmp_path):
    (clip,) = formats.read(made(tmp_path, "interrvos"), "train")
    acts, one = clip.expressions
    assert (acts.actor, acts.target, one.actor, one.target) == (("7",), ("8",), ("9",), None)
    (new,) = formats.read(tmp_path, "val/new")
    assert new.expressions == (acts,)
    (flat,) = formats.read(tmp_path, "flat")  # of the annotation pipeline: who acts, not on whom; or both
    assert [(e.actor, e.target) for e in flat.expressions] == [(("7",), None), (("7", "8"), None)]
    assert [c.id for c in formats.read(tmp_path / "val", "new")] == ["1_clip000"]


def test_interrvos_says_where_flat_lists_hold_targets(tmp_path, capsys):
    """The released scripts score actors by them."""
    formats.read(made(tmp_path, "interrvos"), "val")
    assert not capsys.readouterr().out, "there are none, or they are of one object"
    formats.read(tmp_path, "val/new")
    where = "new_meta_expressions.json: video '1_clip000', expression 0: its anno_id holds the target too, as of 1 here"
    assert where in capsys.readouterr().out


def test_interrvos_takes_the_refined_files_of_a_folder_that_has_both(tmp_path, capsys):
    """As the released evaluation does; what the notebooks read names no split."""
    made(tmp_path, "interrvos")
    refined, whole = formats.read(tmp_path, "val/new"), formats.read(tmp_path, "val")
    assert [c.expressions for c in refined] != [c.expressions for c in whole]
    assert [c.expressions for c in interrvos.read(tmp_path / "val")] == [c.expressions for c in refined]
    assert "new_meta_expressions.json: these, refined, are read" in capsys.readouterr().out
    assert [c.expressions for c in interrvos.read(tmp_path / "val", ".")] == [c.expressions for c in whole]
    interrvos.read(tmp_path / "train")
    assert not capsys.readouterr().out, "nothing to say"


def test_ref_youtube_vos(tmp_path):
    (a,) = formats.read(made(tmp_path, "ref-youtube-vos"), "train")
    assert [e.actor for e in a.expressions] == [("1",), ("2",), ("3",)]
    assert (decode_all(a.masks["2"], (H, W)) == BOX[1]).all()
    assert (decode_all(a.masks["1"], (H, W)) == BOX[0] & ~BOX[1]).all(), "a pixel has one value"
    assert a.masks["3"][1] is None
    meta = tmp_path / "meta_expressions" / "train" / "meta_expressions.json"
    content = json.loads(meta.read_text())
    del content["videos"]["a"]["expressions"]["1"]
    meta.write_text(json.dumps(content))
    (fewer,) = formats.read(tmp_path, "train")
    assert set(fewer.masks) == {"1", "2", "3"}, "meta.json knows whom no sentence is about"
    assert (decode_all(fewer.masks["2"], (H, W)) == BOX[1]).all()
    report = Report()
    assert [c.id for c in formats.read(tmp_path, "valid", report=report)] == ["b", "c"]
    assert len(report.excluded) == 1 and "'t': of the test split" in report.excluded[0]


@pytest.mark.parametrize("layout", ["ref-davis, ReferFormer's", "ref-davis, as released"])
def test_ref_davis(tmp_path, layout):
    b = only(formats.read(made(tmp_path, layout), "valid"), "b")
    assert [(e.id, e.actor) for e in b.expressions] == [(str(i), (str(1 + i // 4),)) for i in range(8)]
    assert (decode_all(b.masks["2"], (H, W)) == BOX[1]).all()
    void = decode_all(b.masks["void"], (H, W))
    assert void[:, 0, -1].all() and void.sum() == T, "255 is nobody's"


def test_ref_davis_texts(tmp_path):
    (car,) = formats.read(made(tmp_path, "ref-davis, as released"), "train")
    assert car.id == "classic-car", "written clasic-car"
    assert [e.text for e in car.expressions][:2] == [f'a caf\u00e9 "in" set {s}, clasic-car 1' for s in range(2)]
    assert car.expressions[6].text == 'a caf\u00e9 "in" set 2, clasic-car 2'


def test_revos(tmp_path):
    (x,) = formats.read(made(tmp_path, "revos"), "train")
    assert x.id == "UVO/all/x" and (actor(x, "1") == BOX[1]).all()
    assert revos.groups(tmp_path, "train") == {("UVO/all/x", "0"): 0, ("UVO/all/x", "1"): 1}
    (y, whole), *_ = [own for own in revos.foregrounds(tmp_path) if own[0] == "y"]
    assert y == "y" and (decode_all(whole, (H, W)) == BOX[:2].any(axis=0)).all()
    (tmp_path / "JPEGImages").rename(tmp_path / "gone")
    for video in (tmp_path / "gone").iterdir():
        video.rename(tmp_path / video.name)
    (again,) = formats.read(tmp_path, "valid")
    assert again.id == "y", "Sa2VA's packaging"
    assert [e.is_about_nothing for e in again.expressions] == [False, False, True] and not actor(again, "2").any()


def test_ref_sav(tmp_path):
    (clip,) = formats.read(made(tmp_path, "ref-sav"), "train")
    assert clip.frame_names == ("00000", "00004", "00008") and clip.size == (H, W)
    assert [clip.frames[i].mean() for i in range(T)] == pytest.approx([20, 60, 100], abs=6)
    assert (actor(clip, "0") == BOX[0]).all() and (actor(clip, "2") == BOX[2]).all()
    assert (actor(formats.read(tmp_path, "valid")[0], "0") == BOX[0]).all()
    assert ref_sav.groups(tmp_path) == {("v", "0"): 1}


def test_jhmdb(tmp_path):
    first, third = formats.read(made(tmp_path, "jhmdb"))
    assert (first.id, third.id) == ("v_v1_f_1", "v_v1_f_3") and third.frame_names == ("00003",)
    assert (actor(third, "0")[0] == BOX[1, 2]).all() and third.frames[0][0, 0, 0] == 100


def test_a2d(tmp_path):
    three, seven = formats.read(made(tmp_path, "a2d"))
    assert (three.id, seven.id) == ("v_v1_f_3", "v_v1_f_7") and [e.id for e in seven.expressions] == ["0", "2"]
    assert seven.frames[0].mean() == pytest.approx(20 + 10 * 6, abs=6), "frames count from 1"


def test_a2d_masks(rng):
    stack = rng.random((T, W, H)) < 0.5  # as stored: width before height
    ids = np.array([4, 0, 2])
    assert (a2d.pick(ids, stack, 2, "") == stack[2].T).all()
    assert (a2d.pick(ids[:1], stack[0], 4, "") == stack[0].T).all(), "one instance: no first axis"
    with pytest.raises(DataError, match=r"x.h5: instance 5 is there 0 times in \[4, 0, 2\]"):
        a2d.pick(ids, stack, 5, "x.h5")
    with pytest.raises(DataError, match="x.h5: 2 masks for 3 instances"):
        a2d.pick(ids, stack[:2], 4, "x.h5")


def test_a2d_files(tmp_path, rng):
    folder = made(tmp_path, "a2d") / "text_annotations" / "a2d_annotation_with_instances" / "v1"
    many, one = rng.random((T, W, H)) < 0.5, rng.random((W, H)) < 0.5
    for frame, ids, stack in ((7, [0, 1, 2], many), (3, [1], one)):
        with h5py.File(folder / f"{frame:05d}.h5", "w") as file:
            file["instance"], file["reMask"] = ids, stack.astype(np.uint8)
    three, seven = formats.read(tmp_path)
    assert (actor(seven, "2")[0] == many[2].T).all() and (actor(three, "1")[0] == one.T).all()
    assert verify(tmp_path, progress=False)["problems"] == []
