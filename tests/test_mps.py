"""The program on Apple's GPU (`--device mps`), simulated with its rules: `on_device.py` and `mps_rules.py` say which.

Nobody has run it on a real one yet. Head mode must leave the CPU's bytes here, as on the simulated CUDA device.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from on_device import CPU, MPS, Refused, simulated_mps
from sandbox import make_table
from test_devices import Asking
from test_models import some_images
from test_on_device import (
    RUN_FILES,
    SEES,
    TRAINED,
    F,
    L,
    OnBoth,
    make_critic,
    same_runs,
    stored,
    take_steps,
    train,
)
from torch import nn

import labeldep_cli
from labeldep_cli.compute.devices import mixed_precision, pick_device
from labeldep_cli.compute.distributed import join
from labeldep_cli.compute.staging import Staging
from labeldep_cli.compute.transfer import in_double
from labeldep_cli.config import AdversarialConfig
from labeldep_cli.datasets.split import SPLITS
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation.expected_f1 import best_expected_f1
from labeldep_cli.evaluation.rerank import rerank, score_candidates
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.inference import InferenceEncoder, precision_on
from labeldep_cli.models.scenesnet import ScenesNet


class TestSimulation:
    def test_there_is_no_float64(self) -> None:
        with simulated_mps():
            x = torch.ones(2, device="mps")
            for double in (x.double, lambda: torch.zeros(2, dtype=torch.float64, device=MPS), lambda: x.to(float)):
                with pytest.raises(Refused, match=r"test_mps\.py:\d+: torch\.float64 on mps:0"):
                    double()
            assert in_double(x).dtype == torch.float64 and in_double(x).device == CPU

    def test_nothing_is_pinned_nor_copied_without_waiting(self) -> None:
        with simulated_mps():
            x = torch.ones(2, device="mps")
            for refused in (
                lambda: torch.ones(2).pin_memory(),
                lambda: torch.empty(2, pin_memory=True),
                lambda: torch.ones(2).to(MPS, non_blocking=True),
                lambda: x.to("cpu", non_blocking=True),
                lambda: x.to("cuda"),
                torch.cuda.current_stream,
                torch.cuda.Event,
            ):
                with pytest.raises(Refused, match=r"test_mps\.py:\d+: "):
                    refused()

    def test_operators_need_a_kernel(self) -> None:
        with simulated_mps():
            x = torch.eye(2, device="mps")
            assert torch.equal((x @ x).sort().values.cpu(), torch.tensor([[0.0, 1.0], [0.0, 1.0]]))
            with pytest.raises(Refused, match="linalg_eig has no kernel for mps:0"):
                torch.linalg.eig(x)

    def test_no_gradient_of_maps_that_lie_channels_last(self) -> None:
        with simulated_mps():
            layer, maps = nn.Conv2d(3, 4, 2).to(MPS), torch.ones(2, 3, 5, 5, device="mps")
            layer(maps).sum().backward()
            with pytest.raises(Refused, match="convolution_backward of maps that lie channels last, on mps:0"):
                layer(maps.contiguous(memory_format=torch.channels_last)).sum().backward()


# The device


def test_it_is_taken_only_by_name() -> None:
    with simulated_mps():
        assert pick_device("auto") == CPU and pick_device("mps") == MPS


@pytest.mark.parametrize(("built", "why"), [(True, "torch finds no GPU of Apple"), (False, "built without it")])
def test_where_there_is_none_it_is_refused(monkeypatch, built: bool, why: str) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: built)
    with pytest.raises(LabeldepError, match=f"there is no device 'mps' here: .*{why}") as refused:
        pick_device("mps")
    assert "--device cpu" in refused.value.remedy
    with pytest.raises(LabeldepError, match="there is no device 'mps:0'"):
        pick_device("mps:0")


def test_several_processes_do_not_compute_on_it(monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LabeldepError, match="several processes cannot compute together on Apple's GPU"):
        join(MPS)


def test_precision_and_slices() -> None:
    assert precision_on(MPS, "auto") == "float32" and precision_on(MPS, "float16") == "float16"
    with simulated_mps() as device:
        frozen = InferenceEncoder(Encoder(Asking()).to(MPS), "auto")
        images = some_images(33, 32).contiguous(memory_format=torch.channels_last)
        frozen(images.to(MPS))
        assert len([where for where in device.kernels.elements() if where.endswith(" mean")]) == 2, "32 and 1"
        with mixed_precision(MPS):
            assert not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("mps")


def test_tensors_travel_one_by_one_and_are_waited_for() -> None:
    with simulated_mps() as device:
        sent = [torch.arange(3), torch.ones(2, 2), torch.tensor([True])]
        there = Staging(MPS)(sent)
        assert len(device.copies) == 3 and all(copy.blocking for copy in device.copies)
        assert all(one.device == MPS and torch.equal(one.cpu(), other) for one, other in zip(there, sent, strict=True))


def test_a_trainable_encoder_lays_maps_row_by_row() -> None:
    with simulated_mps():
        encoder = Encoder(ScenesNet().eval()).trainable_copy(train_bn=True).to(MPS)
        images = some_images(2, 32).contiguous(memory_format=torch.channels_last)
        encoder(images.to(MPS)).sum().backward()
        assert all(weight.grad.cpu().isfinite().all() for weight in encoder.parameters())


def test_too_little_memory_is_told_and_the_remedy_fits(sandbox: OnBoth, monkeypatch) -> None:
    def raises(*_: object, **__: object) -> None:
        raise RuntimeError(
            "MPS backend out of memory (MPS allocated: 9.06 GB, max allowed: 9.07 GB). Tried to allocate 1 MB"
        )

    monkeypatch.setattr("labeldep_cli.pipelines.evaluate.evaluate_run", raises)
    result = sandbox.run("eval")
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert "error: the GPU has too little memory: MPS backend out of memory" in result.stderr
    assert "--device cpu" in result.stderr and "nvidia-smi" not in result.stderr and "cuda:N" not in result.stderr


# Training and decisions


@pytest.mark.parametrize("how", TRAINED.values(), ids=TRAINED)
def test_training_leaves_the_cpu_s_bytes(tmp_path: Path, how: dict[str, object]) -> None:
    train(CPU, tmp_path / "cpu", (4,), **how)
    with simulated_mps():
        train(MPS, tmp_path / "device", (4,), **how)
    for name in RUN_FILES:
        assert (tmp_path / "device" / name).read_bytes() == (tmp_path / "cpu" / name).read_bytes(), name


@pytest.mark.parametrize("kind", ["wgan-gp", "nce"])
def test_label_dependency_loss_gives_the_cpu_s_numbers(kind: str) -> None:
    on_cpu = take_steps(kind, [CPU] * 4)
    with simulated_mps():
        found = take_steps(kind, [CPU, CPU, MPS, MPS])
    assert all(torch.equal(one, other) for one, other in zip(on_cpu, found, strict=True))


def test_decisions_are_the_cpu_s() -> None:
    def found(device: torch.device) -> list[torch.Tensor]:
        draws = torch.Generator().manual_seed(0)
        logits, z = torch.randn(9, L, generator=draws).to(device), torch.randn(9, F, generator=draws).to(device)
        critic = make_critic(AdversarialConfig(critic_width=16, critic_projection=8).resolved()).to(device)
        listed = score_candidates(critic, logits, z)
        chosen = [
            rerank(critic, logits, z, 1.0),
            best_expected_f1(listed.own.sets, listed.posterior(1.0).probabilities()),
        ]
        return [tensor.cpu() for tensor in chosen]

    mine = found(CPU)
    with simulated_mps():
        theirs = found(MPS)
    assert all(torch.equal(one, other) for one, other in zip(mine, theirs, strict=True))


# Whole commands


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> OnBoth:
    """A workspace whose features the device has extracted: 18 train, 6 val, 6 test; and a pretrained run."""
    sandbox = OnBoth(tmp_path_factory.mktemp("mps"))
    make_table(sandbox.table.parent, rows=30)
    sandbox.on("mps", "extract", "--dataset", sandbox.table, *SEES, "--views", 21)
    sandbox.train("mps", "pretrain", "pretrained")
    return sandbox


def critic_of(sandbox: OnBoth, device: str, *words: str) -> Path:
    out = "-".join([device, *words])
    return sandbox.train(device, "adversarial", out, "--from", sandbox.folder / "runs" / "pretrained", *words)


def test_features_are_the_cpu_s_up_to_the_size_of_a_pass(sandbox: OnBoth) -> None:
    sandbox.on("cpu", "extract", "--dataset", sandbox.table, *SEES, "--out", sandbox.folder / "here")
    for split in SPLITS:
        here, there = (stored(sandbox, split, name) for name in ("here", Path("data", "features")))
        assert here.store.kind == there.store.kind, "float32 both"
        np.testing.assert_allclose(here.features(1), there.features(1), atol=2e-3)


def test_decoding_processes_change_nothing(sandbox: OnBoth) -> None:
    words = ("--workers", 1, "--out", sandbox.folder / "by-1", "--split", "test")
    sandbox.on("mps", "extract", "--dataset", sandbox.table, *SEES[:2], *words)
    one, other = (stored(sandbox, "test", name) for name in (Path("data", "features"), "by-1"))
    assert (one.features(1) == other.features(1)).all()


@pytest.mark.parametrize(
    "words", [(), ("--critic", "nce", "--freeze-generator"), ("--critic", "kernel"), ("--critic", "none")]
)
def test_a_run_leaves_the_cpu_s_bytes_and_decides_alike(sandbox: OnBoth, words: tuple[str, ...]) -> None:
    runs = [critic_of(sandbox, device, *words) for device in ("cpu", "mps")]
    assert same_runs(*runs)
    rules = ("threshold",) if "none" in words else ("threshold", "rerank", "expected-f1")
    for rule in rules:
        told = [sandbox.on(device, "eval", runs[1], "--decision", rule, "--json") for device in ("cpu", "mps")]
        assert told[0] == told[1]


def test_predict_and_the_python_api(sandbox: OnBoth) -> None:
    run = critic_of(sandbox, "mps", "--critic", "nce", "--freeze-generator")
    images = [sandbox.table.parent / "img" / f"{k}.png" for k in range(6)]
    told = {}
    for device in ("cpu", "mps"):
        words = ("predict", *images, "--run", run, "--decision", "rerank", "--all", "--json", "--workers", 1)
        lines = sandbox.on(device, *words).splitlines()
        told[device] = [list(json.loads(line)["probabilities"].values()) for line in lines]
    np.testing.assert_allclose(told["mps"], told["cpu"], atol=1e-4)
    with simulated_mps():
        model = labeldep_cli.load(run, decision="rerank", device="mps")
        (labelled,) = model.predict(images[:1])
    assert list(labelled.probabilities.values()) == pytest.approx(told["cpu"][0], abs=1e-4)


def test_joint_heads_and_regions(sandbox: OnBoth) -> None:
    for head in ("powerset", "chain"):
        run = sandbox.train("mps", "pretrain", head, "--head", head)
        assert same_runs(run, sandbox.train("cpu", "pretrain", f"{head}-cpu", "--head", head))
        told = [sandbox.on(device, "eval", run, "--decision", "rerank", "--json") for device in ("cpu", "mps")]
        assert told[0] == told[1]
    run = sandbox.train("mps", "pretrain", "regions", "--head", "ml-decoder", "--hidden", 16)
    assert json.loads(sandbox.on("mps", "eval", run, "--json"))["n_images"] == 6


@pytest.mark.parametrize("words", [(), ("--train-bn",)])
def test_full_mode(sandbox: OnBoth, words: tuple[str, ...]) -> None:
    out = "-".join(["full", *words])
    first = sandbox.train("mps", "pretrain", f"{out}-first", "--full", *words)
    run = sandbox.train("mps", "adversarial", out, "--full", *words, "--from", first)
    assert json.loads(sandbox.on("mps", "eval", run, "--decision", "rerank", "--json"))["n_images"] == 6


def test_other_commands(sandbox: OnBoth) -> None:
    run = critic_of(sandbox, "mps", "--critic", "nce", "--freeze-generator")
    sandbox.on("mps", "compare", run, sandbox.folder / "runs" / "pretrained", "--json")
    sandbox.on("mps", "dependency", run, "--decision", "rerank", "--json")
    sandbox.on("mps", "report", run, "--out", sandbox.folder / "mps.html")
    sandbox.on("mps", "audit", run, "--out", sandbox.folder / "audit-mps")
    with simulated_mps():
        assert sandbox.json("doctor")["device"]["mps"] is True
