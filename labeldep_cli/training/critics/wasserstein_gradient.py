"""The critic's loss and its gradient, written by hand in one pass over all batches (Eqs. 4 and 5).

D is linear between two LeakyReLUs, and the second derivative of LeakyReLU is zero. So the gradient of D with respect to
a label set is a product of D's matrices, g = C' M_1 W_2' M_2 ... w, in which the slopes M_k are constants. The gradient
of the penalty therefore needs no double differentiation. With u = dP/dg, the gradient for each W_k is the outer product
of the adjoint from the backward pass at layer k and of u propagated forward to layer k. These have the shapes of an
ordinary pass, so the rows of the penalty are processed together with the others: in the forward pass, the backward pass
and the weight gradients, each layer is one matrix product for all four kinds of rows. Only the forward propagation of u
is an extra pass. Autograd needs two more passes through the network, in four pieces.

`tests/test_wasserstein.py` compares this with autograd over `losses.critic_loss` and `losses.gradient_penalty`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.losses import NORM_EPSILON


class Pairs(NamedTuple):
    """Pairs of label sets y [B, L] and image features z [B, F]."""

    y: Tensor
    z: Tensor


class CriticUpdate(NamedTuple):
    """The losses and gradients of one update of D.

    Attributes:
        loss: L_D of Eq. 4, scalar.
        penalty: its penalty term, Eq. 5, without the factor lambda, scalar.
        wasserstein: mean D(y, x) - mean D(y_hat, x), scalar.
        slope: mean ||grad_y* D(y*, x)||, which the penalty pulls towards 1, scalar.
        gradients: gradients of the loss, in the order of `critic.parameters()`.
    """

    loss: Tensor
    penalty: Tensor
    wasserstein: Tensor
    slope: Tensor
    gradients: list[Tensor]


@torch.no_grad()
def critic_update(
    critic: Discriminator,
    matched: Pairs,
    generated: Pairs,
    mismatched: Pairs | None,
    between: Tensor,
    lambda_gp: float,
    global_batch_size: int,
) -> CriticUpdate:
    """Compute L_D and its gradient.

    Args:
        critic: D.
        matched, generated, mismatched: the three kinds of pairs, [B, L] and [B, F] each. Without mismatched pairs the
            weight of the generated term is 1 instead of 1/2.
        between: y* [B, L], interpolated between the generated and the true label sets of the same images.
        lambda_gp: weight of the penalty.
        global_batch_size: rows of each batch over all processes that share it; B for one process. Every term is this
            process's part of a mean over these rows.

    Returns:
        Losses and gradients, detached.
    """
    kinds = [matched, generated] if mismatched is None else [matched, generated, mismatched]
    b = len(between)
    pairs = slice(0, len(kinds) * b)  # the rows that are scored
    starred = slice(len(kinds) * b, (len(kinds) + 1) * b)  # the y* rows of the penalty
    sets = torch.cat([*(kind.y for kind in kinds), between])  # [R, L]
    label_map, constant = critic.label_map()  # C [W, L]
    rest = critic.linears[1:]

    pre = torch.addmm(constant, sets, label_map.T)  # [R, W]
    projected = features = None
    if critic.project_features is not None:
        features = torch.cat([kind.z for kind in kinds])  # [3B, F]
        projected = critic.project_features(features)
        images = projected @ critic.image_columns.T
        pre[pairs] += images
        pre[starred] += images[b : 2 * b]  # y* is paired with the images of the generated pairs
    hidden: list[Tensor] = []  # the input of each further layer, [R, W]
    for layer in rest:
        hidden.append(leaky_relu(pre, critic.slope, inplace=True))
        pre = layer(hidden[-1])
    scores = pre[:, 0]

    seeds = _seeds(len(kinds), b, global_batch_size, scores)
    adjoints = [seeds[:, None]]  # dL/d(output of each layer); for y* rows dD/d(output)
    for layer, x in zip(reversed(rest), reversed(hidden), strict=True):
        adjoints.insert(0, _times_slopes(adjoints[0] @ layer.weight, x, critic.slope))
    slopes = adjoints[0][starred] @ label_map  # grad_y* D, [B, L]
    norm = (slopes.square().sum(dim=1) + NORM_EPSILON).sqrt()
    penalty = (norm - 1).square().sum() / global_batch_size
    upward = slopes * ((2 * lambda_gp / global_batch_size) * (norm - 1) / norm)[:, None]  # d(lambda P)/d(grad_y* D)

    # From here on the y* rows hold propagated values of u, which take the place of activations in the weight gradients.
    sets[starred] = upward
    propagated = upward @ label_map.T
    for k, x in enumerate(hidden):
        propagated = _times_slopes(propagated, x[starred], critic.slope)
        x[starred] = propagated
        if k + 1 < len(hidden):
            propagated = propagated @ rest[k].weight.T

    gradients = _first_gradients(critic, adjoints[0], pairs, sets, projected, features)
    for x, adjoint in zip(hidden, adjoints[1:], strict=True):
        gradients += [adjoint.T @ x, adjoint[pairs].sum(dim=0)]
    loss = seeds[pairs] @ scores[pairs] + lambda_gp * penalty
    wasserstein = (scores[:b].sum() - scores[b : 2 * b].sum()) / global_batch_size
    return CriticUpdate(loss, penalty, wasserstein, norm.sum() / global_batch_size, gradients)


def _seeds(kinds: int, b: int, global_batch_size: int, like: Tensor) -> Tensor:
    """dL/d(score) of every row [R]: the weights of Eq. 4; 1 for y* rows, since they need the gradient of D."""
    seeds = torch.ones_like(like)
    seeds[:b] = -1 / global_batch_size
    seeds[b : kinds * b] = 1 / (global_batch_size * (kinds - 1))
    return seeds


def _times_slopes(adjoint: Tensor, activation: Tensor, slope: float) -> Tensor:
    """Multiply by the slopes of a LeakyReLU, given its output. No slope is negative: output and input have one sign."""
    product: Tensor = torch.ops.aten.leaky_relu_backward(adjoint, activation, slope, True)
    return product


def _first_gradients(
    critic: Discriminator,
    adjoint: Tensor,
    pairs: slice,
    sets: Tensor,
    projected: Tensor | None,
    features: Tensor | None,
) -> list[Tensor]:
    """Gradients of the projections and of the first layer, which together are one linear map C of the label set.

    Args:
        critic: D.
        adjoint: dL/d(output of the first layer), [R, W].
        pairs: the rows that are scored.
        sets: label sets, and u in the y* rows, [R, L].
        projected, features: image features of the scored rows after and before their projection; None if D does not
            take image features.
    """
    labels = critic.project_labels
    label_columns = critic.label_columns  # [W, P]
    of_map = adjoint.T @ sets  # dL/dC, [W, L]
    of_bias = adjoint[pairs].sum(dim=0)  # [W]; the gradient at y* does not depend on a bias
    of_first = of_map @ labels.weight.T + torch.outer(of_bias, labels.bias)  # [W, P]
    gradients = [label_columns.T @ of_map, of_bias @ label_columns]
    if projected is not None and features is not None:
        adjoint_projected = adjoint[pairs] @ critic.image_columns  # [3B, P]
        gradients += [adjoint_projected.T @ features, adjoint_projected.sum(dim=0)]
        of_first = torch.cat([adjoint[pairs].T @ projected, of_first], dim=1)
    return [*gradients, of_first, of_bias]
