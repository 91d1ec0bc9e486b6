"""The losses that stand beside the paper's: focal, asymmetric, ranking."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sandbox import Sandbox

from labeldep_cli.training.losses import LOSSES, asymmetric_loss, focal_loss, logistic_loss, warp_loss


def batch(seed: int = 0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 5, generator=generator), torch.randint(0, 2, (16, 5), generator=generator).float()


def test_focal_by_hand() -> None:
    """Logit ln 3: p = 3/4. Present: (1/4)^2 ln(4/3). Absent: (3/4)^2 ln 4."""
    logits = torch.full((1, 2), math.log(3))
    found = focal_loss(logits, torch.tensor([[1.0, 0.0]]), "sum")
    assert float(found) == pytest.approx(math.log(4 / 3) / 16 + 9 / 16 * math.log(4))


def test_asymmetric_by_hand() -> None:
    """p = 3/4. Present: (1/4)^1 ln(4/3). Absent: p_m = 0.7, 0.7^4 times -ln 0.3."""
    logits = torch.full((1, 2), math.log(3))
    found = asymmetric_loss(logits, torch.tensor([[1.0, 0.0]]), "sum")
    assert float(found) == pytest.approx(math.log(4 / 3) / 4 - 0.7**4 * math.log(0.3))


def test_no_gradient_flows_through_asymmetric_s_focus() -> None:
    """p = 3/4, p (1 - p) = 3/16. Present: 1/4 times the slope of -ln p, which is p - 1.

    Absent: 0.7^4 times the slope of -ln(1.05 - p), which is 3/16 / 0.3.
    """
    for y, slope in ((1.0, 1 / 4 * -1 / 4), (0.0, 0.7**4 * (3 / 16) / 0.3)):
        logits = torch.full((1, 1), math.log(3), requires_grad=True)
        asymmetric_loss(logits, torch.full((1, 1), y), "mean").backward()
        assert float(logits.grad) == pytest.approx(slope, rel=1e-5)


def test_absent_labels_below_the_margin_are_left_alone() -> None:
    logits = torch.tensor([[math.log(0.04 / 0.96)]], requires_grad=True)
    loss = asymmetric_loss(logits, torch.zeros(1, 1), "sum")
    loss.backward()
    assert float(loss.detach()) == 0
    assert float(logits.grad) == 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize(("loss", "unfocused"), [(focal_loss, (0.0,)), (asymmetric_loss, (0, 0, 0))])
def test_without_focus_they_are_the_logistic_loss(loss, unfocused, reduction) -> None:
    logits, y = batch()
    y[::3, 1] = -1
    assert float(loss(logits, y, reduction, *unfocused)) == pytest.approx(
        float(logistic_loss(logits, y, reduction)), rel=1e-5
    )


def test_warp_by_hand() -> None:
    """f = (1, 0.5, 0.8, -3), label 0 present: 1 and 2 come within its margin, so r = 2 and L = 1 + 1/2.

    Their hinges are 0.5 and 0.8: the loss is 1.5 * 0.65.
    """
    logits = torch.tensor([[1.0, 0.5, 0.8, -3.0]])
    assert float(warp_loss(logits, torch.tensor([[1.0, 0, 0, 0]]), "sum")) == pytest.approx(1.5 * 0.65)
    masked = torch.tensor([[1.0, -1, 0, 0]])
    assert float(warp_loss(logits, masked, "sum")) == pytest.approx(0.8), "an unknown label is none"
    assert float(warp_loss(logits, masked, "mean")) == pytest.approx(0.8 / 3)
    assert float(warp_loss(logits, torch.zeros(1, 4), "sum")) == 0, "no present label, nothing to rank"


def test_warp_stops_where_all_present_labels_lead_by_the_margin() -> None:
    logits = torch.tensor([[3.0, 2.5, 1.0, 0.0]], requires_grad=True)
    loss = warp_loss(logits, torch.tensor([[1.0, 1, 0, 0]]), "sum")
    loss.backward()
    assert float(loss.detach()) == 0
    assert logits.grad.abs().sum() == 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("name", list(LOSSES))
def test_unknown_labels_get_no_gradient(name: str, reduction) -> None:
    logits, y = batch()
    logits.requires_grad_(True)
    y[:, 2] = -1
    LOSSES[name](logits, y, reduction).backward()
    assert (logits.grad[:, 2] == 0).all()
    assert logits.grad.abs().sum() > 0


@pytest.mark.parametrize("name", list(LOSSES))
@pytest.mark.parametrize("size", [-200.0, 200.0])
def test_extreme_logits_stay_finite(name: str, size: float) -> None:
    logits = torch.full((2, 3), size, requires_grad=True)
    loss = LOSSES[name](logits, torch.tensor([[1.0, 0, 1], [0, 1, 0]]), "mean")
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", ["focal", "asl", "warp"])
def test_each_learns_and_takes_a_critic(name: str, tmp_path: Path) -> None:
    sandbox = Sandbox(tmp_path)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 6)).astype(np.float32)
    np.savez(tmp_path / "signs.npz", X=x, Y=(x[:, :3] > 0.3).astype(np.int8), label_names=list("abc"))
    words = ("--dataset", tmp_path / "signs.npz", "--loss", name)
    found = sandbox.json("pretrain", *words, "--lr", 0.01, "--steps", 200)
    # WARP ranks the labels of an image; mAP ranks the images of a label, which it only learns on the way.
    assert found["val"]["mAP"] > (80 if name == "warp" else 95)
    run = sandbox.json("adversarial", *words, "--steps", 4, "--critic-layers", 1)["run"]
    assert json.loads((Path(run) / "config.json").read_text())["settings"]["loss"] == name
    assert name in json.loads((Path(run) / "metrics.jsonl").read_text().splitlines()[-1])
