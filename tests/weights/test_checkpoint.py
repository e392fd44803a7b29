"""Released InternVL folders, made here by their description, read as an independent plain forward reads them."""

from __future__ import annotations

import copy
import importlib.resources
import json
import math
from pathlib import Path

import made
import pytest
import tiny
import torch
from made import (
    BYTES,
    CONFIG,
    CONTEXT,
    DT,
    DV,
    HT,
    HV,
    IMAGE,
    KV,
    LT,
    LV,
    PATCH,
    SAM2,
    SPECIALS,
    VOCABULARY,
    released_tensors,
    rewrite,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F

from reviosa_core import config
from reviosa_core.intershapes import scenes, splits
from reviosa_core.model import mllm, segmenter
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.model.sam2 import unallocated
from reviosa_core.schema import DataError, Role
from reviosa_core.training import finetune
from reviosa_core.weights import checkpoint, files, folders, layouts
from reviosa_core.weights.design import design_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return made.write_internvl(tmp_path / "released")


# -- a plain forward, written from the description -------------------------------------------------------------------


def plain_see(t: dict[str, Tensor], pixels: Tensor) -> Tensor:
    """Visual tokens [n, tokens, d] of pixels [n 3 s s]."""
    x = F.conv2d(pixels, t["vision_model.embeddings.patch_embedding.weight"], stride=PATCH)
    x = (x + t["vision_model.embeddings.patch_embedding.bias"][None, :, None, None]).flatten(2).transpose(1, 2)
    x = torch.cat([t["vision_model.embeddings.class_embedding"].expand(len(x), 1, DV), x], 1)
    x = x + t["vision_model.embeddings.position_embedding"]
    for i in range(LV):
        own = {k.removeprefix(f"vision_model.encoder.layers.{i}."): v for k, v in t.items()}
        y = F.layer_norm(x, (DV,), own["norm1.weight"], own["norm1.bias"], 1e-6)
        qkv = y @ own["attn.qkv.weight"].T + own["attn.qkv.bias"]
        q, k, v = (part.unflatten(-1, (HV, -1)).transpose(1, 2) for part in qkv.split(DV, -1))
        y = (q @ k.transpose(-1, -2) / math.sqrt(DV // HV)).softmax(-1) @ v
        y = y.transpose(1, 2).flatten(2) @ own["attn.proj.weight"].T + own["attn.proj.bias"]
        x = x + own["ls1"] * y
        y = F.layer_norm(x, (DV,), own["norm2.weight"], own["norm2.bias"], 1e-6)
        y = F.gelu(y @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"]) @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
        x = x + own["ls2"] * y
    side = IMAGE // PATCH
    grid = x[:, 1:].unflatten(1, (side, side))
    # Pixel shuffle v2: a token is its 2 x 2 patches, row by row.
    corners = [grid[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    x = torch.cat(corners, -1).flatten(1, 2)
    x = F.layer_norm(x, (4 * DV,), t["mlp1.0.weight"], t["mlp1.0.bias"])
    x = F.gelu(x @ t["mlp1.1.weight"].T + t["mlp1.1.bias"])
    return x @ t["mlp1.3.weight"].T + t["mlp1.3.bias"]


def plain_read(t: dict[str, Tensor], x: Tensor, theta: float = 1e6) -> Tensor:
    """Qwen2: logits [n v] for embeddings [n d]."""
    n, head = len(x), DT // HT
    angle = torch.arange(n)[:, None] * theta ** (-torch.arange(0, head, 2) / head)
    cos, sin = angle.cos().repeat(1, 2)[None], angle.sin().repeat(1, 2)[None]

    def norm(y: Tensor, weight: Tensor) -> Tensor:
        return weight * y * (y.square().mean(-1, keepdim=True) + 1e-6).rsqrt()

    def turn(y: Tensor) -> Tensor:
        first, second = y.chunk(2, -1)
        return y * cos + torch.cat([-second, first], -1) * sin

    for i in range(LT):
        own = {k.removeprefix(f"language_model.model.layers.{i}."): v for k, v in t.items()}
        y = norm(x, own["input_layernorm.weight"])
        q, k, v = (
            (y @ own[f"self_attn.{p}_proj.weight"].T + own[f"self_attn.{p}_proj.bias"]).unflatten(-1, (-1, head))
            for p in "qkv"
        )
        q, k, v = (part.transpose(0, 1) for part in (q, k, v))
        scores = turn(q) @ turn(k).repeat_interleave(HT // KV, 0).transpose(-1, -2) / math.sqrt(head)
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -torch.inf)
        y = (scores.softmax(-1) @ v.repeat_interleave(HT // KV, 0)).transpose(0, 1).flatten(1)
        x = x + y @ own["self_attn.o_proj.weight"].T
        y = norm(x, own["post_attention_layernorm.weight"])
        y = F.silu(y @ own["mlp.gate_proj.weight"].T) * (y @ own["mlp.up_proj.weight"].T)
        x = x + y @ own["mlp.down_proj.weight"].T
    return norm(x, t["language_model.model.norm.weight"]) @ t["language_model.lm_head.weight"].T


def outputs(model, pixels: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    seen = model.model.get_image_features(pixels).pooler_output
    embedded = model.get_input_embeddings()(ids)
    hidden = model.model.language_model(inputs_embeds=embedded[None]).last_hidden_state[0]
    return seen, model.lm_head(hidden)


@torch.no_grad()
def test_a_released_folder_reads_as_the_plain_forward(folder: Path):
    model, tokenizer, template = checkpoint.load_internvl(folder)
    tensors, pixels, ids = released_tensors(), torch.randn(2, 3, IMAGE, IMAGE), torch.tensor([3, 1, 4, 1, 0, 2, 4])
    seen, logits = outputs(model, pixels, ids)
    torch.testing.assert_close(seen, plain_see(tensors, pixels), atol=2e-5, rtol=1e-5)
    embedded = tensors["language_model.model.embed_tokens.weight"][ids]
    torch.testing.assert_close(logits, plain_read(tensors, embedded), atol=2e-5, rtol=1e-5)
    assert template == "qwen_chat" and tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>") == CONTEXT
    assert model.config.image_token_id == CONTEXT and not any(p.is_meta for p in model.parameters())
    assert not any(b.is_meta for b in model.buffers())
    assert model.lm_head.weight.data_ptr() != model.get_input_embeddings().weight.data_ptr()


@torch.no_grad()
def test_positions_that_stretch_are_read_as_they_are_written(folder: Path):
    """As in InternVL2.5's own files: up to the longest text that was trained they change nothing."""
    model, *_ = checkpoint.load_internvl(folder)
    scaling = {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}
    text = {**CONFIG["llm_config"], "rope_scaling": scaling, "hidden_act": "silu"}
    (folder / "config.json").write_text(json.dumps({**CONFIG, "llm_config": text}))
    longer, *_ = checkpoint.load_internvl(folder)
    rope = longer.config.text_config.rope_parameters
    assert (rope["rope_type"], rope["factor"]) == ("dynamic", 2.0)
    for count, same in ((64, True), (80, False)):  # 64 were trained
        pixels, ids = torch.randn(1, 3, IMAGE, IMAGE), torch.arange(count) % 5
        (_, one), (_, other) = (outputs(m, pixels, ids) for m in (model, longer))
        assert torch.equal(one, other) is same
    written = layouts.released_config(longer.config, "qwen_chat", "labelled")["llm_config"]
    assert layouts.internvl_design({**CONFIG, "llm_config": written}).text_config.rope_parameters.factor == 2.0


@torch.no_grad()
def test_the_comparison_sees_each_single_mistake():
    """What would pass unseen if the plain forward or the sizes were too tame."""
    tensors, pixels, ids = released_tensors(), torch.randn(2, 3, IMAGE, IMAGE), torch.tensor([3, 1, 4, 1, 0, 2, 4])
    embedded = tensors["language_model.model.embed_tokens.weight"][ids]
    right = plain_see(tensors, pixels), plain_read(tensors, embedded)
    layer = "vision_model.encoder.layers.1."
    qkv = tensors[layer + "attn.qkv.weight"]
    for changed in (
        {layer + "attn.qkv.weight": torch.cat([qkv[DV : 2 * DV], qkv[:DV], qkv[2 * DV :]])},
        {layer + "attn.qkv.bias": torch.zeros(3 * DV)},
        {layer + "ls1": tensors[layer + "ls2"]},
        {"vision_model.embeddings.position_embedding": torch.zeros(1, 37, DV)},
    ):
        assert (plain_see({**tensors, **changed}, pixels) - right[0]).abs().max() > 1e-3, changed.keys()
    assert (plain_read(tensors, embedded, theta=1e4) - right[1]).abs().max() > 1e-3
    bias = {"language_model.model.layers.0.self_attn.k_proj.bias": torch.zeros(KV * DT // HT)}
    assert (plain_read({**tensors, **bias}, embedded) - right[1]).abs().max() > 1e-3
    head = {"language_model.lm_head.weight": tensors["language_model.model.embed_tokens.weight"]}
    assert (plain_read({**tensors, **head}, embedded) - right[1]).abs().max() > 1e-3


@torch.no_grad()
def test_frames_of_another_size_see_interpolated_position_embeddings(folder: Path):
    """Bicubic over the grid of patches, the class token's own apart: as the released tower does."""
    model, *_ = checkpoint.load_internvl(folder)
    tensors, name = released_tensors(), "vision_model.embeddings.position_embedding"
    grid = tensors[name][:, 1:].reshape(1, 6, 6, DV).permute(0, 3, 1, 2)
    wider = F.interpolate(grid, size=(8, 8), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
    embeddings = model.model.vision_tower.embeddings
    pixels = torch.randn(2, 3, 32, 32)
    found = embeddings(pixels)
    weight, bias = (tensors[f"vision_model.embeddings.patch_embedding.{kind}"] for kind in ("weight", "bias"))
    patches = F.conv2d(pixels, weight, bias, stride=PATCH).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found[:, 1:], patches + wider, atol=1e-5, rtol=1e-4)
    first = tensors["vision_model.embeddings.class_embedding"] + tensors[name][:, :1]
    torch.testing.assert_close(found[:, :1], first.expand(2, 1, DV), atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_role_tokens_leave_a_loaded_head_as_it_was(folder: Path):
    """transformers ties head and embeddings when it resizes, unless told not to at every level of the configuration."""
    model, tokenizer, _ = checkpoint.load_internvl(folder)
    head, embeddings = model.lm_head.weight.clone(), model.get_input_embeddings().weight.clone()
    mllm.add_role_tokens(model, tokenizer)
    old = len(tokenizer) - len(Role)
    assert torch.equal(model.lm_head.weight[:old], head[:old])
    assert torch.equal(model.get_input_embeddings().weight[:old], embeddings[:old])
    assert not torch.equal(model.lm_head.weight, model.get_input_embeddings().weight)


@torch.no_grad()
def test_released_sharded_and_native_are_one_model(folder: Path, tmp_path: Path):
    model, tokenizer, _ = checkpoint.load_internvl(folder)
    tensors = load_file(folder / "model.safetensors")
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({n: tensors[n] for n in own}, folder / file)
    (folder / "model.safetensors").unlink()
    where = {n: file for file, own in parts.items() for n in own}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    sharded, *_ = checkpoint.load_internvl(folder)
    model.save_pretrained(tmp_path / "native")
    tokenizer.save_pretrained(tmp_path / "native")
    assert checkpoint.identify(tmp_path / "native") == "internvl, transformers"
    native, *_ = checkpoint.load_internvl(tmp_path / "native")
    for other in (sharded, native):
        assert other.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(v, model.state_dict()[k]) for k, v in other.state_dict().items())
        pixels, ids = torch.ones(1, 3, IMAGE, IMAGE), torch.tensor([1, 2, 3])
        for a, b in zip(outputs(other, pixels, ids), outputs(model, pixels, ids), strict=True):
            assert torch.equal(a, b)
    half, *_ = checkpoint.load_internvl(tmp_path / "native", dtype=torch.bfloat16)
    assert {p.dtype for p in half.parameters()} == {torch.bfloat16}


def test_every_tensor_is_accounted_for(folder: Path):
    rewrite(folder, **{"mlp1.4.weight": torch.zeros(3)})
    with pytest.raises(DataError, match=r"tensor mlp1\.4\.weight has no place"):
        checkpoint.load_internvl(folder)
    rewrite(folder, **{"mlp1.4.weight": None, "mlp1.3.bias": None})
    with pytest.raises(DataError, match=r"1 of \d+ tensors missing, first model\.multi_modal.*linear_2\.bias"):
        checkpoint.load_internvl(folder)
    rewrite(folder, **{"mlp1.3.bias": torch.zeros(DT + 1)})
    with pytest.raises(DataError, match=r"mlp1\.3\.bias is \(41,\), .*linear_2\.bias of the model is \(40,\)"):
        checkpoint.load_internvl(folder)


def test_two_names_for_one_tensor(folder: Path, tmp_path: Path):
    """transformers reads the names of its modules as well as those of its files; a folder with both is ambiguous."""
    model, tokenizer, _ = checkpoint.load_internvl(folder)
    model.save_pretrained(tmp_path / "native")
    tokenizer.save_pretrained(tmp_path / "native")
    rewrite(tmp_path / "native", **{"model.vision_tower.embeddings.cls_token": torch.ones(1, 1, DV)})
    with pytest.raises(DataError, match=r"vision_tower\.embeddings\.cls_token and .*cls_token are both model\.vision"):
        checkpoint.load_internvl(tmp_path / "native")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ps_version": "v1"}, "ps_version is 'v1'; only 'v2'"),
        ({"select_layer": -4}, "select_layer is -4"),
        ({"template": "other"}, "template 'other'"),
        ({"llm_config": {**CONFIG["llm_config"], "architectures": ["InternLM2ForCausalLM"]}}, "InternLM2ForCausalLM"),
        ({"llm_config": {k: v for k, v in CONFIG["llm_config"].items() if k != "rope_theta"}}, "no key 'rope_theta'"),
        ({"vision_config": {**CONFIG["vision_config"], "qkv_bias": False}}, r"attn\.qkv\.bias has no place"),
        ({"llm_config": {**CONFIG["llm_config"], "rope_scaling": {"type": "yarn", "factor": 4.0}}}, "rope_type"),
        (
            {"llm_config": {**CONFIG["llm_config"], "use_sliding_window": True}},
            "use_sliding_window is True; only False",
        ),
        ({"llm_config": {**CONFIG["llm_config"], "hidden_act": "gelu"}}, "hidden_act is 'gelu'; only 'silu'"),
    ],
)
def test_what_cannot_be_loaded_is_said(folder: Path, change: dict, message: str):
    (folder / "config.json").write_text(json.dumps({**CONFIG, **change}))
    with pytest.raises(DataError, match=message):
        checkpoint.load_internvl(folder)


def test_broken_folders(folder: Path, tmp_path: Path):
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        checkpoint.identify(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"no model\.safetensors and no"):
        checkpoint.identify(tmp_path)
    index = folder / "model.safetensors.index.json"
    for weight_map, message in [
        ({"mlp1.0.bias": "model-7.safetensors"}, r"1 of 1 shards missing, first model-7\.safetensors"),
        ({"mlp1.0.bias": "../model.safetensors"}, "not a plain file name"),
        (
            {"mlp1.9.bias": "model.safetensors"},
            r"1 tensors of the index are not in it, first mlp1\.9",
        ),
    ]:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(DataError, match=message):
            checkpoint.identify(folder)
    index.unlink()
    (folder / "merges.txt").unlink()
    with pytest.raises(DataError, match=r"no tokenizer\.json, and no merges\.txt"):
        checkpoint.load_internvl(folder)
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"released/model\.safetensors: "):
        checkpoint.identify(folder)


def test_the_wrong_file_is_named(folder: Path, tmp_path: Path):
    """A file of one kind in the place of another, and a tokenizer of another model."""
    torch.save({"model": {"image_encoder.trunk.x": torch.zeros(1)}}, tmp_path / "sam2.pt")
    for load, path, message in [
        (checkpoint.load_internvl, tmp_path / "sam2.pt", "sam2, not InternVL"),
        (checkpoint.load_reviosa, folder, "internvl, as released, not a released ReVIOSa or Sa2VA"),
        (checkpoint.load_sam2, folder, "no packaged SAM2 has width None, 0 blocks"),
    ]:
        with pytest.raises(DataError, match=f"{path}: {message}"):
            load(path)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    added = about["added_tokens_decoder"]
    other = {"<IMG_CONTEXT>": "<ELSE>"}  # the ids of the others stay
    about["added_tokens_decoder"] = {
        i: t | {"content": other.get(t["content"], t["content"])} for i, t in added.items()
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="released: the tokenizer has no token '<IMG_CONTEXT>'"):
        checkpoint.load_internvl(folder)
    more = {str(len(BYTES) + len(SPECIALS) + i): {"content": f"<{i}>", "special": True} for i in range(20)}
    about["added_tokens_decoder"] = added | more
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"the tokenizer has 284 tokens, the embeddings 271"):
        checkpoint.load_internvl(folder)


def test_describe_counts_without_reading(folder: Path, tmp_path: Path):
    found = checkpoint.describe(folder)
    tensors = released_tensors()
    assert (found["kind"], found["template"], found["dtypes"]) == ("internvl, as released", "qwen_chat", ["float32"])
    assert found["parameters"] == sum(t.numel() for t in tensors.values()) and found["tensors"] == len(tensors)
    by_part = {row["part"]: row["parameters"] for row in found["parts"]}
    assert by_part["token embeddings and head"] == 2 * VOCABULARY * DT
    assert by_part["visual projector"] == sum(t.numel() for n, t in tensors.items() if n.startswith("mlp1."))
    model, tokenizer, _ = checkpoint.load_internvl(folder)
    model.save_pretrained(tmp_path / "native")
    native = {row["part"]: row["parameters"] for row in checkpoint.describe(tmp_path / "native")["parts"]}
    assert native == by_part


# -- SAM2 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2.0", "2.1"])
@pytest.mark.parametrize(("size", "count"), [("t", 468), ("s", 516), ("b+", 612), ("l", 900)])
def test_sam2s_size_and_version_are_told_by_its_tensors(version: str, size: str, count: int):
    name = "sam2.1" if version == "2.1" else "sam2"
    path = Path(str(importlib.resources.files("sam2"))) / "configs" / name / f"{name}_hiera_{size}.yaml"
    packaged = checkpoint.read_sam2_yaml(path)
    with unallocated():
        state = packaged.build().state_dict()
    assert len(state) == count + (3 if version == "2.1" else 0)
    assert checkpoint.sam2_config(files.of(state, Path("sam2.pt"))) == packaged


def test_sam2_round_trip_with_a_given_configuration(tmp_path: Path):
    """At the tests' own size, in Meta's layout; the configuration is not packaged."""
    sam = segmenter.build(tiny.SIZES.segmenter)
    path = tmp_path / "sam2.pt"
    torch.save({"model": sam.state_dict()}, path)
    assert checkpoint.identify(path) == "sam2"
    found = checkpoint.describe(path)
    assert found["version"] == "2.1" and found["parameters"] == sum(t.numel() for t in sam.state_dict().values())
    assert {row["part"] for row in found["parts"]} == {
        "SAM2 image encoder", "SAM2 mask decoder", "SAM2 memory and prompts"
    }  # fmt: skip
    with pytest.raises(DataError, match=r"no packaged SAM2 has width 8, 5 blocks"):
        checkpoint.load_sam2(path)
    loaded = checkpoint.load_sam2(path, SAM2)
    assert all(torch.equal(v, loaded.state_dict()[k]) for k, v in sam.state_dict().items())
    state = dict(sam.state_dict())
    state["extra"] = state.pop("no_mem_embed")
    torch.save({"model": state}, path)
    with pytest.raises(DataError, match=r"sam2\.pt: tensor extra has no place in the model"):
        checkpoint.load_sam2(path, SAM2)
    torch.save({"model": {k: v for k, v in state.items() if k != "extra"}}, path)
    with pytest.raises(DataError, match=r"1 of \d+ tensors missing, first no_mem_embed"):
        checkpoint.load_sam2(path, SAM2)


def test_a_yaml_of_ones_own_is_read_strictly(tmp_path: Path):
    """As JSON, which is YAML, and with what only YAML has."""
    path, plain = tmp_path / "own.yaml", SAM2.model_dump(mode="json")
    path.write_text(json.dumps({"model": plain, "scratch": {"resolution": 64}}))
    assert checkpoint.read_sam2_yaml(path) == SAM2
    for change, message in [
        ({"num_maskmem": "${scratch.resolution}"}, r"own\.yaml: num_maskmem: .*got '\$\{scratch\.resolution\}'"),
        ({"memory_encoder": {"_target_": "os.mkdir", "path": "x"}}, r"own\.yaml: memory_encoder\._target_: "),
        ({"backbone_stride": 16}, r"own\.yaml: backbone_stride: Extra"),
    ]:
        path.write_text(json.dumps({"model": plain | change}))
        with pytest.raises(DataError, match=message):
            checkpoint.read_sam2_yaml(path)
    bomb = "a0: &a0 [1]\n" + "".join(f"a{i + 1}: &a{i + 1} [*a{i}, *a{i}, *a{i}, *a{i}]\n" for i in range(40))
    for text, message in [
        ("model: !!python/object/apply:os.mkdir [x]", ", line 1: could not determine a constructor"),
        ("model: {", ", line 1: expected the node content"),
        ("[" * 20000, ": maximum recursion depth"),
        (f"{bomb}model: {{num_maskmem: *a40}}", r": \d+ values with every alias written out"),
        ("x" * 70000, ": 70,000 bytes, more than the 65,536"),
        ("3", ": no 'model'"),
    ]:
        path.write_text(text)
        with pytest.raises(DataError, match=rf"own\.yaml{message}"):
            checkpoint.read_sam2_yaml(path)
    with pytest.raises(DataError, match=r"none\.yaml: no such file"):
        checkpoint.read_sam2_yaml(tmp_path / "none.yaml")


def test_an_earlier_reviosa_json_is_the_same_model(tmp_path: Path):
    """It had all of transformers' configuration, and of SAM2's what the profile said."""
    model = ReVIOSa(tiny.reader(lora=True), tiny.seeing(), tuple(Role), frames=2)
    folders.save(model, tmp_path)
    about = json.loads((tmp_path / "reviosa.json").read_text())
    for key in ("rope_k_repeat", "kv_in_dim"):
        del about["sam2"]["memory_attention"]["layer"]["self_attention"][key]
    del about["sam2"]["compile_image_encoder"]
    (tmp_path / "reviosa.json").write_text(json.dumps(about | {"internvl": model.mllm.internvl.config.to_dict()}))
    assert design_of(folders.read(tmp_path)) == design_of(model)


class Evil:
    def __reduce__(self):
        return print, ("code from a checkpoint",)


def test_pickles_do_not_run_code(tmp_path: Path, capsys: pytest.CaptureFixture):
    torch.save({"model": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(DataError, match=r"evil\.pt: not weights that can be loaded safely"):
        checkpoint.identify(tmp_path / "evil.pt")
    assert "code from" not in capsys.readouterr().out
    (tmp_path / "cut.pt").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match=r"cut\.pt"):
        checkpoint.identify(tmp_path / "cut.pt")
    torch.save({"model": {"x": 1}}, tmp_path / "numbers.pt")
    with pytest.raises(DataError, match="no state dict"):
        checkpoint.identify(tmp_path / "numbers.pt")


# -- released ReVIOSa --------------------------------------------------------------------------------------------------


@pytest.fixture
def released(folder: Path) -> tuple[Path, torch.nn.Module, dict[str, Tensor]]:
    return folder, *made.add_reviosa(folder)


@torch.no_grad()
def test_a_released_reviosa_is_ours(released, tmp_path: Path):
    folder, sam, mlp = released
    assert checkpoint.identify(folder) == "reviosa, as released"
    model = checkpoint.load_reviosa(folder, configuration=SAM2, frames=2)
    assert model.roles == (Role.ACTOR, Role.TARGET) and model.mllm.template.name == "qwen_chat"
    first = len(BYTES) + SPECIALS.index("[SEG]")
    assert model.mllm.role_ids == {Role.ACTOR: first, Role.TARGET: first + 1}
    assert model.mllm.tokenizer.decode([first, first + 1]) == "[SEG_ACT][SEG_TAR]"
    assert model.mllm.tokenizer.decode(model.mllm.encode("Please segment a b.")) == "Please segment a b."
    for name, tensor in sam.state_dict().items():
        assert torch.equal(model.segmenter.sam.state_dict()[name], tensor), name
    for name, tensor in mlp.items():
        assert torch.equal(model.projector.state_dict()[name.removeprefix("text_hidden_fcs.")], tensor)
    pixels, ids = torch.randn(1, 3, IMAGE, IMAGE), torch.tensor([3, 1, 4])
    seen, logits = outputs(model.mllm.internvl, pixels, ids)
    tensors = released_tensors()
    torch.testing.assert_close(seen, plain_see(tensors, pixels), atol=2e-5, rtol=1e-5)
    embedded = tensors["language_model.model.embed_tokens.weight"][ids]
    torch.testing.assert_close(logits, plain_read(tensors, embedded), atol=2e-5, rtol=1e-5)

    original = segmenter.build(tiny.SIZES.segmenter)
    original.image_encoder.load_state_dict(sam.image_encoder.state_dict())  # frozen while the decoder was tuned
    torch.save({"model": original.bfloat16().state_dict()}, tmp_path / "sam2.pt")
    both = checkpoint.load_reviosa(folder, sam2=tmp_path / "sam2.pt", configuration=SAM2)
    key = "transformer.layers.0.self_attn.q_proj.weight"
    assert torch.equal(both.segmenter.decoder.state_dict()[key], sam.sam_mask_decoder.state_dict()[key])
    theirs = original.sam_mask_decoder.state_dict()[key].float()
    assert torch.equal(both.segmenter.sam.sam_mask_decoder.state_dict()[key], theirs)


def test_a_released_reviosa_is_joined_with_the_sam2_it_was_tuned_on(released, tmp_path: Path):
    """2.1 has the encoder's shapes of 2.0: nothing else would say that the decoder reads what it never saw."""
    folder, sam, _ = released
    other = copy.deepcopy(sam.state_dict())
    other["image_encoder.trunk.patch_embed.proj.bias"] += 0.1
    torch.save({"model": other}, tmp_path / "other.pt")
    with pytest.raises(DataError, match=r"other\.pt: another SAM2 than .*patch_embed\.proj\.bias has other values"):
        checkpoint.load_reviosa(folder, sam2=tmp_path / "other.pt", configuration=SAM2)
    older = {name: tensor for name, tensor in sam.state_dict().items() if name != "no_obj_embed_spatial"}
    torch.save({"model": older}, tmp_path / "older.pt")
    with pytest.raises(DataError, match=r"older\.pt: another SAM2 than .*differ in no_obj_embed_spatial$"):
        checkpoint.load_reviosa(folder, sam2=tmp_path / "older.pt", configuration=SAM2)


def test_a_released_reviosa_segments_a_clip(released):
    """Random weights say nothing sensible; the path from released files to masks is whole."""
    folder, *_ = released
    model = checkpoint.load_reviosa(folder, configuration=SAM2, frames=2)
    scene = scenes.make_scene(tiny.data(64, 4), (0, 0, 1))
    clip = splits.to_clip(scene, "one")
    found = model.segment(clip, clip.expressions[:2])
    assert [p.expression_id for p in found] == ["0", "1"]
    assert all(p.masks[role].shape == (4, 64, 64) for p in found for role in Role)


def test_what_a_released_reviosa_must_have(released):
    folder, *_ = released
    rewrite(folder, **{"text_hidden_fcs.2.bias": torch.zeros(3)})
    with pytest.raises(
        DataError, match=r"text_hidden_fcs\.2\.bias is \(3,\), projector\.2\.bias of the model is \(32,\)"
    ):
        checkpoint.load_reviosa(folder, configuration=SAM2)
    rewrite(folder, **{"text_hidden_fcs.2.bias": torch.zeros(32), "grounding_encoder.sam2_model.extra": torch.zeros(3)})
    with pytest.raises(DataError, match=r"tensor grounding_encoder\.sam2_model\.extra has no place"):
        checkpoint.load_reviosa(folder, configuration=SAM2)
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about["added_tokens_decoder"] = {
        k: v for k, v in about["added_tokens_decoder"].items() if "SEG" not in v["content"]
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match=r"no token '\[SEG\]'"):
        checkpoint.load_reviosa(folder, configuration=SAM2)


def test_an_end_of_several_tokens(released):
    """phi3_chat ends in a text that Qwen's tokenizer spells out: it is learned, written and left out of the answer."""
    folder, *_ = released
    (folder / "config.json").write_text(json.dumps({**CONFIG, "template": "phi3_chat"}))
    model = checkpoint.load_reviosa(folder, configuration=SAM2, frames=2).mllm
    assert model.template.name == "phi3_chat" and len(model.end_ids) == len("<|end|>")
    due = model.turn("a", "ok").answer
    assert due[-7:] == model.end_ids and model.read(due) == "ok<|end|>"

    # A head that writes what we say.
    said = iter([*model.encode("is ["), model.role_ids[Role.ACTOR], *model.encode("] <|en.<|end|>"), 0, 0, 0])

    def heard(_: Tensor) -> Tensor:
        return torch.nn.functional.one_hot(torch.tensor([next(said)]), VOCABULARY).float()

    model.internvl.lm_head = torch.nn.Identity()
    model.internvl.lm_head.forward = heard
    (answer,) = model.write(torch.zeros(2, 3, 3, DT), ["a"], max_tokens=40)
    assert answer.text == "is [[SEG_ACT]] <|en." and set(answer.states) == {Role.ACTOR}
    assert len(list(said)) == 3, "nothing is written after the end"


def test_an_end_that_merges_with_the_full_stop(released):
    """Qwen's tokenizer has tokens such as `.<`: the end does not start at a token of its own then."""
    folder, *_ = released
    words = json.loads((folder / "vocab.json").read_text())
    (folder / "vocab.json").write_text(json.dumps(words | {".<": len(words)}))
    about = json.loads((folder / "tokenizer_config.json").read_text())
    about["added_tokens_decoder"] = {str(int(i) + 1): t for i, t in about["added_tokens_decoder"].items()}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    (folder / "merges.txt").write_text("#version: 0.2\n. <\n")
    (folder / "config.json").write_text(json.dumps({**CONFIG, "template": "phi3_chat"}))
    model = checkpoint.load_reviosa(folder, configuration=SAM2, frames=2).mllm
    due = model.turn("a", "ok.").answer
    assert len(words) in due and due[-7:] != model.end_ids
    said = iter([*due, 0])
    model.internvl.lm_head = torch.nn.Identity()
    model.internvl.lm_head.forward = lambda _: F.one_hot(torch.tensor([next(said)]), VOCABULARY).float()
    (answer,) = model.write(torch.zeros(2, 3, 3, DT), ["a"], max_tokens=40)
    assert answer.text == "ok." and len(list(said)) == 1


def test_a_tokenizer_that_cannot_write_the_end():
    words = tiny.tokenizer()
    with pytest.raises(ValueError, match=r"cannot write '<\|end\|>', the end of phi3_chat"):
        mllm.Mllm(mllm.build(tiny.SIZES.mllm, words), words, "phi3_chat")


# -- what was trained, apart from its backbones ------------------------------------------------------------------------


RATES = config.Train(
    steps=2, clips=1, expressions=2, frames="uniform", lr=1e-2, decoder_lr=1e-2, projector_lr=1e-2,
    gradient_checkpointing=True, cache_gb=0, loss=config.LossWeights(ce=2, dice=0.5, aml=1, text=1, points=20),
)  # fmt: skip
BOTH = config.Experiment(roles=tuple(Role), aml=True)


@pytest.fixture
def start(folder: Path, tmp_path: Path) -> config.Released:
    """Released files as a profile names them."""
    torch.save({"model": segmenter.build(tiny.SIZES.segmenter).state_dict()}, tmp_path / "sam2.pt")
    (tmp_path / "sam2.yaml").write_text(json.dumps({"model": SAM2.model_dump()}))
    paths = {"internvl": folder, "sam2": tmp_path / "sam2.pt", "sam2_yaml": tmp_path / "sam2.yaml"}
    return config.Released(**{k: str(v) for k, v in paths.items()}, template="phi3_chat", license="mit")


def trained(start: config.Released, folder: Path, rates: config.Train = RATES) -> ReVIOSa:
    model = checkpoint.from_backbones(start, made.sizes(), BOTH, seed=3, aml=(1, (3, 0)), settings=rates)
    clip = splits.to_clip(scenes.make_scene(tiny.data(64, 4), (0, 0, 1)), "one")
    finetune.fine_tune(model, [clip], rates, frames=2, folder=folder, seed=0)
    return model.eval()


def test_training_starts_from_released_files(start: config.Released, folder: Path, tmp_path: Path):
    """As notebook 03 with a profile like paper-4b: two steps change what is trained and nothing else."""
    internvl, *_ = checkpoint.load_internvl(folder)
    sam = checkpoint.load_sam2(start.sam2, SAM2)
    model = trained(start, tmp_path / "resume")
    assert model.mllm.template.name == "phi3_chat" and model.mllm.language.is_gradient_checkpointing
    found = {n.replace(".base_layer.", "."): t for n, t in model.mllm.internvl.state_dict().items()}
    for name, tensor in internvl.state_dict().items():
        if name not in ("lm_head.weight", "model.language_model.embed_tokens.weight"):
            assert torch.equal(found[name], tensor), name
    assert all(torch.equal(t, sam.state_dict()[n]) for n, t in model.segmenter.sam.state_dict().items())
    moved = {name for name, tensor in model.trained().items() if "lora_B" in name and tensor.any()}
    assert len(moved) == 7 * LT
    query = "transformer.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(model.segmenter.decoder.state_dict()[query], sam.sam_mask_decoder.state_dict()[query])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_size": 448}, "image_size is 24, the profile's model.mllm.image_size is 448"),
        ({"language": config.Language(hidden=DT, layers=3, heads=HT, kv_heads=KV, ffn=made.FT)}, "layers=2.*layers=3"),
    ],
)
def test_a_profile_of_other_sizes_is_refused(start: config.Released, change: dict, message: str):
    with pytest.raises(DataError, match=message):
        checkpoint.from_backbones(start, made.sizes(**change), BOTH, seed=3, aml=(1, (0,)), settings=RATES)


def test_a_profile_of_another_sam2_is_refused(start: config.Released):
    other = made.sizes()
    other = other.model_copy(update={"segmenter": other.segmenter.model_copy(update={"windows": (8, 2, 4, 2)})})
    with pytest.raises(DataError, match=r"window_spec is \(4, 2, 4, 2\), the profile's .* \(8, 2, 4, 2\)"):
        checkpoint.from_backbones(start, other, BOTH, seed=3, aml=(1, (0,)), settings=RATES)


@pytest.mark.parametrize("projector", ["frozen", "trained"])
def test_what_was_trained_and_its_backbones_are_the_model(
    start: config.Released, folder: Path, tmp_path: Path, projector: str
):
    model = trained(start, tmp_path / "resume", RATES.model_copy(update={"visual_projector": projector}))
    folders.save(model, tmp_path / "whole")
    folders.save(model, tmp_path / "part", trained_only=True)
    held = checkpoint.Weights.at(tmp_path / "part")
    assert set(held) == set(model.trained())
    assert checkpoint.describe(tmp_path / "part")["parameters"] == sum(p.numel() for p in model.trained().values())
    joined = checkpoint.load(tmp_path / "part", backbones=start)
    whole = checkpoint.load(tmp_path / "whole")
    for other in (joined, whole):
        assert other.state_dict().keys() == model.state_dict().keys()
        assert all(torch.equal(t, other.state_dict()[n]) for n, t in model.state_dict().items())
        assert design_of(other) == design_of(model)
    with pytest.raises(DataError, match=r"holds what was trained only; load it with its backbones"):
        checkpoint.load(tmp_path / "part")
    with pytest.raises(DataError, match="whole: holds a whole model; leave the backbones out"):
        checkpoint.load(tmp_path / "whole", backbones=start)
    for given in ({"sam2": start.sam2}, {"frames": 8}):
        with pytest.raises(DataError, match=f"whole: {[*given][0]}: goes with another folder"):
            checkpoint.load(tmp_path / "whole", **given)
    with pytest.raises(DataError, match="nobody can tell what was trained; save it whole"):
        folders.save(model.merge_lora(), tmp_path / "merged", trained_only=True)
    matrix = "language_model.model.layers.1.mlp.up_proj.weight"
    for name, tensor in {
        "vision_model.encoder.layers.1.ls1": torch.ones(DV),
        matrix: 1.1 * released_tensors()[matrix],
    }.items():
        rewrite(folder, **released_tensors() | {name: tensor})
        with pytest.raises(DataError, match="was trained on other backbones than"):
            checkpoint.load(tmp_path / "part", backbones=start)


def test_half_precision_is_internvls_and_predicts_nearly_the_same(start: config.Released, tmp_path: Path):
    model = trained(start, tmp_path / "resume")
    folders.save(model, tmp_path / "whole")
    half = checkpoint.load(tmp_path / "whole", dtype=torch.bfloat16)
    kinds = {name.split(".")[0]: {p.dtype for p in part.parameters()} for name, part in half.named_children()}
    assert kinds == {"mllm": {torch.bfloat16}, "segmenter": {torch.float32}, "projector": {torch.float32}}
    frames = torch.randint(0, 256, (2, 30, 40, 3), dtype=torch.uint8)
    torch.testing.assert_close(half.mllm.see(frames).float(), model.mllm.see(frames), atol=0.1, rtol=0.1)
    scene = splits.to_clip(scenes.make_scene(tiny.data(64, 4), (0, 0, 1)), "one")
    (found,) = half.segment(scene, scene.expressions[:1])
    assert found.masks[Role.ACTOR].shape == (4, 64, 64)
    folders.save(half, tmp_path / "half")
    assert "bfloat16" in checkpoint.describe(tmp_path / "half")["dtypes"]


@pytest.mark.gpu
def test_a_gpu_predicts_what_a_cpu_does(start: config.Released, tmp_path: Path):
    model = trained(start, tmp_path / "resume").cpu()
    frames = torch.randint(0, 256, (2, 30, 40, 3), dtype=torch.uint8)
    here = model.mllm.see(frames)
    torch.testing.assert_close(model.to("cuda").mllm.see(frames).cpu(), here, atol=1e-3, rtol=1e-3)


# -- the paper's sizes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        # vision tower, visual projector, embeddings and head, language model without LoRA, LoRA at rank 128
        ("paper-1b", (304.0, 4.5, 271.8, 357.9, 70.4)),
        ("paper-4b", (304.0, 12.6, 621.3, 2774.8, 239.5)),
    ],
)
def test_the_papers_profiles_build_and_train_what_the_paper_trains(root: Path, name: str, millions: tuple):
    """On the meta device, from the profile's sizes. The counts are those of the architectures, worked out below."""
    profile = config.load(root / "params.yaml").profiles[name]
    sizes, words = profile.model, tiny.tokenizer()
    described = mllm.describe(sizes.mllm, words)
    described.text_config.vocab_size = 151674 + len(Role)  # InternVL-2.5's, and the role tokens
    with unallocated():
        internvl = mllm.empty(described)
        mllm.add_lora(internvl, sizes.mllm.lora)
        seg = segmenter.Segmenter(segmenter.build(sizes.segmenter))
        model = ReVIOSa(mllm.Mllm(internvl, words), seg, tuple(Role), frames=sizes.mllm.frames)
    model.freeze()
    assert all(p.is_meta for p in model.parameters())
    layers = sizes.mllm.language.layers
    parts = [f"self_attn.{m}_proj" for m in "qkvo"] + [f"mlp.{m}_proj" for m in ("gate", "up", "down")]
    lora = {
        f"mllm.internvl.model.language_model.layers.{i}.{part}.lora_{ab}.default.weight"
        for i in range(layers) for part in parts for ab in "AB"
    }  # fmt: skip
    vocabulary = {"mllm.internvl.model.language_model.embed_tokens.weight", "mllm.internvl.lm_head.weight"}
    projector = {f"projector.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")}
    decoder = {f"segmenter.decoder.{n}" for n, _ in seg.decoder.named_parameters() if not n.startswith("conv_s")}
    assert {n for n, p in model.named_parameters() if p.requires_grad} == lora | vocabulary | projector | decoder
    assert all(not p.requires_grad for p in [*seg.sam.parameters(), *internvl.model.vision_tower.parameters()])

    def count(pattern: str, but: str = "nothing") -> float:
        return sum(p.numel() for n, p in model.named_parameters() if pattern in n and but not in n) / 1e6

    found = (
        count("vision_tower"),
        count("multi_modal_projector"),
        count("embed_tokens") + count("lm_head"),
        count("language_model.layers", "lora_") + count("language_model.norm"),
        count("lora_"),
    )
    assert found == pytest.approx(millions, abs=0.06)
    v, t, r = sizes.mllm.vision, sizes.mllm.language, sizes.mllm.lora.rank
    kv = t.hidden // t.heads * t.kv_heads
    layer = 2 * t.hidden**2 + 2 * t.hidden * kv + t.hidden + 2 * kv + 3 * t.hidden * t.ffn + 2 * t.hidden
    assert found[3] * 1e6 == pytest.approx(layers * layer + t.hidden)
    assert found[4] * 1e6 == layers * r * (2 * 2 * t.hidden + 2 * (t.hidden + kv) + 3 * (t.hidden + t.ffn))
    assert found[2] * 1e6 == 2 * 151676 * t.hidden
    block = 4 * v.hidden**2 + 4 * v.hidden + 2 * v.hidden * v.ffn + v.ffn + v.hidden + 6 * v.hidden
    tokens = (sizes.mllm.image_size // sizes.mllm.patch_size) ** 2 + 1
    patches = 3 * sizes.mllm.patch_size**2 * v.hidden + v.hidden + (tokens + 1) * v.hidden
    assert found[0] * 1e6 == v.layers * block + patches


@pytest.mark.parametrize("version", ["sam2", "sam2.1"])
def test_the_papers_sam2_has_the_packaged_sizes(root: Path, version: str):
    """What a profile says of SAM2 and what the packaged configuration of hiera-large says are one model (2.0 lacks
    three tensors of 2.1)."""
    said = segmenter.describe(config.load(root / "params.yaml").profiles["paper-1b"].model.segmenter)
    path = Path(str(importlib.resources.files("sam2"))) / "configs" / version / f"{version}_hiera_l.yaml"
    packaged = checkpoint.read_sam2_yaml(path)
    checkpoint._same_sam2_sizes(packaged, said, "sam2.pt")
    ours, theirs = said.shapes(), packaged.shapes()
    assert {n: ours[n] for n in theirs} == theirs
    assert len(ours) - len(theirs) == (3 if version == "sam2" else 0)


@pytest.mark.parametrize("part", ["internvl", "sam2"])
def test_a_backbone_beyond_half_precision_is_named(tmp_path: Path, part: str):
    """Backbones are stored in float16, which ends at 65504."""
    made = tiny.reader().internvl if part == "internvl" else tiny.seeing().sam
    name, parameter = next(iter(made.named_parameters()))
    parameter.data.view(-1)[0] = 7e4
    with pytest.raises(DataError, match=rf"{part}.*: {name}: 1 of \d+ values are beyond float16, as 70000 > 65504"):
        if part == "internvl":
            folders.save_internvl(tmp_path, made, tiny.tokenizer())
        else:
            folders.save_sam2(tmp_path, made)
    assert list(tmp_path.iterdir()) == []


def test_what_a_backbone_is_loaded_in_holds_its_values(folder: Path):
    rewrite(folder, **{"mlp1.1.bias": torch.full((DT,), 7e4)})
    checkpoint.load_internvl(folder)
    with pytest.raises(DataError, match=rf"mlp1\.1\.bias: {DT} of {DT} values are beyond float16"):
        checkpoint.load_internvl(folder, torch.float16)
