"""The frozen encoder in its fastest form; its numbers equal those of the plain encoder up to rounding."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn
from torch.fx import Node, Tracer
from torch.nn.utils import fuse_conv_bn_eval

from labeldep_cli.compute.kernels import exact_convolutions
from labeldep_cli.config import Engine, Precision
from labeldep_cli.errors import LabeldepError
from labeldep_cli.models.encoder import Encoder, layout_on
from labeldep_cli.models.onnx_engine import OnnxEngine
from labeldep_cli.models.regions import RegionFeatures

# Images that are encoded together. The first maps of 8 images of 224 pixels fit the CPU's caches better than those of
# 32. They also stay below 32 MB, the size from which the C library takes new memory pages for every tensor. This is 1.8
# times faster for SqueezeNet on two cores, 1.2 times for ResNet-50. A GPU is faster with many images together.
_ON_CPU, _ON_GPU = 8, 32


def _slice_on(device: torch.device) -> int:
    return _ON_CPU if device.type == "cpu" else _ON_GPU


def precision_on(device: torch.device, precision: Precision) -> Precision:
    """The dtype in which convolutions are computed on a device.

    Args:
        device: the device.
        precision: "auto", or the name of a dtype.

    Returns:
        The named dtype; for "auto", "float16" on a CUDA GPU (the dtype of stored features), else "float32".
    """
    if precision == "auto":
        return "float16" if device.type == "cuda" else "float32"
    return precision


class InferenceEncoder(nn.Module):
    """uint8 images [B, 3, H, W] -> features float32 [B, F] or [B, S, F]; frozen.

    Batch norms are folded into the convolutions before them, weights and maps are channels last except on Apple's
    GPUs, and images are encoded in slices of a fixed size.

    Args:
        plain: the encoder, on its device. It is not changed; `trainable_copy` copies it.
        precision: of weights and maps.
    """

    def __init__(self, plain: Encoder, precision: Precision = "float32") -> None:
        super().__init__()
        self.plain = plain
        self.device = plain.shift.device
        named = precision_on(self.device, precision)
        full = plain.scale.dtype  # torch's default dtype when the encoder was built: float32, unless it was changed
        self.dtype: torch.dtype = full if named == "float32" else getattr(torch, named)
        # Linear layers are most of VGG-16's bytes; they are shared, not copied.
        shared = [] if self.dtype != full else [p for p in plain.backbone.parameters() if p.dim() != 4]
        backbone = copy.deepcopy(plain.backbone, {id(parameter): parameter for parameter in shared})
        fold_batch_norms(backbone.backbone if isinstance(backbone, RegionFeatures) else backbone)
        self.layout = layout_on(self.device)
        self.backbone = backbone.to(self.dtype).to(memory_format=self.layout)
        self._forward: Callable[[Tensor], Tensor] = self._eager
        self.compiled = False
        self._onnx: OnnxEngine | None = None
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> InferenceEncoder:
        """Stay in eval mode."""
        super().train(False)
        return self

    @property
    def compute_dtype(self) -> str:
        """How features are computed, as a store records it: "float32", "float32 compiled" or "float32 onnxruntime"."""
        words = [str(self.dtype).removeprefix("torch."), *(["compiled"] if self.compiled else [])]
        return " ".join([*words, *(["onnxruntime"] if self._onnx else [])])

    @property
    def engine(self) -> Engine:
        """What runs the network."""
        return "onnxruntime" if self._onnx else "torch"

    def use_onnxruntime(self, side: int) -> None:
        """Run the network in ONNX Runtime from now on: on a CPU, in float32. Making the graph takes some seconds.

        Args:
            side: height and width of the images in pixels.

        Raises:
            LabeldepError: another device or precision; else as in `OnnxEngine`.
        """
        if self.device.type != "cpu" or self.dtype != torch.float32:
            computed = f"{str(self.dtype).removeprefix('torch.')} on {self.device.type}"
            raise LabeldepError(
                f"--engine onnxruntime computes in float32 on a CPU, not in {computed}",
                "Leave out --precision and add --device cpu; or compute features of another store: --engine torch",
            )
        self._onnx = OnnxEngine(self.plain, _slice_on(self.device), side)

    @torch.inference_mode()
    def compile(self, side: int, note: Callable[[str], None]) -> None:
        """Compile the forward pass, which takes some seconds. If that fails, note it and go on without compiling.

        Args:
            side: height and width of the images in pixels.
            note: gets the message of a failure.
        """
        try:
            self._forward = torch.compile(self._eager, dynamic=False, options={"freezing": True})
            self.compiled = True
            self(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.device))
        except Exception as error:  # no compiler, or one that fails: torch.compile raises many kinds
            self._forward, self.compiled = self._eager, False
            first_line = (str(error).splitlines() or [type(error).__name__])[0]
            note(f"--compile failed, going on without it: {first_line}")

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and encode images, a slice at a time, in this encoder's dtype even under autocast.

        So D gets the same features of an image while G trains in mixed precision, at test time, and from a cache.
        """
        with torch.autocast(self.device.type, enabled=False), exact_convolutions(self.device, self.dtype):
            return torch.cat([self._encode(part) for part in torch.split(images, _slice_on(self.device))])

    def _eager(self, maps: Tensor) -> Tensor:
        features: Tensor = self.backbone(maps)
        return features

    def _encode(self, images: Tensor) -> Tensor:
        n, full = len(images), _slice_on(self.device)
        if (self.compiled or self._onnx) and n < full:  # another shape would be compiled again
            images = torch.cat([images, images.new_zeros(full - n, *images.shape[1:])])
        if self._onnx:
            return self._onnx(images)[:n]
        maps = self.plain.normalised(images).to(dtype=self.dtype, memory_format=self.layout)
        return self._forward(maps)[:n].to(self.plain.scale.dtype)

    def trainable_copy(self, train_bn: bool, checkpointed: bool = False) -> Encoder:
        """A deep copy of the plain encoder with trainable parameters."""
        return self.plain.trainable_copy(train_bn, checkpointed)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold batch norms in eval mode into the convolutions before them, in place.

    Only pairs are folded in which the batch norm alone uses the output of the convolution, and each is called once.
    """
    for convolution, norm in list(_pairs(network)):
        before, after = network.get_submodule(convolution), network.get_submodule(norm)
        folded = fuse_conv_bn_eval(cast(nn.Conv2d, before), cast(nn.BatchNorm2d, after))
        network.set_submodule(convolution, folded)
        network.set_submodule(norm, nn.Identity())


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of each convolution and its batch norm, if nothing else uses the convolution's output."""
    try:
        nodes = list(Tracer().trace(network).nodes)
    except Exception:  # the network's Python code fails on a placeholder; the network keeps its batch norms
        return
    calls = Counter(node.target for node in nodes if node.op == "call_module")

    def once(node: object, kind: type[nn.Module]) -> bool:
        if not isinstance(node, Node) or node.op != "call_module" or calls[node.target] > 1:
            return False
        module = network.get_submodule(str(node.target))
        return type(module) is kind and not module._forward_hooks

    for node in nodes:
        if once(node, nn.BatchNorm2d) and once(node.args[0], nn.Conv2d) and len(node.args[0].users) == 1:
            yield str(node.args[0].target), str(node.target)
