"""The cost of head mode by the number of rows: time of a step, time of an epoch per row, peak memory; also streamed.

Rows of 2048 features are stored in caches as `extract` writes them. The features are simulated (seeded normal numbers;
the time does not depend on them). The label matrices are those of COCO's train2014 (82,081 rows of 80 labels) and of
NUS-WIDE (269,648 of 81) if they are on the disk, else they are simulated too. Each measurement is a separate process,
so that its peak memory can be measured; sizes alternate. It trains with the package's `fit`: the step of `adversarial`
(3 critic updates, 1 of G) and an epoch of `pretrain`, default settings. Start-up (imports, opening the cache, reading
it if features are resident, first steps) is not timed. Besides the wall time, the CPU time of all threads of the
process is given: it varies less on a machine with other load.
"""

from __future__ import annotations

import json as jsons
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.show import Table, show
from labeldep_cli.cli.flags import read_size
from labeldep_cli.config import AdversarialConfig, PretrainConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.features.coverage import Coverage, SplitFiles
from labeldep_cli.features.store.kind import FeatureKind
from labeldep_cli.features.store.segment import CONTENT
from labeldep_cli.features.store.store import FeatureStore
from labeldep_cli.features.store.write import Appender
from labeldep_cli.inputs.batches import Batch, Inputs
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.streamed import StreamedInputs, blocks_within
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.progress import SilentReporter
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.fit import Schedule, fit
from labeldep_cli.training.steps import LogisticStep, Step

WIDTH = 2048
_KIND = FeatureKind("none", "0" * 64, "simulated", "float32")
_LABELS = "labels.npy"
VAL = 256  # rows; the evaluation is not timed
REPEATS = 5
WARM_UP = 20  # steps of pretraining before the epoch that is timed
FILES = {82_081: "coco_train2014.npz", 269_648: "nuswide_all.npz"}
LABELS = Path(__file__).parents[2] / "shared" / "data" / "labels"
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Task:
    """One measurement: a cache, the memory for its features (None: resident), the adversarial steps that are timed."""

    path: str
    val: str
    memory: int | None
    steps: int


def command(
    rows: Annotated[str, typer.Option(help="Numbers of rows, between commas.")] = "10000,82081,269648",
    max_memory: Annotated[str, typer.Option(help="For the largest case, streamed.")] = "300MB",
    steps: Annotated[int, typer.Option(min=2, help="Adversarial steps that are timed.")] = 40,
    repeats: Annotated[int, typer.Option(min=1, help="Measurements of each case.")] = REPEATS,
    labels: Annotated[Path, typer.Option(help="Folder of coco_train2014.npz and nuswide_all.npz.")] = LABELS,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Cost by size: step and epoch time, peak memory, at several numbers of rows; the largest one streamed too."""
    found = run([int(n) for n in rows.split(",")], read_size(max_memory), steps, repeats, labels)
    title = f"{WIDTH} features a row, medians of {repeats}; {found['threads']} threads"
    show(found, [Table(title, ("rows", "features MB", *_COLUMNS), _rows(found), words=1), _ratios(found)], json)


def run(sizes: list[int], memory: int, steps: int, repeats: int, labels: Path) -> dict[str, Any]:
    """Measure every size resident, and the largest streamed, in turn.

    Returns:
        A record for each case: medians of `adversarial_step` (the median step, seconds), `adversarial_mean` (its mean),
        `pretrain_row` (an epoch's seconds a row), the latter two as `..._cpu` too, and `beyond` (bytes of peak memory
        beyond the features that are held).
    """
    with tempfile.TemporaryDirectory() as folder:
        tasks: dict[str, Task] = {}
        cases: dict[str, dict[str, Any]] = {}
        for n in sizes:
            matrix, told = _labels(n, labels)
            train, val = (Path(folder) / f"scale{n}-{split}" for split in ("train", "val"))
            write_cache(train, matrix, seed=n)
            write_cache(val, matrix[:VAL], seed=n + 1)
            size = 2 * WIDTH * n
            cases[str(n)] = {"rows": n, "labels": told, "memory": None, "feature_bytes": size}
            tasks[str(n)] = Task(str(train), str(val), None, steps)
        largest = str(max(sizes))
        cases["streamed"] = {**cases[largest], "memory": memory}
        tasks["streamed"] = Task(tasks[largest].path, tasks[largest].val, memory, steps)
        taken: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
        for _ in range(repeats):
            for name, task in tasks.items():
                taken[name].append(_in_a_process(task))
                print(f"{name}: {taken[name][-1]}", file=sys.stderr)
    for name, measured in taken.items():
        held = cases[name]["feature_bytes"] if cases[name]["memory"] is None else memory
        cases[name] |= {key: statistics.median(one[key] for one in measured) for key in measured[0]}
        cases[name]["beyond"] = cases[name]["peak"] - held
    return {"width": WIDTH, "threads": torch.get_num_threads(), "cases": cases, "ratios": ratios(cases)}


def ratios(cases: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Slowest over fastest resident size; streamed over the largest resident one."""

    def over(key: str) -> float:
        return float(streamed[key] / largest[key])

    resident = [case for name, case in cases.items() if name != "streamed"]
    streamed, largest = cases["streamed"], max(resident, key=lambda case: int(case["rows"]))

    def spread(key: str) -> float:
        values = [float(case[key]) for case in resident]
        return max(values) / min(values)

    return {
        "adversarial_step_by_size": spread("adversarial_step"),
        "adversarial_step_by_size_cpu": spread("adversarial_mean_cpu"),
        "pretrain_row_by_size": spread("pretrain_row"),
        "pretrain_row_by_size_cpu": spread("pretrain_row_cpu"),
        "adversarial_streamed": over("adversarial_mean"),
        "adversarial_streamed_cpu": over("adversarial_mean_cpu"),
        "pretrain_streamed": over("pretrain_row"),
        "pretrain_streamed_cpu": over("pretrain_row_cpu"),
    }


def write_cache(folder: Path, labels: NDArray[np.int8], seed: int) -> None:
    """Write a store of simulated features, as `extract` does, and their labels."""
    n = len(labels)
    store = FeatureStore(folder, _KIND)
    store.create()
    np.save(folder / _LABELS, labels)
    appender = Appender(folder, "test", n, (WIDTH,), _KIND, {})
    random, contents = np.random.default_rng(seed), _contents(n)
    for start in range(0, n, 4096):
        rows = slice(start, min(start + 4096, n))
        features = random.standard_normal((rows.stop - start, 1, WIDTH), dtype=np.float32).astype(np.float16)
        appender.append(contents[rows], features, np.zeros(len(features), np.uint8))
    appender.finish()


def _contents(n: int) -> NDArray[np.bytes_]:
    """Placeholders for the images of n rows."""
    return np.array([b"%032d" % (row + 1) for row in range(n)], CONTENT)


def read_cache(folder: Path) -> FeatureCache:
    """The features that `write_cache` has written, joined with their labels."""
    labels = np.load(folder / _LABELS)
    n, width = labels.shape
    space = LabelSpace(tuple(f"label {k}" for k in range(width)))
    split = Split("train", tuple(f"{row}.jpg" for row in range(n)), labels, space, folder)
    files = SplitFiles(_contents(n), np.ones(n, bool))
    return Coverage.of(FeatureStore(folder, _KIND), split, files, {}).cache((WIDTH,))


def measure(task: Task) -> dict[str, float]:
    """Train on a cache with the package's loop, and time its steps."""
    with tempfile.TemporaryDirectory() as folder:
        train, val = _inputs(task.path, task.memory), _inputs(task.val, None)
        n = len(train.labels)
        pretrain = PretrainConfig().resolved()
        per_epoch = -(-n // pretrain.rows_per_batch)
        ends = _fit(
            LogisticStep(_generator(train), train, pretrain), train, val, per_epoch + WARM_UP, Path(folder, "p")
        )
        epoch = ends[-1].since(ends[WARM_UP - 1])
        config = AdversarialConfig(head="linear", hidden=0).resolved()
        critic = Discriminator(
            len(train.space),
            train.feature_dim,
            config.critic_depth,
            config.critic_width,
            config.critic_projection,
            config.leaky_slope,
        )
        step = AdversarialStep(_generator(train), critic, train, config)
        ends = _fit(step, train, val, task.steps + 1, Path(folder, "a"))  # the first one warms up
        seconds = [after.wall - before.wall for before, after in pairwise(ends)]
        whole = ends[-1].since(ends[0])
    return {
        "pretrain_row": epoch.wall / n,
        "pretrain_row_cpu": epoch.cpu / n,
        "adversarial_step": statistics.median(seconds),
        "adversarial_mean": whole.wall / task.steps,
        "adversarial_mean_cpu": whole.cpu / task.steps,
        "peak": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


class _Moment(NamedTuple):
    """Wall time and CPU time of the process, in seconds."""

    wall: float
    cpu: float

    def since(self, other: _Moment) -> _Moment:
        return _Moment(self.wall - other.wall, self.cpu - other.cpu)


class _Timed:
    """A step that records when each of its updates ends."""

    def __init__(self, step: Step[Sequence[Batch]]) -> None:
        self.step = step
        self.order, self.requests = step.order, step.requests
        self.networks, self.optimizers = step.networks, step.optimizers
        self.quality, self.test_weights = step.quality, step.test_weights
        self.ends: list[_Moment] = []

    def __call__(self, step: int, batches: Iterator[Sequence[Batch]]) -> Mapping[str, Tensor]:
        told = self.step(step, batches)
        self.ends.append(_Moment(time.perf_counter(), time.process_time()))
        return told


def _fit(step: LogisticStep | AdversarialStep, train: Inputs, val: Inputs, steps: int, folder: Path) -> list[_Moment]:
    folder.mkdir()
    timed = _Timed(step)
    schedule = Schedule(steps, steps)  # evaluated before the first step and after the last
    fit(timed, step.generator, train, val, schedule, folder, {"stage": "scale", "full": False}, SilentReporter())
    return timed.ends


def _inputs(path: str, memory: int | None) -> Inputs:
    cache = read_cache(Path(path))
    blocks = None if memory is None else blocks_within(memory, len(cache.usable), cache.row_bytes(1))
    if blocks is None:
        return FeatureInputs.of_cache(cache, 1, False, CPU)
    return StreamedInputs(cache, 1, False, CPU, blocks)


def _generator(train: Inputs) -> Generator:
    return Generator(nn.Identity(), seeded_head("linear", train.feature_dim, len(train.space), 0, seed=0))


def _labels(n: int, folder: Path) -> tuple[NDArray[np.int8], str]:
    """A label matrix [n, L] and its source: the smallest real matrix with at least n rows."""
    for rows, name in FILES.items():
        if n <= rows and (folder / name).is_file():
            return np.load(folder / name)["Y"][:n].astype(np.int8), name
    return (np.random.default_rng(n).random((n, 80)) < 0.036).astype(np.int8), "simulated"


def _in_a_process(task: Task) -> dict[str, float]:
    words = [sys.executable, "-m", "benchmarks.scale", jsons.dumps(asdict(task))]
    found: dict[str, float] = jsons.loads(subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout)
    return found


_COLUMNS = ("labels", "held MB", "adversarial step ms", "CPU ms", "pretrain us a row", "CPU us", "memory beyond MB")


def _rows(found: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for case in found["cases"].values():
        held = case["feature_bytes"] if case["memory"] is None else case["memory"]
        adversarial = (1e3 * case[key] for key in ("adversarial_step", "adversarial_mean_cpu"))
        pretrain = (1e6 * case[key] for key in ("pretrain_row", "pretrain_row_cpu"))
        bytes_ = (f"{case['feature_bytes'] / 1e6:.0f}", case["labels"], f"{held / 1e6:.0f}")
        times = (f"{taken:.1f}" for taken in (*adversarial, *pretrain))
        rows.append([str(case["rows"]), *bytes_, *times, f"{case['beyond'] / 1e6:.0f}"])
    return rows


def _ratios(found: Mapping[str, Any]) -> Table:
    told = {
        "adversarial_step_by_size": "adversarial step, slowest over fastest size",
        "pretrain_row_by_size": "pretrain time a row, slowest over fastest size",
        "adversarial_streamed": "adversarial step, streamed over resident",
        "pretrain_streamed": "pretrain time a row, streamed over resident",
    }
    values = found["ratios"]
    rows = [[text, f"{values[key]:.2f}", f"{values[f'{key}_cpu']:.2f}"] for key, text in told.items()]
    return Table("", ("ratio", "wall", "CPU"), rows)


if __name__ == "__main__":
    print(jsons.dumps(measure(Task(**jsons.loads(sys.argv[1])))))
