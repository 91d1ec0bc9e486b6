"""Paired bootstrap, and the command that takes the difference between runs apart."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from sandbox import Sandbox, make_table

from labeldep_cli.evaluation.bootstrap import (
    METRICS,
    Interval,
    interval,
    mean_average_precision,
    set_scores,
    weights,
)
from labeldep_cli.evaluation.metrics import score
from labeldep_cli.runs import checkpoint

NAMES = tuple("abcd")


def sample(seed: int, n: int = 40):
    """Logits with many ties, and labels of which some are unknown."""
    rng = np.random.default_rng(seed)
    logits = np.round(rng.normal(size=(n, 4)), 1).astype(np.float32)
    labels = rng.choice([-1, 0, 0, 1], size=(n, 4)).astype(np.int8)
    labels[:, 3] = np.minimum(labels[:, 3], 0)  # a label that never occurs
    return logits, labels


@pytest.mark.parametrize("seed", range(4))
def test_a_weight_is_a_repetition(seed: int) -> None:
    """Scores under integer weights are those of `metrics.score` on the rows repeated so often."""
    logits, labels = sample(seed)
    w = weights(40, seed, resamples=3)
    assert w[0].tolist() == [1] * 40
    assert (w.sum(axis=1) == 40).all()
    found = set_scores(logits > 0, labels, w)
    ranking = mean_average_precision(logits, labels, w)
    for row, repeats in enumerate(w):
        rows = np.repeat(np.arange(40), repeats)
        wanted = score(logits[rows], logits[rows] > 0, labels[rows], NAMES)
        assert {name: found[name][row] for name in METRICS} == pytest.approx(
            {name: getattr(wanted, name) for name in METRICS}
        )
        assert ranking[row] == pytest.approx(wanted.mAP)


def test_a_label_that_no_drawn_image_carries_is_left_out_of_the_mean() -> None:
    """Each label is on one image of its own. Where the first is drawn twice, only its label has a precision: 1."""
    logits = np.array([[2.0, -1.0], [-1.0, -2.0]], dtype=np.float32)  # label 1 is ranked the wrong way round
    labels = np.eye(2, dtype=np.int8)
    found = mean_average_precision(logits, labels, np.array([[1, 1], [2, 0], [0, 2]], dtype=np.int32))
    assert found.tolist() == [75, 100, 100], "(1 + 1/2) / 2, then a label each"


def test_an_interval_by_hand() -> None:
    """Resampled differences 0, 1, ..., 100: the middle 95 % reach from 2.5 to 97.5."""
    mine, theirs = np.concatenate([[50.0], np.arange(101.0)]), np.zeros(102)
    assert interval(mine, theirs) == Interval(50.0, 2.5, 97.5)
    assert interval(mine, theirs).sign == 1
    assert interval(theirs, mine).sign == -1
    assert interval(mine - 50, theirs).sign == 0


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    """Two models, right with probability 0.6 and 0.5: about 95 of 100 intervals hold the difference of 10 points."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        labels = np.ones((300, 1), dtype=np.int8)
        w = weights(300, seed, resamples=300)
        mine, theirs = (set_scores(rng.random((300, 1)) < p, labels, w)["exact_match"] for p in (0.6, 0.5))
        found = interval(mine, theirs)
        held += found.low <= 10 <= found.high
    assert 88 <= held <= 100


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """A run, the same again, and one that learned far less."""
    sandbox = Sandbox(tmp_path_factory.mktemp("compare"))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 6)).astype(np.float32)
    y = (x[:, :3] + 0.3 * rng.normal(size=(600, 3)) > 0.5).astype(np.int8)
    np.savez(sandbox.folder / "signs.npz", X=x, Y=y, label_names=list("abc"))
    words = ("--dataset", sandbox.folder / "signs.npz", "--lr", 0.01)
    for name, steps in (("good", 300), ("again", 300), ("poor", 2)):
        sandbox.json("pretrain", *words, "--steps", steps, "--out", sandbox.folder / "runs" / name)
    sandbox.json("pretrain", *words, "--steps", 2, "--split-seed", 1, "--out", sandbox.folder / "runs" / "elsewhere")
    return sandbox


def test_a_run_does_not_differ_from_itself(runs: Sandbox) -> None:
    (found,) = runs.json("compare", "good", "again")["differences"]
    assert found["mAP"] == {"difference": 0, "low": 0, "high": 0}
    assert "does not differ for sure beyond its threshold" in found["verdict"]


def test_a_real_difference_is_told(runs: Sandbox) -> None:
    record = runs.json("compare", "poor", "good", "again")
    assert Path(record["reference"]).name == "poor"
    assert [Path(one["run"]).name for one in record["differences"]] == ["good", "again"]
    found = record["differences"][0]
    assert found["mAP"]["low"] > 5
    assert "differs beyond its threshold: mAP +" in found["verdict"]
    equal = found["sets"]["equal labels"]
    assert equal["labels_per_image"] == pytest.approx(record["equal_labels_per_image"], abs=0.02)
    good, poor = (runs.json("eval", name) for name in ("good", "poor"))
    assert found["sets"]["p > 0.5"]["CF1"]["difference"] == pytest.approx(good["CF1"] - poor["CF1"])
    assert found["mAP"]["difference"] == pytest.approx(good["mAP"] - poor["mAP"])


@pytest.fixture(scope="module")
def shifted(runs: Sandbox) -> Path:
    """The good run with 1 added to every logit, and its thresholds moved along."""
    folder = runs.folder / "runs" / "shifted"
    shutil.copytree(runs.folder / "runs" / "good", folder)
    tensors, facts = checkpoint.load(folder / "best.safetensors")
    (bias,) = [name for name in tensors if name.endswith("bias")]
    tensors[bias] = tensors[bias] + 1
    tuned = facts["thresholds"]["tuned"]
    facts["thresholds"] = {**facts["thresholds"], "tuned": 1 / (1 + (1 / tuned - 1) / math.e)}
    checkpoint.save(folder / "best.safetensors", tensors, facts)
    return folder


def test_a_threshold_is_no_dependency(runs: Sandbox, shifted: Path) -> None:
    """Either run gives more labels at 0.5 than the other, ranks alike, and is alike once both are tuned."""
    for names, sign in ((("good", "shifted"), 1), (("shifted", "good"), -1)):
        (found,) = runs.json("compare", *names)["differences"]
        half = found["sets"]["p > 0.5"]
        assert sign * half["OF1"]["difference"] != 0
        assert found["mAP"]["difference"] == pytest.approx(0, abs=0.01)
        assert found["sets"]["tuned"]["exact_match"]["difference"] == 0
        assert found["sets"]["equal labels"]["CF1"]["difference"] == 0
        assert "differs by a threshold alone: no label dependency" in found["verdict"]


def test_thresholds_and_the_number_of_labels_are_those_of_val(runs: Sandbox) -> None:
    """Checkpoints that say of val: nothing above 1 is to be chosen, and there are two labels an image."""
    folder = runs.folder / "runs" / "told"
    shutil.copytree(runs.folder / "runs" / "good", folder)
    tensors, facts = checkpoint.load(folder / "best.safetensors")
    facts["thresholds"] = {**facts["thresholds"], "tuned": 1.0}
    facts["val"] = {**facts["val"], "true_labels_per_image": 2.0}
    checkpoint.save(folder / "best.safetensors", tensors, facts)
    record = runs.json("compare", "told", "good")
    assert record["equal_labels_per_image"] == 2
    assert record["differences"][0]["sets"]["equal labels"]["labels_per_image"] == pytest.approx(2, abs=0.02)
    (found,) = runs.json("compare", "good", "told")["differences"]
    assert found["sets"]["tuned"]["labels_per_image"] == 0


@pytest.fixture(scope="module")
def exclusive(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Exactly one of two labels, and nothing tells which: no threshold can know, a critic can."""
    sandbox = Sandbox(tmp_path_factory.mktemp("exclusive"))
    rng = np.random.default_rng(0)
    first = rng.integers(0, 2, 1500)
    y = np.stack([first, 1 - first], axis=1).astype(np.int8)
    np.savez(
        sandbox.folder / "either.npz", X=rng.normal(size=(1500, 4)).astype(np.float32), Y=y, label_names=["a", "b"]
    )
    words = ("--dataset", sandbox.folder / "either.npz")
    sandbox.json("pretrain", *words, "--steps", 50, "--out", sandbox.folder / "runs" / "plain")
    critic = ("--critic", "nce", "--freeze-generator", "--critic-lr", 3e-3, "--steps", 100, "--from", "plain")
    sandbox.json("adversarial", *words, *critic, "--out", sandbox.folder / "runs" / "critic")
    return sandbox


def test_the_sets_of_a_critic_stand_beside_the_reference(exclusive: Sandbox) -> None:
    (found,) = exclusive.json("compare", "plain", "critic")["differences"]
    own = exclusive.json("eval", "critic", "--decision", "rerank")
    plain = exclusive.json("eval", "plain")
    assert found["sets"]["critic"]["labels_per_image"] == pytest.approx(own["labels_per_image"])
    assert found["sets"]["critic, p > 0.5"]["exact_match"]["difference"] == pytest.approx(
        own["exact_match"] - plain["exact_match"]
    )
    assert found["sets"]["critic"]["exact_match"]["low"] > 10, "at equal labels half of the images get none or both"
    assert found["mAP"]["difference"] == 0
    assert "differs beyond its threshold: " in found["verdict"]
    assert "exact match (critic) +" in found["verdict"]
    (back,) = exclusive.json("compare", "critic", "plain")["differences"]
    assert "critic" not in back["sets"], "the reference is thresholded: its critic has nothing to stand beside"
    assert "critic, p > 0.5" in exclusive.run("compare", "plain", "critic").stdout


def test_it_is_a_table_for_people(runs: Sandbox) -> None:
    result = runs.run("compare", "poor", "good")
    assert result.exit_code == 0
    assert "equal labels" in result.stdout
    assert "differs beyond its threshold" in result.stdout


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (["good"], "there is nothing to compare with"),
        (
            ["good", "elsewhere"],
            "rows of test are rows that .*elsewhere was trained on(.|\n)*drawn with the same --split-seed",
        ),
        (["good", "goood"], "there is no run 'goood'"),
    ],
)
def test_what_cannot_be_compared(runs: Sandbox, names: list[str], told: str) -> None:
    result = runs.run("compare", *names)
    assert result.exit_code == 1
    assert re.search(f"^error: .*{told}", result.stderr, re.MULTILINE)


def test_an_unfinished_run_is_refused_here_and_told_elsewhere(runs: Sandbox, tmp_path: Path) -> None:
    half = tmp_path / "half"
    shutil.copytree(runs.folder / "runs" / "good", half)
    (half / "result.json").unlink()
    refused = runs.run("compare", "poor", half)
    assert refused.exit_code == 1
    assert "is unfinished" in refused.stderr
    told = runs.run("eval", half)
    assert told.exit_code == 0
    assert "is unfinished: this is its best so far, at step" in told.stderr


def test_runs_are_paired_by_row_not_by_count(tmp_path: Path) -> None:
    """A test image that was there for one run is gone for the other."""
    sandbox = Sandbox(tmp_path)
    make_table(sandbox.table.parent, rows=30)
    words = ("--dataset", sandbox.table, "--backbone", "squeezenet1_1", "--weights", "none", "--max-skipped", 0.5)
    for name, code in (("a", 0), ("b", 3)):
        where = ("--features-dir", tmp_path / name)
        assert sandbox.run("extract", *words, *where).exit_code == code
        sandbox.json("pretrain", *words, *where, "--steps", 2, "--out", tmp_path / "runs" / name)
        (sandbox.table.parent / "img" / "29.png").unlink(missing_ok=True)
    result = sandbox.run("compare", "a", "b", "--max-skipped", 0.5)
    assert result.exit_code == 1
    assert "do not see the same images of test" in result.stderr


def test_the_resampling_is_seeded(runs: Sandbox) -> None:
    again = [json.dumps(runs.json("compare", "poor", "good", "--seed", seed)) for seed in (0, 0, 1)]
    assert again[0] == again[1] != again[2]
