"""What `labeldep data` prints about splits: labels that they lack, and images that they share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from labeldep_cli.cli.show import print_line

if TYPE_CHECKING:
    from pathlib import Path

    from labeldep_cli.datasets.label_gaps import LabelGaps
    from labeldep_cli.datasets.twins import Twin, TwinReport

EXAMPLES = 3
NAMED = 20
"""Labels that a line names; `--json` has all."""

_GAPS = {
    "untrainable": "not in train, cannot be learnt",
    "untunable": "in no or in every image of val, no threshold can be chosen",
    "unscored": "in no or in every image of test, cannot be scored",
}


def print_gaps(gaps: LabelGaps) -> None:
    """Name the labels that cannot be trained, tuned or scored; nothing if there are none."""
    for name, why in _GAPS.items():
        labels = getattr(gaps, name)
        if labels:
            more = f", and {len(labels) - NAMED} more (--json lists all)" if len(labels) > NAMED else ""
            print_line(f"{name} labels ({why}): {len(labels)}: {', '.join(labels[:NAMED])}{more}")


def print_twins(report: TwinReport, table: Path | None) -> None:
    """Count the images that look the same, with examples; nothing if there are none.

    Args:
        report: the pairs.
        table: the data set's file, for the command that leaves leaks out; None if it has none.
    """
    if report.across:
        print_line(f"near-identical images in different splits: {_pairs(report.across)}")
        _print_examples(report.across)
    from labeldep_cli.datasets.doubts.remedies import import_command

    if report.n_leaking:
        print_line(f"images of train or val with a copy in a later split: {report.n_leaking}")
        if table is not None:
            print_line(f"  to leave them out: {import_command(table, drop_leaks=True)}")
    if report.contradicting:
        print_line(f"identical or near-identical images with different labels: {_pairs(report.contradicting)}")
        _print_examples(report.contradicting)
    if report.n_plain:
        print_line(f"images of one colour, not compared with others: {report.n_plain}")


def _pairs(twins: Sequence[Twin]) -> str:
    return f"{len(twins)} pair{'' if len(twins) == 1 else 's'}"


def _print_examples(twins: Sequence[Twin]) -> None:
    for twin in twins[:EXAMPLES]:
        images = " and ".join(f"{path} ({split})" for path, split in zip(twin.paths, twin.splits, strict=True))
        print_line(f"  {images}{': ' + ', '.join(twin.differ) if twin.differ else ''}")
    if len(twins) > EXAMPLES:
        print_line(f"  and {len(twins) - EXAMPLES} more (--json lists all)")
