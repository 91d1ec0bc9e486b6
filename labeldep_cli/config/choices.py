"""The words that settings are chosen from."""

from __future__ import annotations

from typing import Literal

DEFAULT_BACKBONE = "resnet101"
"""Table 3 is made with it."""

DEFAULT_WEIGHTS = "default"
"""Torchvision's published ones."""

PAPER_BACKBONES = ("vgg16", "inception_v3", "resnet101", "resnet152")
"""Sect. 3.1."""

Sampling = Literal["gumbel", "straight-through", "none"]
Loss = Literal["logistic", "focal", "asl", "warp"]
LabelReduction = Literal["mean", "sum"]
"""How the losses of an image's known labels become one number."""
CriticName = Literal["wgan-gp", "nce"]
CriticKind = Literal[CriticName, "none"]
"""The critics, and the control without one."""
Selection = Literal["last", "mAP", "CF1", "OF1", "exact_match"]
HeadKind = Literal["linear", "cnn-rnn", "att-rnn", "rlsd", "ml-decoder", "gcn"]
DEFAULT_HEAD: HeadKind = "linear"

ExportFormat = Literal["onnx", "torch"]
DEFAULT_EXPORT_FORMAT: ExportFormat = "onnx"
Precision = Literal["auto", "float32", "bfloat16", "float16"]
TUNED = ("tuned", "tuned-per-label")
"""Thresholds found on val and kept in the checkpoint."""

Decided = Literal["threshold", "rerank", "expected-f1"]
