from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from reviosa_core.data import video
from reviosa_core.data.video import open_clip, open_video, write_mp4
from reviosa_core.schema import DataError, Frames

T, H, W = 7, 22, 34


def ramp(t: int = T, h: int = H, w: int = W) -> np.ndarray:
    """Frame i is plain grey, 30 i: lossy coding cannot confuse two of them."""
    return np.stack([np.full((h, w, 3), 30 * i, np.uint8) for i in range(t)])


def grey(frame: np.ndarray) -> int:
    return round(float(frame.mean()) / 30)


@pytest.fixture
def mp4(tmp_path: Path) -> Path:
    write_mp4(tmp_path / "ramp.mp4", ramp(), fps=12.5)
    return tmp_path / "ramp.mp4"


def test_mp4_round_trip(mp4: Path):
    frames, names, size, fps = open_video(mp4)
    assert isinstance(frames, Frames)
    assert (len(frames), len(names), size, fps) == (T, T, (H, W), 12.5)
    assert names[:2] == ("00000", "00001")
    assert [grey(frames[i]) for i in range(T)] == list(range(T))
    assert frames[0].dtype == np.uint8 and frames[0].shape == (H, W, 3)
    assert [path.name for path in mp4.parent.iterdir()] == ["ramp.mp4"], "no partial file is left"


@pytest.mark.parametrize("order", [(6, 0, 3, 3, -1, 2), (0, 1, 2, 6, 5, 4)])
def test_any_order_with_almost_no_memory(mp4: Path, order: tuple[int, ...]):
    frames = video._VideoFile(mp4, cache_bytes=2 * H * W * 3)
    assert [grey(frames[i]) for i in order] == [i % T for i in order]
    assert len(frames._cache) <= 2
    with pytest.raises(IndexError):
        frames[T]


def test_odd_sides_are_padded_not_cut(tmp_path: Path):
    write_mp4(tmp_path / "odd.mp4", ramp(2, 21, 33), fps=10.0)
    assert open_video(tmp_path / "odd.mp4").size == (22, 34)


def test_colours_keep_their_order(tmp_path: Path):
    red = np.zeros((3, H, W, 3), np.uint8)
    red[..., 0] = 220
    write_mp4(tmp_path / "red.mp4", red, fps=10.0)
    r, g, b = open_video(tmp_path / "red.mp4").frames[1].reshape(-1, 3).mean(axis=0)
    assert r > 180 and g < 60 and b < 60


def test_a_phone_video_stands_upright(tmp_path: Path):
    lying = np.zeros((3, H, W, 3), np.uint8)
    lying[:, :, : W // 2] = 200  # its left half is bright
    write_mp4(tmp_path / "phone.mp4", lying, fps=10.0)
    raw = bytearray((tmp_path / "phone.mp4").read_bytes())
    # The display matrix in the track header, 40 bytes after its version: a b c d = 0 1 -1 0, "turn clockwise by 90".
    at = raw.index(b"tkhd") + 4 + 40
    raw[at : at + 36] = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    (tmp_path / "phone.mp4").write_bytes(raw)
    frames, _, size, _ = open_video(tmp_path / "phone.mp4")
    assert size == (W, H)
    assert frames[0][: W // 2 - 2].mean() > 150 and frames[0][W // 2 + 2 :].mean() < 50  # left turned clockwise is top


def test_folder_in_counting_order(tmp_path: Path):
    for i in (10, 2, 1):
        Image.new("RGB", (W, H), (i, 0, 0)).save(tmp_path / f"frame{i}.png")
    (tmp_path / "notes.txt").write_text("ignored")
    (tmp_path / "._frame1.png").write_text("a file manager's shadow, ignored")
    frames, names, size, fps = open_video(tmp_path)
    assert names == ("frame1", "frame2", "frame10") and size == (H, W) and fps == video.FOLDER_FPS
    assert [int(frames[i][0, 0, 0]) for i in range(3)] == [1, 2, 10]


def test_clip_has_one_expression_and_no_masks(tmp_path: Path):
    folder = tmp_path / "my clip"
    folder.mkdir()
    for i in range(3):
        Image.new("L", (W, H), i).save(folder / f"{i}.jpg")
    clip = open_clip(folder, "the dog pulling the man")
    assert (clip.id, clip.frame_names, clip.size) == ("my clip", ("0", "1", "2"), (H, W))
    (expression,) = clip.expressions
    assert (expression.text, expression.target) == ("the dog pulling the man", None)
    assert clip.frames[2].shape == (H, W, 3)
    with pytest.raises(DataError, match="empty text"):
        open_clip(folder, "  ")


def refused(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        open_video(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message, "one line that names the file"
    return message


def test_errors_name_the_file(tmp_path: Path, mp4: Path):
    assert "no such file" in refused(tmp_path / "missing.mp4")
    (tmp_path / "empty").mkdir()
    assert "no .jpg" in refused(tmp_path / "empty")
    (tmp_path / "text.mp4").write_text("not a video " * 100)
    assert "unreadable video" in refused(tmp_path / "text.mp4")
    (tmp_path / "zero.mp4").touch()
    assert "unreadable video" in refused(tmp_path / "zero.mp4")
    half = mp4.with_name("half.mp4")
    half.write_bytes(mp4.read_bytes()[: mp4.stat().st_size // 2])
    assert "unreadable video" in refused(half)


def test_a_video_that_breaks_off_is_not_cut_short(mp4: Path):
    raw = bytearray(mp4.read_bytes())
    start = raw.index(b"mdat") + 4
    middle = start + (raw.index(b"moov") - start) // 2
    raw[middle : middle + 40] = b"\xff" * 40
    mp4.write_bytes(raw)
    try:
        assert len(open_video(mp4).frames) == T  # the decoder hid the damage, but not a frame
    except DataError as error:
        assert "unreadable video after" in str(error)


def test_sound_without_pictures(tmp_path: Path):
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))
    assert "no video stream" in refused(tmp_path / "sound.wav")


def test_broken_and_unequal_images(tmp_path: Path):
    Image.new("RGB", (W, H)).save(tmp_path / "0.png")
    Image.new("RGB", (W + 1, H)).save(tmp_path / "1.png")
    (tmp_path / "2.png").write_bytes((tmp_path / "0.png").read_bytes()[:60])
    (tmp_path / "3.png").write_text("no image")
    frames = open_video(tmp_path).frames
    for index, message in [
        (1, rf"1\.png: size \({H}, {W + 1}\)"),
        (2, r"2\.png: unreadable"),
        (3, r"3\.png: unreadable"),
    ]:
        with pytest.raises(DataError, match=message):
            frames[index]
    Image.new("RGB", (W, H)).save(tmp_path / "0.jpg")
    assert "called '0'" in refused(tmp_path)


def test_nothing_to_write(tmp_path: Path):
    with pytest.raises(DataError, match="no frames to write"):
        write_mp4(tmp_path / "a.mp4", [], fps=10.0)
    with pytest.raises(DataError, match="frame of"):
        write_mp4(tmp_path / "a.mp4", [*ramp(1), *ramp(1, H + 2, W)], fps=10.0)
    assert not list(tmp_path.iterdir())


def test_real_frames(shared: Path, tmp_path: Path):
    folder = next((shared / "data" / "davis_interactions" / "JPEGImages").iterdir())
    clip = open_clip(folder, "who does what")
    assert len(clip) == len(list(folder.glob("*.jpg"))) and clip.frames[0].shape == (*clip.size, 3)
    write_mp4(tmp_path / "real.mp4", (clip.frames[i] for i in range(4)), fps=24.0)
    assert len(open_video(tmp_path / "real.mp4").frames) == 4
