"""Crowds and hard places: two commands at once, streams that are closed or full, no home, no shared memory.

Each command runs in a process of its own, forked from a server that has imported torch already.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
from test_bad_input import mounted
from test_kill import PATIENCE, PRELOADED, PROCESSES

from benchmarks.fuzz.workshop import make
from benchmarks.kills.states import files_of, steady

ROOT = Path(__file__).parents[1]
TRAIN = "pretrain --dataset rows.npz --steps 40 --batch-size 8 --out runs/new --json"
FULL_FEATURES = "extract --dataset photos/labels.csv --backbone scenesnet --views 21 --workers 1 --fresh --json"

WRITERS = {
    "pretrain": TRAIN,
    "extract": FULL_FEATURES,
    "import": "import photos --out imported.csv --draw-splits --fresh --json",
    "data": "data photos/labels.csv --workers 1 --json",
    "audit RUN": "audit base --out audit --json",
    "report": "report base critic --out report.html --json",
    "predict --out": "predict photos --run photos --workers 1 --out predicted.csv",
    "predict --sidecars": "predict photos --run photos --workers 0 --sidecars --json",
    "predict --annotate": "predict photos --run photos --workers 0 --annotate drawn --json",
    "export": "export photos --format torch --json",
    "compare": "compare base critic --json",
    "reproduce": "reproduce --dataset rows.npz --seeds 1 --steps 2 --tables 1 --no-rivals --no-test-time --out paper",
}
"""Commands by name; each runs in the workshop."""


def labeldep(words: list[str], folder: Path, log: Path, place: str) -> None:
    """Run labeldep in this process, which has a place that lacks something."""
    from labeldep_cli.__main__ import main

    os.setsid()
    os.chdir(folder)
    streams = {1: log.with_suffix(".out"), 2: log.with_suffix(".err")}
    if place == "stdout is full":
        streams[1] = Path("/dev/full")
    for number, path in streams.items():
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    if place == "stdout has no reader":
        reader, writer = os.pipe()
        os.dup2(writer, 1)
        os.close(reader)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
    for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
        if place in (f"{name} is closed", "all are closed"):
            os.close(number)
            setattr(sys, name, None)
    if place == "no HOME, TERM, TMPDIR":
        for name in ("HOME", "TERM", "USER", "LOGNAME"):
            os.environ.pop(name, None)
        os.environ["TMPDIR"] = "/nowhere"
        tempfile.tempdir = None
    if place == "no shared memory":
        from labeldep_cli.compute import shared_memory

        shared_memory.FOLDER = Path("/nowhere")
    sys.argv = ["labeldep", *words]
    try:
        main()
    except SystemExit as end:
        code = int(end.code or 0)
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


class Shop:
    """A workshop in which commands run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started = 0

    def start(self, line: str, place: str = "") -> tuple[BaseProcess, Path]:
        """Start a command; its process, and its log without an ending."""
        self.started += 1
        log = self.folder.parent / f"{self.folder.name}-{self.started}"
        process = PROCESSES.Process(target=labeldep, args=(line.split(), self.folder, log, place))
        process.start()
        return process, log

    def run(self, line: str, place: str = "") -> tuple[int, bytes, str]:
        """Run a command to its end: exit code, stdout, stderr."""
        return ended(*self.start(line, place))


def ended(process: BaseProcess, log: Path) -> tuple[int, bytes, str]:
    process.join(PATIENCE)
    assert process.exitcode is not None, "it does not end"
    out, err = (log.with_suffix(suffix) for suffix in (".out", ".err"))
    return process.exitcode, out.read_bytes() if out.exists() else b"", err.read_text()


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """A server with torch imported, on one thread."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        PROCESSES.set_forkserver_preload(PRELOADED)
        yield


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("crowds") / "work"
    folder.mkdir()
    process = PROCESSES.Process(target=make, args=(folder,))
    process.start()
    process.join(PATIENCE)
    assert process.exitcode == 0
    return folder


@pytest.fixture(scope="module")
def afresh(sound: Path) -> Callable[[], Shop]:
    """Puts the workshop back to how it was, always in the same folder: runs record their paths."""
    kept = sound.with_name("sound")
    shutil.copytree(sound, kept)

    def restore() -> Shop:
        shutil.rmtree(sound)
        shutil.copytree(kept, sound)
        return Shop(sound)

    return restore


@pytest.mark.parametrize("name", WRITERS)
def test_two_at_once(afresh: Callable[[], Shop], name: str) -> None:
    """Both end well, or one says that another process is writing; the files are those of one alone."""
    shop = afresh()
    code, out, told = shop.run(WRITERS[name])
    assert code == 0, told
    alone = files_of(shop.folder)
    shop = afresh()
    both = [ended(*started) for started in [shop.start(WRITERS[name]) for _ in range(2)]]
    assert sorted(code for code, _, _ in both)[0] == 0, both
    for code, printed, told in both:
        assert code in (0, 1)
        if code:
            assert "another labeldep process is writing" in told
        else:
            assert "Traceback" not in told
            assert steady(printed) == steady(out)
    found = files_of(shop.folder)
    assert found.keys() == alone.keys()
    assert [file for file in found if found[file] != alone[file]] == []


def test_runs_clean_beside_a_training(afresh: Callable[[], Shop]) -> None:
    shop = afresh()
    training, log = shop.start(TRAIN.replace("--steps 40", "--steps 1000000"))
    deadline = time.monotonic() + PATIENCE
    while not (shop.folder / "runs/new/last.safetensors").exists():
        assert time.monotonic() < deadline and training.is_alive()
        time.sleep(0.01)
    for words in ("new", "--unfinished"):
        code, out, told = shop.run(f"runs clean {words} --yes --json")
        assert code == 0, told
        assert [(item["in_use"], item["removed"]) for item in json.loads(out)["items"]] == [(True, False)]
    os.kill(training.pid, signal.SIGTERM)
    code, _, told = ended(training, log)
    assert code == 130 and "saved at step" in told
    assert (shop.folder / "runs/new/best.safetensors").exists()


PLACES = {
    "stdin is closed": (0, ""),
    "stdout is closed": (0, ""),
    "stderr is closed": (0, ""),
    "all are closed": (0, ""),
    "stdout has no reader": (1, ""),
    "stdout is full": (1, "no space left to write the output"),
    "no HOME, TERM, TMPDIR": (0, ""),
    "no shared memory": (0, ""),
}
"""What a place lacks; the exit code of a command that prints there, and what it says."""


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_lacks_something(afresh: Callable[[], Shop], place: str) -> None:
    shop = afresh()
    code, words = PLACES[place]
    lines = [WRITERS[name] for name in ("data", "predict --sidecars", "compare")]
    for line in lines:
        found, out, told = shop.run(line, place)
        assert found == code, told
        assert "Traceback" not in told and words in told
        if place in ("no HOME, TERM, TMPDIR", "no shared memory", "stdin is closed", "stderr is closed"):
            assert out.startswith(b"{")
    again = shop.run(TRAIN, place)
    assert again[0] == code, again[2]
    assert (shop.folder / "runs/new/result.json").exists(), "the work is done, whoever reads of it"


FILES = {
    "import": WRITERS["import"],
    "report": WRITERS["report"],
    "predict --out": WRITERS["predict --out"],
    "predict --annotate": WRITERS["predict --annotate"],
}
"""Commands that write files, and say where."""


def test_a_disk_that_is_full_or_read_only(afresh: Callable[[], Shop], tmp_path: Path) -> None:
    """The error names the file and the remedy, nothing half-written is left, and the same command goes on."""
    shop, disk = afresh(), tmp_path / "disk"
    there = {
        name: re.sub(r"(--out|--annotate) (\S+)", lambda found: f"{found[1]} {disk / found[2]}", line)
        for name, line in FILES.items()
    }
    with mounted(disk, "256k") as remount:
        filling = disk / "filling"
        with suppress(OSError):
            filling.write_bytes(b"0" * 300_000)
        for line in there.values():
            refused(shop, line, "no space left to write ")
        assert [path.name for path in disk.rglob("*") if path.is_file()] == ["filling"]
        remount("ro")
        for line in there.values():
            refused(shop, line, "the file system is read-only")
        remount("rw,size=20m")
        for line in (there["import"], there["predict --out"], there["predict --annotate"]):
            code, _, told = shop.run(line)
            assert code == 0, told


def refused(shop: Shop, line: str, words: str) -> None:
    code, _, told = shop.run(line)
    assert code == 1, told
    assert "error: cannot write " in told or "error: no space left to write " in told
    assert words in told and "Traceback" not in told


SIGNALLED = (
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "os.execv(sys.executable, sys.argv[1:])"
)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("seconds", [0.15, 0.9])
def test_signals_while_the_command_is_imported(sound: Path, number: signal.Signals, seconds: float) -> None:
    """Before the command line is there, and amid the import of torch, whose exec of strings Python remembers."""
    words = [sys.executable, "-m", "labeldep_cli", "pretrain", "--dataset", "rows.npz", "--steps", "10000"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-c", SIGNALLED, *words, "--out", "never"],
        cwd=sound,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(seconds)
    process.send_signal(number)
    _, told = process.communicate(timeout=PATIENCE)
    if process.returncode == -number:
        pytest.skip("a busy machine: Python itself had not started")
    assert process.returncode == 130, told
    assert "interrupted: the work so far is kept" in told
    assert "Traceback" not in told
