"""Ready features of any scale: mean, deviation, and what a run stores of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sandbox import LABELS, Sandbox
from torch import nn

from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.inputs.features import FeatureInputs
from labeldep_cli.inputs.moments import moments_of
from labeldep_cli.models.discriminator import seeded_critic
from labeldep_cli.models.generator import Generator
from labeldep_cli.models.heads.registry import seeded_head
from labeldep_cli.models.standardizing import Moments
from labeldep_cli.runs import checkpoint
from labeldep_cli.runs.layout import BEST, CONFIG, LAST, RESULT
from labeldep_cli.runs.run import Run

SHAPE = {"layers": 1, "width": 4, "projection": 2, "slope": 0.2, "conditional": True}
TWO_THREE = Moments(torch.tensor([2.0, 0.0]), torch.tensor([3.0, 1.0]))


def inputs_of(x: list[list[float]]) -> FeatureInputs:
    array, labels = np.array(x, np.float32)[:, None], np.zeros((len(x), 1), np.int8)
    return FeatureInputs(array, labels, ["row"] * len(x), LabelSpace(("a",)), (), torch.device("cpu"))


def test_moments_by_hand() -> None:
    """1, 3, 5: mean 3, variance 8/3. 7, 7, 7 is constant, and so is 1e6 + 0.1, in float32 1e6 + 0.125."""
    mean, scale = moments_of(inputs_of([[1, 7, 1e6 + 0.1], [3, 7, 1e6 + 0.1], [5, 7, 1e6 + 0.1]]))
    assert mean.tolist() == [3, 7, 1e6 + 0.125]
    assert scale.tolist() == pytest.approx([(8 / 3) ** 0.5, 1, 1])


def test_moments_of_many_rows_beside_numpy() -> None:
    x = np.random.default_rng(0).normal(1000, 0.1, (3000, 2)).astype(np.float32)  # three batches
    mean, scale = moments_of(inputs_of(x.tolist()))
    assert mean.numpy() == pytest.approx(x.astype(np.float64).mean(axis=0), rel=1e-7)
    assert scale.numpy() == pytest.approx(x.astype(np.float64).std(axis=0), rel=1e-5)


def test_both_networks_take_standardised_features() -> None:
    """(5, 4) has the standardised values ((5 - 2) / 3, 4) = (1, 4)."""
    raw, done = torch.tensor([[5.0, 4.0]]), torch.tensor([[1.0, 4.0]])
    head = seeded_head("linear", 2, 3, 0, seed=0)
    expected = Generator(nn.Identity(), head)(done)
    critic = seeded_critic(3, 2, SHAPE, seed=0)
    score = critic(torch.ones(1, 3), done)
    head.standardize_by(TWO_THREE)
    critic.standardize_by(TWO_THREE)
    assert torch.equal(Generator(nn.Identity(), head)(raw), expected)
    assert torch.equal(critic(torch.ones(1, 3), raw), score)
    assert not torch.equal(critic(torch.ones(1, 3), done), score)


def test_the_bias_starts_at_the_shares() -> None:
    """Label 0: 3 of 4 known rows, log(3.5 / 1.5); label 1: none of 5; the weights stay."""
    head = seeded_head("linear", 2, 2, 4, seed=0)
    before = head[0].weight.clone()
    head.start_from_shares(torch.tensor([[1, 0], [1, 0], [1, 0], [0, 0], [-1, 0]]))
    assert head[-1].bias.tolist() == pytest.approx([np.log(3.5 / 1.5), np.log(0.5 / 5.5)])
    assert torch.equal(head[0].weight, before)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    return Sandbox(tmp_path_factory.mktemp("standardizing"))


def ready(folder: Path, name: str, factor: float, shift: float) -> Path:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 5))
    labels = (x @ rng.normal(size=(5, 3)) > 0).astype(np.int8)
    x = (x * factor + shift).astype(np.float32)
    np.savez(folder / name, X=x, Y=labels, label_names=np.array(LABELS))
    return folder / name


SPLITS = ("--val-fraction", "0.2", "--steps", "20")


def trained(sandbox: Sandbox, data: Path) -> tuple[Path, Path]:
    """G and a critic beside it."""
    start = Path(str(sandbox.json("pretrain", "--dataset", data, "--lr", "0.1", *SPLITS)["run"]))
    critic = ("--critic", "nce", "--freeze-generator", "--from", start)
    return start, Path(str(sandbox.json("adversarial", "--dataset", data, *critic, *SPLITS)["run"]))


@pytest.fixture(scope="module")
def runs(sandbox: Sandbox) -> tuple[Path, Path]:
    return trained(sandbox, ready(sandbox.folder, "a.npz", 1.0, 0.0))


def test_scale_and_place_of_features_do_not_matter(sandbox: Sandbox, runs: tuple[Path, Path]) -> None:
    other = trained(sandbox, ready(sandbox.folder, "b.npz", 4096.0, -300.0))[1]
    for decision in ("threshold", "rerank"):
        one, two = (sandbox.json("eval", r, "--decision", decision, "--split", "test") for r in (runs[1], other))
        for key in ("mAP", "OF1", "exact_match"):
            assert two[key] == pytest.approx(one[key], abs=1e-3), (decision, key)
    assert one["OF1"] > 60  # type: ignore[operator]  # the labels are a linear function of the features


def test_a_run_stores_mean_and_deviation_of_train(runs: tuple[Path, Path]) -> None:
    tensors, _ = checkpoint.load(runs[1] / BEST)
    head, critic = tensors["generator.head.feature_mean"], tensors["critic.feature_mean"]
    assert head.shape == (5,) and torch.equal(head, critic) and head.abs().max() < 0.5
    assert json.loads((runs[1] / CONFIG).read_text())["standardized"] is True


def test_a_run_of_an_older_version_takes_features_as_they_are(sandbox: Sandbox, runs: tuple[Path, Path]) -> None:
    """Its checkpoint has no moments. It can be scored, and it goes on as it was; so does what starts from it."""
    old = sandbox.folder / "runs" / "old"
    old.mkdir()
    record = json.loads((runs[0] / CONFIG).read_text())
    record.pop("standardized")
    record.pop("checksum")
    (old / CONFIG).write_text(json.dumps(record))
    for name in (BEST, LAST):
        tensors, facts = checkpoint.load(runs[0] / name)
        kept = {key: value for key, value in tensors.items() if "feature_" not in key}
        assert len(kept) == len(tensors) - 2
        checkpoint.save(old / name, kept, facts)
    head = Run(old, record, checkpoint.read_facts(old / BEST)).head()
    assert head.feature_mean is None and torch.equal(head.standardized(torch.ones(1, 5)), torch.ones(1, 5))
    words = ("--dataset", sandbox.folder / "a.npz", "--out", old, "--lr", "0.1", *SPLITS)
    assert sandbox.json("pretrain", *words)["steps"] == 20 and (old / RESULT).exists()
    assert "generator.head.feature_mean" not in checkpoint.load(old / BEST)[0]
    words = ("--critic", "nce", "--freeze-generator", "--from", old, "--out", sandbox.folder / "runs" / "new")
    new = Path(str(sandbox.json("adversarial", "--dataset", sandbox.folder / "a.npz", *words, *SPLITS)["run"]))
    names = checkpoint.load(new / BEST)[0].keys()
    assert "critic.feature_mean" in names and "generator.head.feature_mean" not in names
