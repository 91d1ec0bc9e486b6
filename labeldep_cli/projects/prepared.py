"""Finds the backbones and weights with which a data set has features or runs on this disk: it is prepared for them.

If the user names no backbone or no weights, the prepared ones are used, so that no work starts with another backbone.
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

from labeldep_cli.config import DEFAULT_BACKBONE, DEFAULT_WEIGHTS, Resize, Source, Workspace
from labeldep_cli.datasets.split import Dataset
from labeldep_cli.errors import BackboneError, CacheError
from labeldep_cli.features.coverage import SplitFiles
from labeldep_cli.features.decode import identify
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.files import expand_home, sha256
from labeldep_cli.models.backbones import find_backbone, frame_of
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.progress import Reporter, SilentObserver
from labeldep_cli.runs.listing import run_folders
from labeldep_cli.runs.record import read_run_record

_MOST = 0.5
"""A data set is prepared for a store that has more than this share of its images."""

_SAMPLE = 16
"""Images that are read to recognise them by content, if their paths are new: after a move, for example."""

_READERS = 4
"""Threads that read them."""


Frame = tuple[int | None, Resize | None]
"""The image size and the resizing of a `Source`; None for the backbone's own."""


@dataclass(frozen=True)
class Prepared:
    """A backbone with weights, of which a data set has features or a run.

    Attributes:
        backbone: name of the backbone.
        weights: its weights, located, with the same hash as then.
        by: whether features or only a run exist.
        frame: image size and resizing, if they are not the backbone's own.
    """

    backbone: str
    weights: Weights
    by: Literal["features", "run"]
    frame: Frame = (None, None)

    @property
    def key(self) -> tuple[str, str, Frame]:
        """What a source names of it."""
        return self.backbone, self.weights.spec, self.frame

    def __str__(self) -> str:
        """Backbone and weights; a path in the working directory is relative."""
        spec, (size, resize) = self.weights.spec, self.frame
        framed = f"{f' at {size} pixels' if size else ''}{f' by {resize}' if resize else ''}"
        if spec == DEFAULT_WEIGHTS:
            return f"{self.backbone}{framed}"
        if spec == "none":
            return f"{self.backbone}{framed} with random weights"
        inside = Path(spec).is_relative_to(Path.cwd())
        return f"{self.backbone}{framed} with {os.path.relpath(spec) if inside else spec}"


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
        if _has(prepared, source.weights) and _is_framed(prepared, source)
    ]
    if any(choice.key == (settled.backbone, settled.weights, _frame(source)) for choice in choices):
        return settled
    flags = " and ".join(
        flag for flag, value in (("--backbone", source.backbone), ("--weights", source.weights)) if not value
    )
    if len(choices) == 1:
        choice = choices[0]
        why = {"features": "its features are on this disk", "run": "as in the run on this disk"}[choice.by]
        reporter.note(f"{choice}: {why}; choose another with {flags}")
        size, resize = choice.frame
        return replace(source, backbone=choice.backbone, weights=choice.weights.spec, image_size=size, resize=resize)
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
    images = _Images(dataset, workspace, files)
    by: dict[tuple[str, str, Frame], Literal["features", "run"]] = {}
    specs: dict[tuple[str, str], list[str]] = {}
    for store in stores:
        weights_key = (store.kind.backbone, store.kind.weights_sha256)
        specs.setdefault(weights_key, []).extend(store.weights_specs())
        if not images.mostly_in(store):
            continue
        with suppress(BackboneError):  # a backbone that is known no longer
            row = find_backbone(store.kind.backbone, next(iter(store.weights_specs()), None))
            frame = frame_of(row, store.kind.preprocessing)
            if frame is not None:
                by[(*weights_key, frame)] = "features"
    for record in records:
        name, weights = record["settings"].get("backbone"), record.get("weights")
        if weights is None or backbone not in (None, name):
            continue
        settings, weights_key = record["settings"], (name, weights["sha256"])
        specs.setdefault(weights_key, []).append(settings["weights"])
        if record["dataset"]["name"] == dataset.name:
            by.setdefault((*weights_key, (settings.get("image_size"), settings.get("resize"))), "run")
    located = ((key, _located(key[0], key[1], specs.get(key[:2], []))) for key in by)
    return [Prepared(key[0], weights, by[key], key[2]) for key, weights in located if weights is not None]


def _records(runs_dir: Path) -> Iterable[Mapping[str, Any]]:
    for folder in run_folders(runs_dir):
        with suppress(OSError, ValueError):  # `labeldep runs` names the broken ones
            record = read_run_record(folder)
            if record is not None:
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
        return float(store.locate(contents, "test").present.mean()) if len(contents) else 0.0

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
    """Locate the weights with a hash; None if they cannot be located."""
    recorded = dict.fromkeys(specs)
    for spec in dict.fromkeys((*recorded, "none", DEFAULT_WEIGHTS)):
        with suppress(BackboneError):
            weights = locate_weights(find_backbone(backbone, spec), spec)
            # Published weights that are not on this disk have no hash to compare. The record of run or store decides.
            if weights.sha256 == digest or (weights.sha256 is None and spec in recorded):
                return weights
    return None


def _has(prepared: Prepared, weights: str | None) -> bool:
    """Whether it has the weights that the user names; any weights fit if the user names none."""
    if weights is None or prepared.weights.spec == weights:
        return True
    path = expand_home(Path(weights))
    return path.is_file() and sha256(path) == prepared.weights.sha256


def _frame(source: Source) -> Frame:
    return source.image_size, source.resize


def _is_framed(prepared: Prepared, source: Source) -> bool:
    """Whether it has the image size and the resizing that the user names; any fit if the user leaves all open."""
    return prepared.frame == _frame(source) or (source.backbone is None and _frame(source) == (None, None))


def _listed(choices: list[Prepared]) -> str:
    *others, last = map(str, choices)
    return f"{', '.join(others)} and {last}"
