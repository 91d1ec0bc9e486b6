"""The benchmark of rivals: their scores by hand, their searches by brute force, and one small run from end to end."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks.__main__ import app
from benchmarks.rivals import chains, powerset, run
from benchmarks.rivals.answers import Answer, of_confidence, scores
from benchmarks.rivals.report import LABELDEP, RIVAL, Row, record
from benchmarks.rivals.rows import Data, Part, read
from benchmarks.rivals.table import RIVALS, Rival, choose, limits
from labeldep_cli.config import Source, Workspace
from labeldep_cli.errors import LabeldepError
from labeldep_cli.progress import SilentReporter

GRID = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)


def _corners(copies: int, seed: int = 0) -> Part:
    """Rows around three corners of a square; their sets are {a}, {b} and {a, b}, and the fourth never occurs."""
    rng = np.random.default_rng(seed)
    y = np.tile(np.array([[1, 0], [0, 1], [1, 1]], dtype=np.int8), (copies, 1))
    return Part((4 * y + rng.normal(0, 0.3, y.shape)).astype(np.float32), y)


def test_risk_and_coverage_by_hand() -> None:
    """Right, right, wrong, right from the most confident on: wrong shares 0, 0, 1/3 and 1/4."""
    found = of_confidence(np.array([0.9, 0.5, 0.8, 0.6]), np.array([True, True, True, False]))
    assert found["AURC"] == pytest.approx(100 * (0 + 0 + 1 / 3 + 1 / 4) / 4)
    assert found["coverage_at_95"] == 50
    assert found["ECE"] == pytest.approx(100 * (0.1 + 0.2 + 0.6 + 0.5) / 4)


def test_images_of_equal_confidence_are_accepted_together() -> None:
    found = of_confidence(np.array([0.7, 0.7]), np.array([True, False]))
    assert found["AURC"] == 50
    assert found["coverage_at_95"] == 0
    assert found["ECE"] == pytest.approx(20)


def test_nineteen_of_twenty_are_95_per_cent() -> None:
    correct = np.arange(20) != 7
    assert of_confidence(np.full(20, 0.95), correct)["coverage_at_95"] == 100


def test_seen_and_unseen_sets_are_scored_apart() -> None:
    sets = np.array([[1, 0], [1, 0], [0, 1], [1, 1]], dtype=bool)
    y = np.array([[1, 0], [0, 0], [0, 1], [1, 1]], dtype=np.int8)
    found = scores(Answer(sets), y, np.array([True, True, False, False]))
    assert found["exact_match"] == 75
    assert (found["exact_match_seen"], found["exact_match_unseen"]) == (50, 100)
    assert found["labels_per_image"] == 5 / 4
    assert found["ECE"] is None


def test_an_unknown_label_makes_no_set_wrong() -> None:
    found = scores(Answer(np.array([[True, True]])), np.array([[1, -1]], dtype=np.int8), np.array([True]))
    assert found["exact_match"] == 100


def test_the_most_frequent_sets_are_the_classes() -> None:
    y = np.array([[1, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1]], dtype=np.int8)
    classes = powerset.Sets.of(y, most=2)
    assert classes.sets.tolist() == [[False, True], [True, True]]
    assert classes.rows.tolist() == [1, 2, 3, 4, 5]
    assert classes.of_row.tolist() == [0, 0, 1, 1, 1]
    assert classes.all == 3


def test_a_forest_has_as_many_sets_as_fit() -> None:
    """Sets of 3, 2 and 1 rows: 3 x 1, 5 x 2 and 6 x 3 cells."""
    y = np.array([[1, 0], [0, 1], [0, 1], [1, 1], [1, 1], [1, 1]], dtype=np.int8)
    assert [len(powerset.Sets.of(y, cells=cells).sets) for cells in (1, 9, 10, 17, 18)] == [1, 1, 2, 2, 3]


def test_more_sets_leave_fewer_trees() -> None:
    assert powerset.trees(1_000, 20) == 500
    assert powerset.trees(4_000, 2_500) == 100
    assert powerset.trees(40_000, 2_500) == 10


@pytest.mark.parametrize("rival", RIVALS, ids=lambda rival: rival.name)
def test_a_rival_learns_separate_corners(rival: Rival, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powerset, "TREES", 20)
    monkeypatch.setattr(chains, "CHAINS", 2)
    test = _corners(4, seed=1)
    answer = rival.method(_corners(20), [test.x], rival.settings[-1], 0)[0]
    assert answer.sets.tolist() == (test.y > 0).tolist()
    if answer.confidence is not None:
        assert ((answer.confidence > 0.5) & (answer.confidence <= 1 + 1e-12)).all()


def test_a_forest_in_parts_has_as_many_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one tree at a time and 7 in all, each confidence is a number of sevenths, since leaves are pure."""
    monkeypatch.setattr(powerset, "TREES", 7)
    monkeypatch.setattr(powerset, "FOREST_BYTES", 1)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3)).astype(np.float32)
    y = rng.integers(0, 2, (40, 2)).astype(np.int8)
    confidence = powerset.extra_trees(Part(x, y), [rng.normal(size=(30, 3)).astype(np.float32)], {}, 0)[0].confidence
    assert confidence is not None
    assert 7 * confidence == pytest.approx(np.round(7 * confidence))
    assert len(np.unique(confidence)) > 1


def test_neighbours_vote_for_whole_sets_and_the_nearer_wins_a_tie(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neighbours of 0 at -1 (set a), 2 (b), 3 (b) and -4 (a): two votes each, and 1/2 + 1/5 is more than 1/3 + 1/4."""
    monkeypatch.setattr(powerset, "NEIGHBOURS", 4)
    monkeypatch.setattr(powerset, "_standardised", lambda x: (_Same(), x))
    x = np.array([[-1], [2], [3], [-4], [50]], dtype=np.float32)
    y = np.array([[1, 0], [0, 1], [0, 1], [1, 0], [1, 1]], dtype=np.int8)
    answer = powerset.neighbours(Part(x, y), [np.zeros((1, 1), np.float32)], {}, 0)[0]
    assert answer.sets.tolist() == [[True, False]]
    assert answer.confidence is not None
    assert answer.confidence.tolist() == [0.5]


class _Same:
    def transform(self, x: np.ndarray) -> np.ndarray:
        return x


def _chain(n_labels: int, seed: int) -> chains.Chain:
    rng = np.random.default_rng(seed)
    order, v = rng.permutation(n_labels), np.zeros((n_labels, n_labels))
    for place, label in enumerate(order):
        v[order[:place], label] = rng.normal(0, 2, place)
    return chains.Chain(order, rng.normal(size=(3, n_labels)), v)


def test_a_chain_sums_to_one_and_a_full_beam_finds_its_best_sets() -> None:
    chain = _chain(4, 0)
    x = np.random.default_rng(1).normal(size=(5, 2)).astype(np.float32)
    evidence = chain.evidence(x)
    every = np.array(list(product((False, True), repeat=4)))
    log_p = chain.log_p(evidence, np.broadcast_to(every, (5, 16, 4)))
    assert np.exp(log_p).sum(axis=1) == pytest.approx(np.ones(5))
    found = chain.search(evidence, beam=16)
    assert (found[:, 0] == every[log_p.argmax(axis=1)]).all()
    assert len(np.unique(found[0], axis=0)) == 16


def test_a_beam_finds_what_greedy_steps_miss() -> None:
    """p(a) = 0.6; with a, b is open (0.5); without a, b is sure (0.95). Greedy: 0.6 * 0.5; the best: 0.4 * 0.95."""
    logit = np.log(0.95 / 0.05)
    chain = chains.Chain(
        np.array([0, 1]), np.array([[0.0, 0.0], [np.log(0.6 / 0.4), logit]]), np.array([[0, -logit], [0, 0]])
    )
    evidence = chain.evidence(np.zeros((1, 1), np.float32))
    assert chain.search(evidence, beam=2)[0, 0].tolist() == [False, True]
    assert np.exp(chain.log_p(evidence, np.array([[[False, True]]]))) == pytest.approx(0.38)


def test_a_label_that_never_varies_has_no_model() -> None:
    chain = chains.fit(GRID, np.array([[1, 0], [1, 0], [1, 0], [1, 0]], dtype=np.int8), 1.0, np.array([0, 1]))
    assert chain.w[-1] == pytest.approx([np.log(4.5 / 0.5), np.log(0.5 / 4.5)])
    assert not chain.w[:-1].any()


def test_many_labels_leave_fewer_chains() -> None:
    assert [chains.number_of_chains(n) for n in (6, 120, 374, 5000)] == [10, 10, 3, 1]


def _settings_seen(monkeypatch: pytest.MonkeyPatch, work: int) -> tuple[dict[str, float], list[int]]:
    """Choose between two settings, of which the second is always right; the setting, and the rows of each fit."""
    sizes: list[int] = []

    def method(train: Part, xs: list[np.ndarray], setting: powerset.Setting, seed: int) -> list[Answer]:
        sizes.append(len(train.y))
        return [Answer((x > 2) == bool(setting["good"])) for x in xs]

    monkeypatch.setattr("benchmarks.rivals.table.CV_WORK", work)
    rival = Rival("any", method, ({"good": 0.0}, {"good": 1.0}))
    return choose(rival, Data("corners", _corners(10), _corners(2, 1), _corners(2, 2))), sizes


def test_a_setting_is_chosen_inside_train(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _settings_seen(monkeypatch, 10**9) == ({"good": 1.0}, [24] * 10)


def test_with_many_sets_a_setting_is_chosen_on_val(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _settings_seen(monkeypatch, 0) == ({"good": 1.0}, [30] * 2)


def test_limits_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data("corners", _corners(10), _corners(1), _corners(1))
    assert limits(RIVALS[0], data) == ""
    monkeypatch.setattr(powerset, "TREE_WORK", 30 * 3 * 40)
    assert limits(RIVALS[0], data) == "40 trees"


def _row(kind: str, system: str, right: int, val_right: int | None = None) -> Row:
    """A system that has the first `right` of 12 rows right, and the first of 3 on val."""
    answers = []
    for part, count in ((_corners(1, 1), val_right), (_corners(4, 2), right)):
        sets = part.y > 0
        answers.append(None if count is None else Answer(sets ^ (np.arange(len(sets)) >= count)[:, None]))
    return Row(kind, system, "", answers[0], answers[1])


def test_labeldep_is_chosen_on_val_and_the_rival_on_test() -> None:
    """On test 6 and 9 of 12 are right, 8 and 3 for the rivals; val prefers the first: (6 - 8) / 12."""
    data = Data("corners", _corners(3), _corners(1, 1), _corners(4, 2))
    rows = [
        _row(LABELDEP, "a", 6, 3),
        _row(LABELDEP, "b", 9, 1),
        _row(RIVAL, "c", 8),
        _row(RIVAL, "d", 3),
    ]
    found = record([data], [rows])
    assert (found["chosen"]["system"], found["chosen"]["rival"]) == ("a", "c")
    assert found["chosen"]["exact_match"]["difference"] == pytest.approx(-100 / 6)
    assert found["chosen"]["OF1_beside_baseline"]["difference"] == 0
    assert found["systems"][2]["beside_best_rival"] is None
    assert found["systems"][1]["beside_best_rival"]["difference"] == pytest.approx(100 / 12)
    assert found["seen_in_test"] == 100


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    part = _corners(40)
    file = tmp_path_factory.mktemp("rivals") / "corners.npz"
    np.savez(file, X=part.x, Y=part.y, label_names=np.array(["a", "b"]))
    return file


def test_a_quick_run_has_every_row(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(powerset, "TREES", 5)
    told = ["rivals", str(table), "--quick", "--seeds", "2", "--only", "trees,neighbours,relevance"]
    told += ["--work", str(table.parent / "work"), "--data-dir", str(table.parent / "data")]
    outcome = CliRunner().invoke(app, [*told, "--json"])
    assert outcome.exit_code == 0
    (one,) = json.loads(outcome.stdout)["datasets"]
    assert sum(one["rows"].values()) == 120
    names = [(system["system"], system["decision"]) for system in one["systems"]]
    assert names == [
        ("pretrain", "p > 0.5"),
        ("pretrain", "p > 0.5, never empty"),
        ("pretrain", "tuned"),
        ("pretrain", "tuned, never empty"),
        ("critic nce", "rerank"),
        ("critic kernel", "rerank"),
        ("head powerset", "rerank"),
        ("head chain", "rerank"),
        ("powerset, extra trees", ""),
        ("20 neighbours, vote over sets", ""),
        ("binary relevance, logistic", ""),
    ]
    by_name = {system["system"]: system for system in one["systems"]}
    assert by_name["powerset, extra trees"]["exact_match_by_seed"] == [100, 100]
    assert len(by_name["critic nce"]["val_exact_match_by_seed"]) == 2
    assert by_name["critic nce"]["ECE"] is not None
    assert not one["simulated"]
    shown = CliRunner().invoke(app, told, env={"COLUMNS": "250"})
    assert "labeldep minus the best rival" in shown.stdout
    assert "is finished already" in shown.stderr


def test_inside_train_every_row_of_train_is_tested_once_and_none_of_test(table: Path) -> None:
    work = table.parent / "work-inside"
    found = run([str(table)], 2, only="neighbours", data_dir=table.parent, work=work, inside_train=True, quick=True)
    (one,) = found["datasets"]
    folds = [np.load(file) for file in sorted(work.rglob("*-fold*.npz"))]
    assert len(folds) == 2
    data = read(Source(str(table)), Workspace(table.parent, work), "corners", SilentReporter())
    tested = np.concatenate([fold["X"][fold["split"] == "test"] for fold in folds])
    assert sorted(map(tuple, tested)) == sorted(map(tuple, data.train.x))
    everything = {tuple(x) for fold in folds for x in fold["X"]}
    assert not everything & set(map(tuple, data.test.x))
    assert one["rows"]["train"] + one["rows"]["test"] == len(data.train.x)
    assert len(one["systems"][0]["exact_match_by_seed"]) == 2


def test_one_fold_is_refused(table: Path) -> None:
    with pytest.raises(LabeldepError, match="one fold of train"):
        run([str(table)], 1, inside_train=True)


def test_planted_sets_are_drawn_anew_for_each_seed(tmp_path: Path) -> None:
    labels = tmp_path / "labels.npz"
    np.savez(labels, Y=np.repeat(_corners(1).y, [3, 2, 1], axis=0), names=np.array(["car", "road"]))
    found = run(["planted-coco"], 2, only="neighbours", labels=labels, work=tmp_path / "work", quick=True)
    (one,) = found["datasets"]
    assert one["simulated"]
    assert one["rows"] == {"train": 300, "val": 60, "test": 100}
    exact = one["systems"][-1]["exact_match_by_seed"]
    assert exact[0] != exact[1]


def test_a_rival_is_left_out_where_there_are_too_many_sets(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, (900, 14)).astype(np.int8)
    file = tmp_path / "many.npz"
    np.savez(file, X=rng.normal(size=(900, 2)), Y=y, label_names=np.array([f"l{k}" for k in range(14)]))
    found = run([str(file)], 1, only="SVM,neighbours", data_dir=tmp_path, work=tmp_path / "work", quick=True)
    (one,) = found["datasets"]
    assert one["left_out"][0][0] == "powerset, RBF-SVM"
    assert "label sets, more than 500" in one["left_out"][0][1]
    assert [s["system"] for s in one["systems"] if s["kind"] == "rival"] == ["20 neighbours, vote over sets"]


def test_an_unknown_rival_is_named() -> None:
    with pytest.raises(LabeldepError, match="no rival's name contains 'boosting'"):
        run(["any.npz"], only="boosting")
