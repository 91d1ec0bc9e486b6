"""A user's own features in HDF5."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.hdf5_header import require_sound
from labeldep_cli.errors import DatasetError

_TEXTS = ("label_names", "split", "group", "minus_one")
"""Arrays of text, which HDF5 stores as bytes or objects."""


def read_arrays(path: Path, wanted: Collection[str]) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Read a user's own features from HDF5.

    Args:
        path: the file.
        wanted: the names of the arrays to read.

    Returns:
        The wanted arrays that the file has, as they are stored, for the caller to check; those with text as arrays of
        strings. And the names of all that it has.

    Raises:
        DatasetError: the file is not an HDF5 file, or something else has the name of an array; else as `require_sound`.
    """
    require_sound(path, wanted, _TEXTS)
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: _texts(file[name]) if name in _TEXTS else file[name][:] for name in file if name in wanted}
            return arrays, tuple(file)
    except (OSError, RuntimeError, KeyError) as error:
        raise DatasetError(
            f"{path} is not a readable HDF5 file (truncated, or another format)", "Write the file again."
        ) from error
    except (TypeError, ValueError) as error:  # a group or a single number instead of an array; names not in UTF-8
        raise DatasetError(
            f"{path} does not hold the expected arrays: {error}",
            "It needs X [N, F], Y [N, L] and label_names [L] in UTF-8, and optionally split [N].",
        ) from error


def _texts(stored: Any) -> NDArray[Any]:  # noqa: ANN401 - h5py is untyped
    values = np.asarray(stored[()])
    texts = [value.decode() if isinstance(value, bytes) else str(value) for value in values.reshape(-1)]
    return np.array(texts, dtype=str).reshape(values.shape)
