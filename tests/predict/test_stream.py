"""A video as it comes: nothing is known of later frames, little is held, and the language model is asked when due."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Sequence

import numpy as np
import pytest
import tiny
import torch
from torch import Tensor

from reviosa_core import masks
from reviosa_core.data import sampling
from reviosa_core.model.mllm import Answer
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.predict.stream import Shown, Streaming, follow, line
from reviosa_core.predict.streamed import Stream
from reviosa_core.schema import UNKNOWN, Clip, Expression, Role
from reviosa_core.scoring import metrics

T, H, W, K = 22, 40, 56, 3
NEVER = {"unsure": 0.0, "jump": 0.0, "every": 1000}


class Heard:
    """In the place of writing: both tokens, whose states depend on all frames that are read; silent when told to."""

    def __init__(self, silent: bool = False) -> None:
        self.read: list[Tensor] = []
        self.asked: list[int] = []
        self.silent = silent

    def __call__(self, features: Tensor, questions: Sequence[str]) -> list[Answer]:
        self.read.append(features)
        self.asked.append(len(questions))
        if self.silent:
            return [Answer("nothing", {}, {Role.ACTOR: 0.2}) for _ in questions]
        states = {Role.ACTOR: 9 * features.mean((0, 1, 2)), Role.TARGET: -9 * features[0].mean((0, 1))}
        return [Answer(f"of {len(features)}", states, dict.fromkeys(Role, 0.75)) for _ in questions]


def model(monkeypatch: pytest.MonkeyPatch, frames: int = K, prompted: str = "first", silent: bool = False):
    torch.manual_seed(0)
    own = ReVIOSa(tiny.reader(), tiny.seeing(), tuple(Role), frames=frames, prompted=prompted).eval()  # pyright: ignore
    with torch.no_grad():
        own.projector[-1].weight.mul_(5)
    heard = Heard(silent)
    monkeypatch.setattr(own.mllm, "write", heard)
    return own, heard


def video(t: int = T) -> np.ndarray:
    return np.random.default_rng(4).integers(0, 256, (t, H, W, 3), dtype=np.uint8)


def clip(t: int = T) -> Clip:
    asked = (Expression("0", "the star", "single", (UNKNOWN,)), Expression("1", "the ring", "single", (UNKNOWN,)))
    return Clip("clip", video(t), tuple(map(str, range(t))), (H, W), asked, {UNKNOWN: [None] * t})


def same(one: Shown, other: Shown) -> bool:
    drawn = all(np.array_equal(one.masks[role], other.masks[role]) for role in one.masks)
    return drawn and (one.iou, one.present, one.why) == (other.iou, other.present, other.why)


@pytest.mark.parametrize("prompted", ["first", "all"])
def test_what_is_shown_depends_on_no_later_frame(monkeypatch, prompted):
    own, _ = model(monkeypatch, prompted=prompted)
    settings = Stream(window=8, gap=2, every=5, unsure=0.3)
    whole = [shown for (shown,) in follow(own, video(), ["the star"], settings)]
    assert len(whole) == T and len({shown.why for shown in whole}) > 2
    assert all(0 < np.mean([s.masks[role] for s in whole]) < 1 for role in Role)
    for cut in (1, 6, 13, 20):
        (last,) = list(follow(own, video()[: cut + 1], ["the star"], settings))[-1]
        assert same(last, whole[cut]), "bit for bit"
    later = video()
    later[14:] = 0
    for t, (shown,) in enumerate(follow(own, later, ["the star"], settings)):
        assert t >= 14 or same(shown, whole[t])


def test_each_frame_is_answered_before_the_next_is_asked_for(monkeypatch):
    own, _ = model(monkeypatch)
    given: list[int] = []

    def coming():
        for t, frame in enumerate(video()):
            given.append(t)
            yield frame

    for t, _ in enumerate(follow(own, coming(), ["the star"])):
        assert given[-1] == t


def test_between_answers_it_is_the_whole_way(monkeypatch):
    """Of one frame, the first, both ways know the same: then every mask is the same, bit for bit."""
    own, heard = model(monkeypatch, frames=1)
    alone = clip().expressions[:1]  # several objects at once round differently
    want = own.run_lengths(clip(), alone)
    found = Streaming(own, Stream(window=1, **NEVER)).run_lengths(clip(), alone)
    assert len(heard.read) == 2 and [q.why for q in found[0].questions] == ["first"]
    for one, other in zip(found, want, strict=True):
        assert one.masks == other.masks and one.written == other.written == set(Role)
        for role in Role:
            assert 0 < masks.decode_all(list(one.masks[role]), (H, W)).mean() < 1
            assert np.array_equal(one.confidence[role].iou, other.confidence[role].iou)
            assert np.array_equal(one.confidence[role].present, other.confidence[role].present)


@pytest.mark.parametrize(
    ("settings", "want"),
    [
        ({**NEVER, "window": 1}, {0: "first"}),
        ({**NEVER, "window": 8, "gap": 1}, {0: "first", 1: "filling", 3: "filling", 7: "filling"}),
        ({**NEVER, "window": 6, "gap": 1}, {0: "first", 1: "filling", 3: "filling", 5: "filling"}),
        ({**NEVER, "window": 8, "gap": 5}, {0: "first", 5: "filling", 10: "filling"}),
        ({**NEVER, "window": 1, "every": 7}, {0: "first", 7: "due", 14: "due", 21: "due"}),
        ({**NEVER, "window": 1, "unsure": 1.0, "gap": 9}, {0: "first", 9: "unsure", 18: "unsure"}),
        ({**NEVER, "window": 1, "jump": 1.0, "gap": 8}, {0: "first", 8: "jump", 16: "jump"}),
    ],
)
def test_when_the_language_model_is_asked(monkeypatch, settings, want):
    own, _ = model(monkeypatch)
    shown = [shown.why for (shown,) in follow(own, video(), ["the star"], Stream(**settings))]
    assert {t: why for t, why in enumerate(shown) if why} == want


def test_it_reads_k_frames_of_the_window_the_newest_among_them(monkeypatch):
    own, heard = model(monkeypatch)
    list(follow(own, video(), ["the star", "the ring"], Stream(window=9, gap=4, every=4, unsure=0, jump=0)))
    assert heard.asked == [2] * 6, "one visual prefix for both"
    for asked, features in zip((0, 4, 8, 12, 16, 20), heard.read, strict=True):
        size = min(asked + 1, 9)
        shown = sorted(asked - i for i in sampling.frame_indices(size, K))
        assert shown[-1] == asked and shown[0] == asked + 1 - size
        assert torch.equal(features, own.mllm.see(torch.tensor(video()[shown])))


def test_each_frame_passes_each_encoder_once_between_questions(monkeypatch):
    own, _ = model(monkeypatch)
    seen = {"tower": 0, "sam": 0}
    for owner, name in ((own.mllm, "tower"), (own.segmenter, "sam")):
        inside = owner.see
        monkeypatch.setattr(
            owner, "see", lambda x, inside=inside, name=name: seen.update({name: seen[name] + len(x)}) or inside(x)
        )
    list(follow(own, video(), ["the star", "the ring"], Stream(window=1, **NEVER)))
    assert seen == {"tower": 1, "sam": T}


def test_what_is_held_does_not_grow(monkeypatch):
    own, heard = model(monkeypatch)

    def held() -> int:
        gc.collect()
        kept = {id(o): o for o in gc.get_objects() if issubclass(type(o), Tensor) and o.layout == torch.strided}
        return sum(o.nbytes for o in kept.values())

    found = []
    heard.read = deque(maxlen=0)  # pyright: ignore: the test itself keeps nothing
    for t, _ in enumerate(follow(own, video(60), ["the star"], Stream(window=4, gap=4, every=20, unsure=0, jump=0))):
        if t in (35, 55):  # after as many frames of an answer; SAM2's memory is full
            found.append(held())
    assert found[0] == found[1] > 0


def test_a_role_without_its_token_is_empty_and_asked_for_again(monkeypatch):
    own, heard = model(monkeypatch, silent=True)
    (found,) = Streaming(own, Stream(window=1, every=10)).segment(clip(), clip().expressions[:1])
    assert [(q.frame, q.why) for q in found.questions] == [(0, "first"), (10, "due"), (20, "due")]
    assert not found.written and not any(mask.any() for mask in found.masks.values())
    assert found.confidence[Role.ACTOR].token == pytest.approx(0.2) and not found.confidence[Role.TARGET].frames.any()


def test_an_answer_holds_until_the_next(monkeypatch):
    own, heard = model(monkeypatch)
    shown = []
    for t, (one,) in enumerate(follow(own, video(), ["the star"], Stream(window=1, **{**NEVER, "every": 6}))):
        heard.silent = 5 < t + 1 < 12  # silent when asked at frame 6, not at 12
        shown.append(one)
    empty = [t for t, one in enumerate(shown) if not one.written]
    assert empty == list(range(6, 12)) and not any(shown[t].masks[role].any() for t in empty for role in Role)


def test_a_line_is_what_json_takes(monkeypatch):
    own, _ = model(monkeypatch)
    ((first,), (second,), *_) = follow(own, video(), ["the star"])
    about = line(first, "the star", 0, 0.0)
    assert about["asked"] == {"why": "first", "answer": "of 1"} and line(second, "the star", 1, 0.5)["asked"] is None
    assert np.array_equal(masks.decode(about["roles"]["target"]["mask"], (H, W)), first.masks[Role.TARGET])
    assert about["roles"]["actor"]["token"] == 0.75


def test_a_limit_below_the_gap_means_nothing():
    with pytest.raises(ValueError, match="must be at least gap 9"):
        Stream(gap=9, every=3)


@pytest.mark.parametrize("streamed", [False, True])
def test_where_internvl_is_in_bfloat16_sam2_computes_in_it_too(monkeypatch, streamed: bool):
    """Its weights stay; masks are nearly the same, and who takes the frames computes in what was chosen there."""
    own, _ = model(monkeypatch)
    system = Streaming(own, Stream(window=6, gap=2, every=5)) if streamed else own
    whole = system.segment(clip())
    own.mllm.internvl.bfloat16()
    seen, sam = set(), own.segmenter.sam
    for name, place in {
        "encoder": sam.image_encoder.trunk.blocks[0].mlp.layers[0],
        "memory": sam.memory_attention.layers[0].linear1,
        "decoder": own.segmenter.decoder.transformer.layers[0].mlp.layers[0],
    }.items():
        place.register_forward_hook(lambda module, given, found, name=name: seen.add((name, found.dtype)))
    half = system.segment(clip())
    assert seen == {(name, torch.bfloat16) for name in ("encoder", "memory", "decoder")}
    assert {p.dtype for p in own.segmenter.parameters()} == {torch.float32}
    for one, other in zip(whole, half, strict=True):
        for role in Role:
            assert one.masks[role].any() and not np.array_equal(one.masks[role], other.masks[role])
            assert metrics.region_similarity(one.masks[role], other.masks[role]).mean() > 0.95
    if streamed:
        assert not any(torch.is_autocast_enabled("cpu") for _ in follow(own, video(3), ["the star"]))
