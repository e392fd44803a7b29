"""`reviosa predict --mode stream`: of files as of others, and of a pipe, line by line while it comes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import tiny
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.cli.app import app
from reviosa_core.data.decoding import piped
from reviosa_core.data.video import open_video, write_mp4
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.predict.stream import follow
from reviosa_core.predict.streamed import Stream
from reviosa_core.schema import DataError, Role
from reviosa_core.weights import checkpoint, folders

T, H, W, FPS = 12, 48, 64, 4
TEXTS = ["the red star", "the ring"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream") / "model"
    folders.save(ReVIOSa(tiny.reader(), tiny.seeing(), tuple(Role), frames=2, prompted="first"), folder)
    return folder


def encoded(container_format: str = "matroska", aspect: Fraction | None = None) -> bytes:
    """Noise: a frame is larger than what is read at once, so that none waits for the next ones."""
    file, frames = io.BytesIO(), np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8)
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream("mpeg4", rate=Fraction(FPS))
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = W, H, "yuv420p", 10**7
        if aspect:
            stream.codec_context.sample_aspect_ratio = aspect
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def reviosa(*words: object, **more):
    return CliRunner().invoke(app, [str(word) for word in words], **more)


def test_lines_come_while_the_video_comes(root: Path, weights: Path, tmp_path: Path):
    """The last quarter is sent when half of all lines are there; a file of the same gives the same masks."""
    whole = encoded()
    words = ["predict", "--video", "-", "--mode", "stream", "--window", "4", "--checkpoint", str(weights)]
    words += ["--text", TEXTS[0], "--text", TEXTS[1]]
    with subprocess.Popen(
        [sys.executable, "-c", "from reviosa_core.cli.app import app; app()", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdin and process.stdout
        watchdog = threading.Timer(600, process.kill)
        watchdog.start()
        try:
            process.stdin.write(whole[: len(whole) * 3 // 4])
            process.stdin.flush()
            early = [process.stdout.readline() for _ in range(T)]
            assert process.poll() is None and all(early)
            process.stdin.write(whole[len(whole) * 3 // 4 :])
            process.stdin.close()
            late = process.stdout.read().splitlines()
            assert process.wait() == 0
        finally:
            watchdog.cancel()
    lines = [json.loads(one) for one in (*early, *late)]
    assert [(one["frame"], one["text"]) for one in lines] == [(t, text) for t in range(T) for text in TEXTS]
    assert [one["time"] for one in lines[::2]] == [t / FPS for t in range(T)]

    (tmp_path / "v.mkv").write_bytes(whole)
    frames = (frame for frame in map(open_video(tmp_path / "v.mkv").frames.__getitem__, range(T)))
    for t, shown in enumerate(follow(checkpoint.load(weights, device="cpu"), frames, TEXTS, Stream(window=4))):
        for one, own in zip(lines[2 * t :], shown, strict=False):
            assert bool(one["asked"]) == bool(own.why)
            for role in Role:
                assert np.array_equal(masks.decode(one["roles"][str(role)]["mask"], (H, W)), own.masks[role])


def test_a_pipe_gives_the_files_frames(tmp_path: Path):
    (tmp_path / "v.mkv").write_bytes(encoded())
    found = list(piped(io.BytesIO(encoded()), 12.0))
    kept = open_video(tmp_path / "v.mkv")
    assert [time for _, time in found] == list(kept.times)
    assert all(np.array_equal(frame, kept.frames[i]) for i, (frame, _) in enumerate(found)) and len(found) == T


class Pipe(io.RawIOBase):
    """Bytes that can be read once."""

    def __init__(self, held: bytes) -> None:
        self.held = io.BytesIO(held)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self.held.readinto(buffer)


@pytest.mark.parametrize("format", ["matroska", "mpegts"])
def test_formats_that_can_be_piped(format: str):
    assert len(list(piped(Pipe(encoded(format)), 12.0))) == T
    with pytest.raises(DataError, match="^-: its pixels are 2:1, not square"):
        list(piped(Pipe(encoded(format, Fraction(2))), 12.0))


@pytest.mark.parametrize("held", [b"", b"not a video, whatever its name says", "mp4"])
def test_what_cannot_be_read_once_is_a_line(held: bytes | str):
    with pytest.raises(DataError, match="^-: unreadable video"):
        list(piped(Pipe(encoded(held) if isinstance(held, str) else held), 12.0))


def test_a_file_is_streamed_and_is_not_taken_for_the_whole_way(weights: Path, tmp_path: Path):
    write_mp4(tmp_path / "v.mp4", np.random.default_rng(0).integers(0, 256, (T, H, W, 3), dtype=np.uint8), 6.0)
    words = ["predict", "--video", tmp_path / "v.mp4", "--checkpoint", weights, "--out", tmp_path / "out"]
    words += [word for text in TEXTS for word in ("--text", text)]
    done = reviosa(*words, "--mode", "stream", "--every", 5, "--unsure", 0)
    assert done.exit_code == 0, done.output
    (about,) = (json.loads(p.read_text()) for p in (tmp_path / "out").glob("*ring/prediction.json"))
    assert about["made_from"]["stream"] == {"window": 32, "unsure": 0.0, "jump": 0.2, "gap": 4, "every": 5}
    assert [(q["frame"], q["why"]) for q in about["questions"]][0] == (0, "first")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["stream"]["every"] == 5
    again = reviosa(*words, "--mode", "stream", "--every", 5, "--unsure", 0)
    assert again.output.count("there already") == 2
    whole = reviosa(*words)
    assert whole.exit_code == 0 and "there already" not in whole.output
    (about,) = (json.loads(p.read_text()) for p in (tmp_path / "out").glob("*ring/prediction.json"))
    assert "questions" not in about and "stream" not in about["made_from"]
