"""The smallest models that still have distinct sizes on every axis. Random weights, no files."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from reviosa_core import config
from reviosa_core.data import intershapes
from reviosa_core.model import mllm, segmenter

SIZES = config.Model(
    mllm=config.Mllm(
        image_size=32,
        patch_size=4,
        frames=3,
        vision=config.Vision(hidden=24, layers=2, heads=2, ffn=40),
        language=config.Language(hidden=48, layers=3, heads=4, kv_heads=2, ffn=56),
        lora=config.Lora(rank=3, alpha=6, dropout=0.0),
    ),
    segmenter=config.Segmenter(
        image_size=64,
        embed=8,
        stages=(1, 1, 2, 1),
        windows=(4, 2, 4, 2),
        global_blocks=(3,),
        dim=32,
        memory_dim=16,
        num_maskmem=3,
        prompted="first",
    ),
)
GRID = 4  # visual tokens a side: 32 / 4 / 2


def tokenizer() -> PreTrainedTokenizerFast:
    return mllm.word_tokenizer([*mllm.template_words(9), *intershapes.vocabulary()])


def reader(roles: bool = True, lora: bool = False) -> mllm.Mllm:
    """An Mllm; `lora` gives LoRA weights that change something (lora_B starts at zero)."""
    words = tokenizer()
    internvl = mllm.build(SIZES.mllm, words)
    if roles:
        mllm.add_role_tokens(internvl, words)
    if lora:
        mllm.add_lora(internvl, SIZES.mllm.lora)
        for name, parameter in internvl.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(std=0.3)
    return mllm.Mllm(internvl, words).eval()


def seeing(**changes) -> segmenter.Segmenter:
    """A Segmenter whose frames always hold an object: an untrained score would gate every mask away."""
    sam = segmenter.build(SIZES.segmenter.model_copy(update=changes))
    score = sam.sam_mask_decoder.pred_obj_score_head.layers[-1]
    score.weight.data.zero_()
    score.bias.data.fill_(2.0)
    return segmenter.Segmenter(sam).eval()
