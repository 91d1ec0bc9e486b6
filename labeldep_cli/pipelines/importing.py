"""`labeldep import`: read a foreign form, find its images, write the canonical table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from labeldep_cli.config import ImportConfig, Machine
from labeldep_cli.datasets.canonical import write_table
from labeldep_cli.datasets.corrections import Place, corrected_rows
from labeldep_cli.datasets.formats import holds_features
from labeldep_cli.datasets.label_space import UNKNOWN, LabelSpace
from labeldep_cli.datasets.rows import Rows
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.near_identical import looks_of_files
from labeldep_cli.files import make_folder
from labeldep_cli.ingest import ready
from labeldep_cli.ingest.division import divide
from labeldep_cli.ingest.foreign import Foreign
from labeldep_cli.ingest.forms import form_of
from labeldep_cli.ingest.placing import placed, written_path
from labeldep_cli.progress import Reporter

SAMPLED = 5
"""Rows that are shown for a person to check."""


@dataclass(frozen=True)
class SampledRow:
    """A row to check against its image.

    Attributes:
        path: as it is written in the table.
        on_disk: whether the image is there.
        present, unknown: names of labels.
    """

    path: str
    on_disk: bool
    present: tuple[str, ...]
    unknown: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The row's record in the JSON of `labeldep import`."""
        return {
            "path": self.path,
            "on_disk": self.on_disk,
            "labels": list(self.present),
            "unknown": list(self.unknown),
        }


@dataclass(frozen=True)
class LabelCounts:
    """The number of rows in which a label is present, absent and unknown."""

    name: str
    present: int
    absent: int
    unknown: int

    def to_json(self) -> dict[str, Any]:
        """The label's record in the JSON of `labeldep import`."""
        return {"label": self.name, "present": self.present, "absent": self.absent, "unknown": self.unknown}


@dataclass(frozen=True)
class ImportReport:
    """The result of `labeldep import`.

    Attributes:
        source: the file or folder that was read.
        form: the title of its form.
        out: the file that was written.
        rows: number of rows.
        labels: counts of each label, in order.
        splits: number of rows of each split; None if the source has no splits.
        groups, folds: number of groups and of folds; None if the source has none.
        ignored: the columns that were not read.
        understood: what was understood, a sentence each.
        sample: rows to check.
    """

    source: Path
    form: str
    out: Path
    rows: int
    labels: tuple[LabelCounts, ...]
    splits: Mapping[str, int] | None
    groups: int | None
    folds: int | None
    ignored: tuple[str, ...]
    understood: tuple[str, ...]
    sample: tuple[SampledRow, ...]

    def to_json(self) -> dict[str, Any]:
        """The JSON of `labeldep import`."""
        return {
            "source": str(self.source),
            "form": self.form,
            "out": str(self.out),
            "rows": self.rows,
            "labels": [label.to_json() for label in self.labels],
            "splits": None if self.splits is None else dict(self.splits),
            "groups": self.groups,
            "folds": self.folds,
            "ignored": list(self.ignored),
            "understood": list(self.understood),
            "sample": [row.to_json() for row in self.sample],
        }


def import_labels(source: Path, out: Path, config: ImportConfig, fresh: bool, reporter: Reporter) -> ImportReport:
    """Write a foreign source as the canonical table.

    Args:
        source: a file or folder in any form of FORMS.
        out: the CSV to write, or .npz for ready features; it appears whole or not at all.
        config: what the source leaves open.
        fresh: whether an existing file is replaced.
        reporter: takes notes.

    Raises:
        DatasetError: the source cannot be read, leaves a question open, or names images that are not found.
        StorageError: the table cannot be written.
    """
    _require_free(source, out, fresh)
    config = replace(config, out=out)
    if holds_features(source.name) and source.is_file():
        return _import_features(source, out, config, reporter)
    if out.suffix.lower() != ".csv":
        raise DatasetError(f"{out} does not end in .csv", "A table is written as CSV.")
    form = form_of(source, config)
    reporter.note(f"reading {source} as {form.title}")
    foreign = placed(_corrected(form.reader.read(source, config), source, config), source, out, config)
    foreign = _divided(foreign, config, reporter)
    make_folder(out.parent)
    write_table(_as_written(foreign.rows, foreign.root, out), out)
    return _report(source, form.title, out, foreign)


def _divided(foreign: Foreign, config: ImportConfig, reporter: Reporter) -> Foreign:
    """The source without its leaks, with the splits and folds that the settings want drawn.

    Raises:
        DatasetError: there are too few rows to draw from, or ready features are to be compared as images.
    """
    looks = None
    if config.drop_leaks and foreign.rows.features is not None:
        raise DatasetError("ready features have no images that could be compared", "Leave --drop-leaks out.")
    if config.drop_leaks:
        looks = looks_of_files([foreign.root / path for path in foreign.rows.paths], Machine().n_workers, reporter)
    rows = divide(replace(foreign.rows, notes=()), config, looks)
    understood = (*foreign.understood, *rows.notes)
    return replace(foreign, rows=replace(rows, notes=foreign.rows.notes), understood=understood)


def _import_features(source: Path, out: Path, config: ImportConfig, reporter: Reporter) -> ImportReport:
    """Write ready features once more, with all questions answered."""
    if out.suffix.lower() != ".npz":
        raise DatasetError(f"{out} does not end in .npz", "Ready features are written as .npz.")
    foreign = _divided(_corrected(ready.read(source, config), source, config), config, reporter)
    make_folder(out.parent)
    ready.write(foreign.rows, out)
    return _report(source, "ready features", out, foreign)


def _corrected(foreign: Foreign, source: Path, config: ImportConfig) -> Foreign:
    """Apply the decisions of `labeldep review` that lie beside a table."""
    if not config.corrections or not source.is_file():
        return foreign
    named = {_normal(source.parent / path): path for path in Place.of(source).decisions()}
    paths = [named.get(_normal(foreign.root / path), path) for path in foreign.rows.paths]
    rows, found = corrected_rows(replace(foreign.rows, paths=paths), source)
    told = (found.words,) if found.words else ()
    return replace(foreign, rows=replace(rows, paths=foreign.rows.paths), understood=(*foreign.understood, *told))


def _normal(path: Path) -> str:
    """A path by which an image is recognised, whether a reader has written it in full or as the table has it."""
    return os.path.normpath(path.absolute())


def _require_free(source: Path, out: Path, fresh: bool) -> None:
    """Require that nothing is overwritten by mistake.

    Raises:
        DatasetError: there is a file at `out`, or it is the source.
    """
    if source.exists() and out.exists() and source.samefile(out):
        raise DatasetError(f"{out} is the source itself", "Name another file with --out.")
    if out.exists() and not fresh:
        raise DatasetError(f"{out} exists already", "Name another file with --out, or replace it with --fresh.")


def _as_written(rows: Rows, root: Path, out: Path) -> Rows:
    return replace(rows, paths=[written_path(root / path, out.parent) for path in rows.paths])


def _report(source: Path, form: str, out: Path, foreign: Foreign) -> ImportReport:
    rows = foreign.rows
    present, unknown = (rows.labels == 1).sum(axis=0), (rows.labels == UNKNOWN).sum(axis=0)
    counts = None if rows.splits is None else Counter(rows.splits)
    return ImportReport(
        source=source,
        form=form,
        out=out,
        rows=len(rows.paths),
        labels=tuple(
            LabelCounts(name, int(n), len(rows.paths) - int(n) - int(u), int(u))
            for name, n, u in zip(rows.names, present, unknown, strict=True)
        ),
        splits=None if counts is None else {name: counts[name] for name in SPLITS},
        groups=None if rows.groups is None else len(set(rows.groups)),
        folds=None if rows.folds is None else len(set(rows.folds)),
        ignored=rows.ignored,
        understood=foreign.understood,
        sample=_sample(rows, foreign.root, out) if rows.features is None else (),
    )


def _sample(rows: Rows, root: Path, out: Path) -> tuple[SampledRow, ...]:
    """Rows of each kind: two with several labels, one with none, one with unknown ones, and others; drawn by a seed."""
    order = np.random.default_rng(0).permutation(len(rows.paths))
    n_present, n_unknown = (rows.labels == 1).sum(axis=1)[order], (rows.labels == UNKNOWN).sum(axis=1)[order]
    kinds = (order[n_present > 1][:2], order[n_present == 0][:1], order[n_unknown > 0][:1], order)
    chosen = list(dict.fromkeys(int(row) for kind in kinds for row in kind))[:SAMPLED]
    return tuple(
        SampledRow(
            written_path(root / rows.paths[row], out.parent),
            (root / rows.paths[row]).is_file(),
            LabelSpace(tuple(rows.names)).decode(rows.labels[row] == 1),
            LabelSpace(tuple(rows.names)).decode(rows.labels[row] == UNKNOWN),
        )
        for row in chosen
    )
