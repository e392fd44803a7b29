"""Conversions lose nothing, read no more than they must, and never leave half a folder."""

from __future__ import annotations

import json
import math
import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import made
import pytest
import tiny
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from transformers import InternVLForConditionalGeneration

from reviosa_core.intershapes import scenes, splits
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.outputs import MANIFEST
from reviosa_core.schema import DataError, Role
from reviosa_core.weights import checkpoint, files, folders
from reviosa_core.weights.convert import convert


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_internvl(tmp_path / "released")


def same(a: nn.Module, b: nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def ours(roles: tuple[Role, ...] = tuple(Role)) -> ReVIOSa:
    """A small model whose LoRA, tuned decoder and projector are all away from where they start."""
    torch.manual_seed(1)
    model = ReVIOSa(tiny.reader(lora=True), tiny.seeing(), roles, frames=3, aml=(1, (3, 0)))
    for parameter in model.segmenter.decoder.transformer.parameters():
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, ReVIOSa]:
    model = ours()
    folders.save(model, tmp_path / "ours", {"license": "apache-2.0", "run_id": "r1"})
    return tmp_path / "ours", model


# -- to transformers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shard_bytes", [files.SHARD_BYTES, 20_000])
def test_a_released_internvl_becomes_transformers_own(folder: Path, tmp_path: Path, monkeypatch, shard_bytes: int):
    monkeypatch.setattr("reviosa_core.weights.convert.SHARD_BYTES", shard_bytes)
    native = tmp_path / "native"
    convert(folder, native, "native")
    want, tokenizer, _ = checkpoint.load_internvl(folder)
    theirs = InternVLForConditionalGeneration.from_pretrained(native, local_files_only=True)
    assert same(theirs, want) and theirs.lm_head.weight is not theirs.get_input_embeddings().weight
    again, words, _ = checkpoint.load_internvl(native)
    assert same(again, want) and words.get_vocab() == tokenizer.get_vocab()
    for part, name in (("text_config", "rope_parameters"), ("vision_config", "attention_bias")):
        assert getattr(getattr(again.config, part), name) == getattr(getattr(want.config, part), name)
    files = sorted(native.glob("*.safetensors"))
    assert len(files) > 3 if shard_bytes == 20_000 else [file.name for file in files] == ["model.safetensors"]
    largest = max(t.numel() * 4 for t in want.state_dict().values())
    assert all(file.stat().st_size < max(shard_bytes, largest) + 8_000 for file in files)
    assert not list(tmp_path.glob(".*.reviosa-partial"))


# -- released ReVIOSa to ours ------------------------------------------------------------------------------------------


def test_a_released_reviosa_becomes_ours(folder: Path, tmp_path: Path):
    made.add_reviosa(folder, "phi3_chat")
    convert(folder, tmp_path / "native", "native", configuration=made.SAM2)
    model = folders.read(tmp_path / "native")
    assert same(model, checkpoint.load_reviosa(folder, configuration=made.SAM2))
    assert (model.roles, model.mllm.template.name, model.prompted) == (tuple(Role), "phi3_chat", "all")
    original = tiny.seeing().sam
    original.image_encoder.load_state_dict(model.segmenter.sam.image_encoder.state_dict())
    torch.save({"model": original.state_dict()}, tmp_path / "sam2.pt")
    convert(folder, tmp_path / "native", "native", sam2=tmp_path / "sam2.pt", configuration=made.SAM2)
    both = folders.read(tmp_path / "native")
    assert same(both.segmenter.decoder, model.segmenter.decoder) and same(both.segmenter.sam, original)


# -- ours to released --------------------------------------------------------------------------------------------------


def test_ours_merged_and_released_are_one_model(saved, tmp_path: Path):
    folder, model = saved
    torch.save({"model": model.segmenter.sam.state_dict()}, tmp_path / "sam2.pt")
    clip = splits.to_clip(scenes.make_scene(tiny.data(64, 5), (0, 0, 1)), "one")
    before = model.mllm.internvl(input_ids=torch.arange(9)[None]).logits
    convert(folder, tmp_path / "merged", "native")
    convert(folder, tmp_path / "hf", "reviosa-hf")
    assert same(folders.read(tmp_path / "merged"), model.merge_lora())
    assert not any("lora" in name for name in model.state_dict())
    after = model.mllm.internvl(input_ids=torch.arange(9)[None]).logits
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-4)

    assert checkpoint.identify(tmp_path / "hf") == "reviosa, as released"
    again = checkpoint.load_reviosa(tmp_path / "hf", tmp_path / "sam2.pt", made.SAM2, frames=3)
    assert same(again, model) and again.mllm.role_ids == model.mllm.role_ids
    assert again.mllm.encode("Please segment it .") == model.mllm.encode("Please segment it .")
    asked = clip.expressions[:3]
    for a, b in zip(again.segment(clip, asked), model.segment(clip, asked), strict=True):
        assert a.answer == b.answer and all((a.masks[role] == b.masks[role]).all() for role in Role)


def test_the_released_layout_is_as_described(saved, tmp_path: Path):
    folder, model = saved
    convert(folder, tmp_path / "hf", "reviosa-hf")
    tensors = load_file(tmp_path / "hf" / "model.safetensors")
    merged = model.merge_lora().state_dict()
    d, tower = 24, "mllm.internvl.model.vision_tower.encoder.layer.1.attention"
    qkv = tensors["vision_model.encoder.layers.1.attn.qkv.weight"]
    assert qkv.shape == (3 * d, d)
    for i, part in enumerate("qkv"):
        assert torch.equal(qkv[i * d : (i + 1) * d], merged[f"{tower}.{part}_proj.weight"])
    query = "transformer.layers.0.self_attn.q_proj.weight"
    theirs = tensors[f"grounding_encoder.sam2_model.sam_mask_decoder.{query}"]
    assert torch.equal(theirs, merged[f"segmenter.decoder.{query}"])
    assert not torch.equal(theirs, merged[f"segmenter.sam.sam_mask_decoder.{query}"])
    assert {"text_hidden_fcs.0.weight", "text_hidden_fcs.2.bias", "language_model.lm_head.weight"} < tensors.keys()
    assert "grounding_encoder.sam2_model.memory_encoder.fuser.layers.1.g_weight" in tensors
    assert not any(".gamma" in name or "lora" in name for name in tensors)
    decoders = sum(name.startswith("segmenter.decoder.") for name in merged)
    split = 2 * sum(name.startswith("vision_model.") and ".attn.qkv." in name for name in tensors)
    assert len(tensors) + decoders + split == len(merged)
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (config["template"], config["llm_config"]["vocab_size"]) == ("qwen_chat", len(model.mllm.tokenizer))
    added = {
        t["content"]: t["id"] for t in json.loads((tmp_path / "hf" / "tokenizer.json").read_text())["added_tokens"]
    }
    assert (added["[SEG]"], added["[SEG_OBJ]"]) == tuple(model.mllm.role_ids.values())
    with safe_open(tmp_path / "hf" / "model.safetensors", "pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert "license: apache-2.0" in (tmp_path / "hf" / "README.md").read_text()


def test_a_baseline_is_released_with_one_token(tmp_path: Path):
    folders.save(ours((Role.ACTOR,)), tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "hf", "reviosa-hf")
    assert checkpoint.load_reviosa(tmp_path / "hf", configuration=made.SAM2).roles == (Role.ACTOR,)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tensor", "message"),
    [
        ("mlp1.4.weight", torch.zeros(3), r"tensor mlp1\.4\.weight has no place"),
        ("mlp1.3.bias", None, r"1 of \d+ tensors missing"),
        ("mlp1.3.bias", torch.zeros(3), r"mlp1\.3\.bias is \(3,\), .* is \(40,\)"),
    ],
)
def test_every_tensor_is_accounted_for_before_anything_is_written(folder: Path, tmp_path: Path, name, tensor, message):
    made.rewrite(folder, **{name: tensor})
    with pytest.raises(DataError, match=message):
        convert(folder, tmp_path / "native", "native")
    assert [path.name for path in tmp_path.iterdir()] == ["released"]


def test_our_own_tensors_are_accounted_for_too(saved, tmp_path: Path):
    folder, _ = saved
    made.rewrite(folder, **{"segmenter.sam.extra": torch.zeros(3)})
    for to in ("native", "reviosa-hf"):
        with pytest.raises(DataError, match=r"tensor segmenter\.sam\.extra has no place"):
            convert(folder, tmp_path / "out", to)
    assert not (tmp_path / "out").exists()


def test_what_goes_nowhere(folder: Path, saved, tmp_path: Path):
    own, model = saved
    for source, to, message in [(folder, "reviosa-hf", "internvl, as released, cannot be written as reviosa-hf")]:
        with pytest.raises(DataError, match=message):
            convert(source, tmp_path / "out", to)
    with pytest.raises(DataError, match="has no place for another SAM2"):
        convert(folder, tmp_path / "out", "native", sam2=folder)
    folders.save(model, tmp_path / "part", trained_only=True)
    with pytest.raises(DataError, match="holds what was trained only"):
        convert(tmp_path / "part", tmp_path / "out", "reviosa-hf")
    folders.save(model.merge_lora(), tmp_path / "merged")
    with pytest.raises(DataError, match="is native already"):
        convert(tmp_path / "merged", tmp_path / "out", "native")
    about = json.loads((own / "reviosa.json").read_text())
    (own / "reviosa.json").write_text(json.dumps(about | {"template": "tiny_chat"}))
    with pytest.raises(DataError, match="its chat, tiny_chat, is none"):
        convert(own, tmp_path / "out", "reviosa-hf")
    assert not (tmp_path / "out").exists()


def test_only_what_a_conversion_made_is_replaced(folder: Path, tmp_path: Path, monkeypatch):
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    with pytest.raises(DataError, match="mine: exists, and is not an earlier conversion"):
        convert(folder, mine, "native")
    assert (mine / "thesis.txt").read_text() == "years"
    with pytest.raises(DataError, match="released: is the source itself"):
        convert(folder, folder, "native")
    convert(folder, out, "native")
    before = (out / MANIFEST).read_bytes()
    convert(folder, out, "native")
    assert (out / MANIFEST).read_bytes() == before
    (out / "mine.txt").write_text("years")
    with pytest.raises(DataError, match="mine.txt: does not come with the conversion"):
        convert(folder, out, "native")
    (out / "mine.txt").unlink()

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("reviosa_core.weights.files.save_file", stopped)
    with pytest.raises(KeyboardInterrupt):
        convert(folder, out, "native")
    assert (out / MANIFEST).read_bytes() == before and (out / "model.safetensors").is_file(), "the earlier one is whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine", "out", "released"]


# -- memory ------------------------------------------------------------------------------------------------------------

MEASURED = """
import re, sys
from pathlib import Path
from reviosa_core.weights.convert import convert
convert(sys.argv[1], sys.argv[2], "native")
# Not getrusage: its peak starts with that of the process that started this one.
print(1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]))
"""

LAYERS = "language_model.model.layers"


def hollow(file: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Tensors of zeros in bfloat16, of which only the header takes room on the disk."""
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (end, end := end + 2 * math.prod(shape))}
    about = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(about)) + about)
    os.truncate(file, file.stat().st_size + end)


@pytest.mark.slow
def test_peak_memory_is_a_shard_and_at_most_a_gigabyte(folder: Path, tmp_path: Path):
    """Six shards of 0.25 GB: all at once would be more than is allowed."""
    layers, width = 24, 1 << 18  # the feed-forward parts are large, all else stays small
    shapes = {name: tuple(t.shape) for name, t in load_file(folder / "model.safetensors").items()}
    layer = re.compile(rf"{LAYERS}\.\d+\.")
    shards = [{name: shape for name, shape in shapes.items() if not layer.match(name)}, *({} for _ in range(6))]
    own = {layer.sub("", name): shape for name, shape in shapes.items() if name.startswith(f"{LAYERS}.0.")}
    own |= {"mlp.gate_proj.weight": (width, 40), "mlp.up_proj.weight": (width, 40), "mlp.down_proj.weight": (40, width)}
    for i in range(layers):
        shards[1 + i % 6] |= {f"{LAYERS}.{i}.{name}": shape for name, shape in own.items()}
    (folder / "model.safetensors").unlink()
    for i, shard in enumerate(shards):
        hollow(folder / f"model-{i}.safetensors", shard)
    where = {name: f"model-{i}.safetensors" for i, shard in enumerate(shards) for name in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    llm = {**made.CONFIG["llm_config"], "num_hidden_layers": layers, "intermediate_size": width}
    (folder / "config.json").write_text(json.dumps({**made.CONFIG, "llm_config": llm}))
    sizes = [file.stat().st_size for file in folder.glob("*.safetensors")]
    command = [sys.executable, "-c", MEASURED, str(folder), str(tmp_path / "native")]
    peak = int(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()[-1])
    print(f"{sum(sizes):,} bytes, largest shard {max(sizes):,}, peak {peak:,}")
    assert sum(sizes) > max(sizes) + 2**30, "else this could not fail"
    assert peak <= max(sizes) + 2**30
