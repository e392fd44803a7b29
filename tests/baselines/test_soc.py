"""SOC's own: the video object cluster and its axes, empty frame queries, the contrastive loss."""

from __future__ import annotations

import pytest
import queries
import torch

from reviosa_core.baselines import losses, query, sizes
from reviosa_core.baselines.query import Decoded
from reviosa_core.baselines.soc import Cluster, Soc
from reviosa_core.baselines.text import Words
from reviosa_core.model.sam2 import unallocated

SIZES = queries.SIZES[Soc]
L, P, T, Q, D = 2, 4, 3, SIZES.queries, SIZES.dim


def shaken() -> Cluster:
    made = Cluster(SIZES)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made


def test_a_video_is_made_of_its_own_frames():
    """Change one frame of one pair in one layer: one video changes. The published code hands the change to another one,
    as soon as there are several pairs and several frames."""
    made = queries.system(Soc)
    made.cluster = shaken()
    words = made.text(made.text.tokenize(["the red dog"] * P))
    states = torch.randn(L, P, T, Q, D)
    other = states.clone()
    layer, pair, frame = 1, 0, 1
    other[layer, pair, frame] += 1

    def videos(x: torch.Tensor) -> torch.Tensor:
        layers = [Decoded(states, torch.rand(P, T, Q, 2), torch.rand(P, T, Q, 4)) for states in x]
        return torch.stack(made.conclude(layers, words)[1])

    changed = ((videos(states) - videos(other)).abs().amax((-1, -2)) > 1e-6).nonzero().tolist()
    assert changed == [[layer, pair]]


def test_the_cluster_by_hand():
    """Frames' queries among themselves; video queries, which start as the sentence, read them, then each other."""
    made = shaken()
    states, sentence = torch.randn(P, T, Q, D), torch.randn(P, D)
    frames = states.reshape(P, T * Q, D)
    for layer in made.frames:
        frames = layer.forth(layer.attend(frames))
    keys = torch.cat([made.frame_positions] * T)
    videos = sentence[:, None].repeat(1, Q, 1)
    for layer in made.videos:
        part = layer.across
        found = part.attention(videos + made.video_positions, frames + keys, frames, need_weights=False)[0]
        videos = part.norm(videos + found)
        x = videos + made.video_positions
        videos = layer.attend.norm(videos + layer.attend.attention(x, x, videos, need_weights=False)[0])
        videos = layer.forth(videos)
    torch.testing.assert_close(made(states, sentence), made.norm(videos), atol=1e-5, rtol=1e-4)


def test_every_frame_gets_its_own_query_back_with_the_videos_added():
    made = queries.system(Soc)
    words = made.text(made.text.tokenize(["the red dog"] * P))
    decoded = [Decoded(torch.randn(P, T, Q, D), torch.rand(P, T, Q, 2), torch.rand(P, T, Q, 4)) for _ in range(2)]
    told, videos = made.conclude(decoded, words)
    assert [v.shape for v in videos] == [(P, Q, D)] * 2
    for layer, states, video in zip(decoded, told, videos, strict=True):
        for t in range(T):
            torch.testing.assert_close(states[:, t], layer.states[:, t] + video)


def test_what_is_said_is_the_last_layers_not_what_the_published_script_reads():
    """Which is the first layer's queries and heads, with the last layer's video queries."""
    made = queries.system(Soc)
    frames = torch.from_numpy(queries.clip("a", T, (64, 96)).frames)[None]
    seen, text = made.see(query.batch.pixels(frames, (64, 96))), "the red dog"
    kept: dict[str, list] = {}

    def conclude(decoded: list[Decoded], words: Words) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        told, videos = Soc.conclude(made, decoded, words)
        kept.update(decoded=decoded, told=told, videos=videos)
        return told, videos

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(made, "conclude", conclude)
        found = made._read(seen, [text])

        def scores(layer: int, states: torch.Tensor) -> torch.Tensor:
            return made.heads.score[layer](states)[..., 0]

        torch.testing.assert_close(found.scores, scores(-1, kept["told"][-1]))
        torch.testing.assert_close(kept["told"][-1], kept["decoded"][-1].states + kept["videos"][-1][:, None])
        published = scores(0, kept["decoded"][0].states + kept["videos"][-1][:, None])
    assert not torch.allclose(found.scores, published, atol=1e-3)


def test_frame_queries_start_empty_and_the_sentence_stays_as_it_was_said():
    made = queries.system(Soc)
    words = made.text(made.text.tokenize(["the red dog", "the ball"]))
    levels = [torch.randn(2, T, D, *shape) for shape in ((4, 5), (2, 3), (1, 2), (1, 1))]
    _, seen = made.fuse(levels, words)
    assert not made.first(seen).any() and torch.equal(seen.sentence, words.sentence)
    _, third = made.fuse([*levels[:2], levels[2] + 1, levels[3]], words)
    _, first = made.fuse([levels[0] + 1, *levels[1:]], words)
    assert torch.equal(first.features, seen.features) and not torch.allclose(third.features, seen.features)


def test_contrast_is_with_the_mean_of_real_words():
    made = queries.system(Soc, contrastive=3.0)
    words = made.text(made.text.tokenize(["the red dog", "the ball"]))
    videos, matched = torch.randn(2, Q, D), torch.tensor([[2], [0]])
    language = torch.stack([words.features[0].mean(0), words.features[1, :2].mean(0)])
    want = 3 * losses.contrastive(videos, language, matched)
    torch.testing.assert_close(made.video_loss(videos, words, matched)["contrastive"], want)


def test_counts_at_the_papers_sizes():
    with unallocated():
        made = Soc(sizes.SOC, queries.tokenizer())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in made.named_children()}
    attention, norm, forth = 4 * 65_792, 512, 526_336 + 524_544 + 512
    cluster = 3 * (attention + norm + forth) + 3 * (2 * (attention + norm) + forth) + norm + 2 * 20 * 256
    assert counts["cluster"] == cluster and counts["words_see"] == counts["fusion"] == attention
    assert counts["heads"] == 3 * (257 + 2 * 65_792 + 1_028) + 2 * 65_792 + 257 * 169
