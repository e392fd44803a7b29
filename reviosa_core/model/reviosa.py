"""ReVIOSa: InternVL reads and answers, the role tokens' states prompt SAM2, attention is pulled onto the roles."""

from __future__ import annotations

import copy
import json
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import InternVLForConditionalGeneration, PreTrainedTokenizerFast

from reviosa_core import config, losses, masks
from reviosa_core.data import sampling
from reviosa_core.model import attention, mllm, packing, prompts, segmenter
from reviosa_core.schema import Clip, Expression, Prediction, Role, Sample


@dataclass(frozen=True)
class Batch:
    """Samples as ReVIOSa trains on them. Lists run over clips b; t and e may differ between clips."""

    clip_ids: list[str]
    indices: list[tuple[int, ...]]
    frames: list[UInt8[Tensor, "_ _ _ 3"]]  # [t h w 3]
    packed: packing.Packed
    masks: dict[Role, list[Tensor]]  # bool [e t h w]
    patch_masks: dict[Role, list[Float[Tensor, "_ _ p p"]]]  # [e t p p] share of each visual token's cell


class FeatureCache:
    """What frozen encoders said about a frame, kept up to a number of bytes; the least recently used goes first."""

    def __init__(self, limit_gb: float) -> None:
        self.limit, self.held, self.store = int(limit_gb * 2**30), 0, OrderedDict()

    def get(self, key: Any, compute: Callable[[], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        if key in self.store:
            self.store.move_to_end(key)
            return self.store[key]
        value = compute()
        size = sum(t.nbytes for t in value)
        if size <= self.limit:
            while self.held + size > self.limit:
                _, old = self.store.popitem(last=False)
                self.held -= sum(t.nbytes for t in old)
            self.store[key] = value
            self.held += size
        return value


class ReVIOSa(nn.Module):
    """The paper's model. Sa2VA-style is `roles=(actor,)` without AML: a configuration, not another class.

    `aml` is the (layer, heads) the attention mask loss supervises, both counted from 0, or None. `prompted` says which
    of the K frames the language prompts: "all" as in the paper, or "first", after which SAM2 tracks.
    """

    def __init__(
        self,
        language: mllm.Mllm,
        seg: segmenter.Segmenter,
        roles: Sequence[Role],
        *,
        frames: int,
        prompted: str = "all",
        aml: tuple[int, tuple[int, ...]] | None = None,
        weights: config.LossWeights | None = None,
        cache_gb: float = 0.0,
    ) -> None:
        super().__init__()
        self.mllm, self.segmenter = language, seg
        self.roles, self.frames, self.prompted, self.aml, self.weights = tuple(roles), frames, prompted, aml, weights
        self.projector = nn.Sequential(  # MLP_seg of Eq. 4
            nn.Linear(language.width, language.width), nn.ReLU(), nn.Linear(language.width, seg.dim)
        )
        with torch.no_grad():  # a prompt SAM2 already understands: "there is something", at no place yet
            self.projector[-1].bias.copy_(seg.sam.sam_prompt_encoder.point_embeddings[1].weight[0])
        self.cache = FeatureCache(cache_gb)

    # -- What is trained ----------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Leave trainable exactly what the paper trains: LoRA on the language model, its embeddings and head, the
        projector, and the mask decoder. Vision tower, visual projector and SAM2's image encoder stay frozen."""
        self.requires_grad_(False)
        for part in (self.mllm.language.get_input_embeddings(), self.mllm.internvl.lm_head, self.projector):
            part.requires_grad_(True)
        for name, parameter in self.mllm.language.named_parameters():
            if "lora_" in name:
                parameter.requires_grad_(True)
        self.segmenter.decoder.requires_grad_(True)
        for name in ("conv_s0", "conv_s1"):  # part of the frozen image features (see Segmenter.decode)
            getattr(self.segmenter.decoder, name).requires_grad_(False)

    def parameter_groups(self, rates: config.Train) -> list[dict[str, Any]]:
        """AdamW groups with their learning rates."""
        return [
            {"params": list(self.mllm.parameters()), "lr": rates.lr},
            {"params": list(self.projector.parameters()), "lr": rates.projector_lr},
            {"params": list(self.segmenter.parameters()), "lr": rates.decoder_lr},
        ]

    # -- Training -----------------------------------------------------------------------------------------------

    def collate(self, samples: Sequence[Sample]) -> Batch:
        chat = self.mllm.template
        turns = [
            [self.mllm.turn(chat.question(e.text), chat.answer(e, self.roles)) for e in s.expressions] for s in samples
        ]
        grid = (self.mllm.grid, self.mllm.grid)
        return Batch(
            clip_ids=[s.clip_id for s in samples],
            indices=[s.indices for s in samples],
            frames=[torch.from_numpy(s.frames) for s in samples],
            packed=packing.pack([self.mllm.prefix_ids(len(s.frames)) for s in samples], turns, self.mllm.pad_id),
            masks={r: [torch.from_numpy(s.masks[r]) for s in samples] for r in self.roles},
            patch_masks={
                r: [torch.from_numpy(masks.area_resize(s.masks[r], grid)) for s in samples] for r in self.roles
            },
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.training_losses(batch)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 8, term by term, weighted: mask cross-entropy and Dice (Eq. 7), AML (Eq. 6), text.

        Mask terms and AML are summed over the roles of an expression and averaged over expressions.
        """
        w, device = self.weights, self.mllm.device
        if w is None:
            raise ValueError("this model was built for inference: no loss weights")
        packed = batch.packed.to(device)
        visual = [self._seen(batch, b)[0] for b in range(len(batch.frames))]
        rows = {role: self._rows(packed, batch, role) for role in self.roles}
        queries = torch.cat([rows[role][0] for role in self.roles])
        tap = attention.RowTap(queries, {self.aml[0]: self.aml[1]}) if self.aml else None
        hidden = self.mllm(packed, visual, row_tap=tap)

        expressions = sum(len(m) for m in batch.masks[Role.ACTOR])
        owners = [(b, e, role) for role in self.roles for b, e in rows[role][1]]
        ce, dice = self._mask_terms(batch, owners, self.projector(hidden[queries[:, 0], queries[:, 1]]))
        terms = {
            "ce": w.ce * ce.sum() / expressions,
            "dice": w.dice * dice.sum() / expressions,
            "text": w.text * self.mllm.text_loss(packed, hidden),
        }
        if tap is not None and self.aml is not None:
            maps = self.mllm.attention_maps(packed, tap, self.aml[0], [len(f) for f in batch.frames])
            truths = [batch.patch_masks[role][b][e].to(device) for b, e, role in owners]
            aml = [losses.attention_mask_loss(m, t) for m, t in zip(maps, truths, strict=True)]
            terms["aml"] = w.aml * torch.stack(aml).sum() / expressions
        return terms

    def _rows(self, packed: packing.Packed, batch: Batch, role: Role) -> tuple[Tensor, list[tuple[int, int]]]:
        """Positions of a role's tokens, and the (clip, expression) each belongs to."""
        where, turn = packed.find(self.mllm.role_ids[role])
        owners = list(zip(where[:, 0].tolist(), turn.tolist(), strict=True))
        if role is Role.ACTOR:
            due = [(b, e) for b, m in enumerate(batch.masks[role]) for e in range(len(m))]
            if owners != due:
                raise ValueError(
                    f"{len(owners)} {prompts.TOKENS[role]} states for {len(due)} masks in {batch.clip_ids}"
                )
        return where, owners

    def _mask_terms(
        self, batch: Batch, owners: list[tuple[int, int, Role]], prompt: Float[Tensor, "r d"]
    ) -> tuple[Float[Tensor, "r"], Float[Tensor, "r"]]:
        """Cross-entropy and Dice of each role token's mask, mean over the prompted frames."""
        size = self.segmenter.image_size
        features = [segmenter.FrameFeatures(*self._seen(batch, b)[1:]) for b in range(len(batch.frames))]
        shown = [range(1) if self.prompted == "first" else range(len(f)) for f in batch.frames]
        picked = segmenter.FrameFeatures.cat([features[b][list(shown[b])] for b, _, _ in owners])
        counts = torch.tensor([len(shown[b]) for b, _, _ in owners], device=prompt.device)
        logits, _ = self.segmenter.decode(picked, prompt.repeat_interleave(counts, 0))
        truth = [segmenter.to_square(batch.masks[role][b][e, list(shown[b])], size) for b, e, role in owners]
        ce, dice = losses.mask_losses(
            self.segmenter.upsample(logits, (size, size)),
            torch.cat(truth).to(prompt.device),
            self.weights.points if self.weights else 0,
        )
        owner = torch.arange(len(owners), device=prompt.device).repeat_interleave(counts)
        mean = torch.zeros(len(owners), len(owner), device=prompt.device)
        mean[owner, torch.arange(len(owner), device=prompt.device)] = (1 / counts)[owner]
        return mean @ ce, mean @ dice

    def _seen(self, batch: Batch, b: int) -> tuple[Tensor, ...]:
        """Frozen features of a clip's frames: visual tokens [t p p d], then SAM2's three maps."""
        frames = batch.frames[b]
        return self.cache.get((batch.clip_ids[b], batch.indices[b]), lambda: self._see(frames))

    @torch.no_grad()
    def _see(self, frames: UInt8[Tensor, "t h w 3"]) -> tuple[Tensor, ...]:
        shown = frames[:1] if self.prompted == "first" else frames
        sam = self.segmenter.see(shown)
        return self.mllm.see(frames), sam.stride4, sam.stride8, sam.stride16

    # -- Inference ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def segment(self, clip: Clip, expressions: Sequence[Expression]) -> list[Prediction]:
        """Read K frames, write the answers, decode the prompted frames as in training, then track over all frames.

        A role whose token was not written is empty. Each frame is encoded once, for all roles and expressions.
        """
        keys = sampling.frame_indices(len(clip), self.frames)
        visual = self.mllm.see(torch.from_numpy(np.stack([clip.frames[i] for i in keys])))
        answers = self.mllm.write(visual, [self.mllm.template.question(e.text) for e in expressions])
        objects = [(i, r, a.states[r]) for i, a in enumerate(answers) for r in self.roles if r in a.states]
        tracks = self._tracks(clip, keys, torch.stack([s for *_, s in objects])) if objects else []
        found = {(i, r): track for (i, r, _), track in zip(objects, tracks, strict=True)}
        absent = np.zeros((len(clip), *clip.size), dtype=bool)
        return [
            Prediction(clip.id, e.id, {r: found.get((i, r), absent) for r in self.roles}, answers[i].text)
            for i, e in enumerate(expressions)
        ]

    def _tracks(self, clip: Clip, keys: Sequence[int], states: Float[Tensor, "o d"]) -> list[np.ndarray]:
        """Masks [t h w] over the whole clip for each role token's state."""
        size = self.segmenter.image_size
        seen = [self.segmenter.see(torch.tensor(np.asarray(clip.frames[t]))[None]) for t in range(len(clip))]
        features = segmenter.FrameFeatures.cat(seen)
        prompt = self.projector(states)
        decoded = {}
        for key in keys[:1] if self.prompted == "first" else keys:
            decoded[key], _ = self.segmenter.decode(features[[key] * len(prompt)], prompt)
        logits = self.segmenter.track(
            features, {key: self.segmenter.upsample(d, (size, size)) > 0 for key, d in decoded.items()}
        )
        for key, d in decoded.items():  # SAM2 gives a prompted mask back coarser than it was decoded
            logits[:, key] = d
        return [(self.segmenter.upsample(track, clip.size) > 0).cpu().numpy() for track in logits]

    @torch.no_grad()
    def attention(
        self, clip: Clip, layers: Sequence[int] | None = None
    ) -> dict[tuple[str, Role], dict[int, Float[np.ndarray, "h t p q"]]]:
        """Attention of each role token to the visual tokens when the true answer is read, by (expression id, role),
        then layer (default: all), every head. For analysis: nothing here is used to segment."""
        sample = sampling.take(clip, sampling.frame_indices(len(clip), self.frames))
        batch = self.collate([sample])
        packed = batch.packed.to(self.mllm.device)
        rows = {role: self._rows(packed, batch, role) for role in self.roles}
        count = self.mllm.internvl.config.text_config.num_hidden_layers
        tap = attention.RowTap(
            torch.cat([rows[r][0] for r in self.roles]), dict.fromkeys(range(count) if layers is None else layers)
        )
        self.mllm(packed, [self.mllm.see(batch.frames[0])], row_tap=tap)
        owners = [(sample.expressions[e].id, r) for r in self.roles for _, e in rows[r][1]]
        maps: dict[tuple[str, Role], dict[int, np.ndarray]] = {owner: {} for owner in owners}
        for layer in tap.rows:
            for owner, row in zip(
                owners, self.mllm.attention_maps(packed, tap, layer, [len(sample.frames)]), strict=True
            ):
                maps[owner][layer] = row.cpu().numpy()
        return maps

    # -- Saving and loading ---------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, sizes: config.Model, card: dict[str, Any] | None = None) -> None:
        """Everything inference needs: model.safetensors, reviosa.json (sizes, roles, template), the tokenizer."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({k: v.contiguous().cpu() for k, v in self.state_dict().items()}, folder / "model.safetensors")
        self.mllm.tokenizer.save_pretrained(folder)
        about = {
            "format": "reviosa-workbook 1",
            "sizes": sizes.model_dump(mode="json"),
            "roles": list(self.roles),
            "aml": self.aml,
            "template": self.mllm.template.name,
            "card": card or {},
        }
        (folder / "reviosa.json").write_text(json.dumps(about, indent=1))

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> ReVIOSa:
        """A model saved by `save_pretrained`, in evaluation mode.

        Raises FileNotFoundError naming the missing file; RuntimeError naming missing, unexpected or misshapen tensors.
        """
        folder = Path(folder)
        for name in ("reviosa.json", "model.safetensors", "tokenizer.json"):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder} is not a ReVIOSa checkpoint: no {name}")
        about = json.loads((folder / "reviosa.json").read_text())
        sizes = config.Model.model_validate(about["sizes"])
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        internvl = mllm.build(sizes.mllm, tokenizer)
        mllm.add_lora(internvl, sizes.mllm.lora)
        aml = about["aml"] and (about["aml"][0], tuple(about["aml"][1]))
        model = cls(
            mllm.Mllm(internvl, tokenizer, about["template"]),
            segmenter.Segmenter(segmenter.build(sizes.segmenter)),
            tuple(map(Role, about["roles"])),
            frames=sizes.mllm.frames,
            prompted=sizes.segmenter.prompted,
            aml=aml,
        )
        model.load_state_dict(load_file(folder / "model.safetensors"))
        return model.eval()


def save_backbones(folder: Path, internvl: InternVLForConditionalGeneration, tokenizer: Any, sam: nn.Module) -> None:
    """The two pretrained backbones, in half precision: what InternVL-2.5 and SAM2 checkpoints are to the paper."""
    copy.deepcopy(internvl).half().save_pretrained(folder / "internvl")
    tokenizer.save_pretrained(folder / "internvl")
    save_file({k: v.half().contiguous().cpu() for k, v in sam.state_dict().items()}, folder / "sam2.safetensors")


def from_backbones(
    folder: Path,
    sizes: config.Model,
    experiment: config.Experiment,
    *,
    seed: int,
    aml: tuple[int, tuple[int, ...]] | None,
    settings: config.Train,
) -> ReVIOSa:
    """Pretrained backbones, joined and ready to fine-tune: role tokens, LoRA and projector new, the rest frozen.

    `aml` is the selected (layer, heads); it is used when the experiment asks for AML. Raises ValueError when it does
    and none is given, RuntimeError when the weights do not fit the sizes.
    """
    if experiment.aml and aml is None:
        raise ValueError("the experiment trains with AML, but no layer and heads were selected")
    torch.manual_seed(seed)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "internvl")
    internvl = mllm.load(folder / "internvl")
    mllm.add_role_tokens(internvl, tokenizer)
    mllm.add_lora(internvl, sizes.mllm.lora)
    sam = segmenter.build(sizes.segmenter)
    sam.load_state_dict(load_file(folder / "sam2.safetensors"))
    model = ReVIOSa(
        mllm.Mllm(internvl, tokenizer, "tiny_chat" if prompts.place(0) in tokenizer.get_vocab() else "qwen_chat"),
        segmenter.Segmenter(sam),
        experiment.roles,
        frames=sizes.mllm.frames,
        prompted=sizes.segmenter.prompted,
        aml=aml if experiment.aml else None,
        weights=settings.loss,
        cache_gb=settings.cache_gb,
    )
    model.freeze()
    if settings.gradient_checkpointing:
        # Not the reentrant kind: with a row tap its gradients would be silently wrong.
        model.mllm.language.gradient_checkpointing_enable({"use_reentrant": False})
    return model
