"""The paper's equations. B batch, L labels, F feature width."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from labeldep_cli.config import LabelReduction, Loss, Sampling

NORM_EPSILON = 1e-12
"""Beneath the penalty's square root, whose slope at 0 is infinite: a critic that is flat somewhere would give NaN."""

Critic = Callable[[Tensor, Tensor], Tensor]
"""(label sets [B, L], features [B, F]) -> scores [B]."""


def over_labels(each: Tensor, y: Tensor, reduction: LabelReduction) -> Tensor:
    """A loss of each label, averaged or summed over an image's known labels, then averaged over images.

    Args:
        each: [B, L].
        y: [B, L]; -1 where unknown.
        reduction: "mean" or "sum". An image without a known label counts as 0.

    Returns:
        Scalar.
    """
    known = y >= 0
    summed = (each * known).sum(dim=1)  # [B]
    if reduction == "mean":
        summed = summed / known.sum(dim=1).clamp(min=1)
    return summed.mean()


def logistic_loss(logits: Tensor, y: Tensor, reduction: LabelReduction) -> Tensor:
    """Binary cross-entropy (Eq. 1, which lacks its minus sign).

    Eq. 1 prints a sum over labels. Averaged over them instead, it leaves a critic L times as much room beside
    alpha = 10 (`AdversarialConfig.critic_reach`).

    Args:
        logits: [B, L].
        y: [B, L], 0 or 1; -1 where unknown, which counts nowhere.
        reduction: over labels; over images it is a mean.

    Returns:
        Scalar in nats a label ("mean") or an image ("sum").
    """
    each = binary_cross_entropy_with_logits(logits, y.clamp(min=0), reduction="none")
    return over_labels(each, y, reduction)


def focal_loss(logits: Tensor, y: Tensor, reduction: LabelReduction, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017), for multi-label sets without its class weight.

    Each label's cross-entropy is weighted by (1 - p_t)^gamma, p_t the probability of what is true: labels that are
    decided already count little.

    Args:
        logits: [B, L].
        y: [B, L], 0 or 1; -1 where unknown, which counts nowhere.
        reduction: over labels.
        gamma: 2 in the paper; 0 gives the logistic loss.

    Returns:
        Scalar, averaged over images.
    """
    log_true = logsigmoid(torch.where(y > 0, logits, -logits))
    return over_labels(-((1 - log_true.exp()) ** gamma) * log_true, y, reduction)


def asymmetric_loss(
    logits: Tensor,
    y: Tensor,
    reduction: LabelReduction,
    gamma_negative: float = 4.0,
    gamma_positive: float = 1.0,
    margin: float = 0.05,
) -> Tensor:
    """Asymmetric loss (ASL, Ridnik et al. 2021), with the defaults of its authors' code.

    Absent labels, the many, are focused harder than present ones, and those with p below the margin are left alone:
    p_m = max(p - margin, 0). As in the authors' code no gradient flows through the focusing weights.

    Args:
        logits: [B, L].
        y: [B, L], 0 or 1; -1 where unknown, which counts nowhere.
        reduction: over labels.
        gamma_negative, gamma_positive: focusing exponents.
        margin: probability by which absent labels are shifted.

    Returns:
        Scalar, averaged over images.
    """
    p = torch.sigmoid(logits)
    absent = (1 - p + margin).clamp(max=1)  # 1 - p_m
    log_true = torch.where(y > 0, logsigmoid(logits), absent.clamp(min=1e-8).log())
    with torch.no_grad():
        focus = torch.where(y > 0, (1 - p) ** gamma_positive, (1 - absent) ** gamma_negative)
    return over_labels(-focus * log_true, y, reduction)


def warp_loss(logits: Tensor, y: Tensor, reduction: LabelReduction) -> Tensor:
    """Weighted approximate ranking loss (Gong et al. 2013, after Weston et al. 2011).

    Each present label j pays L(r_j) = 1 + 1/2 + ... + 1/r_j for its rank r_j among the absent ones, times its mean
    hinge max(0, 1 - f_j + f_k) over those r_j that come within its margin. The paper estimates r_j by drawing absent
    labels until one does; with all scores at hand it is counted exactly.

    The scores are no probabilities: decide by `--top-k 3`, as Table 1 and 2 do for WARP.

    Args:
        logits: scores f [B, L].
        y: [B, L], 0 or 1; -1 where unknown, which counts nowhere.
        reduction: over labels, of which absent ones pay nothing. Weston et al. sum.

    Returns:
        Scalar, averaged over images.
    """
    present, absent = (y > 0).to(logits.dtype), (y == 0).to(logits.dtype)
    hinge = (1 - logits[:, :, None] + logits[:, None, :]).clamp(min=0) * absent[:, None, :]  # [B, j, k]
    rank = (hinge > 0).sum(dim=2)  # r_j, [B, L]
    weight = _harmonic(y.shape[1], logits.dtype, logits.device)[rank] / rank.clamp(min=1)
    return over_labels(present * weight * hinge.sum(dim=2), y, reduction)


@lru_cache(maxsize=4)
def _harmonic(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """0 and the first n harmonic numbers, [n + 1]; summed once, on the CPU: a GPU's sums need not repeat themselves."""
    one_over = torch.cat([torch.zeros(1, dtype=dtype), 1 / torch.arange(1, n + 1, dtype=dtype)])
    return one_over.cumsum(0).to(device)


LOSSES: dict[Loss, Callable[[Tensor, Tensor, LabelReduction], Tensor]] = {
    "logistic": logistic_loss,
    "focal": focal_loss,
    "asl": asymmetric_loss,
    "warp": warp_loss,
}
"""Losses of the generator by the names of `--loss`."""


def loss_of_logits(loss: Loss, reduction: LabelReduction) -> Callable[[Tensor, Tensor], Tensor]:
    """The generator's loss (logits [B, L], y [B, L]) -> scalar by the names of `--loss` and `--label-reduction`."""
    named = LOSSES[loss]
    return lambda logits, y: named(logits, y, reduction)


def gumbel_sigmoid(logits: Tensor, noise: Tensor, inverse_temperature: float) -> Tensor:
    """A relaxed sample of a label set (Sect. 3.2, "Gumbel sigmoid").

    The difference of two Gumbel variables is logistic: log u - log(1 - u). The inverse temperature multiplies the noisy
    logits, so at any temperature a label's sample exceeds 0.5 with probability sigmoid(logit).

    Args:
        logits: [B, L].
        noise: [B, L], uniform on [0, 1).
        inverse_temperature: 0.9 in Sect. 4.1.

    Returns:
        Soft label sets [B, L] in (0, 1), differentiable in the logits.
    """
    tiny = torch.finfo(noise.dtype).tiny
    u = noise.clamp(min=tiny, max=1 - torch.finfo(noise.dtype).eps)
    return torch.sigmoid(inverse_temperature * (logits + torch.log(u) - torch.log1p(-u)))


def sample(logits: Tensor, noise: Tensor, inverse_temperature: float, sampling: Sampling) -> Tensor:
    """Draw label sets from G.

    Args:
        logits: [B, L].
        noise: uniform [B, L].
        inverse_temperature: of the Gumbel sigmoid.
        sampling: "gumbel": soft samples; "straight-through": hard ones whose gradient is the soft ones'; "none": the
            probabilities themselves (row e of Table 3).

    Returns:
        Label sets [B, L] in [0, 1].
    """
    if sampling == "none":
        return torch.sigmoid(logits)
    soft = gumbel_sigmoid(logits, noise, inverse_temperature)
    if sampling == "gumbel":
        return soft
    return (soft > 0.5).to(soft.dtype) + (soft - soft.detach())  # in this order the sum is exactly 0 or 1


def hard_samples(logits: Tensor, noise: Tensor) -> Tensor:
    """Draw label sets of zeros and ones, each label there with G's probability.

    Args:
        logits: [B, L].
        noise: uniform [B, K, L].

    Returns:
        K sets an image [B, K, L].
    """
    p = torch.sigmoid(logits)[:, None, :]
    return (noise < p).to(p.dtype)


def generator_loss(fake_scores: Tensor) -> Tensor:
    """L_G of Eq. 3: minus the mean score [B] of generated label sets."""
    return -fake_scores.mean()


def critic_loss(real_scores: Tensor, fake_scores: Tensor, mismatched_scores: Tensor | None) -> Tensor:
    """L_D of Eq. 4 without its penalty.

    Args:
        real_scores: D(y, x) [B] of matched pairs.
        fake_scores: D(y_hat, x) [B] of generated pairs.
        mismatched_scores: D(y', x) [B] of mismatched pairs; None for training without negatives, where the generated
            term's weight is 1 instead of 1/2 (rows c and d of Table 3).

    Returns:
        Scalar.
    """
    if mismatched_scores is None:
        return fake_scores.mean() - real_scores.mean()
    return (fake_scores.mean() + mismatched_scores.mean()) / 2 - real_scores.mean()


def density_ratio_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Loss of a critic that learns a density ratio: ranking noise-contrastive estimation (Ma & Collins 2018).

    The critic has to find an image's real set among K hard samples of G for the same image. Its minimum over all D is
    D(y, x) = log p(y|x) / p_G(y|x) + c(x): what G's independent labels lack of the truth, but for a constant of the
    image that no choice among its sets depends on. Not in the paper; it is for use at test time.

    Args:
        real_scores: D(y, x) [B].
        fake_scores: D(y_hat, x) [B, K].

    Returns:
        Scalar; ln(K + 1) for a critic that tells nothing.
    """
    return (torch.logsumexp(torch.cat([real_scores[:, None], fake_scores], dim=1), dim=1) - real_scores).mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """WGAN-GP penalty on label space (Eq. 5).

    Eq. 5 prints y* ~ interp(y_hat, y*); the text means interp(y_hat, y). Both label sets are those of the same images.
    The gradient is taken with respect to the label set alone; its norm is one per image. For any critic; the training
    of labeldep's own takes `wasserstein_gradient.critic_update`, the same thing with its gradient written by hand.

    Args:
        critic: maps label sets [B, L] and image features [B, F] to scores [B].
        real, fake: label sets [B, L] of the same images, values in [0, 1].
        z: their features [B, F]; held constant.
        weight: [B, 1], uniform on [0, 1): one interpolation weight an image.

    Returns:
        Scalar mean of (||grad_y* D(y*, z)||_2 - 1)^2.
    """
    between = (weight * real + (1 - weight) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between, z.detach()).sum(), between, create_graph=True)
    norm = (gradient.square().sum(dim=1) + NORM_EPSILON).sqrt()
    return (norm - 1).square().mean()
