"""`labeldep pretrain` and `labeldep adversarial`: from inputs to a trained run."""

from __future__ import annotations

from dataclasses import replace

from labeldep_cli.config import (
    DEFAULT_HEAD,
    AdversarialConfig,
    Machine,
    PretrainConfig,
    Scope,
    Source,
    TrainingConfig,
    Workspace,
    pick,
)
from labeldep_cli.errors import CheckpointError
from labeldep_cli.experiments.requirements import (
    require_head,
    require_start,
)
from labeldep_cli.experiments.start_rows import in_label_order, require_held_out
from labeldep_cli.experiments.train_run import Trained, default_folder, train_on
from labeldep_cli.progress import DeduplicatingReporter, Reporter
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.layout import BEST, CONFIG
from labeldep_cli.runs.record import read_config, result_of
from labeldep_cli.runs.run import Run


def pretrain(
    workspace: Workspace, source: Source, machine: Machine, config: PretrainConfig, job: Job, reporter: Reporter
) -> Trained:
    """Train G on the logistic loss (Sect. 3.2); missing features are extracted first.

    In full mode the head starts from the head-mode run of the same data set and backbone, if there is one.

    Raises:
        LabeldepError: data, weights, caches, disk or an existing run do not allow it; a loss that is not finite.
    """
    project = open_project(workspace, source, machine, reporter).for_head(config.head or DEFAULT_HEAD)
    if config.full:
        _ = project.images
    start = _head_run(project, config) if config.full else None
    if start is not None:
        config = replace(config, hidden=start.facts["hidden"])
    return train_on(project, config.resolved(), start, job)


def _head_run(project: Project, config: PretrainConfig) -> Run | None:
    """The head-mode run whose head full mode starts from; None if there is none, or if it does not fit."""
    run = _existing(project, replace(config, full=False))
    if run is None or config.hidden not in (None, run.facts["hidden"]):
        return None
    try:
        project = in_label_order(project, run)
        require_start(run, project, config.full, default_folder(project, config))
        require_held_out(run, project, config)
    except CheckpointError as error:
        project.reporter.note(f"the head starts from scratch: {error.what}")
        return None
    return run


def adversarial(
    workspace: Workspace,
    source: Source,
    machine: Machine,
    config: AdversarialConfig,
    start: str | None,
    job: Job,
    reporter: Reporter,
) -> Trained:
    """Train G and D alternately (Sects. 3.2, 3.3), from a pretrained run; extract and pretrain first if necessary.

    `start` names the run to start from; a stage or a part of a name is searched among the runs of the same data set and
    backbone. None means the pretrained run of the same data set, backbone and mode.

    Raises:
        LabeldepError: as for `pretrain`; a start that does not fit.
    """
    reporter = DeduplicatingReporter(reporter)  # pretraining opens the same data set again, with the same notes
    project = open_project(workspace, source, machine, reporter)
    if config.full:
        _ = project.images
    pretraining = PretrainConfig(
        full=config.full,
        head=config.head,
        hidden=config.hidden,
        views=config.views,
        accumulate=config.accumulate,
        checkpoint_activations=config.checkpoint_activations,
        seed=config.seed,
    )
    scope = Scope(project.dataset.name, project.source.backbone)
    run = open_run(start, workspace.runs_dir, scope, reporter) if start else _existing(project, pretraining)
    images_read = False
    if run is None:
        first_job = Job(tensorboard=job.tensorboard)
        first = pretrain(workspace, source, machine, _pretrain_config(project, pretraining), first_job, reporter)
        run, images_read = open_run(str(first.folder), workspace.runs_dir), first.images_read
        project.findings.files.clear()  # pretraining has read files that were unknown until then
        project.findings.stores.clear()
    elif start is None:
        require_held_out(run, project, pretraining)
    require_head(run, config.resolved())
    config = replace(config, head=run.head_kind, hidden=run.facts["hidden"])
    return train_on(project.for_head(run.head_kind), config.resolved(), run, job, images_read)


def _existing(project: Project, config: TrainingConfig) -> Run | None:
    """The run in a config's default folder, if finished: else the result would depend on when it was interrupted."""
    folder = default_folder(project, config)
    finished = result_of(folder) is not None and (folder / BEST).is_file()
    return open_run(str(folder), project.workspace.runs_dir) if finished else None


def _pretrain_config(project: Project, config: PretrainConfig) -> PretrainConfig:
    """The settings for pretraining first: those of an unfinished run in the default folder, else `config`."""
    folder = default_folder(project, config)
    if (folder / CONFIG).exists():
        project.reporter.note(f"the pretrained run {folder} is unfinished: going on with it first")
        recorded: PretrainConfig = pick(PretrainConfig, read_config(folder)["settings"])
        return recorded
    project.reporter.note(f"no pretrained run {folder} yet: pretraining first")
    return config
