"""`labeldep export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.project_file import scoped
from labeldep_cli.cli.show import Terminal, print_json, print_line
from labeldep_cli.config import DEFAULT_EXPORT_FORMAT, ExportFormat, RunWorkspace
from labeldep_cli.files import format_size

_DATASET = "Data set whose test rows are used to compare the file with the run, if the run's own has moved."


def export(
    ctx: typer.Context,
    run: flags.Run = None,
    *,
    kind: Annotated[
        ExportFormat,
        typer.Option(
            "--format",
            help="Format of the file: onnx: for onnxruntime; torch: an ExportedProgram.",
            rich_help_panel=flags.OUTPUT,
        ),
    ] = DEFAULT_EXPORT_FORMAT,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="File to write; ./RUN.onnx or ./RUN.pt2 if not given.", rich_help_panel=flags.OUTPUT
        ),
    ] = None,
    weights: flags.RunWeights = None,
    run_workspace: Annotated[RunWorkspace, Take("dataset", "runs_dir", help={"dataset": _DATASET})],
    json: flags.Json = False,
) -> None:
    """Export a run to one file for use without labeldep: images in, probabilities out."""
    from labeldep_cli.pipelines.export import export as run_pipeline

    exported = run_pipeline(scoped(ctx, run_workspace), run, kind, out, str(weights) if weights else None, Terminal())
    if json:
        print_json(exported.to_json())
        return
    facts = exported.facts
    shape = ", ".join(map(str, facts["input"]["shape"]))
    form = f"ONNX, opset {exported.opset}" if exported.opset else "torch's ExportedProgram"
    print_line(f"{exported.path}: {format_size(exported.size)}, {form}")
    print_line(
        f"{facts['input']['name']} {facts['input']['dtype']} [{shape}] -> probabilities [N, {len(facts['labels'])}]"
    )
    checked = f"{exported.checked} {exported.rows}"
    print_line(f"largest difference to the run's own probabilities: {exported.difference:.1e}, {checked}")
