"""Which backbones, with which weights, a data set is prepared for: its features or runs are on this disk already.

Who names no backbone, or no weights, goes on with what is prepared, instead of beginning with another backbone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import DEFAULT_BACKBONE, DEFAULT_WEIGHTS, Source, Workspace
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import BackboneError, CacheError
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.decode import identify
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.files import expand_home, sha256
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.progress import Reporter, SilentObserver
from labeldep_cli.runs.listing import read_run_record, run_folders

_MOST = 0.5
"""A store that holds more than this share of a data set's images is one of its own."""

_SAMPLE = 16
"""Images that are read to recognise them by content, if their paths are new: after a move, for example."""

_READERS = 4
"""Threads that read them."""


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
    images = _Images(dataset, workspace, files)
    by: dict[tuple[str, str], Literal["features", "run"]] = {}
    specs: dict[tuple[str, str], list[str]] = {}
    for store in stores:
        key = (store.kind.backbone, store.kind.weights_sha256)
        specs.setdefault(key, []).extend(store.weights_specs())
        if key not in by and images.mostly_in(store):
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


@dataclass(frozen=True)
class _Images:
    """The images of a data set, to be looked up in stores.

    Attributes:
        dataset: of images.
        workspace: where files are remembered by path.
        files: as for `settle`.
    """

    dataset: Dataset
    workspace: Workspace
    files: dict[str, SplitFiles]

    def mostly_in(self, store: FeatureStore) -> bool:
        """Whether a store holds most of the images; where paths are unknown, a sample is recognised by content."""
        try:
            if self._share(store, self._contents) > _MOST:
                return True
            return not store.empty and self._share(store, self._sample) > _MOST
        except CacheError:  # the command that reads the store reports this
            return False

    def _share(self, store: FeatureStore, contents: NDArray[np.bytes_]) -> float:
        return float(store.locate(contents, "test").there.mean()) if len(contents) else 0.0

    @cached_property
    def _contents(self) -> NDArray[np.bytes_]:
        """CONTENT [N] of all splits, as far as known by path."""
        known = KnownFiles(self.workspace.features)
        for name, split in self.dataset.splits.items():
            if name not in self.files:
                self.files[name] = SplitFiles.of(split, known)
        return np.concatenate([self.files[name].contents for name in self.dataset.splits])

    @cached_property
    def _sample(self) -> NDArray[np.bytes_]:
        """CONTENT [S] of rows drawn at random, with the unknown ones read; empty if all paths are known."""
        names = [name for name in self.dataset.splits if len(self.dataset.splits[name])]
        unknown = {name: self.files[name].exists & (self.files[name].contents == b"") for name in names}
        total = sum(map(len, unknown.values()))
        if not any(mask.any() for mask in unknown.values()):
            return np.zeros(0, CONTENT)
        places = np.sort(np.random.default_rng(0).permutation(total)[:_SAMPLE])
        parts = []
        for name in names:
            split = self.dataset.splits[name]
            rows = places[(places >= 0) & (places < len(split))]
            places = places - len(split)
            contents = self.files[name].contents[rows]
            to_read = unknown[name][rows]
            identities = identify([split.file(int(row)) for row in rows[to_read]], _READERS, SilentObserver())
            contents[to_read] = [b"" if identity is None else identity.sha256 for identity in identities]
            parts.append(contents)
        return np.concatenate(parts)


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
