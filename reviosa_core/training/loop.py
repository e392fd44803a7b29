"""One training loop, for the two pretrainings and the fine-tuning alike: resumable, atomic, deterministic.

Everything random in a step comes from (seed, step), so a run that was interrupted and resumed equals one that was not,
bit for bit on a CPU.
"""

from __future__ import annotations

import csv
import hashlib
import math
import os
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from tqdm.auto import tqdm

import reviosa_core
from reviosa_core import config, outputs
from reviosa_core.schema import DataError

Log = Callable[[dict[str, float], int], None]

OTHER = "checkpoint.other.pt"
AWAY = "move it away to start anew"


class TrainingDiverged(RuntimeError):
    """A loss or gradient is not finite. The last good checkpoint is untouched."""


def warmup_cosine(step: int, steps: int, warmup: float) -> float:
    """Learning-rate factor: linear over the `warmup` share of the steps, then half a cosine to 0."""
    rise = max(1, round(warmup * steps))
    if step < rise:
        return (step + 1) / rise
    return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))


def adamw(groups: Iterable[dict[str, Any]], loop: config.Loop) -> list[Optimizer]:
    """AdamW on parameter groups, less what is frozen in them."""
    kept = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    return [torch.optim.AdamW(kept, betas=loop.betas, weight_decay=loop.weight_decay, fused=True)]


def fit(
    module: nn.Module,
    losses: Callable[[nn.Module, int], dict[str, Tensor]],
    optimizers: Sequence[Optimizer],
    loop: config.Loop,
    *,
    folder: Path,
    seed: int,
    fingerprint: str = "",
    log: Log | None = None,
    log_every: int = 10,
    label: str = "training",
    half: bool = True,
    stop_after: int | None = None,
) -> None:
    """Minimise the sum of `losses(module, micro_step)` and leave the result in `module`.

    `losses` is given the prepared module and the number of the micro-batch, counted over the whole run (`accumulate` of
    them make a step, shared by the processes of a `processes.group`); it must draw all randomness from that number, or
    from torch's global generator, which is seeded by it. The `optimizers` share the module's parameters among them, and
    the rate of each rises and falls by `warmup_cosine`. Torch's generator is left as the last step found it: what is
    drawn next does not depend on interruptions. `log(metrics, step)` is called every `log_every` steps. On a GPU it
    computes in bfloat16 where that is enough (`half`). `stop_after` ends early, as an interruption would (for tests).

    `folder` gets `checkpoint.pt` every `loop.checkpoint_every` steps, whole, and `history.csv`. A run
    found there, interrupted or finished, is gone on with if it has the same `fingerprint` (say what the result depends
    on: parameters, inputs, `code`); if not, it is kept as `checkpoint.other.pt`.

    Raises TrainingDiverged when a loss or the gradient norm is not finite, in every process; DataError when
    `checkpoint.pt` is broken.
    """
    AcceleratorState._reset_state()  # which holds the precision of this process's last training
    accelerator = Accelerator(
        mixed_precision="bf16" if half and torch.cuda.is_available() else "no",
        kwargs_handlers=[
            DistributedDataParallelKwargs(
                find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
            )
        ],
    )
    # Gathers with repeated indices (the row tap's keys) add their gradients in any order otherwise.
    torch.use_deterministic_algorithms(accelerator.device.type == "cpu")
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads what it did not write
    # cuDNN's attention, torch's first choice on Hopper, makes gradients NaN in bf16, in one step of ten (LOG.md).
    torch.backends.cuda.enable_cudnn_sdp(False)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, history = folder / "checkpoint.pt", folder / "history.csv"
    module.to(accelerator.device)
    factor = partial(warmup_cosine, steps=loop.steps, warmup=loop.warmup)
    schedules = [LambdaLR(optimizer, factor) for optimizer in optimizers]
    start = _resume(checkpoint, fingerprint, module, optimizers, schedules)
    foreign = not start and checkpoint.exists()
    rows = _read_history(history, start)
    prepared, *optimizers = accelerator.prepare(module, *optimizers)
    trainable = [p for p in module.parameters() if p.requires_grad]
    count = accelerator.num_processes
    if loop.accumulate % count:
        raise ValueError(f"{count} processes cannot share a step of {loop.accumulate} micro-batches")
    parts = loop.accumulate // count

    module.train()
    progress = tqdm(
        range(start, loop.steps),
        initial=start,
        total=loop.steps,
        desc=label,
        mininterval=10,
        disable=not accelerator.is_main_process,
    )
    for step in progress:
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for part in range(parts):
            micro = step * loop.accumulate + part * count + accelerator.process_index
            _seed(seed, micro)
            # Processes exchange gradients once a step, with the last part.
            with accelerator.no_sync(prepared) if part < parts - 1 else nullcontext():
                with accelerator.autocast():
                    terms = losses(prepared, micro)
                shares = {name: term / parts for name, term in terms.items()}  # ours: Accelerate would divide too
                accelerator.backward(torch.stack(list(shares.values())).sum())
            sums |= {name: sums.get(name, 0) + share.detach() for name, share in shares.items()}
        mean = cast(Tensor, accelerator.reduce(torch.stack(list(sums.values())), "mean"))
        totals = dict(zip(sums, mean.tolist(), strict=True))
        if not mean.isfinite().all():
            raise TrainingDiverged(_epitaph(totals, step, checkpoint))
        norm = nn.utils.clip_grad_norm_(trainable, loop.clip_norm)
        if not torch.isfinite(norm):
            raise TrainingDiverged(_epitaph({**totals, "gradient norm": float(norm)}, step, checkpoint))
        rate = schedules[0].get_last_lr()[0]
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()

        done = step + 1
        if done % log_every == 0 or done == loop.steps:
            metrics = {"loss": sum(totals.values()), **totals, "gradient_norm": float(norm), "learning_rate": rate}
            rows.append({"step": done, **metrics})
            progress.set_postfix(loss=f"{metrics['loss']:.3f}", refresh=False)
            if log and accelerator.is_main_process:
                log(metrics, done)
        due = done % loop.checkpoint_every == 0 or done == loop.steps
        if due and accelerator.is_main_process:
            if foreign:
                os.replace(checkpoint, folder / OTHER)
                foreign = False
            _write_history(history, rows)  # first: on resuming, rows beyond the checkpoint are dropped
            _save(checkpoint, done, fingerprint, module, optimizers, schedules)
        if stop_after is not None and done == stop_after:
            return
    _seed(seed, loop.steps * loop.accumulate - 1)
    module.eval()


def code(*names: str) -> str:
    """md5 of files and folders of this package, for fingerprints."""
    root, found = Path(reviosa_core.__file__).parent, hashlib.md5()
    for path in sorted(path for name in names for path in [root / name, *(root / name).rglob("*.py")]):
        if path.is_file():
            found.update(path.read_bytes())
    return found.hexdigest()


def _seed(seed: int, micro: int) -> None:
    set_seed(hash((seed, micro)) % 2**32)


def _epitaph(totals: dict[str, float], step: int, checkpoint: Path) -> str:
    state = f"the last good checkpoint is {checkpoint}" if checkpoint.exists() else "no checkpoint was written yet"
    return f"step {step}: loss is not finite ({totals}); {state}"


def _trained_state(module: nn.Module) -> dict[str, Tensor]:
    """What training can change, and buffers (SAM2's position code is a random one): the frozen rest comes back from the
    backbones."""
    parameters = module.named_parameters(remove_duplicate=False)  # `state_dict` names shared ones twice, too
    frozen = {name for name, p in parameters if not p.requires_grad}
    return {name: value.detach() for name, value in module.state_dict().items() if name not in frozen}


def _save(path: Path, step: int, fingerprint: str, module: nn.Module, optimizers: Any, schedules: Any) -> None:
    state = {
        "step": step,
        "fingerprint": fingerprint,
        "module": _trained_state(module),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "schedules": [schedule.state_dict() for schedule in schedules],
    }
    for schedule in state["schedules"]:
        schedule.pop("lr_lambdas")  # functions: not data
    with outputs.file(path) as new, new.open("wb") as stream:  # torch's own file would not say that a disk is full
        torch.save(state, stream)


def _resume(path: Path, fingerprint: str, module: nn.Module, optimizers: Any, schedules: Any) -> int:
    """Steps done so far: 0 without a checkpoint, or with one of another run. DataError for one that is broken."""
    if not path.exists():
        return 0
    state, expected = _read(path), _trained_state(module)
    shapes, there = ({name: t.shape for name, t in held.items()} for held in (expected, state["module"]))
    if state["fingerprint"] != fingerprint or there != shapes:
        print(f"{path} belongs to a run with other parameters, inputs or code: starting anew; it is kept as {OTHER}")
        return 0
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(state["module"][name])
    for optimizer, kept in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(kept)
    for schedule, kept in zip(schedules, state["schedules"], strict=True):
        schedule.load_state_dict({**schedule.state_dict(), **kept})
    return state["step"]


def _read(path: Path) -> dict[str, Any]:
    """What `_save` wrote. A broken file may be all that is left of hours: nobody but its owner throws it away."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        whole = isinstance(state["step"], int) and all(torch.is_tensor(t) for t in state["module"].values())
        whole = whole and {"fingerprint", "optimizers", "schedules"} <= state.keys()
    except Exception as error:  # by how it is broken; torch's own text advises to load it unsafely
        raise DataError(f"{path}: no checkpoint of training ({type(error).__name__}); {AWAY}") from None
    if not whole:
        raise DataError(f"{path}: no checkpoint of training; {AWAY}")
    return state


def _read_history(path: Path, start: int) -> list[dict[str, Any]]:
    if not path.exists() or not start:
        return []
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= start]


def _write_history(path: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with outputs.file(path) as new, new.open("w", newline="") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
