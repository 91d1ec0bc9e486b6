"""Train one network of the matrix, unless it is trained already, and score it on the test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.config import (
    AdversarialConfig,
    DecisionConfig,
    Machine,
    PretrainConfig,
    ReproduceConfig,
    RunWorkspace,
    Source,
    Workspace,
)
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation.bootstrap import mean_average_precision, set_scores, weights
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.experiments.comparison import threshold_for
from labeldep_cli.experiments.rules import RULES
from labeldep_cli.experiments.scores import Evaluation, SplitPredictions, predict_split
from labeldep_cli.experiments.train import adversarial, pretrain
from labeldep_cli.experiments.train_run import Trained
from labeldep_cli.progress import Reporter, SilentReporter
from labeldep_cli.projects.project import Project
from labeldep_cli.reproduction.matrix import BASELINE, CRITIC, Training
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run
from labeldep_cli.runs.layout import BEST
from labeldep_cli.runs.record import result_of

HALF, TUNED, EQUAL = RULES
NON_EMPTY = "tuned, never empty"
RERANK = "critic"

RESAMPLING_SEED = 0


@dataclass(frozen=True)
class Scored:
    """A network of the matrix, scored on the test split.

    Attributes:
        folder: folder of its run.
        seed: seed of its training.
        own: its evaluation under the decision that the paper uses for it.
        tuned: its evaluation at the threshold tuned on val; None if a critic decides.
        predicted: label sets [N, L] at p > 0.5, or those that the critic chose.
        paths: paths of the N images.
        resampled: by rule and metric, the scores of its sets under each resample of the images [1 + B]; empty if no
            difference is needed.
        ranking: mAP under each resample [1 + B]; None if no difference is needed.
    """

    folder: Path
    seed: int
    own: Evaluation
    tuned: Evaluation | None
    predicted: NDArray[np.bool_]
    paths: Sequence[str]
    resampled: Mapping[str, Mapping[str, NDArray[np.float64]]] = field(default_factory=dict)
    ranking: NDArray[np.float64] | None = None


@dataclass
class Bench:
    """Trains and scores the networks of one matrix.

    Attributes:
        out: the folder of all runs.
        config: how the networks are trained.
        project: the data set and the first backbone.
        reporter: takes notes and progress.
        skipped: rows without a readable image, by path, among the images that this call read itself.
    """

    out: Path
    config: ReproduceConfig
    project: Project
    reporter: Reporter
    skipped: dict[str, Skipped] = field(default_factory=dict)
    _draws: NDArray[np.int32] | None = None
    _paths: Sequence[str] = ()

    def finished(self, training: Training, seed: int) -> bool:
        """Whether the training of a network is finished."""
        return is_finished(training.folder(self.out, seed))

    def train(self, training: Training, seed: int) -> None:
        """Train a network, or continue an interrupted training. For a finished network, nothing is reported."""
        reporter = SilentReporter() if self.finished(training, seed) else self.reporter
        workspace, source, machine = self._context(training, seed)
        config, job = training.config(self.config, seed), Job(training.folder(self.out, seed))
        if isinstance(config, AdversarialConfig):
            start = str(Training(training.model, BASELINE).folder(self.out, seed))
            self._collect_skipped(adversarial(workspace, source, machine, config, start, job, reporter))
        elif isinstance(config, PretrainConfig):
            if config.full:
                # Its head starts from the head-mode run, which `pretrain` looks for in the same workspace.
                self._collect_skipped(pretrain(workspace, source, machine, head_first(config), Job(), reporter))
            self._collect_skipped(pretrain(workspace, source, machine, config, job, reporter))

    def score(self, training: Training, seed: int, compared: bool) -> Scored:
        """Score a trained network on the test split.

        Args:
            training: the network.
            seed: its seed.
            compared: whether resampled scores are needed, for differences from other networks.

        Raises:
            LabeldepError: its test images are not those of the networks before it.
        """
        workspace, source, machine = self._context(training, seed)
        run_workspace = RunWorkspace(workspace.runs_dir, workspace.data_dir, workspace.features_dir)
        run = open_run(str(training.folder(self.out, seed)), workspace.runs_dir)
        predictions = predict_split(run, run_workspace, machine, "test", source.weights, self.reporter)
        self._require_same_rows(predictions)
        if predictions.project.images_read:
            self.skipped |= {skip.path: skip for skip in predictions.inputs.skipped}
        if training.stage == CRITIC:
            return self._critic(predictions, seed)
        return self._generator(predictions, training, seed, compared)

    def _generator(self, predictions: SplitPredictions, training: Training, seed: int, compared: bool) -> Scored:
        evaluation, _ = predictions.evaluated(DecisionConfig(top_k=training.model.top_k))
        tuned, at_tuned = predictions.evaluated(DecisionConfig(threshold="tuned"))
        p, target = probabilities(predictions.logits), float(predictions.run.facts["val"]["true_labels_per_image"])
        sets = {
            HALF: predictions.decided(DecisionConfig())[1].sets,
            TUNED: at_tuned.sets,
            EQUAL: p > threshold_for(p, target),
            NON_EMPTY: predictions.decided(DecisionConfig(threshold="tuned", non_empty=True))[1].sets,
        }
        scored = Scored(predictions.run.folder, seed, evaluation, tuned, sets[HALF], predictions.inputs.paths)
        if not compared:
            return scored
        ranking = mean_average_precision(
            predictions.logits, predictions.inputs.labels.numpy(), self._weights(predictions)
        )
        return replace(scored, resampled=self._resampled(predictions, sets), ranking=ranking)

    def _critic(self, predictions: SplitPredictions, seed: int) -> Scored:
        evaluation, decided = predictions.evaluated(DecisionConfig("rerank"))
        sets = decided.sets
        resampled = self._resampled(predictions, {RERANK: sets})
        return Scored(predictions.run.folder, seed, evaluation, None, sets, predictions.inputs.paths, resampled)

    def _resampled(
        self, predictions: SplitPredictions, sets: Mapping[str, NDArray[np.bool_]]
    ) -> dict[str, dict[str, NDArray[np.float64]]]:
        labels, draws = predictions.inputs.labels.numpy(), self._weights(predictions)
        return {rule: set_scores(predicted, labels, draws) for rule, predicted in sets.items()}

    def _context(self, training: Training, seed: int) -> tuple[Workspace, Source, Machine]:
        workspace = replace(self.project.workspace, runs_dir=training.workspace(self.out, seed))
        return workspace, replace(self.project.source, backbone=training.model.backbone), self.project.machine

    def _collect_skipped(self, trained: Trained) -> None:
        if trained.images_read:
            self.skipped |= {skip.path: skip for skip in trained.skipped}

    def _weights(self, predictions: SplitPredictions) -> NDArray[np.int32]:
        """Bootstrap weights of the images, the same for every network."""
        if self._draws is None:
            self._draws = weights(len(predictions.logits), RESAMPLING_SEED)
        return self._draws

    def _require_same_rows(self, predictions: SplitPredictions) -> None:
        self._paths = self._paths or list(predictions.inputs.paths)
        if list(predictions.inputs.paths) != self._paths:
            raise LabeldepError(
                f"{predictions.run.folder} is scored on other test images than the runs before it",
                "Extract the backbones' features again (labeldep extract --fresh): what can be read has changed.",
            )


def is_finished(folder: Path) -> bool:
    """Whether a folder contains a finished run."""
    return result_of(folder) is not None and (folder / BEST).is_file()


def head_first(config: PretrainConfig) -> PretrainConfig:
    """Settings of the head-mode run that a full-mode head starts from; length and rate are head mode's defaults."""
    return replace(config, full=False, epochs=None, steps=None, batch_size=None, lr=None)
