"""`labeldep reproduce --plan`: estimate rows, cost and disk space without writing or training anything."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labeldep_cli.config import DEFAULT_HEAD, AdversarialConfig, PretrainConfig, ReproduceConfig, TrainingConfig
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.features.store.layout import segment_bytes
from labeldep_cli.files import plain_name
from labeldep_cli.models.backbones import architecture, classifier, to_backbone
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.heads.registry import HEADS
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.projects.project import Project
from labeldep_cli.reproduction.matrix import BASELINE, Matrix, Training
from labeldep_cli.reproduction.scored import head_first, is_finished

_FLOAT = 4  # bytes


@dataclass(frozen=True)
class PlannedRow:
    """One network of the matrix, for all seeds together.

    Attributes:
        title: title of the network.
        tables: numbers of the tables that contain it.
        trainings: number of trainings, one per seed.
        finished: how many of them are finished already.
        generator_updates, critic_updates: number of updates in all its trainings.
        batch_size: rows per update.
        megabytes: size of its checkpoints.
    """

    title: str
    tables: tuple[int, ...]
    trainings: int
    finished: int
    generator_updates: int
    critic_updates: int
    batch_size: int
    megabytes: float


@dataclass(frozen=True)
class PlannedCache:
    """A cache of features that exists or has to be extracted."""

    path: Path
    exists: bool
    images: int
    views: int
    megabytes: float


@dataclass(frozen=True)
class Plan:
    """The cost of a matrix."""

    rows: tuple[PlannedRow, ...]
    caches: tuple[PlannedCache, ...]
    left_out: Mapping[str, str]

    def to_json(self) -> dict[str, Any]:
        """One JSON object: rows, caches, totals."""
        return {
            "rows": [{**vars(row), "tables": list(row.tables)} for row in self.rows],
            "caches": [{**vars(cache), "path": str(cache.path)} for cache in self.caches],
            "trainings": sum(row.trainings for row in self.rows),
            "finished": sum(row.finished for row in self.rows),
            "generator_updates": sum(row.generator_updates for row in self.rows),
            "critic_updates": sum(row.critic_updates for row in self.rows),
            "images_to_extract": sum(cache.images * cache.views for cache in self.caches if not cache.exists),
            "cache_megabytes": sum(cache.megabytes for cache in self.caches),
            "checkpoint_megabytes": sum(row.megabytes for row in self.rows),
            "left_out": [{"row": title, "reason": reason} for title, reason in self.left_out.items()],
        }


def plan(matrix: Matrix, projects: Mapping[str | None, Project], config: ReproduceConfig, out: Path) -> Plan:
    """Estimate the cost of a matrix.

    Args:
        matrix: rows and networks.
        projects: data set and backbone, by the backbone's name.
        config: how the networks are trained.
        out: the folder of the runs; it is searched for finished ones.
    """
    rows = [row for training in matrix.trainings for row in _planned(training, matrix, projects, config, out)]
    kinds_of_features = {(training.model.backbone, HEADS[training.model.head].spatial) for training in matrix.trainings}
    kinds = [replace(projects[name], spatial=spatial) for name, spatial in sorted(kinds_of_features, key=str)]
    caches = tuple(cache for project in kinds if project.row for cache in _caches(project, config.full))
    return Plan(tuple(rows), caches, matrix.left_out)


def _planned(
    training: Training, matrix: Matrix, projects: Mapping[str | None, Project], config: ReproduceConfig, out: Path
) -> Iterator[PlannedRow]:
    project = projects[training.model.backbone].for_head(training.model.head)
    planned = replace(training.config(config, 0), head=training.model.head)
    tables = tuple(
        number for number, rows in matrix.tables.items() if any(r.training.key == training.key for r in rows)
    )
    finished = [is_finished(training.folder(out, seed)) for seed in range(config.seeds)]
    if training.stage == BASELINE and isinstance(planned, PretrainConfig) and planned.full:
        yield _row(f"{training.title}, its head first", (), finished, project, head_first(planned))
    yield _row(training.title, tables, finished, project, planned)


def _row(
    title: str, tables: tuple[int, ...], finished: Sequence[bool], project: Project, config: TrainingConfig
) -> PlannedRow:
    resolved = config.resolved()
    per_epoch = -(-len(project.dataset.split("train")) // resolved.rows_per_batch)
    steps = resolved.total_steps(per_epoch) * len(finished)
    critic = isinstance(resolved, AdversarialConfig) and resolved.critic != "none"
    frozen = isinstance(resolved, AdversarialConfig) and resolved.freeze_generator
    return PlannedRow(
        title,
        tables,
        len(finished),
        sum(finished),
        0 if frozen else steps,
        steps * resolved.critic_steps if isinstance(resolved, AdversarialConfig) and critic else 0,
        resolved.rows_per_batch,
        len(finished) * _checkpoint_bytes(project, resolved) / 1e6,
    )


def _caches(project: Project, full: bool) -> Iterator[PlannedCache]:
    """The caches that a matrix needs: in full mode only train and val, for the heads that are trained first."""
    for name in SPLITS[:2] if full else SPLITS:
        split, cache = project.dataset.split(name), project.finished_cache(name)
        views = 1 if cache is None else cache.views
        size = segment_bytes(len(split), "test", _shape(project)) * views / 1e6
        kind = f"{plain_name(project.images[0].name)}{'-spatial' if project.spatial else ''}"
        path = project.workspace.features / f"{kind}-{name}" if cache is None else cache.path / name
        yield PlannedCache(path, cache is not None, len(split), views, size)


def _shape(project: Project) -> tuple[int, ...]:
    """Shape of an image's features, (F,) or (S, F). The backbone is built on the meta device only."""
    if project.row is None:
        features = project.dataset.split("train").features
        return (0 if features is None else int(features.shape[1]),)
    with torch.device("meta"):
        if project.spatial:
            return RegionFeatures(architecture(project.row).eval(), project.row).shape
        return (project.row.feature_dim or to_backbone(project.row, classifier(project.row)),)


def _checkpoint_bytes(project: Project, config: TrainingConfig) -> int:
    """Size of `best` (networks) and `last` (networks, and two Adam moments for each trained parameter)."""
    width, labels = _shape(project)[-1], len(project.dataset.space)
    with torch.device("meta"):
        networks: list[nn.Module] = [HEADS[config.head or DEFAULT_HEAD](width, labels, int(config.hidden or 0))]
        if config.full and project.row is not None:
            networks.append(architecture(project.row))
        moments = list(networks)
        if isinstance(config, AdversarialConfig) and config.critic != "none":
            networks.append(Discriminator(labels, width, **config.critic_shape))
            moments = networks[-1:] if config.freeze_generator else networks
    values = sum(value.numel() for network in networks for value in network.state_dict().values())
    learned = sum(value.numel() for network in moments for value in network.parameters())
    return _FLOAT * int(2 * values + 2 * learned)
