"""The data set `scenes` on disk: drawn once into the data folder, then read like any other data set."""

from __future__ import annotations

import csv
import shutil
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.compute.interruption import work_for_parent
from labeldep_cli.compute.shared_memory import usable_processes
from labeldep_cli.config import Machine
from labeldep_cli.datasets.draw import Draw
from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.scenes.draw import DATASET_SEED, LABELS, draw
from labeldep_cli.datasets.split import Dataset, Split
from labeldep_cli.files import lock, make_folder, storing
from labeldep_cli.progress import Reporter

SIZES = {"train": 1600, "val": 200, "test": 600}
"""The number of images of each split; images are numbered through all splits in this order."""

VERSION = 1
"""The version of the drawing code; a folder that another version drew is drawn again."""

_LOCK_TIMEOUT = 600.0  # seconds to wait for another process that draws the images
_QUALITY = 92
_GROUP = 25


def load(data_dir: Path, draw_splits: Draw, reporter: Reporter) -> Dataset:
    """Load `scenes`; its images are drawn first if they are missing. The data set defines all its splits.

    Args:
        data_dir: the images are in its folder `scenes`.
        draw_splits: unused, since no split is drawn.
        reporter: gets a note before the drawing starts, and the progress.

    Raises:
        StorageError: the folder cannot be written.
    """
    folder, marker = _folder(data_dir)
    if not marker.exists():
        make_folder(data_dir)
        with lock(data_dir / ".scenes.lock", str(folder), _LOCK_TIMEOUT), storing(folder):
            if not marker.exists():
                _draw_all(folder, reporter)
    return _dataset(folder, _labels(folder / "labels.csv"))


def undrawn(data_dir: Path) -> Dataset | None:
    """The data set with all labels unknown, if its images are not drawn yet; None if they are."""
    folder, marker = _folder(data_dir)
    if marker.exists():
        return None
    return _dataset(folder, np.full((sum(SIZES.values()), len(LABELS)), UNKNOWN, dtype=np.int8))


def _folder(data_dir: Path) -> tuple[Path, Path]:
    """The folder of the images, and the file that marks it as complete."""
    folder = data_dir / "scenes"
    return folder, folder / f"version-{VERSION}"


def _dataset(folder: Path, labels: NDArray[np.int8]) -> Dataset:
    space = LabelSpace(LABELS)
    splits: dict[str, Split] = {}
    start = 0
    for name, size in SIZES.items():
        rows = range(start, start + size)
        splits[name] = Split(name, tuple(_path(row) for row in rows), labels[start : start + size], space, folder)
        start += size
    return Dataset("scenes", splits, named=True, backbone="scenesnet", place=folder)


def _draw_all(folder: Path, reporter: Reporter) -> None:
    """Draw into a temporary folder, then rename it, so that the folder appears only when it is complete."""
    temporary = folder.with_name(f".{folder.name}.drawing")
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "images").mkdir(parents=True)
    total = sum(SIZES.values())
    reporter.note(f"drawing {total} images of the data set scenes into {folder}")
    groups = [range(a, min(a + _GROUP, total)) for a in range(0, total, _GROUP)]
    labels: list[NDArray[np.int8]] = []
    workers = usable_processes(min(Machine().n_workers, len(groups)), reporter.note)
    processes = _pool(workers) if workers else nullcontext()
    with processes as pool, reporter.bar("drawing scenes", total, "images") as bar:
        each = map if pool is None else pool.map
        for group_labels in each(_draw_group, groups, [temporary] * len(groups)):
            labels.append(group_labels)
            bar.advance(len(group_labels))
    _write_labels(temporary / "labels.csv", np.concatenate(labels))
    (temporary / f"version-{VERSION}").touch()
    if folder.exists():
        shutil.rmtree(folder)
    temporary.rename(folder)


def _pool(workers: int) -> ProcessPoolExecutor:
    """Processes that are spawned, not forked: the parent may have threads of torch by now."""
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=work_for_parent)


def _draw_group(rows: range, folder: Path) -> NDArray[np.int8]:
    labels = np.zeros((len(rows), len(LABELS)), dtype=np.int8)
    for k, row in enumerate(rows):
        image, labels[k] = draw(DATASET_SEED, row)
        image.save(folder / _path(row), quality=_QUALITY)
    return labels


def _path(row: int) -> str:
    return f"images/{row:04d}.jpg"


def _write_labels(path: Path, labels: NDArray[np.int8]) -> None:
    names = [name for name, size in SIZES.items() for _ in range(size)]
    with path.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "split", *LABELS])
        table.writerows([_path(row), name, *labels[row].tolist()] for row, name in enumerate(names))


def _labels(path: Path) -> NDArray[np.int8]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))[1:]
    return np.array([row[2:] for row in rows], dtype=np.int8)
