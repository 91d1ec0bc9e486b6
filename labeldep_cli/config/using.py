"""What is done with trained networks: deciding, auditing, making the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labeldep_cli.config.adversarial import AdversarialConfig
from labeldep_cli.config.choices import DEFAULT_BACKBONE, Decided
from labeldep_cli.config.reading import read_names, read_numbers, read_threshold
from labeldep_cli.config.settings import like, setting, settings_of
from labeldep_cli.config.training import PretrainConfig, TrainingConfig


def _of_both_stages(name: str) -> Any:  # noqa: ANN401 - a field, as `dataclasses.field`
    """The same flag as in training, which tells the defaults of both stages."""
    default_texts = [
        (stage.STAGE, settings_of(stage)[name].default_text_of(stage)) for stage in (PretrainConfig, AdversarialConfig)
    ]
    return like(TrainingConfig, name, default_text="; ".join(f"{stage}: {words}" for stage, words in default_texts))


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

    rule: Decided = setting(
        "threshold",
        "With a run's critic D, by p(y|x) exp(beta D(y, x)): rerank, the most probable label set; "
        "expected-f1, the one with the best expected F1.",
        flag="--decision",
    )
    beta: float | None = setting(None, "The critic's weight beta.", min=0.0, default_text="the one chosen on val")
    threshold: str | None = setting(
        None,
        "A probability, or tuned or tuned-per-label (found on val, kept in the checkpoint).",
        parser=read_threshold,
        metavar="T",
        complete="threshold",
        default_text="0.5, with --top-k none",
    )
    top_k: int | None = setting(None, "The k most probable labels; with --threshold, of those above it.", min=1)
    non_empty: bool = setting(False, "An empty set becomes its most probable label.")
    ap: Literal["step", "voc"] = setting("step", "Average precision: scikit-learn's steps, or interpolated as VOC's.")


@dataclass(frozen=True)
class ReportConfig:
    """How a page about runs is made."""

    split: Literal["train", "val", "test"] = setting("test", "Split of the data set.", panel="What")
    seed: int = setting(0, "Seed of the resampling and of the sampled sets.", min=0)
    out: Path = setting(Path("report.html"), "The file of the page.", panel="Output")


@dataclass(frozen=True)
class AuditConfig:
    """How a data set's labels are audited by networks that have not seen them.

    Attributes:
        folds: each is scored by networks trained on the others.
        repeats: logits and evidence are averaged (two found 3 points more of miml2000's planted mistakes in average
            precision than one).
        held_out: the share of those others that chooses the best evaluation.
        patience: evaluations of the critic without a better one after which it stops: on few rows it soon learns labels
            by heart, noise and all.
        hidden, steps: of the networks; None for each stage's default.
    """

    folds: int = setting(5, "Parts of a data set, each scored without it.", min=2)
    repeats: int = setting(2, "Draws of the folds, averaged: steadier, longer.", min=1)
    held_out: float = 0.1
    patience: int = 2
    hidden: int | None = like(TrainingConfig, "hidden", default_text="0")
    steps: int | None = like(TrainingConfig, "steps", default_text="each stage's own epochs")
    seed: int = like(TrainingConfig, "seed", help="Seed of folds, weights, order and noise; never of the splits.")
    top: int = setting(100, "Findings in the gallery; audit.csv has all.", panel="Output", min=0)
    out: Path = setting(Path("audit"), "Folder of audit.csv, audit.html and the folds' runs.", panel="Output")

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("hidden", "steps", "seed")}


@dataclass(frozen=True)
class ReproduceConfig:
    """Which rows of the paper's tables are made, and how their networks are trained.

    Attributes:
        tables: None for those that fit the data set.
        backbones: empty for the data set's.
        seeds: every row of the paper is one network.
        test_time: beside the baseline's thresholds.
        full, epochs, steps, batch_size, lr, hidden: of both stages of every row; None for each stage's default.
    """

    tables: tuple[int, ...] | None = setting(
        None,
        "Tables to make, of 1 (COCO, or your data), 2 (NUS-WIDE), 3 (ablations): 1,3.",
        panel="What",
        parser=read_numbers,
        metavar="N,N",
        default_text="all that fit the data set",
    )
    backbones: tuple[str, ...] = setting(
        (),
        "A list of backbones: resnet101,vgg16. Rivals and Table 3 take the first.",
        panel="What",
        parser=read_names,
        metavar="NAME,NAME",
        default_text=DEFAULT_BACKBONE,
    )
    seeds: int = setting(3, "Networks trained for each row, with the seeds 0, 1, ...", panel="What", min=1)
    rivals: bool = setting(True, "Rows of the rivals: WARP, CNN-RNN, Att-RNN, RLSD.", panel="What")
    companions: bool = setting(
        False,
        "Rows of today's strong ones too: ASL, focal loss, ML-Decoder, GCN, with control and critic.",
        panel="What",
    )
    test_time: bool = setting(True, "A critic at test time too, for each backbone.", panel="What")
    full: bool = like(TrainingConfig, "full")
    epochs: int | None = _of_both_stages("epochs")
    steps: int | None = like(TrainingConfig, "steps")
    batch_size: int | None = _of_both_stages("batch_size")
    lr: float | None = _of_both_stages("lr")
    hidden: int | None = like(TrainingConfig, "hidden", default_text="0")

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("full", "epochs", "steps", "batch_size", "lr", "hidden")}
