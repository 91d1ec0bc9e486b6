"""Drawn splits: stratified, grouped, by folds; no label lost from train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labeldep_cli.config import AuditConfig
from labeldep_cli.datasets.draw import Draw, Labels, complete, hold_out_by_name
from labeldep_cli.datasets.folds import NoFoldsError, draw_folds, splits_of_fold
from labeldep_cli.datasets.label_space import LabelSpace
from labeldep_cli.datasets.rows import Rows, as_dataset
from labeldep_cli.datasets.split import Split
from labeldep_cli.datasets.stratification import LabelCounts, stratify
from labeldep_cli.errors import DatasetError
from labeldep_cli.experiments.cross_fitting import _draws

FILE = Path("labels.csv")


def names_of(n):
    return [f"img/{row}.jpg" for row in range(n)]


def label_sets(n, n_labels, seed=0):
    """Label sets of which the first labels are common and the last ones are rare."""
    share = 0.5 * 0.7 ** np.arange(n_labels)
    return (np.random.default_rng(seed).random((n, n_labels)) < share).astype(np.int8)


def split_of(labels, groups=None):
    space = LabelSpace(tuple(f"l{k}" for k in range(labels.shape[1])))
    return Split("train", tuple(names_of(len(labels))), labels, space, Path(), groups=groups)


def shares(labels, rows):
    return (labels[rows] == 1).mean(axis=0)


class TestStratify:
    def test_takes_the_lowest_hashes_of_each_label_the_rarest_first(self):
        # a is in rows 0-3, b in rows 0-7. Half of a: the lowest hashes, rows 3 and 2. Of b two more: rows 7 and 6.
        labels = np.array([[1, 1]] * 4 + [[0, 1]] * 4, np.int8)
        hashes = np.array([4, 3, 2, 1, 8, 7, 6, 5], np.uint64)
        drawn = stratify(LabelCounts.of(labels, np.arange(8)), hashes, 0.5)
        assert np.flatnonzero(drawn).tolist() == [2, 3, 6, 7]

    def test_rows_without_labels_fill_up_the_share(self):
        labels = np.array([[1]] * 4 + [[0]] * 4 + [[-1]] * 4, np.int8)
        hashes = np.arange(12, dtype=np.uint64)
        drawn = stratify(LabelCounts.of(labels, np.arange(12)), hashes, 0.5)
        assert np.flatnonzero(drawn).tolist() == [0, 1, 4, 5, 6, 7], "2 of 4 with the label, 4 of 8 without"

    def test_the_rows_of_a_unit_count_together(self):
        # Units of 1, 2 and 3 rows with the label; half of 6 rows is the unit of 3, or those of 1 and 2: lowest first.
        units = np.array([0, 1, 1, 2, 2, 2])
        counts = LabelCounts.of(np.ones((6, 1), np.int8), units)
        assert counts.count.tolist() == [1, 2, 3] and counts.rows_with_labels().tolist() == [6]
        assert stratify(counts, np.array([1, 2, 3], np.uint64), 0.5).tolist() == [True, True, False]
        assert stratify(counts, np.array([3, 2, 1], np.uint64), 0.5).tolist() == [False, False, True]

    @pytest.mark.parametrize("stratified", [False, True])
    @pytest.mark.parametrize("fraction", [0, 0.0, 0.9])
    @pytest.mark.parametrize("n", [2, 3, 1000])
    def test_no_side_is_empty(self, n, fraction, stratified):
        """A fraction of zero may be an integer, from Python or from labeldep.toml."""
        labels = (np.random.default_rng(0).random((n, 5)) < 0.3).astype(np.int8)
        drawn = hold_out_by_name(names_of(n), fraction, 0, "val", Labels(labels), stratified)
        assert len(drawn.kept) and len(drawn.held_out) and len(drawn.kept) + len(drawn.held_out) == n
        assert n < 1000 or abs(len(drawn.held_out) / n - fraction) < 0.05

    @pytest.mark.parametrize("fraction", [0.05, 0.25])
    def test_meets_every_share_more_nearly_than_a_plain_draw(self, fraction):
        labels = label_sets(4000, 12)
        errors = []
        for stratified in (False, True):
            out = hold_out_by_name(names_of(4000), fraction, 0, "test", Labels(labels), stratified).held_out
            errors.append(np.abs(shares(labels, out) - shares(labels, slice(None))).max())
            assert abs(len(out) / 4000 - fraction) < 0.02
        assert errors[1] < errors[0] / 3

    def test_is_as_good_as_the_reference(self):
        """The package iterative-stratification has the algorithm of Sechidis et al."""
        iterstrat = pytest.importorskip("iterstrat.ml_stratifiers")
        labels = label_sets(3000, 14)
        share = shares(labels, slice(None))
        splitter = iterstrat.MultilabelStratifiedShuffleSplit(n_splits=1, test_size=0.25, random_state=0)
        _, theirs = next(splitter.split(labels, labels))
        ours = hold_out_by_name(names_of(3000), 0.25, 0, "test", Labels(labels), stratified=True).held_out
        distance = [np.abs(shares(labels, rows) - share).mean() for rows in (ours, theirs)]
        assert distance[0] < 1.5 * distance[1] + 1e-4
        assert abs(len(ours) - 750) < 15

    def test_most_rows_stay_when_others_are_added(self):
        labels = label_sets(5000, 10)
        few, more = (
            set(hold_out_by_name(names_of(n), 0.25, 0, "test", Labels(labels[:n]), stratified=True).held_out.tolist())
            for n in (4500, 5000)
        )
        moved = few ^ {row for row in more if row < 4500}
        assert 0 < len(moved) < 0.03 * 4500

    def test_order_of_rows_does_not_matter(self):
        labels, names = label_sets(300, 6), names_of(300)
        order = np.random.default_rng(1).permutation(300)
        first = hold_out_by_name(names, 0.25, 0, "test", Labels(labels), stratified=True).held_out
        again = hold_out_by_name([names[i] for i in order], 0.25, 0, "test", Labels(labels[order]), stratified=True)
        assert {names[row] for row in first} == {names[order[row]] for row in again.held_out}


class TestNoLabelIsLost:
    @pytest.mark.parametrize("stratified", [False, True])
    @pytest.mark.parametrize("grouped", [False, True])
    def test_every_label_of_two_units_is_in_train(self, stratified, grouped):
        for seed in range(60):
            labels = label_sets(40, 12, seed)
            groups = tuple(f"g{row // 3}" for row in range(40)) if grouped else None
            split = split_of(labels, groups)
            splits, notes = complete({"train": split}, Draw(0.3, 0.4, seed, stratified))
            unit = np.array(groups if grouped else split.paths)
            n_units = np.array([len(set(unit[labels[:, k] == 1])) for k in range(12)])
            in_train = (splits["train"].labels == 1).any(axis=0)
            assert in_train[n_units > 1].all(), (seed, n_units, notes)
            lost = [f"l{k} " for k in np.flatnonzero(~in_train & (n_units == 1))]
            told = [note for note in notes if note.startswith("labels without a row in train")]
            assert bool(told) == bool(lost) and all(name in told[0] for name in lost[:5])
            assert sum(map(len, splits.values())) == 40 and all(map(len, splits.values()))

    def test_the_row_with_the_highest_hash_stays(self):
        labels = np.zeros((400, 1), np.int8)
        drawn = hold_out_by_name(names_of(400), 0.25, 0, "test").held_out
        labels[drawn[:3]] = 1  # all three rows with the label are drawn
        kept = hold_out_by_name(names_of(400), 0.25, 0, "test", Labels(labels))
        assert kept.n_rare == 1 and len(kept.held_out) == len(drawn) - 1
        assert set(drawn) - set(kept.held_out) < set(drawn[:3])

    def test_a_label_of_another_split_keeps_its_last_row(self):
        labels = np.zeros((400, 1), np.int8)
        drawn = hold_out_by_name(names_of(400), 0.25, 0, "test").held_out
        labels[drawn[0]] = 1
        alone = hold_out_by_name(names_of(400), 0.25, 0, "test", Labels(labels))
        shared = hold_out_by_name(names_of(400), 0.25, 0, "test", Labels(labels, np.array([True])))
        assert drawn[0] in alone.held_out and drawn[0] not in shared.held_out

    def test_the_note_says_why_a_label_is_not_in_train(self):
        labels = np.zeros((40, 3), np.int8)
        groups = tuple("twins" if row < 2 else f"g{row}" for row in range(40))
        labels[:2, 0] = labels[5, 1] = labels[:, 2] = 1
        for seed in range(400):
            _, notes = complete({"train": split_of(labels, groups)}, Draw(0.4, 0.4, seed))
            if "l0 (2 rows of one group), l1 (1 row)" in notes[-1]:
                break
        assert notes[-1] == "labels without a row in train: l0 (2 rows of one group), l1 (1 row)"

    def test_two_rows_that_both_must_stay_are_still_divided(self):
        labels = np.array([[1], [1]], np.int8)
        for seed in range(20):
            drawn = hold_out_by_name(("a", "b"), 0.5, seed, "val", Labels(labels))
            assert len(drawn.kept) == len(drawn.held_out) == 1


class TestGroups:
    @pytest.mark.parametrize("stratified", [False, True])
    def test_no_draw_divides_one(self, stratified):
        labels = label_sets(600, 8)
        groups = tuple(f"patient-{row // 7}" if row < 500 else "" for row in range(600))
        splits, notes = complete({"train": split_of(labels, groups)}, Draw(0.2, 0.25, 0, stratified))
        seen = [set(split.groups) - {""} for split in splits.values()]
        assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
        assert all("" in split.groups for split in splits.values()), "rows without a group are drawn one by one"
        assert "by group" in notes[0]

    def test_a_group_is_drawn_by_its_name_whatever_its_rows_are(self):
        groups = [f"g{row // 5}" for row in range(200)]
        first = {groups[row] for row in hold_out_by_name(groups, 0.25, 0, "test").held_out}
        again = {groups[row] for row in hold_out_by_name(groups[:150], 0.25, 0, "test").held_out}
        assert again == first & set(groups[:150])

    def test_one_group_cannot_be_divided(self):
        with pytest.raises(DatasetError, match="all 3 rows are in the group 'x'"):
            hold_out_by_name(("x", "x", "x"), 0.5, 0, "val")

    def test_groups_that_the_table_divides_are_told(self):
        rows = Rows(
            names_of(6), label_sets(6, 2), ["a", "b"], ["train", "train", "val", "val", "test", "test"],
            groups=["p", "q", "p", "r", "s", "t"],
        )  # fmt: skip
        (note,) = as_dataset(rows, FILE, "x", Draw(0.1, 0.2, 0)).notes
        assert note == "1 group is in several splits, such as 'p' in train and val: a score there may be too good"

    def test_the_folds_of_an_audit_hold_whole_groups(self):
        groups = tuple(f"g{row % 17}" for row in range(200))
        folds = list(_draws(split_of(label_sets(200, 3), groups), AuditConfig(folds=4, repeats=2)))
        assert len(folds) == 8
        for draw in (folds[:4], folds[4:]):
            assert sorted(np.concatenate(draw)) == list(range(200)) and min(map(len, draw)) >= 30
            of_fold = [{groups[row] for row in rows} for rows in draw]
            assert sum(map(len, of_fold)) == 17

    def test_the_folds_of_an_audit_without_groups_are_those_of_older_versions(self):
        folds = list(_draws(split_of(label_sets(23, 3)), AuditConfig(folds=4, repeats=1, seed=3)))
        order = np.random.default_rng([3, 0]).permutation(23)
        assert [rows.tolist() for rows in folds] == [sorted(rows.tolist()) for rows in np.array_split(order, 4)]


class TestFolds:
    def test_rows_of_the_fold_are_test_and_val_stays(self):
        splits, (note,) = splits_of_fold(1, [0, 1, 0, 1, 2], ["train", "val", "val", "train", "test"], FILE)
        assert splits == ["train", "test", "val", "test", "train"]
        assert note == (
            "test = fold 1 of 0, 1, 2, 2 of 5 rows; "
            "rows of the table's own test split that are in train, since they are in other folds: 1"
        )

    def test_without_splits_the_rest_is_train(self):
        assert splits_of_fold(0, [0, 1, 0], None, FILE)[0] == ["test", "train", "test"]

    @pytest.mark.parametrize(
        ("fold", "folds", "what", "remedy"),
        [
            (None, [0, 1], "has the folds 0, 1, but no splits", "labeldep data labels.csv --fold 0"),
            (7, [0, 1], "has no fold 7: it has 0, 1", "labeldep data labels.csv --fold 0"),
            (1, None, "has no folds to test on", "labeldep import labels.csv --folds 5 --out "),
            (1, [1, 1], "are in fold 1: none is left", "Draw folds again"),
        ],
    )
    def test_what_cannot_be_is_refused_with_a_command(self, fold, folds, what, remedy):
        with pytest.raises(DatasetError, match=what) as error:
            splits_of_fold(fold, folds, None, FILE)
        assert remedy in error.value.remedy
        assert isinstance(error.value, NoFoldsError) == (folds is None)

    def test_a_table_with_folds_and_splits_says_that_folds_are_unused(self):
        splits, (note,) = splits_of_fold(None, [0, 1], ["train", "test"], FILE)
        assert splits == ["train", "test"] and "--fold 0" in note

    def test_of_a_data_set(self):
        rows = Rows(names_of(50), label_sets(50, 3), ["a", "b", "c"], None, folds=[row % 5 for row in range(50)])
        seen = []
        for fold in range(5):
            dataset = as_dataset(rows, FILE, "x", Draw(0.2, 0.25, 0, fold=fold))
            seen += dataset.splits["test"].paths
            assert dataset.drawn == {"val"} and len(dataset.splits["test"]) == 10
        assert sorted(seen) == sorted(rows.paths)

    @pytest.mark.parametrize("stratified", [True, False])
    def test_drawn_folds_are_alike(self, stratified):
        labels = label_sets(2000, 10)
        folds = draw_folds(names_of(2000), labels, 5, 0, stratified)
        assert np.bincount(folds).min() > 380 and np.bincount(folds).max() < 420
        worst = max(np.abs(shares(labels, folds == k) - shares(labels, slice(None))).max() for k in range(5))
        assert worst < (0.003 if stratified else 0.1)

    def test_drawn_folds_hold_whole_groups_and_leave_no_label_in_one_fold(self):
        for seed in range(20):
            labels = label_sets(90, 9, seed)
            groups = [f"g{row // 4}" for row in range(90)]
            folds = draw_folds(groups, labels, 3, seed)
            assert all(len(set(folds[start : start + 4])) == 1 for start in range(0, 90, 4))
            for k in range(9):
                rows = np.flatnonzero(labels[:, k] == 1)
                if len({groups[row] for row in rows}) > 1:
                    assert len(set(folds[rows])) > 1, (seed, k)

    def test_more_folds_than_groups_are_refused(self):
        with pytest.raises(DatasetError, match="cannot draw 5 folds of 2 groups"):
            draw_folds(["a", "a", "b"], label_sets(3, 2), 5, 0)
