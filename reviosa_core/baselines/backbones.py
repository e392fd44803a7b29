"""Frames to four maps, at strides 4, 8, 16 and 32: ResNet, Video Swin, or convolutions that train in seconds.

All are built without weights: nothing is fetched.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn
from torchvision.models import resnet50, resnet101
from torchvision.models.video import SwinTransformer3d
from torchvision.ops import FrozenBatchNorm2d

from reviosa_core.baselines import sizes


class ResNetMaps(nn.Module):
    """Each frame by itself. Batch norms are frozen, and as in the papers so is all up to stride 4."""

    channels: tuple[int, ...] = (256, 512, 1024, 2048)

    def __init__(self, described: sizes.ResNet) -> None:
        super().__init__()
        build = {50: resnet50, 101: resnet101}[described.resnet]
        whole = build(weights=None, norm_layer=FrozenBatchNorm2d)
        self.stem = nn.ModuleDict({"conv1": whole.conv1, "bn1": whole.bn1})
        self.stages = nn.ModuleList([whole.layer1, whole.layer2, whole.layer3, whole.layer4])
        self.rest = nn.Sequential(whole.relu, whole.maxpool)
        self.stem.requires_grad_(False)
        self.stages[0].requires_grad_(False)

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> list[Tensor]:
        x = self.rest(self.stem["bn1"](self.stem["conv1"](frames.flatten(0, 1))))
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x.unflatten(0, frames.shape[:2]))
        return maps


class VideoSwinMaps(nn.Module):
    """All frames together. Patches span one frame, so that none is lost; the maps are taken before the merging, and
    have no norm of their own, as the released ones."""

    def __init__(self, described: sizes.VideoSwin) -> None:
        super().__init__()
        self.channels = tuple(described.embed * 2**i for i in range(4))
        whole = SwinTransformer3d(
            patch_size=[1, 4, 4],
            embed_dim=described.embed,
            depths=list(described.depths),
            num_heads=list(described.heads),
            window_size=list(described.window),
            stochastic_depth_prob=described.drop_path,
            num_classes=1,
        )
        self.patches, self.features = whole.patch_embed, whole.features  # stages and mergings in turn

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> list[Tensor]:
        x = self.patches(frames.transpose(1, 2))  # b t h w c
        maps = []
        for i, part in enumerate(self.features):
            x = part(x)
            if i % 2 == 0:
                maps.append(x.permute(0, 1, 4, 2, 3))
        return maps


class ConvolutionMaps(nn.Module):
    """One strided convolution and one residual block a stage."""

    def __init__(self, described: sizes.Convolutions) -> None:
        super().__init__()
        self.channels = described.channels
        self.down, self.blocks = nn.ModuleList(), nn.ModuleList()
        for before, after in zip((3, *described.channels), described.channels, strict=False):
            size, stride = (7, 4) if before == 3 else (3, 2)
            self.down.append(_normed(nn.Conv2d(before, after, size, stride, size // 2, bias=False)))
            self.blocks.append(_Block(after, described.temporal))

    def forward(self, frames: Float[Tensor, "b t 3 h w"]) -> list[Tensor]:
        x, maps = frames, []
        for down, block in zip(self.down, self.blocks, strict=True):
            x = block(down(x.flatten(0, 1)).unflatten(0, frames.shape[:2]))
            maps.append(x)
        return maps


class _Block(nn.Module):
    """x + what a 3 x 3 convolution makes of it, after a look at the frames before and after."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.time = nn.Conv3d(channels, channels, (3, 1, 1), padding=(1, 0, 0), groups=channels) if temporal else None
        self.space = nn.Sequential(_normed(nn.Conv2d(channels, channels, 3, padding=1, bias=False)))

    def forward(self, x: Float[Tensor, "b t c h w"]) -> Float[Tensor, "b t c h w"]:
        seen = x if self.time is None else x + self.time(x.transpose(1, 2)).transpose(1, 2)
        return x + self.space(seen.flatten(0, 1)).unflatten(0, x.shape[:2])


def _normed(convolution: nn.Conv2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.GroupNorm(8, convolution.out_channels), nn.ReLU())


def build(
    described: sizes.ResNet | sizes.VideoSwin | sizes.Convolutions,
) -> ResNetMaps | VideoSwinMaps | ConvolutionMaps:
    """`channels` are those of the four maps [b t c h w]; h and w are the frame's, divided by the stride, rounded up."""
    match described:
        case sizes.ResNet():
            return ResNetMaps(described)
        case sizes.VideoSwin():
            return VideoSwinMaps(described)
        case sizes.Convolutions():
            return ConvolutionMaps(described)
