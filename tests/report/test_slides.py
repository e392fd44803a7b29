"""Looking at attention while a model trains changes nothing of the training, and costs nothing where nobody looks."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mlflow import MlflowClient
from PIL import Image

from reviosa_core import config
from reviosa_core.intershapes import scenes, splits
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.report import slides, tracking
from reviosa_core.report import store as where
from reviosa_core.schema import Clip, Role
from reviosa_core.training import finetune

AML = (1, (3, 0))
LOSS = config.LossWeights(ce=2.0, dice=0.5, aml=3.0, text=0.7, points=50)
RULES = config.Train(
    steps=12, clips=1, expressions=2, frames="random", lr=3e-3, decoder_lr=2e-3, projector_lr=2e-3, loss=LOSS,
    gradient_checkpointing=False, cache_gb=0.1, checkpoint_every=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    data = tiny.data(64, 5, objects=(2, 2), two_pairs=0, no_interaction=0)
    return [splits.to_clip(scenes.make_scene(data, (0, 0, n)), f"clip {n}") for n in range(2)]


def model() -> ReVIOSa:
    """With dropout, so that a mode or a generator that is not put back shows."""
    torch.manual_seed(0)
    made = ReVIOSa(tiny.reader(lora=True), tiny.seeing(), tuple(Role), frames=3, aml=AML, weights=LOSS)
    made.freeze()
    for module in made.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.2
    for parts in (m for m in made.modules() if hasattr(m, "lora_dropout")):
        parts.lora_dropout["default"] = torch.nn.Dropout(0.2)
    return made


def trained(clips: list[Clip], folder: Path, log=None, system: ReVIOSa | None = None) -> dict[str, torch.Tensor]:
    made = system or model()
    finetune.fine_tune(made, clips, RULES, frames=3, folder=folder, seed=0, log=log)
    return {**made.state_dict(), "next": torch.rand(3)}


@pytest.mark.slow
def test_training_is_the_same_bit_for_bit_and_the_slides_are_there(store: Path, clips: list[Clip], tmp_path: Path):
    plain, own = trained(clips, tmp_path / "plain"), model()
    with tracking.run("train") as run:
        seen = trained(clips, tmp_path / "seen", slides.watching(run, own, clips, AML, RULES.steps), own)
    assert all(torch.equal(seen[name], plain[name]) for name in plain)
    assert (tmp_path / "seen" / "history.csv").read_text() == (tmp_path / "plain" / "history.csv").read_text()
    client = MlflowClient()
    names = [file.path for file in client.list_artifacts(run.id, "images") if file.path.endswith(".png")]
    steps = sorted(int(re.search(r"step\D(\d+)", name)[1]) for name in names)
    assert steps == [0, 10, 12] and all("attention" in name for name in names)
    pictures = [Image.open(client.download_artifacts(run.id, name, str(tmp_path))) for name in names]
    first, second, third = (np.asarray(picture.convert("RGB"), dtype=int) for picture in pictures)
    assert first.shape == second.shape == third.shape
    assert np.abs(first - second).max() > 0 and np.abs(second - third).max() > 0, "what it looks at has moved"


def test_eight_slides_after_the_first_however_long_a_run_is(store: Path, clips: list[Clip], monkeypatch):
    monkeypatch.setattr(tracking.Run, "figure", lambda run, figure, name, step=None: shown.append(step))
    monkeypatch.setattr(slides, "slide", lambda *_: None)
    with tracking.run("train") as run:
        for steps in (400, 1230):
            shown: list[int] = []
            log = slides.watching(run, model(), clips, AML, steps)
            for step in (*range(10, steps, 10), steps):
                log({"loss": 1.0}, step)
            assert shown[0] == 0 and shown[-1] == steps and len(shown) == slides.SLIDES + 1


def test_a_slide_that_fails_costs_a_line_and_no_training(
    store: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    own, tries = model().train(), []
    before, drawn = [module.training for module in own.modules()], torch.get_rng_state()

    def fails(self, clip, layers):
        torch.rand(3)
        tries.append(layers)
        raise RuntimeError("CUDA out of\nmemory")

    monkeypatch.setattr(ReVIOSa, "attention", fails)
    with tracking.run("train") as run:
        log = slides.watching(run, own, clips, AML, 10)
        log({"loss": 1.0}, 10)
    said = capsys.readouterr().err
    assert "no slides of attention from step 0 on: RuntimeError: CUDA out of memory; training goes on" in said
    assert len(tries) == 1, "it does not try again"
    assert [module.training for module in own.modules()] == before and torch.equal(torch.get_rng_state(), drawn)
    assert MlflowClient().get_run(run.id or "").data.metrics["loss"] == 1.0


def test_modes_come_back_module_by_module(clips: list[Clip]):
    own = model().train()
    own.projector.eval()
    before = [module.training for module in own.modules()]
    directed = next(e for e in clips[0].expressions if e.is_interaction)
    slides.slide(own, clips[0], directed, *AML)
    assert [module.training for module in own.modules()] == before and len({*before}) == 2
    assert all(p.grad is None for p in own.parameters())


def test_where_nobody_looks_there_is_only_the_log(store: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch):
    with tracking.run("train") as run:
        assert slides.watching(run, model(), clips, None, 10) == run.log
        assert slides.watching(run, model(), [], AML, 10) == run.log
    monkeypatch.setenv(where.SWITCH, "off")
    with tracking.run("train") as run:
        assert slides.watching(run, model(), clips, AML, 10) == run.log
