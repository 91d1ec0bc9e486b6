"""`labeldep pretrain` and `labeldep adversarial`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.cli.torchrun import exit_code
from labeldep_cli.config import AdversarialConfig, Machine, PretrainConfig, Source, TrainingConfig, Workspace

if TYPE_CHECKING:
    from labeldep_cli.experiments.train_run import Trained


def pretrain(
    *,
    source: Source,
    config: flags.Config = None,
    training: PretrainConfig,
    workspace: Workspace,
    out: flags.RunFolder = None,
    machine: Machine,
    fresh: flags.FreshRun = False,
    tensorboard: flags.TensorBoard = False,
    json: flags.Json = False,
) -> None:
    """Train the classifier G with binary cross-entropy (Sect. 3.2 of the paper)."""
    from labeldep_cli.experiments.train import pretrain as run
    from labeldep_cli.runs.claims import Job

    _require_sense(training)
    _require_score(training)
    _show(run(workspace, source, machine, training, Job(out, fresh, tensorboard), Terminal()), json)


def adversarial(
    *,
    source: Source,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Run to start from (folder, name, stage or part of a name); the pretrain run if not given.",
            autocompletion=complete.run,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    config: flags.Config = None,
    training: AdversarialConfig,
    workspace: Workspace,
    out: flags.RunFolder = None,
    machine: Machine,
    fresh: flags.FreshRun = False,
    tensorboard: flags.TensorBoard = False,
    json: flags.Json = False,
) -> None:
    """Train G against a critic of label sets (Sects. 3.2, 3.3); extracts and pretrains first where that is missing."""
    from labeldep_cli.experiments.train import adversarial as run
    from labeldep_cli.runs.claims import Job

    if training.critic == "none" and training.freeze_generator:
        raise typer.BadParameter(
            "with --critic none there is nothing to train but the generator", param_hint="--freeze-generator"
        )
    _require_sense(training)
    _require_score(training)
    _show(run(workspace, source, machine, training, start, Job(out, fresh, tensorboard), Terminal()), json)


def _require_sense(training: TrainingConfig) -> None:
    """Refuse what saves memory where there is none to save, or where it would change what is learnt."""
    if training.checkpoint_activations and not training.full:
        raise typer.BadParameter(
            "a head keeps few activations: it goes with --full", param_hint="--checkpoint-activations"
        )
    if training.train_bn and training.accumulate > 1:
        raise typer.BadParameter(
            "with --train-bn the batch norms would see the parts of a batch, not the batch", param_hint="--accumulate"
        )
    if training.train_bn and training.checkpoint_activations:
        raise typer.BadParameter(
            "with --train-bn the batch norms would see every batch twice", param_hint="--checkpoint-activations"
        )


def _require_score(training: TrainingConfig) -> None:
    """Refuse to wait for a better evaluation where the last one is always the best."""
    if training.patience and training.select == "last":
        raise typer.BadParameter("it waits for a better score: name one, such as --select mAP", param_hint="--patience")


def _kept(trained: Trained) -> str:
    """Which evaluation a run has kept, and why."""
    step = f"step {trained.result['best_step']} of {trained.result['steps']}"
    if trained.provenance["stage"] == "critic":
        return f"{step} is the best on val by its critic"
    if trained.select == "last":
        return f"{step}, the last"
    return f"{step} is the best on val by its {trained.select.replace('_', ' ')}"


def _show(trained: Trained, json: bool) -> None:
    from labeldep_cli.reports.tables import SUMMARY, protocol, summary

    if json:
        print_json(trained.to_json())
    else:
        result = trained.result
        print_table(f"{trained.folder}: {_kept(trained)}; val, p > 0.5", SUMMARY, [summary(result["val"])], text=0)
        if result["beta"] is not None:
            typer.echo(f"the critic's weight for --decision rerank, chosen on val: beta {result['beta']:g}")
        typer.echo(protocol("val", trained.provenance))
    name_skipped(trained.skipped)
    # Over a cache, the extraction has answered for what it skipped; where this command looked itself, it answers.
    raise typer.Exit(exit_code(trained.images_read and bool(trained.skipped)))
