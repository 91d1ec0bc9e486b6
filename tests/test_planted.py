"""The benchmark with a known answer: its laws by brute force, and one small run from end to end."""

from __future__ import annotations

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.planted import cases, in_training, run
from benchmarks.planted.law import IndependentLaw, counted, evidence, ising, log_ratios, shuffled, strengths
from benchmarks.planted.rows import most_probable
from benchmarks.planted.score import Row, beside, score, summary
from labeldep_cli.errors import DatasetError, LabeldepError

POOL = np.array([[1, 1, 0], [1, 1, 0], [1, 1, 0], [0, 0, 1], [0, 0, 1], [1, 0, 1]], dtype=np.int8)


def test_the_law_of_a_pool_is_its_counts() -> None:
    law = counted(POOL)
    assert law.sets.tolist() == [[0, 0, 1], [1, 0, 1], [1, 1, 0]]
    assert np.exp(law.log_p) == pytest.approx([2 / 6, 1 / 6, 3 / 6])
    assert law.marginals() == pytest.approx([4 / 6, 3 / 6, 3 / 6])


def test_the_posterior_is_bayes_rule_by_hand() -> None:
    """p(y|x) from the two normal densities of each label, one set after the other."""
    law, s = counted(POOL), np.array([0.7, 1.1, 0.4])
    x = np.array([[0.3, -0.9, 0.2], [1.4, 0.1, -0.6]], dtype=np.float32)
    answer = law.answer(log_ratios(x, s))
    for image in range(2):
        joint = [
            math.exp(log_p) * math.prod(math.exp(-0.5 * (x[image, k] - s[k] * (2 * y[k] - 1)) ** 2) for k in range(3))
            for y, log_p in zip(law.sets, law.log_p, strict=True)
        ]
        p = np.array(joint) / sum(joint)
        assert answer.best[image].tolist() == (law.sets[p.argmax()] > 0).tolist()
        assert answer.marginals[image] == pytest.approx(p @ law.sets, abs=1e-5)


def test_a_block_of_images_ends_where_the_next_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    ratios = rng.standard_normal((7, 3))
    whole = counted(POOL).answer(ratios)
    monkeypatch.setattr("benchmarks.planted.law._BLOCK", 3)
    parts = counted(POOL).answer(ratios)
    assert (parts.best == whole.best).all()
    assert parts.marginals == pytest.approx(whole.marginals, abs=1e-6)


def test_an_ising_model_is_normalised_and_weighs_pairs() -> None:
    """h = (0, 1), J_12 = 2: energies 0, 1, 0, 3 for the sets 00, 01, 10, 11."""
    law = ising(np.array([0.0, 1.0]), np.array([[9.0, 2.0], [7.0, 9.0]]))
    total = 1 + math.e + 1 + math.e**3
    assert law.sets.tolist() == [list(y) for y in product((0, 1), repeat=2)]
    assert np.exp(law.log_p) == pytest.approx([1 / total, math.e / total, 1 / total, math.e**3 / total])


def test_the_benchmark_s_ising_model_sums_to_one_and_no_label_is_fixed() -> None:
    _, law = cases.LAWS["ising"](Path())
    assert np.exp(law.log_p).sum() == pytest.approx(1)
    assert ((law.marginals() > 0.2) & (law.marginals() < 0.8)).all()


def test_independent_labels_are_decided_one_by_one() -> None:
    """p = 0.2 has log odds -1.386: evidence of 1 leaves the label out, of 2 takes it."""
    answer = IndependentLaw(np.array([0.2, 0.0])).answer(np.array([[1.0, 5.0], [2.0, 5.0]]))
    assert answer.best.tolist() == [[False, False], [True, False]]
    assert answer.marginals[0] == pytest.approx([0.25 * math.e / (1 + 0.25 * math.e), 0.0])


def test_shuffling_keeps_label_counts_and_destroys_cooccurrence() -> None:
    labels = np.repeat(np.array([[1, 1], [0, 0]], dtype=np.int8), 2000, axis=0)
    mixed = shuffled(labels, np.random.default_rng(0))
    assert mixed.sum(axis=0).tolist() == [2000, 2000]
    assert np.corrcoef(labels.T)[0, 1] == pytest.approx(1)
    assert abs(np.corrcoef(mixed.T)[0, 1]) < 0.05


def test_evidence_has_the_strength_that_it_says() -> None:
    s = strengths(3, 0.5, 1.5, seed=1)
    assert ((s >= 0.5) & (s <= 1.5)).all()
    y = np.tile(np.array([1, 0, 1], dtype=np.int8), (20_000, 1))
    x = evidence(y, s, np.random.default_rng(0))
    assert x.mean(axis=0) == pytest.approx(s * [1, -1, 1], abs=0.03)
    assert x.std(axis=0) == pytest.approx(np.ones(3), abs=0.03)


def test_equal_labels_gives_as_many_as_asked() -> None:
    p = np.array([[0.9, 0.8, 0.1], [0.4, 0.3, 0.2]])
    assert most_probable(p, 1.5).tolist() == [[True, True, False], [True, False, False]]


def _row(system: str, right: int, seed: int) -> Row:
    """A system that has the first `right` of 10 one-label images right."""
    labels = np.ones((10, 1), dtype=np.int8)
    sets = np.arange(10)[:, None] < right
    return score(system, "p > 0.5", sets, sets.astype(np.float32), labels, seed)


def test_a_fraction_is_of_the_gain_between_baseline_and_best() -> None:
    """20, 50 and 80 % right: half the gain; over two seeds 20, 55 and 80: (55 - 20) / (80 - 20)."""
    seeds = [[_row("a", 2, 0), _row("b", 5, 0), _row("c", 8, 0)], [_row("a", 2, 1), _row("b", 6, 1), _row("c", 8, 1)]]
    one = summary(seeds[:1], baseline=0, best=2)
    assert [record["fraction"]["difference"] for record in one] == pytest.approx([0, 0.5, 1])
    both = summary(seeds, baseline=0, best=2)[1]
    assert both["exact_match_per_seed"] == pytest.approx([50, 60])
    assert both["gain"]["difference"] == pytest.approx(35)
    assert both["fraction"]["difference"] == pytest.approx(35 / 60)
    assert 0 < both["fraction"]["low"] < 35 / 60 < both["fraction"]["high"] < 1
    assert summary(seeds, baseline=0, best=2, dependent=False)[1]["fraction"] is None


def test_only_systems_asked_for_stand_beside_the_control() -> None:
    found = beside([[_row("control", 2, 0), _row("wgan-gp", 9, 0), _row("other", 5, 0)]], "control", ["wgan-gp"])
    assert [record["system"] for record in found] == ["wgan-gp"]
    assert found[0]["exact_match"]["difference"] == pytest.approx(70)
    assert "exact_match" in found[0]["wins"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], Path]:
    folder = tmp_path_factory.mktemp("planted")
    labels = folder / "labels.npz"
    np.savez(labels, Y=np.repeat(POOL, 20, axis=0), names=np.array(["car", "road", "sea"]))
    return run(labels, folder / "work", ("coco", "ising-shuffled"), 1, quick=True), folder


def test_a_quick_run_has_every_row(quick: tuple[dict[str, object], Path]) -> None:
    found, _ = quick
    coco, mixed = found["cases"]  # type: ignore[misc]
    rows = {(row["system"], row["decision"]): row for row in coco["rows"]}
    assert rows["baseline", "p > 0.5"]["fraction"]["difference"] == 0
    assert rows["true posterior", "best set"]["fraction"]["difference"] == pytest.approx(1)
    assert rows["true posterior", "best set"]["exact_match"] > rows["true marginals", "p > 0.5"]["exact_match"] - 5
    assert rows["nce-frozen", "rerank"]["beta"] is not None
    assert {row["system"] for row in coco["beside_control"]} == {
        "wgan-gp",
        "no-negatives",
        "unconditional",
        "no-gumbel",
    }
    mixed_rows = {(row["system"], row["decision"]): row for row in mixed["rows"]}
    assert mixed_rows["true posterior", "best set"]["fraction"] is None
    best, marginals = mixed_rows["true posterior", "best set"], mixed_rows["true marginals", "p > 0.5"]
    assert best["exact_match"] == marginals["exact_match"]  # independent labels: nothing beyond the marginals


def test_the_command_finds_finished_runs_and_prints_one_object(quick: tuple[dict[str, object], Path]) -> None:
    found, folder = quick
    told = [
        "planted",
        "--quick",
        "--seeds",
        "1",
        "--labels",
        str(folder / "labels.npz"),
        "--work",
        str(folder / "work"),
    ]
    outcome = CliRunner().invoke(app, [*told, "--cases", "coco,ising-shuffled", "--json"])
    assert outcome.exit_code == 0
    assert json.loads(outcome.stdout) == json.loads(json.dumps(found))
    assert "is finished already" in outcome.stderr


def test_an_unknown_case_is_named() -> None:
    with pytest.raises(LabeldepError, match="there is no case 'cocoa'"):
        run(cases=("cocoa",), quick=True)


def test_missing_label_sets_are_told(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"there are no label sets at .*absent\.npz"):
        run(tmp_path / "absent.npz", tmp_path, ("coco",), quick=True)


def test_without_a_name_the_benchmarks_are_listed() -> None:
    assert "planted" in CliRunner().invoke(app, []).output


def test_critics_in_training_stand_beside_their_control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_training, "PRETRAIN_STEPS", 3)
    found = in_training.run(tmp_path, seeds=1, only="nce, gumbel", steps=2, sizes=cases.Sizes(300, 50, 100))
    assert [row["system"] for row in found["rows"]] == [
        *["control"] * 2,
        *["nce, gumbel, alpha 0.3"] * 2,
        *["true marginals"] * 2,
        "true posterior",
    ]
    assert [row["decision"] for row in found["beside_control"]] == ["p > 0.5", "equal labels"]
    labels = [row["labels_per_image"] for row in found["rows"] if row["decision"] == "equal labels"]
    assert labels == pytest.approx([labels[0]] * 3, abs=0.02)
