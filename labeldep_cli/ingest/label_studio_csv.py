"""Label Studio's CSV export: a row for each annotation, with {"choices": [...]} or a bare word in its cell."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

from labeldep_cli.config.importing import ImportConfig
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.ingest.entries import Entry, Reading
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.label_studio import file_names
from labeldep_cli.ingest.plain_table import add_found, defined, table_entries
from labeldep_cli.ingest.sheet import head_rows, header_of, read_sheet

_OF_EXPORT = {"annotation_id", "annotator", "lead_time", "created_at", "updated_at"}
"""Columns that the export adds to those of the task."""


def recognises(source: Path) -> bool:
    """Whether a file has the columns of the export."""
    return source.is_file() and len(_OF_EXPORT & set(header_of(source))) > 2


def read(source: Path, config: ImportConfig) -> Foreign:
    """Read the export. Where annotators of an image disagree, a label is unknown.

    Raises:
        DatasetError: names the file, the line and the problem, and the command that answers a question.
    """
    reading = Reading(source, config)
    how = defined(config, path_column=_column_of_images(source), labels_column=_column_of_choices(source))
    opinions: dict[str, list[Entry]] = defaultdict(list)
    for entry in table_entries(read_sheet(source, reading, how), reading, how):
        opinions[entry.path].append(entry)
    entries = [_agreed(group) for group in opinions.values()]
    if disputed := sum(value == UNKNOWN for entry in entries for value in entry.values.values()):
        reading.understood.append(f"unknown, since annotators disagree: {disputed} times a label")
    add_found(entries, source, None, reading, file_names)
    return reading.finish(source.parent)


def _agreed(opinions: list[Entry]) -> Entry:
    counts = Counter(name for entry in opinions for name in entry.values)
    values = {name: 1 if n == len(opinions) else UNKNOWN for name, n in counts.items()}
    return Entry(opinions[0].path, values, opinions[0].unsaid, opinions[0].split)


def _column_of_images(source: Path) -> str | None:
    return next((name for name in header_of(source) if name.lower() in ("image", "img", "path", "url")), None)


def _column_of_choices(source: Path) -> str | None:
    """The column with choices; None if it cannot be told by its cells or its name."""
    header, *rows = head_rows(source)
    chosen = [name for k, name in enumerate(header) if any('"choices"' in row[k] for row in rows if k < len(row))]
    return next(iter([*chosen, *(name for name in header if name.lower() in ("choice", "choices", "labels"))]), None)
