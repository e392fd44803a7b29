"""Try it in a browser: demo."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reviosa_core.cli.shared import Device, Half, fail

if TYPE_CHECKING:
    from reviosa_core.predict.demo import Sample

SAMPLES, SEED, FPS = 3, 20261, 6.0

commands = typer.Typer()


@commands.command("demo")
def demo_(
    checkpoint: Annotated[Path, typer.Option(help="A trained model's folder, as for predict.")],
    host: Annotated[
        str, typer.Option(help="Address to listen at. By default only this machine reaches it; 0.0.0.0: everybody.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 7860,
    frames: Annotated[int, typer.Option(min=1, help="Of a video, at most.")] = 600,
    megabytes: Annotated[int, typer.Option(min=1, help="Of a file that is uploaded, at most.")] = 100,
    waiting: Annotated[
        int, typer.Option(min=1, help="Requests in the queue, at most; one is worked on at a time.")
    ] = 8,
    device: Device = None,
    half: Half = False,
) -> None:
    """A page in the browser: upload a video, say who does what, see both masks, and keep them as files.

    What is uploaded and made is in a temporary folder, which is removed when the command ends (Ctrl-C); what belongs to
    one visitor goes with the next request, or after an hour.

    Example: [bold]reviosa demo --checkpoint runs/tiny/best[/]
    """
    if not checkpoint.exists():
        fail(f"--checkpoint {checkpoint}: no such file or folder")
    import os
    import signal
    import socket
    from importlib.util import find_spec

    if find_spec("gradio") is None:
        fail("the demo needs gradio, which is not installed: pip install -e '.[demo]'")
    try:
        socket.create_server((host, port)).close()  # before the model is loaded
    except OSError as error:
        fail(f"--port {port}: {error.strerror}")
    from reviosa_core.cli.predict import load_system
    from reviosa_core.predict import calibration
    from reviosa_core.predict.result import Settings, model_hash

    model = model_hash(checkpoint)
    settings = Settings(checkpoint, model, calibration=calibration.read(checkpoint, model), half=half)
    system = load_system(checkpoint, device, half)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the folder is removed then, too
    with tempfile.TemporaryDirectory(prefix="reviosa-demo-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = f"{folder}/uploads"
        from reviosa_core.predict import demo

        limits = demo.Limits(frames=frames, megabytes=megabytes, waiting=waiting)
        page = demo.page(system, settings, Path(folder), list(_samples(Path(folder))), limits)
        typer.echo(f"{demo.launch(page, host, port, limits)} until you press Ctrl-C")
        page.block_thread()


def _samples(folder: Path) -> Iterator[Sample]:
    """Some InterShapes clips with an interaction, of a seed that nothing is trained or tested with, as videos; what
    they look like is the active profile's."""
    from itertools import count, islice

    from reviosa_core import config
    from reviosa_core.data.video import write_mp4
    from reviosa_core.intershapes import scenes, world
    from reviosa_core.predict.demo import Sample

    try:
        data = config.project().settings.data
    except FileNotFoundError:  # outside a project there are none to try
        return
    made = (scenes.make_scene(data, (SEED, world.SPLITS["test"], i)) for i in count())
    asked = ((s, list(dict.fromkeys(u.text for u in s.utterances if u.target is not None))) for s in made)
    for number, (scene, texts) in enumerate(islice((one for one in asked if one[1]), SAMPLES)):
        path = folder / f"shapes {number + 1}.mp4"
        write_mp4(path, scene.frames, FPS)
        yield Sample(path, tuple(texts[:2]))
