"""The columns of a CSV, by the names in its header."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from labeldep_cli.datasets.canonical import ABSENT_LABELS, LABELS, LABELS_JSON, UNKNOWN_LABELS
from labeldep_cli.datasets.doubts.doubt import TO_IMPORT, Answer, Doubt
from labeldep_cli.datasets.split_words import SPLIT_COLUMNS
from labeldep_cli.errors import DatasetError

_FORM = "The header is path[,split],label,label,... or path[,split],labels, with commas between columns."


@dataclass(frozen=True)
class Columns:
    """The numbers of the columns of a CSV; None for a column that it does not have.

    Attributes:
        header: the names of all columns.
        path, split, group, fold: these columns.
        listing: the column that lists the labels of a row; None if each label has a column.
        remaining: in a table with `listing`, the column that lists the labels that are unknown, or that are absent.
        labels: the columns with one label each.
        ignored: the columns that are not read.
    """

    header: tuple[str, ...]
    path: int
    split: int | None
    group: int | None
    fold: int | None
    listing: int | None
    remaining: int | None
    labels: tuple[int, ...]
    ignored: tuple[int, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns with one label each."""
        return tuple(self.header[k] for k in self.labels)

    def name(self, column: int) -> str:
        """The name of a column."""
        return self.header[column]


def columns_of(file: Path, header: Sequence[str]) -> Columns:
    """Recognise the columns of a CSV by their names; labels keep their spelling, other names may be in any case.

    Raises:
        DatasetError: the header is not that of a CSV that labeldep reads; the remedy has a command that may read it.
    """
    names = tuple(name.strip() for name in header)
    _require_distinct(file, names)
    path = _find(names, {"path"})
    if path is None:
        raise _no_path(names).error(file)
    listing = _find(names, {LABELS, LABELS_JSON})
    remaining = None if listing is None else _find(names, {UNKNOWN_LABELS, ABSENT_LABELS})
    split, group, fold = _find(names, SPLIT_COLUMNS, "split"), _find(names, {"group"}), _find(names, {"fold"})
    known = {path, listing, split, group, fold, remaining}
    others = tuple(k for k in range(len(names)) if k not in known)
    if listing is None and not others:
        raise DatasetError(f"{file} has no label column", "Add one column per label, or one column `labels`.")
    labels, ignored = (others, ()) if listing is None else ((), others)
    return Columns(names, path, split, group, fold, listing, remaining, labels, ignored)


def _find(names: Sequence[str], wanted: Collection[str], best: str = "") -> int | None:
    """The only column with one of the wanted names, in any case; `best`, or the exact spelling, goes before others."""
    exact = [k for k, name in enumerate(names) if name == best] or [k for k, name in enumerate(names) if name in wanted]
    found = exact or [k for k, name in enumerate(names) if name.lower() in wanted]
    return found[0] if len(found) == 1 else None


def _require_distinct(file: Path, names: Sequence[str]) -> None:
    for number, name in enumerate(names, start=1):
        if not name:
            otherwise = "Or name it or remove it (pandas: to_csv(..., index=False))."
            raise Doubt("it has no name", (TO_IMPORT,), otherwise, f"column {number}").error(file)
        if name in names[: number - 1]:
            raise DatasetError(f"{file}: there are two columns {name!r}", "Merge the two, or rename one.")


def _no_path(names: Sequence[str]) -> Doubt:
    shown = f"{', '.join(names[:8])}{', ...' if len(names) > 8 else ''}"
    what = f"there is no column 'path'; its columns are {shown}"
    delimiter = next((d for d in (";", "\t", "|") if len(names) == 1 and d in names[0]), None)
    if delimiter is None:
        return Doubt(what, (TO_IMPORT,), _FORM)
    spoken = {"\t": "tab"}.get(delimiter, delimiter)
    return Doubt(what, (Answer(f"If {delimiter!r} stands between columns", {"delimiter": spoken}),), _FORM)
