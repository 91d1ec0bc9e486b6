"""`labeldep pretrain` and `labeldep adversarial`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from labeldep_cli.cli import complete, flags, project_file
from labeldep_cli.cli.next_command import given, name_of, say_next
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.cli.torchrun import exit_code
from labeldep_cli.config import (
    AdversarialConfig,
    Machine,
    PretrainConfig,
    Scope,
    Source,
    TrainingConfig,
    Workspace,
    settings_of,
)
from labeldep_cli.datasets.formats import holds_features

if TYPE_CHECKING:
    from labeldep_cli.experiments.train_run import Trained


def pretrain(
    ctx: typer.Context,
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
    trained = run(workspace, source, machine, training, Job(out, fresh, tensorboard), Terminal())
    _show(trained, json)
    values = {**given(ctx, source, workspace, machine, training), "start": out and str(out)}
    say_next(ctx, "adversarial", values=values, json=json)
    _end(trained)


def adversarial(
    ctx: typer.Context,
    *,
    source: Source,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Run to start from, with its data set and backbone: a folder, name, stage or part of a name. "
            "Without it: the pretrain run.",
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
    from labeldep_cli.runs.record import read_config

    if training.critic == "none" and training.freeze_generator:
        raise typer.BadParameter(
            "with --critic none there is nothing to train but the generator", param_hint="--freeze-generator"
        )
    _require_sense(training)
    _require_score(training)
    if start is not None:
        source = _inherited(ctx, source, start, workspace.runs_dir)
    trained = run(workspace, source, machine, training, start, Job(out, fresh, tensorboard), Terminal())
    _show(trained, json)
    start_record = read_config(trained.folder)["start"]
    folders = [*([Path(start_record["run"])] if start_record else []), trained.folder]
    runs = [name_of(folder, workspace.runs_dir) for folder in folders]
    values = {**given(ctx, machine), "runs_dir": workspace.runs_dir}
    say_next(ctx, "compare", *runs, values=values, json=json)
    _end(trained)


def _inherited(ctx: typer.Context, source: Source, start: str, runs_dir: Path) -> Source:
    """Data set, draw, backbone and weights of the run to start from, where no flag says otherwise.

    The defaults that all commands of a project file have in common say nothing otherwise: they name no run.

    Raises:
        CheckpointError: there is no such run.
    """
    from labeldep_cli.runs.names import find_run
    from labeldep_cli.runs.record import read_config

    file, has_config = project_file.of_call(ctx), ctx.params.get("config") is not None

    def is_said(name: str) -> bool:
        given = ctx.get_parameter_source(name)
        by = "" if given is None else given.name
        return by in ("COMMANDLINE", "ENVIRONMENT") or (
            by == "DEFAULT_MAP" and (has_config or file.is_own("adversarial", name))
        )

    scope = Scope(
        source.dataset if is_said("dataset") else file.dataset,
        source.backbone if is_said("backbone") else file.backbone,
    )
    settings = read_config(find_run(start, runs_dir, scope))["settings"]
    names = [name for name in settings_of(Source) if name in settings and not is_said(name)]
    if "dataset" not in names and holds_features(source.dataset):  # they take no backbone
        names = [name for name in names if name not in ("backbone", "weights")]
    return replace(source, **{name: settings[name] for name in names})


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


def _end(trained: Trained) -> NoReturn:
    # Over a cache, the extraction has answered for what it skipped; where this command looked itself, it answers.
    raise typer.Exit(exit_code(trained.images_read and bool(trained.skipped)))
