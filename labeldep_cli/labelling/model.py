"""`labeldep_cli.load`: use a trained run from Python."""

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
from labeldep_cli.config.reading import read_value_range
from labeldep_cli.errors import DatasetError
from labeldep_cli.features.deep import NoValueRange
from labeldep_cli.features.images import as_rgb
from labeldep_cli.features.reading import read_here
from labeldep_cli.features.reasons import Reason
from labeldep_cli.features.views import cut
from labeldep_cli.labelling.labeller import Labelled, Labeller, open_features_labeller, open_labeller
from labeldep_cli.labelling.paths import BATCH
from labeldep_cli.labelling.prediction import Prediction, prediction_of
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.find import open_run

ImageLike = str | PathLike[str] | Image.Image | Tensor | NDArray[Any]
"""An input of `predict`: the path of an image, or a PIL image; for a run on ready features a row [F]."""


@dataclass(frozen=True)
class Model:
    """A trained run, as opened by `load`.

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
        """Thresholds chosen on val, 0..1: "tuned", one for all labels, and "tuned-per-label", a list [L]."""
        return dict(self.labeller.run.facts["thresholds"])

    @property
    def decision(self) -> dict[str, Any]:
        """How label sets are decided: the rule, its threshold or beta, and where that value comes from."""
        return self.labeller.decision.to_json()

    @property
    def side(self) -> int | None:
        """Height and width of its input images, in pixels; None for a run on ready features."""
        framing = self.labeller.framing
        return None if framing is None else framing.side

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Compute logits.

        Args:
            x: images as returned by `prepare`, uint8 [B, 3, side, side]; for a run on ready features [B, F].

        Returns:
            Logits [B, L], on the model's device; their sigmoid gives the probabilities.
        """
        logits: Tensor = self.labeller.generator(x.to(self.labeller.device))
        return logits

    def label(self, x: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Compute probabilities and label sets, for the same inputs as `__call__`.

        Returns:
            Probabilities [B, L] and sets [B, L]; NaN and empty if features are not finite in the run's precision.
        """
        return self.labeller.label(x)[:2]

    def decide(self, x: Tensor) -> Labelled:
        """Compute probabilities, label sets and the confidence of each set, for the same inputs as `__call__`.

        Returns:
            `probabilities` [B, L], `sets` [B, L] and `confidence` [B], the probability that the whole set is exactly
            right; NaN and empty if features are not finite in the run's precision.
        """
        return self.labeller.label(x)

    def predict(self, images: Iterable[ImageLike] | str | PathLike[str] | Image.Image) -> list[Prediction]:
        """Label images, 32 at a time, as `labeldep predict` does.

        Args:
            images: paths or PIL images, or a single one; for a run on ready features rows [F].

        Returns:
            One `Prediction` per image, in order: `labels`, (name, probability) of its label set, most probable first;
            `confidence`, the probability that the whole set is exactly right; `probabilities` of all labels; `path`,
            empty if the image has none.

        Raises:
            DatasetError: an image cannot be read, or its features exceed the range of 16 bits; the error names it.
        """
        sequence = [images] if isinstance(images, str | PathLike | Image.Image) else images
        predictions, remaining = [], iter(sequence)
        while batch := list(islice(remaining, BATCH)):
            rows = zip(batch, *self.decide(torch.stack([self.prepare(image) for image in batch])), strict=True)
            predictions += [self._prediction(*row) for row in rows]
        return predictions

    def _prediction(
        self, image: ImageLike, p: NDArray[np.float64], chosen: NDArray[np.bool_], confidence: float
    ) -> Prediction:
        if np.isnan(p).any():
            why = "features not finite" if self.labeller.run.has_features else Reason.NOT_FINITE.text
            raise DatasetError(f"{_description(image)}: {why}", "Leave it out, as extraction does.")
        return prediction_of(_path(image), self.labels, p, chosen, float(confidence))

    def prepare(self, image: ImageLike) -> Tensor:
        """Apply the test transform to one image.

        Returns:
            uint8 [3, side, side]; for a run on ready features the row itself, float32 [F].

        Raises:
            DatasetError: the image cannot be read.
        """
        if self.labeller.run.has_features:
            return torch.as_tensor(image, dtype=torch.float32)
        framing = self.labeller.square
        if isinstance(image, Image.Image):
            try:
                rgb, _ = as_rgb(image, self.labeller.rules)
            except NoValueRange:
                raise _no_value_range(image) from None
            except Exception as error:  # Pillow's decoders raise many kinds of errors on damaged data
                raise DatasetError(
                    f"{_description(image)}: {Reason.BROKEN.text}", "Leave it out, or mend the file."
                ) from error
        elif isinstance(image, str | PathLike):
            how = (framing, self.labeller.rules, self.labeller.jpegs, self.labeller.device)
            decoded = read_here(Path, [(image, (0,))], *how)
            if reason := int(decoded.reasons[0]):
                if reason == Reason.NO_VALUE_RANGE:
                    raise _no_value_range(image)
                raise DatasetError(f"{image}: {Reason(reason).text}", "Leave it out, or mend the file.")
            return decoded.images[0, 0].cpu()
        else:
            raise TypeError(f"{type(image).__name__}: predict takes paths and PIL images; call the model on tensors")
        return torch.from_numpy(cut(rgb, (0,), framing, self.labeller.rules.colour)[0])


def load(
    run: str | PathLike[str] | None = None,
    *,
    decision: DecisionKind = DecisionConfig.rule,
    beta: float | None = DecisionConfig.beta,
    threshold: float | str | None = DecisionConfig.threshold,
    top_k: int | None = DecisionConfig.top_k,
    non_empty: bool = DecisionConfig.non_empty,
    weights: str | None = None,
    value_range: str | None = None,
    device: str = Machine.device,
    runs_dir: str | PathLike[str] = Workspace.runs_dir,
) -> Model:
    """Open a trained run.

    Args:
        run: its folder, its name in `runs_dir`, a stage or a part of a name; None for the newest run there.
        decision: "threshold", or for a run with a critic or a joint head "rerank" or "expected-f1".
        beta: the critic's weight; None for the weight chosen on val.
        threshold: a probability, "tuned" or "tuned-per-label"; None for 0.5, or for no threshold if `top_k` is set.
        top_k: keep the k most probable labels.
        non_empty: an empty set becomes its most probable label.
        weights: path of the backbone's weights; it replaces the path that the run recorded.
        value_range: "LOW,HIGH", the darkest and brightest value of pixels with more than 8 bits, if the run has none.
        device: auto, cpu, cuda, cuda:N or mps.
        runs_dir: the folder of the runs.

    Raises:
        LabeldepError: there is no such run, the weights are not the run's, or it cannot make this decision.
    """
    value_range = None if value_range is None else read_value_range(value_range)
    opened = open_run(None if run is None else str(run), Path(runs_dir))
    machine = Machine(device)
    rule = DecisionConfig(decision, beta, None if threshold is None else str(threshold), top_k, non_empty)
    if opened.has_features:
        return Model(open_features_labeller(opened, machine, rule))
    return Model(open_labeller(opened, machine, rule, weights, SilentReporter(), value_range))


def _no_value_range(image: ImageLike) -> DatasetError:
    return DatasetError(
        f"{_description(image)}: {Reason.NO_VALUE_RANGE.text}", 'Name it, such as load(..., value_range="0,4095").'
    )


def _description(image: ImageLike) -> str:
    """Describe an image in an error message."""
    return _path(image) or ("a PIL image" if isinstance(image, Image.Image) else "a row")


def _path(image: ImageLike) -> str:
    """Path of an image; empty for a PIL image that was not opened from a file."""
    return str(image) if isinstance(image, str | PathLike) else str(getattr(image, "filename", ""))
