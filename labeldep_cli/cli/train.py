"""`labeldep pretrain` and `labeldep adversarial`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from labeldep_cli.cli import complete, flags
from labeldep_cli.cli.show import Terminal, name_skipped, print_json, print_table
from labeldep_cli.cli.torchrun import exit_code
from labeldep_cli.config import (
    AdversarialConfig,
    CriticKind,
    Machine,
    PretrainConfig,
    Sampling,
    Selection,
    Source,
    TrainingConfig,
    Workspace,
)

if TYPE_CHECKING:
    from labeldep_cli.experiments.train_run import Trained

Out = Annotated[
    Path | None, typer.Option(help="Folder of the run, in place of RUNS/NAME.", rich_help_panel=flags.WHERE)
]


def pretrain(
    dataset: flags.Dataset = Source.dataset,
    backbone: flags.BackboneName = Source.backbone,
    weights: flags.WeightsSpec = Source.weights,
    val_fraction: flags.ValFraction = Source.val_fraction,
    test_fraction: flags.TestFraction = Source.test_fraction,
    split_seed: flags.SplitSeed = Source.split_seed,
    config: flags.Config = None,
    full: flags.Full = PretrainConfig.full,
    views: flags.TrainViews = PretrainConfig.views,
    epochs: flags.Epochs = PretrainConfig.epochs,
    steps: flags.Steps = PretrainConfig.steps,
    batch_size: flags.BatchSize = PretrainConfig.batch_size,
    lr: flags.LearningRate = PretrainConfig.lr,
    loss: flags.LossName = TrainingConfig.loss,
    label_reduction: flags.LabelReductionName = PretrainConfig.label_reduction,
    head: flags.HeadName = PretrainConfig.head,
    hidden: flags.Hidden = PretrainConfig.hidden,
    select: flags.Select = PretrainConfig.select,
    patience: flags.Patience = PretrainConfig.patience,
    max_gradient_norm: flags.MaxGradientNorm = PretrainConfig.max_gradient_norm,
    train_bn: flags.TrainBn = PretrainConfig.train_bn,
    accumulate: flags.Accumulate = PretrainConfig.accumulate,
    checkpoint_activations: flags.CheckpointActivations = PretrainConfig.checkpoint_activations,
    beta1: flags.Beta = PretrainConfig.beta1,
    beta2: flags.Beta = PretrainConfig.beta2,
    seed: flags.Seed = PretrainConfig.seed,
    data_dir: flags.DataDir = Workspace.data_dir,
    runs_dir: flags.RunsDir = Workspace.runs_dir,
    features_dir: flags.FeaturesDir = Workspace.features_dir,
    out: Out = None,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    max_skipped: flags.MaxSkipped = Machine.max_skipped,
    max_memory: flags.MaxMemory = Machine.max_memory,
    fresh: flags.Fresh = False,
    tensorboard: flags.TensorBoard = False,
    json: flags.Json = False,
) -> None:
    """Train the classifier G with binary cross-entropy (Sect. 3.2 of the paper)."""
    from labeldep_cli.experiments.train import pretrain as run
    from labeldep_cli.runs.claims import Job

    _require_sense(full, train_bn, accumulate, checkpoint_activations)
    _require_score(select, patience)
    training = PretrainConfig(
        full=full,
        views=views,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        loss=loss,
        label_reduction=label_reduction,
        head=head,
        hidden=hidden,
        select=select,
        patience=patience,
        max_gradient_norm=max_gradient_norm,
        train_bn=train_bn,
        accumulate=accumulate,
        checkpoint_activations=checkpoint_activations,
        beta1=beta1,
        beta2=beta2,
        seed=seed,
    )
    source = Source(dataset, backbone, weights, val_fraction, test_fraction, split_seed)
    machine = Machine(device, workers, max_skipped, max_memory)
    workspace = Workspace(data_dir, runs_dir, features_dir)
    _show(run(workspace, source, machine, training, Job(out, fresh, tensorboard), Terminal()), json)


def _require_sense(full: bool, train_bn: bool, accumulate: int, checkpoint_activations: bool) -> None:
    """Refuse what saves memory where there is none to save, or where it would change what is learnt."""
    if checkpoint_activations and not full:
        raise typer.BadParameter(
            "a head keeps few activations: it goes with --full", param_hint="--checkpoint-activations"
        )
    if train_bn and accumulate > 1:
        raise typer.BadParameter(
            "with --train-bn the batch norms would see the parts of a batch, not the batch", param_hint="--accumulate"
        )
    if train_bn and checkpoint_activations:
        raise typer.BadParameter(
            "with --train-bn the batch norms would see every batch twice", param_hint="--checkpoint-activations"
        )


def _require_score(select: Selection | None, patience: int) -> None:
    """Refuse to wait for a better evaluation where the last one is always the best."""
    if patience and select == "last":
        raise typer.BadParameter("it waits for a better score: name one, such as --select mAP", param_hint="--patience")


def _paper(text: str, least: float | None = None, most: float | None = None) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(min=least, max=most, help=text, rich_help_panel=flags.PAPER)
    return option


def _by_critic(name: str) -> str:
    """The defaults of a setting that depends on the critic, in words."""
    return f"{AdversarialConfig.PAPER[name]:g}, with --critic nce {AdversarialConfig.NCE[name]:g}"


def adversarial(
    dataset: flags.Dataset = Source.dataset,
    backbone: flags.BackboneName = Source.backbone,
    weights: flags.WeightsSpec = Source.weights,
    start: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Run to start from; the pretrain run if not given.",
            autocompletion=complete.run,
            rich_help_panel=flags.WHAT,
        ),
    ] = None,
    val_fraction: flags.ValFraction = Source.val_fraction,
    test_fraction: flags.TestFraction = Source.test_fraction,
    split_seed: flags.SplitSeed = Source.split_seed,
    config: flags.Config = None,
    critic: Annotated[
        CriticKind, _paper("nce: a density ratio, for --decision rerank; none: the control, trained as long without.")
    ] = AdversarialConfig.critic,
    freeze_generator: Annotated[
        bool, typer.Option("--freeze-generator", help="Train the critic alone.", rich_help_panel=flags.HOW)
    ] = AdversarialConfig.freeze_generator,
    alpha: Annotated[float, _paper("Weight of the logistic loss, Eq. 2.", 0)] = AdversarialConfig.alpha,
    lambda_gp: Annotated[float, _paper("Weight of the gradient penalty, Eq. 4.", 0)] = AdversarialConfig.lambda_gp,
    critic_steps: Annotated[int, _paper("Critic updates per generator update.", 1)] = AdversarialConfig.critic_steps,
    critic_warmup: Annotated[
        int,
        typer.Option(min=0, help="Critic updates before the generator's first one.", rich_help_panel=flags.HOW),
    ] = AdversarialConfig.critic_warmup,
    inverse_temperature: Annotated[float, _paper("Of the Gumbel sigmoid.", 0)] = AdversarialConfig.inverse_temperature,
    noise_samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"With --critic nce, samples of G beside each real set; {AdversarialConfig.NCE['noise_samples']}.",
            rich_help_panel=flags.HOW,
        ),
    ] = AdversarialConfig.noise_samples,
    critic_layers: Annotated[
        int | None, _paper(f"Hidden layers of the critic; {_by_critic('critic_layers')}.", 0)
    ] = AdversarialConfig.critic_layers,
    critic_width: Annotated[int, _paper("Their width.", 1)] = AdversarialConfig.critic_width,
    critic_projection: Annotated[
        int, _paper("Width of the projections before them.", 1)
    ] = AdversarialConfig.critic_projection,
    critic_lr: Annotated[
        float | None, _paper(f"Adam's learning rate for the critic; {_by_critic('critic_lr')}.", 0)
    ] = AdversarialConfig.critic_lr,
    critic_beta1: Annotated[
        float, _paper("Adam's, for the critic.", 0, flags.BELOW_ONE)
    ] = AdversarialConfig.critic_beta1,
    critic_beta2: Annotated[
        float, _paper("Adam's, for the critic.", 0, flags.BELOW_ONE)
    ] = AdversarialConfig.critic_beta2,
    leaky_slope: Annotated[float, _paper("Of the critic's LeakyReLU.", 0)] = AdversarialConfig.leaky_slope,
    sampling: Annotated[Sampling, _paper("Label sets from G; none: row (e) of Table 3.")] = AdversarialConfig.sampling,
    negatives: Annotated[
        bool, _paper("Mismatched pairs as negatives; without: row (c).")
    ] = AdversarialConfig.negatives,
    conditional: Annotated[
        bool,
        typer.Option(
            "--conditional/--unconditional",
            help="Whether the critic sees the image; not: row (d).",
            rich_help_panel=flags.PAPER,
        ),
    ] = AdversarialConfig.conditional,
    full: flags.Full = AdversarialConfig.full,
    views: flags.TrainViews = AdversarialConfig.views,
    epochs: flags.Epochs = AdversarialConfig.epochs,
    steps: flags.Steps = AdversarialConfig.steps,
    batch_size: flags.BatchSize = AdversarialConfig.batch_size,
    lr: flags.LearningRate = AdversarialConfig.lr,
    loss: flags.LossName = TrainingConfig.loss,
    label_reduction: flags.LabelReductionName = AdversarialConfig.label_reduction,
    head: flags.HeadName = AdversarialConfig.head,
    hidden: flags.Hidden = AdversarialConfig.hidden,
    select: flags.Select = AdversarialConfig.select,
    patience: flags.Patience = AdversarialConfig.patience,
    max_gradient_norm: flags.MaxGradientNorm = AdversarialConfig.max_gradient_norm,
    train_bn: flags.TrainBn = AdversarialConfig.train_bn,
    accumulate: flags.Accumulate = AdversarialConfig.accumulate,
    checkpoint_activations: flags.CheckpointActivations = AdversarialConfig.checkpoint_activations,
    beta1: flags.Beta = AdversarialConfig.beta1,
    beta2: flags.Beta = AdversarialConfig.beta2,
    seed: flags.Seed = AdversarialConfig.seed,
    data_dir: flags.DataDir = Workspace.data_dir,
    runs_dir: flags.RunsDir = Workspace.runs_dir,
    features_dir: flags.FeaturesDir = Workspace.features_dir,
    out: Out = None,
    device: flags.Device = Machine.device,
    workers: flags.Workers = Machine.workers,
    max_skipped: flags.MaxSkipped = Machine.max_skipped,
    max_memory: flags.MaxMemory = Machine.max_memory,
    fresh: flags.Fresh = False,
    tensorboard: flags.TensorBoard = False,
    json: flags.Json = False,
) -> None:
    """Train G against a critic of label sets (Sects. 3.2, 3.3); extracts and pretrains first where that is missing."""
    from labeldep_cli.experiments.train import adversarial as run
    from labeldep_cli.runs.claims import Job

    if critic == "none" and freeze_generator:
        raise typer.BadParameter(
            "with --critic none there is nothing to train but the generator", param_hint="--freeze-generator"
        )
    _require_sense(full, train_bn, accumulate, checkpoint_activations)
    _require_score(select, patience)
    training = AdversarialConfig(
        full=full,
        views=views,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        lr=lr,
        loss=loss,
        label_reduction=label_reduction,
        head=head,
        hidden=hidden,
        select=select,
        patience=patience,
        max_gradient_norm=max_gradient_norm,
        train_bn=train_bn,
        accumulate=accumulate,
        checkpoint_activations=checkpoint_activations,
        beta1=beta1,
        beta2=beta2,
        seed=seed,
        critic=critic,
        freeze_generator=freeze_generator,
        alpha=alpha,
        lambda_gp=lambda_gp,
        critic_steps=critic_steps,
        critic_warmup=critic_warmup,
        inverse_temperature=inverse_temperature,
        noise_samples=noise_samples,
        critic_layers=critic_layers,
        critic_width=critic_width,
        critic_projection=critic_projection,
        sampling=sampling,
        negatives=negatives,
        conditional=conditional,
        critic_lr=critic_lr,
        critic_beta1=critic_beta1,
        critic_beta2=critic_beta2,
        leaky_slope=leaky_slope,
    )
    source = Source(dataset, backbone, weights, val_fraction, test_fraction, split_seed)
    machine = Machine(device, workers, max_skipped, max_memory)
    workspace = Workspace(data_dir, runs_dir, features_dir)
    _show(run(workspace, source, machine, training, start, Job(out, fresh, tensorboard), Terminal()), json)


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
    raise typer.Exit(exit_code(trained.looked and bool(trained.skipped)))
