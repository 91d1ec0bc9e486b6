"""The matrix of `labeldep reproduce`: the rows of the paper's tables, and the networks that they need."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from labeldep_cli.config import (
    DEFAULT_HEAD,
    AdversarialConfig,
    HeadKind,
    PretrainConfig,
    ReproduceConfig,
    TrainingConfig,
)
from labeldep_cli.errors import LabeldepError
from labeldep_cli.files import plain_name
from labeldep_cli.models.heads.registry import HEADS

BASELINE, CONTROL, WGAN, CRITIC = "baseline", "control", "wgan-gp", "critic"

STAGES: Mapping[str, Mapping[str, Any]] = {
    CONTROL: {"critic": "none"},
    WGAN: {},
    "no-negatives": {"negatives": False},
    "unconditional": {"conditional": False},
    "no-gumbel": {"sampling": "none"},
    CRITIC: {"critic": "nce", "freeze_generator": True},
}
"""The stages that start from a baseline, with their settings of the adversarial stage."""

TITLES: Mapping[str, str] = {
    BASELINE: "",
    CONTROL: ", control",
    WGAN: " + WGAN-gp",
    "no-negatives": " + WGAN-gp without negatives",
    "unconditional": " + unconditional WGAN-gp",
    "no-gumbel": " + WGAN-gp without Gumbel sigmoid",
    CRITIC: ", critic at test time",
}
"""The text after a model's title, by stage."""

ABLATIONS: Mapping[str, tuple[str, str]] = {
    BASELINE: ("(a)", ""),
    CONTROL: ("", ""),
    WGAN: ("(b)", ""),
    "no-negatives": ("(c)", "(b) without negative sampling"),
    "unconditional": ("(d)", "(b) without conditional discriminator"),
    "no-gumbel": ("(e)", "(b) without Gumbel sigmoid"),
}
"""Table 3: stage -> the paper's letter, and the row's title if it differs from that in Table 1."""

_BACKBONES = {"vgg16": "VGG-16", "inception_v3": "Inception_v3", "resnet101": "Resnet-101", "resnet152": "Resnet-152"}
_FEATURES = "features"


@dataclass(frozen=True)
class Model:
    """A kind of generator.

    Attributes:
        title: its title in the tables.
        slug: its name in the folders of its runs.
        backbone: name of the backbone; None over ready features.
        settings: fields of TrainingConfig that differ from those of all rows: a loss, a head.
        top_k: its label sets are the k most probable labels, as the paper reports it; None for p > 0.5.
        stages: the stages that start from it in Tables 1 and 2.
    """

    title: str
    slug: str
    backbone: str | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    top_k: int | None = None
    stages: tuple[str, ...] = (CONTROL, WGAN)

    @property
    def head(self) -> HeadKind:
        """The kind of its head, which turns features into logits."""
        kind: HeadKind = self.settings.get("head", DEFAULT_HEAD)
        return kind

    @property
    def paper(self) -> str:
        """The row of the paper's Tables 1 and 2 that its baseline is compared with."""
        return self.title if self.settings else str(self.backbone)


RIVALS = (
    ("WARP", {"loss": "warp"}, 3),
    ("CNN-RNN", {"head": "cnn-rnn"}, 3),
    ("Att-RNN", {"head": "att-rnn"}, None),
    ("RLSD", {"head": "rlsd"}, 3),
)
"""Tables 1 and 2: title, settings, top k."""

COMPANIONS = (
    ("ASL", {"loss": "asl"}),
    ("Focal loss", {"loss": "focal"}),
    ("ML-Decoder", {"head": "ml-decoder"}),
    ("GCN", {"head": "gcn"}),
)
"""Strong losses and heads that are newer than the paper: title, settings."""


@dataclass(frozen=True)
class Training:
    """A network that is trained once per seed.

    Attributes:
        model: the kind of generator.
        stage: baseline, or one of STAGES.
    """

    model: Model
    stage: str

    @property
    def key(self) -> str:
        """Identifies the network: MODEL/STAGE."""
        return f"{self.model.slug}/{self.stage}"

    @property
    def title(self) -> str:
        """Its title in the notes and in the plan."""
        return self.model.title + TITLES[self.stage]

    def workspace(self, out: Path, seed: int) -> Path:
        """The folder of all runs of this model and seed. A run and the run that it starts from share this folder."""
        return out / "runs" / f"{self.model.slug}-seed{seed}"

    def folder(self, out: Path, seed: int) -> Path:
        """The folder of this run."""
        return self.workspace(out, seed) / self.stage

    def config(self, config: ReproduceConfig, seed: int) -> TrainingConfig:
        """Its training settings."""
        if self.stage == BASELINE:
            return PretrainConfig(**config.training, **self.model.settings, seed=seed)
        # The head has the baseline's kind and width.
        shared = {name: value for name, value in config.training.items() if name != "hidden"}
        loss = {name: value for name, value in self.model.settings.items() if name == "loss"}
        return AdversarialConfig(**shared, **loss, **STAGES[self.stage], seed=seed)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        training: the network.
        title: its title in the table.
        paper: the paper's name of the row; empty if the paper has no such row.
    """

    training: Training
    title: str
    paper: str


@dataclass(frozen=True)
class Matrix:
    """The rows of all tables, and the networks that they need.

    Attributes:
        tables: rows by table number.
        trainings: every network once, each after the network that it starts from.
        models: the models whose critic is compared with a control, in the order of the rows.
        left_out: rows that the data do not allow, with the reason.
    """

    tables: Mapping[int, Sequence[Row]]
    trainings: Sequence[Training]
    models: Sequence[Model]
    left_out: Mapping[str, str]


def build(dataset: str, backbones: Sequence[str], has_features: bool, config: ReproduceConfig) -> Matrix:
    """Build the matrix of the requested rows.

    Args:
        dataset: the name of the data set, as the user wrote it.
        backbones: at least one; empty over ready features.
        has_features: whether the data set contains features instead of images.
        config: tables, rivals, companions, and whether critics are used at test time.

    Raises:
        LabeldepError: a table belongs to another data set, or no table is requested.
    """
    numbers = table_numbers(dataset, config.tables)
    models = [_backbone(name) for name in backbones] or [Model("Ready features", _FEATURES, None)]
    first = models[0]
    left_out: dict[str, str] = {}
    rivals = [_variant(first, title, settings, k, ()) for title, settings, k in RIVALS]
    companions = [_variant(first, title, settings, None, (CONTROL, WGAN)) for title, settings in COMPANIONS]
    wide = any(number != 3 for number in numbers)
    rivals = _allowed(rivals, has_features, left_out) if config.rivals and wide else []
    companions = _allowed(companions, has_features, left_out) if config.companions and wide else []
    shown = [*rivals, *models, *companions]
    tables = {number: _ablations(first) if number == 3 else _rows(shown) for number in numbers}
    compared = [*models, *companions] if wide else [first]
    rows = [row.training for table in tables.values() for row in table]
    critics = [Training(model, CRITIC) for model in (models if wide else [first]) if config.test_time]
    unique = {training.key: training for training in (*rows, *critics)}
    return Matrix(tables, sorted(unique.values(), key=lambda t: t.stage != BASELINE), compared, left_out)


def table_numbers(dataset: str, requested: tuple[int, ...] | None) -> tuple[int, ...]:
    """The requested tables, or by default those that fit the data set.

    Raises:
        LabeldepError: there is no such table, or it belongs to another data set.
    """
    own, other = (2, 1) if dataset in ("nuswide", "nuswide-official") else (1, 2)
    numbers = tuple(dict.fromkeys(requested if requested is not None else (own, 3)))
    unknown = [number for number in numbers if number not in (1, 2, 3)]
    if unknown or not numbers:
        raise LabeldepError(
            f"the paper has no table {unknown[0]}" if unknown else "no table is requested",
            f"Its tables of results are 1, 2 and 3: --tables {own},3",
        )
    if other in numbers:
        what = "NUS-WIDE alone" if other == 2 else "COCO and all data sets but NUS-WIDE"
        raise LabeldepError(f"Table {other} is for {what}, not for {dataset}", f"Ask for Table {own}: --tables {own}")
    return numbers


def _backbone(name: str) -> Model:
    return Model(_BACKBONES.get(name, name), plain_name(name), name)


def _variant(
    first: Model, title: str, settings: Mapping[str, Any], top_k: int | None, stages: tuple[str, ...]
) -> Model:
    return Model(title, f"{first.slug}-{title.lower().replace(' ', '-')}", first.backbone, settings, top_k, stages)


def _allowed(models: Sequence[Model], has_features: bool, left_out: dict[str, str]) -> list[Model]:
    kept = []
    for model in models:
        if HEADS[model.head].spatial and has_features:
            left_out[model.title] = "it needs regions of an image, which ready features do not have"
        else:
            kept.append(model)
    return kept


def _rows(models: Sequence[Model]) -> list[Row]:
    rows = []
    for model in models:
        rows.append(Row(Training(model, BASELINE), model.title, model.paper))
        for stage in model.stages:
            training = Training(model, stage)
            own = stage == WGAN and not model.settings
            rows.append(Row(training, training.title, f"{model.paper} + WGAN-gp" if own else ""))
    return rows


def _ablations(model: Model) -> list[Row]:
    rows = []
    for stage, (letter, words) in ABLATIONS.items():
        training = Training(model, stage)
        rows.append(Row(training, f"{letter}: {words or training.title}" if letter else training.title, letter))
    return rows
