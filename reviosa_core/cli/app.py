"""The command `reviosa`. Wrong input ends in one line and exit code 2; heavy imports wait until they are needed."""

from __future__ import annotations

import atexit
import gc
import inspect

import typer

from reviosa_core.cli import annotate, calibrate, data, demo, info, predict, scores, site, weights
from reviosa_core.cli.shared import Guarded

atexit.register(gc.freeze)  # or a command that ends looks for garbage in all that torch made, for two seconds

app = typer.Typer(
    cls=Guarded, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="rich"
)
for commands in (predict.commands, demo.commands, calibrate.commands, scores.commands, info.commands, site.commands):
    app.registered_commands += commands.registered_commands
app.add_typer(data.commands, name="data", help="Check data sets, look at them, make some in the InterRVOS-127K format.")
app.add_typer(annotate.commands, name="annotate", help="Make expressions with two roles for videos, and audit them.")
app.add_typer(weights.commands, name="weights", help="What checkpoint files are, and other layouts for them.")
for group in (app, data.commands, annotate.commands, weights.commands):
    for command in group.registered_commands:  # a paragraph a line: the terminal breaks it, at its own width
        told = inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(paragraph.split("\n")) for paragraph in told.split("\n\n"))


@app.callback()
def _main() -> None:
    """Who does what to whom in a video: actor and target masks from a sentence."""
