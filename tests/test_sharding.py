"""Extraction over many processes: parts and their join, who speaks, and what a lost process costs."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from conftest import draw_image
from labeldep_cli.features.origin import Origin
from typer.testing import CliRunner

from labeldep_cli.cli import app
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import CacheError
from labeldep_cli.features.cache import (
    CacheWriter,
    FeatureCache,
    begun,
    cut,
    drop,
    join_parts,
    reasons_of,
    tidy,
)
from labeldep_cli.features.extract import Limit, Pace, try_unread_again
from labeldep_cli.features.images import Reason

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


def kill_one(launcher: subprocess.Popen, partial: Path) -> None:
    """SIGKILL the process of rank 1 as soon as its part holds a group of rows."""
    deadline = time.monotonic() + PATIENCE
    while not done_rows(partial):
        assert launcher.poll() is None and time.monotonic() < deadline, "the command ended, or gets nowhere"
        time.sleep(0.005)
    children = Path(f"/proc/{launcher.pid}/task/{launcher.pid}/children").read_text().split()
    ranks = {pid: Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in children}
    (victim,) = (pid for pid, variables in ranks.items() if b"RANK=1" in variables)
    os.kill(int(victim), signal.SIGKILL)


def done_rows(partial: Path) -> int:
    """Rows that a part in work holds; 0 while it is not laid out."""
    try:
        with h5py.File(partial, "r", locking=False) as file:
            return int(file["done"][:].sum()) if file["origin"][()] else 0
    except (OSError, KeyError, RuntimeError):
        return 0


def stored(path: Path) -> dict[str, tuple[np.dtype, bytes]]:
    """All that a cache holds, bit for bit."""
    with h5py.File(path) as file:
        return {name: (file[name].dtype, np.asarray(file[name][()]).tobytes()) for name in file}


def train_of(features: Path) -> Path:
    return next(path for path in features.glob("*-train.h5"))


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
    def test_equal_bit_for_bit_to_one(self, one: Path, two: Path) -> None:
        for path in one.glob("*.h5"):
            assert stored(two / path.name) == stored(path)
        with h5py.File(train_of(two)) as file:
            assert file["features"].is_virtual

    def test_nothing_is_left_but_caches_and_parts(self, two: Path) -> None:
        names = {path.name.partition("scenesnet-")[2] for path in two.glob("*.*") if path.suffix != ".lock"}
        assert names == {"train.h5", "train.part-0-of-2.h5", "train.part-1-of-2.h5", "val.h5", "test.h5"}

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
        assert told.count("128 images x 1 view x 256 features") == 1

    @needs_proc
    def test_a_lost_process_costs_what_it_had_not_written(self, place: Path, words: list[str], one: Path) -> None:
        folder = place / "killed"
        again = [*words, "--max-skipped", "0.05", "--split", "train", "--out", str(folder)]
        partial = folder / f"{train_of(one).stem}.part-1-of-2.h5.partial"
        launcher = start(again, place / "killed")
        kill_one(launcher, partial)
        assert launcher.wait(PATIENCE) != 0 and (place / "killed.out").read_text() == ""
        parts = [path for path in folder.glob("*.part-*") if path.suffix != ".lock"]
        kept = sum(done_rows(path) for path in parts)
        assert done_rows(partial) >= GROUP and kept < ROWS
        shutil.copytree(folder, place / "killed-copy")

        (file,) = json.loads(finish(again, place / "killed-again"))["files"]
        assert file["computed"] == ROWS - kept
        assert f"going on after {kept} rows that are there already" in (place / "killed-again.err").read_text()
        assert stored(train_of(folder)) == stored(train_of(one))

        code, said, _ = alone([*again[:-1], str(place / "killed-copy")])  # one process goes on with both parts
        assert code == 3 and json.loads(said)["files"][0]["computed"] == ROWS - kept
        assert stored(train_of(place / "killed-copy")) == stored(train_of(one))

    @needs_proc
    def test_restarts_recover_by_themselves(self, place: Path, words: list[str], one: Path) -> None:
        folder = place / "restarted"
        partial = folder / f"{train_of(one).stem}.part-1-of-2.h5.partial"
        launcher = start(
            [*words, "--max-skipped", "0.05", "--split", "train", "--out", str(folder)],
            place / "restarted",
            "--max-restarts",
            "1",
        )
        kill_one(launcher, partial)
        assert launcher.wait(PATIENCE) == 0, (place / "restarted.err").read_text()
        (line,) = (place / "restarted.out").read_text().splitlines()
        assert json.loads(line)["files"][0]["computed"] < ROWS
        assert stored(train_of(folder)) == stored(train_of(one))

    def test_skipped_images_count_over_both(self, place: Path, words: list[str], one: Path) -> None:
        """1 of 128 each is within --max-skipped 0.01, 2 of 128 is not; mended, the same rows are tried again."""
        folder = place / "limited"
        limited = [*words, "--split", "train", "--out", str(folder)]
        assert finish(limited, place / "limited", code=1) == ""
        told = (place / "limited.err").read_text()
        assert "error: 2 of 128 images of the train split cannot be used, more than --max-skipped 0.01" in told
        assert not list(folder.glob("*-train.h5"))
        shutil.copytree(folder, place / "allowed")

        image = place / "images" / BROKEN[0]
        draw_image(image, 3, (1000, 750))
        code, said, _ = alone(limited)
        image.write_text("no image")
        assert code == 3 and json.loads(said)["files"][0]["computed"] == 2 * GROUP
        assert [skip["path"] for skip in json.loads(said)["skipped"]] == [BROKEN[1]]

        code, said, _ = alone([*limited[:-1], str(place / "allowed"), "--max-skipped", "0.05"])
        assert code == 3 and json.loads(said)["files"][0]["computed"] == 0
        assert stored(train_of(place / "allowed")) == stored(train_of(one))


class TestLostParts:
    @pytest.fixture
    def copy(self, two: Path, tmp_path: Path) -> Path:
        return train_of(Path(shutil.copytree(two, tmp_path / "moved")))

    def test_cache_and_parts_move_together(self, copy: Path, two: Path) -> None:
        assert stored(copy) == stored(train_of(two))

    def test_a_missing_part_is_named_and_mended(self, copy: Path, words: list[str], two: Path) -> None:
        part = copy.with_name(f"{copy.stem}.part-1-of-2.h5")
        part.unlink()
        again = [*words, "--max-skipped", "0.05", "--split", "train", "--out", str(copy.parent)]
        code, said, told = alone(again)
        assert code == 1 and said == ""
        assert f"error: {copy} lacks its part {part.name}" in told and "--fresh" in told
        code, said, _ = alone([*again, "--fresh"])
        assert code == 3 and json.loads(said)["files"][0]["computed"] == ROWS
        assert stored(copy) == stored(train_of(two)) and not list(copy.parent.glob("*-train.part-*.h5"))

    def test_another_part_in_its_place_is_refused(self, copy: Path) -> None:
        shutil.copy(copy.with_name(f"{copy.stem}.part-0-of-2.h5"), copy.with_name(f"{copy.stem}.part-1-of-2.h5"))
        with pytest.raises(CacheError, match=r"part-1-of-2\.h5 is not the part that .*-train\.h5 was joined from"):
            FeatureCache.open(copy)

    def test_a_part_that_is_lost_later_is_not_read_as_zeros(self, copy: Path) -> None:
        cache = FeatureCache.open(copy)
        copy.with_name(f"{copy.stem}.part-1-of-2.h5").unlink()
        with pytest.raises(CacheError, match="NaN"):
            cache.features()
        with pytest.raises(CacheError, match="NaN"):
            cache.rows().read(np.array([len(cache.usable) - 1]), np.array([0]))


SHAPE, VIEWS = (5,), 2


def origin_of(split: Split) -> Origin:
    return Origin(
        "birds",
        "train",
        split.fingerprint,
        "resnet101",
        "a" * 64,
        "224x224",
        "float32",
        VIEWS,
        LABELS,
        {"torch": "2.6"},
    )


def make_split(n: int) -> Split:
    labels = np.random.default_rng(n).integers(0, 2, (n, len(LABELS)), dtype=np.int8)
    return Split("train", tuple(f"{row}.jpg" for row in range(n)), labels, LabelSpace(LABELS), Path("/nowhere"))


def write_part(part, split, features, reasons=None):
    rows = np.arange(len(split))[part.rows]
    own = split.subset("train", rows)
    writer = CacheWriter.resume(part.path, own, SHAPE, origin_of(own), False)
    writer.write(0, features[rows], np.zeros(len(rows), np.uint8) if reasons is None else reasons[rows])
    return writer


class TestParts:
    @pytest.mark.parametrize(("n", "count"), [(100, 2), (100, 3), (97, 4), (64, 2), (33, 2)])
    def test_are_whole_groups_in_order(self, n: int, count: int) -> None:
        parts = cut(Path("a/birds-train.h5"), n, GROUP, count)
        assert [row for part in parts for row in range(n)[part.rows]] == list(range(n))
        assert all(part.rows.start % GROUP == 0 and part.rows.start < part.rows.stop for part in parts)
        assert parts[0].path == Path(f"a/birds-train.part-0-of-{count}.h5")

    def test_of_one_is_the_cache_itself(self) -> None:
        (part,) = cut(Path("a/birds-train.h5"), 100, GROUP, 1)
        assert part.path == Path("a/birds-train.h5") and part.rows == slice(0, 100)

    def test_what_was_begun_is_found_dropped_and_tidied(self, tmp_path: Path) -> None:
        path = tmp_path / "birds-train.h5"
        others = [tmp_path / "birds-train-x.part-0-of-5.h5", tmp_path / "birds-val.h5.partial"]
        for other in others:
            other.touch()
        assert begun(path) == 0
        parts = cut(path, 100, GROUP, 3)
        parts[0].path.touch()
        parts[1].path.with_name(parts[1].path.name + ".partial").touch()
        assert begun(path) == 3
        (tmp_path / "birds-train.part-1-of-2.h5").touch()
        tidy(path, parts)
        assert sorted(tmp_path.iterdir()) == sorted([*others, parts[0].path])
        path.touch()
        drop(path)
        assert sorted(tmp_path.iterdir()) == sorted(others)
        path.touch()
        (tmp_path / "birds-train.h5.partial").touch()
        assert begun(path) == 1
        drop(path)
        assert path.exists() and begun(path) == 0

    def test_joined_they_are_one_cache(self, tmp_path: Path) -> None:
        folder = tmp_path / "50%b of all"  # what HDF5 would take for a block's number
        folder.mkdir()
        path, split = folder / "10%b-train.h5", make_split(10)
        features = np.random.default_rng(0).normal(size=(10, VIEWS, *SHAPE)).astype(np.float16)
        reasons = np.zeros(10, np.uint8)
        features[7], reasons[7] = 0, Reason.BROKEN
        parts = cut(path, 10, 4, 2)
        for part in parts:
            write_part(part, split, features, reasons).finish()
        join_parts(path, parts, split, reasons_of(parts, "again"), SHAPE, origin_of(split))

        cache = FeatureCache.open(path)
        assert cache.origin == origin_of(split) and cache.paths == split.paths and (cache.reasons == reasons).all()
        assert (cache.features(VIEWS) == np.delete(features, 7, axis=0)).all()
        rows, views = np.array([8, 2, 7, 0]), np.array([1, 0, 0, 1])  # of both parts, among those that are usable
        assert (cache.rows().read(rows, views) == np.delete(features, 7, axis=0)[rows, views]).all()

    def test_one_of_other_rows_is_refused(self, tmp_path: Path) -> None:
        split = make_split(10)
        first, second = cut(tmp_path / "birds-train.h5", 10, 4, 2)
        write_part(first, split, np.zeros((10, VIEWS, *SHAPE), np.float16)).finish()
        with pytest.raises(CacheError, match="rows or labels of the split"):
            write_part(replace(first, rows=second.rows), split, np.zeros((10, VIEWS, *SHAPE), np.float16))


def test_unread_images_are_forgotten_if_all_together_are_too_many(tmp_path: Path) -> None:
    split, reasons = make_split(10), np.zeros(10, np.uint8)
    reasons[[1, 8]] = Reason.BROKEN
    parts = cut(tmp_path / "birds-train.h5", 10, 4, 2)
    writers = [write_part(part, split, np.zeros((10, VIEWS, *SHAPE), np.float16), reasons) for part in parts]
    try_unread_again(writers, Limit(0.2, named=False), 10)
    assert all(writer.done.all() for writer in writers)
    try_unread_again(writers, Limit(0.1, named=False), 10)
    assert [np.flatnonzero(~writer.done).tolist() for writer in writers] == [[1], [4]]


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
        assert (
            "error in process 1: labeldep eval is the work of one process, and torchrun has started 2" in result.stderr
        )

    def test_only_the_first_process_prints(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert CliRunner().invoke(app, ["--version"]).stdout == ""
        monkeypatch.setenv("RANK", "0")
        assert CliRunner().invoke(app, ["--version"]).stdout.startswith("labeldep ")
