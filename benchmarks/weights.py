"""Memory and time to inspect, load and convert ReVIOSa at the paper's sizes: files of zeros in the released layout.

    python benchmarks/weights.py paper-1b paper-4b --folder /somewhere/with/40/GB

Each command runs in a process of its own; its peak is the kernel's high-water mark (VmHWM), Python and torch included.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from reviosa_core import config
from reviosa_core.intershapes.language import vocabulary
from reviosa_core.model import mllm, segmenter
from reviosa_core.schema import Role
from reviosa_core.weights import folders, layouts
from reviosa_core.weights.design import Design
from reviosa_core.weights.files import Entry, Weights, files_of

COMMANDS = {
    "inspect": "from reviosa_core.weights.checkpoint import describe; describe('{folder}')",
    "load, bf16": "import torch; import reviosa_core as rv; rv.load('{folder}', dtype=torch.bfloat16)",
    "convert": "from reviosa_core.weights.convert import convert; convert('{folder}', '{folder}-native', 'native')",
}
PEAK = r"""
import re
from pathlib import Path
print(1024 * int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]))
"""


def write_released(profile: config.Profile, folder: Path) -> None:
    """A released ReVIOSa in bfloat16, all zeros."""
    words = mllm.word_tokenizer([*mllm.template_words(9), *vocabulary()])
    words.add_tokens(list(layouts.prompts.TOKENS.values()), special_tokens=True)
    described = mllm.describe(profile.model.mllm, words)
    described.text_config.vocab_size = 151680  # InternVL-2.5's 151674, and the six tokens of the released ReVIOSa
    sam = segmenter.describe(profile.model.segmenter)
    design = Design(
        internvl=described.to_dict(), sam2=sam, lora=None, template="qwen_chat", roles=tuple(Role), frames=5,
        prompted="all", aml=None,
    )  # fmt: skip
    entries = {
        name: Entry(name, shape, torch.bfloat16, lambda shape=shape: torch.zeros(shape, dtype=torch.bfloat16))
        for name, shape in folders.shapes(design, words).items()
    }
    folder.mkdir(parents=True)
    layouts.released_reviosa(Weights(folder, entries)).write(folder, shard_bytes=5 * 10**9)  # transformers' own limit
    (folder / "config.json").write_text(json.dumps(layouts.released_config(described, "qwen_chat", "reviosa")))
    layouts.released_tokens(words, tuple(Role)).save_pretrained(folder)


def measure(command: str) -> tuple[float, int]:
    """Seconds, and peak memory in bytes, of a few lines of Python in a new process."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", command + "\n" + PEAK], capture_output=True, text=True, check=True)
    return time.perf_counter() - start, int(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profiles", nargs="+")
    parser.add_argument("--folder", type=Path, default=Path("runs/benchmark-weights"))
    arguments = parser.parse_args()
    profiles = config.load(Path(__file__).parents[1] / config.PARAMS).profiles
    print("| profile | command | seconds | peak, GB | largest shard, GB | all, GB |\n|---|---|---|---|---|---|")
    seconds, peak = measure("import reviosa_core.weights.convert")
    print(f"| | nothing but imports | {seconds:.1f} | {peak / 1e9:.2f} | | |")
    for name in arguments.profiles:
        folder = arguments.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        write_released(profiles[name], folder)
        sizes = [file.stat().st_size for file in files_of(folder)]
        for label, command in COMMANDS.items():
            seconds, peak = measure(command.format(folder=folder))
            print(f"| {name} | {label} | {seconds:.1f} | {peak / 1e9:.2f} | {max(sizes) / 1e9:.2f} | "
                  f"{sum(sizes) / 1e9:.2f} |", flush=True)  # fmt: skip
        shutil.rmtree(folder.with_name(f"{name}-native"))
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
