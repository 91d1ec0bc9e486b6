"""What is done with trained networks: deciding, auditing, making the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labeldep_cli.config.choices import Decided


@dataclass(frozen=True)
class DecisionConfig:
    """Which labels make the predicted set.

    Attributes:
        rule: "threshold"; or with a run's critic "rerank": the set with the best log p_G(y|x) + beta D(y, x), and
            "expected-f1": the one with the best expected F1 where p(y|x) is proportional to p_G(y|x) exp(beta D(y, x)).
        beta: the critic's weight; None for the one chosen on val and kept in the checkpoint.
        threshold: a probability, "tuned" or "tuned-per-label" (both found on val and kept in the checkpoint); None for
            0.5, or for no threshold at all where `top_k` is given.
        top_k: keep the k most probable labels (of those above the threshold, if one is given).
        non_empty: an empty set becomes its most probable label.
        ap: "step" average precision (scikit-learn's), or "voc", the interpolated one.
    """

    rule: Decided = "threshold"
    beta: float | None = None
    threshold: str | None = None
    top_k: int | None = None
    non_empty: bool = False
    ap: Literal["step", "voc"] = "step"


@dataclass(frozen=True)
class ReportConfig:
    """How a page about runs is made.

    Attributes:
        split: of their data set.
        seed: of the resampling and of the sampled sets.
        out: the page's file.
    """

    split: Literal["train", "val", "test"] = "test"
    seed: int = 0
    out: Path = Path("report.html")


@dataclass(frozen=True)
class AuditConfig:
    """How a data set's labels are audited by networks that have not seen them.

    Attributes:
        folds: parts that the rows are drawn into; each is scored by networks trained on the others.
        repeats: draws of the folds, whose logits and evidence are averaged (two found 3 points more of miml2000's
            planted mistakes in average precision than one).
        held_out: the share of those others that chooses the best evaluation.
        patience: evaluations of the critic without a better one after which it stops: on few rows it soon learns labels
            by heart, noise and all.
        hidden, steps: of the networks; None for each stage's default.
        seed: of folds and networks.
        top: findings in the gallery.
        out: the folder of table, gallery and the folds' runs.
    """

    folds: int = 5
    repeats: int = 2
    held_out: float = 0.1
    patience: int = 2
    hidden: int | None = None
    steps: int | None = None
    seed: int = 0
    top: int = 100
    out: Path = Path("audit")

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("hidden", "steps", "seed")}


@dataclass(frozen=True)
class ReproduceConfig:
    """Which rows of the paper's tables are made, and how their networks are trained.

    Attributes:
        tables: of 1 (COCO), 2 (NUS-WIDE), 3 (ablations); None for those that fit the data set.
        backbones: of Tables 1 and 2; the rivals, the companions and Table 3 take the first. Empty for the data set's.
        seeds: networks trained for each row, with the seeds 0, 1, ...; every row of the paper is one network.
        rivals: the rows WARP, CNN-RNN, Att-RNN and RLSD.
        companions: today's strong losses and heads, each with its control and its critic.
        test_time: a critic at test time for each backbone, beside the baseline's thresholds.
        full, epochs, steps, batch_size, lr, hidden: of both stages of every row; None for each stage's default.
    """

    tables: tuple[int, ...] | None = None
    backbones: tuple[str, ...] = ()
    seeds: int = 3
    rivals: bool = True
    companions: bool = False
    test_time: bool = True
    full: bool = False
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    hidden: int | None = None

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("full", "epochs", "steps", "batch_size", "lr", "hidden")}
