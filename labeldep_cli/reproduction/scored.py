"""Training one network of the matrix, or finding it trained, and scoring it on the test split."""

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
        folder: of its run.
        seed: that it was trained with.
        own: at the decision that the paper reports it with.
        tuned: at the threshold tuned on val; None where a critic decides.
        predicted: label sets [N, L] at p > 0.5, or those that the critic chose.
        paths: of the N images.
        resampled: by rule and metric, scores of the sets under each resample of the images [1 + B]; empty where no
            difference is asked for.
        ranking: mAP under each resample, likewise.
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
    """Where the networks of one matrix are trained and scored.

    Attributes:
        out: the folder of all.
        config: how they are trained.
        project: the data set and the first backbone, as this call sees them.
        reporter: takes notes and progress.
        skipped: rows that were left out where this call read images itself.
    """

    out: Path
    config: ReproduceConfig
    project: Project
    reporter: Reporter
    skipped: dict[str, Skipped] = field(default_factory=dict)
    _draws: NDArray[np.int32] | None = None
    _paths: Sequence[str] = ()

    def finished(self, training: Training, seed: int) -> bool:
        """Whether a network is trained to its end."""
        return is_finished(training.folder(self.out, seed))

    def train(self, training: Training, seed: int) -> None:
        """Train a network, going on where it was interrupted; a finished one is found again in silence."""
        reporter = SilentReporter() if self.finished(training, seed) else self.reporter
        workspace, source, machine = self._where(training, seed)
        config, job = training.config(self.config, seed), Job(training.folder(self.out, seed))
        if isinstance(config, AdversarialConfig):
            start = str(Training(training.model, BASELINE).folder(self.out, seed))
            self._note(adversarial(workspace, source, machine, config, start, job, reporter))
        elif isinstance(config, PretrainConfig):
            if config.full:
                # Its head starts from that of the head mode (design), which `pretrain` looks for in the same workspace.
                self._note(pretrain(workspace, source, machine, head_first(config), Job(), reporter))
            self._note(pretrain(workspace, source, machine, config, job, reporter))

    def score(self, training: Training, seed: int, compared: bool) -> Scored:
        """Score a trained network on the test split.

        Args:
            training: the network.
            seed: its seed.
            compared: differences from other networks are asked for.

        Raises:
            LabeldepError: it does not see the images that the networks before it saw.
        """
        workspace, source, machine = self._where(training, seed)
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
        own, _ = predictions.evaluated(DecisionConfig(top_k=training.model.top_k))
        tuned, at_tuned = predictions.evaluated(DecisionConfig(threshold="tuned"))
        p, target = probabilities(predictions.logits), float(predictions.run.facts["val"]["true_labels_per_image"])
        sets = {
            HALF: predictions.decided(DecisionConfig())[1],
            TUNED: at_tuned,
            EQUAL: p > threshold_for(p, target),
            NON_EMPTY: predictions.decided(DecisionConfig(threshold="tuned", non_empty=True))[1],
        }
        scored = Scored(predictions.run.folder, seed, own, tuned, sets[HALF], predictions.inputs.paths)
        if not compared:
            return scored
        ranking = mean_average_precision(
            predictions.logits, predictions.inputs.labels.numpy(), self._weights(predictions)
        )
        return replace(scored, resampled=self._resampled(predictions, sets), ranking=ranking)

    def _critic(self, predictions: SplitPredictions, seed: int) -> Scored:
        own, sets = predictions.evaluated(DecisionConfig("rerank"))
        resampled = self._resampled(predictions, {RERANK: sets})
        return Scored(predictions.run.folder, seed, own, None, sets, predictions.inputs.paths, resampled)

    def _resampled(
        self, predictions: SplitPredictions, sets: Mapping[str, NDArray[np.bool_]]
    ) -> dict[str, dict[str, NDArray[np.float64]]]:
        labels, draws = predictions.inputs.labels.numpy(), self._weights(predictions)
        return {rule: set_scores(predicted, labels, draws) for rule, predicted in sets.items()}

    def _where(self, training: Training, seed: int) -> tuple[Workspace, Source, Machine]:
        workspace = replace(self.project.workspace, runs_dir=training.workspace(self.out, seed))
        return workspace, replace(self.project.source, backbone=training.model.backbone), self.project.machine

    def _note(self, trained: Trained) -> None:
        if trained.images_read:
            self.skipped |= {skip.path: skip for skip in trained.skipped}

    def _weights(self, predictions: SplitPredictions) -> NDArray[np.int32]:
        """The same resamples of the images for every network."""
        if self._draws is None:
            self._draws = weights(len(predictions.logits), RESAMPLING_SEED)
        return self._draws

    def _require_same_rows(self, predictions: SplitPredictions) -> None:
        self._paths = self._paths or list(predictions.inputs.paths)
        if list(predictions.inputs.paths) != self._paths:
            raise LabeldepError(
                f"{predictions.run.folder} does not see the same images of test as the runs before it",
                "Extract the backbones' features anew (labeldep extract --fresh): what can be read has changed.",
            )


def is_finished(folder: Path) -> bool:
    """Whether a folder holds a run that was trained to its end."""
    return result_of(folder) is not None and (folder / BEST).is_file()


def head_first(config: PretrainConfig) -> PretrainConfig:
    """The head-mode run that a full-mode run's head starts from: its own length and rate are head mode's."""
    return replace(config, full=False, epochs=None, steps=None, batch_size=None, lr=None)
