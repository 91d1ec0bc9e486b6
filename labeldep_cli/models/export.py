"""The network of an exported file, and the two formats of such a file. N images, L labels."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
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

FACTS = "labeldep"
"""The key of the file's facts, one JSON string: in ONNX's metadata, and with .json among an ExportedProgram's files."""

OPSET = 18
"""Of ONNX; its first onnxruntime is 1.14."""

_IR_VERSION = 8  # came with opset 18; exporters write a newer one that older runtimes refuse, and need nothing of it
_MOST_BYTES = 2**31 - 2**24  # one ONNX file is one protobuf message, below 2 GiB; some room for the graph
_MOST_IMAGES = 2**31 - 1  # torch 2.6 refuses a range without an end
OUTPUTS = ("probabilities", "logits")


class Exported(nn.Module):
    """Everything between 8-bit images and probabilities, in float32.

    Args:
        generator: over images, or over features where its encoder is the identity.
    """

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        eyes = generator.encoder
        # The fast form passes images in slices, and a traced graph would keep their number.
        self.encoder = eyes.plain if isinstance(eyes, InferenceEncoder) else eyes
        self.head = generator.head
        self.eval()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and logits [N, L] of images uint8 [N, 3, side, side], or of features float32 [N, F]."""
        if isinstance(self.encoder, Encoder):
            # Encoder.normalised in plain operations: torch 2.6 turns no addcmul over a free N into ONNX.
            x = self.encoder.backbone(x.to(self.encoder.scale.dtype) * self.encoder.scale + self.encoder.shift)
        logits: Tensor = self.head(x)
        return logits.sigmoid(), logits


@dataclass(frozen=True)
class FileFormat:
    """A kind of file.

    Attributes:
        suffix: of its name.
        write: (program, input name, facts as JSON) -> the file's bytes.
        run: (the file's bytes, input [N, ...]) -> probabilities float32 [N, L].
        require: refuses what cannot be written here.
    """

    suffix: str
    write: Callable[[ExportedProgram, str, str], bytes]
    run: Callable[[bytes, NDArray[Any]], NDArray[np.float32]]
    require: Callable[[nn.Module], None]


def trace(model: Exported, example: Tensor) -> ExportedProgram:
    """The model as a graph for any number of images.

    Args:
        model: on the CPU.
        example: an input of two rows; only its shape and dtype matter.

    Raises:
        LabeldepError: torch cannot trace this network.
    """
    try:
        # Gradient and autocast switches would become graphs of their own, which cannot be loaded again.
        with _quiet(), torch.no_grad():
            images = {0: Dim("N", min=1, max=_MOST_IMAGES)}
            program = torch.export.export(model, (example,), dynamic_shapes={"x": images}, strict=False)
    except Exception as error:  # whatever a network's own Python makes of a placeholder
        raise _impossible("trace this network", error, "Another version of torch may: pip install -U torch") from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of this machine
    return program


def _to_onnx(program: ExportedProgram, name: str, facts: str) -> bytes:
    try:
        with _quiet():
            return _onnx_bytes(program, name, facts)
    except Exception as error:  # an operation without a translation; exporter and checker raise kinds of their own
        remedy = "Take --format torch, or newer versions: pip install -U torch onnx onnxscript"
        raise _impossible("write this network as ONNX", error, remedy) from error


def _onnx_bytes(program: ExportedProgram, name: str, facts: str) -> bytes:
    import onnx

    made = torch.onnx.export(
        program, dynamo=True, input_names=[name], output_names=list(OUTPUTS), opset_version=OPSET, verbose=False
    )
    if made is None:
        raise RuntimeError("torch.onnx.export gave nothing")
    model = made.model_proto
    model.ir_version = _IR_VERSION
    del model.graph.value_info[:]
    for told in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer, model.graph):
        for field in ("metadata_props", "doc_string"):  # paths of this machine, and half a small file
            if field in told.DESCRIPTOR.fields_by_name:
                told.ClearField(field)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.helper.set_model_props(model, {FACTS: facts})
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def _run_onnx(content: bytes, x: NDArray[Any]) -> NDArray[np.float32]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; its remarks on the graph go to stderr past Python
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run([OUTPUTS[0]], {session.get_inputs()[0].name: x})[0]
    return found


def _require_onnx(model: nn.Module) -> None:
    missing = [package for package in ("onnx", "onnxscript", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise LabeldepError(
            f"--format onnx needs packages that are not installed: {', '.join(missing)}",
            "Run: pip install 'labeldep[onnx]'",
        )
    size = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if size > _MOST_BYTES:
        raise LabeldepError(
            f"the network has {size / 1e9:.1f} GB of weights, and one ONNX file holds 2.1", "Take --format torch."
        )


def _to_torch(program: ExportedProgram, name: str, facts: str) -> bytes:
    buffer = io.BytesIO()
    with _quiet():
        torch.export.save(program, buffer, extra_files={f"{FACTS}.json": facts})
    return buffer.getvalue()


def _run_torch(content: bytes, x: NDArray[Any]) -> NDArray[np.float32]:
    with _quiet():
        model = torch.export.load(io.BytesIO(content)).module()
    with torch.inference_mode():
        found: NDArray[np.float32] = model(torch.from_numpy(x))[0].numpy()
    return found


FORMATS = {
    "onnx": FileFormat(".onnx", _to_onnx, _run_onnx, _require_onnx),
    "torch": FileFormat(".pt2", _to_torch, _run_torch, lambda model: None),
}


def _impossible(what: str, error: Exception, remedy: str) -> LabeldepError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return LabeldepError(f"torch {torch.__version__} cannot {what}: {first}", remedy)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters' remarks off stdout, which holds results, and off stderr."""
    before = logging.root.manager.disable
    with redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        try:
            yield
        finally:
            logging.disable(before)
