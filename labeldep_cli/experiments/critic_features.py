"""Where D's features z come from in full mode: a cache of the training rows, if it holds all views that are drawn.

Each update of the paper's critic takes three batches, and G uses only one of them. With z read from a cache, the
frozen CNN never runs during training, and the images of the other two batches are not decoded. The cache rounds to 16
bits, which changes the numbers a little, so a run continues the way it started. Val and test images always pass the
CNN, as in `predict`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from labeldep_cli.config import AdversarialConfig, TrainingConfig
from labeldep_cli.errors import CacheError
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.inputs.images import ImageInputs
from labeldep_cli.projects.project import Project


def reads_cache(project: Project, config: TrainingConfig, train: Inputs, record: Mapping[str, Any]) -> bool:
    """Whether D's features come from the cache; `record` is that of a run to continue, empty for a new run."""
    if record:
        return bool(record.get("cached_z", False))
    return _needs_z(config, train) and _cache(project, train) is not None


def use_cached_z(project: Project, config: TrainingConfig, train: Inputs, cached_z: bool) -> None:
    """Let the training rows read z from the cache if `cached_z` is set; else report the command that computes one.

    Raises:
        CacheError: the run started with a cache that is missing now, or has too few views.
    """
    if not isinstance(train, ImageInputs) or not _needs_z(config, train):
        return
    cache = _cache(project, train)
    if cached_z and cache is None:
        raise CacheError(
            f"this run started with D's features read from {project.workspace.features}; some are missing now",
            f"Run: {_command(project, train)}\nor start again without them: the same command with --fresh.",
        )
    if cached_z and cache is not None:
        train.read_z_from(cache)
    elif cache is None:
        project.reporter.note(
            f"D's images pass the frozen CNN too; cached features avoid it: {_command(project, train)}"
        )


def _needs_z(config: TrainingConfig, train: Inputs) -> bool:
    return isinstance(train, ImageInputs) and isinstance(config, AdversarialConfig) and config.critic != "none"


def _cache(project: Project, train: Inputs) -> FeatureCache | None:
    cache = project.finished_cache("train")
    return cache if cache is not None and cache.views >= train.n_views else None


def _command(project: Project, train: Inputs) -> str:
    """The command that computes these features."""
    return f"{project.extract_command} --split train{f' --views {N_VIEWS}' if train.n_views > 1 else ''}"
