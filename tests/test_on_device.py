"""The program on a CUDA device, simulated where there is none: `on_device.py` says what that shows and what not.

On the device every command must do what it does on the CPU; in head mode with the CPU's numbers, bit for bit.
"""

from __future__ import annotations

import base64
import copy
import json
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from on_device import CPU, CUDA, OnDevice, Race, Refused, simulated_cuda, simulated_mps
from sandbox import Sandbox, make_table
from test_reproduce import make_features
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from typer.testing import CliRunner

import labeldep_cli
from labeldep_cli import LabelDependencyLoss
from labeldep_cli.cli import app
from labeldep_cli.config import AdversarialConfig, PretrainConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.evaluation.evaluate import collect_features, collect_logits, evaluate, probabilities, tuned_thresholds
from labeldep_cli.evaluation.evidence import critic_evidence
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.rerank import rerank, score_candidates, tune_beta
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.inputs import streamed
from labeldep_cli.inputs.batches import Blocks, Request
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.streamed import StreamedInputs
from labeldep_cli.models import generator as generating
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.progress import SilentReporter
from labeldep_cli.projects.load_features import load_features
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.draws import Order
from labeldep_cli.training.fit import Schedule, fit
from labeldep_cli.training.steps import LogisticStep, Step

F, L = 12, 5
CRITIC = {"critic_width": 16, "critic_projection": 8, "critic_layers": 2}


# ------------------------------------------------------------------------------------------------ the simulation itself


class TestSimulation:
    def test_a_tensor_on_the_cpu_meets_none_on_the_device(self):
        with simulated_cuda():
            here, there = torch.ones(3), torch.ones(3, device="cuda")
            for meet in (lambda: here + there, lambda: torch.cat([there, here]), lambda: there @ here):
                with pytest.raises(Refused, match=r"test_on_device\.py:\d+: .* on cuda:0 and on the CPU \(\[3\]\)"):
                    meet()
            assert (there * torch.tensor(2.0)).device == CUDA, "CUDA takes a scalar"
            with pytest.raises(Refused, match="from a CPU generator"):
                torch.rand(3, device="cuda", generator=torch.Generator())

    def test_numpy_and_pinning_take_no_tensor_on_the_device(self):
        with simulated_cuda():
            there = torch.ones(3).cuda()
            for read in (there.numpy, there.__array__, there.pin_memory):
                with pytest.raises(Refused, match="cuda:0"):
                    read()
            assert there.cpu().numpy().tolist() == [1, 1, 1]

    @pytest.mark.parametrize("wrong", ["gradient", "moment"])
    def test_fused_adam_takes_no_other_strides_than_the_weight_s(self, wrong):
        last = torch.channels_last
        with simulated_cuda():
            weight = nn.Parameter(torch.ones(4, 3, 2, 2).cuda())
            adam = torch.optim.Adam([weight], fused=True)
            weight.grad = torch.ones(4, 3, 2, 2).cuda()
            adam.step()
            if wrong == "gradient":
                weight.grad = weight.grad.contiguous(memory_format=last)
            else:
                adam.state[weight]["exp_avg"] = adam.state[weight]["exp_avg"].contiguous(memory_format=last)
            with pytest.raises(Refused, match=rf"fused Adam .* with a {wrong} of strides \(12, 1, 6, 3\)"):
                adam.step()

    def test_a_convolution_gives_its_weight_s_gradient_as_cudnn_lays_it_out(self):
        with simulated_cuda():
            convolution = nn.Conv2d(3, 4, 2).to(CUDA)
            images = torch.ones(2, 3, 5, 5).cuda()
            for x, strides in (
                (images, (12, 4, 2, 1)),
                (images.contiguous(memory_format=torch.channels_last), (12, 1, 6, 3)),
            ):
                (gradient,) = torch.autograd.grad(convolution(x).sum(), convolution.weight)
                assert gradient.stride() == strides

    def test_a_pinned_buffer_is_written_again_only_when_its_copy_has_ended(self):
        with simulated_cuda() as device:
            buffer, copied = torch.zeros(4, pin_memory=True), torch.cuda.Event()
            there = buffer.to(CUDA, non_blocking=True)
            copied.record()
            copied.synchronize()
            buffer += 1
            assert there.tolist() == [0] * 4 and all(copy.free for copy in device.copies)
        with pytest.raises(Race, match=r"test_on_device\.py:\d+: .* written again"), simulated_cuda():
            buffer = torch.zeros(4).pin_memory()
            buffer.to(CUDA, non_blocking=True)
            buffer += 1

    def test_a_copy_to_the_cpu_is_there_when_it_has_been_waited_for(self):
        with simulated_cuda():
            here, copied = torch.ones(2).cuda().to("cpu", non_blocking=True), torch.cuda.Event()
            copied.record()
            assert here.isnan().all()
            copied.synchronize()
            assert here.tolist() == [1, 1]

    def test_counts_kernels_copies_and_waits_by_place(self):
        with simulated_cuda() as device:
            x = torch.arange(6.0).view(2, 3).cuda()
            y = (x @ x.T).view(4)[:2].sum()
            with_holes = torch.arange(6.0).view(2, 3)[:, ::2].to(CUDA, non_blocking=True)
            x[torch.tensor([0])]
            assert float(y) == 5 + 14 and with_holes.tolist() == [[0, 2], [3, 5]]
            x[x > 1]
        assert [key.split(" ")[1] for key in device.kernels] == ["mm", "sum", "index", "gt", "index"]
        assert device.kernels.total() == 5 and all("tests/test_on_device.py:" in key for key in device.kernels)
        assert [(copy.size, copy.blocking, copy.direct) for copy in device.copies] == [
            (24, True, True),
            (16, False, False),
            (8, True, True),
        ]
        assert [wait.why for wait in device.waits] == ["_local_scalar_dense", "tolist", "a boolean mask"]

    def test_a_thread_places_tensors_too(self):
        made = []
        with simulated_cuda():
            thread = threading.Thread(target=lambda: made.append(torch.zeros(2, device="cuda")))
            thread.start()
            thread.join()
        assert isinstance(made[0], OnDevice)

    def test_modules_keep_their_parameters_when_they_move(self):
        with simulated_cuda():
            layer = nn.Linear(2, 2)
            weight, adam = layer.weight, torch.optim.Adam(layer.parameters(), fused=True)
            layer.to(CUDA)
            assert layer.weight is weight and weight.device == CUDA and adam.param_groups[0]["params"][0] is weight
            twin = copy.deepcopy(layer)
            assert twin.weight is not weight and torch.equal(twin.weight.cpu(), weight.cpu())
            assert isinstance(twin.weight, nn.Parameter)


# ------------------------------------------------------------------------------------------------------------- training


def make_inputs(n: int, device: torch.device, seed: int = 0, regions: int = 0) -> FeatureInputs:
    """n rows whose labels follow from their features; a few are unknown."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(n, 2, regions, F) if regions else (n, 2, F)).astype(np.float32)
    seen = features[:, 0].mean(axis=1) if regions else features[:, 0]
    labels = (seen[:, :L] + 0.3 * seen[:, 1 : L + 1] > 0).astype(np.int8)
    labels[::7, 0] = -1
    space = LabelSpace(tuple(f"label {k}" for k in range(L)))
    return FeatureInputs(features, labels, [f"row {k}" for k in range(n)], space, (), device)


def make_critic(config: AdversarialConfig) -> Discriminator:
    draws = torch.Generator().manual_seed(1)
    critic = Discriminator(L, F, **config.critic_shape)
    for parameter in critic.parameters():
        nn.init.normal_(parameter, std=0.2, generator=draws)
    return critic


def make_step(train: FeatureInputs, head: str, critic: dict[str, object] | None, **settings) -> tuple[Step, Generator]:
    settings = {"batch_size": 8, "lr": 1e-2} | settings
    generator = Generator(nn.Identity(), seeded_head(head, F, L, settings.get("hidden", 0), seed=3))
    generator.head.fit_to_labels(train.labels)
    generator.to(train.device)
    if critic is None:
        return LogisticStep(generator, train, PretrainConfig(**settings).resolved()), generator
    config = AdversarialConfig(**CRITIC | critic | settings).resolved()
    return AdversarialStep(generator, make_critic(config).to(train.device), train, config), generator


def train(device: torch.device, folder: Path, stops: tuple[int, ...], head="linear", critic=None, **settings) -> None:
    """Train through `fit`, in as many runs as there are stops: 30 rows in batches of 8, the last of an epoch of 6."""
    folder.mkdir()
    regions = 4 if head in ("att-rnn", "rlsd", "ml-decoder") else 0
    rows, val = (make_inputs(n, device, seed, regions) for seed, n in enumerate((30, 17)))
    for stop in stops:
        step, generator = make_step(rows, head, critic, **settings)
        fit(step, generator, rows, val, Schedule(stop, 4), folder, {"head": head}, SilentReporter())


TRAINED = {
    **{
        f"head {head}": {"head": head}
        for head in ("linear", "cnn-rnn", "att-rnn", "rlsd", "ml-decoder", "gcn", "powerset", "chain")
    },
    "a hidden layer, in parts": {"hidden": 8, "accumulate": 3},
    **{f"loss {loss}": {"loss": loss} for loss in ("focal", "asl", "warp")},
    **{
        f"nce beside a frozen {head}": {"head": head, "critic": {"critic": "nce", "freeze_generator": True}}
        for head in ("powerset", "chain")
    },
    "critic": {"critic": {}},
    "critic without a hidden layer": {"critic": {"critic_layers": 0}},
    "critic without negatives": {"critic": {"negatives": False}},
    "critic unconditional": {"critic": {"conditional": False}},
    "critic straight-through, warmed up": {"critic": {"sampling": "straight-through", "critic_warmup": 2}},
    "critic without sampling": {"critic": {"sampling": "none"}},
    "critic, in parts": {"critic": {}, "accumulate": 3},
    "critic beside a frozen G": {"critic": {"freeze_generator": True}},
    "nce": {"critic": {"critic": "nce"}},
    "nce beside a frozen G": {"critic": {"critic": "nce", "freeze_generator": True}},
    "nce unconditional": {"critic": {"critic": "nce", "conditional": False}},
    "nce beside a frozen cnn-rnn": {"head": "cnn-rnn", "critic": {"critic": "nce", "freeze_generator": True}},
    **{f"critic, head {head}": {"head": head, "critic": {}} for head in ("gcn", "ml-decoder", "rlsd")},
}


@pytest.fixture
def same_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attention as it is trained on a GPU for the CPU too, which would take a fused kernel, and round otherwise."""
    monkeypatch.setattr(
        generating,
        "repeatable_attention",
        lambda x: sdpa_kernel(SDPBackend.MATH) if torch.is_grad_enabled() else nullcontext(),
    )


@pytest.mark.parametrize("how", TRAINED.values(), ids=TRAINED)
def test_training_leaves_the_cpu_s_bytes_resumed_too(
    tmp_path: Path, how: dict[str, object], same_attention: None
) -> None:
    train(CPU, tmp_path / "cpu", (8,), **how)
    with simulated_cuda():
        train(CUDA, tmp_path / "device", (4, 8), **how)
    for name in (LAST, BEST, METRICS, RESULT):
        assert (tmp_path / "device" / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes(), name


def test_evaluation_gives_the_cpu_s_numbers() -> None:
    def found(device: torch.device) -> list[torch.Tensor]:
        rows = make_inputs(40, device)
        generator = Generator(nn.Identity(), seeded_head("linear", F, L, 0, seed=3)).to(device)
        critic = make_critic(AdversarialConfig(**CRITIC).resolved()).to(device)
        logits, z, labels = collect_logits(generator, rows), collect_features(rows), rows.labels.to(device)
        scores = evaluate(logits, DecisionRule().decide(probabilities(logits)), rows).to_json()
        there = torch.from_numpy(logits).to(device)
        listed = score_candidates(critic, there, z)
        given = [
            rerank(critic, there, z, 1.0),
            best_expected_f1(listed.own.sets, listed.posterior(1.0).probabilities()),
            critic_evidence(critic, labels > 0, z, torch.arange(L, device=device).expand(len(z), -1)),
            torch.tensor([tune_beta(critic, there, z, labels), tune_beta(critic, there, z, labels, 1.0)]),
            torch.tensor([scores["mAP"], scores["OF1"], tuned_thresholds(logits, rows)["tuned"]]),
        ]
        return [tensor.cpu() for tensor in given]

    mine = found(CPU)
    with simulated_cuda():
        theirs = found(CUDA)
    assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


# --------------------------------------------------------------------------------------------------- for one's own loop


def take_steps(kind: str, devices: list[torch.device], resumed: bool = False) -> list[torch.Tensor]:
    """Four steps of LabelDependencyLoss, each on the device that is named; the critic's weights and its decisions."""
    draws = torch.Generator().manual_seed(0)
    weight, x = torch.randn(L, F, generator=draws), torch.randn(16, F, generator=draws)
    y = (torch.rand(16, L, generator=draws) < 0.4).float()
    y[0, 0] = -1
    critic = LabelDependencyLoss(L, F, critic=kind, **CRITIC)
    for number, device in enumerate(devices):
        if resumed and number == 2:
            kept, critic = critic.state_dict(), LabelDependencyLoss(L, F, critic=kind, **CRITIC)
            critic.load_state_dict(kept)
        critic.to(device)
        z, labels, w = x.to(device), y.to(device), weight.to(device, copy=True).requires_grad_()
        critic.step(z @ w.T, z, labels)
        critic.generator_loss(z @ w.T, z, labels).backward()
    beta = critic.tune_beta(z @ w.T, z, labels)
    found = [*critic.network.parameters(), w.grad, critic.rerank(z @ w.T, z, beta), torch.tensor(beta)]
    return [tensor.detach().cpu() for tensor in found]


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_label_dependency_loss_gives_the_cpu_s_numbers_moved_late_and_resumed_too(kind: str) -> None:
    on_cpu = take_steps(kind, [CPU] * 4)
    with simulated_cuda():
        on_device = [
            take_steps(kind, [CUDA] * 4),
            take_steps(kind, [CPU, CPU, CUDA, CUDA]),
            take_steps(kind, [CUDA] * 4, resumed=True),
        ]
    for found in on_device:
        assert all(torch.equal(one, other) for one, other in zip(on_cpu, found, strict=True))


# ------------------------------------------------------------------------------------------------------- whole commands

SEES = ("--backbone", "scenesnet", "--workers", 0)
SHORT = ("--steps", 4, "--batch-size", 6)
SMALL = ("--critic-width", 16, "--critic-projection", 8, "--critic-layers", 1)
RUN_FILES = (LAST, BEST, METRICS, RESULT)


MACHINES = {"cpu": nullcontext, "cuda": simulated_cuda, "mps": simulated_mps}


class OnBoth(Sandbox):
    """A workspace whose commands run on the CPU or on a simulated device; with `real`, on the real one."""

    real = False

    def on(self, device: str, *words: object, lines: bytes | None = None) -> str:
        """Run a command; its stdout."""
        where = {"LABELDEP_DATA": str(self.folder / "data"), "LABELDEP_RUNS": str(self.folder / "runs")}
        arguments = [str(word) for word in (*words, "--device", device)]
        with nullcontext() if self.real else MACHINES[device]():
            done = CliRunner().invoke(app, arguments, env=where, input=lines)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == 0, done.stderr
        return done.stdout

    def told_alike(self, *words: object, lines: bytes | None = None) -> str:
        """What a command says on either device, which must be the same."""
        on_cpu, on_device = (self.on(device, *words, lines=lines) for device in ("cpu", "cuda"))
        assert on_cpu == on_device
        return on_cpu

    def train(self, device: str, stage: str, out: str, *words: object) -> Path:
        """Train a run of the table's images."""
        folder = self.folder / "runs" / out
        small = (*SHORT, *SMALL) if stage == "adversarial" else SHORT
        self.on(device, stage, "--dataset", self.table, *SEES, *small, *words, "--out", folder)
        return folder


def same_runs(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in RUN_FILES)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> OnBoth:
    """A workspace whose features the device has extracted: 18 train, 6 val, 6 test; and a pretrained run."""
    sandbox = OnBoth(tmp_path_factory.mktemp("device"))
    make_table(sandbox.table.parent, rows=30)
    words = ("extract", "--dataset", sandbox.table, *SEES, "--precision", "float32")
    sandbox.on("cuda", *words, "--views", 21)
    sandbox.on("cuda", *words, "--spatial")
    sandbox.train("cuda", "pretrain", "pretrained")
    return sandbox


@pytest.fixture(scope="module")
def critic(sandbox: OnBoth) -> Path:
    """A run of a critic that is made for decisions."""
    words = ("--from", sandbox.folder / "runs" / "pretrained", "--critic", "nce", "--freeze-generator")
    return sandbox.train("cuda", "adversarial", "critic", *words)


def stored(sandbox: OnBoth, split: str, features: str | Path) -> FeatureCache:
    """What a folder of features holds of a split."""
    folders = {"data_dir": sandbox.folder / "data", "features_dir": sandbox.folder / features}
    return load_features(sandbox.table, split, backbone="scenesnet", **folders)


class TestCommands:
    def test_features_are_the_cpu_s_but_for_how_many_images_pass_at_once(self, sandbox: OnBoth) -> None:
        words = ("extract", "--dataset", sandbox.table, *SEES)
        sandbox.on("cpu", *words, "--precision", "float16", "--out", sandbox.folder / "here")
        sandbox.on("cuda", *words, "--out", sandbox.folder / "there")
        for split in SPLITS:
            here, there = (stored(sandbox, split, name) for name in ("here", "there"))
            assert here.store.kind == there.store.kind and here.ids == there.ids
            np.testing.assert_allclose(here.features(1), there.features(1), atol=2e-2)

    def test_decoding_processes_and_the_thread_that_pins_change_nothing(self, sandbox: OnBoth) -> None:
        for workers in (0, 1):
            words = ("--workers", workers, "--out", sandbox.folder / f"by-{workers}")
            sandbox.on("cuda", "extract", "--dataset", sandbox.table, *SEES[:2], *words)
        for split in SPLITS:
            one, other = (stored(sandbox, split, name) for name in ("by-0", "by-1"))
            assert (one.features(1) == other.features(1)).all()

    @pytest.mark.parametrize("critic", [(), ("--critic", "nce", "--freeze-generator"), ("--critic", "none")])
    def test_both_stages_leave_the_cpu_s_bytes(self, sandbox: OnBoth, critic: tuple[str, ...]) -> None:
        first = sandbox.folder / "runs" / "pretrained"
        runs = []
        for device in ("cpu", "cuda"):
            out = "-".join([device, *critic])
            words = ("--from", first, "--views", 21)
            runs.append(sandbox.train(device, "adversarial", out, *words, *critic))
        assert same_runs(*runs)
        assert same_runs(first, sandbox.train("cpu", "pretrain", f"first-{len(critic)}"))

    @pytest.mark.parametrize("rule", ["threshold", "rerank", "expected-f1"])
    def test_eval(self, sandbox: OnBoth, critic: Path, rule: str) -> None:
        assert json.loads(sandbox.told_alike("eval", critic, "--decision", rule, "--json"))["n_images"] == 6

    def test_compare_and_dependency(self, sandbox: OnBoth, critic: Path) -> None:
        sandbox.told_alike("compare", critic, sandbox.folder / "runs" / "pretrained", "--json")
        sandbox.told_alike("dependency", critic, "--decision", "rerank", "--json")

    def test_report(self, sandbox: OnBoth, critic: Path) -> None:
        pages = [sandbox.folder / f"{device}.html" for device in ("cpu", "cuda")]
        for device, page in zip(("cpu", "cuda"), pages, strict=True):
            sandbox.on(device, "report", critic, "--out", page)
        assert pages[0].read_bytes() == pages[1].read_bytes()

    def test_audit_of_a_run_and_of_a_data_set(self, sandbox: OnBoth, critic: Path) -> None:
        for name, words in {
            "run": (critic,),
            "set": (sandbox.table, *SEES, "--folds", 2, "--repeats", 1, "--steps", 3),
        }.items():
            folders = [sandbox.folder / f"audit-{name}-{device}" for device in ("cpu", "cuda")]
            for device, folder in zip(("cpu", "cuda"), folders, strict=True):
                sandbox.on(device, "audit", *words, "--out", folder)
            assert (folders[0] / "audit.csv").read_bytes() == (folders[1] / "audit.csv").read_bytes()

    def test_predict(self, sandbox: OnBoth, critic: Path) -> None:
        images = [sandbox.table.parent / "img" / f"{k}.png" for k in range(4)]
        told = {}
        for device in ("cpu", "cuda"):
            for workers in (0, 1):
                words = ("predict", *images, "--run", critic, "--decision", "rerank", "--all", "--json")
                lines = sandbox.on(device, *words, "--workers", workers).splitlines()
                told[device, workers] = [list(json.loads(line)["probabilities"].values()) for line in lines]
        assert told["cuda", 0] == told["cuda", 1]
        np.testing.assert_allclose(told["cuda", 0], told["cpu", 0], atol=1e-2)

    def test_predict_as_a_process_that_stays(self, sandbox: OnBoth, critic: Path) -> None:
        images = [sandbox.table.parent / "img" / f"{k}.png" for k in range(3)]
        requests = [
            {"path": str(images[0])},
            {"paths": [str(image) for image in images]},
            {"image": base64.b64encode(images[2].read_bytes()).decode()},
        ]
        lines = "".join(json.dumps(request) + "\n" for request in requests).encode()
        words = ("predict", "--stdin-json", "--run", critic, "--decision", "rerank", "--all")
        answers = [json.loads(line) for line in sandbox.on("cuda", *words, lines=lines).splitlines()]
        one, many, sent = answers[0], answers[1]["predictions"], answers[2]
        assert one["path"] == many[0]["path"]
        for alone, among in ((one, many[0]), (sent, many[2])):
            assert alone["probabilities"] == pytest.approx(among["probabilities"], abs=1e-6)

    def test_doctor_and_export_beside_a_device(self, sandbox: OnBoth, critic: Path) -> None:
        with simulated_cuda():
            found = sandbox.json("doctor")
            sandbox.json("export", critic, "--format", "torch", "--out", sandbox.folder / "exported.pt2")
        assert [gpu["name"] for gpu in found["device"]["gpus"]] == ["a simulated GPU"]

    def test_reproduce(self, sandbox: OnBoth) -> None:
        source = ("--dataset", make_features(sandbox.folder), "--tables", "1,3", "--seeds", 1, "--steps", 2)
        for device in ("cpu", "cuda"):
            sandbox.on(device, "reproduce", *source, "--batch-size", 32, "--out", sandbox.folder / device)
        for table in ("table1.json", "table3.json"):
            assert (sandbox.folder / "cuda" / table).read_bytes() == (sandbox.folder / "cpu" / table).read_bytes()

    def test_a_head_over_regions(self, sandbox: OnBoth, same_attention: None) -> None:
        run = sandbox.train("cuda", "pretrain", "regions", "--head", "ml-decoder", "--hidden", 16)
        assert same_runs(run, sandbox.train("cpu", "pretrain", "regions-cpu", "--head", "ml-decoder", "--hidden", 16))
        sandbox.told_alike("eval", run, "--json")

    def test_the_python_api(self, sandbox: OnBoth, critic: Path) -> None:
        image = sandbox.table.parent / "img" / "0.png"
        with simulated_cuda():
            model = labeldep_cli.load(critic, device="cuda")
            logits = model(torch.stack([model.prepare(image)]))
            (labelled,) = model.predict([image])
            assert logits.device == CUDA
            assert list(labelled.probabilities.values()) == pytest.approx(logits.sigmoid()[0].tolist(), abs=1e-6)


class TestStreaming:
    """Features larger than --max-memory: 512 bytes an image and view."""

    @pytest.fixture(autouse=True)
    def small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(streamed, "_POOL_ROWS", 2)
        monkeypatch.setattr(streamed, "_POOL_BLOCKS", 2)

    def test_a_run_leaves_the_cpu_s_bytes(self, sandbox: OnBoth) -> None:
        tight = ("--from", sandbox.folder / "runs" / "pretrained", "--max-memory", "100KB")
        runs = [sandbox.train(device, "adversarial", f"streamed-{device}", *tight) for device in ("cpu", "cuda")]
        assert same_runs(*runs)
        assert json.loads((runs[1] / "config.json").read_text())["blocks"]["pools"] > 1
        sandbox.told_alike("eval", runs[1], "--max-memory", "2048", "--json")

    def test_batches_hold_the_rows_asked_for(self, sandbox: OnBoth) -> None:
        """Of 18 rows in pools of 6 and batches of 5, some straddle two pools."""
        cache = stored(sandbox, "train", Path("data", "features"))
        with simulated_cuda():
            inputs = (
                FeatureInputs.of_cache(cache, 2, False, CUDA),
                StreamedInputs(cache, 2, False, CUDA, Blocks(3, 3)),
            )
            order = Order(18, 5, 0, Blocks(3, 3))
            asked = [
                [Request(rows, torch.arange(len(rows)) % 2, len(rows))] for rows in map(order.generator_rows, range(9))
            ]
            held, read = (list(some.stream(asked, order.pools(0))) for some in inputs)
            for (one,), (other,) in zip(held, read, strict=True):
                assert torch.equal(one.x.cpu(), other.x.cpu()) and torch.equal(one.y.cpu(), other.y.cpu())


class TestFullMode:
    """Convolutions in 16 bits, whose numbers are not the CPU's."""

    @pytest.mark.parametrize("words", [(), ("--accumulate", 2, "--checkpoint-activations"), ("--train-bn",)])
    def test_both_stages_and_eval(self, sandbox: OnBoth, words: tuple[object, ...]) -> None:
        out = "-".join(["full", *map(str, words)])
        first = sandbox.train("cuda", "pretrain", f"{out}-first", "--full", *words)
        run = sandbox.train("cuda", "adversarial", out, "--full", *words, "--from", first)
        scores = json.loads(sandbox.on("cuda", "eval", run, "--decision", "rerank", "--json"))
        assert scores["n_images"] == 6
        before, after = (checkpoint.load(folder / LAST)[0] for folder in (first, run))
        kernels = [name for name, value in after.items() if name.startswith("generator.encoder.") and value.dim() == 4]
        assert kernels and not any(torch.equal(before[name], after[name]) for name in kernels)
        assert all(value.isfinite().all() for value in after.values())
