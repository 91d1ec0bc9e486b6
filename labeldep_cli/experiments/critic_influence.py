"""Notes for the user when the critic has almost no influence on the generator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from labeldep_cli.config import AdversarialConfig, TrainingConfig
from labeldep_cli.progress import Reporter

MUTE_REACH, MUTE_SHARE = 0.05, 0.02
"""Limits below which a critic changes almost nothing: how far it can move a probability away from the labels, and its
share of the gradient at G's logits."""


def note_reach(config: AdversarialConfig, n_labels: int, reporter: Reporter, command: str = "") -> None:
    """Report, before training, that the settings leave the critic almost no influence.

    Args:
        config: settings of the adversarial stage.
        n_labels: L.
        reporter: takes the note.
        command: words before the note, if the settings are those of another command.
    """
    reach = config.critic_reach(n_labels)
    if reach is None or reach >= MUTE_REACH:
        return
    remedy = "--label-reduction mean, or " if config.label_reduction == "sum" and n_labels > 1 else ""
    reporter.note(
        f"{command}the critic is all but mute: with --alpha {config.alpha:g} and --label-reduction "
        f"{config.label_reduction} over {n_labels} labels it can move no probability by more than {reach:.2g}; "
        f"give it more weight: {remedy}a smaller --alpha"
    )


def note_share(history: Sequence[Mapping[str, Any]], reporter: Reporter) -> None:
    """Report, after training, that the critic made up almost nothing of G's gradient.

    Args:
        history: the lines of metrics.jsonl.
        reporter: takes the note.
    """
    shares = [record["critic_share"] for record in history if "critic_share" in record]
    if shares and max(shares) < MUTE_SHARE:
        reporter.note(
            f"the critic was mute: it made up {100 * max(shares):.2g} % of the gradient at G's logits at most; "
            "a smaller --alpha or longer training gives it more influence"
        )


def note_reach_after(config: TrainingConfig | None, n_labels: int, reporter: Reporter) -> None:
    """`note_reach` for a run's critic, or for the default critic if there is no run or the run has no critic yet."""
    if isinstance(config, AdversarialConfig):
        note_reach(config, n_labels, reporter)
    else:
        note_reach(AdversarialConfig(), n_labels, reporter, "in `labeldep adversarial` with its defaults ")
