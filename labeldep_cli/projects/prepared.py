"""Finds the backbones and weights with which a data set has features or runs on this disk: it is prepared for them.

If the user names no backbone or no weights, the prepared ones are used, so that no work starts with another backbone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from labeldep_cli.config import DEFAULT_BACKBONE, DEFAULT_WEIGHTS, Source, Workspace
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import BackboneError, CacheError
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.files import sha256
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.listing import read_run_record, run_folders

_MOST = 0.5
"""A data set is prepared for a store that has more than this share of its images."""


@dataclass(frozen=True)
class Prepared:
    """A backbone with weights, of which a data set has features or a run.

    Attributes:
        backbone: name of the backbone.
        weights: its weights, located, with the same hash as then.
        by: whether features or only a run exist.
    """

    backbone: str
    weights: Weights
    by: Literal["features", "run"]

    def __str__(self) -> str:
        """Backbone and weights; a path in the working directory is relative."""
        spec = self.weights.spec
        if spec == DEFAULT_WEIGHTS:
            return self.backbone
        if spec == "none":
            return f"{self.backbone} with random weights"
        inside = Path(spec).is_relative_to(Path.cwd())
        return f"{self.backbone} with {os.path.relpath(spec) if inside else spec}"


def settle(
    workspace: Workspace, source: Source, dataset: Dataset, files: dict[str, SplitFiles], reporter: Reporter
) -> Source:
    """Fill in backbone and weights if the user names none.

    If there is one prepared choice, it is taken, and a note says so. If there are several, the default is taken, and a
    note names them.

    Args:
        workspace: the folders of features and runs.
        source: the user's settings.
        dataset: a data set of images.
        files: the image files of the rows, by split. Missing splits are added if they are needed.
        reporter: takes the note.
    """
    default = source.backbone or dataset.backbone or DEFAULT_BACKBONE
    settled = replace(source, backbone=default, weights=source.weights or DEFAULT_WEIGHTS)
    if (source.backbone and source.weights) or (dataset.backbone and not source.backbone):
        return settled
    choices = [
        prepared
        for prepared in find_prepared(workspace, dataset, source.backbone, files)
        if _has(prepared, source.weights)
    ]
    if any((choice.backbone, choice.weights.spec) == (settled.backbone, settled.weights) for choice in choices):
        return settled
    flags = " and ".join(
        flag for flag, value in (("--backbone", source.backbone), ("--weights", source.weights)) if not value
    )
    if len(choices) == 1:
        choice = choices[0]
        why = {"features": "its features are on this disk", "run": "as in the run on this disk"}[choice.by]
        reporter.note(f"{choice}: {why}; choose another with {flags}")
        return replace(source, backbone=choice.backbone, weights=choice.weights.spec)
    if choices:
        reporter.note(f"{default} is used, but there are features or runs with {_listed(choices)}: choose with {flags}")
    return settled


def find_prepared(
    workspace: Workspace, dataset: Dataset, backbone: str | None, files: dict[str, SplitFiles]
) -> list[Prepared]:
    """Find the backbones and weights that a data set is prepared for. Weights that no longer exist are left out.

    Args:
        workspace: the folders of features and runs.
        dataset: a data set of images.
        backbone: name of the only backbone to search for; None for all.
        files: as for `settle`.
    """
    records = list(_records(workspace.runs_dir))
    stores = [store for store in FeatureStore.all_in(workspace.features) if backbone in (None, store.kind.backbone)]
    by: dict[tuple[str, str], Literal["features", "run"]] = {}
    specs: dict[tuple[str, str], list[str]] = {}
    for store in stores:
        key = (store.kind.backbone, store.kind.weights_sha256)
        specs.setdefault(key, []).extend(store.weights_specs())
        if key not in by and _holds_most(store, workspace, dataset, files):
            by[key] = "features"
    for record in records:
        name, weights = record["settings"].get("backbone"), record.get("weights")
        if weights is None or backbone not in (None, name):
            continue
        key = (name, weights["sha256"])
        specs.setdefault(key, []).append(record["settings"]["weights"])
        if record["dataset"]["name"] == dataset.name:
            by.setdefault(key, "run")
    located = ((key, _located(*key, specs.get(key, []))) for key in by)
    return [Prepared(key[0], weights, by[key]) for key, weights in located if weights is not None]


def _records(runs_dir: Path) -> Iterable[Mapping[str, Any]]:
    for folder in run_folders(runs_dir):
        with suppress(OSError, ValueError):  # `labeldep runs` names the broken ones
            record = read_run_record(folder)
            if record is not None and isinstance(record.get("dataset"), dict):
                yield record


def _holds_most(store: FeatureStore, workspace: Workspace, dataset: Dataset, files: dict[str, SplitFiles]) -> bool:
    known = KnownFiles(workspace.features)
    count = total = 0
    try:
        for name, split in dataset.splits.items():
            if name not in files:
                files[name] = SplitFiles.of(split, known)
            count += int(store.locate(files[name].contents, "test").present.sum())
            total += len(split)
    except CacheError:  # the error is reported when the store is read
        return False
    return count > _MOST * total


def _located(backbone: str, digest: str, specs: Iterable[str]) -> Weights | None:
    """Locate the weights with a hash; None if they cannot be located."""
    recorded = dict.fromkeys(specs)
    for spec in dict.fromkeys((*recorded, "none", DEFAULT_WEIGHTS)):
        with suppress(BackboneError):
            weights = locate_weights(find_backbone(backbone), spec)
            # Published weights that are not on this disk have no hash to compare. The record of run or store decides.
            if weights.sha256 == digest or (weights.sha256 is None and spec in recorded):
                return weights
    return None


def _has(prepared: Prepared, weights: str | None) -> bool:
    """Whether it has the weights that the user names; any weights fit if the user names none."""
    if weights is None or prepared.weights.spec == weights:
        return True
    path = Path(weights).expanduser()
    return path.is_file() and sha256(path) == prepared.weights.sha256


def _listed(choices: list[Prepared]) -> str:
    *others, last = map(str, choices)
    return f"{', '.join(others)} and {last}"
