"""A trained run: its settings, its networks and the facts in its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import nn

from labeldep_cli.compute.seeded import seeded
from labeldep_cli.config import (
    DEFAULT_HEAD,
    DEFAULT_WEIGHTS,
    HeadKind,
    Jpegs,
    LabelReduction,
    Source,
    pick,
)
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.errors import CheckpointError
from labeldep_cli.features.jpegs import jpegs_of
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.models.backbones import Backbone, architecture, backbone_of
from labeldep_cli.models.critics import Critic, critic_of_shape
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.registry import HEADS, seeded_head
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.models.weights import Weights, locate_weights
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST
from labeldep_cli.runs.record import LABEL_REDUCTION_BEFORE, result_of

_HEAD = "generator.head"
"""What the names of a head's tensors begin with."""


@dataclass(frozen=True)
class Run:
    """A run that has a best checkpoint.

    Attributes:
        folder: folder of the run.
        config: its config.json.
        facts: the facts stored in its best checkpoint.
    """

    folder: Path
    config: dict[str, Any]
    facts: dict[str, Any]

    @property
    def best(self) -> Path:
        """The best checkpoint."""
        return self.folder / BEST

    @property
    def finished(self) -> bool:
        """Whether its training is finished."""
        return result_of(self.folder) is not None

    @property
    def full(self) -> bool:
        """Whether the backbone was trained too."""
        return bool(self.facts["full"])

    @property
    def head_kind(self) -> HeadKind:
        """The kind of its head, which turns features into logits; runs from before there was a choice are linear."""
        kind: HeadKind = self.facts.get("head", DEFAULT_HEAD)
        return kind

    @property
    def label_reduction(self) -> LabelReduction:
        """Whether its training averaged or summed the cross-entropy of Eq. 1 over labels."""
        reduction: LabelReduction = self.facts.get("label_reduction", LABEL_REDUCTION_BEFORE)
        return reduction

    @property
    def spatial(self) -> bool:
        """Whether its features are regions."""
        return HEADS[self.head_kind].spatial

    @property
    def joint(self) -> bool:
        """Whether its head is a distribution over label sets."""
        return HEADS[self.head_kind].joint

    @property
    def space(self) -> LabelSpace:
        """The labels, in the order of the logits."""
        return LabelSpace(tuple(self.facts["labels"]))

    @property
    def has_features(self) -> bool:
        """Whether it was trained on ready features instead of images."""
        return self.facts["backbone"] is None

    @property
    def jpegs(self) -> Jpegs:
        """How the JPEGs that it was trained on were decoded."""
        return "full" if self.has_features else jpegs_of(str(self.facts["preprocessing"]))

    @property
    def rules(self) -> PixelRules:
        """How the image files that it was trained on became 8-bit RGB."""
        return PixelRules.of(self.source())

    def source(self) -> Source:
        """The data set and backbone that it was trained with."""
        source: Source = pick(Source, self.config["settings"])
        return source

    @cached_property
    def row(self) -> Backbone:
        """Its backbone, for images as it was trained on; only for a run on images.

        Raises:
            BackboneError: the backbone is no longer known, or timm is not installed.
        """
        return backbone_of(self.source(), self.facts["backbone"], self.facts.get("timm"))

    def head(self) -> Head:
        """Its head, loaded."""
        return self._head(self._tensors())

    def generator(self, device: torch.device) -> Generator:
        """Its generator, loaded: its input is features in head mode and images in full mode."""
        return self.full_generator(device) if self.full else Generator(nn.Identity(), self.head()).to(device).eval()

    def full_generator(self, device: torch.device) -> Generator:
        """The generator of a full-mode run, whose checkpoint contains the backbone too."""
        tensors = self._tensors()
        row = self.row
        with seeded(0):
            backbone = architecture(row).eval()
        encoder = Encoder(RegionFeatures(backbone, row) if self.spatial else backbone, row.mean, row.std)
        generator = Generator(encoder, self._head(tensors))
        checkpoint.unpack("generator", tensors, generator, self.best)
        return generator.to(device).eval()

    def critic(self, device: torch.device) -> Critic:
        """Its critic, loaded; only for a run whose `facts["critic"]` is not None."""
        tensors = self._tensors()

        def build(tensors: checkpoint.Tensors) -> Critic:
            return critic_of_shape(len(self.space), self.facts["feature_dim"], self.facts["critic"], tensors)

        checkpoint.require_shapes("critic", tensors, build, self.best)
        critic = build(tensors)
        checkpoint.unpack("critic", tensors, critic, self.best)
        return critic.to(device).eval()

    def weights(self, row: Backbone, path: str | None = None) -> Weights:
        """The weights of its backbone.

        Args:
            row: its backbone.
            path: the file of the weights; None for the file that the run was trained with. If that file no longer
                exists, it is not an error: cached features and a full-mode checkpoint need no weights.

        Raises:
            CheckpointError: the file is not the one that the run was trained with; names both hashes.
        """
        spec = self.source().weights or DEFAULT_WEIGHTS
        if path is None and spec not in ("default", "none") and Path(spec).is_absolute() and not Path(spec).exists():
            return Weights(spec, Path(spec), self.facts["weights_sha256"])
        weights = locate_weights(row, path or spec)
        self.require_weights(weights)
        return weights

    def require_weights(self, weights: Weights) -> None:
        """Refuse weights other than those that the run was trained with. Weights that are not downloaded yet pass.

        Raises:
            CheckpointError: names both hashes.
        """
        expected = self.facts["weights_sha256"]
        if weights.sha256 is not None and weights.sha256 != expected:
            raise CheckpointError(
                f"the weights {weights.path or weights.spec} have SHA-256 {weights.sha256[:12]}, "
                f"but {self.folder} was trained with {str(expected)[:12]}",
                "Name the weights that it was trained with: --weights PATH",
            )

    def _tensors(self) -> dict[str, Any]:
        return checkpoint.load(self.best)[0]

    def _head(self, tensors: dict[str, Any]) -> Head:
        shape = (self.facts["feature_dim"], len(self.space), self.facts["hidden"] or 0)

        def build(tensors: checkpoint.Tensors) -> Head:
            head = seeded_head(self.head_kind, *shape, seed=0)
            head.make_room(_HEAD, tensors)
            return head

        checkpoint.require_shapes(_HEAD, tensors, build, self.best)
        head = build(tensors)
        checkpoint.unpack(_HEAD, tensors, head, self.best)
        return head
