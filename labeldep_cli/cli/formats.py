"""The formats in which label sets are printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

import typer

from labeldep_cli.cli.preannotations import Preannotations
from labeldep_cli.cli.show import json_line
from labeldep_cli.datasets.cell_text import csv_line, list_cell, path_cell
from labeldep_cli.text import visible

if TYPE_CHECKING:
    from labeldep_cli.datasets.split import Skipped
    from labeldep_cli.labelling.prediction import Prediction

Format = Literal["lines", "table", "csv", "jsonl", "coco", "fiftyone", "label-studio"]


class Form(Protocol):
    """Prints label sets, one image at a time."""

    def add(self, prediction: Prediction) -> None:
        """Print an image's label set."""

    def skip(self, skipped: Skipped) -> None:
        """Print that an image was skipped, in formats for scripts; for people, stderr has it."""

    def end(self) -> None:
        """Print what could not be printed before the last image."""


def open_form(form: Format, stream: TextIO, everything: bool, folder: Path) -> Form:
    """Create the printer of a format.

    Args:
        form: the format.
        stream: where it prints.
        everything: add the probabilities of all labels to JSON lines.
        folder: the folder of the file that is written.
    """
    if form == "coco" or form == "fiftyone" or form == "label-studio":
        return Preannotations(form, stream, folder)
    if form == "jsonl":
        return _JsonLines(stream, everything)
    if form == "csv":
        return _Csv(stream)
    return _Table(stream) if form == "table" else _Lines(stream)


class _Lines:
    """`path: label p, label p; set p`, with the confidence of the whole set at the end."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def add(self, prediction: Prediction) -> None:
        labels = ", ".join(f"{label} {p:.2f}" for label, p in prediction.labels)
        line = f"{prediction.path}: {labels or '(no label)'}; set {prediction.confidence:.2f}"
        typer.echo(visible(line, file_bytes=True), file=self.stream)

    def skip(self, skipped: Skipped) -> None:
        pass

    def end(self) -> None:
        pass


class _JsonLines:
    """One JSON object per image, also for skipped ones."""

    def __init__(self, stream: TextIO, everything: bool) -> None:
        self.stream = stream
        self.everything = everything

    def add(self, prediction: Prediction | Skipped) -> None:
        from labeldep_cli.labelling.prediction import record

        typer.echo(json_line(record(prediction, self.everything)), file=self.stream)

    def skip(self, skipped: Skipped) -> None:
        self.add(skipped)

    def end(self) -> None:
        pass


class _Csv:
    """One row per image, also for skipped ones. Labels are in one cell, joined by `;`, probabilities in another.

    Labels that `;` cannot join, or that a spreadsheet would compute, are a JSON list: see `cell_text`.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._write("path", "labels", "probabilities", "skipped", "confidence")

    def add(self, prediction: Prediction) -> None:
        labels = list_cell([label for label, _ in prediction.labels])
        p = ";".join(repr(p) for _, p in prediction.labels)
        self._write(path_cell(prediction.path), labels, p, "", repr(prediction.confidence))

    def skip(self, skipped: Skipped) -> None:
        self._write(path_cell(skipped.path), "", "", skipped.reason, "")

    def end(self) -> None:
        pass

    def _write(self, *cells: str) -> None:
        line = csv_line(cells)
        self.stream.write(visible(line, lines=True, file_bytes=True) if self.stream.isatty() else line)
        self.stream.flush()  # the reader of a pipe waits for it


class _Table:
    """A table for people, printed after the last image, as wide as the terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich import box
        from rich.table import Table

        self.stream = stream
        self.table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        self.table.add_column("image", overflow="fold")
        self.table.add_column("labels", overflow="fold")
        self.table.add_column("set", justify="right")

    def add(self, prediction: Prediction) -> None:
        from rich.text import Text

        words = [part for label, p in prediction.labels for part in ((visible(label), "bold"), f" {p:.2f}   ")]
        labels = Text.assemble(*words) if words else Text("(no label)")
        self.table.add_row(Text(visible(prediction.path, file_bytes=True)), labels, f"{prediction.confidence:.2f}")

    def skip(self, skipped: Skipped) -> None:
        pass

    def end(self) -> None:
        from rich.console import Console

        Console(file=self.stream, width=None if self.stream.isatty() else 240).print(self.table)
