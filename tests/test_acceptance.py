"""Which confidence `--auto-accept` and `--min-confidence` ask for, by what a run has stored of val."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from labeldep_cli.config import AcceptConfig, DecisionConfig
from labeldep_cli.errors import CheckpointError, LabeldepError
from labeldep_cli.evaluation.calibration import kept_curve
from labeldep_cli.evaluation.decisions import ByThreshold, Decided
from labeldep_cli.files import atomic_write
from labeldep_cli.labelling.acceptance import acceptance_of
from labeldep_cli.runs.decisions import decision_of, rule_name, stored_rules
from labeldep_cli.runs.run import Run

CONFIDENCE = [0.96, 0.95, 0.94, 0.93, 0.92, 0.91, 0.9, 0.89, 0.88, 0.87, 0.86, 0.85, 0.4, 0.3, 0.2]
RIGHT = "110111111111000"
"""11 of the first 12 are right; 9 of the first 10; all others are wrong."""


def kept(confidence: list[float], right: str) -> dict[str, Any]:
    """What a run keeps of rows with these confidences, of which some are right."""
    labels = np.array([[int(one)] for one in right], dtype=np.int8)
    return kept_curve(Decided(np.ones(labels.shape, dtype=np.bool_), np.array(confidence)), labels)


def run(**facts: Any) -> Run:
    val, wrong = kept(CONFIDENCE, RIGHT), kept(CONFIDENCE, "0" * 15)
    stored = {
        "threshold": {"temperature": 2.0, "why": None, "val": {"p > 0.5": val, "tuned": wrong}},
        "rerank": {"temperature": 3.0, "why": None, "val": {"rerank": val}},
    }
    thresholds = {"tuned": 0.4, "tuned-per-label": [0.3, 0.4]}
    critic = {"critic": {}, "beta": 1.5}
    return Run(Path("runs/one"), {}, {"thresholds": thresholds, **critic, "confidence": stored, **facts})


def test_the_lowest_confidence_that_keeps_the_precision_is_taken() -> None:
    """At .85 11 of 12 are right (91.7 %), at .4 11 of 13 (84.6 %); Wilson's interval of 11 of 12 is 64.6 to 98.5 %."""
    found = acceptance_of(AcceptConfig(auto_accept=0.9), DecisionConfig(), run())
    assert found is not None
    assert found.limit == 0.85
    assert "at least 0.85; of val's 15 rows these are 12 (80.0 %), 11 of them right: 91.7 % [64.6, 98.5]" in found.words
    lower = acceptance_of(AcceptConfig(auto_accept=0.84), DecisionConfig("rerank"), run())
    assert lower is not None
    assert lower.limit == 0.4


def test_a_precision_that_val_does_not_reach_is_refused_with_the_best_one() -> None:
    """The first two rows are right, but a limit must accept ten: 9 of 10, 10 of 11 and 11 of 12 are below 95 %."""
    with pytest.raises(LabeldepError, match=r"at most 91\.7 % are right, those of the 12 most confident of 15 rows"):
        acceptance_of(AcceptConfig(auto_accept=0.95), DecisionConfig(), run())
    with pytest.raises(LabeldepError, match=r"at most 0\.0 % are right"):
        acceptance_of(AcceptConfig(auto_accept=0.5), DecisionConfig(threshold="tuned"), run())


def test_a_run_without_confidences_of_val_has_a_remedy() -> None:
    old = run()
    del old.facts["confidence"]
    with pytest.raises(CheckpointError, match="no confidences of val") as refused:
        acceptance_of(AcceptConfig(auto_accept=0.9), DecisionConfig(), old)
    assert "--min-confidence" in refused.value.remedy
    assert acceptance_of(AcceptConfig(min_confidence=0.9), DecisionConfig(), old) == (0.9, "")
    decision = decision_of(DecisionConfig(), old, torch.device("cpu"))
    assert isinstance(decision, ByThreshold)
    assert decision.temperature == 1.0


def test_few_rows_of_val_are_refused() -> None:
    few = kept([0.9, 0.8, 0.7], "111")
    facts = {"threshold": {"temperature": 1.0, "why": "val has only 3 rows", "val": {"p > 0.5": few}}}
    with pytest.raises(LabeldepError, match="at least 10 rows of val with known labels; runs/one has 3"):
        acceptance_of(AcceptConfig(auto_accept=0.9), DecisionConfig(), run(confidence=facts))


@pytest.mark.parametrize(
    "decision",
    [
        DecisionConfig(top_k=3),
        DecisionConfig(threshold="0.4"),
        DecisionConfig(threshold="0.5", top_k=3),
        DecisionConfig("rerank", beta=0.5),
    ],
)
def test_a_rule_that_was_not_stored_is_refused(decision: DecisionConfig) -> None:
    with pytest.raises(LabeldepError, match="does not work with this rule"):
        acceptance_of(AcceptConfig(auto_accept=0.9), decision, run())


def test_rules_are_stored_under_a_name_of_their_own() -> None:
    names = [rule_name(config, run()) for config in stored_rules(run())]
    assert names == [
        "p > 0.5",
        "tuned",
        "tuned-per-label",
        "p > 0.5, non-empty",
        "tuned, non-empty",
        "tuned-per-label, non-empty",
        "rerank",
        "expected-f1",
    ]
    assert [rule_name(config, run()) for config in stored_rules(run(critic=None))] == names[:6]
    assert rule_name(DecisionConfig(threshold="0.5"), run()) == "p > 0.5"
    assert rule_name(DecisionConfig("rerank", beta=1.5), run()) == "rerank"


def test_all_is_accepted_without_a_limit() -> None:
    assert acceptance_of(AcceptConfig(), DecisionConfig(), run()) is None


def test_a_reader_of_stdout_that_has_gone_is_no_fault_of_the_file(tmp_path: Path) -> None:
    """`predict --rest FILE | head`: the file of --rest is not written, and is not named as the cause."""
    with pytest.raises(BrokenPipeError), atomic_write(tmp_path / "rest.csv"):
        raise BrokenPipeError
    assert list(tmp_path.iterdir()) == []


def test_a_decision_gets_its_temperature() -> None:
    decision = decision_of(DecisionConfig(threshold="tuned"), run(), torch.device("cpu"))
    assert isinstance(decision, ByThreshold)
    assert decision.temperature == 2.0
