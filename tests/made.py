"""Small checkpoints in the layouts of others, written from their description: InternVL-2.5 and ReVIOSa as released."""

from __future__ import annotations

import json
from pathlib import Path

import tiny
import torch
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.model import segmenter

SAM2 = segmenter.describe(tiny.SIZES.segmenter)
# Every size is its own: hidden 24 of 3 heads, 6 x 6 patches, 3 x 3 visual tokens a frame; language 40 of 5 heads, 1 kv.
DV, HV, LV, FV, IMAGE, PATCH = 24, 3, 2, 44, 24, 4
DT, HT, KV, LT, FT = 40, 5, 1, 2, 52
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())  # a byte-level vocabulary without a single merge
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "[SEG]", "[SEG_OBJ]"]
CONTEXT = len(BYTES) + SPECIALS.index("<IMG_CONTEXT>")
VOCABULARY = 271  # more rows than tokens, as released
CONFIG = {
    "model_type": "internvl_chat",
    "template": "internvl2_5",
    "ps_version": "v2",
    "select_layer": -1,
    "downsample_ratio": 0.5,
    "vision_config": {
        "hidden_size": DV,
        "num_hidden_layers": LV,
        "num_attention_heads": HV,
        "intermediate_size": FV,
        "image_size": IMAGE,
        "patch_size": PATCH,
        "qkv_bias": True,
        "qk_normalization": False,
        "norm_type": "layer_norm",
        "layer_norm_eps": 1e-6,
        "hidden_act": "gelu",
    },
    "llm_config": {
        "architectures": ["Qwen2ForCausalLM"],
        "vocab_size": VOCABULARY,
        "hidden_size": DT,
        "num_hidden_layers": LT,
        "num_attention_heads": HT,
        "num_key_value_heads": KV,
        "intermediate_size": FT,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
    },
}


def released_tensors() -> dict[str, Tensor]:
    """All tensors of a released folder, random, biases and scales too."""
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (1, 1, DV),
        "vision_model.embeddings.position_embedding": (1, 1 + (IMAGE // PATCH) ** 2, DV),
        "vision_model.embeddings.patch_embedding.weight": (DV, 3, PATCH, PATCH),
        "vision_model.embeddings.patch_embedding.bias": (DV,),
        "mlp1.0.weight": (4 * DV,),
        "mlp1.0.bias": (4 * DV,),
        "mlp1.1.weight": (DT, 4 * DV),
        "mlp1.1.bias": (DT,),
        "mlp1.3.weight": (DT, DT),
        "mlp1.3.bias": (DT,),
        "language_model.model.embed_tokens.weight": (VOCABULARY, DT),
        "language_model.model.norm.weight": (DT,),
        "language_model.lm_head.weight": (VOCABULARY, DT),
    }
    for i in range(LV):
        own = {"norm1.weight": (DV,), "norm1.bias": (DV,), "norm2.weight": (DV,), "norm2.bias": (DV,)}
        own |= {"ls1": (DV,), "ls2": (DV,), "attn.qkv.weight": (3 * DV, DV), "attn.qkv.bias": (3 * DV,)}
        own |= {"attn.proj.weight": (DV, DV), "attn.proj.bias": (DV,), "mlp.fc1.weight": (FV, DV)}
        own |= {"mlp.fc1.bias": (FV,), "mlp.fc2.weight": (DV, FV), "mlp.fc2.bias": (DV,)}
        shapes |= {f"vision_model.encoder.layers.{i}.{name}": shape for name, shape in own.items()}
    head = DT // HT
    for i in range(LT):
        own = {"input_layernorm.weight": (DT,), "post_attention_layernorm.weight": (DT,)}
        for name, rows in (("q", HT * head), ("k", KV * head), ("v", KV * head)):
            own |= {f"self_attn.{name}_proj.weight": (rows, DT), f"self_attn.{name}_proj.bias": (rows,)}
        own |= {"self_attn.o_proj.weight": (DT, HT * head), "mlp.gate_proj.weight": (FT, DT)}
        own |= {"mlp.up_proj.weight": (FT, DT), "mlp.down_proj.weight": (DT, FT)}
        shapes |= {f"language_model.model.layers.{i}.{name}": shape for name, shape in own.items()}
    torch.manual_seed(0)
    return {name: 0.3 * torch.randn(shape) + (1.0 if "norm" in name else 0.0) for name, shape in shapes.items()}


def write_internvl(out: Path) -> Path:
    """As InternVL2_5 is released: config, one file of tensors, a slow Qwen2 tokenizer's files."""
    out.mkdir(parents=True)
    (out / "config.json").write_text(json.dumps(CONFIG))
    save_file(released_tensors(), out / "model.safetensors")
    (out / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(BYTES)}))
    (out / "merges.txt").write_text("#version: 0.2\n")
    added = {str(len(BYTES) + i): {"content": w, "special": True} for i, w in enumerate(SPECIALS)}
    about = {"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": added, "unk_token": None}
    (out / "tokenizer_config.json").write_text(json.dumps(about | {"eos_token": "<|im_end|>"}))
    return out


def add_reviosa(folder: Path, template: str = "qwen_chat") -> tuple[nn.Module, dict[str, Tensor]]:
    """A SAM2 of the tests' size and the role-token MLP, named as in the released exports."""
    sam = segmenter.build(tiny.SIZES.segmenter)
    own = {
        "grounding_encoder.sam2_model." + (name.replace("gamma", "g_weight") if "fuser" in name else name): tensor
        for name, tensor in sam.state_dict().items()
    }
    dim = tiny.SIZES.segmenter.dim
    shapes = {"0.weight": (DT, DT), "0.bias": (DT,), "2.weight": (dim, DT), "2.bias": (dim,)}
    mlp = {f"text_hidden_fcs.{name}": torch.randn(shape) for name, shape in shapes.items()}
    rewrite(folder, **own, **mlp)
    (folder / "config.json").write_text(json.dumps({**CONFIG, "template": template}))
    return sam, mlp


def rewrite(folder: Path, **changes: Tensor | None) -> None:
    tensors = load_file(folder / "model.safetensors") | {k: v for k, v in changes.items() if v is not None}
    save_file({k: v for k, v in tensors.items() if changes.get(k, v) is not None}, folder / "model.safetensors")


def sizes(**changes) -> config.Model:
    """What a profile must say to start from these."""
    mllm = config.Mllm(
        image_size=IMAGE,
        patch_size=PATCH,
        frames=2,
        vision=config.Vision(hidden=DV, layers=LV, heads=HV, ffn=FV),
        language=config.Language(hidden=DT, layers=LT, heads=HT, kv_heads=KV, ffn=FT),
        lora=config.Lora(rank=3, alpha=6, dropout=0.0),
    )
    return config.Model(mllm=mllm.model_copy(update=changes), segmenter=tiny.SIZES.segmenter)
