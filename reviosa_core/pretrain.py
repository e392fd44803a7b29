"""Phase (a) of the tiny profile: make, from nothing, what InternVL-2.5 and SAM2 checkpoints are to the paper.

Four loops over procedural clips that no benchmark split contains:
  segmenter  class-agnostic promptable video segmentation, as SAM2 was trained (points, boxes, masks, then memory)
  vision     to see: the vision tower learns to name what each visual token shows, and where it lies
  watching   the language model learns, without a text, where what is here was before, and what it does
  mllm       to read: grounded answers ("Where is the red circle?" -> one place a frame), and which visual tokens a
             phrase or an answer means
No role token, no LoRA and no mask decoder prompted by language appears here: that is phase (b).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sam2.modeling.sam.transformer import Attention
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from reviosa_core import config, losses, masks
from reviosa_core.data import intershapes, sampling, verbs
from reviosa_core.model import mllm, packing, segmenter
from reviosa_core.model.attention import RowTap
from reviosa_core.model.pixels import normalise
from reviosa_core.model.prompts import TEMPLATES, place
from reviosa_core.train import Log, adamw, code, fit

CODE = ("data/intershapes.py", "data/verbs.py", "losses.py", "masks.py", "model", "pretrain.py", "train.py")
BACKGROUND = "background"
BLOCK = 512  # scenes made ahead of those who take them
STILL = 0.04  # displacement in frame sides under which an object counts as still


def scenes(data: config.Data, seed: int, stop: int, start: int = 0) -> Iterator[intershapes.Scene]:
    """The pretraining clips: made in memory from their own seeds, never written, never in a split."""
    seeds = [(seed, intershapes.SPLITS["pretrain"], i) for i in range(start, stop)]
    with ProcessPoolExecutor() as pool, tqdm(total=len(seeds), desc="scenes", mininterval=10) as progress:
        for first in range(0, len(seeds), BLOCK):
            for scene in pool.map(partial(intershapes.make_scene, data), seeds[first : first + BLOCK], chunksize=32):
                progress.update()
                yield scene


def optimizers(module: nn.Module, phase: config.Phase) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of all numbered layers, AdamW for the rest: that needs half the steps of AdamW alone
    (LOG.md)."""
    layers = (m for name, m in module.named_modules() if isinstance(m, nn.Linear) and re.search(r"\.\d+\.", name))
    linear = {id(layer.weight) for layer in layers}
    trained = [p for p in module.parameters() if p.requires_grad]
    matrices = [p for p in trained if id(p) in linear]
    rest = [p for p in trained if id(p) not in linear]
    return [
        torch.optim.Muon(matrices, phase.muon_lr, phase.weight_decay, adjust_lr_fn="match_rms_adamw"),
        *adamw([{"params": rest, "lr": phase.lr}], phase),
    ]


# -- SAM2: promptable segmentation with memory -----------------------------------------------------------------------


def pretrain_segmenter(
    sam: SAM2Base,
    clips: Sequence[intershapes.Scene],
    phases: config.Pretrain,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
) -> None:
    """SAM2's own recipe in short: first promptable segmentation of images (points, boxes), then of pairs of frames and
    of videos (mostly masks), prompted on the first frame and tracked through memory."""
    # An untrained object score gates masks to -1024, and with them every gradient: start by believing in objects.
    nn.init.constant_(sam.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 2.0)
    # A point finds its place by its position code, and sooner when queries and keys start alike (LOG.md).
    for module in sam.sam_mask_decoder.transformer.modules():
        if isinstance(module, Attention) and module.internal_dim < module.embedding_dim:  # the cross-attentions
            nn.init.orthogonal_(module.q_proj.weight, gain=2.0)
            module.k_proj.load_state_dict(module.q_proj.state_dict())
    # A place first reads the memory of the same place: equal biases make attention a function of distance, by RoPE.
    for layer in sam.memory_attention.layers.children():
        for projection in (layer.cross_attn_image.q_proj, layer.cross_attn_image.k_proj):
            nn.init.constant_(projection.bias, 2.0)
    stages = (
        ("images", phases.segmenter_images, 1),
        ("pairs", phases.segmenter_pairs, 2),
        ("videos", phases.segmenter, 4),
    )
    fingerprint += f" {code(*CODE)}"
    for name, phase, frames in stages:
        fingerprint += f" {phase!r}"  # what a checkpoint depends on: all phases up to its own
        step = _CallStep(sam, partial(_segmenter_losses, clips=clips, phase=phase, seed=seed, objects=4, frames=frames))
        fit(
            step, lambda m, micro: m(micro), optimizers(step, phase), phase,
            folder=folder / f"segmenter_{name}", seed=seed, fingerprint=fingerprint, log=log,
            label=f"pretrain SAM2, {name}",
        )  # fmt: skip


class _CallStep(nn.Module):
    """Gives a model without a useful forward one: the losses of a step."""

    def __init__(self, model: nn.Module, losses_of_step: Callable) -> None:
        super().__init__()
        self.model, self.losses_of_step = model, losses_of_step

    def forward(self, micro: int) -> dict[str, Tensor]:
        return self.losses_of_step(self.model, micro)


def _segmenter_losses(
    sam: SAM2Base,
    micro: int,
    clips: Sequence[intershapes.Scene],
    phase: config.Phase,
    seed: int,
    objects: int,
    frames: int,
) -> dict[str, Tensor]:
    rng = np.random.default_rng((seed, micro))
    device = sam.device
    images, truth = [], []
    for index in rng.integers(len(clips), size=phase.batch):
        scene = clips[index]
        length = len(scene.frames)
        stride = int(rng.integers(1, max(2, (length - 1) // max(1, frames - 1) + 1)))
        start = int(rng.integers(0, length - stride * (frames - 1)))
        times = start + stride * np.arange(frames)
        visible = [k for k in range(len(scene.shapes)) if (scene.labels[times[0]] == k + 1).sum() >= 12]
        picked = rng.choice(visible, size=objects, replace=len(visible) < objects)
        images.append(torch.from_numpy(scene.frames[times]))
        truth.append(torch.from_numpy(scene.labels[times][None] == (picked + 1)[:, None, None, None]))
    pixels = normalise(torch.stack(images).to(device), sam.image_size)  # [b t 3 s s]
    target = segmenter.to_square(torch.cat(truth).to(device), sam.image_size)  # [o t s s], clip-major

    features = segmenter.FrameFeatures(*sam.forward_image(pixels.flatten(0, 1))["backbone_fpn"])
    index = torch.arange(phase.batch * frames, device=device).view(phase.batch, frames)
    kinds = ("point", "box", "point") if frames == 1 else ("mask", "mask", "mask", "point")
    kind = kinds[micro % len(kinds)]
    book: dict[str, dict] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    terms: dict[str, Tensor] = {}
    for t in range(frames):
        first = t == 0
        stock = segmenter.stock_features(sam, features[index[:, t]], len(target))
        out, heads, _, _ = sam._track_step(
            t,
            first,
            **stock,
            point_inputs=_prompt(target[:, 0], kind, rng) if first and kind != "mask" else None,
            mask_inputs=target[:, :1].float() if first and kind == "mask" else None,
            output_dict=book,
            num_frames=frames,
            track_in_reverse=False,
            prev_sam_mask_logits=None,
        )
        candidates, _, ious, low, high, pointer, score = heads
        out |= {"pred_masks": low, "pred_masks_high_res": high, "obj_ptr": pointer}
        sam._encode_memory_in_output(stock["current_vision_feats"], stock["feat_sizes"], None, True, high, score, out)
        book["cond_frame_outputs" if first else "non_cond_frame_outputs"][t] = out
        if not (first and kind == "mask"):
            for name, term in _candidate_losses(candidates, ious, score, target[:, t]).items():
                terms[name] = terms.get(name, torch.zeros((), device=device)) + term / frames
    return terms


def _prompt(target: torch.Tensor, kind: str, rng: np.random.Generator) -> dict[str, Tensor]:
    """A positive point inside each mask [o s s], or its jittered box as two corner points. Pixels, (x, y)."""
    coordinates = []
    for mask in target.cpu().numpy():
        ys, xs = mask.nonzero()
        if kind == "point":
            i = rng.integers(len(xs))
            coordinates.append([[xs[i], ys[i]]])
        else:
            low, high = np.array([xs.min(), ys.min()]), np.array([xs.max(), ys.max()])
            coordinates.append(np.stack([low, high]) + rng.normal(0, 0.07, (2, 2)) * (high - low + 1))
    labels = [1] if kind == "point" else [2, 3]  # SAM's labels: positive click; top left, bottom right
    return {
        "point_coords": torch.tensor(np.array(coordinates), dtype=torch.float32, device=target.device),
        "point_labels": torch.tensor([labels] * len(target), dtype=torch.int32, device=target.device),
    }


def _candidate_losses(
    candidates: Float[Tensor, "o m a b"], ious: Float[Tensor, "o m"], score: Float[Tensor, "o 1"], target: Tensor
) -> dict[str, Tensor]:
    """SAM2's: the best of m candidate masks learns, every IoU estimate learns, the score learns presence."""
    o, m = ious.shape
    present = target.flatten(1).any(1)
    logits = F.interpolate(candidates, target.shape[-2:], mode="bilinear", align_corners=False)
    repeated = target[:, None].expand(-1, m, -1, -1)
    gated = candidates.detach().amax((1, 2, 3)) <= -1000  # the score said "no object": these masks carry no gradient
    ce, dice = losses.mask_losses(logits.flatten(0, 1).clamp(-30, 30), repeated.flatten(0, 1), points=512)
    best, which = (2 * ce + dice).view(o, m).min(1)
    with torch.no_grad():
        guess = logits > 0
        union = (guess | repeated).flatten(2).sum(2).clamp(min=1)
        true_iou = (guess & repeated).flatten(2).sum(2) / union
    learns = present & ~gated
    count = learns.sum().clamp(min=1)
    return {
        "mask": (best * learns).sum() / count,
        "iou": ((ious - true_iou).abs().mean(1) * learns).sum() / count,
        "presence": F.binary_cross_entropy_with_logits(score[:, 0], present.float()),
    }


# -- What is where: targets on the grid of visual tokens --------------------------------------------------------------


@dataclass(frozen=True)
class Grounded:
    """A clip as the language model's pretraining sees it."""

    coverage: Float[np.ndarray, "k t p p"]  # share of each token's cell that object k covers
    looks: tuple[tuple[str, str], ...]  # colour and kind of each object
    deeds: tuple[tuple[str, ...], ...]  # what each object does: heading, and its part in an interaction
    cells: tuple[tuple[int, ...], ...]  # cell of each object's centre, by frame
    utterances: tuple[intershapes.Utterance, ...]


def ground(
    scene: intershapes.Scene, grid: int, frames: Sequence[int], rng: np.random.Generator | None = None
) -> Grounded:
    """Everything the labels say about some frames of a scene, at the resolution of the visual tokens.

    To the scene's own expressions come the plain names of its objects ("the red circle", whether or not it is the only
    one), and its interactions without any name ("the object pushing another object"): elsewhere names often suffice.
    """
    count, shown = len(scene.shapes), list(frames)
    covered = np.stack([masks.area_resize(scene.labels[shown] == k + 1, (grid, grid)) for k in range(count)])
    moves = scene.centres[:, -1] - scene.centres[:, 0]
    deeds = [[_heading(move)] for move in moves]
    for event in scene.interactions:
        for own, k in zip(verbs.VERBS[event.verb].deeds(), (event.a, event.b), strict=True):
            deeds[k] += own
    for solo in scene.solos:
        deeds[solo.k] += verbs.VERBS[solo.verb].deeds()[0 if solo.agent else 1]
    looks = tuple((s.color, s.kind) for s in scene.shapes)
    names = []
    for look in dict.fromkeys(looks):
        same = tuple(k for k in range(count) if looks[k] == look)
        phrase = intershapes.Phrase(0, 3, same)
        names.append(
            intershapes.Utterance(
                f"the {' '.join(look)}", "single", same, None, (phrase,), None, "appearance", "appearance", "appearance"
            )
        )
    cells = np.clip((scene.centres[:, shown] * grid).astype(int), 0, grid - 1)
    return Grounded(
        covered,
        looks,
        tuple(map(tuple, deeds)),
        tuple(tuple(int(y) * grid + int(x) for x, y in path) for path in cells),
        (*scene.utterances, *names, *intershapes.nameless(scene, rng or np.random.default_rng(0))),
    )


def _heading(move: np.ndarray) -> str:
    if np.abs(move).max() < STILL:
        return "still"
    x, y = move
    if abs(x) > abs(y):
        return "right" if x > 0 else "left"
    return "down" if y > 0 else "up"


def words(grid: int, frames: int) -> list[str]:
    """The tiny tokenizer's vocabulary: prompts, benchmark, places."""
    places = [place(cell) for cell in range(grid**2)]
    return [*mllm.template_words(frames), *intershapes.vocabulary(), "Where", "?", BACKGROUND, *places]


def _tag_target(clip: Grounded, model: mllm.Mllm, tags: Sequence[Sequence[str]]) -> Float[Tensor, "t p p v"]:
    """Distribution over the vocabulary for each visual token: the tags of what covers it, by share."""
    vocabulary = len(model.tokenizer)
    by_object = torch.zeros(len(tags), vocabulary)
    for row, own in enumerate(tags):
        for word in own:
            by_object[row, model.token_id(word)] += 1 / len(own)
    covered = torch.from_numpy(clip.coverage)
    target = torch.einsum("ktpq,kv->tpqv", covered, by_object)
    target[..., model.token_id(BACKGROUND)] += (1 - covered.sum(0)).clamp(min=0)
    return target


def _tag_loss(logits: Float[Tensor, "*n v"], target: Float[Tensor, "*n v"], background: int) -> Tensor:
    """Soft cross-entropy; tokens that show only background count a tenth."""
    weight = 1.1 - target[..., background]
    return (-(target * logits.float().log_softmax(-1)).sum(-1) * weight).sum() / weight.sum()


# -- InternVL: see, then read ------------------------------------------------------------------------------------------


class VisionPretraining(nn.Module):
    """The tower and projector under word targets: a visual token should *be* the words for what it shows."""

    def __init__(self, model: mllm.Mllm, clips: Sequence[intershapes.Scene], phase: config.Phase, seed: int) -> None:
        super().__init__()
        self.model, self.clips, self.phase, self.seed = model, clips, phase, seed
        self.scale = nn.Parameter(torch.tensor(2.0))  # log of the logits' temperature
        self.geometry = nn.Linear(model.width, 5)  # x, y of the centre of what is here; its share; own column and row

    def forward(self, micro: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, micro))
        frames, targets, geometry, grid = [], [], [], self.model.grid
        own = (np.stack(np.mgrid[:grid, :grid][::-1], -1) + 0.5) / grid
        for index in rng.integers(len(self.clips), size=self.phase.batch):
            scene = self.clips[index]
            t = int(rng.integers(len(scene.frames)))
            count = len(scene.shapes)
            covered = np.stack([masks.area_resize(scene.labels[t] == k + 1, (grid, grid)) for k in range(count)])
            looks = tuple((s.color, s.kind) for s in scene.shapes)
            clip = Grounded(covered[:, None], looks, (), (), ())
            targets.append(_tag_target(clip, self.model, looks)[0])
            main = covered.argmax(0)
            share = covered.max(0)
            geometry.append(torch.from_numpy(np.concatenate([scene.centres[main, t], share[..., None], own], -1)))
            frames.append(torch.from_numpy(scene.frames[t]))
        seen = self.model.see(torch.stack(frames))
        names = self.model.language.get_input_embeddings().weight
        target = torch.stack(targets).to(seen.device)
        tags = _tag_loss(self.scale.exp() * seen @ names.T, target, self.model.token_id(BACKGROUND))
        where = torch.stack(geometry).float().to(seen.device)
        error = (self.geometry(seen) - where).square()
        there = where[..., 2:3]  # centres count where something is
        position = ((error[..., :2] * there).sum() / there.sum() + error[..., 2:].mean()) * 10
        # Visual tokens of a word embedding's size, so that the decoder's layers can move both alike.
        size = (seen.square().mean(-1) - names.detach().square().mean()).square().mean()
        return {"vision tags": tags, "vision position": position, "vision size": size}


class WatchingPretraining(nn.Module):
    """The language model on frozen visual tokens alone. In the middle of its layers, a visual token knows in which cell
    what it shows was in each earlier frame; one layer on, it is the words for what that looks like and does.

    Asked of the last layer alone, and together with reading, deeds stay at chance (LOG.md).
    """

    def __init__(
        self,
        model: mllm.Mllm,
        clips: Sequence[Grounded],
        features: Float[Tensor, "clip t p p d"],
        phase: config.Phase,
        seed: int,
    ) -> None:
        super().__init__()
        self.model, self.clips, self.features, self.phase, self.seed = model, clips, features, phase, seed
        self.middle = model.internvl.config.text_config.num_hidden_layers // 2  # layers before the tracks
        self.track = nn.Linear(model.width, features[0].shape[:-1].numel())
        self.norm, self.scale = nn.RMSNorm(model.width), nn.Parameter(torch.tensor(0.0))

    def forward(self, micro: int) -> dict[str, Tensor]:
        indices = np.random.default_rng((self.seed, micro)).integers(len(self.clips), size=self.phase.batch)
        clips = [self.clips[i] for i in indices]
        features = self.features[torch.as_tensor(indices)].to(self.model.device).float()
        prefix = self.model.prefix_ids(features.shape[1])
        batch = packing.pack([prefix] * len(clips), [[]] * len(clips), self.model.pad_id).to(self.model.device)
        return self.terms(self.model.depths(batch, list(features)), batch, clips)

    def terms(
        self, depths: Sequence[Float[Tensor, "b n d"]], batch: packing.Packed, clips: Sequence[Grounded]
    ) -> dict[str, Tensor]:
        """Losses of the states after each layer (`Mllm.depths`)."""
        seen = batch.ids == self.model.context_id
        tracks, looks = (
            depths[d][seen].unflatten(0, (len(clips), -1, self.model.grid, self.model.grid))
            for d in (self.middle, self.middle + 1)
        )
        return {"tracks": self._tracks(tracks, clips), "words": self._words(looks, clips)}

    def in_words(self, states: Float[Tensor, "*n d"]) -> Float[Tensor, "*n v"]:
        """Logits over the vocabulary of states in the middle."""
        return self.scale.exp() * self.norm(states) @ self.model.language.get_input_embeddings().weight.T

    def _tracks(self, states: Float[Tensor, "b t p p d"], clips: Sequence[Grounded]) -> Tensor:
        """Cross-entropy of the earlier cells; visual tokens count as much as their object fills of them."""
        frames, device = states.shape[1], states.device
        main = [clip.coverage.argmax(0) for clip in clips]
        cells = torch.from_numpy(np.stack([np.array(c.cells)[m] for c, m in zip(clips, main, strict=True)])).to(device)
        share = torch.from_numpy(np.stack([clip.coverage.max(0) for clip in clips])).to(device)
        guess = self.track(states).unflatten(-1, (frames, -1)).log_softmax(-1)  # [b t p p f cell]
        missed = -guess.gather(-1, cells[..., None])[..., 0]
        earlier = torch.ones(frames, frames, device=device).tril(-1)[None, :, None, None]
        weight = (share * (share > 0.25))[..., None] * earlier
        return (missed * weight).sum() / weight.sum().clamp(min=1e-6)

    def _words(self, states: Float[Tensor, "b t p p d"], clips: Sequence[Grounded]) -> Tensor:
        """Looks everywhere; deeds from the middle of the clip on, for before nobody can know."""
        late = states.shape[1] // 2
        targets = []
        for clip in clips:
            both = _tag_target(clip, self.model, [(*x, *y) for x, y in zip(clip.looks, clip.deeds, strict=True)])
            both[:late] = _tag_target(clip, self.model, clip.looks)[:late]
            targets.append(both)
        return _tag_loss(self.in_words(states), torch.stack(targets).to(states.device), self.model.token_id(BACKGROUND))


ACTOR, TARGET, NAME = range(3)  # whose places a state is asked for


@dataclass(frozen=True)
class Ask:
    """A state (clip of the batch, turn, position in its sequence) that should know where some objects are, or that
    nobody is there."""

    row: int
    turn: int
    position: int
    what: int
    objects: tuple[int, ...]
    looks: bool = True  # whether it is now that attention should go there
    meant: tuple[str, ...] = ()  # the words for what it has to look for, where it has just begun to look


class ReadingPretraining(nn.Module):
    """The language model on frozen visual tokens: grounded answers, what is meant, and looking; and watching goes on.

    "Meant": before a role's first place, in the layer in which visual tokens are words, the state is the words for what
    to look for. "Looking" supervises attention: without it, states learn in minutes what to look for and not, in half
    an hour, to fetch where it is. (LOG.md has both.) "Nowhere": a name knows that nobody has it, in a layer that what
    follows can still read, and before the answer begins it is known whether a target will be due. Real backbones bring
    this from their own pretraining. Role tokens do not exist yet.
    """

    weights = {
        "answer": 1.0, "places": 0.5, "places of names": 0.25, "nowhere": 0.125, "looking": 0.5, "meant": 0.5,
        "tracks": 0.5, "words": 0.5,
    }  # fmt: skip
    heads = (0, 1)

    def __init__(self, watching: WatchingPretraining, phase: config.Phase, questions: int = 8) -> None:
        super().__init__()
        self.watching, self.model = watching, watching.model
        self.clips, self.features, self.seed = watching.clips, watching.features, watching.seed
        self.phase, self.questions = phase, questions
        # From a state straight to places, of the actor, the target, or a phrase's objects, or to "nowhere": the state
        # has to *hold* where they are. (Matching states with visual tokens asks only for what they look like; LOG.md.)
        self.where = nn.Linear(self.model.width, 3 * (self.features[0].shape[:-1].numel() + 1))
        count = self.model.internvl.config.text_config.num_hidden_layers
        self.layers = (count // 2 - 1, count - 1)  # where names look, where answers look
        self.colors, self.kinds = set(intershapes.COLORS), intershapes.KINDS

    def forward(self, micro: int) -> dict[str, Tensor]:
        rng = np.random.default_rng((self.seed, micro))
        terms, _ = self.read(rng.integers(len(self.clips), size=self.phase.batch), rng)
        return {name: self.weights[name] * term for name, term in terms.items()}

    def read(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Unweighted loss terms on some clips; and how often a state's place is on the actor, or the target instead."""
        model, clips = self.model, [self.clips[i] for i in indices]
        prefix = model.prefix_ids(clips[0].coverage.shape[1])
        turns, asks = [], []
        for row, clip in enumerate(clips):
            order = rng.permutation(len(clip.utterances))[: self.questions]
            turns.append([self._turn(clip, clip.utterances[u]) for u in order])
            start = len(prefix)
            for number, u in enumerate(order):
                asks += self._asks(clip, clip.utterances[u], row, number, start, len(turns[row][number].question))
                start += len(turns[row][number].question) + len(turns[row][number].answer)
        batch = packing.pack([prefix] * len(clips), turns, model.pad_id).to(model.device)
        features = self.features[torch.as_tensor(indices)].to(model.device).float()
        queries = torch.tensor([(ask.row, ask.position) for ask in asks])
        tap = RowTap(queries, dict.fromkeys(self.layers, self.heads))
        depths = model.depths(batch, list(features), row_tap=tap)
        hidden, image = depths[-1], batch.ids == model.context_id

        row, position = queries.to(hidden.device).T
        what = torch.tensor([ask.what for ask in asks], device=hidden.device)
        names, there = what == NAME, torch.tensor([bool(ask.objects) for ask in asks], device=hidden.device)
        looks = there & torch.tensor([ask.looks for ask in asks], device=hidden.device)
        truth = torch.stack([torch.from_numpy(clips[a.row].coverage[list(a.objects)].sum(0)).flatten() for a in asks])
        # Answers look at the later frames, in which it is known who does what; the tracks say where that was before.
        late = truth.unflatten(1, (features.shape[1], -1)).clone()
        late[:, : features.shape[1] // 2] = 0
        truth, late = ((x / x.sum(1, keepdim=True).clamp(min=1e-6)).to(hidden.device) for x in (truth, late.flatten(1)))
        # Names know it in the middle, where the words after them can still read it, answers at the end.
        middle = depths[self.watching.middle + 1]
        states = torch.where(names[:, None], middle[row, position], hidden[row, position])
        places = self.where(states).unflatten(-1, (3, -1))[torch.arange(len(asks)), what]
        due = torch.cat([truth, (~there)[:, None].to(truth)], dim=1)
        missed = -(due * places.log_softmax(-1)).sum(-1)
        absent = names & ~there
        # Names look in the middle, answers at the end: where a layer's heads should already know what to look for.
        at = [r[:, :, image[0]] for r in (tap.rows[layer] for layer in self.layers)]  # the prefix is common: r h tpp
        seen, sight = torch.where(names[:, None, None], *at), torch.where(names[:, None], truth, late)
        look = -(sight[:, None] * seen.clamp(min=1e-7).log()).sum(-1).mean(-1)
        terms = {
            "answer": model.text_loss(batch, hidden),
            "places": missed[~names].mean(),
            "places of names": missed[names & there].mean(),
            "nowhere": missed[absent].sum() / absent.sum().clamp(min=1),
            "looking": look[looks].mean(),
            "meant": self._meant(middle, asks),
            **self.watching.terms(depths, batch, clips),
        }
        return terms, self._hits(places.detach(), due, asks)

    def _asks(
        self, clip: Grounded, utterance: intershapes.Utterance, row: int, turn: int, start: int, question: int
    ) -> list[Ask]:
        """Which states should know places: the last word of a name; before and at each first place of the answer; and
        before the actor's, whether there will be a target's."""
        asks = []
        for phrase in utterance.phrases:
            named = self._named(clip, utterance.text.split()[phrase.start : phrase.stop])
            if named or not phrase.objects:
                asks.append(Ask(row, turn, start + 1 + phrase.stop, NAME, named))  # after "Where is"
        position = start + question + 1  # "is", which the actor's first place follows
        asks.append(Ask(row, turn, position, TARGET, utterance.target or (), looks=False))
        for what, objects in ((ACTOR, utterance.actor), (TARGET, utterance.target)):
            if objects is not None:
                meant = self._words_for(utterance, what)
                asks += [
                    Ask(row, turn, position, what, objects, meant=meant),
                    Ask(row, turn, position + 1, what, objects),
                ]
                position += len(objects) * (clip.coverage.shape[1] + 1)  # its places, and "," or "and"
        return asks

    def _turn(self, clip: Grounded, utterance: intershapes.Utterance) -> packing.Turn:
        def trail(objects: Sequence[int]) -> str:
            ordered = sorted(objects, key=lambda k: clip.cells[k][0])
            return " , ".join(" ".join(place(cell) for cell in clip.cells[k]) for k in ordered)

        answer, chat = trail(utterance.actor), TEMPLATES["tiny_chat"]
        if utterance.target is not None:
            answer += f" and {trail(utterance.target)}"
        return self.model.turn(chat.question(utterance.text), chat.reply.format(answer))

    def _meant(self, states: Float[Tensor, "b n d"], asks: Sequence[Ask]) -> Tensor:
        """Soft cross-entropy of the states that begin to look, against the words for what is meant."""
        beginning = [ask for ask in asks if ask.meant]
        target = torch.zeros(len(beginning), len(self.model.tokenizer))
        for row, ask in enumerate(beginning):
            for word in ask.meant:
                target[row, self.model.token_id(word)] += 1 / len(ask.meant)
        found = states[[ask.row for ask in beginning], [ask.position for ask in beginning]]
        return -(target.to(states.device) * self.watching.in_words(found).log_softmax(-1)).sum(-1).mean()

    def _words_for(self, utterance: intershapes.Utterance, what: int) -> tuple[str, ...]:
        """The words of visual tokens for the actor, or the target, of a sentence: looks as it names them, and deeds."""
        text = utterance.text.split()
        objects = (utterance.actor if what == ACTOR else utterance.target) or ()
        phrases = [text[p.start : p.stop] for p in utterance.phrases if p.objects and set(p.objects) <= set(objects)]
        found = [word for phrase in phrases for word in self._look(phrase) if word]
        if utterance.verb is None:
            return (*found, *(word for word in text[-1:] if word in intershapes.HEADINGS))
        deeds = verbs.VERBS[utterance.verb].deeds()
        subject = 0 if set(deeds[0]) & set(text) else 1
        return (*found, *deeds[subject if what == ACTOR else 1 - subject])

    def _look(self, phrase: Sequence[str]) -> tuple[str | None, str | None]:
        """Colour and kind that a phrase names."""
        color = next((w for w in phrase if w in self.colors), None)
        return color, next((k for w in phrase for k in self.kinds if w.startswith(k)), None)

    def _named(self, clip: Grounded, phrase: Sequence[str]) -> tuple[int, ...]:
        """The objects whose looks agree with the words of a phrase: what it can mean before the verb is read."""
        color, kind = self._look(phrase)
        if color is None and kind is None:
            return ()
        agree = lambda looks: color in (None, looks[0]) and kind in (None, looks[1])  # noqa: E731
        return tuple(k for k, looks in enumerate(clip.looks) if agree(looks))

    @staticmethod
    def _hits(scores: Tensor, truth: Tensor, asks: Sequence[Ask]) -> dict[str, float]:
        best = scores.argmax(1, keepdim=True)
        hit = truth.gather(1, best)[:, 0] > 0
        nowhere = truth.shape[1] - 1
        planned = [i for i, ask in enumerate(asks) if ask.what == TARGET and not ask.looks]
        first = {(ask.row, ask.turn, ask.what): i for i, ask in enumerate(asks) if ask.meant}
        pairs = [
            (i, first[r, n, TARGET]) for (r, n, what), i in first.items() if what == ACTOR and (r, n, TARGET) in first
        ]
        alone = [i for (r, n, _), i in first.items() if (r, n, TARGET) not in first]
        swapped = [bool(truth[target, best[actor, 0]] > 0) for actor, target in pairs]
        found = {
            "actor found": [bool(hit[actor]) for actor, _ in pairs],
            "target found": [bool(hit[target]) for _, target in pairs],
            "roles swapped": swapped,
            "single found": [bool(hit[i]) for i in alone],
            "target foreseen": [bool((best[i, 0] == nowhere) == (truth[i, nowhere] > 0)) for i in planned],
        }
        return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}


@torch.no_grad()
def see(
    model: mllm.Mllm, clips: Iterable[intershapes.Scene], frames: int, seed: int
) -> tuple[list[Grounded], Float[Tensor, "clip t p p d"]]:
    """What clips show, and their visual tokens in half precision: the tower is frozen from here on, pixels can go."""
    grounded, features = [], []
    for number, scene in enumerate(clips):
        shown = sampling.frame_indices(len(scene.frames), frames)
        grounded.append(ground(scene, model.grid, shown, np.random.default_rng((seed, number))))
        features.append(model.see(torch.from_numpy(scene.frames[list(shown)])).half().cpu())
    return grounded, torch.stack(features)


@torch.no_grad()
def _tie_queries_to_keys(model: mllm.Mllm) -> None:
    """Start every attention head with equal query and key projections: a word then attends to what looks like it, and
    names are bound to visual tokens from the first steps on (LOG.md)."""
    for layer in model.language.layers.children():
        attention: Any = layer.self_attn
        key = attention.k_proj.weight.unflatten(0, (-1, attention.head_dim))
        heads = attention.q_proj.weight.shape[0] // attention.head_dim
        attention.q_proj.weight.copy_(key.repeat_interleave(heads // len(key), 0).flatten(0, 1))


def pretrain_mllm(
    model: mllm.Mllm,
    clips: Sequence[intershapes.Scene],
    more: Iterable[intershapes.Scene],
    phases: config.Pretrain,
    frames: int,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
) -> dict[str, float]:
    """To see on `clips`, then to watch and to read on `more`, of which the visual tokens are kept, not the pixels.

    Returns how well pointing finds roles on the last of `more`, which are not trained on.
    """
    _tie_queries_to_keys(model)
    vision = VisionPretraining(model, clips, phases.vision, seed)
    seeing = [*model.internvl.model.vision_tower.parameters(), *model.internvl.model.multi_modal_projector.parameters()]
    fingerprint += f" {code(*CODE)} {phases.vision!r}"
    fit(
        vision, lambda m, micro: m(micro), optimizers(vision, phases.vision), phases.vision,
        folder=folder / "vision", seed=seed, fingerprint=fingerprint, log=log, label="pretrain, seeing",
    )  # fmt: skip
    for parameter in seeing:
        parameter.requires_grad_(False)
    model.eval()
    grounded, features = see(model, more, frames, seed)
    held_out = min(64, len(grounded) // 4)
    cut = len(grounded) - held_out
    watching = WatchingPretraining(model, grounded[:cut], features[:cut], phases.watching, seed)
    reading = ReadingPretraining(watching, phases.mllm)
    for module, phase, name, label in (
        (watching, phases.watching, "watching", "pretrain, watching"),
        (reading, phases.mllm, "mllm", "pretrain, reading"),
    ):
        fingerprint += f" {phase!r}"
        fit(
            module, lambda m, micro: m(micro), optimizers(module, phase), phase,
            folder=folder / name, seed=seed, fingerprint=fingerprint, log=log, label=label,
        )  # fmt: skip
    reading.clips, reading.features = grounded[cut:], features[cut:]
    with torch.no_grad():
        terms, hits = reading.read(np.arange(held_out), np.random.default_rng(seed))
    return {**{name: float(term) for name, term in terms.items()}, **hits}
