from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from reviosa_core.data import containers, video
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


def test_threads_take_their_turn_at_the_one_decoder(mp4: Path):
    frames = video._VideoFile(mp4, cache_bytes=0)
    with ThreadPoolExecutor(8) as pool:
        assert [grey(frame) for frame in pool.map(frames.__getitem__, list(range(T)) * 6)] == list(range(T)) * 6


def test_frames_go_when_they_are_read_and_wait_for_no_collector(tmp_path: Path):
    write_mp4(tmp_path / "long.mp4", np.zeros((60, H, W, 3), np.uint8), fps=10.0)

    def held() -> int:
        return sum(type(o) is av.VideoFrame for o in gc.get_objects())

    gc.collect()
    gc.freeze()  # other tests' own: they are not counted, and not looked through each time
    gc.disable()
    try:
        before = held()
        frames = video._VideoFile(tmp_path / "long.mp4", cache_bytes=0)
        more = [held() - before for _ in map(frames.__getitem__, range(60))]
    finally:
        gc.enable()
        gc.unfreeze()
    assert max(more) < 30, f"decoded frames that are held, after each of 60 that were read before and again: {more}"


def test_a_part_by_times_and_a_video_that_is_closed(mp4: Path):
    whole = open_video(mp4)
    assert whole.times == pytest.approx([i / 12.5 for i in range(T)])
    some = video.part(whole, 0.08, 0.4, mp4)  # a frame at the start is in, one at the end is not
    assert some.names == ("00001", "00002", "00003", "00004") and some.times == whole.times[1:5]
    assert [grey(some.frames[i]) for i in (0, 3, -1)] == [1, 4, 4] and some.size == (H, W)
    some.close()
    assert [grey(some.frames[i]) for i in (2, 0)] == [3, 1] and [grey(whole.frames[i]) for i in (5, 6)] == [5, 6]
    assert video.part(whole, None, None, mp4) is whole
    with pytest.raises(DataError, match=r"ramp.mp4: no frame from 0 s to 0 s; the last of 7 is at 0.48 s"):
        video.part(whole, None, 0.0, mp4)


def test_a_folder_has_the_times_of_its_rate(tmp_path: Path):
    for i in range(3):
        Image.fromarray(ramp()[i]).save(tmp_path / f"{i}.png")
    assert open_video(tmp_path).times == pytest.approx([0, 1 / 12, 2 / 12])
    open_video(tmp_path).close()


def test_odd_sides_are_padded_not_cut(tmp_path: Path):
    write_mp4(tmp_path / "odd.mp4", ramp(2, 21, 33), fps=10.0)
    assert open_video(tmp_path / "odd.mp4").size == (22, 34)


def test_colours_keep_their_order(tmp_path: Path):
    red = np.zeros((3, H, W, 3), np.uint8)
    red[..., 0] = 220
    write_mp4(tmp_path / "red.mp4", red, fps=10.0)
    r, g, b = open_video(tmp_path / "red.mp4").frames[1].reshape(-1, 3).mean(axis=0)
    assert r > 180 and g < 60 and b < 60


ONE = 1 << 16
TURNED = {  # the display matrix a b c d, and what it makes of a picture
    "as it is": ((ONE, 0, 0, ONE), lambda f: f),
    "clockwise": ((0, ONE, -ONE, 0), lambda f: np.rot90(f, -1)),
    "anticlockwise": ((0, -ONE, ONE, 0), lambda f: np.rot90(f)),
    "upside down": ((-ONE, 0, 0, -ONE), lambda f: f[::-1, ::-1]),
    "mirrored": ((-ONE, 0, 0, ONE), lambda f: f[:, ::-1]),
    "flipped": ((ONE, 0, 0, -ONE), lambda f: f[::-1]),
    "transposed": ((0, ONE, ONE, 0), lambda f: f.transpose(1, 0, 2)),
    "transposed the other way": ((0, -ONE, -ONE, 0), lambda f: f.transpose(1, 0, 2)[::-1, ::-1]),
}


def turned(path: Path, matrix: tuple[int, ...]) -> Path:
    """A video whose upper left corner is bright, to be shown as the matrix says."""
    lying = np.zeros((3, H, W, 3), np.uint8)
    lying[:, : H // 2, : W // 2] = 200
    write_mp4(path, lying, fps=10.0)
    raw, (a, b, c, d) = bytearray(path.read_bytes()), matrix
    at = raw.index(b"tkhd") + 4 + 40  # in the track header, 40 bytes after its version
    raw[at : at + 36] = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], ">i4").tobytes()
    path.write_bytes(raw)
    return path


@pytest.mark.parametrize("name", TURNED)
def test_a_phone_video_stands_upright(tmp_path: Path, name: str):
    matrix, turn = TURNED[name]
    due = turn(np.pad(np.full((H // 2, W // 2, 3), 200, np.uint8), ((0, H // 2), (0, W // 2), (0, 0))))
    frames, _, size, _ = open_video(turned(tmp_path / "phone.mp4", matrix))
    assert size == due.shape[:2] and abs(frames[0].astype(int) - due).mean() < 20


def test_any_other_turn_is_refused(tmp_path: Path):
    half = round(ONE * 0.5**0.5)
    assert "turned or stretched by [0.707, 0.707" in refused(turned(tmp_path / "a.mp4", (half, half, -half, half)))
    assert "its pixels are 2:1, not square" in refused(turned(tmp_path / "b.mp4", (2 * ONE, 0, 0, ONE)))


@pytest.mark.parametrize(("aspect", "square"), [("1/1", True), ("180/181", True), ("16/15", False), ("8/9", False)])
def test_pixels_that_are_not_square(tmp_path: Path, aspect: str, square: bool):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(ramp(1)[0], format="rgb24")))
        container.mux(stream.encode(None))
    assert open_video(tmp_path / "a.mp4", stored=True).size == (H, W)
    if square:
        assert open_video(tmp_path / "a.mp4").size == (H, W)
    else:
        assert f"its pixels are {aspect.replace('/', ':')}, not square" in refused(tmp_path / "a.mp4")


def test_one_picture_is_read_as_those_of_a_folder(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lying
    for name in ("0.jpg", "1.jpg"):
        Image.new("RGB", (W, H), (200, 0, 0)).save(tmp_path / name, exif=exif)
    alone, folder = open_video(tmp_path / "0.jpg"), open_video(tmp_path)
    assert alone.size == folder.size == (W, H) and alone.names == ("00000",)
    assert (alone.frames[0] == folder.frames[0]).all()


@pytest.mark.parametrize(
    ("names", "clear"),
    [
        (("0.25", "0.50", "0.75"), True),
        (("9.5", "10.5", "11.5"), True),
        (("scene.01", "scene.02", "scene.10"), True),
        (("0.25", "0.5", "0.75"), False),
        (("1.9", "1.10"), False),
    ],
)
def test_names_that_may_be_decimals(tmp_path: Path, names: tuple[str, ...], clear: bool):
    for name in names:
        Image.new("RGB", (W, H)).save(tmp_path / f"{name}.jpg")
    if clear:
        assert open_video(tmp_path).names == names
    else:
        assert "but not as decimals; name the frames with as many digits each" in refused(tmp_path)


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
    assert f"cut off: it has {half.stat().st_size} bytes, and its last part ends at" in refused(half)


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


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "live.mkv"])
def test_a_file_says_how_long_it_is(tmp_path: Path, name: str):
    """Whole it passes, with something behind it too; what was written while it played says nothing."""
    path = tmp_path / name
    options = {"live": "1"} if name.startswith("live") else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
        for _ in range(9):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((16, 32, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    containers.check_whole(path)
    path.write_bytes(whole + b"\0\0\0\0trailer of a camera")
    containers.check_whole(path)
    path.write_bytes(whole[:-1])
    if name.startswith("live"):
        containers.check_whole(path)
    else:
        with pytest.raises(
            DataError, match=f"{name}: cut off: it has {len(whole) - 1:,} bytes.* ends at {len(whole):,}"
        ):
            containers.check_whole(path)
    for length in range(24):  # and nothing is read where nothing is
        path.write_bytes(whole[:length])
        with suppress(DataError):
            containers.check_whole(path)
