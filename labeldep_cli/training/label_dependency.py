"""The label-set critic for a training loop of one's own: any PyTorch classifier, of images or of anything else.

B batch, L labels, F feature width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.func import functional_call

from labeldep_cli.compute.distributed import ALONE
from labeldep_cli.compute.staging import Staging
from labeldep_cli.config import AdversarialConfig, CriticName, LabelReduction, Sampling
from labeldep_cli.evaluation.rerank import rerank, tune_beta
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.training import losses
from labeldep_cli.training.critics.base import Examples, UpdateInputs
from labeldep_cli.training.critics.label_sets import known
from labeldep_cli.training.critics.registry import CRITICS
from labeldep_cli.training.draws import mismatched_rows, uniform
from labeldep_cli.training.label_dependency_checks import (
    checked_labels,
    require_finite,
    require_fitting,
    require_sensible,
)
from labeldep_cli.training.updates import adam

Reduction = Literal["mean", "sum", "image"]

_PURPOSE = "label dependency"


class LabelDependencyLoss:
    """The critic D beside a classifier of your own: D's training, and what D adds to the classifier's loss.

    ```
    critic = LabelDependencyLoss(n_labels, feature_dim)
    for x, y in batches:
        features = frozen(x)                                      # [B, F]
        logits = classifier(x)                                    # [B, L]
        critic.step(logits, features, y)                          # D's own updates
        loss = bce(logits, y) + critic.generator_loss(logits, features)
        loss.backward()
    ```

    **What goes where.** Eq. 2 is L_G = -mean D(y_hat, x) + alpha * cross-entropy, which is averaged over images and,
    by `label_reduction`, averaged or summed over labels. `generator_loss` is its first term over alpha, in the units of
    your cross-entropy, so that the sum above is L_G times a constant and the cross-entropy keeps the weight, and your
    learning rate the meaning, that they have without D:

    | `bce_reduction` | your cross-entropy | `generator_loss` | with `label_reduction="sum"` |
    |---|---|---|---|
    | "mean" | mean over all B * L entries, PyTorch's default | -mean D / alpha | -mean D / (alpha * L) |
    | "image" | summed over labels, averaged over images | -mean D * L / alpha | -mean D / alpha |
    | "sum" | summed over all B * L entries | -mean D * B * L / alpha | -mean D * B / alpha |

    **How it differs from `labeldep adversarial`.** There each update of D draws three batches (matched, generated and
    mismatched pairs); here the one batch at hand serves for all three: noise, interpolation and mismatches are drawn
    anew for each of the `critic_steps` updates, rows are not. For rows too, set `critic_steps=1` and call `step` with
    several batches.

    It is no `nn.Module`: as a part of your model its weights would be among `parameters()`, and your optimizer would
    train D to be fooled. Save it by `state_dict`, move it by `to`. D computes in full precision under autocast too.
    Draws belong to `seed` and to the calls made so far, and never touch the global generator.

    Args:
        n_labels: L.
        feature_dim: F, of what D sees of an image or text: best of a frozen network, as in the paper.
        bce_reduction: of the cross-entropy that `generator_loss` is added to.
        label_reduction: of the cross-entropy in Eq. 2, which alpha weighs: with "sum" the critic has 1 / L of the say.
        critic: "wgan-gp", the paper's; or "nce", a density ratio, made for `rerank`.
        alpha, lambda_gp, critic_steps, inverse_temperature, noise_samples, critic_layers, critic_width,
            critic_projection, sampling, negatives, conditional, critic_lr, critic_beta1, critic_beta2, leaky_slope,
            max_gradient_norm: as in `labeldep_cli.config.AdversarialConfig`.
        seed: of D's initial weights and of all draws.

    Attributes:
        network: D itself: (label sets [B, L] or [B, K, L], features [B, F]) -> scores [B] or [B, K].
        optimizer: D's Adam.
        config: all settings.

    Raises:
        ValueError: a critic of another kind, another reduction, or an alpha that is not above 0.
    """

    def __init__(
        self,
        n_labels: int,
        feature_dim: int,
        *,
        bce_reduction: Reduction = "mean",
        label_reduction: LabelReduction = AdversarialConfig.label_reduction,
        critic: CriticName = "wgan-gp",
        alpha: float = AdversarialConfig.alpha,
        lambda_gp: float = AdversarialConfig.lambda_gp,
        critic_steps: int = AdversarialConfig.critic_steps,
        inverse_temperature: float = AdversarialConfig.inverse_temperature,
        noise_samples: int | None = AdversarialConfig.noise_samples,
        critic_layers: int | None = AdversarialConfig.critic_layers,
        critic_width: int = AdversarialConfig.critic_width,
        critic_projection: int = AdversarialConfig.critic_projection,
        sampling: Sampling = AdversarialConfig.sampling,
        negatives: bool = AdversarialConfig.negatives,
        conditional: bool = AdversarialConfig.conditional,
        critic_lr: float | None = AdversarialConfig.critic_lr,
        critic_beta1: float = AdversarialConfig.critic_beta1,
        critic_beta2: float = AdversarialConfig.critic_beta2,
        leaky_slope: float = AdversarialConfig.leaky_slope,
        max_gradient_norm: float = AdversarialConfig.max_gradient_norm,
        seed: int = AdversarialConfig.seed,
    ) -> None:
        if critic not in CRITICS or bce_reduction not in ("mean", "sum", "image") or not alpha > 0:
            raise ValueError(
                f"critic {critic!r}, bce_reduction {bce_reduction!r}, alpha {alpha}: "
                f"critic is {' or '.join(map(repr, CRITICS))}, bce_reduction 'mean', 'sum' or 'image', alpha above 0"
            )
        self.config = config = AdversarialConfig(
            critic=critic,
            alpha=alpha,
            lambda_gp=lambda_gp,
            critic_steps=critic_steps,
            inverse_temperature=inverse_temperature,
            noise_samples=noise_samples,
            critic_layers=critic_layers,
            critic_width=critic_width,
            critic_projection=critic_projection,
            sampling=sampling,
            negatives=negatives,
            conditional=conditional,
            critic_lr=critic_lr,
            critic_beta1=critic_beta1,
            critic_beta2=critic_beta2,
            leaky_slope=leaky_slope,
            max_gradient_norm=max_gradient_norm,
            label_reduction=label_reduction,
            seed=seed,
        ).resolved()
        self._objective = CRITICS[critic](config)
        require_sensible(config, self._objective.positive_settings)
        self.bce_reduction = bce_reduction
        self.n_labels = n_labels
        self.feature_dim = feature_dim
        self.network = seeded_critic(n_labels, feature_dim, config.critic_shape, seed)
        self.optimizer = adam(self.network, config.critic_learning_rate, (critic_beta1, critic_beta2))
        self._draws = 0
        self._staging = Staging(torch.device("cpu"))

    def step(self, logits: Tensor, features: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Update D `critic_steps` times; nothing flows back into logits or features.

        Args:
            logits: of the classifier, [B, L].
            features: z of the same rows, [B, F].
            y: their labels [B, L], 0 or 1; -1 where unknown, which every set leaves out.

        Returns:
            The losses of the last update, scalars without a gradient: "critic" (L_D of Eq. 4), "penalty" (Eq. 5) and
            "wasserstein" (mean D(y, x) - mean D(y_hat, x)); of a density ratio "critic" and "margin".

        Raises:
            TrainingError: logits or features that are not finite; D is left as it was.
            ValueError: shapes that do not fit.
        """
        z, logits = self._fitting(features, logits.detach())
        y = checked_labels(y, logits)
        require_finite({"logits": logits, "features": z})
        objective = self._objective
        labels = y.cpu() if "mismatched" in objective.batches else None  # once: it waits for the device
        record: dict[str, Tensor] = {}
        with torch.autocast(z.device.type, enabled=False):
            for _ in range(self.config.critic_steps):
                inputs = self._update_inputs(logits, z, y, labels)
                record = objective.update(self.network, self.optimizer, inputs, ALONE)
        return {name: record[name] for name in objective.loss_names}

    def generator_loss(self, logits: Tensor, features: Tensor, y: Tensor | None = None) -> Tensor:
        """What the classifier pays for label sets that D does not believe: Eq. 3, in the units of `bce_reduction`.

        Its gradient goes into the logits alone, not into D or the features.

        Args:
            logits: of the classifier, [B, L].
            features: z of the same rows, [B, F].
            y: labels [B, L]; only needed where some are unknown (-1), which are left out of every set.

        Returns:
            Scalar.

        Raises:
            ValueError: shapes that do not fit.
        """
        z, logits = self._fitting(features, logits)
        config = self.config
        fixed = {name: parameter.detach() for name, parameter in self.network.named_parameters()}
        with torch.autocast(z.device.type, enabled=False):
            (noise,) = self._staged([self._noise(*logits.shape)], z)
            fake_set = losses.sample(logits, noise, config.inverse_temperature, config.sampling)
            if y is not None:
                fake_set = known(checked_labels(y, logits)) * fake_set
            return self._weight(len(logits)) * losses.generator_loss(
                functional_call(self.network, fixed, (fake_set, z))
            )

    def rerank(self, logits: Tensor, features: Tensor, beta: float) -> Tensor:
        """The critic at test time: each row's label set with the best log p(y|x) + beta * D(y, x).

        Args:
            logits: of the classifier, [N, L].
            features: z, [N, F].
            beta: weight of D, as `tune_beta` finds it; 0 gives the sets of the threshold 0.5.

        Returns:
            bool [N, L].
        """
        z, logits = self._fitting(features, logits.detach())
        return rerank(self.network, logits, z, beta)

    def tune_beta(self, logits: Tensor, features: Tensor, y: Tensor) -> float:
        """Choose the weight of D for `rerank` on VALIDATION rows, by the share of label sets that are right.

        Args:
            logits: of the classifier, [N, L].
            features: z, [N, F].
            y: labels [N, L]; -1 where unknown, which counts nowhere.

        Returns:
            The weight, 0 where D helps nothing.
        """
        z, logits = self._fitting(features, logits.detach())
        return tune_beta(self.network, logits, z, checked_labels(y, logits), self._objective.expected_beta)

    def to(self, device: torch.device | str) -> LabelDependencyLoss:
        """Move D and its Adam; call it before `load_state_dict` or after, it makes no difference."""
        self.network.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves its moments to where the weights are
        return self

    def state_dict(self) -> dict[str, Any]:
        """What it takes to go on as if nothing had happened; saved, `torch.load(weights_only=True)` reads it."""
        return {
            "critic": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self._draws,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave; RuntimeError where the shapes are others."""
        self.network.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._draws = int(state["draws"])

    def _update_inputs(self, logits: Tensor, z: Tensor, y: Tensor, labels: Tensor | None) -> UpdateInputs:
        """What one update of D takes, drawn anew: the one batch at hand serves as each of the objective's.

        Args:
            logits: of the classifier, [B, L].
            z: features [B, F].
            y: labels [B, L].
            labels: the same on the CPU; None without mismatched pairs.
        """
        shapes = self._objective.noise_shapes(len(y), self.n_labels)
        drawn = [self._noise(*shape) for shape in shapes.values()]
        if labels is not None:
            rows = torch.arange(len(labels))
            drawn.append(mismatched_rows(labels, rows, self.config.seed, f"{_PURPOSE} rows", self._next()))
        there = self._staged(drawn, z)
        noise = there[: len(shapes)]
        other_labels = None if labels is None else y[there[-1]]
        batches = dict.fromkeys(self._objective.batches, Examples(y, z))
        return UpdateInputs(batches, logits, noise, other_labels, len(y))

    def _weight(self, batch: int) -> float:
        """What turns the adversarial term of Eq. 2 into the units of the user's cross-entropy."""
        summed = {"mean": 1 / self.n_labels, "image": 1.0, "sum": float(batch)}[self.bce_reduction]
        over_labels = float(self.n_labels) if self.config.label_reduction == "mean" else 1.0
        return summed * over_labels / self.config.alpha

    def _next(self) -> int:
        self._draws += 1
        return self._draws

    def _noise(self, *shape: int) -> Tensor:
        """Uniform noise of a shape, on [0, 1), in D's precision."""
        return uniform(shape, self.config.seed, _PURPOSE, self._next()).to(self.network.project_labels.weight.dtype)

    def _staged(self, drawn: list[Tensor], like: Tensor) -> list[Tensor]:
        """Draws on the device of some other tensor."""
        if self._staging.device != like.device:
            self._staging = Staging(like.device)
        return self._staging(drawn)

    def _fitting(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Features without a gradient, and logits, in D's precision; ValueError where they do not fit D."""
        weight = self.network.project_labels.weight
        require_fitting(logits, features, self.n_labels, self.feature_dim, weight.device)
        return features.detach().to(weight.dtype), logits.to(weight.dtype)
