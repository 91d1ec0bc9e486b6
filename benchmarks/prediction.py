"""`labeldep predict` compared with `labeldep extract` on the same files, and `--stdin-json` with a plain forward pass.

Both read, decode and encode the same images with the same network; `predict` also decides on the labels and prints
them. Rates are measured after the first batch, each in a separate process, alternately. The time of a request covers
everything: writing a line to a running process, decoding, the network, and reading the answer. After each request, one
decoded image passes the same network in this process.
"""

from __future__ import annotations

import json as json_
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.extraction import BATCH, Task, circumstances, extract_rate, median_ratio, photos_of, rates_in_turn
from benchmarks.show import Table, show
from labeldep_cli.config import DecisionConfig, ExtractConfig, Machine, PretrainConfig, RunWorkspace, Source, Workspace
from labeldep_cli.errors import LabeldepError
from labeldep_cli.experiments.train import pretrain
from labeldep_cli.features.decode import decode_here
from labeldep_cli.labelling.labeller import open_labeller
from labeldep_cli.labelling.prediction import Prediction
from labeldep_cli.pipelines.predict import predict
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.claims import Job
from labeldep_cli.runs.find import open_run

_RUN = "LABELDEP_BENCHMARK_RUN"
_LABELS, _TRAINED = 20, 40  # of the run that predicts: labels, and images that it is trained on


def command(
    images: Annotated[Path, typer.Option(help="A folder of photos.")],
    backbone: Annotated[str, typer.Option(help="Any that extract takes.")] = "resnet50",
    weights: Annotated[str, typer.Option(help="As for extract.")] = "none",
    count: Annotated[int, typer.Option(min=8 * BATCH, help="Images a measurement.")] = 512,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each; their median is told.")] = 5,
    requests: Annotated[int, typer.Option(min=10, help="Requests; their median is told.")] = 200,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Prediction compared with extraction, and a request with a forward pass."""
    found = run(images, backbone, weights, count, repeats, requests)
    rates = [
        [name, f"{row['images_per_second']:.1f}", f"{row['over_extract']:.3f}", f"{row['peak_mb']:.0f}"]
        for name, row in found["measured"].items()
    ]
    title = f"{backbone}, {found['images']} images, {found['workers']} workers, {found['threads']} threads"
    times = [[f"{found[name]:.2f}" for name in ("request_ms", "forward_ms", "request_over_forward")]]
    show(
        found,
        [
            Table(title, ("", "images a second", "over extract", "peak MB"), rates),
            Table("--stdin-json", ("a request, ms", "a forward pass, ms", "ratio"), times, words=0),
        ],
        json,
    )


def run(folder: Path, backbone: str, weights: str, count: int, repeats: int, requests: int) -> dict[str, Any]:
    """Measure both.

    Args:
        folder: a folder of photos.
        backbone, weights: as for extract.
        count: images per measurement; fewer if the folder has fewer.
        repeats: measurements of each rate.
        requests: number of requests to the running process.

    Returns:
        Under `measured` images per second, the ratio to extract and peak MB (of the process and its workers; memory
        that they share is counted once per process), for extract and for predict on a quarter and on all of the images;
        `request_ms`, `forward_ms` and `request_over_forward`, medians.

    Raises:
        LabeldepError: there are too few images.
    """
    paths = photos_of(folder, count)
    workers = Machine().n_workers
    task = Task(backbone, weights, paths, ExtractConfig(), workers)
    quarter = Task(backbone, weights, paths[: len(paths) // 4], ExtractConfig(), workers)
    with tempfile.TemporaryDirectory() as place:
        os.environ[_RUN] = made = str(_train(Path(place), task))
        rates, peaks = rates_in_turn(
            {
                "extract": (extract_rate, task),
                "predict": (_predict, task),
                "predict, a quarter of the images": (_predict, quarter),
            },
            repeats,
        )
        request_times, forward_times = _requests(made, paths, requests)
    return {
        **circumstances(task, repeats),
        "measured": {
            name: {
                "images_per_second": statistics.median(rates[name]),
                "over_extract": median_ratio(rates[name], rates["extract"]),
                "peak_mb": statistics.median(peaks[name]),
            }
            for name in rates
        },
        "requests": requests,
        "request_ms": 1000 * statistics.median(request_times),
        "forward_ms": 1000 * statistics.median(forward_times),
        "request_over_forward": statistics.median(request_times) / statistics.median(forward_times),
    }


def _train(place: Path, task: Task) -> Path:
    """A run to predict with; its quality does not matter here."""
    table = place / "labels.csv"
    rows = [
        f'"{path}",{"val" if k % 4 == 0 else "train"},' + ",".join(str((k + column) % 2) for column in range(_LABELS))
        for k, path in enumerate(task.paths[:_TRAINED])
    ]
    header = "path,split," + ",".join(f"label {column}" for column in range(_LABELS))
    table.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    source = Source(str(table), task.backbone, task.weights, test_fraction=0.0)
    workspace = Workspace(place, place / "runs")
    return pretrain(workspace, source, Machine("cpu"), PretrainConfig(steps=2), Job(), SilentReporter()).folder


def _predict(task: Task) -> float:
    """Images per second, counted as `extract` does: from the end of the first batch."""
    begun = 0.0
    made, machine = os.environ[_RUN], Machine("cpu", task.workers)
    for number, one in enumerate(
        predict(RunWorkspace(), made, machine, DecisionConfig(), None, list(task.paths), SilentReporter())
    ):
        if not isinstance(one, Prediction):
            raise LabeldepError(f"{one.path}: {one.reason}", "Give photos that can be read.")
        if number == BATCH - 1:
            begun = time.perf_counter()
    return (len(task.paths) - BATCH) / (time.perf_counter() - begun)


def _requests(run: str, paths: Sequence[str], count: int) -> tuple[list[float], list[float]]:
    """Seconds of each request to a running process, and of as many forward passes in this process, alternately."""
    labeller = open_labeller(open_run(run, Path()), Machine("cpu"), DecisionConfig(), None, SilentReporter())
    command = [sys.executable, "-m", "labeldep_cli", "predict", "--stdin-json", "--run", run, "--device", "cpu"]
    request_times, forward_times = [], []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as process:
        if process.stdin is None or process.stdout is None:
            raise ValueError("the pipes were asked for")
        for k in range(count + 1):  # the first one waits for the other process to be ready
            path = paths[k % len(paths)]
            begun = time.perf_counter()
            process.stdin.write(json_.dumps({"path": path}) + "\n")
            answer = json_.loads(process.stdout.readline())
            request_times.append(time.perf_counter() - begun)
            if "labels" not in answer:
                raise LabeldepError(f"{path}: {answer}", "Give photos that can be read.")
            image = decode_here(Path, [(path, (0,))], labeller.square, labeller.rules).images[:, 0]
            with torch.inference_mode():
                begun = time.perf_counter()
                labeller.generator(image)
                forward_times.append(time.perf_counter() - begun)
        process.stdin.close()
    return request_times[1:], forward_times[1:]
