"""A project: a data set, a backbone and a machine, opened together."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch

from labeldep_cli.compute.distributed import ALONE, World
from labeldep_cli.config import (
    FRAME,
    READING,
    ExtractConfig,
    HeadKind,
    Jpegs,
    Machine,
    Precision,
    Source,
    Workspace,
    flags_of,
)
from labeldep_cli.datasets.split import SPLITS, Dataset, Skipped
from labeldep_cli.errors import CacheError, DatasetError
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.coverage import Coverage, SplitFiles
from labeldep_cli.features.extract import SkipLimit
from labeldep_cli.features.images import still_holds
from labeldep_cli.features.jpegs import jpegs_of
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.known_files import KnownFiles
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.models.backbones import Backbone
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.heads.registry import HEADS
from labeldep_cli.models.inference import InferenceEncoder, precision_on
from labeldep_cli.models.loading import LoadedBackbone, load_backbone
from labeldep_cli.models.weights import Weights
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.findings import Findings


@dataclass(frozen=True)
class Project:
    """Everything that a command needs to know of data, backbone and machine.

    Attributes:
        workspace, source, machine: the user's settings.
        dataset: the splits.
        row, weights: the backbone; None if the data set contains ready features.
        device: the device to compute on.
        reporter: takes notes and progress.
        spatial: whether features are regions of the last feature map.
        extraction: how features are computed; what it leaves open is taken from the existing store.
        world: the processes that compute together.
        images_read: splits whose images this command read itself, rather than taking all features from the store.
        findings: what was learned about files and stores.
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
    extraction: ExtractConfig = field(default_factory=ExtractConfig)
    world: World = ALONE
    images_read: set[str] = field(default_factory=set)
    findings: Findings = field(default_factory=Findings)

    @property
    def name(self) -> str:
        """DATASET-BACKBONE[-SIZEpx][-RESIZE], the first part of a run's name."""
        return f"{self.dataset.name}-{self.row.run_name(self.source) if self.row else 'features'}"

    @property
    def images(self) -> tuple[Backbone, Weights]:
        """Backbone and weights of a data set of images.

        Raises:
            DatasetError: the data set contains ready features.
        """
        if self.row is None or self.weights is None:
            raise DatasetError(
                f"{self.source.dataset} holds ready features, no images",
                "Continue with: labeldep pretrain --dataset " + self.source.dataset,
            )
        return self.row, self.weights

    @cached_property
    def backbone(self) -> LoadedBackbone:
        """The backbone with its weights, loaded on first use."""
        row, weights = self.images
        loaded = load_backbone(row, weights, self.reporter)
        return loaded.with_regions(row) if self.spatial else loaded

    @cached_property
    def encoder(self) -> InferenceEncoder:
        """The frozen f_ext, on the device."""
        row, _ = self.images
        plain = Encoder(self.backbone.module, row.mean, row.std).to(self.device)
        encoder = InferenceEncoder(plain, self.precision)
        if self.extraction.engine == "onnxruntime":
            encoder.use_onnxruntime(row.side)
        if self.extraction.compile:
            encoder.compile(row.side, self.reporter.note)
        return encoder

    def encoder_for(self, kind: FeatureKind) -> InferenceEncoder:
        """The encoder that computes features for a store, always in the store's precision."""
        encoder = self.encoder
        if encoder.compute_dtype.split()[0] != kind.precision:
            encoder = InferenceEncoder(encoder.plain, kind.precision)
        if kind.engine == "onnxruntime" and encoder.engine == "torch":
            encoder.use_onnxruntime(self.images[0].side)
        if kind.compiled and not encoder.compiled:
            encoder.compile(self.images[0].side, self.reporter.note)
        return encoder

    @property
    def precision(self) -> Precision:
        """The dtype to compute features in: that of the store in use, else the requested or the default one."""
        store = self.existing_store()
        return precision_on(self.device, self.extraction.precision) if store is None else store.kind.precision

    @property
    def jpegs(self) -> Jpegs:
        """How JPEGs are decoded: as in the store in use, else as requested."""
        store = self.existing_store()
        return self.extraction.jpegs if store is None else jpegs_of(store.kind.preprocessing)

    @property
    def rules(self) -> PixelRules:
        """How image files become 8-bit RGB."""
        return PixelRules.of(self.source)

    @property
    def preprocessing(self) -> str:
        """Description of the preprocessing of an image before the backbone."""
        return self._preprocessing(self.jpegs)

    def _preprocessing(self, jpegs: Jpegs) -> str:
        return self.images[0].preprocessing(self.rules, jpegs)

    def without_store_settings(self) -> Project:
        """The same project, with precision and decoding from the user's settings alone, not from existing stores."""
        asked = ExtractConfig.of(self.extraction.jpegs)
        extraction = replace(
            self.extraction,
            draft=asked.draft,
            decode=asked.decode,
            engine=self.extraction.engine or "torch",
            precision=precision_on(self.device, self.extraction.precision),
        )
        return replace(self, extraction=extraction)

    def for_head(self, head: HeadKind) -> Project:
        """The same project, with the kind of features that a head takes.

        Raises:
            DatasetError: the head takes regions, but the data set contains ready features.
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
        """The command that computes this project's features."""
        return self._command(self.jpegs)

    def _command(self, jpegs: Jpegs) -> str:
        row, weights = self.images
        words = ["labeldep", "extract", "--dataset", self.source.dataset, "--backbone", row.name]
        words += (["--spatial"] if self.spatial else []) + self.extraction.flags(jpegs)
        words += ["--weights", weights.spec] if weights.spec != "default" else []
        words += flags_of(self.source, (*FRAME, *READING)) + flags_of(self.workspace, ("data_dir", "features_dir"))
        return shlex.join(words)

    def limit(self) -> SkipLimit:
        """How many images may be unreadable."""
        return SkipLimit(self.machine.max_skipped, self.dataset.named, self._command(self.extraction.jpegs))

    def unusable(self) -> dict[bytes, int]:
        """The `Reason` of each image that is known to be unusable under this project's rules, by SHA-256."""
        return {content: reason for content, reason in self.known.reasons().items() if still_holds(reason, self.rules)}

    @property
    def known(self) -> KnownFiles:
        """The record of known image files and their contents."""
        return KnownFiles(self.workspace.features)

    def files(self, name: str) -> SplitFiles:
        """Which images the rows of a split are, as far as this is known without reading the files."""
        key = "all" if self.dataset.undivided else name
        if key not in self.findings.files:
            self.findings.files[key] = SplitFiles.of(self.dataset.splits[name], self.known)
        return self.findings.files[key]

    def keep_files(self, name: str, files: SplitFiles) -> None:
        """Keep what was learned about a split's files; the stores are searched again on next use."""
        self.findings.stores.clear()
        self.findings.files["all" if self.dataset.undivided else name] = files

    def stores(self) -> list[FeatureStore]:
        """The stores that may hold this project's features."""
        return [
            replace(store, command=f"{self._command(jpegs_of(store.kind.preprocessing))} --fresh")
            for store in FeatureStore.all_in(self.workspace.features)
            if self._may_be(store.kind)
        ]

    def _may_be(self, kind: FeatureKind) -> bool:
        """Whether a store of this kind may hold this project's features."""
        row, weights = self.images
        return (
            (kind.backbone, kind.spatial) == (row.name, self.spatial)
            # Published weights that are not on this disk cannot be compared: the store is assumed to have the same.
            and weights.sha256 in (None, kind.weights_sha256)
            and kind.preprocessing == self._preprocessing(jpegs := jpegs_of(kind.preprocessing))
            and self.extraction.allows(jpegs)
            and self.extraction.precision in ("auto", kind.precision)
            and self.extraction.engine in (None, kind.engine)
        )

    def existing_store(self) -> FeatureStore | None:
        """The store that holds most of this data set's images; None if no store holds any.

        Raises:
            CacheError: a store is broken.
        """
        key = (self.spatial, self.extraction)
        if key not in self.findings.stores:
            self.findings.stores[key] = self._fullest(self.stores()) if self.row is not None else None
        return self.findings.stores[key]

    def _fullest(self, stores: list[FeatureStore]) -> FeatureStore | None:
        best, most = None, 0
        for store in stores:
            splits = (name for name in SPLITS if len(self.dataset.splits[name]))
            count = sum(int(store.locate(self.files(name).contents, "test").present.sum()) for name in splits)
            if count > most:
                best, most = store, count
        return best

    def ensure_store(self) -> FeatureStore:
        """The store that holds, or will hold, this data set's features; the same in every process."""
        kind = None
        if self.world.first:
            try:
                store = self.existing_store()
            except CacheError:  # a broken store is about to be repaired; only commands that just read it report this
                store = None
            kind = self._own_kind() if store is None else store.kind
        kind = self.world.broadcast(kind)
        if kind is None:
            raise ValueError("the first process must choose the store")
        command = f"{self._command(jpegs_of(kind.preprocessing))} --fresh"
        return FeatureStore(self.workspace.features / kind.folder_name, kind, command)

    def _own_kind(self) -> FeatureKind:
        """What features computed by this process depend on."""
        row, _ = self.images
        digest = self.backbone.weights_sha256
        preprocessing = self._preprocessing(self.extraction.jpegs)
        return FeatureKind(row.name, digest, preprocessing, self.encoder.compute_dtype, self.spatial)

    def finished_cache(self, name: str, views: int = 1) -> FeatureCache | None:
        """The features of a split; None if any of them are missing, as far as this is known without reading files.

        Raises:
            CacheError: the store is broken.
        """
        store = self.existing_store()
        if store is None:
            return None
        coverage = Coverage.of(store, self.dataset.split(name), self.files(name), self.unusable())
        if views > 1:
            coverage = coverage.without_files()
        if len(coverage.missing_rows("test")) or (views > 1 and len(coverage.missing_rows("crops"))):
            return None
        shape = store.shape()
        return None if shape is None else coverage.cache(shape)

    def skipped(self, *parts: Inputs) -> tuple[Skipped, ...]:
        """The rows that these inputs leave out."""
        return tuple(skip for part in parts for skip in part.skipped)
