"""Outputs of executed notebooks, as they are read."""

from __future__ import annotations

import pytest
from nbformat.v4 import new_output

from reviosa_core.report.executed import readable


@pytest.mark.parametrize(
    ("texts", "left"),
    [
        (["\rtrain:   0%", "\rtrain: 100%", "\n"], [("stdout", "train: 100%\n")]),
        (["\ra: 50%", "\r      \r"], [("stdout", "a: 50%\n")]),  # a bar that goes when it is done
        (["Warning: x\n", "\rb: 1%\n", "Traceback"], [("stdout", "b: 1%\n"), ("stderr", "Warning: x\nTraceback\n")]),
        (["\n"], []),
        (
            [
                "\rc:  50%|##  | 1/2 [00:01<00:01,  1it/s]x.py: UserWarning: mind\n  warn()\n",
                "\rc: 2/2 [00:02<00:00]\n",
            ],
            [("stdout", "c: 2/2 [00:02<00:00]\n"), ("stderr", "x.py: UserWarning: mind\n  warn()\n")],
        ),
        (["killed soon\rd: 1%", "\x1b[A\rd: 2%"], [("stdout", "d: 2%\n"), ("stderr", "killed soon\n")]),
    ],
)
def test_what_is_progress(texts: list[str], left: list[tuple[str, str]]):
    outputs = [new_output("stream", name="stderr", text=text) for text in texts]
    assert [(o.name, o.text) for o in readable(outputs)] == left
    table = new_output("display_data", data={"text/plain": "a table"})
    assert readable([table, *outputs, table])[:: len(left) + 1] == [table, table], "the rest stays in its place"
    assert readable([table]) == [table]
