"""Extraction over many processes: shares, who speaks, and what a lost process costs."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import h5py
import pytest
import torch
from conftest import draw_image
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.features.extract import Pace
from labeldep_cli.projects.load_features import load_features

PATIENCE = 180.0  # seconds until a command that does not get anywhere fails the test
LABELS = ("sea", "sky", "dog")
ROWS, GROUP = 128, 32
BROKEN = ("3.jpg", "100.jpg")  # one in each of two processes' rows


def make_table(folder: Path) -> Path:
    """128 train rows, two of them no images, and a few of val and test; drawn large, so that decoding takes a while."""
    rng = random.Random(0)
    lines = ["path,split," + ",".join(LABELS)]
    for row in range(ROWS + 4):
        draw_image(folder / f"{row}.jpg", row, (1000, 750))
        split = "train" if row < ROWS else "val" if row % 2 else "test"
        lines.append(f"{row}.jpg,{split}," + ",".join(str(rng.randrange(2)) for _ in LABELS))
    for name in BROKEN:
        (folder / name).write_text("no image")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder / "labels.csv"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharding")


@pytest.fixture(scope="module")
def words(place: Path) -> list[str]:
    source = ["--dataset", str(make_table(place / "images")), "--backbone", "scenesnet"]
    return ["extract", *source, "--device", "cpu", "--workers", "0", "--json"]


def start(words: list[str], log: Path, *launch: str) -> subprocess.Popen:
    """Start labeldep in two processes, what they print in LOG.out and LOG.err."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *launch]
    with log.with_suffix(".out").open("w") as out, log.with_suffix(".err").open("w") as err:
        return subprocess.Popen([*torchrun, "-m", "labeldep_cli", *words], stdout=out, stderr=err, env=environment)


def finish(words: list[str], log: Path, *launch: str, code: int = 0) -> str:
    """Run labeldep in two processes; what they print on stdout."""
    assert start(words, log, *launch).wait(PATIENCE) == code, log.with_suffix(".err").read_text()
    return log.with_suffix(".out").read_text()


def alone(words: list[str]) -> tuple[int, str, str]:
    """Run labeldep in this process, on one thread as torchrun's processes are."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        result = CliRunner().invoke(app, words)
    finally:
        torch.set_num_threads(threads)
    return result.exit_code, result.stdout, result.stderr


def kill_one(launcher: subprocess.Popen, folder: Path) -> None:
    """SIGKILL the process of rank 1 as soon as a group of rows is stored."""
    deadline = time.monotonic() + PATIENCE
    while not done_rows(folder):
        assert launcher.poll() is None and time.monotonic() < deadline, "the command ended, or gets nowhere"
        time.sleep(0.005)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    (victim,) = (pid for pid, variables in ranks.items() if b"RANK=1" in variables)
    os.kill(int(victim), signal.SIGKILL)


def done_rows(folder: Path) -> int:
    """Rows that a folder's segments hold, finished or not."""
    rows = 0
    for path in folder.glob("*/*.h5*"):
        with suppress(OSError, KeyError, RuntimeError), h5py.File(path, "r", locking=False) as file:
            rows += int(file["done"][:].sum()) if file["header"][()] else 0
    return rows


def stored(words: list[str], folder: Path, split: str = "train") -> tuple[tuple[str, ...], bytes, bytes]:
    """What a folder holds of a split: the names of its usable rows, their features, why others are skipped."""
    table = words[words.index("--dataset") + 1]
    found = load_features(table, split, backbone="scenesnet", features_dir=folder)
    return found.ids, found.features().tobytes(), found.reasons.tobytes()


needs_proc = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="processes are found through /proc")


@pytest.fixture(scope="module")
def one(place: Path, words: list[str]) -> Path:
    """The caches of one process."""
    code, _, _ = alone([*words, "--max-skipped", "0.05", "--out", str(place / "one")])
    assert code == 3
    return place / "one"


@pytest.fixture(scope="module")
def two(place: Path, words: list[str]) -> Path:
    """The caches of two processes."""
    finish([*words, "--max-skipped", "0.05", "--out", str(place / "two")], place / "two")
    return place / "two"


class TestTwoProcesses:
    def test_equal_bit_for_bit_to_one(self, words: list[str], one: Path, two: Path) -> None:
        for split in ("train", "val", "test"):
            assert stored(words, two, split) == stored(words, one, split)

    def test_nothing_is_left_but_segments(self, two: Path) -> None:
        (store,) = (path for path in two.iterdir() if path.is_dir())
        names = sorted(path.name for path in store.iterdir() if path.name != ".lock")
        segments = [f"test-{k:06d}.h5" for k in range(1, 5)]
        assert names == ["kind.json", *segments, "weights.json"], "two of train, one of val and test"

    def test_one_speaks_for_both(self, place: Path, two: Path) -> None:
        (line,) = (place / "two.out").read_text().splitlines()
        extraction = json.loads(line)
        assert [(file["split"], file["rows"], file["computed"]) for file in extraction["files"]] == [
            ("train", ROWS, ROWS),
            ("val", 2, 2),
            ("test", 2, 2),
        ]
        assert [skip["path"] for skip in extraction["skipped"]] == list(BROKEN)
        assert extraction["images_per_second"] > 0
        told = (place / "two.err").read_text()
        assert all(told.count(f"skipped: {name}: not an image") == 1 for name in BROKEN)
        assert told.count("128 to compute") == 1

    @needs_proc
    def test_a_lost_process_costs_what_it_had_not_written(self, place: Path, words: list[str], one: Path) -> None:
        folder = place / "killed"
        again = [*words, "--max-skipped", "0.05", "--split", "train", "--out", str(folder)]
        launcher = start(again, place / "killed")
        kill_one(launcher, folder)
        assert launcher.wait(PATIENCE) != 0 and (place / "killed.out").read_text() == ""
        kept = done_rows(folder)
        assert 0 < kept < ROWS
        shutil.copytree(folder, place / "killed-copy")

        (file,) = json.loads(finish(again, place / "killed-again"))["files"]
        assert ROWS - kept - len(BROKEN) <= file["computed"] <= ROWS - kept
        assert "of 128 images of train are there" in (place / "killed-again.err").read_text()
        assert stored(words, folder) == stored(words, one)

        code, said, _ = alone([*again[:-1], str(place / "killed-copy")])  # one process goes on with what two began
        assert code == 3 and json.loads(said)["files"][0]["computed"] == file["computed"]
        assert stored(words, place / "killed-copy") == stored(words, one)

    @needs_proc
    def test_restarts_recover_by_themselves(self, place: Path, words: list[str], one: Path) -> None:
        folder = place / "restarted"
        launcher = start(
            [*words, "--max-skipped", "0.05", "--split", "train", "--out", str(folder)],
            place / "restarted",
            "--max-restarts",
            "1",
        )
        kill_one(launcher, folder)
        assert launcher.wait(PATIENCE) == 0, (place / "restarted.err").read_text()
        (line,) = (place / "restarted.out").read_text().splitlines()
        assert json.loads(line)["files"][0]["computed"] < ROWS
        assert stored(words, folder) == stored(words, one)

    def test_skipped_images_count_over_both(self, place: Path, words: list[str], one: Path) -> None:
        """1 of 128 each is within --max-skipped 0.01, 2 of 128 is not; one that is mended is encoded alone."""
        folder = place / "limited"
        limited = [*words, "--split", "train", "--out", str(folder)]
        assert finish(limited, place / "limited", code=1) == ""
        told = (place / "limited.err").read_text()
        assert "error: 2 of 128 images of the train split cannot be used, more than --max-skipped 0.01" in told
        shutil.copytree(folder, place / "allowed")

        image = place / "images" / BROKEN[0]
        draw_image(image, 3, (1000, 750))
        code, said, _ = alone(limited)
        image.write_text("no image")
        assert code == 3 and json.loads(said)["files"][0]["computed"] == 1
        assert [skip["path"] for skip in json.loads(said)["skipped"]] == [BROKEN[1]]

        code, said, _ = alone([*limited[:-1], str(place / "allowed"), "--max-skipped", "0.05"])
        assert code == 3 and json.loads(said)["files"][0]["computed"] == 0
        assert stored(words, place / "allowed") == stored(words, one)


def test_pace_over_processes() -> None:
    first = Pace.in_turn([Pace(64, 32, 2.0), Pace(32, 0, 0.0)])
    assert first == Pace(96, 32, 2.0)
    assert Pace.at_once([first, Pace(64, 48, 3.0)]) == Pace(160, 80, 3.0)
    assert Pace.in_turn([]) == Pace()


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def launched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANK", "1")
        monkeypatch.setenv("WORLD_SIZE", "2")

    def test_a_command_of_one_process_is_refused(self) -> None:
        result = CliRunner().invoke(app, ["eval"])
        assert result.exit_code == 1 and result.stdout == ""
        assert "error in process 1: labeldep eval runs in one process, but torchrun has started 2" in result.stderr

    def test_only_the_first_process_prints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert CliRunner().invoke(app, ["--version"]).stdout == ""
        monkeypatch.setenv("RANK", "0")
        assert CliRunner().invoke(app, ["--version"]).stdout.startswith("labeldep ")
