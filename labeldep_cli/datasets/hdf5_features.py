"""A user's own features in HDF5."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
from numpy.typing import NDArray

from labeldep_cli.errors import DatasetError


def read_ready_features(path: Path) -> tuple[NDArray[Any], NDArray[Any], tuple[str, ...], tuple[str, ...] | None]:
    """Read a user's own features from HDF5.

    Args:
        path: a file with `X` [N, F], `Y` [N, L], `label_names` [L] and optionally `split` [N].

    Returns:
        X, Y, label names, and split names or None; as stored, for the caller to check.

    Raises:
        DatasetError: the file is not an HDF5 file, or lacks one of the arrays.
    """
    try:
        with h5py.File(path, "r") as file:
            missing = [name for name in ("X", "Y", "label_names") if name not in file]
            if missing:
                raise DatasetError(
                    f"{path} holds no {', '.join(missing)}", "It needs X [N, F], Y [N, L] and label_names [L]."
                )
            split = _texts(file["split"]) if "split" in file else None
            return file["X"][:], file["Y"][:], _texts(file["label_names"]), split
    except (OSError, RuntimeError) as error:
        raise DatasetError(
            f"{path} is not a readable HDF5 file (truncated, or another format)", "Write the file again."
        ) from error
    except (TypeError, ValueError) as error:  # a group or a single number instead of an array; names not in UTF-8
        raise DatasetError(
            f"{path} does not hold the expected arrays: {error}",
            "It needs X [N, F], Y [N, L] and label_names [L] in UTF-8, and optionally split [N].",
        ) from error


def _texts(stored: Any) -> tuple[str, ...]:  # noqa: ANN401 - h5py is untyped
    return tuple(value.decode() if isinstance(value, bytes) else str(value) for value in stored[:])
