"""`labeldep tune`: what it tries, what it keeps, when it ends, and that it never reads test."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sandbox import LABELS, Sandbox

from labeldep_cli.config import DecisionConfig
from labeldep_cli.evaluation.bootstrap import macro_f1
from labeldep_cli.evaluation.metrics import score
from labeldep_cli.experiments import tuning
from labeldep_cli.experiments.tuning import ROUNDS, Trial, measure
from labeldep_cli.pipelines import tune


def test_macro_f1_by_hand() -> None:
    """Label a: 1 right of 2 chosen, 1 there: F1 2/3. Label b: never there. Label c: not found. Mean of a and c: 1/3.

    With the second row twice, a has 1 right of 3 chosen: F1 1/2, mean 1/4. Without the first row no label is there.
    """
    labels = np.array([[1, 0, 1], [0, 0, -1]], np.int8)
    sets = np.array([[1, 1, 0], [1, 0, 1]], bool)
    found = macro_f1(sets, labels, np.array([[1, 1], [1, 2], [0, 2]], np.int32))
    assert found == pytest.approx([100 / 3, 25, 0])
    assert found[0] == pytest.approx(score(np.zeros((2, 3), np.float32), sets, labels, LABELS).macro_f1)


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """Ready features, and trials of two updates."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    splits = np.array(["train"] * 36 + ["val"] * 12 + ["test"] * 12)
    np.savez(tmp_path / "x.npz", X=x, Y=(x[:, :3] > 0).astype(np.int8), label_names=np.array(LABELS), split=splits)
    for name in ("pretraining", "criticism"):
        whole = getattr(Trial, name)
        monkeypatch.setattr(Trial, name, lambda self, seed, whole=whole: replace(whole(self, seed), steps=2))
    return Sandbox(tmp_path)


def words(sandbox: Sandbox, *more: object) -> tuple[object, ...]:
    return ("tune", "--dataset", sandbox.folder / "x.npz", *more)


def test_each_round_changes_one_setting_of_the_best() -> None:
    best = Trial(hidden=512, weight_decay=1.0)
    for trials in list(ROUNDS.values())[1:]:
        for trial in trials(best):
            kinds = {"critic", "critic_weight_decay"} if trial.critic != best.critic else set()
            changed = {name for name, value in vars(trial).items() if value != getattr(best, name)}
            assert len(changed - kinds) <= 1
    assert Trial(hidden=512, weight_decay=1.0, critic_weight_decay=10.0).name == "linear-hidden512-decay1-nce-decay10"


def test_the_plan_trains_nothing(sandbox: Sandbox) -> None:
    result = sandbox.run(*words(sandbox, "--plan"))
    assert result.exit_code == 0 and result.stdout.startswith("1. the defaults: linear-nce\n2. the head: ")
    assert not (sandbox.folder / "runs").exists()


def test_it_stops_goes_on_and_reads_only_val(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    whole = tune.predict_split
    monkeypatch.setattr(tune, "predict_split", lambda *a: read.append(a[3]) or whole(*a))
    first = sandbox.json(*words(sandbox, "--trials", 2))
    assert first["left_out"] == "--trials" and [t["trial"] for t in first["trials"]] == [
        "linear-nce",
        "linear-hidden512-nce",
    ]
    result = sandbox.run(*words(sandbox, "--trials", 3))
    assert result.exit_code == 0 and result.stderr.count("is finished already") == 4, "two networks of two trials"
    assert "labeldep pretrain --dataset" in result.stdout and "beside the defaults" in result.stdout
    again = sandbox.json(*words(sandbox, "--trials", 3))
    assert again["trials"][:2] == first["trials"] and len(again["trials"]) == 3
    assert set(read) == {"val"} and again["n_val"] == 12
    assert again["trials"][0]["beside_defaults"] == {"difference": 0, "low": 0, "high": 0}


def test_no_trial_begins_after_the_budget(sandbox: Sandbox) -> None:
    told = sandbox.json(*words(sandbox, "--budget", 0))
    assert told["left_out"] == "--budget" and len(told["trials"]) == 1 and told["best"] == "linear-nce"


def test_an_interruption_keeps_what_is_done(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = tune.adversarial, []

    def second_is_interrupted(*arguments: object) -> object:
        calls.append(arguments)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(tune, "adversarial", second_is_interrupted)
    result = sandbox.run(*words(sandbox, "--trials", 2))
    assert result.exit_code == 130 and "linear-nce" in result.stdout and "Ctrl-C" in result.stdout
    assert "the same command (without --fresh) continues" in result.stderr
    assert len(sandbox.json(*words(sandbox, "--trials", 2))["trials"]) == 2


def test_the_best_decision_counts() -> None:
    """Of four rows p > 0.5 gets one right, the tuned threshold three, the critic two: 75 % by the tuned threshold."""
    labels = np.array([[1, 0], [1, 1], [0, 0], [0, 1]], np.int8)
    right = {None: 1, "tuned": 3, "rerank": 2}

    def judged(decision: DecisionConfig) -> np.ndarray:
        n = right["rerank" if decision.rule != "threshold" else decision.threshold]
        sets = labels > 0
        sets[n:, 0] ^= True
        return sets

    run = SimpleNamespace(folder=Path("r"))
    inputs = SimpleNamespace(labels=torch.from_numpy(labels))
    predictions = SimpleNamespace(run=run, inputs=inputs, judged=judged, logits=np.zeros((4, 2), np.float32))
    found = measure(Trial(), predictions, "exact_match", 1.0)  # type: ignore[arg-type]
    assert found.score.difference == 75 and found.decision == DecisionConfig(threshold="tuned")
    assert found.score.low < 75 < found.score.high
    assert tuning.flags_of_decision(found.decision) == "--threshold tuned"
