"""ReVIOSa: InternVL reads and answers, the role tokens' states prompt SAM2, attention is pulled onto the roles."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from reviosa_core import config, masks
from reviosa_core.data import sampling
from reviosa_core.model import attention, losses, mllm, packing, prompts, segmenter
from reviosa_core.schema import RLE, Clip, Confidence, Expression, Prediction, Role, Sample

PIXELS = 16 * 1024**2  # of SAM2's input, encoded at once


@dataclass(frozen=True)
class Batch:
    """Samples as ReVIOSa trains on them. Lists run over clips b; t and e may differ between clips. `there` has the
    expressions e of each clip that an actor is due for: all that are not about nothing."""

    clip_ids: list[str]
    indices: list[tuple[int, ...]]
    frames: list[UInt8[Tensor, "_ _ _ 3"]]  # [t h w 3]
    packed: packing.Packed
    there: list[tuple[int, ...]]
    masks: dict[Role, list[Tensor]]  # bool [e t h w]
    patch_masks: dict[Role, list[Float[Tensor, "_ _ p p"]]]  # [e t p p] share of each visual token's cell


class FeatureCache:
    """What frozen encoders said about a frame, kept up to a number of bytes; the least recently used goes first."""

    def __init__(self, limit_gb: float) -> None:
        self.limit, self.held, self.store = int(limit_gb * 2**30), 0, OrderedDict()

    def get(self, key: Any) -> tuple[Tensor, ...] | None:
        if key in self.store:
            self.store.move_to_end(key)
        return self.store.get(key)

    def keep(self, key: Any, value: tuple[Tensor, ...]) -> None:
        """Unless it is there, or larger than all that may be held."""
        size = sum(t.nbytes for t in value)
        if key in self.store or size > self.limit:
            return
        while self.held + size > self.limit:
            _, old = self.store.popitem(last=False)
            self.held -= sum(t.nbytes for t in old)
        self.store[key] = value
        self.held += size


class ReVIOSa(nn.Module):
    """The paper's model. Sa2VA-style is `roles=(actor,)` without AML: a configuration, not another class.

    `aml` is the (layer, heads) the attention mask loss supervises, both counted from 0, or None. `prompted` says which
    of the K frames the language prompts: "all" as in the paper, or "first", after which SAM2 tracks. `visual_projector`
    is "frozen" as in the paper, or "trained" as in the release.
    """

    def __init__(
        self,
        language: mllm.Mllm,
        seg: segmenter.Segmenter,
        roles: Sequence[Role],
        *,
        frames: int,
        prompted: Literal["first", "all"] = "all",
        visual_projector: Literal["frozen", "trained"] = "frozen",
        aml: tuple[int, tuple[int, ...]] | None = None,
        weights: config.LossWeights | None = None,
        cache_gb: float = 0.0,
    ) -> None:
        super().__init__()
        self.mllm, self.segmenter = language, seg
        self.roles, self.frames, self.aml, self.weights = tuple(roles), frames, aml, weights
        self.prompted: Literal["first", "all"] = prompted
        self.visual_projector: Literal["frozen", "trained"] = visual_projector
        self.projector = nn.Sequential(  # MLP_seg of Eq. 4
            nn.Linear(language.width, language.width), nn.ReLU(), nn.Linear(language.width, seg.dim)
        )
        with torch.no_grad():  # a prompt SAM2 already understands: "there is something", at no place yet
            self.projector[-1].bias.copy_(seg.sam.sam_prompt_encoder.point_embeddings[1].weight[0])
        self.cache = FeatureCache(cache_gb)

    # -- What is trained ----------------------------------------------------------------------------------------

    def freeze(self) -> None:
        """Leave trainable LoRA on the language model, its embeddings and head, the projector, and the mask decoder.
        Vision tower and SAM2's image encoder stay frozen, the visual projector where nothing else is said;
        docs/departures.md says who trains more."""
        self.requires_grad_(False)
        for parameter in self.trained().values():
            parameter.requires_grad_(True)

    def trained(self) -> dict[str, nn.Parameter]:
        """What is trained, by name. No loss reaches the decoder's IoU and object-score heads: they do not move."""
        vocabulary = ("mllm.internvl.model.language_model.embed_tokens.", "mllm.internvl.lm_head.")
        seeing = ("mllm.internvl.model.multi_modal_projector.",) if self.visual_projector == "trained" else ()
        unused = ("segmenter.decoder.conv_s0.", "segmenter.decoder.conv_s1.")  # see Segmenter.decode
        return {
            name: parameter
            for name, parameter in self.named_parameters()
            if "lora_" in name
            or name.startswith((*vocabulary, *seeing, "projector.", "segmenter.decoder."))
            and not name.startswith(unused)
        }

    def parameter_groups(self, rates: config.Train) -> list[dict[str, Any]]:
        """AdamW groups with their learning rates."""
        return [
            {"params": list(self.mllm.parameters()), "lr": rates.lr},
            {"params": list(self.projector.parameters()), "lr": rates.projector_lr},
            {"params": list(self.segmenter.parameters()), "lr": rates.decoder_lr},
        ]

    # -- Training -----------------------------------------------------------------------------------------------

    def collate(self, samples: Sequence[Sample], rng: np.random.Generator | None = None) -> Batch:
        """The batch, asked in the fixed words, or in words drawn by `rng` where the wording has several."""
        chat = self.mllm.template
        turns = [
            [self.mllm.turn(chat.question(e.text, rng), chat.answer(e, self.roles, rng)) for e in s.expressions]
            for s in samples
        ]
        grid = (self.mllm.grid, self.mllm.grid)
        return Batch(
            clip_ids=[s.clip_id for s in samples],
            indices=[s.indices for s in samples],
            frames=[torch.from_numpy(s.frames) for s in samples],
            packed=packing.pack([self.mllm.prefix_ids(len(s.frames)) for s in samples], turns, self.mllm.pad_id),
            there=[tuple(i for i, e in enumerate(s.expressions) if not e.is_about_nothing) for s in samples],
            masks={r: [torch.from_numpy(s.masks[r]) for s in samples] for r in self.roles},
            patch_masks={
                r: [torch.from_numpy(masks.area_resize(s.masks[r], grid)) for s in samples] for r in self.roles
            },
        )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.training_losses(batch)

    def training_losses(self, batch: Batch) -> dict[str, Tensor]:
        """Eq. 8, term by term, weighted: mask cross-entropy and Dice (Eq. 7), AML (Eq. 6), text.

        Mask terms and AML are summed over the roles of an expression and averaged over the expressions that are about
        something; what is about nothing has no token and no row, and is learnt from its text alone.
        """
        w, device = self.weights, self.mllm.device
        if w is None:
            raise ValueError("this model was built for inference: no loss weights")
        packed = batch.packed.to(device)
        # Once for both readers: without a cache a second look would pass every frame through both encoders again.
        visual, features = self._seen(batch)
        rows = {role: self._rows(packed, batch, role) for role in self.roles}
        queries = torch.cat([rows[role][0] for role in self.roles])
        tap = attention.RowTap(queries, {self.aml[0]: self.aml[1]}) if self.aml and len(queries) else None
        hidden = self.mllm(packed, visual, row_tap=tap)

        expressions = len(rows[Role.ACTOR][1]) or 1
        owners = [(b, e, role) for role in self.roles for b, e in rows[role][1]]
        ce, dice = self._mask_terms(batch, features, owners, self.prompt(hidden[queries[:, 0], queries[:, 1]]))
        terms = {
            "ce": w.ce * ce.sum() / expressions,
            "dice": w.dice * dice.sum() / expressions,
            "text": w.text * self.mllm.text_loss(packed, hidden),
        }
        if self.aml and not owners:  # only sentences about nothing: 0, as processes add the same terms up
            terms["aml"] = w.aml * ce.sum()
        if tap is not None and self.aml is not None:
            shown = slice(1 if (w.aml_frames, self.prompted) == ("prompted", "first") else None)
            over = [len(rows[role][1]) if w.aml_over == "rows" else expressions for *_, role in owners]
            parts = []
            for own, maps in self.mllm.attention_maps(packed, tap, self.aml[0], [len(f) for f in batch.frames]):
                truth = torch.stack([batch.patch_masks[role][b][e] for b, e, role in (owners[i] for i in own)])
                by_head = losses.attention_mask_loss(maps[:, :, shown], truth[:, shown].to(device), w.aml_form)
                by_row = by_head.sum(1) if w.aml_heads == "sum" else by_head.mean(1)
                parts.append((by_row / torch.tensor([over[i] for i in own], device=device)).sum())
            terms["aml"] = w.aml * torch.stack(parts).sum()
        return terms

    def prompt(self, states: Float[Tensor, "r w"]) -> Float[Tensor, "r d"]:
        """What SAM2 is told for each role token's state (Eq. 4). It runs in float32 whatever InternVL runs in."""
        return self.projector(states.to(self.projector[0].weight.dtype))

    def _rows(self, packed: packing.Packed, batch: Batch, role: Role) -> tuple[Tensor, list[tuple[int, int]]]:
        """Positions of a role's tokens, and the (clip, expression) each belongs to."""
        where, turn = packed.find(self.mllm.token_id(prompts.TOKENS[role]))
        owners = list(zip(where[:, 0].tolist(), turn.tolist(), strict=True))
        if role is Role.ACTOR:
            due = [(b, e) for b, there in enumerate(batch.there) for e in there]
            if owners != due:
                raise ValueError(
                    f"{len(owners)} {prompts.TOKENS[role]} states for {len(due)} masks in {batch.clip_ids}"
                )
        return where, owners

    def _mask_terms(
        self,
        batch: Batch,
        features: Sequence[segmenter.FrameFeatures],
        owners: list[tuple[int, int, Role]],
        prompt: Float[Tensor, "r d"],
    ) -> tuple[Float[Tensor, "r"], Float[Tensor, "r"]]:
        """Cross-entropy and Dice of each role token's mask, mean over the prompted frames."""
        if not owners:  # only sentences about nothing: no row, whose sum is 0
            return prompt.sum(1), prompt.sum(1)
        size, device = self.segmenter.image_size, prompt.device
        shown = [1 if self.prompted == "first" else len(f) for f in batch.frames]
        first = [0, *accumulate(shown)]  # of each clip, of the frames of all clips in a row
        places = torch.tensor([first[b] + t for b, _, _ in owners for t in range(shown[b])], device=device)
        counts = torch.tensor([shown[b] for b, _, _ in owners], device=device)
        prompted = segmenter.FrameFeatures.cat([f[:n] for f, n in zip(features, shown, strict=True)])
        logits, _ = self.segmenter.decode(prompted[places], prompt.repeat_interleave(counts, 0))
        drawn = []  # a role and a clip at a time: those of a clip are of one size
        for (role, b), some in groupby(owners, lambda owner: (owner[2], owner[0])):
            own = batch.masks[role][b][[e for _, e, _ in some], : shown[b]]
            drawn.append(segmenter.to_square(own.to(device), size).flatten(0, 1))
        ce, dice = losses.mask_losses(
            self.segmenter.upsample(logits, (size, size)),
            torch.cat(drawn),
            self.weights.points if self.weights else 0,
        )
        owner = torch.arange(len(owners), device=device).repeat_interleave(counts)
        ce, dice = (x.new_zeros(len(owners)).index_add(0, owner, x) / counts for x in (ce, dice))
        return ce, dice

    def _seen(self, batch: Batch) -> tuple[list[Tensor], list[segmenter.FrameFeatures]]:
        """Of each clip's frames, the frozen parts seen once: visual tokens [t p p d], and SAM2's features of frames to
        be prompted."""
        keys = list(zip(batch.clip_ids, batch.indices, strict=True))
        found = [self.cache.get(key) for key in keys]  # all of them first: what is kept then may push one out
        for some in self._at_once([i for i, known in enumerate(found) if known is None], batch.frames):
            for i, value in zip(some, self._see([batch.frames[i] for i in some]), strict=True):
                found[i] = value
                self.cache.keep(keys[i], value)
        seen = [value for value in found if value is not None]
        visual = [tokens for tokens, *_ in seen]
        if self.visual_projector == "trained":
            visual = [self.mllm.project(tokens) for tokens in visual]
        return visual, [segmenter.FrameFeatures(*maps) for _, *maps in seen]

    def _at_once(self, clips: Sequence[int], frames: Sequence[Tensor]) -> Iterator[list[int]]:
        """The clips whose frames go through the encoders together: on a GPU, which waits for calls and not for pixels,
        neighbours of one shape, up to `PIXELS` of SAM2's; on a CPU one by one, since what stands beside a frame would
        move its last digit, and a run that goes on has other neighbours."""
        some: list[int] = []
        for i in clips:
            pixels = (len(some) + 1) * len(frames[i]) * self.segmenter.image_size**2
            if some and (frames[i].shape != frames[some[0]].shape or pixels > PIXELS or self.mllm.device.type == "cpu"):
                yield some
                some = []
            some.append(i)
        if some:
            yield some

    @torch.no_grad()
    def _see(self, clips: Sequence[UInt8[Tensor, "t h w 3"]]) -> Iterator[tuple[Tensor, ...]]:
        """Of clips of one shape."""
        clips = [frames.to(self.mllm.device) for frames in clips]
        shown = [frames[:1] if self.prompted == "first" else frames for frames in clips]
        sam = self.segmenter.see(torch.cat(shown))
        see = self.mllm.unprojected if self.visual_projector == "trained" else self.mllm.see
        tokens = see(torch.cat(clips))
        found, n = (tokens, sam.stride4, sam.stride8, sam.stride16), len(clips)
        # Of several each its own copy, as the cache counts them.
        return zip(*([x] if n == 1 else map(torch.clone, x.chunk(n)) for x in found), strict=True)

    # -- Inference ----------------------------------------------------------------------------------------------

    def segment(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """`run_lengths`, with bool masks [t h w] by role."""
        return [
            replace(p, masks={role: masks.decode_all(own, clip.size) for role, own in p.masks.items()})
            for p in self.run_lengths(clip, expressions)
        ]

    def numbers(self) -> torch.autocast:
        """What predictions are computed in: bfloat16, SAM2 too, where InternVL is; SAM2's weights stay in float32."""
        half = self.mllm.internvl.dtype == torch.bfloat16
        return torch.autocast(self.mllm.device.type, torch.bfloat16, enabled=half)

    def run_lengths(self, clip: Clip, expressions: Sequence[Expression] | None = None) -> list[Prediction]:
        """One prediction per expression (by default all of the clip's), in order: run lengths by role, over all frames,
        at the clip's own size, the answer as the model wrote it, and how sure it is.

        Read K frames, write the answers, decode the prompted frames as in training, then track over all frames.

        A role whose token was not written is empty. Each frame is encoded once, for all roles and expressions, and is
        held for as long as SAM2's memory looks back.
        """
        expressions = clip.expressions if expressions is None else expressions
        with torch.no_grad(), self.numbers():
            return self._run_lengths(clip, expressions) if expressions else []

    def _run_lengths(self, clip: Clip, expressions: Sequence[Expression]) -> list[Prediction]:
        keys = {t: torch.tensor(np.asarray(clip.frames[t])) for t in sampling.frame_indices(len(clip), self.frames)}
        visual = self.mllm.see(torch.stack(list(keys.values())))
        answers = self.mllm.write(visual, [self.mllm.template.question(e.text) for e in expressions])
        objects = [(i, r) for i, a in enumerate(answers) for r in self.roles if r in a.states]
        absent = masks.encode(np.zeros(clip.size, dtype=bool))
        found: dict[tuple[int, Role], list[RLE]] = {
            (i, r): [absent] * len(clip) for i in range(len(expressions)) for r in self.roles
        }
        sure = {owner: np.zeros((2, len(clip))) for owner in found}  # IoU, and the object is there
        if objects:
            states = torch.stack([answers[i].states[r] for i, r in objects])
            for t, drawn, *estimates in self._tracks(clip, keys, states):
                for row, owner in enumerate(objects):
                    found[owner][t] = masks.encode(drawn[row])
                    sure[owner][:, t] = [estimate[row] for estimate in estimates]
        return [
            Prediction(
                clip.id,
                e.id,
                {r: found[i, r] for r in self.roles},
                answers[i].text,
                frozenset(answers[i].states).intersection(self.roles),
                confidence={r: Confidence(answers[i].probability.get(r, 0.0), *sure[i, r]) for r in self.roles},
            )
            for i, e in enumerate(expressions)
        ]

    def _tracks(
        self, clip: Clip, keys: Mapping[int, UInt8[Tensor, "h w 3"]], states: Float[Tensor, "o d"]
    ) -> Iterator[tuple[int, np.ndarray, list[float], list[float]]]:
        """Every frame once, in the order of SAM2's visits: its number, masks [o h w] for each role token's state, the
        IoU that SAM2 estimates for them, and its probability that the objects are there."""
        prompt, size = self.prompt(states), self.segmenter.image_size
        shown = list(keys)[:1] if self.prompted == "first" else list(keys)
        seen = {t: self.segmenter.see(keys[t][None]) for t in shown}
        decoded = {t: self.segmenter.answer(seen[t][[0] * len(prompt)], prompt) for t in shown}
        given = {t: self.segmenter.upsample(d.logits, (size, size)) > 0 for t, d in decoded.items()}

        def see(t: int) -> segmenter.FrameFeatures:
            if t in seen:
                return seen.pop(t)
            return self.segmenter.see((keys[t] if t in keys else torch.tensor(np.asarray(clip.frames[t])))[None])

        for t, found in self.segmenter.carry(see, len(clip), given):
            best = decoded.get(t, found)  # SAM2 gives a prompted mask back coarser than it was decoded
            drawn = (self.segmenter.upsample(best.logits, clip.size) > 0).cpu().numpy()
            score = found.score if best.score is None else best.score
            yield t, drawn, best.iou.float().clamp(0, 1).tolist(), score.float().sigmoid().tolist()

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
        queries = torch.cat([rows[r][0] for r in self.roles])
        if not len(queries):  # every sentence is about nothing
            return {}
        count = self.mllm.internvl.config.text_config.num_hidden_layers
        tap = attention.RowTap(queries, dict.fromkeys(range(count) if layers is None else layers))
        self.mllm(packed, [self.mllm.see(batch.frames[0])], row_tap=tap)
        owners = [(sample.expressions[e].id, r) for r in self.roles for _, e in rows[r][1]]
        maps: dict[tuple[str, Role], dict[int, np.ndarray]] = {owner: {} for owner in owners}
        for layer in tap.rows:
            ((_, found),) = self.mllm.attention_maps(packed, tap, layer, [len(sample.frames)])
            for owner, row in zip(owners, found.cpu().numpy(), strict=True):
                maps[owner][layer] = row
        return maps

    def merge_lora(self) -> ReVIOSa:
        """Fold LoRA into the layers it is beside; the same model, without LoRA."""
        mllm.merge_lora(self.mllm.internvl)
        return self
