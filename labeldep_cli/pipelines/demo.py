"""`labeldep demo`: the whole chain on the embedded data set, and what of its result is whose doing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from labeldep_cli.config import (
    AdversarialConfig,
    DecisionConfig,
    ExtractConfig,
    Machine,
    Place,
    PretrainConfig,
    Source,
    Workspace,
)
from labeldep_cli.pipelines.evaluate import Evaluation, evaluate_with
from labeldep_cli.pipelines.extract import extract
from labeldep_cli.pipelines.predict import Prediction, predict
from labeldep_cli.pipelines.runs import open_run
from labeldep_cli.pipelines.train import Job, adversarial, pretrain
from labeldep_cli.progress import Reporter

SHOWN = 4
"""Test images labelled at the end."""


@dataclass(frozen=True)
class Pair:
    """One model on the test split, at the threshold 0.5 and at the one tuned on val."""

    at_half: Evaluation
    tuned: Evaluation

    def to_json(self) -> dict[str, Any]:
        """The evaluation at 0.5, and the tuned one under `tuned`."""
        return {**self.at_half.to_json(), "tuned": self.tuned.to_json()}


@dataclass(frozen=True)
class Demo:
    """What `demo` found.

    Attributes:
        baseline, control, adversarial: three models on scenes' test split.
        predictions: of a few test images by the adversarial model.
        truth: their labels.
    """

    baseline: Pair
    control: Pair
    adversarial: Pair
    predictions: tuple[Prediction, ...]
    truth: tuple[tuple[str, ...], ...]

    @property
    def verdict(self) -> tuple[str, ...]:
        """What of the difference more training or a threshold alone gives, in sentences."""
        return explain(
            *(
                (pair.at_half.scores.CF1, pair.tuned.scores.CF1, pair.at_half.scores.mAP)
                for pair in (self.baseline, self.control, self.adversarial)
            )
        )

    def to_json(self) -> dict[str, Any]:
        """The keys of the contract, and the verdict."""
        return {
            "baseline": self.baseline.to_json(),
            "adversarial": self.adversarial.to_json(),
            "control": self.control.to_json(),
            "verdict": " ".join(self.verdict),
        }


Point = tuple[float, float, float]
"""CF1 at 0.5, CF1 at the tuned threshold, mAP."""


def explain(baseline: Point, control: Point, adversarial: Point) -> tuple[str, ...]:
    """Take the gain apart (protocol: "a gain is three gains").

    Returns:
        Three sentences: the gain at 0.5 and how much of it more training or a threshold alone gives; what is left of it
        at tuned thresholds; what the critic gained.
    """
    at_half = adversarial[0] - baseline[0]
    training, threshold = control[0] - baseline[0], baseline[1] - baseline[0]
    left = adversarial[1] - control[1]
    ranking = adversarial[2] - control[2]
    first = (
        f"At 0.5 the adversarial model's CF1 is {at_half:+.1f} beside the baseline's; "
        f"training as long without a critic alone gives {training:+.1f}, a tuned threshold alone {threshold:+.1f}."
    )
    second = f"At tuned thresholds it is {left:+.1f} CF1 and {ranking:+.1f} mAP beside the control."
    if left > 0 and ranking > 0:
        third = f"So {left:.1f} CF1 is what the critic gained here, on one seed."
    else:
        third = "So the critic gained nothing here that more training or a tuned threshold does not give."
    return first, second, third


def demo(workspace: Workspace, machine: Machine, reporter: Reporter) -> Demo:
    """Run data -> extract -> pretrain -> adversarial and its control -> eval -> predict on `scenes`.

    Raises:
        LabeldepError: the workspace is not writable, or holds runs of other settings under the same names.
    """
    source = Source("scenes")
    extract(workspace, source, machine, ExtractConfig(), None, False, reporter)
    runs: dict[str, Path] = {}
    reporter.note("pretraining the baseline")
    runs["baseline"] = pretrain(workspace, source, machine, PretrainConfig(), Job(), reporter).folder
    for name, critic in (("control", "none"), ("adversarial", "wgan-gp")):
        reporter.note(f"training the {name}")
        config = AdversarialConfig(critic=critic)  # type: ignore[arg-type]
        runs[name] = adversarial(workspace, source, machine, config, str(runs["baseline"]), Job(), reporter).folder
    pairs = {name: _pair(folder, workspace, machine, reporter) for name, folder in runs.items()}
    predictions, truth = _examples(runs["adversarial"], workspace, machine, reporter)
    return Demo(pairs["baseline"], pairs["control"], pairs["adversarial"], predictions, truth)


def _pair(folder: Path, workspace: Workspace, machine: Machine, reporter: Reporter) -> Pair:
    decisions = (DecisionConfig(threshold="0.5"), DecisionConfig(threshold="tuned"))
    run = open_run(str(folder), workspace.runs_dir)
    return Pair(*evaluate_with(run, Place(workspace.runs_dir), machine, decisions, "test", None, reporter))


def _examples(
    folder: Path, workspace: Workspace, machine: Machine, reporter: Reporter
) -> tuple[tuple[Prediction, ...], tuple[tuple[str, ...], ...]]:
    """Label the first test images, and give their true labels."""
    test = (
        open_run(str(folder), workspace.runs_dir)
        .project(Place(workspace.runs_dir), None, machine, reporter)
        .dataset.split("test")
    )
    files = [str(test.file(row)) for row in range(SHOWN)]
    found = predict(workspace.runs_dir, str(folder), machine, DecisionConfig(threshold="tuned"), None, files, reporter)
    labelled = tuple(item for item in islice(found, SHOWN) if isinstance(item, Prediction))
    return labelled, tuple(test.space.decode(test.labels[row]) for row in range(SHOWN))
