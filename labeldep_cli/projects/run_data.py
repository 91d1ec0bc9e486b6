"""A data set that a run scores, compared with the one that the run was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labeldep_cli.datasets.split import SPLITS, Dataset
from labeldep_cli.errors import DatasetError
from labeldep_cli.files import counted
from labeldep_cli.progress import Reporter
from labeldep_cli.projects.project import Project
from labeldep_cli.projects.rows import with_rows
from labeldep_cli.runs.changes import (
    SplitChange,
    changed_splits,
    changes,
    in_words,
    n_shared,
    same_dataset,
    trained_on,
    validated_on,
)
from labeldep_cli.runs.rows import Rows, SplitRows, read_rows
from labeldep_cli.runs.run import Run


@dataclass(frozen=True)
class RunData:
    """The data set that a run scores, compared with the one that it was trained on.

    Attributes:
        run: the run.
        dataset: the data set in its current state, with its labels aligned to the run's.
        trained: the rows and labels at training; None if the run has no record of them.
        now: the rows and labels of `dataset`.
        own: whether it is the data set that the run was trained on, perhaps changed or moved.
        changed: the changes since training, by split; None if they are unknown, or for another data set.
        left_out: by split, the number of rows that were left out because the run was trained on them.
    """

    run: Run
    dataset: Dataset
    trained: Rows | None
    now: Rows
    own: bool
    changed: Mapping[str, SplitChange] | None
    left_out: Mapping[str, int] = field(default_factory=dict)

    @staticmethod
    def of(run: Run, trained: Rows | None, dataset: Dataset, now: Rows, named: bool) -> RunData:
        """Compare a data set with the one that the run was trained on.

        Args:
            run: the run.
            trained: its rows and labels at training; None if it has no record of them.
            dataset: the data set, with its labels aligned to the run's.
            now: the rows of `dataset`.
            named: whether the user named it with `--dataset`. Only then may it be another one.

        Raises:
            DatasetError: it is another data set, and the user did not name it.
        """
        if trained is None:
            changed = changed_splits(run.config, dataset)
            own = not named or len(changed) < len(SPLITS) or run.config["dataset"]["name"] == dataset.name
            return RunData(run, dataset, None, now, own, None if changed else {})
        own = same_dataset(trained, now)
        if not own and not named:
            raise DatasetError(
                f"{dataset.name} is no longer the data set that {run.folder} was trained on: "
                f"{n_shared(trained, now):,} of {len(trained.ids):,} rows are the same",
                "Restore the data set, or name another one to score: --dataset DATASET",
            )
        return RunData(run, dataset, trained, now, own, changes(trained, now) if own else None)

    def note(self, named: bool) -> str:
        """A note for the user on how the data set differs from that of training; empty if there is nothing to say."""
        folder, name = self.run.folder, self.dataset.name
        if self.changed:
            return f"{name} has changed since {folder} was trained; its current state is used: {in_words(self.changed)}"
        if not named:
            return ""
        if not self.own:
            rows = "all of its rows are scored" if self.dataset.undivided else "its own splits are used"
            unsure = "" if self.trained else " as far as recorded"
            return f"{name} is not the data set that {folder} was trained on{unsure}: {rows}"
        return f"{name} is the data set that {folder} was trained on"

    @property
    def words(self) -> str:
        """A short description of the changes since training, for a report."""
        if not self.own:
            return "another data set"
        if self.changed is None:
            return "unknown"
        return in_words(self.changed) or "unchanged"

    def held_out(
        self, project: Project, name: str, reporter: Reporter, others: Sequence[Run] = ()
    ) -> tuple[Project, RunData]:
        """Leave out the rows of a split that the run was trained on, or a run that it started from.

        Args:
            project: the open data set.
            name: name of the split to score.
            reporter: receives a note with the number of these rows.
            others: runs that are scored on the same rows; what they were trained on is left out, too.

        Returns:
            Project and data without these rows.

        Raises:
            DatasetError: these are more than half of the rows, or the split has no rows at all.
        """
        split = self.dataset.split(name)
        if name == "train":
            return project, self
        leaked = np.zeros(len(split), bool)
        for run, trained in [(self.run, self.trained), *((run, read_rows(run.folder)) for run in others)]:
            if trained is not None:
                leaked |= self._leaked(run, trained, name, reporter)
            if run is self.run:
                self._note_unrecorded(name, reporter)
        if not leaked.any():
            return project, self
        if 2 * leaked.sum() > len(leaked):  # of several runs together
            raise DatasetError(
                f"{leaked.sum():,} of the {len(leaked):,} rows of {name} are rows that one of the runs was trained on",
                "Score the runs one by one, or name another data set to score: --dataset DATASET",
            )
        project = with_rows(project, name, ~leaked)
        ids, labels = self.now.splits[name].ids[~leaked], self.now.splits[name].labels[~leaked]
        names = SPLITS if self.dataset.undivided else (name,)
        splits = {**self.now.splits, **{key: SplitRows(ids, labels) for key in names}}
        left_out = {**self.left_out, name: int(leaked.sum())}
        now = replace(self.now, splits=splits)
        return project, replace(self, dataset=project.dataset, now=now, left_out=left_out)

    def _leaked(self, run: Run, trained: Rows, name: str, reporter: Reporter) -> NDArray[np.bool_]:
        """The rows of a split that a run was trained on, bool [N], with a note.

        Raises:
            DatasetError: these are more than half of the rows.
        """
        split = self.dataset.split(name)
        leaked = trained_on(trained, self.now, name)
        if 2 * leaked.sum() > len(leaked):
            raise DatasetError(
                f"{leaked.sum():,} of the {len(leaked):,} rows of {name} are rows that {run.folder} was trained on, "
                f"such as {split.paths[leaked.argmax()]!r}",
                self._leak_remedy(name, run),
            )
        if leaked.any():
            verb = "is" if leaked.sum() == 1 else "are"
            reporter.note(
                f"{leaked.sum():,} of {counted(len(leaked), 'row')} of {name} {verb} left out: {run.folder} was "
                f"trained on {'it' if verb == 'is' else 'them'}, for example {split.paths[leaked.argmax()]!r}"
            )
        chosen_on = validated_on(trained, self.now, name) & ~leaked
        if chosen_on.any():
            verb = "was" if chosen_on.sum() == 1 else "were"
            reporter.note(
                f"{chosen_on.sum():,} of {counted(len(leaked), 'row')} of {name} {verb} val when {run.folder} was "
                f"trained: its best evaluation and thresholds were chosen on {'it' if verb == 'was' else 'them'}"
            )
        return leaked

    def _leak_remedy(self, name: str, run: Run) -> str:
        if run is not self.run:
            return (
                "Compare runs on the same data set, drawn with the same --split-seed and fractions, "
                "or score them on another one: --dataset DATASET"
            )
        as_training = "To score the rows of training: --split train"
        if not self.own:
            return f"Score the run on other rows. {as_training}"
        why = (
            f"{name} was drawn again, since rows were added, removed or renamed"
            if name in self.dataset.drawn
            else "They have moved to another split"
        )
        return (
            f"{why}: give each row the split that it had at training, or train a new run (--out FOLDER). {as_training}"
        )

    def _note_unrecorded(self, name: str, reporter: Reporter) -> None:
        """Note that the run may have been trained on rows of a split, if a record that would tell is missing."""
        folder = self.run.folder
        if self.trained is not None and self.trained.inherits_unknown:
            reporter.note(
                f"{folder} started from a run of an older version that did not record its rows: that run may have been "
                f"trained on some of the rows of {name}"
            )
        if self.trained is None and name in changed_splits(self.run.config, self.dataset):
            reporter.note(
                f"{folder} was trained by an older version that did not record its rows, "
                f"and {name} has changed since: the run may have been trained on some of the rows of {name}"
            )

    @property
    def training_labels(self) -> NDArray[np.int8]:
        """The label sets of the train split, int8 [N, L]: the current ones if `own`, else those at training."""
        if self.own or self.trained is None:
            return self.dataset.split("train").labels
        return self.trained.splits["train"].labels

    @property
    def sets_at_training(self) -> NDArray[np.int8] | None:
        """The label sets of the rows that the run was trained on, int8 [M, L], as they were then.

        For a run of an older version, which has no record of them: those of the train split, if it has not changed.
        None if they are unknown.
        """
        if self.trained is not None:
            return self.trained.splits["train"].labels
        unchanged = self.own and "train" not in changed_splits(self.run.config, self.dataset)
        return self.dataset.split("train").labels if unchanged else None

    def to_json(self) -> dict[str, Any] | None:
        """The changes since training, by split, with the number of rows that are left out as `trained_on`.

        None if the changes are unknown, or for another data set, and no rows are left out.
        """
        if self.changed is None and not self.left_out:
            return None
        by_split: dict[str, Any] = {name: change.to_json() for name, change in (self.changed or {}).items()}
        for name, n in self.left_out.items():
            by_split[name] = {**by_split.get(name, {}), "trained_on": n}
        return by_split
