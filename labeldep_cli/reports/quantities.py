"""What metrics.jsonl's quantities are called where people read them."""

from __future__ import annotations

_NAMES = {
    "critic": "critic loss",
    "penalty": "gradient penalty",
    "wasserstein": "Wasserstein estimate",
    "critic_gradient": "critic gradient norm",
    "margin": "critic margin",
    "critic_val": "critic on val",
    "generator": "generator loss",
    "logistic": "logistic loss",
    "critic_share": "critic's share of the gradient",
    "generator_gradient": "generator gradient norm",
    "labels_per_image": "labels an image",
}
"""Of quantities that have a longer one than in metrics.jsonl."""


def name_of(quantity: str) -> str:
    """A quantity's name in words."""
    return _NAMES.get(quantity, quantity.replace("_", " "))
