"""A user's own features of any modality: an `.npz` or `.h5` with `X`, `Y`, `label_names` and, optionally, `split`."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split import SPLITS, unknown_split
from labeldep_cli.errors import DatasetError

_FORM = "Ready features are X [N, F], Y [N, L], label_names [L] and, optionally, split [N]."


@dataclass(frozen=True)
class ReadyFeatures:
    """Checked features of N rows.

    Attributes:
        features: float32 [N, F], all finite.
        labels: int8 [N, L] in {0, 1, -1}.
        label_names: the L labels.
        splits: the split name of each row; None if the file names no splits.
    """

    features: NDArray[np.float32]
    labels: NDArray[np.int8]
    label_names: tuple[str, ...]
    splits: tuple[str, ...] | None


def read(file: Path) -> ReadyFeatures:
    """Read and check an `.npz` (pickles in it are refused) or an `.h5`.

    Raises:
        DatasetError: the file is unreadable, lacks an array, or an array has a wrong shape, type or value.
    """
    if file.suffix.lower() == ".npz":
        return _checked(file, *_read_npz(file))
    from labeldep_cli.datasets.hdf5_features import read_ready_features  # imports h5py

    x, y, names, split = read_ready_features(file)
    return _checked(file, x, y, np.array(names, dtype=str), None if split is None else np.array(split, dtype=str))


def read_rows(file: Path) -> Rows:
    """The same as rows of a data set, which are named row-0, row-1, ...

    Raises:
        DatasetError: as `read` does.
    """
    loaded = read(file)
    names = [f"row-{row}" for row in range(len(loaded.features))]
    return Rows(names, loaded.labels, loaded.label_names, loaded.splits, loaded.features)


def _read_npz(file: Path) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any] | None]:
    remedy = "Write it again with numpy.savez."
    try:
        archive = np.load(file, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise DatasetError(f"{file} is not an npz archive", remedy)
        with archive:
            for key in ("X", "Y", "label_names"):
                if key not in archive.files:
                    present = ", ".join(archive.files) or "none"
                    raise DatasetError(f"{file} has no array {key!r}; it has {present}", _FORM)
            split = archive["split"] if "split" in archive.files else None
            return archive["X"], archive["Y"], archive["label_names"], split
    except ValueError as error:
        if "allow_pickle" in str(error):
            raise DatasetError(
                f"{file} holds Python objects (a pickle), which labeldep does not load",
                "Save label_names and split as arrays of strings: numpy.array(names, dtype=str).",
            ) from None
        raise DatasetError(f"{file} cannot be read: {error}", remedy) from None
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError) as error:
        raise DatasetError(f"{file} cannot be read: {error}", remedy) from None


def _checked(
    file: Path, x: NDArray[Any], y: NDArray[Any], names: NDArray[Any], split: NDArray[Any] | None
) -> ReadyFeatures:
    _check_shapes(file, x, y, names, split)
    bad = np.argwhere(~np.isin(y, (-1, 0, 1)))
    if len(bad):
        row, column = bad[0]
        raise DatasetError(
            f"{file}: Y[{row}, {column}] is {y[row, column]}", "Y holds 1 (present), 0 (absent) or -1 (unknown)."
        )
    splits = None if split is None else _strings(file, "split", split)
    for row, value in enumerate(splits or ()):
        if value not in SPLITS:
            raise unknown_split(file, f"split[{row}]", value)
    with np.errstate(over="ignore"):  # a float64 beyond float32's range becomes inf, which is an error below
        features = np.ascontiguousarray(x, dtype=np.float32)
    finite = [np.isfinite(features[start : start + 4096]).all(axis=1) for start in range(0, len(features), 4096)]
    not_finite = np.flatnonzero(~np.concatenate(finite)) if finite else np.empty(0, dtype=np.int64)
    if len(not_finite):
        raise DatasetError(
            f"{file}: X has NaN or infinite values in {len(not_finite)} of {len(x)} rows, first in row {not_finite[0]}",
            "Correct or remove these rows (they are counted from 0; X is used as float32).",
        )
    return ReadyFeatures(features, y.astype(np.int8), _strings(file, "label_names", names), splits)


def _check_shapes(
    file: Path, x: NDArray[Any], y: NDArray[Any], names: NDArray[Any], split: NDArray[Any] | None
) -> None:
    shapes = f"X {list(x.shape)}, Y {list(y.shape)}, label_names {list(names.shape)}"
    if x.ndim != 2 or y.ndim != 2 or names.ndim != 1 or len(x) != len(y) or y.shape[1] != len(names):
        raise DatasetError(f"{file}: the shapes do not fit: {shapes}", _FORM)
    if x.shape[1] == 0:
        raise DatasetError(f"{file}: X has no columns: {shapes}", "Give each row at least one feature.")
    if x.dtype.kind not in "fiu" or y.dtype.kind not in "fiub":
        raise DatasetError(f"{file}: X is {x.dtype} and Y {y.dtype}, not numbers", "X is float32, Y int8.")
    if split is not None and split.shape != (len(x),):
        raise DatasetError(
            f"{file}: split has the shape {list(split.shape)} for {len(x)} rows", "Name one split a row."
        )


def _strings(file: Path, key: str, values: NDArray[Any]) -> tuple[str, ...]:
    """An array of text, or of UTF-8 bytes, as strings."""
    remedy = "Save it as numpy.array(names, dtype=str)."
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise DatasetError(f"{file}: {key} is not UTF-8", remedy) from None
    if values.dtype.kind != "U":
        raise DatasetError(f"{file}: {key} is {values.dtype}, not text", remedy)
    return tuple(str(value).strip() for value in values)
