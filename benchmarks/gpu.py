"""What ReVIOSa costs on a GPU: seconds and memory, with random weights at a profile's sizes. No files are needed.

    python benchmarks/gpu.py --out gpu.jsonl                            # all parts, in this order:
    python benchmarks/gpu.py train --out gpu.jsonl                      # a training step, 1B and 4B: AML, checkpointing
    python benchmarks/gpu.py predict --out gpu.jsonl                    # many frames of 720p for 1, 3 and 7 sentences
    python benchmarks/gpu.py same --out gpu.jsonl                       # the tiny profile's losses: here, and on a CPU
    python benchmarks/gpu.py small --out gpu.jsonl                      # how long `make repro` takes at profile small
    python benchmarks/gpu.py whole --out gpu.jsonl                      # AML through whole N x N attention, as released
    python benchmarks/gpu.py kernels --out gpu.jsonl                    # NaN gradients, by the kernels of attention
    python benchmarks/gpu.py --device cpu --small --out gpu.jsonl       # does all of it run? Minutes, nothing to learn

Every measurement is a line of JSON, printed and added to --out as soon as it is there; one that fails is a line with
its error, and the others go on. A step is the project's own (`training.finetune`, bf16 where there is a GPU): one
micro-batch of the profile and one step of AdamW. Predictions are float32, as `reviosa predict` makes them, unless the
line says bf16. Random weights write no role token: after writing as long as an answer may be, both roles are given a
random state each, so that every sentence has two masks to track.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from clocks import SIZES, TEXTS, Clock, Squares, peak
from torch.nn.attention import SDPBackend, sdpa_kernel

from reviosa_core import config, masks
from reviosa_core.bounds import changed
from reviosa_core.intershapes import language, splits
from reviosa_core.intershapes.pretrain import clips, grounding, internvl, sam2
from reviosa_core.model import losses, mllm, prompts, segmenter
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.schema import UNKNOWN, Clip, Expression, Role
from reviosa_core.scoring import evaluate
from reviosa_core.training import finetune, loop, sampler
from reviosa_core.weights import checkpoint

ROWS = 151_674  # InternVL-2.5-1B's embeddings, before the role tokens
PARTS = ("read", "vision", "language", "decode", "track", "write", "rest")
Measurement = tuple[dict[str, Any], Callable[[], dict[str, Any]]]  # what it is, and how to take it


# -- what is measured --------------------------------------------------------------------------------------------------


def build(profile: config.Profile, device: str, *, aml: bool = True, checkpointing: bool = False) -> ReVIOSa:
    """As `checkpoint.from_backbones`, with random weights made where they are used, and SAM2 sure of its objects: an
    untrained score would leave every mask out."""
    sizes, settings, template, wording = profile.model, profile.train, "tiny_chat", "labelled"
    words = grounding.words(grid(profile), sizes.mllm.frames)
    if isinstance(profile.pretrain, config.Released):
        # Both in the 1B's chat, whose signs the tokenizer has: Qwen2.5's writes the 4B's in pieces, this one cannot.
        template, wording = "qwen_chat", prompts.released(tuple(Role))
        said = " ".join((*prompts.QUESTIONS, *prompts.POSTFIXES, *prompts.ANSWERS))
        words = [*mllm.template_words(9), *language.vocabulary(), *re.findall(r"\w+|[^\w\s]", said)]
        words += [f"word{i}" for i in range(ROWS - len(mllm.word_tokenizer(words)))]
    tokenizer = mllm.word_tokenizer(words)
    torch.manual_seed(0)
    with torch.device(device):
        described = mllm.build(sizes.mllm, tokenizer)
        mllm.add_role_tokens(described, tokenizer)
        mllm.add_lora(described, sizes.mllm.lora)
        sam = segmenter.build(sizes.segmenter)
        sure = sam.sam_mask_decoder.pred_obj_score_head.layers[-1]
        torch.nn.init.zeros_(sure.weight)
        torch.nn.init.constant_(sure.bias, 2.0)
        text = sizes.mllm.language
        model = ReVIOSa(
            mllm.Mllm(described, tokenizer, template, wording), segmenter.Segmenter(sam), tuple(Role),
            frames=sizes.mllm.frames, prompted=sizes.segmenter.prompted, weights=settings.loss,
            aml=(text.layers - 2, tuple(range(min(4, text.heads)))) if aml else None, cache_gb=settings.cache_gb,
        )  # fmt: skip
    model.freeze()
    if checkpointing:
        model.mllm.language.gradient_checkpointing_enable({"use_reentrant": False})
    return model.eval()


def grid(profile: config.Profile) -> int:
    """Visual tokens a side."""
    return profile.model.mllm.image_size // profile.model.mllm.patch_size // 2


@cache
def scenes(data: config.Data, count: int) -> list[Any]:
    return list(clips.scenes(data, 0, count))


def memory(device: str) -> dict[str, float]:
    graphics = {"gpu_peak_gib": torch.cuda.max_memory_allocated() / 2**30} if device == "cuda" else {}
    return graphics | {"process_peak_mib": peak()}


def steps(model: ReVIOSa, profile: config.Profile, count: int, seen: list[Clip]) -> dict[str, Any]:
    """`count` steps of fine-tuning; the seconds of one are the median of those after the third."""
    if count < 2:
        raise ValueError(f"{count} step: nothing lies between two")
    marks, told, made, square, collate = [], [], [], segmenter.to_square, model.collate
    clock = Clock("cuda" if torch.cuda.is_available() else "cpu", ("encoders", "truth"))
    clock.watch(model, "_see", "encoders")
    clock.watch(segmenter, "to_square", "truth")

    def collated(*words: Any) -> Any:
        begun = time.perf_counter()
        batch = collate(*words)
        made.append(time.perf_counter() - begun)
        return batch

    model.collate = collated

    def log(metrics: dict[str, float], step: int) -> None:
        clock.wait()
        marks.append(time.perf_counter())
        told.append(metrics)
        if step == min(3, count - 1):
            clock.spent = dict.fromkeys(clock.spent, 0.0)

    rules = changed(profile.train, steps=10 * count, accumulate=1, processes=1, checkpoint_every=10 * count)
    with tempfile.TemporaryDirectory() as folder:
        finetune.on_clips(
            model, seen, rules, profile.model.mllm.frames, seed=0, folder=Path(folder), label="steps",
            log=log, log_every=1, stop_after=count,
        )  # fmt: skip
    segmenter.to_square, model.collate = square, collate
    first = min(3, count - 1) - 1
    taken = [b - a for a, b in zip(marks[first:], marks[first + 1 :], strict=False)]
    numbers = [value for metrics in told for value in metrics.values()]
    return {
        "batch": [rules.clips, rules.expressions, profile.model.mllm.frames],
        "seconds_a_step": statistics.median(taken),
        "slowest": max(taken),
        "collating_beside_it": statistics.median(made),
        "of_it": {part: spent / len(taken) for part, spent in clock.spent.items() if spent},
        "finite": all(map(math.isfinite, numbers)),
        "last": told[-1],
    }


# -- the parts ---------------------------------------------------------------------------------------------------------


def train(given: argparse.Namespace) -> Iterator[Measurement]:
    """Does AML's loss run under autocast; what do AML and checkpointing cost?"""

    def measure(profile: config.Profile, aml: bool, checkpointing: bool) -> dict[str, Any]:
        begun = time.perf_counter()
        seen = [splits.to_clip(scene, str(i)) for i, scene in enumerate(scenes(profile.data, 8))]
        model = build(profile, given.device, aml=aml, checkpointing=checkpointing)
        built = {"parameters": sum(p.numel() for p in model.parameters()), "built_s": time.perf_counter() - begun}
        return built | steps(model, profile, given.steps, seen) | memory(given.device)

    for name, aml, checkpointing in (
        ("large", True, True), ("large", True, False), ("large", False, True), ("large", False, False),
        ("largest", True, True), ("largest", True, False),
    ):  # fmt: skip
        about = {"model": given.names[name], "aml": aml, "checkpointing": checkpointing}
        yield about, partial(measure, getattr(given, name), aml, checkpointing)


def whole(given: argparse.Namespace) -> Iterator[Measurement]:
    """The released way to AML: eager attention everywhere, every N x N matrix kept."""

    def measure() -> dict[str, Any]:
        model, profile = build(given.large, given.device), given.large
        reader = model.mllm
        reader.language.set_attn_implementation("eager")

        def forward(packed: Any, features: Any, row_tap: Any) -> torch.Tensor:
            embedded = reader.embed(packed.ids, features)
            closed = torch.zeros(packed.mask().shape, device=embedded.device).masked_fill(~packed.mask(), -1e30)
            out = reader.language(
                inputs_embeds=embedded, attention_mask=closed, position_ids=packed.positions, use_cache=False,
                output_attentions=True,
            )  # fmt: skip
            batch, position = row_tap.queries.unbind(-1)
            for layer, heads in row_tap.heads.items():
                row_tap.rows[layer] = out.attentions[layer][batch, :, position][:, list(heads)].float()
            return out.last_hidden_state

        reader.forward = forward
        seen = [splits.to_clip(scene, str(i)) for i, scene in enumerate(scenes(profile.data, 8))]
        return steps(model, profile, given.steps, seen) | memory(given.device)

    yield {"aml": "whole attention", "checkpointing": False}, measure


def predict(given: argparse.Namespace) -> Iterator[Measurement]:
    """Frames a second by part, and memory, by length and number of sentences. Of `asked` frames, as many are taken as
    fit into --seconds at the pace of a short video."""

    @cache
    def opened() -> tuple[ReVIOSa, Clock]:
        model, clock = build(given.large, given.device), Clock(given.device, PARTS)
        giving_roles(model)
        for owner, name, part in (
            (model.mllm, "see", "vision"), (model.segmenter, "see", "vision"), (model.mllm, "write", "language"),
            (model.segmenter, "answer", "decode"), (model.segmenter, "step", "track"), (masks, "encode", "write"),
            (Squares, "__getitem__", "read"),
        ):  # fmt: skip
            clock.watch(owner, name, part)
        return model, clock

    def run(count: int, sentences: int, half: bool) -> tuple[float, dict[str, float]]:
        model, clock = opened()
        asked = tuple(Expression(str(i), text, "undefined", (UNKNOWN,)) for i, text in enumerate(TEXTS[:sentences]))
        names, size = tuple(f"{t:05d}" for t in range(count)), SIZES[given.size]
        clip = Clip("made", Squares(size, count), names, size, asked, {UNKNOWN: [None] * count})
        clock.spent = dict.fromkeys(PARTS, 0.0)
        with torch.autocast(given.device, torch.bfloat16) if half else nullcontext(), clock.of("rest"):
            found = model.run_lengths(clip)
        assert len(found) == sentences and all(p.written == set(Role) for p in found)
        return sum(clock.spent.values()), clock.spent

    def measure(count: int, sentences: int, half: bool) -> dict[str, Any]:
        warm = given.large.model.mllm.frames + 8
        run(warm, sentences, half)
        pace = run(warm, sentences, half)[0] / 8
        taken = min(count, max(warm, int(given.seconds / pace)))
        if given.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds, spent = run(taken, sentences, half)
        counts = {"frames": taken, "masks": 2 * sentences, "seconds": seconds, "frames_a_second": taken / seconds}
        return counts | {"of_it": dict(spent)} | memory(given.device)

    few, many = given.frames
    for count, sentences, half in (
        (few, 3, False), (many, 3, False), (many, 1, False), (few, 7, False), (few, 3, True), (few, 7, True),
    ):  # fmt: skip
        about = {"size": given.size, "asked": count, "sentences": sentences, "numbers": "bf16" if half else "float32"}
        yield about, partial(measure, count, sentences, half)


def giving_roles(model: ReVIOSa) -> None:
    """After writing, every answer has both roles."""
    write, generator = model.mllm.write, torch.Generator().manual_seed(0)

    def written(*words: Any, **named: Any) -> list[mllm.Answer]:
        device = model.mllm.device
        states = lambda: {r: torch.randn(model.mllm.width, generator=generator).to(device) for r in Role}  # noqa: E731
        return [replace(a, states=states(), probability=dict.fromkeys(Role, 1.0)) for a in write(*words, **named)]

    model.mllm.write = written


def small(given: argparse.Namespace) -> Iterator[Measurement]:
    """Each of its loops for a few steps, and the minutes that all its steps take at that pace."""
    profile = given.middle
    phases, frames, count = profile.pretrain, profile.model.mllm.frames, max(12, given.steps)
    few = {name: changed(p, steps=count) for name in phase_names(phases) if (p := getattr(phases, name))}
    short = changed(phases, **few)
    made = partial(scenes, profile.data, 4 if given.small else 256)

    def making() -> dict[str, Any]:
        begun = time.perf_counter()
        each = len(made()) and (time.perf_counter() - begun) / len(made())
        wanted = sum(profile.data.splits.model_dump().values()) + phases.clips + phases.reading_clips
        return {"seconds_a_clip": each, "minutes": each * wanted / 60}

    def phase_times(names: tuple[str, ...], work: Callable[[Path, Any], Any]) -> dict[str, Any]:
        marks: list[tuple[int, float]] = []
        with tempfile.TemporaryDirectory() as folder:
            work(Path(folder), lambda metrics, step: marks.append((step, time.perf_counter())))
        found, minutes = {}, 0.0
        for name, (start, end) in zip(names, zip(marks[::2], marks[1::2], strict=True), strict=True):
            each = (end[1] - start[1]) / (end[0] - start[0])
            found[name] = {"seconds_a_step": each, "minutes": each * getattr(phases, name).steps / 60}
            minutes += found[name]["minutes"]
        return found | {"minutes": minutes} | memory(given.device)

    def of_sam2() -> dict[str, Any]:
        sam = segmenter.build(profile.model.segmenter)
        names = ("segmenter_images", "segmenter_pairs", "segmenter")
        return phase_times(names, lambda f, log: sam2.pretrain_segmenter(sam, made(), short, f, 0, log=log))

    def of_internvl() -> dict[str, Any]:
        words = mllm.word_tokenizer(grounding.words(grid(profile), frames))
        model = mllm.Mllm(mllm.build(profile.model.mllm, words), words)
        return phase_times(
            ("vision", "watching", "mllm"),
            lambda f, log: internvl.pretrain_mllm(model, made(), made(), short, frames, f, 0, log=log),
        )

    def of_training() -> dict[str, Any]:
        seen = [splits.to_clip(scene, str(i)) for i, scene in enumerate(made())]
        found = steps(build(profile, given.device), profile, given.steps, seen)
        rows = 4 * profile.train.steps + (profile.best.steps or profile.train.steps)
        return found | {"minutes_of_five_rows": found["seconds_a_step"] * rows / 60} | memory(given.device)

    def of_scoring() -> dict[str, Any]:
        model = build(profile, given.device)
        giving_roles(model)
        seen = [splits.to_clip(scene, str(i)) for i, scene in enumerate(made()[:4])]
        evaluate.evaluate(model, seen[:1], progress=False)
        begun = time.perf_counter()
        evaluate.evaluate(model, seen, progress=False)
        each, split = (time.perf_counter() - begun) / len(seen), profile.data.splits
        return {"seconds_a_clip": each, "minutes_of_five_rows": 5 * each * (split.test + split.shift) / 60}

    for name, measure in (
        ("scenes", making), ("fine-tuning", of_training), ("sam2", of_sam2), ("internvl", of_internvl),
        ("scoring", of_scoring),
    ):  # fmt: skip
        yield {"what": name}, measure


def phase_names(phases: Any) -> list[str]:
    return [name for name in type(phases).model_fields if isinstance(getattr(phases, name), config.Phase)]


def kernels(given: argparse.Namespace) -> Iterator[Measurement]:
    """In how many steps of row (iii) the gradient is NaN, by the kernels that attention may use; it is left out.
    The loop itself, which never takes cuDNN's, is not asked; the steps are its own otherwise, in bf16."""
    all_but_cudnn = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    choices = {
        "all": [SDPBackend.CUDNN_ATTENTION, *all_but_cudnn], "all but cuDNN": all_but_cudnn, "plain": [SDPBackend.MATH],
    }  # fmt: skip
    profile, row = given.params.profiles["smoke" if given.small else "tiny"], given.params.experiments["tokens"]
    rules, frames = profile.train, profile.model.mllm.frames

    def measure(allowed: list[SDPBackend]) -> dict[str, Any]:
        seen = [
            splits.to_clip(scene, str(i)) for i, scene in enumerate(scenes(profile.data, 8 if given.small else 400))
        ]
        model = build(profile, given.device, aml=False)
        if not given.small:
            start = Path(__file__).parents[1] / "backbones" / "tiny"
            model = checkpoint.from_backbones(start, profile.model, row, seed=0, aml=None, settings=rules)
        model.to(given.device).train()
        samples = sampler.Sampler(seen, frames, rules.expressions, rules.frames, 0)
        (optimizer,) = loop.adamw(model.parameter_groups(rules), rules)
        rate = partial(loop.warmup_cosine, steps=rules.steps, warmup=rules.warmup)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        trained, broken = [p for p in model.parameters() if p.requires_grad], 0
        count = min(10 * given.steps, rules.steps)
        for step in range(count):
            torch.manual_seed(step)
            optimizer.zero_grad(set_to_none=True)
            batch = model.collate([samples[step * rules.clips + i] for i in range(rules.clips)])
            with sdpa_kernel(allowed), torch.autocast(given.device, torch.bfloat16):
                terms = model.training_losses(batch)
            torch.stack(list(terms.values())).sum().backward()
            if torch.nn.utils.clip_grad_norm_(trained, rules.clip_norm).isfinite():
                optimizer.step()
                schedule.step()
            else:
                broken += 1
        return {"steps": count, "nan": broken}

    def one_call(allowed: list[SDPBackend]) -> dict[str, Any]:
        """Questions of 20 words after a prefix of half the length, in bf16, scores of a standard deviation of 36."""
        lengths, broken = range(64, 569, 4), []
        for n in lengths:
            block = torch.tensor([0] * (n // 2) + [1 + i // 20 for i in range(n - n // 2)], device=given.device)
            seen = (block[:, None] == block) | (block == 0)
            generator = torch.Generator().manual_seed(n)
            q, k, v, upstream = (torch.randn(4, 4, n, 32, generator=generator) for _ in range(4))
            q, k, v = ((x * scale).to(given.device, torch.bfloat16) for x, scale in ((q, 6), (k, 6), (v, 1)))
            inputs = [x.requires_grad_() for x in (q, k, v)]
            with sdpa_kernel(allowed):
                out = torch.nn.functional.scaled_dot_product_attention(*inputs, attn_mask=seen.tril()[None, None])
                out.backward(upstream.to(given.device, torch.bfloat16))
            broken += [n] if not all(x.grad.isfinite().all() for x in inputs) else []
        return {"lengths": len(lengths), "nan": broken}

    for name, allowed in choices.items():
        yield {"attention": name, "of": "steps"}, partial(measure, allowed)
    for name, allowed in choices.items():
        yield {"attention": name, "of": "one call"}, partial(one_call, allowed)


def same(given: argparse.Namespace) -> Iterator[Measurement]:
    """Three steps of the tiny profile from the same random weights, in float32 and as trained: on this device, and on a
    CPU. The points of the mask losses are drawn on a CPU for both: the generators differ."""

    def run(precision: str) -> list[dict[str, float]]:
        drawn, told = losses.uncertain_points, []
        losses.uncertain_points = lambda logits, *rest: drawn(logits.cpu(), *rest).to(logits.device)
        loop.Accelerator = lambda **named: Accelerator(**named | {"mixed_precision": precision})
        AcceleratorState._reset_state(reset_partial_state=True)
        torch.backends.cudnn.allow_tf32 = precision != "no"
        try:
            profile = given.params.profiles["smoke" if given.small else "tiny"]
            seen = [splits.to_clip(scene, str(i)) for i, scene in enumerate(scenes(profile.data, 8))]
            rules = changed(profile.train, steps=100, checkpoint_every=100)
            with tempfile.TemporaryDirectory() as folder:
                finetune.on_clips(
                    build(profile, "cpu"), seen, rules, profile.model.mllm.frames, seed=0, folder=Path(folder),
                    log=lambda metrics, step: told.append(metrics), log_every=1, stop_after=3,
                )  # fmt: skip
        finally:
            losses.uncertain_points, loop.Accelerator, torch.backends.cudnn.allow_tf32 = drawn, Accelerator, True
            AcceleratorState._reset_state(reset_partial_state=True)
        return told

    @cache
    def on_a_cpu() -> list[dict[str, float]]:
        if given.device == "cpu":
            return run("no")
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "cpu.jsonl"
            more = ["--small"] if given.small else []
            command = [sys.executable, __file__, "same", "--device", "cpu", "--out", str(out), *more]
            subprocess.run(
                command, check=True, env=os.environ | {"CUDA_VISIBLE_DEVICES": ""}, stdout=subprocess.DEVNULL
            )
            return json.loads(out.read_text().splitlines()[0])["losses"]

    def measure(precision: str) -> dict[str, Any]:
        here, there = run(precision), on_a_cpu()
        apart = {
            name: max(abs(a[name] - b[name]) / max(abs(b[name]), 1e-6) for a, b in zip(here, there, strict=True))
            for name in here[0]
        }
        return {"losses": here, "apart_from_cpu": apart}

    for precision in ("no", "bf16"):
        yield {"precision": {"no": "float32"}.get(precision, precision)}, partial(measure, precision)


# -- one after the other -----------------------------------------------------------------------------------------------

ALL = {"train": train, "predict": predict, "same": same, "small": small, "whole": whole, "kernels": kernels}


def rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def take(part: str, given: argparse.Namespace) -> None:
    for about, measure in ALL[part](given):
        if given.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        begun = time.perf_counter()
        try:
            found = measure()
        except Exception as error:  # whatever it is: the others are wanted all the same
            found = {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}
        line = json.dumps(rounded({"part": part, **about, **found, "took_s": time.perf_counter() - begun}))
        print(line, flush=True)
        with given.out.open("a") as file:
            file.write(line + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help="train, predict, same, small, whole, kernels; all of them by default")
    parser.add_argument("--out", type=Path, required=True, help="a file of lines, added to")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="profile smoke in the place of all others")
    parser.add_argument("--steps", type=int, default=20, help="of training, for each measurement")
    parser.add_argument("--frames", type=int, nargs=2, default=[100, 500], help="few and many")
    parser.add_argument("--size", choices=SIZES, default="720p")
    parser.add_argument("--seconds", type=float, default=25, help="for a prediction: then it has fewer frames")
    given = parser.parse_args()
    if unknown := set(given.parts) - set(ALL):
        parser.error(f"no part {min(unknown)!r}; there are {', '.join(ALL)}")
    if given.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU here; --device cpu --small says whether it runs")
    if given.device == "cpu" and torch.cuda.is_available():
        parser.error("training takes a GPU where it sees one: set CUDA_VISIBLE_DEVICES= for --device cpu")
    given.params = config.load(Path(__file__).parents[1] / config.PARAMS)
    given.names = {"middle": "small", "large": "paper-1b", "largest": "paper-4b"}
    if given.small:
        given.names = dict.fromkeys(given.names, "smoke")
    for size, name in given.names.items():
        setattr(given, size, given.params.profiles[name])
    for part in given.parts or ALL:
        take(part, given)


if __name__ == "__main__":
    main()
