"""Settings for training networks.

Where the paper states a value, the docstring names its section. Where it states none (batch size, epochs, Adam's betas,
the slope of LeakyReLU, seeds), the value is our choice. Every value is a flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

from labeldep_cli.config.choices import DEFAULT_HEAD, HeadKind, LabelReduction, Loss, Selection
from labeldep_cli.config.settings import DefaultText, setting

BELOW_ONE = 0.999999
"""The largest beta that is accepted: Adam does not allow 1."""


def by_mode(name: str) -> DefaultText:
    """The text of a default that depends on the stage and the mode."""

    def text(stage: type[TrainingConfig]) -> str:
        if name not in stage.HEAD:
            return "as in the run that it starts from"
        head, full = stage.HEAD[name], stage.FULL[name]
        return str(head) if head == full else f"{head:g}, with --full {full:g}"

    return text


def _length(stage: type[TrainingConfig]) -> str:
    return stage.describe_length()


def _selection(stage: type[TrainingConfig]) -> str:
    return stage.SELECT if stage.SELECT == "mAP" else f"{stage.SELECT}, with --patience mAP"


@dataclass(frozen=True)
class TrainingConfig:
    """Settings shared by both training stages. None stands for the stage's default in its mode (`resolved`).

    Attributes:
        epochs: an epoch is ceil(N / batch_size) generator updates.
        steps: if neither is given, the stage's default number of epochs is used. On a small data set there are at least
            as many updates as it takes to learn (`total_steps`).
        lr: 1e-4 for both networks in Sect. 4.1.
        loss: the paper's logistic loss, a newer loss (focal, asl), or the ranking loss of Tables 1 and 2 (warp).
        label_reduction: Eq. 1 prints a sum. But with a sum and alpha = 10 the critic can hardly move any probability
            (`AdversarialConfig.critic_reach`).
        head: the part of the generator that turns features into logits.
        select: the scores are those of sets at p > 0.5. Training with a critic, and its control, keep the last
            evaluation. A critic trades a little mAP for recall, so the best mAP would choose an evaluation from before
            the critic had an effect.
        max_gradient_norm: for the gradient of each network; the paper mentions none.
        accumulate: the gradients of the parts are summed: mathematically the update is the same.
        checkpoint_activations: does not change any result.
    """

    full: bool = setting(
        False, "Fine-tune the full backbone on augmented images, instead of training a head on its features."
    )
    views: int | None = setting(
        None, "Cached views of each image that training draws from.", min=1, max=21, default_text="all cached views"
    )
    epochs: int | None = setting(None, "Passes over the training rows.", min=1, default_text=_length)
    steps: int | None = setting(None, "Generator updates, instead of epochs.", min=1)
    batch_size: int | None = setting(None, "Rows in a batch.", min=1, default_text=by_mode("batch_size"))
    lr: float | None = setting(
        None, "Learning rate of the generator (Adam).", min=0.0, max=1000.0, default_text=by_mode("lr")
    )
    loss: Loss = setting(
        "logistic",
        "Loss of the generator: logistic: the paper's; focal, asl: newer ones; warp: the ranking loss of Table 1.",
    )
    label_reduction: LabelReduction = setting(
        "mean",
        "Whether Eq. 1 averages or sums over labels; with a sum and alpha 10 the critic has almost no effect.",
        panel="The paper's own",
    )
    head: HeadKind | None = setting(
        None,
        f"Head of the generator: the paper's ({DEFAULT_HEAD}), a rival of Table 1 (cnn-rnn, att-rnn, rlsd), "
        "a newer one (ml-decoder, gcn), or a distribution over whole label sets (powerset, chain).",
        default_text=by_mode("head"),
    )
    hidden: int | None = setting(
        None,
        "Width of a hidden layer in the linear head, 0: none; width of the layers in other heads, 0: their default.",
        min=0,
        default_text=by_mode("hidden"),
    )
    select: Selection | None = setting(
        None, "Evaluation whose weights are kept: the last, or the best on val by a score.", default_text=_selection
    )
    patience: int = setting(0, "Stop after this many evaluations without a better one on val; 0: never.", min=0)
    max_gradient_norm: float = setting(0.0, "Gradients with a larger norm are scaled down to it; 0: never.", min=0.0)
    train_bn: bool = setting(False, "With --full, update the running statistics of batch norms.")
    accumulate: int = setting(
        1, "Number of parts in which a batch passes the generator: less memory, the same update.", min=1
    )
    checkpoint_activations: bool = setting(
        False, "With --full, recompute the generator's activations instead of storing them: less memory, more time."
    )
    beta1: float = setting(0.9, "Adam beta1 of the generator.", min=0.0, max=BELOW_ONE)
    beta2: float = setting(0.999, "Adam beta2 of the generator.", min=0.0, max=BELOW_ONE)
    weight_decay: float = setting(
        0.0,
        "Decoupled weight decay of the generator (AdamW): each update multiplies weights by 1 - lr times this; biases "
        "and norms do not decay.",
        min=0.0,
    )
    seed: int = setting(0, "Seed of initial weights, row order and noise; not of the splits.", min=0, max=2**63 - 1)

    STAGE: ClassVar[str] = ""
    SELECT: ClassVar[Selection] = "mAP"
    HEAD: ClassVar[Mapping[str, Any]] = {}
    FULL: ClassVar[Mapping[str, Any]] = {}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (1, 1)
    FULL_LENGTH: ClassVar[tuple[int, int]] = (1, 1)

    @classmethod
    def describe_length(cls) -> str:
        """The default length of training in words."""
        (epochs, minimum), (full_epochs, full_minimum) = cls.HEAD_LENGTH, cls.FULL_LENGTH
        return f"{epochs}, at least {minimum} updates; with --full {full_epochs}, at least {full_minimum}"

    @property
    def stage(self) -> str:
        """The last part of the name of the run's default folder."""
        return self.STAGE

    @property
    def rows_per_batch(self) -> int:
        """The batch size, in a resolved config."""
        if self.batch_size is None:
            raise ValueError("the config is not resolved yet")
        return self.batch_size

    @property
    def selection(self) -> Selection:
        """Which evaluation a run with these settings keeps."""
        return self.select or ("mAP" if self.patience else self.SELECT)

    @property
    def learning_rate(self) -> float:
        """The generator's learning rate, in a resolved config."""
        if self.lr is None:
            raise ValueError("the config is not resolved yet")
        return self.lr

    def total_steps(self, steps_per_epoch: int) -> int:
        """Total number of generator updates, given the number per epoch."""
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return self.epochs * steps_per_epoch
        epochs, minimum = self._length
        return max(epochs * steps_per_epoch, minimum)

    @property
    def _length(self) -> tuple[int, int]:
        """The default number of epochs, and the minimum number of updates."""
        return self.FULL_LENGTH if self.full else self.HEAD_LENGTH

    def resolved(self: Config) -> Config:
        """The same settings, with the mode's defaults in place of every None that depends on the mode."""
        stage = {**(self.FULL if self.full else self.HEAD), "select": self.selection}
        return replace(self, **{name: value for name, value in stage.items() if getattr(self, name) is None})

    def settings(self) -> dict[str, Any]:
        """All fields as JSON values."""
        return asdict(self)


Config = TypeVar("Config", bound=TrainingConfig)


@dataclass(frozen=True)
class PretrainConfig(TrainingConfig):
    """Settings of pretraining (Sect. 3.2): the generator alone, with the logistic loss of Eq. 1."""

    STAGE: ClassVar[str] = "pretrain"
    # A new linear head can learn with ten times the paper's rate of 1e-4; the backbone uses 1e-4.
    HEAD: ClassVar[Mapping[str, Any]] = {"batch_size": 128, "lr": 1e-3, "head": DEFAULT_HEAD, "hidden": 0}
    FULL: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "lr": 1e-4, "head": DEFAULT_HEAD, "hidden": 0}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (40, 400)  # epochs, and minimum number of updates
    FULL_LENGTH: ClassVar[tuple[int, int]] = (10, 50)
