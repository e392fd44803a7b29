"""Every format in its real layout, built small and with its traps: what is read, and that every fault is found.

Sizes and lengths are pairwise distinct, so that a swapped axis or a list of another video cannot pass.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from PIL import Image

from reviosa_core import masks, verify
from reviosa_core.data import a2d, formats, ref_davis, ref_sav, ref_youtube_vos, revos
from reviosa_core.data.report import Report
from reviosa_core.data.video import write_mp4
from reviosa_core.masks import decode_all, union
from reviosa_core.schema import UNKNOWN, Clip, DataError

T, H, W = 3, 10, 14
GAPS = ("00000", "00005", "00015")  # frame numbers skip some
# Overlapping objects, an absent one, and one void pixel.
BOX = np.zeros((3, T, H, W), dtype=bool)
BOX[0, :, 1:5, 2:9] = True
BOX[1, :, 3:8, 6:12] = True
BOX[2, 0, 8:, :3] = True  # gone after the first frame


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_frames(folder: Path, names: Sequence[str] = GAPS, suffix: str = ".jpg") -> None:
    folder.mkdir(parents=True)
    for i, name in enumerate(names):
        Image.fromarray(np.full((H, W, 3), 60 + 20 * i, np.uint8)).save(folder / f"{name}{suffix}")


def rles(k: int) -> list:
    return [masks.encode(m) if m.any() else None for m in BOX[k]]


def meta(*videos: tuple[str, dict]) -> dict:
    return {
        "videos": {name: {"vid_id": k, "frames": list(GAPS), "expressions": e} for k, (name, e) in enumerate(videos)}
    }


def mevis(root: Path) -> None:
    both = {"exp": "two boxes moving", "obj_id": [0, 1], "anno_id": [7, 8]}
    gone = {"exp": "The one that leaves.", "obj_id": [2], "anno_id": [9]}
    for split in ("train", "valid_u"):
        write_json(
            root / split / "meta_expressions.json", meta(("b", {"0": both, "1": gone, "10": both}), ("a", {"0": gone}))
        )
        write_json(root / split / "mask_dict.json", {"7": rles(0), "8": rles(1), "9": rles(2)})
    write_json(root / "valid" / "meta_expressions.json", meta(("a", {"0": {"exp": "box"}}), ("b", {})))
    for split in ("train", "valid_u", "valid"):
        for video in "ab":
            write_frames(root / split / "JPEGImages" / video)


def interrvos(root: Path) -> None:
    def roles(subject, object):
        return {"subject": subject, "object": object}

    acts = {"exp": "a pushing b", "caption_type": "unidirectional"}
    acts |= {"subject/object": {"obj_id": roles([0], [1]), "anno_id": roles([7], [8])}}
    one = {"exp": "a", "caption_type": "single"}
    one |= {"subject/object": {"obj_id": roles([2], None), "anno_id": roles([9], None)}}
    flat = acts | {"obj_id": [0, 1], "anno_id": [7, 8]}
    store = {"7": rles(0), "8": rles(1), "9": rles(2)}
    for split in ("train", "val"):
        write_json(root / split / "meta_expressions.json", meta(("1_clip000", {"0": acts, "1": one})))
        write_json(root / split / "mask_dict.json", store)
        write_frames(root / split / "JPEGImages" / "1_clip000")
    write_json(root / "val" / "new_meta_expressions.json", meta(("1_clip000", {"0": flat})))
    write_json(root / "val" / "new_mask_dict.json", store)
    old = {"exp": "a and b", "obj_id": [0, 1], "anno_id": [7, 8], "caption_type": "unidirectional"}
    write_json(root / "flat" / "meta_expressions.json", meta(("1_clip000", {"0": old})))
    write_json(root / "flat" / "mask_dict.json", store)
    write_frames(root / "flat" / "JPEGImages" / "1_clip000")


def palette(folder: Path, order: Sequence[int] = (0, 1, 2), names: Sequence[str] = GAPS) -> None:
    """Palette PNGs: object k + 1, later ones on top, 255 void in a corner."""
    folder.mkdir(parents=True)
    for t, name in enumerate(names):
        labels = np.zeros((H, W), np.uint8)
        for k in order:
            labels[BOX[k, t]] = k + 1
        labels[0, -1] = 255
        image = Image.fromarray(labels).convert("P")
        image.putpalette(list(range(256)) * 3)
        image.putdata(labels.ravel().tolist())
        image.save(folder / f"{name}.png")


def ref_youtube(root: Path) -> None:
    named = {
        "0": {"exp": "a box", "obj_id": "1"},
        "1": {"exp": "another", "obj_id": "2"},
        "2": {"exp": "o", "obj_id": "3"},
    }
    server = {"0": {"exp": "a box"}, "1": {"exp": "a box again"}}
    write_json(root / "meta_expressions/train/meta_expressions.json", meta(("a", named)))
    write_json(root / "meta_expressions/valid/meta_expressions.json", meta(("b", server), ("c", server), ("t", server)))
    write_json(root / "meta_expressions/test/meta_expressions.json", meta(("t", server)))
    objects = {k: {"category": "box", "frames": list(GAPS)} for k in "123"}
    write_json(root / "train" / "meta.json", {"videos": {"a": {"objects": objects}}})
    write_frames(root / "train" / "JPEGImages" / "a")
    palette(root / "train" / "Annotations" / "a")
    for video in "bc":
        write_frames(root / "valid" / "JPEGImages" / video)


def davis_sets(objects: str = "12") -> dict:
    ids = ((f"{4 * k + s}", object) for k, object in enumerate(objects) for s in range(4))
    return {id: {"exp": f"text {id}", "obj_id": object} for id, object in ids}


def ref_davis_tree(root: Path) -> None:
    for split, video in (("train", "a"), ("valid", "b")):
        write_json(root / "meta_expressions" / split / "meta_expressions.json", meta((video, davis_sets())))
        write_frames(root / split / "JPEGImages" / video)
        palette(root / split / "Annotations" / video)


def ref_davis_raw(root: Path) -> None:
    frames = ("00000", "00001", "00002")
    for split, video in (("train", "classic-car"), ("val", "b")):
        write_frames(root / "DAVIS/JPEGImages/480p" / video, frames)
        palette(root / "DAVIS/Annotations_unsupervised/480p" / video, names=frames)
        (root / "DAVIS/ImageSets/2017").mkdir(parents=True, exist_ok=True)
        (root / "DAVIS/ImageSets/2017" / f"{split}.txt").write_text(f"{video}\n")
    folder = root / "davis_text_annotations"
    folder.mkdir()
    for s, (name, encoding) in enumerate(ref_davis.TEXTS.items()):
        lines = [f'{v} {k} "a caf\u00e9 "in" set {s}, {v} {k}"' for v in ("clasic-car", "b") for k in (2, 1)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding=encoding)


def revos_folder(root: Path) -> None:
    one = {"exp": "box", "obj_id": [0], "anno_id": [7], "type_id": 0}
    other = one | {"type_id": 1, "anno_id": [8]}
    for split, video in (("train", "UVO/all/x"), ("valid", "y")):
        content = meta((video, {"0": one, "1": other}))
        content["videos"][video] |= {"height": H, "width": W}
        write_json(root / f"meta_expressions_{split}_.json", content)
        write_frames(root / "JPEGImages" / video)
    write_json(root / "mask_dict.json", {"7": rles(0), "8": rles(1)})
    whole = [masks.encode(m) for m in BOX[:2].any(axis=0)]
    write_json(
        root / "mask_dict_foreground.json",
        {v: {"masks_rle": whole, "foreground_ratio": []} for v in ("UVO/all/x", "y")},
    )


def moving(count: int) -> list[np.ndarray]:
    """Flat frames, brighter by ten each: a codec keeps that."""
    return [np.full((H, W, 3), 20 + 10 * i, np.uint8) for i in range(count)]


def sav(root: Path) -> None:
    videos = root / "sam_v_full" / "sav_000" / "sav_train" / "sav_001"
    videos.mkdir(parents=True)
    write_mp4(videos / "sav_001002.mp4", moving(11), 24.0)  # every 4th: 0, 4, 8
    write_json(
        videos / "sav_001002_manual.json", {"masklet": [[masks.encode(BOX[k, t]) for k in range(3)] for t in range(T)]}
    )
    twice = "sav_000/sav_train/sav_001/sav_001/sav_001002"
    entry = {"video_path": f"{twice}.mp4", "anno_path": f"{twice}_manual.json"}
    write_json(
        root / "Ref-SAV.json", {"sav_001002": entry | {"objects": {"0": {"formated": "a box"}, "2": {"formated": "b"}}}}
    )
    one = {"exp": "box", "obj_id": [0], "anno_id": [7], "type_id": 1}
    write_json(root / "ref_sav_eval" / "meta_expressions_valid.json", meta(("v", {"0": one})))
    write_json(root / "ref_sav_eval" / "mask_dict.json", {"7": rles(0)})
    write_frames(root / "ref_sav_eval" / "videos" / "v")


def jhmdb(root: Path) -> None:
    write_frames(root / "Rename_Images" / "push" / "v1", ("00001", "00002", "00003"), ".png")
    (root / "puppet_mask" / "push" / "v1").mkdir(parents=True)
    stack = np.moveaxis(BOX[1], 0, -1).astype(np.uint8)
    scipy.io.savemat(root / "puppet_mask" / "push" / "v1" / "puppet_mask.mat", {"part_mask": stack})
    there, mat = "/home/somebody/jhmdb/Rename_Images/push/v1", "/home/x/puppet_mask/push/v1/puppet_mask.mat"
    rows = [["v1", f"{there}/{n:05d}.png", mat, T, "the man pushing"] for n in (1, 3)]
    write_json(root / "jhmdb_sentences_samples_metadata.json", rows)


def a2d_folder(root: Path) -> None:
    rows = [["a box", "v1", 7, 0], ["another", "v1", 7, 2], ["a box", "v1", 3, 1]]
    write_json(root / "a2d_sentences_single_frame_test_annotations.json", rows)
    (root / "Release" / "clips320H").mkdir(parents=True)
    write_mp4(root / "Release" / "clips320H" / "v1.mp4", moving(9), 24.0)
    folder = root / "text_annotations" / "a2d_annotation_with_instances" / "v1"
    folder.mkdir(parents=True)
    for frame in (3, 7):
        (folder / f"{frame:05d}.h5").touch()


LAYOUTS: dict[str, tuple[str, Callable[[Path], None], tuple[str, ...]]] = {
    "interrvos": ("interrvos", interrvos, ("flat", "train", "val", "val/new")),
    "mevis": ("mevis", mevis, ("train", "valid_u", "valid")),
    "ref-youtube-vos": ("ref-youtube-vos", ref_youtube, ("train", "valid")),
    "ref-davis, ReferFormer's": ("ref-davis", ref_davis_tree, ("train", "valid")),
    "ref-davis, as released": ("ref-davis", ref_davis_raw, ("train", "valid")),
    "revos": ("revos", revos_folder, ("train", "valid")),
    "ref-sav": ("ref-sav", sav, ("train", "valid")),
    "jhmdb": ("jhmdb", jhmdb, ("test",)),
    "a2d": ("a2d", a2d_folder, ("test",)),
}


@pytest.fixture(autouse=True)
def _two_valid_videos(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ref_youtube_vos, "VALID_VIDEOS", 2)


def made(root: Path, layout: str) -> Path:
    LAYOUTS[layout][1](root)
    return root


@pytest.mark.parametrize("layout", LAYOUTS)
def test_is_told_by_its_files(tmp_path, layout):
    format, _, splits = LAYOUTS[layout]
    assert formats.detect(made(tmp_path, layout)) == (format, splits)


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "a2d"])  # its masks: below
def test_is_whole(tmp_path, layout):
    found = verify.verify(made(tmp_path, layout), progress=False)
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
    assert (b.frame_names, b.size, [e.id for e in b.expressions]) == (GAPS, (H, W), ["0", "1", "10"])
    assert (actor(b, "0") == BOX[:2].any(axis=0)).all() and (actor(b, "1") == BOX[2]).all()
    assert b.masks["9"][1] is None and b.frames[2].mean() == pytest.approx(100, abs=3)
    assert {e.caption_type for e in b.expressions} == {"undefined"} and not any(e.is_interaction for e in b.expressions)
    server = formats.read(tmp_path, "valid")
    assert server[0].expressions[0].actor == (UNKNOWN,) and len(server[0].masks[UNKNOWN]) == T
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
    (flat,) = formats.read(tmp_path, "flat")  # all participants, and nobody knows whose part is whose
    assert flat.expressions[0].actor == ("7", "8") and flat.expressions[0].target is None
    assert [c.id for c in formats.read(tmp_path / "val", "new")] == ["1_clip000"]


def test_ref_youtube_vos(tmp_path):
    (a,) = formats.read(made(tmp_path, "ref-youtube-vos"), "train")
    assert [e.actor for e in a.expressions] == [("1",), ("2",), ("3",)]
    assert (decode_all(a.masks["2"], (H, W)) == BOX[1]).all()
    assert (decode_all(a.masks["1"], (H, W)) == BOX[0] & ~BOX[1]).all(), "a pixel has one value"
    assert a.masks["3"][1] is None
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
    assert formats.read(tmp_path, "valid")[0].id == "y", "Sa2VA's packaging"


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
    h5py = pytest.importorskip("h5py", reason="the masks of A2D-Sentences need h5py")
    folder = made(tmp_path, "a2d") / "text_annotations" / "a2d_annotation_with_instances" / "v1"
    many, one = rng.random((T, W, H)) < 0.5, rng.random((W, H)) < 0.5
    for frame, ids, stack in ((7, [0, 1, 2], many), (3, [1], one)):
        with h5py.File(folder / f"{frame:05d}.h5", "w") as file:
            file["instance"], file["reMask"] = ids, stack.astype(np.uint8)
    three, seven = formats.read(tmp_path)
    assert (actor(seven, "2")[0] == many[2].T).all() and (actor(three, "1")[0] == one.T).all()
    assert verify.verify(tmp_path, progress=False)["problems"] == []
