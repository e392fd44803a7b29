from __future__ import annotations

import pytest
import torch
from torchvision.models import ResNet50_Weights, resnet50
from torchvision.models.video import Swin3D_T_Weights
from torchvision.ops import FrozenBatchNorm2d

from reviosa_core.baselines import backbones, sizes
from reviosa_core.model.sam2 import unallocated

B, T, H, W = 2, 3, 33, 50  # cells of strides 4 to 32, rounded up
SHAPES = [(9, 13), (5, 7), (3, 4), (2, 2)]
SMALL_SWIN = sizes.VideoSwin(embed=8, depths=(1, 1, 1, 1), heads=(1, 2, 2, 4), window=(2, 3, 3))
CONVOLUTIONS = sizes.Convolutions(channels=(8, 16, 24, 32), temporal=False)
TEMPORAL = sizes.Convolutions(channels=(8, 16, 24, 32), temporal=True)


@pytest.mark.parametrize("described", [SMALL_SWIN, CONVOLUTIONS, TEMPORAL])
def test_four_maps(described):
    made = backbones.build(described).eval()
    maps = made(torch.randn(B, T, 3, H, W))
    assert [x.shape for x in maps] == [(B, T, c, *s) for c, s in zip(made.channels, SHAPES, strict=True)]


def test_resnet_is_torchvisions_frame_by_frame():
    made = backbones.build(sizes.RESNET_50)
    theirs = resnet50(weights=None, norm_layer=FrozenBatchNorm2d)
    names = {f"stages.{i}": f"layer{i + 1}" for i in range(4)} | {"stem.conv1": "conv1", "stem.bn1": "bn1"}
    for ours, other in names.items():
        made.get_submodule(ours).load_state_dict(theirs.get_submodule(other).state_dict())
    frames = torch.randn(1, 2, 3, 32, 32)
    x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(frames[0]))))
    with torch.no_grad():
        for found, stage in zip(
            made(frames), (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4), strict=True
        ):
            x = stage(x)
            torch.testing.assert_close(found[0], x)
    trained = {name.split(".")[1] for name, p in made.named_parameters() if p.requires_grad}
    assert trained == {"1", "2", "3"}  # strides 8, 16, 32


@pytest.mark.parametrize(("described", "sees"), [(SMALL_SWIN, True), (CONVOLUTIONS, False), (TEMPORAL, True)])
def test_who_sees_the_neighbouring_frame(described, sees: bool):
    made = backbones.build(described).eval()
    frames = torch.randn(1, 2, 3, H, W)
    other = frames.clone()
    other[:, 1] += 1
    before, after = (made(x)[2][:, 0] for x in (frames, other))
    assert torch.allclose(before, after) != sees


def test_counts_beside_torchvisions_published_ones():
    """Theirs less the classifier, for Video Swin less the last norm and half of the patch embedding."""
    with unallocated():
        made = [sum(p.numel() for p in backbones.build(s).parameters()) for s in (sizes.RESNET_50, sizes.VIDEO_SWIN_T)]
    norms = 2 * 26560  # of 26,560 channels; frozen here, buffers
    assert made[0] == ResNet50_Weights.DEFAULT.meta["num_params"] - (2048 * 1000 + 1000) - norms
    swin = Swin3D_T_Weights.DEFAULT.meta["num_params"] - (768 * 400 + 400) - 2 * 768 - 96 * 3 * 16
    assert made[1] == swin
