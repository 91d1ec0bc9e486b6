"""HDF5 files of strangers: what lies elsewhere, declares too much, spins or kills ends in an error, not in a hang."""

from __future__ import annotations

import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from labeldep_cli.datasets import hdf5_header, ready_features
from labeldep_cli.errors import DatasetError

Y = np.eye(12, 3, dtype=np.int8)
X = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A sound file, packed as people pack them."""
    path = tmp_path / "rows.h5"
    with h5py.File(path, "w") as out:
        out.create_dataset("X", data=X, chunks=(4, 5), compression="gzip", shuffle=True)
        out["Y"] = Y
        out["label_names"] = ["a", "b", "c"]
    return path


def refused(path: Path) -> DatasetError:
    with pytest.raises(DatasetError) as error:
        ready_features.read(path)
    return error.value


def test_a_sound_file_is_read(file: Path) -> None:
    found = ready_features.read(file)
    assert np.array_equal(found.features, X) and np.array_equal(found.labels, Y)
    assert found.label_names == ("a", "b", "c")


def test_values_that_lie_elsewhere(file: Path, tmp_path: Path) -> None:
    """A file that is handed on must not read other files of who opens it."""
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["X"] = X
    layout = h5py.VirtualLayout(X.shape, X.dtype)
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "X", X.shape)
    (tmp_path / "raw.bin").write_bytes(X.tobytes())
    for word in ("link", "virtual", "external"):
        with h5py.File(file, "a") as out:
            del out["X"]
            if word == "link":
                out["X"] = h5py.ExternalLink(tmp_path / "other.h5", "X")
            elif word == "virtual":
                out.create_virtual_dataset("X", layout)
            else:
                out.create_dataset("X", X.shape, X.dtype, external=[(str(tmp_path / "raw.bin"), 0, X.nbytes)])
        error = refused(file)
        assert word in error.what and "lie in another place" in error.what
        assert "create_dataset('X'" in error.remedy


def test_more_than_the_file_can_hold(file: Path) -> None:
    with h5py.File(file, "a") as out:
        del out["X"]
        out.create_dataset("X", (10**9, 1000), np.float32, chunks=(1000, 1000), compression="gzip")
    assert "X declares 4,000.0 GB, but the file has 0.0 MB" in refused(file).what


def test_a_plugin(file: Path) -> None:
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk((4, 5))
    settings.set_filter(32015, h5py.h5z.FLAG_OPTIONAL)
    with h5py.File(file, "a") as out:
        del out["X"]
        h5py.h5d.create(out.id, b"X", h5py.h5t.NATIVE_FLOAT, h5py.h5s.create_simple(X.shape), settings)
    assert "needs plugin 32015" in refused(file).what


@pytest.mark.parametrize(
    ("does", "what"),
    [
        ("import time; time.sleep(60)", "reading it does not end"),
        ("import os; os.kill(os.getpid(), 9)", "it ends the process that reads it"),
        ("raise MemoryError", "it ends the process that reads it"),
    ],
)
def test_a_file_that_takes_its_reader_down(file: Path, does: str, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5_header, "SECONDS", 1.0)
    monkeypatch.setattr(hdf5_header, "_BEGIN", does)
    begun = time.monotonic()
    assert what in refused(file).what
    assert time.monotonic() - begun < 20


def test_no_mutant_escapes(file: Path, tmp_path: Path) -> None:
    """Bytes are changed, most of them in what is not numbers: each is read, or an error that names the file."""
    sound, draws = file.read_bytes(), np.random.default_rng(0)
    refusals = 0
    for number in range(25):
        changed = bytearray(sound)
        for place in draws.integers(len(sound), size=8):
            changed[place] = draws.integers(256)
        mutant = tmp_path / f"{number}.h5"
        mutant.write_bytes(changed)
        try:
            assert len(ready_features.read(mutant).features) >= 0
        except DatasetError as error:
            refusals += 1
            assert str(mutant) in error.what and error.remedy
    assert refusals > 5
