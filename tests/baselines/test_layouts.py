"""Small files in the layouts of the released ReferFormer and SOC, written from their description."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest
import queries
import torch
from click.testing import Result
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from typer.testing import CliRunner

from reviosa_core.baselines import deformable, folders, layouts, sizes
from reviosa_core.baselines.query import QuerySystem
from reviosa_core.baselines.referformer import ReferFormer
from reviosa_core.baselines.sizes import LEVELS, Sizes
from reviosa_core.baselines.soc import Soc
from reviosa_core.cli.app import app
from reviosa_core.schema import DataError
from reviosa_core.weights import files

SWIN = sizes.VideoSwin(embed=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), window=(2, 3, 3))
SIZES = {kind: queries.SIZES[kind].model_copy(update={"backbone": SWIN}) for kind in (ReferFormer, Soc)}
BOTH = pytest.mark.parametrize("kind", [ReferFormer, Soc])
Shapes = dict[str, tuple[int, ...]]


def linear(name: str, out: int, into: int, *kernel: int) -> Shapes:
    return {f"{name}.weight": (out, into, *kernel), f"{name}.bias": (out,)}


def norm(name: str, n: int) -> Shapes:
    return {f"{name}.weight": (n,), f"{name}.bias": (n,)}


def attention(name: str, d: int) -> Shapes:
    packed = {f"{name}.in_proj_weight": (3 * d, d), f"{name}.in_proj_bias": (3 * d,)}
    return packed | linear(f"{name}.out_proj", d, d)


def roberta(s: sizes.Text) -> Shapes:
    e = "text_encoder.embeddings."
    found: Shapes = {
        f"{e}position_ids": (1, s.positions),
        f"{e}word_embeddings.weight": (s.vocabulary, s.hidden),
        f"{e}position_embeddings.weight": (s.positions, s.hidden),
        f"{e}token_type_embeddings.weight": (1, s.hidden),
        **norm(f"{e}LayerNorm", s.hidden),
        **linear("text_encoder.pooler.dense", s.hidden, s.hidden),
    }
    for i in range(s.layers):
        own = f"text_encoder.encoder.layer.{i}."
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            found |= linear(f"{own}attention.{part}", s.hidden, s.hidden)
        found |= linear(f"{own}intermediate.dense", s.ffn, s.hidden) | linear(f"{own}output.dense", s.hidden, s.ffn)
        found |= norm(f"{own}attention.output.LayerNorm", s.hidden) | norm(f"{own}output.LayerNorm", s.hidden)
    return found


def video_swin(s: sizes.VideoSwin) -> Shapes:
    body, (t, h, w) = "backbone.0.body.", s.window
    found = linear(f"{body}patch_embed.proj", s.embed, 3, 1, 4, 4) | norm(f"{body}patch_embed.norm", s.embed)
    for i, depth in enumerate(s.depths):
        c = s.embed * 2**i
        for j in range(depth):
            own = f"{body}layers.{i}.blocks.{j}."
            found |= norm(f"{own}norm1", c) | norm(f"{own}norm2", c)
            found[f"{own}attn.relative_position_bias_table"] = ((2 * t - 1) * (2 * h - 1) * (2 * w - 1), s.heads[i])
            found[f"{own}attn.relative_position_index"] = (t * h * w, t * h * w)
            found |= linear(f"{own}attn.qkv", 3 * c, c) | linear(f"{own}attn.proj", c, c)
            found |= linear(f"{own}mlp.fc1", 4 * c, c) | linear(f"{own}mlp.fc2", c, 4 * c)
        if i < 3:
            found |= {f"{body}downsamples.{i}.reduction.weight": (2 * c, 4 * c)} | norm(
                f"{body}downsamples.{i}.norm", 4 * c
            )
    return found


def resnet_50() -> Shapes:
    """Bottlenecks of 3, 4, 6 and 3; norms are frozen, with four vectors each."""
    found: Shapes = {"conv1.weight": (64, 3, 7, 7)}
    vectors = ["bn1"]
    into = 64
    counts = {"bn1": 64}
    for stage, (blocks, width) in enumerate(zip((3, 4, 6, 3), (64, 128, 256, 512), strict=True), 1):
        for block in range(blocks):
            own = f"layer{stage}.{block}."
            found[f"{own}conv1.weight"], found[f"{own}conv2.weight"] = (width, into, 1, 1), (width, width, 3, 3)
            found[f"{own}conv3.weight"] = (4 * width, width, 1, 1)
            counts |= {f"{own}bn1": width, f"{own}bn2": width, f"{own}bn3": 4 * width}
            if block == 0:
                found[f"{own}downsample.0.weight"] = (4 * width, into, 1, 1)
                counts[f"{own}downsample.1"] = 4 * width
            into = 4 * width
    vectors = ("weight", "bias", "running_mean", "running_var")
    found |= {f"{name}.{vector}": (n,) for name, n in counts.items() for vector in vectors}
    return {f"backbone.0.body.{name}": shape for name, shape in found.items()}


def transformer(s: Sizes) -> Shapes:
    d, q = s.dim, s.queries
    found: Shapes = {"transformer.level_embed": (LEVELS, d), "query_embed.weight": (q, d)}
    found |= linear("transformer.reference_points", 2, d)
    for side, count in (("encoder", s.encoder_layers), ("decoder", s.decoder_layers)):
        for i in range(count):
            own = f"transformer.{side}.layers.{i}."
            part = own + ("self_attn" if side == "encoder" else "cross_attn")
            found |= linear(f"{part}.sampling_offsets", s.heads * LEVELS * s.points * 2, d)
            found |= linear(f"{part}.attention_weights", s.heads * LEVELS * s.points, d)
            found |= linear(f"{part}.value_proj", d, d) | linear(f"{part}.output_proj", d, d)
            found |= linear(f"{own}linear1", s.ffn, d) | linear(f"{own}linear2", d, s.ffn)
            found |= norm(f"{own}norm1", d) | norm(f"{own}norm2", d)
            if side == "decoder":
                found |= attention(f"{own}self_attn", d) | norm(f"{own}norm3", d)
    for i in range(s.decoder_layers):
        found |= linear(f"class_embed.{i}", 1, d)
        for prefix in ("", "transformer.decoder."):
            for j, out in enumerate((d, d, 4)):
                found |= linear(f"{prefix}bbox_embed.{i}.layers.{j}", out, d)
    k, m = s.kernel_channels, s.mask_channels
    for j, out in enumerate((d, d, k * (m + 2) + k * k + k + 2 * k + 1)):
        found |= linear(f"controller.layers.{j}", out, d)
    return found


def projections(channels: tuple[int, ...], d: int) -> Shapes:
    found: Shapes = {}
    for i, (into, kernel) in enumerate(zip((*channels[1:], channels[-1]), (1, 1, 1, 3), strict=True)):
        found |= linear(f"input_proj.{i}.0", d, into, kernel, kernel) | norm(f"input_proj.{i}.1", d)
    return found


def referformers(s: Sizes, stride4: int) -> Shapes:
    d = s.dim
    found = linear("resizer.fc", d, s.text.hidden) | norm("resizer.layer_norm", d)
    found |= attention("fusion_module.multihead_attn", d)
    found |= linear("pixel_decoder.mask_features", s.mask_channels, d, 3, 3)
    for i, into in enumerate((stride4, d, d, d), 1):
        own = f"pixel_decoder.cross_attn_{i}."
        found |= {f"pixel_decoder.adapter_{i}.weight": (d, into, 1, 1)} | norm(f"pixel_decoder.adapter_{i}.norm", d)
        found |= {f"pixel_decoder.layer_{i}.weight": (d, d, 3, 3)} | norm(f"pixel_decoder.layer_{i}.norm", d)
        found |= attention(f"{own}self_attn", d) | attention(f"{own}multihead_attn", d)
        found |= linear(f"{own}linear1", s.ffn, d) | linear(f"{own}linear2", d, s.ffn)
        found |= norm(f"{own}norm1", d) | norm(f"{own}norm2", d) | norm(f"{own}norm3", d)
    return found


def socs(s: sizes.SocSizes, stride4: int) -> Shapes:
    d = s.dim
    found = linear("txt_proj.fc", d, s.text.hidden) | norm("txt_proj.layer_norm", d)
    found |= attention("vlf.multihead_attn", d) | attention("lvf.multihead_attn", d) | norm("voc.decoder_norm", d)
    found |= {"voc.fq_pos.weight": (s.queries, d), "voc.query_embed.weight": (s.queries, d)}

    def forth(name: str) -> Shapes:
        return linear(f"{name}.linear1", s.ffn, d) | linear(f"{name}.linear2", d, s.ffn) | norm(f"{name}.norm", d)

    for i in range(s.cluster_layers):
        found |= attention(f"voc.enc_self_attn.{i}.self_attn", d) | norm(f"voc.enc_self_attn.{i}.norm", d)
        found |= forth(f"voc.enc_ffn.{i}")
    for i in range(s.video_layers):
        for part, inner in (("self_attention", "self_attn"), ("cross_attention", "multihead_attn")):
            own = f"voc.transformer_{part}_layers.{i}"
            found |= attention(f"{own}.{inner}", d) | norm(f"{own}.norm", d)
        found |= forth(f"voc.transformer_ffn_layers.{i}")
    widths = [d, d, d // 2, d // 4, d // 8, d // 16]
    for i in range(1, 6):
        found |= linear(f"spatial_decoder.lay{i}", widths[i], widths[i - 1], 3, 3) | norm(
            f"spatial_decoder.gn{i}", widths[i]
        )
    for i, into in enumerate((d, d, stride4), 1):
        found |= linear(f"spatial_decoder.adapter{i}", widths[i + 1], into, 1, 1)
    return found | linear("spatial_decoder.out_lay", s.mask_channels, widths[-1], 3, 3)


def described(kind: type[QuerySystem], s: Sizes) -> Shapes:
    """All tensors of a released file, by name."""
    if isinstance(s.backbone, sizes.VideoSwin):
        body, channels = video_swin(s.backbone), tuple(s.backbone.embed * 2**i for i in range(4))
    else:
        body, channels = resnet_50(), (256, 512, 1024, 2048)
    own = socs(s, channels[0]) if isinstance(s, sizes.SocSizes) else referformers(s, channels[0])
    return body | roberta(s.text) | projections(channels, s.dim) | transformer(s) | own


def random(kind: type[QuerySystem]) -> dict[str, Tensor]:
    torch.manual_seed(4)
    found = {name: 0.3 * torch.randn(shape) for name, shape in described(kind, SIZES[kind]).items()}
    for name in found:
        if name.endswith(("relative_position_index", "position_ids")):
            found[name] = torch.zeros(found[name].shape, dtype=torch.int64)
        if name.startswith("transformer.decoder.bbox_embed"):
            found[name] = found[name.removeprefix("transformer.decoder.")]
    return found


def write(path: Path, tensors: dict[str, Tensor], key: str = "model") -> files.Weights:
    torch.save({key: tensors, "epoch": 5, "args": Namespace(lr=1e-4, backbone="video_swin_t_p4w7")}, path)
    return files.Weights.at(path)


@BOTH
@pytest.mark.parametrize("key", ["model", "model_state_dict"])
def test_a_released_file_becomes_a_system_that_segments(kind: type[QuerySystem], key: str, tmp_path: Path):
    tensors = random(kind)
    released = write(tmp_path / "released.pth", tensors, key)
    assert layouts.kind_of(released) is kind and set(released) == set(tensors)
    ours = layouts.translate(released, kind)
    made = layouts.assemble(ours, kind, SIZES[kind], queries.tokenizer())
    assert set(ours) == set(made.state_dict())
    made.segment(queries.clip("a", 3, (48, 72)))
    numbers = sum(t.numel() for n, t in tensors.items() if not n.startswith("transformer.decoder.bbox_embed"))
    numbers -= tensors["text_encoder.embeddings.position_ids"].numel()
    assert sum(t.numel() for t in made.state_dict().values()) == numbers  # each number once


@BOTH
def test_the_papers_sizes_are_recognised_by_their_backbones(kind: type[QuerySystem]):
    """At full size, with every tensor in its place, and nothing allocated."""
    for name in ("ResNet-50", "Video-Swin-T", "Video-Swin-B"):
        full = layouts.PUBLISHED[kind][name]
        empty = {key: torch.empty(shape, device="meta") for key, shape in described(kind, full).items()}
        for key in [key for key in empty if key.startswith("transformer.decoder.bbox_embed")]:
            del empty[key]  # to be compared with its twin, it would have to be read
        ours = layouts.translate(files.of(empty, Path("x.pth")), kind)
        assert layouts.published(ours, kind) == (name, full)
        ours.check(layouts.shapes(kind, full))


def test_names_that_shapes_do_not_tell_apart(tmp_path: Path):
    """Pairs of (released, ours), by hand: all of one file have shapes that others have, too."""
    pairs = {
        ReferFormer: {
            "transformer.encoder.layers.0.norm1.weight": "encoder.layers.0.self_attn_layer_norm.weight",
            "transformer.encoder.layers.0.norm2.weight": "encoder.layers.0.final_layer_norm.weight",
            "backbone.0.body.layers.1.blocks.1.norm2.bias": "backbone.features.2.1.norm2.bias",
            "backbone.0.body.downsamples.1.norm.weight": "backbone.features.3.norm.weight",
            "backbone.0.body.layers.3.blocks.0.mlp.fc2.bias": "backbone.features.6.0.mlp.3.bias",
            "pixel_decoder.layer_4.weight": "pyramid.leave.3.0.weight",  # stride 32
            "pixel_decoder.adapter_2.norm.bias": "pyramid.enter.1.1.bias",
            "pixel_decoder.cross_attn_3.norm1.weight": "pyramid.language.2.cells.norm.weight",
            "pixel_decoder.cross_attn_3.norm2.weight": "pyramid.language.2.words.norm.weight",
            "pixel_decoder.cross_attn_3.norm3.weight": "pyramid.language.2.forth.norm.weight",
            "pixel_decoder.cross_attn_1.multihead_attn.in_proj_bias": "pyramid.language.0.words.attention.in_proj_bias",
            "input_proj.0.1.weight": "project.0.1.weight",
        },
        Soc: {
            "vlf.multihead_attn.in_proj_bias": "fusion.attention.in_proj_bias",
            "lvf.multihead_attn.in_proj_bias": "words_see.attention.in_proj_bias",
            "voc.fq_pos.weight": "cluster.frame_positions",
            "voc.query_embed.weight": "cluster.video_positions",
            "query_embed.weight": "queries",
            "voc.enc_ffn.0.norm.weight": "cluster.frames.0.forth.norm.weight",
            "voc.transformer_self_attention_layers.1.norm.weight": "cluster.videos.1.attend.norm.weight",
            "voc.transformer_cross_attention_layers.1.norm.weight": "cluster.videos.1.across.norm.weight",
            "spatial_decoder.gn1.weight": "pyramid.layers.0.1.weight",
            "spatial_decoder.adapter3.weight": "pyramid.adapters.2.weight",
        },
    }
    for kind, known in pairs.items():
        tensors = random(kind)
        ours = layouts.translate(files.of(tensors, tmp_path), kind)
        for theirs, name in known.items():
            assert torch.equal(ours[name], tensors[theirs]), name


def test_a_decoder_layer_does_what_its_released_names_say():
    """Self-attention by one packed tensor, then norm2; attention to the memory, then norm1; then norm3."""
    tensors = random(ReferFormer)
    ours = layouts.translate(files.of(tensors, Path("x")), ReferFormer)
    layer = deformable.DecoderLayer(SIZES[ReferFormer]).eval()
    prefix = "decoder.1."
    layer.load_state_dict({n.removeprefix(prefix): t for n, t in ours.items() if n.startswith(prefix)})
    own = {n.removeprefix("transformer.decoder.layers.1."): t for n, t in tensors.items()}
    d = SIZES[ReferFormer].dim
    shapes = [(4, 5), (2, 3), (1, 2), (1, 1)]
    x, place, cells = torch.randn(2, 3, d), torch.randn(3, d), torch.randn(2, 29, d)
    reference, memory = torch.rand(2, 3, 2), deformable.Memory(cells, shapes)
    part = torch.nn.MultiheadAttention(d, SIZES[ReferFormer].heads, batch_first=True)
    part.load_state_dict({n.removeprefix("self_attn."): t for n, t in own.items() if n.startswith("self_attn.")})

    def normed(y: Tensor, i: int) -> Tensor:
        return F.layer_norm(y, (d,), own[f"norm{i}.weight"], own[f"norm{i}.bias"])

    found = normed(x + part(x + place, x + place, x)[0], 2)
    seen, _ = layer.layer.encoder_attn(
        found + place,
        encoder_hidden_states=cells,
        reference_points=reference[:, :, None].expand(-1, -1, LEVELS, -1),
        spatial_shapes=torch.tensor(shapes),
        spatial_shapes_list=shapes,
    )
    found = normed(found + seen, 1)
    hidden = F.relu(F.linear(found, own["linear1.weight"], own["linear1.bias"]))
    found = normed(found + F.linear(hidden, own["linear2.weight"], own["linear2.bias"]), 3)
    torch.testing.assert_close(layer(x, place, reference, memory), found, atol=1e-5, rtol=1e-4)


def test_files_that_do_not_fit_are_refused_by_name(tmp_path: Path):
    tensors = random(ReferFormer)
    path = tmp_path / "x.pth"

    def refused(match: str, **changes: Tensor | None) -> None:
        held = {n: t for n, t in {**tensors, **changes}.items() if t is not None}
        with pytest.raises(DataError, match=match):
            released = write(path, held)
            ours = layouts.translate(released, layouts.kind_of(released))
            layouts.published(ours, ReferFormer) if "backbone" in match else ours.check(
                layouts.shapes(ReferFormer, SIZES[ReferFormer])
            )

    one = torch.zeros(1)
    refused(r"x\.pth: tensor wheel\.weight has no place in ReferFormer", **{"wheel.weight": one})
    refused(r"1 of \d+ tensors missing, first queries", **{"query_embed.weight": None})
    refused(r"query_embed\.weight is \(1,\), queries of the model is \(3, 16\)", **{"query_embed.weight": one})
    refused(r"bbox_embed\.0.* should be the same, and differ", **{"bbox_embed.0.layers.2.bias": torch.zeros(4)})
    refused("a backbone that is none of ResNet-50")
    other = "backbone.0.body.layers.0.downsample.norm.weight"  # Swin's: frames one by one
    refused(f"a backbone that is none of ResNet-50, .*: no place for tensor {other}", **{other: one})
    torch.save({"model": {"neck.weight": one}}, path)
    with pytest.raises(DataError, match="neither ReferFormer nor SOC"):
        layouts.load(path)


def test_profilers_counters_are_no_weights():
    tensors = random(Soc) | {"backbone.0.body.total_ops": torch.zeros(1), "total_params": torch.zeros(1)}
    ours = layouts.translate(files.of(tensors, Path("x")), Soc)
    ours.check(layouts.shapes(Soc, SIZES[Soc]))


@pytest.mark.parametrize("name", folders.KINDS)
def test_a_trained_system_is_read_as_it_was_saved(name: str, tmp_path: Path):
    kind = folders.KINDS[name][0]
    made = queries.system(kind)
    folders.save(made, tmp_path)
    again = folders.load(tmp_path, device="cpu")
    assert type(again) is kind and again.sizes == made.sizes and not again.training
    clip = queries.clip("a", 3, (48, 72))
    for ours, theirs in zip(made.segment(clip), again.segment(clip), strict=True):
        assert (ours.masks["actor"] == theirs.masks["actor"]).all()
    (tmp_path / folders.ABOUT).write_text('{"system": "MTTR"}')
    with pytest.raises(DataError, match="system is 'MTTR', not one of ReferFormer, IFIRVOS, SOC"):
        folders.load(tmp_path)


def test_the_command_line_knows_released_files_and_saved_folders(tmp_path: Path, monkeypatch):
    """`weights inspect` on a small file of a released layout, `predict` with a folder of ours."""
    runner = CliRunner()
    path = tmp_path / "x.pth"
    write(path, random(Soc), "model_state_dict")
    monkeypatch.setitem(layouts.PUBLISHED, Soc, {"small": SIZES[Soc]})
    said = runner.invoke(app, ["weights", "inspect", str(path)])
    assert said.exit_code == 0 and "kind: Soc as released, small" in said.stdout and "cluster" in said.stdout

    folders.save(queries.system(ReferFormer), tmp_path / "ours")
    said = runner.invoke(app, ["weights", "inspect", str(tmp_path / "ours")])
    assert said.exit_code == 0, said.output
    for line in ("kind: ReferFormer, reviosa workbook", "dim: 16", "queries: 3", "encoder_rate: 0.5"):
        assert line in said.stdout.splitlines()
    (tmp_path / "video").mkdir()
    for i, frame in enumerate(queries.clip("a", 3, (48, 72)).frames):
        Image.fromarray(frame).save(tmp_path / "video" / f"{i}.png")
    given = {"video": tmp_path / "video", "checkpoint": tmp_path / "ours", "out": tmp_path / "out", "text": "the dog"}

    def predict(**given: object) -> Result:
        return runner.invoke(app, ["predict", *(str(x) for name, value in given.items() for x in (f"--{name}", value))])

    said = predict(**given)
    assert said.exit_code == 0, said.output
    assert sorted(p.name for p in (tmp_path / "out" / "masks").iterdir()) == ["actor"]

    said = predict(**given | {"checkpoint": path, "out": tmp_path / "other"})
    assert said.exit_code == 2 and "no tokenizer" in said.output
