"""`labeldep backbones`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.show import print_json, print_note, print_table

if TYPE_CHECKING:
    from labeldep_cli.pipelines.backbones import BackboneSummary

_SOURCES = {"paper": "the paper's", "labeldep": "labeldep", "torchvision": "torchvision", "timm": "timm"}


def backbones(
    pattern: Annotated[
        str | None,
        typer.Argument(
            metavar="PATTERN",
            help="Part of a name, or a whole name with * and ?; without it the paper's backbones and recommended ones.",
            show_default=False,
        ),
    ] = None,
    *,
    json: flags.Json = False,
) -> None:
    """List backbones with their feature width, parameters, image size, and whether their weights are on this disk."""
    from labeldep_cli.pipelines.backbones import MOST_MEASURED, list_backbones

    listed = list_backbones(pattern)
    if json:
        print_json(listed.to_json())
        return
    header = ["backbone", "source", "weights", "features", "parameters", "image size"]
    print_table("", header, [_cells(row) for row in listed.rows], text=3)
    if not listed.measured:
        print_note(f"{len(listed.rows)} backbones: the sizes of at most {MOST_MEASURED} are shown; name more of it")
    if not listed.with_timm:
        print_note("the models of timm are not listed, since it is not installed: pip install 'labeldep[timm]'")


def _cells(row: BackboneSummary) -> list[str]:
    weights = "on this disk" if row.on_disk else "to download" if row.published else "none published"
    parameters = "" if row.parameters is None else f"{row.parameters / 1e6:.1f} M"
    features = "" if row.features is None else str(row.features)
    return [row.name, _SOURCES[row.source], weights, features, parameters, f"{row.image_size} {row.resize}"]
