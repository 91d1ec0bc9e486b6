"""Ready features with a question open: values of labels, names, rows that cannot be used, values far out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.doubts.doubt import Answer, Doubt
from labeldep_cli.datasets.doubts.values import BLANK, MINUS_ONE, ValueCounts, values_doubt
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.ready_features import ARRAYS, FORM, read_arrays, texts_of
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split_words import read_splits
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import atomic_write
from labeldep_cli.ingest.again import question
from labeldep_cli.ingest.foreign import Foreign

_ALSO = {"x": "X", "y": "Y", "classes": "label_names", "names": "label_names", "labels": "label_names"}
"""Other names of the arrays."""

_OUTLIER = 1000.0
"""Deviations from the median beyond which a value is taken for an error."""


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read an `.npz` or `.h5` of features.

    Raises:
        DatasetError: an array is missing or has a wrong shape or value, or a question is open.
    """
    arrays, present = _arrays(source, config)
    x, understood = np.asarray(arrays["X"], np.float64), []
    labels = _labels(source, arrays, config)
    rows = Rows(
        [f"row-{row}" for row in range(len(x))],
        labels,
        _names(source, arrays, config),
        _splits(source, arrays, config),
        groups=list(map(str, arrays["group"].tolist())) if "group" in arrays else None,
        folds=arrays["fold"].tolist() if "fold" in arrays else None,
        ignored=tuple(key for key in present if _ALSO.get(key, key) not in ARRAYS),
    )
    with np.errstate(over="ignore"):
        kept = np.isfinite(x if config.standardize else x.astype(np.float32)).all(axis=1)
    if not kept.all() and config.drop_broken:
        understood.append(f"rows with NaN or infinite features, left out: {int((~kept).sum())} of {len(x)}")
        rows, x = _rows_of(rows, np.flatnonzero(kept)), x[kept]
    rows = _without(source, rows, config.ignore_columns)
    if config.standardize:
        is_train = np.array([split == "train" for split in rows.splits]) if rows.splits else np.ones(len(x), np.bool_)
        x, sentence = standardized(x, is_train)
        understood.append(sentence)
    with np.errstate(over="ignore"):
        features = x.astype(np.float32)
    _require_usable(source, features, config)
    return Foreign(replace(rows, features=features), source.parent, tuple(understood))


def write(rows: Rows, out: Path) -> None:
    """Write ready features as an `.npz` that every command reads without a question.

    Raises:
        StorageError: the file cannot be written.
    """
    optional = {"split": rows.splits, "group": rows.groups, "fold": rows.folds}
    arrays: dict[str, Any] = {"X": rows.features, "Y": rows.labels, "label_names": np.array(rows.names, dtype=str)}
    arrays |= {key: np.array(value) for key, value in optional.items() if value is not None}
    if (rows.labels == UNKNOWN).any():
        arrays["minus_one"] = np.array("unknown")
    with atomic_write(out) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def standardized(x: NDArray[np.float64], is_train: NDArray[np.bool_]) -> tuple[NDArray[np.float64], str]:
    """Bring each feature to mean 0 and deviation 1 over the training rows.

    A value more than 1000 robust deviations (1.4826 times the median distance from the median) away from the median is
    an error of measurement: it becomes the median. A feature with one value in most rows has no such deviation, and is
    not cleaned.

    Args:
        x: float64 [N, F].
        is_train: bool [N], the rows to take mean and deviation from.

    Returns:
        float64 [N, F], and what was done, in a sentence.
    """
    median = np.median(x[is_train], axis=0)
    distance = np.abs(x - median)
    deviation = 1.4826 * np.median(distance[is_train], axis=0)
    outlying = (distance > _OUTLIER * deviation) & (deviation > 0)
    cleaned = np.where(outlying, median, x)
    mean, spread = cleaned[is_train].mean(axis=0), cleaned[is_train].std(axis=0)
    told = f"; {int(outlying.sum())} values were far out, and became the median" if outlying.any() else ""
    of_train = "" if is_train.all() else " over train"
    scaled = (cleaned - mean) / np.where(spread > 0, spread, 1.0)
    return scaled, f"each feature has mean 0 and deviation 1{of_train}{told}"


def _arrays(source: Path, config: ImportConfig) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The arrays by their own names, with shapes that fit; and the names of all in the file."""
    found, present = read_arrays(source, (*ARRAYS, *_ALSO))
    arrays = {_ALSO[key]: value for key, value in found.items() if key in _ALSO}
    arrays |= {key: value for key, value in found.items() if key in ARRAYS}
    missing = [key for key in ("X", "Y") if key not in arrays]
    if missing:
        raise DatasetError(f"{source} has no {' and no '.join(missing)}; it has {', '.join(present)}", FORM)
    x, y = arrays["X"], arrays["Y"]
    if y.ndim == 1:
        y = arrays["Y"] = y[:, None]
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or x.dtype.kind not in "fiu" or y.dtype.kind not in "fiub":
        turned = " Y is transposed: save Y.T." if y.ndim == 2 and y.shape[1] == len(x) else ""
        raise DatasetError(
            f"{source}: X {x.dtype} {list(x.shape)} and Y {y.dtype} {list(y.shape)} do not fit", FORM + turned
        )
    for key in ("split", "group", "fold"):
        if key in arrays and arrays[key].shape != (len(x),):
            raise DatasetError(f"{source}: {key} has the shape {list(arrays[key].shape)} for {len(x)} rows", FORM)
    return arrays, present


def _names(source: Path, arrays: Mapping[str, NDArray[Any]], config: ImportConfig) -> tuple[str, ...]:
    n = arrays["Y"].shape[1]
    stored = arrays.get("label_names")
    if config.label_names:
        names = config.label_names
    elif stored is None:
        flags = {"label_names": tuple(f"NAME{k + 1}" for k in range(n))}
        answer = Answer("With their names in order, in place of NAME1, NAME2", flags)
        raise question(Doubt(f"it has no names for its {n} labels", (answer,)), source, config)
    elif stored.dtype.kind in "iu":
        names = tuple(map(str, stored.tolist()))
    else:
        names = texts_of(source, "label_names", stored)
    if len(names) != n:
        raise DatasetError(f"{source}: {len(names)} names for {n} labels", "Name each label once, in order.")
    return names


def _splits(source: Path, arrays: Mapping[str, NDArray[Any]], config: ImportConfig) -> list[str] | None:
    if "split" not in arrays or "split" in config.ignore_columns:
        return None
    return read_splits(source, "split", texts_of(source, "split", arrays["split"]), lambda row: f"split[{row}]")


def _labels(source: Path, arrays: Mapping[str, NDArray[Any]], config: ImportConfig) -> NDArray[np.int8]:
    """Y in {0, 1, -1}, where -1 is unknown beyond doubt.

    Raises:
        DatasetError: Y has other values, or it is open what -1, 255 or nan mean.
    """
    y = arrays["Y"]
    codes = np.full(y.shape, BLANK, np.uint8)
    for code, value in ((1, 1), (0, 0), (MINUS_ONE, 255 if y.dtype == np.uint8 else -1)):
        codes[y == value] = code
    odd = np.argwhere((codes == BLANK) & (y == y))  # nan is the only value that differs from itself
    if len(odd):
        row, column = odd[0]
        raise DatasetError(
            f"{source}: Y[{row}, {column}] is {y[row, column]}", "Y holds 1 (present), 0 (absent) or -1 (unknown)."
        )
    settled = "minus_one" in arrays and str(arrays["minus_one"]) == "unknown"
    meaning = {MINUS_ONE: config.minus_one or ("unknown" if settled else None), BLANK: config.blank}
    for code, meant in meaning.items():
        if meant == "absent":
            codes[codes == code] = 0
        elif meant == "unknown":
            codes[codes == code] = 255
    ignored = np.isin(_names(source, arrays, config), config.ignore_columns)
    names = [name for name, leave_out in zip(_names(source, arrays, config), ignored, strict=True) if not leave_out]
    doubt = values_doubt(names, ValueCounts.of(codes[:, ~ignored]))
    if doubt is not None:
        raise question(doubt, source, config)
    return np.maximum(codes.view(np.int8), np.int8(UNKNOWN))


def _without(source: Path, rows: Rows, ignored: tuple[str, ...]) -> Rows:
    """Rows without some of their labels."""
    kept = [k for k, name in enumerate(rows.names) if name not in ignored]
    if not kept:
        raise DatasetError(f"{source}: no label is left", "Name fewer with --ignore-columns.")
    left_out = tuple(name for name in rows.names if name in ignored)
    names = [rows.names[k] for k in kept]
    return replace(rows, labels=rows.labels[:, kept], names=names, ignored=(*rows.ignored, *left_out))


def _rows_of(rows: Rows, kept: NDArray[np.int64]) -> Rows:
    chosen: dict[str, Any] = {
        field: [value[row] for row in kept]
        for field in ("paths", "splits", "groups", "folds")
        if (value := getattr(rows, field)) is not None
    }
    return replace(rows, labels=rows.labels[kept], **chosen)


def _require_usable(source: Path, features: NDArray[np.float32], config: ImportConfig) -> None:
    broken = int((~np.isfinite(features).all(axis=1)).sum())
    if broken:
        answer = Answer("To leave these rows out", {"drop_broken": True})
        doubt = Doubt(f"X has NaN or infinite values in {broken} of {len(features)} rows", (answer,))
        raise question(doubt, source, config)
