"""Each writer is killed at every step, then run again: the earlier result or the new one is there, whole, all the time.

A step is where a process touches a name: the audit events of renaming, removing, making and (for the small writers)
opening, and those of `outputs`. It is killed with SIGKILL: nothing of it can tidy up.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import made
import numpy as np
import pytest
import tiny
import torch
from bad_input import dataset, predictions
from PIL import Image
from torch import nn
from typer.testing import CliRunner

from reviosa_core import config, outputs
from reviosa_core.annotation import dataset as annotated_dataset
from reviosa_core.annotation.records import Line, Text, Verdict, write_lines
from reviosa_core.cli.app import app
from reviosa_core.data import interrvos, own, video, vidor
from reviosa_core.data.interrvos import read
from reviosa_core.intershapes import splits
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.segmenter import Segmenter
from reviosa_core.predict import batch, jobs, result
from reviosa_core.report import style
from reviosa_core.schema import Clip, Expression, Prediction, Role
from reviosa_core.scoring import predictions as stored
from reviosa_core.scoring import submissions
from reviosa_core.training import loop
from reviosa_core.weights import folders
from reviosa_core.weights.convert import convert

pytestmark = pytest.mark.slow
NAMES = {"os.rename", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "reviosa.outputs"}
SHAPES = tiny.data(64, 4)


@dataclass(frozen=True)
class Writer:
    """`write(inputs, out, version)` leaves results below `out`; `results` are those that are whole on their own, each
    with all below it. `steps`: the events it is killed at."""

    name: str
    write: Callable[[Path, Path, int], object]
    results: tuple[str, ...]
    steps: frozenset[str] = frozenset(NAMES)
    replaces: bool = True


def frames(version: int) -> list[np.ndarray]:
    return [np.full((24, 32, 3), 40 * version + i, np.uint8) for i in range(3)]


def added(_: Path, out: Path, version: int) -> None:
    with outputs.folder(out / "f", "thing") as new:
        (new / "a").write_text(f"{version}")
    with outputs.added(out / "f", "b", "thing") as new:
        new.write_text(f"{version}")


def table(inputs: Path, out: Path, version: int) -> None:
    own.write(inputs / f"{version}.csv", out / "own", progress=False)


def export(inputs: Path, out: Path, version: int) -> None:
    vidor.export(vidor.read(inputs / "7.json"), out, inputs, shortest=1)


class Growing:
    """A system whose masks are those of a version, and that is sure of them."""

    roles = tuple(Role)

    def __init__(self, version: int) -> None:
        self.version = version

    def segment(self, clip: Clip, expressions: Sequence[Expression]) -> list[Prediction]:
        found = np.zeros((2, len(clip), *clip.size), bool)
        found[:, :, 4 * self.version : 12, :20] = True
        return [Prediction(clip.id, e.id, dict(zip(Role, found, strict=True)), f"{self.version}") for e in expressions]


def prediction(inputs: Path, out: Path, version: int) -> None:
    job = jobs.Job(inputs / "clip", "a pushing $b$", out / "p")
    settings = result.Settings(inputs, f"model {version}", also=("palette", "ytvis"))
    assert not batch.one(job, batch.opened(job), Growing(version), settings).problems


def several(inputs: Path, out: Path, version: int) -> None:
    todo = jobs.of_texts(inputs / "clip", ["a dog", "a cat"], out)
    settings = result.Settings(inputs, f"model {version}")
    found = list(batch.run(todo, lambda: Growing(version), settings))
    batch.report(out, found, settings)
    assert not any(done.problems for done in found)


def annotated(inputs: Path, out: Path, version: int) -> None:
    clips = {clip.id: clip for clip in read(inputs / f"data{version}")}
    about = {"claimed": "true", "swapped": None, "evidence": (), "rejected": None, "asked": ()}
    lines = {}
    for clip in clips.values():
        texts = [
            Text(id=e.id, text=e.text, caption_type=e.caption_type, actor=e.actor, target=e.target, voice="active",
                 level="class", event=None, asked=())
            for e in clip.expressions
        ]  # fmt: skip
        lines[clip.id] = Line[Verdict](
            clip=clip.id, made_from="x", items=tuple(Verdict(text=t, **about) for t in texts)
        )
    annotated_dataset.write(out / "a", clips, lines)
    write_lines(out / "verified.jsonl", lines.values())


def figure(_: Path, out: Path, version: int) -> None:
    with style.plt.rc_context(style.STYLE):
        drawn, axis = style.plt.subplots(figsize=(1, 1))
        axis.set_title(f"${version}")
    style.save(style.done(drawn), out / "f.png", dpi=60)


def submit(to: str) -> Callable[[Path, Path, int], object]:
    def write(inputs: Path, out: Path, version: int) -> None:
        clips = read(inputs / "data")[:version]
        file, name = inputs / f"{version}.json", "s.json" if to == "interrvos" else "s.zip"
        submissions.write(to, out / name, clips, lambda: stored.read(file), progress=False)

    return write


def command(*words: str) -> Callable[[Path, Path, int], object]:
    """A command; IN, OUT and VERSION stand for what `write` gets."""

    def write(inputs: Path, out: Path, version: int) -> None:
        known = {"IN": str(inputs), "OUT": str(out), "VERSION": str(version)}
        done = CliRunner().invoke(app, [re.sub("IN|OUT|VERSION", lambda found: known[found[0]], w) for w in words])
        assert done.exit_code == 0, done.output

    return write


EVALUATE = "evaluate --data IN/dataVERSION --predictions IN/VERSION.json --workers 1 --bootstrap 0"
EVALUATE += " --out OUT/scores.json --rows OUT/rows.csv"


def model(version: int) -> ReVIOSa:
    torch.manual_seed(version)
    return ReVIOSa(tiny.reader(lora=True), Segmenter(tiny.seeing().sam), tuple(Role), frames=3, prompted="first")


def backbones(_: Path, out: Path, version: int) -> None:
    own = model(version)
    folders.save_internvl(out, tiny.reader(roles=False).internvl, own.mllm.tokenizer)
    folders.save_sam2(out, own.segmenter.sam)


def training(_: Path, out: Path, version: int) -> None:
    torch.manual_seed(version)
    net, rules = nn.Linear(3, 2), config.Loop(steps=4, accumulate=1, warmup=0.25, checkpoint_every=2, weight_decay=0.1)
    groups = loop.adamw([{"params": list(net.parameters()), "lr": 0.1}], rules)
    torch.manual_seed(0)

    def losses(module: nn.Module, micro: int) -> dict[str, torch.Tensor]:
        return {"square": module(torch.full((2, 3), float(micro))).square().mean()}

    loop.fit(net, losses, groups, rules, folder=out, seed=1, fingerprint="same", log_every=1)


STEPS = frozenset({"reviosa.outputs"})
LIGHT, HEAVY = frozenset(NAMES | {"open"}), frozenset({"reviosa.outputs", "os.rename", "shutil.rmtree"})
WRITERS = [
    Writer("a folder and one more file", added, ("f",), LIGHT),
    Writer(
        "interrvos.write", lambda i, o, v: interrvos.write(o / "d", read(i / "data")), ("d",), LIGHT, replaces=False
    ),
    Writer("splits.write_split", lambda i, o, v: splits.write_split(SHAPES, "test", o, v, False), ("test",), HEAVY),
    Writer("own.write", table, ("own",)),
    Writer("vidor.export", export, ("prompts/7_clip000.json", "JPEGImages/7_clip000"), LIGHT, replaces=False),
    Writer("predict.result", prediction, ("p",), HEAVY),
    Writer("predict.batch", several, ("clip--a-dog", "clip--a-cat", "report.json", "report.csv"), STEPS),
    Writer("annotation", annotated, ("a", "verified.jsonl"), LIGHT),
    Writer("style.save", figure, ("f.png",), LIGHT),
    Writer("video.write_mp4", lambda i, o, v: video.write_mp4(o / "v.mp4", frames(v), 12.0), ("v.mp4",), LIGHT),
    Writer("submissions.write to a zip", submit("mevis"), ("s.zip",), LIGHT),
    Writer("predictions.writer, by submissions", submit("interrvos"), ("s.json",), LIGHT),
    Writer("convert", lambda i, o, v: convert(i / f"internvl{v}", o / "c", "native"), ("c",), HEAVY),
    Writer("folders.save", lambda i, o, v: folders.save(model(v), o / "m"), ("m",), HEAVY),
    Writer("backbones", backbones, ("internvl", "sam2.safetensors"), HEAVY),
    Writer("evaluate", command(*EVALUATE.split()), ("scores.json", "rows.csv"), STEPS),
    Writer("verify", command(*"data verify IN/dataVERSION --out OUT/verify.json".split()), ("verify.json",)),
    Writer("stats", command(*"data stats IN/data --fps VERSION --rows OUT/r.csv".split()), ("r.csv",)),
]


WORKS = {writer.name: (writer.write, writer.steps) for writer in WRITERS}
WORKS["training"] = (lambda inputs, out, version: training(inputs, out, 1), LIGHT)


@pytest.fixture(scope="module", autouse=True)
def _zygote_ends():
    yield
    if _zygote.cache_info().currsize:
        with _zygote() as zygote:
            zygote.kill()
        _zygote.cache_clear()


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "data").mkdir()
    dataset(folder / "data")
    for version, videos in ((1, ["alpha"]), (2, ["alpha", "beta"])):
        predictions(folder / f"{version}.json", videos)
        (folder / f"data{version}").mkdir()
        dataset(folder / f"data{version}", videos)
        made.write_internvl(folder / f"internvl{version}")
        rows = ["clip,a,single,mask,", "clip,b,single,mask,"][:version]
        (folder / f"{version}.csv").write_text("\n".join(["video,expression,caption_type,actor,target", *rows]))
    made.rewrite(folder / "internvl2", **{"mlp1.0.bias": 1 + made.released_tensors()["mlp1.0.bias"]})  # another model
    for name in ("clip", "mask"):
        (folder / name).mkdir()
        for i, frame in enumerate(frames(1)):
            Image.fromarray(frame if name == "clip" else frame[..., 0]).save(folder / name / f"{i:05d}.png")
    video.write_mp4(folder / "7.mp4", frames(1), 12.0)
    about = {"version": "VERSION 1.0", "video_id": "7", "video_path": "7.mp4", "frame_count": 3, "fps": 12.0}
    about |= {"width": 32, "height": 24, "subject/objects": [], "trajectories": [[]] * 3, "relation_instances": []}
    (folder / "7.json").write_text(json.dumps(about))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """All files by name, but those in a folder of work that is not done. Of an mp4, whose bytes differ from time to
    time, what it shows; of a manifest that lists one, that it is there."""
    files = [path for path in folder.rglob("*") if path.is_file() and outputs.PARTIAL not in str(path)]
    found = {str(path.relative_to(folder)): path.read_bytes() for path in files}
    for path in files:
        if path.suffix == ".mp4":
            found[str(path.relative_to(folder))] = bytes([round(video.open_video(path).frames[0].mean() / 8)])
        elif path.name == outputs.MANIFEST and b".mp4" in path.read_bytes():
            found[str(path.relative_to(folder))] = b"lists an mp4"
    return found


def part(found: dict[str, bytes], name: str) -> dict[str, bytes]:
    """One result. Pictures come after it, and what lists them changes with them."""
    own = {key: value for key, value in found.items() if key == name or key.startswith(f"{name}/")}
    late = ("b", "overlay.mp4", "sheet.png", outputs.MANIFEST)
    return {
        key: value for key, value in own.items() if not key.startswith(("f/", "p/", "clip--")) or not key.endswith(late)
    }


def killed(work: str, inputs: Path, folder: Path, at: int) -> bool:
    """Run `work`, a key of WORKS, in a process that is killed at event number `at` below `folder`; False when it was
    done before."""
    zygote = _zygote()
    assert zygote.stdin and zygote.stdout
    zygote.stdin.write(json.dumps([work, str(inputs), str(folder), at]) + "\n")
    zygote.stdin.flush()
    status = json.loads(zygote.stdout.readline())
    assert status in (0, signal.SIGKILL), f"at step {at}: status {status}"
    return status != 0


@cache
def _zygote() -> subprocess.Popen[str]:
    """A process that imports this file, does nothing itself, and forks: a fork of this one would inherit a test
    runner's threads, and may die of them."""
    path = [str(Path(__file__).parent), str(Path(__file__).parents[1]), *sys.path]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))}
    command = [sys.executable, "-c", "import test_kills; test_kills.serve()"]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the work prints is no answer
    for line in sys.stdin:
        work, inputs, folder, at = json.loads(line)
        child = os.fork()
        if child == 0:
            _die_at(work, inputs, folder, at)
        answers.write(f"{os.waitpid(child, 0)[1]}\n")
        answers.flush()


def _die_at(work: str, inputs: str, folder: str, at: int) -> None:
    write, steps = WORKS[work]
    seen = 0

    def hook(event: str, words: tuple[object, ...]) -> None:
        nonlocal seen
        if event in steps and any(folder in str(word) for word in words[:2]):
            seen += 1
            if seen == at:
                os.kill(os.getpid(), signal.SIGKILL)

    try:
        sys.addaudithook(hook)
        write(Path(inputs), Path(folder), 2)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name.replace(" ", "-"))
def test_killed_at_every_step_and_run_again(writer: Writer, inputs: Path, tmp_path: Path):
    earlier, later, out = (tmp_path / name for name in ("earlier", "later", "out"))
    for folder in (earlier, later):
        folder.mkdir()
    if writer.replaces:
        writer.write(inputs, earlier, 1)
    writer.write(inputs, later, 2)
    old, new = contents(earlier), contents(later)
    assert old != new, "or nothing could be told"

    at = 1
    while True:
        shutil.copytree(earlier, out)
        (out / "mine.txt").write_text("years of work")
        if not killed(writer.name, inputs, out, at):
            break
        found = contents(out)
        assert found.pop("mine.txt") == b"years of work"
        for name in writer.results:
            states = [part(old, name), part(new, name)]
            assert part(found, name) in states, f"{name}, killed at step {at}: neither nor: {sorted(found)}"
        if writer.replaces or found != new:
            writer.write(inputs, out, 2)
        assert contents(out) == {**new, "mine.txt": b"years of work"}, f"run again after step {at}"
        left = list(out.rglob(f"*{outputs.PARTIAL}"))
        assert not left or found == new and not writer.replaces, f"left after step {at}: {left}"
        shutil.rmtree(out)
        at += 1
    assert at > 5 and contents(out) == {**new, "mine.txt": b"years of work"}


def test_training_killed_at_every_step_and_run_again(tmp_path: Path):
    """A checkpoint is an earlier or a later one, once there is one: what goes on equals what never stopped."""
    training(tmp_path, tmp_path / "whole", 1)
    want = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)["module"]
    out, at, once = tmp_path / "out", 1, False
    while killed("training", tmp_path, out, at):
        assert (out / "checkpoint.pt").is_file() or not once
        once = (out / "checkpoint.pt").is_file()
        training(tmp_path, out, 1)
        found = torch.load(out / "checkpoint.pt", weights_only=True)["module"]
        assert all(torch.equal(found[name], want[name]) for name in want)
        with (out / "history.csv").open() as file:
            assert [row["step"] for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
        assert contents(out).keys() == {"checkpoint.pt", "history.csv"}
        shutil.rmtree(out)
        at += 1
    assert at > 10 and once
