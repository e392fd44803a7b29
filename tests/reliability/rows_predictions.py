"""Predictions: files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

from bad_input import Row, dataset, predictions, spoil


def evaluate(folder: Path, change) -> list[object]:
    """The command, on predictions that `change` has changed."""
    (folder / "data").mkdir()
    file = spoil(predictions(folder / "found.json"), change)
    return ["evaluate", "--data", dataset(folder / "data"), "--predictions", file, "--workers", 1]


ROWS = [
    Row(
        "an expression without a prediction",
        lambda f: evaluate(f, lambda c: c["beta"].pop("1")),
        "no prediction for 1 of 6.*beta/1",
    ),
    Row(
        "a video that the data does not have",
        lambda f: evaluate(f, lambda c: c.update(gamma={})),
        "unknown video 'gamma'",
    ),
    Row(
        "masks that are no list",
        lambda f: evaluate(f, lambda c: c["beta"]["0"].update(prediction_masks_act="x")),
        "video beta, expression 0.*not a list",
    ),
]
