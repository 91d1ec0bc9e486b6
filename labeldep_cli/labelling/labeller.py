"""A run made ready to look at images: its eyes, its head, and what decides on the label set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.compute.devices import pick_device
from labeldep_cli.config import DecisionConfig, Machine, Precision
from labeldep_cli.errors import CheckpointError
from labeldep_cli.evaluation.decisions import Decision
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.encoder import Encoder, pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.weights import load_backbone
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.run import Run


@dataclass(frozen=True)
class Labeller:
    """What labels images.

    Attributes:
        run: that it comes from.
        generator: uint8 images [B, 3, side, side], or ready features [B, F] -> logits [B, L].
        frozen: f_ext, images -> features, where the critic decides; else None.
        decision: makes the label sets.
        side: height and width of an image in pixels; 0 for ready features.
        device: that it computes on.
    """

    run: Run
    generator: Generator
    frozen: nn.Module | None
    decision: Decision
    side: int
    device: torch.device

    @torch.inference_mode()
    def label(self, images: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Label images as the test transform gives them (`features.views.cut`, view 0), or ready features.

        Args:
            images: uint8 [B, 3, side, side], or features [B, F].

        Returns:
            Probabilities [B, L] and label sets [B, L]. NaN, and the empty set, of an image whose features are not
            finite in this run's precision: extraction leaves it out.
        """
        seen = images.to(self.device, non_blocking=True)  # the way back of what is seen waits for it
        features = self.generator.features(seen)
        held = _finite(features)
        p = np.full((len(held), len(self.run.space)), np.nan)
        sets = np.zeros(p.shape, dtype=np.bool_)
        if held.all():
            p, sets = self._decide(seen, features)
        elif held.any():
            rows = torch.from_numpy(np.flatnonzero(held)).to(self.device)
            p[held], sets[held] = self._decide(seen[rows], features[rows])
        return p, sets

    def _decide(self, images: Tensor, features: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        logits = self.generator.classify(features).float().cpu().numpy()
        looked_at = []

        def z() -> Tensor:
            looked_at.append(self._z(images, features))
            return looked_at[-1]

        p, sets = probabilities(logits), self.decision.decide(logits, z)
        for seen in looked_at:
            held = _finite(seen)[:, None]
            p, sets = np.where(held, p, np.nan), sets & held
        return p, sets

    def _z(self, images: Tensor, features: Tensor) -> Tensor:
        """The critic's view of images; G's own where both look through the same eyes."""
        if self.frozen is None:
            raise ValueError("no critic decides here")
        z: Tensor = features if self.generator.encoder is self.frozen else self.frozen(images)
        return pooled(z.float())


def _finite(features: Tensor) -> NDArray[np.bool_]:
    """Which images' features are finite, [B]."""
    found: NDArray[np.bool_] = features.isfinite().flatten(1).all(dim=1).cpu().numpy()
    return found


def open_labeller(
    run: Run, machine: Machine, decision: DecisionConfig, weights: str | None, reporter: Reporter
) -> Labeller:
    """Load what is needed; a full-mode run needs no weights but for its critic, and the data set itself never is.

    Args:
        run: on images.
        machine: to compute on.
        decision: which labels make a set.
        weights: a path in place of the recorded one.
        reporter: takes notes.

    Raises:
        CheckpointError: a run on ready features; a decision that the run cannot make; weights that are not the run's.
        LabeldepError: flags that do not go together.
    """
    if run.has_features:
        raise CheckpointError(
            f"{run.folder} was trained on ready features and cannot look at images", "Name a run on images: --run RUN"
        )
    device = pick_device(machine.device)
    row = find_backbone(run.facts["backbone"])
    frozen = None
    if decision.rule != "threshold" or not run.full:
        frozen = _frozen(run, weights, device, reporter)
    if frozen is not None and not run.full:
        generator = Generator(frozen, run.head()).to(device).eval()
    else:
        generator = run.full_generator(device)
        if isinstance(generator.encoder, Encoder):
            generator.encoder = InferenceEncoder(generator.encoder)
    return Labeller(run, generator, frozen, decision_of(decision, run, device), row.side, device)


def open_features_labeller(run: Run, machine: Machine, decision: DecisionConfig) -> Labeller:
    """The same for a run on ready features, which labels features.

    Raises:
        CheckpointError: a decision that the run cannot make.
        LabeldepError: flags that do not go together.
    """
    device = pick_device(machine.device)
    return Labeller(run, run.generator(device), nn.Identity(), decision_of(decision, run, device), 0, device)


def _frozen(run: Run, weights: str | None, device: torch.device, reporter: Reporter) -> InferenceEncoder:
    """The frozen backbone in the precision that the run's features have."""
    row = find_backbone(run.facts["backbone"])
    loaded = load_backbone(row, run.weights(row, weights), reporter)
    module = (loaded.with_regions(row) if run.spatial else loaded).module
    plain = Encoder(module, row.mean, row.std).to(device)
    # A GPU's 16 bits stand for the device's own dtype; runs from before there was a choice saw 32.
    precision: Precision = run.facts.get("compute_dtype", "float32")
    return InferenceEncoder(plain, "auto" if precision == "float16" else precision)
