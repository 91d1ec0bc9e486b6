"""The values that settings are chosen from."""

from __future__ import annotations

from typing import Literal

DEFAULT_BACKBONE = "resnet101"
"""The backbone of Table 3."""

DEFAULT_WEIGHTS = "default"
"""Torchvision's published ones."""

PAPER_BACKBONES = ("vgg16", "inception_v3", "resnet101", "resnet152")
"""The backbones of Sect. 3.1."""

Sampling = Literal["gumbel", "straight-through", "none"]
Loss = Literal["logistic", "focal", "asl", "warp"]
LabelReduction = Literal["mean", "sum"]
"""How the losses of the known labels of an image are reduced to one number."""
CriticName = Literal["wgan-gp", "nce"]
CriticKind = Literal[CriticName, "kernel", "none"]
"""The critics, a kernel machine that learns alone, and the control without one."""
Selection = Literal["last", "mAP", "CF1", "OF1", "exact_match"]
HeadKind = Literal["linear", "cnn-rnn", "att-rnn", "rlsd", "ml-decoder", "gcn", "powerset", "chain"]
DEFAULT_HEAD: HeadKind = "linear"

ExportFormat = Literal["onnx", "torch"]
DEFAULT_EXPORT_FORMAT: ExportFormat = "onnx"
Resize = Literal["stretch", "crop", "pad"]
"""How an image becomes a square: its sides scaled apart, its edges cut off, or bands added."""

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Engine = Literal["torch", "onnxruntime"]
"""What runs the frozen backbone when features are extracted: `--engine`."""
DecodeOn = Literal["cpu", "gpu"]
"""Where JPEGs are decoded: `--decode`."""
Jpegs = Literal["full", "draft", "gpu"]
"""How JPEGs are decoded: by Pillow at full scale, by Pillow at reduced scale (`--draft`), or by nvJPEG on a GPU."""
TUNED = ("tuned", "tuned-per-label")
"""Thresholds that are tuned on val and stored in the checkpoint."""

DecisionKind = Literal["threshold", "rerank", "expected-f1"]
"""How probabilities become label sets: `--decision`."""
EvalDecisionKind = Literal[DecisionKind, "all"]
"""`eval --decision`: also a table of all decisions."""
