"""What depends on the device: precision, repeatable numbers, memory, and which GPU is whose.

There is no GPU where these run: it is simulated (`on_device.py`), or what it would be asked is read off the settings of
torch.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer
from conftest import draw_image
from on_device import CUDA, simulated_cuda
from PIL import Image
from sandbox import Sandbox, make_table, only
from test_full_mode import transformer
from test_models import load, some_images, with_statistics
from test_on_device import TRAINED, make_inputs, make_step
from torch import nn
from torch.overrides import TorchFunctionMode

import labeldep_cli
from labeldep_cli import LabelDependencyLoss
from labeldep_cli.cli import app
from labeldep_cli.compute.devices import mixed_precision
from labeldep_cli.compute.kernels import exact_convolutions
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.datasets.split import Skipped
from labeldep_cli.errors import DatasetError
from labeldep_cli.evaluation.evaluate import collect_features
from labeldep_cli.features import extract as extraction
from labeldep_cli.features.decode import decode
from labeldep_cli.features.framing import Framing
from labeldep_cli.features.images import read_image
from labeldep_cli.features.pixel_rules import PixelRules
from labeldep_cli.features.views import N_VIEWS, cut
from labeldep_cli.inputs.batches import Batch
from labeldep_cli.labelling.prediction import label, record
from labeldep_cli.models.backbones import architecture, find_backbone
from labeldep_cli.models.discriminator import Discriminator, seeded_critic
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import HEADS, seeded_head
from labeldep_cli.models.inference import InferenceEncoder
from labeldep_cli.models.regions import RegionFeatures
from labeldep_cli.models.weights import RANDOM_SEED
from labeldep_cli.training import adversarial_step
from labeldep_cli.training.adversarial_step import AdversarialStep

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]
EYES = ("--backbone", "scenesnet", "--workers", 0)
SMALL = ("--steps", 2, "--batch-size", 8, "--critic-layers", 1, "--critic-width", 16, "--critic-projection", 8)
FULL = "pets-*-full-adversarial"


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A workspace with a run of each mode on images, both with a critic, and a run on ready features."""
    sandbox = Sandbox(tmp_path_factory.mktemp("devices"))
    make_table(sandbox.table.parent, 30)
    x = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    np.savez(sandbox.folder / "x.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(list("abc")))
    for words in ((sandbox.table, *EYES), (sandbox.table, *EYES, "--full"), (sandbox.folder / "x.npz",)):
        result = sandbox.run("adversarial", "--dataset", *words, *SMALL)
        assert result.exit_code == 0, result.stderr
    return sandbox


def mixed(*_: object) -> torch.autocast:
    """What surrounds G in full mode on a GPU, on the CPU."""
    return torch.autocast("cpu", torch.bfloat16)


def scenesnet(spatial: bool = False) -> Encoder:
    row = find_backbone("scenesnet")
    network = with_statistics(architecture(row))
    return Encoder(RegionFeatures(network, row) if spatial else network)


# Precision


@pytest.mark.parametrize("spatial", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_the_frozen_encoder_keeps_its_own_precision(precision, spatial) -> None:
    frozen, images = InferenceEncoder(scenesnet(spatial), precision), some_images(9, 32)
    expected = frozen(images)
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype):
            assert torch.equal(frozen(images), expected)
            assert torch.is_autocast_enabled("cpu")
    with mixed():
        assert not torch.equal(frozen.trainable_copy(train_bn=False)(images), expected), "G's own copy is G's business"


class SomeImages:
    """Images as inputs, all of them one batch."""

    batch, n_views, feature_dim, device, blocks = 6, 1, 256, CPU, None

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self.images = some_images(6, 32)
        self.labels = torch.tensor([[1, 0, 0], [0, 1, 1]] * 3, dtype=torch.int8)

    def stream(self, updates, pools=None):
        for update in updates:
            yield [
                Batch(self.images[one.rows], self.labels[one.rows].float(), one.rows, one.global_batch_size)
                for one in update
            ]


def test_d_sees_the_same_features_in_training_and_at_test_time(monkeypatch) -> None:
    monkeypatch.setattr(adversarial_step, "mixed_precision", mixed)
    images = SomeImages(InferenceEncoder(scenesnet()))
    config = AdversarialConfig(full=True, batch_size=6).resolved()
    generator = Generator(images.encoder.trainable_copy(False), seeded_head("linear", 256, 3, 0, 0))
    step = AdversarialStep(generator, Discriminator(3, 256, **config.critic_shape), images, config)
    batch, *_ = next(images.stream(step.requests(0)))
    assert torch.equal(step._features(batch), collect_features(images)[batch.rows])


@pytest.mark.parametrize(("capability", "bf16"), [((7, 5), False), ((8, 0), True), ((9, 0), True), ((12, 0), True)])
def test_g_trains_in_bf16_where_the_gpu_computes_in_it(monkeypatch, capability, bf16) -> None:
    with simulated_cuda():
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        with mixed_precision(CUDA):
            assert torch.is_autocast_enabled("cpu") == bf16, "the simulated device's autocast is the CPU's"
    with mixed_precision(CPU):
        assert not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda")


class Asking(nn.Module):
    """A backbone that remembers in which precision float32 convolutions would compute on a GPU."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.seen = tf32_setting()
        return images.mean((2, 3))


NEWER = hasattr(torch.backends.cudnn, "conv")
ALLOWED, REFUSED = ("tf32", "ieee") if NEWER else (True, False)


def tf32_setting() -> object:
    return torch.backends.cudnn.conv.fp32_precision if NEWER else torch.backends.cudnn.allow_tf32


def set_tf32(value: object) -> None:
    if NEWER:
        torch.backends.cudnn.conv.fp32_precision = value
    else:
        torch.backends.cudnn.allow_tf32 = value


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_what_is_called_float32_is_computed_in_it_on_a_gpu(precision) -> None:
    own = tf32_setting()
    set_tf32(ALLOWED)
    with simulated_cuda():
        frozen = InferenceEncoder(Encoder(Asking()).to(CUDA), precision)
        frozen(some_images().to(CUDA))
    assert frozen.backbone.seen == (ALLOWED if precision == "float16" else REFUSED)
    assert tf32_setting() == ALLOWED, "a user's other networks compute as before"
    plain = InferenceEncoder(Encoder(Asking()))
    plain(some_images())
    assert plain.backbone.seen == ALLOWED
    set_tf32(own)


def test_older_torch_is_asked_for_float32_by_its_own_switch(monkeypatch) -> None:
    switches = SimpleNamespace(allow_tf32=True)
    monkeypatch.setattr(torch.backends, "cudnn", switches)
    with pytest.raises(ZeroDivisionError), exact_convolutions(CUDA, torch.float32):
        assert switches.allow_tf32 is False
        _ = 1 / 0
    assert switches.allow_tf32 is True


class Overflowing(nn.Module):
    """An encoder whose features overflow where an image is white; counts its passes."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder, self.passes = encoder, 0

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        white = (images == 255).flatten(1).all(dim=1)
        return torch.where(white[:, None], torch.inf, self.encoder(images))


@pytest.mark.parametrize("decision", ["threshold", "rerank", "expected-f1"])
@pytest.mark.parametrize("run", ["pets-*scenesnet-adversarial", FULL])
def test_an_image_whose_features_overflow_is_skipped_by_predict_as_by_extract(
    sandbox: Sandbox, photos: list[Path], run: str, decision: str
) -> None:
    photos[1].write_bytes(photos[0].read_bytes())
    Image.new("RGB", (40, 40), "white").save(photos[2])
    model = labeldep_cli.load(only(sandbox.folder / "runs", run), decision=decision, device="cpu")
    labeller = model.labeller
    expected = [record(one, True) for one in model.predict([photos[0], photos[3]])]
    eyes = Overflowing(labeller.generator.encoder)
    labeller.generator.encoder = eyes
    labeller = replace(labeller, frozen=eyes if run != FULL else labeller.frozen)
    (decoded,) = decode(Path, [[(path, (0,)) for path in photos]], labeller.square, labeller.rules, 0)
    told = [record(one, True) for one in label(labeller, [str(path) for path in photos], decoded)]
    assert told[2] == {"path": str(photos[2]), "skipped": "features not finite in 16 bits"}
    for mine, alone in zip((told[0], told[3]), expected, strict=True):
        assert mine["labels"] == [{**one, "probability": pytest.approx(one["probability"])} for one in alone["labels"]]
    assert eyes.passes == 1, "the critic looks at what G has looked at"
    (decoded,) = decode(Path, [[(photos[2], (0,))]], labeller.square, labeller.rules, 0)
    (told,) = label(labeller, ["white"], decoded)
    assert told == Skipped("white", "features not finite in 16 bits")
    with pytest.raises(DatasetError, match=rf"{photos[2].name}: features not finite in 16 bits"):
        replace(model, labeller=labeller).predict(photos)


def test_an_image_that_overflows_for_the_critic_alone_is_skipped_too(sandbox: Sandbox, photos: list[Path]) -> None:
    photos[1].write_bytes(photos[0].read_bytes())
    Image.new("RGB", (40, 40), "white").save(photos[2])
    labeller = labeldep_cli.load(only(sandbox.folder / "runs", FULL), decision="rerank", device="cpu").labeller
    labeller = replace(labeller, frozen=Overflowing(labeller.frozen))
    (decoded,) = decode(Path, [[(path, (0,)) for path in photos]], labeller.square, labeller.rules, 0)
    told = list(label(labeller, [str(path) for path in photos], decoded))
    assert [isinstance(one, Skipped) for one in told] == [False, False, True, False]


def test_full_mode_does_not_decide_by_features_that_overflow() -> None:
    """Without stored features nothing has left such an image out."""
    images = SomeImages(Overflowing(scenesnet()))
    images.paths = [f"{k}.png" for k in range(6)]
    assert collect_features(images).isfinite().all()
    images.images[4] = 255
    with pytest.raises(DatasetError, match=r"4\.png: features not finite in 16 bits") as refused:
        collect_features(images)
    assert "labeldep extract" in refused.value.remedy


def test_a_row_that_is_not_finite_is_refused(sandbox: Sandbox) -> None:
    model = labeldep_cli.load(only(sandbox.folder / "runs", "x-*-adversarial"), device="cpu")
    rows = np.full((2, 5), np.nan, np.float32)
    rows[0] = 0
    assert len(model.predict(rows[:1])) == 1
    with pytest.raises(DatasetError, match="a row: features not finite"):
        model.predict(rows)


# Repeatable numbers


@pytest.fixture
def attended(monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """Which kernels attention could choose from, each time that it was asked for."""
    found = []
    attention = torch.nn.functional.scaled_dot_product_attention
    names = ("flash", "mem_efficient", "cudnn", "math")

    def asked(*args, **kwargs):
        found.append({name for name in names if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()})
        return attention(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", asked)
    return found


def small_head(kind: str = "linear", width: int = 12) -> nn.Module:
    return seeded_head(kind, width, 3, 16, seed=0)


@pytest.mark.parametrize("device", [CPU, CUDA], ids=str)
def test_attention_whose_gradient_is_asked_for_repeats_itself_on_a_gpu(device, attended) -> None:
    fused = {"flash", "mem_efficient", "cudnn", "math"}
    with simulated_cuda():
        generator = Generator(nn.Identity(), small_head("ml-decoder")).to(device)
        regions = torch.rand(2, 4, 12).to(device)
        generator(regions).sum().backward()
        assert attended == [{"math"} if device == CUDA else fused]
        with torch.no_grad():
            generator(regions)
        assert attended[1:] == [fused], "forward, the fused kernels repeat their numbers"


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_transformer_s_attention_repeats_itself_when_it_is_computed_again_too(attended, checkpointed) -> None:
    with simulated_cuda():
        encoder = Encoder(transformer()).trainable_copy(False, checkpointed)
        generator = Generator(encoder, small_head(width=encoder(some_images(1, 64)).shape[1])).to(CUDA)
        attended.clear()
        loss = generator(some_images(2, 64).to(CUDA)).sum()
        forward = len(attended)
        loss.backward()
    assert forward and len(attended) == (2 * forward if checkpointed else forward)
    assert attended == [{"math"}] * len(attended)


UNREPEATABLE = {
    *("cumsum", "cumprod", "histc", "bincount", "kthvalue", "median", "put_", "scatter_reduce", "index_reduce"),
    *("_adaptive_avg_pool2d_backward", "adaptive_max_pool2d_backward", "max_unpool2d", "nll_loss2d", "_ctc_loss"),
    *("upsample_bilinear2d_backward", "upsample_nearest2d_backward", "grid_sampler_2d_backward", "_embedding_bag"),
}
"""What torch.use_deterministic_algorithms lists as without a CUDA kernel that repeats its numbers, of this program's
kind."""


@pytest.mark.parametrize("how", TRAINED.values(), ids=TRAINED)
def test_training_asks_for_no_kernel_that_cannot_repeat_its_numbers(how: dict[str, Any]) -> None:
    more = {"head": "linear", "critic": None} | how
    with simulated_cuda() as device:
        rows = make_inputs(30, CUDA, regions=4 if HEADS[more["head"]].spatial else 0)
        step, _ = make_step(rows, **more)
        batches = rows.stream(step.requests(0))
        for number in range(2):
            step(number, batches)
    asked = {kernel.split(" ")[1] for kernel in device.kernels}
    assert {"_fused_adam_", "mm"} & asked and not UNREPEATABLE & asked


def test_a_full_mode_step_asks_for_none_either() -> None:
    with simulated_cuda() as device:
        generator = Generator(scenesnet().trainable_copy(train_bn=True), small_head(width=256)).to(CUDA)
        generator(some_images(2, 32).to(CUDA)).sum().backward()
    asked = {kernel.split(" ")[1] for kernel in device.kernels}
    assert "convolution_backward" in asked and not UNREPEATABLE & asked


def settings() -> tuple[object, ...]:
    """All of torch's that decide whether a GPU repeats its numbers, and which ones these are."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,
        torch.backends.cudnn.benchmark,
        tf32_setting(),
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.fixture
def own_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[object, ...]]:
    """The settings of a user who wants speed; put back afterwards as they were."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = settings()
    torch.backends.cudnn.benchmark = True
    set_tf32(ALLOWED)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield settings()
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.utils.deterministic.fill_uninitialized_memory = before[2]
    torch.backends.cudnn.benchmark = before[3]
    set_tf32(before[4])


@pytest.mark.parametrize("words", [("eval",), ("predict", "IMAGE"), ("predict", "--stdin-json")], ids=" ".join)
def test_a_command_has_a_gpu_repeat_its_numbers_and_takes_that_gpu_alone(
    sandbox: Sandbox, monkeypatch, own_settings, words
) -> None:
    images, run = sandbox.table.parent / "img", only(sandbox.folder / "runs", "pets-*scenesnet-adversarial")
    words = [images / "0.png" if word == "IMAGE" else word for word in words]
    taken = []
    with simulated_cuda():
        monkeypatch.setattr(torch.cuda, "set_device", taken.append)
        result = sandbox.run(*words, *([run] if words[0] == "eval" else ["--run", run]), "--device", "cuda")
        assert result.exit_code == 0, result.stderr
        assert settings() == (True, True, False, False, REFUSED, ":4096:8")
    assert taken == [CUDA]


def test_on_a_cpu_a_command_changes_no_settings(sandbox: Sandbox, own_settings) -> None:
    assert sandbox.run("eval", only(sandbox.folder / "runs", "x-*-adversarial"), "--device", "cpu").exit_code == 0
    assert settings() == own_settings


@pytest.mark.parametrize("run", ["pets-*scenesnet-adversarial", FULL, "x-*-adversarial"])
def test_a_loaded_run_leaves_the_user_s_settings_alone(sandbox: Sandbox, monkeypatch, own_settings, run) -> None:
    def refuse(device: object) -> None:
        raise AssertionError("the user's current GPU was changed")

    with simulated_cuda():
        monkeypatch.setattr(torch.cuda, "set_device", refuse)
        model = labeldep_cli.load(only(sandbox.folder / "runs", run), decision="rerank", device="cuda")
        model.predict([sandbox.table.parent / "img" / "0.png"] if model.side else np.zeros((2, 5), np.float32))
        assert settings() == own_settings


# Random numbers


@pytest.fixture
def seeds_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where every device's generator is started anew, as torch.manual_seed does whether there is a GPU or not."""

    def refuse(*_: object) -> None:
        raise AssertionError("the generators of the GPUs were started anew")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    with pytest.raises(AssertionError, match="started anew"):
        torch.manual_seed(0)


BUILT: dict[str, Callable[[], nn.Module]] = {
    "critic": lambda: seeded_critic(3, 5, AdversarialConfig().resolved().critic_shape, seed=7),
    "critic of the API": lambda: LabelDependencyLoss(3, 5, seed=7).network,
    **{kind: lambda kind=kind: seeded_head(kind, 6, 3, 8, seed=7) for kind in HEADS},
    **{name: lambda name=name: load(name).module for name in ("squeezenet1_1", "googlenet", "scenesnet", "vgg16")},
}


@pytest.mark.parametrize("what", BUILT)
def test_initial_weights_leave_everybody_s_random_numbers_alone(what: str, seeds_no_gpu: None) -> None:
    before = torch.get_rng_state()
    BUILT[what]()
    assert torch.equal(torch.get_rng_state(), before)


def test_initial_weights_are_those_of_torch_s_own_seed() -> None:
    shape = AdversarialConfig().resolved().critic_shape
    for what, seed, build in (
        ("critic", 7, lambda: Discriminator(3, 5, **shape)),
        ("ml-decoder", 7, lambda: HEADS["ml-decoder"](6, 3, 8)),
        ("squeezenet1_1", RANDOM_SEED, lambda: architecture(find_backbone("squeezenet1_1"))),
    ):
        torch.manual_seed(seed)
        expected, found = build().state_dict(), BUILT[what]().state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], value) for name, value in expected.items())


@pytest.mark.parametrize("run", ["pets-*scenesnet-adversarial", FULL, "x-*-adversarial"])
def test_opening_a_run_leaves_everybody_s_random_numbers_alone(sandbox: Sandbox, run: str, seeds_no_gpu: None) -> None:
    before = torch.get_rng_state()
    labeldep_cli.load(only(sandbox.folder / "runs", run), decision="rerank")
    assert torch.equal(torch.get_rng_state(), before)


def test_no_command_starts_the_gpus_generators_anew(sandbox: Sandbox, tmp_path: Path, seeds_no_gpu: None) -> None:
    fresh = Sandbox(tmp_path)
    result = fresh.run("adversarial", "--dataset", sandbox.table, *EYES, *SMALL)
    assert result.exit_code == 0, result.stderr
    image = next((sandbox.table.parent / "img").glob("*.png"))
    run = only(tmp_path / "runs", "*-adversarial")
    for words in (("eval",), ("predict", image), ("audit", run, "--out", tmp_path / "audit")):
        result = fresh.run(*words)
        assert result.exit_code == 0, result.stderr


def test_nothing_that_is_imported_seeds_all_devices() -> None:
    """Examples and scripts are programs of their own, which may seed what they like."""
    files = [path for folder in ("labeldep_cli", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    calls = re.compile(r"(torch|random|cuda)\.(manual_seed(_all)?|seed(_all)?)\(")
    assert len(files) > 150
    assert [str(path) for path in files if calls.search(path.read_text())] == []


# Copies


class Copies(TorchFunctionMode):
    """Remembers what is asked of Tensor.to: the tensor, where to, and whether the copy may go on by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[torch.Tensor, torch.device, bool]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is torch.Tensor.to and len(args) > 1 and isinstance(args[1], str | torch.device):
            self.asked.append((args[0], torch.device(args[1]), bool((kwargs or {}).get("non_blocking"))))
        return func(*args, **(kwargs or {}))


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Four images, the second one broken."""
    paths = [draw_image(tmp_path / f"{k}.png", k) for k in range(4)]
    paths[1].write_bytes(b"broken")
    return paths


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("n_views", [1, 2, N_VIEWS])
def test_a_view_of_a_batch_can_be_copied_as_it_lies(photos: list[Path], workers: int, n_views: int) -> None:
    items = [(path, tuple(range(n_views))) for path in photos]
    (decoded,) = decode(Path, [items], Framing(16), PixelRules(), workers)
    assert decoded.images.shape == (4, n_views, 3, 16, 16)
    for view in range(n_views):
        seen = decoded.images[:, view]
        assert seen.is_contiguous(memory_format=torch.channels_last)
        assert not seen[1].any()
        assert (seen[2].numpy() == cut(read_image(photos[2], PixelRules()), (view,), Framing(16))[0]).all()


def test_extraction_copies_views_as_they_lie_and_waits_for_features_off_a_gpu(photos: list[Path]) -> None:
    (decoded,) = decode(Path, [[(path, (0, 7, 20)) for path in photos]], Framing(16), PixelRules(), 0)
    with Copies() as copies:
        extraction._encode(nn.Flatten(), decoded, CPU, len(decoded.reasons))
    images = [tensor for tensor, _, _ in copies.asked if tensor.dtype == torch.uint8]
    assert len(images) == 3 and all(one.is_contiguous(memory_format=torch.channels_last) for one in images)
    waits = [not alone for tensor, device, alone in copies.asked if tensor.dtype == torch.float16 and device == CPU]
    assert waits == [True] * 3


def test_predict_copies_a_pinned_batch_as_it_is(sandbox: Sandbox, photos: list[Path]) -> None:
    run = only(sandbox.folder / "runs", "pets-*scenesnet-adversarial")
    with simulated_cuda() as device:
        labeller = labeldep_cli.load(run, device="cuda").labeller
        for paths in (photos, [photos[0], *photos[2:]]):
            (decoded,) = decode(Path, [[(path, (0,)) for path in paths]], labeller.square, labeller.rules, 0, pin=True)
            device.clear()
            found = list(label(labeller, [str(path) for path in paths], decoded))
            assert [isinstance(one, Skipped) for one in found] == [path == photos[1] for path in paths]
            assert not device.copies[0].blocking
            assert photos[1] in paths or device.copies[0].free, "a copy of it would not lie in pinned memory"


# Memory


COMMANDS: dict[str, Callable[[Sandbox], tuple[object, ...]]] = {
    "demo": lambda sandbox: (),
    "extract": lambda sandbox: ("--dataset", sandbox.table, *EYES, "--fresh"),
    "pretrain": lambda sandbox: ("--dataset", sandbox.folder / "x.npz"),
    "adversarial": lambda sandbox: ("--dataset", sandbox.table, *EYES, "--full", "--steps", 3, "--fresh"),
    "eval": lambda sandbox: (only(sandbox.folder / "runs", "pets-*scenesnet-adversarial"),),
    "compare": lambda sandbox: tuple(sandbox.folder.glob("runs/pets-*scenesnet-*l")),
    "dependency": lambda sandbox: (only(sandbox.folder / "runs", "x-*-adversarial"),),
    "audit": lambda sandbox: (only(sandbox.folder / "runs", "x-*-adversarial"),),
    "predict": lambda sandbox: (sandbox.table.parent / "img" / "0.png", "--run", only(sandbox.folder / "runs", FULL)),
    "report": lambda sandbox: (only(sandbox.folder / "runs", "x-*-adversarial"),),
    "tune": lambda sandbox: ("--dataset", sandbox.folder / "x.npz"),
    "reproduce": lambda sandbox: ("--dataset", sandbox.folder / "x.npz", "--seeds", 1, "--steps", 2),
}
"""What each command needs to come to the GPU."""


def flags_of(command: str) -> set[str]:
    return {flag for parameter in typer.main.get_command(app).commands[command].params for flag in parameter.opts}


def test_every_command_that_computes_on_a_gpu_is_among_these() -> None:
    commands = typer.main.get_command(app).commands
    assert {name for name in commands if "--device" in flags_of(name)} == COMMANDS.keys()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_gpu_without_memory_is_no_traceback_and_the_remedy_fits_the_command(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.\nGPU 0 has 80 GiB")

    flags = flags_of(command)
    out = ("--out", tmp_path / "out") if "--out" in flags else ()
    if command == "demo":  # it paints its data set first, for seconds
        monkeypatch.setattr("labeldep_cli.pipelines.demo.demo", full)
    with simulated_cuda() as device:
        monkeypatch.setattr(type(device), "take_in", full)
        result = sandbox.run(command, *COMMANDS[command](sandbox), *out, "--device", "cuda")
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1
    what, *remedy = result.stderr[result.stderr.index("error: ") :].splitlines()
    assert what == "error: the GPU has too little memory: CUDA out of memory. Tried to allocate 20.00 MiB."
    named = set(re.findall(r"--[a-z-]+", " ".join(remedy)))
    assert "--device" in named and named <= flags
    helping = {"--batch-size", "--accumulate", "--checkpoint-activations", "--max-memory"}
    assert named - {"--device"} - {"--full"} == flags & helping


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"), "CUDA error: out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "cublasCreate"),
        (RuntimeError("NCCL error: unhandled\nCuda failure 2 'out of memory'"), "Cuda failure 2"),
        (
            torch.OutOfMemoryError("Caught OutOfMemoryError in pin memory thread.\n  CUDA out of memory. Tried"),
            ": CUDA out of memory. Tried",
        ),
    ],
)
def test_every_way_of_running_out_of_memory_is_told(monkeypatch, sandbox: Sandbox, error, told) -> None:
    def raises(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("labeldep_cli.pipelines.evaluate.evaluate_run", raises)
    result = sandbox.run("eval")
    assert result.exit_code == 1 and told in result.stderr.splitlines()[0]


def test_another_error_of_torch_keeps_its_traceback(monkeypatch, sandbox: Sandbox) -> None:
    def raises(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr("labeldep_cli.pipelines.evaluate.evaluate_run", raises)
    result = sandbox.run("eval")
    assert isinstance(result.exception, RuntimeError) and "illegal" in str(result.exception)
