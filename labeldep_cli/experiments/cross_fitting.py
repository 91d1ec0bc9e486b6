"""Cross-fitting: every row of a data set is scored by a G and a D that were trained without it.

Each fold is a data set of ready features in memory. Its networks are ordinary runs in their own folders, so that
finished training is kept, and the same command continues after an interruption.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeldep_cli.config import AdversarialConfig, AuditConfig, PretrainConfig, changed
from labeldep_cli.datasets.draw import hold_out
from labeldep_cli.datasets.split import SPLITS, Dataset, Split
from labeldep_cli.datasets.units import numbered, unit_names
from labeldep_cli.errors import CheckpointError, DatasetError
from labeldep_cli.evaluation.audit import audited_labels
from labeldep_cli.evaluation.evaluate import collect_features, collect_logits
from labeldep_cli.evaluation.evidence import critic_evidence
from labeldep_cli.experiments.train_run import train_on
from labeldep_cli.files import make_folder, storing, write_text
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.inputs import ensure_inputs_together
from labeldep_cli.projects.project import Project
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.run import Run
from labeldep_cli.schemas import conform, parse_json

ORIGIN = "origin.json"
"""The file that says what the folds' runs were trained on."""

_FORMER_ORIGIN = "data.sha256"  # version 0.2.0 kept the fingerprint alone


@dataclass(frozen=True)
class _Origin:
    """What the folds' runs in a folder were trained on, and how.

    Attributes:
        fingerprint: of all rows and labels (`Split.fingerprint`).
        dataset: name of the data set; empty if it is not recorded.
        settings: the settings that decide how a fold's run is trained; None if they are not recorded.
    """

    fingerprint: str
    dataset: str
    settings: dict[str, Any] | None

    @staticmethod
    def recorded(folder: Path) -> _Origin | None:
        """The origin of the runs in a folder; None if there is no readable record."""
        with suppress(OSError, ValueError):
            return conform(parse_json((folder / ORIGIN).read_text(encoding="utf-8")), _Origin)
        with suppress(OSError, ValueError):
            return _Origin((folder / _FORMER_ORIGIN).read_text(encoding="utf-8"), "", None)
        return None

    def require_same(self, recorded: _Origin, folder: Path) -> None:
        """Refuse a folder with the audit of another data set, or one with other settings.

        Raises:
            CheckpointError: names the difference.
        """
        remedy = "Name another folder with --out, or replace that audit with --fresh."
        if recorded.fingerprint != self.fingerprint and recorded.dataset not in ("", self.dataset):
            raise CheckpointError(f"{folder} has an audit of {recorded.dataset}, not of {self.dataset}", remedy)
        words = [] if recorded.settings is None else changed(self.settings or {}, recorded.settings)
        if words:
            raise CheckpointError(f"{folder} has an audit with other settings: {'; '.join(words)}", remedy)


@dataclass(frozen=True)
class HeldOutScores:
    """The outputs of G and D for annotated rows that they were not trained on. N rows, L labels, A of them audited.

    Attributes:
        paths: N row names.
        splits: N names of their splits.
        sets: all annotated labels, int8 [N, L].
        audited: the numbers of the audited labels, ascending, int64 [A].
        logits: G's logits of the audited labels, float32 [N, A].
        evidence: D's evidence for each audited label given all others, float32 [N, A]; None without a critic.
    """

    paths: Sequence[str]
    splits: Sequence[str]
    sets: NDArray[np.int8]
    audited: NDArray[np.int64]
    logits: NDArray[np.float32]
    evidence: NDArray[np.float32] | None

    @property
    def labels(self) -> NDArray[np.int8]:
        """The annotated labels that are audited, int8 [N, A]."""
        return self.sets[:, self.audited]

    @staticmethod
    def joined(parts: Sequence[HeldOutScores]) -> HeldOutScores:
        """Join the outputs of one run for several splits."""
        evidence = [part.evidence for part in parts if part.evidence is not None]
        return HeldOutScores(
            [path for part in parts for path in part.paths],
            [split for part in parts for split in part.splits],
            np.concatenate([part.sets for part in parts]),
            parts[0].audited,
            np.concatenate([part.logits for part in parts]),
            np.concatenate(evidence) if evidence else None,
        )


def score_held_out(
    run: Run, inputs: Inputs, split: str, audited: NDArray[np.int64], device: torch.device
) -> HeldOutScores:
    """Score the audited labels [A] of a split that a run was not trained on."""
    logits = collect_logits(run.generator(device), inputs)[:, audited]
    evidence = None
    if run.facts["critic"] is not None:
        annotated = inputs.device_labels > 0  # an unknown label is left out of the set, as in training
        asked = torch.from_numpy(audited).to(device).expand(len(annotated), -1)
        evidence = critic_evidence(run.critic(device), annotated, collect_features(inputs), asked).cpu().numpy()
    return HeldOutScores(inputs.paths, [split] * len(inputs.paths), inputs.labels.numpy(), audited, logits, evidence)


def cross_fit(
    project: Project, config: AuditConfig, job: Job, restarts: Callable[[], None]
) -> tuple[HeldOutScores, tuple[Inputs, ...]]:
    """Score all rows of a data set, each by networks trained on the other folds.

    Args:
        project: data and backbone; missing features are extracted first.
        config: number of folds, and training settings.
        job: the folder of the folds' runs. Runs that were trained on other rows or labels are removed.
        restarts: called before they are removed.

    Returns:
        The scores, rows in the order of their splits; and the splits' inputs.

    Raises:
        DatasetError: there are fewer than two rows, or groups, per fold.
        CheckpointError: the folder has the runs of another data set, or runs with other settings.
        LabeldepError: a problem with data, weights, caches, the disk or the runs in the folder.
    """
    names = [name for name in SPLITS if len(project.dataset.splits[name])]
    parts = ensure_inputs_together(project, dict.fromkeys(names, 1), full=False)
    all_rows = _one_split(project, parts)
    n_units = int(_units(all_rows).max(initial=-1)) + 1
    if n_units < 2 * config.folds:
        units = "rows" if all_rows.groups is None else "groups"
        raise DatasetError(
            f"{project.dataset.name} has {n_units} {units}, too few for {config.folds} folds",
            "Use fewer folds (--folds 2), or add rows.",
        )
    folder = job.out or Path()
    settings = {name: getattr(config, name) for name in ("folds", "seed", "hidden", "steps", "held_out", "patience")}
    name = _make_way(folder, _Origin(all_rows.fingerprint, project.dataset.name, settings), job.fresh, restarts)
    audited = audited_labels([all_rows.labels])
    logits, evidence = np.zeros((2, len(all_rows), len(audited)), dtype=np.float32)
    project.reporter.note(f"scoring {len(all_rows)} rows, each by a G and a D trained on the other folds")
    with project.reporter.bar("training on the other folds", config.repeats * config.folds, "folds") as bar:
        for number, rows in enumerate(_draws(all_rows, config)):
            repeat, k = divmod(number, config.folds)
            fold = _fold(project, name, all_rows, rows, config)
            runs = folder / f"draw-{repeat + 1}" / f"fold-{k + 1}"
            run = _trained(fold, replace(config, seed=config.seed + repeat), Job(runs))
            fold_inputs = FeatureInputs.of_split(fold.dataset.split("test"), project.device)
            scores = score_held_out(run, fold_inputs, "test", audited, project.device)
            logits[rows] += scores.logits / config.repeats
            if scores.evidence is not None:
                evidence[rows] += scores.evidence / config.repeats
            bar.advance()
    splits = [name for name, part in zip(names, parts, strict=True) for _ in part.paths]
    return HeldOutScores(all_rows.paths, splits, all_rows.labels, audited, logits, evidence), parts


def _make_way(folder: Path, origin: _Origin, fresh: bool, restarts: Callable[[], None]) -> str:
    """Remove the folds' runs if rows or labels have changed, or if `fresh` is set; keep the new origin.

    Only after the removal the new origin is written, so that an interrupted removal is completed by the next call.
    Runs without a record stay, and are checked one by one when they are opened.

    Returns:
        The name of the data set that the runs bear: the recorded one if the same rows and labels have another name now.
    """
    recorded = _Origin.recorded(folder)
    has_changed = recorded is not None and recorded.fingerprint != origin.fingerprint
    if recorded is not None and not fresh:
        origin.require_same(recorded, folder.parent)
        if recorded.dataset and not has_changed:
            origin = replace(origin, dataset=recorded.dataset)
    if has_changed:
        restarts()
    if has_changed or fresh:
        for runs in folder.glob("draw-*/fold-*"):
            with storing(runs):
                shutil.rmtree(runs)
    if recorded != origin:
        make_folder(folder)
        write_text(folder / ORIGIN, json.dumps(asdict(origin)) + "\n")
    return origin.dataset


def _draws(all_rows: Split, config: AuditConfig) -> Iterator[NDArray[np.int64]]:
    """The rows of every fold of every draw, in ascending order; no group is divided."""
    units = _units(all_rows)
    ends = np.cumsum([len(part) for part in np.array_split(np.arange(len(units)), config.folds)])
    for repeat in range(config.repeats):
        permutation = np.random.default_rng([config.seed, repeat]).permutation(units.max() + 1)
        place = np.argsort(permutation)[units]  # [N], the place of each row's unit in the order of this draw
        before = np.bincount(place).cumsum() - np.bincount(place)  # rows of the units before each unit
        fold = np.searchsorted(ends, before, side="right")[place]
        yield from (np.flatnonzero(fold == k) for k in range(config.folds))


def _units(rows: Split) -> NDArray[np.int64]:
    """The number of each row's unit, int64 [N]: of its group if it has one."""
    return numbered(unit_names(rows.paths, rows.groups))


def _one_split(project: Project, parts: Sequence[Inputs]) -> Split:
    """All usable rows as one split of ready features."""
    labels = np.concatenate([part.labels.numpy() for part in parts])
    paths = tuple(path for part in parts for path in part.paths)
    features = np.empty((len(labels), parts[0].feature_dim), dtype=np.float32)
    start = 0
    for part in parts:  # one after the other: joining all at once would need twice the memory
        end = start + len(part.labels)
        features[start:end] = collect_features(part).cpu().numpy()
        start = end
    return Split("all", paths, labels, project.dataset.space, Path(), features, groups=_groups(project.dataset, paths))


def _groups(dataset: Dataset, paths: Sequence[str]) -> tuple[str, ...] | None:
    """The group of each of these rows; None if the data set has no groups."""
    group_of: dict[str, str] = {}
    for split in dataset.splits.values():
        group_of.update(zip(split.paths, split.groups or (), strict=False))
    return tuple(group_of[path] for path in paths) if group_of else None


def _fold(project: Project, name: str, all_rows: Split, rows: NDArray[np.int64], config: AuditConfig) -> Project:
    """A project whose test split is the fold; train and val are drawn from the other rows."""
    others = np.setdiff1d(np.arange(len(all_rows)), rows)
    units = _units(all_rows.subset("others", others))
    _, val_units = hold_out(units.max() + 1, config.held_out, config.seed, "val")
    is_val = np.isin(units, val_units)
    drawn = {"train": others[~is_val], "val": others[is_val], "test": rows}
    splits = {name: all_rows.subset(name, indices) for name, indices in drawn.items()}
    dataset = Dataset(name, splits, project.dataset.named)
    return replace(project, dataset=dataset, row=None, weights=None, reporter=SilentReporter())


def _trained(fold: Project, config: AuditConfig, job: Job) -> Run:
    """Train a fold's G; then, with G fixed, a critic that is a density ratio."""
    folder = job.out or Path()
    first = PretrainConfig(**config.training).resolved()
    train_on(fold, first, None, Job(folder / "pretrain", keep=False))
    start = open_run(str(folder / "pretrain"), folder)
    second = AdversarialConfig(critic="nce", freeze_generator=True, patience=config.patience, **config.training)
    second = replace(second.resolved(), head=start.head_kind, hidden=start.facts["hidden"])
    train_on(fold, second, start, Job(folder / "critic", keep=False))
    return open_run(str(folder / "critic"), folder)
