"""Processes with third parties already imported: forked from one that imported them, otherwise as a shell starts them.

Of a notebook at smoke size, half the time goes into importing torch, transformers, peft and mlflow. Commands that are
found in the folder of a forge (papermill, a notebook's kernel, reviosa) are small: each asks the forge for a process,
which gets its arguments, folder, environment and open files, and whose end is its own. The project's own modules are
imported anew by each, from where its PYTHONPATH says.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

# Not matplotlib, which when imported asks the environment for its backend, nor papermill, which imports our engine.
MODULES = """
torch torchvision.transforms.v2 safetensors.torch peft pydantic sam2 openai transformers
transformers.models.internvl.modeling_internvl transformers.models.qwen2.tokenization_qwen2
mlflow mlflow.store.tracking.sqlalchemy_store pandas scipy.stats sklearn.metrics PIL.Image av
ipykernel.kernelapp ipywidgets nbclient nbformat pycocotools.mask ruamel.yaml
""".split()
LONGEST = 100  # bytes; `.new` is added, and 107 fit
COMMANDS = {
    "papermill": "from papermill.cli import papermill; papermill()",
    "kernel": "from ipykernel import kernelapp; kernelapp.launch_new_instance()",
    "reviosa": "from reviosa_core.cli.app import app; app(prog_name='reviosa')",
}
CLIENT = """#!{python} -SE
import json, os, signal, socket, sys
forge = socket.socket(socket.AF_UNIX)
forge.connect({address!r})
about = {{"code": {code!r}, "argv": sys.argv, "cwd": os.getcwd(), "env": dict(os.environ)}}
socket.send_fds(forge, [len(text := json.dumps(about).encode()).to_bytes(8, "little")], [0, 1, 2])
forge.sendall(text)
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: forge.send(bytes([number])))
code = int(forge.recv(16) or -9)
if code < 0:  # by the same signal
    if code != -9:
        signal.signal(-code, signal.SIG_DFL)
    os.kill(os.getpid(), -code)
os._exit(code)
"""


def able() -> bool:
    """Whether there are files that stand for processes: on Linux, where it is not told to refuse them."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


@contextmanager
def forge(
    folder: Path, commands: Mapping[str, str] = COMMANDS, modules: Sequence[str] = MODULES
) -> Iterator[dict[str, str]]:
    """The environment in which the commands and notebooks' kernels are started by a forge, which lives in `folder`.

    Without Linux's files that stand for processes, or in a folder whose name is too long for a socket's: one in which
    all is as ever.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    tools, address = folder / "bin", str(folder / "forge")
    if not able() or len(os.fsencode(address)) > LONGEST:
        yield {"PATH": path}
        return
    spec = folder / "jupyter" / "kernels" / "python3"
    for made in (tools, spec):
        made.mkdir(parents=True)
    for name, code in commands.items():
        (tools / name).write_text(CLIENT.format(python=sys.executable, address=address, code=code))
        (tools / name).chmod(0o755)
    started = [str(tools / "kernel"), "-f", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": started, "display_name": "Python 3", "language": "python"}))
    env = os.environ | {"OMP_NUM_THREADS": "1"}  # threads do not survive a fork
    process = subprocess.Popen([sys.executable, __file__, address, *modules], env=env, stdin=subprocess.PIPE)
    try:
        while not Path(address).exists():
            assert process.poll() is None, "the forge did not start"
            time.sleep(0.05)
        yield {"PATH": f"{tools}{os.pathsep}{path}", "JUPYTER_PATH": str(folder / "jupyter")}
    finally:
        process.communicate()  # its stdin is closed


def serve(address: str, modules: Sequence[str]) -> None:
    """Until stdin is closed, a process for each who asks."""
    gc.disable()
    for name in modules:
        importlib.import_module(name)
    gc.freeze()
    gc.enable()
    assert "matplotlib" not in sys.modules and "reviosa_core" not in sys.modules
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's to wait for
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{address}.new")
    server.listen(16)
    os.rename(f"{address}.new", address)
    while server in select.select([server, sys.stdin], [], [])[0]:
        client = server.accept()[0]
        if os.fork() == 0:
            server.close()
            keep(client)
        client.close()


def keep(client: socket.socket) -> NoReturn:
    """Start what is asked for, pass signals on to it and its end back; who asked is gone: end it."""
    size, files, _, _ = socket.recv_fds(client, 8, 3)
    text, wanted = b"", int.from_bytes(size, "little")
    while len(text) < wanted:
        text += client.recv(wanted - len(text))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    worker = os.fork()
    if worker == 0:
        client.close()
        work(files, **json.loads(text))
    for file in (*files, 0, 1, 2):
        os.close(file)
    ended = os.pidfd_open(worker)
    while ended not in select.select([client, ended], [], [])[0]:
        if got := client.recv(1):
            os.kill(worker, got[0])
        else:
            with suppress(ProcessLookupError):  # it has no group yet
                os.killpg(worker, signal.SIGKILL)
            os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
            os._exit(0)
    client.send(str(os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])).encode())
    os._exit(0)


def work(files: list[int], code: str, argv: list[str], cwd: str, env: dict[str, str]) -> NoReturn:
    """As `python -c code`, with these arguments."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # also where tests run in a background that ignores it
    for target, file in enumerate(files):
        os.dup2(file, target)
        os.close(file)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if "JPY_PARENT_PID" in env:
        os.environ["JPY_PARENT_PID"] = str(os.getppid())  # a kernel ends when its parent is another one
    sys.path[:1] = filter(None, env.get("PYTHONPATH", "").split(os.pathsep))
    random.seed()
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed()
    sys.argv = argv
    exec(code, {"__name__": "__main__"})
    raise SystemExit


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
