"""Every fault of a folder is found, none hides another, and each names its file and id."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import BOX, GAPS, LAYOUTS, H, T, W, made
from PIL import Image
from typer.testing import CliRunner

from reviosa_core.cli.app import app
from reviosa_core.data import formats, ref_sav
from reviosa_core.data.verify import verify
from reviosa_core.data.video import Video, open_video
from reviosa_core.masks import encode
from reviosa_core.schema import DataError
from reviosa_core.scoring import evaluate


def problems(root: Path, fast: bool = False) -> list[str]:
    return verify(root, fast=fast, progress=False)["problems"]


def change(path: Path, edit: Callable[[Any], object]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def each_found(found: list[str], due: list[str]) -> None:
    assert len(found) == len(due), "\n".join(found)
    for pattern in due:
        assert sum(bool(re.search(pattern, text)) for text in found) == 1, (pattern, found)


def test_all_at_once(tmp_path):
    """Faults of every kind in one split of InterRVOS."""
    root = made(tmp_path, "interrvos") / "train"
    images, meta = root / "JPEGImages", root / "meta_expressions.json"
    acts, one = json.loads(meta.read_text())["videos"]["1_clip000"]["expressions"].values()
    good = {"vid_id": 0, "frames": list(GAPS), "expressions": {"0": acts}}

    def roles(expression: dict, **object) -> dict:
        own = expression["subject/object"]
        return expression | {"subject/object": {k: own[k] | object for k in ("obj_id", "anno_id")}}

    def masked(*ids: int) -> dict:
        return good | {"expressions": {"0": roles(one, subject=list(ids))}}

    content = {
        "text": good | {"expressions": {"0": acts | {"exp": " "}, "1": acts | {"exp": 3}, "2": acts}},
        "target": good | {"expressions": {"0": roles(acts, object=None), "1": roles(one, object=[1])}},
        "nobody": good | {"expressions": {"0": roles(one, subject=[]), "1": roles(acts, object=[])}},
        "flat": good | {"expressions": {"0": acts | {"anno_id": [9]}}},
        "no mask": masked(77),
        "short": masked(20),
        "turned": masked(21),
        "spoilt": masked(22),
        "empty": masked(23),
        "no folder": good,
        "no frame": good,
        "broken": good,
        "larger": good,
        "unsorted": good | {"frames": list(GAPS[::-1])},
        "../train": good,
        "escape": good | {"frames": ["../text/00000"]},
        "bare": 3,
    }
    for video in content.keys() - {"no folder", "../train", "escape", "bare"}:
        (images / video).symlink_to(images / "1_clip000")
    for video in ("no frame", "broken", "larger"):
        (images / video).unlink()
        (images / video).mkdir()
        for name in GAPS:
            (images / video / f"{name}.jpg").write_bytes((images / "1_clip000" / f"{name}.jpg").read_bytes())
    (images / "no frame" / "00005.jpg").unlink()
    (images / "broken" / "00015.jpg").write_bytes((images / "1_clip000" / "00015.jpg").read_bytes()[:300])
    Image.new("RGB", (W + 1, H)).save(images / "larger" / "00005.jpg")
    meta.write_text(json.dumps({"videos": content}).replace('"2": {', '"0": {'))  # an id twice
    full = encode(np.ones((H, W), dtype=bool))
    change(
        root / "mask_dict.json",
        lambda m: m.update(
            {
                "20": m["7"][:2],
                "21": [full, full | {"size": [W, H]}, None],
                "22": [full, full | {"counts": "0"}, None],
                "23": [None] * T,
            }
        ),
    )
    there = r"train/meta_expressions.json: video '%s'"
    due = [
        r"meta_expressions.json: duplicate key '0'",
        there % "text" + ", expression 0: empty text",
        there % "text" + ", expression 1: 'exp' is int",
        there % "target" + ", expression 0: caption_type 'unidirectional' with object None",
        there % "target" + r", expression 1: caption_type 'single' with object \[1\]",
        there % "nobody" + r", expression 0 \('a'\): no actor",
        there % "nobody" + ", expression 1.*empty list",
        there % "flat" + r", expression 0: flat anno_id \[9\], but subject \[7\] and object \[8\]",
        r"mask_dict.json: mask 77 of video 'no mask': no key '77'",
        r"mask_dict.json: mask 20 of video 'short': 2 masks for 3 frames",
        r"mask_dict.json: mask 21 of video 'turned': entry 1 has size \(14, 10\), the frames have \(10, 14\)",
        r"train, video 'spoilt', mask 22, frame 00005: .*entry 1: mask counts cover 0 pixels, the frame has 140",
        r"train, video 'empty', mask 23: no pixel in any of 3 frames",
        there % "no folder" + ": no folder",
        there % "no frame" + ": 1 of 3 frames missing in .*first 00005.jpg",
        r"broken/00015.jpg: ",
        r"larger/00005.jpg: size \(10, 15\), the first frame has \(10, 14\)",
        there % "unsorted" + ": 'frames' must be a sorted list",
        there % "../train" + ": not a plain file name",
        there % "escape" + ", frame '../text/00000': not a plain file name",
        there % "bare" + ": no key 'expressions'",
    ]
    each_found(problems(tmp_path), due)
    decoded = ("mask 22, frame", "mask 23: no pixel", "broken/00015", "larger/")
    each_found(problems(tmp_path, fast=True), [text for text in due if not any(part in text for part in decoded)])
    with pytest.raises(DataError, match="duplicate key '0'"):
        formats.read(tmp_path, "train")


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path):
    root = made(tmp_path, "mevis")
    for split in ("train", "valid_u"):
        (root / split / "mask_dict.json").write_text('{"7": [')
    (root / "valid" / "meta_expressions.json").write_text("{")
    (root / "valid_u" / "mask_dict.json").unlink()
    found = problems(root)
    assert sum("train/mask_dict.json" in text for text in found) == 1
    assert sum("valid/meta_expressions.json: Expecting" in text for text in found) == 1
    assert [text for text in found if "valid_u" in text] == [
        f"{root}/valid_u/mask_dict.json: no such file, but there are expressions with masks"
    ]


def test_ref_youtube_vos(tmp_path, monkeypatch):
    root = made(tmp_path, "ref-youtube-vos")
    monkeypatch.setattr("reviosa_core.data.ref_youtube_vos.VALID_VIDEOS", 2)
    maps = root / "train" / "Annotations" / "a"
    Image.fromarray(np.zeros((W, H), np.uint8)).save(maps / "00000.png")
    Image.new("RGB", (W, H), "red").save(maps / "00005.png")
    train = root / "meta_expressions/train/meta_expressions.json"
    extra = {"3": {"exp": "a", "obj_id": "4"}, "4": {"exp": "a", "obj_id": 1}, "5": {"exp": "a", "obj_id": "255"}}
    change(train, lambda m: m["videos"]["a"]["expressions"].update(extra))
    due = ["video 'a', expression 4: obj_id 1 is not", "expression 5: obj_id '255' is not"]
    due += [r"meta.json: video 'a': no object '4' \(expression 3\), only \['1', '2', '3'\]"]
    due += [rf"mask {k}, frame 00000: .*00000.png: size \(14, 10\), the frame has \(10, 14\)" for k in range(1, 5)]
    due += [rf"mask {k}, frame 00005: .*00005.png: a grey or palette PNG is needed, this" for k in range(1, 5)]
    each_found(problems(root), due)
    (maps / "00015.png").unlink()
    assert sum("1 of 3 frames missing" in text and "first 00015.png" in text for text in problems(root, fast=True)) == 1
    monkeypatch.setattr("reviosa_core.data.ref_youtube_vos.VALID_VIDEOS", 202)
    found = verify(root, fast=True, progress=False)
    assert sum("2 videos that are not of test; valid has 202" in text for text in found["problems"]) == 1
    assert len(found["excluded"]) == 1
    (root / "meta_expressions/test/meta_expressions.json").unlink()
    assert any("test/meta_expressions.json" in text for text in problems(root, fast=True)), "needed to know valid"


def test_ref_davis_texts(tmp_path):
    root = made(tmp_path, "ref-davis, as released")
    first = root / "davis_text_annotations" / "Davis17_annot1.txt"
    lines = first.read_text().splitlines()
    first.write_text("\n".join([*lines[1:], lines[1], "b one", 'boat 1 "a boat"', 'b 3 " "']))
    each_found(
        problems(root),
        [
            r"annot1.txt: line 4: video 'classic-car' has two texts for object 1",
            r"annot1.txt: line 5: not <video> <object> \"<text>\": 'b one'",
            r"annot1.txt: video 'boat' is in no set of 2 videos",
            r"annot1.txt: line 7: empty text",
            r"video 'classic-car': 2 objects .* have 7 expressions, 4 each are due; .*\['4'\]",
        ],
    )


def test_ref_sav(tmp_path):
    root = made(tmp_path, "ref-sav")
    (masklets,) = root.rglob("*_manual.json")
    change(masklets, lambda m: [m["masklet"][0].pop(), m["masklet"][1][0].update(size=[W, H])])
    change(root / "Ref-SAV.json", lambda m: m.update(b={"video_path": "../x.mp4", "anno_path": "x", "objects": {}}))
    found = problems(root)
    due = [
        "'b': path '../x.mp4': not a plain",
        "no object 2 in masklet 0, which has 2",
        r"masklet 1, object 0: mask size \(14, 10\) differs from frame size \(10, 14\)",
    ]
    each_found(found, due)
    change(masklets, lambda m: m["masklet"].pop())
    ref_sav._masklets.cache_clear()  # the files of a data set do not change while it is in use
    assert any("masklets for 2 frames, every 4th of the video are 3" in text for text in problems(root))


def test_threads_open_a_video_once(tmp_path, monkeypatch):
    opened = []

    def slowly(path: Path, stored: bool) -> Video:
        opened.append(path)
        time.sleep(0.2)  # the other threads ask meanwhile
        return open_video(path, stored, cache_bytes=0)

    monkeypatch.setattr(ref_sav, "open_video", slowly)
    ref_sav._video.cache_clear()
    assert not problems(made(tmp_path, "ref-sav")) and len(opened) == len(set(opened)) > 0
    ref_sav._video.cache_clear()


def test_sentences_of_single_frames(tmp_path):
    root = made(tmp_path / "j", "jhmdb")
    rows = root / "jhmdb_sentences_samples_metadata.json"
    frame, mat = json.loads(rows.read_text())[0][1:3]
    wrong = [["v1", frame, mat, T, "again"], ["v2", frame, mat, T, "x"], ["v1", "/etc/passwd", mat, T, "x"], ["v1", 2]]
    longer = [["v1", frame.replace("00001", "00002"), mat, T + 1, "x"]]
    change(rows, lambda content: content.extend(wrong + longer))
    due = [
        "row 2: v_v1_f_1 occurs twice",
        "row 3: .* is no frame from 1 to 3 of video 'v2'",
        "row 4: path '/etc/passwd'",
    ]
    each_found(
        problems(root), [*due, "row 5: not ", r"puppet_mask.mat: masks \(10, 14, 3\), the video has \(10, 14, 4\)"]
    )
    root = made(tmp_path / "a", "a2d")
    wrong = [
        ["x", "v1", 0, 0],
        ["x", "v1", 10, 0],
        ["x", "../v1", 1, 0],
        ["x", "v2", 1, 0],
        ["y", "v1", 7, 2],
        ["x", "v1", 2, 0],
    ]
    change(root / "a2d_sentences_single_frame_test_annotations.json", lambda content: content.extend(wrong))
    due = [
        r"row 3: frame 0 \(they count from 1\)",
        "frame 10: the video has 9 frames",
        "row 5: video '../v1': not a plain",
    ]
    due += ["v2.mp4: No such file", "frame 7: instance 2 has two sentences", "frame 2: no file .*00002.h5"]
    each_found(problems(root, fast=True), due)


JUNK = [None, -1, 2.5, 10**30, True, "", "..", "\0", [], [[]], [10**6], ["a"], {}, {"a": 1}]


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "ref-davis, as released"])  # it has no JSON
def test_junk_is_a_problem_and_never_a_traceback(tmp_path, layout, rng, monkeypatch):
    """Anything at any place of any JSON file."""
    monkeypatch.setattr("reviosa_core.data.ref_youtube_vos.VALID_VIDEOS", 2)
    root, said = made(tmp_path, layout), 0
    files = sorted(root.rglob("*.json"))
    for _ in range(20):
        file = files[rng.integers(len(files))]
        before = file.read_text()
        content = {"": json.loads(before)}
        inside, key = content, ""
        while isinstance(inside[key], dict | list) and inside[key] and rng.random() < 0.85:
            inside = inside[key]
            places = list(inside) if isinstance(inside, dict) else range(len(inside))
            key = places[rng.integers(len(places))]
        inside[key] = JUNK[rng.integers(len(JUNK))]
        file.write_text(json.dumps(content[""]))
        ref_sav._masklets.cache_clear()
        said += bool(verify(root, format=LAYOUTS[layout][0], progress=False)["problems"])
        file.write_text(before)
    assert said > 7


def test_the_manifest_is_sha256sum(tmp_path):
    root = made(tmp_path, "mevis")
    found = verify(root, progress=False)["sha256"]
    assert found["train/mask_dict.json"] == hashlib.sha256((root / "train/mask_dict.json").read_bytes()).hexdigest()
    shell = subprocess.run("sha256sum * | sha256sum", shell=True, cwd=root / "valid/JPEGImages/b", capture_output=True)
    assert found["valid/JPEGImages/b/*"] == shell.stdout.decode().split()[0]
    assert len(found) == 5 + 6
    assert len(verify(root, fast=True, progress=False)["sha256"]) == 5


def reviosa(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def test_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = made(tmp_path / "set", "mevis")
    result = reviosa("data", "verify", root)
    assert result.exit_code == 0 and "0 problems" in result.output and "valid_u" in result.output, result.output
    assert json.loads((tmp_path / "set.verify.json").read_text())["splits"]["train"]["expressions"] == 5
    for frame in root.glob("train/JPEGImages/*/00000.jpg"):
        frame.unlink()
    result = reviosa("data", "verify", root, "--fast", "--out", tmp_path / "deep" / "report.json")
    assert result.exit_code == 1 and "problem: " in result.stdout and "first 00000.jpg" in result.stdout
    assert len(json.loads((tmp_path / "deep" / "report.json").read_text())["problems"]) == 2
    (tmp_path / "empty").mkdir()
    for words, message in [
        ((tmp_path / "none",), "none: no such folder"),
        ((tmp_path / "empty",), "none of interrvos, mevis"),
        ((root, "--format", "revos"), "none of revos by its files"),
        ((root, "--format", "coco"), "no format 'coco', only interrvos"),
    ]:
        result = reviosa("data", "verify", *words)
        assert result.exit_code == 2 and message in result.stderr and result.stderr.count("\n") == 1


def test_the_page_shows_what_happens(tmp_path, root):
    page = (root / "docs" / "datasets.md").read_text().split("## When something is wrong")[1]
    ((commands, said),) = re.findall(r"```sh\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    shell = """reviosa() { "$PYTHON" -c 'from reviosa_core.cli.app import app; app()' "$@"; }\n"""
    variables = {"PYTHON": sys.executable, "PYTHONPATH": str(root), "DVC_ROOT": str(root)}
    done = subprocess.run(
        ["bash", "-c", shell + commands], cwd=tmp_path, env=os.environ | variables, capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stdout == f"written: made/val\n{said}", done.stdout + done.stderr


def test_evaluate_takes_every_format(tmp_path):
    """Perfect answers on MeViS's local split; none can be scored where masks are not public."""
    root = made(tmp_path / "set", "mevis")
    for video, id, k in (("a", "0", [2]), ("b", "0", [0, 1]), ("b", "1", [2]), ("b", "10", [0, 1]), ("b", "2", [])):
        folder = tmp_path / "answers" / video / id
        folder.mkdir(parents=True)
        for name, mask in zip(GAPS, BOX[k].any(axis=0), strict=True):
            Image.fromarray(mask.astype(np.uint8) * 255).save(folder / f"{name}.png")
    common = (
        "--predictions",
        tmp_path / "answers",
        "--workers",
        1,
        "--bootstrap",
        0,
        "--out",
        tmp_path / "scores.json",
    )
    result = reviosa("evaluate", "--data", root, "--split", "valid_u", *common)
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "scores.json").read_text())["RVOS"]["J&F"] == 100
    result = reviosa("evaluate", "--data", root, "--split", "valid", "--allow-missing", "zero", *common)
    assert result.exit_code == 2 and "masks are not public" in result.stderr
    with pytest.raises(DataError, match="clip a, expression 0: .* not public"):
        evaluate.score_clip(formats.read(root, "valid")[0], [])


def test_real_videos(shared):
    found = verify(shared / "data" / "davis_interactions", progress=False)
    assert found["problems"] == [] and found["format"] == "interrvos"
    assert found["splits"] == {".": {"videos": 13, "frames": 160, "masks": 17, "expressions": 89, "with a target": 29}}


def test_what_would_stop_a_reader_is_listed(tmp_path):
    """Pipes, pixels without end, another encoding: each is one problem among others."""
    root = made(tmp_path, "interrvos") / "train"
    frames = root / "JPEGImages" / "1_clip000"
    meta = json.loads((root / "meta_expressions.json").read_text())
    meta["videos"] = {f"{k}": meta["videos"]["1_clip000"] for k in range(4)}
    (root / "meta_expressions.json").write_text(json.dumps(meta))
    for k in range(4):
        shutil.copytree(frames, frames.with_name(str(k)))
    first, second, third = (frames.with_name(str(k)) for k in range(3))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 10**5, 10**5, 8, 2, 0, 0, 0)), (b"IDAT", b""))
    raw = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    for file in (first / "00000.jpg", second / "00005.jpg"):
        file.write_bytes(b"\x89PNG\r\n\x1a\n" + raw)
    (third / "00005.jpg").unlink()
    os.mkfifo(third / "00005.jpg")
    each_found(
        problems(root),
        [
            r"JPEGImages/0/00000.jpg: Image size \(10000000000 pixels\), at most \d+ are read",
            r"JPEGImages/1/00005.jpg: Image size \(10000000000 pixels\), at most \d+ are read",
            "JPEGImages/2/00005.jpg: a named pipe, not a file",
        ],
    )
    masks = root / "mask_dict.json"
    masks.write_text(masks.read_text() + "{}")
    assert any("mask_dict.json: more behind the end of the object" in text for text in problems(root, fast=True))
