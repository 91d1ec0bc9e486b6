"""How networks are trained.

Where the paper states a value, its section stands beside it. Where it states none (batch size, epochs, Adam's betas,
the LeakyReLU's slope, seeds), the value is ours and is a flag like all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

from labeldep_cli.config.choices import DEFAULT_HEAD, HeadKind, LabelReduction, Loss, Selection
from labeldep_cli.config.settings import DefaultText, setting

BELOW_ONE = 0.999999
"""Adam takes no beta of 1."""


def by_mode(name: str) -> DefaultText:
    """Says what a stage makes of a setting in its two modes."""

    def told(stage: type[TrainingConfig]) -> str:
        if name not in stage.HEAD:
            return "as in the run that it starts from"
        head, full = stage.HEAD[name], stage.FULL[name]
        return str(head) if head == full else f"{head:g}, with --full {full:g}"

    return told


def _length(stage: type[TrainingConfig]) -> str:
    return stage.describe_length()


def _selection(stage: type[TrainingConfig]) -> str:
    return stage.SELECT if stage.SELECT == "mAP" else f"{stage.SELECT}, with --patience mAP"


@dataclass(frozen=True)
class TrainingConfig:
    """What both training stages share. None means: the stage's default for its mode (`resolved`).

    Attributes:
        epochs: an epoch is ceil(N / batch_size) generator updates.
        steps: where neither is given: the stage's epochs, but on a small data set at least so many updates that it
            learns at all (`total_steps`).
        lr: Sect. 4.1 has 1e-4 for both networks.
        loss: the paper's logistic loss, a companion of today (focal, asl), or the ranking of Tables 1 and 2 (warp).
        label_reduction: Eq. 1 prints a sum, but with that and alpha = 10 the critic can move next to nothing
            (`AdversarialConfig.critic_reach`).
        head: what turns features into logits.
        select: scores are of sets at p > 0.5. Beside a critic and for its control the last evaluation is kept, since a
            critic trades a little mAP for recall: the best mAP would choose an evaluation from before it acted.
        max_gradient_norm: of each network's gradient (the paper tells of none).
        accumulate: the parts' gradients are added up: the mathematics stays.
        checkpoint_activations: no number depends on it.
    """

    full: bool = setting(False, "Fine-tune the whole backbone on augmented images.")
    views: int | None = setting(
        None, "Cached views that training draws from.", min=1, max=21, default_text="all that there are"
    )
    epochs: int | None = setting(None, "Passes over the training rows.", min=1, default_text=_length)
    steps: int | None = setting(None, "Generator updates, instead of epochs.", min=1)
    batch_size: int | None = setting(None, "Rows in a batch.", min=1, default_text=by_mode("batch_size"))
    lr: float | None = setting(
        None, "Learning rate of the generator (Adam).", min=0.0, max=1000.0, default_text=by_mode("lr")
    )
    loss: Loss = setting(
        "logistic", "Loss of the generator: the paper's, a stronger one of today, or Table 1's ranking."
    )
    label_reduction: LabelReduction = setting(
        "mean", "Eq. 1 averaged or summed over labels; summed, alpha mutes the critic.", panel="The paper's own"
    )
    head: HeadKind | None = setting(
        None,
        f"The paper's own head ({DEFAULT_HEAD}), a rival of Table 1 (cnn-rnn, att-rnn, rlsd) or one of today.",
        default_text=by_mode("head"),
    )
    hidden: int | None = setting(
        None,
        "Width of one hidden layer in the linear head, 0: none; of the other heads' layers, 0: their own.",
        min=0,
        default_text=by_mode("hidden"),
    )
    select: Selection | None = setting(
        None, "The evaluation to keep: the last, or the best on val by a score.", default_text=_selection
    )
    patience: int = setting(0, "Stop after this many evaluations without a better one on val; 0: never.", min=0)
    max_gradient_norm: float = setting(0.0, "Longer gradients are scaled down to this norm; 0: never.", min=0.0)
    train_bn: bool = setting(False, "With --full, update batch norms' running statistics.")
    accumulate: int = setting(1, "Parts a batch passes G in: less memory, the same step.", min=1)
    checkpoint_activations: bool = setting(
        False, "With --full, compute G's activations again instead of keeping them: less memory, more time."
    )
    beta1: float = setting(0.9, "Adam beta1 of the generator.", min=0.0, max=BELOW_ONE)
    beta2: float = setting(0.999, "Adam beta2 of the generator.", min=0.0, max=BELOW_ONE)
    seed: int = setting(0, "Seed of weights, order and noise; never of the splits.", min=0, max=2**63 - 1)

    STAGE: ClassVar[str] = ""
    SELECT: ClassVar[Selection] = "mAP"
    HEAD: ClassVar[Mapping[str, Any]] = {}
    FULL: ClassVar[Mapping[str, Any]] = {}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (1, 1)
    FULL_LENGTH: ClassVar[tuple[int, int]] = (1, 1)

    @classmethod
    def describe_length(cls) -> str:
        """How long a stage trains where nothing is said, in words."""
        (epochs, least), (full_epochs, full_least) = cls.HEAD_LENGTH, cls.FULL_LENGTH
        return f"{epochs}, at least {least} updates; with --full {full_epochs}, at least {full_least}"

    @property
    def stage(self) -> str:
        """The last word of the run's default folder."""
        return self.STAGE

    @property
    def rows_per_batch(self) -> int:
        """The batch size of a resolved config."""
        if self.batch_size is None:
            raise ValueError("the config is not resolved yet")
        return self.batch_size

    @property
    def selection(self) -> Selection:
        """Which evaluation a run of these settings keeps."""
        return self.select or ("mAP" if self.patience else self.SELECT)

    @property
    def learning_rate(self) -> float:
        """The generator's learning rate of a resolved config."""
        if self.lr is None:
            raise ValueError("the config is not resolved yet")
        return self.lr

    def total_steps(self, steps_per_epoch: int) -> int:
        """Generator updates in all, given those of one epoch."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        epochs, least = self._length
        return max(epochs * steps_per_epoch, least)

    @property
    def _length(self) -> tuple[int, int]:
        """Epochs, and updates at least, where neither is given."""
        return self.FULL_LENGTH if self.full else self.HEAD_LENGTH

    def resolved(self: Config) -> Config:
        """The same settings with every mode-dependent None filled in."""
        stage = {**(self.FULL if self.full else self.HEAD), "select": self.selection}
        return replace(self, **{name: value for name, value in stage.items() if getattr(self, name) is None})

    def settings(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


Config = TypeVar("Config", bound=TrainingConfig)


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Sect. 3.2: the generator alone, on the logistic loss of Eq. 1."""

    STAGE: ClassVar[str] = "pretrain"
    # A fresh linear head learns ten times faster than the paper's 1e-4 would let it; the backbone keeps to 1e-4.
    HEAD: ClassVar[Mapping[str, Any]] = {"batch_size": 128, "lr": 1e-3, "head": DEFAULT_HEAD, "hidden": 0}
    FULL: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "lr": 1e-4, "head": DEFAULT_HEAD, "hidden": 0}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (40, 400)  # epochs, and updates at least
    FULL_LENGTH: ClassVar[tuple[int, int]] = (10, 50)
