"""Interrupted equals uninterrupted; a crash or a bad loss never costs the last good checkpoint."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from reviosa_core import config
from reviosa_core.config import Loop
from reviosa_core.schema import DataError
from reviosa_core.training import finetune, loop

LOOP = Loop(steps=8, accumulate=2, warmup=0.25, checkpoint_every=3, weight_decay=0.1)


class Net(nn.Module):
    """A trainable layer with dropout (global randomness) after a frozen one."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.frozen, self.layer = nn.Linear(3, 5).requires_grad_(False), nn.Linear(5, 2)

    def forward(self, micro: int) -> dict[str, Tensor]:
        x = torch.randn(7, 3, generator=torch.Generator().manual_seed(micro))
        out = self.layer(nn.functional.dropout(self.frozen(x), 0.3, self.training))
        return {"square": (out - x[:, :2]).square().mean(), "size": 0.1 * out.abs().mean()}


def adamw(net: Net, rules: Loop) -> list[torch.optim.Optimizer]:
    groups = [{"params": [net.layer.weight, net.frozen.weight], "lr": 0.05}, {"params": [net.layer.bias], "lr": 0.01}]
    return loop.adamw(groups, rules)


def muon(net: Net, rules: Loop) -> list[torch.optim.Optimizer]:
    return [torch.optim.Muon([net.layer.weight], 0.05), *loop.adamw([{"params": [net.layer.bias], "lr": 0.01}], rules)]


def fit(
    folder: Path,
    net: Net | None = None,
    rules: Loop = LOOP,
    losses: Callable | None = None,
    seed: int = 3,
    optimizers: Callable = adamw,
    **kwargs,
) -> Net:
    net = net or Net()
    losses = losses or (lambda module, micro: module(micro))
    loop.fit(net, losses, optimizers(net, rules), rules, folder=folder, seed=seed, log_every=2, **kwargs)
    return net


def history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def same(a: Net, b: Net) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


# -- the schedule and the step -----------------------------------------------------------------------------------------


def test_schedule_golden():
    factors = [loop.warmup_cosine(step, 12, 0.25) for step in range(13)]
    want = [1 / 3, 2 / 3, 1, 1, 0.9698463, 0.8830222, 0.75, 0.5868241, 0.4131759, 0.25, 0.1169778, 0.0301537, 0]
    assert factors == pytest.approx(want, abs=1e-6)
    assert loop.warmup_cosine(0, 10, 0.0) == 1  # no warm-up still has a first step


def test_the_rate_of_a_step_is_noted_with_it(tmp_path):
    fit(tmp_path)
    rates = [float(row["learning_rate"]) for row in history(tmp_path)]  # of steps 2, 4, 6, 8; the last is not 0
    assert rates == pytest.approx(
        [0.05 * loop.warmup_cosine(done - 1, LOOP.steps, LOOP.warmup) for done in (2, 4, 6, 8)]
    )


def test_a_step_is_one_of_adamw_on_the_mean_over_micro_batches(tmp_path):
    """Whatever `accumulate`: the gradient is that of the mean loss, clipped to `clip_norm`."""
    rules = Loop(steps=1, accumulate=2, warmup=0.0, clip_norm=0.2, weight_decay=0.1)
    seen = []

    def losses(net: Net, micro: int) -> dict[str, Tensor]:
        x = torch.randn(7, 3, generator=torch.Generator().manual_seed(micro))
        return {"square": net.layer(net.frozen(x)).square().mean() * 0.2}

    net = fit(tmp_path, Net(), rules, losses, log=lambda metrics, step: seen.append((metrics, step)))

    plain = Net()
    optimizer = torch.optim.AdamW(
        [{"params": [plain.layer.weight], "lr": 0.05}, {"params": [plain.layer.bias], "lr": 0.01}], weight_decay=0.1
    )
    both = (losses(plain, 0)["square"] + losses(plain, 1)["square"]) / 2
    both.backward()
    norm = nn.utils.clip_grad_norm_(plain.layer.parameters(), 0.2)
    optimizer.step()
    torch.testing.assert_close(net.layer.weight, plain.layer.weight)
    ((metrics, step),) = seen
    assert step == 1 and metrics["loss"] == metrics["square"] == pytest.approx(both.item())
    assert metrics["gradient_norm"] == pytest.approx(norm.item(), rel=1e-5)


def test_only_what_requires_a_gradient_is_trained_and_stored(tmp_path):
    net = fit(tmp_path)
    assert torch.equal(net.frozen.weight, Net().frozen.weight) and not torch.equal(net.layer.bias, Net().layer.bias)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert set(state["module"]) == {"layer.weight", "layer.bias"} and state["step"] == 8
    assert not net.training


def test_no_step_is_taken_with_attention_by_cudnn(tmp_path):
    """Its gradients are NaN on Hopper, now and then. The other kernels stay."""
    kernels, seen = torch.backends.cuda, []
    kernels.enable_cudnn_sdp(True)
    fit(tmp_path, losses=lambda net, micro: seen.append(kernels.cudnn_sdp_enabled()) or net(micro))
    assert seen and not any(seen)
    assert kernels.flash_sdp_enabled() and kernels.mem_efficient_sdp_enabled() and kernels.math_sdp_enabled()


def test_a_process_may_train_in_one_precision_after_the_other(tmp_path):
    """On a GPU query systems train in another one than ReVIOSa."""
    AcceleratorState._reset_state()
    Accelerator(mixed_precision="bf16")
    assert same(fit(tmp_path / "after"), fit(tmp_path / "again"))


def test_every_micro_batch_is_asked_for_once_and_in_order(tmp_path):
    asked = []
    fit(tmp_path, losses=lambda net, micro: asked.append(micro) or net(micro))
    assert asked == list(range(16))


# -- resuming ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizers", [adamw, muon])
@pytest.mark.parametrize("stop", [3, 5, 6])  # at a checkpoint, between two, at the second
def test_interrupted_and_resumed_equals_uninterrupted(tmp_path, stop, optimizers):
    whole = fit(tmp_path / "whole", optimizers=optimizers)
    logged = []
    fit(tmp_path / "parts", stop_after=stop, optimizers=optimizers)
    assert torch.load(tmp_path / "parts" / "checkpoint.pt", weights_only=True)["step"] == stop // 3 * 3
    parts = fit(tmp_path / "parts", Net(), log=lambda _, step: logged.append(step), optimizers=optimizers)
    assert same(whole, parts)
    assert history(tmp_path / "whole") == history(tmp_path / "parts") and len(history(tmp_path / "whole")) == 4
    assert logged == [step for step in (2, 4, 6, 8) if step > stop // 3 * 3]
    kept = [torch.load(tmp_path / n / "checkpoint.pt", weights_only=True)["optimizers"] for n in ("whole", "parts")]
    for one, other in zip(*kept, strict=True):
        assert one["state"] and one["state"].keys() == other["state"].keys()
        for index, moments in one["state"].items():
            assert all(torch.equal(moments[name], other["state"][index][name]) for name in moments)


def test_a_finished_run_is_not_run_again(tmp_path):
    done, asked = fit(tmp_path), []
    drawn = torch.rand(3)
    again = fit(tmp_path, losses=lambda net, micro: asked.append(micro) or net(micro))
    assert same(done, again) and not asked and not again.training
    assert torch.equal(torch.rand(3), drawn), "what is drawn next does not depend on interruptions"


def test_another_fingerprint_starts_anew(tmp_path, capsys):
    fit(tmp_path, fingerprint="a", stop_after=6)
    fit(tmp_path, fingerprint="b", stop_after=2)  # dies before it has anything to keep
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["fingerprint"] == "a"
    fresh = fit(tmp_path, fingerprint="b")
    assert "starting anew" in capsys.readouterr().out
    assert same(fresh, fit(tmp_path / "other", fingerprint="b"))
    assert history(tmp_path) == history(tmp_path / "other")
    for name, fingerprint in (("checkpoint.pt", "b"), ("checkpoint.other.pt", "a")):
        assert torch.load(tmp_path / name, weights_only=True)["fingerprint"] == fingerprint


@pytest.mark.parametrize("broken", [b"", b"PK\x03\x04", b"version https://git-lfs.github.com/spec/v1\n", "cut", "list"])
def test_a_broken_checkpoint_is_named_and_stays(tmp_path, broken, monkeypatch):
    """Nor is it read unsafely, whatever the environment says, nor does the message advise it."""
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    fit(tmp_path, stop_after=3)
    file = tmp_path / "checkpoint.pt"
    if broken == "list":
        torch.save([1, 2], file)
    else:
        file.write_bytes(file.read_bytes()[:-100] if broken == "cut" else broken)
    before = file.read_bytes()
    with pytest.raises(DataError, match=r"checkpoint\.pt: no checkpoint of training.*; move it away") as error:
        fit(tmp_path)
    assert "weights_only" not in str(error.value) and file.read_bytes() == before


@pytest.mark.filterwarnings("ignore:Environment variable TORCH_FORCE")  # an error would hide what it does
def test_a_checkpoint_is_no_program(tmp_path, monkeypatch):
    class Evil:
        def __reduce__(self):
            return Path.touch, (tmp_path / "ran",)

    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    torch.save({"step": 3, "module": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(DataError, match="no checkpoint of training"):
        fit(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_parameters_of_other_shapes_start_anew(tmp_path, capsys):
    """A row of one value would be spread over all: never silently."""
    fit(tmp_path, stop_after=3)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    state["module"]["layer.bias"] = torch.zeros(1)
    torch.save(state, tmp_path / "checkpoint.pt")
    fit(tmp_path)
    assert "starting anew" in capsys.readouterr().out and (tmp_path / "checkpoint.other.pt").exists()


def test_code_is_told_apart(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    for name in ("train.py", "plots.py", "model/mllm.py"):
        (tmp_path / name).write_text(name)
    monkeypatch.setattr(loop.reviosa_core, "__file__", str(tmp_path / "__init__.py"))
    before = loop.code("train.py", "model")
    (tmp_path / "plots.py").write_text("another")
    (tmp_path / "model" / "cached.pyc").write_text("another")
    assert loop.code("train.py", "model") == before
    (tmp_path / "model" / "mllm.py").write_text("another")
    assert loop.code("train.py", "model") != before


def test_fine_tuning_is_another_run_with_other_code(tmp_path, monkeypatch):
    found = []
    monkeypatch.setattr(finetune, "on_clips", lambda *args, **kwargs: found.append(kwargs["fingerprint"]))
    for code in ("a", "b"):
        monkeypatch.setattr(finetune, "code", lambda *names, code=code: code)
        one = config.Train.model_construct(processes=1, accumulate=1)
        finetune.fine_tune(Net(), [], one, frames=2, folder=tmp_path, seed=0, fingerprint="of what")
    assert found == ["of what a", "of what b"]


def test_frozen_parameters_with_two_names_are_not_stored(tmp_path):
    class Twice(Net):
        def __init__(self) -> None:
            super().__init__()
            self.again = nn.ModuleList([self.frozen, self.layer])

    fit(tmp_path, Twice())
    stored = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["module"]
    assert set(stored) == {f"{name}.{kind}" for name in ("layer", "again.1") for kind in ("weight", "bias")}


def test_other_parameters_start_anew(tmp_path):
    fit(tmp_path, stop_after=6)
    net = Net()
    net.layer.bias.requires_grad_(False)
    fit(tmp_path, net)
    assert set(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["module"]) == {"layer.weight"}


def test_another_seed_gives_another_result(tmp_path):
    net = Net()
    fit(tmp_path, net, seed=4)
    assert not torch.equal(net.layer.weight, fit(tmp_path / "other").layer.weight)


# -- when things go wrong ----------------------------------------------------------------------------------------------


def breaking(at: int, value: float) -> Callable:
    def losses(net: Net, micro: int) -> dict[str, Tensor]:
        return {name: term * value if micro == at else term for name, term in net(micro).items()}

    return losses


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_and_leaves_the_last_good_checkpoint(tmp_path, value):
    with pytest.raises(loop.TrainingDiverged, match=r"step 4: .*square.*checkpoint\.pt"):
        fit(tmp_path, losses=breaking(at=9, value=value))
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    assert same(fit(tmp_path), fit(tmp_path / "whole"))  # with the cause mended, it goes on as if nothing had been


def test_a_gradient_that_is_not_finite_stops_before_it_is_applied(tmp_path):
    def losses(net: Net, micro: int) -> dict[str, Tensor]:
        terms = net(micro)
        if micro == 1:  # a finite loss with an infinite slope
            terms["root"] = (net.layer.bias * 0).abs().sqrt().sum()
        return terms

    net = Net()
    with pytest.raises(loop.TrainingDiverged, match="step 0: .*gradient norm.*no checkpoint was written yet"):
        fit(tmp_path, net, losses=losses)
    assert same(net, Net()) and not list(tmp_path.glob("checkpoint*"))


def test_a_crash_while_writing_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    save = torch.save

    def crash(state: dict, stream: BinaryIO) -> None:
        if state["step"] == 6:
            stream.write(b"half a file")
            raise OSError("disk full")
        save(state, stream)

    monkeypatch.setattr(torch, "save", crash)
    with pytest.raises(OSError, match="disk full"):
        fit(tmp_path)
    monkeypatch.undo()
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"] == 3
    assert same(fit(tmp_path), fit(tmp_path / "whole"))
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == ["checkpoint.pt", "history.csv"]
    assert history(tmp_path) == history(tmp_path / "whole")


def test_a_crash_between_checkpoint_and_history_loses_no_row(tmp_path, monkeypatch):
    replace = loop.os.replace
    moved = []

    def crash(source, target) -> None:
        moved.append(Path(target).name)
        if len(moved) == 4:  # the second of the two files at step 6
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(loop.os, "replace", crash)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path)
    monkeypatch.undo()
    assert same(fit(tmp_path), fit(tmp_path / "whole"))
    assert history(tmp_path) == history(tmp_path / "whole")
