"""A step shared by two processes is the step of one; a death or a bad loss in either stops both, and leaves nobody."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import tiny
import torch
from accelerate import PartialState
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.intershapes import scenes, splits
from reviosa_core.model.reviosa import ReVIOSa
from reviosa_core.schema import Role
from reviosa_core.training import finetune, loop, processes

LOOP = config.Loop(steps=6, accumulate=2, warmup=0.25, checkpoint_every=2, weight_decay=0.1)


class Net(nn.Module):
    """Each micro-batch has a loss of its own; `idle` is used in odd ones only, so by one process of two."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.layer, self.idle = nn.Linear(3, 2), nn.Linear(2, 2)

    def forward(self, micro: int) -> dict[str, Tensor]:
        x = torch.randn(7, 3, generator=torch.Generator().manual_seed(micro))
        out = nn.functional.dropout(self.layer(x), 0.3, self.training)
        return {"square": out.square().mean(), "odd": self.idle(out).abs().mean() if micro % 2 else 0.0 * out.sum()}


def usual(module: nn.Module, micro: int) -> dict[str, Tensor]:
    return module(micro)


def breaking(module: nn.Module, micro: int) -> dict[str, Tensor]:
    return {name: term * float("nan") if micro == 9 else term for name, term in module(micro).items()}


def dying(module: nn.Module, micro: int) -> dict[str, Tensor]:
    if micro == 9:
        raise ArithmeticError("too tired")
    return module(micro)


def fit(net: Net, folder: Path, losses: Callable = usual, rules: config.Loop = LOOP, **kwargs) -> None:
    optimizers = loop.adamw([{"params": list(net.parameters()), "lr": 0.05}], rules)
    loop.fit(net, losses, optimizers, rules, folder=folder, seed=3, **kwargs)


def together(folder: Path, losses: Callable = usual, **kwargs) -> Net:
    net = Net()
    with processes.group(2, partial(fit, net, folder, losses, **kwargs)):
        fit(net, folder, losses, **kwargs)
        assert PartialState().num_processes == 2
    return net


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize(
    ("wanted", "parts", "gpus", "count"),
    [(2, 2, 0, 2), (1, 6, 0, 1), (4, 6, 0, 3), (4, 16, 0, 4), (4, 16, 3, 2), (4, 16, 1, 1), (2, 6, 8, 2), (2, 3, 8, 1)],
)
def test_how_many_share_a_step(monkeypatch, wanted, parts, gpus, count):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert processes.processes(wanted, parts) == count


def test_two_processes_equal_one_bit_for_bit_and_leave_nothing_behind(tmp_path):
    before = dict(os.environ), torch.get_num_threads()
    alone = Net()
    fit(alone, tmp_path / "alone")
    assert same(together(tmp_path / "two"), alone) and not same(alone, Net())
    assert (tmp_path / "two" / "history.csv").read_text() == (tmp_path / "alone" / "history.csv").read_text()
    assert (dict(os.environ), torch.get_num_threads()) == before
    assert not multiprocessing.active_children() and not torch.distributed.is_initialized()
    assert PartialState().num_processes == 1


def test_gradients_of_several_parts_are_exchanged_once_and_their_mean_is_the_same(tmp_path):
    rules, alone = LOOP.model_copy(update={"accumulate": 6}), Net()
    fit(alone, tmp_path / "alone", rules=rules)
    for a, b in zip(together(tmp_path / "two", rules=rules).parameters(), alone.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_interrupted_in_two_and_resumed_in_one_equals_uninterrupted(tmp_path):
    together(tmp_path / "run", stop_after=3)
    assert torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"] == 2
    resumed, whole = Net(), Net()
    fit(resumed, tmp_path / "run")
    fit(whole, tmp_path / "whole")
    assert same(resumed, whole)


def test_a_loss_that_is_not_finite_in_the_other_process_stops_both(tmp_path):
    with pytest.raises(loop.TrainingDiverged, match=r"step 4: .*square.*checkpoint\.pt"):
        together(tmp_path, breaking)
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 4
    assert not multiprocessing.active_children()


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy the machine is: one that has ended is not waited for."""
    monkeypatch.setattr(processes, "PATIENCE", 120)


def test_a_death_of_the_other_process_ends_the_run_with_a_note(tmp_path, patient, capfd):
    with pytest.raises(RuntimeError) as found:
        together(tmp_path, dying)
    assert found.value.__notes__ == ["process 1 of 2 ended with exit code 1; what it said is above"]
    assert "too tired" in capfd.readouterr().err


def test_an_early_end_of_the_other_process_is_no_endless_wait(patient):
    with pytest.raises(RuntimeError, match="process 1 of 2 ended too early") as found, processes.group(2, os._exit, 7):
        pass
    assert found.value.__notes__ == ["process 1 of 2 ended with exit code 7; what it said is above"]


def test_a_step_that_cannot_be_shared_names_both_numbers(tmp_path):
    with pytest.raises(ValueError, match="2 processes cannot share a step of 3 micro-batches"):
        together(tmp_path, rules=LOOP.model_copy(update={"accumulate": 3}))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_fine_tuning_by_two_equals_fine_tuning_by_one(tmp_path, checkpointing):
    """The whole system: what is copied to the other process, and which clips it sees."""
    clips = [splits.to_clip(scenes.make_scene(tiny.data(64, 4), (0, 0, i)), f"clip {i}") for i in range(5)]
    losses = config.LossWeights(ce=2, dice=0.5, aml=1, text=1, points=20)
    results = []
    for count in (1, 2):
        torch.manual_seed(1)
        parts = tiny.reader(lora=True), tiny.seeing(), tuple(Role)
        system = ReVIOSa(*parts, frames=2, prompted="first", aml=(1, (3, 0)), weights=losses)
        system.freeze()
        if checkpointing:
            system.mllm.checkpoint_gradients()
        rates = config.Train(
            steps=2, clips=1, accumulate=2, processes=count, expressions=2, frames="uniform", lr=1e-2,
            decoder_lr=1e-2, projector_lr=1e-2, gradient_checkpointing=False, cache_gb=0.1, loss=losses,
        )  # fmt: skip
        finetune.fine_tune(system, clips, rates, frames=2, folder=tmp_path / str(count), seed=0)
        results.append(system)
    for (name, one), two in zip(results[0].named_parameters(), results[1].parameters(), strict=True):
        torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5, msg=name)
