"""The smallest models that still have distinct sizes on every axis. Random weights, no files."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from reviosa_core import config
from reviosa_core.intershapes import language
from reviosa_core.model import mllm, packing, segmenter
from reviosa_core.schema import Role

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


def data(size: int, frames: int, **difficulty) -> config.Data:
    """InterShapes of standard difficulty, but for what is given; two or three clips a split."""
    standard = dict(objects=(3, 5), two_pairs=0.35, lookalikes=0.3, twins=0.3, no_interaction=0.15, mimics=0.5)
    return config.Data(
        size=size,
        frames=frames,
        difficulty=config.Difficulty(**(standard | difficulty)),
        splits=config.Splits(train=3, val=2, dev=2, test=2, shift=2),
    )


def tokenizer() -> PreTrainedTokenizerFast:
    return mllm.word_tokenizer([*mllm.template_words(9), *language.vocabulary()])


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


@torch.no_grad()
def taught(model: mllm.Mllm, features: Tensor, questions: Sequence[str], answers: Sequence[str]) -> mllm.Mllm:
    """The model, now writing these answers about these features, and [SEG_TAR] after each end: the states at these
    places are random but distinct, so a head that maps each to its next token can be solved for."""
    turns = [[model.turn(q, a) for q, a in zip(questions, answers, strict=True)]]
    packed = packing.pack([model.prefix_ids(len(features))], turns, model.tokenizer.pad_token_id)
    end, _ = packed.find(model.end_ids[-1])
    packed.labels[0, end[:, 1]] = model.role_ids[Role.TARGET]
    due = packed.labels != packing.IGNORE
    wanted = torch.nn.functional.one_hot(packed.labels[due], len(model.tokenizer)).float()
    hidden = model(packed, [features])[due]
    assert torch.linalg.matrix_rank(hidden) == len(hidden) < model.width
    model.internvl.lm_head.weight.copy_(torch.linalg.pinv(hidden).mul(10).matmul(wanted).T)
    return model
