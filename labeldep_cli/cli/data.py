"""`labeldep data`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import passed_on, print_next
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line, print_table
from labeldep_cli.cli.split_checks import print_gaps, print_twins
from labeldep_cli.config import READING, DownloadConfig, Machine, Source, Workspace
from labeldep_cli.datasets.registry import DATASETS

if TYPE_CHECKING:
    from labeldep_cli.datasets.decisions import Corrections
    from labeldep_cli.pipelines.data import DataReport

SHOWN_LABELS = 30
SHOWN_CONFLICTS = 10
SHOWN_DUPLICATES = 10
_NAMES = "; ".join(f"{name}: {row.help}" for name, row in DATASETS.items())


def data(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help=f"Data set: {_NAMES}; or a path, as for --dataset.")] = Source.dataset,
    urls: Annotated[
        Path | None, typer.Argument(help="File NUS-WIDE-urls.txt of the data set nuswide, for --download.")
    ] = DownloadConfig.urls,
    *,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="Download what is missing first: coco's archives (20.4 GB), or nuswide's photos from URLS.",
            rich_help_panel=flags.DOWNLOAD,
        ),
    ] = False,
    options: DownloadConfig,
    workspace: Annotated[Workspace, Take("data_dir")],
    draw: Annotated[Source, Take(*READING)],
    machine: Annotated[Machine, Take("workers")],
    json: flags.Json = False,
) -> None:
    """Check a data set: counts, labels, missing, broken and duplicate images."""
    from labeldep_cli.pipelines.data import data as run

    options = replace(options, urls=urls)
    _require_fitting(dataset, download, options)
    source = replace(draw, dataset=dataset)
    report = run(workspace.data_dir, source, machine, Terminal(), options if download else None)
    if json:
        print_json(report.to_json())
    else:
        _print(report, Path(dataset) if Path(dataset).exists() else None)
    name_skipped(report.skipped)
    if report.splits["train"].on_disk:
        following = "pretrain" if report.has_features else "extract"
        print_next(ctx, following, values=passed_on(ctx, source, workspace), json=json)
    raise typer.Exit(ExitCode.of(bool(report.skipped)))


def _require_fitting(dataset: str, download: bool, options: DownloadConfig) -> None:
    """Refuse flags that do not fit the data set or each other.

    Raises:
        typer.BadParameter: names the flag.
    """
    kind = DATASETS[dataset].download if dataset in DATASETS else None
    of_urls = {"URLS": options.urls, "--retry-gone": options.retry_gone}
    of_archives = {"--keep-archives": options.keep_archives}
    if not download:
        unfitting = [name for name, value in {**of_urls, **of_archives, "--mirror": options.mirror}.items() if value]
        if unfitting:
            raise typer.BadParameter(f"{unfitting[0]} is only for --download")
        return
    if kind is None:
        raise typer.BadParameter(
            f"{dataset!r} cannot be downloaded; only coco and nuswide can", param_hint="--download"
        )
    for name, value in (of_archives if kind == "urls" else of_urls).items():
        if value:
            raise typer.BadParameter(f"{name} does not go with {dataset}", param_hint="--download")
    if kind == "urls" and options.urls is None:
        raise typer.BadParameter(
            f"name the data set's list of URLs: labeldep data {dataset} --download NUS-WIDE-urls.txt",
            param_hint="--download",
        )
    if options.mirror is not None and not options.mirror.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{options.mirror!r} is not an http:// or https:// URL", param_hint="--mirror")


def _columns(report: DataReport) -> str:
    """The names of labels and of ignored columns, in a line."""
    more = f", and {len(report.labels) - SHOWN_LABELS} more" if len(report.labels) > SHOWN_LABELS else ""
    ignored = f"; ignored columns: {', '.join(report.ignored)}" if report.ignored else ""
    return f"labels: {', '.join(report.labels[:SHOWN_LABELS])}{more} ({len(report.labels)}){ignored}"


def _print(report: DataReport, table: Path | None) -> None:
    from labeldep_cli.features.reasons import Reason

    splits = report.splits
    train, val, test = (splits[name].images for name in ("train", "val", "test"))
    counts = f"train {train + val} ({train} + {val} held out)" if report.held_out else f"train {train}, val {val}"
    print_line(f"{report.dataset}: {counts}, test {test} images; {report.n_labels} labels")
    print_line(_columns(report))
    for sentence in report.published:
        print_line(sentence)
    names = sorted(splits["train"].label_counts, key=lambda name: -splits["train"].label_counts[name])
    rows = [["labels an image", *(f"{split.labels_per_image:.2f}" for split in splits.values())]]
    total = sum(split.images for split in splits.values())
    rows += [["share of all", *(f"{split.images / total:.1%}" for split in splits.values())]]
    for what in ("known", "present", "unknown"):
        rows += [[f"labels {what}", *(str(getattr(split, what)) for split in splits.values())]]
    rows += [["images on disk", *(str(split.on_disk) for split in splits.values())]]
    rows += [[name, *(str(split.label_counts[name]) for split in splits.values())] for name in names[:SHOWN_LABELS]]
    if len(names) > SHOWN_LABELS:
        rows.append([f"and {len(names) - SHOWN_LABELS} rarer labels", *("" for _ in splits)])
    print_table("", ["", *splits], rows)
    pairs = [[" + ".join(pair.labels), str(pair.count), f"{pair.lift:.1f}"] for pair in report.cooccurrence]
    if pairs:
        print_table("strongest co-occurrences", ["labels", "images", "times chance"], pairs)
    elif len(names) > 1:
        print_line("strongest co-occurrences: none, no two labels occur together more often than by chance")
    if report.constant_labels:
        print_line(f"labels that are never absent: {', '.join(report.constant_labels)}")
    print_gaps(report.label_gaps)
    for group in report.duplicates[:SHOWN_DUPLICATES]:
        leak = "  <- in different splits" if group.leaks else ""
        print_line(f"the same file: {', '.join(group.paths)}{leak}")
    if len(report.duplicates) > SHOWN_DUPLICATES:
        print_line(f"the same file: {len(report.duplicates) - SHOWN_DUPLICATES} more groups (--json lists all)")
    print_twins(report.near_identical, table)
    for sentence in report.pixels.sentences:
        print_line(sentence)
    if report.corrections is not None:
        _print_corrections(report.corrections)
    n_missing = sum(skip.reason == Reason.MISSING.text for skip in report.unreadable)
    of_these = f" ({n_missing} of them not on disk)" if n_missing else ""
    print_line(
        f"missing {len(report.missing)}, unreadable {len(report.unreadable)}{of_these}, "
        f"duplicates {len(report.duplicates)}"
    )


def _print_corrections(corrections: Corrections) -> None:
    """Name the decisions of `labeldep review` that are not applied, with the reason."""
    for conflict in corrections.conflicts[:SHOWN_CONFLICTS]:
        print_line(f"correction left out: {conflict.path}: {conflict.label} is {conflict.reason}")
    for path in corrections.gone[:SHOWN_CONFLICTS]:
        print_line(f"correction left out: {path} is no longer in the data set")
    more = sum(max(len(items) - SHOWN_CONFLICTS, 0) for items in (corrections.conflicts, corrections.gone))
    if more:
        print_line(f"correction left out: {more} more (--json lists all)")
