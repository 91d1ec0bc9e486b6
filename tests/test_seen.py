"""Scores split by whether the true label set occurs in train, and the table of all decisions."""

from __future__ import annotations

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from sandbox import Sandbox
from typer.testing import CliRunner

import labeldep_cli
from labeldep_cli.cli import app
from labeldep_cli.config import DecisionConfig
from labeldep_cli.errors import LabeldepError
from labeldep_cli.evaluation import seen as seen_module
from labeldep_cli.evaluation.cross_tuning import decide_cross_tuned, is_tuned
from labeldep_cli.evaluation.evaluate import probabilities, thresholds_for
from labeldep_cli.evaluation.metrics import score
from labeldep_cli.evaluation.seen import score_by_seen, seen_in_train
from labeldep_cli.evaluation.thresholds import DecisionRule
from labeldep_cli.experiments import decision_table
from labeldep_cli.experiments.comparison import _RunScores
from labeldep_cli.experiments.rules import CRITIC, CRITIC_AT_HALF

NAMES = ("a", "b", "c")


def rows(*words: str) -> np.ndarray:
    """Labels of one row a word: "10?" is present, absent, unknown."""
    return np.array([[{"?": -1, "0": 0, "1": 1}[letter] for letter in word] for word in words], np.int8)


class TestSeenSets:
    def test_by_hand(self) -> None:
        train = rows("110", "110", "001")
        assert seen_in_train(rows("110", "100", "001", "000"), train).tolist() == [True, False, True, False]

    def test_only_known_labels_are_compared(self) -> None:
        """1?0 agrees with 110, and so do ??? and ??1 with some row; ?11 agrees with none."""
        train = rows("110", "001")
        assert seen_in_train(rows("1?0", "???", "??1", "?11", "10?"), train).tolist() == [
            True,
            True,
            True,
            False,
            False,
        ]

    def test_a_training_row_has_to_know_what_the_image_knows(self) -> None:
        """11? may be 110, but does not say so; it does say that a and b go together."""
        assert seen_in_train(rows("110", "11?", "?1?"), rows("11?")).tolist() == [False, True, True]

    def test_without_training_rows_nothing_is_seen(self) -> None:
        assert seen_in_train(rows("110", "???"), np.zeros((0, 3), np.int8)).tolist() == [False, False]

    @pytest.mark.parametrize("unknown", [0.0, 0.3])
    def test_equals_the_definition(self, unknown: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """Pair by pair, over blocks of two images."""
        monkeypatch.setattr(seen_module, "_PAIRS", 60)
        rng = np.random.default_rng(0)
        labels, train = (rng.integers(0, 2, (n, 5)).astype(np.int8) for n in (50, 25))
        for each in (labels, train):
            each[rng.random(each.shape) < unknown] = -1
        wanted = [any(((mine == theirs) | (mine < 0)).all() for theirs in train) for mine in labels]
        assert 5 < sum(wanted) < 45, "both kinds occur"
        assert seen_in_train(labels, train).tolist() == wanted


class TestScores:
    def test_each_part_is_scored_on_its_own(self) -> None:
        """Of two seen images one is right, of the one unseen none; the image without a known label is in no part."""
        labels = rows("10", "01", "11", "??")
        predicted = np.array([[1, 0], [1, 0], [1, 0], [1, 1]], bool)
        logits = np.where(predicted, 1, -1).astype(np.float32)
        found = score_by_seen(logits, predicted, labels, NAMES[:2], np.array([True, True, False, True]))
        assert found.seen is not None and found.unseen is not None
        assert (found.seen.n_images, found.seen.exact_match) == (2, 50)
        assert (found.unseen.n_images, found.unseen.exact_match, found.unseen.OR) == (1, 0, 50)
        assert found.seen == score(logits[:2], predicted[:2], labels[:2], NAMES[:2])
        assert set(found.to_json()["seen"]) == set(found.seen.to_json()) - {"per_label"}

    def test_an_empty_part_has_no_scores(self) -> None:
        logits = np.ones((1, 2), np.float32)
        found = score_by_seen(logits, logits > 0, rows("11"), NAMES[:2], np.array([True]))
        assert found.unseen is None
        assert found.to_json()["unseen"] is None

    def test_a_reference_with_its_labels_in_another_order(self) -> None:
        """Its sets are scored against its own labels: the same numbers as in the order of the other run."""
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 2, (40, 3)).astype(np.int8)
        logits = (labels + rng.normal(size=labels.shape) - 0.5).astype(np.float32)
        w = np.ones((2, 40), np.int32)
        found = []
        for order in ([0, 1, 2], [2, 0, 1]):
            reference = _RunScores(logits[:, order], labels[:, order], w, None)
            mine = _RunScores(logits, labels, w, None)
            for scores in (reference, mine):
                scores.add_thresholds(0.4, 1.5)
            mine.add_sets((CRITIC, CRITIC_AT_HALF), labels > 0, reference)
            found.append(mine.references[CRITIC]["OF1"][0])
        assert found[0] == pytest.approx(found[1])
        assert 50 < found[0] < 95


class TestCrossTuning:
    def test_thresholds_without_their_own_row(self) -> None:
        """Ten rows, ten folds of one row: each is decided by the best threshold of the other nine, 0.55 or 0.65.

        The five rows with the label have p = 0.7 and the others 0.4, so the cut lies at 0.55. One row without the label
        has p = 0.6: it moves the cut to 0.65 for all rows but itself, and so is the only one that is wrong.
        """
        p = np.array([0.7] * 5 + [0.4] * 4 + [0.6])
        logits = np.log(p / (1 - p))[:, None].astype(np.float32)
        labels = np.array([1] * 5 + [0] * 5, np.int8)[:, None]
        config = DecisionConfig(threshold="tuned-per-label")
        assert is_tuned(config)
        assert not is_tuned(DecisionConfig(threshold="0.6"))
        sets = decide_cross_tuned(logits, labels, config)
        assert (sets == (labels > 0))[:, 0].tolist() == [True] * 9 + [False]

    def test_noise_gains_nothing(self) -> None:
        """40 labels that nothing tells: thresholds look good only on the rows that they are tuned on."""
        rng = np.random.default_rng(0)
        labels = (rng.random((60, 40)) < 0.3).astype(np.int8)
        logits = rng.normal(size=labels.shape).astype(np.float32)
        config = DecisionConfig(threshold="tuned-per-label")
        tuned = DecisionRule.of(config, thresholds_for(probabilities(logits), labels))
        names = [str(k) for k in range(40)]
        own = score(logits, tuned.decide(probabilities(logits)), labels, names)
        crossed = score(logits, decide_cross_tuned(logits, labels, config), labels, names)
        assert own.OP > 31 + 3
        assert abs(crossed.OP - 30) < 3


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Sandbox:
    """Features that show each label. Train has {a}, {b} and {a, b}; 30 of the 90 test rows have {c}, which is new."""
    sandbox = Sandbox(tmp_path_factory.mktemp("pairs"))
    rng = np.random.default_rng(0)
    kinds = rows("100", "010", "110")
    train, test = kinds[rng.integers(0, 3, 300)], np.concatenate([kinds[rng.integers(0, 3, 60)], rows(*["001"] * 30)])
    y = np.concatenate([train, test])
    y[:3] = rows("101", "011", "111")  # c is no empty label in train
    x = (y + rng.normal(scale=0.6, size=y.shape)).astype(np.float32)
    split = ["train"] * 220 + ["val"] * 80 + ["test"] * 90
    np.savez(sandbox.folder / "x.npz", X=x, Y=y, label_names=list(NAMES), split=split)
    words = ("--dataset", sandbox.folder / "x.npz", "--lr", 0.02)
    sandbox.json("pretrain", *words, "--steps", 60, "--out", sandbox.folder / "runs" / "plain")
    critic = ("--critic", "nce", "--freeze-generator", "--critic-layers", 1, "--steps", 40, "--from", "plain")
    sandbox.json("adversarial", *words[:2], *critic, "--out", sandbox.folder / "runs" / "critic")
    return sandbox


def test_eval_tells_seen_sets_from_unseen_ones(pairs: Sandbox) -> None:
    found = pairs.json("eval", "plain")
    seen, unseen = found["seen"], found["unseen"]
    assert (seen["n_images"], unseen["n_images"]) == (60, 30)
    assert 90 * found["exact_match"] == pytest.approx(60 * seen["exact_match"] + 30 * unseen["exact_match"])
    assert unseen["true_labels_per_image"] == 1
    text = pairs.run("eval", "plain").stdout
    assert "true set in train" in text
    assert [line.split()[:2] for line in text.splitlines() if line.startswith((" all", " seen", " unseen"))] == [
        ["all", "90"],
        ["seen", "60"],
        ["unseen", "30"],
    ]
    on_train = pairs.json("eval", "plain", "--split", "train")
    assert on_train["seen"]["n_images"] == 220
    assert on_train["unseen"] is None
    assert "true set in train" not in pairs.run("eval", "plain", "--split", "train").stdout


def test_compare_does_too(pairs: Sandbox) -> None:
    (found,) = pairs.json("compare", "plain", "critic")["differences"]
    assert (found["seen"]["n_images"], found["unseen"]["n_images"]) == (60, 30)
    both = [found[part]["exact_match"]["critic, p > 0.5"]["difference"] for part in ("seen", "unseen")]
    whole = found["sets"]["critic, p > 0.5"]["exact_match"]["difference"]
    assert 90 * whole == pytest.approx(60 * both[0] + 30 * both[1])
    own, plain = (pairs.json("eval", *words) for words in (("critic", "--decision", "rerank"), ("plain",)))
    assert both[1] == pytest.approx(own["unseen"]["exact_match"] - plain["unseen"]["exact_match"])
    interval = found["seen"]["exact_match"]["critic"]
    assert interval["low"] <= interval["difference"] <= interval["high"]
    assert "is in train (60 images)" in pairs.run("compare", "plain", "critic").stdout


def test_a_run_without_a_record_of_its_rows(pairs: Sandbox) -> None:
    """As long as its train split is unchanged, it is known. On another data set it is not."""
    old = pairs.folder / "runs" / "old"
    shutil.copytree(pairs.folder / "runs" / "plain", old)
    (old / "rows.safetensors").unlink()
    assert pairs.json("eval", "old")["seen"]["n_images"] == 60
    archive = np.load(pairs.folder / "x.npz")
    new = pairs.folder / "y.npz"
    np.savez(new, X=archive["X"][::-1] + 1, Y=archive["Y"][::-1], label_names=list(NAMES))
    words = ("--dataset", new, "--split", "test")
    assert "seen" not in pairs.json("eval", "old", *words)
    assert "seen and unseen label sets: unknown" in pairs.run("eval", "old", *words).stdout
    assert "seen and unseen label sets: unknown" in pairs.run("compare", "old", "plain", "--dataset", new).stdout
    assert pairs.json("eval", "plain", *words)["seen"]["n_images"] > 300, "the run's own train sets are known"


class TestAllDecisions:
    def test_each_row_is_what_its_flags_give(self, pairs: Sandbox) -> None:
        found = pairs.json("eval", "critic", "--decision", "all")
        names = [row["name"] for row in found["decisions"]]
        assert names == [
            "p > 0.5",
            "p > 0.5, never empty",
            "tuned",
            "tuned, never empty",
            "tuned per label",
            "top 1",
            "rerank",
            "expected-f1",
        ]
        for row in found["decisions"]:
            alone = pairs.json("eval", "critic", *shlex.split(row["flags"]))
            assert row["decision"] == alone["decision"]
            for key in ("CP", "CR", "CF1", "OP", "OR", "OF1", "macro_f1", "exact_match", "labels_per_image", "unseen"):
                assert row[key] == alone[key], (row["name"], key)
            assert row["cost"]["microseconds_per_image"] > 0
        assert found["mAP"] == alone["mAP"]
        assert found["decisions"][0]["cost"]["relative"] == 1
        assert found["left_out"] == {}

    def test_the_cost_of_a_joint_head_s_sets_is_its_search(
        self, pairs: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run, searches = tmp_path / "powerset", []
        words = ("--dataset", pairs.folder / "x.npz", "--head", "powerset", "--steps", 2, "--out", run)
        assert pairs.run("pretrain", *words).exit_code == 0
        search = decision_table.collect_posterior
        monkeypatch.setattr(decision_table, "collect_posterior", lambda *of: searches.append(of) or search(*of))
        pairs.json("eval", run, "--decision", "all")
        assert len(searches) == 2 * decision_table.TIMED, "rerank and expected-f1"

    def test_the_best_is_chosen_on_val(self, pairs: Sandbox) -> None:
        """Not on test; and the split that is scored changes nothing in the choice."""
        test, val = (pairs.json("eval", "critic", "--decision", "all", "--split", s) for s in ("test", "val"))
        assert test["chosen_on_val"]["n_images"] == 80
        for score_name in ("OF1", "CF1", "macro_f1", "exact_match"):
            chosen = test["chosen_on_val"][score_name]
            on_val, on_test = (
                {row["name"]: scores[score_name] for row in test["decisions"] for scores in (row["val"] if v else row,)}
                for v in (True, False)
            )
            assert chosen["val"] == max(on_val.values()) == on_val[chosen["decision"]]
            assert chosen["score"] == on_test[chosen["decision"]]
            assert val["chosen_on_val"][score_name]["decision"] == chosen["decision"]
        for row in val["decisions"]:
            if "tuned" not in row["name"]:
                assert row["val"]["exact_match"] == row["exact_match"], "nothing was tuned: val's plain score"

    def test_it_is_a_table_for_people(self, pairs: Sandbox) -> None:
        result = pairs.run("eval", "plain", "--decision", "all")
        assert result.exit_code == 0
        lines = result.stdout.splitlines()
        best = max(row["exact_match"] for row in pairs.json("eval", "plain", "--decision", "all")["decisions"])
        assert any(f"{best:.2f}*" in line for line in lines)
        assert any("whole sets" in line and "exact" in line for line in lines)
        assert any("a ranking of images" in line and "none changes it" in line for line in lines)
        assert "has no critic, which --decision rerank needs" in result.stdout
        assert " rerank " not in "".join(line for line in lines if "left out" not in line)

    def test_another_data_set_has_no_val_to_choose_on(self, pairs: Sandbox) -> None:
        archive = np.load(pairs.folder / "x.npz")
        new = pairs.folder / "z.npz"
        np.savez(new, X=archive["X"] + 1, Y=archive["Y"], label_names=list(NAMES))
        result = pairs.run("eval", "plain", "--decision", "all", "--dataset", new, "--json")
        assert result.exit_code == 0, result.stderr
        assert json.loads(result.stdout)["chosen_on_val"] is None
        assert "no decision is named as the best one" in result.stderr

    @pytest.mark.parametrize(
        "words", [("--threshold", "tuned"), ("--top-k", 1), ("--non-empty",), ("--beta", 1), ("--per-label",)]
    )
    def test_flags_of_one_decision_do_not_go_with_it(self, pairs: Sandbox, words: tuple[object, ...]) -> None:
        result = pairs.run("eval", "critic", "--decision", "all", *words)
        assert result.exit_code == 1
        assert f"--decision all takes no {words[0]}" in result.stderr

    def test_no_other_command_takes_it(self, pairs: Sandbox) -> None:
        assert pairs.run("predict", "a.jpg", "--run", "plain", "--decision", "all").exit_code == 2
        assert pairs.run("dependency", "plain", "--decision", "all").exit_code == 2
        with pytest.raises(LabeldepError, match="there is no decision 'all'"):
            labeldep_cli.load(pairs.folder / "runs" / "plain", decision="all")

    def test_a_project_file_sets_no_table(self, pairs: Sandbox, tmp_path: Path) -> None:
        """Its thresholds do not stand in the table's way."""
        file = tmp_path / "labeldep.toml"

        def run(*words: str) -> object:
            where = {"LABELDEP_RUNS": str(pairs.folder / "runs"), "LABELDEP_DATA": str(pairs.folder / "data")}
            return CliRunner().invoke(app, ["--project", str(file), "eval", "plain", *words], env=where)

        file.write_text('[eval]\ndecision = "all"\n')
        result = run()
        assert result.exit_code == 1
        assert "type it where you want the table" in result.stderr
        file.write_text('[eval]\nthreshold = "tuned"\n')
        assert run("--decision", "all").exit_code == 0
