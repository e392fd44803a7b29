"""Every layout that is written is read back, and holds the same masks."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from standing import H, Standing, T, W

from reviosa_core import masks
from reviosa_core.data.video import open_video
from reviosa_core.predict import batch, jobs, result
from reviosa_core.schema import Role

TIMES = (0.0, 0.1, 0.3, 0.4, 0.9)  # seconds: no two neighbours the same


def variable(path: Path) -> Path:
    """A video whose frames are shown at TIMES."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for i, time in enumerate(TIMES):
            frame = av.VideoFrame.from_ndarray(np.full((H, W, 3), 40 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(10 * time), Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    job = jobs.Job(variable(tmp_path / "v.mp4"), "a dog", tmp_path / "out")
    done = batch.one(
        job, batch.opened(job), Standing(), result.Settings(tmp_path, "m", also=("palette", "ytvis", "webm"))
    )
    assert not done.problems
    return job.out


def truth() -> dict[Role, np.ndarray]:
    actor, target = np.zeros((2, T, H, W), bool)
    actor[:, :, : W // 2], target[::2, 4:10, 12:24] = True, True
    return {Role.ACTOR: actor, Role.TARGET: target}


def test_run_lengths_and_trees(written: Path):
    about = json.loads((written / "prediction.json").read_text())
    for role, want in truth().items():
        assert np.array_equal(masks.decode_all(about["masks"][role], (H, W)), want)
        tree = [np.array(Image.open(path)) for path in sorted((written / "masks" / role).iterdir())]
        assert np.array_equal(np.stack(tree), 255 * want.astype(np.uint8))


def test_the_palette_tells_both_roles_and_where_they_meet(written: Path):
    pictures = [Image.open(path) for path in sorted((written / "palette").iterdir())]
    labels, want = np.stack([np.array(picture) for picture in pictures]), truth()
    assert pictures[0].mode == "P" and pictures[0].getpalette()[:9] == [0, 0, 0, 0, 114, 178, 230, 159, 0]
    assert np.array_equal(labels, want[Role.ACTOR] + 2 * want[Role.TARGET].astype(np.uint8))
    assert set(np.unique(labels)) == {0, 1, 2, 3}


def test_youtube_vis_json(written: Path):
    whole = json.loads((written / "ytvis.json").read_text())
    (video,) = whole["videos"]
    assert (video["length"], video["height"], video["width"], len(video["file_names"])) == (T, H, W, T)
    names = {category["id"]: category["name"] for category in whole["categories"]}
    assert [names[a["category_id"]] for a in whole["annotations"]] == ["actor", "target"]
    for annotation, want in zip(whole["annotations"], truth().values(), strict=True):
        assert np.array_equal(masks.decode_all(annotation["segmentations"], (H, W)), want)
        assert annotation["areas"] == [int(m.sum()) or None for m in want]
    target = whole["annotations"][1]
    assert target["bboxes"] == [[12, 4, 12, 6], None, [12, 4, 12, 6], None, [12, 4, 12, 6]] and target["score"] == 1.0


def test_webm_is_transparent_where_there_is_no_mask(written: Path):
    reader, found, alpha, times = av.CodecContext.create("libvpx-vp9", "r"), [], [], []  # FFmpeg's own drops the alpha
    with av.open(str(written / "masks.webm")) as container:
        for packet in container.demux(video=0):
            for frame in reader.decode(packet):
                found.append(frame.to_ndarray(format="rgba"))  # FFmpeg's conversion errs in some alpha, now and then
                plane = frame.planes[3]
                alpha.append(np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[:H, :W])
                times.append(float(frame.pts * packet.time_base))
    assert times == pytest.approx(TIMES, abs=0.001)
    shown, want = np.stack(found), truth()
    both = want[Role.ACTOR] | want[Role.TARGET]
    assert np.array_equal(np.stack(alpha) > 127, both)
    blue = shown[0, 12:, : W // 2 - 4]
    assert blue[..., 2].mean() > blue[..., 0].mean() + 100


def test_the_overlay_plays_at_the_videos_own_times(written: Path, tmp_path: Path):
    assert open_video(tmp_path / "v.mp4").times == pytest.approx(TIMES)
    assert open_video(written / "overlay.mp4").times == pytest.approx(TIMES, abs=0.001)
    assert json.loads((written / "prediction.json").read_text())["times"] == list(TIMES)
    job = jobs.Job(tmp_path / "v.mp4", "a dog", tmp_path / "even", fps=20.0)
    batch.one(job, batch.opened(job), Standing(), result.Settings(tmp_path, "m"))
    assert open_video(tmp_path / "even" / "overlay.mp4").times == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])


def test_more_is_written_beside_what_is_there(tmp_path: Path):
    job, system = jobs.Job(variable(tmp_path / "v.mp4"), "a dog", tmp_path / "out"), Standing()
    for also in ((), ("palette", "webm"), ()):
        (done,) = batch.run([job], lambda: system, result.Settings(tmp_path, "m", also=also))
        assert not done.problems
    assert (
        len(system.asked) == 1
        and (job.out / "masks.webm").is_file()
        and len(list((job.out / "palette").iterdir())) == T
    )
