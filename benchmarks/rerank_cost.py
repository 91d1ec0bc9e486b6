"""The cost of `--decision rerank` and `expected-f1`: critic rows per image, and time relative to a plain forward pass.

The plain pass is D alone over 32 rows per image, each with its own copy of the image's features, prepared in advance,
in blocks as large as rerank's. Rerank does more (it lists the sets that G finds most probable, and chooses) and saves
one thing: what D computes from the image alone is computed once per image. Weights and features are random with a
seed; the time does not depend on them.

For a kernel critic the comparison of an image with the landmarks is nearly all of the cost. Its plain pass therefore
compares each image once; it scores 32 sets. Rerank also scores all sets that the critic knows, to list candidates.
"""

from __future__ import annotations

from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from benchmarks.show import Table, show
from benchmarks.timing import in_turn
from labeldep_cli.compute.seeded import seeded
from labeldep_cli.config import AdversarialConfig, CriticKind
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.known_sets import Weights, pooled_posterior
from labeldep_cli.evaluation.rerank import BLOCK, BUDGET, rerank, score_candidates
from labeldep_cli.models.kernel_critic import KernelCritic
from labeldep_cli.models.members import AdversarialCritic, build_critic
from labeldep_cli.models.standardizing import Moments

IMAGES, LABELS, FEATURES = 500, 80, 2048
TRAIN = 10_000
"""Training rows of the kernel critic, nearly all with a set of their own."""
REPEATS = 7
MEMBERS = 5


def command(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """The cost of rerank: critic rows per image, and time relative to a plain forward pass of those rows."""
    found = run()
    rows = [
        [
            kind,
            str(one["layers"]),
            *(f"{one[key]:.2f}" for key in ("rows_per_image", "rerank_ratio", "expected-f1_ratio")),
        ]
        for kind, one in found["critics"].items()
    ]
    title = f"{IMAGES} images, {LABELS} labels, {FEATURES} features; times over the bare pass of {BUDGET} rows an image"
    show(found, [Table(title, ("critic", "layers", "rows an image", "rerank", "expected-f1"), rows)], json)


def run() -> dict[str, Any]:
    """Time the default critic of `--critic nce`, several of it, and the paper's.

    Returns:
        For each: rows an image, seconds and ratios to the bare pass, medians of REPEATS interleaved timings.
    """
    with seeded(0), torch.inference_mode():
        kinds: dict[str, tuple[CriticKind, int]] = {
            "nce": ("nce", 1),
            "nce, 5 members": ("nce", MEMBERS),
            "wgan-gp": ("wgan-gp", 1),
        }
        return {
            "images": IMAGES,
            "labels": LABELS,
            "features": FEATURES,
            "threads": torch.get_num_threads(),
            "critics": {name: _measure(*kind) for name, kind in kinds.items()} | {"kernel": _measure_kernel()},
        }


def _measure(kind: CriticKind, members: int) -> dict[str, Any]:
    config = AdversarialConfig(critic=kind).resolved()
    critic = build_critic(LABELS, FEATURES, config.critic_shape | {"members": members}, seed=0).eval()
    logits, z = 2 * torch.randn(IMAGES, LABELS) - 4, torch.randn(IMAGES, FEATURES)
    rows = _Rows(critic)
    rerank(rows, logits, z, 1.0)
    sets = (torch.rand(IMAGES * BUDGET, LABELS) < 0.04).float()
    own = z.repeat_interleave(BUDGET, dim=0)
    blocks = [(sets[start : start + BLOCK], own[start : start + BLOCK]) for start in range(0, len(sets), BLOCK)]

    def expected_f1() -> None:
        posterior = score_candidates(critic, logits, z).posterior(1.0)
        best_expected_f1(posterior.sets, posterior.probabilities())

    seconds = in_turn(
        {
            "bare": lambda: [critic(y, seen) for y, seen in blocks],
            "rerank": lambda: rerank(critic, logits, z, 1.0),
            "expected-f1": expected_f1,
        },
        REPEATS,
    )
    ratios = {f"{name}_ratio": seconds[name] / seconds["bare"] for name in ("rerank", "expected-f1")}
    return {"layers": config.critic_depth, "rows_per_image": rows.count / IMAGES, "seconds": seconds, **ratios}


def _measure_kernel() -> dict[str, Any]:
    labels = (torch.rand(TRAIN, LABELS) < 0.04).to(torch.int8)
    z, logits = torch.randn(IMAGES, FEATURES), 2 * torch.randn(IMAGES, LABELS) - 4
    landmarks = torch.randn(AdversarialConfig.landmarks, FEATURES)
    critic = KernelCritic.fitted(labels, Moments(torch.zeros(FEATURES), torch.ones(FEATURES)), landmarks)
    sets = (torch.rand(IMAGES, BUDGET, LABELS) < 0.04).float()

    def expected_f1() -> None:
        posterior = pooled_posterior(critic, logits, z, Weights(1.0, 0.5))
        best_expected_f1(posterior.sets, posterior.probabilities())

    seconds = in_turn(
        {
            "bare": lambda: critic(sets, z),
            "rerank": lambda: pooled_posterior(critic, logits, z, Weights(1.0, 0.5)).best(),
            "expected-f1": expected_f1,
        },
        REPEATS,
    )
    ratios = {f"{name}_ratio": seconds[name] / seconds["bare"] for name in ("rerank", "expected-f1")}
    return {"layers": 0, "rows_per_image": BUDGET, "known_sets": len(critic.sets), "seconds": seconds, **ratios}


class _Rows:
    """A critic that counts the label sets it scores."""

    def __init__(self, critic: AdversarialCritic) -> None:
        self.critic = critic
        self.count = 0

    def __call__(self, y: Tensor, z: Tensor) -> Tensor:
        self.count += y[..., 0].numel()
        scores: Tensor = self.critic(y, z)
        return scores
