"""Our papermill engine: a kernel that no other notebook's kernel can collide with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat

ASKS = """
import json, ipykernel, psutil
about = json.loads(ipykernel.get_connection_info())
ports = [c.laddr.port for c in psutil.Process().net_connections("tcp") if c.status == psutil.CONN_LISTEN]
print(about["transport"], about["ip"], ports)
"""


def run(folder: Path, *engine: str) -> list[str]:
    """What a notebook says of its kernel's sockets: transport, address, TCP ports that it listens on."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(ASKS)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "asks.ipynb")
    papermill = Path(sys.executable).parent / "papermill"
    subprocess.run([papermill, *engine, "asks.ipynb", "said.ipynb"], cwd=folder, check=True, capture_output=True)
    said = nbformat.read(folder / "said.ipynb", 4)
    return said.cells[0].outputs[0].text.split(maxsplit=2)


def test_a_kernel_has_no_port_that_another_could_take(tmp_path: Path):
    transport, address, ports = run(tmp_path, "--engine", "reviosa")
    assert transport == "ipc" and ports.count(",") == 0, "one at most, which ipykernel takes as it chooses it"
    assert not Path(address).parent.exists(), "nothing is left"
    assert not Path(address).is_relative_to(tmp_path)


def test_papermills_own_has(tmp_path: Path):
    """Or the test above would say nothing."""
    transport, _, ports = run(tmp_path)
    assert transport == "tcp" and ports.count(",") >= 4
