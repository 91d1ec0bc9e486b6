"""Label sets in the forms that annotation tools import, so that people can correct them there.

Each form is one JSON document, written after the last image.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TextIO
from urllib.parse import quote

import typer

from labeldep_cli.cli.show import json_line

if TYPE_CHECKING:
    from labeldep_cli.datasets.split import Skipped
    from labeldep_cli.labelling.prediction import Prediction

Tool = Literal["coco", "fiftyone", "label-studio"]

ROOT_VARIABLE = "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"
"""Label Studio's own variable: the folder that paths in /data/local-files/ start from."""

FROM_NAME, TO_NAME = "labels", "image"
"""The names of the tags `Choices` and `Image` in a project of Label Studio."""


_Document = Callable[["list[Prediction]", Path], Mapping[str, Any] | Sequence[Any]]
"""Makes the document of label sets; the folder is where relative paths start."""


class Preannotations:
    """Collects label sets and writes them for a tool.

    Args:
        tool: the tool, or the form that several tools read.
        stream: takes the document.
        folder: the folder of the document, from which paths in COCO's form start.
    """

    def __init__(self, tool: Tool, stream: TextIO, folder: Path) -> None:
        self._document = _DOCUMENTS[tool]
        self._stream, self._folder = stream, folder.absolute()
        self._predictions: list[Prediction] = []

    def add(self, prediction: Prediction) -> None:
        """Keep a label set."""
        self._predictions.append(prediction)

    def skip(self, skipped: Skipped) -> None:
        """An image without a label set has no place in the document; stderr names it."""

    def end(self) -> None:
        """Write the document."""
        typer.echo(json_line(self._document(self._predictions, self._folder)), file=self._stream)


def _names(predictions: list[Prediction]) -> list[str]:
    """All labels of the run, in order."""
    return list(predictions[0].probabilities) if predictions else []


def _coco(predictions: list[Prediction], folder: Path) -> dict[str, Any]:
    """COCO: each label is an annotation with its probability as `score`.

    Its box is the whole image, since FiftyOne drops annotations without one, and Datumaro refuses them.
    """
    names = _names(predictions)
    id_of = {name: number for number, name in enumerate(names, start=1)}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, prediction in enumerate(predictions, start=1):
        width, height = _size(prediction.path)
        file = Path(prediction.path).absolute()
        name = file.relative_to(folder) if file.is_relative_to(folder) else file
        size = {"width": width, "height": height}
        images.append({"id": image_id, "file_name": name.as_posix(), **size, "confidence": prediction.confidence})
        annotations += [
            {
                "id": len(annotations) + k,
                "image_id": image_id,
                "category_id": id_of[label],
                "bbox": [0, 0, width, height],
                "area": width * height,
                "segmentation": [],
                "iscrowd": 0,
                "score": p,
            }
            for k, (label, p) in enumerate(prediction.labels, start=1)
        ]
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in id_of.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _size(path: str) -> tuple[int, int]:
    """Width and height of an image as it is shown; only the beginning of the file is read."""
    from PIL import Image

    with Image.open(path) as image:
        turned = image.getexif().get(0x0112, 1) >= 5  # orientations that exchange width and height
        return (image.height, image.width) if turned else image.size


def _fiftyone(predictions: list[Prediction], folder: Path) -> dict[str, Any]:
    """FiftyOneImageClassificationDataset with several labels an image; absolute paths need no folder `data`.

    This form has no place for the confidence of a whole set.
    """
    names = _names(predictions)
    number_of = {name: number for number, name in enumerate(names)}
    labels = {
        str(Path(prediction.path).absolute()): [
            {"label": number_of[label], "confidence": p} for label, p in prediction.labels
        ]
        for prediction in predictions
    }
    return {"classes": names, "labels": labels}


def _label_studio(predictions: list[Prediction], folder: Path) -> list[dict[str, Any]]:
    """Tasks with predictions. Their score is the certainty of the least certain label, by which tasks are sorted.

    The confidence of the whole set is among the task's data, which Label Studio can sort and filter by too.
    """
    root = Path(os.environ.get(ROOT_VARIABLE) or Path.cwd().anchor)
    tasks = []
    for prediction in predictions:
        file = Path(prediction.path).absolute()
        local = file.relative_to(root) if file.is_relative_to(root) else file
        choices = {
            "from_name": FROM_NAME,
            "to_name": TO_NAME,
            "type": "choices",
            "value": {"choices": [label for label, _ in prediction.labels]},
        }
        certainty = min((max(p, 1 - p) for p in prediction.probabilities.values()), default=0.0)
        made = {"model_version": "labeldep", "score": certainty, "result": [choices] if prediction.labels else []}
        image = f"/data/local-files/?d={quote(os.fsencode(local))}"
        tasks.append({"data": {TO_NAME: image, "confidence": prediction.confidence}, "predictions": [made]})
    return tasks


_DOCUMENTS: Mapping[Tool, _Document] = {"coco": _coco, "fiftyone": _fiftyone, "label-studio": _label_studio}
