"""`labeldep features`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.show import Terminal, print_json, print_note, print_table
from labeldep_cli.config import Machine, Workspace
from labeldep_cli.files import format_size

if TYPE_CHECKING:
    from labeldep_cli.features.cleaning import FeatureRemoval, StoreSummary


def features(
    action: Annotated[
        Literal["list", "clean"],
        typer.Argument(
            help="list: show the stores; clean: remove features whose images are no longer in any known file."
        ),
    ] = "list",
    *,
    store: Annotated[
        list[str] | None,
        typer.Option(
            "--store",
            metavar="NAME",
            help="clean: remove only this store, with all its features; may be repeated.",
            rich_help_panel=flags.WHAT,
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset",
            help="clean: search for the images of this data set first, if they have moved; may be repeated.",
            autocompletion=complete.dataset,
            rich_help_panel=flags.WHAT,
            show_default=False,
        ),
    ] = None,
    yes: flags.Yes = False,
    workspace: Annotated[Workspace, Take("data_dir", "features_dir")],
    machine: Annotated[Machine, Take("workers")],
    json: flags.Json = False,
) -> None:
    """List the stores of cached features with their sizes, or remove features that are no longer needed."""
    if action == "clean":
        _clean(workspace, tuple(store or ()), tuple(dataset or ()), machine, yes, json)
        return
    for value, flag in ((store, "--store"), (dataset, "--dataset"), (yes, "--yes")):
        if value:
            raise typer.BadParameter("is only for: labeldep features clean", param_hint=flag)
    from labeldep_cli.pipelines.features import list_stores

    stores = list_stores(workspace)
    if json:
        print_json({"features_dir": str(workspace.features), "stores": [store.to_json() for store in stores]})
    elif stores:
        _print(stores)
    else:
        print_note(
            f"there are no features in {workspace.features} yet: labeldep extract --dataset DATASET computes them"
        )


def _print(stores: list[StoreSummary]) -> None:
    cells = [
        [
            store.folder.name,
            f"{store.kind.backbone}{' regions' if store.kind.spatial else ''}",
            store.kind.weights_sha256[:8],
            store.kind.compute_dtype,
            store.broken or ("being written" if store.in_use else "-" if store.last_used is None else _day(store)),
            f"{store.images:,}",
            f"{store.crops:,}",
            format_size(store.bytes),
        ]
        for store in stores
    ]
    print_table("", ["store", "backbone", "weights", "computed in", "last used", "images", "crops", "size"], cells, 5)


def _day(store: StoreSummary) -> str:
    return "" if store.last_used is None else store.last_used.astimezone().strftime("%Y-%m-%d")


def _clean(
    workspace: Workspace, stores: tuple[str, ...], datasets: tuple[str, ...], machine: Machine, yes: bool, json: bool
) -> None:
    from labeldep_cli.pipelines.features import find_cleaning

    cleaning = find_cleaning(workspace, stores, datasets, machine, Terminal())
    if not json:
        _print_removals(cleaning.removals, str(workspace.features))
    asks = not yes and not json and sys.stdin.isatty() and sys.stderr.isatty()
    free = any(not removal.in_use for removal in cleaning.removals)
    confirmed = yes or (asks and free and typer.confirm("Remove them?", err=True))
    removed = cleaning.remove(Terminal()) if confirmed else []
    if json:
        done = {removal.store.folder: removal for removal in removed}
        items = [
            {**done.get(removal.store.folder, removal).to_json(), "removed": removal.store.folder in done}
            for removal in cleaning.removals
        ]
        print_json({"features_dir": str(workspace.features), "items": items})
    elif cleaning.removals and not confirmed:
        print_note("nothing was removed" + ("" if asks else ": add --yes"))


def _print_removals(removals: tuple[FeatureRemoval, ...], folder: str) -> None:
    if not removals:
        print_note(f"nothing to clean in {folder}")
        return
    cells = [
        [
            removal.store.folder.name,
            "kept: in use" if removal.in_use else removal.why,
            f"{removal.images:,}",
            format_size(removal.bytes),
        ]
        for removal in removals
    ]
    print_table("", ["store", "why", "images", "size"], cells, text=2)
