"""The paper's equations, and further losses. B batch, L labels, F feature width."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from labeldep_cli.config import LabelReduction, Loss, Sampling

NORM_EPSILON = 1e-12
"""Added under the square root in the penalty, whose derivative at 0 is infinite: a critic with a zero gradient would
give NaN."""

Critic = Callable[[Tensor, Tensor], Tensor]
"""(label sets [B, L], features [B, F]) -> scores [B]."""


def over_labels(each: Tensor, y: Tensor, reduction: LabelReduction) -> Tensor:
    """Average or sum the losses of single labels over the known labels of an image, then average over images.

    Args:
        each: the loss of each label, [B, L].
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

    Eq. 1 prints a sum over labels. With a mean instead, and alpha = 10, a critic can have L times as much effect
    (`AdversarialConfig.critic_reach`).

    Args:
        logits: [B, L].
        y: [B, L], 0 or 1; -1 where unknown. Unknown labels are ignored.
        reduction: over labels; over images it is always a mean.

    Returns:
        Scalar in nats per label ("mean") or per image ("sum").
    """
    each = binary_cross_entropy_with_logits(logits, y.clamp(min=0), reduction="none")
    return over_labels(each, y, reduction)


def focal_loss(logits: Tensor, y: Tensor, reduction: LabelReduction, gamma: float = 2.0) -> Tensor:
    """Focal loss (Lin et al. 2017) for label sets, without its class weight.

    The cross-entropy of each label is weighted by (1 - p_t)^gamma, where p_t is the probability of the true value. So
    labels that are already predicted well have little weight.

    Args:
        logits: [B, L].
        y: [B, L], 0 or 1; -1 where unknown. Unknown labels are ignored.
        reduction: over labels.
        gamma: 2 in the paper of Lin et al.; 0 gives the logistic loss.

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

    Most labels of an image are absent. Their focusing exponent is larger than that of present labels, and absent labels
    with p below the margin have no loss: p_m = max(p - margin, 0). As in the authors' code, no gradient flows through
    the focusing weights.

    Args:
        logits: [B, L].
        y: [B, L], 0 or 1; -1 where unknown. Unknown labels are ignored.
        reduction: over labels.
        gamma_negative, gamma_positive: focusing exponents of absent and of present labels.
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

    The rank r_j of a present label j is the number of absent labels k that violate its margin: 1 - f_j + f_k > 0. The
    loss of the label is L(r_j) = 1 + 1/2 + ... + 1/r_j times the mean of max(0, 1 - f_j + f_k) over these r_j labels.
    The paper estimates r_j by sampling absent labels until one violates the margin. Here all scores are known, and r_j
    is counted exactly.

    The scores are not probabilities: decide by `--top-k 3`, as Tables 1 and 2 do for WARP.

    Args:
        logits: scores f [B, L].
        y: [B, L], 0 or 1; -1 where unknown. Unknown labels are ignored.
        reduction: over labels; the loss of absent labels is 0. Weston et al. use a sum.

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
    """0 and the first n harmonic numbers, [n + 1]; computed once, on the CPU: sums on a GPU may not be reproducible."""
    one_over = torch.cat([torch.zeros(1, dtype=dtype), 1 / torch.arange(1, n + 1, dtype=dtype)])
    return one_over.cumsum(0).to(device)


LOSSES: dict[Loss, Callable[[Tensor, Tensor, LabelReduction], Tensor]] = {
    "logistic": logistic_loss,
    "focal": focal_loss,
    "asl": asymmetric_loss,
    "warp": warp_loss,
}
"""The losses of the generator, by the values of `--loss`."""


def loss_of_logits(loss: Loss, reduction: LabelReduction) -> Callable[[Tensor, Tensor], Tensor]:
    """The generator's loss (logits [B, L], y [B, L]) -> scalar, by the values of `--loss` and `--label-reduction`."""
    function = LOSSES[loss]
    return lambda logits, y: function(logits, y, reduction)


def gumbel_sigmoid(logits: Tensor, noise: Tensor, inverse_temperature: float) -> Tensor:
    """A relaxed sample of a label set (Sect. 3.2, "Gumbel sigmoid").

    The difference of two Gumbel variables is logistic: log u - log(1 - u). The inverse temperature multiplies the noisy
    logits, so at any temperature the sample of a label exceeds 0.5 with probability sigmoid(logit).

    Args:
        logits: [B, L].
        noise: [B, L], uniform on [0, 1).
        inverse_temperature: 0.9 in Sect. 4.1.

    Returns:
        Soft label sets [B, L] in (0, 1), differentiable with respect to the logits.
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
        sampling: "gumbel": soft samples; "straight-through": hard samples with the gradient of the soft ones; "none":
            the probabilities themselves (row e of Table 3).

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
    """Draw label sets of zeros and ones; each label is present with the probability that G gives it.

    Args:
        logits: [B, L].
        noise: uniform [B, K, L].

    Returns:
        K sets per image, [B, K, L].
    """
    p = torch.sigmoid(logits)[:, None, :]
    return (noise < p).to(p.dtype)


def generator_loss(fake_scores: Tensor) -> Tensor:
    """L_G of Eq. 3: minus the mean of the scores [B] of generated label sets."""
    return -fake_scores.mean()


def critic_loss(real_scores: Tensor, fake_scores: Tensor, mismatched_scores: Tensor | None) -> Tensor:
    """L_D of Eq. 4 without its penalty.

    Args:
        real_scores: D(y, x) [B] of matched pairs.
        fake_scores: D(y_hat, x) [B] of generated pairs.
        mismatched_scores: D(y', x) [B] of mismatched pairs; None for training without negatives, where the weight of
            the generated term is 1 instead of 1/2 (rows c and d of Table 3).

    Returns:
        Scalar.
    """
    if mismatched_scores is None:
        return fake_scores.mean() - real_scores.mean()
    return (fake_scores.mean() + mismatched_scores.mean()) / 2 - real_scores.mean()


def density_ratio_loss(real_scores: Tensor, fake_scores: Tensor) -> Tensor:
    """Loss of a critic that learns a density ratio: ranking noise-contrastive estimation (Ma & Collins 2018).

    The critic has to find the real set of an image among K hard samples of G for the same image. The minimum over all D
    is D(y, x) = log p(y|x) / p_G(y|x) + c(x): the difference between G's independent labels and the true distribution,
    up to a constant for each image. A choice among the sets of an image does not depend on this constant. This loss is
    not in the paper; the critic is for use at test time.

    Args:
        real_scores: D(y, x) [B].
        fake_scores: D(y_hat, x) [B, K].

    Returns:
        Scalar; ln(K + 1) for a critic that cannot tell real sets from samples.
    """
    return (torch.logsumexp(torch.cat([real_scores[:, None], fake_scores], dim=1), dim=1) - real_scores).mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """WGAN-GP penalty on label space (Eq. 5).

    Eq. 5 prints y* ~ interp(y_hat, y*); the text means interp(y_hat, y). Both label sets belong to the same image. The
    gradient is taken with respect to the label set alone, and there is one norm per image. This function works for any
    critic. Training of labeldep's own critic uses `wasserstein_gradient.critic_update`, which computes the same penalty
    with its gradient written by hand.

    Args:
        critic: maps label sets [B, L] and image features [B, F] to scores [B].
        real, fake: label sets [B, L] of the same images, values in [0, 1].
        z: features of the images, [B, F]; treated as constants.
        weight: [B, 1], uniform on [0, 1): one interpolation weight per image.

    Returns:
        Scalar mean of (||grad_y* D(y*, z)||_2 - 1)^2.
    """
    between = (weight * real + (1 - weight) * fake).detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(between, z.detach()).sum(), between, create_graph=True)
    norm = (gradient.square().sum(dim=1) + NORM_EPSILON).sqrt()
    return (norm - 1).square().mean()
