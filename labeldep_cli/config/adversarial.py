"""How generator and critic are trained together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from labeldep_cli.config.choices import CriticKind, Sampling, Selection
from labeldep_cli.config.settings import DefaultText, setting
from labeldep_cli.config.training import BELOW_ONE, TrainingConfig


def _by_critic(name: str) -> DefaultText:
    """Says what a setting is that depends on the critic."""
    return lambda config: f"{config.PAPER[name]:g}, with --critic nce {config.NCE[name]:g}"


@dataclass(frozen=True)
class AdversarialConfig(TrainingConfig):
    """Sects. 3.2-4.1: generator and critic in turn. `head` and `hidden` None mean: as in the run that it starts from.

    The paper's critic_layers, critic_lr and length are those of a critic in training. None means: those, or for "nce"
    what was best for one at test time (chosen on draws from yeast's and scene's training rows alone).

    Attributes:
        critic: "nce" is not the paper's: a ratio between real sets and samples of G, made for `--decision rerank`.
            "none" trains the same generator as long on the logistic loss alone.
        alpha, lambda_gp: Sect. 4.1: 10.
        critic_steps: Sect. 4.1: 3.
        critic_warmup: the paper tells of none.
        inverse_temperature: Sect. 4.1: 0.9, no annealing.
        noise_samples: among which, and the real set of an image, that has to be found.
        critic_layers, critic_width, critic_projection, critic_lr: Sect. 4.1: 8, 512, 256, 1e-4.
        sampling: soft Gumbel-sigmoid samples, hard ones with a straight-through gradient, or "none": the probabilities
            themselves (row e of Table 3).
        negatives: a second kind of negative, Eq. 4; without them: row c.
        conditional: unconditional implies no negatives: row d.
        critic_beta1, critic_beta2: usual for WGAN-GP; the paper states none.
        leaky_slope: the paper states none.
    """

    critic: CriticKind = setting(
        "wgan-gp",
        "Critic: the paper's; nce: a density ratio, for --decision rerank; none: the control, trained as long without.",
        panel="The paper's own",
    )
    freeze_generator: bool = setting(False, "Train the critic alone.")
    alpha: float = setting(10.0, "Weight of the logistic loss, Eq. 2.", panel="The paper's own", min=0)
    lambda_gp: float = setting(10.0, "Weight of the gradient penalty, Eq. 4.", panel="The paper's own", min=0)
    critic_steps: int = setting(3, "Critic updates per generator update.", panel="The paper's own", min=1)
    critic_warmup: int = setting(0, "Critic updates before the generator's first one.", min=0)
    inverse_temperature: float = setting(
        0.9, "Inverse temperature of the Gumbel sigmoid.", panel="The paper's own", min=0
    )
    noise_samples: int | None = setting(
        None,
        "With --critic nce, samples of G beside each real set.",
        min=1,
        default_text=lambda config: f"{config.NCE['noise_samples']}",
    )
    critic_layers: int | None = setting(
        None, "Hidden layers of the critic.", panel="The paper's own", min=0, default_text=_by_critic("critic_layers")
    )
    critic_width: int = setting(512, "Width of the critic's hidden layers.", panel="The paper's own", min=1)
    critic_projection: int = setting(
        256, "Width that features and label set are each projected to in the critic.", panel="The paper's own", min=1
    )
    sampling: Sampling = setting(
        "gumbel", "How label sets are drawn from G; none: row (e) of Table 3.", panel="The paper's own"
    )
    negatives: bool = setting(True, "Mismatched pairs as negatives; without: row (c).", panel="The paper's own")
    conditional: bool = setting(
        True,
        "Whether the critic sees the image; not: row (d).",
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
    leaky_slope: float = setting(0.2, "Slope of the critic's LeakyReLU.", panel="The paper's own", min=0)

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

    @classmethod
    def describe_length(cls) -> str:
        """How long it trains where nothing is said, in words."""
        epochs, least = cls.NCE_HEAD_LENGTH
        return f"{super().describe_length()}; with --critic nce --freeze-generator {epochs}, at least {least}"

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
