"""The critic's loss and its gradient in one pass over all its batches, by hand (Eqs. 4 and 5).

Between two LeakyReLUs D is linear, and a LeakyReLU's second derivative is zero. So the gradient of D with respect to a
label set is a product of D's own matrices, g = C' M_1 W_2' M_2 ... w, with the slopes M_k as constants; and the
penalty's gradient needs no differentiation of a differentiation: with u = dP/dg, it is for each W_k the outer product
of the adjoint that came down to layer k and of u pushed up to it. These have the shapes of an ordinary pass, so the
penalty's rows go along with the others': forward, down, and into the weights, each layer is one matrix product for all
four kinds of rows; only pushing u up is a pass of its own. Autograd passes the network twice more, and in four pieces.

`tests/test_wasserstein.py` holds this to autograd through `losses.critic_loss` and `losses.gradient_penalty`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import leaky_relu

from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.training.losses import NORM_EPSILON


class Pairs(NamedTuple):
    """Label sets y [B, L] put to images, whose features are z [B, F]."""

    y: Tensor
    z: Tensor


class CriticUpdate(NamedTuple):
    """What an update of D needs.

    Attributes:
        loss: L_D of Eq. 4, scalar.
        penalty: of it, Eq. 5 before lambda, scalar.
        wasserstein: mean D(y, x) - mean D(y_hat, x), scalar.
        slope: mean ||grad_y* D(y*, x)||, which the penalty draws to 1, scalar.
        gradients: of the loss, in the order of `critic.parameters()`.
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
    """L_D and its gradient.

    Args:
        critic: D.
        matched, generated, mismatched: the three kinds of pairs, [B, L] and [B, F] each; without mismatched ones the
            generated term's weight is 1 instead of 1/2.
        between: y* [B, L], between the generated sets and the true ones of the same images.
        lambda_gp: weight of the penalty.
        global_batch_size: rows of each batch over all processes that share it; B for one process. Every term is this
            process's part of a mean over them.

    Returns:
        Losses and gradients, detached.
    """
    kinds = [matched, generated] if mismatched is None else [matched, generated, mismatched]
    b = len(between)
    pairs = slice(0, len(kinds) * b)  # the rows that are scored
    starred = slice(len(kinds) * b, (len(kinds) + 1) * b)  # the penalty's
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
        pre[starred] += images[b : 2 * b]  # y* is put to the generated pairs' images
    hidden: list[Tensor] = []  # what goes into each further layer, [R, W]
    for layer in rest:
        hidden.append(leaky_relu(pre, critic.slope, inplace=True))
        pre = layer(hidden[-1])
    scores = pre[:, 0]

    seeds = _seeds(len(kinds), b, global_batch_size, scores)
    adjoints = [seeds[:, None]]  # dL/d(what comes out of each layer), for y* rows dD/d(that)
    for layer, x in zip(reversed(rest), reversed(hidden), strict=True):
        adjoints.insert(0, _through_slopes(adjoints[0] @ layer.weight, x, critic.slope))
    slopes = adjoints[0][starred] @ label_map  # grad_y* D, [B, L]
    norm = (slopes.square().sum(dim=1) + NORM_EPSILON).sqrt()
    penalty = (norm - 1).square().sum() / global_batch_size
    upward = slopes * ((2 * lambda_gp / global_batch_size) * (norm - 1) / norm)[:, None]  # d(lambda P)/d(grad_y* D)

    # From here on a y* row holds what its weight gradients take in place of an activation.
    sets[starred] = upward
    pushed = upward @ label_map.T
    for k, x in enumerate(hidden):
        pushed = _through_slopes(pushed, x[starred], critic.slope)
        x[starred] = pushed
        if k + 1 < len(hidden):
            pushed = pushed @ rest[k].weight.T

    gradients = _first_gradients(critic, adjoints[0], pairs, sets, projected, features)
    for x, adjoint in zip(hidden, adjoints[1:], strict=True):
        gradients += [adjoint.T @ x, adjoint[pairs].sum(dim=0)]
    loss = seeds[pairs] @ scores[pairs] + lambda_gp * penalty
    wasserstein = (scores[:b].sum() - scores[b : 2 * b].sum()) / global_batch_size
    return CriticUpdate(loss, penalty, wasserstein, norm.sum() / global_batch_size, gradients)


def _seeds(kinds: int, b: int, global_batch_size: int, like: Tensor) -> Tensor:
    """dL/d(score) of every row [R]: Eq. 4's weights; 1 for y*, whose score is differentiated for itself."""
    seeds = torch.ones_like(like)
    seeds[:b] = -1 / global_batch_size
    seeds[b : kinds * b] = 1 / (global_batch_size * (kinds - 1))
    return seeds


def _through_slopes(adjoint: Tensor, activation: Tensor, slope: float) -> Tensor:
    """Multiply by a LeakyReLU's slopes, read off its result: a slope is not negative, so the sign is the input's."""
    through: Tensor = torch.ops.aten.leaky_relu_backward(adjoint, activation, slope, True)
    return through


def _first_gradients(
    critic: Discriminator,
    adjoint: Tensor,
    pairs: slice,
    sets: Tensor,
    projected: Tensor | None,
    features: Tensor | None,
) -> list[Tensor]:
    """Gradients of the projections and of the first layer, of which label sets see one linear map.

    Args:
        critic: D.
        adjoint: dL/d(what comes out of the first layer), [R, W].
        pairs: the rows that are scored.
        sets: label sets, and u in the rows of y*, [R, L].
        projected, features: image features of the scored rows after and before their projection; None where D sees
            none.
    """
    labels = critic.project_labels
    own = critic.label_columns  # [W, P]
    of_map = adjoint.T @ sets  # dL/dC, [W, L]
    of_bias = adjoint[pairs].sum(dim=0)  # [W]; a y* row's slopes hang on no bias
    of_first = of_map @ labels.weight.T + torch.outer(of_bias, labels.bias)  # [W, P]
    gradients = [own.T @ of_map, of_bias @ own]
    if projected is not None and features is not None:
        down = adjoint[pairs] @ critic.image_columns  # [3B, P]
        gradients += [down.T @ features, down.sum(dim=0)]
        of_first = torch.cat([adjoint[pairs].T @ projected, of_first], dim=1)
    return [*gradients, of_first, of_bias]
