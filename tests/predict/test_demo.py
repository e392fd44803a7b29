"""The page of `reviosa demo`, as a person in a browser has it."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import chromium
import numpy as np
import pytest
from PIL import Image
from standing import H, Standing, T, W
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.cli import demo as cli_demo
from reviosa_core.cli.app import app
from reviosa_core.data.video import write_mp4
from reviosa_core.predict import demo


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "yard.mp4"
    write_mp4(path, np.full((T, H, W, 3), 90, np.uint8), 5.0)
    return path


@pytest.fixture
def address(root: Path, tmp_path: Path, video: Path) -> Iterator[str]:
    """Where the page is served; it works in tmp_path/work."""
    for name in ("work", "weights"):
        (tmp_path / name).mkdir()
    served, places = Path(__file__).with_name("served.py"), [root, root / "tests", Path(__file__).parent]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
    env |= {name: "http://127.0.0.1:9" for name in ("HTTP_PROXY", "http_proxy")}  # where nobody is: it is not asked
    command = [sys.executable, str(served), str(tmp_path), str(video)]
    with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture
def shown(address: str, tmp_path: Path) -> Iterator[chromium.Page]:
    with chromium.opened(address, tmp_path / "browser") as page:
        yield page


def ask(shown: chromium.Page, video: Path, *sentences: str) -> None:
    shown.until("document.querySelector('#video input[type=file]')")
    shown.choose_file("#video input[type=file]", video)
    shown.until("document.querySelector('#video video')")
    shown.type("#sentences textarea", "\n".join(sentences))
    shown.js("document.querySelector('#go').click()")


@chromium.here
@pytest.mark.slow
def test_a_video_and_sentences_become_masks_that_can_be_kept(shown: chromium.Page, video: Path, tmp_path: Path):
    ask(shown, video, "a dog", "a cat", "a dog")
    shown.until("document.querySelector('#overlay video') && document.querySelector('#picture img')")
    assert json.loads((tmp_path / "asked.json").read_text()) == [["yard", ["a dog", "a cat"]]], "at once, none twice"
    said = shown.js("document.querySelector('#said').innerText")
    told = ("it is both", f"actor, blue: in {T} of {T} frames", f"target, orange: in 3 of {T}")
    assert all(words in said for words in told), said

    shown.until("document.querySelectorAll('#files a').length == 3")
    links = shown.js("[...document.querySelectorAll('#files a')].map(a => a.href)")
    files = {link.rpartition("/")[2]: urllib.request.urlopen(link, timeout=60).read() for link in links}
    assert files.keys() == {"prediction.json", "overlay.mp4", "masks.zip"}
    about = json.loads(files["prediction.json"])
    assert about["text"] == "a dog" and about["answer"] == "it is both"
    with zipfile.ZipFile(io.BytesIO(files["masks.zip"])) as kept:
        target = np.asarray(Image.open(io.BytesIO(kept.read("masks/target/00002.png")))) > 0
    assert np.array_equal(target, masks.decode(about["masks"]["target"][2], (H, W))) and target.sum() == 72

    first = shown.js("document.querySelector('#picture img').src")
    shown.press("#frame input[type=range]", "ArrowRight", 39)
    shown.until(f"document.querySelector('#picture img').src != '{first}'")

    shown.press("#which input", "ArrowDown", 40)  # to the other sentence
    shown.press("#which input", "Enter", 13)
    shown.until(f"(document.querySelector('#files a') || {{}}).href != '{links[0]}'")
    shown.until("document.querySelectorAll('#files a').length == 3")
    link = shown.js("document.querySelector('#files a').href")
    assert json.load(urllib.request.urlopen(link, timeout=60))["text"] == "a cat"

    asked = "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin))"
    assert not [name for name in shown.js(asked) if name.startswith("http")], "nothing is asked of any other machine"


@chromium.here
@pytest.mark.slow
def test_what_cannot_be_done_is_said_on_the_page(shown: chromium.Page, video: Path, tmp_path: Path):
    """One page for all: what was refused leaves nothing behind, and the next is asked all the same."""
    write_mp4(tmp_path / "long.mp4", np.full((2 * T + 1, H, W, 3), 90, np.uint8), 5.0)
    ask(shown, tmp_path / "long.mp4")
    shown.until("document.body.innerText.includes('No sentence')")
    for sentences, said in (
        ("a", "11 frames; at most 10 here"),
        ("a\nb\nc", "3 sentences; at most 2 go at once"),
        ("a" * 41, "A sentence of 41 letters; at most 40 go"),
    ):
        shown.type("#sentences textarea", sentences)
        shown.js("document.querySelector('#go').click()")
        shown.until(f"document.body.innerText.includes({json.dumps(said)})")
    assert str(tmp_path) not in shown.js("document.body.innerText"), "where it is kept is nobody's business"
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["uploads"], "and nothing is left"
    assert not (tmp_path / "asked.json").exists(), "nor was any work done"


def segment(folder: Path, video: Path, text: str, made: list[str]) -> list[str]:
    settings = demo.Settings(folder, "hash")
    return demo._segment(Standing(), settings, folder, demo.Limits(), str(video), text, made)[0]


def test_what_was_made_goes_with_the_next_request(tmp_path: Path, video: Path):
    (first,) = segment(tmp_path, video, "a dog", [])
    assert Path(first).is_dir()
    (second,) = segment(tmp_path, video, "a dog", [first])
    assert Path(second).is_dir() and not Path(first).parent.exists()
    demo._forget([second])
    assert not Path(second).parent.exists() and video.is_file()


def test_a_request_that_fails_names_the_reason_and_no_folder(tmp_path: Path, video: Path):
    with pytest.raises(demo.gr.Error, match="RuntimeError: there are no ghosts"):
        segment(tmp_path, video, "a ghost", [])
    video.write_bytes(video.read_bytes()[:200])
    with pytest.raises(demo.gr.Error, match="^'?yard.mp4: "):
        segment(tmp_path, video, "a dog", [])
    assert [path.name for path in tmp_path.iterdir()] == ["yard.mp4"]


def test_a_port_that_is_taken_is_one_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(app, ["demo", "--checkpoint", str(tmp_path), "--port", str(port)])
    assert done.exit_code == 2 and done.stderr.startswith(f"error: --port {port}: Address already in use")
    assert len(done.stderr.splitlines()) == 1


def test_samples_are_videos_with_sentences_about_two(tmp_path: Path):
    samples = list(cli_demo._samples(tmp_path))
    assert len(samples) == cli_demo.SAMPLES and all(s.video.is_file() and 0 < len(s.texts) <= 2 for s in samples)


def test_without_gradio_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["demo", "--checkpoint", str(tmp_path)])
    assert done.exit_code == 2 and "pip install -e '.[demo]'" in done.stderr
