"""`labeldep demo`: all stages on the embedded data set, and what each of them contributes to the result."""

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
    PretrainConfig,
    RunWorkspace,
    Source,
    Workspace,
)
from labeldep_cli.experiments.scores import Evaluation, evaluate_with
from labeldep_cli.experiments.train import adversarial, pretrain
from labeldep_cli.experiments.verdict import gain_at_test_time, gain_taken_apart
from labeldep_cli.labelling.prediction import Prediction
from labeldep_cli.pipelines.extract import extract
from labeldep_cli.pipelines.predict import predict
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.of_run import project_of_run
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run

SHOWN = 4
"""Number of test images that are labelled at the end."""


@dataclass(frozen=True)
class Pair:
    """Scores of one model on the test split, at the threshold 0.5 and at the threshold tuned on val."""

    at_half: Evaluation
    tuned: Evaluation

    def to_json(self) -> dict[str, Any]:
        """The evaluation at 0.5, and the tuned one under `tuned`."""
        return {**self.at_half.to_json(), "tuned": self.tuned.to_json()}


@dataclass(frozen=True)
class Demo:
    """The results of `demo`.

    Attributes:
        baseline, control, adversarial: scores of three models on the test split of scenes.
        critic: scores of the baseline with label sets chosen by a critic at test time.
        predictions: label sets of a few test images, chosen by the critic.
        truth: the true labels of these images.
    """

    baseline: Pair
    control: Pair
    adversarial: Pair
    critic: Evaluation
    predictions: tuple[Prediction, ...]
    truth: tuple[tuple[str, ...], ...]

    @property
    def verdict(self) -> tuple[str, ...]:
        """Sentences on how much of the difference more training or a threshold alone gives."""
        points = [
            (pair.at_half.scores.CF1, pair.tuned.scores.CF1, pair.at_half.scores.mAP)
            for pair in (self.baseline, self.control, self.adversarial)
        ]
        best = max(self.baseline.at_half.scores.exact_match, self.baseline.tuned.scores.exact_match)
        return *gain_taken_apart(*points), gain_at_test_time(self.critic.scores.exact_match - best)

    def to_json(self) -> dict[str, Any]:
        """The scores of the models and the verdict, as `demo --json` prints them."""
        return {
            "baseline": self.baseline.to_json(),
            "adversarial": self.adversarial.to_json(),
            "control": self.control.to_json(),
            "critic": self.critic.to_json(),
            "verdict": " ".join(self.verdict),
        }


def demo(workspace: Workspace, machine: Machine, reporter: Reporter) -> Demo:
    """Run data -> extract -> pretrain -> adversarial and its control -> eval -> predict on `scenes`.

    Raises:
        LabeldepError: the workspace is not writable, or has runs with other settings under the same names.
    """
    source = Source("scenes")
    extract(workspace, source, machine, ExtractConfig(), None, False, reporter)
    reporter.note("pretraining the baseline")
    runs = {"baseline": pretrain(workspace, source, machine, PretrainConfig(), Job(), reporter).folder}
    stages = {
        "control": AdversarialConfig(critic="none"),
        "adversarial": AdversarialConfig(),
        "critic": AdversarialConfig(critic="nce", freeze_generator=True),
    }
    for name, config in stages.items():
        reporter.note(f"training the {name}")
        runs[name] = adversarial(workspace, source, machine, config, str(runs["baseline"]), Job(), reporter).folder
    scores = {name: _scores(folder, name, workspace, machine, reporter) for name, folder in runs.items()}
    predictions, truth = _examples(runs["critic"], workspace, machine, reporter)
    baseline, control, with_critic = (Pair(*scores[name]) for name in ("baseline", "control", "adversarial"))
    return Demo(baseline, control, with_critic, scores["critic"][0], predictions, truth)


def _scores(
    folder: Path, name: str, workspace: Workspace, machine: Machine, reporter: Reporter
) -> tuple[Evaluation, ...]:
    half, tuned, rerank = DecisionConfig(), DecisionConfig(threshold="tuned"), DecisionConfig("rerank")
    decisions = (rerank,) if name == "critic" else (half, tuned)
    run = open_run(str(folder), workspace.runs_dir)
    return evaluate_with(run, RunWorkspace(workspace.runs_dir), machine, decisions, "test", None, reporter)


def _examples(
    folder: Path, workspace: Workspace, machine: Machine, reporter: Reporter
) -> tuple[tuple[Prediction, ...], tuple[tuple[str, ...], ...]]:
    """Label the first test images, and return the label sets with the true labels."""
    run, run_workspace = open_run(str(folder), workspace.runs_dir), RunWorkspace(workspace.runs_dir)
    test = project_of_run(run, run_workspace, None, machine, reporter).dataset.split("test")
    files = [str(test.file(row)) for row in range(SHOWN)]
    results = predict(run_workspace, str(folder), machine, DecisionConfig("rerank"), None, files, reporter)
    labelled = tuple(item for item in islice(results, SHOWN) if isinstance(item, Prediction))
    return labelled, tuple(test.space.decode(test.labels[row]) for row in range(SHOWN))
