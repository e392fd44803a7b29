"""Small data sets in each real layout, with its traps. Sizes and lengths are pairwise distinct, so that a swapped axis
or a list of another video cannot pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from reviosa_core import masks
from reviosa_core.data.ref_davis import TEXTS
from reviosa_core.data.video import write_mp4

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
    nothing = {"exp": "the flying one", "obj_id": [], "anno_id": []}
    for split in ("train", "valid_u"):
        write_json(
            root / split / "meta_expressions.json",
            meta(("b", {"0": both, "1": gone, "10": both, "2": nothing}), ("a", {"0": gone})),
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
    one_way = {"exp": "a pushing b", "obj_id": [0], "anno_id": [7], "caption_type": "unidirectional"}
    both = {"exp": "a and b", "obj_id": [0, 1], "anno_id": [7, 8], "caption_type": "bidirectional"}
    write_json(root / "flat" / "meta_expressions.json", meta(("1_clip000", {"0": one_way, "1": both})))
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
    for s, (name, encoding) in enumerate(TEXTS.items()):
        lines = [f'{v} {k} "a caf\u00e9 "in" set {s}, {v} {k}"' for v in ("clasic-car", "b") for k in (2, 1)]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding=encoding)


def revos_folder(root: Path) -> None:
    one = {"exp": "box", "obj_id": [0], "anno_id": [7], "type_id": 0}
    other = one | {"type_id": 1, "anno_id": [8]}
    for split, video in (("train", "UVO/all/x"), ("valid", "y")):
        nothing = {"2": one | {"type_id": 2, "obj_id": [], "anno_id": []}} if split == "valid" else {}
        content = meta((video, {"0": one, "1": other, **nothing}))
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


def made(root: Path, layout: str) -> Path:
    LAYOUTS[layout][1](root)
    return root
