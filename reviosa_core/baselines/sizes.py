"""What a query system is built from: typed sizes, the papers' as data, and these at a profile's scale.

The papers' are what released ReferFormer and SOC are read into (`layouts`), to segment with them. Training is at a
profile's scale, from encoders pretrained there (`pretrain`): there is no way to start from published encoders.
"""

from __future__ import annotations

from typing import Literal

from reviosa_core.bounds import Count, Few, Share, Strict, Weight, changed
from reviosa_core.schedules import TEXT_HEADS, Baselines
from reviosa_core.sizes import Pixels, Vision, Width


class ResNet(Strict):
    """Frames one by one, with frozen batch norms, as in DETR."""

    resnet: Literal[50, 101]


class VideoSwin(Strict):
    """Frames together: windows of (t, h, w) patches of one frame x 4 x 4 pixels. Released: window (8, 7, 7)."""

    embed: Width
    depths: tuple[Few, Few, Few, Few]
    heads: tuple[Few, Few, Few, Few]
    window: tuple[Few, Few, Few]
    drop_path: Share = 0.0


class Convolutions(Strict):
    """Residual convolutions at strides 4, 8, 16 and 32, seconds to train. With `temporal`, a frame's features also see
    those of its two neighbours."""

    channels: tuple[Width, Width, Width, Width]
    temporal: bool


class Text(Vision):
    """RoBERTa at any size; `vocabulary` and `positions` are its two tables of embeddings. `frozen`: not trained."""

    vocabulary: Count
    positions: Width
    frozen: bool = False


class Terms(Strict):
    """Weights of what is compared: of the losses, and of the costs by which a query is matched to the truth."""

    cls: Weight
    l1: Weight
    giou: Weight
    focal: Weight
    dice: Weight


class Sizes(Strict):
    """A query system. `frames` is T, what it is trained on; `window` is how many neighbouring frames it looks at
    together when it segments. Frames are brought to `short` pixels on the short side, if that leaves the long one below
    `long`. `encoder_rate` is the learning rate of the two encoders, as a share of everybody else's."""

    backbone: ResNet | VideoSwin | Convolutions
    text: Text
    dim: Width
    heads: Few
    ffn: Width
    encoder_layers: Few
    decoder_layers: Few
    points: Few = 4
    queries: Few
    mask_channels: Width
    kernel_channels: Width = 8
    mask_stride: Literal[1, 2, 4] = 4
    dropout: Share
    short: Pixels
    long: Pixels
    frames: Few
    window: Few = 36
    encoder_rate: Weight
    loss: Terms
    cost: Terms


class SocSizes(Sizes):
    """SOC: and its video object cluster, `cluster_layers` that gather the frames' queries, `video_layers` that read
    them with `queries` video queries; `contrastive` is the weight of the video-level loss."""

    cluster_layers: Few
    video_layers: Few
    contrastive: Weight


LEVELS = 4  # strides 8, 16, 32, 64

RESNET_50, RESNET_101 = ResNet(resnet=50), ResNet(resnet=101)
_SWIN = {"window": (8, 7, 7), "drop_path": 0.2}
VIDEO_SWIN_T = VideoSwin(embed=96, depths=(2, 2, 6, 2), heads=(3, 6, 12, 24), **_SWIN)
VIDEO_SWIN_S = VideoSwin(embed=96, depths=(2, 2, 18, 2), heads=(3, 6, 12, 24), **_SWIN)
VIDEO_SWIN_B = VideoSwin(embed=128, depths=(2, 2, 18, 2), heads=(4, 8, 16, 32), **_SWIN)
ROBERTA_BASE = Text(hidden=768, layers=12, heads=12, ffn=3072, vocabulary=50265, positions=514)
FROZEN_ROBERTA = ROBERTA_BASE.model_copy(update={"frozen": True})  # as in all fine-tuning that is published

_TERMS = Terms(cls=2, l1=5, giou=2, focal=2, dice=5)
REFERFORMER = Sizes(  # the paper and its published options
    backbone=VIDEO_SWIN_T,
    text=FROZEN_ROBERTA,
    dim=256,
    heads=8,
    ffn=2048,
    encoder_layers=4,
    decoder_layers=4,
    queries=5,
    mask_channels=256,
    dropout=0.1,
    short=360,
    long=640,
    frames=5,
    encoder_rate=0.5,
    loss=_TERMS,
    cost=_TERMS,
)
_IFIRVOS_TERMS = Terms(cls=2, l1=5, giou=2, focal=1, dice=1)
IFIRVOS = REFERFORMER.model_copy(  # its section 4.2; rates 5e-5 and 1e-5
    update={
        "backbone": RESNET_50,
        "frames": 6,
        "encoder_rate": 0.2,
        "loss": _IFIRVOS_TERMS,
        "cost": _IFIRVOS_TERMS,
    }
)
SOC = SocSizes(  # its published configuration; its author: 5e-5 and 5e-6
    **{
        name: getattr(REFERFORMER, name)
        for name in ("backbone", "text", "dim", "heads", "ffn", "dropout", "short", "long")
    },
    encoder_layers=3,
    decoder_layers=3,
    queries=20,
    mask_channels=8,
    frames=8,
    encoder_rate=0.1,
    loss=Terms(cls=2, l1=2, giou=2, focal=2, dice=5),
    cost=Terms(cls=2, l1=2, giou=2, focal=0, dice=5),
    cluster_layers=3,
    video_layers=3,
    contrastive=1,
)


def at(papers: Sizes, given: Baselines, side: int, vocabulary: int) -> Sizes:
    """A published system at a profile's scale, for square frames of `side` pixels and a tokenizer of so many words.
    ValueError for sizes that do not fit each other."""
    changes = {
        "backbone": Convolutions(channels=given.channels, temporal=True),
        "text": Text(
            hidden=given.text,
            layers=given.text_layers,
            heads=TEXT_HEADS,
            ffn=2 * given.text,
            vocabulary=vocabulary,
            positions=64,
        ),
        "encoder_layers": given.layers,
        "decoder_layers": given.layers,
        "dropout": 0.0,
        "short": side,
        "long": side,
        "frames": given.shown,
        **{name: getattr(given, name) for name in SCALED},
    }
    if isinstance(papers, SocSizes):
        changes |= {"cluster_layers": 1, "video_layers": 1}
    return changed(papers, **changes)


SCALED = ("dim", "heads", "points", "ffn", "queries", "mask_channels", "mask_stride", "encoder_rate")
