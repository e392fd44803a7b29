"""Can a sentence come out empty? N-acc and T-acc of each role before and after training with sentences about nothing.

Before: a checkpoint on the test split of difficulty `absent`, whose clips are those of the profile's test split, with
three more sentences each. After, with `--steps`: a row of params.yaml, trained from the same backbones by the profile's
rules on the train split of that difficulty, for so many steps; nothing is chosen on the test split. Beside both numbers
the J&F of all sentences that are about something: what it costs.

    python benchmarks/absent.py --checkpoint runs/tiny/best --clips 40
    python benchmarks/absent.py --checkpoint runs/tiny/best --steps 1200 --out runs/absent

Interrupted training goes on when it is called again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from reviosa_core import bounds, config
from reviosa_core.data import interrvos
from reviosa_core.intershapes import splits
from reviosa_core.report import tables
from reviosa_core.schema import Clip, Role, System
from reviosa_core.scoring import evaluate, existence, metrics
from reviosa_core.training import finetune
from reviosa_core.weights import checkpoint, folders

DIFFICULTY = "absent"


def written(project: config.Project, split: str, folder: Path, clips: int | None) -> list[Clip]:
    """A split of the difficulty, of the profile's sizes and seed, as it reads from files."""
    data, difficulty = project.settings.data, project.params.difficulties[DIFFICULTY]
    count = {split: clips} if clips else {}
    data = bounds.changed(data, difficulty=difficulty, splits=bounds.changed(data.splits, **count))
    splits.write_split(data, split, folder, project.settings.seed, progress=sys.stderr.isatty())
    return interrvos.read(folder / split)


def row(name: str, system: System, clips: Sequence[Clip], kinds: pd.DataFrame, bootstrap: int) -> dict[str, Any]:
    """Existence by role, the actor's N-acc by what is not there, and J&F of the sentences about something."""
    found = evaluate.evaluate(system, clips, progress=sys.stderr.isatty())
    found = found.merge(kinds, on=["video", "expression"], how="left", validate="many_to_one")
    gone = found["kind"].str.startswith("absent, ")
    line: dict[str, Any] = {"": name}
    line |= {key: tables.with_interval(s, "value") for key, s in existence.by_role(found, bootstrap, 0).items()}
    actors = found[gone & (found["role"] == Role.ACTOR)]
    for kind, own in actors.groupby("kind"):
        score = existence.score(own, existence.n_acc, bootstrap, 0)
        line[f"N-acc actor, {kind}"] = tables.with_interval(score, "value")
    line |= {
        f"J&F of the rest, {s}": tables.with_interval(v)
        for s, v in metrics.summarise(found[~gone], bootstrap, 0).items()
    }
    return line | {"about nothing": str(len(actors)), "rest": str((~gone & (found["role"] == Role.ACTOR)).sum())}


def trained(project: config.Project, name: str, clips: Sequence[Clip], steps: int, out: Path) -> System:
    """A row, as notebook 03 trains it, on these clips, for so many steps."""
    settings, rules = project.settings, project.params.experiments[name]
    train = bounds.changed(settings.rules(rules), steps=steps)
    chosen = json.loads(project.report("selection.json").read_text()) if rules.aml else None
    aml = chosen and (chosen["layer"], tuple(chosen["heads"]))
    model = checkpoint.from_backbones(project.start, settings.model, rules, seed=settings.seed, aml=aml, settings=train)
    said = f"{train.model_dump_json()} {chosen} {len(clips)} clips"
    finetune.fine_tune(
        model,
        clips,
        train,
        frames=settings.model.mllm.frames,
        folder=out / "resume",
        seed=settings.seed,
        fingerprint=said,
    )
    folders.save(model, out / name, project.card() | {"datasets": str(out / "train")})
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="before; left out: only what is trained here")
    parser.add_argument("--profile", help="of params.yaml; by default the active one")
    parser.add_argument("--experiment", default="best", help="the row to train")
    parser.add_argument("--clips", type=int, help="of the test split; by default the profile's number")
    parser.add_argument("--train-clips", type=int, help="of the train split; by default the profile's number")
    parser.add_argument("--steps", type=int, default=0, help="of training; 0: before only")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("runs/absent"), help="splits, and what is trained")
    given = parser.parse_args()
    if not (given.checkpoint or given.steps):
        parser.error("--checkpoint, --steps or both are needed")
    torch.set_num_threads(1)
    project, lines = config.project(given.profile), []
    clips = written(project, "test", given.out, given.clips)
    kinds = splits.read_notes(given.out / "test")[["video", "expression", "kind"]]
    if given.checkpoint:
        lines.append(row("before", checkpoint.load(given.checkpoint), clips, kinds, given.bootstrap))
        print(json.dumps(lines[-1]), flush=True)
    if given.steps:
        seen = written(project, "train", given.out, given.train_clips)
        model = trained(project, given.experiment, seen, given.steps, given.out)
        lines.append(row("after", model, clips, kinds, given.bootstrap))
    print(tables.markdown(lines))


if __name__ == "__main__":
    main()
