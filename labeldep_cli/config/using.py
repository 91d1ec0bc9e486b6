"""Settings for the use of trained networks: decisions, audits, reports and the paper's tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from labeldep_cli.config.adversarial import AdversarialConfig
from labeldep_cli.config.choices import DEFAULT_BACKBONE, DecisionKind, EvalDecisionKind
from labeldep_cli.config.reading import read_names, read_numbers, read_precision, read_threshold
from labeldep_cli.config.settings import like, setting, settings_of
from labeldep_cli.config.training import PretrainConfig, TrainingConfig


def _of_both_stages(name: str) -> Any:  # noqa: ANN401 - a field, as `dataclasses.field`
    """The same flag as in training, with the defaults of both stages in its help."""
    default_texts = [
        (stage.STAGE, settings_of(stage)[name].default_text_of(stage)) for stage in (PretrainConfig, AdversarialConfig)
    ]
    return like(TrainingConfig, name, default_text="; ".join(f"{stage}: {words}" for stage, words in default_texts))


@dataclass(frozen=True)
class DecisionConfig:
    """How label sets are predicted.

    Attributes:
        rule: "threshold"; or, with the critic of a run, "rerank": the set with the best log p_G(y|x) + beta D(y, x), or
            "expected-f1": the set with the best expected F1 if p(y|x) is proportional to p_G(y|x) exp(beta D(y, x)).
            A joint head without a critic decides by its own p(y|x).
        beta: the critic's weight; None for the weight chosen on val and stored in the checkpoint.
        threshold: a probability, "tuned" or "tuned-per-label" (both tuned on val and stored in the checkpoint). None
            for 0.5, or for no threshold at all if `top_k` is given.
        top_k: keep the k most probable labels (of those above the threshold, if one is given).
        non_empty: an empty set is replaced by the most probable label.
        ap: "step" for average precision as in scikit-learn, "voc" for the interpolated one.
    """

    rule: DecisionKind = setting(
        "threshold",
        "How label sets are decided. For labels one by one: threshold, each label by its probability. For whole sets "
        "that are exactly right: rerank, the most probable set, with a critic D by p(y|x) exp(beta D(y, x)), with "
        "--head powerset or chain by its p(y|x). For both: expected-f1, the set with the best expected F1. A ranking "
        "of images (mAP) is the same under all.",
        flag="--decision",
    )
    beta: float | None = setting(
        None, "Weight beta of the critic in --decision.", min=0.0, default_text="the one chosen on val"
    )
    threshold: str | None = setting(
        None,
        "Predict labels above this probability; or tuned or tuned-per-label: the thresholds tuned on val.",
        parser=read_threshold,
        metavar="T",
        complete="threshold",
        default_text="0.5, with --top-k none",
    )
    top_k: int | None = setting(
        None, "Predict the k most probable labels; with --threshold, only those above it.", min=1
    )
    non_empty: bool = setting(False, "Replace an empty predicted set by its most probable label.")
    ap: Literal["step", "voc"] = setting(
        "step", "Average precision: step as in scikit-learn, or interpolated as in PASCAL VOC (voc)."
    )


@dataclass(frozen=True)
class EvalConfig:
    """The decision that `eval` scores.

    Attributes:
        rule: as in `DecisionConfig`, or "all" for a table of all decisions.
    """

    rule: EvalDecisionKind = like(
        DecisionConfig,
        "rule",
        help=f"{settings_of(DecisionConfig)['rule'].help} all: one table of every decision, with the best for each "
        "purpose, chosen on val.",
    )


@dataclass(frozen=True)
class AcceptConfig:
    """Which predicted sets are accepted by their confidence, and where the others go.

    Attributes:
        min_confidence: the smallest confidence of an accepted set.
        auto_accept: instead of it, the share 0..1 of the accepted sets of val that must be right.
        rest: None to name the images of the other sets on stderr.
    """

    min_confidence: float | None = setting(
        None,
        "Accept only sets with at least this probability of being exactly right.",
        panel="Output",
        min=0.0,
        max=1.0,
        metavar="P",
        default_text="accept all",
    )
    auto_accept: float | None = setting(
        None,
        "Accept only sets above the lowest confidence at which this share of val's sets is exactly right: 0.95 or 95%.",
        panel="Output",
        parser=read_precision,
        metavar="PRECISION",
        default_text="accept all",
    )
    rest: Path | None = setting(
        None,
        "File for the sets that are not accepted, in the format of its ending or of --format.",
        panel="Output",
        metavar="FILE",
        default_text="none, their images are named on stderr",
    )

    @property
    def accepts_all(self) -> bool:
        """Whether no confidence is asked for."""
        return self.min_confidence is None and self.auto_accept is None


ACCEPT_ALL = AcceptConfig()


@dataclass(frozen=True)
class ReportConfig:
    """Settings of an HTML report on runs."""

    split: Literal["train", "val", "test"] = setting("test", "Split of the data set to report on.", panel="What")
    seed: int = setting(0, "Seed of the bootstrap and of the sampled label sets.", min=0)
    out: Path = setting(Path("report.html"), "File to write the report to.", panel="Output")


@dataclass(frozen=True)
class AuditConfig:
    """Settings of an audit: labels are scored by networks that were not trained on them.

    Attributes:
        folds: each fold is scored by networks trained on the other folds.
        repeats: logits and evidence are averaged over the repeats (on the planted mistakes of miml2000 two repeats have
            3 points more average precision than one).
        held_out: share of the other folds that is used to choose the best evaluation.
        patience: number of evaluations without a better one after which the critic's training stops. On few rows the
            critic soon memorizes the labels, including the mistakes.
        hidden, steps: for all networks; None for each stage's default.
    """

    folds: int = setting(5, "Parts of the data set, each scored by networks trained on the others.", min=2)
    repeats: int = setting(
        2, "Number of draws of the folds, whose scores are averaged: more stable, but longer.", min=1
    )
    held_out: float = 0.1
    patience: int = 2
    hidden: int | None = like(TrainingConfig, "hidden", default_text="0")
    steps: int | None = like(TrainingConfig, "steps", default_text="each stage's own epochs")
    seed: int = like(
        TrainingConfig, "seed", help="Seed of folds, initial weights, row order and noise; not of the splits."
    )
    top: int = setting(100, "Number of findings in the gallery; audit.csv has all of them.", panel="Output", min=0)
    out: Path = setting(Path("audit"), "Folder for audit.csv, audit.html and the runs of the folds.", panel="Output")

    @property
    def training(self) -> dict[str, Any]:
        """The settings of every network, as `TrainingConfig` takes them."""
        return {name: getattr(self, name) for name in ("hidden", "steps", "seed")}


@dataclass(frozen=True)
class ReviewConfig:
    """Settings of a review, in which a person decides on the labels of images.

    Attributes:
        audit: if its audit is of the data set to review, its findings are shown; otherwise all images.
        who: None for the login name.
        port: None for a free one.
        take: None to open the page.
    """

    label: str | None = setting(
        None,
        "Show only images that have this label among their suspects; without an audit, those that have the label.",
        panel="What",
        default_text="all images",
    )
    audit: Path = like(AuditConfig, "out", help="Folder of the audit whose findings are shown.", panel="What")
    take: Path | None = setting(
        None,
        "Take over the decisions of a FILE that was saved from an audit's page, in place of opening the page.",
        panel="What",
        metavar="FILE",
        default_text="none",
    )
    who: str | None = setting(None, "Name to write with each decision.", default_text="the login name")
    port: int | None = setting(None, "Port of the page on this machine.", min=1, max=65535, default_text="a free one")
    browser: bool = setting(True, "Open the page in the browser.", flag="--browser/--no-browser")


@dataclass(frozen=True)
class ReproduceConfig:
    """Which rows of the paper's tables are made, and how their networks are trained.

    Attributes:
        tables: None for all tables that fit the data set.
        backbones: empty for the backbone of the data set.
        seeds: in the paper every row is one network.
        test_time: rows for a critic at test time, compared with the baseline's thresholds.
        full, epochs, steps, batch_size, lr, hidden: for both stages of every row; None for each stage's default.
    """

    tables: tuple[int, ...] | None = setting(
        None,
        "Tables to make, as a list such as 1,3: 1 (COCO, or your data), 2 (NUS-WIDE), 3 (ablations).",
        panel="What",
        parser=read_numbers,
        metavar="N,N",
        default_text="all that fit the data set",
    )
    backbones: tuple[str, ...] = setting(
        (),
        "Backbones, as a list such as resnet101,vgg16. Rivals and Table 3 use the first.",
        panel="What",
        parser=read_names,
        metavar="NAME,NAME",
        default_text=DEFAULT_BACKBONE,
    )
    seeds: int = setting(3, "Networks trained for each row, with the seeds 0, 1, ...", panel="What", min=1)
    rivals: bool = setting(True, "Make rows for the paper's rivals: WARP, CNN-RNN, Att-RNN, RLSD.", panel="What")
    companions: bool = setting(
        False,
        "Make rows for newer methods: ASL, focal loss, ML-Decoder, GCN, each with its control and critic.",
        panel="What",
    )
    test_time: bool = setting(True, "Make rows for a critic used at test time, for each backbone.", panel="What")
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
