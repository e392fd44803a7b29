"""A forge's processes are what a shell would have started: what they are given, what they say, how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import warm

pytestmark = pytest.mark.skipif(not warm.able(), reason="nothing is forged here")

COMMANDS = {
    "tell": "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['ASKED'], sys.stdin.read(), sys.path[0]); "
    "print('mind this', file=sys.stderr); sys.exit(int(sys.argv[1]))",
    "wait": "import os, time; print(os.getpid(), flush=True); time.sleep(60)",
    "own": "import sys; print('decimal' in sys.modules, 'reviosa_core' in sys.modules)",
    "die": "import os; os.kill(os.getpid(), 9)",
    "raise": "1 / 0",
}


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with warm.forge(tmp_path_factory.mktemp("forge"), COMMANDS, ["decimal"]) as env:
        yield os.environ | env


def test_it_gets_and_gives_what_a_process_does(env: dict[str, str], tmp_path: Path):
    about = env | {"ASKED": "so", "PYTHONPATH": "/mine"}
    done = subprocess.run(["tell", "3", "x y"], env=about, cwd=tmp_path, input="in", capture_output=True, text=True)
    assert done.stdout == f"['3', 'x y'] {tmp_path} so in /mine\n"
    assert done.stderr == "mind this\n" and done.returncode == 3


def test_third_parties_are_there_and_the_project_is_not(env: dict[str, str]):
    assert subprocess.run(["own"], env=env, capture_output=True, text=True).stdout == "True False\n"


def test_it_ends_as_it_would(env: dict[str, str]):
    assert subprocess.run(["die"], env=env).returncode == -signal.SIGKILL
    done = subprocess.run(["raise"], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_who_signals_it_signals_its_process(env: dict[str, str], number: signal.Signals):
    with subprocess.Popen(["wait"], env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as client:
        assert client.stdout
        worker = int(client.stdout.readline())
        client.send_signal(number)
        assert client.wait() == -number
    until = time.monotonic() + 10
    while Path(f"/proc/{worker}").exists() and time.monotonic() < until:
        time.sleep(0.05)
    assert not Path(f"/proc/{worker}").exists()


def test_a_folder_of_a_long_name_will_do(tmp_path: Path):
    with warm.forge(tmp_path / ("x" * 100), COMMANDS, ["decimal"]) as env:
        assert [*env] == ["PATH"] and not [*tmp_path.glob("x*")]
