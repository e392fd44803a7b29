"""The page of `reviosa demo`: a video and sentences in; masks over it, how sure the model is, and files out.

All it does with a model is `batch.run`, into a folder of its own for each request, which goes with the next request, or
an hour later. Gradio is imported here only, and this module by the command only.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from jaxtyping import UInt8
from numpy import ndarray

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read as gradio is imported; nothing is sent anywhere
import gradio as gr  # noqa: E402

from reviosa_core import masks
from reviosa_core.data.jsonfile import read_json
from reviosa_core.data.video import open_video
from reviosa_core.predict import batch, jobs, result
from reviosa_core.predict.result import Settings
from reviosa_core.report import drawing, style
from reviosa_core.schema import DataError, Role, Segments

HOUR = 3600
NAMED = {Role.ACTOR: "blue", Role.TARGET: "orange"}  # as style.COLOR is, in masks and curves
WORDS = """# Who does what to whom?
A video, and a sentence about it: the **actor** is marked blue, the **target**, where the sentence has one, orange.
A model of the tiny profile has seen moving shapes only: it runs on real scenes, but knows nothing about them."""


@dataclass(frozen=True)
class Limits:
    """Of one request, but for `waiting`: requests in the queue, beyond which the page says that it is busy."""

    frames: int = 600
    sentences: int = 8
    letters: int = 300
    megabytes: int = 100
    waiting: int = 8


@dataclass(frozen=True)
class Sample:
    """A video that is there to try, and what can be asked about it."""

    video: Path
    texts: tuple[str, ...]


def page(system: Segments, settings: Settings, folder: Path, samples: Sequence[Sample], limits: Limits) -> gr.Blocks:
    """The page. `folder` is for what requests write; the caller removes it in the end."""
    with gr.Blocks(title="Who does what to whom", delete_cache=(HOUR, HOUR)) as blocks:
        # Where the request's predictions are, in the sentences' order.
        made = gr.State([], time_to_live=HOUR, delete_callback=_forget)
        gr.Markdown(WORDS)
        with gr.Row():
            with gr.Column():
                video = gr.Video(label="Video", sources=["upload"], elem_id="video")
                texts = gr.Textbox(
                    label=f"Sentences, one a line, at most {limits.sentences}",
                    placeholder="the dog pulling the man",
                    lines=3,
                    elem_id="sentences",
                )
                go = gr.Button("Segment", variant="primary", elem_id="go")
                if samples:
                    gr.Examples([[str(s.video), "\n".join(s.texts)] for s in samples], [video, texts], label="To try")
            with gr.Column():
                which = gr.Dropdown([], label="Sentence", type="index", elem_id="which")
                said = gr.Markdown(elem_id="said")
                overlay = gr.Video(label="Masks over the video", interactive=False, elem_id="overlay")
                place = gr.Slider(0, 1, step=1, label="Frame", elem_id="frame")
                picture = gr.Image(label="One frame", format="png", interactive=False, elem_id="picture")
                sure = gr.LinePlot(
                    label="How sure, by frame",
                    x="frame",
                    y="confidence",
                    color="role",
                    color_map={str(role): color for role, color in style.COLOR.items()},
                    y_lim=[0, 1],
                    height=260,
                )
                files = gr.File(label="To keep", file_count="multiple", interactive=False, elem_id="files")
        quiet = {"api_visibility": "private", "show_progress": "hidden"}
        shown = {"fn": _shown, "inputs": [made, which], "outputs": [said, overlay, place, sure, files], **quiet}
        drawn = {"fn": _picture, "inputs": [made, which, place], "outputs": [picture], **quiet}
        run = partial(_segment, system, settings, folder, limits)
        go.click(run, [video, texts, made], [made, which], api_name="segment").success(**shown).success(**drawn)
        which.input(**shown).success(**drawn)
        place.input(**drawn)
        blocks.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)
    return blocks


def launch(blocks: gr.Blocks, host: str, port: int | None, limits: Limits) -> str:
    """Serve the page, in threads of its own, and say where; without a port, at any that is free."""
    for name in ("NO_PROXY", "no_proxy"):  # gradio asks its own address whether it is there
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host, "localhost", "127.0.0.1")))
    _, address, _ = blocks.launch(
        server_name=host,
        server_port=port,
        share=False,  # no tunnel through anybody else's machine
        quiet=True,
        max_file_size=f"{limits.megabytes}mb",
        prevent_thread_lock=True,
        footer_links=[],
        ssr_mode=False,
        enable_monitoring=False,
    )
    return address


def _forget(made: list[str]) -> None:
    for folder in {Path(folder).parent for folder in made}:
        shutil.rmtree(folder, ignore_errors=True)


def _segment(
    system: Segments, settings: Settings, folder: Path, limits: Limits, video: str | None, texts: str, made: list[str]
) -> tuple[list[str], Any]:
    """A folder a sentence, and what the list of sentences shows then."""
    sentences = list(dict.fromkeys(line.strip() for line in (texts or "").splitlines() if line.strip()))
    if video is None:
        raise gr.Error("No video: upload one, or pick one below.", print_exception=False)
    if not sentences:
        raise gr.Error("No sentence: say who does what, e.g. the dog pulling the man.", print_exception=False)
    if len(sentences) > limits.sentences:
        raise gr.Error(f"{len(sentences)} sentences; at most {limits.sentences} go at once.", print_exception=False)
    if (longest := max(map(len, sentences))) > limits.letters:
        raise gr.Error(f"A sentence of {longest} letters; at most {limits.letters} go.", print_exception=False)
    _forget(made)
    out = Path(tempfile.mkdtemp(dir=folder))
    try:
        todo = jobs.of_texts(Path(video), sentences, out)
        count = len(batch.opened(todo[0]).names)
        if count > limits.frames:
            raise DataError(f"{count} frames; at most {limits.frames} here. `reviosa predict` has no such limit")
        found = list(batch.run(todo, lambda: system, settings))
    except (DataError, OSError) as error:
        shutil.rmtree(out, ignore_errors=True)
        raise gr.Error(_private(str(error), Path(video)), print_exception=False) from None
    good = [done for done in found if done.state != "failed"]
    if not good:
        shutil.rmtree(out, ignore_errors=True)
        raise gr.Error(_private(found[0].problems[0], Path(video)), print_exception=False)
    for problem in (problem for done in found for problem in done.problems):
        gr.Warning(_private(problem, Path(video)))
    names = [done.job.text for done in good]
    return [str(done.job.out) for done in good], gr.Dropdown(names, value=names[0])


def _shown(made: list[str], which: int | None) -> tuple[Any, ...]:
    """Of one sentence: the answer, the overlay, the slider, the curve and the files."""
    folder = Path(made[which or 0])
    about = read_json(folder / result.RESULT)
    lines = [f"The model's answer: {about['answer']}"] if about["answer"] else []
    for role, seen in about["diagnostics"].items():
        lines.append(f"**{role}**, {NAMED[Role(role)]}: in {seen['frames_visible']} of {seen['frames']} frames")
    curves = [
        {"frame": t, "confidence": value, "role": role}
        for role, own in (about["confidence"] or {}).items()
        for t, value in enumerate(own["frames"])
    ]
    if not curves:
        lines.append("This system does not say by frame how sure it is.")
    overlay = folder / "overlay.mp4"
    kept = [str(f) for f in (folder / result.RESULT, overlay) if f.is_file()]
    kept.append(shutil.make_archive(str(folder / "masks"), "zip", folder, "masks"))
    return (
        "  \n".join(lines),
        str(overlay) if overlay.is_file() else None,
        gr.Slider(0, max(1, len(about["frames"]) - 1), value=0),  # one that goes nowhere is refused
        pd.DataFrame(curves, columns=["frame", "confidence", "role"]),
        kept,
    )


def _picture(made: list[str], which: int | None, frame: int) -> UInt8[ndarray, "h w 3"]:
    """One frame with its masks, drawn from the prediction and the video."""
    about = read_json(Path(made[which or 0]) / result.RESULT)
    frame = min(frame, len(about["frames"]) - 1)
    with closing(open_video(about["video"], cache_bytes=0)) as video:
        found = {Role(role): masks.decode(own[frame], tuple(about["size"])) for role, own in about["masks"].items()}
        return drawing.outlined(video.frames[frame], found, 0.5)


def _private(message: str, video: Path) -> str:
    """Without where this machine keeps the file."""
    return message.replace(str(video), video.name)
