"""A description is read, never followed; what is built from it is what sam2 builds from its own files."""

from __future__ import annotations

import importlib.resources
import inspect
import re
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from hydra.utils import instantiate

from reviosa_core import config
from reviosa_core.model import sam2, segmenter
from reviosa_core.model.sam2 import Part, Sam2, unallocated
from reviosa_core.schema import DataError

CONFIGS = Path(str(importlib.resources.files("sam2"))) / "configs"
PACKAGED = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.glob("sam2*/sam2*_hiera_*.yaml"))
PACKAGED = [name for name in PACKAGED if "training" not in name]


def packaged(name: str) -> dict[str, Any]:
    return config.read_yaml(CONFIGS / name)["model"]


def plain(**changes: Any) -> dict[str, Any]:
    """The description of the tests' SAM2 as a file has it, with changes by dotted name."""
    found = segmenter.describe(tiny.SIZES.segmenter).model_dump(mode="json")
    for name, value in changes.items():
        *way, last = name.split("__")
        inside = found
        for key in way:
            inside = inside[key]
        inside[last] = value
    return found


# -- the same as sam2's own ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_files_give_sam2s_own_modules(name: str):
    """Names, shapes, and everything the modules print of themselves, against hydra, which may read what sam2 ships."""
    with unallocated():
        ours, theirs = Sam2.read(packaged(name), name).build(), instantiate(packaged(name), _convert_="all")
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert repr(ours) == repr(theirs)
    own = {k: v for k, v in vars(ours).items() if not k.startswith("_") and k != "configuration"}
    assert own == {k: v for k, v in vars(theirs).items() if not k.startswith("_")} and len(own) > 20


@torch.no_grad()
@pytest.mark.parametrize("version", ["sam2/sam2", "sam2.1/sam2.1"])
def test_with_the_same_seed_it_is_the_same_model(version: str):
    """The order in which parts draw their random values; and the same picture gives the same features and masks."""
    small = {"image_size": 128}  # and nothing else: the rest is the packaged file
    raw = packaged(f"{version}_hiera_t.yaml") | small
    torch.manual_seed(5)
    ours = Sam2.read(raw, "t").build().eval()
    after = torch.rand(1)
    torch.manual_seed(5)
    theirs = instantiate(raw, _convert_="all").eval()
    assert torch.equal(after, torch.rand(1))
    assert all(torch.equal(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())
    pixels = torch.randn(1, 3, 128, 128)
    for a, b in zip(
        ours.forward_image(pixels)["backbone_fpn"], theirs.forward_image(pixels)["backbone_fpn"], strict=True
    ):
        assert torch.equal(a, b)
    features = segmenter.Segmenter(ours).see(torch.randint(0, 256, (3, 128, 128, 3), dtype=torch.uint8))
    given = {0: torch.rand(2, 128, 128) > 0.5}
    tracks = [segmenter.Segmenter(sam).track(features, given) for sam in (ours, theirs)]
    assert torch.equal(*tracks) and tracks[0].std() > 0


def test_the_profiles_models_are_what_they_were(root: Path):
    """Committed numbers depend on every random value. A sum: other machines may differ in a last bit."""
    torch.manual_seed(7)
    sam = segmenter.build(config.load(root / "params.yaml").profiles["tiny"].model.segmenter)
    assert len(sam.state_dict()) == 335
    assert sum(float(t.double().abs().sum()) for t in sam.state_dict().values()) == pytest.approx(
        124259.51403472255, rel=1e-9
    )
    assert torch.rand(1).item() == pytest.approx(0.7013733386993408)


def parts(kind: type[Part] = Part) -> list[type[Part]]:
    return [found for child in kind.__subclasses__() for found in (child, *parts(child))]


@pytest.mark.parametrize(
    "kind", [kind for kind in parts() if kind is not sam2.Stability], ids=lambda kind: kind.__name__
)
def test_arguments_and_defaults_are_sam2s(kind: type[Part]):
    theirs = inspect.signature(kind.made_by).parameters
    if kind is sam2.Rope:  # takes the arguments of its base, too
        theirs = {**inspect.signature(kind.made_by.__mro__[1]).parameters, **theirs}
    for name, field in kind.model_fields.items():
        if name == "target":
            assert (
                field.default == f"{kind.made_by.__module__}.{kind.made_by.__qualname__}" and field.alias == "_target_"
            )
        elif field.is_required():
            assert name in theirs
        else:
            assert field.default == theirs[name].default


def test_it_can_be_written_and_read_back():
    described = segmenter.describe(tiny.SIZES.segmenter)
    assert Sam2.read(described.model_dump(mode="json"), "here") == described
    assert described.build().configuration is described


# -- what a file cannot do ---------------------------------------------------------------------------------------------


CALL = "\\${oc.create:{_target_: os.mkdir, path: %s}}"


@pytest.mark.parametrize("escaped", [CALL, CALL[1:], "${oc.env:HOME}", "\\\\" + CALL])
@pytest.mark.parametrize(
    "where",
    ["sam_mask_decoder_extra_args", "memory_encoder__fuser__layer", "image_encoder__trunk__stages", "num_maskmem"],
)
def test_an_interpolation_is_no_program(tmp_path: Path, where: str, escaped: str):
    """Escaped, it was text when it was checked and code when it was built."""
    ran = tmp_path / "ran"
    with pytest.raises(DataError, match=f"^about: {where.replace('__', '.')}: "):
        Sam2.read(plain(**{where: escaped % ran if "%s" in escaped else escaped}), "about")
    assert not ran.exists()


@pytest.mark.parametrize("target", ["os.system", "sam2.modeling.sam2_base.torch.load", ["os.system"], 3, None])
@pytest.mark.parametrize("where", ["_target_", "memory_encoder___target_", "image_encoder__trunk___target_"])
def test_a_part_is_named_not_chosen(where: str, target: object):
    with pytest.raises(DataError, match=r"_target_: Input should be 'sam2\.modeling\."):
        Sam2.read(plain(**{where: target}), "about")


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("image_encoder__trunk__weights_path", "/dev/zero", "weights_path: Extra inputs are not permitted"),
        ("compile_image_encoder", True, "compile_image_encoder: Input should be False"),
        ("_partial_", True, "_partial_: Extra"),
        ("_args_", [1], "_args_: Extra"),
        ("image_encoder__trunk__stages", [10**9, 1, 1, 1], "stages.0: .* less than or equal to 64, got 1000000000"),
        ("image_encoder__trunk__stages", [1, 1, 1], "stages.3: Field required"),
        ("image_encoder__trunk__stages", [64, 64, 64, 64], "have 256 blocks, more than 128"),
        ("image_encoder__trunk__stages", [1] * 5, "stages: .* at most 4"),
        ("image_encoder__trunk__embed_dim", 10**7, "embed_dim: .* less than or equal to 256"),
        ("image_encoder__trunk__embed_dim", -8, "embed_dim: .* greater than or equal to 1"),
        ("image_encoder__trunk__global_att_blocks", [0] * 10**5, "global_att_blocks: .* at most 32 items"),
        ("image_encoder__trunk__global_att_blocks", [5], "global block 5 of 5 blocks"),
        ("image_encoder__trunk__window_spec", [4, 0, 4, 2], "window_spec.1: "),
        ("image_encoder__trunk__window_pos_embed_bkg_spatial_size", [10**5, 7], "spatial_size.0: "),
        ("image_encoder__neck__backbone_channel_list", [64, 32, 16, 9], r"\(64, 32, 16, 9\), the trunk's \(64, 32"),
        ("image_encoder__neck__fpn_top_down_levels", [7] * 10**6, "fpn_top_down_levels"),
        ("memory_attention__layer__self_attention__feat_sizes", [10**6, 10**6], "feat_sizes.0: "),
        ("memory_attention__num_layers", 10**6, "num_layers: "),
        ("memory_attention__layer__activation", "__import__", "activation: Input should be 'relu'"),
        ("memory_attention__layer__cross_attention__kv_in_dim", 17, r"kv_in_dim is 17, memory_encoder\.out_dim 16"),
        ("memory_attention__layer__dropout", float("nan"), "dropout: Input should be a finite number"),
        ("memory_encoder__fuser__num_layers", 10**6, "num_layers: "),
        ("memory_encoder__mask_downsampler__total_stride", 1, "total_stride: Extra"),
        ("image_size", 10**6, "image_size: .* 2048"),
        ("image_size", [64], "image_size: .* integer"),
        ("num_maskmem", 10**12, "num_maskmem: "),
        ("num_maskmem", "9" * 10**6, "num_maskmem: .{1,200}$"),
        ("sam_mask_decoder_extra_args__transformer", 1, "transformer: Extra"),
        ("sam_mask_decoder_extra_args", {"k" * 10**6: 1}, "^about: .{1,300}$"),
        ("pred_obj_scores", False, "fixed_no_obj_ptr needs pred_obj_scores"),
        ("add_tpos_enc_to_obj_ptrs", False, "proj_tpos_enc_in_obj_ptrs needs add_tpos"),
    ],
)
def test_what_is_out_of_bounds_is_named_at_once(where: str, value: object, message: str):
    start = time.process_time()
    with pytest.raises(DataError, match=message):
        Sam2.read(plain(**{where: value}), "about")
    assert time.process_time() - start < 1


def test_the_largest_that_is_allowed_is_soon_described():
    """Bounds keep names and shapes cheap; memory is only taken once these are those of a file."""
    raw = plain(image_encoder__trunk__stages=[32] * 4, image_encoder__trunk__embed_dim=256)
    raw["image_encoder"]["neck"]["backbone_channel_list"] = [256 * 2**i for i in (3, 2, 1, 0)]
    start = time.process_time()
    assert len(Sam2.read(raw, "large").shapes()) > 1500
    assert time.process_time() - start < 20


def test_unallocated_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch):
    """sam2 moves its rotary angles to a GPU while it is built: they have no values there."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with unallocated():
        rope = segmenter.describe(tiny.SIZES.segmenter).memory_attention.layer.self_attention.build()
    assert rope.freqs_cis.is_meta


def test_nothing_here_interprets(root: Path):
    """The two libraries whose business it is to run what a file says."""
    for path in (root / "reviosa_core").rglob("*.py"):
        words = [line.split()[1] for line in map(str.strip, path.read_text().splitlines()) if IMPORT.match(line)]
        assert not {"hydra", "omegaconf"} & {word.split(".")[0] for word in words}, path


IMPORT = re.compile(r"(import|from) \w")
