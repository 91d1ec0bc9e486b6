"""`python -m benchmarks kills`: moments follow from the seed, states are told apart, a short run finds nothing bad."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kills.command import Kill, State, draw, outcome_of
from benchmarks.kills.states import steady
from benchmarks.processes import Ended

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the benchmark forks")
ROOT = Path(__file__).parents[1]
FILES = {"a.json": b"{}", "b/": b""}


def state(code: int = 0, out: bytes = b"{}", files: dict[str, bytes] = FILES, alive: tuple[str, ...] = ()) -> State:
    return State(Ended(code, out, b"a note\n"), files, list(alive), 2.0, 8)


@pytest.mark.parametrize(
    ("killed", "again", "outcome"),
    [
        (state(-9), state(), "same"),
        (state(-9), state(out=b'{"seconds": 1}'), "same"),
        (state(-9), state(out=b"[]"), "other"),
        (state(-9), state(files={"a.json": b"[]", "b/": b""}), "other"),
        (state(-9), state(files={"b/": b""}), "other"),
        (state(-9), state(files={**FILES, ".a.json.writing": b""}), "leftovers"),
        (state(-9), state(code=1), "error"),
        (state(-9, alive=("python",)), state(), "outlived"),
    ],
)
def test_what_becomes_of_a_command(killed: State, again: State, outcome: str) -> None:
    found, what = outcome_of(killed, again, state())
    assert found == outcome
    assert bool(what) == (outcome != "same")


def test_moments_follow_from_the_seed() -> None:
    kills = [[draw(draws, state(), n % 2 == 1) for n in range(40)] for draws in map(np.random.default_rng, (0, 0, 1))]
    assert kills[0] == kills[1] != kills[2]
    assert {kill.number.name for kill in kills[0]} == {"SIGKILL", "SIGTERM", "SIGHUP", "SIGINT"}
    assert all(1 <= kill.change <= 8 if kill.seconds is None else 0 <= kill.seconds <= 2 for kill in kills[0])
    assert Kill(signal.SIGINT, None, 3).group and not Kill(signal.SIGTERM, 0.5).group


def test_what_may_differ() -> None:
    assert steady(b'{"a": [{"started": 1, "b": 2}]}') == steady(b'{"a": [{"b": 2, "started": 3}]}')
    assert steady(b'{"a": 1}\n{"a": 2}\n') != steady(b'{"a": 1}\n{"a": 3}\n')
    assert steady(b"path,labels\n") == b"path,labels\n"


def test_a_short_run() -> None:
    words = ["kills", "--kills", "2", "--json", "--only", "import,predict --,report,review"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    program = (
        "import sys; from benchmarks.kills.cases import CASES; from benchmarks.__main__ import app; "
        "[CASES.pop(name) for name in list(CASES) if 'torchrun' in name]; app(sys.argv[1:])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name, found in json.loads(done.stdout)["commands"].items():
        assert found["counts"] == {"same": 2, "other": 0, "leftovers": 0, "error": 0, "outlived": 0}, (name, found)
        assert set(found["codes"]) <= {"0" if name == "review" else "130"}, name


WORKERS = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from labeldep_cli.compute.interruption import leave_to_parent, work_for_parent

pool = ProcessPoolExecutor(2, initializer=work_for_parent)
list(pool.map(abs, range(4)))
ready, told = os.pipe()
if not os.fork():
    leave_to_parent(0)
    os.write(told, b"1")
    time.sleep(60)
os.read(ready, 1)
print(*pool._processes, flush=True)
time.sleep(60)
"""


INHERITED = """
import os, sys, time
from multiprocessing.util import get_temp_dir
from labeldep_cli.compute.interruption import work_for_parent

inherited = get_temp_dir()
print(inherited, flush=True)
ready, told = os.pipe()
if not os.fork():  # a command that this process starts
    if not os.fork():  # its worker
        work_for_parent()
        os.write(told, b"1")
        time.sleep(60)
    os.read(ready, 1)
    os._exit(0)
os.wait()
time.sleep(1.5)
print(os.path.isdir(inherited), flush=True)
"""


def test_a_worker_leaves_the_folder_that_others_use() -> None:
    """Of sockets: it was inherited, and a process that is alive waits for what would be sent by it."""
    done = subprocess.run(
        [sys.executable, "-c", INHERITED], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.stdout.splitlines()[-1] == "True", done.stderr


def test_workers_end_soon_after_a_parent_that_was_killed() -> None:
    """Those of a pool wait for work on a pipe that the others hold open; a decoding one ignores the first SIGTERM."""
    with subprocess.Popen(
        [sys.executable, "-c", WORKERS], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as parent:
        parent.stdout.readline()
        parent.kill()
        killed = time.monotonic()
        parent.stdout.read()  # until the last process that can write there has ended
        assert time.monotonic() - killed < 5
