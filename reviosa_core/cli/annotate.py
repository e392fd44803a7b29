"""From videos to expressions with two roles: annotate, audit, and the embedded endpoint."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from reviosa_core.cli.shared import Split, fail

if TYPE_CHECKING:
    from reviosa_core.annotation.server import Server
    from reviosa_core.annotation.sources import Source
    from reviosa_core.config import Annotation

EMBEDDED = "embedded"


class _RunByDefault(TyperGroup):
    """`reviosa annotate VIDEOS OUT` is `reviosa annotate run VIDEOS OUT`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        own = args and args[0] not in (*self.commands, "--help")
        return super().parse_args(ctx, ["run", *args] if own else args)


commands = typer.Typer(cls=_RunByDefault, no_args_is_help=True)


@commands.command()
def run(
    videos: Annotated[
        Path,
        typer.Argument(
            help="A video, a folder of videos or of frames, what `data vidor` wrote, or a data set with masks."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Becomes the data set; called again, the work goes on.")],
    model: Annotated[str, typer.Option(help="As the endpoint calls it.")] = EMBEDDED,
    endpoint: Annotated[
        str | None,
        typer.Option(help=f"Of an OpenAI-compatible server, up to /v1; '{EMBEDDED}' answers from InterShapes' truth."),
    ] = None,
    split: Split = None,
    truth: Annotated[
        Path | None, typer.Option(help=f"JSON that '{EMBEDDED}' answers from, instead of InterShapes' notes.")
    ] = None,
    key_env: Annotated[str, typer.Option(help="The environment variable that holds the key.")] = "OPENAI_API_KEY",
    prompts: Annotated[Path | None, typer.Option(help="Your own: a folder with objects.md, events.md ...")] = None,
    sam2: Annotated[
        str | None, typer.Option(help="SAM2's file, or a profile's name, for videos without masks.")
    ] = None,
    sam2_yaml: Annotated[str | None, typer.Option(help="Its configuration, where it is none of SAM2's own.")] = None,
    verify: Annotated[bool, typer.Option(help="Look at every text a second time, and drop what does not hold.")] = True,
    negatives: Annotated[bool, typer.Option(help="Write texts that are false of their clip, too, marked.")] = False,
    complete: Annotated[
        bool, typer.Option("--complete", help="Every object of the clips has a mask: then something can be absent.")
    ] = False,
    again: Annotated[bool, typer.Option("--again", help="Ask once more what got no usable answer.")] = False,
    at_once: Annotated[int | None, typer.Option(min=1, help="Questions under way; by default params.yaml's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and ask nothing.")] = False,
    events: Annotated[float, typer.Option(min=0, max=1000, help="Of a clip, for --dry-run.")] = 1.5,
    objects: Annotated[int, typer.Option(min=1, help="Of a clip whose masks are not there yet, for --dry-run.")] = 5,
    price_in: Annotated[float | None, typer.Option(min=0, help="Of a million tokens asked, for --dry-run.")] = None,
    price_out: Annotated[float | None, typer.Option(min=0, help="Of a million answered.")] = None,
) -> None:
    """Annotate videos: objects, what they look like and do, who acts on whom, and sentences about it, verified.

    OUT is in the InterRVOS-127K format, with roles.json in it: agent, patient, voice, event and origin of every
    expression. OUT.annotation holds a file a stage, rejected.jsonl and summary.json. docs/annotation.md has more.

    Example: [bold]reviosa annotate clips mine --endpoint http://localhost:8000/v1 --model NAME[/]
    """
    from reviosa_core import outputs
    from reviosa_core.annotation import sources
    from reviosa_core.annotation.dataset import WHAT
    from reviosa_core.annotation.endpoint import Endpoint
    from reviosa_core.annotation.pipeline import CACHE, Options, Pipeline, work
    from reviosa_core.annotation.questions import PROMPTS, Prompts

    if endpoint is None and not dry_run:
        fail("--endpoint: say where to ask, or --dry-run for what it would take")
    settings, asked = _settings(at_once), Prompts(prompts or PROMPTS)
    tracker, tracked_by = None, ""
    if not dry_run:
        outputs.try_out(out, WHAT)
    if sam2 and not dry_run:
        from reviosa_core.annotation import sam2 as tracking
        from reviosa_core.annotation.records import digest
        from reviosa_core.predict.result import model_hash

        tracker = tracking.load(sam2, sam2_yaml)
        tracked_by = digest(model_hash(tracker.weights), tracker.design)
    found = sources.read(videos, split, tracker, tracked_by, complete)
    if endpoint is None or dry_run:
        _plan(found, settings, asked, (events, objects), verify, (price_in, price_out))
        return
    key = os.environ.get(key_env, "").strip() or None
    with ExitStack() as stack:
        if endpoint == EMBEDDED:
            endpoint, key = stack.enter_context(_embedded(found, videos, split, truth)).url, None
        place = work(out) / CACHE
        asking = stack.enter_context(Endpoint(endpoint, model, place, key, settings.tokens, settings.seed, again=again))
        options = Options(verify, negatives, again)
        summary = Pipeline(found, out, asking, settings, asked, options, sys.stderr.isatty()).run()
    _report(summary, out)


def _settings(at_once: int | None) -> Annotation:
    """Those of params.yaml inside a project, the same defaults anywhere else."""
    from reviosa_core import bounds, config

    try:
        settings = config.project().params.annotation
    except FileNotFoundError:
        settings = config.Annotation()
    return settings if at_once is None else bounds.changed(settings, at_once=at_once)


def _embedded(found: list[Source], videos: Path, split: str | None, file: Path | None) -> Server:
    """The endpoint that answers from a file, or from what InterShapes wrote beside its clips."""
    from reviosa_core.annotation import truth
    from reviosa_core.annotation.server import Server

    if bare := [source.clip.id for source in found if source.kind != "given"]:
        fail(f"--endpoint {EMBEDDED}: knows objects by their masks, which {len(bare)} clips lack, as {bare[0]}")
    folder = videos / split if split and split != "." else videos
    return Server([source.clip for source in found], truth.read(file) if file else truth.of_intershapes(folder))


def _plan(found: list[Source], settings, prompts, assumed, verify, prices) -> None:
    from reviosa_core.annotation import plan
    from reviosa_core.report import tables

    shapes = [
        plan.Shape(len(s.clip), s.clip.size, len(s.clip.masks) or len(s.boxes or ()) or assumed[1]) for s in found
    ]
    steps = plan.estimate(shapes, settings, prompts, assumed[0], verify)
    total = plan.Step("all", *(sum(column) for column in list(zip(*steps, strict=True))[1:]))
    typer.echo(tables.markdown([step._asdict() for step in (*steps, total)]))
    typer.echo(f"{len(found)} clips; about {assumed[0]:g} events each; tokens of pictures are counted by area")
    if None not in prices:
        typer.echo(f"cost: {plan.cost(steps, *prices):.2f}")


def _report(summary: dict, out: Path) -> None:
    from reviosa_core.report import tables

    typer.echo(tables.markdown([{"stage": stage, **counts} for stage, counts in summary["stages"].items()]))
    used = summary["asked in this run"].values()
    counts = {what: sum(one[what] for one in used) for what in ("calls", "cached", "tokens_in", "tokens_out")}
    typer.echo(", ".join(f"{number} {what.replace('_', ' ')}" for what, number in counts.items()))
    if lost := summary["questions not taken"]:
        typer.echo(f"questions not taken: {len(lost)}, as of {lost[0]}")
    empty = summary["without an expression, left out"]
    if empty:
        typer.echo(f"without an expression, left out: {len(empty)} clips, as {', '.join(empty[:3])}")
    typer.echo(f"written: {out}: {summary['clips'] - len(empty)} clips, {summary['expressions']} expressions")


@commands.command()
def audit(
    out: Annotated[Path, typer.Argument(help="What `reviosa annotate` wrote.")],
    page: Annotated[Path | None, typer.Option(help="Where to write; by default OUT.annotation/audit.html.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Expressions to judge, drawn at random.")] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    verdicts: Annotated[Path | None, typer.Option(help="The page's verdicts, saved as JSON: report them.")] = None,
) -> None:
    """Make a page on which a person judges a sample, or report what was judged: precision with its 95 % interval.

    The page is one file that works without a network. Keys: 1 right, 2 wrong roles, 3 wrong object, 4 wrong text,
    arrows to go back and on. Its button saves verdicts.json.

    Example: [bold]reviosa annotate audit mine[/]
    """
    from reviosa_core.annotation import audit as auditing
    from reviosa_core.annotation.pipeline import work
    from reviosa_core.report import tables

    if verdicts is not None:
        typer.echo(tables.markdown(auditing.report(out, verdicts)))
        return
    page = page or work(out) / "audit.html"
    shown = auditing.write(out, page, count, seed)
    typer.echo(f"written: {page}: {shown} expressions")
