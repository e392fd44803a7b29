"""A table of one's own videos becomes an InterRVOS-127K folder, or all its problems are said, each with its row."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reviosa_core import masks
from reviosa_core.data import interrvos, own
from reviosa_core.data.video import write_mp4
from reviosa_core.schema import DataError

T, H, W = 3, 22, 34
HEADER = "video,expression,caption_type,actor,target"
MAN, CART = np.zeros((2, T, H, W), bool)
MAN[:, 2:9, 3:8] = True
CART[1:, 10:20, 12:31] = True  # not there on the first frame
DIAGONAL = np.eye(H, W, dtype=bool)  # of neither, in the palette PNGs


def pngs(folder: Path, frames: np.ndarray, names: tuple[str, ...] = ("00000", "00001", "00002")) -> None:
    folder.mkdir(parents=True)
    for name, frame in zip(names, frames, strict=True):
        picture = Image.fromarray(frame.astype(np.uint8))
        if frame.dtype != bool:
            picture.putpalette([0, 0, 0, 250, 0, 0, 0, 250, 0] + [90] * 759)
        picture.save(folder / f"{name}.png")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three videos (an mp4, JPEGs, PNGs) and masks in each way they may be given."""
    for name in ("park", "yard"):
        (tmp_path / "videos" / name).mkdir(parents=True)
    write_mp4(tmp_path / "videos" / "street.mp4", np.full((T, H, W, 3), 90, np.uint8), fps=10.0)
    for i in range(T):
        Image.new("RGB", (W, H), (40 * i, 90, 9)).save(tmp_path / "videos" / "park" / f"{i:05d}.jpg", quality=50)
        Image.new("RGB", (W, H), (9, 90, 40 * i)).save(tmp_path / "videos" / "yard" / f"{i:05d}.png")
    pngs(tmp_path / "masks" / "man", MAN)
    pngs(tmp_path / "masks" / "both", np.where(DIAGONAL, 255, np.where(CART, 2, 1 * MAN)))
    runs = {"man": [masks.encode(m) for m in MAN], "cart": [None, *(masks.encode(m) for m in CART[1:])]}
    uncompressed = [{"size": [H, W], "counts": [W * H - 5, 5]}, None, None]
    (tmp_path / "masks" / "runs.json").write_text(json.dumps(runs | {"corner": uncompressed}))
    (tmp_path / "masks" / "cart.json").write_text(json.dumps(runs["cart"]))
    return tmp_path


@pytest.fixture
def table(folder: Path) -> Callable[..., Path]:
    def make(*rows: str, header: str = HEADER) -> Path:
        (folder / "clips.csv").write_text("\n".join([header, *rows]) + "\n")
        return folder / "clips.csv"

    return make


GOOD = (
    "videos/street.mp4,the man pushing a cart,unidirectional,masks/man,masks/cart.json",
    '"videos/park","man, and cart",multi,masks/runs.json#man; masks/runs.json#cart,',
    "videos/street.mp4,the man,single,masks/man,",
    "videos/yard,the cart pushed by the man,unidirectional,masks/both#2,masks/both#1",
)


def test_every_kind_of_video_and_mask(table, folder: Path):
    assert own.write(table(*GOOD), folder / "out", progress=False) == {"street": 2, "park": 1, "yard": 1}
    clips = {clip.id: clip for clip in interrvos.read(folder / "out")}
    assert [(e.text, e.caption_type) for e in clips["street"].expressions] == [
        ("the man pushing a cart", "unidirectional"),
        ("the man", "single"),
    ]
    for name, expression, actor, target in (
        ("street", 0, MAN, CART),
        ("street", 1, MAN, None),
        ("park", 0, MAN | CART, None),
        ("yard", 0, CART & ~DIAGONAL, MAN & ~DIAGONAL),
    ):
        said = clips[name].expressions[expression]
        assert (masks.union(clips[name], said.actor) == actor).all(), name
        assert (said.target is None) == (target is None)
        assert target is None or (masks.union(clips[name], said.target) == target).all(), name
    assert clips["street"].masks[clips["street"].expressions[0].target[0]][0] is None, "absent, not empty"
    assert clips["park"].frames[2][0, 0].tolist() == pytest.approx([80, 90, 9], abs=4)
    assert clips["yard"].frames[2][0, 0].tolist() == pytest.approx([9, 90, 80], abs=4)


def test_jpegs_are_copied_as_they_are(table, folder: Path):
    own.write(table(*GOOD), folder / "out", progress=False)
    for file in (folder / "videos" / "park").iterdir():
        assert (folder / "out" / "JPEGImages" / "park" / file.name).read_bytes() == file.read_bytes()


def test_a_video_that_is_a_link_is_called_as_the_link(table, folder: Path):
    """As git-annex and DVC leave it: the file's own name is a hash."""
    (folder / "videos" / "lane.mp4").symlink_to(folder / "videos" / "street.mp4")
    written = own.write(table("videos/lane.mp4,the man,single,masks/man,"), folder / "out", progress=False)
    assert written == {"lane": 1}


def test_json_lines_say_the_same(table, folder: Path):
    own.write(table(*GOOD), folder / "csv", progress=False)
    lines = [
        {"video": "videos/street.mp4", "expression": "the man pushing a cart", "caption_type": "unidirectional"}
        | {"actor": "masks/man", "target": ["masks/cart.json"]},
        {"video": "videos/park", "expression": "man, and cart", "caption_type": "multi", "target": None}
        | {"actor": ["masks/runs.json#man", "masks/runs.json#cart"]},
        {"video": "videos/street.mp4", "expression": "the man", "caption_type": "single", "actor": "masks/man"},
        {"video": "videos/yard", "expression": "the cart pushed by the man", "caption_type": "unidirectional"}
        | {"actor": "masks/both#2", "target": "masks/both#1"},
    ]
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    own.write(folder / "clips.jsonl", folder / "jsonl", progress=False)
    for name in ("meta_expressions.json", "mask_dict.json"):
        assert (folder / "csv" / name).read_text() == (folder / "jsonl" / name).read_text()


def test_uncompressed_run_lengths_and_a_spreadsheets_mark(folder: Path):
    (folder / "clips.csv").write_text(
        f"{HEADER}\r\nvideos/park,a corner,single,masks/runs.json#corner,\r\n", "utf-8-sig"
    )
    (clip,) = own.read(folder / "clips.csv", progress=False)
    (first, *later) = clip.masks["masks/runs.json#corner"]
    assert isinstance(first["counts"], str) and masks.decode(first, (H, W)).sum() == 5 and later == [None, None]


def test_all_problems_at_once(table, folder: Path):
    pngs(folder / "masks" / "small", np.zeros((T, 5, 7), bool))
    pngs(folder / "masks" / "others", MAN, names=("00000", "00001", "1"))
    pngs(folder / "masks" / "nothing", np.zeros_like(MAN))
    (folder / "masks" / "short.json").write_text("[null]")
    (folder / "masks" / "half.json").write_text('[null, null, {"size": [22, 34], "counts": "11"}]')
    with pytest.raises(DataError) as caught:
        list(own.read(table(*PROBLEMS), progress=False))
    first, *lines = str(caught.value).splitlines()
    assert first == f"{folder / 'clips.csv'}: {len(PROBLEMS)} problems"
    for number, (line, said) in enumerate(zip(lines, PROBLEMS.values(), strict=True), 2):
        assert line.startswith(f"  row {number}: ") and said in line


PROBLEMS = {
    "videos/none.mp4,a,single,masks/man,": "none.mp4: no such file",
    "videos/park,,single,masks/man,": "no expression",
    "videos/park,a,alone,masks/man,": "caption_type 'alone', not one of single, multi",
    "videos/park,a,undefined,masks/man,": "caption_type 'undefined'",
    "videos/park,a,single,,": "no actor for 'a'",
    "videos/park,a,unidirectional,masks/man,": "unidirectional needs a target",
    "videos/park,a,single,masks/man,masks/cart.json": "single has no target; only unidirectional",
    "videos/park,a,multi,masks/man;masks/man,": "names a mask twice",
    "videos/park,a,multi,masks/man;./masks/man,": "names a mask twice",
    "videos/park,a,unidirectional,masks/man,masks/man": "unidirectional has mask 'masks/man' as actor and as target",
    "videos/park,a,unidirectional,masks/both#1,./masks//both#1": "has mask './masks//both#1' as actor and as target",
    "videos/park,a,single,masks/woman,": "masks/woman: no such folder",
    "videos/park,a,single,masks/both,": "masks/both#1",
    "videos/park,a,single,masks/both#7,": "masks/both#7: empty in all 3 frames",
    "videos/park,a,single,masks/both#man,": "an object's pixel value",
    "videos/park,a,single,masks/both#0,": "an object's pixel value",
    "videos/park,a,single,masks/nothing,": "nothing: empty in all 3 frames",
    "videos/park,a,single,masks/small,": "00000.png: (5, 7) pixels, the frame has (22, 34)",
    "videos/park,a,single,masks/others,": "3 PNGs for 3 frames: 1 missing ['00002'], 1 unknown ['1']",
    "videos/park,a,single,videos/yard,": "grey or palette PNG is needed, this one is RGB in colours",
    "videos/park,a,single,masks/short.json,": "a list of 3 run lengths is needed, one a frame; got 1 entries",
    "videos/park,a,single,masks/half.json,": "entry 2: mask counts cover 2 pixels, the frame has 748",
    "videos/park,a,single,masks/runs.json,": "got dict",
    "videos/park,a,single,masks/runs.json#dog,": "no entry 'dog'",
    "videos/park/../yard,a,single,masks/man,,": "6 cells for 5 columns",
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("clips.csv", "video;expression;caption_type;actor;target\n", "separated by commas"),
        ("clips.csv", "video,expression,caption_type,actor,targets\n", "'targets'"),
        ("clips.csv", f'{HEADER}\n"videos/park,a\n', "line 2"),
        ("clips.csv", f"{HEADER}\n", "no rows"),
        ("clips.csv", b"\xff\xfe", "UTF-8"),
        ("clips.xlsx", "", ".csv or .jsonl"),
        ("clips.jsonl", '{"video": "a", "video": "b"}', "row 1: no JSON: duplicate key 'video'"),
        ("clips.jsonl", "\n[1]", "row 2: the keys are list"),
        ("clips.jsonl", '{"video": "a", "expression": "b", "caption_type": "single"}', "row 1: the keys are ['cap"),
        (
            "clips.jsonl",
            '{"video": "videos/park", "expression": 3, "caption_type": "single", "actor": "x"}',
            "row 1: expression 3 is not a text",
        ),
        (
            "clips.jsonl",
            '{"video": "videos/park", "expression": "a", "caption_type": "single", "actor": [3]}',
            "row 1: actor [3]: a text or a list",
        ),
    ],
)
def test_tables_that_cannot_be_read(folder: Path, name: str, content: str | bytes, message: str):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        own.read(folder / name, progress=False)
    assert name in str(caught.value) and message in str(caught.value)


def test_frames_that_break_a_video(table, folder: Path):
    (folder / "videos" / "park" / "00001.jpg").write_bytes(b"no picture")
    Image.new("RGB", (W, H + 1)).save(folder / "videos" / "yard" / "00001.png")
    for i in (9, 10):
        (folder / "videos" / "numbers").mkdir(exist_ok=True)
        Image.new("RGB", (W, H)).save(folder / "videos" / "numbers" / f"{i}.jpg")
    rows = [f"videos/{name},a,single,masks/man," for name in ("park", "yard", "numbers", "../videos/street.mp4")]
    with pytest.raises(DataError) as caught:
        own.read(table(*rows, "videos/street.mp4,b,single,masks/man,"), progress=False)
    _, park, yard, numbers, street = str(caught.value).splitlines()
    assert "row 2" in park and "00001.jpg: unreadable" in park
    assert "row 3" in yard and "(23, 34), the first image's is (22, 34)" in yard
    assert "row 4" in numbers and "puts 10 first and 9 last" in numbers
    assert "row 6" in street and "would be clip 'street'" in street and "of row 5" in street


def test_only_its_own_is_replaced(table, folder: Path):
    out = folder / "out"
    own.write(table(*GOOD), out, progress=False)
    own.write(table(GOOD[0]), out, progress=False)
    assert [path.name for path in (out / "JPEGImages").iterdir()] == ["street"]
    assert json.loads((out / "import.json").read_text())["expressions"] == {"street": 1}

    with pytest.raises(DataError):
        own.write(table(GOOD[0], "videos/none,a,single,masks/man,"), out, progress=False)
    assert len(interrvos.read(out)) == 1, "a table with problems leaves the earlier import alone"
    for mine in (folder / "videos", folder / "clips.csv"):
        with pytest.raises(DataError, match="is not an earlier import|is no folder"):
            own.write(table(GOOD[0]), mine, progress=False)
    (out / "notes.txt").write_text("of the user")
    with pytest.raises(DataError, match="notes.txt: does not come with the import"):
        own.write(table(GOOD[0]), out, progress=False)
    assert (out / "notes.txt").is_file()
    assert not [path for path in folder.iterdir() if "partial" in path.name]


def test_real_videos_come_back_as_they_were(shared: Path, tmp_path: Path):
    """A table that names a real folder's frames and its mask_dict.json gives that folder again."""
    root = shared / "data" / "davis_interactions"
    lines = [
        {"video": f"{root}/JPEGImages/{clip.id}", "expression": e.text, "caption_type": e.caption_type}
        | {"actor": [f"{root}/mask_dict.json#{key}" for key in e.actor]}
        | {"target": e.target and [f"{root}/mask_dict.json#{key}" for key in e.target]}
        for clip in interrvos.read(root)
        for e in clip.expressions
    ]
    (tmp_path / "clips.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert sum(own.write(tmp_path / "clips.jsonl", tmp_path / "out", progress=False).values()) == 89
    for old, new in zip(interrvos.read(root), interrvos.read(tmp_path / "out"), strict=True):
        assert (old.id, old.frame_names, old.size) == (new.id, new.frame_names, new.size)
        assert (old.frames[3] == new.frames[3]).all()
        for e, f in zip(old.expressions, new.expressions, strict=True):
            assert (e.text, e.caption_type) == (f.text, f.caption_type)
            for a, b in ((e.actor, f.actor), (e.target, f.target)):
                assert (masks.union(old, a) == masks.union(new, b)).all()


def test_an_edited_mask_file_is_read_again(table, folder: Path):
    path = table(GOOD[1])
    own.write(path, folder / "out", progress=False)
    (folder / "masks" / "runs.json").write_text("{}")
    with pytest.raises(DataError, match="no entry 'man'"):
        own.write(path, folder / "out", progress=False)
