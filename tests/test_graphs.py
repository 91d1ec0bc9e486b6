"""Training by CUDA graphs: recorded on the simulated device, it leaves the bytes of training without them."""

from __future__ import annotations

import signal
import threading
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from on_device import CPU, CUDA, Refused, simulated_cuda
from on_device_graphs import memory
from sandbox import make_table
from test_on_device import SEES, F, L, OnBoth, make_inputs, make_step
from test_reproduce import make_features
from torch import nn
from typer.testing import CliRunner

from benchmarks import step as benchmark
from benchmarks.__main__ import app as benchmarks
from labeldep_cli.cli import app
from labeldep_cli.compute import graphs
from labeldep_cli.compute.distributed import World
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.errors import TrainingError
from labeldep_cli.inputs import streamed
from labeldep_cli.inputs.ahead import AheadOfUse
from labeldep_cli.inputs.batches import Request
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import HEADS, seeded_head
from labeldep_cli.models.members import build_critic
from labeldep_cli.progress import SilentReporter
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training import graphed_step, losses
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.fit import Schedule, fit
from labeldep_cli.training.graphed_step import GraphedStep, remembered, with_graphs

STEPS = 8  # two epochs of 30 rows in batches of 8, the last of each of 6


def make(device: torch.device, head: str = "linear", critic: dict[str, object] | None = None, **settings):
    """A step over 30 rows; critics of several members too."""
    inputs = make_inputs(30, device, regions=4 if head == "ml-decoder" else 0)
    step, generator = make_step(inputs, head, critic or {}, **settings)
    if step.config.members > 1:
        shape = step.config.critic_shape | {"members": step.config.members}
        network = build_critic(L, inputs.feature_dim, shape, seed=1).to(device)
        step = AdversarialStep(generator, network, inputs, step.config)
    return step


def train(device: torch.device, folder: Path, graphs: bool, interrupt: int | None = None, **how) -> None:
    """Train through `fit`, with an evaluation each epoch; Ctrl-C during step `interrupt`, if it is given."""
    folder.mkdir(exist_ok=True)
    step = make(device, **how)
    val = make_inputs(17, device, 1, regions=step.inputs.features.shape[2] if step.inputs.features.dim() == 4 else 0)
    rest = (val, Schedule(STEPS, 4), folder, {}, SilentReporter())
    graphed = with_graphs(step) if graphs else None
    assert not isinstance(graphed, str), graphed
    if graphed is None:
        fit(step, step.generator, step.inputs, *rest)
    elif interrupt is None:
        fit(graphed, step.generator, graphed.source, *rest)
    else:
        with pytest.raises(KeyboardInterrupt):
            fit(Interrupted(graphed, interrupt), step.generator, graphed.source, *rest)


class Interrupted:
    """A step, and Ctrl-C during one of its calls."""

    def __init__(self, step: GraphedStep, during: int) -> None:
        self._step = step
        self._during = during

    def __getattr__(self, name: str) -> object:
        return getattr(self._step, name)

    def __call__(self, step: int, batches: object) -> object:
        if step == self._during:
            signal.raise_signal(signal.SIGINT)
        return self._step(step, batches)


def assert_same_runs(one: Path, other: Path) -> None:
    for name in (LAST, BEST, METRICS, RESULT):
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


KINDS = {
    "wgan-gp": {},
    "warmed up": {"critic": {"critic_warmup": 2}},
    "frozen G": {"critic": {"freeze_generator": True}},
    "nce": {"critic": {"critic": "nce"}},
    "nce, frozen G": {"critic": {"critic": "nce", "freeze_generator": True, "critic_warmup": 1}},
    "members": {"critic": {"critic": "nce", "freeze_generator": True, "members": 3}},
    "members, wgan-gp": {"critic": {"freeze_generator": True, "members": 2}},
    "no negatives": {"critic": {"negatives": False}},
    "unconditional": {"critic": {"conditional": False}},
    "straight-through": {"critic": {"sampling": "straight-through"}},
    "in parts, clipped, decaying": {
        "accumulate": 3,
        "max_gradient_norm": 0.1,
        "weight_decay": 1.0,
        "critic": {"critic_weight_decay": 2.0},
    },
    "loss warp": {"loss": "warp"},
    **{f"head {head}": {"head": head, "hidden": 16} for head in ("gcn", "ml-decoder")},
    **{
        f"nce beside a frozen {head}": {"head": head, "critic": {"critic": "nce", "freeze_generator": True}}
        for head in ("powerset", "chain")
    },
}


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
def test_graphs_leave_the_bytes_of_training_without_them_resumed_too(tmp_path: Path, how: dict[str, object]) -> None:
    """Interrupted amid the first epoch and amid the second; the last run meets the smaller batch first."""
    with simulated_cuda() as device:
        train(CUDA, tmp_path / "eager", graphs=False, **how)
        assert not device.tapes
        train(CUDA, tmp_path / "whole", graphs=True, **how)
        recorded = len(device.tapes)
        for interrupt in (1, 6, None):
            train(CUDA, tmp_path / "resumed", graphs=True, interrupt=interrupt, **how)
    assert_same_runs(tmp_path / "eager", tmp_path / "whole")
    assert_same_runs(tmp_path / "eager", tmp_path / "resumed")
    config = AdversarialConfig(**how.get("critic", {})).resolved()
    assert recorded == (config.members if config.freeze_generator else 3), "G's last batch of an epoch has its own"


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs that run their function at each replay, on the CPU, which has neither events nor page-locked memory."""

    class Played:
        def __init__(self, function, undo, device) -> None:
            for _ in range(graphs._WARM_UPS):
                function()
            undo()
            self._function, self.result = function, function()
            undo()

        def replay(self) -> None:
            names, values = self._function()
            assert names == self.result[0]
            self.result[1].copy_(values)

    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, pin_memory=False, **how: empty(*size, **how))
    monkeypatch.setattr(
        torch.cuda, "Event", lambda blocking: SimpleNamespace(record=lambda s: 0, synchronize=lambda: 0)
    )
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(graphed_step, "Graph", Played)


@pytest.mark.parametrize("kind", ["wgan-gp", "warmed up", "frozen G", "nce", "members"])
def test_what_is_recorded_computes_what_the_step_computes(kind: str, played: None) -> None:
    """On the CPU, as a plain function of its buffer."""
    eager, staged = make(CPU, **KINDS[kind]), make(CPU, **KINDS[kind])
    graphed = GraphedStep(staged, staged.inputs)
    batches, packed = eager.inputs.stream(eager.requests(0)), graphed.source.stream(graphed.requests(0))
    for number in range(STEPS + 1):
        one, other = eager(number, batches), graphed(number, packed)
        assert list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)
    packed.close()
    for name, network in eager.networks().items():
        for one, other in zip(network.parameters(), staged.networks()[name].parameters(), strict=True):
            assert torch.equal(one, other)


class TestGraph:
    """The simulated graph itself, by what a real one would do."""

    def test_a_recording_computes_nothing_and_a_replay_works_in_place(self) -> None:
        with simulated_cuda():
            total, given = torch.zeros(2, device=CUDA), torch.ones(2, device=CUDA)
            graph = graphs.Graph(lambda: total.add_(given) * 2, total.zero_, CUDA)
            assert total.tolist() == [0, 0] and graph.result.isnan().all()
            where = memory(graph.result.numbers)
            graph.replay()
            given.fill_(5)
            graph.replay()
            assert total.tolist() == [6, 6] and graph.result.tolist() == [12, 12]
            assert memory(graph.result.numbers) == where

    @pytest.mark.parametrize(
        ("function", "why"),
        [
            (lambda x: x.sum().item(), "_local_scalar_dense"),
            (lambda x: x[x > 0], "boolean mask"),
            (lambda x: x.cpu(), "copy to the host"),
            (lambda x: x + torch.ones(2).pin_memory().to(CUDA, non_blocking=True), "copy from the host"),
            (lambda x: x.uniform_(), "draws"),
            (lambda x: torch.cuda.synchronize(), "synchronize"),
        ],
    )
    def test_a_recording_refuses(self, function, why: str) -> None:
        with simulated_cuda() as device:
            x = torch.ones(2, device=CUDA)
            with pytest.raises(Refused, match=f"{why}.* while a graph is recorded"):
                graphs.Graph(lambda: function(x), lambda: None, CUDA)
            assert device.tape is None

    def test_another_thread_may_wait_meanwhile(self) -> None:
        event = torch.zeros(1)
        with simulated_cuda() as device:
            copied = torch.cuda.Event()
            copied.record()

            def function() -> torch.Tensor:
                if device.tape is not None:
                    thread = threading.Thread(target=copied.synchronize)
                    thread.start()
                    thread.join()
                return event.to(CUDA) if device.tape is None else torch.zeros(1, device=CUDA)

            graphs.Graph(function, lambda: None, CUDA)
            assert any(wait.why == "Event.synchronize" for wait in device.waits)


OWN_MEMORY = ("wgan-gp", "nce", "members", "in parts, clipped, decaying", "no negatives", "loss warp", "head gcn")


@pytest.mark.parametrize("kind", OWN_MEMORY)
def test_a_graph_uses_only_what_stays_where_it_is(kind: str) -> None:
    """Weights, moments, buffers, the rows and the graph's own; before and after an evaluation and a load of `best`."""
    with simulated_cuda() as device:
        step = make(CUDA, **KINDS[kind])
        graphed = with_graphs(step)
        assert isinstance(graphed, GraphedStep)
        packed = graphed.source.stream(graphed.requests(0))
        for number in range(5):
            graphed(number, packed)
        packed.close()

        def staying() -> set[int]:
            harmonic = losses._harmonic(L, torch.float32, CUDA)  # of the ranking loss: it is computed once
            tensors = [step.inputs.features, step.inputs.device_labels, harmonic]
            for network in graphed.networks().values():
                tensors += [*network.parameters(), *network.buffers()]
            for optimizer in graphed.optimizers().values():
                tensors += [value for state in optimizer.state.values() for value in state.values()]
            tensors += [graph._buffer for graph in graphed._graphs.values()]
            return {memory(tensor.numbers) for tensor in tensors}

        before = staying()
        assert len(device.tapes) == len(graphed._graphs)
        assert all(tape.outside() <= before for tape in device.tapes)
        step.quality(step.inputs)
        for network in graphed.networks().values():
            network.load_state_dict({name: value.cpu() for name, value in network.state_dict().items()})
        assert staying() == before


def test_an_iteration_is_four_replays_and_four_copies_that_nobody_waits_for() -> None:
    with simulated_cuda() as device:
        eager, step = make(CUDA), make(CUDA)
        batches = eager.inputs.stream(eager.requests(0))
        for number in range(5):
            device.clear()
            eager(number, batches)
        launched = device.kernels.total()
        graphed = with_graphs(step)
        packed = graphed.source.stream(graphed.requests(0))
        for number in range(9):
            device.clear()
            graphed(number, packed)
            if number > 3:  # all graphs are recorded
                replays = sum(n for place, n in device.kernels.items() if place.endswith("a graph"))
                assert replays == 4 and len(device.copies) == 4 and all(copy.free for copy in device.copies)
                assert device.kernels.total() <= 4 + 2 < launched / 20, device.told()
                assert all(wait.why == "Event.synchronize" for wait in device.waits), device.told()
        packed.close()


def test_the_gradient_is_that_of_the_last_replay() -> None:
    """G has two graphs, and the one that was recorded last is not the one that was replayed last."""
    with simulated_cuda():
        eager, step = make(CUDA), make(CUDA)
        graphed = with_graphs(step)
        batches, packed = eager.inputs.stream(eager.requests(0)), graphed.source.stream(graphed.requests(0))
        for number in range(7):
            eager(number, batches)
            graphed(number, packed)
            for one, other in zip(eager.generator.parameters(), step.generator.parameters(), strict=True):
                assert torch.equal(one.grad, other.grad)
        packed.close()


def test_losses_stay_when_later_updates_are_made() -> None:
    with simulated_cuda():
        graphed = with_graphs(make(CUDA))
        packed = graphed.source.stream(graphed.requests(0))
        first = graphed(0, packed)
        before = {name: value.item() for name, value in first.items()}
        graphed(1, packed)
        assert {name: value.item() for name, value in first.items()} == before
        packed.close()


def test_what_a_warm_up_changed_is_put_back_in_place() -> None:
    """Both before the first update, when Adam has no moments, and after one."""
    network = nn.Linear(3, 2)
    adam = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)

    def update() -> None:
        for parameter in network.parameters():
            parameter.grad = torch.ones_like(parameter)
        adam.step()

    def held() -> list[torch.Tensor]:
        return [*network.parameters(), *(value for state in adam.state.values() for value in state.values())]

    for steps in (0.0, 1.0):
        weights, put_back = [parameter.detach().clone() for parameter in network.parameters()], remembered(adam)
        moments = [value.clone() for state in adam.state.values() for value in state.values()]
        update()
        update()
        where = [tensor.data_ptr() for tensor in held()]
        put_back()
        assert [tensor.data_ptr() for tensor in held()] == where
        assert all(torch.equal(one, other) for one, other in zip(network.parameters(), weights, strict=True))
        assert all(state["step"] == steps for state in adam.state.values())
        if moments:
            assert all(torch.equal(one, other) for one, other in zip(held()[2:], moments, strict=True))
        else:
            assert not any(value.any() for state in adam.state.values() for value in state.values())
        update()


def test_a_step_that_is_resumed_records_anew() -> None:
    """A checkpoint gives Adam other tensors, which a graph of before would not know."""
    with simulated_cuda() as device:
        graphed = with_graphs(make(CUDA))
        for first in (0, 1):
            packed = graphed.source.stream(graphed.requests(first))
            graphed(first, packed)
            packed.close()
        assert len(device.tapes) == 4


def test_a_loss_that_is_not_finite_ends_training(tmp_path: Path) -> None:
    with simulated_cuda():
        step = make(CUDA)
        with torch.no_grad():
            next(step.critic.parameters()).fill_(float("inf"))
        graphed = with_graphs(step)
        with pytest.raises(TrainingError, match="the loss is not finite at step 1"):
            fit(graphed, step.generator, graphed.source, step.inputs, Schedule(4, 4), tmp_path, {}, SilentReporter())


def test_the_benchmark_of_a_step_has_a_row_for_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("ROWS", 300), ("FEATURES", 16), ("LABELS", 6)):
        monkeypatch.setattr(benchmark, name, size)
    for rate in ("matmul_rate", "memory_rate"):
        monkeypatch.setattr(benchmark, rate, lambda: 1.0)
    with simulated_cuda():
        found = benchmark.run(1, CUDA, graphs=True)
    assert list(found["seconds"]) == ["plain", "labeldep", "graphs"] and found["difference"] < 1e-2
    assert found["operations"]["graphs"] == found["operations"]["labeldep"] > 0
    refused = CliRunner().invoke(benchmarks, ["step", "--graphs"])
    assert refused.exit_code == 2 and "graphs need --device cuda" in refused.output


# ------------------------------------------------------------------------------------------------------- drawn ahead


class TestAhead:
    def test_requests_come_in_order_whatever_their_size(self) -> None:
        asked = [
            [Request(torch.arange(k, k + 3), torch.zeros(3, dtype=torch.int64), 3, True, (torch.rand(3, k),))]
            for k in range(20)
        ]
        with simulated_cuda() as device:
            for update, packed in zip(asked, AheadOfUse(CUDA).stream(iter(asked)), strict=True):
                buffer = torch.empty(len(packed.packed), dtype=torch.uint8, device=CUDA)
                packed.load(buffer)
                (there,) = packed.within(buffer)
                assert torch.equal(there.rows.cpu(), update[0].rows)
                assert torch.equal(there.draws[0].cpu(), update[0].draws[0])
            assert all(copy.free for copy in device.copies) and len(device.copies) == 20

    def test_layouts_differ_where_one_graph_cannot_serve_both(self) -> None:
        zeros = torch.zeros(3, dtype=torch.int64)
        kinds = [
            Request(zeros, zeros, 3),
            Request(zeros[:2], zeros[:2], 2),
            Request(zeros, zeros, 3, True, (zeros,)),
            Request(zeros, zeros, 3, True, (zeros.int(),)),
            Request(zeros, zeros, 3, False),
            Request(zeros + 1, zeros, 3),
        ]
        with simulated_cuda():
            layouts = [packed.layout for packed in AheadOfUse(CUDA).stream([[kind] for kind in kinds])]
        assert len(set(layouts)) == 5 and layouts[0] == layouts[5]

    def test_an_error_of_a_draw_is_raised_where_the_update_is_taken(self) -> None:
        def updates():
            yield [Request(torch.zeros(2, dtype=torch.int64), torch.zeros(2, dtype=torch.int64), 2)]
            raise ValueError("no more rows")

        with simulated_cuda():
            stream = AheadOfUse(CUDA).stream(updates())
            next(stream)
            with pytest.raises(ValueError, match="no more rows"):
                next(stream)

    def test_the_thread_ends_with_the_stream(self) -> None:
        with simulated_cuda():
            stream = AheadOfUse(CUDA).stream(make(CUDA).requests(0))
            next(stream)
            assert any(thread.name.startswith("draws") for thread in threading.enumerate())
            stream.close()
            assert not any(thread.name.startswith("draws") for thread in threading.enumerate())

    def test_it_draws_no_further_than_its_buffers(self) -> None:
        drawn = []

        def updates():
            for number in range(50):
                drawn.append(number)
                yield [Request(torch.tensor([number]), torch.zeros(1, dtype=torch.int64), 1)]

        with simulated_cuda():
            stream = AheadOfUse(CUDA).stream(updates())
            list(islice(stream, 3))
            stream.close()
        assert 4 <= len(drawn) <= 3 + 4


# ------------------------------------------------------------------------------------------------------ where they fit


def test_a_head_whose_search_stops_early_is_not_recorded() -> None:
    with simulated_cuda():
        step = make(CUDA, head="cnn-rnn", critic={"critic": "nce", "freeze_generator": True})
        assert with_graphs(step) == "the head decides on the host what it computes next"
        with pytest.raises(Refused, match="while a graph is recorded"):  # as it would be if it were tried
            graphed = GraphedStep(step, step.inputs)
            graphed(0, graphed.source.stream(graphed.requests(0)))


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_head_says_whether_it_waits(head: str) -> None:
    with simulated_cuda() as device:
        generator = Generator(nn.Identity(), seeded_head(head, F, L, 0, seed=3)).to(CUDA)
        x = torch.rand(8, 4, F, device=CUDA) if generator.head.spatial else torch.rand(8, F, device=CUDA)
        device.clear()
        with torch.no_grad():
            generator(x)
        assert bool(device.waits) == generator.head.waits, device.told()


def test_processes_that_train_together_do_not_record() -> None:
    with simulated_cuda():
        step = make(CUDA)
        step.world = World(1, 2)
        assert with_graphs(step) == "2 processes train together"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> OnBoth:
    """Ready features and a table of images, each with a pretrained run."""
    sandbox = OnBoth(tmp_path_factory.mktemp("graphs"))
    make_table(sandbox.table.parent, rows=20)
    make_features(sandbox.folder)
    for source in ((sandbox.folder / "signs_50.npz",), (sandbox.table, *SEES)):
        out = sandbox.folder / "runs" / f"pretrained-{len(source)}"
        sandbox.on("cpu", "pretrain", "--dataset", *source, "--steps", 2, "--out", out)
    return sandbox


class TestCommand:
    @staticmethod
    def adversarial(sandbox: OnBoth, device: str, out: str, *words: object, images: bool = False, code: int = 0) -> str:
        """Train from the pretrained run; what is told on stderr."""
        source = (sandbox.table, *SEES) if images else (sandbox.folder / "signs_50.npz",)
        start = sandbox.folder / "runs" / f"pretrained-{len(source)}"
        folder = sandbox.folder / "runs" / out
        small = ("--steps", 9, "--batch-size", 16, "--critic-width", 16, "--critic-projection", 8, "--critic-layers", 1)
        where = {"LABELDEP_DATA": str(sandbox.folder / "data"), "LABELDEP_RUNS": str(sandbox.folder / "runs")}
        named = ("--dataset", *source, "--from", start, "--out", folder, "--device", device)
        arguments = [str(word) for word in ("adversarial", *named, *small, *words)]
        with simulated_cuda() if device == "cuda" else nullcontext():
            done = CliRunner().invoke(app, arguments, env=where)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, done.stderr
        return done.stderr

    def test_the_flag_changes_no_byte_and_a_cpu_says_that_it_has_no_graphs(self, sandbox: OnBoth) -> None:
        assert "CUDA graphs" not in self.adversarial(sandbox, "cuda", "eager")
        assert "CUDA graphs" not in self.adversarial(sandbox, "cuda", "graphs", "--graphs")
        assert "training without CUDA graphs: the device is cpu" in self.adversarial(sandbox, "cpu", "cpu", "--graphs")
        for name in ("graphs", "cpu"):
            assert_same_runs(sandbox.folder / "runs" / "eager", sandbox.folder / "runs" / name)
        refused = self.adversarial(sandbox, "cuda", "graphs", "--no-graphs", code=1)
        assert "--graphs True there, False here" in refused

    @pytest.mark.parametrize("critic", ["none", "kernel"])
    def test_training_without_the_adversarial_step_says_so(self, sandbox: OnBoth, critic: str) -> None:
        told = self.adversarial(sandbox, "cuda", critic, "--critic", critic, "--graphs")
        assert "training without CUDA graphs: only --critic wgan-gp and nce have updates that can be recorded" in told

    def test_full_mode_says_so(self, sandbox: OnBoth) -> None:
        told = self.adversarial(sandbox, "cuda", "full", "--full", "--steps", 1, "--graphs", images=True)
        assert "training without CUDA graphs: images are decoded while training" in told

    def test_streaming_says_so(self, sandbox: OnBoth, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streamed, "_POOL_ROWS", 2)
        monkeypatch.setattr(streamed, "_POOL_BLOCKS", 2)
        told = self.adversarial(sandbox, "cuda", "streamed", "--max-memory", 8000, "--graphs", images=True)
        assert "training without CUDA graphs: the features are streamed" in told
