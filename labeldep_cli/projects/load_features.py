"""`labeldep_cli.load_features`: use the features of a split from Python."""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from labeldep_cli.config import ExtractConfig, Machine, Resize, Source, Workspace
from labeldep_cli.config.reading import read_colour, read_value_range
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import CacheError, DatasetError, nearest
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.features import recognise
from labeldep_cli.projects.open import open_project


def load_features(
    dataset: str | PathLike[str],
    split: str = "train",
    *,
    backbone: str | None = Source.backbone,
    weights: str | None = Source.weights,
    image_size: int | None = Source.image_size,
    resize: Resize | None = Source.resize,
    spatial: bool = ExtractConfig.spatial,
    val_fraction: float = Source.val_fraction,
    test_fraction: float = Source.test_fraction,
    split_seed: int = Source.split_seed,
    stratify: bool = Source.stratify,
    fold: int | None = Source.fold,
    value_range: str | None = Source.value_range,
    background: str = Source.background,
    data_dir: str | PathLike[str] = Workspace.data_dir,
    features_dir: str | PathLike[str] | None = Workspace.features_dir,
) -> FeatureCache:
    """Open the features of a split that `labeldep extract` has computed, together with the current labels.

    Args:
        dataset: a named data set, or the path of your own; as for `--dataset`.
        split: train, val or test.
        backbone, weights: what the features were computed with, as for `labeldep extract`; None for what is
            stored.
        image_size, resize: how images became squares, as for `labeldep extract`.
        spatial: regions of the last feature map instead of pooled features.
        val_fraction, test_fraction, split_seed, stratify: how splits are drawn if the data set does not define them.
        fold: the fold that is the test split, for a table with folds.
        value_range, background: how pixels become 8-bit RGB, as for `labeldep extract`.
        data_dir: the folder of the data sets.
        features_dir: the folder of the features, if it is not `features` in the data folder.

    Returns:
        The features; they are read from the disk when they are used.

    Raises:
        LabeldepError: there is no such data set, backbone or weights file, or features are missing; then the error
            names the command that computes them.
    """
    if split not in SPLITS:
        raise DatasetError(f"there is no split {split!r}", nearest(split, SPLITS))
    source = Source(
        str(dataset),
        backbone,
        weights,
        image_size,
        resize,
        val_fraction,
        test_fraction,
        split_seed,
        stratify,
        fold,
        value_range=None if value_range is None else read_value_range(value_range),
        background=read_colour(background),
    )
    workspace = Workspace(Path(data_dir), features_dir=None if features_dir is None else Path(features_dir))
    project = open_project(workspace, source, Machine("cpu"), SilentReporter(), spatial=spatial)
    _ = project.images
    recognise(project, project.dataset.split(split))
    cache = project.finished_cache(split)
    if cache is None:
        raise CacheError(
            f"features of the {split} split of {project.dataset.name} are missing", f"Run: {project.extract_command}"
        )
    return cache
