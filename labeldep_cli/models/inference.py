"""The frozen encoder in the form in which it computes fastest: the plain one's numbers, but for rounding."""

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
from labeldep_cli.config import Precision
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.regions import RegionFeatures

# Images that pass at once. The first maps of 8 images of 224 pixels fit the caches better than those of 32, and stay
# below the 32 MB from which the C library takes fresh pages for every tensor: 1.8 times faster for SqueezeNet on two
# cores, 1.2 times for ResNet-50. A GPU wants many at once.
_SLICE = {"cpu": 8, "cuda": 32}


def precision_on(device: torch.device, precision: Precision) -> Precision:
    """The dtype that convolutions are computed in on a device.

    Args:
        device: to compute on.
        precision: auto, or the name of a dtype.

    Returns:
        "float16" for auto on a GPU (features are stored so), else "float32".
    """
    if precision == "auto":
        return "float16" if device.type == "cuda" else "float32"
    return precision


class InferenceEncoder(nn.Module):
    """uint8 images [B, 3, H, W] -> features float32 [B, F] or [B, S, F]; frozen.

    Batch norms are folded into the convolutions before them, weights and maps lie channels last, and images pass in
    slices of a fixed size.

    Args:
        plain: on its device. It stays as it is: it is what `trainable_copy` copies.
        precision: of weights and maps.
    """

    def __init__(self, plain: Encoder, precision: Precision = "float32") -> None:
        super().__init__()
        self.plain = plain
        self.device = plain.shift.device
        named = precision_on(self.device, precision)
        full = plain.scale.dtype  # torch's default dtype as it was built: float32, but for those who set another one
        self.dtype: torch.dtype = full if named == "float32" else getattr(torch, named)
        # Linear layers are most of VGG-16's bytes, and need no second copy.
        alike = [] if self.dtype != full else [p for p in plain.backbone.parameters() if p.dim() != 4]
        backbone = copy.deepcopy(plain.backbone, {id(parameter): parameter for parameter in alike})
        fold_batch_norms(backbone.backbone if isinstance(backbone, RegionFeatures) else backbone)
        self.backbone = backbone.to(self.dtype).to(memory_format=torch.channels_last)
        self._forward: Callable[[Tensor], Tensor] = self._eager
        self.compiled = False
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> InferenceEncoder:
        """Stay in eval mode."""
        super().train(False)
        return self

    @property
    def compute_dtype(self) -> str:
        """What a cache's origin says of it: "float32", or "float32 compiled"."""
        return f"{str(self.dtype).removeprefix('torch.')}{' compiled' if self.compiled else ''}"

    @torch.inference_mode()
    def compile(self, side: int, note: Callable[[str], None]) -> None:
        """Compile the forward pass, which takes some seconds; where that fails, say so and stay as it is.

        Args:
            side: height and width of the images in pixels.
            note: takes what there is to say.
        """
        try:
            self._forward = torch.compile(self._eager, dynamic=False, options={"freezing": True})
            self.compiled = True
            self(torch.zeros(1, 3, side, side, dtype=torch.uint8, device=self.device))
        except Exception as error:  # no compiler, or one that fails: each step of torch.compile raises kinds of its own
            self._forward, self.compiled = self._eager, False
            first = (str(error).splitlines() or [type(error).__name__])[0]
            note(f"--compile failed, going on without it: {first}")

    def forward(self, images: Tensor) -> Tensor:
        """Normalise and encode images, a slice at a time, in this encoder's own dtype whatever autocast is around it.

        So D sees an image alike while G trains in mixed precision, at test time, and in a cache.
        """
        with torch.autocast(self.device.type, enabled=False), exact_convolutions(self.device, self.dtype):
            return torch.cat([self._encode(part) for part in torch.split(images, _SLICE[self.device.type])])

    def _eager(self, maps: Tensor) -> Tensor:
        features: Tensor = self.backbone(maps)
        return features

    def _encode(self, images: Tensor) -> Tensor:
        n, full = len(images), _SLICE[self.device.type]
        if self.compiled and n < full:  # another shape would be compiled anew
            images = torch.cat([images, images.new_zeros(full - n, *images.shape[1:])])
        maps = self.plain.normalised(images).to(dtype=self.dtype, memory_format=torch.channels_last)
        return self._forward(maps)[:n].to(self.plain.scale.dtype)

    def trainable_copy(self, train_bn: bool, checkpointed: bool = False) -> Encoder:
        """A deep copy of the plain encoder whose parameters learn."""
        return self.plain.trainable_copy(train_bn, checkpointed)


def fold_batch_norms(network: nn.Module) -> None:
    """Fold batch norms in eval mode into the convolutions before them, in place; both must serve nothing else."""
    for convolution, norm in list(_pairs(network)):
        before, after = network.get_submodule(convolution), network.get_submodule(norm)
        folded = fuse_conv_bn_eval(cast(nn.Conv2d, before), cast(nn.BatchNorm2d, after))
        network.set_submodule(convolution, folded)
        network.set_submodule(norm, nn.Identity())


def _pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """The names of each convolution and the batch norm that alone takes what it gives."""
    try:
        nodes = list(Tracer().trace(network).nodes)
    except Exception:  # whatever a network's own Python makes of a placeholder: it keeps its batch norms
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
