"""Attention to play with: figures and numbers of what is asked for, widgets that change them, and the notebook."""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest

from reviosa_core import config, masks
from reviosa_core.report import attention, panel
from reviosa_core.schema import Clip, DataError, Expression, Prediction, Role
from reviosa_core.scoring import selection

LAYERS, HEADS, T, P, Q, H, W = 3, 5, 2, 4, 6, 8, 12  # a cell is 2 x 2 pixels


def clip(name: str = "clip", frames: int = 7) -> Clip:
    """Object "a" covers 2 of 24 cells, "b" 4 of them; b pushes nobody."""
    drawn = np.zeros((2, H, W), bool)
    drawn[0, :2, :4] = drawn[1, 4:, 8:] = True
    rles = {name: [masks.encode(mask)] * frames for name, mask in zip("ab", drawn, strict=True)}
    said = (
        Expression("0", "the red one", "single", ("b",)),
        Expression("1", "a pushing b", "unidirectional", ("a",), ("b",)),
    )
    pixels = np.random.default_rng(0).integers(0, 256, (frames, H, W, 3), dtype=np.uint8)
    return Clip(name, pixels, tuple(f"{t:05d}" for t in range(frames)), (H, W), said, rles)


class Looks:
    """Head 4 of layer 1 gives half of its attention to a's cells in the second frame; every other row is uniform and
    gives 0.8. It segments what is true, in whole or, `half`, in its left half; `alone` without targets."""

    frames = T

    def __init__(self, alone: bool = False) -> None:
        self.roles = (Role.ACTOR,) if alone else tuple(Role)
        self.asked = 0

    def attention(self, clip: Clip) -> selection.Maps:
        self.asked += 1
        uniform = np.full((HEADS, T, P, Q), 0.8 / (T * P * Q), np.float32)
        found = {}
        for e in clip.expressions:
            for role in self.roles if e.is_interaction else (Role.ACTOR,):
                found[e.id, role] = {layer: uniform.copy() for layer in range(LAYERS)}
        found["1", Role.ACTOR][1][4] = 0
        found["1", Role.ACTOR][1][4, 1, 0, :2] = 0.25
        return found

    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        (e,) = expressions or ()
        true = masks.by_role(clip, e)
        true[Role.ACTOR][:, :, 2:] = False
        return [Prediction(clip.id, e.id, {role: true[role] for role in self.roles})]

    def collate(self, samples: Sequence, rng: np.random.Generator | None = None) -> None: ...

    def training_losses(self, batch: None) -> dict: ...


@pytest.fixture(autouse=True)
def no_figure_left_open():
    yield
    assert plt.get_fignums() == []


def question(role: Role = Role.ACTOR, heads: tuple[int, ...] = (4,), expression: int = 1) -> attention.Question:
    own = clip()
    return attention.Question(own, own.expressions[expression], role, 1, 1, heads)


def test_shares_by_hand():
    seen = {"both": attention.see(Looks(), clip()), "one": attention.see(Looks(alone=True), clip())}
    sharp = attention.shares(question(), seen).loc["both"]
    assert (sharp["to vision"], sharp["on the own object"], sharp["on any object"]) == pytest.approx((0.5, 0.5, 0.5))
    assert sharp["own object's share of their area"] == pytest.approx(2 / 6)
    mixed = attention.shares(question(heads=(4, 0)), seen).loc["both"]
    assert mixed["on the own object"] == pytest.approx((0.5 + 0.8 * 2 / 24) / 2)
    assert list(attention.shares(question(Role.TARGET), seen).index) == ["both"], "the other has no such token"
    assert attention.shares(question(Role.TARGET, expression=0), seen).empty, "nor has anybody here"
    assert seen["both"].indices == (0, 6)


def test_what_each_rule_would_choose():
    rules = attention.rules(attention.see(Looks(), clip()), 2)
    assert list(rules.index) == list(selection.RULES)
    assert rules.loc["to_vision", "layer"] == "L00", "where nobody looks at two cells only"
    assert (rules.loc["own_object", "layer"], rules.loc["own_object", "heads"][:3]) == ("L01", "H04")


def test_figures():
    systems = {"with": Looks(), "without": Looks(alone=True)}
    seen = {name: attention.see(system, clip()) for name, system in systems.items()}
    for asked in (question(), question(Role.TARGET), question(Role.TARGET, expression=0)):
        drawn = {name: s.segment(clip(), [asked.expression])[0].masks for name, s in systems.items()}
        figure = attention.side_by_side(asked, seen, drawn)
        labels = [axis.get_xlabel() for axis in figure.axes]
        assert len(labels) == 4
        if asked.role is Role.ACTOR:
            assert labels[0] == "mask, IoU 0.50" and labels[1].startswith("own object 50.0%, any 50.0%")
            assert labels[1].endswith("this frame 100%")
        else:
            assert labels[2:] == ["no such role", "no such token"]
            assert labels[0] == "mask, IoU 1.00"
    grid = attention.layers_by_heads(question(), seen)
    left, right = grid.axes[:2]
    assert [t.get_text() for t in left.get_xticklabels()] == [f"H{h:02d}" for h in range(HEADS)]
    assert len(right.texts) == LAYERS * HEADS and "100%" in [t.get_text() for t in right.texts]
    assert (
        attention.layers_by_heads(question(Role.TARGET, expression=0), seen).axes[0].get_title("left")
        == "no such token"
    )


def widgets() -> tuple[panel.Panel, dict[str, Looks]]:
    systems = {"full": Looks(), "tokens": Looks(), "baseline": Looks(alone=True)}
    chosen = selection.Selection(1, (4, 0))
    loaded = {name: (lambda system=system: system) for name, system in systems.items()}
    return panel.Panel(loaded, [clip("one"), clip("two", frames=9)], chosen), systems


def test_moving_a_widget_changes_what_is_seen():
    look, systems = widgets()
    assert (look.expression.value, look.layer.value, look.head.value) == ("1", 1, (4, 0)), "AML's, on an interaction"
    assert (look.layer.max, look.frame.max) == (LAYERS - 1, T - 1)
    for widget, value in (("layer", 0), ("head", (4,)), ("frame", 1), ("role", Role.TARGET), ("expression", "0")):
        before = look.picture.value, look.grid.value
        getattr(look, widget).value = value
        assert (look.picture.value, look.grid.value) != before, widget
    look.layer.value, look.role.value, look.expression.value = 1, Role.ACTOR, "1"
    before = look.numbers.value
    assert "0.500" in before
    look.head.value = (0,)
    assert look.numbers.value != before
    assert systems["baseline"].asked == 0 and systems["full"].asked == 1, (
        "nothing is loaded or asked before it is chosen"
    )
    look.beside.value = "baseline"
    assert systems["baseline"].asked == 1
    look.beside.value = panel.ALONE
    assert len(look.seen()) == 1
    look.clip.value = "two"
    assert look.question.clip.id == "two" and look.question.expression.id == "1" and look.head.value == (0,)


def test_a_copy_without_widgets_has_the_picture():
    look, _ = widgets()
    shown = look._repr_mimebundle_()
    assert base64.b64decode(shown["image/png"]) == look.picture.value
    assert "application/vnd.jupyter.widget-view+json" in shown


def test_nothing_to_look_at():
    with pytest.raises(DataError, match="1 systems and 0 clips"):
        panel.Panel({"full": Looks}, [])


MOVED = """
before = look.picture.value, look.grid.value
look.layer.value = (look.layer.value + 1) % (look.layer.max + 1)
after = look.picture.value, look.grid.value
print([a != b for a, b in zip(before, after, strict=True)], list(look.experiment.options))
"""


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True])
def test_the_notebook_at_smoke_size(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: bool):
    """Executed with its defaults, and with a folder of one's own weights; then one widget is moved."""
    import tiny
    from nbclient import NotebookClient

    from reviosa_core.intershapes import splits
    from reviosa_core.model.reviosa import ReVIOSa
    from reviosa_core.weights import folders

    shutil.copy(root / "params.yaml", tmp_path)
    project = config.Project(tmp_path, "smoke", config.load(tmp_path / "params.yaml"))
    splits.write_splits(project.settings.data, project.data(), project.settings.seed)
    model = ReVIOSa(tiny.reader(lora=True), tiny.seeing(), tuple(Role), frames=3, aml=(1, (3, 0)))
    places = ["full", "tokens"] if not own else ["tokens"]
    for folder in [project.run(name) for name in places] + [tmp_path / "mine"]:
        folders.save(model, folder)
    project.report("selection.json").write_text(json.dumps({"layer": 1, "heads": [3, 0]}))
    notebook = nbformat.read(root / "notebooks" / "inspect_attention.ipynb", as_version=4)
    experiment = "mine" if own else "full"
    notebook.cells[1].source = f'profile, experiment = "smoke", "{experiment}"'
    notebook.cells.append(nbformat.v4.new_code_cell(MOVED))
    monkeypatch.setenv("PYTHONPATH", str(root))
    NotebookClient(notebook, timeout=200, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert outputs[-1].text == f"[True, True] {[experiment, 'tokens']}\n"
    assert "image/png" in outputs[0].data and not [o for o in outputs if o.get("name") == "stderr"]
    said = [o.data["text/markdown"] for o in outputs if "text/markdown" in o.get("data", {})]
    assert said[-1].startswith("Of the token's attention")
