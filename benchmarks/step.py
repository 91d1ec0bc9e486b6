"""An adversarial iteration (3 critic updates, 1 of G) compared with the same mathematics in plain eager PyTorch.

The plain version is what one would write from the paper: three forward passes for the three batches, a fourth one for
the penalty through `autograd.grad(create_graph=True)`, `backward`, `torch.optim.Adam` with its defaults, and a loss
that is read after each update. Both use the same rows and noise, so they must give the same losses, which is checked.
Features and labels are simulated (seeded; the time does not depend on them). The operations of matrix products are
counted while they run, and compared with the rate of this machine's matrix product, measured in the same run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.show import Table, show
from benchmarks.timing import in_turn, matmul_rate, memory_rate
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.inputs.batches import Stream
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.models.discriminator import Discriminator, seeded_critic
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.base import Head
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.training import losses
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.draws import epoch_rows, mismatched_rows, random_rows, uniform
from labeldep_cli.training.graphed_step import GraphedStep
from labeldep_cli.training.steps import Step

ROWS, FEATURES, LABELS, BATCH = 10_000, 2048, 80, 128
REPEATS = 15
COMPARED = 3
"""Number of iterations whose losses are compared, starting from the same weights."""

Given = TypeVar("Given")


def command(
    repeats: Annotated[int, typer.Option(min=1, help="Iterations that are timed.")] = REPEATS,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    graphs: Annotated[bool, typer.Option("--graphs", help="Also as CUDA graphs (with --device cuda).")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """An adversarial step compared with the same mathematics in plain eager PyTorch, and with the machine's limits."""
    if graphs and torch.device(device).type != "cuda":
        raise typer.BadParameter("graphs need --device cuda", param_hint="--graphs")
    found = run(repeats, torch.device(device), graphs)
    rows = [
        [
            name,
            f"{1000 * found['seconds'][name]:.1f}",
            f"{found['operations'][name] / 1e9:.2f}",
            f"{found['at_the_rate'][name]:.2f}",
        ]
        for name in found["seconds"]
    ]
    title = (
        f"batch {BATCH}, {LABELS} labels, {FEATURES} features, {found['threads']} threads; plain / labeldep "
        f"{found['ratio']:.2f}; losses differ by {found['difference']:.1e} at most"
    )
    show(found, [Table(title, ("", "ms", "GFLOP", "of the matrix product's rate"), rows)], json)


def run(repeats: int, device: torch.device, graphs: bool = False) -> dict[str, Any]:
    """Time both, alternately; with `graphs` the package's step also as CUDA graphs.

    Returns:
        Median `seconds` of an iteration and their `ratio`, `operations` of each, the share of the matrix product's rate
        that these make (`at_the_rate`), that rate and the memory's, and the largest `difference` of losses,
        relative to those above 1.
    """
    tasks: dict[str, Plain | Labeldep] = {"plain": Plain(device), "labeldep": Labeldep(device)}
    if graphs:
        tasks["graphs"] = Labeldep(device, graphs=True)
    rounds = [{name: task() for name, task in tasks.items()} for _ in range(COMPARED)]
    difference = max(
        abs(found[other][name] - value) / max(abs(value), 1.0)
        for found in rounds
        for name, value in found["plain"].items()  # labeldep also records the critic's share
        for other in tasks
    )
    operations: dict[str, int] = {}
    for name, task in tasks.items():
        with Products() as counted:
            task()
        # A replay runs no operation of Python's; its kernels are those of the step.
        operations[name] = counted.operations or operations["labeldep"]
    seconds = in_turn({name: _finished(task, device) for name, task in tasks.items()}, repeats)
    rate = matmul_rate()
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "seconds": seconds,
        "ratio": seconds["plain"] / seconds["labeldep"],
        "operations": operations,
        "matmul_rate": rate,
        "memory_rate": memory_rate(),
        "at_the_rate": {name: operations[name] / seconds[name] / rate for name in tasks},
        "difference": difference,
    }


def _finished(task: Labeldep | Plain, device: torch.device) -> Callable[[], None]:
    """The task, followed by a wait for the GPU, whose work continues after the call."""

    def wait() -> None:
        task()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return wait


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the operations of matrix products; torch's FlopCounterMode does not pass `autograd.grad` on a leaf."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operations = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        """Run an operation and count it."""
        given = func(*args, **(kwargs or {}))
        if func._overloadpacket in flop_registry:
            self.operations += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=given)
        return given


def _data() -> tuple[NDArray[np.float16], NDArray[np.int8]]:
    random = np.random.default_rng(0)
    features = np.maximum(random.standard_normal((ROWS, FEATURES), dtype=np.float32), 0).astype(np.float16)
    return features, (random.random((ROWS, LABELS)) < 0.036).astype(np.int8)  # 2.9 labels an image, as COCO


def _networks() -> tuple[Head, Discriminator]:
    config = AdversarialConfig().resolved()
    head = seeded_head("linear", FEATURES, LABELS, 0, seed=0)
    return head, seeded_critic(LABELS, FEATURES, config.critic_shape, seed=0)


class Labeldep:
    """The package's step, on the package's inputs; with `graphs` its updates are recorded and replayed."""

    def __init__(self, device: torch.device, graphs: bool = False) -> None:
        features, labels = _data()
        space = LabelSpace(tuple(f"label {k}" for k in range(LABELS)))
        inputs = FeatureInputs(features[:, None], labels, [str(k) for k in range(ROWS)], space, (), device)
        head, critic = _networks()
        generator = Generator(nn.Identity(), head).to(device)
        self._step = AdversarialStep(generator, critic.to(device), inputs, AdversarialConfig(batch_size=BATCH))
        graphed = GraphedStep(self._step, inputs) if graphs else None
        self._iterations = _iterations(graphed, graphed.source) if graphed else _iterations(self._step, inputs)

    def __call__(self) -> dict[str, float]:
        """Make one iteration; returns its losses."""
        return {name: float(value) for name, value in next(self._iterations).items()}


def _iterations(step: Step[Given], source: Stream[Given]) -> Iterator[Mapping[str, Tensor]]:
    batches = source.stream(step.requests(0))
    for number in count():
        yield step(number, batches)


class Plain:
    """The paper's equations, written directly in eager PyTorch."""

    def __init__(self, device: torch.device) -> None:
        features, labels = _data()
        self.x = torch.from_numpy(features).to(device)
        self.labels = torch.from_numpy(labels)
        self.y = self.labels.float().to(device)
        self.config = config = AdversarialConfig(batch_size=BATCH).resolved()
        generator, critic = _networks()
        self.generator, self.critic = generator.to(device), critic.to(device)
        self.adam_g = torch.optim.Adam(
            self.generator.parameters(), lr=config.learning_rate, betas=(config.beta1, config.beta2)
        )
        self.adam_d = torch.optim.Adam(
            self.critic.parameters(), lr=config.critic_learning_rate, betas=(config.critic_beta1, config.critic_beta2)
        )
        self.number = 0

    def __call__(self) -> dict[str, float]:
        """Make one iteration; returns its losses."""
        told: dict[str, float] = {}
        for key in range(self.number * self.config.critic_steps, (self.number + 1) * self.config.critic_steps):
            told |= self._critic(key)
        rows = epoch_rows(ROWS, BATCH, 0, self.number)
        x, y = self.x[rows].float(), self.y[rows]
        logits = self.generator(x)
        fake = losses.gumbel_sigmoid(logits, self._noise(logits.shape, "generator noise", self.number), 0.9)
        fooling = -self.critic(fake, x).mean()  # Eq. 3
        logistic = nn.functional.binary_cross_entropy_with_logits(logits, y)  # Eq. 1, averaged over labels
        self.adam_g.zero_grad()
        self.critic.requires_grad_(False)
        (fooling + self.config.alpha * logistic).backward()  # Eq. 2
        self.critic.requires_grad_(True)
        self.adam_g.step()
        self.number += 1
        return told | {"generator": fooling.item(), "logistic": logistic.item()}

    def _critic(self, key: int) -> dict[str, float]:
        matched, generated, mismatched = (
            random_rows(ROWS, BATCH, 0, f"critic {kind}", key) for kind in ("matched", "generated", "mismatched")
        )
        real = self.critic(self.y[matched], self.x[matched].float())
        z = self.x[generated].float()
        with torch.no_grad():
            logits = self.generator(z)
            fake_set = losses.gumbel_sigmoid(logits, self._noise(logits.shape, "critic noise", key), 0.9)
        fake = self.critic(fake_set, z)
        others = mismatched_rows(self.labels, mismatched, 0, "mismatched labels", key)
        wrong = self.critic(self.y[others], self.x[mismatched].float())
        weight = self._noise((BATCH, 1), "interpolation", key)
        between = (weight * self.y[generated] + (1 - weight) * fake_set).requires_grad_(True)
        (slope,) = torch.autograd.grad(self.critic(between, z).sum(), between, create_graph=True)
        norm = (slope.square().sum(dim=1) + losses.NORM_EPSILON).sqrt()
        penalty = ((norm - 1) ** 2).mean()  # Eq. 5
        loss = (fake.mean() + wrong.mean()) / 2 - real.mean() + self.config.lambda_gp * penalty  # Eq. 4
        self.adam_d.zero_grad()
        loss.backward()
        self.adam_d.step()
        return {
            "critic": loss.item(),
            "penalty": penalty.item(),
            "wasserstein": (real.mean() - fake.mean()).item(),
            "critic_gradient": norm.mean().item(),
        }

    def _noise(self, shape: torch.Size | tuple[int, ...], purpose: str, key: int) -> Tensor:
        return uniform(tuple(shape), 0, purpose, key).to(self.x.device)
