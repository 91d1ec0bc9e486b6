"""A data set, a backbone and a machine, brought together: caches made where they are missing, inputs opened."""

from __future__ import annotations

import shlex
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import torch

from labeldep_cli.compute.devices import pick_device, settle_on
from labeldep_cli.compute.distributed import ALONE, World, join
from labeldep_cli.compute.versions import versions
from labeldep_cli.config import (
    DEFAULT_BACKBONE,
    DRAW,
    ExtractConfig,
    HeadKind,
    Machine,
    Precision,
    Source,
    Workspace,
    flags_of,
)
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.split import SPLITS, Dataset, Draw, Skipped, Split
from labeldep_cli.errors import BackboneError, CacheError, DatasetError
from labeldep_cli.features.cache import FeatureCache, read_origin
from labeldep_cli.features.extract import Limit
from labeldep_cli.features.origin import Origin
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.backbones import Backbone, find_backbone
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.heads.registry import HEADS
from labeldep_cli.models.inference import InferenceEncoder, precision_on
from labeldep_cli.models.weights import LoadedBackbone, Weights, load_backbone, locate_weights
from labeldep_cli.progress import Reporter


@dataclass(frozen=True)
class Project:
    """Everything that a command needs to know of data, backbone and machine.

    Attributes:
        workspace, source, machine: as asked for.
        dataset: the splits.
        row, weights: the backbone; None where the data set brings features.
        device: to compute on.
        reporter: takes notes and progress.
        spatial: features are the last feature map's regions.
        asked: how images are to be seen; what it leaves open is as in the caches that are there.
        world: the processes that compute together.
        looked: splits whose images were read by this command itself, rather than found in a finished cache.
    """

    workspace: Workspace
    source: Source
    machine: Machine
    dataset: Dataset
    row: Backbone | None
    weights: Weights | None
    device: torch.device
    reporter: Reporter
    spatial: bool = False
    asked: ExtractConfig = field(default_factory=ExtractConfig)
    world: World = ALONE
    looked: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """DATASET-BACKBONE, the beginning of every cache's and run's name."""
        return f"{self.dataset.name}-{self.row.name if self.row else 'features'}"

    @property
    def images(self) -> tuple[Backbone, Weights]:
        """Backbone and weights of a data set of images.

        Raises:
            DatasetError: the data set brings ready features.
        """
        if self.row is None or self.weights is None:
            raise DatasetError(
                f"{self.source.dataset} holds ready features, no images",
                "Go on with: labeldep pretrain --dataset " + self.source.dataset,
            )
        return self.row, self.weights

    @cached_property
    def backbone(self) -> LoadedBackbone:
        """The backbone with its weights, loaded when first asked for."""
        row, weights = self.images
        loaded = load_backbone(row, weights, self.reporter)
        return loaded.with_regions(row) if self.spatial else loaded

    @cached_property
    def encoder(self) -> InferenceEncoder:
        """The frozen f_ext, on the device."""
        encoder = InferenceEncoder(Encoder(self.backbone.module).to(self.device), self.precision)
        if self.asked.compile:
            encoder.compile(self.images[0].side, self.reporter.note)
        return encoder

    @property
    def precision(self) -> Precision:
        """The dtype to compute features in: the one asked for, else the caches', else the device's own."""
        found, own = self._like(), precision_on(self.device, self.asked.precision)
        if found is None or self.asked.precision != "auto":
            return own
        # Few CPUs compute in a GPU's 16 bits as fast as in 32.
        return own if found.precision == "float16" and self.device.type == "cpu" else found.precision

    @property
    def draft(self) -> bool:
        """Whether JPEGs are decoded at reduced scale: as asked for, else as for the caches, else not."""
        found = self._like()
        if self.asked.draft is not None or found is None:
            return bool(self.asked.draft)
        return found.preprocessing == self.images[0].drafted

    @property
    def preprocessing(self) -> str:
        """What happens to an image before the backbone."""
        row, _ = self.images
        return row.drafted if self.draft else row.preprocessing

    def anew(self) -> Project:
        """The same project, with nothing taken from the caches that are there."""
        asked = replace(
            self.asked,
            draft=bool(self.asked.draft),
            precision=precision_on(self.device, self.asked.precision),
        )
        return replace(self, asked=asked)

    def _like(self) -> Origin | None:
        """What the first cache that is there was made from."""
        for split in SPLITS:
            with suppress(CacheError):
                return read_origin(self.cache_path(split))
        return None

    def for_head(self, head: HeadKind) -> Project:
        """The same project, with the kind of features that a head takes.

        Raises:
            DatasetError: the head takes regions, and the data set brings ready features.
        """
        if HEADS[head].spatial == self.spatial:
            return self
        if self.row is None:
            raise DatasetError(
                f"{self.source.dataset} holds ready features, which have no regions for --head {head}",
                f"Take one of: {', '.join(kind for kind in HEADS if not HEADS[kind].spatial)}.",
            )
        return replace(self, spatial=HEADS[head].spatial)

    @property
    def extract_command(self) -> str:
        """The command that makes this project's caches."""
        row, weights = self.images
        words = ["labeldep", "extract", "--dataset", self.source.dataset, "--backbone", row.name]
        if self.spatial:
            words += ["--spatial"]
        if self.draft:
            words += ["--draft"]
        if self.asked.precision != "auto":
            words += ["--precision", self.asked.precision]
        if weights.spec != "default":
            words += ["--weights", weights.spec]
        words += flags_of(self.source, DRAW) + flags_of(self.workspace, ("data_dir", "features_dir"))
        return shlex.join(words)

    def cache_path(self, split: str) -> Path:
        """The cache of a split: FEATURES/DATASET-BACKBONE[-spatial]-SPLIT.h5."""
        return self.workspace.features / f"{self.name}{'-spatial' if self.spatial else ''}-{split}.h5"

    def limit(self) -> Limit:
        """How many images may be unreadable."""
        return Limit(self.machine.max_skipped, self.dataset.named)

    def origin(self, split: Split, views: int, weights_sha256: str, compute_dtype: str) -> Origin:
        """What a cache of this project is made from."""
        row, _ = self.images
        return Origin(
            dataset=self.dataset.name,
            split=split.name,
            fingerprint=split.fingerprint,
            backbone=row.name,
            weights_sha256=weights_sha256,
            preprocessing=self.preprocessing,
            compute_dtype=compute_dtype,
            views=views,
            label_names=self.dataset.space.names,
            versions=versions(),
            spatial=self.spatial,
        )

    def finished_cache(self, name: str, views: int = 1) -> FeatureCache | None:
        """The finished cache of a split, None where there is none.

        Raises:
            CacheError: there is one, but it is broken or was made from something else.
        """
        path = self.cache_path(name)
        if not path.exists():
            return None
        _, weights = self.images
        command = f"{self.extract_command} --fresh"
        cache = FeatureCache.open(path, command)
        # Published weights that are not on this disk cannot be compared; the cache's own word is taken for them.
        digest = weights.sha256 or cache.origin.weights_sha256
        more = f"{command} --views {views}" if views > 1 else command
        free = self.asked.precision in ("auto", cache.origin.precision)
        dtype = cache.origin.compute_dtype if free else self.asked.precision
        cache.origin.require_fits(self.origin(self.dataset.split(name), views, digest, dtype), path, more)
        return cache

    def skipped(self, *parts: Inputs) -> tuple[Skipped, ...]:
        """The rows that the given inputs leave out."""
        return tuple(skip for part in parts for skip in part.skipped)


def open_project(
    workspace: Workspace,
    source: Source,
    machine: Machine,
    reporter: Reporter,
    weights: Weights | None = None,
    spatial: bool = False,
    dataset: Dataset | None = None,
    asked: ExtractConfig | None = None,
) -> Project:
    """Load the data set and find the backbone's row and weights (unless given); the weights are not loaded yet.

    Args:
        workspace, source, machine: what is asked for.
        reporter: takes notes and progress.
        weights: found already; None to look for the source's.
        spatial: features are to be the last feature map's regions.
        dataset: loaded already, by another project of the same source; None to load it.
        asked: how images are to be seen; None for as in the caches that are there.

    Raises:
        DatasetError: the data set is missing or malformed.
        BackboneError: unknown backbone, missing weights file, or a backbone for ready features.
    """
    device = pick_device(machine.device)
    settle_on(device)
    world = join(device)
    named = find_backbone(source.backbone) if source.backbone else None  # a misspelt name is told before data are read
    draw = Draw(source.val_fraction, source.test_fraction, source.split_seed)
    dataset = dataset or registry.load(source.dataset, workspace.data_dir, draw, reporter)
    if dataset.has_features:
        if named is not None:
            raise BackboneError(
                f"{source.dataset} holds ready features: they take no backbone", "Leave --backbone out."
            )
        return Project(workspace, source, machine, dataset, None, None, device, reporter, world=world)
    row = named or find_backbone(dataset.backbone or DEFAULT_BACKBONE)
    return Project(
        workspace,
        replace(source, backbone=row.name),
        machine,
        dataset,
        row,
        weights or locate_weights(row, source.weights),
        device,
        reporter,
        spatial,
        asked or ExtractConfig(),
        world,
    )
