"""`labeldep demo`."""

from __future__ import annotations

from typing import Annotated

import typer

from labeldep_cli.cli import flags
from labeldep_cli.cli.commands import Take
from labeldep_cli.cli.next_command import print_next
from labeldep_cli.cli.show import Terminal, print_json, print_line, print_table
from labeldep_cli.config import Machine, Workspace


def demo(
    ctx: typer.Context,
    *,
    workspace: Workspace,
    machine: Annotated[Machine, Take("device", "workers")],
    json: flags.Json = False,
) -> None:
    """Train and evaluate all stages on the embedded data set `scenes`; needs nothing else."""
    from labeldep_cli.pipelines.demo import demo as run
    from labeldep_cli.reports import tables

    result = run(workspace, machine, Terminal(lines=4))
    record = result.to_json()
    if json:
        print_json(record)
        return
    print_line("A few test images, as the critic labels them:")
    for prediction, truth in zip(result.predictions, result.truth, strict=True):
        print_line(f"  {prediction.path}: {', '.join(label for label, _ in prediction.labels) or '(no label)'}")
        print_line(f"      truth: {', '.join(truth)}")
    scores = record["baseline"]
    true = f"{scores['true_labels_per_image']:.2f} true labels an image"
    title = f"scenes (drawn images), test split: {scores['n_images']} images, {true}"
    print_table(title, ["model", "decision", *tables.DEMO], tables.demo_rows(record), text=2)
    print_line(tables.protocol("test", record["adversarial"]["provenance"]))
    for sentence in result.verdict:
        print_line(sentence)
    print_next(ctx, "init")
