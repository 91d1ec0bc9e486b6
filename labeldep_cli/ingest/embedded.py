"""Write images that a foreign source has within itself."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from labeldep_cli.errors import DatasetError
from labeldep_cli.files import make_folder, storing


def write_images(images: Iterable[tuple[str, bytes]], folder: Path) -> int:
    """Write images as files. One that is there already is compared, and not written again.

    Args:
        images: names and bytes.
        folder: is made.

    Returns:
        The number of files that were written.

    Raises:
        DatasetError: a file of that name has other bytes; or the source cannot be read.
        StorageError: a file cannot be written.
    """
    make_folder(folder)
    written = 0
    for name, content in images:
        path = folder / name
        with storing(path):
            if path.is_file():
                if path.read_bytes() != content:
                    raise DatasetError(
                        f"{path} is there and has other bytes than the image of this name",
                        "Move it away, or write elsewhere with --out.",
                    )
                continue
            temporary = path.with_name(f".{name}.writing")  # a kill leaves no half of an image under its name
            temporary.write_bytes(content)
            temporary.replace(path)
            written += 1
    return written
