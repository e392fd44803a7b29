from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import made
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from rich.text import Text
from typer.main import get_command
from typer.testing import CliRunner

from reviosa_core import masks
from reviosa_core.cli import predict as cli_predict
from reviosa_core.cli.app import app
from reviosa_core.data.interrvos import read
from reviosa_core.data.video import open_video
from reviosa_core.report import drawing
from reviosa_core.schema import Clip, Expression, Prediction, Role
from reviosa_core.scoring import predictions

T, H, W = 11, 24, 36


class Halves:
    """A system that calls the left half the actor and the lower half the target."""

    roles = (Role.ACTOR, Role.TARGET)

    def segment(self, clip: Clip, expressions: Sequence[Expression]) -> list[Prediction]:
        actor, target = np.zeros((2, len(clip), *clip.size), dtype=bool)
        actor[:, :, : clip.size[1] // 2] = True
        target[:3, clip.size[0] // 2 :] = True
        return [
            Prediction(clip.id, e.id, {Role.ACTOR: actor, Role.TARGET: target}, "it is [SEG_ACT] and [SEG_TAR]")
            for e in expressions
        ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clip").mkdir()
    for i in range(T):
        Image.new("RGB", (W, H), (60, 60, 60)).save(tmp_path / "clip" / f"{i:03d}.png")
    return tmp_path / "clip"


def reviosa(*words: object):
    return CliRunner().invoke(app, [str(word) for word in words])


def refused(*words: object) -> str:
    result = reviosa(*words)
    assert result.exit_code == 2 and result.stderr.startswith("error: "), result.output
    assert result.stderr.count("\n") == 1 and not result.stdout, "one line"
    return result.stderr


def arguments(video: Path, tmp_path: Path, text: str = "a pushing b", **more: object):
    options = {"checkpoint": tmp_path, "out": tmp_path / "out"} | more
    return ("predict", "--video", video, "--text", text, *(w for k, v in options.items() for w in (f"--{k}", v)))


def test_predict_writes_everything(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Halves())
    result = reviosa(*arguments(folder, tmp_path))
    assert result.exit_code == 0, result.output
    assert f"actor: in {T} of {T} frames, 50.0 %" in result.output and f"target: in 3 of {T} frames" in result.output

    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "manifest.json", "masks", "overlay.mp4", "prediction.json", "sheet.png"
    ]  # fmt: skip
    overlay = open_video(out / "overlay.mp4")
    assert len(overlay.frames) == T and overlay.size == (H, W)
    left, right = overlay.frames[9][:, : W // 2 - 4], overlay.frames[9][:, W // 2 + 4 :]
    assert left[..., 2].mean() > left[..., 0].mean() + 40 and np.ptp(right.mean(axis=(0, 1))) < 12  # blue, and grey
    mask = np.array(Image.open(out / "masks" / "actor" / "004.png"))
    assert set(np.unique(mask[:, : W // 2])) == {255} and set(np.unique(mask[:, W // 2 :])) == {0}
    assert len(list((out / "masks" / "target").iterdir())) == T
    about = json.loads((out / "prediction.json").read_text())
    assert (about["text"], about["roles"], about["size"]) == ("a pushing b", ["actor", "target"], [H, W])
    assert about["frames"][:2] == ["000", "001"] and about["answer"].startswith("it is")
    assert [masks.decode(rle, (H, W)).sum() for rle in about["masks"]["target"]] == [H * W // 2] * 3 + [0] * (T - 3)

    for path in list(folder.iterdir())[5:]:
        path.unlink()
    assert reviosa(*arguments(folder, tmp_path, fps=6.0)).exit_code == 0, "an earlier prediction is replaced"
    assert len(list((out / "masks" / "target").iterdir())) == 5, "as a whole"
    assert open_video(out / "overlay.mp4").fps == 6


def test_two_videos_and_two_sentences_are_two_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Halves())
    monkeypatch.chdir(tmp_path)
    written = []
    for video in ("scene.01", "scene.02"):
        Path(video).mkdir()
        Image.new("RGB", (W, H)).save(Path(video) / "0.png")
        for text in ("a dog", "a-dog", "A dog?", "\u72ac", "!", "a " * 99):
            done = reviosa("predict", "--video", video, "--text", text, "--checkpoint", tmp_path)
            assert done.exit_code == 0, done.output
            written.append(done.output.splitlines()[-1].removeprefix("written: "))
    assert len(set(written)) == 12 and written[0] == "runs/predict/scene.01--a-dog"
    about = [json.loads((Path(out) / "prediction.json").read_text()) for out in written]
    assert [a["text"] for a in about][:4] == ["a dog", "a-dog", "A dog?", "\u72ac"] and about[6]["video"] == "scene.02"
    Path("other").mkdir()
    Path("scene.01").rename("other/scene.01")
    message = refused("predict", "--video", "other/scene.01", "--text", "a dog", "--checkpoint", tmp_path)
    assert "holds the prediction for video 'scene.01', this is for 'other/scene.01'" in message


def test_a_sentence_is_never_parsed(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Halves())
    result = reviosa(*arguments(folder, tmp_path, text="the #1 fan paying $5 to the #2 fan with $10_{"))
    assert result.exit_code == 0 and "warning" not in result.output, result.output
    assert (tmp_path / "out" / "sheet.png").is_file()


def test_a_picture_costs_no_result(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("no\nfont")

    monkeypatch.setattr(cli_predict, "load_system", lambda *_: Halves())
    monkeypatch.setattr(drawing, "overlay", broken)
    result = reviosa(*arguments(folder, tmp_path))
    assert result.exit_code == 0, result.output
    assert result.stderr == f"warning: {tmp_path / 'out' / 'sheet.png'} is not drawn: RuntimeError: no font\n"
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "manifest.json", "masks", "overlay.mp4", "prediction.json"
    ]  # fmt: skip
    assert reviosa(*arguments(folder, tmp_path)).exit_code == 0, "and is replaced as a whole one is"


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (OSError(28, "No space left on device", "/there/x.json"), 2, "error: /there/x.json: No space left on device"),
        (MemoryError(), 2, "error: out of memory: MemoryError"),
        (torch.OutOfMemoryError("CUDA\nfull"), 2, "error: out of memory: CUDA full"),
    ],
)
def test_whatever_ends_a_command_is_one_line(folder: Path, tmp_path: Path, monkeypatch, error, code: int, line: str):
    def load(*_: object) -> None:
        raise error

    monkeypatch.setattr(cli_predict, "load_system", load)
    result = reviosa(*arguments(folder, tmp_path))
    assert result.exit_code == code and result.stderr.startswith(line) and result.stderr.count("\n") == 1
    monkeypatch.setattr(cli_predict, "load_system", lambda *_: 1 / 0)
    assert isinstance(reviosa(*arguments(folder, tmp_path)).exception, ZeroDivisionError), "ours keep their traceback"


def test_wrong_input_is_one_line(folder: Path, tmp_path: Path):
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty").mkdir()
    for video, more, message in [
        (tmp_path / "nowhere", {}, "nowhere: no such file or folder"),
        (tmp_path / "text.mp4", {}, "text.mp4: unreadable video"),
        (tmp_path / "empty", {}, "empty: no .jpg"),
        (folder, {"text": " "}, "--text is empty"),
        (folder, {"checkpoint": tmp_path / "none"}, "none: no such file or folder"),
        (folder, {"out": folder}, "not an earlier prediction"),
        (folder, {"out": tmp_path / "text.mp4"}, "text.mp4: exists, and is no folder"),
    ]:
        assert message in refused(*arguments(video, tmp_path, **more))


def test_a_folder_that_is_no_checkpoint(folder: Path, tmp_path: Path):
    assert "clip is not a ReVIOSa checkpoint" in refused(*arguments(folder, tmp_path, checkpoint=folder))
    assert not (tmp_path / "out").exists()


def test_intershapes(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(root / "tests")  # the project is found from below
    make = ("data", "intershapes", tmp_path / "made", "--clips", 2, "--split")
    result = reviosa(*make, "shift", "--profile", "smoke")
    assert result.exit_code == 0, result.output
    assert len(read(tmp_path / "made" / "shift")) == 2
    changed = ("--profile", "smoke", "--size", 96, "--frames", 5, "--difficulty", "hard")
    assert reviosa(*make, "val", *changed).exit_code == 0
    hard = read(tmp_path / "made" / "val")[0]
    assert hard.size == (96, 96) and len(hard) == 5 and len(hard.masks) >= 5
    assert reviosa(*make, "dev", "--profile", "smoke", "--difficulty", "absent").exit_code == 0
    assert sum(e.is_about_nothing for clip in read(tmp_path / "made" / "dev") for e in clip.expressions) == 6
    assert "['absent', 'easy', 'hard', 'standard']" in refused(*make, "val", "--difficulty", "odd")
    assert "no profile 'huge'" in refused(*make, "shift", "--profile", "huge")
    (tmp_path / "made" / "test").mkdir()
    assert "not InterShapes" not in reviosa(*make, "test").output, "an empty folder is free"
    (tmp_path / "made" / "test" / "mine.jpg").write_bytes(b"precious")
    assert "mine.jpg: does not come with the InterShapes split" in refused(*make, "test")
    monkeypatch.chdir(tmp_path)
    assert "no params.yaml" in refused(*make, "shift")


@pytest.fixture
def scored(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A small split, and predictions of a system that knows nothing."""
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(root)
    made = ("data", "intershapes", tmp_path / "made", "--clips", 3, "--split", "test", "--profile", "smoke")
    assert reviosa(*made).exit_code == 0
    with predictions.writer(tmp_path / "halves.json") as write:
        for clip in read(tmp_path / "made" / "test"):
            write(Halves().segment(clip, clip.expressions))
    return tmp_path / "made" / "test", tmp_path / "halves.json"


def test_evaluate_and_compare(scored: tuple[Path, Path], tmp_path: Path):
    data, found = scored
    common = ("evaluate", "--data", data, "--workers", 1, "--bootstrap", 20, "--predictions")
    a, b, table = tmp_path / "a.json", tmp_path / "b.json", tmp_path / "rows.csv"
    result = reviosa(*common, found, "--out", a, "--rows", table, "--pictures", tmp_path / "pictures")
    assert result.exit_code == 0, result.output
    assert "InterRVOS-Target" in result.output and "role confusion" in result.output
    scores = json.loads(a.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    for setting in ("InterRVOS-Actor", "InterRVOS-Target", "RVOS"):
        assert {"J", "F", "J&F", "n", "interval"} <= scores[setting].keys()
    assert sorted(p.stem for p in (tmp_path / "pictures").glob("*.png"))[0] == "best-1"
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 8
    assert scores["missing"] == 0 and scores["direction"]["detection recall"]["value"] == 100

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(drawing, "gallery", broken)
        result = reviosa(*common, found, "--out", b, "--pictures", tmp_path / "more")
    assert result.exit_code == 0 and "warning: --pictures" in result.stderr and json.loads(b.read_text())["RVOS"]

    assert scores["existence"] == {} and "N-acc" not in result.output, "every sentence is about something"

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pd.DataFrame, "to_csv", full)
        result = reviosa(*common, found, "--out", tmp_path / "c.json", "--rows", tmp_path / "c.csv")
    assert result.exit_code == 2 and "No space left" in result.stderr and "InterRVOS-Target" in result.stdout
    assert json.loads((tmp_path / "c.json").read_text())["RVOS"] == scores["RVOS"], "what could be written is"
    content = json.loads(found.read_text())
    first = next(iter(content))
    found.write_text(json.dumps({k: v for k, v in content.items() if k != first}))
    assert f"no prediction for {len(content[first])} of" in refused_after_progress(*common, found)
    result = reviosa(*common, found, "--out", b, "--allow-missing", "zero")
    assert result.exit_code == 0 and f"{len(content[first])} of" in result.output and "scored 0" in result.output

    result = reviosa("compare", a, b, "--bootstrap", 20)
    gain = scores["RVOS"]["J&F"] - json.loads(b.read_text())["RVOS"]["J&F"]
    assert result.exit_code == 0 and f"{gain:.1f}" in result.output and gain > 0
    assert reviosa("compare", table, a).exit_code == 0
    parquet, pairs = tmp_path / "rows.parquet", tmp_path / "pairs.json"
    pairs.write_text(json.dumps({}))
    result = reviosa(*common, found, "--rows", parquet, "--allow-missing", "zero", "--pairs", pairs)
    assert result.exit_code == 0 and "strict pair accuracy | –" in result.output, result.output
    assert reviosa("compare", parquet, b).exit_code == 0
    (tmp_path / "c.json").write_text("{}")
    assert "c.json: holds no rows" in refused("compare", a, tmp_path / "c.json")
    (tmp_path / "c.json").write_text("[[")
    assert "c.json: Expecting" in refused("compare", a, tmp_path / "c.json")
    assert "c.json: Expecting" in refused(*common, found, "--pairs", tmp_path / "c.json")


def test_evaluate_says_whether_nothing_is_drawn_where_nothing_is_meant(tmp_path: Path, root: Path, monkeypatch):
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(root)
    data, found, out = tmp_path / "made" / "test", tmp_path / "halves.json", tmp_path / "scores.json"
    make = ("--clips", 2, "--split", "test", "--profile", "smoke", "--difficulty", "absent")
    assert reviosa("data", "intershapes", tmp_path / "made", *make).exit_code == 0
    with predictions.writer(found) as write:
        for clip in read(data):
            write(Halves().segment(clip, clip.expressions))
    common = ("--data", data, "--predictions", found, "--workers", 1, "--bootstrap", 20, "--out", out)
    result = reviosa("evaluate", *common)
    assert result.exit_code == 0, result.output
    assert re.search(r"N-acc actor +\| 0\.0 \[0\.0, 84\.2\] +\| 6", result.output), result.output
    there = json.loads(out.read_text())["existence"]
    assert there["T-acc target"]["value"] == 100 and there["N-acc target"]["n"] > 6


def test_evaluate_refuses(scored: tuple[Path, Path], tmp_path: Path):
    data, found = scored
    assert "no such file" in refused("evaluate", "--data", data, "--predictions", tmp_path / "none.json")
    assert "holds both roles" in refused("evaluate", "--data", data, "--predictions", found, "--targets", tmp_path)
    assert "--rows" in refused("evaluate", "--data", data, "--predictions", found, "--rows", "r.txt")
    assert "a .json file is written" in refused("evaluate", "--data", data, "--predictions", found, "--out", "r.csv")


def test_what_is_read_is_not_written(scored: tuple[Path, Path], tmp_path: Path):
    data, found = scored
    masks_of = data / "mask_dict.json"
    before, clip = masks_of.read_bytes(), read(data)[0].id
    (tmp_path / "a.png").write_bytes(b"")
    for words in (
        ("evaluate", "--data", data, "--predictions", found, "--out", found),
        ("evaluate", "--data", data, "--predictions", found, "--out", masks_of),
        ("predict", "--data", data, "--checkpoint", tmp_path, "--out", masks_of),
        ("data", "verify", data, "--out", masks_of),
        ("data", "stats", data, "--rows", masks_of),
        ("data", "stats", data, "--rows", next(data.glob("JPEGImages/*/*.jpg"))),
        ("data", "stats", data, "--rows", data / "intershapes.json"),
    ):
        assert refused(*words).startswith(f"error: {words[-1]}: is "), words
    assert reviosa("data", "verify", data, "--out", data / "report.json").exit_code == 0
    assert reviosa("data", "verify", data, "--out", data / "report.json").exit_code == 0, "which is not the data's"
    for words in (("data", "show", data, clip), ("data", "stats", data)):
        assert "figure.pdf: a .png file is written" in refused(*words, "--out", "figure.pdf")
    assert masks_of.read_bytes() == before and json.loads(found.read_text())
    found.write_text("{")
    assert f"{found}: the file ends early" in refused_after_progress("evaluate", "--data", data, "--predictions", found)


def refused_after_progress(*words: object) -> str:
    """The error line, below the progress bar's."""
    result = reviosa(*words)
    last = result.stderr.strip().splitlines()[-1]
    assert result.exit_code == 2 and last.startswith("error: "), result.output
    return last


def test_submit(scored: tuple[Path, Path], tmp_path: Path):
    data, found = scored
    clips = read(data)
    due, out = sum(len(clip.expressions) for clip in clips), tmp_path / "s.zip"
    result = reviosa("submit", "--to", "ref-youtube-vos", "--data", data, "--predictions", found, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.output == f"written: {out}: {due} expressions of {len(clips)} videos\n"
    with zipfile.ZipFile(out) as archive:
        assert len(archive.namelist()) == sum(len(clip) * len(clip.expressions) for clip in clips)

    common = ("submit", "--data", data, "--predictions", found)
    assert "takes a .json file" in refused(*common, "--to", "interrvos", "--out", out)
    assert "--targets" in refused(*common, "--to", "mevis", "--out", out, "--targets", tmp_path)
    assert f"{found}: is what is read here" in refused(*common, "--to", "interrvos", "--out", found)
    found.write_text("{}")
    assert f"{due} of {due} expressions missing" in refused(*common, "--to", "mevis", "--out", out)


@pytest.fixture
def table(tmp_path: Path, folder: Path) -> Path:
    for name in ("man", "cart"):
        (tmp_path / name).mkdir()
        for i in range(T):
            mask = np.zeros((H, W), np.uint8)
            mask[4:9, 3 + i : 9 + i] = 255
            Image.fromarray(mask if name == "man" else mask[::-1]).save(tmp_path / name / f"{i:03d}.png")
    rows = ["clip,a man pushing a cart,unidirectional,man,cart", "clip,a man,single,man,"]
    (tmp_path / "table.csv").write_text("\n".join(["video,expression,caption_type,actor,target", *rows]))
    return tmp_path / "table.csv"


def test_data_import_show_and_stats(table: Path, tmp_path: Path):
    out = tmp_path / "mine"
    result = reviosa("data", "import", table, out)
    assert result.exit_code == 0 and result.output == f"written: {out}: 1 clips, 2 expressions\n"
    assert [e.text for e in read(out)[0].expressions] == ["a man pushing a cart", "a man"]

    assert reviosa("data", "show", out, "clip", "--out", tmp_path / "s.png", "--frames", 3).exit_code == 0
    with Image.open(tmp_path / "s.png") as sheet:
        assert sheet.width > sheet.height > 100
    result = reviosa("data", "stats", out, "--fps", 4, "--out", tmp_path / "a.png", "--rows", tmp_path / "r.csv")
    assert result.exit_code == 0 and "1 unidirectional, 1 single" in result.output, result.output
    assert (tmp_path / "a.png").is_file()
    assert (tmp_path / "r.csv").read_text().splitlines()[1] == f"clip,{T},{T / 4},2,2,1"


def test_data_commands_refuse(table: Path, tmp_path: Path):
    assert "no such file" in refused("data", "import", tmp_path / "none.csv", tmp_path / "o").lower()
    assert "is not an earlier import" in refused("data", "import", table, tmp_path / "clip")
    table.write_text(table.read_text().replace("pushing a cart,", "pushing a cart,x").replace("a man,", ","))
    result = reviosa("data", "import", table, tmp_path / "o")
    assert result.exit_code == 2 and not (tmp_path / "o").exists()
    assert result.stderr.splitlines()[0] == f"error: {table}: 2 problems"
    assert [line.split(":")[0] for line in result.stderr.splitlines()[1:]] == ["  row 2", "  row 3"]
    assert "docs/datasets.md" in refused("data", "show", tmp_path, "clip")
    assert "docs/datasets.md" in refused("data", "stats", tmp_path)


def test_weights_inspect(root: Path, tmp_path: Path):
    result = reviosa("weights", "inspect", root / "backbones" / "tiny" / "internvl")
    assert result.exit_code == 0, result.output
    assert "kind: internvl, transformers" in result.output and "through LoRA" in result.output
    assert "no model.safetensors" in refused("weights", "inspect", tmp_path)


def test_weights_convert(tmp_path: Path):
    made.write_internvl(tmp_path / "released")
    result = reviosa("weights", "convert", tmp_path / "released", tmp_path / "native", "--to", "native")
    assert result.exit_code == 0 and result.output == f"written: {tmp_path / 'native'}\n"
    found = reviosa("weights", "inspect", tmp_path / "native")
    assert "kind: internvl, transformers" in found.output
    for source, target, message in [
        ("released", "released", "is the source itself"),
        ("native", "other", "internvl, transformers, cannot be written as native"),
        ("nowhere", "other", "no such file or folder"),
    ]:
        assert message in refused("weights", "convert", tmp_path / source, tmp_path / target, "--to", "native")
    assert reviosa("weights", "convert", tmp_path, tmp_path / "x", "--to", "onnx").exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["native", "released"]


def test_help_is_shown_as_it_is_written():
    """Rich takes `[...]` for markup, and leaves it out; examples are bold by it, and nothing else is."""

    def texts(command, name: str):
        yield name, command.help or ""
        yield from (
            (f"{name} {parameter.name}", getattr(parameter, "help", None) or "") for parameter in command.params
        )
        for sub, own in getattr(command, "commands", {}).items():
            yield from texts(own, f"{name} {sub}")

    found = dict(texts(get_command(app), "reviosa"))
    assert len(found) > 100
    written = {name: text.replace("[bold]", "").replace("[/]", "") for name, text in found.items()}
    assert [name for name in found if Text.from_markup(found[name]).plain != written[name]] == []


def test_help_fills_the_terminal(monkeypatch: pytest.MonkeyPatch):
    """A line ends where the next word does not fit any more, or where the paragraph ends."""
    monkeypatch.setenv("COLUMNS", "70")
    for name in ("predict", "evaluate", "data verify", "annotate run"):
        shown = reviosa(*name.split(), "--help").output
        lines = [line.strip() for line in shown[: shown.index("Options")].splitlines()]
        for line, after in zip(lines, lines[1:], strict=False):
            assert not (line and after) or len(line) + 1 + len(after.split()[0]) > 68, (name, line, after)


def test_help_is_quick_and_teaches():
    loaded = (
        "import sys, reviosa_core.cli.app; print([m for m in ('torch', 'numpy', 'mlflow', 'av') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", "heavy imports wait until a command needs them"
    assert "reviosa predict --video" in " ".join(reviosa("predict", "--help").output.split())


def test_site_says_what_it_is_made_of(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    assert "no executed notebook; make repro makes them" in refused("site", "out")
    assert not (tmp_path / "out").exists()


def test_a_command_that_ends_does_not_look_through_what_it_imported():
    told = "gc.callbacks.append(lambda phase, _: os.write(1, b'%d ' % gc.get_freeze_count()))"
    code = f"import gc, os; from reviosa_core.cli import app; {told}"
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert (frozen := list(map(int, done.stdout.split()))) and min(frozen) > 1000, "of the last search for garbage"
