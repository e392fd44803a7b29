"""Phase (a) of the tiny profile: make, from nothing, what InternVL-2.5 and SAM2 checkpoints are to the paper.

Three loops over procedural clips that no benchmark split contains:
  segmenter  class-agnostic promptable video segmentation, as SAM2 was trained (points, boxes, masks, then memory)
  vision     the vision tower learns to name what each visual token shows, and where it lies
  mllm       the language model learns to read: grounded answers ("Where is the red circle?" -> one place a frame),
             dense tags (what is here, and what does it do?), and pointing (which visual tokens does a phrase mean?)
No role token, no LoRA and no mask decoder prompted by language appears here: that is phase (b).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
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
from reviosa_core.train import Log, fit

BACKGROUND = "background"
STILL = 0.04  # displacement in frame sides under which an object counts as still


def scenes(data: config.Data, seed: int, count: int) -> list[intershapes.Scene]:
    """The pretraining clips: made in memory from their own seeds, never written, never in a split."""
    seeds = [(seed, intershapes.SPLITS["pretrain"], i) for i in range(count)]
    with ProcessPoolExecutor() as pool:
        made = pool.map(partial(intershapes.make_scene, data), seeds, chunksize=32)
        return list(tqdm(made, total=count, desc="scenes", mininterval=10))


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
    for name, phase, frames in stages:
        step = _CallStep(sam, partial(_segmenter_losses, clips=clips, phase=phase, seed=seed, objects=4, frames=frames))
        groups = [{"params": list(sam.parameters()), "lr": phase.lr}]
        fit(
            step, lambda m, micro: m(micro), groups, phase, folder=folder / f"segmenter_{name}", seed=seed,
            fingerprint=fingerprint, log=log, label=f"pretrain SAM2, {name}",
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


def ground(scene: intershapes.Scene, grid: int, frames: Sequence[int]) -> Grounded:
    """Everything the labels say about some frames of a scene, at the resolution of the visual tokens.

    To the scene's own expressions come the plain names of its objects ("the red circle", whether or not it is the only
    one): names are the slowest thing to learn.
    """
    count, shown = len(scene.shapes), list(frames)
    covered = np.stack([masks.area_resize(scene.labels[shown] == k + 1, (grid, grid)) for k in range(count)])
    moves = scene.centres[:, -1] - scene.centres[:, 0]
    deeds = [[_heading(move)] for move in moves]
    for i in scene.interactions:
        verb = verbs.VERBS[i.verb]
        doing = verb.active.split()[0]
        done = verb.passive.split()[1] if verb.passive else doing  # "being pushed by"
        deeds[i.a].append(doing)
        deeds[i.b].append(done)
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
        (*scene.utterances, *names),
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


ACTOR, TARGET, NAME = range(3)  # whose places a state is asked for


@dataclass(frozen=True)
class Ask:
    """A state (clip of the batch, turn, position in its sequence) that should know where some objects are."""

    row: int
    turn: int
    position: int
    what: int
    objects: tuple[int, ...]


class ReadingPretraining(nn.Module):
    """The language model on frozen visual tokens: grounded answers, dense tags, and looking.

    "Looking" supervises attention: without it, states learn in minutes what to look for and not, in half an hour, to
    fetch where it is (LOG.md). Real backbones bring that from their own pretraining. Role tokens do not exist yet.
    """

    weights = {"answer": 1.0, "tags": 0.5, "places": 0.5, "places of names": 0.25, "looking": 0.5}
    heads = (0, 1)

    def __init__(
        self,
        model: mllm.Mllm,
        clips: Sequence[Grounded],
        features: Float[Tensor, "clip t p p d"],
        phase: config.Phase,
        seed: int,
        questions: int = 8,
    ) -> None:
        super().__init__()
        self.model, self.clips, self.features = model, clips, features
        self.phase, self.seed, self.questions = phase, seed, questions
        # From a state straight to places, of the actor, the target, or a phrase's objects: the state has to *hold*
        # where they are. (Matching states with visual tokens asks only for what they look like; see LOG.md.)
        self.where = nn.Linear(model.width, 3 * features[0].shape[:-1].numel())
        count = model.internvl.config.text_config.num_hidden_layers
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
        hidden = model(batch, list(features), row_tap=tap)
        image = batch.ids == model.context_id
        visual = hidden[image].view(*features.shape)
        tags = [_tag_target(c, model, [(*x, *y) for x, y in zip(c.looks, c.deeds, strict=True)]) for c in clips]

        rows = queries[:, 0]
        names = torch.tensor([ask.what == NAME for ask in asks])
        truth = torch.stack([torch.from_numpy(clips[a.row].coverage[list(a.objects)].sum(0)).flatten() for a in asks])
        truth = (truth / truth.sum(1, keepdim=True).clamp(min=1e-6)).to(hidden.device)
        which = torch.tensor([ask.what for ask in asks])
        places = self.where(hidden[rows, queries[:, 1]]).unflatten(-1, (3, -1))[torch.arange(len(asks)), which]
        state = -(truth * places.log_softmax(-1)).sum(-1)
        # Names look in the middle, answers at the end: where a layer's heads should already know what to look for.
        at = [r[:, :, image[0]] for r in (tap.rows[layer] for layer in self.layers)]  # the prefix is common: r h tpp
        seen = torch.where(names[:, None, None].to(hidden.device), at[0], at[1])
        look = -(truth[:, None] * seen.clamp(min=1e-7).log()).sum(-1).mean(-1)
        terms = {
            "answer": model.text_loss(batch, hidden),
            "tags": _tag_loss(
                model.internvl.lm_head(visual), torch.stack(tags).to(hidden.device), model.token_id(BACKGROUND)
            ),
            "places": state[~names].mean(),
            "places of names": state[names].mean(),
            "looking": look.mean(),
        }
        return terms, self._hits(places.detach(), truth, asks)

    def _asks(
        self, clip: Grounded, utterance: intershapes.Utterance, row: int, turn: int, start: int, question: int
    ) -> list[Ask]:
        """Which states should know places: the last word of a name; before and at each first place of the answer."""
        asks = []
        for phrase in utterance.phrases:
            named = self._named(clip, utterance.text.split()[phrase.start : phrase.stop])
            if named:
                asks.append(Ask(row, turn, start + 1 + phrase.stop, NAME, named))  # after "Where is"
        position = start + question + 1  # "is", which the actor's first place follows
        for what, objects in ((ACTOR, utterance.actor), (TARGET, utterance.target)):
            if objects is not None:
                asks += [Ask(row, turn, position + i, what, objects) for i in (0, 1)]
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

    def _named(self, clip: Grounded, phrase: Sequence[str]) -> tuple[int, ...]:
        """The objects whose looks agree with the words of a phrase: what it can mean before the verb is read."""
        color = next((w for w in phrase if w in self.colors), None)
        kind = next((k for w in phrase for k in self.kinds if w.startswith(k)), None)
        if color is None and kind is None:
            return ()
        agree = lambda looks: color in (None, looks[0]) and kind in (None, looks[1])  # noqa: E731
        return tuple(k for k, looks in enumerate(clip.looks) if agree(looks))

    @staticmethod
    def _hits(scores: Tensor, truth: Tensor, asks: Sequence[Ask]) -> dict[str, float]:
        best = scores.argmax(1, keepdim=True)
        hit = truth.gather(1, best)[:, 0] > 0
        first = {}  # (clip, turn, role) -> its first ask
        for i, ask in enumerate(asks):
            if ask.what != NAME:
                first.setdefault((ask.row, ask.turn, ask.what), i)
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
        }
        return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}


@torch.no_grad()
def see_all(model: mllm.Mllm, clips: Sequence[UInt8[np.ndarray, "t h w 3"]]) -> Float[Tensor, "clip t p p d"]:
    """Visual tokens of many clips, once, in half precision: the tower is frozen from here on."""
    seen = [model.see(torch.from_numpy(frames)).half().cpu() for frames in tqdm(clips, desc="frames", mininterval=10)]
    return torch.stack(seen)


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
    phases: config.Pretrain,
    frames: int,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
) -> dict[str, float]:
    """Vision, then reading. Returns how well pointing finds roles on the last clips, which are not trained on."""
    held_out = min(64, len(clips) // 4)
    _tie_queries_to_keys(model)
    vision = VisionPretraining(model, clips[:-held_out], phases.vision, seed)
    seeing = [*model.internvl.model.vision_tower.parameters(), *model.internvl.model.multi_modal_projector.parameters()]
    groups = [
        {
            "params": [
                *seeing,
                *vision.geometry.parameters(),
                vision.scale,
                model.language.get_input_embeddings().weight,
            ],
            "lr": phases.vision.lr,
        }
    ]
    fit(
        vision, lambda m, micro: m(micro), groups, phases.vision, folder=folder / "vision", seed=seed,
        fingerprint=fingerprint, log=log, label="pretrain vision",
    )  # fmt: skip
    for parameter in seeing:
        parameter.requires_grad_(False)
    model.eval()
    shown = sampling.frame_indices(len(clips[0].frames), frames)
    features = see_all(model, [scene.frames[list(shown)] for scene in clips])
    grounded = [ground(scene, model.grid, shown) for scene in tqdm(clips, desc="grounding", mininterval=10)]
    cut = len(clips) - held_out
    reading = ReadingPretraining(model, grounded[:cut], features[:cut], phases.mllm, seed)
    groups = [{"params": list(reading.parameters()), "lr": phases.mllm.lr}]
    fit(
        reading, lambda m, micro: m(micro), groups, phases.mllm, folder=folder / "mllm", seed=seed,
        fingerprint=fingerprint, log=log, label="pretrain MLLM",
    )  # fmt: skip
    reading.clips, reading.features = grounded[cut:], features[cut:]
    with torch.no_grad():
        terms, hits = reading.read(np.arange(held_out), np.random.default_rng(seed))
    return {**{name: float(term) for name, term in terms.items()}, **hits}
