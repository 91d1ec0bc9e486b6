"""The frozen encoder on a CPU: torch beside ONNX Runtime and OpenVINO, on the same photos.

Each engine gets the same 8-bit pixels, in slices as torch's encoder takes them, in float32 and with as many threads as
torch has. They take turns within one process, so that other work on the machine hits all of them. The network that the
others run is the plain one, exported with its normalisation; both fold and fuse it themselves. Rates are those of
encoding alone, without decoding. `cosine` is the smallest one between an image's features and torch's.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.extraction import photos_of
from benchmarks.show import Table, show
from labeldep_cli.errors import LabeldepError
from labeldep_cli.features.decode import decode_here
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.models.backbones import find_backbone
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.loading import load_backbone
from labeldep_cli.models.onnx_engine import onnx_of
from labeldep_cli.models.weights import locate_weights
from labeldep_cli.progress import SilentReporter

REPEATS = 7
COUNT = 256
SLICE = 8  # images that pass together, as in torch's encoder on a CPU

TORCH, COMPILED = "torch", "torch, --compile"

Engine = Callable[[Tensor], NDArray[np.float32]]
"""uint8 [B, 3, side, side] -> features [B, F]."""


def command(
    images: Annotated[Path, typer.Option(help="Folder of photos.")],
    backbone: Annotated[str, typer.Option(help="As for extract.")] = "squeezenet1_1",
    weights: Annotated[str, typer.Option(help="As for extract.")] = "none",
    count: Annotated[int, typer.Option(min=SLICE, help="Photos.")] = COUNT,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each engine.")] = REPEATS,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Images a second that torch, ONNX Runtime and OpenVINO encode on this CPU, and how near their features are."""
    found = run(images, backbone, weights, count, repeats)
    rows = [
        [name, f"{one['rate']:.1f}", f"{one['over_torch']:.2f}", f"{one['cosine']:.7f}"]
        for name, one in found["engines"].items()
    ]
    title = f"{backbone}, {found['images']} photos, {found['threads']} threads, medians of {repeats}"
    show(found, [Table(title, ("engine", "images a second", "over torch", "smallest cosine"), rows)], json)


def run(folder: Path, backbone: str, weights: str, count: int, repeats: int) -> dict[str, Any]:
    """Measure the engines in turn.

    Args:
        folder: of photos.
        backbone, weights: as for extract.
        count: number of photos, rounded down to whole slices; fewer if the folder has fewer.
        repeats: measurements of each engine; one more warms it up.

    Returns:
        `engines`, by name: `rate` (images a second, median), `over_torch` (median of the ratios within a turn) and
        `cosine`; `images` and `threads`.

    Raises:
        LabeldepError: there are too few photos, or an engine is not installed.
    """
    row = find_backbone(backbone)
    loaded = load_backbone(row, locate_weights(row, weights), SilentReporter())
    plain = Encoder(loaded.module, row.mean, row.std).eval()
    paths = photos_of(folder, count // SLICE * SLICE)
    paths = paths[: len(paths) // SLICE * SLICE]
    pixels = decode_here(Path, [(path, (0,)) for path in paths], row.framing, USUAL_RULES).images[:, 0].contiguous()
    with tempfile.TemporaryDirectory() as place:
        engines = _engines(plain, pixels, Path(place) / "encoder.onnx")
        features = {name: _encoded(engine, pixels)[0] for name, engine in engines.items()}  # and the warm-up
        taken = [{name: _encoded(engine, pixels)[1] for name, engine in engines.items()} for _ in range(repeats)]
    own = features[TORCH]
    return {
        "backbone": backbone,
        "images": len(pixels),
        "threads": torch.get_num_threads(),
        "engines": {
            name: {
                "rate": len(pixels) / statistics.median(one[name] for one in taken),
                "over_torch": statistics.median(one[TORCH] / one[name] for one in taken),
                "cosine": float(_cosines(own, features[name]).min()),
            }
            for name in engines
        },
    }


def _engines(plain: Encoder, pixels: Tensor, file: Path) -> dict[str, Engine]:
    """The engines by name; the network is written to a file for those that read one."""
    try:
        import openvino
    except ImportError as error:
        raise LabeldepError(f"{error.name} is not installed", f"Install it: pip install {error.name}") from None
    threads = torch.get_num_threads()
    file.write_bytes(onnx_of(plain, pixels[:SLICE]))
    own, compiled, in_onnxruntime = (InferenceEncoder(plain) for _ in range(3))
    compiled.compile(pixels.shape[-1], print)
    in_onnxruntime.use_onnxruntime(pixels.shape[-1])
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    network = openvino.compile_model(openvino.Core().read_model(file), "CPU", settings)
    return {
        TORCH: lambda part: own(part).numpy(),
        COMPILED: lambda part: compiled(part).numpy(),
        "onnxruntime, --engine": lambda part: in_onnxruntime(part).numpy(),
        "openvino": lambda part: network({0: part.numpy()})[0].copy(),
    }


@torch.inference_mode()
def _encoded(engine: Engine, pixels: Tensor) -> tuple[NDArray[np.float32], float]:
    """Features [N, F], and the seconds that they took."""
    begun = time.perf_counter()
    parts = [engine(part) for part in torch.split(pixels, SLICE)]
    return np.concatenate(parts), time.perf_counter() - begun


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.asarray((a * b).sum(axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)))
