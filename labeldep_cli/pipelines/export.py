"""`labeldep export`: write a run as one file that works without labeldep, and compare its outputs with the run's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from labeldep_cli.compute.versions import versions
from labeldep_cli.config import DecisionConfig, ExportFormat, Machine, RunWorkspace
from labeldep_cli.datasets import registry
from labeldep_cli.datasets.split import Split
from labeldep_cli.errors import DatasetError, LabeldepError, StorageError
from labeldep_cli.evaluation.evaluate import probabilities
from labeldep_cli.evaluation.thresholds import DEFAULT_THRESHOLD
from labeldep_cli.features.decode import decode
from labeldep_cli.files import atomic_write, make_folder, sha256
from labeldep_cli.labelling.labeller import open_labeller
from labeldep_cli.models.export import FORMATS, OPSET, OUTPUTS, Exported, FileFormat, trace
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.progress import Reporter, SilentReporter
from labeldep_cli.runs.decisions import confidence_facts, temperature_of
from labeldep_cli.runs.find import open_and_announce
from labeldep_cli.runs.run import Run
from labeldep_cli.text import json_text

TOLERANCE = 1e-4
"""Maximum difference between the file's probabilities and the run's own."""

_FORMAT = 1
_CHECKED = 32
_MARGINALS = (
    "marginals: p of each label, summed over the head's distribution over label sets; "
    "the most probable set is not in the file"
)


@dataclass(frozen=True)
class Export:
    """A written file.

    Attributes:
        folder: folder of the run.
        path: path of the file.
        format: onnx or torch.
        size: bytes.
        facts: the file's metadata.
        checked: number of rows on which file and run were compared.
        rows: where these rows come from, in words.
        difference: the largest difference between a probability of the file and one of the run.
    """

    folder: Path
    path: Path
    format: ExportFormat
    size: int
    facts: dict[str, Any]
    checked: int
    rows: str
    difference: float

    @property
    def opset(self) -> int | None:
        """The ONNX operator set version; None for torch."""
        return OPSET if self.format == "onnx" else None

    def to_json(self) -> dict[str, Any]:
        """One object."""
        return {
            "run": str(self.folder),
            "file": str(self.path),
            "format": self.format,
            "opset": self.opset,
            "bytes": self.size,
            "checked": {"rows": self.checked, "from": self.rows, "max_difference": self.difference},
            **self.facts,
        }


def export(
    run_workspace: RunWorkspace,
    run_name: str | None,
    kind: ExportFormat,
    out: Path | None,
    weights: str | None,
    reporter: Reporter,
) -> Export:
    """Write a run's generator, from 8-bit images (or ready features) to probabilities, as one file.

    Args:
        run_workspace: the folder of the runs, and the data set to compare on.
        run_name: as `find_run` takes it; None for the newest run.
        kind: format of the file.
        out: path of the file; None for the run's name in the current folder.
        weights: a path that replaces the recorded one.
        reporter: takes notes.

    Raises:
        LabeldepError: there is no such run or named data set, packages are missing, the format does not support the
            network, or the file's probabilities differ from the run's. No file is written then.
        StorageError: the file cannot be written.
    """
    run = open_and_announce(run_name, run_workspace, reporter)
    file_format = FORMATS[kind]
    path = out or Path(f"{run.folder.resolve().name}{file_format.suffix}")
    generator = _generator(run, weights, reporter)
    model = Exported(generator)
    file_format.require(model)
    x, rows = _examples(run, run_workspace.dataset, reporter)
    facts = _facts(run, x)
    program = trace(model, torch.zeros((2, *x.shape[1:]), dtype=torch.from_numpy(x).dtype))
    content = file_format.write(program, facts["input"]["name"], json_text(facts))
    difference = _difference(generator, file_format, content, x)
    if not difference <= TOLERANCE:  # written like this, NaN is refused too
        raise LabeldepError(
            f"the {kind} file's probabilities differ from the run's by up to {difference:.2g} over {len(x)} {rows}, "
            f"more than {TOLERANCE:g}; {path} was not written",
            f"Use --format {'torch' if kind == 'onnx' else 'onnx'}, or other versions of torch and onnxruntime.",
        )
    make_folder(path.parent)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)
    return Export(run.folder, path, kind, len(content), facts, len(x), rows, difference)


def _generator(run: Run, weights: str | None, reporter: Reporter) -> Generator:
    """The generator that `predict` uses, on the CPU and in float32."""
    if run.has_features:
        return run.generator(torch.device("cpu"))
    generator = open_labeller(run, Machine(device="cpu"), DecisionConfig(), weights, reporter).generator
    encoder = generator.encoder
    if isinstance(encoder, InferenceEncoder) and encoder.dtype != encoder.plain.scale.dtype:
        reporter.note(f"the run computes in {encoder.compute_dtype}; the file, and this comparison, use float32")
        generator.encoder = InferenceEncoder(encoder.plain)
    return generator


@torch.inference_mode()
def _difference(generator: Generator, file_format: FileFormat, content: bytes, x: NDArray[Any]) -> float:
    """The largest difference between probabilities. The file gets one row alone, then the others as one batch."""
    expected = probabilities(generator(torch.from_numpy(x)).float().numpy())
    actual = np.concatenate([file_format.run(content, part) for part in (x[:1], x[1:]) if len(part)])
    return float(np.abs(expected - actual).max())


def _examples(run: Run, dataset: str | None, reporter: Reporter) -> tuple[NDArray[Any], str]:
    """Rows to compare on: the first ones of the test split, or random numbers if the run's data set is missing.

    Args:
        run: the run.
        dataset: the data set; None for the run's own.
        reporter: takes notes.

    Raises:
        DatasetError: the given data set is missing.

    Returns:
        Images uint8 [n, 3, side, side] or features float32 [n, F]; where they come from, in words.
    """
    source = run.source()
    try:
        source = replace(source, dataset=dataset or source.dataset)
        split = registry.load_source(source, Path(run.config["data_dir"]), SilentReporter()).splits["test"]
        rows = _rows(run, split)
    except (DatasetError, StorageError):
        if dataset is not None:
            raise
        rows = None
    if rows is not None and len(rows):
        kind = "feature rows" if run.has_features else "images"
        return rows, f"{kind} of {'its' if dataset is None else 'that'} test split"
    reporter.note(f"the data set {source.dataset} is not available: comparing on random numbers")
    numbers = np.random.default_rng(0)
    if run.has_features:
        return numbers.standard_normal((_CHECKED, run.facts["feature_dim"]), dtype=np.float32), "random feature rows"
    side = run.row.side
    return numbers.integers(0, 256, (_CHECKED, 3, side, side), dtype=np.uint8), "random images"


def _rows(run: Run, split: Split) -> NDArray[Any] | None:
    """The first rows of a split; None if features have another width, or if no image can be read."""
    n = min(len(split), _CHECKED)
    if run.has_features:
        block = next(split.subset("test", np.arange(n)).feature_blocks(), None)
        return block if block is not None and block.shape[1] == run.facts["feature_dim"] else None
    batches = [[(row, (0,)) for row in range(n)]] if n else []
    for decoded in decode(split.file, batches, run.row.framing, run.rules, workers=0, draft=run.jpegs == "draft"):
        if not decoded.reasons.all():
            return np.ascontiguousarray(decoded.images[decoded.reasons == 0][:, 0].numpy())
    return None


def _facts(run: Run, x: NDArray[Any]) -> dict[str, Any]:
    """The file's metadata: how to use it, and where it comes from. It contains no path and no time."""
    return {
        "format": _FORMAT,
        "labels": list(run.space.names),
        "thresholds": {"default": DEFAULT_THRESHOLD, **run.facts["thresholds"]},
        "input": {
            "name": "features" if run.has_features else "images",
            "dtype": str(x.dtype),
            "shape": ["N", *x.shape[1:]],
            "preprocessing": _preprocessing(run),
        },
        "outputs": list(OUTPUTS),
        "confidence": _confidence(run),
        "backbone": run.facts["backbone"],
        "head": run.head_kind,
        **({"probabilities": _MARGINALS} if run.joint else {}),
        "dataset": run.config["dataset"]["name"],
        "provenance": {
            "stage": run.facts["stage"],
            "full": run.full,
            "step": run.facts["step"],
            "seed": run.facts["seed"],
            "weights_sha256": run.facts["weights_sha256"],
            "labels_sha256": run.space.fingerprint,
            "checkpoint_sha256": sha256(run.best),
            "versions": versions(),
        },
    }


def _confidence(run: Run) -> dict[str, Any]:
    """How to compute the confidence of a set from the file's outputs, for labels that are independent."""
    decision = DecisionConfig()
    facts = confidence_facts(decision, run)
    return {
        "temperature": temperature_of(decision, run),
        "calibrated": facts is not None and facts["why"] is None,
        "formula": "the product over all labels of q for a label in the set and 1 - q for one that is not, "
        "with q = sigmoid(logit / temperature)",
        "critic": "the confidence of a set that a critic chose needs the run: labeldep predict --decision rerank",
    }


def _preprocessing(run: Run) -> str:
    if run.has_features:
        return "ready features, as they were trained on"
    framing, rules = run.row.framing, run.rules
    scaled = (
        f"values {rules.value_range} of pixels with more than 8 bits scaled to 0,255, " if rules.value_range else ""
    )
    least = framing.scaled_side
    decoded = {
        "full": "",
        "draft": f"JPEGs decoded at reduced scale (Image.draft(None, ({least}, {least}))), ",
        "gpu": "JPEGs decoded by nvJPEG (Pillow's differ a little), ",
    }[run.jpegs]
    return (
        f"Pillow: {decoded}{scaled}transparency composed on {rules.background}, EXIF rotation applied, "
        f"converted to RGB, {framing.steps(rules.background)}, channels first; the mean and deviation are inside"
    )
