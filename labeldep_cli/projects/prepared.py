"""Which backbones, with which weights, a data set is prepared for: its features or runs are on this disk already.

Who names no backbone, or no weights, goes on with what is prepared, instead of beginning with another backbone.
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
from labeldep_cli.files import expand_home, sha256
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.listing import read_run_record, run_folders

_MOST = 0.5
"""A store that holds more than this share of a data set's images is one of its own."""


@dataclass(frozen=True)
class Prepared:
    """A backbone with weights that a data set has features or a run of.

    Attributes:
        backbone: its name.
        weights: they are where they were, with the hash that they had.
        by: what is there.
    """

    backbone: str
    weights: Weights
    by: Literal["features", "run"]

    def __str__(self) -> str:
        """In words, a path as short as it can be."""
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
    """Fill in backbone and weights where they are not said.

    The one prepared choice is taken, and said. Of several none is: the default stays, and they are named.

    Args:
        workspace: where features and runs lie.
        source: as the user says.
        dataset: of images.
        files: which images the rows of its splits are, by split; filled in where it has to be known.
        reporter: takes the note.
    """
    usual = source.backbone or dataset.backbone or DEFAULT_BACKBONE
    settled = replace(source, backbone=usual, weights=source.weights or DEFAULT_WEIGHTS)
    if (source.backbone and source.weights) or (dataset.backbone and not source.backbone):
        return settled
    found = [one for one in find_prepared(workspace, dataset, source.backbone, files) if _has(one, source.weights)]
    if any((one.backbone, one.weights.spec) == (settled.backbone, settled.weights) for one in found):
        return settled
    flags = " and ".join(
        flag for flag, said in (("--backbone", source.backbone), ("--weights", source.weights)) if not said
    )
    if len(found) == 1:
        there = {"features": "the features that are there", "run": "as in the run that is there"}[found[0].by]
        reporter.note(f"{found[0]}: {there}; others with {flags}")
        return replace(source, backbone=found[0].backbone, weights=found[0].weights.spec)
    if found:
        reporter.note(f"{usual} is taken, but features or runs are there of {_listed(found)}: choose with {flags}")
    return settled


def find_prepared(
    workspace: Workspace, dataset: Dataset, backbone: str | None, files: dict[str, SplitFiles]
) -> list[Prepared]:
    """What a data set is prepared for; weights that are no longer there prepare nothing.

    Args:
        workspace: where features and runs lie.
        dataset: of images.
        backbone: the only one to look for; None for all.
        files: as for `settle`.
    """
    records = list(_records(workspace.runs_dir))
    stores = [one for one in FeatureStore.all_in(workspace.features) if backbone in (None, one.kind.backbone)]
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
    found = ((key, _located(*key, specs.get(key, []))) for key in by)
    return [Prepared(key[0], weights, by[key]) for key, weights in found if weights is not None]


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
            count += int(store.locate(files[name].contents, "test").there.sum())
            total += len(split)
    except CacheError:  # whoever reads it is told
        return False
    return count > _MOST * total


def _located(backbone: str, digest: str, specs: Iterable[str]) -> Weights | None:
    """Weights of a hash; None where they are not to be found."""
    said = dict.fromkeys(specs)
    for spec in dict.fromkeys((*said, "none", DEFAULT_WEIGHTS)):
        with suppress(BackboneError):
            weights = locate_weights(find_backbone(backbone), spec)
            # Published weights that are not on this disk cannot be compared: the word of run or store is taken.
            if weights.sha256 == digest or (weights.sha256 is None and spec in said):
                return weights
    return None


def _has(one: Prepared, weights: str | None) -> bool:
    """Whether it has the weights that the user names."""
    if weights is None or one.weights.spec == weights:
        return True
    path = expand_home(Path(weights))
    return path.is_file() and sha256(path) == one.weights.sha256


def _listed(found: list[Prepared]) -> str:
    *some, last = map(str, found)
    return f"{', '.join(some)} and {last}"
