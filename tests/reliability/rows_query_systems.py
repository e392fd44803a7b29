"""Released weights of the query systems: files that are not what they should be."""

from __future__ import annotations

from pathlib import Path

import torch
from bad_input import Row, spoil
from PIL import Image


def inspect(folder: Path, tensors: dict[str, torch.Tensor]) -> list[object]:
    torch.save({"model": tensors}, folder / "x.pth")
    return ["weights", "inspect", folder / "x.pth"]


def saved(folder: Path, about: dict) -> Path:
    """A saved system whose query.json says `about`, and nothing else."""
    (folder / "ours").mkdir()
    (folder / "ours" / "query.json").write_text("{}")
    spoil(folder / "ours" / "query.json", lambda c: c.update(about))
    return folder / "ours"


def predict(folder: Path, about: dict) -> list[object]:
    saved(folder, about)
    (folder / "video").mkdir()
    Image.new("RGB", (32, 24)).save(folder / "video" / "0.png")
    words = {"video": folder / "video", "checkpoint": folder / "ours", "text": "the dog", "out": folder / "out"}
    return ["predict", *(word for name, value in words.items() for word in (f"--{name}", value))]


ROWS = [
    Row(
        "a ReferFormer with a tensor too many",
        lambda f: inspect(f, {"fusion_module.multihead_attn.in_proj_bias": torch.zeros(6), "wheel": torch.zeros(1)}),
        r"x\.pth: tensor wheel has no place in ReferFormer",
    ),
    Row(
        "a SOC with a backbone that nobody released",
        lambda f: inspect(f, {"voc.fq_pos.weight": torch.zeros(2, 3), "backbone.0.body.bn1.bias": torch.zeros(3)}),
        r"x\.pth: a backbone that is none of ResNet-50",
    ),
    Row(
        "a query system of an unknown name",
        lambda f: predict(f, {"system": "MTTR"}),
        r"query\.json: system is 'MTTR', not one of ReferFormer, IFIRVOS, SOC",
    ),
    Row(
        "a query system without its sizes",
        lambda f: predict(f, {"system": "SOC", "sizes": {"dim": 64}}),
        r"query\.json: sizes\.backbone: Field required",
    ),
    Row(
        "a query system of an unknown name, looked into",
        lambda f: ["weights", "inspect", saved(f, {"system": "MTTR"})],
        r"query\.json: system is 'MTTR', not one of ReferFormer, IFIRVOS, SOC",
    ),
    Row(
        "a query system whose name is a list",
        lambda f: predict(f, {"system": []}),
        r"query\.json: system is \[\], not one",
    ),
]
