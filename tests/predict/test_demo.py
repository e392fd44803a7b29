"""The page of `reviosa demo`, as a person in a browser has it."""

from __future__ import annotations

import io
import json
import os
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

demo = pytest.importorskip("reviosa_core.predict.demo", reason="gradio is an extra")
pytestmark = [
    pytest.mark.slow,
    # gradio 6.31 on starlette 1.10
    pytest.mark.filterwarnings("default"),
]
in_a_browser = pytest.mark.skipif(chromium.BINARY is None, reason="no Chromium here")
LIMITS = demo.Limits(frames=2 * T, sentences=2, letters=40)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "yard.mp4"
    write_mp4(path, np.full((T, H, W, 3), 90, np.uint8), 5.0)
    return path


@pytest.fixture
def page(tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Standing, Path]]:
    """Where it is served, who answers, and the folder that it writes into."""
    folder, system = tmp_path / "of the demo", Standing()
    folder.mkdir()
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(folder / "uploads"))
    settings = demo.Settings(tmp_path / "weights", "hash")
    blocks = demo.page(system, settings, folder, [demo.Sample(video, ("a dog",))], LIMITS)
    yield demo.launch(blocks, "127.0.0.1", None, LIMITS, wait=False), system, folder
    blocks.close()


def ask(shown: chromium.Page, video: Path, *sentences: str) -> None:
    shown.until("document.querySelector('#video input[type=file]')")
    shown.choose_file("#video input[type=file]", video)
    shown.until("document.querySelector('#video video')")
    shown.type("#sentences textarea", "\n".join(sentences))
    shown.js("document.querySelector('#go').click()")


@in_a_browser
def test_a_video_and_sentences_become_masks_that_can_be_kept(page, video: Path, tmp_path: Path):
    address, system, folder = page
    with chromium.opened(address, tmp_path / "browser") as shown:
        ask(shown, video, "a dog", "a cat", "a dog")
        shown.until("document.querySelector('#overlay video') && document.querySelector('#picture img')")
        assert system.asked == [("yard", ["a dog", "a cat"])], "both at once, and none twice"
        said = shown.js("document.querySelector('#said').innerText")
        assert "it is both" in said and f"actor: in {T} of {T} frames" in said and f"target: in 3 of {T}" in said
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
        elsewhere = shown.js(
            "performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(location.origin))"
        )
        assert not [name for name in elsewhere if name.startswith("http")], "nothing is asked of any other machine"


@in_a_browser
@pytest.mark.parametrize(
    "sentences, said",
    [
        ((), "No sentence"),
        (("a", "b", "c"), "3 sentences; at most 2 go at once"),
        (("a" * 41,), "A sentence of 41 letters; at most 40 go"),
        (("a ghost",), "there are no ghosts"),
    ],
)
def test_what_cannot_be_done_is_said_on_the_page(page, video: Path, tmp_path: Path, sentences, said: str):
    address, _, folder = page
    with chromium.opened(address, tmp_path / "browser") as shown:
        ask(shown, video, *sentences)
        shown.until(f"document.body.innerText.includes({json.dumps(said)})")
        assert str(folder) not in shown.js("document.body.innerText"), "where it is kept is nobody's business"
    assert [path.name for path in folder.iterdir()] == ["uploads"], "and nothing is left"


@in_a_browser
def test_a_video_that_is_too_long_is_refused_before_any_work(page, tmp_path: Path):
    address, system, _ = page
    write_mp4(tmp_path / "long.mp4", np.full((2 * T + 1, H, W, 3), 90, np.uint8), 5.0)
    with chromium.opened(address, tmp_path / "browser") as shown:
        ask(shown, tmp_path / "long.mp4", "a dog")
        shown.until("document.body.innerText.includes('11 frames; at most 10 here')")
    assert not system.asked


def test_what_was_made_goes_with_the_next_request(page, video: Path):
    _, system, folder = page
    run = lambda made: demo._segment(system, demo.Settings(folder, "hash"), folder, LIMITS, str(video), "a dog", made)  # noqa: E731
    (first,), _ = run([])
    assert Path(first).is_dir()
    (second,), _ = run([first])
    assert Path(second).is_dir() and not Path(first).parent.exists()
    demo._forget([second])
    assert not Path(second).parent.exists()


def test_samples_are_videos_with_sentences_about_two(tmp_path: Path):
    samples = list(cli_demo._samples(tmp_path))
    assert len(samples) == cli_demo.SAMPLES and all(s.video.is_file() and 0 < len(s.texts) <= 2 for s in samples)


def test_without_gradio_the_command_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    done = CliRunner().invoke(app, ["demo", "--checkpoint", str(tmp_path)])
    assert done.exit_code == 2 and "pip install -e '.[demo]'" in done.stderr


def test_it_asks_nobody_but_its_own_machine(page):
    assert page[0].startswith("http://127.0.0.1:") and os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
