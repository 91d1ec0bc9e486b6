"""What only Apple's GPU can show: that `--device mps` computes what the CPU computes, but for rounding."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from on_device import CPU, MPS
from sandbox import make_table
from test_on_device import SEES, TRAINED, OnBoth, make_inputs, make_step
from torch import nn

from labeldep_cli.evaluation.candidates import most_probable_sets
from labeldep_cli.features.cache import FeatureCache
from labeldep_cli.models.encoder import Encoder
from labeldep_cli.models.heads.registry import HEADS
from labeldep_cli.models.scenesnet import ScenesNet
from labeldep_cli.projects.load_features import load_features

pytestmark = pytest.mark.skipif(
    not torch.backends.mps.is_available(), reason="needs a Mac: torch.backends.mps.is_available() is False here"
)


def test_candidates_are_the_cpu_s() -> None:
    """Sets of booleans, of which 31 labels are chosen, gathered and scattered."""
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0))
    assert torch.equal(most_probable_sets(logits.to(MPS), 32).cpu(), most_probable_sets(logits, 32))


@pytest.mark.parametrize("how", TRAINED.values(), ids=TRAINED)
def test_training_steps_compute_what_the_cpu_computes(how: dict[str, object]) -> None:
    told = []
    for device in (CPU, MPS):
        more = {"head": "linear", "critic": None} | how
        rows = make_inputs(30, device, regions=4 if HEADS[more["head"]].spatial else 0)
        step, _ = make_step(rows, **more)
        batches = rows.stream(step.requests(0))
        told.append([{name: float(value) for name, value in step(k, batches).items()} for k in range(4)])
    for mine, theirs in zip(*told, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2, abs=1e-3)


def test_gradients_of_convolutions_are_the_cpu_s() -> None:
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=torch.channels_last)
    found: list[dict[str, torch.Tensor]] = []
    for device in (CPU, MPS):
        torch.manual_seed(0)
        encoder = Encoder(ScenesNet().eval()).trainable_copy(train_bn=True).to(device)
        encoder(images.to(device)).square().sum().backward()
        found.append({name: weight.grad.cpu() for name, weight in nn.Module.named_parameters(encoder)})
    for name, mine in found[0].items():
        assert (found[1][name] - mine).norm() < 1e-2 * mine.norm() + 1e-5, name


class OnRealOnes(OnBoth):
    real = True


def test_commands(tmp_path: Path) -> None:
    sandbox = OnRealOnes(tmp_path)
    make_table(sandbox.table.parent, rows=30)
    caches: list[FeatureCache] = []
    for device in ("cpu", "mps"):
        folder = tmp_path / f"features-{device}"
        sandbox.on(device, "extract", "--dataset", sandbox.table, *SEES, "--out", folder)
        caches.append(load_features(sandbox.table, "train", backbone="scenesnet", features_dir=folder))
    np.testing.assert_allclose(caches[0].features(1), caches[1].features(1), atol=1e-2)
    first = sandbox.train("mps", "pretrain", "first")
    for words in ((), ("--critic", "nce", "--freeze-generator"), ("--critic", "kernel")):
        run = sandbox.train("mps", "adversarial", "-".join(["run", *words]), "--from", first, *words)
        told = [
            json.loads(sandbox.on(device, "eval", run, "--decision", "rerank", "--json")) for device in ("cpu", "mps")
        ]
        assert told[0]["mAP"] == pytest.approx(told[1]["mAP"], abs=0.5)
    sandbox.train("mps", "adversarial", "full", "--full", "--from", first)
    images = [sandbox.table.parent / "img" / f"{k}.png" for k in range(6)]
    lines = [sandbox.on(device, "predict", *images, "--run", first, "--all", "--json") for device in ("cpu", "mps")]
    mine, theirs = ([list(json.loads(x)["probabilities"].values()) for x in one.splitlines()] for one in lines)
    np.testing.assert_allclose(mine, theirs, atol=1e-2)
