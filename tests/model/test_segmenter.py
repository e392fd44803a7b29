"""Without a language token the segmenter is stock SAM2; with one it is stock SAM2 whose prompt encoder adds it."""

from __future__ import annotations

import pytest
import sam2.sam2_video_predictor as stock
import tiny
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor, nn

from reviosa_core import bounds
from reviosa_core.masks import area_resize
from reviosa_core.model import segmenter
from reviosa_core.model.pixels import normalise
from reviosa_core.model.segmenter import FrameFeatures, Segmenter

N, O, T, S, D = 3, 2, 6, 64, 32  # noqa: E741 - prompts, objects, frames, pixels a side, width


@pytest.fixture
def seg() -> Segmenter:
    return tiny.seeing()


def video() -> Tensor:
    """A bright disc and a dark square over noise, moving apart; deterministic."""
    rng = torch.Generator().manual_seed(5)
    frames = torch.randint(60, 190, (T, S, S, 3), generator=rng)
    for t, shapes in enumerate(masks()):
        frames[t][shapes[0]], frames[t][shapes[1]] = 240, 20
    return frames.to(torch.uint8)


def masks() -> Tensor:
    """[t o s s]"""
    ys, xs = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
    discs = [((xs - 40 - 2 * t) ** 2 + (ys - 20) ** 2) < 90 for t in range(T)]
    squares = [((xs - 24 + 2 * t).abs() < 8) & ((ys - 44).abs() < 9) for t in range(T)]
    return torch.stack([torch.stack(discs), torch.stack(squares)], 1)


# -- frames ------------------------------------------------------------------------------------------------------------


def test_see_gives_sam2s_three_maps_frame_by_frame(seg):
    frames = video()
    seen = seg.see(frames)
    assert [tuple(getattr(seen, k).shape) for k in ("stride4", "stride8", "stride16")] == [
        (T, D // 8, 16, 16), (T, D // 4, 8, 8), (T, D, 4, 4),
    ]  # fmt: skip
    want = seg.sam.forward_image(normalise(frames, S))["backbone_fpn"]
    for ours, theirs in zip((seen.stride4, seen.stride8, seen.stride16), want, strict=True):
        assert torch.equal(ours, theirs) and not ours.requires_grad
    again = FrameFeatures.cat([seg.see(frames[:2]), seg.see(frames[2:])])
    torch.testing.assert_close(again.stride16, seen.stride16, atol=1e-5, rtol=1e-4)
    assert len(seen) == T and torch.equal(seen[[4, 1]].stride8, seen.stride8[[4, 1]])


def test_each_frame_of_a_track_is_encoded_once(seg, monkeypatch):
    encoded = []
    inside = seg.sam.image_encoder.forward
    monkeypatch.setattr(seg.sam.image_encoder, "forward", lambda x: encoded.append(len(x)) or inside(x))
    features = seg.see(video())
    seg.decode(features[[0] * N], torch.randn(N, D))
    seg.track(features, {0: masks()[0]})
    assert encoded == [T]


# -- language prompt ---------------------------------------------------------------------------------------------------


class Speaking(nn.Module):
    """SAM2's prompt encoder with language tokens after its own sparse prompts."""

    def __init__(self, encoder: nn.Module, tokens: Tensor) -> None:
        super().__init__()
        self.encoder, self.tokens = encoder, tokens

    def forward(self, **prompts):
        sparse, dense = self.encoder(**prompts)
        return torch.cat([sparse, self.tokens], dim=1), dense

    def __getattr__(self, name):
        return super().__getattr__(name) if name in ("encoder", "tokens") else getattr(self.encoder, name)


def stock_decode(seg: Segmenter, features: FrameFeatures, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The same from SAM2's own heads, the language `tokens` [n k d] slipped into its prompt encoder."""
    sam = seg.sam
    own = sam.sam_prompt_encoder
    sam.sam_prompt_encoder = Speaking(own, tokens)
    try:
        _, _, ious, low, _, _, score = sam._forward_sam_heads(
            backbone_features=features.stride16 + sam.no_mem_embed.view(1, -1, 1, 1),
            high_res_features=[features.stride4, features.stride8],
            multimask_output=True,
        )
    finally:
        sam.sam_prompt_encoder = own
    assert (score > 0).all()  # else SAM2 gates the masks
    return low[:, 0], ious.max(1).values


@torch.no_grad()
def test_decode_equals_stock_sam2_with_the_token_in_its_prompt_encoder(seg):
    features, prompt = seg.see(video())[[0, 3, 5]], torch.randn(N, D)
    logits, iou = seg.decode(features, prompt)
    want, want_iou = stock_decode(seg, features, prompt[:, None])
    assert logits.shape == (N, S // 4, S // 4) and logits.std() > 0
    torch.testing.assert_close(logits, want, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(iou, want_iou, atol=1e-6, rtol=1e-5)
    other, _ = stock_decode(seg, features, prompt.flip(0)[:, None])
    assert (other - want).abs().max() > 1e-3  # the token matters


@torch.no_grad()
def test_decode_without_a_language_token_equals_stock_sam2(seg, monkeypatch):
    """Only the concatenation is ours: with nothing to concatenate, stock SAM2 remains."""
    features, cat = seg.see(video())[[0, 3, 5]], torch.cat

    def without_the_prompt(parts, dim=0):
        return cat(parts[:1] if parts[-1].shape[1:] == (1, D) else parts, dim)

    monkeypatch.setattr(torch, "cat", without_the_prompt)
    logits, _ = seg.decode(features, torch.randn(N, D))
    monkeypatch.undo()
    want, _ = stock_decode(seg, features, torch.zeros(N, 0, D))
    torch.testing.assert_close(logits, want, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_an_object_scored_absent_keeps_its_logits(seg):
    """SAM2 writes -1024 over the masks of an object it scores as absent; training never saw that."""
    features, prompt = seg.see(video())[[0, 3, 5]], torch.randn(N, D)
    want, _ = seg.decode(features, prompt)
    for decoder in (seg.decoder, seg.sam.sam_mask_decoder):
        decoder.pred_obj_score_head.layers[-1].bias.fill_(-2.0)
    found, _ = seg.decode(features, prompt)
    assert torch.equal(found, want) and found.min() > -1000
    with pytest.raises(AssertionError):
        stock_decode(seg, features, prompt[:, None])  # whose masks are gated now


@torch.no_grad()
def test_of_three_masks_the_best_by_estimate_wins_frame_by_frame(seg, monkeypatch):
    masks_, ious = torch.randn(N, 3, S // 4, S // 4), torch.tensor([[0.1, 0.9, 0.5], [0.7, 0.2, 0.3], [0.3, 0.4, 0.8]])
    monkeypatch.setattr(seg.decoder, "forward", lambda **_: (masks_, ious, None, None))
    logits, iou = seg.decode(seg.see(video()[:N]), torch.randn(N, D))
    assert torch.equal(logits, torch.stack([masks_[0, 1], masks_[1, 0], masks_[2, 2]]))
    assert iou.tolist() == pytest.approx([0.9, 0.7, 0.8])


def test_decode_trains_the_copy_and_the_prompt_only(seg):
    prompt = torch.randn(N, D, requires_grad=True)
    before = [p.clone() for p in seg.sam.parameters()]
    optimizer = torch.optim.SGD([p for p in seg.parameters() if p.requires_grad] + [prompt], lr=0.1)
    seg.decode(seg.see(video()[:N]), prompt)[0].square().mean().backward()
    assert prompt.grad.abs().sum() > 0 and all(p.grad is None for p in seg.sam.parameters())
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, seg.sam.parameters(), strict=True))
    copied, original = seg.decoder.state_dict(), seg.sam.sam_mask_decoder.state_dict()
    moved = {name.split(".")[0] for name in copied if not torch.equal(copied[name], original[name])}
    assert {"transformer", "output_hypernetworks_mlps", "output_upscaling", "mask_tokens"} <= moved
    assert not moved & {"conv_s0", "conv_s1"}  # unused


def test_one_prompt_a_frame_or_an_error_with_both_numbers(seg):
    with pytest.raises(ValueError, match="5 prompts for 3 frames"):
        seg.decode(seg.see(video()[:3]), torch.randn(5, D))


def test_the_stock_model_stays_frozen_and_in_evaluation_mode(seg):
    seg.train()
    assert seg.training and seg.decoder.training
    assert not any(m.training for m in seg.sam.modules())
    assert not any(p.requires_grad for p in seg.sam.parameters()) and all(
        p.requires_grad for p in seg.decoder.parameters()
    )


# -- tracking ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def lively(seg) -> Segmenter:
    """Weights large enough that memory decides what is tracked: at random initialisation it hardly counts."""
    for name, parameter in seg.sam.named_parameters():
        if parameter.dim() > 1 and not name.startswith("image_encoder"):
            parameter.mul_(4 if "cross_attn_image" in name else 2)
        if name.endswith("gamma"):
            parameter.fill_(1.0)
    return seg


def predicted(seg: Segmenter, keys: tuple[int, ...], given: Tensor, monkeypatch) -> Tensor:
    """Logits [o t s s] of the stock video predictor around the same modules, forwards, then backwards."""
    predictor = stock.SAM2VideoPredictor.__new__(stock.SAM2VideoPredictor)
    predictor.__dict__.update(seg.sam.__dict__)
    predictor.fill_hole_area, predictor.non_overlap_masks = 0, False
    predictor.clear_non_cond_mem_around_input = predictor.add_all_frames_to_correct_as_cond = False
    monkeypatch.setattr(stock, "load_video_frames", lambda **_: (normalise(video(), S), S, S))
    state = predictor.init_state("frames")
    for t in keys:
        for o in range(O):
            predictor.add_new_mask(state, t, obj_id=10 + o, mask=given[t, o])
    found = {t: logits for t, _, logits in predictor.propagate_in_video(state)}
    found |= {t: logits for t, _, logits in predictor.propagate_in_video(state, reverse=True)}
    return torch.cat([found[t] for t in range(T)], 1)


@pytest.mark.parametrize("keys", [(0,), (3,), (5,), (1, 4)])
def test_track_equals_the_stock_video_predictor(lively, monkeypatch, keys):
    """To rounding, once two savings of SAM2's predictor are undone: it keeps memory in bfloat16, and shrinks a given
    mask to stride 4 before encoding it. (With them 0.005 % of the pixels differ at these sizes, untrained.)"""
    monkeypatch.setattr(torch, "bfloat16", torch.float32)
    step = SAM2Base.track_step
    monkeypatch.setattr(SAM2Base, "track_step", lambda *a, **kw: step(*a, **{**kw, "run_mem_encoder": True}))
    features, given = lively.see(video()), masks()
    ours = lively.track(features, {t: given[t] for t in keys})
    assert ours.shape == (O, T, S // 4, S // 4)
    want = predicted(lively, keys, given, monkeypatch)
    torch.testing.assert_close(lively.upsample(ours, (S, S)), want, atol=1e-4, rtol=1e-4)
    swapped = lively.track(features, {t: given[t].flip(0) for t in keys})
    assert (swapped - ours).abs().amax((0, 2, 3)).min() > 0.02  # every frame depends on the masks given


def remembering_all(seg: Segmenter, features: FrameFeatures, given: dict[int, Tensor]) -> Tensor:
    """`track` as a loop that never forgets."""
    book, first, total = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}, min(given), len(features)
    for t in sorted(given):
        book["cond_frame_outputs"][t] = seg.step(
            features[t : t + 1], t, O, total, book, masks=given[t][:, None].float()
        )
    for t in [*range(first, total), *range(first - 1, -1, -1)]:
        if t not in given:
            book["non_cond_frame_outputs"][t] = seg.step(features[t : t + 1], t, O, total, book, reverse=t < first)
    found = book["cond_frame_outputs"] | book["non_cond_frame_outputs"]
    return torch.stack([found[t]["pred_masks"][:, 0] for t in range(total)], 1)


@torch.no_grad()
@pytest.mark.parametrize("keys", [(0,), (7,), (6, 9), (0, 5, 14)])
@pytest.mark.parametrize("pointers", [2, 5])  # memory looks back by masks (2 frames), or further by pointers
def test_what_memory_does_not_look_back_to_is_forgotten_without_a_trace(lively, keys, pointers):
    lively.sam.max_obj_ptrs_in_encoder = pointers
    drawn = torch.cat([masks(), masks().flip(0), masks()[:3]])
    features = FrameFeatures.cat([lively.see(video()), lively.see(video().flip(0)), lively.see(video()[:3])])
    assert len(features) == 15 > 2 * lively.reach
    given, asked = {t: drawn[t] for t in keys}, []
    want = remembering_all(lively, features, given)
    found = dict(lively.carry(lambda t: asked.append(t) or features[t : t + 1], 15, given))
    assert all(torch.equal(found[t].logits, want[:, t]) for t in range(15)), "bit for bit"
    assert sorted(asked) == list(range(15)) and asked[: len(keys)] == list(keys), "each frame once, key frames first"
    assert torch.equal(lively.track(features, given), want)
    lively.sam.max_obj_ptrs_in_encoder = pointers + 2  # SAM2 looks further than the book reaches
    further, reach = remembering_all(lively, features, given), max(lively.sam.num_maskmem, pointers) - 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Segmenter, "reach", reach)
        assert not torch.equal(lively.track(features, given), further), "and this test can fail"


@torch.no_grad()
def test_estimates_are_those_of_sam2s_own_heads(lively, monkeypatch):
    features, given, inside, said = lively.see(video()), {2: masks()[2]}, lively.sam._forward_sam_heads, []
    monkeypatch.setattr(lively.sam, "_forward_sam_heads", lambda **words: said.append(inside(**words)) or said[-1])
    found = [c for _, c in lively.carry(lambda t: features[t : t + 1], T, given)]
    assert found[0].iou.tolist() == [1, 1] and found[0].score.tolist() == [10, 10], "the mask was given"
    for carried, (_, _, ious, low, *_, score) in zip(found[1:], said[1:], strict=True):
        assert torch.equal(carried.iou, ious.max(1).values) and torch.equal(carried.score, score[:, 0])
        assert torch.equal(carried.logits, low[:, 0])
    assert not lively.sam.sam_mask_decoder._forward_hooks
    whole = lively.answer(features[[0, 3, 5]], torch.randn(N, D))
    assert whole.score.tolist() == [2, 2, 2], "as `seeing` has set it"


def test_key_frames_return_the_given_masks_and_objects_do_not_mix(seg):
    features, given = seg.see(video()), masks()
    both = seg.track(features, {2: given[2]})
    assert ((seg.upsample(both[:, 2], (S, S)) > 0) != given[2]).float().mean() < 0.02
    for o in range(O):
        alone = seg.track(features, {2: given[2, o : o + 1]})
        torch.testing.assert_close(both[o], alone[0], atol=1e-4, rtol=1e-3)


# -- geometry ----------------------------------------------------------------------------------------------------------


def test_upsample_golden(seg):
    logits = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])
    want = torch.tensor([[0.0, 1, 3, 4], [2, 3, 5, 6], [6, 7, 9, 10], [8, 9, 11, 12]])
    torch.testing.assert_close(seg.upsample(logits, (4, 4))[0], want)
    assert seg.upsample(torch.zeros(2, 5, 3, 4), (7, 11)).shape == (2, 5, 7, 11)


def test_to_square_golden():
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 1, 0]], dtype=torch.bool)
    assert segmenter.to_square(mask[None], 2)[0].int().tolist() == [[1, 0], [0, 1]]
    mask[1, 0] = mask[0, 1] = False  # a quarter of the cell is left: less than half
    assert segmenter.to_square(mask[None], 2)[0].int().tolist() == [[0, 0], [0, 1]]
    wide = torch.tensor([[[1, 0, 0, 0], [1, 1, 0, 0]]], dtype=torch.bool)
    assert segmenter.to_square(wide, 2)[0].int().tolist() == [[1, 0], [1, 0]]
    assert segmenter.to_square(torch.eye(2, dtype=torch.uint8)[None], 4)[0].int().tolist() == [
        [1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1],
    ]  # fmt: skip
    assert segmenter.to_square(torch.zeros(2, 5, 7, 11, dtype=torch.bool), 3).shape == (2, 5, 3, 3)


@pytest.mark.parametrize("size", [(720, 1280), (1080, 1920), (480, 854), (1024, 1024)])
def test_to_square_takes_exact_shares_of_real_frames(size: tuple[int, int]):
    """Squares that begin anywhere: together they have the area that is due, under autocast too."""
    height, width = size
    drawn = torch.zeros(9, height, width, dtype=torch.bool)
    for i in range(9):
        top, left, side = 11 + 37 * i, 23 + 71 * i, 10 + 5 * i
        drawn[i, top : top + side, left : left + side] = True
    found = segmenter.to_square(drawn, 1024)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(segmenter.to_square(drawn, 1024), found)
    assert torch.equal(found, torch.from_numpy(area_resize(drawn.numpy(), (1024, 1024)) >= 0.5))
    due = drawn.sum((1, 2)) * 1024**2 / (height * width)
    assert (found.sum((1, 2)) / due).mean() == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 72}, "image_size 72 must divide by 32"),
        ({"memory_dim": 12}, "width 32 must divide by memory_encoder.out_dim 12"),
        ({"windows": (5, 2, 4, 2)}, "at stride 4, 16 must divide by the first window 5"),
        ({"global_blocks": (4, 3)}, "global block 4 is the first of its stage"),
    ],
)
def test_impossible_geometry_is_an_error_with_the_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        segmenter.build(tiny.SIZES.segmenter.model_copy(update=changes))


def test_stock_features_put_objects_in_columns(seg):
    features = seg.see(video()[:2])
    out = segmenter.stock_features(seg.sam, features, objects=6)  # three objects a frame
    assert out["feat_sizes"] == [(16, 16), (8, 8), (4, 4)]
    assert [f.shape for f in out["current_vision_feats"]] == [(256, 6, 4), (64, 6, 8), (16, 6, 32)]
    for column in range(6):
        assert torch.equal(out["current_vision_feats"][2][:, column], features.stride16[column // 3].flatten(1).T)
    stock_out = seg.sam._prepare_backbone_features(seg.sam.forward_image(normalise(video()[:2], S)))
    for ours, theirs in zip(out["current_vision_pos_embeds"], stock_out[2], strict=True):
        assert torch.equal(ours[:, ::3], theirs)


@pytest.mark.parametrize(
    "most",
    [
        {"image_size": 2048, "windows": (64, 64, 64, 64)},
        {"embed": 256, "heads": 16},
        {"stages": (20, 40, 64, 4), "global_blocks": tuple(range(61, 93))},
        {"dim": 512, "memory_dim": 512, "num_maskmem": 32},
        {"dim": 16, "memory_dim": 4, "num_maskmem": 1, "global_blocks": ()},
    ],
)
def test_what_a_profile_may_ask_for_can_be_described(most):
    """Else a model would be trained whose checkpoint nobody reads again."""
    sizes = bounds.changed(tiny.SIZES.segmenter, **most)
    assert segmenter.Sam2.read(segmenter.describe(sizes).model_dump(), "again")
