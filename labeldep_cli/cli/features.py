"""`labeldep features`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.show import Terminal, print_json, print_table, tell
from labeldep_cli.config import Machine, Workspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.features.cleaning import FeatureRemoval, StoreSummary


def features(
    action: Annotated[
        Literal["list", "clean"],
        typer.Argument(help="list the stores, or clean: remove features of images that no known file has any more."),
    ] = "list",
    *,
    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            metavar="NAME",
            help="clean: remove this store, whatever lies in it, and nothing else; may be repeated.",
            rich_help_panel=flags.WHAT,
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="clean: first look for this data set's images, which may have moved; may be repeated.",
            autocompletion=complete.dataset,
            rich_help_panel=flags.WHAT,
            show_default=False,
        ),
    ] = None,
    yes: Annotated[
        bool,
        typer.Option(
            "--yes",
            "-y",
            help="clean: remove without asking; without it, a script only gets the list.",
            rich_help_panel=flags.HOW,
        ),
    ] = False,
    workspace: Annotated[Workspace, Take("data_dir", "features_dir")],
    machine: Annotated[Machine, Take("workers")],
    json: flags.Json = False,
) -> None:
    """List the stores of features, with their sizes; or remove what no file on this disk needs."""
    if action == "clean":
        _clean(workspace, tuple(store or ()), tuple(dataset or ()), machine, yes, json)
        return
    for given, flag in ((store, "--store"), (dataset, "--dataset"), (yes, "--yes")):
        if given:
            raise typer.BadParameter("goes with: labeldep features clean", param_hint=flag)
    from labeldep_cli.pipelines.features import list_stores

    stores = list_stores(workspace)
    if json:
        print_json({"features_dir": str(workspace.features), "stores": [one.to_json() for one in stores]})
    elif stores:
        _print(stores)
    else:
        tell(f"there are no features in {workspace.features} yet: labeldep extract --dataset DATASET computes some")


def _print(stores: list[StoreSummary]) -> None:
    cells = [
        [
            one.folder.name,
            f"{one.kind.backbone}{' regions' if one.kind.spatial else ''}",
            one.kind.weights_sha256[:8],
            one.kind.compute_dtype,
            one.broken or ("being written" if one.in_use else "-" if one.last_used is None else _day(one)),
            f"{one.images:,}",
            f"{one.crops:,}",
            format_size(one.bytes),
        ]
        for one in stores
    ]
    print_table("", ["store", "backbone", "weights", "computed in", "last used", "images", "crops", "size"], cells, 5)


def _day(one: StoreSummary) -> str:
    return "" if one.last_used is None else one.last_used.astimezone().strftime("%Y-%m-%d")


def _clean(
    workspace: Workspace, stores: tuple[str, ...], datasets: tuple[str, ...], machine: Machine, yes: bool, json: bool
) -> None:
    from labeldep_cli.pipelines.features import find_cleaning

    found = find_cleaning(workspace, stores, datasets, machine, Terminal())
    if not json:
        _print_removals(found.removals, str(workspace.features))
    asks = not yes and not json and sys.stdin.isatty() and sys.stderr.isatty()
    free = any(not removal.in_use for removal in found.removals)
    agreed = yes or (asks and free and typer.confirm("Remove them?", err=True))
    gone = found.remove(Terminal()) if agreed else []
    if json:
        items = [{**removal.to_json(), "removed": removal in gone} for removal in found.removals]
        print_json({"features_dir": str(workspace.features), "items": items})
    elif found.removals and not agreed:
        tell("nothing was removed" + ("" if asks else ": add --yes"))


def _print_removals(removals: tuple[FeatureRemoval, ...], folder: str) -> None:
    if not removals:
        tell(f"nothing to clean in {folder}")
        return
    cells = [
        [
            removal.store.folder.name,
            "in use: stays" if removal.in_use else removal.why,
            f"{removal.images:,}",
            format_size(removal.bytes),
        ]
        for removal in removals
    ]
    print_table("", ["store", "why", "images", "size"], cells, text=2)
