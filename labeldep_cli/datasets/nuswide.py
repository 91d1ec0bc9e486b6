"""NUS-WIDE (Chua et al., 2009): 269,648 Flickr images and 81 concepts, read from its original text files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.draw import Draw, hold_out_published
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Dataset, Split, label_space
from labeldep_cli.errors import DatasetError

TEST_SHARE = 59_347 / 209_347
"""The paper trains on 150,000 and tests on 59,347 of the images with a concept; its draw is not published."""

_HOME = "https://lms.comp.nus.edu.sg/wp-content/uploads/2019/research/nuswide/NUS-WIDE.html"


def load(data_dir: Path, draw: Draw) -> Dataset:
    """Load NUS-WIDE from `data_dir`/nuswide with a seeded draw: 150,000 train (val is held out of them), 59,347 test.

    Only images with at least one concept are used (209,347). The draw does not depend on which images are on the disk:
    missing images stay rows of their split. Other totals are split in the same proportion.

    Raises:
        DatasetError: a list or label file is missing, has another length than the others, or has invalid lines.
    """
    paths, labels, space = _read(data_dir / "nuswide")
    rows = np.flatnonzero(labels.max(axis=1))
    notes = _note_unlabelled(len(paths) - len(rows), len(paths))
    kept, test, flags = hold_out_published([paths[row] for row in rows], labels[rows], TEST_SHARE, draw, "test")
    notes.append(f"train and test = {len(kept)} and {len(test)} rows, drawn ({flags})")
    return _assemble("nuswide", data_dir, (paths, labels, space), (rows[kept], rows[test]), draw, notes, {"test"})


def load_official(data_dir: Path, draw: Draw) -> Dataset:
    """Load NUS-WIDE from `data_dir`/nuswide with its own train and test lists; val is held out of train.

    Images without any concept are left out; a note has their number.

    Raises:
        DatasetError: as `load`; or a list has an image that is not in Imagelist.txt, or that is in the other list too.
    """
    root = data_dir / "nuswide"
    paths, labels, space = _read(root)
    row_of = {path: row for row, path in enumerate(paths)}
    train = _read_rows(root, "TrainImagelist.txt", row_of)
    test = _read_rows(root, "TestImagelist.txt", row_of)
    shared = np.intersect1d(train, test)
    if len(shared):
        raise DatasetError(
            f"{root / 'ImageList'}: {len(shared)} images are in both TrainImagelist.txt and TestImagelist.txt, "
            f"the first is {paths[shared[0]]}",
            _how_to_get(root),
        )
    has_concept: NDArray[np.bool_] = labels.max(axis=1) == 1
    listed = len(train) + len(test)
    train, test = train[has_concept[train]], test[has_concept[test]]
    notes = _note_unlabelled(listed - len(train) - len(test), listed)
    return _assemble("nuswide-official", data_dir, (paths, labels, space), (train, test), draw, notes, set())


def _assemble(
    name: str,
    data_dir: Path,
    everything: tuple[list[str], NDArray[np.int8], LabelSpace],
    rows: tuple[NDArray[np.int64], NDArray[np.int64]],
    draw: Draw,
    notes: list[str],
    drawn: set[str],
) -> Dataset:
    """Hold out val from the train rows and build the three splits."""
    paths, labels, space = everything
    root = data_dir / "nuswide" / "Flickr"
    if not root.is_dir():
        notes.append(f"the image folder {root} is missing")
    all_rows = Split("all", tuple(paths), labels, space, root)
    train, test = rows
    train_paths = [paths[row] for row in train]
    kept, held_out, flags = hold_out_published(train_paths, labels[train], draw.val_fraction, draw, "val")
    notes.append(
        f"val = {len(held_out)} of the {len(train)} training rows, held out "
        f"(--val-fraction {draw.val_fraction}, {flags})"
    )
    splits = {
        "train": all_rows.subset("train", train[kept]),
        "val": all_rows.subset("val", train[held_out]),
        "test": all_rows.subset("test", test),
    }
    place = data_dir / "nuswide"
    return Dataset(name, splits, named=True, notes=tuple(notes), drawn=frozenset({"val"} | drawn), place=place)


def _note_unlabelled(dropped: int, listed: int) -> list[str]:
    return [f"{dropped} of {listed} images have no concept and are left out"] if dropped else []


def _how_to_get(root: Path) -> str:
    return (
        f"From the NUS-WIDE page of the NUS Lab for Media Search ({_HOME}) get ImageList.zip, Groundtruth.zip and "
        f"ConceptsList.zip, and unpack them in {root}, so that it holds ImageList/Imagelist.txt, "
        "Groundtruth/AllLabels/Labels_airport.txt ... and ConceptsList/Concepts81.txt; the images (by the authors' "
        "request form, or from their list of URLs: labeldep data nuswide --download NUS-WIDE-urls.txt) go into "
        "Flickr/. If NUS-WIDE lies elsewhere, name the folder above nuswide/ with --data-dir. See data/README.md."
    )


def _read(root: Path) -> tuple[list[str], NDArray[np.int8], LabelSpace]:
    """Read the lists of all N images: paths, labels int8 [N, L] in {0, 1}, concepts in the order of Concepts81.txt."""
    concepts = root / "ConceptsList" / "Concepts81.txt"
    space = label_space(_lines(concepts, root), concepts)
    image_list = root / "ImageList" / "Imagelist.txt"
    paths = _image_paths(image_list, root)
    folder = root / "Groundtruth" / "AllLabels"
    if not folder.is_dir() and (root / "AllLabels").is_dir():
        folder = root / "AllLabels"  # some users unpack Groundtruth.zip here
    by_concept = np.empty((len(space), len(paths)), dtype=np.int8)
    for column, concept in enumerate(space.names):
        by_concept[column] = _read_labels(folder / f"Labels_{concept}.txt", len(paths), image_list, root)
    return paths, np.ascontiguousarray(by_concept.T), space


def _contents(file: Path, root: Path) -> bytes:
    try:
        return file.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"NUS-WIDE's file {file} is missing", _how_to_get(root)) from None
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}", "Check the file and its permissions.") from None


def _lines(file: Path, root: Path) -> list[str]:
    """The lines of a list, stripped, without blank lines at its end."""
    try:
        lines = [line.strip() for line in _contents(file, root).decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not text (byte {error.start})", _how_to_get(root)) from None
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        raise DatasetError(f"{file} is empty", _how_to_get(root))
    if "" in lines:
        raise DatasetError(f"{file}, line {lines.index('') + 1}: the line is blank", _how_to_get(root))
    return lines


def _image_paths(file: Path, root: Path) -> list[str]:
    """The paths of an image list, with backslashes replaced by slashes: `actor/0001_2124494179.jpg`."""
    paths = [line.replace("\\", "/") for line in _lines(file, root)]
    first: dict[str, int] = {}
    for number, path in enumerate(paths, start=1):
        if first.setdefault(path, number) != number:
            raise DatasetError(
                f"{file}: {path} is listed twice, in lines {first[path]} and {number}", _how_to_get(root)
            )
    return paths


def _read_rows(root: Path, name: str, row_of: dict[str, int]) -> NDArray[np.int64]:
    """The rows of Imagelist.txt that the train or test list names."""
    file = root / "ImageList" / name
    rows: list[int] = []
    for number, path in enumerate(_image_paths(file, root), start=1):
        if path not in row_of:
            raise DatasetError(f"{file}, line {number}: {path} is not in Imagelist.txt", _how_to_get(root))
        rows.append(row_of[path])
    return np.array(rows, dtype=np.int64)


def _read_labels(file: Path, n: int, image_list: Path, root: Path) -> NDArray[np.int8]:
    """Read the file of one concept, which has a 0 or 1 in each line: int8 [n].

    The usual files (each line is a digit and the same line end) are read as one array of bytes: 81 of them take a
    fraction of a second, while line by line they take minutes. `_read_labels_slowly` reads any other file.
    """
    content = _contents(file, root)
    for end in (b"\n", b"\r\n"):
        padded = content if content.endswith(end) else content + end
        if len(padded) == n * (1 + len(end)):
            cells = np.frombuffer(padded, dtype=np.uint8).reshape(n, 1 + len(end))
            values = cells[:, 0] - np.uint8(ord("0"))
            if (cells[:, 1:] == np.frombuffer(end, dtype=np.uint8)).all() and (values <= 1).all():
                return values.astype(np.int8)
    return _read_labels_slowly(file, content, n, image_list, root)


def _read_labels_slowly(file: Path, content: bytes, n: int, image_list: Path, root: Path) -> NDArray[np.int8]:
    """Read a label file with blanks around its digits; an error says what is wrong with it."""
    lines = [line.strip() for line in content.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    for number, line in enumerate(lines, start=1):
        if line not in (b"0", b"1"):
            shown = line[:20].decode("utf-8", "replace")
            raise DatasetError(f"{file}, line {number}: {shown!r} is neither 0 nor 1", _how_to_get(root))
    if len(lines) != n:
        raise DatasetError(
            f"{file} has {len(lines)} lines, but {image_list} names {n} images",
            "Unpack both again; one may be cut off.",
        )
    return np.array([line == b"1" for line in lines], dtype=np.int8)
