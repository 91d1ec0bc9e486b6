"""`python -m benchmarks NAME`: run one benchmark; without a name, list them."""

from __future__ import annotations

import sys

import typer

from benchmarks import (
    audit,
    contention,
    distributed,
    engines,
    extraction,
    full_step,
    importing,
    pixels,
    planted,
    prediction,
    rerank_cost,
    review,
    rivals,
    scale,
    size,
    splits,
    step,
)
from benchmarks.fuzz import command as fuzz_command
from benchmarks.kills import command as kills_command
from benchmarks.planted import in_training
from labeldep_cli.cli.show import print_error
from labeldep_cli.errors import LabeldepError

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Benchmarks of labeldep. Results on stdout, notes on stderr."
)
app.callback()(lambda: None)  # a lone command would take no name
app.command("planted")(planted.command)
app.command("planted-in-training")(in_training.command)
app.command("extraction")(extraction.command)
app.command("predict")(prediction.command)
app.command("rerank-cost")(rerank_cost.command)
app.command("full-step")(full_step.command)
app.command("engines")(engines.command)
app.command("distributed")(distributed.command)
app.command("scale")(scale.command)
app.command("size")(size.command)
app.command("step")(step.command)
app.command("contention")(contention.command)
app.command("audit")(audit.command)
app.command("review")(review.command)
app.command("rivals")(rivals.command)
app.command("splits")(splits.command)
app.command("import")(importing.command)
app.command("pixels")(pixels.command)
app.command("fuzz")(fuzz_command.command)
app.command("kills")(kills_command.command)


def main() -> int:
    """Run the command line; the exit code."""
    try:
        app(prog_name="python -m benchmarks")
    except LabeldepError as error:
        print_error(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
