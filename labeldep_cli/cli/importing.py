"""`labeldep import`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.next_command import print_next
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_table
from labeldep_cli.config import ImportConfig

if TYPE_CHECKING:
    from labeldep_cli.pipelines.importing import ImportReport, SampledRow

SHOWN_LABELS = 30


def import_(
    ctx: typer.Context,
    source: Annotated[Path, typer.Argument(help="File or folder with labels, in any of the forms of --format.")],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="CSV to write (.npz for ready features), for --dataset of all commands.",
            rich_help_panel=flags.OUTPUT,
        ),
    ],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Replace the file of --out if it exists.", rich_help_panel=flags.OUTPUT)
    ] = False,
    reading: ImportConfig,
    json: flags.Json = False,
) -> None:
    """Read labels as other programs write them, and write the table that all commands read."""
    from labeldep_cli.pipelines.importing import import_labels

    if out.suffix.lower() not in (".csv", ".npz"):
        raise typer.BadParameter(f"{str(out)!r} does not end in .csv or .npz", param_hint="--out")
    report = import_labels(source, out, reading, fresh, Terminal())
    if json:
        print_json(report.to_json())
    else:
        _print(report)
    print_next(ctx, "data", str(out), json=json)


def _print(report: ImportReport) -> None:
    print_line(f"{report.source}: {report.form}; {report.rows} rows, {len(report.labels)} labels")
    if report.splits is not None:
        print_line("splits: " + ", ".join(f"{name} {count}" for name, count in report.splits.items()))
    for what, count in (("groups", report.groups), ("folds", report.folds)):
        if count is not None:
            print_line(f"{what}: {count}")
    if report.ignored:
        print_line(f"ignored columns: {', '.join(report.ignored)}")
    for sentence in report.understood:
        print_line(sentence)
    often = sorted(report.labels, key=lambda label: -label.present)
    rows = [[label.name, str(label.present), str(label.absent), str(label.unknown)] for label in often[:SHOWN_LABELS]]
    if len(often) > SHOWN_LABELS:
        rows.append([f"and {len(often) - SHOWN_LABELS} rarer labels", "", "", ""])
    print_table("", ["label", "present", "absent", "unknown"], rows)
    if report.sample:
        sample = list(map(_row, report.sample))
        print_table("look at these images: are the labels right?", ["image", "labels", ""], sample, 3)
    print_line(f"written: {report.out}")


def _row(row: SampledRow) -> list[str]:
    present, unknown = ", ".join(row.present) or "no label", ", ".join(row.unknown[:5])
    more = f" and {len(row.unknown) - 5} more" if len(row.unknown) > 5 else ""
    return [
        row.path if row.on_disk else f"{row.path} (missing)",
        present,
        f"unknown: {unknown}{more}" if unknown else "",
    ]
