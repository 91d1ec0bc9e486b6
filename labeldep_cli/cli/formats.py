"""The forms that label sets are printed in."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

import typer

from labeldep_cli.cli.show import json_line

if TYPE_CHECKING:
    from labeldep_cli.datasets.split import Skipped
    from labeldep_cli.labelling.prediction import Prediction

Format = Literal["lines", "table", "csv", "jsonl"]


class Form(Protocol):
    """Shows label sets, one by one."""

    def add(self, found: Prediction) -> None:
        """Show an image's label set."""

    def skip(self, skipped: Skipped) -> None:
        """Show that an image was skipped, where scripts look for it; people find it on stderr."""

    def end(self) -> None:
        """Show what had to wait for the last image."""


def open_form(form: Format, stream: TextIO, everything: bool) -> Form:
    """A form that writes to a stream; `everything` adds the probabilities of all labels to JSON."""
    if form == "jsonl":
        return _JsonLines(stream, everything)
    if form == "csv":
        return _Csv(stream)
    return _Table(stream) if form == "table" else _Lines(stream)


class _Lines:
    """`path: label p, label p`."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def add(self, found: Prediction) -> None:
        told = ", ".join(f"{label} {p:.2f}" for label, p in found.labels)
        typer.echo(f"{found.path}: {told or '(no label)'}", file=self.stream)

    def skip(self, skipped: Skipped) -> None:
        pass

    def end(self) -> None:
        pass


class _JsonLines:
    """An object an image, skipped ones too."""

    def __init__(self, stream: TextIO, everything: bool) -> None:
        self.stream = stream
        self.everything = everything

    def add(self, found: Prediction | Skipped) -> None:
        from labeldep_cli.labelling.prediction import record

        typer.echo(json_line(record(found, self.everything)), file=self.stream)

    def skip(self, skipped: Skipped) -> None:
        self.add(skipped)

    def end(self) -> None:
        pass


class _Csv:
    """A row an image, skipped ones too; labels and their probabilities stand in one cell each, `;` between them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.rows = csv.writer(stream, lineterminator="\n")
        self._write("path", "labels", "probabilities", "skipped")

    def add(self, found: Prediction) -> None:
        labels = ";".join(label for label, _ in found.labels)
        self._write(found.path, labels, ";".join(repr(p) for _, p in found.labels), "")

    def skip(self, skipped: Skipped) -> None:
        self._write(skipped.path, "", "", skipped.reason)

    def end(self) -> None:
        pass

    def _write(self, *cells: str) -> None:
        self.rows.writerow(cells)
        self.stream.flush()  # whoever reads a pipe waits for it


class _Table:
    """For people: printed when all is done, as wide as the terminal."""

    def __init__(self, stream: TextIO) -> None:
        from rich import box
        from rich.table import Table

        self.stream = stream
        self.table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        self.table.add_column("image", overflow="fold")
        self.table.add_column("labels", overflow="fold")

    def add(self, found: Prediction) -> None:
        from rich.text import Text

        words = [part for label, p in found.labels for part in ((label, "bold"), f" {p:.2f}   ")]
        self.table.add_row(Text(found.path), Text.assemble(*words) if words else Text("(no label)"))

    def skip(self, skipped: Skipped) -> None:
        pass

    def end(self) -> None:
        from rich.console import Console

        Console(file=self.stream, width=None if self.stream.isatty() else 240).print(self.table)
