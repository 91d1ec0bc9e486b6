"""Settings for training a generator and a critic together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from labeldep_cli.config.choices import CriticKind, Sampling, Selection
from labeldep_cli.config.settings import DefaultText, setting
from labeldep_cli.config.training import BELOW_ONE, TrainingConfig


def _by_critic(name: str) -> DefaultText:
    """The text of a default that depends on the critic."""

    def text(config: type[AdversarialConfig]) -> str:
        paper, nce = config.PAPER[name], config.NCE[name]
        return f"{paper:g}" if paper == nce else f"{paper:g}, with --critic nce {nce:g}"

    return text


@dataclass(frozen=True)
class AdversarialConfig(TrainingConfig):
    """Settings of adversarial training (Sects. 3.2-4.1): updates of generator and critic alternate.

    If `head` or `hidden` is None, it is that of the run that training starts from. The paper's values of critic_layers,
    critic_lr and the length apply to a critic used in training. None stands for these values. For "nce" it stands for
    the values that were best for a critic at test time (chosen on draws from the training rows of yeast and scene
    alone).

    Attributes:
        critic: "nce" is not in the paper: it is a ratio between real sets and samples of G, made for
            `--decision rerank`. "kernel" is not either: it learns p(y|x) itself from the training rows, with G left as
            it is. "none" trains the same generator for as long with the logistic loss alone.
        alpha, lambda_gp: 10 in Sect. 4.1.
        critic_steps: 3 in Sect. 4.1.
        critic_warmup: the paper mentions none.
        inverse_temperature: 0.9 without annealing in Sect. 4.1.
        noise_samples: samples of G per image; an "nce" critic learns to find the image's real set among them.
        critic_layers, critic_width, critic_projection, critic_lr: 8, 512, 256 and 1e-4 in Sect. 4.1.
        sampling: soft Gumbel-sigmoid samples, hard samples with a straight-through gradient, or "none": the
            probabilities themselves (row e of Table 3).
        negatives: whether mismatched pairs are a second kind of negative (Eq. 4); False is row c of Table 3.
        conditional: False implies no negatives; this is row d of Table 3.
        critic_beta1, critic_beta2: usual values for WGAN-GP; the paper states none.
        leaky_slope: the paper states none.
        critic_weight_decay: the precision of a Gaussian prior on the weights of a kernel critic.
        landmarks: training images with which a kernel critic compares an image.
        graphs: computes the same numbers by design. It is off because it has only been run on a simulated device.
    """

    critic: CriticKind = setting(
        "wgan-gp",
        "Kind of critic: wgan-gp: the paper's; for --decision rerank: nce: a density ratio, kernel: a kernel machine "
        "that compares images with those of train; none: the control, trained for as long without a critic.",
        panel="The paper's own",
    )
    freeze_generator: bool = setting(False, "Keep the generator fixed and train only the critic.")
    members: int = setting(
        1,
        "With --freeze-generator, the number of critics that are trained; their scores are averaged.",
        min=1,
        max=64,
    )
    alpha: float = setting(10.0, "Weight of the logistic loss, Eq. 2.", panel="The paper's own", min=0)
    lambda_gp: float = setting(10.0, "Weight of the gradient penalty, Eq. 4.", panel="The paper's own", min=0)
    critic_steps: int = setting(3, "Critic updates per generator update.", panel="The paper's own", min=1)
    critic_warmup: int = setting(0, "Critic updates before the first generator update.", min=0)
    inverse_temperature: float = setting(
        0.9, "Inverse temperature of the Gumbel sigmoid.", panel="The paper's own", min=0
    )
    noise_samples: int | None = setting(
        None,
        "Samples of the generator that --critic nce compares with each real label set.",
        min=1,
        default_text=lambda config: f"{config.NCE['noise_samples']}",
    )
    critic_layers: int | None = setting(
        None, "Hidden layers of the critic.", panel="The paper's own", min=0, default_text=_by_critic("critic_layers")
    )
    critic_width: int = setting(512, "Width of the critic's hidden layers.", panel="The paper's own", min=1)
    critic_projection: int = setting(
        256,
        "Width to which the critic projects the image features, and also the label set.",
        panel="The paper's own",
        min=1,
    )
    sampling: Sampling = setting(
        "gumbel",
        "How label sets are drawn from the generator; none: use its probabilities, row (e) of Table 3.",
        panel="The paper's own",
    )
    negatives: bool = setting(
        True,
        "Whether the critic also gets mismatched pairs of image and label set; if not, row (c) of Table 3.",
        panel="The paper's own",
    )
    conditional: bool = setting(
        True,
        "Whether the critic gets the image features; if not, row (d) of Table 3.",
        panel="The paper's own",
        flag="--conditional/--unconditional",
    )
    critic_lr: float | None = setting(
        None,
        "Learning rate of the critic (Adam).",
        panel="The paper's own",
        min=0,
        default_text=_by_critic("critic_lr"),
    )
    critic_beta1: float = setting(0.5, "Adam beta1 of the critic.", panel="The paper's own", min=0, max=BELOW_ONE)
    critic_beta2: float = setting(0.9, "Adam beta2 of the critic.", panel="The paper's own", min=0, max=BELOW_ONE)
    critic_weight_decay: float | None = setting(
        None,
        "Decoupled weight decay of the critic (AdamW), as --weight-decay; for --critic kernel the penalty on its "
        "weights.",
        min=0.0,
        default_text=lambda config: (
            f"{_by_critic('critic_weight_decay')(config)}, with --critic kernel "
            f"{config.KERNEL['critic_weight_decay']:g}"
        ),
    )
    leaky_slope: float = setting(0.2, "Slope of the critic's LeakyReLU.", panel="The paper's own", min=0)

    landmarks: int = setting(1024, "Training images with which --critic kernel compares an image.", min=1)
    graphs: bool = setting(
        False,
        "In head mode on one GPU, launch each update as a CUDA graph: less work for the CPU. Elsewhere it has no "
        "effect. Not yet run on a GPU.",
        flag="--graphs/--no-graphs",
    )

    STAGE: ClassVar[str] = "adversarial"
    SELECT: ClassVar[Selection] = "last"
    HEAD: ClassVar[Mapping[str, Any]] = {"batch_size": 128, "lr": 1e-4}
    FULL: ClassVar[Mapping[str, Any]] = {"batch_size": 32, "lr": 1e-4}
    # With 40,000 rows the scores on val are stable from the 2,000th update on. On a small data set the critic needs
    # several hundred updates.
    HEAD_LENGTH: ClassVar[tuple[int, int]] = (10, 500)  # epochs, and minimum number of updates
    FULL_LENGTH: ClassVar[tuple[int, int]] = (5, 50)
    PAPER: ClassVar[Mapping[str, Any]] = {"critic_layers": 8, "critic_lr": 1e-4, "critic_weight_decay": 0.0}
    NCE: ClassVar[Mapping[str, Any]] = {
        "critic_layers": 1,
        "critic_lr": 3e-4,
        "critic_weight_decay": 0.0,
        "noise_samples": 16,
    }

    # Its updates cost milliseconds in either mode, since the images are passed through the frozen backbone only once.
    KERNEL: ClassVar[Mapping[str, Any]] = {
        "critic_layers": 0,
        "critic_lr": 0.05,
        "critic_weight_decay": 0.05,
        "batch_size": 256,
    }

    NCE_HEAD_LENGTH: ClassVar[tuple[int, int]] = (20, 500)
    KERNEL_LENGTH: ClassVar[tuple[int, int]] = (6, 400)
    BY_CRITIC: ClassVar[Mapping[CriticKind, Mapping[str, Any]]] = {"nce": NCE, "kernel": KERNEL}
    """Defaults that depend on the critic; a critic without a row has the paper's defaults."""
    ALONE_HEAD_LENGTH: ClassVar[Mapping[CriticKind, tuple[int, int]]] = {"nce": NCE_HEAD_LENGTH}
    """HEAD_LENGTH with a frozen generator, for critics where it differs."""

    def resolved(self) -> AdversarialConfig:
        """The same settings, with the defaults of mode and critic in place of every None that depends on them."""
        defaults = self.BY_CRITIC.get(self.critic, self.PAPER)
        missing = {name: value for name, value in defaults.items() if getattr(self, name) is None}
        frozen = self.freeze_generator or self.critic == "kernel"
        return super(AdversarialConfig, replace(self, **missing, freeze_generator=frozen)).resolved()

    @classmethod
    def describe_length(cls) -> str:
        """The default length of training in words."""
        epochs, minimum = cls.NCE_HEAD_LENGTH
        return f"{super().describe_length()}; with --critic nce --freeze-generator {epochs}, at least {minimum}"

    @property
    def _length(self) -> tuple[int, int]:
        if self.critic == "kernel":
            return self.KERNEL_LENGTH
        default = super()._length
        alone = self.freeze_generator and not self.full
        return self.ALONE_HEAD_LENGTH.get(self.critic, default) if alone else default

    @property
    def critic_depth(self) -> int:
        """Number of hidden layers of the critic, in a resolved config."""
        if self.critic_layers is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_layers

    @property
    def critic_shape(self) -> dict[str, Any]:
        """The arguments that build the critic, except L and F, in a resolved config; JSON values for a checkpoint."""
        return {
            "layers": self.critic_depth,
            "width": self.critic_width,
            "projection": self.critic_projection,
            "slope": self.leaky_slope,
            "conditional": self.conditional,
        }

    @property
    def critic_learning_rate(self) -> float:
        """The critic's learning rate, in a resolved config."""
        if self.critic_lr is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_lr

    @property
    def critic_decay(self) -> float:
        """The critic's weight decay, in a resolved config."""
        if self.critic_weight_decay is None:
            raise ValueError("the config is not resolved yet")
        return self.critic_weight_decay

    @property
    def samples_per_image(self) -> int:
        """Samples of G per image, in a resolved config of an "nce" critic."""
        if self.noise_samples is None:
            raise ValueError("the config is not resolved yet")
        return self.noise_samples

    def critic_reach(self, n_labels: int) -> float | None:
        """Upper bound on how far a Wasserstein critic can move one probability from the optimum of the logistic loss.

        The penalty keeps the norm of D's gradient over the entire label set near 1, so |dD/dy_l| <= 1 for each label. A
        soft sample passes on at most a quarter of this gradient (times the inverse temperature), since
        s (1 - s) <= 1/4. The same is true of the probabilities themselves. The gradient of the logistic loss is
        alpha * w * (p - y), where w is 1 for a sum over labels and 1 / L for a mean. The two gradients balance where
        |p - y| is

            inverse_temperature / (4 alpha w):      0.0225 for a sum and alpha = 10; L times that for a mean.

        If the critic pulls equally at k probabilities, each moves by 1 / sqrt(k) of this bound.

        Args:
            n_labels: L.

        Returns:
            A difference of probabilities; above 1 there is no effective bound. None for a critic without this penalty.
        """
        if self.critic != "wgan-gp" or self.freeze_generator:
            return None
        slope_factor = 1.0 if self.sampling == "none" else self.inverse_temperature
        weight = self.alpha * (1 / n_labels if self.label_reduction == "mean" else 1.0)
        return slope_factor / (4 * weight) if weight else float("inf")

    @property
    def stage(self) -> str:
        """`control` without a critic, `kernel` or `critic` if only the critic is trained, else `adversarial`."""
        if self.critic == "none":
            return "control"
        if self.critic == "kernel":
            return "kernel"
        return "critic" if self.freeze_generator else self.STAGE

    @property
    def with_negatives(self) -> bool:
        """Whether the critic gets mismatched pairs; a density ratio or a critic without the image cannot use them."""
        return self.negatives and self.conditional and self.critic == "wgan-gp"
