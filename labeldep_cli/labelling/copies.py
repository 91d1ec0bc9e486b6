"""`--annotate DIR`: where the annotated copies are written; no copy overwrites an image."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from labeldep_cli.datasets.split import Skipped
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.images import UnreadableImage
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.files import make_folder
from labeldep_cli.labelling.prediction import Prediction
from labeldep_cli.reports.annotate import annotate


class Copies:
    """Annotated copies of images, in a folder with the same subfolders as the images.

    The path of a copy in this folder is the path of its image relative to the lowest folder that contains all images.
    If the images are not known in advance, it is relative to the working directory, or for images outside of it, to
    the root directory.

    Args:
        folder: the folder of the copies; created if it is missing.
        paths: the paths of all images, or None if they are not known in advance.

    Raises:
        LabeldepError: an image lies in the folder of the copies.
        StorageError: the folder cannot be created.
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
        """The path of an image's copy. An image that is neither JPEG nor PNG gets a JPEG copy: `scan.tif.jpg`."""
        absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute keeps `..`, resolve follows links
        relative = absolute.relative_to(self._base if self._base in absolute.parents else absolute.anchor)
        if relative.suffix.lower() in (".jpg", ".jpeg", ".png"):
            return self.folder / relative
        name = f"{relative.name}.jpg"
        while absolute.with_name(name).exists():  # another image, whose copy gets this name
            name = f"{name.removesuffix('.jpg')}.copy.jpg"
        return self.folder / relative.with_name(name)

    def write(self, prediction: Prediction, rules: PixelRules) -> Prediction | Skipped:
        """Write the copy of a labelled image, read by the rules that it was labelled by.

        Returns:
            The prediction, or the reason why there is no copy: the image can no longer be read.

        Raises:
            LabeldepError: the image lies in the folder of the copies.
            StorageError: the copy cannot be written.
        """
        self._require_outside(prediction.path)
        copy = self.place(prediction.path)
        make_folder(copy.parent)
        try:
            annotate(Path(prediction.path), rules, prediction.labels, copy)
        except UnreadableImage as unreadable:
            return Skipped(prediction.path, unreadable.reason.text)
        return prediction

    def _require_outside(self, path: str) -> None:
        if self._inside in Path(os.path.realpath(path)).parents:
            raise LabeldepError(
                f"the image {path} lies in {self.folder}, where --annotate writes its copies",
                "Name a folder that contains none of the images: --annotate DIR",
            )
