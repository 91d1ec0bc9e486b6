"""`labeldep data`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.config import Machine, Source, Workspace
from labeldep_cli.datasets.registry import DATASETS

if TYPE_CHECKING:
    from labeldep_cli.pipelines.data import DataReport

SHOWN_LABELS = 30
_NAMES = "; ".join(f"{name}: {row.help}" for name, row in DATASETS.items())


def data(
    dataset: Annotated[str, typer.Argument(help=f"{_NAMES}; or a path, as for --dataset.")] = Source.dataset,
    data_dir: flags.DataDir = Workspace.data_dir,
    val_fraction: flags.ValFraction = Source.val_fraction,
    test_fraction: flags.TestFraction = Source.test_fraction,
    split_seed: flags.SplitSeed = Source.split_seed,
    workers: flags.Workers = Machine.workers,
    json: flags.Json = False,
) -> None:
    """Check a data set before spending hours on it."""
    from labeldep_cli.pipelines.data import data as run

    source = Source(dataset, val_fraction=val_fraction, test_fraction=test_fraction, split_seed=split_seed)
    report = run(data_dir, source, Machine(workers=workers), Terminal())
    if json:
        print_json(report.to_json())
    else:
        _print(report)
    name_skipped(report.skipped)
    raise typer.Exit(3 if report.skipped else 0)


def _print(report: DataReport) -> None:
    splits = report.splits
    train, val, test = (splits[name].images for name in ("train", "val", "test"))
    counts = f"train {train + val} ({train} + {val} held out)" if report.held_out else f"train {train}, val {val}"
    typer.echo(f"{report.dataset}: {counts}, test {test} images; {report.n_labels} labels")
    names = sorted(splits["train"].label_counts, key=lambda name: -splits["train"].label_counts[name])
    rows = [["labels an image", *(f"{split.labels_per_image:.2f}" for split in splits.values())]]
    rows += [["images on disk", *(str(split.on_disk) for split in splits.values())]]
    rows += [[name, *(str(split.label_counts[name]) for split in splits.values())] for name in names[:SHOWN_LABELS]]
    if len(names) > SHOWN_LABELS:
        rows.append([f"and {len(names) - SHOWN_LABELS} rarer labels", *("" for _ in splits)])
    print_table("", ["", *splits], rows)
    pairs = [[" + ".join(pair.labels), str(pair.count), f"{pair.lift:.1f}"] for pair in report.cooccurrence]
    if pairs:
        print_table("strongest co-occurrences", ["labels", "images", "times chance"], pairs)
    for name, labels in report.absent_labels.items():
        typer.echo(f"labels absent from {name}: {', '.join(labels)}")
    for group in report.duplicates:
        leak = "  <- in different splits" if group.leaks else ""
        typer.echo(f"the same file: {', '.join(group.paths)}{leak}")
    typer.echo(
        f"missing {len(report.missing)}, unreadable {len(report.unreadable)}, duplicates {len(report.duplicates)}"
    )
