"""Where D's features come from in full mode: a cache of the training rows, if one holds all views that are drawn.

Each update of the paper's critic takes three batches, of which G looks at one. With z read from a cache the frozen CNN
never runs while training, and the images of the other two are not decoded. Rounding to 16 bits in the cache changes
numbers a little, so a run goes on as it began. Val and test images pass the CNN, as they do in `predict`.
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


def reads_cache(project: Project, config: TrainingConfig, train: Inputs, begun: Mapping[str, Any]) -> bool:
    """Whether D's features come from the cache; `begun` is the record of a run to go on with, empty for a new one."""
    if begun:
        return bool(begun.get("cached_z", False))
    return _asks_for_z(config, train) and _cache(project, train) is not None


def give_z(project: Project, config: TrainingConfig, train: Inputs, cached_z: bool) -> None:
    """Have the training rows bring z from the cache, if that is how the run goes, or say what would make it cheaper.

    Raises:
        CacheError: the run began with a cache that is gone, or holds too few views now.
    """
    if not isinstance(train, ImageInputs) or not _asks_for_z(config, train):
        return
    cache = _cache(project, train)
    if cached_z and cache is None:
        raise CacheError(
            f"this run began with D's features read from {project.workspace.features}, which lacks some of them now",
            f"Run: {_command(project, train)}\nor train anew without it: the same command with --fresh.",
        )
    if cached_z and cache is not None:
        train.read_z_from(cache)
    elif cache is None:
        project.reporter.note(f"D's images pass the frozen CNN too; a cache spares it that: {_command(project, train)}")


def _asks_for_z(config: TrainingConfig, train: Inputs) -> bool:
    return isinstance(train, ImageInputs) and isinstance(config, AdversarialConfig) and config.critic != "none"


def _cache(project: Project, train: Inputs) -> FeatureCache | None:
    cache = project.finished_cache("train")
    return cache if cache is not None and cache.views >= train.n_views else None


def _command(project: Project, train: Inputs) -> str:
    """What computes these features."""
    return f"{project.extract_command} --split train{f' --views {N_VIEWS}' if train.n_views > 1 else ''}"
