"""`reviosa annotate` given the wrong thing: said before anything is asked or paid for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from bad_input import Row, dataset
from PIL import Image

NOBODY = "http://127.0.0.1:9/v1"


def run(folder: Path, *more: object, out: str = "out", endpoint: str | None = NOBODY) -> list[object]:
    """Annotate a data set that is whole and right."""
    (folder / "data").mkdir()
    return ["annotate", dataset(folder / "data"), folder / out, *(["--endpoint", endpoint] if endpoint else []), *more]


def onto(folder: Path) -> list[object]:
    """OUT is somebody's own folder."""
    (folder / "out").mkdir()
    (folder / "out" / "thesis.tex").write_text("mine")
    return run(folder)


def prompts(folder: Path) -> list[object]:
    (folder / "prompts").mkdir()
    (folder / "prompts" / "objects.md").write_text("What is it?")
    return run(folder, "--prompts", folder / "prompts")


def bare(folder: Path, *more: object) -> list[object]:
    """Videos without masks."""
    (folder / "videos" / "a").mkdir(parents=True)
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(folder / "videos" / "a" / "0.png")
    return ["annotate", folder / "videos", folder / "out", *more]


def truth(folder: Path, text: str) -> list[object]:
    (folder / "truth.json").write_text(text)
    return run(folder, "--truth", folder / "truth.json", endpoint="embedded")


def audit(folder: Path, *more: object) -> list[object]:
    """A data set that was not annotated here."""
    (folder / "data").mkdir()
    return ["annotate", "audit", dataset(folder / "data"), *more]


ROWS = [
    Row(
        "annotating nothing",
        lambda f: ["annotate", f / "no", f / "out", "--endpoint", NOBODY],
        "no: no such file",
    ),
    Row("annotating without an endpoint", lambda f: run(f, endpoint=None), "--endpoint: say where to ask"),
    Row("an endpoint that is no address", lambda f: run(f, endpoint="here"), "endpoint 'here' is no http"),
    Row("an endpoint with a password", lambda f: run(f, endpoint="http://me:pw@h/v1"), "keys go by the environment"),
    Row("annotating onto a folder of one's own", onto, "out: exists, and is not an earlier annotated data set"),
    Row("annotating onto the data itself", lambda f: run(f, out="data"), "data: exists, and is not an earlier"),
    Row("a folder with one prompt only", prompts, "expressions.md"),
    Row(
        "videos without masks and no SAM2",
        lambda f: bare(f, "--endpoint", NOBODY),
        "clip a: has no masks",
    ),
    Row("the embedded endpoint without masks", lambda f: bare(f, "--endpoint", "embedded"), "which 1 clips lack, as a"),
    Row("the embedded endpoint without a truth", lambda f: run(f, endpoint="embedded"), "has no notes of InterShapes"),
    Row("a truth that is no JSON", lambda f: truth(f, "{"), "truth.json"),
    Row("a truth without objects", lambda f: truth(f, '{"alpha": {}}'), "truth.json: clip alpha: objects: Field req"),
    Row(
        "a SAM2 that is not there",
        lambda f: bare(f, "--endpoint", NOBODY, "--sam2", f / "no.pt"),
        "no.pt: no such",
    ),
    Row("auditing what was not annotated", audit, "roles.json"),
    Row("auditing nothing", lambda f: ["annotate", "audit", f / "no"], "no"),
    Row("verdicts that are not there", lambda f: audit(f, "--verdicts", f / "no.json"), "no.json"),
]
