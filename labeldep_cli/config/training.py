"""How networks are trained.

Where the paper states a value, its section stands beside it. Where it states none (batch size, epochs, Adam's betas,
the LeakyReLU's slope, seeds), the value is ours and is a flag like all others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, TypeVar

from labeldep_cli.config.choices import DEFAULT_HEAD, CriticKind, HeadKind, LabelReduction, Loss, Sampling, Selection


@dataclass(frozen=True)
class TrainingConfig:
    """What both training stages share. None means: the stage's default for its mode (`resolved`).

    Attributes:
        full: fine-tune the whole backbone on augmented images instead of a head over cached features.
        views: cached views that training draws from; None for all that the cache holds.
        epochs: passes over the training rows; an epoch is ceil(N / batch_size) generator updates.
        steps: generator updates, instead of epochs. Where neither is given: the stage's epochs, but on a small data set
            at least so many updates that it learns at all (`total_steps`).
        batch_size: rows a batch.
        lr: Adam's learning rate for the generator (Sect. 4.1 has 1e-4 for both networks).
        loss: the generator's: the paper's logistic loss, a stronger companion of today (focal, asl), or the ranking
            loss of Tables 1 and 2 (warp).
        label_reduction: the loss averaged or summed over the known labels of an image. Eq. 1 prints a sum, but with
            that and alpha = 10 the critic can move next to nothing (`AdversarialConfig.critic_reach`).
        head: what turns features into logits: the paper's own linear one, or a rival's. None in the adversarial stage
            means: as in the run that it starts from.
        hidden: width of one hidden layer in the linear head, 0 for none; of the inner layers of the other heads, 0 for
            their own default.
        select: which evaluation a run keeps: the last one, or the one with the best score on val (sets at p > 0.5).
            None for the stage's default: mAP where G is pretrained; the last one beside a critic and for its control,
            since a critic trades a little mAP for recall: the best mAP would choose an evaluation from before it acted.
        patience: evaluations without a better one after which training stops; 0 for never. With it `select` is mAP, if
            not given.
        max_gradient_norm: a network's gradient is scaled down to this norm where it is longer; 0 for never (the paper
            tells of none).
        train_bn: in full mode, update the batch norms' running statistics.
        accumulate: parts that a batch passes G in. Their gradients are added up: memory falls, the mathematics stays.
        checkpoint_activations: in full mode, G's blocks compute their activations anew in the backward pass, instead of
            keeping them: less memory for one more forward pass. No number depends on it.
        beta1, beta2: Adam's, for the generator.
        seed: of initial weights, order, noise. Never of the splits.
    """

    full: bool = False
    views: int | None = None
    epochs: int | None = None
    steps: int | None = None
    batch_size: int | None = None
    lr: float | None = None
    loss: Loss = "logistic"
    label_reduction: LabelReduction = "mean"
    head: HeadKind | None = None
    hidden: int | None = None
    select: Selection | None = None
    patience: int = 0
    max_gradient_norm: float = 0.0
    train_bn: bool = False
    accumulate: int = 1
    checkpoint_activations: bool = False
    beta1: float = 0.9
    beta2: float = 0.999
    seed: int = 0

    STAGE: ClassVar[str] = ""
    SELECT: ClassVar[Selection] = "mAP"
    HEAD: ClassVar[Mapping[str, Any]] = {}
    FULL: ClassVar[Mapping[str, Any]] = {}
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (1, 1)
    FULL_LENGTH: ClassVar[tuple[int, int]] = (1, 1)

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


@dataclass(frozen=True)
class AdversarialConfig(TrainingConfig):
    """Sects. 3.2-4.1: generator and critic in turn. `head` and `hidden` None mean: as in the run that it starts from.

    The paper's critic_layers, critic_lr and length are those of a critic in training. None means: those, or for "nce"
    what was best for one at test time (chosen on draws from yeast's and scene's training rows alone).

    Attributes:
        critic: "wgan-gp"; "nce": a density ratio between real sets and samples of G (not the paper's; made for
            `--decision rerank`); or "none": the control, the same generator trained as long on the logistic loss alone.
        freeze_generator: train the critic alone, against a fixed generator.
        alpha: weight of the logistic loss, Eq. 2 (Sect. 4.1: 10).
        lambda_gp: weight of the gradient penalty, Eq. 4 (Sect. 4.1: 10).
        critic_steps: critic updates per generator update (Sect. 4.1: 3).
        critic_warmup: critic updates before the generator's first one (the paper tells of none).
        inverse_temperature: of the Gumbel sigmoid (Sect. 4.1: 0.9, no annealing).
        noise_samples: for "nce", samples of G that the real set of an image has to be found among.
        critic_layers: hidden layers of the critic (Sect. 4.1: 8).
        critic_width: their width (Sect. 4.1: 512).
        critic_projection: width that features and label set are each projected to (Sect. 4.1: 256).
        sampling: how a label set is drawn from G: soft Gumbel-sigmoid samples, hard ones with a straight-through
            gradient, or "none": the probabilities themselves (row e of Table 3).
        negatives: mismatched pairs as a second kind of negative, Eq. 4; without them: row c.
        conditional: whether the critic sees the image; unconditional implies no negatives: row d.
        critic_lr: Adam's learning rate for the critic (Sect. 4.1: 1e-4).
        critic_beta1, critic_beta2: Adam's, for the critic (usual for WGAN-GP; the paper states none).
        leaky_slope: of the critic's LeakyReLU (the paper states none).
    """

    critic: CriticKind = "wgan-gp"
    freeze_generator: bool = False
    alpha: float = 10.0
    lambda_gp: float = 10.0
    critic_steps: int = 3
    critic_warmup: int = 0
    inverse_temperature: float = 0.9
    noise_samples: int | None = None
    critic_layers: int | None = None
    critic_width: int = 512
    critic_projection: int = 256
    sampling: Sampling = "gumbel"
    negatives: bool = True
    conditional: bool = True
    critic_lr: float | None = None
    critic_beta1: float = 0.5
    critic_beta2: float = 0.9
    leaky_slope: float = 0.2

    STAGE: ClassVar[str] = "adversarial"
    SELECT: ClassVar[Selection] = "last"
    HEAD: ClassVar[Mapping[str, Any]] = {"batch_size": 128, "lr": 1e-4}
    FULL: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "lr": 1e-4}
    # On 40,000 rows the scores on val stand from the 2,000th update on; on a small set the critic needs some hundreds.
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (10, 500)  # epochs, and updates at least
    FULL_LENGTH: ClassVar[tuple[int, int]] = (5, 50)
    PAPER: ClassVar[Mapping[str, Any]] = {"critic_layers": 8, "critic_lr": 1e-4}
    NCE: ClassVar[Mapping[str, Any]] = {"critic_layers": 1, "critic_lr": 3e-4, "noise_samples": 16}

    NCE_HEAD_LENGTH: ClassVar[tuple[int, int]] = (20, 500)

    BY_CRITIC: ClassVar[Mapping[CriticKind, Mapping[str, Any]]] = {"nce": NCE}
    """Defaults that depend on the critic; a critic without a row has the paper's."""
    ALONE_HEAD_LENGTH: ClassVar[Mapping[CriticKind, tuple[int, int]]] = {"nce": NCE_HEAD_LENGTH}
    """HEAD_LENGTH where the critic trains beside a frozen generator, for critics where it differs."""

    def resolved(self) -> AdversarialConfig:
        """The same settings with every None filled in that depends on mode or critic."""
        own = self.BY_CRITIC.get(self.critic, self.PAPER)
        given = {name: value for name, value in own.items() if getattr(self, name) is None}
        return replace(super().resolved(), **given)

    @property
    def _length(self) -> tuple[int, int]:
        usual = super()._length
        alone = self.freeze_generator and not self.full
        return self.ALONE_HEAD_LENGTH.get(self.critic, usual) if alone else usual

    @property
    def critic_depth(self) -> int:
        """The critic's hidden layers in a resolved config."""
        if self.critic_layers is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_layers

    @property
    def critic_shape(self) -> dict[str, Any]:
        """What builds the critic beside L and F, in a resolved config; JSON values, which a checkpoint keeps."""
        return {
            "layers": self.critic_depth,
            "width": self.critic_width,
            "projection": self.critic_projection,
            "slope": self.leaky_slope,
            "conditional": self.conditional,
        }

    @property
    def critic_learning_rate(self) -> float:
        """The critic's learning rate in a resolved config."""
        if self.critic_lr is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_lr

    @property
    def samples_per_image(self) -> int:
        """The samples of G an image in a resolved config of an "nce" critic."""
        if self.noise_samples is None:
            raise ValueError("the config is not resolved yet")
        return self.noise_samples

    def critic_reach(self, n_labels: int) -> float | None:
        """How far a Wasserstein critic can hold one probability away from what the logistic loss wants, at most.

        The penalty holds the norm of D's slope over a whole label set near 1, so |dD/dy_l| <= 1 for a label. A soft
        sample passes on at most a quarter of it (times the inverse temperature), since s (1 - s) <= 1/4; so do the
        probabilities themselves. The logistic loss pulls back with alpha * w * (p - y), w being 1 for a sum over labels
        and 1 / L for a mean. They balance where |p - y| is

            inverse_temperature / (4 alpha w):      0.0225 for a sum and alpha = 10; L times that for a mean.

        Of k probabilities that the critic pulls at alike each moves 1 / sqrt(k) of that.

        Args:
            n_labels: L.

        Returns:
            A difference of probabilities, above 1 where nothing bounds it; None for a critic without that penalty.
        """
        if self.critic != "wgan-gp" or self.freeze_generator:
            return None
        passed = 1.0 if self.sampling == "none" else self.inverse_temperature
        weight = self.alpha * (1 / n_labels if self.label_reduction == "mean" else 1.0)
        return passed / (4 * weight) if weight else float("inf")

    @property
    def stage(self) -> str:
        """`control` without a critic, `critic` without a generator in training: they lie beside the run itself."""
        if self.critic == "none":
            return "control"
        return "critic" if self.freeze_generator else self.STAGE

    @property
    def with_negatives(self) -> bool:
        """Whether the critic gets mismatched pairs: they mean nothing to one that sees no image, or to a ratio."""
        return self.negatives and self.conditional and self.critic == "wgan-gp"
