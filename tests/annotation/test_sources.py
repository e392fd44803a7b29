"""Where clips come from: videos, frames, what `data vidor` writes, data sets; and masks that are tracked once."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from faulty import Faulty
from PIL import Image
from running import SETTINGS

from reviosa_core import masks
from reviosa_core.annotation import dataset, pipeline, sources, truth
from reviosa_core.annotation.answers import Errors
from reviosa_core.annotation.endpoint import Endpoint
from reviosa_core.annotation.records import Asked, Line, Text, Verdict, read_lines
from reviosa_core.config import Annotation
from reviosa_core.data import formats, vidor
from reviosa_core.data.verify import verify
from reviosa_core.data.video import write_mp4
from reviosa_core.schema import NOTHING, UNKNOWN, Clip, DataError

H, W, T = 24, 36, 6
ASKED = Asked(question="q", model="m", prompt="p", images="i")


def spoil(file: Path, change: Callable[[dict], object]) -> None:
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def film(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, np.random.default_rng(0).integers(0, 255, (T, H, W, 3), dtype=np.uint8), 5.0)
    return path


def stills(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for t in range(T):
        Image.fromarray(np.full((H, W, 3), 40 * t, np.uint8)).save(folder / f"{t:05d}.jpg")
    return folder


@pytest.fixture
def clips_of_vidor(tmp_path: Path) -> Path:
    """As `reviosa data vidor --videos` leaves it: an adult in all frames, a dog in all but frames 2 and 3."""

    def box(tid: int, left: int, drawn: bool) -> dict:
        corners = {"xmin": left, "ymin": 2, "xmax": left + 9, "ymax": 20}
        return {"tid": tid, "bbox": corners, "generated": int(not drawn), "tracker": "none" if drawn else "kcf"}

    boxes = [[box(0, t, t == 3), *([] if t in (2, 3) else [box(3, 20, False)])] for t in range(T)]
    raw = {
        "version": "VERSION 1.0", "video_id": "2401075277", "video_path": "1025/2401075277.mp4", "frame_count": T,
        "fps": 5, "width": W, "height": H, "trajectories": boxes,
        "subject/objects": [{"tid": 0, "category": "adult"}, {"tid": 3, "category": "dog"}],
        "relation_instances": [
            {"subject_tid": 0, "object_tid": 3, "predicate": "pull", "begin_fid": 0, "end_fid": 2}
        ],
    }  # fmt: skip
    (tmp_path / "2401075277.json").write_text(json.dumps(raw))
    film(tmp_path / "videos" / "1025" / "2401075277.mp4")
    vidor.export(vidor.read(tmp_path / "2401075277.json"), tmp_path / "clips", tmp_path / "videos", shortest=1)
    return tmp_path / "clips"


def test_vidors_boxes_prompt_where_they_were_drawn_or_begin(clips_of_vidor: Path):
    (source,) = sources.read(clips_of_vidor)
    assert (source.clip.id, len(source.clip), source.clip.size) == ("2401075277_clip000", T, (H, W))
    assert source.kind == "box" and source.boxes is not None
    found = {id: sorted(own) for id, own in source.boxes.items()}
    assert found == {"0": [0, 3], "3": [0, 4]} and source.boxes["0"][3] == (3, 2, 12, 20)


def test_what_is_not_vidors_clips(clips_of_vidor: Path):
    file = clips_of_vidor / "prompts" / "2401075277_clip000.json"
    good = file.read_text()
    spoil(file, lambda raw: raw.update(frames=9))
    with pytest.raises(DataError, match=r"6 frames of \(24, 36\), .* says 9 of"):
        sources.read(clips_of_vidor)
    file.write_text(good)
    spoil(file, lambda raw: raw.pop("objects"))
    with pytest.raises(DataError, match="not what `reviosa data vidor` writes"):
        sources.read(clips_of_vidor)
    file.write_text(good)
    (clips_of_vidor / "JPEGImages" / "2401075277_clip000").rename(clips_of_vidor / "elsewhere")
    with pytest.raises(DataError, match="no frames; run `reviosa data vidor` with --videos"):
        sources.read(clips_of_vidor)


def test_videos_and_folders_of_frames(tmp_path: Path):
    (tmp_path / "many" / ".hidden").mkdir(parents=True)
    (tmp_path / "many" / "notes.txt").write_text("-")
    film(tmp_path / "many" / "b.mp4")
    stills(tmp_path / "many" / "a")
    found = sources.read(tmp_path / "many")
    assert [(s.clip.id, s.kind, len(s.clip), s.clip.size) for s in found] == [
        ("a", "grid", T, (H, W)),
        ("b", "grid", T, (H, W)),
    ]
    assert [s.clip.id for s in sources.read(tmp_path / "many" / "b.mp4")] == ["b"]
    assert [s.clip.id for s in sources.read(tmp_path / "many" / "a")] == ["a"]


def test_pictures_beside_videos_are_refused_and_both_named(tmp_path: Path):
    film(tmp_path / "clips" / "a.mp4")
    stills(tmp_path / "clips" / "b")
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(tmp_path / "clips" / "cover.jpg")
    said = "clips: 1 pictures, as cover.jpg, beside 2 videos, as a.mp4: one video's frames, or a folder of videos?"
    with pytest.raises(DataError, match=re.escape(said)):
        sources.read(tmp_path / "clips")


def test_what_opens_is_a_video_whatever_it_is_called_and_what_does_not_is_said(tmp_path: Path, capsys):
    for name in ("a.mp4", "b.m2ts", "c.MPEG", "d"):
        film(tmp_path / "clips" / "x.mp4").rename(tmp_path / "clips" / name)
    assert [s.clip.id for s in sources.read(tmp_path / "clips")] == ["a", "b", "c", "d"]
    assert not capsys.readouterr().out
    (tmp_path / "clips" / "notes.txt").write_text("1 2 3")
    (tmp_path / "clips" / "old").mkdir()
    assert len(sources.read(tmp_path / "clips")) == 4
    assert capsys.readouterr().out == f"{tmp_path / 'clips'}: 2 passed over that are no videos, as notes.txt\n"
    (tmp_path / "clips" / "e.wmv").write_text("-")
    with pytest.raises(DataError, match="e.wmv: unreadable video"):
        sources.read(tmp_path / "clips")


def test_a_clip_is_called_as_its_folder_or_file_is_also_where_that_is_a_link(tmp_path: Path):
    """As git-annex and DVC leave them: the file's own name is a hash."""
    for name in ("walk.1", "walk.2"):
        stills(tmp_path / "many" / name)
    film(tmp_path / "annex" / "5d41402abc.mp4")
    (tmp_path / "many" / "run.mp4").symlink_to(tmp_path / "annex" / "5d41402abc.mp4")
    assert [s.clip.id for s in sources.read(tmp_path / "many")] == ["run", "walk.1", "walk.2"]
    assert [s.clip.id for s in sources.read(tmp_path / "many" / "run.mp4")] == ["run"]


def test_another_video_in_the_place_of_one_is_tracked_again(tmp_path: Path):
    asked = []

    def tracker(clip, boxes, settings):
        asked.append(clip.id)
        return {"0": [masks.encode(np.ones((H, W), bool))] * T}

    def marks(folder: str = "clips") -> str:
        (source,) = sources.read(tmp_path / folder, None, tracker, "sam2")
        source.masked(tmp_path / "kept", SETTINGS)
        return source.fingerprint(SETTINGS)

    film(tmp_path / "clips" / "c0.mp4")
    first = marks()
    assert marks() == first and asked == ["c0"]
    os.utime(tmp_path / "clips" / "c0.mp4", ns=(1, 1))
    second = marks()
    assert second != first and asked == ["c0", "c0"]
    shutil.copytree(tmp_path / "clips", tmp_path / "elsewhere")
    assert marks("elsewhere") == second and len(asked) == 2, "a copy that kept the times"
    with (tmp_path / "clips" / "c0.mp4").open("ab") as file:
        file.write(bytes(8))
    os.utime(tmp_path / "clips" / "c0.mp4", ns=(1, 1))
    assert marks() != second and len(asked) == 3, "as old as it was, and larger"


def held(folder: Path, clips: Iterable[Clip]) -> list[object]:
    """Files that are open in there, and frames that are kept."""
    links = (os.path.join("/proc/self/fd", number) for number in os.listdir("/proc/self/fd"))
    opened = [os.readlink(link) for link in links if os.path.islink(link)]
    return [path for path in opened if Path(path).is_relative_to(folder)] + [
        k for clip in clips for k in clip.frames._cache
    ]


def test_no_video_is_held(tmp_path: Path):
    """Of thousands, an open file or a frame each would not fit."""
    for k in range(3):
        film(tmp_path / "clips" / f"c{k}.mp4")
    left, right = np.zeros((2, H, W), bool)
    left[:, :9] = right[:, 9:] = True
    track = {"0": [masks.encode(left)] * T, "1": [masks.encode(right)] * T}

    def tracker(clip, boxes, settings):
        assert len([clip.frames[t] for t in range(T)]) == T
        return track

    found = sources.read(tmp_path / "clips", None, tracker, "sam2")
    clips = [source.clip for source in found]
    assert held(tmp_path, clips) == []
    with Faulty(errors=Errors(refusal=1)) as server, Endpoint(server.url, "m", tmp_path / "answers") as endpoint:
        run = pipeline.Pipeline(found, tmp_path / "out", endpoint, SETTINGS, progress=False)
        assert run.run()["asked in this run"]["events"]["abstained"] == 3
    assert held(tmp_path, clips) == []
    about = {"caption_type": "single", "actor": ("0",), "target": None, "voice": "none", "level": "class"}
    text = Text(id="t", text="it", event=None, asked=(ASKED,), **about)
    verdict = Verdict(text=text, claimed="supported", swapped=None, evidence=(), rejected=None, asked=())
    lines = {clip.id: Line[Verdict](clip=clip.id, made_from="x", items=(verdict,)) for clip in clips}
    dataset.write(tmp_path / "out", run.clips, lines)
    assert held(tmp_path, clips) == [] and len(list((tmp_path / "out").rglob("*.jpg"))) == 3 * T


def test_frames_that_no_data_set_could_name_are_refused_before_anything_is_asked(tmp_path: Path):
    (tmp_path / "walk").mkdir()
    for t in range(1, 12):
        Image.fromarray(np.full((H, W, 3), 9 * t, np.uint8)).save(tmp_path / "walk" / f"{t}.png")
    with pytest.raises(DataError, match="walk: frames 1 to 11 are not sorted as text; name them with leading zeros"):
        sources.read(tmp_path / "walk")


def test_a_data_set_gives_its_masks_and_keeps_its_sentences_to_itself(world: Path):
    found = sources.read(world)
    assert [s.clip.id for s in found] == [f"intershapes_val_{i:05d}" for i in range(5)]
    assert {s.kind for s in found} == {"given"}
    assert [s.clip.id for s in sources.read(world.parent, "val")] == [s.clip.id for s in found]
    assert all(s.clip.masks and not s.clip.expressions for s in found)


def test_what_is_no_object_is_no_track(world: Path, monkeypatch: pytest.MonkeyPatch):
    """Of an expression about nothing, of pixels that belong to nobody, and where no mask is published."""
    clip, empty = sources.read(world)[0].clip, [None] * 6
    more = {UNKNOWN: empty, NOTHING: empty, "void": empty}
    given = [replace(clip, masks=dict(clip.masks) | more), replace(clip, id="bare", masks=more)]
    monkeypatch.setattr(formats, "read", lambda *_, **__: given)
    one, other = sources.read(world)
    assert one.kind == "given" and one.clip.masks.keys() == clip.masks.keys()
    assert other.kind == "grid" and not other.clip.masks
    with pytest.raises(DataError, match="clip bare: has no masks; name a SAM2"):
        other.masked(world, SETTINGS)
    tracked = {"0": [None] * len(clip)}
    other = sources.read(world, tracker=lambda *_: tracked)[1]
    assert other.masked(world.parent / "kept", SETTINGS).masks == tracked


def test_masks_that_no_sentence_names_are_not_complete(world: Path, tmp_path: Path):
    assert all(s.complete for s in sources.read(world, complete=True))
    assert not any(s.complete for s in sources.read(world))
    shutil.copytree(world, tmp_path / "world")
    spoil(tmp_path / "world" / "mask_dict.json", lambda raw: raw.update({"99": raw["0"]}))
    with pytest.raises(DataError, match="world: 1 masks, as 99, are named by no sentence"):
        sources.read(tmp_path / "world", complete=True)
    assert len(sources.read(tmp_path / "world")) == 5


def test_nothing_to_annotate(tmp_path: Path):
    with pytest.raises(DataError, match="no such file or folder"):
        sources.read(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no video, no frames and no data set in here"):
        sources.read(tmp_path)


def test_masks_are_tracked_once_and_again_with_other_weights(clips_of_vidor: Path, tmp_path: Path):
    calls = []

    def tracker(clip, boxes, settings):
        calls.append(sorted(boxes))
        mask = np.zeros(clip.size, bool)
        mask[2:20, 3:12] = True
        return {id: [masks.encode(mask)] * len(clip) for id in boxes}

    for name, times in (("one", 1), ("one", 1), ("two", 2)):
        (source,) = sources.read(clips_of_vidor, tracker=tracker, tracked_by=name)
        clip = source.masked(tmp_path / "masks", Annotation())
        assert list(clip.masks) == ["0", "3"] and len(calls) == times
    (source,) = sources.read(clips_of_vidor)
    with pytest.raises(DataError, match=re.escape("has no masks; name a SAM2 to track them with (--sam2)")):
        source.masked(tmp_path / "other", Annotation())


def test_from_boxes_to_a_data_set(world: Path, tmp_path: Path):
    """VidOR's way from end to end: frames and boxes in, masks by a tracker, sentences by an endpoint, data out."""
    given, root = sources.read(world)[0].clip, tmp_path / "clips"
    (root / "prompts").mkdir(parents=True)
    shutil.copytree(world / "JPEGImages" / given.id, root / "JPEGImages" / given.id)
    objects = {key: {"prompts": [{"frame": 0, "box": [0, 0, 9, 9], "drawn": True}]} for key in given.masks}
    about = {"frames": len(given), "size": list(given.size), "objects": objects}
    (root / "prompts" / f"{given.id}.json").write_text(json.dumps(about))
    (source,) = sources.read(root, tracker=lambda clip, boxes, settings: {id: list(given.masks[id]) for id in boxes})
    truths, out = {given.id: truth.of_intershapes(world)[given.id]}, tmp_path / "out"
    clip = source.masked(pipeline.work(out) / "masks", SETTINGS)
    with Faulty([clip], truths) as server, Endpoint(server.url, "m", pipeline.work(out) / "answers") as endpoint:
        summary = pipeline.Pipeline([source], out, endpoint, SETTINGS, progress=False).run()
    assert summary["expressions"] > 5 and not verify(out, progress=False)["problems"]
    lines = read_lines(pipeline.stage_file(out, "tracks"), pipeline.KINDS["tracks"])
    assert {track.source for track in lines[given.id].items} == {"box"}
