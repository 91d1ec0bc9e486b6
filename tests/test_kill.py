"""kill -9 at any moment of extract, pretrain and adversarial: the same command goes on, and ends with the same bytes.

Each command runs in a process of its own, forked from a server that has imported torch already. The kills are aimed by
what the files say (rows done, last step) plus a seeded delay, so that they land amid the work on a slow machine too.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import draw_image
from safetensors import safe_open

from labeldep_cli.cli import app
from labeldep_cli.projects.load_features import load_features

PROCESSES = multiprocessing.get_context("forkserver")
PRELOADED = ["torchvision", "labeldep_cli.experiments.train", "labeldep_cli.pipelines.extract"]
PATIENCE = 120.0  # seconds until a command that does not get anywhere fails the test
LABELS = ("sea", "sky", "dog", "tree")


def run_command(words: list[str], log: Path, fatal: tuple[int, bool] | None) -> None:
    """Run labeldep in this process, its output in files.

    Args:
        words: of the command line.
        log: what goes to stdout and stderr is written to LOG.out and LOG.err.
        fatal: (n, after): die by SIGKILL just before, or just after, the n-th finished file gets its name.
    """
    for descriptor, stream in ((1, "out"), (2, "err")):
        with log.with_suffix(f".{stream}").open("w") as file:
            os.dup2(file.fileno(), descriptor)
    if fatal is not None:
        die_at_rename(*fatal)
    # The decoding workers start as they do in a process that a user starts, not from a server too.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    app(words)


def die_at_rename(n: int, after: bool) -> None:
    from labeldep_cli import files
    from labeldep_cli.features.store import write
    from labeldep_cli.runs import checkpoint

    named, publish = count(1), files.publish

    def fatal_publish(beside: Path, path: Path) -> None:
        this = next(named) == n
        if this and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        publish(beside, path)
        if this:
            os.kill(os.getpid(), signal.SIGKILL)

    files.publish = write.publish = checkpoint.publish = fatal_publish


@dataclass
class Workspace:
    """A folder with caches and runs of its own; `words` are one command on it."""

    folder: Path
    words: tuple[object, ...]
    features: Path | None = None

    def start(self, fatal: tuple[int, bool] | None = None) -> multiprocessing.process.BaseProcess:
        self.folder.mkdir(exist_ok=True)
        where = ("--data-dir", self.folder / "data", "--features-dir", self.features or self.folder / "data/features")
        words = [str(word) for word in (*self.words, *where)]
        process = PROCESSES.Process(target=run_command, args=(words, self.folder.with_suffix(".log"), fatal))
        process.start()
        return process

    def finish(self) -> None:
        process = self.start()
        process.join(PATIENCE)
        assert process.exitcode == 0, self.told("err")

    def told(self, stream: str) -> str:
        return self.folder.with_suffix(f".{stream}").read_text()

    def files(self) -> dict[str, bytes]:
        """All files with their bytes, hidden ones too; without the locks, and without config.json's clock and paths."""
        kept = [p for p in self.folder.rglob("*") if p.name != "config.json" and not p.name.endswith(".lock")]
        return {str(p.relative_to(self.folder)): p.read_bytes() if p.is_file() else b"" for p in kept}


def kill_when(process: multiprocessing.process.BaseProcess, ready: Callable[[], bool], delay: float) -> bool:
    """SIGKILL a process `delay` seconds after `ready`; False where it had ended before."""
    deadline = time.monotonic() + PATIENCE
    while not ready() and process.is_alive():
        assert time.monotonic() < deadline, "the command does not get anywhere"
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def step_of(checkpoint: Path) -> int:
    """The step that a checkpoint stands at; 0 where there is none."""
    if not checkpoint.exists():
        return 0
    with safe_open(checkpoint, "np") as file:
        return int(json.loads(file.metadata()["labeldep"])["step"])


def kill_training(workspace: Workspace, last: Path, moments: random.Random, kills: int, delay: float = 0.05) -> None:
    """Kill a training command again and again, each time one or two evaluations further on."""
    for _ in range(kills):
        before = step_of(last)
        process = workspace.start()
        evaluations = moments.randint(1, 2)
        seen: set[int] = set()

        def further(seen: set[int] = seen, before: int = before, evaluations: int = evaluations) -> bool:
            seen.add(step_of(last))
            return len(seen - {before}) >= evaluations

        assert kill_when(process, further, moments.uniform(0, delay)), f"ended before the kill: {workspace.told('err')}"
        assert before == 0 or f"resuming at step {before} of {last.parent}" in workspace.told("err")
    assert not (last.parent / "result.json").exists()


def require_same(killed: Workspace, whole: Workspace) -> None:
    mine, theirs = killed.files(), whole.files()
    assert mine.keys() == theirs.keys(), "leftovers of a kill, or files that lack"
    assert [name for name in mine if mine[name] != theirs[name]] == []
    assert not [name for name in mine if name.endswith((".partial", ".writing"))]


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[None]:
    """A server with torch imported, on one thread: on two busy cores more threads only wait for each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        PROCESSES.set_forkserver_preload(PRELOADED)
        yield


def make_table(folder: Path, rows: int) -> Path:
    rng = random.Random(rows)
    lines = ["path," + ",".join(LABELS)]
    for row in range(rows):
        draw_image(folder / f"{row}.jpg", row, (rng.randrange(20, 400), rng.randrange(20, 400)))
        lines.append(f"{row}.jpg," + ",".join(str(rng.randrange(2)) for _ in LABELS))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kill")


@pytest.fixture(scope="module")
def source(place: Path) -> tuple[object, ...]:
    table = make_table(place / "images", 240)
    splits = ("--test-fraction", 0.05, "--val-fraction", 0.05)
    return ("--dataset", table, *splits, "--backbone", "squeezenet1_1", "--weights", "none", "--device", "cpu")


@pytest.fixture(scope="module")
def extracted(place: Path, source: tuple[object, ...]) -> Workspace:
    """An extraction that nothing interrupted."""
    workspace = Workspace(place / "extract", ("extract", *source, "--workers", 1, "--json"))
    workspace.finish()
    return workspace


def test_extract(place: Path, extracted: Workspace) -> None:
    """Killed while it appends to a store that holds other images: these are readable at every moment."""
    moments = random.Random(1)
    group = 32 / json.loads(extracted.told("out"))["images_per_second"]  # seconds
    killed = Workspace(place / "extract-killed", extracted.words)
    few = make_table(place / "few-images", 20)
    old = Workspace(place / "extract-killed", ("extract", "--dataset", few, *extracted.words[3:]))
    old.finish()
    before, rows = features_of(old, few), len(features_of(extracted))
    for _ in range(10):
        kept = stored_rows(killed)

        def further(kept: int = kept) -> bool:
            return stored_rows(killed) > kept

        process = killed.start()
        if not kill_when(process, further, moments.uniform(0, group)):
            break  # it came to its end before the kill
        assert (features_of(old, few) == before).all(), "old rows are readable at every moment"
        assert stored_rows(killed) >= kept, "a kill loses nothing that was written"
    killed.finish()
    assert json.loads(killed.told("out"))["files"][0]["computed"] < rows
    assert features_of(killed).tobytes() == features_of(extracted).tobytes()
    assert (features_of(old, few) == before).all()
    assert not [path for path in (killed.folder / "data").rglob("*") if path.suffix in (".partial", ".writing")]


def stored_rows(workspace: Workspace) -> int:
    """Rows that a workspace's stores hold, finished or not."""
    rows = 0
    for path in (workspace.folder / "data/features").glob("*/*.h5*"):
        with suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r", locking=False) as file:
            rows += int(file["done"][:].sum()) if file["header"][()] else 0
    return rows


def features_of(workspace: Workspace, table: Path | None = None) -> np.ndarray:
    """The features of the train split."""
    words = dict(zip(workspace.words[1:], workspace.words[2:], strict=False))
    return load_features(
        table or words["--dataset"],
        backbone="squeezenet1_1",
        weights="none",
        val_fraction=0.05,
        test_fraction=0.05,
        data_dir=workspace.folder / "data",
    ).features()


def test_pretrain(place: Path, source: tuple[object, ...], extracted: Workspace) -> None:
    def workspace(name: str) -> Workspace:
        words = ("pretrain", *source, "--steps", 2400, "--batch-size", 8, "--runs-dir", place / name / "runs")
        return Workspace(place / name, words, extracted.folder / "data/features")

    whole, killed = workspace("pretrain"), workspace("pretrain-killed")
    whole.finish()
    run = next((whole.folder / "runs").iterdir()).name
    kill_training(killed, killed.folder / "runs" / run / "last.safetensors", random.Random(2), 4)
    killed.finish()
    assert "resuming at step " in killed.told("err")
    require_same(killed, whole)


def test_pretrain_dies_around_every_rename(place: Path, source: tuple[object, ...], extracted: Workspace) -> None:
    """Between last.safetensors, best.safetensors and metrics.jsonl, where random moments hardly ever fall."""

    def workspace(name: str) -> Workspace:
        words = ("pretrain", *source, "--steps", 800, "--batch-size", 8, "--runs-dir", place / name / "runs")
        return Workspace(place / name, words, extracted.folder / "data/features")

    whole, killed = workspace("renames"), workspace("renames-killed")
    whole.finish()
    for n in (1, -1, -2, 3, -3, 2, -4, 5, 4):  # before the n-th rename of that process; after it, where negative
        process = killed.start(fatal=(abs(n), n < 0))
        process.join(PATIENCE)
        assert process.exitcode == -signal.SIGKILL, killed.told("err")
    killed.finish()
    assert "resuming at step " in killed.told("err")
    require_same(killed, whole)


def test_adversarial(place: Path, source: tuple[object, ...], extracted: Workspace) -> None:
    """Killed first while it pretrains by itself: what it then starts from must not be the half-trained run."""

    def workspace(name: str) -> Workspace:
        critic = ("--critic-layers", 2, "--critic-width", 32, "--critic-projection", 16)
        words = ("adversarial", *source, *critic, "--steps", 600, "--batch-size", 8)
        where = ("--runs-dir", place / name / "runs")
        return Workspace(place / name, (*words, *where), extracted.folder / "data/features")

    moments = random.Random(3)
    whole, killed = workspace("adversarial"), workspace("adversarial-killed")
    whole.finish()
    runs = {path.name.rpartition("-")[2]: path.name for path in (whole.folder / "runs").iterdir()}
    kill_training(killed, killed.folder / "runs" / runs["pretrain"] / "last.safetensors", moments, 1)
    kill_training(killed, killed.folder / "runs" / runs["adversarial"] / "last.safetensors", moments, 3)
    killed.finish()
    assert "resuming at step " in killed.told("err")
    require_same(killed, whole)


def test_full_mode(place: Path) -> None:
    table = make_table(place / "few", 50)
    source = ("--dataset", table, "--backbone", "scenesnet", "--weights", "none", "--device", "cpu", "--workers", 1)

    def workspace(name: str) -> Workspace:
        words = ("pretrain", "--full", *source, "--steps", 80, "--batch-size", 4, "--runs-dir", place / name / "runs")
        return Workspace(place / name, words)

    whole, killed = workspace("full"), workspace("full-killed")
    whole.finish()
    run = next((whole.folder / "runs").iterdir()).name
    kill_training(killed, killed.folder / "runs" / run / "last.safetensors", random.Random(4), 3, delay=0.2)
    killed.finish()
    assert "resuming at step " in killed.told("err")
    require_same(killed, whole)
