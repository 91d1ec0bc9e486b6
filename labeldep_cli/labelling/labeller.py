"""A run that is ready to label images: its backbone, its head, and its decision on the label sets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from labeldep_cli.compute.devices import pick_device
from labeldep_cli.compute.transfer import to_device
from labeldep_cli.config import DecisionConfig, Jpegs, Machine, Precision
from labeldep_cli.errors import CheckpointError
from labeldep_cli.evaluation.decisions import Decision, Outputs
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.posterior import own_posterior
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.models.encoder import Encoder, pooled
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.loading import load_backbone
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.decisions import decision_of
from labeldep_cli.runs.run import Run


class Labelled(NamedTuple):
    """The label sets of B images.

    Attributes:
        probabilities: of each label, [B, L]; NaN for an image whose features are not finite in the run's precision.
        sets: bool [B, L]; empty for such an image.
        confidence: the probability that the set is exactly right, [B]; NaN for such an image.
    """

    probabilities: NDArray[np.float64]
    sets: NDArray[np.bool_]
    confidence: NDArray[np.float64]


@dataclass(frozen=True)
class Labeller:
    """Labels images, or ready features.

    Attributes:
        run: the run that it was loaded from.
        generator: uint8 images [B, 3, side, side], or ready features [B, F] -> logits [B, L].
        frozen: the frozen backbone f_ext, images -> features; None in full mode without a decision by the critic.
        decision: turns logits into label sets.
        framing: how an image becomes a square; None for ready features.
        rules: how image files become 8-bit RGB.
        device: the device to compute on.
        limit: the confidence at which a set is accepted, 0..1; None if sets are not accepted or rejected.
    """

    run: Run
    generator: Generator
    frozen: nn.Module | None
    decision: Decision
    framing: Framing | None
    rules: PixelRules
    device: torch.device
    limit: float | None = None

    @property
    def jpegs(self) -> Jpegs:
        """How JPEGs are decoded: as for the run; by the CPU if a GPU decoded them there, and this device is none."""
        return "full" if self.run.jpegs == "gpu" and self.device.type != "cuda" else self.run.jpegs

    @property
    def square(self) -> Framing:
        """How an image becomes a square.

        Raises:
            ValueError: it labels ready features.
        """
        if self.framing is None:
            raise ValueError("ready features have no images")
        return self.framing

    @torch.inference_mode()
    def label(self, images: Tensor) -> Labelled:
        """Label images that went through the test transform (`features.views.cut`, view 0), or ready features.

        Args:
            images: uint8 [B, 3, side, side], or features [B, F].

        Returns:
            Probabilities, sets and confidences. An image whose features are not finite in this run's precision gets
            NaN and the empty set; extraction leaves such images out.
        """
        on_device = to_device(images, self.device)  # the results' copy to the CPU waits for it
        features = self.generator.features(on_device)
        finite = _finite(features)
        p = np.full((len(finite), len(self.run.space)), np.nan)
        sets = np.zeros(p.shape, dtype=np.bool_)
        confidence = np.full(len(finite), np.nan)
        if finite.all():
            return self._decide(on_device, features)
        if finite.any():
            rows = torch.from_numpy(np.flatnonzero(finite)).to(self.device)
            p[finite], sets[finite], confidence[finite] = self._decide(on_device[rows], features[rows])
        return Labelled(p, sets, confidence)

    def _decide(self, images: Tensor, features: Tensor) -> Labelled:
        logits = self.generator.classify(features).float().cpu().numpy()
        own = partial(own_posterior, self.generator, features) if self.run.joint else None
        critic_features = []

        def z() -> Tensor:
            critic_features.append(self._z(images, features))
            return critic_features[-1]

        p, decided = probabilities(logits), self.decision.decide(Outputs(logits, z, own))
        sets, confidence = decided.sets, decided.confidence
        for z_features in critic_features:
            finite = _finite(z_features)
            p, sets = np.where(finite[:, None], p, np.nan), sets & finite[:, None]
            confidence = np.where(finite, confidence, np.nan)
        return Labelled(p, sets, confidence)

    def _z(self, images: Tensor, features: Tensor) -> Tensor:
        """The critic's features [B, F] of the images; G's own features if both use the same encoder."""
        if self.frozen is None:
            raise ValueError("no critic decides here")
        z: Tensor = features if self.generator.encoder is self.frozen else self.frozen(images)
        return pooled(z.float())


def _finite(features: Tensor) -> NDArray[np.bool_]:
    """Whether each image's features are finite, [B]."""
    finite: NDArray[np.bool_] = features.isfinite().flatten(1).all(dim=1).cpu().numpy()
    return finite


def open_labeller(
    run: Run,
    machine: Machine,
    decision: DecisionConfig,
    weights: str | None,
    reporter: Reporter,
    value_range: str | None = None,
) -> Labeller:
    """Load a run's networks for labelling.

    The data set is never needed. A full-mode run needs the backbone's weights only if its critic decides.

    Args:
        run: a run on images.
        machine: the device to compute on.
        decision: which labels make a set.
        weights: a path that replaces the recorded one.
        reporter: takes notes.
        value_range: "LOW,HIGH" for pixels with more than 8 bits, if the run has none: its images needed none.

    Raises:
        CheckpointError: a run on ready features; a decision that the run cannot make; weights that are not the run's.
        LabeldepError: flags that do not go together.
    """
    if run.has_features:
        raise CheckpointError(
            f"{run.folder} was trained on ready features and cannot label images", "Name a run on images: --run RUN"
        )
    device = pick_device(machine.device)
    frozen = None
    by_critic = decision.rule != "threshold" and run.facts["critic"] is not None
    if by_critic or not run.full:
        frozen = _frozen(run, weights, device, reporter)
    if frozen is not None and not run.full:
        generator = Generator(frozen, run.head()).to(device).eval()
    else:
        generator = run.full_generator(device)
        if isinstance(generator.encoder, Encoder):
            generator.encoder = InferenceEncoder(generator.encoder)
    rules = _rules(run, value_range, reporter)
    if run.jpegs == "gpu" and device.type != "cuda":
        reporter.note(
            f"{run.folder} was trained on JPEGs decoded by a GPU: the CPU decodes them a little differently, and so "
            "do probabilities differ"
        )
    return Labeller(run, generator, frozen, decision_of(decision, run, device), run.row.framing, rules, device)


def open_features_labeller(run: Run, machine: Machine, decision: DecisionConfig) -> Labeller:
    """Load a run on ready features. It labels rows of features.

    Raises:
        CheckpointError: a decision that the run cannot make.
        LabeldepError: flags that do not go together.
    """
    device = pick_device(machine.device)
    return Labeller(
        run, run.generator(device), nn.Identity(), decision_of(decision, run, device), None, run.rules, device
    )


def _rules(run: Run, value_range: str | None, reporter: Reporter) -> PixelRules:
    """The run's rules, with a range if it has none."""
    if run.rules.value_range is None:
        return replace(run.rules, value_range=value_range)
    if value_range not in (None, run.rules.value_range):
        reporter.note(f"{run.folder} was trained with --value-range {run.rules.value_range}: {value_range} is not used")
    return run.rules


def _frozen(run: Run, weights: str | None, device: torch.device, reporter: Reporter) -> InferenceEncoder:
    """The frozen backbone, in the precision of the run's features."""
    row = run.row
    loaded = load_backbone(row, run.weights(row, weights), reporter)
    module = (loaded.with_regions(row) if run.spatial else loaded).module
    plain = Encoder(module, row.mean, row.std).to(device)
    # float16 in a record means the device's default dtype. Older runs have no record: they used float32.
    precision: Precision = run.facts.get("compute_dtype", "float32")
    return InferenceEncoder(plain, "auto" if precision == "float16" else precision)
