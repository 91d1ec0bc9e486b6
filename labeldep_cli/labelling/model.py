"""`labeldep_cli.load`: a run as an object in Python."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from labeldep_cli.config import DecisionConfig, DecisionKind, Machine, Workspace
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.images import Reason, UnreadableImage, as_rgb, read_image
from labeldep_cli.features.views import cut
from labeldep_cli.labelling.labeller import Labeller, open_features_labeller, open_labeller
from labeldep_cli.labelling.paths import BATCH
from labeldep_cli.labelling.prediction import Prediction, prediction_of
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.find import open_run

Looked = str | PathLike[str] | Image.Image | Tensor | NDArray[Any]
"""What `predict` takes: an image's path or a PIL image; for a run on ready features a row [F]."""


@dataclass(frozen=True)
class Model:
    """A trained run: what `load` gives.

    Attributes:
        labeller: its networks and its decision.
    """

    labeller: Labeller

    @property
    def folder(self) -> Path:
        """The run's folder."""
        return self.labeller.run.folder

    @property
    def labels(self) -> tuple[str, ...]:
        """The L label names, in the order of logits and label sets."""
        return self.labeller.run.space.names

    @property
    def thresholds(self) -> dict[str, Any]:
        """Found on val: "tuned", one for all labels, and "tuned-per-label", a list [L]; probabilities 0..1."""
        return dict(self.labeller.run.facts["thresholds"])

    @property
    def decision(self) -> dict[str, Any]:
        """How label sets are decided on: rule, threshold or beta, and where that comes from."""
        return self.labeller.decision.to_json()

    @property
    def side(self) -> int | None:
        """Height and width of the images it sees, in pixels; None for a run on ready features."""
        return self.labeller.side or None

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Logits.

        Args:
            x: images as `prepare` gives them, uint8 [B, 3, side, side]; for a run on ready features [B, F].

        Returns:
            [B, L], on the model's device; their sigmoid are the probabilities.
        """
        logits: Tensor = self.labeller.generator(x.to(self.labeller.device))
        return logits

    def label(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Decide on the label sets of what `__call__` takes.

        Returns:
            Probabilities [B, L] and sets [B, L]; NaN and empty where features are not finite in the run's precision.
        """
        return self.labeller.label(x)

    def predict(self, images: Iterable[Looked] | str | PathLike[str] | Image.Image) -> list[Prediction]:
        """Label images, 32 at a time, as `labeldep predict` does.

        Args:
            images: paths or PIL images, or one of them; for a run on ready features rows [F].

        Returns:
            One `Prediction` each, in their order: `labels`, (name, probability) of its label set, most probable first;
            `probabilities` of all labels; `path`, empty where it has none.

        Raises:
            DatasetError: an image that cannot be read, or whose features 16 bits cannot hold; names it.
        """
        several = [images] if isinstance(images, str | PathLike | Image.Image) else images
        found, waiting = [], iter(several)
        while some := list(islice(waiting, BATCH)):
            rows = zip(some, *self.label(torch.stack([self.prepare(one) for one in some])), strict=True)
            found += [self._prediction(one, p, chosen) for one, p, chosen in rows]
        return found

    def _prediction(self, one: Looked, p: NDArray[np.float64], chosen: NDArray[np.bool_]) -> Prediction:
        if np.isnan(p).any():
            why = "features not finite" if self.labeller.run.has_features else Reason.NOT_FINITE.text
            raise DatasetError(f"{_told(one)}: {why}", "Leave it out, as extraction does.")
        return prediction_of(_path(one), self.labels, p, chosen)

    def prepare(self, image: Looked) -> Tensor:
        """One image as the model sees it, uint8 [3, side, side]; a row of ready features as it is, float32 [F].

        Raises:
            DatasetError: it cannot be read.
        """
        if self.labeller.run.has_features:
            return torch.as_tensor(image, dtype=torch.float32)
        if isinstance(image, Image.Image):
            try:
                rgb = as_rgb(image)
            except Exception as error:  # what Pillow's decoders raise on damaged data is not one kind
                raise DatasetError(
                    f"{_told(image)}: {Reason.BROKEN.text}", "Leave it out, or mend the file."
                ) from error
        elif isinstance(image, str | PathLike):
            try:
                rgb = read_image(Path(image), self.side if self.labeller.run.draft else None)
            except UnreadableImage as unreadable:
                raise DatasetError(f"{image}: {unreadable.reason.text}", "Leave it out, or mend the file.") from None
        else:
            raise TypeError(f"{type(image).__name__}: predict takes paths and PIL images; call the model on tensors")
        return torch.from_numpy(cut(rgb, (0,), self.labeller.side)[0])


def load(
    run: str | PathLike[str] | None = None,
    *,
    decision: DecisionKind = DecisionConfig.rule,
    beta: float | None = DecisionConfig.beta,
    threshold: float | str | None = DecisionConfig.threshold,
    top_k: int | None = DecisionConfig.top_k,
    non_empty: bool = DecisionConfig.non_empty,
    weights: str | None = None,
    device: str = Machine.device,
    runs_dir: str | PathLike[str] = Workspace.runs_dir,
) -> Model:
    """Open a trained run.

    Args:
        run: its folder, its name in `runs_dir`, a stage or a part of a name; None for the newest one there.
        decision: "threshold", or with a run's critic "rerank" or "expected-f1".
        beta: the critic's weight; None for the one found on val.
        threshold: a probability, "tuned" or "tuned-per-label"; None for 0.5, or for none at all where `top_k` is given.
        top_k: keep the k most probable labels.
        non_empty: an empty set becomes its most probable label.
        weights: of the backbone: a path in place of the one that the run recorded.
        device: auto, cpu, cuda or cuda:N.
        runs_dir: where runs lie.

    Raises:
        LabeldepError: no such run, weights that are not the run's, or a decision that it cannot make.
    """
    opened = open_run(None if run is None else str(run), Path(runs_dir))
    machine = Machine(device)
    rule = DecisionConfig(decision, beta, None if threshold is None else str(threshold), top_k, non_empty)
    if opened.has_features:
        return Model(open_features_labeller(opened, machine, rule))
    return Model(open_labeller(opened, machine, rule, weights, SilentReporter()))


def _told(image: Looked) -> str:
    """An image in an error."""
    return _path(image) or ("a PIL image" if isinstance(image, Image.Image) else "a row")


def _path(image: Looked) -> str:
    """Where an image lies; a PIL image knows if it was opened from a file."""
    return str(image) if isinstance(image, str | PathLike) else str(getattr(image, "filename", ""))
