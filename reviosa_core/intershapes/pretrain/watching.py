"""InternVL before it reads: to see (the tower alone), then to watch (the language model on its tokens alone)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reviosa_core import config, masks
from reviosa_core.intershapes import world
from reviosa_core.intershapes.pretrain.grounding import BACKGROUND, Grounded, tag_loss, tag_target
from reviosa_core.model import mllm, packing


class VisionPretraining(nn.Module):
    """The tower and projector under word targets: a visual token should *be* the words for what it shows."""

    def __init__(self, model: mllm.Mllm, clips: Sequence[world.Scene], phase: config.Phase, seed: int) -> None:
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
            targets.append(tag_target(clip, self.model, looks)[0])
            main = covered.argmax(0)
            share = covered.max(0)
            geometry.append(torch.from_numpy(np.concatenate([scene.centres[main, t], share[..., None], own], -1)))
            frames.append(torch.from_numpy(scene.frames[t]))
        seen = self.model.see(torch.stack(frames))
        names = self.model.language.get_input_embeddings().weight
        target = torch.stack(targets).to(seen.device)
        tags = tag_loss(self.scale.exp() * seen @ names.T, target, self.model.token_id(BACKGROUND))
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
            both = tag_target(clip, self.model, [(*x, *y) for x, y in zip(clip.looks, clip.deeds, strict=True)])
            both[:late] = tag_target(clip, self.model, clip.looks)[:late]
            targets.append(both)
        return tag_loss(self.in_words(states), torch.stack(targets).to(states.device), self.model.token_id(BACKGROUND))


ACTOR, TARGET, NAME = range(3)  # whose places a state is asked for
