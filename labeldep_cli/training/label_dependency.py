"""The label-set critic for your own training loop, with any PyTorch classifier of images or anything else.

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
    """The critic D for your own classifier: it trains D, and computes the term that D adds to the classifier's loss.

    ```
    critic = LabelDependencyLoss(n_labels, feature_dim)
    for x, y in batches:
        features = frozen(x)                                      # [B, F]
        logits = classifier(x)                                    # [B, L]
        critic.step(logits, features, y)                          # the updates of D
        loss = bce(logits, y) + critic.generator_loss(logits, features)
        loss.backward()
    ```

    **Scale of the terms.** Eq. 2 is L_G = -mean D(y_hat, x) + alpha * cross-entropy. Its cross-entropy is averaged over
    images, and averaged or summed over labels (`label_reduction`). `generator_loss` is the first term divided by alpha,
    in the units of your cross-entropy. So the sum above is L_G times a constant, and your cross-entropy and your
    learning rate keep the scale that they have without D:

    | `bce_reduction` | your cross-entropy | `generator_loss` | with `label_reduction="sum"` |
    |---|---|---|---|
    | "mean" | mean over all B * L entries, PyTorch's default | -mean D / alpha | -mean D / (alpha * L) |
    | "image" | summed over labels, averaged over images | -mean D * L / alpha | -mean D / alpha |
    | "sum" | summed over all B * L entries | -mean D * B * L / alpha | -mean D * B / alpha |

    **Difference from `labeldep adversarial`.** There each update of D draws three batches (matched, generated and
    mismatched pairs). Here the batch that you pass is used for all three: for each of the `critic_steps` updates noise,
    interpolation and mismatches are drawn again, but not the rows. For new rows too, set `critic_steps=1` and call
    `step` with several batches.

    This is not an `nn.Module`. As a part of your model, its weights would be among `parameters()`, and your optimizer
    would train D to be fooled. Save it with `state_dict`, move it with `to`. D computes in full precision, even under
    autocast. Random numbers depend on `seed` and on the number of draws so far; the global generator is not used.

    Args:
        n_labels: L.
        feature_dim: F, the width of D's features of an image or text; best those of a frozen network, as in the paper.
        bce_reduction: reduction of the cross-entropy that `generator_loss` is added to.
        label_reduction: reduction of Eq. 2's cross-entropy over labels; with "sum" the critic has 1 / L of the weight.
        critic: "wgan-gp", the paper's critic; or "nce", a density ratio, made for `rerank`.
        alpha, lambda_gp, critic_steps, inverse_temperature, noise_samples, critic_layers, critic_width,
            critic_projection, sampling, negatives, conditional, critic_lr, critic_beta1, critic_beta2, leaky_slope,
            max_gradient_norm: as in `labeldep_cli.config.AdversarialConfig`.
        seed: seed of D's initial weights and of all random numbers.

    Attributes:
        network: D: (label sets [B, L] or [B, K, L], features [B, F]) -> scores [B] or [B, K].
        optimizer: D's Adam optimizer.
        config: all settings.

    Raises:
        ValueError: an unknown critic or reduction, or a setting that is out of range.
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
        """Update D `critic_steps` times; no gradient flows back into logits or features.

        Args:
            logits: those of the classifier, [B, L].
            features: z of the same rows, [B, F].
            y: labels of these rows [B, L], 0 or 1; -1 if unknown. Unknown labels are left out of every label set.

        Returns:
            The losses of the last update, scalars without a gradient: "critic" (L_D of Eq. 4), "penalty" (Eq. 5) and
            "wasserstein" (mean D(y, x) - mean D(y_hat, x)); for a density ratio "critic" and "margin".

        Raises:
            TrainingError: logits or features are not finite; D is unchanged.
            ValueError: the shapes do not fit.
        """
        z, logits = self._checked(features, logits.detach())
        y = checked_labels(y, logits)
        require_finite({"logits": logits, "features": z})
        objective = self._objective
        labels = y.cpu() if "mismatched" in objective.batches else None  # only once, since it waits for the device
        record: dict[str, Tensor] = {}
        with torch.autocast(z.device.type, enabled=False):
            for _ in range(self.config.critic_steps):
                inputs = self._update_inputs(logits, z, y, labels)
                record = objective.update(self.network, self.optimizer, inputs, ALONE)
        return {name: record[name] for name in objective.loss_names}

    def generator_loss(self, logits: Tensor, features: Tensor, y: Tensor | None = None) -> Tensor:
        """The classifier's adversarial loss, Eq. 3, in the units of `bce_reduction`: high if D rejects its label sets.

        Its gradient flows into the logits only, not into D or the features.

        Args:
            logits: those of the classifier, [B, L].
            features: z of the same rows, [B, F].
            y: labels [B, L]; only needed if some are unknown (-1), so that they are left out of every label set.

        Returns:
            Scalar.

        Raises:
            ValueError: the shapes do not fit.
        """
        z, logits = self._checked(features, logits)
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
        """Decide with the critic at test time: each row's label set with the best log p(y|x) + beta * D(y, x).

        Args:
            logits: those of the classifier, [N, L].
            features: z, [N, F].
            beta: weight of D, chosen by `tune_beta`; 0 gives the label sets of the threshold 0.5.

        Returns:
            bool [N, L].
        """
        z, logits = self._checked(features, logits.detach())
        return rerank(self.network, logits, z, beta)

    def tune_beta(self, logits: Tensor, features: Tensor, y: Tensor) -> float:
        """Choose the weight of D for `rerank` on VALIDATION rows, by the share of label sets that are right.

        Args:
            logits: those of the classifier, [N, L].
            features: z, [N, F].
            y: labels [N, L]; -1 if unknown. Unknown labels are ignored.

        Returns:
            The weight; 0 if D does not help.
        """
        z, logits = self._checked(features, logits.detach())
        return tune_beta(self.network, logits, z, checked_labels(y, logits), self._objective.expected_beta)

    def to(self, device: torch.device | str) -> LabelDependencyLoss:
        """Move D and its optimizer to a device; possible before or after `load_state_dict`."""
        self.network.to(device)
        self.optimizer.load_state_dict(self.optimizer.state_dict())  # moves Adam's moments to the device of the weights
        return self

    def state_dict(self) -> dict[str, Any]:
        """The complete state, to continue later; once saved, `torch.load(weights_only=True)` can read it."""
        return {
            "critic": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self._draws,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state from `state_dict`; RuntimeError if the shapes differ."""
        self.network.load_state_dict(state["critic"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._draws = int(state["draws"])

    def _update_inputs(self, logits: Tensor, z: Tensor, y: Tensor, labels: Tensor | None) -> UpdateInputs:
        """The inputs of one update of D, with new random numbers; the rows are the same in each batch of the objective.

        Args:
            logits: those of the classifier, [B, L].
            z: features [B, F].
            y: labels [B, L].
            labels: the same labels on the CPU; None without mismatched pairs.
        """
        shapes = self._objective.noise_shapes(len(y), self.n_labels)
        drawn = [self._noise(*shape) for shape in shapes.values()]
        if labels is not None:
            rows = torch.arange(len(labels))
            drawn.append(mismatched_rows(labels, rows, self.config.seed, f"{_PURPOSE} rows", self._next()))
        staged = self._staged(drawn, z)
        noise = staged[: len(shapes)]
        other_labels = None if labels is None else y[staged[-1]]
        batches = dict.fromkeys(self._objective.batches, Examples(y, z))
        return UpdateInputs(batches, logits, noise, other_labels, len(y))

    def _weight(self, batch: int) -> float:
        """The factor that converts the adversarial term of Eq. 2 into the units of the user's cross-entropy."""
        summed = {"mean": 1 / self.n_labels, "image": 1.0, "sum": float(batch)}[self.bce_reduction]
        over_labels = float(self.n_labels) if self.config.label_reduction == "mean" else 1.0
        return summed * over_labels / self.config.alpha

    def _next(self) -> int:
        self._draws += 1
        return self._draws

    def _noise(self, *shape: int) -> Tensor:
        """Uniform noise on [0, 1) of a shape, in D's precision."""
        return uniform(shape, self.config.seed, _PURPOSE, self._next()).to(self.network.project_labels.weight.dtype)

    def _staged(self, drawn: list[Tensor], like: Tensor) -> list[Tensor]:
        """Copy random numbers to the device of another tensor."""
        if self._staging.device != like.device:
            self._staging = Staging(like.device)
        return self._staging(drawn)

    def _checked(self, features: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Features without a gradient, and logits, both in D's precision; ValueError if they do not fit D."""
        weight = self.network.project_labels.weight
        require_fitting(logits, features, self.n_labels, self.feature_dim, weight.device)
        return features.detach().to(weight.dtype), logits.to(weight.dtype)
