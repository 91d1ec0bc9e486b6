"""The network in an exported file, and the two file formats. N images, L labels."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from labeldep_cli.errors import LabeldepError
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.tracing import impossible, quiet, require_onnx

METADATA_KEY = "labeldep"
"""The key of the file's metadata, a JSON string: in ONNX's metadata, or with .json among an ExportedProgram's files."""

OPSET = 18
"""The ONNX opset; onnxruntime supports it from version 1.14."""

_IR_VERSION = 8  # that of opset 18; exporters write a newer one without need, which older runtimes refuse
_MOST_BYTES = 2**31 - 2**24  # an ONNX file is one protobuf message of less than 2 GiB; some room for the graph
_MOST_IMAGES = 2**31 - 1  # torch 2.6 refuses a range without an upper bound
OUTPUTS = ("probabilities", "logits")


class Exported(nn.Module):
    """The network from 8-bit images, or from features, to probabilities, in float32.

    Args:
        generator: takes images, or features if its encoder is the identity.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        encoder = generator.encoder
        # InferenceEncoder splits a batch into slices; a traced graph would fix their number.
        self.encoder = encoder.plain if isinstance(encoder, InferenceEncoder) else encoder
        self.head = generator.head
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and logits [N, L] of images uint8 [N, 3, side, side], or of features float32 [N, F]."""
        if isinstance(self.encoder, Encoder):
            # Encoder.normalised in plain operations: torch 2.6 cannot convert an addcmul with a dynamic N to ONNX.
            x = self.encoder.backbone(x.to(self.encoder.scale.dtype) * self.encoder.scale + self.encoder.shift)
        logits: Tensor = self.head(self.head.standardized(x))
        return logits.sigmoid(), logits


@dataclass(frozen=True)
class FileFormat:
    """A format of exported files.

    Attributes:
        suffix: of the file name.
        write: (program, input name, metadata as JSON) -> the file's bytes.
        run: (the file's bytes, input [N, ...]) -> probabilities float32 [N, L].
        require: (network) -> None; raises a LabeldepError if the format cannot be written.
    """

    suffix: str
    write: Callable[[ExportedProgram, str, str], bytes]
    run: Callable[[bytes, NDArray[Any]], NDArray[np.float32]]
    require: Callable[[nn.Module], None]


def trace(model: Exported, example: Tensor) -> ExportedProgram:
    """Trace the model to a graph that takes any number of images.

    Args:
        model: on the CPU.
        example: an input with two rows; only its shape and dtype matter.

    Raises:
        LabeldepError: torch cannot trace this network.
    """
    try:
        # Switches of gradient and autocast would become subgraphs, which cannot be loaded again.
        with quiet(), torch.no_grad():
            images = {0: Dim("N", min=1, max=_MOST_IMAGES)}
            program = torch.export.export(model, (example,), dynamic_shapes={"x": images}, strict=False)
    except Exception as error:  # the network's Python code may raise any kind when it gets a placeholder
        raise impossible("trace this network", error, "Another version of torch may: pip install -U torch") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # it holds local paths
    return program


def _to_onnx(program: ExportedProgram, name: str, metadata: str) -> bytes:
    try:
        with quiet():
            return _onnx_bytes(program, name, metadata)
    except Exception as error:  # an unsupported operation; exporter and checker raise many kinds
        remedy = "Use --format torch, or newer versions: pip install -U torch onnx onnxscript"
        raise impossible("write this network as ONNX", error, remedy) from error


def _onnx_bytes(program: ExportedProgram, name: str, metadata: str) -> bytes:
    import onnx

    exported = torch.onnx.export(
        program, dynamo=True, input_names=[name], output_names=list(OUTPUTS), opset_version=OPSET, verbose=False
    )
    if exported is None:
        raise RuntimeError("torch.onnx.export returned nothing")
    model = exported.model_proto
    model.ir_version = _IR_VERSION
    del model.graph.value_info[:]
    for message in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        for field in ("metadata_props", "doc_string"):  # they hold local paths, and are half of a small file
            if field in message.DESCRIPTOR.fields_by_name:
                message.ClearField(field)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.helper.set_model_props(model, {METADATA_KEY: metadata})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _run_onnx(content: bytes, x: NDArray[Any]) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only; warnings about the graph would go directly to stderr
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    probabilities: NDArray[np.float32] = session.run([OUTPUTS[0]], {session.get_inputs()[0].name: x})[0]
    return probabilities


def _require_onnx(model: nn.Module) -> None:
    require_onnx("--format onnx")
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if size > _MOST_BYTES:
        raise LabeldepError(
            f"the network has {size / 1e9:.1f} GB of weights, but an ONNX file holds at most 2.1", "Use --format torch."
        )


def _to_torch(program: ExportedProgram, name: str, metadata: str) -> bytes:
    buffer = io.BytesIO()
    with quiet():
        torch.export.save(program, buffer, extra_files={f"{METADATA_KEY}.json": metadata})
    return buffer.getvalue()


def _run_torch(content: bytes, x: NDArray[Any]) -> NDArray[np.float32]:
    with quiet():
        model = torch.export.load(io.BytesIO(content)).module()
    with torch.inference_mode():
        probabilities: NDArray[np.float32] = model(torch.from_numpy(x))[0].numpy()
    return probabilities


FORMATS = {
    "onnx": FileFormat(".onnx", _to_onnx, _run_onnx, _require_onnx),
    "torch": FileFormat(".pt2", _to_torch, _run_torch, lambda model: None),
}
