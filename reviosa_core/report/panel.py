"""Widgets to look at attention with: what is asked for above, what `attention` says of it below."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import numpy as np
import pandas as pd
from jaxtyping import Bool

from reviosa_core import masks
from reviosa_core.report import attention, style
from reviosa_core.report.attention import Question, Seen, Watched
from reviosa_core.schema import Clip, DataError, Role
from reviosa_core.scoring.selection import Selection

ALONE = "–"
HELD = 16  # clips whose attention is remembered


class Panel:
    """Shown by a notebook as live widgets; by what has none, as the picture they stood at.

    `systems` are loaded when they are first chosen; the first two stand side by side at the start. `chosen` is the
    layer and the heads that AML is on, where the sliders begin. Every widget is an attribute: to move one, set its
    `value`.
    Raises DataError without clips or systems.
    """

    def __init__(
        self, systems: Mapping[str, Callable[[], Watched]], clips: Sequence[Clip], chosen: Selection | None = None
    ) -> None:
        if not systems or not clips:
            raise DataError(f"{len(systems)} systems and {len(clips)} clips: nothing to look at")
        self._clips = {clip.id: clip for clip in clips}
        self._chosen = chosen
        self._system = lru_cache(len(systems))(lambda name: systems[name]())
        self._seen = lru_cache(HELD)(lambda name, clip: attention.see(self._system(name), self._clips[clip]))
        self._drawn = lru_cache(HELD)(self._segment)
        first, *others = systems
        wide = widgets.Layout(width="98%")
        self.experiment = widgets.Dropdown(options=[*systems], value=first, description="experiment")
        self.beside = widgets.Dropdown(options=[ALONE, *systems], value=[*others, ALONE][0], description="beside")
        self.clip = widgets.Dropdown(options=[*self._clips], description="clip")
        self.expression = widgets.Dropdown(description="expression", layout=wide)
        self.role = widgets.ToggleButtons(options=[*Role], description="role")
        self.layer = widgets.IntSlider(description="layer", min=0, max=0)
        self.head = widgets.Dropdown(description="head")
        self.frame = widgets.IntSlider(description="frame", min=0, max=0)
        self.picture, self.grid = (widgets.Image(format="png", layout={"max_width": "100%"}) for _ in range(2))
        self.numbers = widgets.HTML()
        self._asking = (self.experiment, self.beside, self.clip, self.expression, self.role, self.layer, self.head)
        self._asking += (self.frame,)
        rows = (self._asking[:3], (self.expression,), (self.role,), self._asking[5:])
        self.box = widgets.VBox([*map(widgets.HBox, rows), self.picture, self.numbers, self.grid])
        self._busy = False
        for widget in self._asking:
            widget.observe(self._follow, "value")
        self._follow()

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        bundle = self.box._repr_mimebundle_() or {}
        return {**bundle, "image/png": base64.b64encode(self.picture.value).decode()}

    @property
    def question(self) -> Question:
        """What is asked for now."""
        clip = self._clips[self.clip.value]
        expression = next(e for e in clip.expressions if e.id == self.expression.value)
        role = Role(self.role.value)
        return Question(clip, expression, role, self.frame.value, self.layer.value, self.head.value)

    def seen(self) -> dict[str, Seen]:
        """What the chosen systems do with the chosen clip."""
        names = dict.fromkeys(str(widget.value) for widget in (self.experiment, self.beside))
        return {name: self._seen(name, self.clip.value) for name in names if name != ALONE}

    def tables(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Shares of attention of the systems shown, and what the selection rules say of the first on this clip."""
        seen, heads = self.seen(), len(self._chosen.heads) if self._chosen else 1
        return attention.shares(self.question, seen), attention.rules(seen[self.experiment.value], heads)

    def _segment(self, name: str, clip: str, expression: str) -> dict[Role, Bool[np.ndarray, "t h w"]]:
        of = self._clips[clip]
        (found,) = self._system(name).segment(of, [e for e in of.expressions if e.id == expression])
        return {r: masks.arrays(m, of.size) for r, m in found.masks.items()}

    def _follow(self, _: Any = None) -> None:
        """Something was moved: what can be asked for may be another thing now; then everything is drawn."""
        if self._busy:  # by itself
            return
        self._busy = True
        try:
            self._offer()
            self._draw()
        finally:
            self._busy = False

    def _offer(self) -> None:
        said = sorted(
            self._clips[self.clip.value].expressions, key=lambda e: not e.is_interaction
        )  # these have targets
        _offer(self.expression, [(f"{e.text} ({e.caption_type})", e.id) for e in said])
        seen = self.seen()
        of_all = [layers for found in seen.values() for layers in found.maps.values()]
        heads = min(next(iter(layers.values())).shape[0] for layers in of_all)
        fresh = not self.head.options
        self.layer.max = min(map(len, of_all)) - 1
        self.frame.max = min(len(found.indices) for found in seen.values()) - 1
        choices = [(f"H{head:02d}", (head,)) for head in range(heads)]
        choices = [("mean of all", tuple(range(heads))), *choices]
        if self._chosen and max(self._chosen.heads) < heads:
            choices = [("those of AML", tuple(self._chosen.heads)), *choices]
        _offer(self.head, choices)
        if fresh and self._chosen:
            self.layer.value = min(self._chosen.layer, self.layer.max)

    def _draw(self) -> None:
        asked, seen = self.question, self.seen()
        drawn = {name: self._drawn(name, asked.clip.id, asked.expression.id) for name in seen}
        self.picture.value = style.png(attention.side_by_side(asked, seen, drawn))
        self.grid.value = style.png(attention.layers_by_heads(asked, seen))
        self.numbers.value = "".join(table.to_html(float_format="{:.3f}".format) for table in self.tables())


def _offer(widget: widgets.Dropdown, options: Sequence[tuple[str, Any]]) -> None:
    """Other options, and the value that it had where that still is one, else the first."""
    if tuple(widget.options) != tuple(options):
        before, values = widget.value, [value for _, value in options]
        widget.options = options
        widget.value = before if before in values else values[0]
