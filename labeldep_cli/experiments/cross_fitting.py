"""Cross-fitting: every row of a data set is scored by a G and a D that were trained without it.

Each fold is a data set of ready features in memory, and its networks are runs like any other, in folders of their own:
what was trained stays, and the same command goes on where it was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from labeldep_cli.config import AdversarialConfig, AuditConfig, PretrainConfig
from labeldep_cli.datasets.split import SPLITS, Dataset, Split, hold_out
from labeldep_cli.errors import DatasetError
from labeldep_cli.evaluation.evaluate import collect_features, collect_logits
from labeldep_cli.evaluation.evidence import critic_evidence
from labeldep_cli.experiments.train_run import train_on
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.run import Run


@dataclass(frozen=True)
class HeldOutScores:
    """What G and D say of written labels that they were not trained on.

    Attributes:
        paths: N row names.
        splits: N names of their splits.
        labels: as written, int8 [N, L].
        logits: of G, float32 [N, L].
        evidence: of D, float32 [N, L]; None without a critic.
    """

    paths: Sequence[str]
    splits: Sequence[str]
    labels: NDArray[np.int8]
    logits: NDArray[np.float32]
    evidence: NDArray[np.float32] | None

    @staticmethod
    def joined(parts: Sequence[HeldOutScores]) -> HeldOutScores:
        """Opinions of one run about several splits as one."""
        evidence = [one.evidence for one in parts if one.evidence is not None]
        return HeldOutScores(
            [path for one in parts for path in one.paths],
            [split for one in parts for split in one.splits],
            np.concatenate([one.labels for one in parts]),
            np.concatenate([one.logits for one in parts]),
            np.concatenate(evidence) if evidence else None,
        )


def score_held_out(run: Run, inputs: Inputs, split: str, device: torch.device) -> HeldOutScores:
    """Ask a run about a split that it was not trained on."""
    logits = collect_logits(run.generator(device), inputs)
    evidence = None
    if run.facts["critic"] is not None:
        written = inputs.device_labels > 0  # an unknown label is left out of the set, as in training
        evidence = critic_evidence(run.critic(device), written, collect_features(inputs)).cpu().numpy()
    return HeldOutScores(inputs.paths, [split] * len(inputs.paths), inputs.labels.numpy(), logits, evidence)


def cross_fit(project: Project, config: AuditConfig, job: Job) -> tuple[HeldOutScores, tuple[Inputs, ...]]:
    """Score all rows of a data set, each by networks trained on the other folds.

    Args:
        project: data and backbone; features are extracted first where they are missing.
        config: folds, and how to train.
        job: the folder of the folds' runs.

    Returns:
        The held_out, rows in the order of their splits; and the splits' inputs.

    Raises:
        DatasetError: fewer rows than folds need.
        LabeldepError: data, weights, caches, disk or runs in the folder do not allow it.
    """
    names = [name for name in SPLITS if len(project.dataset.splits[name])]
    parts = ensure_inputs_together(project, dict.fromkeys(names, 1), full=False)
    whole = _one_split(project, parts)
    if len(whole) < 2 * config.folds:
        raise DatasetError(
            f"{project.dataset.name} has {len(whole)} rows, too few for {config.folds} folds",
            "Name fewer of them (--folds 2), or add rows.",
        )
    logits, evidence = np.zeros((2, *whole.labels.shape), dtype=np.float32)
    project.reporter.note(f"scoring {len(whole)} rows, each by a G and a D trained on the other folds")
    with project.reporter.bar("training on the other folds", config.repeats * config.folds, "folds") as bar:
        for number, rows in enumerate(_draws(len(whole), config)):
            repeat, k = divmod(number, config.folds)
            fold = _fold(project, whole, rows, config)
            folder = (job.out or Path()) / f"draw-{repeat + 1}" / f"fold-{k + 1}"
            run = _trained(fold, replace(config, seed=config.seed + repeat), Job(folder, job.fresh))
            held = FeatureInputs.of_split(fold.dataset.split("test"), project.device)
            said = score_held_out(run, held, "test", project.device)
            logits[rows] += said.logits / config.repeats
            if said.evidence is not None:
                evidence[rows] += said.evidence / config.repeats
            bar.advance()
    splits = [name for name, part in zip(names, parts, strict=True) for _ in part.paths]
    return HeldOutScores(whole.paths, splits, whole.labels, logits, evidence), parts


def _draws(n: int, config: AuditConfig) -> Iterator[NDArray[np.int64]]:
    """The rows, ascending, of every fold of every draw."""
    for repeat in range(config.repeats):
        order = np.random.default_rng([config.seed, repeat]).permutation(n)
        yield from (np.sort(rows) for rows in np.array_split(order, config.folds))


def _one_split(project: Project, parts: Sequence[Inputs]) -> Split:
    """All usable rows as ready features."""
    labels = np.concatenate([part.labels.numpy() for part in parts])
    paths = tuple(path for part in parts for path in part.paths)
    features = np.empty((len(labels), parts[0].feature_dim), dtype=np.float32)
    start = 0
    for part in parts:  # one after the other: all of them together would stand in memory twice
        end = start + len(part.labels)
        features[start:end] = collect_features(part).cpu().numpy()
        start = end
    return Split("all", paths, labels, project.dataset.space, Path(), features)


def _fold(project: Project, whole: Split, rows: NDArray[np.int64], config: AuditConfig) -> Project:
    """A data set whose test split is the fold."""
    others = np.setdiff1d(np.arange(len(whole)), rows)
    train, val = hold_out(len(others), config.held_out, config.seed, "val")
    drawn = {"train": others[train], "val": others[val], "test": rows}
    splits = {name: whole.subset(name, own) for name, own in drawn.items()}
    dataset = Dataset(project.dataset.name, splits, project.dataset.named)
    return replace(project, dataset=dataset, row=None, weights=None, reporter=SilentReporter())


def _trained(fold: Project, config: AuditConfig, job: Job) -> Run:
    """A fold's G, and a density ratio beside it."""
    folder = job.out or Path()
    first = PretrainConfig(**config.training).resolved()
    train_on(fold, first, None, Job(folder / "pretrain", job.fresh, keep=False))
    start = open_run(str(folder / "pretrain"), folder)
    second = AdversarialConfig(critic="nce", freeze_generator=True, patience=config.patience, **config.training)
    second = replace(second.resolved(), head=start.head_kind, hidden=start.facts["hidden"])
    train_on(fold, second, start, Job(folder / "critic", job.fresh, keep=False))
    return open_run(str(folder / "critic"), folder)
