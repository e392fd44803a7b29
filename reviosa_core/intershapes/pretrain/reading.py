"""InternVL learns to read: grounded answers ("Where is the red circle?" -> one place a frame)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.intershapes import verbs, world
from reviosa_core.intershapes.pretrain.grounding import Grounded
from reviosa_core.intershapes.pretrain.watching import WatchingPretraining
from reviosa_core.model import packing
from reviosa_core.model.attention import RowTap
from reviosa_core.model.prompts import TEMPLATES, place

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
    early: bool = False  # asked before its own turn, whether anybody will be there
    meant: tuple[str, ...] = ()  # the words for what it has to look for, where it has just begun to look


class ReadingPretraining(nn.Module):
    """The language model on frozen visual tokens: grounded answers and what is meant; and watching goes on.

    "Meant": before a role's first place, in the layer in which visual tokens are words, the state is the words for what
    to look for. "Nowhere": a name knows that nobody has it, in a layer that what follows can still read, and before the
    answer begins it is known whether a target will be due. Real backbones bring this from their own pretraining. States
    are asked, attention never: as in InternVL, nobody told it where to go before fine-tuning. Role tokens do not exist
    yet.
    """

    weights = {
        "answer": 1.0, "places": 0.5, "places of names": 0.25, "nowhere": 0.125, "meant": 0.5, "tracks": 0.5,
        "words": 0.5,
    }  # fmt: skip

    def __init__(self, watching: WatchingPretraining, phase: config.Phase, questions: int = 8) -> None:
        super().__init__()
        self.watching, self.model = watching, watching.model
        self.clips, self.features, self.seed = watching.clips, watching.features, watching.seed
        self.phase, self.questions = phase, questions
        # From a state straight to places, of the actor, the target, or a phrase's objects, or to "nowhere": the state
        # has to *hold* where they are. (Matching states with visual tokens asks only for what they look like; LOG.md.)
        self.where = nn.Linear(self.model.width, 3 * (self.features[0].shape[:-1].numel() + 1))
        self.colors, self.kinds = set(world.COLORS), world.KINDS

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
        depths, looking = self._read(batch, features, queries)
        hidden = depths[-1]

        row, position = queries.to(hidden.device).T
        what = torch.tensor([ask.what for ask in asks], device=hidden.device)
        names, there = what == NAME, torch.tensor([bool(ask.objects) for ask in asks], device=hidden.device)
        truth = torch.stack([torch.from_numpy(clips[a.row].coverage[list(a.objects)].sum(0)).flatten() for a in asks])
        truth = (truth / truth.sum(1, keepdim=True).clamp(min=1e-6)).to(hidden.device)
        # Names know it in the middle, where the words after them can still read it, answers at the end.
        middle = depths[self.watching.middle + 1]
        states = torch.where(names[:, None], middle[row, position], hidden[row, position])
        places = self.where(states).unflatten(-1, (3, -1))[torch.arange(len(asks)), what]
        due = torch.cat([truth, (~there)[:, None].to(truth)], dim=1)
        missed = -(due * places.log_softmax(-1)).sum(-1)
        absent = names & ~there
        terms = {
            "answer": model.text_loss(batch, hidden),
            "places": missed[~names].mean(),
            "places of names": missed[names & there].mean(),
            "nowhere": missed[absent].sum() / absent.sum().clamp(min=1),
            "meant": self._meant(middle, asks),
            **looking(truth, names, there),
            **self.watching.terms(depths, batch, clips),
        }
        return terms, self._hits(places.detach(), due, asks)

    def _read(
        self, batch: packing.Packed, features: Tensor, queries: Tensor
    ) -> tuple[Sequence[Float[Tensor, "b n d"]], Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]]:
        """States by depth, and what is asked of attention: nothing."""
        return self.model.depths(batch, list(features)), lambda *_: {}

    def _asks(
        self, clip: Grounded, utterance: world.Utterance, row: int, turn: int, start: int, question: int
    ) -> list[Ask]:
        """Which states should know places: the last word of a name; before and at each first place of the answer; and
        before the actor's, whether there will be a target's."""
        asks = []
        for phrase in utterance.phrases:
            named = self._named(clip, utterance.text.split()[phrase.start : phrase.stop])
            if named or not phrase.objects:
                asks.append(Ask(row, turn, start + 1 + phrase.stop, NAME, named))  # after "Where is"
        position = start + question + 1  # "is", which the actor's first place follows
        asks.append(Ask(row, turn, position, TARGET, utterance.target or (), early=True))
        for what, objects in ((ACTOR, utterance.actor), (TARGET, utterance.target)):
            if objects is not None:
                meant = self._words_for(utterance, what)
                asks += [
                    Ask(row, turn, position, what, objects, meant=meant),
                    Ask(row, turn, position + 1, what, objects),
                ]
                position += len(objects) * (clip.coverage.shape[1] + 1)  # its places, and "," or "and"
        return asks

    def _turn(self, clip: Grounded, utterance: world.Utterance) -> packing.Turn:
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

    def _words_for(self, utterance: world.Utterance, what: int) -> tuple[str, ...]:
        """The words of visual tokens for the actor, or the target, of a sentence: looks as it names them, and deeds."""
        text = utterance.text.split()
        objects = (utterance.actor if what == ACTOR else utterance.target) or ()
        phrases = [text[p.start : p.stop] for p in utterance.phrases if p.objects and set(p.objects) <= set(objects)]
        found = [word for phrase in phrases for word in self._look(phrase) if word]
        if utterance.verb is None:
            return (*found, *(word for word in text[-1:] if word in world.HEADINGS))
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
        planned = [i for i, ask in enumerate(asks) if ask.what == TARGET and ask.early]
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


class LookingPretraining(ReadingPretraining):
    """Reading with attention told where to go, which no default does: for the study that asks what AML is worth then.

    Two heads look at the objects of a name where it ends, in the middle layer, and two at the objects of an answer
    where it begins, in the last one: -log of their attention, in the mean over the cells these cover.
    """

    heads = (0, 1)

    def __init__(self, watching: WatchingPretraining, phase: config.Phase, weight: float, questions: int = 8) -> None:
        super().__init__(watching, phase, questions)
        self.weights = self.weights | {"looking": weight}
        self.layers = (watching.middle, self.model.internvl.config.text_config.num_hidden_layers - 1)

    def _read(
        self, batch: packing.Packed, features: Tensor, queries: Tensor
    ) -> tuple[Sequence[Float[Tensor, "b n d"]], Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]]:
        tap = RowTap(queries, dict.fromkeys(self.layers, self.heads))
        depths, image = self.model.depths(batch, list(features), row_tap=tap), batch.ids[0] == self.model.context_id

        def looking(truth: Tensor, names: Tensor, there: Tensor) -> dict[str, Tensor]:
            middle, last = (tap.rows[layer][:, :, image] for layer in self.layers)  # the frames come first in all rows
            seen = torch.where(names[:, None, None], middle, last)
            missed = -(truth[:, None] * seen.clamp(min=1e-7).log()).sum(-1).mean(1)
            return {"looking": missed[there].mean()}

        return depths, looking
