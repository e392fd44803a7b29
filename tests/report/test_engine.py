"""Our papermill engine: a kernel that no other notebook's kernel can collide with, and copies that read as a page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

ASKS = """
import json, ipykernel, psutil
about = json.loads(ipykernel.get_connection_info())
ports = [c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
print(about["transport"], about["ip"], ports)
"""


BARS = """
import sys
from tqdm.auto import tqdm
for part in ("first", "second"):
    for step in tqdm(range(30), desc=part, mininterval=0):
        pass
    print(part, "done")
print("mind this", file=sys.stderr)
"""


def execute(folder: Path, code: str, *engine: str) -> tuple[list, str]:
    """The outputs of a cell as papermill leaves them, and what it said in the terminal."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "asks.ipynb")
    papermill = Path(sys.executable).parent / "papermill"
    done = subprocess.run(
        [papermill, *engine, "--log-output", "asks.ipynb", "said.ipynb"], cwd=folder, capture_output=True, text=True
    )
    return nbformat.read(folder / "said.ipynb", 4).cells[-1].outputs, done.stdout + done.stderr


def run(folder: Path, *engine: str) -> list[str]:
    """What a notebook says of its kernel's sockets: transport, address, TCP ports that it listens on."""
    return execute(folder, ASKS, *engine)[0][0].text.split(maxsplit=2)


def test_a_kernel_has_no_port_that_another_could_take(tmp_path: Path):
    transport, address, ports = run(tmp_path, "--engine", "reviosa")
    assert transport == "ipc" and ports.count(",") == 0, "one at most, which ipykernel takes as it chooses it"
    assert not Path(address).parent.exists(), "nothing is left"
    assert not Path(address).is_relative_to(tmp_path)


def test_a_temporary_folder_of_a_long_name_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (long := tmp_path / ("x" * 100)).mkdir()
    monkeypatch.setenv("TMPDIR", str(long))
    assert run(tmp_path, "--engine", "reviosa")[0] == "tcp"


def test_papermills_own_has(tmp_path: Path):
    """Or the test above would say nothing."""
    transport, _, ports = run(tmp_path)
    assert transport == "tcp" and ports.count(",") >= 4


def test_progress_is_one_line_in_the_copy_and_live_in_the_terminal(tmp_path: Path):
    outputs, said = execute(tmp_path, BARS, "--engine", "reviosa")
    assert [(o.name, o.text.count("\n")) for o in outputs][:2] == [("stdout", 1), ("stderr", 1)]
    assert outputs[0].text.startswith("second: 100%") and outputs[1].text == "mind this\n"
    assert "".join(o.text for o in outputs[2:]) == "first done\nsecond done\n"
    assert said.count("first: ") > 20, "every state of a bar"


def test_of_a_notebook_that_fails_too(tmp_path: Path):
    outputs, _ = execute(tmp_path, BARS + "\n1 / 0", "--engine", "reviosa")
    assert outputs[0].text.startswith("second: 100%") and outputs[-1].output_type == "error"


def test_a_kernel_that_ends_does_not_look_through_what_it_imported(tmp_path: Path):
    told = "lambda phase, _: open('told', 'a').write(f'{gc.get_freeze_count()} ')"
    execute(tmp_path, f"import gc; gc.disable(); gc.callbacks.append({told})", "--engine", "reviosa")
    frozen = list(map(int, (tmp_path / "told").read_text().split()))
    assert frozen and min(frozen) > 1000, "objects in each search for garbage, that of its end"
