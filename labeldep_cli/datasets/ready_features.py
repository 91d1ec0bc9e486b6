"""A user's own features of any modality: an `.npz` or `.h5` with `X`, `Y`, `label_names` and, optionally, `split`."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt, combined
from labeldep_cli.datasets.doubts.names import columns_doubt
from labeldep_cli.datasets.doubts.values import MINUS_ONE, ValueCounts, values_doubt
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split_words import read_splits
from labeldep_cli.errors import DatasetError

FORM = "Ready features are X [N, F], Y [N, L], label_names [L] and, optionally, split [N]."

ARRAYS = ("X", "Y", "label_names", "split", "group", "fold", "minus_one")
"""The arrays that are read."""

_BLOCK = (
    4096  # rows that are looked at together: with 10,000 labels a table of all rows in 64 bits would take gigabytes
)


@dataclass(frozen=True)
class ReadyFeatures:
    """Checked features of N rows.

    Attributes:
        features: float32 [N, F], all finite.
        labels: int8 [N, L] in {0, 1, -1}.
        label_names: the L labels.
        splits: the split name of each row; None if the file names no splits.
        groups: the group of each row; None if the file names no groups.
        folds: the fold of each row; None if the file has no folds.
        ignored: the arrays of the file that are not read.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    label_names: tuple[str, ...]
    splits: tuple[str, ...] | None
    groups: tuple[str, ...] | None = None
    folds: tuple[int, ...] | None = None
    ignored: tuple[str, ...] = ()


def read(file: Path) -> ReadyFeatures:
    """Read and check an `.npz` (pickles in it are refused) or an `.h5`.

    `minus_one`, a text, says "unknown" if it is settled that -1 in Y means an unknown label.

    Raises:
        DatasetError: the file is unreadable, lacks an array, an array has a wrong shape, type or value, or the file
            leaves a question open; the remedy is the command that answers it.
    """
    arrays, present = read_arrays(file, ARRAYS)
    if not {"X", "Y", "label_names"} <= arrays.keys():
        raise _missing_doubt(arrays, present).error(file)
    if arrays["Y"].ndim == 1 and len(arrays["label_names"]) == 1:
        arrays["Y"] = arrays["Y"][:, None]
    return replace(_checked(file, arrays), ignored=tuple(key for key in present if key not in ARRAYS))


def read_rows(file: Path) -> Rows:
    """The same as rows of a data set, which are named row-0, row-1, ...

    Raises:
        DatasetError: as `read` does.
    """
    loaded = read(file)
    return Rows(
        [f"row-{row}" for row in range(len(loaded.features))],
        loaded.labels,
        loaded.label_names,
        loaded.splits,
        loaded.features,
        groups=loaded.groups,
        folds=loaded.folds,
        ignored=loaded.ignored,
    )


def read_arrays(file: Path, wanted: Collection[str]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The wanted arrays of an `.npz` or `.h5`, by name, unchecked; and the names of all its arrays.

    Raises:
        DatasetError: the file is unreadable, or holds Python objects.
    """
    if file.suffix.lower() != ".npz":
        from labeldep_cli.datasets import hdf5_features  # imports h5py

        return hdf5_features.read_arrays(file, wanted)
    remedy = "Write it again with numpy.savez."
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DatasetError(f"{file} is not an npz archive", remedy)
        with archive:
            return {key: archive[key] for key in archive.files if key in wanted}, tuple(archive.files)
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DatasetError(
                f"{file} holds Python objects (a pickle), which labeldep does not load",
                "Save label_names and split as arrays of strings: numpy.array(names, dtype=str).",
            ) from None
        raise DatasetError(f"{file} cannot be read: {error}", remedy) from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}", remedy) from None


def _checked(file: Path, arrays: Mapping[str, NDArray[Any]]) -> ReadyFeatures:
    x, y = arrays["X"], arrays["Y"]
    _check_shapes(file, arrays)
    _require_texts(file, arrays)
    names = texts_of(file, "label_names", arrays["label_names"])
    settled = "minus_one" in arrays and str(arrays["minus_one"]) == "unknown"
    doubts = [_odd_values_doubt(y), columns_doubt(names)]
    if not settled and doubts[0] is None and (y == -1).any():
        codes = np.where(y == -1, MINUS_ONE, y).astype(np.uint8)
        doubts.append(values_doubt(names, ValueCounts.of(codes)))
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes inf, which is an error below
        features = np.ascontiguousarray(x, dtype=np.float32)
    _require_finite(file, x, features)
    if (doubt := combined(doubts)) is not None:
        raise doubt.error(file)
    splits = None
    if "split" in arrays:
        splits = read_splits(file, "split", texts_of(file, "split", arrays["split"]), lambda row: f"split[{row}]")
    return ReadyFeatures(
        features,
        y.astype(np.int8, copy=False),
        names,
        None if splits is None else tuple(splits),
        tuple(map(str, arrays["group"].tolist())) if "group" in arrays else None,
        tuple(map(int, arrays["fold"].tolist())) if "fold" in arrays else None,
    )


def _missing_doubt(arrays: Mapping[str, NDArray[Any]], present: Collection[str]) -> Doubt:
    """What to do with a file that lacks an array."""
    missing = [key for key in ("X", "Y", "label_names") if key not in arrays]
    what = f"it has no {', '.join(missing)}; it has {', '.join(present) or 'nothing'}"
    answers: tuple[Answer, ...] = ()
    if missing == ["label_names"] and arrays["Y"].ndim == 2:
        flags = {"label_names": tuple(f"NAME{k + 1}" for k in range(arrays["Y"].shape[1]))}
        answers = (Answer("With the names of labels in order, in place of NAME1, NAME2", flags),)
    elif {"x", "y"} <= {key.lower() for key in present}:
        answers = (TO_IMPORT,)
    return Doubt(what, answers, FORM)


def _require_texts(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    for key, answer in (
        ("label_names", Answer("To take the numbers as names", {})),
        ("split", Answer("To draw the splits anew", {"ignore_columns": ("split",)})),
    ):
        if key in arrays and arrays[key].dtype.kind in "iu":
            what = f"{key} is {arrays[key].dtype}, not text"
            raise Doubt(what, (answer,), "Or save it as numpy.array(names, dtype=str).").error(file)


def _odd_values_doubt(y: NDArray[Any]) -> Doubt | None:
    """Ask about values of Y that are not 1, 0 or -1."""
    place, odd = "", y[:0].ravel()
    for start in range(0, len(y), _BLOCK):
        block = y[start : start + _BLOCK]
        bad = (block != 0) & (block != 1) & (block != -1)
        if not bad.any():
            continue
        if not place:
            row, column = np.argwhere(bad)[0]
            place, value = f"Y[{start + row}, {column}]", block[row, column]
        odd = np.unique(np.concatenate([odd, block[bad]]))
    if not place:
        return None
    otherwise = "Y holds 1 (present), 0 (absent) or -1 (unknown)."
    meanings = ("absent", "unknown")
    if y.dtype.kind == "f" and np.isnan(odd).all():
        answers = tuple(Answer(f"If nan means {meaning}", {"blank": meaning}) for meaning in meanings)
        return Doubt(f"{place} is nan", answers, otherwise)
    if y.dtype == np.uint8 and (odd == np.uint8(255)).all():
        answers = tuple(Answer(f"If 255 is -1 and means {meaning}", {"minus_one": meaning}) for meaning in meanings)
        return Doubt(f"{place} is 255, which may be -1 as an unsigned number", answers, otherwise)
    return Doubt(f"{place} is {value}", (), otherwise)


def _require_finite(file: Path, x: NDArray[Any], features: NDArray[np.float32]) -> None:
    """Refuse values that are not finite in float32."""
    finite = [np.isfinite(features[start : start + _BLOCK]).all(axis=1) for start in range(0, len(features), _BLOCK)]
    not_finite = np.flatnonzero(~np.concatenate(finite)) if finite else np.empty(0, dtype=np.int64)
    if len(not_finite) == 0:
        return
    answers = [Answer("To leave these rows out", {"drop_broken": True})]
    if np.isfinite(x).all():
        answers.append(Answer("To bring each feature to mean 0 and deviation 1", {"standardize": True}))
    raise Doubt(
        f"X has NaN or infinite values in {len(not_finite)} of {len(x)} rows, first in row {not_finite[0]}",
        tuple(answers),
        "Or correct them (they are counted from 0; X is used as float32).",
    ).error(file)


def _check_shapes(file: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    x, y, names = arrays["X"], arrays["Y"], arrays["label_names"]
    shapes = f"X {list(x.shape)}, Y {list(y.shape)}, label_names {list(names.shape)}"
    if x.ndim != 2 or y.ndim != 2 or names.ndim != 1 or len(x) != len(y) or y.shape[1] != len(names):
        turned = " Y is transposed: save Y.T." if y.shape == (names.size, len(x)) else ""
        raise DatasetError(f"{file}: the shapes do not fit: {shapes}", FORM + turned)
    if x.shape[1] == 0:
        raise DatasetError(f"{file}: X has no columns: {shapes}", "Give each row at least one feature.")
    if x.dtype.kind not in "fiu" or y.dtype.kind not in "fiub":
        raise DatasetError(f"{file}: X is {x.dtype} and Y {y.dtype}, not numbers", "X is float32, Y int8.")
    for key in ("split", "group", "fold"):
        if key in arrays and arrays[key].shape != (len(x),):
            shape = list(arrays[key].shape)
            raise DatasetError(f"{file}: {key} has the shape {shape} for {len(x)} rows", f"Name one {key} a row.")
    if "fold" in arrays and arrays["fold"].dtype.kind not in "iu":
        raise DatasetError(f"{file}: fold is {arrays['fold'].dtype}, not whole numbers", "Count folds from 0.")


def texts_of(file: Path, key: str, values: NDArray[Any]) -> tuple[str, ...]:
    """An array of text, or of UTF-8 bytes, as strings without blanks around them.

    Raises:
        DatasetError: the array holds something else.
    """
    remedy = "Save it as numpy.array(names, dtype=str)."
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise DatasetError(f"{file}: {key} is not UTF-8", remedy) from None
    if values.dtype.kind != "U":
        raise DatasetError(f"{file}: {key} is {values.dtype}, not text", remedy)
    return tuple(str(value).strip() for value in values)
