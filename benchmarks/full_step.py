"""The cost of an adversarial step in full mode: with D's features from the cache, and with less memory.

It uses random JPEG files of a photo's size and a small ResNet with random weights, and decodes in this process: time
and memory do not depend on the values. Memory is that of all tensors alive at the same time in a step, without weights
and optimizer state, counted from the results of every operation. An allocator's overhead comes on top.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmarks.show import Table, show
from labeldep_cli.config import AdversarialConfig, ExtractConfig, Machine, Source, Workspace
from labeldep_cli.inputs.images import ImageInputs
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.features import ensure_features
from labeldep_cli.projects.inputs import ensure_inputs
from labeldep_cli.projects.open import open_project
from labeldep_cli.projects.project import Project
from labeldep_cli.training.adversarial_step import AdversarialStep

BACKBONE, IMAGES, LABELS, PIXELS = "resnet18", 32, 20, (500, 375)
TIMED, MEASURED = 8, 32  # rows of a batch, for time and for memory: the second is the mode's own default
REPEATS = 5
WAYS: Mapping[str, tuple[bool, int, bool]] = {
    "D's images pass the CNN": (False, 1, False),
    "D's features from the cache": (True, 1, False),
    "and --accumulate 4": (True, 4, False),
    "and --checkpoint-activations": (True, 1, True),
    "and both": (True, 4, True),
}
"""The variants: D reads the cache, a batch in parts, activations computed again."""


def command(json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """What an adversarial step of full mode costs: time, decoded images, memory."""
    found = run()
    rows = [
        [name, f"{way['seconds']:.2f}", f"{way['ratio']:.2f}", str(way["decoded"]), f"{way['peak_bytes'] / 1e6:.0f}"]
        for name, way in found["ways"].items()
    ]
    title = (
        f"one step of {BACKBONE}, batches of {TIMED} images of {PIXELS[0]} x {PIXELS[1]} pixels; memory: of {MEASURED}"
    )
    show(found, [Table(title, ("", "seconds", "of the first", "images decoded", "peak MB"), rows)], json)


def run() -> dict[str, Any]:
    """Time steps of every variant, alternating between them.

    Returns:
        For each: median seconds of REPEATS steps, its ratio to the first, images decoded a step, and the most bytes
        that a step holds at once (of one critic update, since these follow each other).
    """
    with tempfile.TemporaryDirectory() as folder:
        project = _project(Path(folder))
        steps = {name: _Stepping(project, TIMED, *way) for name, way in WAYS.items()}
        taken: dict[str, list[float]] = {name: [] for name in WAYS}
        for repeat in range(REPEATS + 1):  # the first round warms up
            for name, stepping in steps.items():
                seconds = stepping()
                if repeat:
                    taken[name].append(seconds)
        ways = {}
        for name, stepping in steps.items():
            seconds = statistics.median(taken[name])
            ratio = seconds / statistics.median(taken[next(iter(WAYS))])
            decoded = stepping.decoded // (REPEATS + 1)
            ways[name] = {"seconds": seconds, "ratio": ratio, "decoded": decoded}
        del steps
        for name, way in WAYS.items():
            stepping = _Stepping(project, MEASURED, *way, critic_steps=1)
            stepping()  # creates the optimizers' state
            ways[name]["peak_bytes"] = peak_bytes(stepping)
    settings = {"backbone": BACKBONE, "batch": TIMED, "batch_of_peak": MEASURED, "repeats": REPEATS}
    return {**settings, "threads": torch.get_num_threads(), "device": str(project.device), "ways": ways}


def _project(folder: Path) -> Project:
    """A data set of random images, and its cache of all views."""
    random = np.random.default_rng(0)
    lines = ["path,split," + ",".join(f"label {k}" for k in range(LABELS))]
    splits = ["train"] * IMAGES + ["val", "test"]  # every data set needs these two; they are not used
    for row, split in enumerate(splits):
        coarse = Image.fromarray(random.integers(0, 256, (30, 40, 3), dtype=np.uint8))
        coarse.resize(PIXELS, Image.Resampling.BICUBIC).save(folder / f"{row}.jpg", quality=90)
        lines.append(f"{row}.jpg,{split}," + ",".join(map(str, random.integers(0, 2, LABELS))))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    source = Source(str(folder / "labels.csv"), BACKBONE, "none")
    project = open_project(Workspace(folder, folder), source, Machine(workers=0), SilentReporter())
    ensure_features(project, "train", ExtractConfig(views=21))
    return project


class _Stepping:
    """Steps of a fresh pair of networks, one a call."""

    def __init__(
        self,
        project: Project,
        batch: int,
        cached: bool,
        accumulate: int,
        checkpointed: bool,
        critic_steps: int = AdversarialConfig.critic_steps,
    ) -> None:
        inputs = ensure_inputs(project, "train", full=True, views=None)
        cache = project.finished_cache("train", 21)
        assert isinstance(inputs, ImageInputs) and isinstance(inputs.encoder, InferenceEncoder) and cache is not None
        if cached:
            inputs.read_z_from(cache)
        config = AdversarialConfig(
            full=True, batch_size=batch, accumulate=accumulate, critic_steps=critic_steps
        ).resolved()
        encoder = inputs.encoder.trainable_copy(False, checkpointed)
        head = seeded_head("linear", inputs.feature_dim, LABELS, 0, 0)
        generator = Generator(encoder, head).to(project.device)
        shape = (config.critic_depth, config.critic_width, config.critic_projection, config.leaky_slope)
        critic = Discriminator(LABELS, inputs.feature_dim, *shape).to(project.device)
        self._step = AdversarialStep(generator, critic, inputs, config)
        self._batches = self._counted(inputs)
        self._numbers = count()
        self.decoded = 0

    def _counted(self, inputs: ImageInputs) -> Iterator[Any]:
        for batches in inputs.stream(self._step.requests(0)):
            self.decoded += sum(len(batch.x) for batch in batches)
            yield batches

    def __call__(self) -> float:
        """Make one update; returns seconds."""
        begun = time.perf_counter()
        told = self._step(next(self._numbers), self._batches)
        assert torch.stack(list(told.values())).isfinite().all()  # reads the values, so that a GPU has finished
        return time.perf_counter() - begun


def peak_bytes(task: Callable[[], object]) -> int:
    """The maximum number of bytes that the tensors created by a task hold at the same time."""
    alive = _Alive()
    with alive:
        task()
    return alive.peak


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the storages that operations create, as long as they live; in-place updates of optimizers create none."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        for tensor in tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                self._know(tensor, 0)  # made before the task, or counted already
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._know(tensor, tensor.untyped_storage().nbytes())
        return made

    def _know(self, tensor: Tensor, size: int) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._known:
            self._known.add(key)
            self._now += size
            self.peak = max(self.peak, self._now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
