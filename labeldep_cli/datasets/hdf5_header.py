"""Looks into an HDF5 file of a stranger in a process of its own, which a broken or hostile file may spin or kill.

HDF5's C library trusts what it reads: a few changed bytes make it loop for ever or ask for terabytes. So another
process, with bounds on time and memory, first reads all of the file but its numbers.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from labeldep_cli.errors import DatasetError

SECONDS = 15.0
"""Maximum time for the header of a file; one with 100,000 chunks takes less than a second."""

_MEMORY = 4 * 2**30  # of the address space, of which Python, numpy and h5py take a part
_MOST_EXPANDED = 1100  # bytes for one in the file; gzip reaches 1,032
_KNOWN_FILTERS = range(1, 32000)  # HDF5's own have small numbers; from 32000 on they are plugins
_BEGIN = "import sys; sys.path = {path!r}; from labeldep_cli.datasets.hdf5_header import main; main()"


def require_sound(path: Path, wanted: Collection[str], texts: Collection[str]) -> None:
    """Refuse a file whose wanted arrays could take this process down when they are read.

    Args:
        path: the file.
        wanted: the names of the arrays.
        texts: those of them that hold text; they are small and are read as a trial.

    Raises:
        DatasetError: the header is broken, an array lies in another file, needs a plugin, or declares far more bytes
            than the file can hold.
    """
    remedy = "Write the file again."
    code = _BEGIN.format(path=sys.path)
    line = [sys.executable, "-I", "-c", code, str(path), json.dumps([*wanted]), json.dumps([*texts])]
    try:
        done = subprocess.run(line, capture_output=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DatasetError(f"{path} is a broken HDF5 file: reading it does not end", remedy) from None
    if done.returncode < 0 or b"MemoryError" in done.stderr:
        raise DatasetError(f"{path} is a broken HDF5 file: it ends the process that reads it", remedy)
    if done.returncode > 0:
        return  # an error that h5py tells: the caller meets it again, and tells it
    size = path.stat().st_size
    for name, found in json.loads(done.stdout).items():
        if found.get("elsewhere"):
            raise DatasetError(
                f"{path}: {name} is {found['elsewhere']}: its values lie in another place",
                f"Write its values into the file: file.create_dataset({name!r}, data=values)",
            )
        if plugins := [number for number in found.get("filters", ()) if number not in _KNOWN_FILTERS]:
            raise DatasetError(
                f"{path}: {name} needs plugin {plugins[0]} of HDF5 to be unpacked",
                f"Write it with compression='gzip', or without: file.create_dataset({name!r}, data=values)",
            )
        if found.get("bytes", 0) > _MOST_EXPANDED * size:
            raise DatasetError(
                f"{path}: {name} declares {found['bytes'] / 1e9:,.1f} GB, but the file has {size / 1e6:,.1f} MB", remedy
            )


def main() -> None:
    """The other process: print what the wanted arrays declare, as JSON."""
    path, wanted, texts = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on Windows; a lower bound holds already
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    import h5py

    with h5py.File(path, "r") as file:
        sys.stdout.write(json.dumps({name: _declared(file, name, name in texts) for name in file if name in wanted}))


def _declared(file: Any, name: str, is_text: bool) -> dict[str, Any]:  # noqa: ANN401 - h5py is untyped
    import h5py

    if isinstance(file.get(name, getlink=True), h5py.ExternalLink):
        return {"elsewhere": "a link to another file"}
    item = file[name]
    if not isinstance(item, h5py.Dataset):
        return {}
    if item.is_virtual or item.external:
        return {"elsewhere": "a virtual data set" if item.is_virtual else "in external storage"}
    settings = item.id.get_create_plist()
    if item.chunks and hasattr(item.id, "chunk_iter"):
        item.id.chunk_iter(lambda chunk: None)
    if is_text:
        item[()]
    filters = [settings.get_filter(k)[0] for k in range(settings.get_nfilters())]
    return {"bytes": int(item.size or 0) * item.dtype.itemsize, "filters": filters}
