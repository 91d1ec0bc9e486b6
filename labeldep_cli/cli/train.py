"""`labeldep pretrain` and `labeldep adversarial`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from labeldep_cli.cli import complete, flags, project_file
from labeldep_cli.cli.next_command import name_of, passed_on, print_next
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_line, print_table
from labeldep_cli.cli.torchrun import exit_code
from labeldep_cli.config import (
    BACKBONE,
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
    """Train the classifier G with binary cross-entropy (Sect. 3.2 of the paper); extract first if needed."""
    from labeldep_cli.experiments.train import pretrain as run
    from labeldep_cli.runs.claims import Job

    _require_useful_memory_flags(training)
    _require_score(training)
    trained = run(workspace, source, machine, training, Job(out, fresh, tensorboard), Terminal())
    _show(trained, json)
    values = {**passed_on(ctx, source, workspace, machine, training), "start": out and str(out), "fresh": fresh}
    print_next(ctx, "adversarial", values=values, json=json)
    _end(trained)


def adversarial(
    ctx: typer.Context,
    *,
    source: Source,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Run to start from, with its data set and backbone: folder, name, stage or part of a name; the "
            "pretrain run if not given.",
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
    """Train G against a critic of label sets (Sects. 3.2, 3.3 of the paper); extract and pretrain first if needed."""
    from labeldep_cli.experiments.train import adversarial as run
    from labeldep_cli.runs.claims import Job
    from labeldep_cli.runs.record import read_config

    if training.critic == "none" and training.freeze_generator:
        raise typer.BadParameter(
            "with --critic none only the generator can be trained", param_hint="--freeze-generator"
        )
    if training.members > 1 and training.critic == "kernel":
        raise typer.BadParameter("a kernel critic has no members: its training has one optimum", param_hint="--members")
    if training.members > 1 and not training.freeze_generator:
        raise typer.BadParameter("members need a fixed generator: --freeze-generator", param_hint="--members")
    _require_useful_memory_flags(training)
    _require_score(training)
    if start is not None:
        source = _inherited(ctx, source, start, workspace.runs_dir)
    trained = run(workspace, source, machine, training, start, Job(out, fresh, tensorboard), Terminal())
    _show(trained, json)
    start_record = read_config(trained.folder)["start"]
    folders = [*([Path(start_record["run"])] if start_record else []), trained.folder]
    runs = [name_of(folder, workspace.runs_dir) for folder in folders]
    values = {**passed_on(ctx, machine), "runs_dir": workspace.runs_dir}
    print_next(ctx, "compare", *runs, values=values, json=json)
    _end(trained)


def _inherited(ctx: typer.Context, source: Source, start: str, runs_dir: Path) -> Source:
    """Take data set, draw of splits, backbone and weights from the run to start from, unless set for this command.

    They are set by a flag, the environment, `--config` or the table [adversarial] of the project file. The table
    [defaults] does not count: it is not about this run.

    Raises:
        CheckpointError: there is no such run.
    """
    from labeldep_cli.runs.names import find_run
    from labeldep_cli.runs.record import read_config

    file, has_config = project_file.of_call(ctx), ctx.params.get("config") is not None

    def is_set(name: str) -> bool:
        parameter_source = ctx.get_parameter_source(name)
        by = "" if parameter_source is None else parameter_source.name
        return by in ("COMMANDLINE", "ENVIRONMENT") or (
            by == "DEFAULT_MAP" and (has_config or file.is_own("adversarial", name))
        )

    scope = Scope(
        source.dataset if is_set("dataset") else file.scope.dataset,
        source.backbone if is_set("backbone") else file.scope.backbone,
    )
    settings = read_config(find_run(start, runs_dir, scope))["settings"]
    names = [name for name in settings_of(Source) if name in settings and not is_set(name)]
    if "dataset" not in names and holds_features(source.dataset):  # these have no backbone
        names = [name for name in names if name not in BACKBONE]
    return replace(source, **{name: settings[name] for name in names})


def _require_useful_memory_flags(training: TrainingConfig) -> None:
    """Refuse flags that save memory if they would save nothing, or would change the result."""
    if training.checkpoint_activations and not training.full:
        raise typer.BadParameter(
            "a head has few activations: use it only with --full", param_hint="--checkpoint-activations"
        )
    if training.train_bn and training.accumulate > 1:
        raise typer.BadParameter(
            "with --train-bn the batch norms would use statistics of parts of a batch, not of the batch",
            param_hint="--accumulate",
        )
    if training.train_bn and training.checkpoint_activations:
        raise typer.BadParameter(
            "with --train-bn the batch norms would be updated twice for every batch",
            param_hint="--checkpoint-activations",
        )


def _require_score(training: TrainingConfig) -> None:
    """Refuse --patience if no score says which evaluation is better."""
    if training.patience and training.select == "last":
        raise typer.BadParameter("it needs a score to improve: name one, such as --select mAP", param_hint="--patience")


def _kept_evaluation(trained: Trained) -> str:
    """Which evaluation's weights a run has kept, and by which score."""
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
        print_table(
            f"{trained.folder}: {_kept_evaluation(trained)}; val, p > 0.5", SUMMARY, [summary(result["val"])], text=0
        )
        if result["beta"] is not None:
            prior = f"; the generator's weight {result['prior']:.3g}" if "prior" in result else ""
            print_line(f"the critic's weight for --decision rerank, chosen on val: beta {result['beta']:.3g}{prior}")
        print_line(protocol("val", trained.provenance))
    name_skipped(trained.skipped)


def _end(trained: Trained) -> NoReturn:
    # Images that were skipped while the features were cached have had their exit code there. Here only those count
    # that this command itself could not read.
    raise typer.Exit(exit_code(trained.images_read and bool(trained.skipped)))
