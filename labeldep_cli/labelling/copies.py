"""`--annotate DIR`: where the copies of images lie, and that none lands on an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labeldep_cli.datasets.split import Skipped
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.files import make_folder
from labeldep_cli.labelling.prediction import Prediction
from labeldep_cli.reports.annotate import annotate


class Copies:
    """Annotated copies of images, in a folder that mirrors theirs.

    A copy lies in the folder as its image does below the folder that all images share. Where they are not known from
    the start, it lies as its image does below the working directory, or else below the root.

    Args:
        folder: of the copies; made where it is missing.
        paths: of all images, or None where they are not known yet.

    Raises:
        LabeldepError: an image lies in the folder of the copies.
        StorageError: the folder cannot be made.
    """

    def __init__(self, folder: Path, paths: Sequence[str] | None) -> None:
        self.folder = folder
        self._inside = Path(os.path.realpath(folder))
        folders = {os.path.dirname(os.path.abspath(path)) for path in paths or ()}  # noqa: PTH100, PTH120 - see place
        self._base = Path(os.path.commonpath(folders)) if folders else Path.cwd()
        for path in paths or ():
            self._require_outside(path)
        make_folder(folder)

    def place(self, path: str) -> Path:
        """Where the copy of an image lies; what is neither JPEG nor PNG becomes a JPEG, `scan.tif.jpg`."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps `..`, resolve follows links
        below = absolute.relative_to(self._base if self._base in absolute.parents else absolute.anchor)
        if below.suffix.lower() in (".jpg", ".jpeg", ".png"):
            return self.folder / below
        name = f"{below.name}.jpg"
        while absolute.with_name(name).exists():  # an image of its own, whose copy has this name
            name = f"{name.removesuffix('.jpg')}.copy.jpg"
        return self.folder / below.with_name(name)

    def write(self, found: Prediction) -> Prediction | Skipped:
        """Write the copy of a labelled image.

        Returns:
            The prediction, or why it has no copy: the image has changed since it was labelled.

        Raises:
            LabeldepError: the image lies in the folder of the copies.
            StorageError: the copy cannot be written.
        """
        self._require_outside(found.path)
        copy = self.place(found.path)
        make_folder(copy.parent)
        try:
            annotate(Path(found.path), found.labels, copy)
        except UnreadableImage as unreadable:
            return Skipped(found.path, unreadable.reason.text)
        return found

    def _require_outside(self, path: str) -> None:
        if self._inside in Path(os.path.realpath(path)).parents:
            raise LabeldepError(
                f"the image {path} lies in {self.folder}, where --annotate puts its copies",
                "Name a folder that holds none of the images: --annotate DIR",
            )
