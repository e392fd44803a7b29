"""One system in several processes."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import tiny
import torch
from standing import Standing

from reviosa_core.data.interrvos import read
from reviosa_core.intershapes.splits import write_split
from reviosa_core.predict import several
from reviosa_core.schema import DataError
from reviosa_core.scoring import evaluate


def standing(device: str | None) -> Standing:
    """A system that a process of its own can make."""
    if device == "broken":
        raise DataError("no such device")
    return Standing()


class Otherwise:
    """Roles exchanged."""

    roles = Standing.roles

    def __init__(self, system: Standing) -> None:
        self.system = system

    def segment(self, clip, expressions):
        other = dict(zip(self.roles, reversed(self.roles), strict=True))
        found = self.system.segment(clip, expressions)
        return [replace(p, masks={other[role]: own for role, own in p.masks.items()}) for p in found]


def test_all_gpus_where_there_are_several(monkeypatch: pytest.MonkeyPatch):
    for count, devices in ((0, [None]), (1, [None]), (3, ["cuda:0", "cuda:1", "cuda:2"])):
        monkeypatch.setattr(torch.cuda, "device_count", lambda count=count: count)
        assert several.gpus() == devices


@pytest.mark.slow
def test_rows_are_those_of_one_process(tmp_path: Path):
    """Of what an interrupted call left to do, too."""
    write_split(tiny.data(64, 4), "test", tmp_path, seed=0, progress=False)
    clips = read(tmp_path / "test")
    for load in (standing, partial(several.wrapped, standing, Otherwise)):
        one, two = (several.Several(load, [None] * count) for count in (1, 2))
        rows = evaluate.evaluate(load(None), clips, progress=False)
        for system in (one, two):
            pd.testing.assert_frame_equal(evaluate.evaluate(system, clips, progress=False), rows)

    save = tmp_path / "p.json"

    class Stopped(Standing):
        def run_lengths(self, clip, expressions=None):
            if clip.id == clips[1].id:
                raise KeyboardInterrupt
            return super().run_lengths(clip, expressions)

    with pytest.raises(KeyboardInterrupt):
        evaluate.evaluate(Stopped(), clips, progress=False, save=save, made_by="m")
    rows = evaluate.evaluate(Standing(), clips, progress=False)
    again = several.Several(standing, [None, None])
    pd.testing.assert_frame_equal(evaluate.evaluate(again, clips, progress=False, save=save, made_by="m"), rows)
    with pytest.raises(DataError, match="no such device"):
        evaluate.evaluate(several.Several(standing, ["broken", "broken"]), clips, progress=False)
