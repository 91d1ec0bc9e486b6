"""How many processes decode: as many as cores are usable, and as shared memory has room for."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import draw_image
from sandbox import Sandbox, make_table
from torch.utils.data import DataLoader

from labeldep_cli.compute import shared_memory
from labeldep_cli.compute.shared_memory import free_shared_memory, usable_processes
from labeldep_cli.config import Machine, cores, usable_cores
from labeldep_cli.datasets.scenes import files as scenes
from labeldep_cli.features import decode as decoding
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.features.reading import Readers, read_batches, readers_within
from labeldep_cli.progress import SilentReporter

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("limit", "n_cores", "local", "found"),
    [
        ("max 100000", 64, None, 64),
        ("150000 100000", 64, None, 2),
        ("800000 100000", 4, None, 4),
        (None, 64, "8", 8),
        (None, 2, "8", 1),
    ],
)
def test_usable_cores_decide(monkeypatch, tmp_path: Path, limit, n_cores, local, found) -> None:
    monkeypatch.setattr(cores, "CGROUP", tmp_path)
    if limit:
        (tmp_path / "cpu.max").write_text(limit + "\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(n_cores)), raising=False)
    if local:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    assert Machine().n_workers == found
    assert Machine(workers=3).n_workers == 3
    assert local or usable_cores() == found


@pytest.mark.parametrize(
    ("workers", "room", "found"),
    [
        (8, None, Readers(8, 2)),  # no limit
        (8, 19, Readers(8, 2)),  # two batches each in advance, and three in use
        (8, 18, Readers(8, 1)),
        (8, 11, Readers(8, 1)),
        (8, 10, Readers(7, 1)),
        (8, 4, Readers(1, 1)),
        (8, 3, Readers(0, 2)),
        (8, 0, Readers(0, 2)),
        (0, 0, Readers(0, 2)),
    ],
)
def test_batches_under_way_fit_in_shared_memory(workers: int, room: int | None, found: Readers) -> None:
    assert readers_within(workers, 1000, None if room is None else 1000 * room + 999) == found


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    return [draw_image(tmp_path / f"{k}.png", k) for k in range(6)]


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int | None]]:
    """Workers and batches in advance of each DataLoader; none of them starts processes."""
    made: list[tuple[int, int | None]] = []

    def here(*args, num_workers, prefetch_factor, multiprocessing_context, **kwargs):
        made.append((num_workers, prefetch_factor))
        return DataLoader(*args, num_workers=0, **kwargs)

    monkeypatch.setattr(decoding, "DataLoader", here)
    return made


@pytest.mark.parametrize(
    ("free", "made", "told"),
    [
        (10**9, (8, 2), ""),
        (15 * 6144, (8, 1), ""),
        (6 * 6144, (3, 1), "36.9 kB of shared memory (/dev/shm) are free, and batches of 6.1 kB pass"),
        (100, (0, None), "no of 8 decoding processes"),
    ],
)
def test_fewer_processes_decode_where_it_is_small(monkeypatch, photos, loaders, free, made, told) -> None:
    """Batches of 2 images of 3 x 32 x 32 bytes, 6,144 together."""
    monkeypatch.setattr("labeldep_cli.features.reading.free_shared_memory", lambda: free)
    notes: list[str] = []
    batches = [[(path, (0,)) for path in photos[start : start + 2]] for start in (0, 2, 4)]
    found = list(read_batches(Path, batches, Framing(32), USUAL_RULES, "full", 8, CPU, notes.append))
    assert loaders == [made] and len(found) == 3 and not any(one.reasons.any() for one in found)
    assert told in " ".join(notes) and bool(told) == bool(notes)


def test_a_stream_s_first_batch_says_little(monkeypatch, photos, loaders) -> None:
    monkeypatch.setattr("labeldep_cli.features.reading.free_shared_memory", lambda: 20 * 3072)
    one = [[(photos[0], (0,))]]
    list(read_batches(Path, one, Framing(32), USUAL_RULES, "full", 2, CPU, print, largest=4))
    list(read_batches(Path, [], Framing(32), USUAL_RULES, "full", 2, CPU, print))
    assert loaders == [(2, 1)], "five batches of four images fit"


def test_what_linux_has(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shared_memory.sys, "platform", "linux")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path)
    monkeypatch.setattr(shared_memory.shutil, "disk_usage", lambda folder: SimpleNamespace(free=64_000_000))
    assert free_shared_memory() == 64_000_000
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_shared_memory() == 16_000_000
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "none")
    assert free_shared_memory() == 0
    monkeypatch.setattr(shared_memory.sys, "platform", "darwin")
    assert free_shared_memory() is None


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No /dev/shm, where a process pool cannot even make its locks; and no home."""

    def fails(*_: object, **__: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(shared_memory.sys, "platform", "linux")
    monkeypatch.setattr(shared_memory, "FOLDER", tmp_path / "none")
    for name in ("labeldep_cli.features.check", "labeldep_cli.datasets.scenes.files"):
        monkeypatch.setattr(f"{name}.ProcessPoolExecutor", fails)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda uid: (_ for _ in ()).throw(KeyError(f"uid not found: {uid}")))


def test_one_process_does_all_without_shared_memory_and_home(without: None, tmp_path: Path) -> None:
    notes: list[str] = []
    assert usable_processes(4, notes.append) == 0 and usable_processes(0, notes.append) == 0
    assert len(notes) == 1 and "no shared memory" in notes[0]
    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent, 12)
    eyes = ("--dataset", sandbox.table, "--backbone", "scenesnet", "--workers", 2)
    for words in (
        ("data", sandbox.table, "--workers", 2),
        ("extract", *eyes),
        ("pretrain", *eyes, "--steps", 1, "--full"),
        ("predict", *(sandbox.table.parent / "img" / f"{k}.png" for k in range(6)), "--workers", 2),
        ("doctor",),
    ):
        result = sandbox.run(*words)
        assert result.exception is None or isinstance(result.exception, SystemExit), (words, result.exception)
        assert result.exit_code in (0, 3), (words, result.stderr)
        assert "--workers" not in words or "shared memory" in result.stderr, words
    assert "none of the 1 images could be read" in sandbox.run("predict", "~/none.png").stderr


def test_scenes_are_drawn_without_shared_memory(without: None, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scenes, "SIZES", {"train": 3, "val": 1, "test": 1})
    monkeypatch.setattr(scenes, "_GROUP", 2)
    scenes._draw_all(tmp_path / "scenes", SilentReporter())
    assert len(list((tmp_path / "scenes" / "images").iterdir())) == 5
    assert np.loadtxt(tmp_path / "scenes" / "labels.csv", str, delimiter=",").shape[0] == 1 + 5
