"""`labeldep data`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.codes import ExitCode
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import given, say_next
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.config import DRAW, DownloadConfig, Machine, Source, Workspace
from labeldep_cli.datasets.registry import DATASETS

if TYPE_CHECKING:
    from labeldep_cli.pipelines.data import DataReport

SHOWN_LABELS = 30
_NAMES = "; ".join(f"{name}: {row.help}" for name, row in DATASETS.items())


def data(
    ctx: typer.Context,
    dataset: Annotated[str, typer.Argument(help=f"{_NAMES}; or a path, as for --dataset.")] = Source.dataset,
    urls: Annotated[
        Path | None, typer.Argument(help="With --download, for nuswide: the data set's own NUS-WIDE-urls.txt.")
    ] = DownloadConfig.urls,
    *,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="First fetch what is not there: coco's archives (20.4 GB), or nuswide's photos from URLS.",
            rich_help_panel=flags.DOWNLOAD,
        ),
    ] = False,
    wish: DownloadConfig,
    workspace: Annotated[Workspace, Take("data_dir")],
    draw: Annotated[Source, Take(*DRAW)],
    machine: Annotated[Machine, Take("workers")],
    json: flags.Json = False,
) -> None:
    """Check a data set before spending hours on it."""
    from labeldep_cli.pipelines.data import data as run

    wish = replace(wish, urls=urls)
    _require_fitting(dataset, download, wish)
    source = replace(draw, dataset=dataset)
    report = run(workspace.data_dir, source, machine, Terminal(), wish if download else None)
    if json:
        print_json(report.to_json())
    else:
        _print(report)
    name_skipped(report.skipped)
    if report.splits["train"].on_disk:
        following = "pretrain" if report.has_features else "extract"
        say_next(ctx, following, values=given(ctx, source, workspace), json=json)
    raise typer.Exit(ExitCode.of(bool(report.skipped)))


def _require_fitting(dataset: str, download: bool, wish: DownloadConfig) -> None:
    """Refuse what does not go together.

    Raises:
        typer.BadParameter: names the flag.
    """
    kind = DATASETS[dataset].download if dataset in DATASETS else None
    of_urls = {"URLS": wish.urls, "--retry-gone": wish.retry_gone}
    of_archives = {"--keep-archives": wish.keep_archives}
    if not download:
        given = [name for name, value in {**of_urls, **of_archives, "--mirror": wish.mirror}.items() if value]
        if given:
            raise typer.BadParameter(f"{given[0]} goes with --download")
        return
    if kind is None:
        raise typer.BadParameter(
            f"there is nothing to fetch for {dataset!r}; for coco and nuswide there is", param_hint="--download"
        )
    for name, value in (of_archives if kind == "urls" else of_urls).items():
        if value:
            raise typer.BadParameter(f"{name} does not go with {dataset}", param_hint="--download")
    if kind == "urls" and wish.urls is None:
        raise typer.BadParameter(
            f"name the data set's own list: labeldep data {dataset} --download NUS-WIDE-urls.txt",
            param_hint="--download",
        )
    if wish.mirror is not None and not wish.mirror.startswith(("http://", "https://")):
        raise typer.BadParameter(f"{wish.mirror!r} is no http:// or https:// URL", param_hint="--mirror")


def _print(report: DataReport) -> None:
    from labeldep_cli.features.images import Reason

    splits = report.splits
    train, val, test = (splits[name].images for name in ("train", "val", "test"))
    counts = f"train {train + val} ({train} + {val} held out)" if report.held_out else f"train {train}, val {val}"
    typer.echo(f"{report.dataset}: {counts}, test {test} images; {report.n_labels} labels")
    for sentence in report.published:
        typer.echo(sentence)
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
    gone = sum(skip.reason == Reason.MISSING.text for skip in report.unreadable)
    of_these = f" ({gone} of them not there)" if gone else ""
    typer.echo(
        f"missing {len(report.missing)}, unreadable {len(report.unreadable)}{of_these}, "
        f"duplicates {len(report.duplicates)}"
    )
