"""Read a user's own labels from a JSONL."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeldep_cli.datasets.doubts.columns import numbers_doubt
from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt
from labeldep_cli.datasets.doubts.names import names_doubt, suspected_separator
from labeldep_cli.datasets.label_cells import SEPARATOR
from labeldep_cli.datasets.label_space import UNKNOWN
from labeldep_cli.datasets.missing_images import require_plain_paths
from labeldep_cli.datasets.rows import Rows, label_names, require_disjoint
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS, read_splits
from labeldep_cli.datasets.text_file import read_text
from labeldep_cli.errors import DatasetError

_FORM = 'A line is {"path": "a.jpg", "labels": ["sea", "sunset"]}, with an optional "split", "group" and "fold".'

_KNOWN = {"path", "labels", "unknown", "absent", "group", "fold"}


@dataclass
class _Lines:
    """The lines of a JSONL with N rows.

    Attributes:
        file: for messages.
        numbers: of the N lines, counted from 1.
        entries: the N objects.
    """

    file: Path
    numbers: list[int] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)

    def where(self, row: int) -> str:
        """The place of a row, for messages."""
        return f"{self.file}, line {self.numbers[row]}"

    def values(self, key: str) -> list[Any] | None:
        """The values of a key; None if no row has it.

        Raises:
            DatasetError: only some rows have it.
        """
        rows = [row for row, entry in enumerate(self.entries) if key in entry]
        if not rows:
            return None
        if len(rows) < len(self.entries):
            lacking = next(row for row, entry in enumerate(self.entries) if key not in entry)
            raise Doubt(
                f"only some rows have a {key}; this one has none",
                (Answer("To read none of them", {"ignore_columns": (key,)}),),
                f"Give every row a {key}, or none of them.",
                f"line {self.numbers[lacking]}",
            ).error(self.file)
        return [entry[key] for entry in self.entries]


def read(file: Path) -> Rows:
    """Read a JSONL: one `{"path": ..., "labels": [...]}` per line, with an optional `"split"`, `"group"` and `"fold"`.

    `"unknown"` lists the labels of a row that are unknown. In a file with lists `"absent"`, the labels that are in
    neither list of a row are unknown.

    Raises:
        DatasetError: the file is malformed, or leaves a question open; names the line and the problem, and the command
            that answers the question.
    """
    lines = _Lines(file)
    for number, line in enumerate(read_text(file).split("\n"), start=1):
        if line.strip():
            lines.entries.append(_json_row(file, number, line))
            lines.numbers.append(number)
    paths = [entry["path"] for entry in lines.entries]
    require_plain_paths(file, paths, lines.numbers)
    label_sets = _label_sets(lines)
    keys = list(dict.fromkeys(key for entry in lines.entries for key in entry))
    split_keys = [key for key in keys if key.lower() in SPLIT_COLUMNS]
    key = next((key for key in ("split", *split_keys) if key in split_keys), None)
    words = None if key is None else lines.values(key)
    splits = None
    if key is not None and words is not None:
        splits = read_splits(file, key, words, lambda row: f"line {lines.numbers[row]}")
    kind, remaining = _remaining(lines, label_sets)
    unlisted = UNKNOWN if kind == "absent" else 0
    read = Rows.of_label_sets(paths, label_sets, splits, remaining=remaining, unlisted=unlisted)
    ignored = tuple(name for name in keys if name not in _KNOWN and name != key)
    groups, folds = lines.values("group"), _folds(lines)
    return Rows(
        paths,
        read.labels,
        read.names,
        splits,
        groups=None if groups is None else [str(group) for group in groups],
        folds=folds,
        ignored=ignored,
    )


def _label_sets(lines: _Lines) -> list[list[str]]:
    """The names in `labels` of every row.

    Raises:
        DatasetError: they are written in another way, or are suspicious; the remedy is the command to import them.
    """
    values = [entry["labels"] for entry in lines.entries]
    doubt = _form_doubt(values)
    if doubt is not None:
        raise doubt.error(lines.file)
    sets = [label_names(value, lines.where(row), _FORM) for row, value in enumerate(values)]
    counts = Counter(name for names in sets for name in set(names))
    doubt = names_doubt(counts, any(len(names) > 1 for names in sets), separator="")
    if doubt is not None:
        raise doubt.error(lines.file)
    return sets


def _form_doubt(values: Sequence[object]) -> Doubt | None:
    """Ask about `labels` that are no lists of names; None if all of them are lists."""
    texts = Counter(value for value in values if isinstance(value, str))
    if texts:
        example = max(texts, key=len)
        separator = suspected_separator(texts, separated=False, used="") or SEPARATOR
        return Doubt(
            f"'labels' is a text, such as {example[:60]!r}, and not a list of names",
            (Answer(f"If {separator!r} stands between names", {"label_separator": separator}),),
            _FORM,
        )
    odd = next((value for value in values if isinstance(value, dict)), None)
    if odd is not None:
        return Doubt(f"'labels' is an object, such as {json.dumps(odd)[:60]}, and not a list", (TO_IMPORT,), _FORM)
    lists = [value for value in values if isinstance(value, list) and value]
    if lists and all(isinstance(item, int | float) for listed in lists for item in listed):
        widths = {len(listed) for listed in lists}
        hot = len(widths) == 1 and all(item in (0, 1) for listed in lists for item in listed)
        return numbers_doubt(lists, widths.pop() if hot else None)
    if any(value is None for value in values):
        return Doubt(
            "'labels' is null in some rows: are all labels absent there, or unknown?",
            (
                Answer("If null means that no label is present", {"blank": "absent"}),
                Answer("If it means that nothing is known", {"blank": "unknown"}),
            ),
        )
    return None


def _remaining(lines: _Lines, label_sets: Sequence[Sequence[str]]) -> tuple[str, list[list[str]] | None]:
    """The key `unknown` or `absent` that a file has, and its list of every row."""
    present = [key for key in ("unknown", "absent") if any(key in entry for entry in lines.entries)]
    if not present:
        return "", None
    if len(present) > 1:
        raise DatasetError(f"{lines.file} has lists 'unknown' and lists 'absent'", "Keep one: it implies the other.")
    (key,) = present
    remaining = []
    for row, entry in enumerate(lines.entries):
        remaining.append(label_names(entry.get(key, []), lines.where(row), _FORM, key))
        require_disjoint(label_sets[row], remaining[-1], key, lines.where(row))
    return key, remaining


def _folds(lines: _Lines) -> list[int] | None:
    folds = lines.values("fold")
    for row, fold in enumerate(folds or ()):
        if not isinstance(fold, int) or fold < 0:
            raise Doubt(
                f"the fold {fold!r} is no number",
                (Answer("To read the rows without their folds", {"ignore_columns": ("fold",)}),),
                "Folds are counted from 0.",
                f"line {lines.numbers[row]}",
            ).error(lines.file)
    return folds


def _json_row(file: Path, number: int, line: str) -> dict[str, Any]:
    """Parse one line of a JSONL, and check its path."""
    where = f"{file}, line {number}"
    try:
        entry = json.loads(line, object_pairs_hook=lambda pairs: _distinct(pairs, where))
    except (json.JSONDecodeError, RecursionError) as error:
        why = f"{error.msg} at column {error.colno}" if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        raise DatasetError(f"{where}: not valid JSON: {why}", _FORM) from None
    if not isinstance(entry, dict):
        raise DatasetError(f"{where}: not a JSON object", _FORM)
    for key in ("path", "labels"):
        if key not in entry:
            keys = ", ".join(map(repr, entry))
            what = f"there is no {key!r}; its keys are {keys}"
            raise Doubt(what, (TO_IMPORT,), _FORM, f"line {number}").error(file)
    if not isinstance(entry["path"], str) or not entry["path"]:
        raise DatasetError(f"{where}: 'path' is {entry['path']!r}, not a path", _FORM)
    return entry


def _distinct(pairs: Sequence[tuple[str, Any]], where: str) -> dict[str, Any]:
    """An object whose keys are all different; JSON readers keep the last of two without a word."""
    entry = dict(pairs)
    if len(entry) < len(pairs):
        twice = next(key for key, n in Counter(key for key, _ in pairs).items() if n > 1)
        raise DatasetError(f"{where}: the key {twice!r} is there twice", "Keep the right one of the two.")
    return entry
