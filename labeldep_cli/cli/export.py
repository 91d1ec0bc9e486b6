"""`labeldep export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, print_json
from labeldep_cli.config import DEFAULT_EXPORT_FORMAT, ExportFormat, RunWorkspace
from labeldep_cli.files import format_size

_DATASET = "Data set whose test rows the file is compared with the run on, if the run's own has moved."


def export(
    ctx: typer.Context,
    run: flags.Run = None,
    *,
    kind: Annotated[
        ExportFormat,
        typer.Option(
            "--format", help="onnx: for onnxruntime; torch: an ExportedProgram.", rich_help_panel=flags.OUTPUT
        ),
    ] = DEFAULT_EXPORT_FORMAT,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="The file; ./RUN.onnx or ./RUN.pt2 if not given.", rich_help_panel=flags.OUTPUT
        ),
    ] = None,
    weights: flags.RunWeights = None,
    run_workspace: Annotated[RunWorkspace, Take("dataset", "runs_dir", help={"dataset": _DATASET})],
    json: flags.Json = False,
) -> None:
    """Write a run as one file to take elsewhere: images in, probabilities out."""
    from labeldep_cli.pipelines.export import export as run_pipeline

    made = run_pipeline(scoped(ctx, run_workspace), run, kind, out, str(weights) if weights else None, Terminal())
    if json:
        print_json(made.to_json())
        return
    facts = made.facts
    shape = ", ".join(map(str, facts["input"]["shape"]))
    form = f"ONNX, opset {made.opset}" if made.opset else "torch's ExportedProgram"
    typer.echo(f"{made.path}: {format_size(made.size)}, {form}")
    typer.echo(
        f"{facts['input']['name']} {facts['input']['dtype']} [{shape}] -> probabilities [N, {len(facts['labels'])}]"
    )
    typer.echo(f"largest difference to the run's own probabilities: {made.difference:.1e}, {made.checked} {made.rows}")
