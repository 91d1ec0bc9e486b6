"""The confidences of a run's label sets on val: a temperature for each kind of decision, and the rows to accept by."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from labeldep_cli.evaluation.calibration import kept_curve, temperature_of
from labeldep_cli.evaluation.decisions import Outputs
from labeldep_cli.inputs.batches import Inputs
from labeldep_cli.progress import Reporter
from labeldep_cli.runs.decisions import calibrated_as, decision_of, rule_name, stored_rules
from labeldep_cli.runs.run import Run


@torch.no_grad()
def calibrated(run: Run, outputs: Outputs, val: Inputs, reporter: Reporter) -> dict[str, Any]:
    """Choose the temperatures of a run whose best networks are on the disk.

    Args:
        run: the run, with the facts that its decisions need and without temperatures.
        outputs: of its generator for val.
        val: the validation rows.
        reporter: takes a note for each temperature that could not be chosen.

    Returns:
        The fact "confidence", as `runs.decisions.confidence_facts` reads it.
    """
    labels = val.labels.numpy()
    facts: dict[str, Any] = {}
    for config in stored_rules(run):
        kind = calibrated_as(config)
        decided = decision_of(config, run, val.device).decide(outputs)
        if kind not in facts:
            value, why = temperature_of(decided, labels)
            facts[kind] = {"temperature": value, "why": why, "val": {}}
            if why:
                reporter.note(f"confidences of --decision {kind} are not calibrated: {why}")
        if decided.at is not None:
            decided = replace(decided, confidence=decided.at(facts[kind]["temperature"]))
        facts[kind]["val"][rule_name(config, run)] = kept_curve(decided, labels)
    return facts
