"""InternVL as the reader: frames and packed questions to hidden states, and answers written token by token."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int, UInt8
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import LoraLayer
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    DynamicCache,
    InternVLConfig,
    InternVLForConditionalGeneration,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from reviosa_core import config
from reviosa_core.model import attention, packing, prompts
from reviosa_core.model.pixels import normalise
from reviosa_core.schema import Role

ATTENTION = {"text_config": attention.NAME, "vision_config": "sdpa", "": "sdpa"}


@dataclass(frozen=True)
class Answer:
    """What the model wrote, and the last-layer state [d] at each role token it wrote. The probability of each role
    token is that at the moment it was written; of one that was not, the highest that it had at any moment."""

    text: str
    states: Mapping[Role, Float[Tensor, "d"]]
    probability: Mapping[Role, float]


class Mllm(nn.Module):
    """InternVL with role tokens. Frames are encoded once; every question about them reads the same features."""

    def __init__(
        self,
        internvl: InternVLForConditionalGeneration,
        tokenizer: PreTrainedTokenizerBase,
        template: str = "qwen_chat",
        wording: config.Wording = "labelled",
    ) -> None:
        super().__init__()
        self.internvl = internvl
        self.tokenizer = tokenizer
        self.template = prompts.chat(template, wording)
        self.end_ids = self.encode(self.template.end)  # several for phi3_chat, whose end Qwen's tokenizer spells out
        if self.read(self.end_ids) != self.template.end:
            raise ValueError(f"tokenizer cannot write {self.template.end!r}, the end of {template}")
        self.context_id = self.token_id(prompts.IMAGE_CONTEXT)
        self.pad_id = self.end_ids[-1] if tokenizer.pad_token_id is None else int(tokenizer.pad_token_id)  # never read
        vision = internvl.config.vision_config
        self.image_size = vision.image_size[0]
        self.grid = int(self.image_size // vision.patch_size[0] * internvl.config.downsample_ratio)  # P: tokens a side
        self.width = internvl.config.text_config.hidden_size

    @property
    def device(self) -> torch.device:
        return self.internvl.device

    @cached_property
    def role_ids(self) -> dict[Role, int]:
        """Token ids of [SEG_ACT] and [SEG_TAR], of those that there are: Sa2VA has one, a backbone that is still being
        pretrained has none."""
        known = self.tokenizer.get_vocab()
        return {role: known[token] for role, token in prompts.TOKENS.items() if token in known}

    @property
    def language(self) -> nn.Module:
        """The language model proper: embeddings and decoder layers, no head."""
        return self.internvl.model.language_model

    def checkpoint_gradients(self) -> None:
        """Compute the layers' activations again on the way back instead of keeping them. Not the reentrant kind: with a
        row tap its gradients would be silently wrong."""
        self.language.gradient_checkpointing_enable({"use_reentrant": False})
        # Beside LoRA, transformers hooks a function of its own to the embeddings, for frozen ones. Ours are trained,
        # and with it the model could not be sent to another process.
        self.language.disable_input_require_grads()

    def token_id(self, token: str) -> int:
        """Id of a token that must exist. Raises ValueError naming it otherwise."""
        index = self.tokenizer.convert_tokens_to_ids(token)
        if index is None or index == self.tokenizer.unk_token_id:
            raise ValueError(f"tokenizer has no token {token!r}")
        return int(index)  # pyright: ignore

    # -- Reading ------------------------------------------------------------------------------------------------

    def see(self, frames: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, "t p p d"]:
        """Visual tokens of some frames, in the language model's space (Eq. 1), as a grid of P x P a frame."""
        pixels = normalise(frames.to(self.device), self.image_size)
        tokens = self.internvl.model.get_image_features(pixels).pooler_output
        return tokens.unflatten(1, (self.grid, self.grid))

    def unprojected(self, frames: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, "t p p c"]:
        """What the visual projector makes the visual tokens of, as a grid of P x P a frame: `see` without its end."""
        pixels, internvl = normalise(frames.to(self.device), self.image_size), self.internvl.model
        tower = internvl.vision_tower(pixel_values=pixels.to(internvl.dtype))
        patches = tower.last_hidden_state[:, 1:]  # after the class token
        side = math.isqrt(patches.shape[1])
        return internvl.pixel_shuffle(patches.unflatten(1, (side, side)), self.internvl.config.downsample_ratio)

    def project(self, seen: Float[Tensor, "t p p c"]) -> Float[Tensor, "t p p d"]:
        """Visual tokens of what `unprojected` gave."""
        return self.internvl.model.multi_modal_projector(seen)

    def prefix_ids(self, frames: int) -> list[int]:
        """Token ids of the shared part: the opening of the chat and the frames."""
        return self.encode(self.template.user + self.template.frames(frames, self.grid**2))

    def turn(self, question: str, answer: str | None = None) -> packing.Turn:
        """One question, with its answer when it is known. Raises ValueError for an answer the model cannot write."""
        ids = self.encode(question + self.template.assistant)
        reply = self.encode(answer + self.template.end) if answer is not None else []
        if self.tokenizer.unk_token_id in reply:
            raise ValueError(f"answer {answer!r} has words that the tokenizer does not know")
        return packing.Turn(ids, reply)

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, nothing added."""
        return self.tokenizer(text, add_special_tokens=False).input_ids

    def read(self, ids: Sequence[int]) -> str:
        """The text of some token ids, special tokens too."""
        return self.tokenizer.decode(ids).strip()

    def embed(self, ids: Int[Tensor, "b n"], features: Sequence[Float[Tensor, "_ _ _ d"]]) -> Float[Tensor, "b n d"]:
        """Embeddings of a batch, the features of each video [t p p d] in the places of its <IMG_CONTEXT> tokens."""
        embedded = self.language.get_input_embeddings()(ids)
        image = torch.cat([f.flatten(0, 2) for f in features]).to(embedded.dtype)
        places = ids == self.context_id
        if int(places.sum()) != len(image):
            raise ValueError(f"{int(places.sum())} image tokens in the prompt for {len(image)} visual features")
        return embedded.masked_scatter(places[..., None], image)

    def forward(
        self,
        batch: packing.Packed,
        features: Sequence[Float[Tensor, "_ _ _ d"]],
        row_tap: attention.RowTap | None = None,
    ) -> Float[Tensor, "b n d"]:
        """Last-layer hidden states (Eq. 2)."""
        return self._decode(batch, features, row_tap).last_hidden_state

    def depths(
        self,
        batch: packing.Packed,
        features: Sequence[Float[Tensor, "_ _ _ d"]],
        row_tap: attention.RowTap | None = None,
    ) -> tuple[Float[Tensor, "b n d"], ...]:
        """The embeddings, then the hidden states after each layer; the last are those of `forward`."""
        return self._decode(batch, features, row_tap, output_hidden_states=True).hidden_states

    def _decode(self, batch: packing.Packed, features: Sequence[Tensor], row_tap: Any, **kwargs: Any) -> Any:
        return self.language(
            inputs_embeds=self.embed(batch.ids, features),
            attention_mask=batch.mask(),
            position_ids=batch.positions,
            use_cache=False,
            row_tap=row_tap,
            **kwargs,
        )

    def text_loss(self, batch: packing.Packed, hidden: Float[Tensor, "b n d"]) -> Float[Tensor, ""]:
        """Mean cross-entropy over the answers' tokens; the head runs on those positions only."""
        due = batch.labels != packing.IGNORE
        return F.cross_entropy(self.internvl.lm_head(hidden[due]).float(), batch.labels[due])

    def attention_maps(
        self, batch: packing.Packed, tap: attention.RowTap, layer: int, frames: Sequence[int]
    ) -> Iterator[tuple[list[int], Float[Tensor, "r h _ p p"]]]:
        """The tapped rows of a layer over the visual tokens, [h t p p] a row; `frames` is t of each video. Rows of
        videos with as many frames come together: their numbers, then their maps.

        The values are those of the softmax over *all* keys: renormalising over the visual ones would hide how much
        goes to the text.
        """
        rows, owner = tap.rows[layer], tap.queries[:, 0].tolist()
        for count in dict.fromkeys(frames[b] for b in owner):
            own = [i for i, b in enumerate(owner) if frames[b] == count]
            visual = batch.ids[[owner[i] for i in own]] == self.context_id
            places = visual.nonzero()[:, 1].view(len(own), 1, -1).expand(-1, rows.shape[1], -1)
            yield own, rows[own].gather(-1, places).unflatten(-1, (count, self.grid, self.grid))

    # -- Writing ------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def write(
        self, features: Float[Tensor, "t p p d"], questions: Sequence[str], max_tokens: int | None = None
    ) -> list[Answer]:
        """Greedy answers to several questions about one video; the visual prefix is read once and its cache shared.

        At most `max_tokens` each; by default there is room for every answer of the chat.
        """
        device = self.device
        if max_tokens is None:
            max_tokens = max(16, 4 + max(len(self.encode(a + self.template.end)) for a in self.template.answers))
        prefix = torch.tensor([self.prefix_ids(len(features))], device=device)
        asked = [self.turn(q).question for q in questions]
        count, longest, past = len(asked), max(map(len, asked)), prefix.shape[1]

        cache = DynamicCache(config=self.internvl.config.text_config)
        self.language(inputs_embeds=self.embed(prefix, [features]), past_key_values=cache, use_cache=True)
        cache.batch_repeat_interleave(count)

        # Left padding: the last column is the last word of every question. A row sees the prefix and its own words.
        pad = torch.tensor([longest - len(ids) for ids in asked], device=device)
        ids = torch.tensor([[0] * (longest - len(row)) + list(row) for row in asked], device=device)
        column = torch.arange(longest + max_tokens + 1, device=device)
        own = column[None] >= pad[:, None]
        states: list[dict[Role, Tensor]] = [{} for _ in asked]
        written: list[list[int]] = [[] for _ in asked]
        likely: list[dict[Role, float]] = [{} for _ in asked]
        start, done = 0, [False] * count
        while True:
            stop = start + ids.shape[1]
            causal = column[start:stop, None] >= column[None, :stop]
            seen = own[:, None, :stop] & causal[None]
            seen |= torch.eye(stop, dtype=torch.bool, device=device)[start:stop]  # padding reads itself: no NaN
            mask = torch.cat([torch.ones(count, stop - start, past, dtype=torch.bool, device=device), seen], -1)
            hidden = self.language(
                input_ids=ids,
                attention_mask=mask[:, None],
                position_ids=(past + column[None, start:stop] - pad[:, None]).clamp(min=0),
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            if start:  # the state of a token is the one at its own position: one step after it was chosen
                for row, token in enumerate(ids[:, -1].tolist()):
                    for role, role_id in self.role_ids.items():
                        if token == role_id and not done[row]:
                            states[row].setdefault(role, hidden[row])
            # By the text: where the end is several tokens, its first may have merged with the full stop before it.
            done = [d or self.read(w).endswith(self.template.end) for d, w in zip(done, written, strict=True)]
            if all(done) or stop - longest == max_tokens:
                break
            logits = self.internvl.lm_head(hidden)
            chosen, shares = logits.argmax(-1), logits.float().softmax(-1)
            for row, token in enumerate(chosen.tolist()):
                if done[row]:
                    continue
                for role, role_id in self.role_ids.items():
                    if role_id not in written[row]:
                        share = float(shares[row, role_id])
                        likely[row][role] = share if token == role_id else max(share, likely[row].get(role, 0.0))
                written[row].append(token)
            ids, start = chosen[:, None], stop
        texts = [self.read(w).removesuffix(self.template.end).strip() for w in written]
        return [Answer(*parts) for parts in zip(texts, states, likely, strict=True)]


# -- Building ---------------------------------------------------------------------------------------------------


def word_tokenizer(words: Sequence[str]) -> PreTrainedTokenizerFast:
    """A tokenizer made on the fly: one token a word, punctuation apart, the special tokens of prompts.py whole."""
    t = prompts.TEMPLATES["qwen_chat"]
    specials = ["[PAD]", "[UNK]", t.end, "<|im_start|>", prompts.IMAGE_START, prompts.IMAGE_CONTEXT, prompts.IMAGE_END]
    vocabulary = dict.fromkeys([*specials, *words])
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Punctuation(behavior="isolated")]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]")
    fast.add_tokens(specials[2:], special_tokens=True)
    return fast


def template_words(frames: int) -> list[str]:
    """Words the prompts themselves use, for `word_tokenizer`."""
    return ["user", "assistant", "please", "Please", "segment", "Sure", ",", "it", "is", "and", ".", ":"] + [
        f"Frame{i + 1}" for i in range(frames)
    ]


def describe(sizes: config.Mllm, tokenizer: PreTrainedTokenizerBase) -> InternVLConfig:
    """InternVL of the given sizes as transformers' configuration."""
    v, t = sizes.vision, sizes.language
    return InternVLConfig(
        vision_config={
            "hidden_size": v.hidden,
            "num_hidden_layers": v.layers,
            "num_attention_heads": v.heads,
            "intermediate_size": v.ffn,
            "image_size": (sizes.image_size, sizes.image_size),
            "patch_size": (sizes.patch_size, sizes.patch_size),
            "attention_bias": True,
            "norm_type": "layer_norm",
            "layer_norm_eps": 1e-6,
            "initializer_range": v.hidden**-0.5,
            "layer_scale_init_value": 1.0,  # 0.1 is for deep, pretrained towers
        },
        text_config={
            "model_type": "qwen2",
            "vocab_size": len(tokenizer),
            "hidden_size": t.hidden,
            "num_hidden_layers": t.layers,
            "num_attention_heads": t.heads,
            "num_key_value_heads": t.kv_heads,
            "intermediate_size": t.ffn,
            "max_position_embeddings": 8192,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
            "initializer_range": t.hidden**-0.5,  # 0.02 suits widths of thousands
            "tie_word_embeddings": False,
        },
        image_token_id=tokenizer.convert_tokens_to_ids(prompts.IMAGE_CONTEXT),
        image_seq_length=(sizes.image_size // sizes.patch_size // 2) ** 2,
        downsample_ratio=0.5,
        tie_word_embeddings=False,  # the default silently ties head and embeddings
    )


def build(sizes: config.Mllm, tokenizer: PreTrainedTokenizerBase) -> InternVLForConditionalGeneration:
    """InternVL of the given sizes, randomly initialised, in float32."""
    described = describe(sizes, tokenizer)
    described._attn_implementation = ATTENTION
    internvl = InternVLForConditionalGeneration(described)
    embeddings = internvl.model.vision_tower.embeddings
    for parameter in (embeddings.cls_token, embeddings.position_embeddings):
        nn.init.trunc_normal_(parameter, std=0.02)  # transformers leaves them at zero
    return internvl


def empty(described: InternVLConfig) -> InternVLForConditionalGeneration:
    """InternVL without values (on the meta device) for `load_state_dict(..., assign=True)` to fill. Buffers that are
    computed, not stored, have theirs."""
    described._attn_implementation = ATTENTION
    with torch.device("meta"):
        internvl = InternVLForConditionalGeneration(described)
    for module in internvl.modules():
        if hasattr(module, "inv_freq"):
            fresh = type(module)(module.config)
            module.inv_freq, module.original_inv_freq = fresh.inv_freq, fresh.inv_freq.clone()
    return internvl


@torch.no_grad()
def add_role_tokens(
    internvl: InternVLForConditionalGeneration, tokenizer: PreTrainedTokenizerBase, start: str = "words"
) -> None:
    """Give the tokenizer [SEG_ACT] and [SEG_TAR] and the model rows for them, in embeddings and (untied) head.

    With "words", a backbone that answers with places starts each as the word before such an answer, at which it knows
    the places; a place itself has only to be passed on (LOG.md has the difference). Others start at "random".
    """
    tokenizer.add_tokens(list(prompts.TOKENS.values()), special_tokens=True)
    internvl.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    vocabulary = tokenizer.get_vocab()
    if start == "words" and prompts.place(0) in vocabulary:
        rows = internvl.model.language_model.get_input_embeddings().weight
        for role, token in prompts.TOKENS.items():
            rows[vocabulary[token]] = rows[vocabulary[prompts.BEFORE[role]]]


def add_lora(internvl: InternVLForConditionalGeneration, sizes: config.Lora) -> None:
    """LoRA on every linear layer of the language model, and on nothing else: the vision tower has the same suffixes."""
    lora = LoraConfig(
        r=sizes.rank,
        lora_alpha=sizes.alpha,
        lora_dropout=sizes.dropout,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
    )
    inject_adapter_in_model(lora, internvl.model.language_model)


def merge_lora(internvl: InternVLForConditionalGeneration) -> None:
    """Each layer with LoRA becomes the plain layer that computes the same."""
    language = internvl.model.language_model
    for name, module in list(language.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge(safe_merge=True)
            language.set_submodule(name, module.get_base_layer())
    if hasattr(language, "peft_config"):
        del language.peft_config
