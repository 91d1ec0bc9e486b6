"""A frozen encoder in ONNX Runtime, on a CPU: the same numbers as torch's up to rounding, and faster."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.tracing import impossible, quiet, require_onnx


class OnnxEngine:
    """uint8 images [B, 3, side, side] -> features float32 [B, F] or [B, S, F], for one fixed B.

    Args:
        plain: the encoder, on the CPU.
        count: B.
        side: of the images, in pixels.

    Raises:
        LabeldepError: a package is not installed, or torch cannot write this network as ONNX.
    """

    def __init__(self, plain: Encoder, count: int, side: int) -> None:
        require_onnx("--engine onnxruntime")
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Threads that wait would keep the cores busy on which images are decoded.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3  # errors only
        content = onnx_of(plain, torch.zeros(count, 3, side, side, dtype=torch.uint8))
        self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, images: Tensor) -> Tensor:
        """Encode exactly B images."""
        return torch.from_numpy(self.session.run(None, {self.input: images.contiguous().numpy()})[0])


class _Pixels(nn.Module):
    """Pixels to features in operations that every exporter knows."""

    def __init__(self, plain: Encoder) -> None:
        super().__init__()
        self.plain = plain
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        plain = self.plain
        features: Tensor = plain.backbone(images.to(plain.scale.dtype) * plain.scale + plain.shift)
        return features


def onnx_of(plain: Encoder, example: Tensor) -> bytes:
    """The encoder with its normalisation as an ONNX file, for images uint8 of this shape [B, 3, side, side].

    Raises:
        LabeldepError: torch cannot write this network as ONNX.
    """
    try:
        with quiet(), torch.no_grad():
            program = torch.onnx.export(_Pixels(plain), (example,), dynamo=True, verbose=False)
            if program is None:
                raise RuntimeError("torch.onnx.export returned nothing")
            content: bytes = program.model_proto.SerializeToString()
            return content
    except Exception as error:  # an unsupported operation, or more than 2 GB; exporters raise many kinds
        raise impossible("write this network as ONNX", error, "Leave out --engine onnxruntime.") from error
