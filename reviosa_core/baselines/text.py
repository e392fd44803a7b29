"""Sentences to word features and one feature for the whole: RoBERTa of any size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase, RobertaConfig, RobertaModel

from reviosa_core.baselines import positions
from reviosa_core.baselines.sizes import Text
from reviosa_core.model.prompts import clean
from reviosa_core.schema import DataError


@dataclass(frozen=True)
class Tokens:
    """Sentences as numbers; `real` is False where a shorter one was filled up."""

    ids: Int[Tensor, "p l"]
    real: Bool[Tensor, "p l"]


@dataclass(frozen=True)
class Words:
    """What the text encoder says of p sentences; `positions` are the words' places, 0 to 2 pi."""

    features: Float[Tensor, "p l d"]
    real: Bool[Tensor, "p l"]
    positions: Float[Tensor, "p l d"]
    sentence: Float[Tensor, "p d"]


class TextEncoder(nn.Module):
    """RoBERTa, then one linear layer, a norm and dropout, which words and pooled sentence share."""

    def __init__(self, sizes: Text, tokenizer: PreTrainedTokenizerBase, dim: int, dropout: float) -> None:
        super().__init__()
        if len(tokenizer) > sizes.vocabulary:
            raise DataError(f"the tokenizer has {len(tokenizer)} words, the text encoder {sizes.vocabulary}")
        self.tokenizer, self.sizes = tokenizer, sizes
        self.pad: int = tokenizer.convert_tokens_to_ids(str(tokenizer.pad_token))
        self.roberta = RobertaModel(
            RobertaConfig(
                vocab_size=sizes.vocabulary,
                hidden_size=sizes.hidden,
                num_hidden_layers=sizes.layers,
                num_attention_heads=sizes.heads,
                intermediate_size=sizes.ffn,
                max_position_embeddings=sizes.positions,
                type_vocab_size=1,
                layer_norm_eps=1e-5,
                hidden_dropout_prob=dropout,
                attention_probs_dropout_prob=dropout,
                pad_token_id=self.pad,
                attn_implementation="sdpa",
            )
        )
        self.roberta.requires_grad_(not sizes.frozen)
        self.project = nn.Linear(sizes.hidden, dim)
        self.norm, self.dropout = nn.LayerNorm(dim, eps=1e-12), nn.Dropout(dropout)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """The sentences as ReVIOSa is asked them (`prompts.clean`). DataError for one that is longer than the encoder's
        table of positions: none is cut; and for one without a word."""
        found = self.tokenizer([clean(text) for text in texts], padding=True, return_tensors="pt")
        ids, real = found["input_ids"], found["attention_mask"].bool()
        if not real.any(1).all():
            raise DataError(f"a sentence without a word: {texts[int(real.any(1).int().argmin())]!r}")
        limit = self.sizes.positions - 1 - self.pad  # RoBERTa counts from the padding's number on
        if (longest := int(real.sum(1).max())) > limit:
            text = texts[int(real.sum(1).argmax())]
            raise DataError(f"a sentence of {longest} tokens, the text encoder reads {limit}: {text[:60]!r}...")
        return Tokens(ids, real)

    def forward(self, tokens: Tokens) -> Words:
        found = self.roberta(tokens.ids, attention_mask=tokens.real.long())
        features = self.dropout(self.norm(self.project(found.last_hidden_state)))
        sentence = self.dropout(self.norm(self.project(found.pooler_output)))
        places = positions.of_words(tokens.real, features.shape[-1]).to(features)
        return Words(features, tokens.real, places, sentence)
