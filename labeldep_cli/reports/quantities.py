"""Readable names of the quantities in metrics.jsonl."""

from __future__ import annotations

_NAMES = {
    "critic": "critic loss",
    "penalty": "gradient penalty",
    "weight_penalty": "penalty on weights",
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
"""The quantities whose readable name differs from their key in metrics.jsonl."""


def name_of(quantity: str) -> str:
    """The readable name of a quantity, given its key in metrics.jsonl."""
    return _NAMES.get(quantity, quantity.replace("_", " "))
