"""Submissions hold what was predicted in the layout each benchmark takes, or are not written, with the reason."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reviosa_core import masks
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role
from reviosa_core.scoring import predictions, submissions

T, H, W = 3, 7, 11
FRAMES = ("00000", "00005", "00015")  # every fifth, one left out, as Ref-YouTube-VOS has them


def clip(name: str, *ids: str) -> Clip:
    expressions = tuple(Expression(id, "a dog", "undefined", ("unknown",)) for id in ids)
    return Clip(name, np.zeros((T, H, W, 3), np.uint8), FRAMES, (H, W), expressions, {"unknown": [None] * T})


SPLIT = [clip("b", "0", "1", "10"), clip("a", "0")]


def drawn(video: str, id: str) -> np.ndarray:
    return np.random.default_rng((ord(video), int(id))).random((2, T, H, W)) < 0.4


def answer(video: str, *ids: str) -> tuple[str, list[Prediction]]:
    found = []
    for id in ids:
        actor, target = drawn(video, id)
        roles = {Role.ACTOR: [masks.encode(m) for m in actor], Role.TARGET: [masks.encode(m) for m in target]}
        found.append(Prediction(video, id, roles))
    return video, found


def good() -> Iterator[tuple[str, list[Prediction]]]:
    yield answer("a", "0")
    yield answer("b", "10", "1", "0")


@pytest.mark.parametrize(("to", "top"), [("ref-youtube-vos", "Annotations/"), ("mevis", "")])
def test_zips(to, top, tmp_path: Path):
    assert submissions.write(to, tmp_path / "deep" / "s.zip", SPLIT, good, progress=False) == 4
    with zipfile.ZipFile(tmp_path / "deep" / "s.zip") as archive:
        names = [f"{top}{v}/{e}/{f}.png" for v, e in (("a", "0"), ("b", "0"), ("b", "1"), ("b", "10")) for f in FRAMES]
        assert archive.namelist() == names and archive.testzip() is None
        for name in names:
            video, id, frame = name.removeprefix(top).removesuffix(".png").split("/")
            with Image.open(io.BytesIO(archive.read(name))) as picture:
                assert picture.mode == "L"
                assert (np.asarray(picture) == 255 * drawn(video, id)[0, FRAMES.index(frame)]).all()


def test_the_same_predictions_give_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    submissions.write("mevis", tmp_path / "1.zip", SPLIT, good, progress=False)
    monkeypatch.setattr("time.time", lambda: 2e9)
    submissions.write("mevis", tmp_path / "2.zip", SPLIT, good, progress=False)
    assert (tmp_path / "1.zip").read_bytes() == (tmp_path / "2.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "1.zip") as archive:
        assert {entry.date_time[0] for entry in archive.infolist()} == {1980}


def test_interrvos(tmp_path: Path):
    submissions.write("interrvos", tmp_path / "s.json", SPLIT, good, progress=False)
    again = dict(predictions.read(tmp_path / "s.json"))
    assert {video: [p.expression_id for p in found] for video, found in again.items()} == {
        "a": ["0"],
        "b": ["10", "1", "0"],
    }
    for role, want in zip(Role, drawn("b", "1"), strict=True):
        assert (masks.decode_all(again["b"][1].masks[role], (H, W)) == want).all()


def broken(case: str) -> Iterator[tuple[str, list[Prediction]]]:
    video, found = answer("b", "0", "1", "10")
    actor = found[1].masks[Role.ACTOR]
    yield answer("a", "0", *(["7"] if case == "expression" else []))
    if case == "no masks":
        found[1] = Prediction(video, "1", {Role.TARGET: actor})
    elif case == "too few":
        found[1].masks[Role.ACTOR].pop()
    elif case == "size":
        actor[2] = masks.encode(np.zeros((W, H), bool))
    elif case == "counts":
        actor[2]["counts"] = "00"
    elif case == "one role":
        found[1].masks.pop(Role.TARGET)
    elif case == "missing":
        del found[1:]
    elif case == "twice":
        found.append(found[0])
    elif case == "video":
        yield answer("c", "0")
    if case != "missing video":
        yield video, found


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("missing", "2 of 4 expressions missing: b/1, b/10$"),
        ("missing video", "3 of 4 expressions missing: b/0, b/1, b/10$"),
        ("expression", "1 unexpected: a/7$"),
        ("video", "1 unexpected: c/0$"),
        ("twice", "1 wrong: b/0 occurs twice$"),
        ("no masks", "b/1 has no actor masks"),
        ("too few", "b/1, actor: 2 masks for 3 frames"),
        ("size", r"b/1, actor, frame 00015: mask size \(11, 7\) differs from frame size \(7, 11\)"),
        ("counts", "b/1, actor, frame 00015: mask counts cover 0 pixels, the frame has 77"),
        ("one role", "some expressions have target masks"),
    ],
)
@pytest.mark.parametrize("to", ["mevis", "interrvos"])
def test_what_does_not_fit_is_not_written(to, case, message, tmp_path: Path):
    (tmp_path / "s").write_text("an earlier one")
    with pytest.raises(DataError, match=message):
        submissions.write(to, tmp_path / "s", SPLIT, lambda: broken(case), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["s"] and (tmp_path / "s").read_text() == "an earlier one"


def test_long_lists_say_how_many(tmp_path: Path):
    many = [clip("a", *map(str, range(45)))]
    with pytest.raises(DataError, match=r"45 of 45 expressions missing: a/0, .* a/19 \.\.\. and 25 more$"):
        submissions.write("mevis", tmp_path / "s.zip", many, lambda: iter(()), progress=False)


@pytest.mark.parametrize("id", ["..", "a/b", "", "\\"])
def test_no_name_escapes(id: str, tmp_path: Path):
    split, own = [clip("a", id)], Prediction("a", id, {Role.ACTOR: drawn("a", "0")[0]})
    with pytest.raises(DataError, match="not a plain file name"):
        submissions.write("mevis", tmp_path / "s.zip", split, lambda: iter([("a", [own])]), progress=False)
    assert not list(tmp_path.iterdir())


def test_an_interruption_leaves_nothing(tmp_path: Path):
    times = iter([1, 2])

    def stops() -> Iterator[tuple[str, list[Prediction]]]:
        yield from good()
        if next(times) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        submissions.write("mevis", tmp_path / "s.zip", SPLIT, stops, progress=False)
    assert not list(tmp_path.iterdir())


def test_trees_of_pngs_too_and_no_folder_of_them_is_passed_over(tmp_path: Path):
    for video, found in good():
        for prediction in found:
            for name, rle in zip(FRAMES, prediction.masks[Role.ACTOR], strict=True):
                folder = tmp_path / "tree" / video / prediction.expression_id
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(masks.decode(rle, (H, W)).astype(np.uint8) * 255).save(folder / f"{name}.png")

    def read() -> Iterator[tuple[str, list[Prediction]]]:
        return predictions.read_trees({Role.ACTOR: tmp_path / "tree"}, SPLIT)

    for name, source in (("tree.zip", read), ("good.zip", good)):
        submissions.write("mevis", tmp_path / name, SPLIT, source, progress=False)
    pictures = []
    for name in ("tree.zip", "good.zip"):
        with zipfile.ZipFile(tmp_path / name) as archive:
            pictures.append({entry: archive.read(entry) for entry in archive.namelist()})
    assert pictures[0] == pictures[1]
    (tmp_path / "tree" / "other" / "0").mkdir(parents=True)
    with pytest.raises(DataError, match=r"tree: 1 unknown videos \['other'\]; the data has 2 others"):
        submissions.write("mevis", tmp_path / "s.zip", SPLIT, read, progress=False)
