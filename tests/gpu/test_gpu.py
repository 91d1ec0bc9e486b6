"""What only a GPU can show: README.md beside this file says what, and how to run it."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import draw_image
from PIL import Image
from sandbox import LABELS, Sandbox, make_table
from torch import nn
from typer.testing import CliRunner

from benchmarks import step as benchmark
from labeldep_cli import LabelDependencyLoss
from labeldep_cli.cli import app
from labeldep_cli.compute.devices import mixed_precision
from labeldep_cli.config import AdversarialConfig, PretrainConfig
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.split import Split
from labeldep_cli.features.decode import decode
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.gpu_decode import decode_on_gpu
from labeldep_cli.features.pixel_rules import USUAL_RULES
from labeldep_cli.features.resize import resized
from labeldep_cli.features.views import N_VIEWS
from labeldep_cli.inputs.batches import in_order
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.images import ImageInputs
from labeldep_cli.models.backbones import architecture, find_backbone
from labeldep_cli.models.discriminator import Discriminator
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.projects.load_features import load_features
from labeldep_cli.runs.layout import BEST, LAST, METRICS, RESULT
from labeldep_cli.training.adversarial_step import AdversarialStep
from labeldep_cli.training.graphed_step import GraphedStep, with_graphs
from labeldep_cli.training.losses import logistic_loss
from labeldep_cli.training.steps import LogisticStep

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="needs a GPU: torch.cuda.is_available() is False here"
)

GPU, CPU = torch.device("cuda", 0), torch.device("cpu")
PATIENCE = 200.0  # seconds until a command that does not get anywhere fails the test
RUN_FILES = (LAST, BEST, METRICS, RESULT)
F, L = 64, 6
SMALL = ("--critic-layers", 2, "--critic-width", 128)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with ready features of 900 rows (`rows.npz`), and a table of 60 images."""
    sandbox = Sandbox(tmp_path_factory.mktemp("gpu"))
    random = np.random.default_rng(0)
    x = random.normal(size=(900, F)).astype(np.float32)
    y = (x[:, :L] + 0.5 * x[:, 1 : L + 1] > 0.5).astype(np.int8)
    np.savez(sandbox.folder / "rows.npz", X=x, Y=y, label_names=np.array([f"label {k}" for k in range(L)]))
    make_table(sandbox.table.parent)
    return sandbox


def start(sandbox: Sandbox, device: str, *words: object, strict: bool = True) -> subprocess.Popen[str]:
    """Start a command in a process of its own; strict: a warning ends it, as of an operation that does not repeat."""
    where = {"LABELDEP_DATA": str(sandbox.folder / "data"), "LABELDEP_RUNS": str(sandbox.folder / "runs")}
    environment = {**os.environ, **where, "PYTHONPATH": os.pathsep.join(sys.path)}
    python = [sys.executable, *(("-W", "error::UserWarning") if strict else ())]
    command = [*python, "-m", "labeldep_cli", *map(str, words), "--device", device, "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(sandbox: Sandbox, device: str, *words: object, strict: bool = True) -> dict[str, object]:
    """Run a command in a process of its own; what it prints."""
    process = start(sandbox, device, *words, strict=strict)
    said, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, told[-4000:]
    return json.loads(said)


def files_of(run: object) -> dict[str, bytes]:
    return {name: (Path(str(run)) / name).read_bytes() for name in RUN_FILES}


# --------------------------------------------------------------------------------------------------------------- whole


class TestRepeats:
    """The same command leaves the same bytes; and scores that are the CPU's, but for rounding."""

    @pytest.fixture(scope="class")
    def pretrained(self, sandbox: Sandbox) -> tuple[object, ...]:
        words = ("pretrain", "--dataset", sandbox.folder / "rows.npz", "--steps", 60, "--lr", 0.01)
        runs = {
            out: run(sandbox, device, *words, "--out", sandbox.folder / f"pretrain-{out}")
            for out, device in (("one", "cuda"), ("two", "cuda"), ("cpu", "cpu"))
        }
        assert files_of(runs["one"]["run"]) == files_of(runs["two"]["run"])
        assert abs(runs["one"]["val"]["mAP"] - runs["cpu"]["val"]["mAP"]) < 0.5
        return "--from", runs["one"]["run"]

    @pytest.mark.parametrize("graphs", ["--no-graphs", "--graphs"])
    @pytest.mark.parametrize("critic", ["wgan-gp", "nce", "frozen"])
    def test_head_mode(self, sandbox: Sandbox, pretrained: tuple[object, ...], critic: str, graphs: str) -> None:
        kind = ("--critic", "nce", "--freeze-generator") if critic == "frozen" else ("--critic", critic)
        named = ("--dataset", sandbox.folder / "rows.npz", *pretrained, *kind)
        words = ("adversarial", *named, "--steps", 60, *SMALL, graphs)
        found = {
            out: run(sandbox, device, *words, "--out", sandbox.folder / f"{critic}-{out}{graphs}")
            for out, device in (("one", "cuda"), ("two", "cuda"), ("cpu", "cpu"))
        }
        assert files_of(found["one"]["run"]) == files_of(found["two"]["run"])
        assert abs(found["one"]["val"]["mAP"] - found["cpu"]["val"]["mAP"]) < 0.5
        lines = [(Path(str(found[out]["run"])) / METRICS).read_text().splitlines()[-1] for out in ("one", "cpu")]
        mine, theirs = (json.loads(line) for line in lines)
        assert mine["critic"] == pytest.approx(theirs["critic"], rel=0.05, abs=0.05)

    def test_full_mode(self, sandbox: Sandbox) -> None:
        words = ("adversarial", "--full", "--dataset", sandbox.table, "--backbone", "scenesnet", "--batch-size", 8)
        more = ("--steps", 4, *SMALL, "--workers", 2)
        # Starts from one pretrained run, which the first of the two trains.
        runs = [
            run(sandbox, "cuda", *words, *more, "--out", sandbox.folder / out, strict=False) for out in ("f1", "f2")
        ]
        assert files_of(runs[0]["run"]) == files_of(runs[1]["run"])

    def test_features(self, sandbox: Sandbox) -> None:
        words = ("extract", "--dataset", sandbox.table, "--backbone", "scenesnet", "--workers", 2)
        kinds = {
            "one": ("cuda", "float16"),
            "two": ("cuda", "float16"),
            "exact": ("cuda", "float32"),
            "cpu": ("cpu", "float32"),
        }
        features = {}
        for out, (device, precision) in kinds.items():
            folder = sandbox.folder / f"features-{out}"
            run(sandbox, device, *words, "--precision", precision, "--out", folder)
            found = load_features(sandbox.table, backbone="scenesnet", features_dir=folder)
            features[out] = found.features(1).astype(np.float32)
        assert (features["one"] == features["two"]).all()
        scale = np.linalg.norm(features["cpu"])
        assert np.linalg.norm(features["exact"] - features["cpu"]) < 1e-3 * scale
        assert np.linalg.norm(features["one"] - features["cpu"]) < 1e-2 * scale

    @pytest.mark.parametrize("graphs", ["--no-graphs", "--graphs"])
    def test_a_killed_run_goes_on_to_the_same_bytes(
        self, sandbox: Sandbox, pretrained: tuple[object, ...], graphs: str
    ) -> None:
        source = ("--dataset", sandbox.folder / "rows.npz", *pretrained)
        words = ("adversarial", *source, "--epochs", 30, "--batch-size", 64, *SMALL, graphs)
        whole = run(sandbox, "cuda", *words, "--out", sandbox.folder / f"whole{graphs}")
        killed = sandbox.folder / f"killed{graphs}"
        process = start(sandbox, "cuda", *words, "--out", killed)
        deadline = time.monotonic() + PATIENCE
        while not (killed / LAST).exists() and process.poll() is None:
            assert time.monotonic() < deadline, "the command does not get anywhere"
            time.sleep(0.005)
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL and not (killed / RESULT).exists(), "it had ended before the kill"
        run(sandbox, "cuda", *words, "--out", killed)
        assert files_of(killed) == files_of(whole["run"])

    def test_predict(self, sandbox: Sandbox) -> None:
        """Labels of images by one run, on either device; probabilities differ by how convolutions round."""
        table = ("--dataset", sandbox.table, "--backbone", "scenesnet")
        trained = run(sandbox, "cuda", "pretrain", *table, "--steps", 30, "--out", sandbox.folder / "runs" / "labels")[
            "run"
        ]
        images = [draw_image(sandbox.folder / "new" / f"{k}.png", 100 + k) for k in range(5)]
        told = {}
        for device in ("cuda", "cpu"):
            process = start(sandbox, device, "predict", *images, "--run", trained, "--all")
            said, errors = process.communicate(timeout=PATIENCE)
            assert process.returncode == 0, errors
            lines = [json.loads(line) for line in said.splitlines()]
            told[device] = [[line["probabilities"][label] for label in LABELS] for line in lines]
        np.testing.assert_allclose(told["cuda"], told["cpu"], atol=1e-2)


def test_too_little_memory_is_an_error_that_can_be_mended(sandbox: Sandbox) -> None:
    words = (
        "pretrain",
        "--dataset",
        sandbox.folder / "rows.npz",
        "--steps",
        2,
        "--fresh",
        "--out",
        sandbox.folder / "none",
    )
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1e-6)
    try:
        done = CliRunner().invoke(app, [str(word) for word in (*words, "--device", "cuda")])
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert done.exit_code == 1 and isinstance(done.exception, SystemExit), done.exception
    assert "error: the GPU has too little memory: CUDA out of memory" in done.stderr and "--batch-size" in done.stderr


# --------------------------------------------------------------------------------------------------------------- steps


def feature_step(device: torch.device, **settings) -> tuple[AdversarialStep, FeatureInputs]:
    """A step in head mode over 200 rows, of which some labels are unknown."""
    random = np.random.default_rng(1)
    features = random.normal(size=(200, 2, F)).astype(np.float16)
    labels = (features[:, 0, :L] > 0).astype(np.int8)
    labels[::9, 1] = -1
    space = LabelSpace(tuple(f"label {k}" for k in range(L)))
    inputs = FeatureInputs(features, labels, [str(k) for k in range(200)], space, (), device)
    config = AdversarialConfig(batch_size=32, critic_width=64, **settings).resolved()
    torch.manual_seed(0)
    critic = Discriminator(L, F, **config.critic_shape).to(device)
    generator = Generator(nn.Identity(), seeded_head("linear", F, L, 0, seed=0)).to(device)
    return AdversarialStep(generator, critic, inputs, config), inputs


@pytest.fixture
def waits_are_errors():
    """Called: from then on torch refuses whatever has the host wait for the device."""
    yield lambda: torch.cuda.set_sync_debug_mode("error")
    torch.cuda.set_sync_debug_mode("default")


KINDS = [{}, {"critic": "nce"}, {"critic": "nce", "freeze_generator": True}, {"accumulate": 3}]


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_step_waits_for_nothing(settings: dict[str, object], waits_are_errors) -> None:
    step, inputs = feature_step(GPU, **settings)
    batches = inputs.stream(step.requests(0))
    for number in range(3):  # what is made once: Adam's moments, cuBLAS's workspace, page-locked buffers
        step(number, batches)
    waits_are_errors()
    for number in range(3, 20):  # the last batch of an epoch, every seventh, is a smaller one
        told = step(number, batches)
    torch.cuda.set_sync_debug_mode("default")
    assert all(value.isfinite() for value in told.values())


@pytest.mark.parametrize("settings", KINDS, ids=str)
def test_a_step_computes_what_the_cpu_computes(settings: dict[str, object]) -> None:
    told = []
    for device in (CPU, GPU):
        step, inputs = feature_step(device, **settings)
        batches = inputs.stream(step.requests(0))
        told.append([{name: float(value) for name, value in step(number, batches).items()} for number in range(5)])
    for mine, theirs in zip(*told, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-4)


GRAPHED = [*KINDS, {"critic_warmup": 2}, {"freeze_generator": True}, {"max_gradient_norm": 0.1, "weight_decay": 1.0}]


@pytest.mark.parametrize("settings", GRAPHED, ids=str)
def test_graphs_compute_what_the_step_computes(settings: dict[str, object], waits_are_errors) -> None:
    """Bit for bit: losses, weights and the gradient that is recorded; and without a wait once all are recorded."""
    (eager, inputs), (step, mine) = feature_step(GPU, **settings), feature_step(GPU, **settings)
    graphed = with_graphs(step)
    assert isinstance(graphed, GraphedStep) and mine is step.inputs
    batches, packed = inputs.stream(eager.requests(0)), graphed.source.stream(graphed.requests(0))
    with closing(packed):
        for number in range(30):  # the last batch of an epoch, every seventh, is a smaller one
            if number == 7:
                waits_are_errors()
            told, found = eager(number, batches), graphed(number, packed)
            torch.cuda.set_sync_debug_mode("default")
            assert list(told) == list(found)
            assert all(torch.equal(told[name], found[name]) for name in told), (number, told, found)
            if number >= 7:
                waits_are_errors()
    torch.cuda.set_sync_debug_mode("default")
    for name, network in eager.networks().items():
        for one, other in zip(network.parameters(), step.networks()[name].parameters(), strict=True):
            assert torch.equal(one, other), name
            assert one.grad is None or torch.equal(one.grad, other.grad), name


def test_draws_are_not_overtaken_by_graphs() -> None:
    """The thread that draws runs ahead of a device that is kept busy; each replay has its own rows all the same."""
    (eager, inputs), (step, _) = feature_step(GPU), feature_step(GPU)
    graphed = with_graphs(step)
    assert isinstance(graphed, GraphedStep)
    busy = torch.rand(4096, 4096, device=GPU)
    batches, told, found = inputs.stream(eager.requests(0)), [], []
    with closing(graphed.source.stream(graphed.requests(0))) as packed:
        for number in range(60):
            busy = (busy @ busy).clamp(max=1.0)
            found.append(graphed(number, packed))
    for number in range(60):
        told.append(eager(number, batches))
    for one, other in zip(told, found, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_draws_are_not_overtaken() -> None:
    """The host runs far ahead of a device that is kept busy; each batch holds its own rows all the same."""
    step, inputs = feature_step(GPU)
    busy = torch.rand(4096, 4096, device=GPU)
    wanted, came = list(islice(step.requests(0), 100)), []
    for update in inputs.stream(wanted):
        busy = (busy @ busy).clamp(max=1.0)
        came.append([(batch.rows, *batch.draws) for batch in update])
    for requests, batches in zip(wanted, came, strict=True):
        for request, there in zip(requests, batches, strict=True):
            for one, other in zip((request.rows, *request.draws), there, strict=True):
                assert torch.equal(one, other.cpu())


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_label_dependency_loss_computes_what_the_cpu_computes(kind: str) -> None:
    draws = torch.Generator().manual_seed(0)
    x, y = torch.randn(32, F, generator=draws), (torch.rand(32, L, generator=draws) < 0.4).float()
    weight = 0.1 * torch.randn(L, F, generator=draws)
    found = []
    for device in (CPU, GPU):
        critic = LabelDependencyLoss(L, F, critic=kind, critic_width=32).to(device)
        w = weight.to(device, copy=True).requires_grad_()
        for _ in range(3):
            told = critic.step(x.to(device) @ w.T, x.to(device), y.to(device))
        critic.generator_loss(x.to(device) @ w.T, x.to(device)).backward()
        found.append([*(value.cpu() for value in told.values()), w.grad.cpu()])
    for mine, theirs in zip(*found, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------------------------------------------------- full mode


def image_inputs(sandbox: Sandbox) -> ImageInputs:
    """The table's first 16 images on the GPU, under a frozen scenesnet of random weights."""
    torch.manual_seed(0)
    encoder = InferenceEncoder(Encoder(architecture(find_backbone("scenesnet")).eval()).to(GPU), "auto")
    labels = np.random.default_rng(0).integers(0, 2, (16, 3)).astype(np.int8)
    paths = tuple(f"img/{k}.png" for k in range(16))
    split = Split("train", paths, labels, LabelSpace(LABELS), sandbox.table.parent)
    return ImageInputs(split, np.arange(16), (), encoder, 256, Framing(96), USUAL_RULES, 1, 0, GPU, "full", print)


def test_a_full_mode_step_moves_the_weights_as_plain_torch_does(sandbox: Sandbox) -> None:
    """Beside `backward()` and Adam as they come; 16-bit convolutions turn the sign of a few gradients near 0."""
    inputs = image_inputs(sandbox)
    generator = Generator(inputs.encoder.trainable_copy(False), seeded_head("linear", 256, 3, 0, 0)).to(GPU)
    plain, before = copy.deepcopy(generator), copy.deepcopy(generator)
    config = PretrainConfig(full=True, batch_size=8, lr=1e-3, head="linear").resolved()
    step = LogisticStep(generator, inputs, config)
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3, betas=(config.beta1, config.beta2), fused=False, foreach=False)
    requests = list(islice(step.requests(0), 4))
    ours = inputs.stream(requests)
    for number, (batch,) in enumerate(inputs.stream(requests)):
        step(number, ours)
        with mixed_precision(GPU):
            loss = logistic_loss(plain(batch.x), batch.y, config.label_reduction)
        adam.zero_grad()
        loss.backward()
        adam.step()
    for (name, mine), theirs, start in zip(
        generator.named_parameters(), plain.parameters(), before.parameters(), strict=True
    ):
        moved, apart = (theirs - start).abs().mean(), (mine - theirs).abs().mean()
        assert moved > 1e-4 and apart < 0.1 * moved, name
        assert mine.grad.stride() == mine.stride(), name


def test_f_ext_sees_alike_in_training_and_evaluation_and_nearly_as_in_float32(sandbox: Sandbox) -> None:
    inputs = image_inputs(sandbox)
    (batch,) = in_order(inputs)
    with torch.no_grad():
        alone, exact = inputs.encoder(batch.x), inputs.encoder.plain(batch.x)
        with mixed_precision(GPU):
            within = inputs.encoder(batch.x)
    assert torch.equal(alone, within) and alone.isfinite().all()
    assert (alone - exact).norm() < 5e-3 * exact.norm()


def test_the_benchmarked_step_is_the_plain_one_s() -> None:
    found = benchmark.run(5, GPU, graphs=True)
    print(f"\nan iteration: {found['seconds']} s on {torch.cuda.get_device_name(GPU)}")
    assert found["difference"] < 1e-2 and found["ratio"] > 1, found


# ------------------------------------------------------------------------------------------------------------- nvJPEG


@pytest.fixture(scope="module")
def jpegs(sandbox: Sandbox) -> Path:
    """A folder of photos with its labels: smooth JPEGs, one progressive, one turned, one grey, and a PNG."""
    folder = sandbox.folder / "jpegs"
    lines = ["path,split,sea,sky"]
    tag = Image.Exif()
    tag[0x0112] = 6
    for k in range(12):
        image = Image.open(draw_image(folder / f"{k}.png", k, (300, 220))).convert("RGB")
        name = f"{k}.jpg" if k else "0.png"
        saving = {1: {"progressive": True}, 2: {"exif": tag}}.get(k, {})
        if k:
            (image.convert("L") if k == 3 else image).save(folder / name, quality=95, **saving)
        lines.append(f"{name},{('train', 'train', 'val', 'test')[k % 4]},{k % 2},{k % 3 // 2}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


def test_nvjpeg_decodes_as_pillow_but_for_rounding(jpegs: Path) -> None:
    batch = [(jpegs / ("0.png" if k == 0 else f"{k}.jpg"), tuple(range(N_VIEWS))) for k in range(12)]
    (mine,) = decode(Path, [batch], Framing(96), USUAL_RULES, 0, identify=True)
    (found,) = decode_on_gpu(Path, [batch], Framing(96), USUAL_RULES, 1, 2, GPU, identify=True)
    assert found.images.device == GPU and found.identities == mine.identities
    assert torch.equal(found.reasons, mine.reasons) and not found.reasons.any()
    apart = (found.images.cpu().int() - mine.images.int()).abs().flatten(1)
    assert not apart[[0, 3]].any(), "the CPU decodes PNGs and grey JPEGs"
    assert apart.float().mean() < 1 and apart.max() < 32


def test_a_tensor_on_a_gpu_is_resized_to_pillow_s_bits() -> None:
    draws = np.random.default_rng(0)
    for width, height, *new in ((20, 400, 96, 96), (640, 480, 224, 224), (300, 224, 224, 224), (1500, 2000, 299, 299)):
        image = draws.integers(0, 256, (height, width, 3), dtype=np.uint8)
        expected = np.asarray(Image.fromarray(image).resize(tuple(new), Image.Resampling.BILINEAR))
        there = torch.from_numpy(image).permute(2, 0, 1).to(GPU)
        assert (resized(there, new[1], new[0]).cpu().permute(1, 2, 0).numpy() == expected).all()


def test_features_of_jpegs_that_a_gpu_decoded(sandbox: Sandbox, jpegs: Path) -> None:
    words = ("extract", "--dataset", jpegs, "--backbone", "scenesnet", "--workers", 2)
    found = {}
    for out, decoding in (("one", "gpu"), ("two", "gpu"), ("cpu", "cpu")):
        folder = sandbox.folder / f"nvjpeg-{out}"
        run(sandbox, "cuda", *words, "--decode", decoding, "--precision", "float32", "--out", folder)
        cache = load_features(jpegs, backbone="scenesnet", features_dir=folder)
        found[out] = cache.features(1).astype(np.float32)
    assert (found["one"] == found["two"]).all()
    assert np.linalg.norm(found["one"] - found["cpu"]) < 5e-2 * np.linalg.norm(found["cpu"])
