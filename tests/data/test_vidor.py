"""VidOR files as they are, the paper's clips by hand, and boxes to track from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from reviosa_core.cli.app import app
from reviosa_core.data import vidor
from reviosa_core.data.video import write_mp4
from reviosa_core.schema import DataError

H, W = 24, 36


def box(tid: int, left: int, drawn: bool = False) -> dict[str, Any]:
    corners = {"xmin": left, "ymin": 2, "xmax": left + 9, "ymax": 20}
    return {"tid": tid, "bbox": corners, "generated": int(not drawn), "tracker": "none" if drawn else "kcf"}


def relation(subject: int, predicate: str, object: int, begin: int, end: int) -> dict[str, Any]:
    pair = {"subject_tid": subject, "object_tid": object}
    return pair | {"predicate": predicate, "begin_fid": begin, "end_fid": end}


def annotation(frames: int, *relations: dict[str, Any]) -> dict[str, Any]:
    """An adult (0) in every frame, drawn in each tenth; a dog (3) in all but frames 4 to 6, never drawn; a cat (5) in
    frame 1 only."""
    trajectories = []
    for i in range(frames):
        boxes = [box(0, i % 20, drawn=i % 10 == 0)]
        boxes += [box(3, 5)] if not 4 <= i <= 6 else []
        boxes += [box(5, 7, drawn=True)] if i == 1 else []
        trajectories.append(boxes)
    return {
        "version": "VERSION 1.0",
        "video_id": "2401075277",
        "video_path": "1025/2401075277.mp4",
        "frame_count": frames,
        "fps": 29.97,
        "width": W,
        "height": H,
        "subject/objects": [{"tid": t, "category": c} for t, c in ((0, "adult"), (3, "dog"), (5, "cat"))],
        "trajectories": trajectories,
        "relation_instances": list(relations),
    }


@pytest.fixture
def store(tmp_path: Path):
    def put(raw: Any, name: str = "2401075277.json") -> Path:
        path = tmp_path / "annotation" / "training" / "1025" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(raw, separators=(",", ":")))
        return path

    return put


def test_read(store):
    video = vidor.read(store(annotation(8, relation(0, "pull", 3, 0, 4), relation(3, "bite", 0, 7, 8))))
    assert (video.id, video.path, video.fps, video.size) == ("2401075277", "1025/2401075277.mp4", 29.97, (H, W))
    assert len(video) == 8 and video.categories == {0: "adult", 3: "dog", 5: "cat"}
    assert video.boxes[1] == {
        0: vidor.Box(1, 2, 10, 20, False),
        3: vidor.Box(5, 2, 14, 20, False),
        5: vidor.Box(7, 2, 16, 20, True),
    }
    assert video.boxes[5].keys() == {0}
    assert video.relations == (vidor.Relation(0, "pull", 3, 0, 4), vidor.Relation(3, "bite", 0, 7, 8))


@pytest.mark.parametrize(
    ("frames", "want"),
    [
        (368, [("000", 0, 368)]),
        (500, [("000", 0, 500)]),
        (872, [("000", 0, 500)]),
        (1000, [("000", 0, 500)]),
        (1001, [("000", 0, 500), ("001", 1000, 1)]),
        (2000, [("000", 0, 500), ("001", 1000, 500)]),
        (5432, [("000", 0, 500), ("005", 5000, 432)]),
    ],
)
def test_clips_golden(frames, want):
    assert cut(frames, 1) == want


def cut(frames: int, *shortest: int) -> list[tuple[str, int, int]]:
    video = vidor.Video("7", "0/7.mp4", 25.0, (H, W), frames, 0, {}, [{}] * frames, ())
    return [(c.id.removeprefix("7_clip"), c.first, len(c)) for c in vidor.clips(video, *shortest)]


def test_short_bins_are_no_clips():
    """As in the released pipeline: the last that is long enough is used, whichever it is."""
    assert cut(199) == [] and cut(200) == [("000", 0, 200)]
    assert cut(1199) == [("000", 0, 500)] and cut(1200) == [("000", 0, 500), ("001", 1000, 200)]
    assert cut(2100) == [("000", 0, 500), ("001", 1000, 500)] and cut(2100, 100)[1] == ("002", 2000, 100)


def test_relations_are_cut(store):
    """The end is not in it: what ends at 1,000 is not in the clip that begins there; what ends at 1,001 is."""
    given = [(0, 500), (499, 900), (500, 1000), (0, 1001), (999, 1400), (1400, 1500), (1499, 1600), (1500, 1600)]
    raw = annotation(1600, *(relation(0, f"{begin}-{end}", 3, begin, end) for begin, end in given))
    first, last = vidor.clips(vidor.read(store(raw)))
    assert [(r.predicate, r.begin, r.end) for r in first.relations] == [
        ("0-500", 0, 500),
        ("499-900", 499, 500),
        ("0-1001", 0, 500),
    ]
    assert [(r.predicate, r.begin, r.end) for r in last.relations] == [
        ("0-1001", 0, 1),
        ("999-1400", 0, 400),
        ("1400-1500", 400, 500),
        ("1499-1600", 499, 500),
    ]
    assert last.boxes[3] == vidor.read(store(raw)).boxes[1003]


def test_prompts_golden(store):
    video = vidor.read(store(annotation(12, relation(0, "pull", 3, 1, 9))))
    assert vidor.prompts(vidor.cut(video, "7_clip000", 2, 12)) == {
        "clip": "7_clip000",
        "video_path": "1025/2401075277.mp4",
        "first_frame": 2,
        "frames": 10,
        "fps": 29.97,
        "size": [H, W],
        "objects": {
            "0": {
                "category": "adult",
                "visible": [[0, 10]],
                "prompts": [
                    {"frame": 0, "box": [2, 2, 11, 20], "drawn": False},
                    {"frame": 8, "box": [10, 2, 19, 20], "drawn": True},
                ],
            },
            "3": {
                "category": "dog",
                "visible": [[0, 2], [5, 10]],
                "prompts": [{"frame": i, "box": [5, 2, 14, 20], "drawn": False} for i in (0, 5)],
            },
        },
        "relations": [{"subject": 0, "predicate": "pull", "object": 3, "begin": 0, "end": 7}],
    }


BROKEN = {
    "another version": (lambda a: a.update(version="2"), "version '2'"),
    "no boxes": (lambda a: a.pop("trajectories"), "no key 'trajectories'"),
    "frame count": (lambda a: a.update(frame_count=9), "8 lists of boxes for 9 frames"),
    "no size": (lambda a: a.update(width=0), r"\(8, 24, 0\)"),
    "box outside": (lambda a: a.update(width=14), r"frame 0, object 3: box \[5, 2, 14, 20\] in a picture of 14 x 24"),
    "box twice": (lambda a: a["trajectories"][2].append(box(0, 1)), r"frame 2: boxes of objects \[0, 3, 0\]"),
    "box of nobody": (lambda a: a["trajectories"][2].append(box(4, 1)), r"frame 2: .* the video has \[0, 3, 5\]"),
    "object twice": (
        lambda a: a["subject/objects"].append({"tid": 0, "category": "toy"}),
        "4 objects with 3 different numbers",
    ),
    "relation too long": (lambda a: a["relation_instances"][0].update(end_fid=9), r"relation 0: frames 0 to 9 .* of 8"),
    "relation empty": (lambda a: a["relation_instances"][0].update(end_fid=0), "relation 0: frames 0 to 0"),
    "relation with nobody": (lambda a: a["relation_instances"][0].update(object_tid=4), r"relation 0: .*\(0, 4\)"),
    "name": (lambda a: a.update(video_id="8"), "video_id '8' differs from the file's name"),
    "name escapes": (lambda a: a.update(video_id="../8"), "not a plain file name"),
    "path escapes": (lambda a: a.update(video_path="../../etc/passwd"), "not a plain file name"),
    "path is absolute": (lambda a: a.update(video_path="/etc/passwd"), "not a plain file name"),
    "a submission": (lambda a: a.pop("video_id"), "no key 'video_id'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_errors_say_where(store, case):
    change, message = BROKEN[case]
    raw = annotation(8, relation(0, "pull", 3, 0, 8))
    change(raw)
    path = store(raw)
    with pytest.raises(DataError, match=message) as caught:
        vidor.read(path)
    assert str(path) in str(caught.value)


def test_export_with_frames(store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(vidor, "BIN", 8)
    monkeypatch.setattr(vidor, "CLIP", 3)
    store(annotation(10, relation(0, "pull", 3, 0, 10)))
    (tmp_path / "video" / "1025").mkdir(parents=True)
    ramp = np.stack([np.full((H, W, 3), 20 * i, np.uint8) for i in range(10)])
    write_mp4(tmp_path / "video" / "1025" / "2401075277.mp4", ramp, fps=25.0)
    words = ["data", "vidor", str(tmp_path / "annotation"), str(tmp_path / "out"), "--videos", str(tmp_path / "video")]
    words += ["--shortest", "2"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0 and "2 clips of 1 videos" in result.output, result.output
    for name, want in (("2401075277_clip000", [0, 1, 2]), ("2401075277_clip001", [8, 9])):
        folder = tmp_path / "out" / "JPEGImages" / name
        files = sorted(folder.iterdir())
        assert [file.name for file in files] == [f"{i:05d}.jpg" for i in range(len(want))]
        assert [round(np.asarray(Image.open(file)).mean() / 20) for file in files] == want
        about = json.loads((tmp_path / "out" / "prompts" / f"{name}.json").read_text())
        assert (about["frames"], about["first_frame"]) == (len(want), want[0])

    files = [file for file in (tmp_path / "out").rglob("*") if file.is_file()]
    before = {file: file.stat().st_mtime_ns for file in files}
    (tmp_path / "out" / "prompts" / "2401075277_clip001.json").unlink()  # as if stopped there
    assert CliRunner().invoke(app, words).exit_code == 0
    again = sorted(file.parent.name for file in files if file.stat().st_mtime_ns != before[file])
    assert again == ["prompts"], "only what was not done"
    mine = tmp_path / "out" / "JPEGImages" / "2401075277_clip001" / "00001.jpg"
    (tmp_path / "out" / "prompts" / "2401075277_clip001.json").unlink()
    mine.write_bytes(b"somebody's own")
    assert f"{mine}: is not what the video gives" in CliRunner().invoke(app, words).stderr
    assert mine.read_bytes() == b"somebody's own"

    store(annotation(9))
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and "says something else" in result.stderr
    result = CliRunner().invoke(app, [*words[:3], str(tmp_path / "other"), *words[4:]])
    assert f"10 frames of ({H}, {W}), annotated are 9 of ({H}, {W})" in result.stderr, result.stderr


def test_one_bad_file_does_not_stop_the_others(store, tmp_path: Path):
    store(annotation(vidor.SHORTEST))
    bad = store({"version": "VERSION 1.0", "results": {}}, "7_sub.json")
    result = CliRunner().invoke(app, ["data", "vidor", str(tmp_path / "annotation"), str(tmp_path / "out")])
    assert result.exit_code == 2 and "1 clips of 1 videos" in result.stdout
    assert result.stderr == f"error: 1 of 2 files\n  {bad}: no key 'video_id'\n"
    assert (tmp_path / "out" / "prompts" / "2401075277_clip000.json").is_file()


def test_a_video_without_a_clip_is_said(store, tmp_path: Path):
    store(annotation(vidor.SHORTEST - 1))
    result = CliRunner().invoke(app, ["data", "vidor", str(tmp_path / "annotation"), str(tmp_path / "out")])
    assert result.exit_code == 0 and result.stdout.endswith(
        "0 clips of 1 videos\n1 videos have under 200 frames and give none, first 2401075277\n"
    )


def test_real_annotations(shared: Path):
    found = {path.stem: vidor.read(path) for path in (shared / "data" / "vidor_sample").glob("*.json")}
    assert {id: (len(v), len(v.relations), len(v.categories)) for id, v in found.items()} == {
        "11566930393": (872, 15, 3),
        "3598080384": (368, 4, 2),
    }
    for video in found.values():
        for r in video.relations:  # both are boxed in the whole range, the end excluded
            assert all({r.subject, r.object} <= boxes.keys() for boxes in video.boxes[r.begin : r.end])
    (clip,) = vidor.clips(found["11566930393"])
    assert len(clip) == 500 and len(clip.relations) == 12
    assert max(r.end for r in clip.relations) == 500
