"""Command lines that mend a data set, ready to paste."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

_SPELLED = {"form": "format"}
"""Settings of `ImportConfig` whose flag has another name."""


def import_command(source: Path, out: object = None, **flags: object) -> str:
    """The line that imports a foreign file, or one that leaves a question open.

    Args:
        source: the file or folder, as the user names it.
        out: the file to write; None for `free_output`.
        flags: settings of `ImportConfig` by the names of its fields; those that are None or empty are left out.

    Returns:
        Such as "labeldep import 'my labels.csv' --label-separator '|' --out labels.csv".
    """
    words = ["labeldep", "import", str(source)]
    for name, value in flags.items():
        if value is not None and value != () and not (value is False and name != "quotes"):
            words += _flag(_SPELLED.get(name, name).replace("_", "-"), value)
    return shlex.join([*words, "--out", str(out or free_output(source))])


def free_output(source: Path) -> Path:
    """A file beside the source, or in it if it is a folder, that does not exist: labels.csv, else STEM-labels.csv.

    For ready features it is STEM-ready.npz.
    """
    return next(file for file in _outputs(source) if not file.exists())


def _outputs(source: Path) -> Iterator[Path]:
    folder = source if source.is_dir() else source.parent
    stem = source.name.split(".")[0] or "data"
    features = source.suffix.lower() in (".npz", ".h5")
    if not features:
        yield folder / "labels.csv"
    ending = "ready" if features else "labels"
    for number in count(1):
        yield folder / f"{stem}-{ending}{'' if number == 1 else f'-{number}'}{'.npz' if features else '.csv'}"


def _flag(name: str, value: object) -> list[str]:
    """The words of one flag; a list is written as `config.reading.read_names` reads it."""
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [f"--{name}", joined(value)]
    return [f"--{name}", str(value)]


def joined(names: Sequence[object]) -> str:
    """A list of names in one word: "a,b"; a name with a comma is put in quotes."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow(names)
    return stream.getvalue()
